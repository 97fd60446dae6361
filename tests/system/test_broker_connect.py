"""CONNECT to the built-in broker: who is let in, what is said, when it ends.

Clauses are of MQTT 3.1.1 and 5 alike, unless a 5: or 3: stands before them."""
import select
import time

import pytest

from harness import wire
from harness.cases import cases
from harness.client import Closed, fresh
from harness.wait import PATIENCE

MALFORMED, PROTOCOL_ERROR, BAD_METHOD, KEEP_ALIVE_TIMEOUT = 0x81, 0x82, 0x8C, 0x8D


def raw(version, flags, *parts, keepalive=0, properties=b"\0"):
    """A CONNECT of these flags and parts of a payload, however they fit."""
    body = b"\0\4MQTT" + bytes([version, flags, 0, keepalive]) + (properties if version == 5 else b"")
    return wire.packet("CONNECT", body + b"".join(parts))


def text(word):
    return len(word).to_bytes(2, "big") + word


# The first packet


@pytest.mark.parametrize("first", [
    wire.PINGREQ, wire.publish(4, "a", b"x"), wire.subscribe(4, 1, [("a", 0)]), wire.disconnect(4),
    wire.ack("PUBACK", 1), wire.auth(0x18), wire.connack(4), b"GET / HTTP/1.1\r\n\r\n",
], ids=["PINGREQ", "PUBLISH", "SUBSCRIBE", "DISCONNECT", "PUBACK", "AUTH", "CONNACK", "HTTP"])
def test_the_first_packet_is_connect(builtin, version, first):
    """[MQTT-3.1.0-1]"""
    connection = builtin.dial(version)
    connection.send(first)
    connection.ends(MALFORMED, PROTOCOL_ERROR, silently=True)


def test_a_second_connect_ends_the_connection(builtin, version):
    """[MQTT-3.1.0-2]"""
    client = builtin.client(version)
    client.send(wire.connect(version, client.client_id))
    client.ends(PROTOCOL_ERROR)


def test_what_follows_connect_may_come_before_connack(builtin, version):
    """[MQTT-3.1.4] and CONNACK is the first answer [MQTT-3.2.0-1], of which there is one."""
    connection = builtin.dial(version)
    topic = fresh("topic")
    connection.send(wire.connect(version, fresh("client")), wire.subscribe(version, 7, [(topic, 0)]),
                    wire.publish(version, topic, b"at once"), wire.PINGREQ)
    connection.expect("CONNACK", code=0)
    connection.expect("SUBACK", pid=7)
    assert {connection.take().kind, connection.take().kind} == {"PUBLISH", "PINGRESP"}


def test_what_follows_a_refused_connect_is_not_looked_at(builtin, version):
    """[3:MQTT-3.1.4-5] [5:MQTT-3.1.4-6]"""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic)
    connection = builtin.dial(version)
    if version == 5:
        connect = wire.connect(5, fresh("client"), values={"authentication_method": "GUESS"})
    else:
        connect = wire.connect(4, "", clean=False)
    connection.send(connect, wire.publish(version, topic, b"x"))
    connection.expect("CONNACK", code=BAD_METHOD if version == 5 else 2, session_present=False)
    connection.ends()
    watcher.nothing()


# Protocol and flags


@pytest.mark.parametrize("level", [0, 3, 6, 0x84])
def test_an_unknown_protocol_level_is_refused(builtin, level):
    """By a CONNACK that those of that level can read, if there is one [MQTT-3.1.2-2]."""
    connection = builtin.dial(4)
    connection.send(wire.connect(4, fresh("client"), level=level))
    answer = connection.everything()
    assert answer == b"\x20\2\0\1" or level > 5 and answer[0] == 0x20 and answer[2:4] == b"\0\x84"


@pytest.mark.parametrize("name", ["MQIsdp", "mqtt", "", "MQTTX"])
def test_another_protocol_is_refused(builtin, version, name):
    """[MQTT-3.1.2-1]"""
    connection = builtin.dial(version)
    connection.send(wire.connect(version, fresh("client"), name=name))
    answer = connection.everything()
    assert answer in (b"", b"\x20\2\0\1") or answer[0] == 0x20 and answer[2:4] == b"\0\x84"


def test_the_reserved_flag_is_zero(builtin, version):
    """[MQTT-3.1.2-3]"""
    connection = builtin.dial(version)
    connection.send(raw(version, 0x03, text(b"client")))
    connection.ends(MALFORMED, silently=True)


@pytest.mark.parametrize("flags, parts", cases(
    (0x02, [b"\0\x09client"], "client id cut"),
    (0x02, [], "no client id [MQTT-3.1.3-3]"),
    (0x82, [text(b"client")], "no user name [MQTT-3.1.2-19]"),
    (0xC2, [text(b"client"), text(b"user")], "no password [MQTT-3.1.2-21]"),
    (0x02, [text(b"client"), text(b"user")], "a user name without its flag [MQTT-3.1.2-18]"),
    (0x82, [text(b"client"), text(b"user"), text(b"word")], "a password without its flag [MQTT-3.1.2-20]"),
    (0x06, [text(b"client")], "no will [MQTT-3.1.2-9]"),
    (0x02, [text(b"client"), text(b"t"), text(b"will")], "a will without its flag [MQTT-3.1.2-11]"),
    (0x0A, [text(b"client")], "will QoS without a will [3:MQTT-3.1.2-13] [5:MQTT-3.1.2-11]"),
    (0x22, [text(b"client")], "will retain without a will [3:MQTT-3.1.2-15] [5:MQTT-3.1.2-13]"),
    (0x1E, [text(b"client"), text(b"t"), text(b"will")], "will QoS 3 [3:MQTT-3.1.2-14] [5:MQTT-3.1.2-12]"),
))
def test_flags_and_payload_agree(builtin, version, flags, parts):
    """Otherwise it closes; 3.1.1 has no code for it [3:MQTT-3.2.2-6]."""
    if flags & 4 and version == 5 and len(parts) > 1:
        parts = [parts[0], b"\0", *parts[1:]]  # will properties
    connection = builtin.dial(version)
    connection.send(raw(version, flags, *parts))
    connection.ends(MALFORMED, PROTOCOL_ERROR)


def test_a_password_without_a_user_name(builtin):
    """[3:MQTT-3.1.2-22]; MQTT 5 allows it, 3.1.2.9."""
    connection = builtin.dial(4)
    connection.send(raw(4, 0x42, text(b"client"), text(b"word")))
    connection.ends()
    builtin.client(5, password=b"word").nothing()


@pytest.mark.parametrize("topic", ["a/#", "+", "", b"\xff", "a\0b"])
def test_a_will_has_a_topic_that_can_be_published_to(builtin, version, topic):
    """[MQTT-3.3.2-2] [MQTT-4.7.3-1] [3:MQTT-3.1.3-10] [5:MQTT-3.1.3-11]"""
    connection = builtin.dial(version)
    connection.send(wire.connect(version, fresh("client"), will=wire.will(topic, b"x")))
    connection.ends(MALFORMED, PROTOCOL_ERROR, 0x90)


# Client identifiers


@pytest.mark.parametrize("client_id", [
    "0123456789abcdefghijklm", "x" * 1000, "h\u00f6he/\u2708", "a b+c#d/$",
], ids=["23 characters", "1000 characters", "UTF-8", "odd"])
def test_client_identifiers(builtin, version, client_id):
    """[MQTT-3.1.3-5] asks for 23 letters and digits; more is welcome."""
    builtin.client(version, client_id, keep=True).disconnect()
    assert builtin.client(version, client_id, keep=True).present


def test_an_empty_client_id_with_a_session_to_keep(builtin):
    """[3:MQTT-3.1.3-8]: refused, for nobody could come back to it; MQTT 5 assigns one, below."""
    connection = builtin.dial(4)
    connection.send(wire.connect(4, "", clean=False))
    connection.expect("CONNACK", code=2, session_present=False)
    connection.ends()


def test_empty_client_ids_are_different_clients(builtin, version):
    """[MQTT-3.1.3-6]"""
    clients = [builtin.client(version, "") for _ in range(3)]
    for client in clients:
        client.nothing()


@pytest.mark.parametrize("clean", [True, False])
def test_an_assigned_client_id_can_be_come_back_with(builtin, clean):
    """[5:MQTT-3.1.3-7] [5:MQTT-3.2.2-16]; and one that has a name is assigned none."""
    first = builtin.client(5, "", clean=clean, properties={"session_expiry_interval": 60})
    assigned = first.connack.properties["assigned_client_identifier"]
    assert assigned and not first.present
    first.subscribe("a")
    first.disconnect()
    again = builtin.client(5, assigned, keep=True)
    assert again.present
    assert "assigned_client_identifier" not in again.connack.properties
    assert builtin.client(5, "").connack.properties["assigned_client_identifier"] != assigned


# Keep alive


def test_silence_ends_the_connection(builtin, version):
    """After 1.5 times the keepalive, and the will is published [3:MQTT-3.1.2-24] [5:MQTT-3.1.2-22]; also where the
    client receives all the time."""
    will_topic, noise = fresh("will"), fresh("noise")
    publisher = builtin.client(version)
    publisher.subscribe(will_topic)
    started = time.monotonic()
    client = builtin.client(version, keepalive=1, will=wire.will(will_topic, b"silent"))
    client.subscribe(noise)
    while not publisher.inbox:
        publisher.publish(noise, b"x")
        assert time.monotonic() - started < PATIENCE, "it is long overdue"
    assert time.monotonic() - started > 1.4
    publisher.receive(will_topic, b"silent")
    while client.inbox and client.inbox[0].kind == "PUBLISH":
        client.receive(noise)
    last = None
    with pytest.raises(Closed):
        while True:
            last = client.take()
    assert version < 5 or (last.kind, last.code) == ("DISCONNECT", KEEP_ALIVE_TIMEOUT)


def test_any_packet_is_a_sign_of_life(builtin, version):
    """[3:MQTT-3.1.2-23] [5:MQTT-3.1.2-20]; and keepalive 0 never ends a connection, however silent."""
    silent, publisher = builtin.client(version, keepalive=0), builtin.client(version, keepalive=0)
    pinging, publishing, acknowledging = (builtin.client(version, keepalive=4) for _ in range(3))
    topic = fresh("topic")
    acknowledging.subscribe(topic, 1)
    control = builtin.client(version, keepalive=4)  # the last: it would go after the others
    while not select.select([control], [], [], 0.2)[0]:
        pinging.send(wire.PINGREQ)
        publishing.send(wire.publish(version, fresh("other"), b""))
        publisher.publish(topic, b"", 1)
        acknowledging.receive(topic)
    control.ends(KEEP_ALIVE_TIMEOUT)
    pinging.sync()
    for client in (publishing, acknowledging, silent):
        client.nothing()


# What MQTT 5 says in CONNACK, and asks for


def test_what_connack_says(builtin):
    """3.2.2.3: the limits, and only what differs from the specification's defaults."""
    said = builtin.client(5).connack.properties
    assert said["receive_maximum"] == 20
    assert said["topic_alias_maximum"] == 10
    assert said["maximum_packet_size"] == 1 << 20
    for name in ("retain_available", "wildcard_subscription_available", "shared_subscription_available",
                 "subscription_identifier_available"):
        assert said.get(name, 1) == 1
    assert "maximum_qos" not in said, "all of them [MQTT-3.2.2-9]"
    assert "server_keep_alive" not in said and "session_expiry_interval" not in said


@pytest.mark.parametrize("asked", [None, 0, 1])
def test_response_information_only_where_it_was_asked_for(builtin, asked):
    """[5:MQTT-3.1.2-28]"""
    properties = {} if asked is None else {"request_response_information": asked}
    said = builtin.client(5, properties=properties).connack.properties
    assert asked == 1 or "response_information" not in said


def test_no_explanations_where_they_are_not_wanted(builtin):
    """[5:MQTT-3.1.2-29]"""
    client = builtin.client(5, properties={"request_problem_information": 0})
    client.send(wire.ack("PUBREL", 77), wire.unsubscribe(5, 5, [fresh("unknown")]), wire.ack("PUBREC", 78))
    for kind in ("PUBCOMP", "UNSUBACK", "PUBREL"):
        assert client.answer(kind).properties == {}


def test_enhanced_authentication_is_refused(builtin):
    """There is no method that it knows [MQTT5 4.12]."""
    for method in ("SCRAM-SHA-256", "GS2-KRB5", ""):
        client = builtin.client(5, code=BAD_METHOD, properties={"authentication_method": method,
                                                               "authentication_data": b"x"})
        client.ends()


def test_authentication_data_without_a_method(builtin):
    """3.1.2.11.10: a protocol error."""
    connection = builtin.dial(5)
    connection.send(wire.connect(5, fresh("client"), values={"authentication_data": b"x"}))
    connection.ends(PROTOCOL_ERROR)


@pytest.mark.parametrize("code", [0x18, 0x19])
def test_auth_that_nobody_began(builtin, code):
    """[5:MQTT-4.12.0-6]: no AUTH where CONNECT had no method."""
    client = builtin.client(5)
    client.send(wire.auth(code, {"authentication_method": "GUESS"}))
    client.ends(PROTOCOL_ERROR)


def test_auth_is_unknown_to_3_1_1(builtin):
    client = builtin.client(4)
    client.send(wire.auth(0x18))
    client.ends()


# The end


def test_disconnect_closes(builtin, version):
    """[MQTT-3.14.4-1, -2]; what comes after it is not looked at."""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic)
    client = builtin.client(version)
    client.send(wire.disconnect(version), wire.publish(version, topic, b"x"), wire.PINGREQ)
    client.ends()
    watcher.nothing()


def test_a_stopped_daemon_says_good_bye(make_builtin, version):
    """MQTT 5 clients are told that it shuts down [MQTT5 4.13]."""
    site = make_builtin()
    client = site.client(version)
    assert site.daemon.stop() == 0
    client.ends(0x8B)
