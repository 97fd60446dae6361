// Packets that are well formed: read, written, cut at every byte; and what stands in their fields.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mqtt/packet.h"
#include "packet_equal.h"
#include "packet_guard.h"
#include "packet_text.h"

#define CLIENT PACKET_FROM_CLIENT
#define SERVER PACKET_FROM_SERVER
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct good_case {
    const char *name;
    uint8_t version;
    enum packet_sender from;
    const char *text;
    const char *written; // where there is a shorter or more usual way to say it
};

#define ALL_CONNECT_PROPERTIES                                                                     \
    "[11 FFFFFFFF 15('SCRAM') 16(0001) 17 01 19 01 21 0014 22 000A 26('a')('1') 26('a')('2') "     \
    "27 00010000]"
#define ALL_WILL_PROPERTIES                                                                        \
    "[01 01 02 0000003C 03('text/plain') 08('re/ply') 09(00FF) 18 00000005 26('k')('v')]"
#define ALL_CONNACK_PROPERTIES                                                                     \
    "[11 00000E10 12('auto-1') 13 001E 15('SCRAM') 16(01) 1A('info') 1C('other:1883') "            \
    "1F('why') 21 000A 22 0005 24 01 25 01 26()() 27 00100000 28 01 29 00 2A 01]"
#define ALL_PUBLISH_PROPERTIES                                                                     \
    "[01 00 02 00000001 03('json') 08('a/b') 09('id') 23 0007 26('k')('v') 26('k')('v')]"

static const struct good_case good[] = {
    {"CONNECT, shortest", 4, CLIENT, "10[('MQTT') 04 02 0000 ()]", 0},
    {"CONNECT, no clean session", 4, CLIENT, "10[('MQTT') 04 00 003C ('dev1')]", 0},
    {"CONNECT, all", 4, CLIENT,
     "10[('MQTT') 04 EE FFFF ('dev1') ('w/t') ('gone') ('user') ('pass')]", 0},
    {"CONNECT, empty will payload, user only", 4, CLIENT,
     "10[('MQTT') 04 84 0001 ('d') ('w') () ('user')]", 0},
    {"CONNECT, empty user name and password", 4, CLIENT, "10[('MQTT') 04 C2 0001 () () ()]", 0},
    {"CONNECT, UTF-8", 4, CLIENT, "10[('MQTT') 04 82 0001 (C3A9 E282AC) (F09F9880)]", 0},
    {"CONNECT 5, shortest", 5, CLIENT, "10[('MQTT') 05 02 0000 [] ()]", 0},
    {"CONNECT 5, password alone", 5, CLIENT, "10[('MQTT') 05 42 0000 [] () (00FF)]", 0},
    {"CONNECT 5, all", 5, CLIENT,
     "10[('MQTT') 05 F6 003C " ALL_CONNECT_PROPERTIES "('dev1')" ALL_WILL_PROPERTIES
     "('w') ('gone') ('user') ('pass')]",
     0},
    {"CONNECT 5, will without properties", 5, CLIENT,
     "10[('MQTT') 05 04 003C [21 FFFF] ('d') [] ('w') ()]", 0},
    {"CONNACK, accepted", 4, SERVER, "20[00 00]", 0},
    {"CONNACK, session present", 4, SERVER, "20[01 00]", 0},
    {"CONNACK, refused", 4, SERVER, "20[00 05]", 0},
    {"CONNACK 5, accepted", 5, SERVER, "20[01 00 []]", 0},
    {"CONNACK 5, refused", 5, SERVER, "20[00 87 [1F('no')]]", 0},
    {"CONNACK 5, all", 5, SERVER, "20[00 00" ALL_CONNACK_PROPERTIES "]", 0},
    {"CONNACK of a 3.1.1 server to MQTT 5", 5, SERVER, "20[00 01]", 0},
    {"PUBLISH, QoS 0, no payload", 4, CLIENT, "30[('a')]", 0},
    {"PUBLISH, QoS 0, retain", 4, SERVER, "31[('a/b/c') '300 feet']", 0},
    {"PUBLISH, QoS 1", 4, SERVER, "32[('sensors/altimeter/1') 0001 '300 feet']", 0},
    {"PUBLISH, QoS 1, DUP, retain", 4, CLIENT, "3B[('/') FFFF 00]", 0},
    {"PUBLISH, QoS 2, DUP", 4, CLIENT, "3C[('a') 1234 'x']", 0},
    {"PUBLISH, UTF-8, $", 4, SERVER, "30[('$SYS/' C3BC) FF]", 0},
    {"PUBLISH 5, QoS 0", 5, CLIENT, "30[('a') [] 'payload']", 0},
    {"PUBLISH 5, QoS 1", 5, SERVER, "32[('a/b') 0102 [] '21.5']", 0},
    {"PUBLISH 5, all, from a client", 5, CLIENT, "3D[('a/b') 0102" ALL_PUBLISH_PROPERTIES "'21.5']",
     0},
    {"PUBLISH 5, topic alias for a topic", 5, SERVER, "30[() [23 0001] 'x']", 0},
    {"PUBLISH 5, several subscription identifiers", 5, SERVER,
     "30[('a') [0B 01 0B FFFFFF7F 0B 01 26('k')('v')] 'x']", 0},
    {"PUBLISH 5, properties in another order", 5, SERVER,
     "30[('a') [26('b')('1') 23 0001 0B 05 26('a')('2') 0B 8001 01 01] 'x']",
     "30[('a') [01 01 0B 05 0B 8001 23 0001 26('b')('1') 26('a')('2')] 'x']"},
    {"PUBACK", 4, CLIENT, "40[0001]", 0},
    {"PUBREC", 4, SERVER, "50[FFFF]", 0},
    {"PUBREL", 4, CLIENT, "62[0100]", 0},
    {"PUBCOMP", 4, SERVER, "70[0001]", 0},
    {"PUBACK 5, short", 5, SERVER, "40[0001]", 0},
    {"PUBACK 5, success said", 5, SERVER, "40[0001 00]", "40[0001]"},
    {"PUBACK 5, success and no properties", 5, SERVER, "40[0001 00 []]", "40[0001]"},
    {"PUBACK 5, reason", 5, SERVER, "40[0001 10]", 0},
    {"PUBACK 5, reason and no properties", 5, CLIENT, "40[0001 87 []]", "40[0001 87]"},
    {"PUBACK 5, all", 5, SERVER, "40[0001 00 [1F('ok') 26('a')('b')]]", 0},
    {"PUBREC 5", 5, SERVER, "50[0001 97 [1F('full')]]", 0},
    {"PUBREL 5", 5, CLIENT, "62[0001 92]", 0},
    {"PUBREL 5, all", 5, CLIENT, "62[0001 92 [1F('?') 26('a')('b')]]", 0},
    {"PUBCOMP 5", 5, SERVER, "70[0001 92]", 0},
    {"PUBCOMP 5, all", 5, SERVER, "70[0001 00 [1F('?') 26('a')('b')]]", 0},
    {"SUBSCRIBE", 4, CLIENT, "82[0001 ('a/b') 01]", 0},
    {"SUBSCRIBE, several", 4, CLIENT, "82[0001 ('#') 00 ('+/+') 01 ('a/#') 02 ('/') 00]", 0},
    {"SUBSCRIBE 5", 5, CLIENT, "82[0001 [] ('a/b') 01]", 0},
    {"SUBSCRIBE 5, all options", 5, CLIENT,
     "82[0001 [0B 8001 26('a')('b')] ('a') 2E ('$share/g/+/b') 19 ('#') 00]", 0},
    {"SUBACK", 4, SERVER, "90[0001 00 01 02 80]", 0},
    {"SUBACK 5", 5, SERVER, "90[0001 [] 00 01 02 80 83 87 8F 91 97 9E A1 A2]", 0},
    {"SUBACK 5, all", 5, SERVER, "90[0001 [1F('x') 26()('')] 01]", 0},
    {"UNSUBSCRIBE", 4, CLIENT, "A2[0001 ('a/b') ('#')]", 0},
    {"UNSUBSCRIBE 5", 5, CLIENT, "A2[0001 [] ('$share/g/a')]", 0},
    {"UNSUBSCRIBE 5, all", 5, CLIENT, "A2[0001 [26('a')('b')] ('a') ('b')]", 0},
    {"UNSUBACK", 4, SERVER, "B0[0001]", 0},
    {"UNSUBACK 5", 5, SERVER, "B0[0001 [] 00 11 87]", 0},
    {"UNSUBACK 5, all", 5, SERVER, "B0[0001 [1F('x') 26('a')('b')] 00]", 0},
    {"PINGREQ", 4, CLIENT, "C0[]", 0},
    {"PINGRESP", 4, SERVER, "D0[]", 0},
    {"PINGREQ 5", 5, CLIENT, "C0[]", 0},
    {"PINGRESP 5", 5, SERVER, "D0[]", 0},
    {"DISCONNECT", 4, CLIENT, "E0[]", 0},
    {"DISCONNECT 5, short", 5, CLIENT, "E0[]", 0},
    {"DISCONNECT 5, normal said", 5, SERVER, "E0[00]", "E0[]"},
    {"DISCONNECT 5, reason", 5, SERVER, "E0[8E]", 0},
    {"DISCONNECT 5, reason and no properties", 5, CLIENT, "E0[04 []]", "E0[04]"},
    {"DISCONNECT 5, all a server sends", 5, SERVER, "E0[9C [1C('other') 1F('moved') 26('a')('b')]]",
     0},
    {"DISCONNECT 5, all a client sends", 5, CLIENT, "E0[00 [11 0000003C 1F('bye')]]", 0},
    {"AUTH, short", 5, SERVER, "F0[]", 0},
    {"AUTH", 5, CLIENT, "F0[18 [15('SCRAM')]]", 0},
    {"AUTH, all", 5, SERVER, "F0[00 [15('SCRAM') 16() 1F('done') 26('a')('b')]]", 0},
    {"AUTH, again", 5, CLIENT, "F0[19 [15('SCRAM') 16(010203)]]", 0},
    {"Remaining Length with needless bytes, as 3.1.1 lets it pass", 4, SERVER, "40 8200 0001",
     "40[0001]"},
    {"Remaining Length in four bytes, as 3.1.1 lets it pass", 4, SERVER, "40 82808000 0001",
     "40[0001]"},
};

static uint8_t buffer[70000];

static struct bytes text_bytes(const char *text)
{
    return packet_text(text, buffer, sizeof(buffer));
}

// Frames and parses what must be one whole packet, at the edge of a page.
static void read_whole(const char *name, struct bytes input, uint8_t version,
                       enum packet_sender from, struct packet *packet)
{
    struct packet_frame frame;
    struct packet_error error = {0, "-"};
    struct bytes guarded = guard_copy(input);
    memset(packet, 0xA5, sizeof(*packet));
    if (packet_frame(guarded, &frame, &error) != PACKET_OK)
        fail_msg("%s: no frame: %s", name, error.text);
    if (frame.header_length + (size_t)frame.body_length != input.length)
        fail_msg("%s: %u + %u bytes", name, frame.header_length, frame.body_length);
    if (!packet_parse(&frame, guarded.data + frame.header_length, version, from, packet, &error))
        fail_msg("%s: refused: %s", name, error.text);
}

static void good_packets_are_read_and_written(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        const struct good_case *c = &good[i];
        struct packet packet, again;
        read_whole(c->name, text_bytes(c->text), c->version, c->from, &packet);
        struct bytes expected = text_bytes(c->written ? c->written : c->text);
        uint8_t out[1000];
        struct bytes_writer w = bytes_writer(out, expected.length);
        packet_write(&w, &packet);
        if (w.bad || !bytes_equal((struct bytes){out, w.length}, expected))
            fail_msg("%s: written otherwise", c->name);
        assert_int_equal(packet_size(&packet), expected.length);

        struct bytes copy = {out, w.length};
        uint8_t original[sizeof(out)];
        memcpy(original, text_bytes(c->text).data, text_bytes(c->text).length);
        struct packet_frame frame;
        struct packet_error error;
        assert_int_equal(packet_frame(text_bytes(c->text), &frame, &error), PACKET_OK);
        assert_true(packet_parse(&frame, original + frame.header_length, c->version, c->from,
                                 &packet, &error));
        read_whole(c->name, copy, c->version, c->from, &again);
        if (!packet_equal(&packet, &again))
            fail_msg("%s: read otherwise when written", c->name);
    }
}

static void every_truncation_asks_for_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct bytes whole = text_bytes(good[i].text);
        for (size_t cut = 0; cut < whole.length; cut++) {
            struct packet_frame frame;
            struct packet_error error;
            struct bytes start = guard_copy((struct bytes){whole.data, cut});
            enum packet_status status = packet_frame(start, &frame, &error);
            bool more = status == PACKET_MORE ||
                        (status == PACKET_OK && frame.header_length + frame.body_length > cut);
            if (!more)
                fail_msg("%s: satisfied with %zu bytes", good[i].name, cut);
        }
    }
}

// A body too short for what its fields say is never read past its end, whatever comes of it.
static void short_bodies_are_not_read_past_their_end(void **state)
{
    (void)state;
    size_t refused = 0;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct bytes whole = text_bytes(good[i].text);
        struct packet_frame frame;
        struct packet_error error;
        assert_int_equal(packet_frame(whole, &frame, &error), PACKET_OK);
        for (uint32_t length = frame.body_length; length-- > 0;) {
            struct packet packet;
            struct packet_frame shorter = frame;
            shorter.body_length = length;
            shorter.header_length = length > 127 ? 3 : 2;
            struct bytes body =
                guard_copy((struct bytes){whole.data + frame.header_length, length});
            if (!packet_parse(&shorter, body.data, good[i].version, good[i].from, &packet,
                              &error)) {
                assert_non_null(error.text);
                refused++;
            }
        }
    }
    assert_true(refused > COUNT(good));
}

static void start_of_a_publish(void **state)
{
    (void)state;
    struct bytes whole = text_bytes("34[('a/b') 0102 [26('k')('v')] 'payload']");
    const size_t head = 5 + 2 + 8;
    struct packet_frame frame;
    struct packet_error error;
    struct packet packet;
    assert_int_equal(packet_frame(whole, &frame, &error), PACKET_OK);
    for (size_t cut = 0; cut <= frame.body_length; cut++) {
        struct bytes start = guard_copy((struct bytes){whole.data + frame.header_length, cut});
        enum packet_status status =
            packet_parse_publish_start(&frame, start, 5, SERVER, &packet, &error);
        assert_int_equal(status, cut < head ? PACKET_MORE : PACKET_OK);
        if (status != PACKET_OK)
            continue;
        assert_int_equal(packet.publish.packet_id, 0x0102);
        assert_true(bytes_equal(packet.publish.topic, bytes_of("a/b")));
        assert_true(bytes_equal(packet.publish.payload,
                                (struct bytes){(const uint8_t *)"payload", cut - head}));
    }
    struct bytes wrong = guard_copy(bytes_of("\0\3a+b"));
    assert_int_equal(packet_parse_publish_start(&frame, wrong, 4, SERVER, &packet, &error),
                     PACKET_MORE);
    wrong = guard_copy((struct bytes){(const uint8_t *)"\0\3a+b\0\1", 7});
    assert_int_equal(packet_parse_publish_start(&frame, wrong, 4, SERVER, &packet, &error),
                     PACKET_MALFORMED);
    assert_string_equal(error.text, "topic name is empty or has a wildcard");
    frame.body_length = 4;
    wrong = guard_copy((struct bytes){(const uint8_t *)"\0\3a/", 4});
    assert_int_equal(packet_parse_publish_start(&frame, wrong, 4, SERVER, &packet, &error),
                     PACKET_MALFORMED);
    assert_string_equal(error.text, "a field runs past the end of the packet");
}

// The topic as it came, the packet identifier, and all the rest; or nothing.
static void salvage_of_a_publish(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint8_t version;
        bool ok;
        const char *topic, *rest;
        uint16_t packet_id;
    } cases[] = {
        {"32[('a/#') 0102 'x']", 4, true, "a/#", "x", 0x0102},
        {"3D[(FF) 0001 [04 00] 'x']", 5, true, "\xFF", "\2\4", 1}, // up to a U+0000
        {"30[()]", 5, true, "", "", 0},
        {"30[('a') 7F 'x']", 5, true, "a", "\x7Fx", 0},
        {"32[('a') 0000 'x']", 4, false, NULL, NULL, 0},
        {"32[('a') 00]", 4, false, NULL, NULL, 0},
        {"30[0002 'a']", 5, false, NULL, NULL, 0},
        {"30[00]", 4, false, NULL, NULL, 0},
        {"30[]", 4, false, NULL, NULL, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bytes whole = text_bytes(cases[i].text);
        struct packet_frame frame;
        struct packet_error error;
        struct packet packet;
        assert_int_equal(packet_frame(whole, &frame, &error), PACKET_OK);
        struct bytes start = guard_copy(
            (struct bytes){whole.data + frame.header_length, whole.length - frame.header_length});
        assert_int_equal(packet_salvage_publish(&frame, start, cases[i].version, &packet),
                         cases[i].ok);
        if (!cases[i].ok)
            continue;
        const struct packet_publish *publish = &packet.publish;
        assert_int_equal(packet.type, PACKET_PUBLISH);
        assert_int_equal(packet.properties.present, 0);
        assert_true(bytes_equal(publish->topic, bytes_of(cases[i].topic)));
        assert_int_equal(publish->packet_id, cases[i].packet_id);
        assert_memory_equal(publish->payload.data, cases[i].rest, strlen(cases[i].rest));
        assert_ptr_equal(publish->payload.data + publish->payload.length,
                         start.data + start.length);
        assert_int_equal(publish->qos << 1 | publish->dup << 3 | publish->retain, frame.flags);
    }
}

static void remaining_length_of_one_to_four_bytes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint32_t length;
    } cases[] = {
        {"30 00", 0},
        {"30 7F", 127},
        {"30 8001", 128},
        {"30 FF7F", 16383},
        {"30 808001", 16384},
        {"30 FFFF7F", 2097151},
        {"30 80808001", 2097152},
        {"30 FFFFFF7F", 268435455},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bytes header = text_bytes(cases[i].text);
        struct packet_frame frame;
        struct packet_error error;
        for (size_t cut = 0; cut < header.length; cut++)
            assert_int_equal(packet_frame(guard_copy((struct bytes){header.data, cut}), &frame,
                                          &error),
                             PACKET_MORE);
        assert_int_equal(packet_frame(guard_copy(header), &frame, &error), PACKET_OK);
        assert_int_equal(frame.type, PACKET_PUBLISH);
        assert_int_equal(frame.header_length, header.length);
        assert_int_equal(frame.body_length, cases[i].length);
    }
}

// What a struct says, and the bytes it must become.
static void assert_written(const struct packet *packet, const char *text)
{
    uint8_t out[1000];
    struct bytes_writer w = bytes_writer(out, sizeof(out));
    packet_write(&w, packet);
    assert_false(w.bad);
    struct bytes expected = text_bytes(text);
    assert_int_equal(w.length, expected.length);
    assert_true(memcmp(out, expected.data, expected.length) == 0);
}

static struct property_set all_connect_properties(struct bytes users)
{
    return (struct property_set){
        .present = PROPERTY_BIT(PROPERTY_SESSION_EXPIRY) | PROPERTY_BIT(PROPERTY_AUTH_METHOD) |
                   PROPERTY_BIT(PROPERTY_AUTH_DATA) | PROPERTY_BIT(PROPERTY_REQUEST_PROBLEM_INFO) |
                   PROPERTY_BIT(PROPERTY_REQUEST_RESPONSE_INFO) |
                   PROPERTY_BIT(PROPERTY_RECEIVE_MAXIMUM) |
                   PROPERTY_BIT(PROPERTY_TOPIC_ALIAS_MAXIMUM) | PROPERTY_BIT(PROPERTY_USER) |
                   PROPERTY_BIT(PROPERTY_MAXIMUM_PACKET_SIZE),
        .users = users,
        .session_expiry = UINT32_MAX,
        .auth_method = bytes_of("SCRAM"),
        .auth_data = {(const uint8_t *)"\0\1", 2},
        .request_problem_info = 1,
        .request_response_info = 1,
        .receive_maximum = 20,
        .topic_alias_maximum = 10,
        .maximum_packet_size = 65536,
    };
}

static struct packet_will full_will(void)
{
    return (struct packet_will){
        .topic = bytes_of("w"),
        .payload = bytes_of("gone"),
        .qos = 2,
        .retain = true,
        .properties = {.present = PROPERTY_BIT(PROPERTY_PAYLOAD_FORMAT) |
                                  PROPERTY_BIT(PROPERTY_MESSAGE_EXPIRY) |
                                  PROPERTY_BIT(PROPERTY_CONTENT_TYPE) |
                                  PROPERTY_BIT(PROPERTY_RESPONSE_TOPIC) |
                                  PROPERTY_BIT(PROPERTY_CORRELATION_DATA) |
                                  PROPERTY_BIT(PROPERTY_WILL_DELAY),
                       .payload_format = 1,
                       .message_expiry = 60,
                       .content_type = bytes_of("text/plain"),
                       .response_topic = bytes_of("re/ply"),
                       .correlation_data = {(const uint8_t *)"\0\xFF", 2},
                       .will_delay = 5},
    };
}

static void fields_of_connect(void **state)
{
    (void)state;
    uint8_t users[100];
    struct bytes_writer w = bytes_writer(users, sizeof(users));
    property_write_user(&w, bytes_of("a"), bytes_of("1"));
    property_write_user(&w, bytes_of("a"), bytes_of("2"));
    struct packet packet = {
        .type = PACKET_CONNECT,
        .version = PACKET_V5,
        .properties = all_connect_properties((struct bytes){users, w.length}),
        .connect = {.client_id = bytes_of("dev1"),
                    .username = bytes_of("user"),
                    .password = bytes_of("pass"),
                    .keep_alive = 60,
                    .clean_start = true,
                    .has_username = true,
                    .has_password = true,
                    .has_will = true,
                    .will = full_will()},
    };
    const char *text =
        "10[('MQTT') 05 F6 003C " ALL_CONNECT_PROPERTIES "('dev1') [01 01 02 0000003C "
        "03('text/plain') 08('re/ply') 09(00FF) 18 00000005] ('w') ('gone') ('user') ('pass')]";
    assert_written(&packet, text);
    struct packet parsed;
    read_whole("CONNECT", text_bytes(text), PACKET_V311, CLIENT, &parsed);
    assert_true(packet_equal(&packet, &parsed));
    packet.version = PACKET_V311;
    assert_written(&packet, "10[('MQTT') 04 F6 003C ('dev1') ('w') ('gone') ('user') ('pass')]");
}

static void fields_of_connack(void **state)
{
    (void)state;
    struct packet parsed;
    read_whole("CONNACK", text_bytes("20[00 00" ALL_CONNACK_PROPERTIES "]"), 5, SERVER, &parsed);
    const struct property_set *p = &parsed.properties;
    assert_int_equal(p->session_expiry, 3600);
    assert_true(bytes_equal(p->assigned_client_id, bytes_of("auto-1")));
    assert_int_equal(p->server_keep_alive, 30);
    assert_true(bytes_equal(p->auth_method, bytes_of("SCRAM")));
    assert_true(bytes_equal(p->auth_data, bytes_of("\1")));
    assert_true(bytes_equal(p->response_info, bytes_of("info")));
    assert_true(bytes_equal(p->server_reference, bytes_of("other:1883")));
    assert_true(bytes_equal(p->reason_string, bytes_of("why")));
    assert_int_equal(p->receive_maximum, 10);
    assert_int_equal(p->topic_alias_maximum, 5);
    assert_int_equal(p->maximum_qos, 1);
    assert_int_equal(p->retain_available, 1);
    assert_int_equal(p->maximum_packet_size, 1048576);
    assert_int_equal(p->wildcards_available, 1);
    assert_int_equal(p->subscription_ids_available, 0);
    assert_int_equal(p->shared_available, 1);

    read_whole("refusal by 3.1.1", text_bytes("20[00 01]"), 5, SERVER, &parsed);
    assert_int_equal(parsed.version, PACKET_V311);
    assert_int_equal(parsed.connack.reason, CONNACK_UNACCEPTABLE_VERSION);
    read_whole("session", text_bytes("20[01 00 []]"), 5, SERVER, &parsed);
    assert_true(parsed.connack.session_present);
    assert_int_equal(parsed.properties.present, 0);
}

static void fields_of_publish(void **state)
{
    (void)state;
    struct packet parsed;
    read_whole("PUBLISH", text_bytes("3D[('a/b') 0102" ALL_PUBLISH_PROPERTIES "'21.5']"), 5, CLIENT,
               &parsed);
    assert_int_equal(parsed.publish.qos, 2);
    assert_true(parsed.publish.dup);
    assert_true(parsed.publish.retain);
    assert_int_equal(parsed.publish.packet_id, 0x0102);
    assert_true(bytes_equal(parsed.publish.topic, bytes_of("a/b")));
    assert_true(bytes_equal(parsed.publish.payload, bytes_of("21.5")));
    assert_int_equal(parsed.properties.payload_format, 0);
    assert_int_equal(parsed.properties.message_expiry, 1);
    assert_true(bytes_equal(parsed.properties.content_type, bytes_of("json")));
    assert_true(bytes_equal(parsed.properties.response_topic, bytes_of("a/b")));
    assert_true(bytes_equal(parsed.properties.correlation_data, bytes_of("id")));
    assert_int_equal(parsed.properties.topic_alias, 7);

    read_whole("QoS 0", text_bytes("30[('a') 0102]"), 4, SERVER, &parsed);
    assert_int_equal(parsed.publish.packet_id, 0);
    assert_int_equal(parsed.publish.payload.length, 2);
    assert_false(parsed.publish.dup || parsed.publish.retain);
}

static void user_properties_and_identifiers_in_order(void **state)
{
    (void)state;
    struct packet parsed;
    read_whole("PUBLISH",
               text_bytes(
                   "30[('a') [26('b')('1') 0B 05 23 0001 26('a')('') 0B 8001 26('b')('3')]]"),
               5, SERVER, &parsed);
    static const char *const names[] = {"b", "a", "b"}, *const values[] = {"1", "", "3"};
    struct bytes name, value;
    size_t offset = 0;
    for (size_t i = 0; i < COUNT(names); i++) {
        assert_true(property_next_user(&parsed.properties, &offset, &name, &value));
        assert_true(bytes_equal(name, bytes_of(names[i])));
        assert_true(bytes_equal(value, bytes_of(values[i])));
    }
    assert_false(property_next_user(&parsed.properties, &offset, &name, &value));
    assert_false(property_next_user(&parsed.properties, &offset, &name, &value));
    uint32_t id;
    offset = 0;
    assert_true(property_next_subscription_id(&parsed.properties, &offset, &id));
    assert_int_equal(id, 5);
    assert_true(property_next_subscription_id(&parsed.properties, &offset, &id));
    assert_int_equal(id, 128);
    assert_false(property_next_subscription_id(&parsed.properties, &offset, &id));

    read_whole("PUBLISH", text_bytes("30[('a') [23 0001]]"), 5, SERVER, &parsed);
    offset = 0;
    assert_false(property_next_user(&parsed.properties, &offset, &name, &value));
    assert_false(property_next_subscription_id(&parsed.properties, &offset, &id));
}

static void subscription_identifiers_are_written(void **state)
{
    (void)state;
    struct packet packet = {.type = PACKET_PUBLISH, .version = PACKET_V5};
    packet.publish.topic = bytes_of("a");
    packet.properties.present = PROPERTY_BIT(PROPERTY_SUBSCRIPTION_ID);
    packet.properties.subscription_id = 300;
    assert_written(&packet, "30[('a') [0B AC02]]");
    uint8_t ids[20];
    struct bytes_writer w = bytes_writer(ids, sizeof(ids));
    property_write_subscription_id(&w, 1);
    property_write_subscription_id(&w, 300);
    packet.properties.subscription_ids = (struct bytes){ids, w.length};
    assert_written(&packet, "30[('a') [0B 01 0B AC02]]");
}

static void filters_one_by_one(void **state)
{
    (void)state;
    static const struct packet_filter expected[] = {
        {{(const uint8_t *)"a", 1}, 2, 2, true, true},
        {{(const uint8_t *)"$share/g/+/b", 12}, 1, 1, false, true},
        {{(const uint8_t *)"#", 1}, 0, 0, false, false},
    };
    uint8_t list[100];
    struct bytes_writer w = bytes_writer(list, sizeof(list));
    for (size_t i = 0; i < COUNT(expected); i++)
        packet_write_filter(&w, PACKET_SUBSCRIBE, PACKET_V5, &expected[i]);
    struct packet packet = {.type = PACKET_SUBSCRIBE, .version = PACKET_V5};
    packet.subscribe = (struct packet_subscribe){7, {list, w.length}};
    assert_written(&packet, "82[0007 [] ('a') 2E ('$share/g/+/b') 19 ('#') 00]");

    struct packet_filter filter;
    size_t offset = 0;
    for (size_t i = 0; i < COUNT(expected); i++) {
        assert_true(packet_next_filter(&packet, &offset, &filter));
        assert_true(bytes_equal(filter.filter, expected[i].filter));
        assert_int_equal(filter.qos, expected[i].qos);
        assert_int_equal(filter.retain_handling, expected[i].retain_handling);
        assert_int_equal(filter.no_local, expected[i].no_local);
        assert_int_equal(filter.retain_as_published, expected[i].retain_as_published);
    }
    assert_false(packet_next_filter(&packet, &offset, &filter));

    w = bytes_writer(list, sizeof(list));
    packet_write_filter(&w, PACKET_UNSUBSCRIBE, PACKET_V311, &expected[1]);
    packet_write_filter(&w, PACKET_UNSUBSCRIBE, PACKET_V311, &expected[2]);
    packet = (struct packet){.type = PACKET_UNSUBSCRIBE, .version = PACKET_V311};
    packet.subscribe = (struct packet_subscribe){7, {list, w.length}};
    assert_written(&packet, "A2[0007 ('$share/g/+/b') ('#')]");
    offset = 0;
    assert_true(packet_next_filter(&packet, &offset, &filter));
    assert_true(bytes_equal(filter.filter, expected[1].filter));
    assert_true(packet_next_filter(&packet, &offset, &filter));
    assert_false(packet_next_filter(&packet, &offset, &filter));

    w = bytes_writer(list, sizeof(list));
    packet_write_filter(&w, PACKET_SUBSCRIBE, PACKET_V311, &expected[0]);
    assert_true(bytes_equal((struct bytes){list, w.length}, text_bytes("('a') 02")));
}

static void acknowledgements_by_the_short_way(void **state)
{
    (void)state;
    static const struct {
        enum packet_type type;
        uint8_t version;
        uint16_t id;
        uint8_t reason;
        const char *text;
    } cases[] = {
        {PACKET_PUBACK, 4, 1, 0, "40 02 0001"},      {PACKET_PUBACK, 4, 1, 0x87, "40 02 0001"},
        {PACKET_PUBACK, 5, 0xFFFE, 0, "40 02 FFFE"}, {PACKET_PUBACK, 5, 1, 0x87, "40 03 0001 87"},
        {PACKET_PUBREC, 4, 258, 0, "50 02 0102"},    {PACKET_PUBREC, 5, 1, 0x97, "50 03 0001 97"},
        {PACKET_PUBREL, 4, 1, 0, "62 02 0001"},      {PACKET_PUBREL, 5, 1, 0x92, "62 03 0001 92"},
        {PACKET_PUBCOMP, 5, 1, 0, "70 02 0001"},     {PACKET_PUBCOMP, 5, 1, 0x92, "70 03 0001 92"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bytes expected = text_bytes(cases[i].text);
        uint8_t out[PACKET_ACK_MAX];
        struct bytes_writer w = bytes_writer(out, expected.length);
        packet_write_ack(&w, cases[i].type, cases[i].version, cases[i].id, cases[i].reason);
        assert_false(w.bad);
        assert_true(bytes_equal((struct bytes){out, w.length}, expected));
        w = bytes_writer(out, expected.length - 1);
        packet_write_ack(&w, cases[i].type, cases[i].version, cases[i].id, cases[i].reason);
        assert_true(w.bad);
        assert_int_equal(w.length, 0);
    }
}

static void writing_without_room_is_bad_at_every_length(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        struct packet packet;
        uint8_t input[1000], zeros[1000] = {0};
        struct bytes whole = packet_text(good[i].text, input, sizeof(input));
        struct packet_frame frame;
        struct packet_error error;
        assert_int_equal(packet_frame(whole, &frame, &error), PACKET_OK);
        assert_true(packet_parse(&frame, whole.data + frame.header_length, good[i].version,
                                 good[i].from, &packet, &error));
        size_t size = packet_size(&packet);
        for (size_t room = 0; room < size; room++) {
            struct bytes guarded = guard_copy((struct bytes){zeros, room});
            struct bytes_writer w = bytes_writer((uint8_t *)guarded.data, room);
            packet_write(&w, &packet);
            assert_true(w.bad);
        }
    }
}

static void what_mqtt_cannot_say_is_bad(void **state)
{
    (void)state;
    static const uint8_t long_text[65536];
    struct bytes_writer w = bytes_counter();
    struct packet packet = {.type = PACKET_PUBLISH, .version = PACKET_V5};
    packet.publish.topic = (struct bytes){long_text, 65535};
    packet_write(&w, &packet);
    assert_false(w.bad);
    packet.publish.topic.length++;
    packet_write(&w, &packet);
    assert_true(w.bad);

    w = bytes_counter();
    packet.publish.topic = bytes_of("a");
    packet.publish.payload = (struct bytes){long_text, BYTES_VARINT_MAX - 4};
    packet_write(&w, &packet);
    assert_false(w.bad);
    assert_int_equal(w.length, (size_t)BYTES_VARINT_MAX + 5);
    packet.publish.payload.length++;
    packet_write(&w, &packet);
    assert_true(w.bad);
}

static void names_for_people(void **state)
{
    (void)state;
    static const struct {
        uint8_t version;
        enum packet_type type;
        uint8_t reason;
        const char *name;
    } cases[] = {
        {5, PACKET_CONNACK, 0x87, "not authorized"},
        {4, PACKET_CONNACK, 0x05, "not authorized"},
        {4, PACKET_CONNACK, 0x87, "unknown reason"},
        {4, PACKET_CONNACK, 0x00, "connection accepted"},
        {5, PACKET_CONNACK, 0x00, "success"},
        {5, PACKET_SUBACK, 0x00, "granted QoS 0"},
        {4, PACKET_SUBACK, 0x00, "granted QoS 0"},
        {4, PACKET_SUBACK, 0x80, "failure"},
        {5, PACKET_SUBACK, 0x80, "unspecified error"},
        {5, PACKET_DISCONNECT, 0x00, "normal disconnection"},
        {5, PACKET_DISCONNECT, 0x8E, "session taken over"},
        {5, PACKET_UNSUBACK, 0x11, "no subscription existed"},
        {5, PACKET_PUBACK, 0xFF, "unknown reason"},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_string_equal(packet_reason_name(cases[i].version, cases[i].type, cases[i].reason),
                            cases[i].name);
    assert_string_equal(packet_type_name(PACKET_CONNECT), "CONNECT");
    assert_string_equal(packet_type_name(PACKET_AUTH), "AUTH");
    assert_string_equal(packet_type_name((enum packet_type)0), "reserved");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_packets_are_read_and_written),
        cmocka_unit_test(every_truncation_asks_for_more),
        cmocka_unit_test(short_bodies_are_not_read_past_their_end),
        cmocka_unit_test(start_of_a_publish),
        cmocka_unit_test(salvage_of_a_publish),
        cmocka_unit_test(remaining_length_of_one_to_four_bytes),
        cmocka_unit_test(fields_of_connect),
        cmocka_unit_test(fields_of_connack),
        cmocka_unit_test(fields_of_publish),
        cmocka_unit_test(user_properties_and_identifiers_in_order),
        cmocka_unit_test(subscription_identifiers_are_written),
        cmocka_unit_test(filters_one_by_one),
        cmocka_unit_test(acknowledgements_by_the_short_way),
        cmocka_unit_test(writing_without_room_is_bad_at_every_length),
        cmocka_unit_test(what_mqtt_cannot_say_is_bad),
        cmocka_unit_test(names_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
