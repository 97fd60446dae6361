// Any bytes as sensorlogd.conf and as a mapping file: problems or sound structs, never anything
// else.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "conf/mapfile.h"
#include "conf/settings.h"
#include "core/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__lsan_default_suppressions(void);

// libconfig 1.5 forgets the text it is reading when it finds a syntax error.
const char *__lsan_default_suppressions(void)
{
    return "leak:libconfig.so\n";
}

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

// A file without a name; conf.d is not beside it. Its path goes to the buffer.
static int make_file(const void *bytes, size_t size, char path[32])
{
    int fd = memfd_create("conf", MFD_CLOEXEC);
    REQUIRE(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

static char *print(const struct settings *settings)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    settings_print(settings, out);
    REQUIRE(fclose(out) == 0);
    return text;
}

// What is said of it all must be fit to print.
static bool finish(struct problems *problems)
{
    bool none = problems->count == 0;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    problems_print(problems, out);
    REQUIRE(fclose(out) == 0 && none == (size == 0));
    problems_fini(problems);
    free(text);
    return none;
}

// Settings without problems print, and the caller frees *again.
static void read_settings(const void *bytes, size_t size, char **again)
{
    struct settings settings;
    struct problems problems = {0};
    char path[32];
    int fd = make_file(bytes, size, path);
    settings_load(&settings, path, &problems);
    REQUIRE(settings.postgres.conninfo && settings.postgres.schema);
    REQUIRE(settings.postgres.connections > 0 && settings.batch.max_rows > 0 &&
            settings.batch.memory > 0);
    char *text = print(&settings);
    if (finish(&problems)) {
        REQUIRE(settings.mappings.directory);
        REQUIRE(settings.subscriber_count > 0 || settings.broker.listen_count > 0);
        *again = text;
        text = NULL;
    }
    free(text);
    settings_fini(&settings);
    close(fd);
}

static void check_settings(const uint8_t *data, size_t size)
{
    char *first = NULL, *second = NULL;
    read_settings(data, size, &first);
    // What is printed means the same, but for the default directory: it need not be there, while
    // one that is named must.
    if (first && !strstr(first, "directory = /var/lib/sensorlogd\n")) {
        read_settings(first, strlen(first), &second);
        REQUIRE(second && strcmp(first, second) == 0);
    }
    free(first);
    free(second);
}

static void check_mapping(const struct mapping *mapping)
{
    const struct target *target = &mapping->target;
    REQUIRE(*mapping->name && *target->table &&
            topic_filter_valid(mapping->filter, strlen(mapping->filter)));
    REQUIRE(target->column_count > 1 && target->column_count <= TARGET_COLUMNS_MAX);
    size_t keys = 0;
    for (size_t i = 0; i < target->column_count; i++) {
        REQUIRE(*target->columns[i].name);
        REQUIRE(!target->columns[i].key || target->columns[i].required);
        REQUIRE(mapping->fields[i].from != FROM_CONSTANT || mapping->fields[i].constant);
        keys += target->columns[i].key;
    }
    REQUIRE(keys == target->key_count && (keys == 0 || target->columns[0].key));
}

static void check_mappings(const uint8_t *data, size_t size)
{
    struct subscriber_entry site = {.options.name = (char[]){"site"}, .qos = 1};
    struct settings settings = {.subscribers = &site, .subscriber_count = 1};
    struct mappings mappings;
    struct problems problems = {0};
    char path[32];
    int fd = make_file(data, size, path);
    mapfile_load_file(&mappings, path, "telemetry", &settings, &problems);
    if (finish(&problems)) {
        REQUIRE(mappings.count > 0);
        for (size_t i = 0; i < mappings.count; i++)
            check_mapping(&mappings.items[i]);
        mapfile_bind(&mappings, &settings);
        REQUIRE(site.options.subscription_count > 0);
    }
    for (size_t i = 0; i < site.options.subscription_count; i++)
        free(site.options.subscriptions[i].filter);
    free(site.options.subscriptions);
    mapfile_fini(&mappings);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_settings(data, size);
    check_mappings(data, size);
    return 0;
}
