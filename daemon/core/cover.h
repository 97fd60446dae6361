// Filter sets under which a broker sends each message once.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cover_filter {
    char *filter;
    uint8_t qos;
    bool generalised; // stands for originals that overlap only in part
};

struct cover {
    struct cover_filter *filters;
    size_t count;
};

// The set that matches at least all that the inputs match, no two of which overlap: covered filters
// are dropped, partial overlaps generalised, the highest QoS wins. The caller calls cover_fini.
void cover_init(struct cover *cover, const char *const *filters, const uint8_t *qos, size_t count);
void cover_fini(struct cover *cover);
