// Who may log in: a password file, as mosquitto_passwd writes it or with argon2id.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"
#include "base/worker.h"

struct accounts;
struct accounts_check;

// Reads the file. NULL with *error ("FILE:LINE: what is wrong, what to do"), which the caller
// frees.
struct accounts *accounts_load(const char *path, char **error);
void accounts_free(struct accounts *accounts); // checks under way may end after it
bool accounts_has(const struct accounts *accounts, const char *username);
// Whether the user's entry is the same in both: who has logged in by one may stay under the other.
bool accounts_same(const struct accounts *a, const struct accounts *b, const char *username);

// Verifies on a thread; an unknown user takes as long as a wrong password. fn is called once
// from the loop, never from within this call, unless cancelled. NULL: too many are waiting.
typedef void accounts_fn(void *arg, bool ok);
struct accounts_check *accounts_check(struct accounts *accounts, struct worker *worker,
                                      const char *username, struct bytes password, accounts_fn *fn,
                                      void *arg);
void accounts_check_cancel(struct accounts_check *check);

// Why nobody can have this name in a password file (static text), or NULL.
const char *accounts_name_flaw(const char *username);
// For "sensorlogd passwd": replaces or adds the user's line in the file, atomically; argon2id. A
// new file has mode 0600, or 0640 where root makes it in a directory of another group. False with
// *error.
bool accounts_set(const char *path, const char *username, struct bytes password, char **error);
bool accounts_delete(const char *path, const char *username, char **error);
