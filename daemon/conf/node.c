// Takes libconfig's settings by the type that is wanted, and says which type was found instead.
#include "conf/node.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "conf/scalar.h"

void node_problem(const struct node_file *file, const config_setting_t *node, const char *format,
                  ...)
{
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    problems_add(file->problems, file->path, (int)config_setting_source_line(node), "%s", text);
    free(text);
}

void node_allow(const struct node_file *file, const config_setting_t *group,
                const char *const *names)
{
    int count = config_setting_length(group);
    for (int i = 0; i < count; i++) {
        const config_setting_t *member = config_setting_get_elem(group, (unsigned)i);
        const char *name = config_setting_name(member);
        bool known = false;
        for (const char *const *allowed = names; *allowed && !known; allowed++)
            known = strcmp(*allowed, name) == 0;
        if (!known)
            problems_add_unknown(file->problems, file->path,
                                 (int)config_setting_source_line(member), "key", name, names);
    }
}

static const char *type_name(const config_setting_t *node)
{
    switch (config_setting_type(node)) {
    case CONFIG_TYPE_GROUP:
        return "a group { }";
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return "an integer";
    case CONFIG_TYPE_FLOAT:
        return "a number with a fraction";
    case CONFIG_TYPE_STRING:
        return "a text";
    case CONFIG_TYPE_BOOL:
        return "true or false";
    case CONFIG_TYPE_ARRAY:
        return "an array [ ]";
    case CONFIG_TYPE_LIST:
        return "a list ( )";
    default:
        return "nothing";
    }
}

static void wrong_type(const struct node_file *file, const config_setting_t *node,
                       const char *wanted)
{
    node_problem(file, node, "%s is %s; allowed: %s", config_setting_name(node), type_name(node),
                 wanted);
}

// config_setting_get_member looks no further than this group, unlike config_setting_lookup.
static const config_setting_t *member_of(const config_setting_t *group, const char *name)
{
    return config_setting_get_member(group, name);
}

// A text setting's text; \x.. may have made of it what is none. NULL after a problem.
static const char *text_of(const struct node_file *file, const config_setting_t *node)
{
    const char *text = config_setting_get_string(node);
    if (text && utf8_valid(text, strlen(text)))
        return text;
    node_problem(file, node, "this text is not UTF-8");
    return NULL;
}

const char *node_text(const struct node_file *file, const config_setting_t *group, const char *name)
{
    const config_setting_t *node = member_of(group, name);
    if (!node)
        return NULL;
    if (config_setting_type(node) != CONFIG_TYPE_STRING) {
        wrong_type(file, node, "a text in quotes");
        return NULL;
    }
    const char *text = text_of(file, node);
    if (text && !*text) {
        node_problem(file, node, "%s is empty", name);
        return NULL;
    }
    return text;
}

const char *node_text_required(const struct node_file *file, const config_setting_t *group,
                               const char *name)
{
    if (!member_of(group, name))
        node_problem(file, group, "%s is missing", name);
    return node_text(file, group, name);
}

bool node_bool(const struct node_file *file, const config_setting_t *group, const char *name,
               bool *value)
{
    const config_setting_t *node = member_of(group, name);
    if (!node)
        return false;
    if (config_setting_type(node) != CONFIG_TYPE_BOOL) {
        wrong_type(file, node, "true, false");
        return false;
    }
    *value = config_setting_get_bool(node);
    return true;
}

static bool is_integer(const config_setting_t *node)
{
    int type = config_setting_type(node);
    return type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
}

// libconfig's own getters convert only where the type is exactly the one asked for.
static long long integer_of(const config_setting_t *node)
{
    return config_setting_type(node) == CONFIG_TYPE_INT ? config_setting_get_int(node)
                                                        : config_setting_get_int64(node);
}

bool node_integer(const struct node_file *file, const config_setting_t *group, const char *name,
                  long long min, long long max, long long *value)
{
    const config_setting_t *node = member_of(group, name);
    if (!node)
        return false;
    if (!is_integer(node)) {
        char *wanted = mem_printf("%lld to %lld", min, max);
        wrong_type(file, node, wanted);
        free(wanted);
        return false;
    }
    long long number = integer_of(node);
    if (number < min || number > max) {
        node_problem(file, node, "%s is %lld; allowed: %lld to %lld", name, number, min, max);
        return false;
    }
    *value = number;
    return true;
}

bool node_real(const struct node_file *file, const config_setting_t *group, const char *name,
               double *value)
{
    const long long exact = 1LL << 53; // every integer up to here is a double
    const config_setting_t *node = member_of(group, name);
    if (!node)
        return false;
    if (is_integer(node)) {
        long long number = integer_of(node);
        if (number < -exact || number > exact) {
            node_problem(file, node, "%s is %lld; allowed: -%lld to %lld", name, number, exact,
                         exact);
            return false;
        }
        *value = (double)number;
        return true;
    }
    if (config_setting_type(node) != CONFIG_TYPE_FLOAT) {
        wrong_type(file, node, "a number");
        return false;
    }
    double number = config_setting_get_float(node);
    if (!isfinite(number)) {
        node_problem(file, node, "%s is out of the range of numbers", name);
        return false;
    }
    *value = number;
    return true;
}

bool node_duration(const struct node_file *file, const config_setting_t *group, const char *name,
                   int64_t min, int64_t max, int64_t *microseconds)
{
    const config_setting_t *node = member_of(group, name);
    const char *text = node_text(file, group, name);
    if (!text)
        return false;
    int64_t value;
    if (!scalar_duration(text, &value) || value < min || value > max) {
        char *least = scalar_duration_text(min), *most = scalar_duration_text(max);
        node_problem(file, node, "%s is '%s'; allowed: \"%s\" to \"%s\", in ms, s, m, h or d", name,
                     text, least, most);
        free(least);
        free(most);
        return false;
    }
    *microseconds = value;
    return true;
}

bool node_word(const struct node_file *file, const config_setting_t *group, const char *name,
               const char *const *words, int *index)
{
    const char *text = node_text(file, group, name);
    if (!text)
        return false;
    for (int i = 0; words[i]; i++) {
        if (strcmp(words[i], text) == 0) {
            *index = i;
            return true;
        }
    }
    int line = (int)config_setting_source_line(member_of(group, name));
    problems_add_unknown(file->problems, file->path, line, name, text, words);
    return false;
}

void node_texts(const struct node_file *file, const config_setting_t *group, const char *name,
                node_text_fn *fn, void *arg)
{
    const config_setting_t *node = member_of(group, name);
    if (!node)
        return;
    if (config_setting_type(node) == CONFIG_TYPE_STRING) {
        const char *text = node_text(file, group, name);
        if (text)
            fn(arg, text);
        return;
    }
    bool list = config_setting_is_list(node) || config_setting_is_array(node);
    int count = list ? config_setting_length(node) : 0;
    if (!list)
        wrong_type(file, node, "an array of texts, [\"...\", \"...\"]");
    else if (count == 0)
        node_problem(file, node, "%s is empty", name);
    for (int i = 0; i < count; i++) {
        const config_setting_t *element = config_setting_get_elem(node, (unsigned)i);
        bool is_text = config_setting_type(element) == CONFIG_TYPE_STRING;
        const char *text = is_text ? text_of(file, element) : NULL;
        if (text)
            fn(arg, text);
        if (!is_text)
            node_problem(file, node, "%s has %s in it; allowed: texts in quotes", name,
                         type_name(element));
    }
}

const config_setting_t *node_groups(const struct node_file *file, const config_setting_t *group,
                                    const char *name)
{
    const config_setting_t *node = member_of(group, name);
    if (!node)
        return NULL;
    if (!config_setting_is_list(node)) {
        wrong_type(file, node, "a list of groups, ( { ... }, { ... } )");
        return NULL;
    }
    if (config_setting_length(node) == 0)
        node_problem(file, node, "%s is empty", name);
    return node;
}

const config_setting_t *node_group_at(const struct node_file *file, const config_setting_t *list,
                                      int index)
{
    const config_setting_t *element = config_setting_get_elem(list, (unsigned)index);
    if (config_setting_is_group(element))
        return element;
    node_problem(file, element, "%s has %s in it; allowed: groups { ... }",
                 config_setting_name(list), type_name(element));
    return NULL;
}

const config_setting_t *node_group(const struct node_file *file, const config_setting_t *group,
                                   const char *name)
{
    const config_setting_t *node = member_of(group, name);
    if (!node || config_setting_is_group(node))
        return node;
    wrong_type(file, node, "a group, { ... }");
    return NULL;
}

char *node_scalar_text(const struct node_file *file, const config_setting_t *group,
                       const char *name)
{
    const config_setting_t *node = member_of(group, name);
    if (!node)
        return NULL;
    const char *text = NULL;
    switch (config_setting_type(node)) {
    case CONFIG_TYPE_STRING:
        text = text_of(file, node);
        return text ? mem_strdup(text) : NULL;
    case CONFIG_TYPE_BOOL:
        return mem_strdup(config_setting_get_bool(node) ? "true" : "false");
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return mem_printf("%lld", integer_of(node));
    case CONFIG_TYPE_FLOAT:
        return scalar_real_text(config_setting_get_float(node));
    default:
        wrong_type(file, node, "a text, a number, true, false");
        return NULL;
    }
}
