// A message on its way to the broker's own subscribers: immutable, one piece of memory, shared.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "core/budget.h"

struct publication {
    uint32_t holders;
    int64_t id;          // in the state file, 0: none yet; the state's own
    uint64_t publisher;  // id of the publishing session, 0: none (for No Local)
    int64_t received_us; // wall clock
    int64_t expires_ms;  // loop_now_ms; INT64_MAX: never
    struct budget *budget;
    struct bytes topic, payload;
    // Encoded MQTT 5 properties as they go out: payload format, content type, response topic,
    // correlation data, user properties, in the publisher's order. [MQTT-3.3.2-17]
    struct bytes properties;
    size_t charged; // bytes of the budget
    uint8_t qos;
    bool retain; // as published
};

struct publication_parts {
    struct bytes topic, payload, properties;
    uint64_t publisher;
    int64_t received_us, expires_ms;
    uint8_t qos;
    bool retain;
};

// A copy of all parts, held once by the caller and charged to the budget.
struct publication *publication_new(struct budget *budget, const struct publication_parts *parts);

static inline struct publication *publication_hold(struct publication *publication)
{
    publication->holders++;
    return publication;
}

void publication_release(struct publication *publication); // takes NULL
