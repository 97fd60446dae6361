// Preloaded into the daemon, for harness/stall.py: what is written to files whose path ends in
// STALL_SUFFIX, or in that and "-wal" or "-journal", waits for as long as the file STALL_WHILE
// exists.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int ends_in(const char *path, const char *suffix)
{
    size_t length = strlen(path), end = strlen(suffix);
    return length >= end && strcmp(path + length - end, suffix) == 0;
}

static int is_meant(int fd)
{
    static const char *const tails[] = {"", "-wal", "-journal"};
    const char *suffix = getenv("STALL_SUFFIX");
    char link[64], path[4096], wanted[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!suffix || length < 0)
        return 0;
    path[length] = '\0';
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        snprintf(wanted, sizeof wanted, "%s%s", suffix, tails[i]);
        if (ends_in(path, wanted))
            return 1;
    }
    return 0;
}

static void stall(int fd)
{
    const char *gate = getenv("STALL_WHILE");
    while (gate && access(gate, F_OK) == 0 && is_meant(fd))
        usleep(1000);
}

ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (!real)
        real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    stall(fd);
    return real(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real)
        real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite");
    stall(fd);
    return real(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite(fd, data, size, offset);
}
