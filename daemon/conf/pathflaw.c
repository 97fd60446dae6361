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
