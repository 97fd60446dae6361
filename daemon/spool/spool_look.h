// A look into the spool's file from another process, while a daemon has it or not: reads only, a
// piece at a time, so that the daemon's log can be moved into the file in between.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "spool/spool_file.h"

struct spool_look;

struct spool_look_totals {
    char id[64];
    uint64_t doubts, stored, voids; // identifiers of QoS 2, by what the file says
    bool in_use;                    // a daemon has it
};

// NULL with *error, which the caller frees.
struct spool_look *spool_look_open(const char *path, char **error);
void spool_look_close(struct spool_look *look);
bool spool_look_totals(struct spool_look *look, struct spool_look_totals *totals, char **error);
// All entries in order, until entry says false; cost: bytes that it takes of the file.
typedef bool spool_look_fn(void *arg, const struct spool_entry *entry, int64_t cost);
bool spool_look_entries(struct spool_look *look, spool_look_fn *entry, void *arg, char **error);
