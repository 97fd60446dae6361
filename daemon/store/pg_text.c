// Quoting for SQL, and conninfo texts for people.
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "store/pg.h"

// text between two of mark, each mark inside doubled.
static char *quote(const char *text, char mark)
{
    char *quoted = mem_alloc(2 * strlen(text) + 3), *out = quoted;
    *out++ = mark;
    for (; *text; text++) {
        if (*text == mark)
            *out++ = mark;
        *out++ = *text;
    }
    *out++ = mark;
    *out = '\0';
    return quoted;
}

char *pg_quote_identifier(const char *name)
{
    return quote(name, '"');
}

void pg_put_identifier(FILE *out, const char *name)
{
    char *quoted = pg_quote_identifier(name);
    fputs(quoted, out);
    free(quoted);
}

// With standard_conforming_strings on, which is the default since 9.1, a backslash is an ordinary
// character; but a user may have turned it off, so E'' is used where there is one.
char *pg_quote_literal(const char *text)
{
    char *quoted = quote(text, '\'');
    if (!strchr(text, '\\'))
        return quoted;
    char *escaped = mem_alloc(2 * strlen(quoted) + 2), *out = escaped;
    *out++ = 'E';
    for (const char *at = quoted; *at; at++) {
        if (*at == '\\')
            *out++ = '\\';
        *out++ = *at;
    }
    *out = '\0';
    free(quoted);
    return escaped;
}

// A conninfo value: in quotes where it must be, with ' and \ behind a backslash.
static char *quote_option(const char *value)
{
    if (*value && !strpbrk(value, " '\\\t\n"))
        return mem_strdup(value);
    char *quoted = mem_alloc(2 * strlen(value) + 3), *out = quoted;
    *out++ = '\'';
    for (; *value; value++) {
        if (*value == '\'' || *value == '\\')
            *out++ = '\\';
        *out++ = *value;
    }
    *out++ = '\'';
    *out = '\0';
    return quoted;
}

static void append_option(char **text, const PQconninfoOption *option)
{
    bool secret = *option->dispchar == '*';
    char *value = quote_option(secret ? "********" : option->val);
    char *longer = mem_printf("%s%s%s=%s", *text, **text ? " " : "", option->keyword, value);
    free(value);
    free(*text);
    *text = longer;
}

// libpq's message may quote the string, and so the password in it.
static char *parse_error(const char *conninfo, const char *why)
{
    if (strstr(conninfo, "password") || strstr(conninfo, "://"))
        return mem_strdup("malformed connection string (not shown: it may hold a password)");
    char *text = mem_strdup(why ? why : "out of memory");
    text[strcspn(text, "\n")] = '\0';
    return text;
}

char *pg_conninfo_masked(const char *conninfo, char **error)
{
    char *why = NULL;
    PQconninfoOption *options = PQconninfoParse(conninfo, &why);
    if (!options) {
        if (error)
            *error = parse_error(conninfo, why);
        PQfreemem(why);
        return NULL;
    }
    char *text = mem_strdup("");
    for (const PQconninfoOption *at = options; at->keyword; at++)
        if (at->val)
            append_option(&text, at);
    PQconninfoFree(options);
    return text;
}
