// Why a message is a reject: a reason to group by, and a detail to mend it with.
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct decode_error {
    const char *reason; // static text, short: "not a number"
    char detail[160];   // what and where: "column altitude_m: 'abc' ..."; always UTF-8
};

enum { DECODE_SAMPLE = 48 }; // room for decode_sample's text

// Fills error and returns false, for "return decode_fail(...)". The arguments must be UTF-8.
bool decode_fail(struct decode_error *error, const char *reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// Puts "column NAME: " before the detail.
void decode_error_locate(struct decode_error *error, const char *column);
// The beginning of bytes that may be anything, made fit to show: printable, UTF-8, short. Returns
// buffer.
const char *decode_sample(const char *bytes, size_t length, char buffer[DECODE_SAMPLE]);
