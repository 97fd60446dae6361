"""CONNECT and sessions of the built-in broker: who is let in, what is inherited, when it ends.

Clauses are of MQTT 3.1.1 and 5 alike, unless a 5: or 3: stands before them."""
import select
import threading
import time

import pytest

from harness import wire
from harness.cases import cases
from harness.client import Closed, fresh
from harness.wait import PATIENCE

MALFORMED, PROTOCOL_ERROR, BAD_METHOD, KEEP_ALIVE_TIMEOUT, TAKEN_OVER = 0x81, 0x82, 0x8C, 0x8D, 0x8E


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


# Take-over


@pytest.mark.parametrize("newer", [4, 5])
@pytest.mark.parametrize("keep", [True, False])
def test_the_same_client_id_again(builtin, version, newer, keep):
    """The older goes, and is told [3:MQTT-3.1.4-2] [5:MQTT-3.1.4-3]; the session is inherited or dropped."""
    topic, will_topic = fresh("topic"), fresh("will")
    watcher = builtin.client(version)
    watcher.subscribe(will_topic, 1)
    old = builtin.client(version, keep=True, will=wire.will(will_topic, b"gone", qos=1))
    old.subscribe(topic, 1)
    new = builtin.client(newer, old.client_id, keep=keep)
    assert new.present is keep
    old.ends(TAKEN_OVER)
    watcher.receive(will_topic, b"gone")
    new.nothing()
    watcher.publish(topic, b"for whom?", 1)
    if keep:
        new.receive(topic, b"for whom?")
    new.nothing()
    assert new.publish(will_topic, b"still here", 1) == 0
    watcher.receive(will_topic, b"still here")


def test_the_newest_stays(builtin, version):
    """The end of an older connection throws no newer one out, however they overlap."""
    topic, client_id = fresh("topic"), fresh("client")
    clients = [builtin.client(version, client_id, keep=True)]
    clients[0].subscribe(topic, 1)
    for number in range(50):
        if number % 3 == 0:
            clients[-1].reset()
        elif number % 3 == 1:
            clients[-1].close()
        clients.append(builtin.client(version, client_id, keep=True))
        assert clients[-1].present
    for number, old in enumerate(clients[:-1]):
        if number % 3 == 2:
            old.ends(TAKEN_OVER)
    builtin.client(version).publish(topic, b"to the newest", 1)
    clients[-1].receive(topic, b"to the newest")
    clients[-1].nothing()


def test_one_of_many_at_once_stays(builtin, version):
    """All of one client id at the same time: one is left, and it works."""
    client_id = fresh("client")
    connections = [builtin.dial(version) for _ in range(30)]
    threads = [threading.Thread(target=one.send, args=[wire.connect(version, client_id)]) for one in connections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    left = []
    for connection in connections:
        connection.send(wire.PINGREQ)
        try:
            while connection.take().kind != "PINGRESP":
                pass
            connection.send(wire.PINGREQ)
            while connection.take().kind != "PINGRESP":
                pass
            left.append(connection)
        except Closed:
            pass
    assert left, "all have thrown each other out"
    left[-1].send(wire.subscribe(version, 1, [("a", 0)]))
    left[-1].expect("SUBACK")
    for connection in left[:-1]:
        connection.ends(TAKEN_OVER)


# Session Present


def test_session_present(builtin, version):
    """[3:MQTT-3.2.2-1 to -3] [5:MQTT-3.2.2-2, -3] [3:MQTT-3.1.2-4 to -6] [5:MQTT-3.1.2-4 to -6]"""
    client_id = fresh("client")
    for keep, present in ((False, False), (True, False), (True, True), (True, True), (False, False), (True, False)):
        client = builtin.client(version, client_id, keep=keep)
        assert client.present is present
        client.disconnect()


def test_session_present_is_0_in_a_refusal(builtin):
    """[3:MQTT-3.2.2-4] [5:MQTT-3.2.2-6]"""
    client = builtin.client(5, keep=True)
    client.disconnect()
    refused = builtin.client(5, client.client_id, keep=True, code=BAD_METHOD, properties={
        "authentication_method": "GUESS", "session_expiry_interval": 60})
    assert not refused.present
    refused.ends()
    assert builtin.client(5, client.client_id, keep=True).present, "a refused CONNECT changes nothing"


def test_a_refused_connect_takes_nothing_over(builtin):
    """[MQTT-3.1.4-2]: what is refused is refused before anything else is done."""
    client = builtin.client(5)
    builtin.client(5, client.client_id, code=BAD_METHOD, properties={"authentication_method": "GUESS"}).ends()
    client.nothing()


def test_clean_start_is_of_the_past_alone(builtin):
    """[5:MQTT-3.1.2-4]: Clean Start 1 with a Session Expiry: dropped at the start, kept at the end."""
    client = builtin.client(5, clean=True, properties={"session_expiry_interval": 60})
    client.disconnect()
    again = builtin.client(5, client.client_id, clean=False)
    assert again.present, "kept by its expiry"
    again.disconnect()
    assert not builtin.client(5, client.client_id, clean=False).present, "which the second did not have"


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
    pinging, publishing, acknowledging = (builtin.client(version, keepalive=2) for _ in range(3))
    topic = fresh("topic")
    acknowledging.subscribe(topic, 1)
    control = builtin.client(version, keepalive=2)  # the last: it would go after the others
    while not select.select([control], [], [], 0.2)[0]:
        pinging.send(wire.PINGREQ)
        publishing.send(wire.publish(version, fresh("other"), b""))
        publisher.publish(topic, b"", 1)
        acknowledging.receive(topic)
    control.ends(KEEP_ALIVE_TIMEOUT)
    pinging.sync()
    for client in (publishing, acknowledging, silent):
        client.nothing()


# Session expiry


def test_a_session_of_expiry_0_ends_with_its_connection(builtin):
    """[5:MQTT-3.1.2-23], 3.1.2.11.2: 0, and none at all."""
    for properties in ({}, {"session_expiry_interval": 0}):
        client = builtin.client(5, clean=False, properties=properties)
        assert not client.present
        client.disconnect()
        assert not builtin.client(5, client.client_id, clean=False).present


def test_a_clean_session_ends_with_its_connection(builtin):
    """[3:MQTT-3.1.2-6]"""
    client = builtin.client(4)
    client.disconnect()
    assert not builtin.client(4, client.client_id, keep=True).present


def expired(builtin, watcher, client_id, will_topic):
    """Waits until the session of this client has ended: its will, delayed beyond that, says so [MQTT5 3.1.3.2.2]."""
    watcher.receive(will_topic)
    assert not builtin.client(5, client_id, keep=True).present


def test_a_session_expires(builtin):
    """When its interval has passed, not before [5:MQTT-3.1.2-23]."""
    will_topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(will_topic)
    client = builtin.client(5, clean=False, properties={"session_expiry_interval": 2},
                            will=wire.will(will_topic, b"", values={"will_delay_interval": 3600}))
    client.close()
    again = builtin.client(5, client.client_id, clean=False, properties={"session_expiry_interval": 1},
                           will=wire.will(will_topic, b"", values={"will_delay_interval": 3600}))
    assert again.present
    closed = time.monotonic()
    again.close()
    expired(builtin, watcher, client.client_id, will_topic)
    assert time.monotonic() - closed > 0.9


def test_the_longest_session_expiry_is_for_ever(builtin):
    client = builtin.client(5, clean=False, properties={"session_expiry_interval": 0xFFFFFFFF})
    client.disconnect()
    assert builtin.client(5, client.client_id, keep=True).present


@pytest.mark.parametrize("first, then, present", [(3600, 0, False), (1, 3600, True), (3600, None, True)])
def test_disconnect_changes_the_session_expiry(builtin, first, then, present):
    """MQTT5 3.14.2.2.2"""
    client = builtin.client(5, clean=False, properties={"session_expiry_interval": first})
    client.disconnect(0, None if then is None else {"session_expiry_interval": then})
    if (first, then) == (1, 3600):
        other = builtin.client(5, keepalive=1)
        other.ends(KEEP_ALIVE_TIMEOUT)  # which is after more than a second
    assert builtin.client(5, client.client_id, clean=False).present is present


def test_disconnect_cannot_make_a_session_that_was_not_to_outlive(builtin):
    """[5:MQTT-3.14.2-2], 3.14.2.2.2: from 0 to another is a protocol error."""
    client = builtin.client(5)
    client.send(wire.disconnect(5, 0, {"session_expiry_interval": 10}))
    client.ends(PROTOCOL_ERROR)
    assert not builtin.client(5, client.client_id, clean=False).present


# What a session keeps


def test_a_session_keeps_its_subscriptions_and_what_is_queued(builtin, version):
    """With their options and identifiers, and QoS 1 and 2 that comes meanwhile [MQTT-4.1.0-1] [MQTT-3.1.2-5]."""
    topic = fresh("topic")
    client = builtin.client(version, keep=True)
    client.subscribe(f"{topic}/1", 1, identifier=7 if version == 5 else None)
    client.subscribe(f"{topic}/2", 2, as_published=version == 5)
    client.subscribe(f"{topic}/own", 1, no_local=version == 5)
    client.disconnect()
    publisher = builtin.client(version)
    publisher.publish(f"{topic}/1", b"one", 2)
    publisher.publish(f"{topic}/2", b"two", 2, retain=True)
    publisher.publish(f"{topic}/2", b"three", 1)
    client = builtin.client(version, client.client_id, keep=True)
    one = client.receive(f"{topic}/1", b"one", qos=1, retain=False)
    assert one.properties == ({"subscription_identifier": [7]} if version == 5 else {})
    client.receive(f"{topic}/2", b"two", qos=2, retain=version == 5)
    client.receive(f"{topic}/2", b"three", qos=1)
    client.publish(f"{topic}/own", b"own", 1)
    if version < 5:
        client.receive(f"{topic}/own", b"own")
    client.publish(f"{topic}/2", b"again", 0)
    client.receive(f"{topic}/2", b"again", qos=0)
    client.nothing()
    publisher.publish(f"{topic}/2", b"", retain=True)


def test_a_session_keeps_the_identifiers_of_qos_2(builtin, version):
    """Of messages from the client that are not released: they are not taken twice [MQTT-4.1.0-1] [MQTT-4.3.3-2]."""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic, 2)
    client = builtin.client(version, keep=True)
    client.send_publish(topic, b"once", 2, pid=9)
    client.expect("PUBREC", pid=9)
    client.close()
    client = builtin.client(version, client.client_id, keep=True)
    client.send_publish(topic, b"once", 2, pid=9, dup=True)
    client.expect("PUBREC", pid=9, code=0)
    assert client.release(9) == 0
    watcher.receive(topic, b"once")
    client.publish(topic, b"marker", 2)
    watcher.receive(topic, b"marker")


def test_a_clean_start_forgets_it_all(builtin, version):
    """[MQTT-3.1.2-4] [3:MQTT-3.1.2-6]"""
    topic = fresh("topic")
    client = builtin.client(version, keep=True)
    client.subscribe(topic, 1)
    client.send_publish(fresh("other"), b"x", 2, pid=9)
    client.expect("PUBREC")
    client.disconnect()
    publisher = builtin.client(version)
    publisher.publish(topic, b"for the old one", 1)
    client = builtin.client(version, client.client_id)
    client.nothing()
    publisher.publish(topic, b"for nobody", 1)
    client.nothing()
    assert client.release(9) == (0x92 if version == 5 else 0), "the identifier is forgotten as well"


@pytest.mark.parametrize("first, then", [(4, 5), (5, 4)])
def test_a_session_is_the_same_in_the_other_version(builtin, first, then):
    topic = fresh("topic")
    client = builtin.client(first, keep=True)
    client.subscribe(topic, 1)
    client.disconnect()
    builtin.client(5).publish(topic, b"x", 1, properties={"user_property": [("a", "b")]})
    client = builtin.client(then, client.client_id, keep=True)
    assert client.present
    message = client.receive(topic, b"x")
    assert message.properties == ({"user_property": [("a", "b")]} if then == 5 else {})


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
