// Reads and prints the values of an INI section by the tables that describe them.
#include "conf/keys.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "conf/scalar.h"
#include "conf/textfile.h"

enum { US_PER_MS = 1000, US_PER_S = 1000000 };

static bool is_text(const struct key *key)
{
    return key->kind == KEY_TEXT || key->kind == KEY_PATH;
}

static char **text_of(const struct key *key, void *base)
{
    return (void *)((char *)base + key->offset);
}

static void store(const struct key *key, void *base, uint64_t value)
{
    void *member = (char *)base + key->offset;
    if (key->size == sizeof(uint8_t))
        *(uint8_t *)member = (uint8_t)value;
    else if (key->size == sizeof(uint16_t))
        memcpy(member, &(uint16_t){(uint16_t)value}, sizeof(uint16_t));
    else if (key->size == sizeof(uint32_t))
        memcpy(member, &(uint32_t){(uint32_t)value}, sizeof(uint32_t));
    else
        memcpy(member, &value, sizeof value);
}

static uint64_t load(const struct key *key, const void *base)
{
    const void *member = (const char *)base + key->offset;
    uint16_t two;
    uint32_t four;
    uint64_t eight;
    if (key->size == sizeof(uint8_t))
        return *(const uint8_t *)member;
    if (key->size == sizeof two)
        return memcpy(&two, member, sizeof two), two;
    if (key->size == sizeof four)
        return memcpy(&four, member, sizeof four), four;
    return memcpy(&eight, member, sizeof eight), eight;
}

// A number in the file's syntax; the caller frees.
static char *number_text(const struct key *key, uint64_t value)
{
    for (const struct key_word *word = key->words; word && word->text; word++) {
        if (word->value == value)
            return mem_strdup(word->text);
    }
    switch (key->kind) {
    case KEY_BOOL:
        return mem_strdup(value ? "true" : "false");
    case KEY_SECONDS:
        return value == 0 ? mem_strdup("0s") : scalar_duration_text((int64_t)value * US_PER_S);
    case KEY_MILLISECONDS:
        return scalar_duration_text((int64_t)value * US_PER_MS);
    case KEY_BYTES:
        return scalar_size_text((int64_t)value);
    default:
        return mem_printf("%" PRIu64, value);
    }
}

static bool number_parse(const struct key *key, const char *text, uint64_t *value)
{
    int64_t number;
    bool truth;
    for (const struct key_word *word = key->words; word && word->text; word++) {
        if (strcmp(word->text, text) == 0)
            return *value = word->value, true;
    }
    switch (key->kind) {
    case KEY_BOOL:
        return scalar_bool(text, &truth) ? *value = truth, true : false;
    case KEY_NUMBER:
        if (!scalar_number(text, &number))
            return false;
        break;
    case KEY_SECONDS:
        if (scalar_number(text, &number))
            break;
        if (!scalar_duration(text, &number) || number % US_PER_S != 0)
            return false;
        number /= US_PER_S;
        break;
    case KEY_MILLISECONDS:
        if (!scalar_duration(text, &number))
            return false;
        number /= US_PER_MS;
        break;
    case KEY_BYTES:
        if (!scalar_size(text, &number))
            return false;
        break;
    default:
        return false;
    }
    *value = (uint64_t)number;
    return *value >= key->min && *value <= key->max;
}

static char *not_allowed(const struct key *key, const char *text)
{
    char *range = NULL;
    if (key->kind == KEY_BOOL) {
        range = mem_strdup("true, false");
    } else if (key->kind == KEY_WORD) {
        range = mem_strdup("");
    } else {
        char *min = number_text(key, key->min), *max = number_text(key, key->max);
        range = mem_printf("%s to %s", min, max);
        free(min);
        free(max);
    }
    for (const struct key_word *word = key->words; word && word->text; word++) {
        char *longer = mem_printf("%s%s%s", range, *range ? ", " : "", word->text);
        free(range);
        range = longer;
    }
    char *flaw = mem_printf("'%s' is not allowed; allowed: %s", text, range);
    free(range);
    return flaw;
}

static char *text_set(const struct key *key, void *base, const char *value, const char *file)
{
    char *text = NULL, *flaw = NULL;
    if (*value)
        text = key->kind == KEY_PATH ? textfile_resolve(value, file) : mem_strdup(value);
    else if (!key->may_be_empty)
        return mem_strdup("is empty");
    if (text && key->flaw)
        flaw = key->flaw(text);
    if (flaw) {
        free(text);
        return flaw;
    }
    free(*text_of(key, base));
    *text_of(key, base) = text;
    return NULL;
}

char *key_set(const struct key *key, void *base, const char *value, const char *file)
{
    if (key->kind == KEY_OWN)
        return key->take(base, value);
    if (is_text(key))
        return text_set(key, base, value, file);
    uint64_t number;
    if (!number_parse(key, value, &number))
        return not_allowed(key, value);
    store(key, base, number);
    return NULL;
}

void key_print(const struct key *key, const void *base, FILE *out)
{
    if (key->print) {
        key->print(base, out);
        return;
    }
    if (is_text(key)) {
        const char *text = *(char *const *)(const void *)((const char *)base + key->offset);
        if (text || key->may_be_empty)
            fprintf(out, "%s =%s%s\n", key->name, text ? " " : "", text ? text : "");
        return;
    }
    char *text = number_text(key, load(key, base));
    fprintf(out, "%s = %s\n", key->name, text);
    free(text);
}

void key_clear(const struct key *key, void *base)
{
    if (!is_text(key))
        return;
    free(*text_of(key, base));
    *text_of(key, base) = NULL;
}
