// The SQL of the batch writer, and its parameters as binary arrays.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/batch.h"
#include "store/pg.h"
#include "store/sql_text.h"

// The INSERT of rejects.
const char *sql_insert_rejects(void);

// The INSERT of QoS 2 identifiers, or the DELETE: $1 the writer, $2 sessions, $3 packet
// identifiers.
const char *sql_exchanges(bool forget);
// All of a writer, $1.
const char *sql_load_exchanges(void);

// Says that the entries of the spool ($1) after $2 and through $3 are stored by this transaction.
// SL003 where others were.
const char *sql_advance_spool(void);
// Takes the entries $1 out of the reject table. SL004 where one is not there.
const char *sql_take_rejects(void);

// Parameters of one statement, reused from batch to batch.
struct sql_params {
    struct sql_array *arrays; // one per parameter
    size_t capacity;
    const char **values;
    int *lengths, *formats;
    uint32_t *types;
    struct pg_params params;
};

void sql_params_init(struct sql_params *params);
void sql_params_fini(struct sql_params *params);
// Which rows of a group: those from first to before last that have the outcome. VERDICT_NONE: they
// are to be stored.
struct sql_rows {
    size_t first, last;
    enum verdict outcome;
};

// Types and values of the rows; params->params is what pg_execute takes, until the next call.
// keyed: with their number at the end. Returns that.
size_t sql_encode_rows(struct sql_params *params, const struct batch_group *group,
                       const struct sql_rows *rows, bool keyed);
// Their times.
struct sql_span sql_rows_span(const struct batch_group *group, const struct sql_rows *rows);
// writer: of those that were none before.
void sql_encode_rejects(struct sql_params *params, const struct batch *batch, const char *writer);
// writer is not copied.
void sql_encode_exchanges(struct sql_params *params, const struct batch *batch, const char *writer,
                          bool forget);
// Types and values; spool is not copied.
void sql_encode_spool(struct sql_params *params, const struct batch *batch, const char *spool);
void sql_encode_taken(struct sql_params *params, const struct batch *batch);
// The types alone, for pg_prepare.
void sql_encode_types(struct sql_params *params, const struct target *target, bool keyed);
void sql_encode_reject_types(struct sql_params *params);
void sql_encode_exchange_types(struct sql_params *params, bool forget);
