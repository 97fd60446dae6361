// Feeds inih line by line, so that nothing it would cut, join or skip silently gets that far.
#include "conf/inifile.h"

#include <ini.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/textfile.h"

enum { LINE_MAX_LENGTH = 4000 };

// A section (key NULL) or a key that this file has given.
struct given {
    char *section, *key;
    int line;
};

struct inifile {
    const char *path, *next; // what inih has not asked for yet
    int line;                // the one it was given last
    char *section;           // whole, while inih's own is cut; NULL before the first
    bool lost;               // behind a broken [SECTION]: whose the keys are is not known
    struct given *given;
    size_t given_count, given_capacity;
    const struct inifile_calls *calls;
    struct problems *problems;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static const char *skip_blanks(const char *at)
{
    while (is_blank(*at))
        at++;
    return at;
}

static void flaw(struct inifile *file, const char *text)
{
    problems_add(file->problems, file->path, file->line, "%s", text);
}

// The line of the same section or key before; else notes it and says 0.
static int given_before(struct inifile *file, const char *key)
{
    for (size_t i = 0; i < file->given_count; i++) {
        const struct given *given = &file->given[i];
        bool same_key = key ? given->key && strcmp(given->key, key) == 0 : !given->key;
        if (same_key && strcmp(given->section, file->section) == 0)
            return given->line;
    }
    file->given =
        mem_grow(file->given, file->given_count, &file->given_capacity, sizeof *file->given);
    file->given[file->given_count++] = (struct given){
        .section = mem_strdup(file->section),
        .key = key ? mem_strdup(key) : NULL,
        .line = file->line,
    };
    return 0;
}

// Whether all that follows is blanks and perhaps a comment.
static bool ends_here(const char *at)
{
    const char *rest = skip_blanks(at);
    return *rest == '\0' || (*rest == ';' && rest > at);
}

static bool section_begin(struct inifile *file, const char *line)
{
    const char *end = strchr(line, ']');
    file->lost = !end || !ends_here(end + 1);
    if (file->lost) {
        flaw(file, "expected [SECTION] alone on its line");
        return false;
    }
    free(file->section);
    file->section = mem_strndup(line + 1, (size_t)(end - line - 1));
    int before = given_before(file, NULL);
    if (before > 0)
        problems_add(file->problems, file->path, file->line,
                     "section [%s] is given twice, first in line %d", file->section, before);
    file->calls->section(file->calls->arg, file->section, file->line);
    return true;
}

// inih ends a value at " ;". That is a comment only where it cannot be meant as part of the value.
// A # alone at the end is no comment, but the filter of all topics.
static bool value_clear(struct inifile *file, const char *value)
{
    char quote = '\0';
    for (const char *at = value; *at; at++) {
        if (quote ? *at == quote : *at == '\'' || *at == '"')
            quote = quote ? '\0' : *at;
        if (!is_blank(*at) || (at[1] != ';' && at[1] != '#'))
            continue;
        if (at[1] == '#' && !quote && !ends_here(at + 2)) {
            flaw(file, "a value cannot contain ' #'; a comment after a value begins with ' ; '");
            return false;
        }
        if (at[1] == ';' && (quote || !(is_blank(at[2]) || at[2] == '\0'))) {
            flaw(file, "a value cannot contain ' ;', which begins a comment where a blank follows "
                       "and no quote is open");
            return false;
        }
        if (at[1] == ';')
            break;
    }
    return true;
}

static bool key_clear(struct inifile *file, const char *line)
{
    size_t length =
        strspn(line, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");
    const char *rest = skip_blanks(line + length);
    if (length == 0 || *rest != '=') {
        flaw(file, "expected KEY = VALUE, [SECTION], or a comment that begins with # or ;");
        return false;
    }
    if (!file->section && !file->lost) {
        problems_add(file->problems, file->path, file->line,
                     "key '%.*s' stands before the first [SECTION]", (int)length, line);
        return false;
    }
    return value_clear(file, rest + 1) && !file->lost;
}

// Whether inih may see the line.
static bool line_clear(struct inifile *file, char *line)
{
    const char *start = skip_blanks(line);
    if (*start == '\0' || *start == '#' || *start == ';')
        return false;
    if (strlen(line) > LINE_MAX_LENGTH) {
        problems_add(file->problems, file->path, file->line,
                     "the line is too long; allowed: %d characters", LINE_MAX_LENGTH);
        return false;
    }
    if (start != line) {
        flaw(file, "the line is indented; keys and sections begin at the start of a line");
        return false;
    }
    return *line == '[' ? section_begin(file, line) : key_clear(file, line);
}

// inih's reader: the next line, or an empty one where inih shall not see it.
static char *read_line(char *buffer, int size, void *stream)
{
    struct inifile *file = stream;
    if (*file->next == '\0')
        return NULL;
    size_t length = strcspn(file->next, "\n");
    char *line = mem_strndup(file->next, length);
    if (length > 0 && line[length - 1] == '\r')
        line[length - 1] = '\0';
    file->next += length + (file->next[length] == '\n');
    file->line++;
    buffer[0] = '\0';
    if (line_clear(file, line) && strlen(line) < (size_t)size)
        strcpy(buffer, line);
    free(line);
    return buffer;
}

static int take_key(void *arg, const char *section, const char *key, const char *value)
{
    (void)section; // cut to 49 characters
    struct inifile *file = arg;
    int before = given_before(file, key);
    if (before > 0) {
        problems_add(file->problems, file->path, file->line,
                     "key '%s' is given twice in [%s], first in line %d", key, file->section,
                     before);
        return 1;
    }
    file->calls->key(file->calls->arg, key, value, file->line);
    return 1;
}

bool inifile_read(const char *path, const struct inifile_calls *calls, struct problems *problems)
{
    char *text = textfile_read(path, problems);
    if (!text)
        return false;
    struct inifile file = {.path = path, .next = text, .calls = calls, .problems = problems};
    ini_max_line = LINE_MAX_LENGTH + 3; // with line end and NUL
    ini_allow_multiline = false;
    int failed = ini_parse_stream(read_line, &file, take_key, &file);
    if (failed != 0) // every line was checked, so this says that a check is wrong
        problems_add(problems, path, failed > 0 ? failed : 0, "cannot be parsed");
    for (size_t i = 0; i < file.given_count; i++) {
        free(file.given[i].section);
        free(file.given[i].key);
    }
    free(file.given);
    free(file.section);
    free(text);
    return true;
}
