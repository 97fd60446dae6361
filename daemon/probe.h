// Tries the database and the brokers once, for the commands that end: check --connect, migrate.
#pragma once

#include <stdbool.h>

#include "configuration.h"

struct probe;

// Brings its own loop.
struct probe *probe_new(struct configuration *configuration);
void probe_free(struct probe *probe);
// Connects once; false with the reason on standard error. What in the server's settings weakens the
// promises is there too, as warnings.
bool probe_database(struct probe *probe);
// Whether the role may write sensorlogd's own tables; what it lacks is on standard error.
bool probe_grants(struct probe *probe);
// Looks at the live tables, with migrate after bringing schema and tables up to date; findings on
// standard error.
bool probe_tables(struct probe *probe, bool migrate);
// Connects to every broker under a client id of its own, so that a running daemon's session is left
// alone. Of the built-in one: whether its addresses are this machine's.
bool probe_brokers(struct probe *probe);
// The SQL that migrating an empty database would run, on standard output.
void probe_print_migration(struct probe *probe);
