// Payloads written as people write them: a number, perhaps with a unit; ON and OFF; plain text.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pipeline/decode_error.h"
#include "pipeline/number.h"

struct reading {
    struct number number;
    const char *unit;     // as it was sent
    uint32_t unit_length; // 0: none was
};

// Drops white space at both ends, line ends too.
void text_trim(const char **text, size_t *length);
// A number, perhaps followed by a unit ("300 feet", "21.5°C", "12 %"); text is trimmed. False with
// error filled where it is none. What may be a unit is limited in length and syntax here, so that
// anything may be sent.
bool text_read(const char *text, size_t length, struct reading *reading,
               struct decode_error *error);
// true, t, on, yes, 1 and false, f, off, no, 0, in any case of letters; text is trimmed.
bool text_to_bool(const char *text, size_t length, bool *value);
