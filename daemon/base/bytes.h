// Bounds-checked reading and writing of bytes in network order; errors stick and are checked once.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BYTES_VARINT_MAX UINT32_C(268435455) // what four bytes of seven bits hold
#define BYTES_VARINT_SIZE_MAX 4

// A run of bytes that somebody else owns; data may be NULL where length is 0.
struct bytes {
    const uint8_t *data;
    size_t length;
};

// The bytes of a C string, without its NUL.
static inline struct bytes bytes_of(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

bool bytes_equal(struct bytes a, struct bytes b);

// Reads from pos up to end. A read past the end sets bad, ends the input and gives zero or nothing.
struct bytes_reader {
    const uint8_t *pos, *end;
    bool bad;
};

static inline struct bytes_reader bytes_reader(struct bytes input)
{
    const uint8_t *start = input.data ? input.data : (const uint8_t *)"";
    return (struct bytes_reader){start, start + input.length, false};
}

static inline size_t bytes_left(const struct bytes_reader *r)
{
    return (size_t)(r->end - r->pos);
}

// The next length bytes; the slice points into the input.
static inline struct bytes bytes_read(struct bytes_reader *r, size_t length)
{
    struct bytes slice = {r->pos, length};
    if (length > bytes_left(r)) {
        r->bad = true;
        r->pos = r->end;
        slice.length = 0;
    }
    r->pos += slice.length;
    return slice;
}

static inline uint8_t bytes_read_u8(struct bytes_reader *r)
{
    struct bytes b = bytes_read(r, 1);
    return b.length == 0 ? 0 : b.data[0];
}

static inline uint16_t bytes_read_u16(struct bytes_reader *r)
{
    struct bytes b = bytes_read(r, 2);
    return (uint16_t)(b.length == 0 ? 0 : b.data[0] << 8 | b.data[1]);
}

static inline uint32_t bytes_read_u32(struct bytes_reader *r)
{
    uint32_t high = bytes_read_u16(r);
    return high << 16 | bytes_read_u16(r);
}

// A 16-bit length and that many bytes: the strings and binary data of MQTT.
static inline struct bytes bytes_read_counted(struct bytes_reader *r)
{
    return bytes_read(r, bytes_read_u16(r));
}

// MQTT's variable byte integer [MQTT-1.5.5-1]; one of five bytes or with needless bytes is bad too.
uint32_t bytes_read_varint(struct bytes_reader *r);

// Appends to a fixed buffer of capacity bytes. What does not fit sets bad, and nothing more is
// written. Where data is NULL the bytes are only counted.
struct bytes_writer {
    uint8_t *data;
    size_t capacity, length;
    bool bad;
};

static inline struct bytes_writer bytes_writer(void *buffer, size_t capacity)
{
    return (struct bytes_writer){buffer, capacity, 0, false};
}

// A writer that only counts: its length tells the room that the same writes need.
static inline struct bytes_writer bytes_counter(void)
{
    return (struct bytes_writer){NULL, SIZE_MAX, 0, false};
}

static inline size_t bytes_room(const struct bytes_writer *w)
{
    return w->bad ? 0 : w->capacity - w->length;
}

// Room for length bytes, which the caller fills; NULL where they do not fit or are only counted.
static inline uint8_t *bytes_reserve(struct bytes_writer *w, size_t length)
{
    if (length > bytes_room(w)) {
        w->bad = true;
        return NULL;
    }
    uint8_t *room = w->data ? w->data + w->length : NULL;
    w->length += length;
    return room;
}

static inline void bytes_write_u8(struct bytes_writer *w, uint8_t value)
{
    uint8_t *room = bytes_reserve(w, 1);
    if (room)
        room[0] = value;
}

static inline void bytes_write_u16(struct bytes_writer *w, uint16_t value)
{
    uint8_t *room = bytes_reserve(w, 2);
    if (room) {
        room[0] = (uint8_t)(value >> 8);
        room[1] = (uint8_t)value;
    }
}

void bytes_write_u32(struct bytes_writer *w, uint32_t value);
void bytes_write(struct bytes_writer *w, struct bytes slice);
// A 16-bit length and the bytes; more than 65,535 set bad.
void bytes_write_counted(struct bytes_writer *w, struct bytes slice);
// In as few bytes as it takes; a value above BYTES_VARINT_MAX sets bad.
void bytes_write_varint(struct bytes_writer *w, size_t value);
