// What is wrong with a path that the configuration names.
#pragma once

#include <stdbool.h>

// Why it cannot be read as a file that has something in it, which the caller frees, or NULL.
char *pathflaw_file(const char *path);
// Why it is no directory, which the caller frees, or NULL.
char *pathflaw_directory(const char *path);
// As pathflaw_directory, and that this user cannot make files in it.
char *pathflaw_writable(const char *path);
// Why it is no SQLite database, nor can become one, which the caller frees, or NULL; also where
// that cannot be seen.
char *pathflaw_database(const char *path);
// The directory that the file is in; the caller frees it.
char *pathflaw_parent(const char *path);
// Whether both are one file, by name or because they lead there.
bool pathflaw_same(const char *a, const char *b);
