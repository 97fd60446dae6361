// Packets that break a rule, each with the rule's clause and the code that a peer is told.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mqtt/packet.h"
#include "packet_guard.h"
#include "packet_text.h"

#define CLIENT PACKET_FROM_CLIENT
#define SERVER PACKET_FROM_SERVER
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define MALFORMED REASON_MALFORMED_PACKET
#define PROTOCOL REASON_PROTOCOL_ERROR

struct bad_case {
    const char *name;
    uint8_t version;
    enum packet_sender from;
    const char *text;
    uint8_t reason;
    const char *says; // part of what the error says, lest it be refused for another reason
};

static const struct bad_case bad[] = {
    // The fixed header
    {"type 0 [5: 2.1.2]", 4, CLIENT, "00[]", MALFORMED, "type 0"},
    {"type 0, one byte", 5, SERVER, "0F", MALFORMED, "type 0"},
    {"Remaining Length, fifth byte [5: 1.5.5]", 4, CLIENT, "30 8080808001", MALFORMED,
     "four bytes"},
    {"Remaining Length, fifth byte not there yet", 5, CLIENT, "30 FFFFFFFF", MALFORMED,
     "four bytes"},
    {"Remaining Length, needless byte [5: 1.5.5-1]", 5, SERVER, "40 8200 0001", MALFORMED,
     "more bytes than it takes"},
    {"Remaining Length, needless byte, CONNECT [5: 1.5.5-1]", 4, CLIENT,
     "10 8D00 0004'MQTT' 05 02 0000 00 0000", MALFORMED, "more bytes than it takes"},
    {"CONNECT flags [2.1.3-1]", 4, CLIENT, "11", MALFORMED, "reserved flags"},
    {"CONNACK flags [2.1.3-1]", 4, SERVER, "28", MALFORMED, "reserved flags"},
    {"PUBACK flags [2.1.3-1]", 4, SERVER, "42", MALFORMED, "reserved flags"},
    {"PUBREC flags [2.1.3-1]", 5, SERVER, "52", MALFORMED, "reserved flags"},
    {"PUBREL flags 0 [3.6.1-1]", 4, SERVER, "60", MALFORMED, "reserved flags"},
    {"PUBREL flags 3 [3.6.1-1]", 5, SERVER, "63", MALFORMED, "reserved flags"},
    {"PUBCOMP flags [2.1.3-1]", 4, SERVER, "74", MALFORMED, "reserved flags"},
    {"SUBSCRIBE flags 0 [3.8.1-1]", 4, CLIENT, "80", MALFORMED, "reserved flags"},
    {"SUBACK flags [2.1.3-1]", 4, SERVER, "91", MALFORMED, "reserved flags"},
    {"UNSUBSCRIBE flags 0 [3.10.1-1]", 5, CLIENT, "A0", MALFORMED, "reserved flags"},
    {"UNSUBACK flags [2.1.3-1]", 4, SERVER, "B2", MALFORMED, "reserved flags"},
    {"PINGREQ flags [2.1.3-1]", 4, CLIENT, "C1", MALFORMED, "reserved flags"},
    {"PINGRESP flags [2.1.3-1]", 4, SERVER, "D8", MALFORMED, "reserved flags"},
    {"DISCONNECT flags [3.14.1-1]", 5, CLIENT, "E4", MALFORMED, "reserved flags"},
    {"AUTH flags [3.15.1-1]", 5, CLIENT, "F1", MALFORMED, "reserved flags"},
    {"PUBLISH QoS 3 [3.3.1-4]", 4, CLIENT, "36", MALFORMED, "QoS 3"},
    {"PUBLISH QoS 3 [3.3.1-4]", 5, SERVER, "37", MALFORMED, "QoS 3"},
    {"PUBLISH DUP with QoS 0 [3.3.1-2]", 4, CLIENT, "38", PROTOCOL, "DUP"},
    {"PUBLISH DUP with QoS 0 [3.3.1-2]", 5, SERVER, "39", PROTOCOL, "DUP"},

    // Who sends what
    {"AUTH in 3.1.1 [3: 2.2.1]", 4, CLIENT, "F0[]", MALFORMED, "no packet of MQTT 3.1.1"},
    {"DISCONNECT from a 3.1.1 server [3: 2.2.1]", 4, SERVER, "E0[]", PROTOCOL, "only clients"},

    // CONNECT
    {"protocol name [3.1.2-1]", 4, CLIENT, "10[('MQTX') 04 02 0000 ()]", MALFORMED,
     "protocol name"},
    {"protocol name in lower case [3.1.2-1]", 4, CLIENT, "10[('mqtt') 04 02 0000 ()]", MALFORMED,
     "protocol name"},
    {"protocol name empty [3.1.2-1]", 4, CLIENT, "10[() 04 02 0000 ()]", MALFORMED,
     "protocol name"},
    {"reserved connect flag [3.1.2-3]", 4, CLIENT, "10[('MQTT') 04 03 0000 ()]", MALFORMED,
     "reserved connect flag"},
    {"reserved connect flag [3.1.2-3]", 5, CLIENT, "10[('MQTT') 05 03 0000 [] ()]", MALFORMED,
     "reserved connect flag"},
    {"will QoS without will [3: 3.1.2-13, 5: 3.1.2-11]", 4, CLIENT, "10[('MQTT') 04 0A 0000 ()]",
     MALFORMED, "without a will"},
    {"will retain without will [3: 3.1.2-15, 5: 3.1.2-13]", 5, CLIENT,
     "10[('MQTT') 05 22 0000 [] ()]", MALFORMED, "without a will"},
    {"will QoS 3 [3: 3.1.2-14, 5: 3.1.2-12]", 4, CLIENT, "10[('MQTT') 04 1E 0000 () ('w') ()]",
     MALFORMED, "QoS 3"},
    {"will QoS 3 [5: 3.1.2-12]", 5, CLIENT, "10[('MQTT') 05 1E 0000 [] () [] ('w') ()]", MALFORMED,
     "QoS 3"},
    {"password without user name [3: 3.1.2-22]", 4, CLIENT, "10[('MQTT') 04 42 0000 () ('p')]",
     MALFORMED, "password without"},
    {"user name flag, none there [3: 3.1.2-19]", 4, CLIENT, "10[('MQTT') 04 82 0000 ()]", MALFORMED,
     "past the end"},
    {"user name there, no flag [3: 3.1.2-18]", 4, CLIENT, "10[('MQTT') 04 02 0000 () ('u')]",
     MALFORMED, "behind the last"},
    {"password flag, none there [3: 3.1.2-21]", 5, CLIENT, "10[('MQTT') 05 42 0000 [] ()]",
     MALFORMED, "past the end"},
    {"will flag, none there [3: 3.1.2-9]", 5, CLIENT, "10[('MQTT') 05 06 0000 [] ()]", MALFORMED,
     "past the end"},
    {"will there, no flag", 4, CLIENT, "10[('MQTT') 04 02 0000 () ('w') ('p')]", MALFORMED,
     "behind the last"},
    {"client id not UTF-8 [3.1.3-4]", 4, CLIENT, "10[('MQTT') 04 02 0000 (C0AF)]", MALFORMED,
     "client identifier"},
    {"client id with U+0000 [1.5.4-2]", 5, CLIENT, "10[('MQTT') 05 02 0000 [] ('a'00)]", MALFORMED,
     "client identifier"},
    {"will topic not UTF-8 [3.1.3-10]", 4, CLIENT, "10[('MQTT') 04 06 0000 () (FF) ()]", MALFORMED,
     "will topic is not"},
    {"will topic with wildcard [4.7.1-1]", 5, CLIENT, "10[('MQTT') 05 06 0000 [] () [] ('a/#') ()]",
     MALFORMED, "will topic is empty or"},
    {"will topic empty [4.7.3-1]", 4, CLIENT, "10[('MQTT') 04 06 0000 () () ()]", MALFORMED,
     "will topic is empty or"},
    {"user name with surrogate [1.5.4-1]", 4, CLIENT, "10[('MQTT') 04 82 0000 () (EDA080)]",
     MALFORMED, "user name"},
    {"bytes behind the payload", 5, CLIENT, "10[('MQTT') 05 02 0000 [] () 00]", MALFORMED,
     "behind the last"},
    {"CONNECT empty", 4, CLIENT, "10[]", MALFORMED, "past the end"},

    // CONNACK
    {"reserved acknowledge flags [3.2.2-1]", 4, SERVER, "20[02 00]", MALFORMED,
     "acknowledge flags"},
    {"reserved acknowledge flags [3.2.2-1]", 5, SERVER, "20[81 00 []]", MALFORMED,
     "acknowledge flags"},
    {"session present in a refusal [3: 3.2.2-4]", 4, SERVER, "20[01 05]", PROTOCOL,
     "session present"},
    {"session present in a refusal [5: 3.2.2-6]", 5, SERVER, "20[01 87 []]", PROTOCOL,
     "session present"},
    {"CONNACK 5 without properties but accepting", 5, SERVER, "20[00 00]", MALFORMED,
     "past the end"},
    {"CONNACK 5 without properties, code of 5", 5, SERVER, "20[00 87]", MALFORMED, "reason code"},
    {"CONNACK with three bytes [3: 3.2.1]", 4, SERVER, "20[00 00 00]", MALFORMED,
     "behind the last"},
    {"CONNACK with one byte", 4, SERVER, "20[00]", MALFORMED, "past the end"},

    // PUBLISH
    {"topic with # [3.3.2-2]", 4, CLIENT, "30[('a/#')]", MALFORMED, "wildcard"},
    {"topic with + [3.3.2-2]", 5, SERVER, "30[('a/+/b') []]", MALFORMED, "wildcard"},
    {"topic empty [4.7.3-1]", 4, CLIENT, "30[()]", MALFORMED, "empty"},
    {"topic empty without alias [5: 3.3.2.1]", 5, CLIENT, "30[() []]", PROTOCOL, "topic alias"},
    {"topic not UTF-8 [3.3.2-1]", 4, CLIENT, "30[('a'80)]", MALFORMED, "not well-formed"},
    {"topic with U+0000 [1.5.4-2]", 5, CLIENT, "30[('a'00'b') []]", MALFORMED, "not well-formed"},
    {"topic with surrogate [1.5.4-1]", 4, SERVER, "30[(EDBFBF)]", MALFORMED, "not well-formed"},
    {"topic with overlong slash [1.5.4-1]", 4, SERVER, "30[(C0AF)]", MALFORMED, "not well-formed"},
    {"packet identifier 0 [3: 2.3.1-1, 5: 2.2.1-3]", 4, CLIENT, "32[('a') 0000]", PROTOCOL,
     "identifier 0"},
    {"packet identifier 0, QoS 2 [5: 2.2.1-3]", 5, SERVER, "34[('a') 0000 []]", PROTOCOL,
     "identifier 0"},
    {"packet identifier missing", 4, CLIENT, "32[('a')]", MALFORMED, "past the end"},
    {"packet identifier cut", 4, CLIENT, "32[('a') 00]", MALFORMED, "past the end"},
    {"topic length past the end", 4, CLIENT, "30[0005'abcd']", MALFORMED, "past the end"},
    {"PUBLISH empty", 4, CLIENT, "30[]", MALFORMED, "past the end"},
    {"PUBLISH 5 without properties", 5, CLIENT, "30[('a')]", MALFORMED, "past the end"},

    // Acknowledgements
    {"PUBACK identifier 0 [2.2.1-3]", 4, SERVER, "40[0000]", PROTOCOL, "identifier 0"},
    {"PUBREL identifier 0 [2.2.1-3]", 5, CLIENT, "62[0000]", PROTOCOL, "identifier 0"},
    {"PUBACK of 3.1.1 with a reason [3: 3.4.1]", 4, SERVER, "40[0001 00]", MALFORMED,
     "behind the last"},
    {"PUBCOMP cut", 4, SERVER, "70[00]", MALFORMED, "past the end"},
    {"PUBREC empty", 5, SERVER, "50[]", MALFORMED, "past the end"},
    {"bytes behind the properties", 5, SERVER, "40[0001 00 [] 00]", MALFORMED, "behind the last"},

    // SUBSCRIBE, UNSUBSCRIBE
    {"SUBSCRIBE identifier 0 [2.2.1-3]", 4, CLIENT, "82[0000 ('a') 00]", PROTOCOL, "identifier 0"},
    {"UNSUBSCRIBE identifier 0 [2.2.1-3]", 5, CLIENT, "A2[0000 [] ('a')]", PROTOCOL,
     "identifier 0"},
    {"SUBSCRIBE without a filter [3.8.3-2]", 4, CLIENT, "82[0001]", PROTOCOL, "no topic filter"},
    {"SUBSCRIBE without a filter [3.8.3-2]", 5, CLIENT, "82[0001 []]", PROTOCOL, "no topic filter"},
    {"UNSUBSCRIBE without a filter [3.10.3-2]", 4, CLIENT, "A2[0001]", PROTOCOL, "no topic filter"},
    {"UNSUBSCRIBE without a filter [3.10.3-2]", 5, CLIENT, "A2[0001 []]", PROTOCOL,
     "no topic filter"},
    {"filter empty [4.7.3-1]", 4, CLIENT, "82[0001 () 00]", MALFORMED, "topic filter is empty"},
    {"filter empty, UNSUBSCRIBE [4.7.3-1]", 5, CLIENT, "A2[0001 [] ()]", MALFORMED,
     "topic filter is empty"},
    {"filter not UTF-8 [3.8.3-1]", 4, CLIENT, "82[0001 (C3) 00]", MALFORMED, "not well-formed"},
    {"filter not UTF-8 [3.10.3-1]", 4, CLIENT, "A2[0001 ('a'00)]", MALFORMED, "not well-formed"},
    {"# not last [4.7.1-1]", 4, CLIENT, "82[0001 ('a/#/b') 00]", MALFORMED, "wildcard amiss"},
    {"# in a level [4.7.1-1]", 5, CLIENT, "82[0001 [] ('a#') 00]", MALFORMED, "wildcard amiss"},
    {"+ in a level [4.7.1-2]", 5, CLIENT, "82[0001 [] ('a/b+') 00]", MALFORMED, "wildcard amiss"},
    {"+ in a level, UNSUBSCRIBE [4.7.1-2]", 4, CLIENT, "A2[0001 ('+a')]", MALFORMED,
     "wildcard amiss"},
    {"second filter bad", 4, CLIENT, "82[0001 ('a') 00 ('#/') 00]", MALFORMED, "wildcard amiss"},
    {"share without name [5: 4.8.2-1]", 5, CLIENT, "82[0001 [] ('$share//a') 00]", MALFORMED,
     "$share"},
    {"share name with wildcard [5: 4.8.2-2]", 5, CLIENT, "82[0001 [] ('$share/g+/a') 00]",
     MALFORMED, "$share"},
    {"share without filter [5: 4.8.2-2]", 5, CLIENT, "82[0001 [] ('$share/g') 00]", MALFORMED,
     "$share"},
    {"share with empty filter [5: 4.8.2]", 5, CLIENT, "A2[0001 [] ('$share/g/')]", MALFORMED,
     "$share"},
    {"options missing", 4, CLIENT, "82[0001 ('a')]", MALFORMED, "past the end"},
    {"QoS 3 [3: 3.8.3-4]", 4, CLIENT, "82[0001 ('a') 03]", PROTOCOL, "QoS 3"},
    {"QoS 3 [5: 3.8.3.1]", 5, CLIENT, "82[0001 [] ('a') 03]", PROTOCOL, "QoS 3"},
    {"reserved options, No Local in 3.1.1 [3: 3.8.3-4]", 4, CLIENT, "82[0001 ('a') 04]", MALFORMED,
     "reserved"},
    {"reserved options, 3.1.1 [3: 3.8.3-4]", 4, CLIENT, "82[0001 ('a') 81]", MALFORMED, "reserved"},
    {"reserved options [5: 3.8.3-5]", 5, CLIENT, "82[0001 [] ('a') 40]", MALFORMED, "reserved"},
    {"reserved options [5: 3.8.3-5]", 5, CLIENT, "82[0001 [] ('a') 81]", MALFORMED, "reserved"},
    {"retain handling 3 [5: 3.8.3.1]", 5, CLIENT, "82[0001 [] ('a') 31]", PROTOCOL,
     "retain handling 3"},
    {"No Local on a shared subscription [5: 3.8.3-4]", 5, CLIENT, "82[0001 [] ('$share/g/a') 05]",
     PROTOCOL, "No Local"},

    // SUBACK, UNSUBACK
    {"SUBACK identifier 0 [2.2.1-3]", 4, SERVER, "90[0000 00]", PROTOCOL, "identifier 0"},
    {"UNSUBACK identifier 0 [2.2.1-3]", 5, SERVER, "B0[0000 [] 00]", PROTOCOL, "identifier 0"},
    {"SUBACK without a code [3.8.4-5]", 4, SERVER, "90[0001]", PROTOCOL, "no reason code"},
    {"UNSUBACK without a code [3.11.3-2]", 5, SERVER, "B0[0001 []]", PROTOCOL, "no reason code"},
    {"SUBACK code 3 [3: 3.9.3-2]", 4, SERVER, "90[0001 00 03]", MALFORMED, "reason code"},
    {"UNSUBACK of 3.1.1 with a code [3: 3.11.3]", 4, SERVER, "B0[0001 00]", MALFORMED,
     "behind the last"},

    // PING, DISCONNECT, AUTH
    {"PINGREQ with a body [3.12.1]", 4, CLIENT, "C0[00]", MALFORMED, "behind the last"},
    {"PINGRESP with a body [3.13.1]", 5, SERVER, "D0[00]", MALFORMED, "behind the last"},
    {"DISCONNECT of 3.1.1 with a body [3: 3.14.1]", 4, CLIENT, "E0[00]", MALFORMED,
     "behind the last"},
    {"DISCONNECT, bytes behind", 5, CLIENT, "E0[00 [] 00]", MALFORMED, "behind the last"},
    {"AUTH without method [3.15.2.2.2]", 5, CLIENT, "F0[18 []]", PROTOCOL,
     "without Authentication Method"},
    {"AUTH, reason alone [3.15.2.1]", 5, CLIENT, "F0[18]", MALFORMED, "past the end"},
    {"AUTH success short from a client [3.15.2.1]", 5, CLIENT, "F0[]", PROTOCOL, "this side"},

    // Properties
    {"unknown identifier 0 [2.2.2.2]", 5, CLIENT, "30[('a') [00 00]]", MALFORMED,
     "unknown property"},
    {"unknown identifier 04 [2.2.2.2]", 5, CLIENT, "30[('a') [04 00]]", MALFORMED,
     "unknown property"},
    {"unknown identifier 2B [2.2.2.2]", 5, CLIENT, "30[('a') [2B 00]]", MALFORMED,
     "unknown property"},
    {"unknown identifier 7F [2.2.2.2]", 5, CLIENT, "30[('a') [7F 00]]", MALFORMED,
     "unknown property"},
    {"unknown identifier of two bytes [2.2.2.2]", 5, CLIENT, "30[('a') [A601 00]]", MALFORMED,
     "unknown property"},
    {"identifier with a needless byte [1.5.5-1]", 5, CLIENT, "30[('a') [8100 00]]", MALFORMED,
     "unknown property"},
    {"property length past the end [2.2.2.1]", 5, CLIENT, "30[('a') 0201]", MALFORMED,
     "past the end"},
    {"property length with a needless byte [1.5.5-1]", 5, CLIENT, "30[('a') 8000]", MALFORMED,
     "past the end"},
    {"property length of five bytes [1.5.5]", 5, CLIENT, "30[('a') 8080808000]", MALFORMED,
     "past the end"},
    {"property cut, byte", 5, CLIENT, "30[('a') [01]]", MALFORMED, "end of the properties"},
    {"property cut, two bytes", 5, CLIENT, "30[('a') [23 00] '0']", MALFORMED,
     "end of the properties"},
    {"property cut, four bytes", 5, CLIENT, "30[('a') [02 000000] '0']", MALFORMED,
     "end of the properties"},
    {"property cut, variable byte integer", 5, SERVER, "30[('a') [0B 80] 01]", MALFORMED,
     "end of the properties"},
    {"property cut, string", 5, CLIENT, "30[('a') [03 0002'x'] 'x']", MALFORMED,
     "end of the properties"},
    {"property cut, binary", 5, CLIENT, "30[('a') [09 0002'x'] 'x']", MALFORMED,
     "end of the properties"},
    {"property cut, pair", 5, CLIENT, "30[('a') [26('k') 0002'x'] 'x']", MALFORMED,
     "end of the properties"},
    {"property cut, pair without value", 5, CLIENT, "30[('a') [26('k')] 'x']", MALFORMED,
     "end of the properties"},
    {"Payload Format Indicator 2 [3.3.2.3.2]", 5, CLIENT, "30[('a') [01 02]]", PROTOCOL,
     "Payload Format Indicator is out"},
    {"Subscription Identifier 0 [3.8.2.1.2]", 5, CLIENT, "82[0001 [0B 00] ('a') 00]", PROTOCOL,
     "Subscription Identifier is out"},
    {"Subscription Identifier 0, PUBLISH [3.3.2.3.8]", 5, SERVER, "30[('a') [0B 00]]", PROTOCOL,
     "Subscription Identifier is out"},
    {"Subscription Identifier from a client [3.3.4-6]", 5, CLIENT, "30[('a') [0B 01]]", PROTOCOL,
     "Subscription Identifier is not allowed"},
    {"Subscription Identifier twice, SUBSCRIBE [3.8.2.1.2]", 5, CLIENT,
     "82[0001 [0B 01 0B 02] ('a') 00]", PROTOCOL, "Subscription Identifier is given twice"},
    {"Topic Alias 0 [3.3.2-8]", 5, CLIENT, "30[('a') [23 0000]]", REASON_TOPIC_ALIAS_INVALID,
     "Topic Alias is out"},
    {"Receive Maximum 0 [3.1.2.11.3]", 5, CLIENT, "10[('MQTT') 05 02 0000 [21 0000] ()]", PROTOCOL,
     "Receive Maximum is out"},
    {"Receive Maximum 0 [3.2.2.3.3]", 5, SERVER, "20[00 00 [21 0000]]", PROTOCOL,
     "Receive Maximum is out"},
    {"Maximum Packet Size 0 [3.1.2.11.4]", 5, CLIENT, "10[('MQTT') 05 02 0000 [27 00000000] ()]",
     PROTOCOL, "Maximum Packet Size is out"},
    {"Maximum Packet Size 0 [3.2.2.3.6]", 5, SERVER, "20[00 00 [27 00000000]]", PROTOCOL,
     "Maximum Packet Size is out"},
    {"Request Response Information 2 [3.1.2.11.6]", 5, CLIENT, "10[('MQTT') 05 02 0000 [19 02] ()]",
     PROTOCOL, "Request Response Information is out"},
    {"Request Problem Information 2 [3.1.2.11.7]", 5, CLIENT, "10[('MQTT') 05 02 0000 [17 02] ()]",
     PROTOCOL, "Request Problem Information is out"},
    {"Maximum QoS 2 [3.2.2.3.4]", 5, SERVER, "20[00 00 [24 02]]", PROTOCOL, "Maximum QoS is out"},
    {"Retain Available 2 [3.2.2.3.5]", 5, SERVER, "20[00 00 [25 02]]", PROTOCOL,
     "Retain Available is out"},
    {"Wildcard Subscription Available 2 [3.2.2.3.11]", 5, SERVER, "20[00 00 [28 FF]]", PROTOCOL,
     "Wildcard Subscription Available is out"},
    {"Subscription Identifiers Available 2 [3.2.2.3.12]", 5, SERVER, "20[00 00 [29 02]]", PROTOCOL,
     "Subscription Identifiers Available is out"},
    {"Shared Subscription Available 2 [3.2.2.3.13]", 5, SERVER, "20[00 00 [2A 02]]", PROTOCOL,
     "Shared Subscription Available is out"},
    {"Response Topic with wildcard [3.3.2-14]", 5, CLIENT, "30[('a') [08('a/+')]]", MALFORMED,
     "Response Topic"},
    {"Response Topic not UTF-8 [3.3.2-13]", 5, CLIENT, "30[('a') [08(FF)]]", MALFORMED,
     "not well-formed"},
    {"Content Type not UTF-8 [3.3.2-19]", 5, CLIENT, "30[('a') [03(C0)]]", MALFORMED,
     "not well-formed"},
    {"User Property name not UTF-8 [1.5.7-1]", 5, CLIENT, "30[('a') [26(FF)()]]", MALFORMED,
     "not well-formed"},
    {"User Property value not UTF-8 [1.5.7-1]", 5, SERVER, "40[0001 00 [26()(00)]]", MALFORMED,
     "not well-formed"},
    {"Reason String not UTF-8 [1.5.4-1]", 5, SERVER, "40[0001 00 [1F(80)]]", MALFORMED,
     "not well-formed"},
    {"Authentication Data without Method [3.1.2.11.10]", 5, CLIENT,
     "10[('MQTT') 05 02 0000 [16(00)] ()]", PROTOCOL, "Authentication Data without"},
    {"Will Delay Interval out of the will [3.1.3.2.2]", 5, CLIENT,
     "10[('MQTT') 05 06 0000 [18 00000001] () [] ('w') ()]", MALFORMED,
     "Will Delay Interval is not allowed"},
    {"Session Expiry Interval in the will", 5, CLIENT,
     "10[('MQTT') 05 06 0000 [] () [11 00000001] ('w') ()]", MALFORMED,
     "Session Expiry Interval is not allowed"},
    {"Session Expiry Interval from a server [3.14.2-2]", 5, SERVER, "E0[00 [11 00000001]]",
     PROTOCOL, "Session Expiry Interval is not allowed"},
    {"Server Reference from a client [3.14.2.2.5]", 5, CLIENT, "E0[00 [1C('x')]]", PROTOCOL,
     "Server Reference is not allowed"},
};

static uint8_t buffer[1000];

struct outcome {
    bool ok;
    struct packet packet;
    struct packet_error error;
};

// Frames and parses at the edge of a page; bytes that are missing fail the test.
static struct outcome outcome_of(const char *name, struct bytes input, uint8_t version,
                                 enum packet_sender from)
{
    struct outcome outcome = {.error = {0xFF, "nothing"}};
    struct packet_frame frame;
    struct bytes guarded = guard_copy(input);
    enum packet_status status = packet_frame(guarded, &frame, &outcome.error);
    if (status == PACKET_MORE)
        fail_msg("%s: asks for more", name);
    if (status == PACKET_MALFORMED)
        return outcome;
    if (frame.header_length + (size_t)frame.body_length != input.length)
        fail_msg("%s: not one whole packet", name);
    outcome.ok = packet_parse(&frame, guarded.data + frame.header_length, version, from,
                              &outcome.packet, &outcome.error);
    return outcome;
}

static void bad_packets_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        const struct bad_case *c = &bad[i];
        struct outcome outcome =
            outcome_of(c->name, packet_text(c->text, buffer, sizeof(buffer)), c->version, c->from);
        if (outcome.ok)
            fail_msg("%s: taken", c->name);
        if (outcome.error.reason != c->reason || !strstr(outcome.error.text, c->says))
            fail_msg("%s: 0x%02X, %s", c->name, outcome.error.reason, outcome.error.text);
    }
}

static void unknown_levels_can_be_answered(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint8_t level;
    } cases[] = {
        {"10[('MQIsdp') 03 02 003C ('dev1')]", 3},
        {"10[('MQTT') 03 02 003C ('dev1')]", 3},
        {"10[('MQTT') 06 02 003C [] ('dev1') 'what comes then']", 6},
        {"10[('MQTT') 84 02 003C ('bridge')]", 0x84},
        {"10[('MQTT') 00 02 003C ('d')]", 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bytes input = packet_text(cases[i].text, buffer, sizeof(buffer));
        struct outcome outcome = outcome_of(cases[i].text, input, PACKET_V311, CLIENT);
        assert_false(outcome.ok);
        assert_int_equal(outcome.error.reason, REASON_UNSUPPORTED_VERSION);
        assert_int_equal(outcome.packet.version, cases[i].level);
    }
}

// Packets by the side that may not send them.
static void packets_from_the_wrong_side(void **state)
{
    (void)state;
    static const char *const of_clients[] = {"10[('MQTT') 04 02 0000 ()]", "82[0001 ('a') 00]",
                                             "A2[0001 ('a')]", "C0[]"};
    static const char *const of_servers[] = {"20[00 00]", "90[0001 00]", "B0[0001]", "D0[]"};
    for (size_t i = 0; i < COUNT(of_clients); i++)
        for (uint8_t version = PACKET_V311; version <= PACKET_V5; version++) {
            struct bytes input = packet_text(of_clients[i], buffer, sizeof(buffer));
            struct outcome outcome = outcome_of(of_clients[i], input, version, SERVER);
            assert_false(outcome.ok);
            assert_string_equal(outcome.error.text, "a packet that only clients send");
            input = packet_text(of_servers[i], buffer, sizeof(buffer));
            outcome = outcome_of(of_servers[i], input, version, CLIENT);
            assert_false(outcome.ok);
            assert_int_equal(outcome.error.reason, PROTOCOL);
            assert_string_equal(outcome.error.text, "a packet that only servers send");
        }
}

// A packet around the properties in place of %s, by the letter of the place: a capital one where a
// client sends, a small one where a server does.
static const struct {
    char letter;
    const char *text;
} places[] = {
    {'W', "10[('MQTT') 05 06 0000 [] () [%s] ('w') ()]"},
    {'C', "10[('MQTT') 05 02 0000 [%s] ()]"},
    {'c', "20[00 00 [%s]]"},
    {'P', "30[('a') [%s]]"},
    {'p', "30[('a') [%s]]"},
    {'A', "40[0001 00 [%s]]"},
    {'a', "40[0001 00 [%s]]"},
    {'R', "50[0001 00 [%s]]"},
    {'r', "50[0001 00 [%s]]"},
    {'L', "62[0001 00 [%s]]"},
    {'l', "62[0001 00 [%s]]"},
    {'M', "70[0001 00 [%s]]"},
    {'m', "70[0001 00 [%s]]"},
    {'S', "82[0001 [%s] ('a') 00]"},
    {'s', "90[0001 [%s] 00]"},
    {'U', "A2[0001 [%s] ('a')]"},
    {'u', "B0[0001 [%s] 00]"},
    {'D', "E0[00 [%s]]"},
    {'d', "E0[00 [%s]]"},
    {'X', "F0[18 [15('m')%s]]"},
    {'x', "F0[18 [15('m')%s]]"},
};

#define ACKS "AaRrLlMm"
#define EVERYWHERE "WCcPp" ACKS "SsUuDdXx"

static const struct {
    const char *property;
    const char *places; // MQTT 5, table 2-4, and what the sections say of the sides
    bool repeats;
} properties[] = {
    {"01 01", "WPp", false},
    {"02 00000000", "WPp", false},
    {"03()", "WPp", false},
    {"08('a')", "WPp", false},
    {"09()", "WPp", false},
    {"0B 01", "pS", false},
    {"11 00000000", "CcD", false},
    {"12('a')", "c", false},
    {"13 0000", "c", false},
    {"15('m')", "Cc", false}, // and AUTH, where it stands in every case
    {"16()", "Xx", false},    // and CONNECT and CONNACK, but not alone
    {"17 00", "C", false},
    {"18 00000000", "W", false},
    {"19 00", "C", false},
    {"1A()", "c", false},
    {"1C()", "cd", false},
    {"1F()", "c" ACKS "suDdXx", false},
    {"21 0001", "Cc", false},
    {"22 0000", "Cc", false},
    {"23 0001", "Pp", false},
    {"24 00", "c", false},
    {"25 00", "c", false},
    {"26()()", EVERYWHERE, true},
    {"27 00000001", "Cc", false},
    {"28 00", "c", false},
    {"29 00", "c", false},
    {"2A 00", "c", false},
};

static struct outcome property_outcome(size_t place, const char *text)
{
    char whole[400];
    const char *hole = strstr(places[place].text, "%s");
    assert_true(strlen(places[place].text) + strlen(text) < sizeof(whole));
    size_t before = (size_t)(hole - places[place].text);
    memcpy(whole, places[place].text, before);
    strcpy(whole + before, text);
    strcat(whole, hole + 2);
    bool client = places[place].letter >= 'A' && places[place].letter <= 'Z';
    return outcome_of(whole, packet_text(whole, buffer, sizeof(buffer)), PACKET_V5,
                      client ? CLIENT : SERVER);
}

static void properties_stand_where_they_may_and_once(void **state)
{
    (void)state;
    for (size_t p = 0; p < COUNT(properties); p++)
        for (size_t i = 0; i < COUNT(places); i++) {
            const char *property = properties[p].property;
            struct outcome outcome = property_outcome(i, property);
            bool allowed = strchr(properties[p].places, places[i].letter) != NULL;
            if (outcome.ok != allowed)
                fail_msg("%s in %s: %s", property, places[i].text, outcome.error.text);
            if (!allowed)
                continue;
            char twice[100] = "";
            strcat(strcat(strcat(twice, property), " "), property);
            outcome = property_outcome(i, twice);
            bool repeats = properties[p].repeats ||
                           (strcmp(property, "0B 01") == 0 && places[i].letter == 'p');
            if (outcome.ok != repeats)
                fail_msg("twice %s in %s: %s", property, places[i].text, outcome.error.text);
            if (!repeats) {
                assert_int_equal(outcome.error.reason, PROTOCOL);
                assert_non_null(strstr(outcome.error.text, "is given twice"));
            }
        }
}

// In a PUBLISH from a server, values that are not allowed; User Properties before and behind.
static void properties_that_are_dropped(void **state)
{
    (void)state;
    static const struct {
        const char *value;
        enum property_id id;
        const char *good; // PUBLISH may have this one behind it
        bool dropped;
    } cases[] = {
        {"01 02", PROPERTY_PAYLOAD_FORMAT, "01 01", true},
        {"03(C0)", PROPERTY_CONTENT_TYPE, "03('a')", true},
        {"08('a/#')", PROPERTY_RESPONSE_TOPIC, "08('a')", true},
        {"08('+')", PROPERTY_RESPONSE_TOPIC, "08('a')", true},
        {"08()", PROPERTY_RESPONSE_TOPIC, "08('a')", true},
        {"08(FF)", PROPERTY_RESPONSE_TOPIC, "08('a')", true},
        {"0B 00", PROPERTY_SUBSCRIPTION_ID, "0B 01", false},
        {"23 0000", PROPERTY_TOPIC_ALIAS, "23 0001", false},
        {"26(FF)()", PROPERTY_USER, "26()()", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        for (int good = 0; good < 2; good++) {
            char text[100];
            snprintf(text, sizeof text, "30[('a') [26('k')('v') %s %s 26('l')('w')] 'x']",
                     cases[i].value, good ? cases[i].good : "");
            struct bytes input = packet_text(text, buffer, sizeof buffer);
            assert_false(outcome_of(text, input, PACKET_V5, CLIENT).ok);
            struct outcome outcome = outcome_of(text, input, PACKET_V5, SERVER);
            if (outcome.ok != cases[i].dropped)
                fail_msg("%s: %s", text, outcome.error.text);
            if (!outcome.ok)
                continue;
            assert_int_equal(property_has(&outcome.packet.properties, cases[i].id), good);
            size_t offset = 0, users = 0;
            for (struct bytes name, value;
                 property_next_user(&outcome.packet.properties, &offset, &name, &value);)
                users++;
            assert_int_equal(users, 2);
            assert_true(bytes_equal(outcome.packet.publish.payload, bytes_of("x")));
        }
}

static const struct {
    const char *text; // %s is the reason code
    uint8_t version;
    enum packet_sender from;
    const char *codes; // that are allowed
} reason_places[] = {
    {"20[00 %s]", 4, SERVER, "00 01 02 03 04 05"},
    {"90[0001 %s]", 4, SERVER, "00 01 02 80"},
    {"20[00 %s []]", 5, SERVER,
     "00 80 81 82 83 84 85 86 87 88 89 8A 8C 90 95 97 99 9A 9B 9C 9D 9F"},
    {"40[0001 %s]", 5, SERVER, "00 10 80 83 87 90 91 97 99"},
    {"40[0001 %s []]", 5, CLIENT, "00 10 80 83 87 90 91 97 99"},
    {"50[0001 %s]", 5, SERVER, "00 10 80 83 87 90 91 97 99"},
    {"50[0001 %s]", 5, CLIENT, "00 10 80 83 87 90 91 97 99"},
    {"62[0001 %s]", 5, SERVER, "00 92"},
    {"62[0001 %s]", 5, CLIENT, "00 92"},
    {"70[0001 %s]", 5, SERVER, "00 92"},
    {"70[0001 %s []]", 5, CLIENT, "00 92"},
    {"90[0001 [] %s]", 5, SERVER, "00 01 02 80 83 87 8F 91 97 9E A1 A2"},
    {"B0[0001 [] %s]", 5, SERVER, "00 11 80 83 87 8F 91"},
    {"E0[%s]", 5, SERVER,
     "00 80 81 82 83 87 89 8B 8C 8D 8E 8F 90 93 94 95 96 97 98 99 9A 9B 9C 9D 9E 9F A0 A1 A2"},
    {"E0[%s []]", 5, CLIENT, "00 04 80 81 82 83 8C 90 93 94 95 96 97 98 99"},
    {"F0[%s [15('m')]]", 5, SERVER, "00 18"},
    {"F0[%s [15('m')]]", 5, CLIENT, "18 19"},
};

static void reason_codes_stand_where_they_may(void **state)
{
    (void)state;
    for (size_t p = 0; p < COUNT(reason_places); p++)
        for (unsigned code = 0; code <= 0xFF; code++) {
            char digits[3] = {"0123456789ABCDEF"[code >> 4], "0123456789ABCDEF"[code & 15], '\0'};
            char whole[100];
            strcpy(whole, reason_places[p].text);
            memcpy(strstr(whole, "%s"), digits, 2);
            struct outcome outcome = outcome_of(whole, packet_text(whole, buffer, sizeof(buffer)),
                                                reason_places[p].version, reason_places[p].from);
            if (outcome.ok != (strstr(reason_places[p].codes, digits) != NULL))
                fail_msg("%s: %s", whole, outcome.error.text);
            if (!outcome.ok)
                assert_non_null(strstr(outcome.error.text, "a reason code that this"));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_packets_are_refused),
        cmocka_unit_test(unknown_levels_can_be_answered),
        cmocka_unit_test(packets_from_the_wrong_side),
        cmocka_unit_test(properties_stand_where_they_may_and_once),
        cmocka_unit_test(properties_that_are_dropped),
        cmocka_unit_test(reason_codes_stand_where_they_may),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
