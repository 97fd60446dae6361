// A scanner of libconfig's tokens, as far as libconfig 1.5 is too lenient with them.
#include "conf/mapscan.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct scan {
    const struct node_file *file;
    const char *at;
    int line;
    bool line_start; // only blanks stand before at in its line
    bool readable;
};

static void flaw(struct scan *scan, int line, const char *text)
{
    problems_add(scan->file->problems, scan->file->path, line, "%s", text);
}

static void advance(struct scan *scan)
{
    bool blank = *scan->at == ' ' || *scan->at == '\t' || *scan->at == '\r';
    if (*scan->at == '\n') {
        scan->line++;
        scan->line_start = true;
    } else if (!blank) {
        scan->line_start = false;
    }
    scan->at++;
}

static void skip_line(struct scan *scan)
{
    while (*scan->at && *scan->at != '\n')
        scan->at++;
}

// From behind /* to behind */.
static void skip_comment(struct scan *scan)
{
    int line = scan->line;
    while (*scan->at && strncmp(scan->at, "*/", 2) != 0)
        advance(scan);
    if (*scan->at) {
        scan->at += 2;
        return;
    }
    flaw(scan, line, "this comment never ends; */ is missing");
    scan->readable = false;
}

static void skip_text(struct scan *scan)
{
    int line = scan->line;
    for (advance(scan); *scan->at && *scan->at != '"'; advance(scan)) {
        if (*scan->at != '\\')
            continue;
        if (strncmp(scan->at, "\\x00", 4) == 0)
            flaw(scan, scan->line, "a text cannot contain \\x00");
        if (scan->at[1])
            advance(scan);
    }
    if (*scan->at) {
        advance(scan);
        return;
    }
    flaw(scan, line, "this text never ends; \" is missing");
    scan->readable = false;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '*';
}

// An integer without its L; libconfig reads hexadecimal ones without sign.
static void check_integer(struct scan *scan, const char *digits, bool wide)
{
    bool hexadecimal = digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X');
    char *end;
    errno = 0;
    long long value = strtoll(digits, &end, hexadecimal ? 16 : 10);
    if (*end != '\0') // no integer at all, which libconfig will say
        return;
    if (errno == ERANGE)
        problems_add(scan->file->problems, scan->file->path, scan->line,
                     "%s does not fit into 64 bits", digits);
    else if (!wide && (value < INT32_MIN || value > INT32_MAX))
        problems_add(scan->file->problems, scan->file->path, scan->line,
                     "%s does not fit into 32 bits; write %sL", digits, digits);
}

static void check_number(struct scan *scan)
{
    const char *start = scan->at;
    if (*scan->at == '-' || *scan->at == '+')
        scan->at++;
    const char *first = scan->at;
    while (is_word(*scan->at) || *scan->at == '.')
        scan->at++;
    size_t length = (size_t)(scan->at - start);
    scan->line_start = false;
    if (memchr(start, '.', length)) {
        if (!is_digit(first[0]) && !(first[0] == '.' && is_digit(first[1])))
            problems_add(scan->file->problems, scan->file->path, scan->line, "'%.*s' is no number",
                         (int)length, start);
        return;
    }
    size_t bare = length;
    while (bare > 1 && start[bare - 1] == 'L')
        bare--;
    char *digits = mem_strndup(start, bare);
    check_integer(scan, digits, bare < length);
    free(digits);
}

static void skip_name(struct scan *scan)
{
    while (is_word(*scan->at) || *scan->at == '-')
        scan->at++;
    scan->line_start = false;
}

bool mapscan_check(const struct node_file *file, const char *text)
{
    struct scan scan = {file, text, 1, true, true};
    while (*scan.at && scan.readable) {
        char c = *scan.at;
        if (c == '#' || strncmp(scan.at, "//", 2) == 0) {
            skip_line(&scan);
        } else if (strncmp(scan.at, "/*", 2) == 0) {
            scan.at += 2;
            skip_comment(&scan);
        } else if (c == '"') {
            skip_text(&scan);
        } else if (c == '@' && scan.line_start) {
            flaw(&scan, scan.line, "@include is not allowed; every *.cfg of the directory is read");
            scan.readable = false;
        } else if (is_digit(c) || c == '-' || c == '+' || c == '.') {
            check_number(&scan);
        } else if (is_word(c)) {
            skip_name(&scan);
        } else {
            advance(&scan);
        }
    }
    return scan.readable;
}
