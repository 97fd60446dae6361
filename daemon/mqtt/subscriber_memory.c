// The session's number and what the broker holds of our filters, kept over a restart in one small
// file per subscriber.
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "core/topic.h"
#include "mqtt/subscriber_internal.h"

#define MAGIC "sensorlogd filters 2\n"
#define MAGIC_1 "sensorlogd filters 1\n" // has no number
#define NUMBER_DIGITS 16                 // of the session, hexadecimal
#define FILE_MAX (16 * 1024 * 1024)

// "NAME.filters" and, from CONNECT to CONNACK, "NAME.filters.doubt".
static char *path_of(const struct subscriber *sub, const char *suffix)
{
    const char *client_id = sub->options->client_id;
    if (!sub->options->state_directory || !client_id || !*client_id ||
        sub->options->session_expiry == 0)
        return NULL;
    char *name = mem_strdup(sub->options->name);
    for (char *c = name; (c = strchr(c, '/'));)
        *c = '_';
    char *path = mem_printf("%s/%s.filters%s", sub->options->state_directory, name, suffix);
    free(name);
    return path;
}

// Whose session it is: of another broker or client identifier it says nothing.
static char *session_of(const struct subscriber *sub)
{
    return mem_printf("%s:%u %s", sub->options->host, sub->options->port, sub->options->client_id);
}

// The file: MAGIC, the session, its number, a line for each filter, "end". Texts have their length
// before them, since they may have any character in them.
static bool write_filters(FILE *file, const struct subscriber *sub)
{
    char *session = session_of(sub);
    fprintf(file, MAGIC "%zu %s\n%0*" PRIx64 "\n", strlen(session), session, NUMBER_DIGITS,
            sub->number);
    free(session);
    for (size_t i = 0; i < sub->held.count; i++) {
        const struct filter *held = &sub->held.items[i];
        fprintf(file, "%d %u %d %u %zu %s\n", held->sure, held->qos, held->retained, held->id,
                strlen(held->text), held->text);
    }
    fputs("end\n", file);
    return fflush(file) == 0 && fsync(fileno(file)) == 0;
}

static bool sync_directory(const struct subscriber *sub)
{
    int fd = open(sub->options->state_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool synced = fsync(fd) == 0;
    close(fd);
    return synced;
}

static bool write_file(const struct subscriber *sub, const char *path, const char *temporary)
{
    FILE *file = fopen(temporary, "we");
    if (!file)
        return false;
    bool written = write_filters(file, sub);
    int error = errno;
    fclose(file);
    errno = error;
    return written && rename(temporary, path) == 0 && sync_directory(sub);
}

bool subscriber_memorise(struct subscriber *sub)
{
    char *path = path_of(sub, "");
    if (!path)
        return false;
    char *temporary = path_of(sub, ".new");
    bool written = write_file(sub, path, temporary);
    if (!written)
        log_warn("%s: cannot write %s: %s; after a restart, filters that have left the "
                 "configuration stay subscribed, and QoS 2 is at least once",
                 sub->source.name, path, strerror(errno));
    free(temporary);
    free(path);
    return written;
}

void subscriber_forget_memory(struct subscriber *sub)
{
    static const char *const suffixes[] = {"", ".doubt"};
    for (size_t i = 0; i < 2; i++) {
        char *path = path_of(sub, suffixes[i]);
        if (path)
            unlink(path);
        free(path);
    }
}

static void move(struct subscriber *sub, const char *from, const char *to)
{
    char *old = path_of(sub, from), *new = path_of(sub, to);
    if (old && rename(old, new) != 0 && errno != ENOENT)
        log_warn("%s: cannot rename %s: %s", sub->source.name, old, strerror(errno));
    free(old);
    free(new);
}

void subscriber_doubt(struct subscriber *sub)
{
    move(sub, "", ".doubt");
}

void subscriber_believe(struct subscriber *sub)
{
    move(sub, ".doubt", "");
}

// Decimal digits and the character that ends them.
static size_t read_number(struct bytes_reader *r, size_t max, uint8_t end)
{
    size_t number = 0;
    uint8_t c = bytes_read_u8(r);
    r->bad = r->bad || c < '0' || c > '9';
    for (; !r->bad && c >= '0' && c <= '9'; c = bytes_read_u8(r)) {
        number = 10 * number + (size_t)(c - '0');
        r->bad = r->bad || number > max;
    }
    r->bad = r->bad || c != end;
    return number;
}

// A length, a text of it, a newline.
static struct bytes read_text(struct bytes_reader *r)
{
    struct bytes text = bytes_read(r, read_number(r, FILE_MAX, ' '));
    r->bad = bytes_read_u8(r) != '\n' || r->bad;
    return text;
}

static uint64_t read_session_number(struct bytes_reader *r)
{
    uint64_t number = 0;
    for (int i = 0; i < NUMBER_DIGITS; i++) {
        uint8_t c = bytes_read_u8(r);
        bool digit = c >= '0' && c <= '9';
        r->bad = r->bad || !(digit || (c >= 'a' && c <= 'f'));
        number = number << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
    }
    r->bad = bytes_read_u8(r) != '\n' || r->bad;
    return number;
}

static bool read_filter(struct bytes_reader *r, struct filters *filters)
{
    struct filter filter = {.sure = read_number(r, 1, ' ')};
    filter.qos = (uint8_t)read_number(r, 2, ' ');
    filter.retained = read_number(r, 1, ' ');
    filter.id = (uint32_t)read_number(r, BYTES_VARINT_MAX, ' ');
    struct bytes text = read_text(r);
    if (r->bad || !topic_filter_valid((const char *)text.data, text.length))
        return false;
    char *copy = mem_strndup((const char *)text.data, text.length);
    struct filter *added = filters_add(filters, copy);
    free(copy);
    filter.text = added->text;
    *added = filter;
    return true;
}

static bool at_end(const struct bytes_reader *r)
{
    return bytes_left(r) == 4 && memcmp(r->pos, "end\n", 4) == 0;
}

// False where the file is damaged. That of another session is sound and tells nothing.
static bool parse_file(struct subscriber *sub, struct bytes input)
{
    struct bytes_reader r = bytes_reader(input);
    struct bytes magic = bytes_read(&r, strlen(MAGIC));
    bool numbered = bytes_equal(magic, bytes_of(MAGIC));
    if (!numbered && !bytes_equal(magic, bytes_of(MAGIC_1)))
        return false;
    char *session = session_of(sub);
    bool ours = bytes_equal(read_text(&r), bytes_of(session));
    free(session);
    uint64_t number = numbered ? read_session_number(&r) : 0;
    while (ours && !r.bad && !at_end(&r))
        if (!read_filter(&r, &sub->held))
            return false;
    if (ours && !r.bad)
        sub->number = number;
    return !r.bad;
}

// False where there is no file.
static bool remember(struct subscriber *sub, const char *suffix)
{
    char *path = path_of(sub, suffix);
    FILE *file = path ? fopen(path, "re") : NULL;
    if (path && !file && errno != ENOENT)
        log_warn("%s: cannot read %s: %s", sub->source.name, path, strerror(errno));
    if (file) {
        uint8_t *bytes = mem_alloc(FILE_MAX);
        size_t length = fread(bytes, 1, FILE_MAX, file);
        if (!parse_file(sub, (struct bytes){bytes, length})) {
            log_warn("%s: %s is damaged: subscribing anew", sub->source.name, path);
            filters_clear(&sub->held);
        }
        free(bytes);
        fclose(file);
    }
    free(path);
    return file != NULL;
}

void subscriber_remember(struct subscriber *sub)
{
    if (remember(sub, "") || !remember(sub, ".doubt"))
        return;
    for (size_t i = 0; i < sub->held.count; i++)
        sub->held.items[i].sure = false;
}
