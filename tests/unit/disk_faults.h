// A disk that fails when it is told to: SQLite's own way to the file system, with faults before it.
#pragma once

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct disk_faults {
    atomic_int fail;    // an SQLite error that changes to files give; 0: none
    atomic_int fail_in; // the call with this number from now on fails once, with fail_once; 0: none
    atomic_int fail_once;
    atomic_bool hold;     // changes wait while it is set
    atomic_int held;      // calls that wait
    atomic_uint calls;    // changes
    atomic_uint unsynced; // writes to a log since it was synced
    atomic_int die_in;    // in the change with this number from now on the process ends; 0: none
    atomic_bool tear;     // after half of it is written
};

static struct disk_faults disk_faults;

struct faulty_file {
    sqlite3_file base; // first
    bool is_log;
    sqlite3_file *real;
};

static inline sqlite3_file *faulty_real(sqlite3_file *file)
{
    return ((struct faulty_file *)(void *)file)->real;
}

// What a call that changes a file is to return; 0: it goes on.
static inline int faulty_change(void)
{
    disk_faults.calls++;
    if (disk_faults.hold) {
        disk_faults.held++;
        while (disk_faults.hold)
            usleep(100);
        disk_faults.held--;
    }
    int in = disk_faults.fail_in;
    if (in > 0 && --disk_faults.fail_in == 0)
        return disk_faults.fail_once;
    return disk_faults.fail;
}

static inline bool faulty_is_last(void)
{
    return disk_faults.die_in > 0 && --disk_faults.die_in == 0;
}

static inline int faulty_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 at)
{
    int error = disk_faults.fail == SQLITE_IOERR_FSYNC ? 0 : faulty_change();
    if (error)
        return error;
    if (((struct faulty_file *)(void *)file)->is_log)
        disk_faults.unsynced++;
    file = faulty_real(file);
    if (faulty_is_last()) {
        if (disk_faults.tear)
            file->pMethods->xWrite(file, data, size / 2, at);
        _exit(0);
    }
    return file->pMethods->xWrite(file, data, size, at);
}

static inline int faulty_sync(sqlite3_file *file, int flags)
{
    int error = faulty_change();
    if (error)
        return error;
    if (faulty_is_last())
        _exit(0);
    if (((struct faulty_file *)(void *)file)->is_log)
        disk_faults.unsynced = 0;
    file = faulty_real(file);
    return file->pMethods->xSync(file, flags);
}

static inline int faulty_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int error = faulty_change();
    if (faulty_is_last())
        _exit(0);
    file = faulty_real(file);
    return error ? error : file->pMethods->xTruncate(file, size);
}

static inline int faulty_close(sqlite3_file *file)
{
    sqlite3_file *real = faulty_real(file);
    int result = real->pMethods->xClose(real);
    free(real);
    return result;
}

static inline int faulty_read(sqlite3_file *file, void *data, int size, sqlite3_int64 at)
{
    file = faulty_real(file);
    return file->pMethods->xRead(file, data, size, at);
}

static inline int faulty_size(sqlite3_file *file, sqlite3_int64 *size)
{
    file = faulty_real(file);
    return file->pMethods->xFileSize(file, size);
}

static inline int faulty_lock(sqlite3_file *file, int level)
{
    file = faulty_real(file);
    return file->pMethods->xLock(file, level);
}

static inline int faulty_unlock(sqlite3_file *file, int level)
{
    file = faulty_real(file);
    return file->pMethods->xUnlock(file, level);
}

static inline int faulty_reserved(sqlite3_file *file, int *reserved)
{
    file = faulty_real(file);
    return file->pMethods->xCheckReservedLock(file, reserved);
}

static inline int faulty_control(sqlite3_file *file, int op, void *arg)
{
    file = faulty_real(file);
    return file->pMethods->xFileControl(file, op, arg);
}

static inline int faulty_sector(sqlite3_file *file)
{
    file = faulty_real(file);
    return file->pMethods->xSectorSize(file);
}

static inline int faulty_traits(sqlite3_file *file)
{
    file = faulty_real(file);
    return file->pMethods->xDeviceCharacteristics(file);
}

// Memory that processes share: no change of a file.
static inline int faulty_shm_map(sqlite3_file *file, int region, int size, int extend,
                                 void volatile **memory)
{
    file = faulty_real(file);
    return file->pMethods->xShmMap(file, region, size, extend, memory);
}

static inline int faulty_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    file = faulty_real(file);
    return file->pMethods->xShmLock(file, offset, count, flags);
}

static inline void faulty_shm_barrier(sqlite3_file *file)
{
    file = faulty_real(file);
    file->pMethods->xShmBarrier(file);
}

static inline int faulty_shm_unmap(sqlite3_file *file, int remove)
{
    file = faulty_real(file);
    return file->pMethods->xShmUnmap(file, remove);
}

static inline int faulty_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                              int *out)
{
    static const sqlite3_io_methods methods = {
        .iVersion = 2,
        .xClose = faulty_close,
        .xRead = faulty_read,
        .xWrite = faulty_write,
        .xTruncate = faulty_truncate,
        .xSync = faulty_sync,
        .xFileSize = faulty_size,
        .xLock = faulty_lock,
        .xUnlock = faulty_unlock,
        .xCheckReservedLock = faulty_reserved,
        .xFileControl = faulty_control,
        .xSectorSize = faulty_sector,
        .xDeviceCharacteristics = faulty_traits,
        .xShmMap = faulty_shm_map,
        .xShmLock = faulty_shm_lock,
        .xShmBarrier = faulty_shm_barrier,
        .xShmUnmap = faulty_shm_unmap,
    };
    sqlite3_vfs *real_vfs = vfs->pAppData;
    struct faulty_file *faulty = (struct faulty_file *)(void *)file;
    memset(faulty, 0, sizeof *faulty);
    faulty->is_log = (flags & SQLITE_OPEN_WAL) != 0;
    faulty->real = calloc(1, (size_t)real_vfs->szOsFile);
    int result = real_vfs->xOpen(real_vfs, name, faulty->real, flags, out);
    if (result == SQLITE_OK)
        faulty->base.pMethods = &methods;
    else
        free(faulty->real);
    return result;
}

// From now on, for all files of this process.
static inline void disk_faults_install(void)
{
    static sqlite3_vfs vfs;
    sqlite3_vfs *real = sqlite3_vfs_find("unix");
    vfs = *real;
    vfs.zName = "faulty";
    vfs.szOsFile = sizeof(struct faulty_file);
    vfs.pAppData = real;
    vfs.xOpen = faulty_open;
    sqlite3_vfs_register(&vfs, 1);
}

static inline void disk_faults_clear(void)
{
    disk_faults.fail = 0;
    disk_faults.fail_in = 0;
    disk_faults.hold = false;
}
