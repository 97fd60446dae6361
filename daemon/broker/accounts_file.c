// Changes one user's line in a password file, and nothing else of it.
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/memtext.h"
#include "base/utf8.h"
#include "broker/accounts.h"
#include "broker/accounts_hash.h"

struct change {
    char *path; // without symbolic links
    char *directory;
    int directory_fd; // locked: two changes at a time would lose one
    struct stat before;
    bool exists, found;
    struct memtext text; // of the new file
};

static bool fail(char **error, const char *path, const char *what)
{
    *error = mem_printf("%s: cannot be %s: %s", path, what, strerror(errno));
    return false;
}

const char *accounts_name_flaw(const char *name)
{
    size_t length = strlen(name);
    if (length == 0)
        return "is empty";
    if (length > UINT16_MAX) // [MQTT-1.5.4]
        return "is longer than 65535 bytes";
    if (strchr(name, ':'))
        return "has a ':', which ends a name in the file";
    if (*name == '#' || strchr(" \t", *name) || strchr(" \t", name[length - 1]))
        return "begins with '#', or begins or ends with a blank";
    for (const char *at = name; *at; at++) {
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            return "has a control character";
    }
    return utf8_valid(name, length) ? NULL : "is no UTF-8";
}

static bool open_change(struct change *change, const char *path, char **error)
{
    *change = (struct change){.directory_fd = -1};
    char *real = realpath(path, NULL);
    if (!real && errno != ENOENT)
        return fail(error, path, "found");
    change->path = real ? mem_strdup(real) : mem_strdup(path);
    free(real);
    char *copy = mem_strdup(change->path);
    change->directory = mem_strdup(dirname(copy));
    free(copy);
    change->directory_fd = open(change->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (change->directory_fd < 0 || flock(change->directory_fd, LOCK_EX) != 0)
        return fail(error, change->directory, "opened");
    memtext_open(&change->text);
    return true;
}

static void close_change(struct change *change)
{
    if (change->text.out)
        free(memtext_close(&change->text));
    if (change->directory_fd >= 0)
        close(change->directory_fd);
    free(change->directory);
    free(change->path);
}

// Whether the line is the user's; as accounts_load has it, blanks around the name do not count.
static bool is_of(const char *line, const char *name)
{
    size_t length = strlen(name);
    line += strspn(line, " \t");
    if (strncmp(line, name, length) != 0)
        return false;
    line += length;
    return line[strspn(line, " \t")] == ':';
}

// Copies the file with the user's line replaced, or left out where hash is NULL.
static bool copy_lines(struct change *change, const char *name, const char *hash, char **error)
{
    FILE *in = fopen(change->path, "re");
    char *line = NULL;
    size_t size = 0;
    if (!in && errno == ENOENT)
        return true;
    if (!in || fstat(fileno(in), &change->before) != 0) {
        fail(error, change->path, "opened");
        if (in)
            fclose(in);
        return false;
    }
    change->exists = true;
    for (ssize_t length; (length = getline(&line, &size, in)) > 0;) {
        bool mine = *line != '#' && is_of(line, name);
        if (!mine)
            fwrite(line, 1, (size_t)length, change->text.out);
        else if (hash && !change->found)
            fprintf(change->text.out, "%s:%s\n", name, hash);
        if (!mine && line[length - 1] != '\n')
            putc('\n', change->text.out);
        change->found |= mine;
    }
    bool good = !ferror(in) || fail(error, change->path, "read");
    fclose(in);
    if (line)
        explicit_bzero(line, size); // it may have been a password in plain text
    free(line);
    return good;
}

static bool write_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, bytes, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        bytes += n;
        length -= (size_t)n;
    }
    return true;
}

// Root makes a file in the daemon's directory: what is in there is for its group to read.
static bool share(const struct change *change, int fd)
{
    struct stat directory;
    if (geteuid() != 0)
        return true;
    if (fstat(change->directory_fd, &directory) != 0)
        return false;
    if (directory.st_gid == 0 || !(directory.st_mode & S_IXGRP))
        return true;
    return fchown(fd, (uid_t)-1, directory.st_gid) == 0 && fchmod(fd, 0640) == 0;
}

// Fills the new file and gives it the old one's owner and mode.
static bool fill(const struct change *change, int fd, const char *bytes, size_t length)
{
    const struct stat *before = &change->before;
    if (!change->exists && !share(change, fd))
        return false;
    if (change->exists && (fchown(fd, before->st_uid, before->st_gid) != 0 ||
                           fchmod(fd, before->st_mode & 07777) != 0))
        return false;
    return write_all(fd, bytes, length) && fsync(fd) == 0;
}

// The file is the old one or the new one, whatever happens.
static bool replace(struct change *change, char **error)
{
    char *temporary = mem_printf("%s.XXXXXX", change->path);
    int fd = mkostemp(temporary, O_CLOEXEC); // mode 0600
    char *bytes = memtext_close(&change->text);
    change->text.out = NULL;
    bool good = fd >= 0 && fill(change, fd, bytes, change->text.length) &&
                rename(temporary, change->path) == 0 && fsync(change->directory_fd) == 0;
    if (!good)
        fail(error, change->path, "written");
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && !good)
        unlink(temporary);
    free(bytes);
    free(temporary);
    return good;
}

bool accounts_set(const char *path, const char *username, struct bytes password, char **error)
{
    const char *flaw = accounts_name_flaw(username);
    if (flaw) {
        *error = mem_printf("the name '%s' %s", username, flaw);
        return false;
    }
    char *hash = accounts_hash_make(password);
    if (!hash) {
        *error = mem_strdup("the password cannot be hashed: out of memory");
        return false;
    }
    struct change change;
    bool good = open_change(&change, path, error) && copy_lines(&change, username, hash, error);
    if (good && !change.found)
        fprintf(change.text.out, "%s:%s\n", username, hash);
    good = good && replace(&change, error);
    close_change(&change);
    free(hash);
    return good;
}

bool accounts_delete(const char *path, const char *username, char **error)
{
    struct change change;
    bool good = open_change(&change, path, error) && copy_lines(&change, username, NULL, error);
    if (good && !change.found) {
        *error = mem_printf("%s: has no user '%s'", path, username);
        good = false;
    }
    good = good && replace(&change, error);
    close_change(&change);
    return good;
}
