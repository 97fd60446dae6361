// Tries the paths that the configuration names.
#include "conf/pathflaw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

char *pathflaw_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return mem_printf("'%s' cannot be opened: %s", path, strerror(errno));
    char byte;
    ssize_t n = read(fd, &byte, 1);
    int error = errno;
    close(fd);
    if (n < 0)
        return mem_printf("'%s' cannot be read: %s", path, strerror(error));
    return n == 1 ? NULL : mem_printf("'%s' is empty", path);
}

char *pathflaw_directory(const char *path)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return mem_printf("'%s': %s", path, strerror(errno));
    return S_ISDIR(status.st_mode) ? NULL : mem_printf("'%s' is no directory", path);
}

char *pathflaw_writable(const char *path)
{
    char *flaw = pathflaw_directory(path);
    if (!flaw && faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) != 0)
        return mem_printf("'%s' cannot be written: %s", path, strerror(errno));
    return flaw;
}

static bool may_be_database(const char *path)
{
    static const char header[] = "SQLite format 3"; // with its NUL
    char begin[sizeof header];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return true;
    ssize_t n = read(fd, begin, sizeof begin);
    close(fd);
    return n <= 0 || (n == sizeof begin && memcmp(begin, header, sizeof begin) == 0);
}

// A file with a log beside it is a database, and may be one that this process has open: closing it
// here would drop SQLite's locks on it.
char *pathflaw_database(const char *path)
{
    struct stat status;
    char *whole = realpath(path, NULL), *log = mem_printf("%s-wal", whole ? whole : path);
    char *flaw = NULL;
    if (!whole || stat(whole, &status) != 0)
        ; // it is made
    else if (!S_ISREG(status.st_mode))
        flaw = mem_printf("'%s' is %s", path,
                          S_ISDIR(status.st_mode) ? "a directory" : "no regular file");
    else if (access(log, F_OK) != 0 && !may_be_database(whole))
        flaw = mem_printf("'%s' is no SQLite database", path);
    free(log);
    free(whole);
    return flaw;
}

char *pathflaw_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return mem_strdup(".");
    return slash == path ? mem_strdup("/") : mem_strndup(path, (size_t)(slash - path));
}

// One that is not there yet is the same where its name and its directory are.
static char *true_name(const char *path)
{
    char *whole = realpath(path, NULL);
    if (whole)
        return whole;
    char *parent = pathflaw_parent(path), *true_parent = realpath(parent, NULL);
    const char *slash = strrchr(path, '/');
    char *name = mem_printf("%s/%s", true_parent ? true_parent : parent, slash ? slash + 1 : path);
    free(true_parent);
    free(parent);
    return name;
}

bool pathflaw_same(const char *a, const char *b)
{
    char *name_a = true_name(a), *name_b = true_name(b);
    bool same = strcmp(name_a, name_b) == 0;
    free(name_a);
    free(name_b);
    return same;
}
