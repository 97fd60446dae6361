// The file of a disk: opened, checked, migrated; and what to do where that fails.
#pragma once

#include "disk/disk.h"

// A connection that holds the file's lock, or NULL with *error as disk_open says.
struct sqlite3 *disk_file_open(const struct disk_options *options, char **error);
// Why the last call on the database failed and what to do about it; the caller frees it.
char *disk_file_problem(struct sqlite3 *database, const struct disk_options *options);
