// Topic names and filters [MQTT-4.7], compared level by level.
#include "core/topic.h"

#include <string.h>

enum { TOPIC_LENGTH_MAX = 65535 };

// Walks the levels of a name or filter.
struct levels {
    const char *at, *end; // of the current level
    const char *limit;
    bool done; // there is no current level
};

static void levels_start(struct levels *levels, const char *text, size_t length)
{
    levels->limit = text + length;
    levels->at = text;
    const char *slash = memchr(text, '/', length);
    levels->end = slash ? slash : levels->limit;
    levels->done = false;
}

static void levels_next(struct levels *levels)
{
    if (levels->end == levels->limit) {
        levels->done = true;
        return;
    }
    levels->at = levels->end + 1;
    const char *slash = memchr(levels->at, '/', (size_t)(levels->limit - levels->at));
    levels->end = slash ? slash : levels->limit;
}

static bool level_is(const struct levels *levels, char wildcard)
{
    return levels->end - levels->at == 1 && *levels->at == wildcard;
}

static bool level_same(const struct levels *a, const struct levels *b)
{
    return a->end - a->at == b->end - b->at && memcmp(a->at, b->at, (size_t)(a->end - a->at)) == 0;
}

bool topic_name_valid(const char *name, size_t length)
{
    return length > 0 && length <= TOPIC_LENGTH_MAX && !memchr(name, '#', length) &&
           !memchr(name, '+', length) && !memchr(name, '\0', length);
}

static bool plain_filter_valid(const char *filter, size_t length)
{
    if (length == 0 || length > TOPIC_LENGTH_MAX || memchr(filter, '\0', length))
        return false;
    struct levels levels;
    for (levels_start(&levels, filter, length); !levels.done; levels_next(&levels)) {
        size_t size = (size_t)(levels.end - levels.at);
        bool wild = memchr(levels.at, '+', size) || memchr(levels.at, '#', size);
        if (wild && size != 1) // [MQTT-4.7.1-2], [MQTT-4.7.1-3]
            return false;
        if (wild && *levels.at == '#' && levels.end != levels.limit)
            return false;
    }
    return true;
}

static const char share_prefix[] = "$share/";
enum { SHARE_PREFIX_LENGTH = sizeof share_prefix - 1 };

bool topic_filter_valid(const char *filter, size_t length)
{
    if (length < SHARE_PREFIX_LENGTH || memcmp(filter, share_prefix, SHARE_PREFIX_LENGTH) != 0)
        return plain_filter_valid(filter, length);
    const char *name = filter + SHARE_PREFIX_LENGTH;
    size_t rest = length - SHARE_PREFIX_LENGTH;
    const char *slash = memchr(name, '/', rest);
    if (!slash || slash == name) // [MQTT-4.8.2-1]
        return false;
    size_t name_length = (size_t)(slash - name);
    if (memchr(name, '+', name_length) || memchr(name, '#', name_length) || // [MQTT-4.8.2-2]
        memchr(name, '\0', name_length))
        return false;
    return plain_filter_valid(slash + 1, rest - name_length - 1);
}

bool topic_filter_is_shared(const char *filter, const char **inner)
{
    if (strncmp(filter, share_prefix, SHARE_PREFIX_LENGTH) != 0)
        return false;
    const char *slash = strchr(filter + SHARE_PREFIX_LENGTH, '/');
    if (!slash)
        return false;
    if (inner)
        *inner = slash + 1;
    return true;
}

// A leading wildcard stands for no level that begins with $ [MQTT-4.7.2-1].
static bool hidden(const struct levels *wildcard, const char *wildcard_text,
                   const struct levels *other, const char *other_text)
{
    return wildcard->at == wildcard_text && other->at == other_text && other->at < other->end &&
           *other->at == '$';
}

bool topic_filter_matches(const char *filter, const char *name, size_t name_length)
{
    struct levels f, n;
    levels_start(&f, filter, strlen(filter));
    levels_start(&n, name, name_length);
    for (;; levels_next(&f), levels_next(&n)) {
        if (f.done)
            return n.done;
        bool wild = level_is(&f, '#') || level_is(&f, '+');
        if (wild && !n.done && hidden(&f, filter, &n, name))
            return false;
        if (level_is(&f, '#'))
            return true;
        if (n.done || (!wild && !level_same(&f, &n)))
            return false;
    }
}

// # also stands for the level above it, but no name is empty [MQTT-4.7.3-1]: here it needs a level.
static const char *without_empty_name(const char *filter)
{
    return strcmp(filter, "#") == 0 ? "+/#" : strcmp(filter, "/#") == 0 ? "/+/#" : filter;
}

bool topic_filter_covers(const char *outer, const char *inner)
{
    struct levels o, i;
    inner = without_empty_name(inner);
    levels_start(&o, outer, strlen(outer));
    levels_start(&i, inner, strlen(inner));
    for (;; levels_next(&o), levels_next(&i)) {
        if (o.done)
            return i.done;
        bool wild = level_is(&o, '#') || level_is(&o, '+');
        if (wild && !i.done && hidden(&o, outer, &i, inner))
            return false;
        if (level_is(&o, '#'))
            return true;
        if (i.done || level_is(&i, '#'))
            return false;
        if (!wild && !level_same(&o, &i))
            return false;
    }
}

bool topic_filter_overlaps(const char *a, const char *b)
{
    struct levels x, y;
    a = without_empty_name(a);
    b = without_empty_name(b);
    levels_start(&x, a, strlen(a));
    levels_start(&y, b, strlen(b));
    for (;; levels_next(&x), levels_next(&y)) {
        bool x_wild = !x.done && (level_is(&x, '#') || level_is(&x, '+'));
        bool y_wild = !y.done && (level_is(&y, '#') || level_is(&y, '+'));
        if (x_wild && !y.done && hidden(&x, a, &y, b))
            return false;
        if (y_wild && !x.done && hidden(&y, b, &x, a))
            return false;
        if ((x_wild && level_is(&x, '#')) || (y_wild && level_is(&y, '#')))
            return true;
        if (x.done || y.done)
            return x.done && y.done;
        if (!x_wild && !y_wild && !level_same(&x, &y))
            return false;
    }
}

bool topic_level(const char *topic, size_t length, unsigned index, const char **level,
                 size_t *level_length)
{
    struct levels levels;
    for (levels_start(&levels, topic, length); !levels.done; levels_next(&levels)) {
        if (index-- == 0) {
            *level = levels.at;
            *level_length = (size_t)(levels.end - levels.at);
            return true;
        }
    }
    return false;
}
