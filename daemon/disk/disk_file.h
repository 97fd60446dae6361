// The file of a disk: opened, checked, migrated; and what to do where that fails.
#pragma once

#include "disk/disk.h"

// A connection, or NULL with *error as disk_open says. It holds the file's lock; where others may
// read the file *lock_fd does, which the caller closes after the database, else it is -1.
struct sqlite3 *disk_file_open(const struct disk_options *options, int *lock_fd, char **error);
// Why the last call on the database failed and what to do about it; the caller frees it.
char *disk_file_problem(struct sqlite3 *database, const struct disk_options *options);
