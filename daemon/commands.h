// The sub-commands; each returns the exit status.
#pragma once

#include <stdbool.h>

struct arguments {
    const char *config;  // -c
    bool connect;        // --connect
    bool print;          // --print
    bool delete;         // --delete
    bool dry_run;        // --dry-run
    const char *mapping; // --mapping, or NULL
    const char *writer;  // --writer, or NULL
    const char *list;    // --list, or NULL
    char **rest;
    int rest_count;
};

int command_run(const struct arguments *arguments);
int command_check(const struct arguments *arguments);
int command_explain(const struct arguments *arguments);
int command_migrate(const struct arguments *arguments);
int command_replay(const struct arguments *arguments);
int command_spool(const struct arguments *arguments);
int command_config(const struct arguments *arguments);
int command_passwd(const struct arguments *arguments);
