// Retained messages by topic [MQTT-3.3.1-5], found by filter.
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "broker/publication.h"

struct retained;

struct retained *retained_new(void);
void retained_free(struct retained *retained);
// Holds the publication in place of the topic's former one.
void retained_set(struct retained *retained, struct publication *publication);
bool retained_clear(struct retained *retained, struct bytes topic); // whether there was one
size_t retained_count(const struct retained *retained);
// Calls fn for each that the filter (valid, not shared) matches and that has not expired; expired
// ones are dropped, after expired(arg, it) has been told. Neither may change the set.
typedef void retained_fn(void *arg, struct publication *publication);
void retained_match(struct retained *retained, const char *filter, retained_fn *fn,
                    retained_fn *expired, void *arg);
