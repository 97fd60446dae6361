// Any bytes on several connections at a time to the built-in broker, with sessions that outlive
// them: nothing crashes, no message is lost from the books, and no memory is left behind.
//
// The input is a list of steps: a byte whose high nibble is the verb and whose low bits name one of
// the connections; "send" has a length byte and so many bytes, or a canned packet.
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "broker/broker.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CLIENTS = 4, HELD_MAX = 256, INPUTS_PER_BROKER = 512, QUIET_TURNS = 3 };

static struct {
    struct loop *loop;
    struct worker *worker;
    struct budget budget;
    struct broker *broker;
    uint16_t port;
    int clients[CLIENTS];
    struct message *held[HELD_MAX]; // mapped messages without a verdict
    size_t held_count;
    unsigned inputs;
} rig;

static void check(bool holds)
{
    if (!holds)
        abort();
}

// ---- the daemon's side ----

static void settle_all(void)
{
    static const enum verdict verdicts[] = {VERDICT_STORED, VERDICT_REJECTED, VERDICT_DEDUPLICATED};
    for (size_t i = 0; i < rig.held_count; i++)
        message_release(rig.held[i], verdicts[i % 3], NULL);
    rig.held_count = 0;
}

static bool wants(void *arg, const char *topic, size_t length)
{
    (void)arg;
    return length > 0 && topic[0] == 'm';
}

static void take(void *arg, struct message *message)
{
    (void)arg;
    if (rig.held_count == HELD_MAX)
        settle_all();
    rig.held[rig.held_count++] = message;
}

static void window_full(void *arg)
{
    (void)arg;
}

static bool exchanges_known(void *arg)
{
    (void)arg;
    return true;
}

static bool exchange_stored(void *arg, uint64_t session, uint16_t packet_id)
{
    (void)arg, (void)session;
    return packet_id % 16 == 7;
}

static struct {
    uint64_t session;
    uint16_t packet_id;
} forgotten[HELD_MAX];
static size_t forgotten_count;

static void session_ended(void *arg, uint64_t session)
{
    (void)arg, (void)session;
}

static void exchange_forget(void *arg, uint64_t session, uint16_t packet_id)
{
    (void)arg;
    if (forgotten_count < HELD_MAX) {
        forgotten[forgotten_count].session = session;
        forgotten[forgotten_count++].packet_id = packet_id;
    }
}

static void forget_all(void)
{
    size_t count = forgotten_count;
    forgotten_count = 0;
    for (size_t i = 0; i < count; i++)
        broker_exchange_forgotten(rig.broker, forgotten[i].session, forgotten[i].packet_id);
}

static void turn(void)
{
    for (int i = 0; i < QUIET_TURNS; i++)
        event_base_loop(loop_base(rig.loop), EVLOOP_NONBLOCK);
    forget_all();
}

// ---- the broker ----

static uint16_t free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(bind(fd, (struct sockaddr *)&address, length) == 0);
    check(getsockname(fd, (struct sockaddr *)&address, &length) == 0);
    close(fd);
    return ntohs(address.sin_port);
}

static void begin_broker(void)
{
    static const struct broker_calls calls = {
        .wants = wants,
        .message = take,
        .window_full = window_full,
        .exchanges_known = exchanges_known,
        .exchange_stored = exchange_stored,
        .exchange_forget = exchange_forget,
        .session_ended = session_ended,
    };
    static struct broker_listen listen = {.text = "mqtt://127.0.0.1",
                                          .host = "127.0.0.1",
                                          .loopback = true};
    static const struct broker_options options = {
        .name = "broker",
        .listens = &listen,
        .listen_count = 1,
        .allow_anonymous = true,
        .connections = 100,
        .connect_timeout = 60,
        .packet_size = 4096,
        .window = 5,
        .inflight = 5,
        .topic_aliases = 3,
        .session_expiry = UINT32_MAX,
        .subscriptions = 20,
        .queued_messages = 30,
        .queued_bytes = 16384,
        .received_bytes = 4096,
        .unsent_bytes = 8192,
        .write_timeout = 60,
        .memory = 262144,
    };
    rig.loop = loop_new();
    rig.worker = worker_new(rig.loop, 1);
    rig.budget = (struct budget){.limit = 1 << 20};
    char *error = NULL;
    rig.broker = broker_new(rig.loop, rig.worker, &rig.budget, &options, &calls, &error);
    check(rig.broker);
    listen.port = rig.port = free_port();
    check(broker_start(rig.broker, &error));
}

static void stopped(void *arg)
{
    *(bool *)arg = true;
}

static void end_broker(void)
{
    bool done = false;
    settle_all();
    broker_quiesce(rig.broker);
    broker_stop(rig.broker, stopped, &done);
    while (!done)
        event_base_loop(loop_base(rig.loop), EVLOOP_ONCE);
    settle_all();
    forgotten_count = 0;
    const struct books *books = &broker_source(rig.broker)->books;
    check(books_pending(books) == 0);
    broker_free(rig.broker);
    check(rig.budget.used == 0);
    worker_free(rig.worker);
    loop_free(rig.loop);
}

// ---- clients ----

static void client_open(size_t i)
{
    if (rig.clients[i] > 0)
        return;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(rig.port),
                                  .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct linger abort_it = {.l_onoff = 1}; // no TIME_WAIT: there are many
    // Each connection from an address of its own: the ports of one would be used up by TIME_WAIT.
    static uint32_t source;
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr = {htonl(0x7f010000 | (++source & 0xffff))}};
    check(fd > 0 && bind(fd, (struct sockaddr *)&from, sizeof from) == 0);
    int status;
    do // an alarm of the fuzzer's
        status = connect(fd, (struct sockaddr *)&address, sizeof address);
    while (status != 0 && errno == EINTR);
    check(status == 0);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof abort_it);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    rig.clients[i] = fd;
    turn(); // the backlog stays short
}

static void client_close(size_t i)
{
    if (rig.clients[i] > 0)
        close(rig.clients[i]);
    rig.clients[i] = 0;
}

static void client_send(size_t i, const void *bytes, size_t length)
{
    client_open(i);
    if (send(rig.clients[i], bytes, length, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
        client_close(i);
}

static void client_read(size_t i)
{
    char buffer[65536];
    while (rig.clients[i] > 0 && recv(rig.clients[i], buffer, sizeof buffer, 0) > 0)
        ;
}

#define CANNED(text)                                                                               \
    {                                                                                              \
        text, sizeof text - 1                                                                      \
    }

// Where random bytes would hardly come by themselves.
static const struct {
    const char *bytes;
    size_t length;
} canned[] = {
    CANNED("\x10\x0d\0\4MQTT\4\2\0\0\0\1a"),               // 3.1.1, clean
    CANNED("\x10\x0d\0\4MQTT\4\0\0\0\0\1a"),               // the same session, kept
    CANNED("\x10\x13\0\4MQTT\5\0\0\0\5\x11\0\0\1\0\0\1b"), // 5, kept
    CANNED("\x10\x1c\0\4MQTT\5\0\0\0\x0e\x11\0\0\1\0\x21\0\2\x22\0\3\x27\0\0\0\1b"), // limits
    CANNED("\x10\x1a\0\4MQTT\5\x36\0\0\0\0\1c\0\0\1w\0\4will"), // a retained will
    CANNED("\x82\6\0\1\0\1#\2"),                                // SUBSCRIBE 3.1.1
    CANNED("\x82\x9\0\1\2\x0b\5\0\1#\2"),                       // 5, with an identifier
    CANNED("\x82\x12\0\1\0\0\x0c$share/g/+/x\2"),
    CANNED("\x32\6\0\1x\0\1p"),   // QoS 1, 3.1.1
    CANNED("\x33\7\0\1x\0\2\0p"), // 5, retained
    CANNED("\x34\7\0\1x\0\3\0p"), // QoS 2
    CANNED("\x34\7\0\1m\0\7\0p"), // mapped
    CANNED("\x32\7\0\1m\0\x8\0p"),
    CANNED("\x32\xa\0\1x\0\4\3\x23\0\1p"), // sets an alias
    CANNED("\x32\x9\0\0\0\5\3\x23\0\1p"),  // uses it
    CANNED("\x62\2\0\3"),                  // PUBREL
    CANNED("\x40\2\0\1"),                  // PUBACK
    CANNED("\x50\2\0\1"),                  // PUBREC
    CANNED("\x70\2\0\1"),                  // PUBCOMP
    CANNED("\xc0\0"),                      // PINGREQ
    CANNED("\xe0\0"),                      // DISCONNECT
};

enum verb { VERB_SEND, VERB_CANNED, VERB_TURN, VERB_CLOSE, VERB_READ, VERB_SETTLE, VERB_COUNT };

static size_t step(const uint8_t *data, size_t size)
{
    size_t i = data[0] % CLIENTS, length = 0;
    switch ((enum verb)((data[0] >> 4) % VERB_COUNT)) {
    case VERB_SEND:
        length = size > 1 ? data[1] : 0;
        if (length > size - 2)
            length = size > 2 ? size - 2 : 0;
        client_send(i, data + 2, length);
        return length + 2;
    case VERB_CANNED:
        if (size > 1)
            client_send(i, canned[data[1] % (sizeof canned / sizeof *canned)].bytes,
                        canned[data[1] % (sizeof canned / sizeof *canned)].length);
        return 2;
    case VERB_CLOSE:
        client_close(i);
        break;
    case VERB_READ:
        turn();
        client_read(i);
        break;
    case VERB_SETTLE:
        settle_all();
        break;
    default:
        turn();
        break;
    }
    return 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!rig.broker) {
        signal(SIGPIPE, SIG_IGN);
        log_init(LOG_LEVEL_ERROR);
        begin_broker();
    }
    for (size_t at = 0; at < size;)
        at += step(data + at, size - at);
    turn();
    settle_all();
    turn();
    for (size_t i = 0; i < CLIENTS; i++)
        client_close(i);
    turn();
    struct broker_status status;
    broker_status(rig.broker, &status);
    check(status.memory_used <= 2 * 262144);
    if (++rig.inputs % INPUTS_PER_BROKER == 0) {
        end_broker();
        memset(&rig, 0, sizeof rig);
    }
    return 0;
}
