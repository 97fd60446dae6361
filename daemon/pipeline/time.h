// Points in time: what payloads write, as microseconds since 1970-01-01 UTC; no time zone data, no
// libc calls.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pipeline/number.h"

enum time_format { TIME_RFC3339, TIME_UNIX_S, TIME_UNIX_MS, TIME_UNIX_US, TIME_UNIX_NS };

#define TIME_MIN_US INT64_C(-62135596800000000) // 0001-01-01T00:00:00Z
#define TIME_MAX_US INT64_C(253402300799999999) // 9999-12-31T23:59:59.999999Z

enum { TIME_TEXT = 40 }; // room for time_text's result

// RFC 3339, section 5.6, with offset; a space may stand for the T. Digits beyond microseconds are
// cut off. A leap second (23:59:60 UTC) is the second after it. False where it is no such time.
bool time_from_rfc3339(const char *text, size_t length, int64_t *us);
// A count since 1970 in the unit of the format (not rfc3339), exact, rounded down to microseconds;
// false out of bounds.
bool time_from_number(const struct number *number, enum time_format format, int64_t *us);
// "2024-05-01T12:00:00.25Z". Returns buffer.
const char *time_text(int64_t us, char buffer[TIME_TEXT]);
// The format's name in the configuration ("unix_ms"), and back.
const char *time_format_name(enum time_format format);
bool time_format_parse(const char *text, enum time_format *format);
