// The queue of bytes that connections read into and write from.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "mqtt/conn_internal.h"

#define SMALLEST 256

static void grow(struct conn_buffer *buffer, size_t length)
{
    size_t used = conn_buffer_length(buffer), capacity = buffer->capacity * 2;
    if (capacity < SMALLEST)
        capacity = SMALLEST;
    if (capacity < used + length)
        capacity = used + length;
    uint8_t *data = mem_alloc(capacity);
    if (used > 0)
        memcpy(data, buffer->data + buffer->start, used);
    free(buffer->data);
    *buffer = (struct conn_buffer){.data = data, .end = used, .capacity = capacity};
}

uint8_t *conn_buffer_extend(struct conn_buffer *buffer, size_t length)
{
    size_t used = conn_buffer_length(buffer);
    if (length > buffer->capacity - buffer->end) {
        // Moved only where at least as much has been taken: each byte moves once on average.
        if (buffer->start >= used && length <= buffer->capacity - used) {
            memmove(buffer->data, buffer->data + buffer->start, used);
            buffer->start = 0;
            buffer->end = used;
        } else {
            grow(buffer, length);
        }
    }
    buffer->end += length;
    return buffer->data + buffer->end - length;
}

void conn_buffer_add(struct conn_buffer *buffer, struct bytes bytes)
{
    if (bytes.length > 0)
        memcpy(conn_buffer_extend(buffer, bytes.length), bytes.data, bytes.length);
}

void conn_buffer_drop(struct conn_buffer *buffer, size_t length)
{
    buffer->start += length;
    if (buffer->start < buffer->end)
        return;
    free(buffer->data);
    *buffer = (struct conn_buffer){0};
}
