"""PUBLISH and its acknowledgements, both ways."""
import itertools

import pytest

from harness import wire
from harness.cases import cases
from harness.client import fresh

MALFORMED, PROTOCOL_ERROR, TOPIC_INVALID, NOT_FOUND = 0x81, 0x82, 0x90, 0x92
NO_SUBSCRIBERS = 0x10


def publish_packet(flags, topic, pid, version):
    body = len(topic).to_bytes(2, "big") + topic
    body += pid.to_bytes(2, "big") if pid is not None else b""
    return wire.packet("PUBLISH", body + (b"\0" if version == 5 else b"") + b"x", flags)


# What is no PUBLISH


@pytest.mark.parametrize("flags, topic, pid", cases(
    (0b0110, b"a", 1, "QoS 3 [MQTT-3.3.1-4]"),
    (0b0111, b"a", 1, "QoS 3, retained [MQTT-3.3.1-4]"),
    (0b1000, b"a", None, "DUP with QoS 0 [MQTT-3.3.1-2]"),
    (0b0010, b"a", 0, "packet identifier 0, QoS 1 [MQTT-2.3.1-1] [MQTT5 2.2.1-3]"),
    (0b0100, b"a", 0, "packet identifier 0, QoS 2 [MQTT-2.3.1-1] [MQTT5 2.2.1-3]"),
    (0b0000, b"a/#", None, "a wildcard [MQTT-3.3.2-2]"),
    (0b0010, b"+/a", 1, "a wildcard [MQTT-3.3.2-2]"),
    (0b0000, b"a+", None, "a wildcard [MQTT-3.3.2-2]"),
    (0b0010, b"", 1, "an empty topic [MQTT-4.7.3-1]"),
))
def test_malformed(builtin, version, flags, topic, pid):
    client = builtin.client(version)
    client.send(publish_packet(flags, topic, pid, version))
    client.ends(MALFORMED, PROTOCOL_ERROR, TOPIC_INVALID)


@pytest.mark.parametrize("body", ["", "00", "0001", "000261", "000161", "00016100"], ids=lambda body: body or "none")
def test_cut_short(builtin, version, body):
    """Of QoS 1: it ends within topic, packet identifier or properties."""
    client = builtin.client(version)
    client.send(wire.packet("PUBLISH", bytes.fromhex(body), 2))
    client.ends(MALFORMED)


# Strings

_BAD_TEXT = {
    "cut sequence": b"a\xc3", "stray byte": b"\x80", "overlong": b"\xc0\xaf", "overlong 3": b"\xe0\x80\xaf",
    "surrogate": b"\xed\xa0\x80", "surrogate pair": b"\xed\xa0\xbd\xed\xb8\x80", "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80", "U+0000": b"a\0b",
}


@pytest.mark.parametrize("bad", _BAD_TEXT.values(), ids=_BAD_TEXT)
def test_ill_formed_text(builtin, version, bad):
    """[3:MQTT-1.5.3-1, -2] [5:MQTT-1.5.4-1, -2], wherever a string stands."""
    connects = [wire.connect(version, bad), wire.connect(version, fresh("client"), username=bad),
                wire.connect(version, fresh("client"), will=wire.will(bad, b"x"))]
    packets = [wire.publish(version, bad, b"x"), wire.subscribe(version, 1, [(bad, 0)]),
               wire.unsubscribe(version, 1, [bad])]
    if version == 5:
        connects += [wire.connect(5, fresh("client"), values={"user_property": [(bad, "b")]}),
                     wire.connect(5, fresh("client"), values={"user_property": [("a", bad)]}),
                     wire.connect(5, fresh("client"), will=wire.will("a", b"x", values={"content_type": bad}))]
        packets += [wire.publish(5, "a", b"x", values={name: bad}) for name in ("content_type", "response_topic")]
        packets += [wire.publish(5, "a", b"x", values={"user_property": [pair]}) for pair in ((bad, "b"), ("a", bad))]
        packets += [wire.ack("PUBREL", 1, 0, {"reason_string": bad}), wire.disconnect(5, 0, {"reason_string": bad})]
    for connect in connects:
        connection = builtin.dial(version)
        connection.send(connect)
        connection.ends(MALFORMED, PROTOCOL_ERROR)
    for packet in packets:
        client = builtin.client(version)
        client.send(packet)
        client.ends(MALFORMED, PROTOCOL_ERROR, TOPIC_INVALID)


@pytest.mark.parametrize("topic", ["/", "//", " ", "a b", "/a/", "\ufeffa", "h\u00f6he/\u2708/\U0001f6e9",
                                   "a/" * 90 + "z", "t" * 65535])
def test_topics_that_are_good(builtin, version, topic):
    """[MQTT-4.7.3-1 to -3] [3:MQTT-1.5.3-3] [5:MQTT-1.5.4-3]: U+FEFF is a character like others."""
    client = builtin.client(version)
    assert client.subscribe(topic, 1) == 1
    client.publish(topic, b"x", 1)
    client.receive(topic, b"x")
    client.unsubscribe(topic)


@pytest.mark.parametrize("payload", [b"", b"\0", bytes(range(256)), b"x" * 127, b"x" * 128, b"x" * 16384,
                                     b"x" * 1000000], ids=len)
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_any_payload(builtin, version, payload, qos):
    """3.3.3"""
    client, topic = builtin.client(version), fresh("topic")
    client.subscribe(topic, 2)
    client.publish(topic, payload, qos)
    client.receive(topic, payload, qos=qos)


# To the broker


def test_qos_0_is_answered_by_nothing(builtin, version):
    """[3:MQTT-3.3.4-1] [5:MQTT-3.3.4-1]"""
    client = builtin.client(version)
    client.send(wire.publish(version, fresh("topic"), b"x"))
    client.nothing()


def test_qos_1(builtin, version):
    """[MQTT-4.3.2-2 to -5]: PUBACK with its identifier; the same identifier then is another message, also with DUP."""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic, 1)
    client = builtin.client(version)
    for payload, dup in ((b"1", False), (b"2", False), (b"2", True)):
        assert client.publish(topic, payload, 1, pid=65535, dup=dup) == 0
        watcher.receive(topic, payload, qos=1, dup=False)


def test_qos_2_is_delivered_once(builtin, version):
    """A repeat before PUBREL is acknowledged and not delivered twice; after PUBCOMP the identifier is new
    [3:MQTT-4.3.3-2] [5:MQTT-4.3.3-10, -12]."""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic, 2)
    client = builtin.client(version)
    for payload in (b"first", b"second"):
        for dup in (False, True, True):
            client.send_publish(topic, payload, 2, pid=5, dup=dup)
            client.expect("PUBREC", pid=5, code=0)
        client.send(wire.ack("PUBREL", 5))
        client.expect("PUBCOMP", pid=5, code=0)
        watcher.receive(topic, payload, qos=2, dup=False)
    watcher.nothing()


def test_qos_2_after_a_reconnect(builtin, version):
    """The exchange goes on where it was [MQTT-4.4.0-1]."""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic, 2)
    client = builtin.client(version, keep=True)
    for pid in (1, 2):
        client.send_publish(topic, b"%d" % pid, 2, pid=pid)
        client.expect("PUBREC", pid=pid)
    client.send(wire.ack("PUBREL", 2))
    client.expect("PUBCOMP", pid=2)
    client.reset()
    client = builtin.client(version, client.client_id, keep=True)
    assert client.release(1) == 0
    assert client.release(2) == (NOT_FOUND if version == 5 else 0)
    assert {watcher.receive(topic).payload for _ in range(2)} == {b"1", b"2"}
    watcher.nothing()


def test_pubrel_of_an_unknown_identifier(builtin, version):
    """PUBCOMP all the same [3:MQTT-4.3.3-2]; MQTT 5 says 0x92 [5:MQTT-4.3.3-11]."""
    client = builtin.client(version)
    assert client.release(4711) == (NOT_FOUND if version == 5 else 0)


def test_identifiers_of_the_two_directions_are_different_things(builtin, version):
    """2.3.1: client and server assign theirs independently."""
    topic = fresh("topic")
    client = builtin.client(version)
    client.subscribe(topic, 2)
    client.send_publish(topic, b"x", 2, pid=1)
    client.expect("PUBREC", pid=1)
    client.send(wire.ack("PUBREL", 1))
    message = client.answer("PUBLISH", 1)
    client.answer("PUBCOMP", 1)
    client.send_publish(topic, b"y", 2, pid=1)
    client.answer("PUBREC", 1)
    client.acknowledge(message)
    client.release(1)
    client.acknowledge(client.answer("PUBLISH", 2))
    client.nothing()


def test_no_matching_subscribers(builtin):
    """MQTT5 3.4.2.1: 0x10 where nobody has subscribed, 0 where somebody has."""
    topic = fresh("topic")
    client = builtin.client(5)
    assert client.publish(topic, b"x", 1) == NO_SUBSCRIBERS
    assert client.publish(topic, b"x", 2) == NO_SUBSCRIBERS
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    assert client.publish(topic, b"x", 1) == 0
    assert client.publish(topic, b"x", 2) == 0


def test_acknowledgements_come_in_the_order_of_the_messages(builtin, version):
    """[MQTT-4.6.0-2, -3]; of several sorts of messages mixed."""
    topic = fresh("topic")
    watcher = builtin.client(version, keep=True)
    watcher.subscribe(f"{topic}/wanted", 1)
    client = builtin.client(version, keep=True)
    sent = []
    for number in range(18):  # under the Receive Maximum
        qos = 1 + number % 2
        client.send_publish(f"{topic}/{'wanted' if number % 3 else 'unwanted'}", b"x", qos, pid=100 + number)
        sent.append(("PUBACK" if qos == 1 else "PUBREC", 100 + number))
    came = [client.take() for _ in sent]
    for kind in ("PUBACK", "PUBREC"):
        assert [one.pid for one in came if one.kind == kind] == [pid for name, pid in sent if name == kind]


# From the broker


@pytest.mark.parametrize("published, granted", itertools.product((0, 1, 2), repeat=2))
def test_the_delivered_qos_is_the_lower_one(builtin, version, published, granted):
    """[3:MQTT-3.8.4-6] [5:MQTT-3.8.4-8]; and the whole exchange belongs to it."""
    topic = fresh("topic")
    watcher = builtin.client(version)
    assert watcher.subscribe(topic, granted) == granted
    builtin.client(version).publish(topic, b"x", published)
    watcher.receive(topic, b"x", qos=min(published, granted))
    watcher.nothing()


def test_of_overlapping_subscriptions_the_highest_qos(builtin, version):
    """[3:MQTT-3.3.5-1] [5:MQTT-3.3.4-2]: one copy, or one for each subscription."""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe_all([(f"{topic}/a", 0), (f"{topic}/+", 2), (f"{topic}/#", 1)])
    publisher = builtin.client(version)
    publisher.publish(f"{topic}/a", b"x", 2)
    publisher.publish(f"{topic}/b", b"marker", 1)
    came = [watcher.receive()]
    while came[-1].payload != b"marker":
        came.append(watcher.receive())
    assert sorted(message.qos for message in came if message.payload == b"x") in ([2], [0, 1, 2])


def test_dup_is_not_handed_on(builtin, version):
    """[MQTT-3.3.1-3]"""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic, 2)
    client = builtin.client(version)
    for qos in (1, 2):
        client.publish(topic, b"x", qos, dup=True)
        watcher.receive(topic, b"x", qos=qos, dup=False)


def test_packet_identifiers_of_deliveries_count(builtin, version):
    """1, 2, 3 for each session [MQTT-2.3.1-4] [MQTT5 2.2.1-4], on over a reconnect, with none for QoS 0."""
    topic = fresh("topic")
    watcher = builtin.client(version, keep=True)
    watcher.subscribe(topic, 2)
    publisher = builtin.client(version)
    for qos in (1, 0, 2, 1):
        publisher.publish(topic, b"x", qos)
    assert [message.pid for message in watcher.receive_all(4)] == [1, 0, 2, 3]
    watcher.disconnect()
    publisher.publish(topic, b"x", 1)
    watcher = builtin.client(version, watcher.client_id, keep=True)
    assert watcher.receive().pid == 4


def test_packet_identifiers_begin_anew(make_builtin):
    """After 65535 comes 1, or the first that is not in use [MQTT-2.3.1-4] [MQTT5 2.2.1-4]."""
    site = make_builtin(inflight=1000)
    topic = fresh("topic")
    watcher, publisher = site.client(4), site.client(4)
    watcher.subscribe(topic, 1)
    publisher.publish(topic, b"kept back", 1)
    held = watcher.expect("PUBLISH", pid=1)
    expected = [*range(2, 65536), *range(2, 40)]
    for first in range(0, len(expected), 500):
        pids = expected[first:first + 500]
        publisher.send(*[wire.publish(4, topic, b"", qos=1, pid=pid) for pid in pids])
        assert [watcher.expect("PUBLISH", topic=topic).pid for _ in pids] == pids
        watcher.ack_all("PUBACK", pids)
        assert [publisher.expect("PUBACK").pid for _ in pids] == pids
    watcher.acknowledge(held)
    watcher.nothing()


def test_after_pubrec_only_pubrel_is_repeated(builtin, version):
    """[MQTT-4.3.3-1] [5:MQTT-4.3.3-4 to -7] [MQTT-4.4.0-1]"""
    topic = fresh("topic")
    watcher = builtin.client(version, keep=True)
    watcher.subscribe(topic, 2)
    builtin.client(version).publish(topic, b"x", 2)
    message = watcher.expect("PUBLISH", topic=topic)
    watcher.ack("PUBREC", message.pid)
    watcher.expect("PUBREL", pid=message.pid)
    watcher.reset()
    watcher = builtin.client(version, watcher.client_id, keep=True)
    watcher.expect("PUBREL", pid=message.pid)
    watcher.ack("PUBCOMP", message.pid)
    watcher.nothing()
    watcher.reset()
    builtin.client(version, watcher.client_id, keep=True).nothing()


def test_a_refused_delivery_is_over(builtin):
    """PUBREC of 0x80 or more ends the exchange and frees the slot [5:MQTT-4.3.3-4]; so does PUBACK [5:MQTT-4.4.0-2]."""
    topic = fresh("topic")
    watcher = builtin.client(5, keep=True, properties={"receive_maximum": 1})
    watcher.subscribe(topic, 2)
    publisher = builtin.client(5)
    for qos in (2, 1, 2):
        publisher.publish(topic, b"%d" % qos, qos)
    watcher.ack("PUBREC", watcher.expect("PUBLISH", payload=b"2").pid, 0x83)
    watcher.ack("PUBACK", watcher.expect("PUBLISH", payload=b"1").pid, 0x99)
    watcher.ack("PUBREC", watcher.expect("PUBLISH", payload=b"2").pid, 0x80)
    watcher.nothing()
    watcher.close()
    builtin.client(5, watcher.client_id, keep=True).nothing()


def test_what_is_unacknowledged_comes_again(builtin, version):
    """On reconnect, with DUP, the same identifiers, in the original order, PUBREL among them; what waited behind
    follows without DUP [MQTT-4.4.0-1] [MQTT-3.3.1-1] [MQTT-4.6.0-1]."""
    topic = fresh("topic")
    limits = {"receive_maximum": 4, "session_expiry_interval": 60} if version == 5 else None
    watcher = builtin.client(version, keep=True, properties=limits)
    watcher.subscribe(topic, 2)
    publisher = builtin.client(version)
    for number, qos in enumerate((1, 2, 1, 2, 1, 2)):
        publisher.publish(topic, b"%d" % number, qos)
    first = [watcher.expect("PUBLISH", payload=b"%d" % number) for number in range(4)]
    watcher.ack("PUBREC", first[1].pid)
    watcher.answer("PUBREL", first[1].pid)
    watcher.reset()
    for _ in range(2):
        watcher = builtin.client(version, watcher.client_id, keep=True, properties=limits)
        again = [watcher.take() for _ in range(4)]
        assert [packet.kind for packet in again] == ["PUBLISH", "PUBREL", "PUBLISH", "PUBLISH"]
        assert [packet.pid for packet in again] == [packet.pid for packet in first]
        assert [packet.payload for packet in again if packet.kind == "PUBLISH"] == [b"0", b"2", b"3"]
        assert all(packet.dup for packet in again if packet.kind == "PUBLISH")
        if version == 5:
            watcher.nothing()
        watcher.reset()
    watcher = builtin.client(version, watcher.client_id, keep=True, properties=limits)
    for packet in [watcher.take() for _ in range(4)]:
        if packet.kind == "PUBREL":
            watcher.ack("PUBCOMP", packet.pid)
        else:
            watcher.acknowledge(packet)
    rest = [watcher.receive(dup=version < 5) for _ in range(2)]
    assert [message.payload for message in rest] == [b"4", b"5"]
    assert [message.pid for message in rest] == [5, 6]
    watcher.nothing()


def test_nothing_is_repeated_on_the_same_connection(builtin):
    """[5:MQTT-4.4.0-1]: only on a reconnect."""
    topic = fresh("topic")
    watcher = builtin.client(5)
    watcher.subscribe(topic, 2)
    publisher = builtin.client(5)
    publisher.publish(topic, b"x", 1)
    publisher.publish(topic, b"y", 2)
    watcher.expect("PUBLISH", payload=b"x")
    watcher.expect("PUBLISH", payload=b"y")
    other = builtin.client(5, keepalive=1)
    other.ends(0x8D)  # more than a second later
    watcher.nothing()


@pytest.mark.parametrize("qos, state, wrong", [
    (1, None, "PUBREC"), (1, None, "PUBCOMP"), (2, None, "PUBACK"), (2, None, "PUBCOMP"), (2, "PUBREC", "PUBACK"),
])
def test_the_wrong_kind_of_acknowledgement(builtin, version, qos, state, wrong):
    """For an identifier that is in flight: it closes [3:MQTT-4.8.0-1] [5:MQTT-4.13.1-1]."""
    topic = fresh("topic")
    watcher = builtin.client(version, keep=True)
    watcher.subscribe(topic, 2)
    builtin.client(version).publish(topic, b"x", qos)
    message = watcher.expect("PUBLISH")
    if state:
        watcher.ack(state, message.pid)
        watcher.expect("PUBREL")
    watcher.send(wire.ack(wrong, message.pid))
    watcher.ends(PROTOCOL_ERROR)
    assert builtin.client(version, watcher.client_id, keep=True).take().pid == message.pid, "it is still due"


def test_pubrec_of_an_unknown_identifier(builtin, version):
    """PUBREL, so that the client can end it; MQTT 5 says 0x92, 3.6.2.1."""
    client = builtin.client(version)
    client.send(wire.ack("PUBREC", 4711))
    assert client.expect("PUBREL", pid=4711).code == (NOT_FOUND if version == 5 else 0)
    client.send(wire.ack("PUBCOMP", 4711))
    client.nothing()


def test_a_repeated_acknowledgement_is_no_offence(builtin, version):
    """3.1.1 clients repeat PUBREC and PUBCOMP when they are unsure, 4.3.3; an identifier that is not in flight has
    nothing wrong with it."""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic, 2)
    builtin.client(version).publish(topic, b"x", 2)
    message = watcher.receive(topic)
    watcher.send(wire.ack("PUBCOMP", message.pid), wire.ack("PUBACK", 999))
    watcher.nothing()


# Order


@pytest.mark.parametrize("published, granted, away", [(0, 0, False), (1, 0, False)] + [
    (published, granted, away) for published, granted in ((1, 1), (2, 2), (2, 1)) for away in (False, True)])
def test_order(builtin, version, published, granted, away):
    """Of one publisher's messages of a topic and QoS, as many at once as may be, also through the queue
    [3:MQTT-4.6.0-6] [5:MQTT-4.6.0-6]."""
    topic = fresh("topic")
    watcher = builtin.client(version, keep=True)
    watcher.subscribe(topic, granted)
    if away:
        watcher.disconnect()
    publisher = builtin.client(version)
    for first in range(0, 200, 20):  # the Receive Maximum
        pids = [publisher.send_publish(topic, b"%d" % number, published) for number in range(first, first + 20)]
        if published == 1:
            assert [publisher.expect("PUBACK").pid for _ in pids] == pids, "[MQTT-4.6.0-2]"
        elif published == 2:
            assert [publisher.expect("PUBREC").pid for _ in pids] == pids, "[MQTT-4.6.0-3]"
            publisher.send(*[wire.ack("PUBREL", pid) for pid in pids])
            assert [publisher.expect("PUBCOMP").pid for _ in pids] == pids
    if away:
        watcher = builtin.client(version, watcher.client_id, keep=True)
    assert [watcher.receive(topic).payload for _ in range(200)] == [b"%d" % number for number in range(200)]
    watcher.nothing()


def test_deliveries_of_several_qos_keep_their_order(builtin, version):
    """A subscriber that acknowledges late, and out of order, gets the rest in order all the same [MQTT-4.6.0-6]."""
    topic = fresh("topic")
    limits = {"receive_maximum": 5} if version == 5 else {}
    watcher = builtin.client(version, properties=limits)
    watcher.subscribe(topic, 2)
    publisher = builtin.client(version)
    for number in range(30):
        publisher.publish(topic, b"%d" % number, 1 + number % 2)
    held, came = [], []
    while len(came) < 30:
        message = watcher.expect("PUBLISH")
        came.append(int(message.payload))
        held.append(message)
        if len(held) == 5:
            for one in (held[3], held[0], held[4], held[2], held[1]):
                watcher.acknowledge(one)
            held.clear()
    assert came == list(range(30))
