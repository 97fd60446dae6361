// The exchanges of one session: a hash table of packet identifiers with linear probing. Identifiers
// are mostly given in order, so each lies in its own place.
#include "broker/incoming.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "broker/session.h"
#include "broker/state.h"

#define CAPACITY_MIN 4

struct incoming {
    struct exchange *places; // a power of two of them; packet_id 0: empty
    uint32_t mask, count;
    uint32_t last_serial;
};

// Where the identifier is, or the empty place where it would be.
static uint32_t place_of(const struct incoming *incoming, uint16_t packet_id)
{
    uint32_t at = packet_id & incoming->mask;
    while (incoming->places[at].packet_id != 0 && incoming->places[at].packet_id != packet_id)
        at = (at + 1) & incoming->mask;
    return at;
}

struct exchange *incoming_find(const struct session *session, uint16_t packet_id)
{
    const struct incoming *incoming = session->incoming;
    if (!incoming || packet_id == 0)
        return NULL;
    struct exchange *exchange = &incoming->places[place_of(incoming, packet_id)];
    return exchange->packet_id == packet_id ? exchange : NULL;
}

// Charged to the budget of the sessions.
static struct exchange *places_new(const struct session *session, size_t count)
{
    budget_take(session->sessions->budget, count * sizeof(struct exchange));
    return mem_zalloc(count * sizeof(struct exchange));
}

static void places_free(const struct session *session, struct exchange *places, size_t count)
{
    free(places);
    budget_give(session->sessions->budget, count * sizeof *places);
}

static struct incoming *incoming_new(const struct session *session)
{
    struct incoming *incoming = mem_zalloc(sizeof *incoming);
    incoming->places = places_new(session, CAPACITY_MIN);
    incoming->mask = CAPACITY_MIN - 1;
    return incoming;
}

static void grow(const struct session *session, struct incoming *incoming)
{
    struct exchange *old = incoming->places;
    uint32_t old_size = incoming->mask + 1;
    incoming->places = places_new(session, 2 * (size_t)old_size);
    incoming->mask = 2 * old_size - 1;
    for (uint32_t i = 0; i < old_size; i++)
        if (old[i].packet_id != 0)
            incoming->places[place_of(incoming, old[i].packet_id)] = old[i];
    places_free(session, old, old_size);
}

uint32_t incoming_count(const struct session *session)
{
    return session->incoming ? session->incoming->count : 0;
}

struct exchange *incoming_add(struct session *session, uint16_t packet_id)
{
    assert(packet_id != 0 && !incoming_find(session, packet_id));
    if (!session->incoming)
        session->incoming = incoming_new(session);
    struct incoming *incoming = session->incoming;
    if (2 * (incoming->count + 1) > incoming->mask + 1)
        grow(session, incoming);
    struct exchange *exchange = &incoming->places[place_of(incoming, packet_id)];
    *exchange = (struct exchange){.packet_id = packet_id, .serial = ++incoming->last_serial};
    incoming->count++;
    return exchange;
}

// Whether a search for what is at the place "at" would come by the place "hole".
static bool passes(const struct incoming *incoming, uint32_t at, uint32_t hole)
{
    uint32_t home = incoming->places[at].packet_id & incoming->mask;
    return ((hole - home) & incoming->mask) < ((at - home) & incoming->mask);
}

// What lies behind moves up, so that no search ends at the hole.
static void close_hole(struct incoming *incoming, uint32_t hole)
{
    for (uint32_t at = (hole + 1) & incoming->mask; incoming->places[at].packet_id != 0;
         at = (at + 1) & incoming->mask) {
        if (!passes(incoming, at, hole))
            continue;
        incoming->places[hole] = incoming->places[at];
        hole = at;
    }
    incoming->places[hole] = (struct exchange){0};
}

void incoming_remove(struct session *session, uint16_t packet_id)
{
    struct exchange *exchange = incoming_find(session, packet_id);
    if (!exchange)
        return;
    struct incoming *incoming = session->incoming;
    publication_release(exchange->publication);
    close_hole(incoming, (uint32_t)(exchange - incoming->places));
    incoming->count--;
}

void incoming_free(struct session *session)
{
    struct incoming *incoming = session->incoming;
    if (!incoming)
        return;
    for (size_t at = 0; at <= incoming->mask; at++)
        publication_release(incoming->places[at].publication);
    places_free(session, incoming->places, incoming->mask + (size_t)1);
    free(incoming);
    session->incoming = NULL;
}

void incoming_load(struct session *session, const struct state_incoming *stored,
                   struct publication *publication)
{
    struct exchange *exchange = incoming_add(session, stored->packet_id);
    exchange->publication = publication ? publication_hold(publication) : NULL;
    exchange->phase = EXCHANGE_RECEIVED;
    exchange->stored = true;
    exchange->mapped = exchange->unsure = stored->mapped;
}
