// Log lines to standard error: with a journal priority under systemd, with a timestamp elsewhere.
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR = 3, LOG_LEVEL_WARN = 4, LOG_LEVEL_INFO = 6, LOG_LEVEL_DEBUG = 7 };

// Opens the log; lines less urgent than level are dropped. Looks at JOURNAL_STREAM to choose the
// format.
void log_init(enum log_level level);
// Whether standard error is the journal, which is told priorities.
bool log_is_journal(void);
// Whether a line of this level would be written.
bool log_enabled(enum log_level level);
// Replaces control characters by '?': topics and errors come from strangers, and no line of theirs
// may look like one of ours.
void log_clean(char *text);
// One line, a newline is added. The text is cleaned.
void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
    do {                                                                                           \
        if (log_enabled(LOG_LEVEL_DEBUG))                                                          \
            log_write(LOG_LEVEL_DEBUG, __VA_ARGS__);                                               \
    } while (0)

// Lets a line through that repeats: the first at once, then at most one per interval.
struct log_limit {
    int64_t interval_ms;
    int64_t next_ms;
    uint64_t suppressed; // since the last line that was let through
};

// True when the caller should log now; *suppressed (may be NULL) is how many were held back before.
bool log_limit_pass(struct log_limit *limit, uint64_t *suppressed);
#define LOG_MORE_SIZE 40 // of the text that log_more writes
// " (3 more lately)", or nothing where none was held back; returns text.
const char *log_more(uint64_t suppressed, char text[LOG_MORE_SIZE]);

// One limit for each cause, so that no trouble hides another. Where there are more causes than
// these at a time, the rest share the last.
#define LOG_CAUSES 32
struct log_causes {
    int64_t interval_ms;
    size_t count;
    struct {
        uint64_t key; // of the cause's text
        struct log_limit limit;
    } items[LOG_CAUSES];
};

// As log_limit_pass, for this cause.
bool log_cause_pass(struct log_causes *causes, const char *cause, uint64_t *suppressed);
