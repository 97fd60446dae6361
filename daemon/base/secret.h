// Passwords that stand in files of their own.
#pragma once

// The first line of the file, without its end. NULL with *error ("cannot read FILE: why"), which
// the caller frees.
char *secret_read(const char *path, char **error);
// Wipes it before it is freed; takes NULL.
void secret_free(char *secret);
