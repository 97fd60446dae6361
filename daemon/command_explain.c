// sensorlogd explain: what would become of a message; touches nothing.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/loop.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "commands.h"
#include "configuration.h"
#include "core/topic.h"
#include "pipeline/format.h"
#include "pipeline/pipeline.h"
#include "store/sql_text.h"

enum { PAYLOAD_MAX = 256 << 20 };

struct explain {
    const struct message *message;
    struct arena arena;
    unsigned matched, rejected;
};

static void print_row(const struct mapping *mapping, const struct value *values)
{
    const struct target *target = &mapping->target;
    printf("  decoded:\n");
    for (size_t i = 0; i < target->column_count; i++) {
        char source[300], shown[400];
        printf("    %-20s %-12s %-40s from %s\n", target->columns[i].name,
               column_type_name(target->columns[i].type),
               value_format(&values[i], target->columns[i].type, shown, sizeof shown),
               mapping_from_text(&mapping->fields[i], source, sizeof source));
    }
    printf("  row: %s.%s (", target->schema, target->table);
    for (size_t i = 0; i < target->column_count; i++) {
        char shown[400];
        printf("%s%s", i ? ", " : "",
               value_format(&values[i], target->columns[i].type, shown, sizeof shown));
    }
    puts(")");
}

static void print_conflict(const struct target *target)
{
    static const char *const becomes[] = {
        [CONFLICT_REJECT] = "goes to sensorlog.reject as conflict",
        [CONFLICT_UPDATE] = "takes the place of the first; so does a late redelivery",
        [CONFLICT_IGNORE] = "is not stored, and counted",
    };
    const char *separator = "";
    if (!target_may_conflict(target))
        return;
    printf("  a second row with the same key and another ");
    for (size_t i = 0; i < target->column_count; i++) {
        if (!target->columns[i].compared)
            continue;
        printf("%s%s", separator, target->columns[i].name);
        separator = " or ";
    }
    printf(": %s\n", becomes[target->on_conflict]);
}

static void explain_mapping(void *arg, const struct mapping *mapping, struct plan *plan)
{
    struct explain *explain = arg;
    struct decode_error error = {.reason = ""};
    struct value *values = mem_zalloc(mapping->target.column_count * sizeof *values);
    explain->matched++;
    printf("mapping \"%s\" (%s), filter %s", mapping->name, mapping->where, mapping->filter);
    for (size_t i = 0; i < mapping->source_count; i++)
        printf("%s%s", i ? ", " : "; only from ", mapping->sources[i]);
    putchar('\n');
    if (plan_decode(plan, explain->message, loop_wall_us(), &explain->arena, values, &error)) {
        print_row(mapping, values);
        char *sql = sql_insert(&mapping->target, mapping->target.key_count > 0);
        printf("  SQL: %s\n", sql);
        free(sql);
        print_conflict(&mapping->target);
    } else {
        explain->rejected++;
        printf("  rejected: %s%s%s\n  row: sensorlog.reject, with the payload as it is\n",
               error.reason, *error.detail ? ": " : "", error.detail);
    }
    free(values);
}

// The payload argument, or standard input for "-"; the caller frees.
static char *read_payload(const char *argument, size_t *length)
{
    if (strcmp(argument, "-") != 0) {
        *length = strlen(argument);
        return mem_strdup(argument);
    }
    char *bytes = NULL;
    size_t used = 0, capacity = 0;
    for (size_t n = 1; n > 0 && used < PAYLOAD_MAX; used += n) {
        if (capacity - used < 4096) {
            capacity = capacity * 2 + 8192;
            bytes = mem_realloc(bytes, capacity, 1);
        }
        n = fread(bytes + used, 1, capacity - used, stdin);
    }
    *length = used;
    return bytes;
}

static void ignore_verdict(struct message_source *source, struct message *message)
{
    (void)source, (void)message;
}

static int explain_message(struct configuration *configuration, const char *topic,
                           const char *payload, size_t payload_length)
{
    struct message_source source = {.name = "explain", .settled = ignore_verdict};
    struct budget budget = {.limit = SIZE_MAX};
    const struct message_parts parts = {
        .topic = topic,
        .topic_length = (uint32_t)strlen(topic),
        .payload = payload,
        .payload_length = payload_length,
        .full_length = payload_length,
        .qos = 1,
    };
    struct message *message = message_new(&source, &budget, &parts);
    struct pipeline *pipeline =
        pipeline_new(configuration->mappings.items, configuration->mappings.count, NULL);
    struct explain explain = {.message = message};
    arena_init(&explain.arena);
    if (pipeline)
        pipeline_match(pipeline, message, explain_mapping, &explain);
    if (explain.matched == 0)
        printf("no mapping matches %s: the message would be acknowledged and skipped\n", topic);
    arena_fini(&explain.arena);
    pipeline_free(pipeline);
    message_release(message, VERDICT_SKIPPED, NULL);
    return explain.rejected || explain.matched == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

int command_explain(const struct arguments *arguments)
{
    const char *topic = arguments->rest[0];
    if (!topic_name_valid(topic, strlen(topic)) || !utf8_valid(topic, strlen(topic))) {
        fprintf(stderr,
                "sensorlogd: '%s' is no topic name: it is empty, has a wildcard, or is not UTF-8\n",
                topic);
        return EXIT_USAGE;
    }
    struct configuration configuration;
    int status = EXIT_CONFIGURATION;
    if (configuration_must_load(&configuration, arguments->config)) {
        size_t length;
        char *payload = read_payload(arguments->rest[1], &length);
        status = explain_message(&configuration, topic, payload, length);
        free(payload);
    }
    configuration_fini(&configuration);
    return status;
}
