// Tries the paths that the configuration names.
#include "conf/pathflaw.h"

#include <errno.h>
#include <fcntl.h>
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
