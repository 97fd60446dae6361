// A directory of configuration files for one test, and the problems found in them as text.
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "conf/problems.h"

struct conf_files {
    char directory[32];
    char *written[16];
    size_t count;
};

static inline void conf_files_init(struct conf_files *files)
{
    *files = (struct conf_files){.directory = "/tmp/slconf.XXXXXX"};
    if (!mkdtemp(files->directory))
        abort();
}

// The path of name in the directory; the caller frees.
static inline char *conf_files_path(const struct conf_files *files, const char *name)
{
    return mem_printf("%s/%s", files->directory, name);
}

static inline void conf_files_write_bytes(struct conf_files *files, const char *name,
                                          const char *bytes, size_t length)
{
    char *path = conf_files_path(files, name);
    FILE *out = fopen(path, "w");
    if (!out || fwrite(bytes, 1, length, out) != length || fclose(out) != 0)
        abort();
    files->written[files->count++] = path;
}

static inline void conf_files_write(struct conf_files *files, const char *name, const char *text)
{
    conf_files_write_bytes(files, name, text, strlen(text));
}

static inline void conf_files_make_directory(struct conf_files *files, const char *name)
{
    char *path = conf_files_path(files, name);
    if (mkdir(path, 0700) != 0)
        abort();
    files->written[files->count++] = path;
}

static inline void conf_files_fini(struct conf_files *files)
{
    while (files->count > 0) {
        char *path = files->written[--files->count];
        remove(path);
        free(path);
    }
    rmdir(files->directory);
}

// What problems_print prints, with the directory's name left out everywhere; the caller frees.
static inline char *conf_files_problems(const struct conf_files *files, struct problems *problems)
{
    char *text = NULL, *at;
    size_t size = 0, length = strlen(files->directory);
    FILE *out = open_memstream(&text, &size);
    problems_print(problems, out);
    fclose(out);
    while ((at = strstr(text, files->directory)) != NULL) {
        size_t skipped = length + (at[length] == '/');
        memmove(at, at + skipped, strlen(at + skipped) + 1);
    }
    return text;
}
