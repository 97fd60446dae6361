// Reads whole configuration files, bounded, and refuses what is no text.
#include "conf/textfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"

enum { TEXTFILE_MAX = 4 << 20 };

// Bytes read, or -1 with errno.
static ssize_t read_all(int fd, char *buffer, size_t size)
{
    size_t length = 0;
    while (length < size) {
        ssize_t n = read(fd, buffer + length, size - length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        length += (size_t)n;
    }
    return (ssize_t)length;
}

static char *read_bytes(const char *path, size_t *length, struct problems *problems)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    if (fd < 0) {
        problems_add(problems, path, 0, "cannot be opened: %s", strerror(errno));
        return NULL;
    }
    struct stat status;
    size_t size = TEXTFILE_MAX;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size < TEXTFILE_MAX)
        size = (size_t)status.st_size;
    text = mem_alloc(size + 1);
    ssize_t got = read_all(fd, text, size);
    if (got < 0)
        problems_add(problems, path, 0, "cannot be read: %s", strerror(errno));
    else if (got == TEXTFILE_MAX)
        problems_add(problems, path, 0, "is too long; allowed: less than %d bytes", TEXTFILE_MAX);
    close(fd);
    if (got < 0 || got == TEXTFILE_MAX) {
        free(text);
        return NULL;
    }
    text[got] = '\0';
    *length = (size_t)got;
    return text;
}

// How many bytes, from the start, are text.
static size_t text_span(const char *text, size_t length)
{
    size_t span = utf8_span(text, length);
    for (size_t i = 0; i < span; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f)
            return i;
    }
    return span;
}

char *textfile_read(const char *path, struct problems *problems)
{
    size_t length;
    char *text = read_bytes(path, &length, problems);
    if (!text)
        return NULL;
    size_t span = text_span(text, length);
    if (span < length) {
        int line = 1;
        for (size_t i = 0; i < span; i++)
            line += text[i] == '\n';
        problems_add(problems, path, line, "is no UTF-8 text: byte 0x%02x is not allowed here",
                     (unsigned char)text[span]);
        free(text);
        return NULL;
    }
    static const char mark[] = "\xef\xbb\xbf";
    if (strncmp(text, mark, 3) == 0)
        memmove(text, text + 3, length - 3 + 1);
    return text;
}

static bool ends_with(const char *text, const char *suffix)
{
    size_t length = strlen(text), suffix_length = strlen(suffix);
    return length > suffix_length && strcmp(text + length - suffix_length, suffix) == 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool textfile_list(struct textfile_list *list, const char *directory, const char *suffix)
{
    DIR *dir = opendir(directory);
    if (!dir)
        return false;
    for (const struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.' || !ends_with(entry->d_name, suffix))
            continue;
        list->paths = mem_grow(list->paths, list->count, &list->capacity, sizeof *list->paths);
        list->paths[list->count++] = mem_printf("%s/%s", directory, entry->d_name);
    }
    closedir(dir);
    if (list->count > 0)
        qsort(list->paths, list->count, sizeof *list->paths, compare);
    return true;
}

void textfile_list_fini(struct textfile_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i]);
    free(list->paths);
    *list = (struct textfile_list){0};
}

char *textfile_resolve(const char *path, const char *from)
{
    const char *slash = strrchr(from, '/');
    if (path[0] == '/' || !slash)
        return mem_strdup(path);
    return mem_printf("%.*s%s", (int)(slash - from + 1), from, path);
}
