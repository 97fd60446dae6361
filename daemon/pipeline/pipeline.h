// The way of a message: which mappings match, what they make of it, and on to the writer.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/mem.h"
#include "core/message.h"
#include "pipeline/decode_error.h"
#include "pipeline/mapping.h"

struct spool;
struct writer;
struct pipeline;
struct plan; // a mapping compiled for decoding

// A plan for the mapping, which must outlive it. NULL with error filled where units do not convert.
struct plan *plan_new(const struct mapping *mapping, struct decode_error *error);
void plan_free(struct plan *plan);
// Decodes one message into values[target.column_count]; bytes live in the message, the mapping or
// the arena. False with error filled where the message is a reject. now_us is the clock for the
// bounds of time.
bool plan_decode(struct plan *plan, const struct message *message, int64_t now_us,
                 struct arena *arena, struct value *values, struct decode_error *error);

// The mappings must outlive the pipeline. NULL where a plan fails, which is logged.
struct pipeline *pipeline_new(struct mapping *mappings, size_t count, struct writer *writer);
void pipeline_free(struct pipeline *pipeline);
// While the spool takes messages, those that some mapping wants go there.
void pipeline_set_spool(struct pipeline *pipeline, struct spool *spool);
// One more, which must outlive the pipeline too. False where its plan fails, which is logged.
bool pipeline_add(struct pipeline *pipeline, struct mapping *mapping);
// The mapping takes no more messages. What was decoded by it is valid until it is forgotten, which
// is due once its target's books have nothing pending.
void pipeline_remove(struct pipeline *pipeline, const struct mapping *mapping);
void pipeline_forget(struct pipeline *pipeline, const struct mapping *mapping);
// Whether some mapping takes messages of this topic from the source of this name; costs nothing
// where there are no mappings.
bool pipeline_wants(struct pipeline *pipeline, const char *source, const char *topic,
                    size_t length);
// Takes the caller's hold on the message: it gets rows, rejects or skips, and its verdict in the
// end.
void pipeline_take(struct pipeline *pipeline, struct message *message);
// Calls fn for each mapping whose filter matches, wherever it takes its messages from (explain).
typedef void pipeline_match_fn(void *arg, const struct mapping *mapping, struct plan *plan);
void pipeline_match(struct pipeline *pipeline, const struct message *message, pipeline_match_fn *fn,
                    void *arg);
// Whether a mapping whose filter matches takes the message: by its source, and by whom it is for.
bool pipeline_concerns(const struct mapping *mapping, const struct message *message);
