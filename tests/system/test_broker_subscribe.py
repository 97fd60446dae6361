"""SUBSCRIBE, UNSUBSCRIBE, and which topics a filter matches."""
import collections

import pytest

from harness import wire
from harness.cases import cases
from harness.client import fresh

MALFORMED, PROTOCOL_ERROR, FILTER_INVALID, NO_SUBSCRIPTION = 0x81, 0x82, 0x8F, 0x11


def head(version):
    return b"\0\1" + (b"\0" if version == 5 else b"")


def text(word):
    return len(word).to_bytes(2, "big") + word


# What is no SUBSCRIBE


@pytest.mark.parametrize("kind, body, flags", cases(
    ("SUBSCRIBE", b"", 2, "no filter [MQTT-3.8.3-3] [MQTT5 3.8.3-2]"),
    ("UNSUBSCRIBE", b"", 2, "no filter [MQTT-3.10.3-2]"),
    ("SUBSCRIBE", text(b"a"), 2, "no options"),
    ("SUBSCRIBE", b"\0\5a\0", 2, "a filter cut short"),
    ("SUBSCRIBE", text(b"a") + b"\3", 2, "QoS 3 [MQTT-3-8.3-4] [MQTT5 3.8.3-5]"),
    ("SUBSCRIBE", text(b"a") + b"\x40", 2, "reserved bit 6 [MQTT-3-8.3-4] [MQTT5 3.8.3-5]"),
    ("SUBSCRIBE", text(b"a") + b"\x80", 2, "reserved bit 7 [MQTT-3-8.3-4] [MQTT5 3.8.3-5]"),
    ("SUBSCRIBE", text(b"a") + b"\0" + text(b"b") + b"\3", 2, "QoS 3 of the second"),
    ("SUBSCRIBE", text(b"") + b"\0", 2, "an empty filter [MQTT-4.7.3-1]"),
    ("UNSUBSCRIBE", text(b""), 2, "an empty filter [MQTT-4.7.3-1]"),
    ("UNSUBSCRIBE", b"\0\5a", 2, "a filter cut short"),
    ("SUBSCRIBE", text(b"a") + b"\0", 0, "flags [MQTT-3.8.1-1]"),
    ("SUBSCRIBE", text(b"a") + b"\0", 3, "flags [MQTT-3.8.1-1]"),
    ("UNSUBSCRIBE", text(b"a"), 0, "flags [MQTT-3.10.1-1]"),
    ("UNSUBSCRIBE", text(b"a"), 10, "flags [MQTT-3.10.1-1]"),
))
def test_malformed(builtin, version, kind, body, flags):
    client = builtin.client(version)
    client.send(wire.packet(kind, head(version) + body, flags))
    client.ends(MALFORMED, PROTOCOL_ERROR, FILTER_INVALID)


@pytest.mark.parametrize("options", cases(
    (0x30, "Retain Handling 3, 3.8.3.1"), (0x04, "No Local"), (0x08, "Retain As Published"), (0x10, "Retain Handling"),
))
def test_options_of_the_other_version(builtin, version, options):
    """[3:MQTT-3-8.3-4]: all six upper bits are reserved; in MQTT 5 only Retain Handling 3 is wrong."""
    client = builtin.client(version)
    client.send(wire.subscribe(version, 1, [("a", options)]))
    if version == 5 and options != 0x30:
        client.expect("SUBACK", codes=[0])
    else:
        client.ends(MALFORMED, PROTOCOL_ERROR)


@pytest.mark.parametrize("make", cases((lambda version: wire.subscribe(version, 0, [("a", 0)]), "SUBSCRIBE"),
                                       (lambda version: wire.unsubscribe(version, 0, ["a"]), "UNSUBSCRIBE")))
def test_packet_identifier_0(builtin, version, make):
    """[MQTT-2.3.1-1] [MQTT5 2.2.1-3]"""
    client = builtin.client(version)
    client.send(make(version))
    client.ends(MALFORMED, PROTOCOL_ERROR)


# Answers


def test_one_code_for_each_filter_in_order(builtin, version):
    """[3:MQTT-3.8.4-1, -2, -5] [5:MQTT-3.8.4-1, -2, -6] [3:MQTT-3.9.3-1] [5:MQTT-3.9.3-1]"""
    root = fresh("root")
    client = builtin.client(version)
    filters = [(f"{root}/{number}", number % 3) for number in range(50)]
    client.send(wire.subscribe(version, 4711, filters))
    suback = client.expect("SUBACK", pid=4711)
    assert suback.codes == [qos for _, qos in filters]
    client.send(wire.unsubscribe(version, 4712, [f"{root}/7", f"{root}/unknown", f"{root}/8"]))
    unsuback = client.expect("UNSUBACK", pid=4712)
    assert unsuback.codes == ([0, NO_SUBSCRIPTION, 0] if version == 5 else [])


def test_unsubscribing_what_is_not_there(builtin, version):
    """UNSUBACK all the same; MQTT 5 says 0x11 [3:MQTT-3.10.4-5] [5:MQTT-3.10.4-4], 3.11.3."""
    assert builtin.client(version).unsubscribe("never", "ever") == ([NO_SUBSCRIPTION] * 2 if version == 5 else [])


def test_the_filter_must_be_the_same(builtin, version):
    """UNSUBSCRIBE compares character by character [MQTT-3.10.4-1]: a/+ is not a/b."""
    topic = fresh("topic")
    client = builtin.client(version)
    client.subscribe(f"{topic}/+", 1)
    for other in (f"{topic}/b", f"{topic}/#", f"{topic}/+/", "#"):
        assert client.unsubscribe(other) == ([NO_SUBSCRIPTION] if version == 5 else [])
    client.publish(f"{topic}/b", b"x", 1)
    client.receive(f"{topic}/b")


_NO_FILTERS = ["a#", "#/a", "a/#/b", "a/b#", "a+", "+a", "a/b+/c", "a/+b", "##", "++", "$share/g+/a", "$share/#/a"]
_NO_SHARES = ["$share/g", "$share//a", "$share/g/", "$share/"]


@pytest.mark.parametrize("version, bad", [(4, bad) for bad in _NO_FILTERS] + [
    (5, bad) for bad in _NO_FILTERS + _NO_SHARES])
def test_filters_that_are_none(builtin, version, bad):
    """# is the last level and the whole of it, + the whole of one [MQTT-4.7.1-2, -3] [MQTT5 4.7.1-1, -2]; a share has a
    name and a filter [5:MQTT-4.8.2-1, -2]: refused, alone, or the end of the connection."""
    client = builtin.client(version)
    client.send(wire.subscribe(version, 1, [(bad, 0), ("good", 0)]))
    answer = client.peek()
    if answer and answer.kind == "SUBACK":
        assert answer.codes == [FILTER_INVALID if version == 5 else 0x80, 0]
    else:
        client.ends(MALFORMED, PROTOCOL_ERROR, FILTER_INVALID)


# Matching [MQTT-4.7.1-1 to -3] [MQTT-4.7.2-1] [MQTT-4.7.3-4]

_TOPICS = ["a", "A", "b", "ab", "a/b", "a/bc", "a/b/c", "a/", "a//", "a//c", "/", "//", "/b", "/b/"]


@pytest.mark.parametrize("topic_filter, matching", [
    ("a", ["a"]),
    ("a/b", ["a/b"]),
    ("+", ["a", "A", "b", "ab"]),
    ("a/+", ["a/b", "a/bc", "a/"]),
    ("+/+", ["a/b", "a/bc", "a/", "/", "/b"]),
    ("/+", ["/", "/b"]),
    ("/", ["/"]),
    ("//", ["//"]),
    ("a//c", ["a//c"]),
    ("a/+/c", ["a/b/c", "a//c"]),
    ("a/+/+", ["a/b/c", "a//", "a//c"]),
    ("+//+", ["a//", "a//c", "//"]),
    ("#", _TOPICS),
    ("+/#", _TOPICS),
    ("a/#", ["a", "a/b", "a/bc", "a/b/c", "a/", "a//", "a//c"]),
    ("a/b/#", ["a/b", "a/b/c"]),
    ("+/b/#", ["a/b", "a/b/c", "/b", "/b/"]),
    ("/#", ["/", "//", "/b", "/b/"]),
])
def test_what_a_filter_matches(builtin, version, topic_filter, matching):
    """`sport/#` matches `sport`; + and # match empty levels; upper and lower case differ. All of them below a level
    that is the test's own."""
    root = fresh("root")
    client = builtin.client(version)
    client.subscribe(f"{root}/{topic_filter}")
    client.send(*[wire.publish(version, f"{root}/{topic}", b"") for topic in _TOPICS])
    client.sync()
    assert [packet.topic for packet in client.inbox] == [f"{root}/{topic}" for topic in matching]


def test_a_filter_with_a_hash_matches_its_parent_alone(builtin, version):
    """Not a topic of another name that begins alike."""
    root = fresh("root")
    client = builtin.client(version)
    client.subscribe(f"{root}/#")
    for topic in (root, f"{root}x", f"{root}/"):
        client.publish(topic)
    assert [packet.topic for packet in client.inbox] == [root, f"{root}/"]


def test_a_wildcard_at_the_beginning_matches_no_dollar(builtin, version):
    """Neither retained nor live [MQTT-4.7.2-1]; and clients exchange nothing by such topics, 4.7.2."""
    client = builtin.client(version)
    client.subscribe_all([("#", 0), ("+/broker/#", 0), ("+/a", 0)])
    other = builtin.client(version)
    other.subscribe("$SYS/#")
    assert other.receive().topic.startswith("$SYS/")
    other.publish("$SYS/a", b"forged", 1)
    other.publish("$other/a", b"x", 1, retain=True)
    other.sync()
    assert not [packet for packet in other.inbox if packet.payload == b"forged"]
    other.publish("marker/a", b"")
    while client.receive("marker/a") and client.inbox:  # one copy, or one for each subscription
        pass
    client.nothing()


def test_filters_that_begin_with_a_wildcard(builtin, version):
    """They match topics with an empty first level, too."""
    for topic_filter, matching in (("+/+", "/b"), ("/+", "/b"), ("#", "/b"), ("+/b", "/b"), ("+", "b")):
        client = builtin.client(version)
        client.subscribe(topic_filter)
        for topic in ("/b", "b", "b/c/d"):
            client.publish(topic, topic.encode())
        got = {packet.topic for packet in client.inbox}
        assert matching in got and got == {topic for topic in ("/b", "b", "b/c/d")
                                           if wire.matches(topic_filter, topic)}
        client.disconnect()


# Changes


def test_the_same_filter_replaces(builtin, version):
    """Options and identifier; there is one copy [3:MQTT-3.8.4-3] [5:MQTT-3.8.4-3]."""
    topic = fresh("topic")
    client = builtin.client(version)
    for qos, identifier in ((2, 1), (0, None), (1, 3)):
        client.subscribe(topic, qos, identifier=identifier if version == 5 else None)
        client.publish(topic, b"x", 2)
        message = client.receive(topic, b"x", qos=qos)
        assert message.properties.get("subscription_identifier", []) == (
            [identifier] if identifier and version == 5 else [])
        client.nothing()


def test_replacing_a_subscription_loses_nothing(builtin, version):
    """[5:MQTT-3.8.4-4]: while messages flow."""
    topic = fresh("topic")
    client = builtin.client(version)
    client.subscribe(topic, 1)
    publisher = builtin.client(version)
    for number in range(200):
        publisher.send(wire.publish(version, topic, b"%d" % number))
        if number % 4 == 0:
            client.send(wire.subscribe(version, 1 + number, [(topic, 1)]))
    publisher.sync()
    client.sync()
    payloads = [packet.payload for packet in client.inbox if packet.kind == "PUBLISH"]
    assert payloads == [b"%d" % number for number in range(200)]


def test_after_unsubscribe_nothing_new_comes(builtin, version):
    """[MQTT-3.10.4-2, -3]; what is in flight is completed [3:MQTT-3.10.4-3]."""
    topic = fresh("topic")
    client = builtin.client(version, keep=True)
    client.subscribe_all([(topic, 2), (f"{topic}/other", 0)])
    publisher = builtin.client(version)
    publisher.publish(topic, b"1", 1)
    publisher.publish(topic, b"2", 2)
    one, two = (client.expect("PUBLISH") for _ in range(2))
    client.unsubscribe(topic)
    publisher.publish(topic, b"3", 1)
    client.nothing()
    client.ack("PUBREC", two.pid)
    client.expect("PUBREL", pid=two.pid)
    client.reset()
    client = builtin.client(version, client.client_id, keep=True)
    again = client.expect("PUBLISH", pid=one.pid, payload=b"1", dup=True)
    client.expect("PUBREL", pid=two.pid)
    client.ack("PUBACK", again.pid)
    client.ack("PUBCOMP", two.pid)
    client.nothing()
    publisher.publish(f"{topic}/other", b"x")
    client.receive(f"{topic}/other")


def test_many_subscriptions_of_many(builtin, version):
    """Each gets what is its own."""
    root = fresh("root")
    clients = [builtin.client(version) for _ in range(20)]
    for number, client in enumerate(clients):
        client.subscribe_all([(f"{root}/{number}/{leaf}", 1) for leaf in range(20)] + [(f"{root}/all/#", 0)])
    publisher = builtin.client(version)
    for number in range(20):
        publisher.publish(f"{root}/{number}/{number}", b"%d" % number, 1)
    publisher.publish(f"{root}/all", b"all")
    for number, client in enumerate(clients):
        client.receive(f"{root}/{number}/{number}", b"%d" % number)
        client.receive(f"{root}/all", b"all")
        client.nothing()


def test_no_local(builtin):
    """Not to the connection's own client id [5:MQTT-3.8.3-3]; to others, and under another subscription."""
    topic = fresh("topic")
    client = builtin.client(5)
    client.subscribe(topic, 1, no_local=True)
    other = builtin.client(5)
    other.subscribe(topic, 1, no_local=True)
    client.publish(topic, b"mine", 1)
    other.receive(topic, b"mine")
    client.nothing()
    other.publish(topic, b"theirs", 1)
    client.receive(topic, b"theirs")
    other.nothing()
    client.subscribe(f"{topic}/#", 1)
    client.publish(topic, b"mine", 1)
    client.receive(topic, b"mine")
    client.nothing()


def test_no_local_of_ones_own_will_and_of_a_session_that_comes_back(builtin):
    """It is about the client id, not the connection [5:MQTT-3.8.3-3]."""
    topic = fresh("topic")
    client = builtin.client(5, keep=True, will=wire.will(topic, b"will", qos=1))
    client.subscribe(topic, 1, no_local=True)
    client.publish(topic, b"x", 1)
    client.close()
    client = builtin.client(5, client.client_id, keep=True)
    client.nothing()
    client.publish(topic, b"x", 1)
    client.nothing()


# Shared subscriptions (MQTT 5, 4.8.2; 3.1.1 clients may have them too)


def drain(clients):
    """What has come to each, all of it acknowledged."""
    return [[message.payload for message in iter(lambda: next_message(client), None)] for client in clients]


def next_message(client):
    """None where there is none."""
    if not client.inbox:
        client.sync()
    if not client.inbox:
        return None
    return client.receive()


def test_one_delivery_for_each_group(builtin, version):
    """[5:MQTT-4.8.2-3, -4]: to one of its members, with that one's QoS; and to all others."""
    topic, group = fresh("topic"), fresh("group")
    members = [builtin.client(version) for _ in range(4)]
    for member in members:
        assert member.subscribe(f"$share/{group}/{topic}", 1) == 1
    second = builtin.client(version)
    second.subscribe(f"$share/{group}.2/{topic}", 1)
    plain = builtin.client(version)
    plain.subscribe(topic, 1)
    publisher = builtin.client(version)
    wanted = [b"%d" % number for number in range(40)]
    for payload in wanted:
        publisher.publish(topic, payload, 1)
    came = drain(members)
    assert sorted(sum(came, [])) == sorted(wanted)
    assert all(came), "each member has its part"
    assert drain([second, plain]) == [wanted, wanted]


def test_a_member_with_two_ways(builtin):
    """A shared and a plain subscription of one client are two [MQTT5 4.8.2]."""
    topic = fresh("topic")
    client = builtin.client(5)
    client.subscribe(f"$share/{fresh('group')}/{topic}", 1, identifier=1)
    client.subscribe(topic, 1, identifier=2)
    client.publish(topic, b"x", 1)
    identifiers = collections.Counter()
    client.sync()
    while client.inbox:
        identifiers.update(client.receive(topic, b"x").properties["subscription_identifier"])
    assert identifiers == {1: 1, 2: 1}


def test_members_that_go(builtin, version):
    """Whoever has unsubscribed, or whose session has ended, gets no more; the last one gets all."""
    topic, group = fresh("topic"), fresh("group")
    members = [builtin.client(version) for _ in range(3)]
    for member in members:
        member.subscribe(f"$share/{group}/{topic}", 1)
    members[0].unsubscribe(f"$share/{group}/{topic}")
    members[1].disconnect()
    publisher = builtin.client(version)
    for _ in range(10):
        publisher.publish(topic, b"x", 1)
    assert drain([members[0], members[2]]) == [[], [b"x"] * 10]


def test_who_is_there_is_preferred(builtin, version):
    """To a member that is connected, not into the queue of one that is away (MQTT5 4.8.2, which leaves it open)."""
    topic, group = fresh("topic"), fresh("group")
    away = builtin.client(version, keep=True)
    away.subscribe(f"$share/{group}/{topic}", 1)
    away.disconnect()
    publisher = builtin.client(version)
    publisher.publish(topic, b"nobody is there", 1)
    there = builtin.client(version)
    there.subscribe(f"$share/{group}/{topic}", 1)
    for _ in range(6):
        publisher.publish(topic, b"x", 1)
    assert drain([there]) == [[b"x"] * 6]
    away = builtin.client(version, away.client_id, keep=True)
    away.receive(topic, b"nobody is there")
    away.nothing()


def test_what_one_member_has_been_sent_goes_to_no_other(builtin):
    """Not when its session ends [5:MQTT-4.8.2-5], nor while it may come back [5:MQTT-4.8.2-4]."""
    topic, group = fresh("topic"), fresh("group")
    first = builtin.client(5)
    first.subscribe(f"$share/{group}/{topic}", 2)
    publisher = builtin.client(5)
    publisher.publish(topic, b"1", 1)
    publisher.publish(topic, b"2", 2)
    first.expect("PUBLISH", payload=b"1")
    first.expect("PUBLISH", payload=b"2")
    second = builtin.client(5)
    second.subscribe(f"$share/{group}/{topic}", 2)
    first.disconnect()
    second.nothing()
    publisher.publish(topic, b"3", 2)
    second.receive(topic, b"3")


def test_no_local_on_a_shared_subscription(builtin):
    """A protocol error [5:MQTT-3.8.3-4]"""
    client = builtin.client(5)
    client.send(wire.subscribe(5, 1, [(f"$share/{fresh('group')}/a", 4)]))
    client.ends(PROTOCOL_ERROR)


def test_shared_wildcards(builtin):
    """The filter behind the share's name is one like others; the same filter in two groups are two subscriptions."""
    root, group = fresh("root"), fresh("group")
    client = builtin.client(5)
    assert client.subscribe_all([(f"$share/{group}/{root}/+", 1), (f"$share/{group}.b/{root}/#", 1)]) == [1, 1]
    client.publish(f"{root}/a", b"x", 1)
    assert drain([client]) == [[b"x", b"x"]]
    assert client.unsubscribe(f"{root}/+", f"$share/{group}/{root}/+") == [NO_SUBSCRIPTION, 0]
    client.publish(f"{root}/a", b"x", 1)
    assert drain([client]) == [[b"x"]]
