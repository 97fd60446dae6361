// Reads small files of lines at once, bounded.
#include "broker/linefile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/utf8.h"

enum { FILE_SIZE_MAX = 64 << 20 };

static bool read_all(struct linefile *file, int fd, char **error)
{
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        *error = mem_printf("%s: is no regular file", file->path);
        return false;
    }
    if (status.st_size > FILE_SIZE_MAX) {
        *error = mem_printf("%s: is too long; allowed: %d MiB", file->path, FILE_SIZE_MAX >> 20);
        return false;
    }
    size_t size = (size_t)status.st_size;
    file->text = mem_alloc(size + 1);
    while (file->length < size) {
        ssize_t n = read(fd, file->text + file->length, size - file->length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            *error = mem_printf("%s: cannot be read: %s", file->path, strerror(errno));
        if (n <= 0)
            break;
        file->length += (size_t)n;
    }
    file->text[file->length] = '\0';
    file->next = file->text + (strncmp(file->text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0);
    return !*error;
}

bool linefile_open(struct linefile *file, const char *path, char **error)
{
    *file = (struct linefile){.path = path};
    *error = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        *error = mem_printf("%s: cannot be opened: %s", path, strerror(errno));
        return false;
    }
    bool good = read_all(file, fd, error);
    close(fd);
    if (!good)
        linefile_close(file);
    return good;
}

static bool is_text(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return false;
    }
    return utf8_valid(line, length);
}

char *linefile_next(struct linefile *file, char **error)
{
    char *line = file->next, *end = file->text + file->length;
    *error = NULL;
    if (line == end)
        return NULL;
    char *newline = memchr(line, '\n', (size_t)(end - line));
    size_t length = (size_t)((newline ? newline : end) - line);
    file->next = newline ? newline + 1 : end;
    file->number++;
    while (length > 0 && strchr(" \t\r", line[length - 1]) && line[length - 1])
        length--;
    if (!is_text(line, length)) {
        *error = linefile_flaw(file, "is no UTF-8 text, or has control characters");
        return NULL;
    }
    line[length] = '\0';
    return line;
}

char *linefile_flaw(const struct linefile *file, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = mem_vprintf(format, args);
    va_end(args);
    char *flaw = mem_printf("%s:%d: %s", file->path, file->number, text);
    free(text);
    return flaw;
}

void linefile_close(struct linefile *file)
{
    if (file->text)
        explicit_bzero(file->text, file->length);
    free(file->text);
    *file = (struct linefile){0};
}
