// SUBSCRIBE, UNSUBSCRIBE and their acknowledgements (3.8 to 3.11): packets with lists.
#include "core/topic.h"
#include "mqtt/packet_internal.h"

// The subscription options (3.8.3.1); 3.1.1 knows the QoS alone.
enum option {
    OPTION_QOS = 0x03,
    OPTION_NO_LOCAL = 0x04,
    OPTION_RETAIN_AS_PUBLISHED = 0x08,
    OPTION_RETAIN_HANDLING = 0x30,
    OPTION_RESERVED = 0xC0,
    OPTION_RESERVED_V311 = 0xFC,
};

#define RETAIN_HANDLING_SHIFT 4

static bool is_shared(struct bytes filter)
{
    const struct bytes prefix = bytes_of("$share/");
    return filter.length >= prefix.length && memcmp(filter.data, prefix.data, prefix.length) == 0;
}

static bool options_check(struct packet_input *in, uint8_t version, struct bytes filter,
                          uint8_t options)
{
    bool v5 = version == PACKET_V5;
    if (options & (v5 ? OPTION_RESERVED : OPTION_RESERVED_V311)) // [MQTT-3.8.3-5]
        return packet_malformed(in, "reserved subscription options are set");
    if ((options & OPTION_QOS) == 3)
        return packet_protocol_error(in, "subscription with QoS 3");
    if ((options & OPTION_RETAIN_HANDLING) == OPTION_RETAIN_HANDLING)
        return packet_protocol_error(in, "subscription with retain handling 3");
    if (options & OPTION_NO_LOCAL && is_shared(filter)) // [MQTT-3.8.3-4]
        return packet_protocol_error(in, "shared subscription with No Local");
    return true;
}

bool packet_parse_subscribe(struct packet_input *in, struct packet *packet)
{
    struct packet_subscribe *subscribe = &packet->subscribe;
    if (!packet_read_id(in, &subscribe->packet_id) || !packet_read_properties(in, packet))
        return false;
    subscribe->filters = (struct bytes){in->r.pos, bytes_left(&in->r)};
    if (subscribe->filters.length == 0) // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
        return packet_protocol_error(in, "no topic filter");
    while (bytes_left(&in->r) > 0) {
        struct bytes filter;
        if (!packet_read_string(in, &filter, "topic filter is not well-formed UTF-8"))
            return false;
        uint8_t options = packet->type == PACKET_SUBSCRIBE ? bytes_read_u8(&in->r) : 0;
        if (in->r.bad)
            return false;
        // [MQTT-4.7.1-1], [MQTT-4.7.3-1], [MQTT-4.8.2-1, -2]
        if (!topic_filter_valid((const char *)filter.data, filter.length))
            return packet_malformed(in, is_shared(filter)
                                            ? "shared subscription is not $share/NAME/FILTER"
                                            : "topic filter is empty or has a wildcard amiss");
        if (!options_check(in, packet->version, filter, options))
            return false;
    }
    return true;
}

void packet_body_subscribe(struct bytes_writer *w, const struct packet *packet)
{
    bytes_write_u16(w, packet->subscribe.packet_id);
    packet_write_properties(w, packet);
    bytes_write(w, packet->subscribe.filters);
}

bool packet_next_filter(const struct packet *packet, size_t *offset, struct packet_filter *filter)
{
    struct bytes_reader r = bytes_reader(packet->subscribe.filters);
    bytes_read(&r, *offset);
    if (bytes_left(&r) == 0)
        return false;
    *filter = (struct packet_filter){.filter = bytes_read_counted(&r)};
    uint8_t options = packet->type == PACKET_SUBSCRIBE ? bytes_read_u8(&r) : 0;
    filter->qos = options & OPTION_QOS;
    filter->no_local = options & OPTION_NO_LOCAL;
    filter->retain_as_published = options & OPTION_RETAIN_AS_PUBLISHED;
    filter->retain_handling =
        (uint8_t)((options & OPTION_RETAIN_HANDLING) >> RETAIN_HANDLING_SHIFT);
    *offset = packet->subscribe.filters.length - bytes_left(&r);
    return !r.bad;
}

void packet_write_filter(struct bytes_writer *w, enum packet_type type, uint8_t version,
                         const struct packet_filter *filter)
{
    bytes_write_counted(w, filter->filter);
    if (type != PACKET_SUBSCRIBE)
        return;
    unsigned options = filter->qos;
    if (version == PACKET_V5)
        options |= (filter->no_local ? OPTION_NO_LOCAL : 0U) |
                   (filter->retain_as_published ? OPTION_RETAIN_AS_PUBLISHED : 0U) |
                   (unsigned)filter->retain_handling << RETAIN_HANDLING_SHIFT;
    bytes_write_u8(w, (uint8_t)options);
}

bool packet_parse_suback(struct packet_input *in, struct packet *packet)
{
    struct packet_suback *suback = &packet->suback;
    if (!packet_read_id(in, &suback->packet_id) || !packet_read_properties(in, packet))
        return false;
    // An UNSUBACK of 3.1.1 ends with the packet identifier: what else there is, is left over.
    if (packet->type == PACKET_UNSUBACK && packet->version != PACKET_V5) {
        suback->codes = (struct bytes){0};
        return true;
    }
    suback->codes = bytes_read(&in->r, bytes_left(&in->r));
    if (suback->codes.length == 0)
        return packet_protocol_error(in, "no reason code");
    for (size_t i = 0; i < suback->codes.length; i++)
        if (!packet_check_reason(in, packet->version, suback->codes.data[i]))
            return false;
    return true;
}

void packet_body_suback(struct bytes_writer *w, const struct packet *packet)
{
    bytes_write_u16(w, packet->suback.packet_id);
    packet_write_properties(w, packet);
    bytes_write(w, packet->suback.codes);
}
