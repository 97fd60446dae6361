// The keys of [forward NAME].
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/pathflaw.h"
#include "conf/sections.h"
#include "conf/uri.h"
#include "core/topic.h"

static char *uri_take(void *base, const char *value)
{
    struct forward_options *options = base;
    struct uri uri = {0};
    const char *flaw = NULL;
    free(options->uri);
    options->uri = mem_strdup(value);
    if (!uri_parse(value, &uri, &flaw)) // which may hold a password
        return strchr(value, '@') ? mem_strdup(flaw) : mem_printf("'%s' %s", value, flaw);
    free(uri.path);
    free(options->host);
    options->host = uri.host;
    options->port = uri.port;
    options->tls = uri.tls;
    return uri.websocket ? mem_printf("'%s' is no address to forward to; "
                                      "allowed: mqtt or mqtts://HOST[:PORT]",
                                      value)
                         : NULL;
}

static void uri_print(const void *base, FILE *out)
{
    const struct forward_options *options = base;
    if (options->host)
        fprintf(out, "uri = %s\n", options->uri);
}

static void filters_free(char **filters, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(filters[i]);
    free(filters);
}

static char *filter_flaw(const char *filter)
{
    if (topic_filter_is_shared(filter, NULL))
        return mem_printf("'%s' is a shared subscription, which cannot be forwarded", filter);
    if (!topic_filter_valid(filter, strlen(filter)))
        return mem_printf("'%s' is no topic filter; allowed: levels between /, + for any one "
                          "level, # at the end for all that follow",
                          filter);
    return NULL;
}

static char *filters_take(void *base, const char *value)
{
    struct forward_options *options = base;
    char **filters = NULL, *copy = mem_strdup(value), *rest = NULL, *flaw = NULL;
    size_t count = 0, capacity = 0;
    for (char *word = strtok_r(copy, " \t", &rest); word && !flaw;
         word = strtok_r(NULL, " \t", &rest)) {
        filters = mem_grow(filters, count, &capacity, sizeof *filters);
        filters[count++] = mem_strdup(word);
        flaw = filter_flaw(word);
    }
    free(copy);
    if (!flaw && count == 0)
        flaw = mem_strdup("is empty; allowed: topic filters with blanks between them");
    if (flaw) {
        filters_free(filters, count);
        return flaw;
    }
    filters_free(options->filters, options->filter_count);
    options->filters = filters;
    options->filter_count = count;
    return NULL;
}

static void filters_print(const void *base, FILE *out)
{
    const struct forward_options *options = base;
    fputs("filters =", out);
    for (size_t i = 0; i < options->filter_count; i++)
        fprintf(out, " %s", options->filters[i]);
    putc('\n', out);
}

static char *prefix_flaw(const char *value)
{
    bool valid = !strpbrk(value, "+#") && *value != '$';
    return valid ? NULL
                 : mem_printf("'%s' cannot begin a topic; allowed: no + and no # in it, no $ first",
                              value);
}

#define OPTION(member) KEY_AT(struct forward_options, member)

static const struct key keys[] = {
    {"uri", KEY_OWN, NULL, .take = uri_take, .print = uri_print},
    {"filters", KEY_OWN, "#", .take = filters_take, .print = filters_print},
    {"prefix", KEY_TEXT, NULL, .may_be_empty = true, OPTION(prefix), .flaw = prefix_flaw},
    {"client_id", KEY_TEXT, NULL, OPTION(client_id)},
    {"username", KEY_TEXT, NULL, .may_be_empty = true, OPTION(username)},
    {"password_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(password_file),
     .flaw = pathflaw_file},
    {"ca_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(ca_file), .flaw = pathflaw_file},
    {"certificate_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(certificate_file),
     .flaw = pathflaw_file},
    {"key_file", KEY_PATH, NULL, .may_be_empty = true, OPTION(key_file), .flaw = pathflaw_file},
    {"verify", KEY_BOOL, "true", OPTION(verify)},
    {"qos", KEY_NUMBER, "1", OPTION(qos), .max = 2},
    {"window", KEY_NUMBER, "20", OPTION(window), .min = 1, .max = UINT16_MAX},
    {"keepalive", KEY_SECONDS, "60", OPTION(keepalive), .min = 1, .max = UINT16_MAX},
};

const struct section section_forward = {"forward", "forward NAME", SECTION_KEYS(keys),
                                        .named = true};
