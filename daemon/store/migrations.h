// The numbered migrations of sql/, built into the binary by sql/embed.sh.
#pragma once

#include <stddef.h>

struct migration {
    int version;
    const char *name;     // the file's, without .sql
    const char *checksum; // SHA-256 of sql, in hexadecimal
    const char *sql;      // statements without transaction control
};

// Ordered by version, without gaps. The first, version 0, makes the table that the others are
// recorded in; it may run at any time.
extern const struct migration migrations[];
extern const size_t migration_count;
