// The parts of reading and writing bytes that are not worth inlining.
#include "base/bytes.h"

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.length == b.length && (a.length == 0 || memcmp(a.data, b.data, a.length) == 0);
}

uint32_t bytes_read_varint(struct bytes_reader *r)
{
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 7 * BYTES_VARINT_SIZE_MAX; shift += 7) {
        uint8_t byte = bytes_read_u8(r);
        value |= (uint32_t)(byte & 0x7F) << shift;
        if (byte & 0x80)
            continue;
        if (byte == 0 && shift > 0)
            break;
        return value;
    }
    r->bad = true;
    r->pos = r->end;
    return 0;
}

void bytes_write_u32(struct bytes_writer *w, uint32_t value)
{
    bytes_write_u16(w, (uint16_t)(value >> 16));
    bytes_write_u16(w, (uint16_t)value);
}

void bytes_write(struct bytes_writer *w, struct bytes slice)
{
    uint8_t *room = bytes_reserve(w, slice.length);
    if (room && slice.length > 0)
        memcpy(room, slice.data, slice.length);
}

void bytes_write_counted(struct bytes_writer *w, struct bytes slice)
{
    if (slice.length > UINT16_MAX) {
        w->bad = true;
        return;
    }
    bytes_write_u16(w, (uint16_t)slice.length);
    bytes_write(w, slice);
}

void bytes_write_varint(struct bytes_writer *w, size_t value)
{
    if (value > BYTES_VARINT_MAX) {
        w->bad = true;
        return;
    }
    for (; value > 0x7F; value >>= 7)
        bytes_write_u8(w, (uint8_t)(0x80 | (value & 0x7F)));
    bytes_write_u8(w, (uint8_t)value);
}
