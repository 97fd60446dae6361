// Why a message is a reject: a reason to group by, and a detail to mend it with.
#include "pipeline/decode_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

bool decode_fail(struct decode_error *error, const char *reason, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error->reason = reason;
    vsnprintf(error->detail, sizeof error->detail, format, args);
    va_end(args);
    // A character that the end of the buffer cut would make text that PostgreSQL refuses.
    error->detail[utf8_span(error->detail, strlen(error->detail))] = '\0';
    return false;
}

void decode_error_locate(struct decode_error *error, const char *column)
{
    char detail[sizeof error->detail];
    memcpy(detail, error->detail, sizeof detail);
    decode_fail(error, error->reason, "column %s: %s", column, detail);
}

const char *decode_sample(const char *bytes, size_t length, char buffer[DECODE_SAMPLE])
{
    enum { SHOWN = DECODE_SAMPLE - sizeof "..." };
    size_t shown = length < SHOWN ? length : SHOWN;
    size_t used = 0;

    while (used < shown) {
        size_t good = used + utf8_span(bytes + used, shown - used);
        for (; used < good; used++)
            buffer[used] =
                (unsigned char)bytes[used] < ' ' || bytes[used] == 0x7F ? '?' : bytes[used];
        if (used < shown)
            buffer[used++] = '?';
    }
    strcpy(buffer + used, shown < length ? "..." : "");
    return buffer;
}
