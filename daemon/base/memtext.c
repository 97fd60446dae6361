// Text that grows by printing into it.
#include "base/memtext.h"

#include <stdlib.h>

#include "base/log.h"

static void must(int ok)
{
    if (!ok) {
        log_error("out of memory");
        abort();
    }
}

void memtext_open(struct memtext *text)
{
    text->out = open_memstream(&text->bytes, &text->length);
    must(text->out != NULL);
}

char *memtext_close(struct memtext *text)
{
    must(fclose(text->out) == 0);
    return text->bytes;
}
