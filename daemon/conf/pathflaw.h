// What is wrong with a path that the configuration names.
#pragma once

// Why it cannot be read as a file that has something in it, which the caller frees, or NULL.
char *pathflaw_file(const char *path);
// Why it is no directory, which the caller frees, or NULL.
char *pathflaw_directory(const char *path);
