// Log lines to standard error.
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/loop.h"

enum { LINE_MAX_BYTES = 4096 };

static enum log_level log_threshold = LOG_LEVEL_INFO;
static bool log_to_journal;

// JOURNAL_STREAM names the device and inode of the stream that the journal reads [systemd.exec(5)].
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat status;
    if (!stream || fstat(STDERR_FILENO, &status) != 0)
        return false;
    char expected[64];
    snprintf(expected, sizeof expected, "%ju:%ju", (uintmax_t)status.st_dev,
             (uintmax_t)status.st_ino);
    return strcmp(stream, expected) == 0;
}

void log_init(enum log_level level)
{
    log_threshold = level;
    log_to_journal = stderr_is_journal();
}

bool log_is_journal(void)
{
    return log_to_journal;
}

bool log_enabled(enum log_level level)
{
    return level <= log_threshold;
}

static const char *level_name(enum log_level level)
{
    switch (level) {
    case LOG_LEVEL_ERROR:
        return "error";
    case LOG_LEVEL_WARN:
        return "warning";
    case LOG_LEVEL_INFO:
        return "info";
    case LOG_LEVEL_DEBUG:
        return "debug";
    }
    return "?";
}

static size_t write_prefix(char *line, size_t size, enum log_level level)
{
    if (log_to_journal)
        return (size_t)snprintf(line, size, "<%d>", (int)level);
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t used = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &utc);
    return used + (size_t)snprintf(line + used, size - used, ".%03ldZ %s: ", now.tv_nsec / 1000000,
                                   level_name(level));
}

void log_clean(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

void log_write(enum log_level level, const char *format, ...)
{
    if (!log_enabled(level))
        return;
    char line[LINE_MAX_BYTES];
    size_t start = write_prefix(line, sizeof line - 1, level);
    va_list args;
    va_start(args, format);
    int wanted = vsnprintf(line + start, sizeof line - 1 - start, format, args);
    va_end(args);
    if (wanted < 0)
        return;
    log_clean(line + start);
    size_t length = strlen(line);
    line[length++] = '\n';
    for (size_t sent = 0; sent < length;) {
        ssize_t n = write(STDERR_FILENO, line + sent, length - sent);
        if (n <= 0)
            return;
        sent += (size_t)n;
    }
}

bool log_limit_pass(struct log_limit *limit, uint64_t *suppressed)
{
    int64_t now = loop_now_ms();
    if (now < limit->next_ms) {
        limit->suppressed++;
        return false;
    }
    if (suppressed)
        *suppressed = limit->suppressed;
    limit->suppressed = 0;
    limit->next_ms = now + limit->interval_ms;
    return true;
}

const char *log_more(uint64_t suppressed, char text[LOG_MORE_SIZE])
{
    *text = '\0';
    if (suppressed > 0)
        snprintf(text, LOG_MORE_SIZE, " (%llu more lately)", (unsigned long long)suppressed);
    return text;
}

bool log_cause_pass(struct log_causes *causes, const char *cause, uint64_t *suppressed)
{
    uint64_t key = hash_add(0, cause, strlen(cause));
    size_t i = 0;
    while (i < causes->count && causes->items[i].key != key)
        i++;
    if (i == LOG_CAUSES)
        i--;
    else if (i == causes->count) {
        causes->items[i].key = key;
        causes->items[i].limit.interval_ms = causes->interval_ms;
        causes->count++;
    }
    return log_limit_pass(&causes->items[i].limit, suppressed);
}
