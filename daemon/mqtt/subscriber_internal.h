// What the files of the subscriber share; nobody else includes it.
#pragma once

#include "base/backoff.h"
#include "base/log.h"
#include "mqtt/conn.h"
#include "mqtt/message_properties.h"
#include "mqtt/packet.h"
#include "mqtt/subscriber.h"
#include "mqtt/window.h"

#define CONNACK_TIMEOUT_MS 10000
#define SUBACK_TIMEOUT_MS 20000
#define STOP_TIMEOUT_MS 1000
#define PAYLOAD_KEEP 65536             // of a payload above max_payload, at most
#define PUBLISH_HEAD_KEEP (128 * 1024) // of what stands before such a payload
#define FLAW_LOG_MS 60000              // a malformed PUBLISH is logged again after so long
#define UNSENT_MAX (1024 * 1024)       // bytes that a broker may leave unread before it is given up
#define TICKET_ID_BITS 16 // a message's ticket is that of the window, then the packet identifier

enum subscriber_state {
    SUBSCRIBER_IDLE,
    SUBSCRIBER_WAITING,    // for the next attempt
    SUBSCRIBER_CONNECTING, // until the stream is open
    SUBSCRIBER_GREETING,   // CONNECT is sent
    SUBSCRIBER_UP,
    SUBSCRIBER_STOPPING, // DISCONNECT is sent
    SUBSCRIBER_STOPPED,
};

enum filter_state { FILTER_TODO, FILTER_ASKED, FILTER_GRANTED, FILTER_REFUSED };

// One filter of the set that is to be subscribed, or of the set that the broker holds.
struct filter {
    char *text;
    uint32_t id; // the Subscription Identifier to tell copies apart by; 0: none
    uint8_t qos;
    bool retained;    // retained copies are wanted
    uint16_t request; // packet identifier of the SUBSCRIBE or UNSUBSCRIBE under way
    // Of a wanted one:
    enum filter_state state;
    bool generalised;
    uint8_t retain_handling;
    // Of a held one: the broker has confirmed it; otherwise it may or may not have it.
    bool sure;
};

struct filters {
    struct filter *items;
    size_t count, capacity;
};

// The receiver's half of a QoS 2 exchange, kept as long as the broker keeps the session.
enum exchange_state {
    EXCHANGE_NONE,
    EXCHANGE_PENDING,   // handed up, no verdict yet
    EXCHANGE_SETTLED,   // PUBREC is sent or due; PUBREL has not come
    EXCHANGE_RELEASING, // PUBREL has come: PUBCOMP when its identifier is forgotten
};

// hash and generations: of the message, and of the connection by which its last packet came; low
// bits.
struct exchange {
    uint64_t hash;
    uint32_t generation, seen;
    uint8_t state;
};

// A PUBLISH that came, of which the packet may have a start only.
struct received {
    struct packet packet;
    uint64_t full_length; // of the payload
    const char *flaw;     // NULL, or why it is not to be decoded; detail says more
    char detail[120];
};

struct subscriber {
    struct message_source source; // first: settled finds the subscriber by it
    struct loop *loop;
    struct worker *worker;
    struct budget *budget;
    const struct subscriber_options *options;
    struct subscriber_calls calls;

    enum subscriber_state state;
    struct tls *tls; // NULL: none, or it could not be loaded yet
    struct conn_limits conn_limits;
    struct conn *conn;
    bool conn_over; // to be freed by the next turn: never from within its own calls
    struct loop_task *turn;
    bool turn_due;
    struct loop_timer *timer; // next attempt, CONNACK, SUBACK or stop, as the state has it
    struct loop_timer *ping;
    bool pong_due;
    bool quiet;     // takes no more messages
    bool abandoned; // a message was, so only a new connection brings it again
    loop_fn *stopped;
    void *stopped_arg;

    uint8_t version;        // of the present or next connection
    unsigned unanswered;    // MQTT 5 connections in a row that were closed before CONNACK
    struct backoff backoff; // reset by a connection that lasted
    int64_t up_since_ms;
    int64_t down_logged_ms;
    char down[200]; // "down: " and why there is no connection, or empty
    uint64_t connects, window_fillings;

    // The session.
    bool clean;        // it was asked to be a new one
    char *assigned_id; // by the broker, or NULL
    struct {
        uint16_t keepalive; // seconds
        uint32_t packet;    // largest that the broker takes
        bool wildcards, shared, identifiers, retained;
    } limits;
    uint64_t number; // of the session, under which identifiers are stored; 0: they are not
    bool resending;  // nothing of QoS 2 was new by this connection yet
    struct exchange *exchanges; // 65,536, or NULL before the first message of QoS 2
    struct message **waiting;   // for exchanges_known
    size_t waiting_count, waiting_capacity;

    // What it subscribes to.
    struct filters wanted;  // of this connection
    struct filters held;    // all that the broker may hold in this session
    struct filters refused; // generalised filters that were
    bool plan_again;
    bool doubtful; // a CONNECT had no answer: it may have begun a session without our filters
    uint16_t last_request;

    // Receiving.
    struct window window;
    bool stalled; // the connection holds a PUBLISH for which there is no room
    uint8_t stalled_qos;
    uint16_t stalled_id;      // of a PUBLISH whose identifier is being forgotten; else 0
    struct bytes_writer acks; // gathered for one write
    uint8_t ack_bytes[4096];
    struct message_properties properties; // scratch
    uint32_t *identifiers;                // scratch
    size_t identifier_capacity;
    char *topic; // scratch
    struct log_limit flaw_limit;
};

// Has the rest done at the end of this turn of the loop: once for all that is settled in it.
static inline void subscriber_turn_later(struct subscriber *sub)
{
    if (!sub->turn_due)
        loop_task_schedule(sub->turn);
    sub->turn_due = true;
}

// subscriber.c
// Gives the connection up, logs why and plans the next attempt.
void subscriber_lost(struct subscriber *sub, enum log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The same where the broker is at fault: it is told the reason first (MQTT 5).
void subscriber_refuse(struct subscriber *sub, uint8_t reason, const char *text);
// The same where no CONNACK came but the end: the broker may not know this version of MQTT.
void subscriber_unanswered(struct subscriber *sub, const char *why);
// Begins anew at once with 3.1.1.
void subscriber_fall_back(struct subscriber *sub);
void subscriber_send(struct subscriber *sub, const struct packet *packet);
void subscriber_keep_alive(struct subscriber *sub);

// subscriber_tls.c
// Whether the certificates are there, or are not needed; if not, the connection was given up.
bool subscriber_tls_ready(struct subscriber *sub);

// subscriber_session.c
const char *subscriber_client_id(const struct subscriber *sub);
void subscriber_greet(struct subscriber *sub);
// Any packet but PUBLISH.
void subscriber_take_packet(struct subscriber *sub, const struct packet *packet);
// The Reason String in brackets, or nothing, into buffer.
const char *subscriber_reason_text(const struct packet *packet, char *buffer, size_t size);

// subscriber_filters.c
struct filter *filters_add(struct filters *filters, const char *text);
struct filter *filters_find(const struct filters *filters, const char *text);
void filters_remove(struct filters *filters, struct filter *filter);
void filters_clear(struct filters *filters);
// Fills wanted for the present connection and its limits.
void subscriber_plan(struct subscriber *sub);
// Whether a held filter that is not wanted brings messages of a refused one, and none that a
// granted one brings, which would come twice.
bool subscriber_stands_in(const struct subscriber *sub, const struct filter *held);
// Whether a message of this topic can have come by the wanted filter with this identifier.
bool subscriber_identifies(const struct subscriber *sub, uint32_t id, struct bytes topic);

// subscriber_subscribe.c
// Brings the broker's subscriptions to what is wanted.
void subscriber_subscribe(struct subscriber *sub);
bool subscriber_subscribed(const struct subscriber *sub);
void subscriber_take_suback(struct subscriber *sub, const struct packet *packet);
void subscriber_take_unsuback(struct subscriber *sub, const struct packet *packet);

// subscriber_memory.c: held and the session's number, in the state directory; where there is none,
// nothing.
// Reads them. What cannot be read is not held, what was left in doubt not for sure.
void subscriber_remember(struct subscriber *sub);
// Writes them, without doubt; whether they are on the disk now.
bool subscriber_memorise(struct subscriber *sub);
// Removes what is written.
void subscriber_forget_memory(struct subscriber *sub);
// Puts what is written in doubt, or takes the doubt back.
void subscriber_doubt(struct subscriber *sub);
void subscriber_believe(struct subscriber *sub);

// subscriber_parse.c
// False where not even topic and packet identifier can be told: the connection was given up then.
bool subscriber_parse_publish(struct subscriber *sub, const struct packet_frame *frame,
                              struct bytes body, struct received *received);

// subscriber_receive.c
enum conn_next subscriber_take_publish(struct subscriber *sub, const struct packet_frame *frame,
                                       struct bytes body);
void subscriber_ack(struct subscriber *sub, enum packet_type type, uint16_t packet_id,
                    uint8_t reason);
void subscriber_settled(struct message_source *source, struct message *message);
// Writes the acknowledgements that are due.
void subscriber_release(struct subscriber *sub);
// Hands the held PUBLISH over again if there is room now.
void subscriber_unstall(struct subscriber *sub);

// subscriber_exchange.c
// The exchange that this PUBLISH repeats, or NULL: it is a new one.
const struct exchange *subscriber_repeated(struct subscriber *sub,
                                           const struct packet_publish *publish, uint64_t hash);
// Whether what comes next under the identifier must wait.
bool subscriber_releasing(const struct subscriber *sub, uint16_t packet_id);
void subscriber_begin_exchange(struct subscriber *sub, uint16_t packet_id, uint64_t hash);
// Hands a message of QoS 2 up, unless its rows exist.
void subscriber_judge(struct subscriber *sub, struct message *message);
// Abandons what waits to be judged.
void subscriber_abandon_waiting(struct subscriber *sub);
// The verdict of the exchange's message is there. False where no window entry is to be settled by
// it; else generation and ticket are those of the entry.
bool subscriber_settle_exchange(struct subscriber *sub, const struct message *message,
                                uint64_t *generation, uint64_t *ticket);
void subscriber_take_pubrel(struct subscriber *sub, const struct packet *packet);
// The broker has no session of ours: exchanges of QoS 2 are void.
void subscriber_forget_exchanges(struct subscriber *sub);
