// The properties of a PUBLISH as those of a message that is handed up.
#pragma once

#include "core/message.h"
#include "mqtt/property.h"

// Memory that is used again for each message; zero at first.
struct message_properties {
    struct message_property *items;
    size_t capacity;
    char expiry[12]; // decimal text of the Message Expiry Interval
};

void message_properties_fini(struct message_properties *properties);
// Fills items with what is of use to a reader of the message; their number. They point into the
// packet and into properties, until the next take.
uint32_t message_properties_take(struct message_properties *properties,
                                 const struct property_set *set);
