// Properties of a PUBLISH, encoded, as paho takes them.
#include "forward/properties.h"

#include "base/mem.h"

struct list_builder {
    MQTTProperty *items;
    size_t count, capacity;
};

static void list_add(struct list_builder *list, const MQTTProperty *property)
{
    list->items = mem_grow(list->items, list->count, &list->capacity, sizeof *list->items);
    list->items[list->count++] = *property;
}

static MQTTLenString read_string(struct bytes_reader *r)
{
    struct bytes text = bytes_read_counted(r);
    return (MQTTLenString){.len = (int)text.length, .data = (char *)(uintptr_t)text.data};
}

// One property; false where it is of no kind that is handed on, or cut short.
static bool read_property(struct bytes_reader *r, MQTTProperty *property)
{
    *property = (MQTTProperty){.identifier = bytes_read_u8(r)};
    switch (property->identifier) {
    case MQTTPROPERTY_CODE_PAYLOAD_FORMAT_INDICATOR:
        property->value.byte = bytes_read_u8(r);
        break;
    case MQTTPROPERTY_CODE_CONTENT_TYPE:
    case MQTTPROPERTY_CODE_RESPONSE_TOPIC:
    case MQTTPROPERTY_CODE_CORRELATION_DATA:
        property->value.data = read_string(r);
        break;
    case MQTTPROPERTY_CODE_USER_PROPERTY:
        property->value.data = read_string(r);
        property->value.value = read_string(r);
        break;
    default:
        return false;
    }
    return !r->bad;
}

MQTTProperties properties_list(struct bytes encoded, uint32_t expiry)
{
    struct list_builder list = {.items = NULL};
    struct bytes_reader r = bytes_reader(encoded);
    MQTTProperty property = {.identifier = MQTTPROPERTY_CODE_MESSAGE_EXPIRY_INTERVAL,
                             .value.integer4 = expiry};
    if (expiry != UINT32_MAX)
        list_add(&list, &property);
    while (bytes_left(&r) > 0 && read_property(&r, &property))
        list_add(&list, &property);
    // paho counts the length itself when it copies the list.
    return (MQTTProperties){.count = (int)list.count,
                            .max_count = (int)list.count,
                            .array = list.items};
}
