// Gathers the mistakes of the configuration, and guesses what was meant.
#include "conf/problems.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

void problems_fini(struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        free(problems->items[i].file);
        free(problems->items[i].text);
    }
    free(problems->items);
    *problems = (struct problems){0};
}

void problems_add(struct problems *problems, const char *file, int line, const char *format, ...)
{
    problems->items =
        mem_grow(problems->items, problems->count, &problems->capacity, sizeof *problems->items);
    struct problem *problem = &problems->items[problems->count];
    va_list args;
    va_start(args, format);
    problem->text = mem_vprintf(format, args);
    va_end(args);
    problem->file = mem_strdup(file);
    problem->line = line;
    problem->order = problems->count++;
}

void problems_add_unknown(struct problems *problems, const char *file, int line, const char *what,
                          const char *word, const char *const *words)
{
    const char *near = problems_near(word, words);
    if (near) {
        problems_add(problems, file, line, "unknown %s '%s'; did you mean '%s'?", what, word, near);
        return;
    }
    char *list = mem_strdup("");
    for (; *words; words++) {
        char *longer = mem_printf("%s%s%s", list, *list ? ", " : "", *words);
        free(list);
        list = longer;
    }
    problems_add(problems, file, line, "unknown %s '%s'; allowed: %s", what, word, list);
    free(list);
}

static int compare(const void *a, const void *b)
{
    const struct problem *x = a, *y = b;
    int files = strcmp(x->file, y->file);
    if (files != 0)
        return files;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

// Quoted pieces of the files may hold what a terminal would obey.
static void print_safely(const char *text, FILE *out)
{
    for (; *text; text++)
        putc(iscntrl((unsigned char)*text) ? '?' : *text, out);
}

void problems_print(struct problems *problems, FILE *out)
{
    if (problems->count > 0)
        qsort(problems->items, problems->count, sizeof *problems->items, compare);
    for (size_t i = 0; i < problems->count; i++) {
        const struct problem *problem = &problems->items[i];
        print_safely(problem->file, out);
        if (problem->line > 0)
            fprintf(out, ":%d", problem->line);
        fputs(": ", out);
        print_safely(problem->text, out);
        putc('\n', out);
    }
}

enum { WORD_MAX = 40 }; // longer ones are near to nothing
// A letter too few, too many or out of turn is likelier than a wrong one; yet any two edits cost
// less than three.
enum { COST_SHIFT = 4, COST_REPLACE = 5 };

static unsigned smaller(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

// Optimal string alignment: the cost of insertions, deletions, replacements and swaps of neighbours
// that turn a into b.
static unsigned cost_of_edits(const char *a, size_t a_length, const char *b, size_t b_length)
{
    unsigned rows[3][WORD_MAX + 1];
    unsigned *before = rows[0], *last = rows[1], *row = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        last[j] = (unsigned)j * COST_SHIFT;
    for (size_t i = 1; i <= a_length; i++) {
        row[0] = (unsigned)i * COST_SHIFT;
        for (size_t j = 1; j <= b_length; j++) {
            int x = tolower((unsigned char)a[i - 1]), y = tolower((unsigned char)b[j - 1]);
            row[j] = smaller(smaller(last[j], row[j - 1]) + COST_SHIFT,
                             last[j - 1] + (x == y ? 0 : COST_REPLACE));
            if (i > 1 && j > 1 && x == tolower((unsigned char)b[j - 2]) &&
                y == tolower((unsigned char)a[i - 2]))
                row[j] = smaller(row[j], before[j - 2] + COST_SHIFT);
        }
        unsigned *spare = before;
        before = last;
        last = row;
        row = spare;
    }
    return last[b_length];
}

const char *problems_near(const char *word, const char *const *words)
{
    size_t length = strlen(word);
    const char *nearest = NULL;
    unsigned limit = (length > 3 ? 2 : 1) * COST_REPLACE + 1; // exclusive
    if (length < 2 || length > WORD_MAX)
        return NULL;
    for (; *words; words++) {
        size_t words_length = strlen(*words);
        if (words_length > WORD_MAX)
            continue;
        unsigned cost = cost_of_edits(word, length, *words, words_length);
        if (cost < limit) {
            limit = cost;
            nearest = *words;
        }
    }
    return nearest;
}
