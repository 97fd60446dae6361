// Filter sets under which a broker sends each message once.
#include "core/cover.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "core/topic.h"

// A filter that matches all that a and b match, which overlap: where their levels differ, +; where
// either ends in #, #.
static char *generalise(const char *a, const char *b)
{
    char *result = mem_alloc(strlen(a) + strlen(b) + 4), *out = result;
    for (;;) {
        size_t a_length = strcspn(a, "/"), b_length = strcspn(b, "/");
        bool hash = (a_length == 1 && *a == '#') || (b_length == 1 && *b == '#');
        if (hash) {
            *out++ = '#';
            break;
        }
        if (a_length == b_length && memcmp(a, b, a_length) == 0) {
            memcpy(out, a, a_length);
            out += a_length;
        } else {
            *out++ = '+';
        }
        a += a_length;
        b += b_length;
        if (!*a || !*b) {
            // One of them goes on by "/#" alone, else they would not overlap.
            if (*a || *b) {
                memcpy(out, "/#", 2);
                out += 2;
            }
            break;
        }
        *out++ = '/';
        a++, b++;
    }
    *out = '\0';
    return result;
}

static void drop(struct cover *cover, size_t index)
{
    free(cover->filters[index].filter);
    cover->count--;
    memmove(cover->filters + index, cover->filters + index + 1,
            (cover->count - index) * sizeof *cover->filters);
}

// Replaces i and j by one filter; false where they do not overlap.
static bool merge(struct cover *cover, size_t i, size_t j)
{
    struct cover_filter *a = &cover->filters[i], *b = &cover->filters[j];
    if (!topic_filter_overlaps(a->filter, b->filter))
        return false;
    uint8_t qos = a->qos > b->qos ? a->qos : b->qos;
    if (topic_filter_covers(b->filter, a->filter)) {
        char *wider = b->filter;
        b->filter = a->filter;
        a->filter = wider;
        a->generalised = b->generalised;
    } else if (!topic_filter_covers(a->filter, b->filter)) {
        char *both = generalise(a->filter, b->filter);
        free(a->filter);
        a->filter = both;
        a->generalised = true;
    }
    a->qos = qos;
    drop(cover, j);
    return true;
}

// A filter that has grown may overlap others that it did not before: again, until nothing merges.
static bool merge_any(struct cover *cover)
{
    for (size_t i = 0; i < cover->count; i++)
        for (size_t j = i + 1; j < cover->count; j++)
            if (merge(cover, i, j))
                return true;
    return false;
}

void cover_init(struct cover *cover, const char *const *filters, const uint8_t *qos, size_t count)
{
    cover->filters = mem_zalloc(count * sizeof *cover->filters);
    cover->count = count;
    for (size_t i = 0; i < count; i++)
        cover->filters[i] = (struct cover_filter){mem_strdup(filters[i]), qos[i], false};
    while (merge_any(cover))
        ;
}

void cover_fini(struct cover *cover)
{
    for (size_t i = 0; i < cover->count; i++)
        free(cover->filters[i].filter);
    free(cover->filters);
    *cover = (struct cover){0};
}
