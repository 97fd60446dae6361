// The stream's bytes, as they come, cut into packets.
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "mqtt/conn_internal.h"

// A PUBLISH that is read through.
struct conn_oversize {
    struct packet_frame frame;
    uint32_t left; // bytes of the body still to come
    size_t kept_length;
    uint8_t kept[];
};

static bool reading(const struct conn *conn)
{
    return conn->state == CONN_OPEN && !conn->held;
}

static void hold(struct conn *conn)
{
    conn->held = true;
    conn->carrier->read(conn, false);
}

void conn_malformed(struct conn *conn, const struct packet_error *error)
{
    conn->deaf = true;
    hold(conn);
    conn->calls->malformed(conn->arg, error);
}

// Hands a packet over; false where it is held or the connection is no longer open.
static bool hand_over(struct conn *conn, const struct packet_frame *frame, struct bytes body)
{
    if (conn->calls->packet(conn->arg, frame, body) == CONN_NEXT)
        return true;
    if (conn->state == CONN_OPEN)
        hold(conn);
    return false;
}

static void advance(struct bytes *bytes, size_t length)
{
    *bytes = (struct bytes){bytes->data + length, bytes->length - length};
}

static bool oversize_begin(struct conn *conn, const struct packet_frame *frame, struct bytes *bytes)
{
    size_t keep = conn->limits->keep;
    if (frame->type != PACKET_PUBLISH || keep == 0) {
        struct packet_error error = {REASON_PACKET_TOO_LARGE, "packet is too large"};
        conn_malformed(conn, &error);
        return false;
    }
    conn->oversize = mem_alloc(sizeof *conn->oversize + keep);
    *conn->oversize = (struct conn_oversize){.frame = *frame, .left = frame->body_length};
    advance(bytes, frame->header_length);
    return true;
}

// Keeps the start of an oversize PUBLISH and drops the rest; hands it over at its end.
static bool read_through(struct conn *conn, struct bytes *bytes)
{
    struct conn_oversize *oversize = conn->oversize;
    size_t part = bytes->length < oversize->left ? bytes->length : oversize->left;
    size_t room = conn->limits->keep - oversize->kept_length;
    size_t keep = room < part ? room : part;
    if (keep > 0)
        memcpy(oversize->kept + oversize->kept_length, bytes->data, keep);
    oversize->kept_length += keep;
    oversize->left -= (uint32_t)part;
    advance(bytes, part);
    if (oversize->left > 0)
        return false; // the bytes are used up
    struct bytes body = {oversize->kept, oversize->kept_length};
    if (!hand_over(conn, &oversize->frame, body))
        return false;
    free(oversize);
    conn->oversize = NULL;
    return true;
}

// Room for a packet that is not whole yet.
static void charge(struct conn *conn, size_t size)
{
    struct budget *budget = conn->limits->unfinished;
    if (!budget || size <= CONN_SMALL || conn->charged > 0)
        return;
    if (budget->full) {
        struct packet_error error = {REASON_QUOTA_EXCEEDED,
                                     "no memory for its packet: too many others are unfinished"};
        conn_malformed(conn, &error);
        return;
    }
    conn->charged = size;
    budget_take(budget, size);
}

static void discharge(struct conn *conn)
{
    if (conn->charged > 0)
        budget_give(conn->limits->unfinished, conn->charged);
    conn->charged = 0;
}

// Deals with what is at the start of the bytes and moves on behind it; false where it cannot: more
// is needed, or nothing is to be read now.
static bool step(struct conn *conn, struct bytes *bytes)
{
    if (!reading(conn))
        return false;
    if (conn->oversize)
        return read_through(conn, bytes);
    struct packet_frame frame;
    struct packet_error error;
    enum packet_status status = packet_frame(*bytes, &frame, &error);
    if (status == PACKET_MALFORMED) {
        conn_malformed(conn, &error);
        return false;
    }
    conn->need = bytes->length + 1;
    if (status == PACKET_MORE)
        return false;
    size_t size = frame.header_length + (size_t)frame.body_length;
    if (size > conn->limits->packet)
        return oversize_begin(conn, &frame, bytes);
    conn->need = size;
    struct bytes body = {bytes->data + frame.header_length, frame.body_length};
    if (size > bytes->length) {
        charge(conn, size);
        return false;
    }
    if (!hand_over(conn, &frame, body))
        return false;
    discharge(conn);
    advance(bytes, size);
    return true;
}

// Adds to the start of a packet what it lacks, no more; false where there is nothing to add.
static bool complete(struct conn *conn, struct bytes *bytes)
{
    size_t lacking = conn->need - conn_buffer_length(&conn->in);
    size_t part = lacking < bytes->length ? lacking : bytes->length;
    if (part == 0 || !reading(conn))
        return false;
    conn_buffer_add(&conn->in, (struct bytes){bytes->data, part});
    advance(bytes, part);
    struct bytes start = conn_buffer_bytes(&conn->in);
    size_t length = start.length;
    step(conn, &start);
    conn_buffer_drop(&conn->in, length - start.length);
    return true;
}

void conn_input(struct conn *conn, struct bytes bytes)
{
    while (conn->in.data ? complete(conn, &bytes) : step(conn, &bytes))
        ;
    if (conn->state == CONN_OPEN && !conn->deaf)
        conn_buffer_add(&conn->in, bytes);
}

void conn_input_again(struct conn *conn)
{
    struct bytes bytes = conn_buffer_bytes(&conn->in);
    size_t length = bytes.length;
    while (step(conn, &bytes))
        ;
    if (conn->in.data)
        conn_buffer_drop(&conn->in, length - bytes.length);
}

void conn_input_free(struct conn *conn)
{
    discharge(conn);
    free(conn->oversize);
    free(conn->in.data);
}
