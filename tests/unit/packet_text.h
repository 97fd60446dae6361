// Packets as text, for tables of cases: hex digits, 'characters', (a 16-bit length and the bytes),
// [a variable byte integer of the length, and the bytes]. "C0[]" is a PINGREQ.
#pragma once

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

static void packet_text_write(struct bytes_writer *w, const char **text);

static inline void packet_text_block(struct bytes_writer *w, const char **text)
{
    static int depth;
    static uint8_t buffers[4][70000];
    bool counted = *(*text)++ == '(';
    if (depth == 4)
        abort();
    uint8_t *buffer = buffers[depth++];
    struct bytes_writer inner = bytes_writer(buffer, sizeof(buffers[0]));
    packet_text_write(&inner, text);
    depth--;
    if (*(*text)++ != (counted ? ')' : ']') || inner.bad)
        abort();
    struct bytes block = {buffer, inner.length};
    if (counted) {
        bytes_write_counted(w, block);
    } else {
        bytes_write_varint(w, block.length);
        bytes_write(w, block);
    }
}

static inline void packet_text_hex(struct bytes_writer *w, const char **text)
{
    char digits[3] = {(*text)[0], (*text)[1], '\0'};
    char *end;
    bytes_write_u8(w, (uint8_t)strtoul(digits, &end, 16));
    if (*end != '\0' || end == digits)
        abort();
    *text += 2;
}

static void packet_text_write(struct bytes_writer *w, const char **text)
{
    while (**text != '\0' && **text != ')' && **text != ']') {
        if (**text == ' ') {
            (*text)++;
        } else if (**text == '\'') {
            const char *end = strchr(++*text, '\'');
            bytes_write(w, (struct bytes){(const uint8_t *)*text, (size_t)(end - *text)});
            *text = end + 1;
        } else if (**text == '(' || **text == '[') {
            packet_text_block(w, text);
        } else {
            packet_text_hex(w, text);
        }
    }
}

// The bytes that text stands for, written to buffer; a mistake in the text aborts.
static inline struct bytes packet_text(const char *text, void *buffer, size_t capacity)
{
    struct bytes_writer w = bytes_writer(buffer, capacity);
    packet_text_write(&w, &text);
    if (w.bad || *text != '\0')
        abort();
    return (struct bytes){buffer, w.length};
}
