// JSON, strictly by RFC 8259, in one pass without allocation: checks all of a document and picks
// out the values at JSON Pointers (RFC 6901).
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pipeline/datum.h"

enum {
    JSON_DEPTH_MAX = 64,  // of nested objects and arrays
    JSON_TOKEN_MAX = 256, // bytes of one reference token of a pointer
};

struct json_error {
    const char *what; // static text
    size_t offset;    // in the document
};

// The pointers that are wanted, compiled into a tree. Not to be used by two threads at once.
struct json_paths;

struct json_paths *json_paths_new(void);
void json_paths_free(struct json_paths *paths);
// The slot that the value at the pointer goes to, the same one for the same pointer; -1 where the
// pointer is malformed or one of its tokens is too long. "" is the whole document.
int json_paths_add(struct json_paths *paths, const char *pointer);
size_t json_paths_count(const struct json_paths *paths);

// Reads a document; slots[json_paths_count] get what was found (DATUM_MISSING else), pointing into
// text. False with error filled where it is not JSON, or nested too deeply, or has a wanted name
// twice in one object.
bool json_read(struct json_paths *paths, const char *text, size_t length, struct datum *slots,
               struct json_error *error);

// A string's value: undoes the escapes of a checked DATUM_STRING's text; out has room for length.
// Returns its bytes.
size_t json_unescape(const char *text, size_t length, char *out);
