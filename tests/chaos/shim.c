// Preloaded into the daemon or into PostgreSQL, for shim.py: a disk that fails or is slow, and a
// clock that stands wrong. What it does is in the page of memory that it shares with the tests
// (CHAOS_PAGE names the file); all zero, it does nothing. CLOCK_MONOTONIC is left alone.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct page {
    volatile int64_t clock_offset; // seconds
    volatile int32_t write_error;  // errno of writes
    volatile int32_t sync_error;   // errno of fsync and fdatasync
    volatile int32_t delay;        // microseconds before each write and fsync
    volatile int32_t torn;         // before a write fails, half of it is written
    volatile int64_t failed;       // how many calls have failed so, counted here
    char paths[256]; // of files whose path has one of these in it, each ended by a zero byte
};

static struct page nothing;
static struct page *page = &nothing;

#define REAL(name) ((__typeof__(&(name)))real(#name))

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

__attribute__((constructor)) static void open_page(void)
{
    const char *path = getenv("CHAOS_PAGE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *shared = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED)
        page = shared;
    close(fd);
}

static int is_meant(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = '\0';
    for (const char *part = page->paths; *part; part += strlen(part) + 1)
        if (strstr(path, part))
            return 1;
    return 0;
}

// True when the call is to fail, with errno set.
static int fails(int fd, int error)
{
    if ((!error && !page->delay) || !is_meant(fd))
        return 0;
    if (page->delay)
        usleep((useconds_t)page->delay);
    if (!error)
        return 0;
    __sync_fetch_and_add(&page->failed, 1);
    errno = error;
    return 1;
}

static int tears(size_t size)
{
    return page->torn && size > 512;
}

ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*call)(int, const void *, size_t);
    if (!call)
        call = REAL(write);
    if (fails(fd, page->write_error))
        return tears(size) ? call(fd, data, size / 2) : -1;
    return call(fd, data, size);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    static ssize_t (*call)(int, const void *, size_t, off_t);
    if (!call)
        call = REAL(pwrite);
    if (fails(fd, page->write_error))
        return tears(size) ? call(fd, data, size / 2, offset) : -1;
    return call(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite(fd, data, size, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    static ssize_t (*call)(int, const struct iovec *, int);
    if (!call)
        call = REAL(writev);
    return fails(fd, page->write_error) ? -1 : call(fd, parts, count);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    static ssize_t (*call)(int, const struct iovec *, int, off_t);
    if (!call)
        call = REAL(pwritev);
    return fails(fd, page->write_error) ? -1 : call(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset)
{
    return pwritev(fd, parts, count, offset);
}

int fsync(int fd)
{
    static int (*call)(int);
    if (!call)
        call = REAL(fsync);
    return fails(fd, page->sync_error) ? -1 : call(fd);
}

int fdatasync(int fd)
{
    static int (*call)(int);
    if (!call)
        call = REAL(fdatasync);
    return fails(fd, page->sync_error) ? -1 : call(fd);
}

int posix_fallocate(int fd, off_t offset, off_t length)
{
    static int (*call)(int, off_t, off_t);
    if (!call)
        call = REAL(posix_fallocate);
    return fails(fd, page->write_error) ? errno : call(fd, offset, length);
}

int posix_fallocate64(int fd, off_t offset, off_t length)
{
    return posix_fallocate(fd, offset, length);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*call)(clockid_t, struct timespec *);
    if (!call)
        call = REAL(clock_gettime);
    int result = call(clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += page->clock_offset;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec at;
    if (clock_gettime(CLOCK_REALTIME, &at) != 0)
        return -1;
    *now = (struct timeval){at.tv_sec, at.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *now)
{
    struct timespec at;
    if (clock_gettime(CLOCK_REALTIME_COARSE, &at) != 0)
        return -1;
    if (now)
        *now = at.tv_sec;
    return at.tv_sec;
}
