// The properties of a PUBLISH as those of a message that is handed up.
#include "mqtt/message_properties.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

void message_properties_fini(struct message_properties *properties)
{
    free(properties->items);
}

static struct message_property *add(struct message_properties *properties, uint32_t *count,
                                    enum message_property_kind kind, struct bytes value)
{
    properties->items =
        mem_grow(properties->items, *count, &properties->capacity, sizeof *properties->items);
    struct message_property *property = &properties->items[(*count)++];
    *property = (struct message_property){.kind = kind,
                                          .value = (const char *)value.data,
                                          .value_length = (uint32_t)value.length};
    return property;
}

static uint32_t add_users(struct message_properties *properties, const struct property_set *set)
{
    uint32_t count = 0;
    size_t offset = 0;
    struct bytes name, value;
    while (property_next_user(set, &offset, &name, &value)) {
        struct message_property *property = add(properties, &count, MESSAGE_USER_PROPERTY, value);
        property->name = (const char *)name.data;
        property->name_length = (uint32_t)name.length;
    }
    return count;
}

uint32_t message_properties_take(struct message_properties *properties,
                                 const struct property_set *set)
{
    uint32_t count = property_has(set, PROPERTY_USER) ? add_users(properties, set) : 0;
    if (property_has(set, PROPERTY_CONTENT_TYPE))
        add(properties, &count, MESSAGE_CONTENT_TYPE, set->content_type);
    if (property_has(set, PROPERTY_RESPONSE_TOPIC))
        add(properties, &count, MESSAGE_RESPONSE_TOPIC, set->response_topic);
    if (property_has(set, PROPERTY_CORRELATION_DATA))
        add(properties, &count, MESSAGE_CORRELATION_DATA, set->correlation_data);
    if (property_has(set, PROPERTY_PAYLOAD_FORMAT))
        add(properties, &count, MESSAGE_PAYLOAD_FORMAT, bytes_of(set->payload_format ? "1" : "0"));
    if (property_has(set, PROPERTY_MESSAGE_EXPIRY)) {
        snprintf(properties->expiry, sizeof properties->expiry, "%u", set->message_expiry);
        add(properties, &count, MESSAGE_EXPIRY, bytes_of(properties->expiry));
    }
    return count;
}
