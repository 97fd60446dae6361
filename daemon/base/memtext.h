// Text that grows by printing into it.
#pragma once

#include <stddef.h>
#include <stdio.h>

struct memtext {
    FILE *out; // print here
    char *bytes;
    size_t length;
};

void memtext_open(struct memtext *text);
// Ends the printing; the bytes, NUL-terminated, are the caller's to free. length is set.
char *memtext_close(struct memtext *text);
