"""MQTT 5: what the two sides allow each other: topic aliases, messages in flight, sizes."""
import pytest

from harness import wire
from harness.client import fresh

PROTOCOL_ERROR, RECEIVE_MAXIMUM, ALIAS_INVALID, TOO_LARGE = 0x82, 0x93, 0x94, 0x95


# Topic aliases [MQTT-3.3.2-7 to -12]


def test_aliases_of_a_publisher(builtin):
    """Each may be set, used and set anew, and is of this connection alone [MQTT-3.3.2-7, -12]; the subscriber sees
    topics [MQTT-3.3.2-3]."""
    one, two = fresh("topic"), fresh("topic")
    watcher = builtin.client(5)
    watcher.subscribe_all([(one, 1), (two, 1)])
    client, other = builtin.client(5, keep=True), builtin.client(5)
    for sender, topic, alias, expected in (
            (client, one, 1, one), (client, "", 1, one), (client, two, 10, two), (client, "", 1, one),
            (client, "", 10, two), (other, two, 1, two), (other, "", 1, two), (client, "", 1, one),
            (client, two, 1, two), (client, "", 1, two)):
        for qos in (0, 1, 2):
            sender.publish(topic, b"x", qos, properties={"topic_alias": alias})
            watcher.receive(expected)
    watcher.nothing()


def test_aliases_do_not_outlive_the_connection(builtin):
    """[MQTT-3.3.2-7]: also where the session does."""
    client = builtin.client(5, keep=True)
    client.publish(fresh("topic"), b"x", 1, properties={"topic_alias": 1})
    client.disconnect()
    client = builtin.client(5, client.client_id, keep=True)
    client.send_publish("", b"x", 1, properties={"topic_alias": 1})
    client.ends(PROTOCOL_ERROR)


@pytest.mark.parametrize("alias", [0, 11, 65535])
@pytest.mark.parametrize("qos", [0, 1])
def test_an_alias_out_of_range(builtin, alias, qos):
    """[MQTT-3.3.2-8, -9]: 0x94"""
    client = builtin.client(5)
    client.send_publish(fresh("topic"), b"x", qos, properties={"topic_alias": alias})
    client.ends(ALIAS_INVALID)


def test_an_unknown_alias(builtin):
    """3.3.4: 0x82, as is neither topic nor alias."""
    for properties in ({"topic_alias": 5}, None):
        client = builtin.client(5)
        client.send_publish("", b"x", 1, properties=properties)
        client.ends(PROTOCOL_ERROR)


def test_no_alias_for_who_knows_none(builtin):
    """[MQTT-3.1.2-27]: with a Topic Alias Maximum of 0, or none. The client checks that no alias comes."""
    topic = fresh("topic")
    for properties in ({}, {"topic_alias_maximum": 0}):
        client = builtin.client(5, properties=properties)
        client.subscribe(topic)
        for _ in range(5):
            client.publish(topic, b"x")
            assert client.receive(topic).named


@pytest.mark.parametrize("maximum", [1, 3, 65535])
def test_aliases_for_a_subscriber(builtin, maximum):
    """At most as many as it takes [MQTT-3.1.2-26], each with its topic at first; more topics than aliases are no
    trouble; and they begin anew with each connection."""
    root = fresh("root")
    properties = {"topic_alias_maximum": maximum, "session_expiry_interval": 60}
    client = builtin.client(5, keep=True, properties=properties)
    client.subscribe(f"{root}/#", 1)
    publisher = builtin.client(5)
    for _ in range(2):
        aliased = 0
        for number in range(40):
            topic = f"{root}/{number % 5}"
            publisher.publish(topic, b"%d" % number, number % 2)
            message = client.receive(topic, b"%d" % number)
            aliased += not message.named
        assert aliased, "they are of use"
        client.disconnect()
        client = builtin.client(5, client.client_id, keep=True, properties=properties)


# Flow control


def test_the_clients_receive_maximum(builtin):
    """Only PUBLISH of QoS 1 and 2 waits; QoS 0, acknowledgements and PINGRESP do not [MQTT-3.3.4-9] [MQTT-4.9.0-2, -3].
    The client checks that it is kept to."""
    topic = fresh("topic")
    client = builtin.client(5, properties={"receive_maximum": 2})
    client.subscribe(topic, 2)
    publisher = builtin.client(5)
    for number in range(6):
        publisher.publish(topic, b"%d" % number, 1 + number % 2)
    first, second = (client.expect("PUBLISH", payload=b"%d" % number) for number in range(2))
    client.nothing()
    publisher.publish(topic, b"free", 0)
    client.receive(topic, b"free", qos=0)
    assert client.publish(fresh("topic"), b"x", 1) in (0, 0x10)
    client.release(99)
    client.subscribe(fresh("topic"))
    client.nothing()
    # PUBREC does not make room, PUBCOMP does [MQTT5 4.9].
    client.ack("PUBREC", second.pid)
    client.expect("PUBREL", pid=second.pid)
    client.nothing()
    client.ack("PUBCOMP", second.pid)
    third = client.expect("PUBLISH", payload=b"2")
    client.nothing()
    client.ack("PUBACK", first.pid)
    fourth = client.expect("PUBLISH", payload=b"3")
    client.acknowledge(third)
    client.receive(topic, b"4")
    client.acknowledge(fourth)
    client.receive(topic, b"5")
    client.nothing()


def test_too_many_from_a_client(builtin):
    """More unreleased QoS 2 than the Receive Maximum of 20: 0x93 [MQTT-3.3.4-7], 3.3.4."""
    client = builtin.client(5)
    for pid in range(1, 21):
        client.send_publish(fresh("topic"), b"x", 2, pid=pid)
        client.expect("PUBREC", pid=pid)
    client.sync()
    client.send_publish(fresh("topic"), b"x", 2, pid=21)
    client.ends(RECEIVE_MAXIMUM)


def test_room_for_more(builtin):
    """PUBCOMP makes room [MQTT5 4.9]."""
    client = builtin.client(5)
    for pid in range(1, 21):
        client.send_publish(fresh("topic"), b"x", 2, pid=pid)
        client.expect("PUBREC", pid=pid)
    for pid in range(1, 11):
        client.release(pid)
    for pid in range(21, 31):
        client.send_publish(fresh("topic"), b"x", 2, pid=pid)
        client.expect("PUBREC", pid=pid)
    client.sync()


# Maximum Packet Size


def test_what_is_too_large_for_a_client_is_not_sent(builtin):
    """As if it had been, and the slot is free [MQTT-3.1.2-24, -25]; others get it."""
    topic = fresh("topic")
    client = builtin.client(5, keep=True, properties={"maximum_packet_size": 100, "receive_maximum": 1,
                                                      "session_expiry_interval": 60})
    client.subscribe(topic, 2)
    other = builtin.client(5)
    other.subscribe(topic, 2)
    publisher = builtin.client(5)
    for qos in (0, 1, 2):
        publisher.publish(topic, b"x" * 200, qos)
        publisher.publish(topic, b"%d" % qos, qos)
        client.receive(topic, b"%d" % qos)
        other.receive(topic, b"x" * 200)
        other.receive(topic, b"%d" % qos)
    client.nothing()
    publisher.publish(topic, b"x", 1, properties={"user_property": [("k", "v" * 100)]})
    client.nothing()
    client.disconnect()
    builtin.client(5, client.client_id, keep=True).nothing()


def test_exactly_as_large_as_allowed(builtin):
    topic = fresh("topic")
    client = builtin.client(5, properties={"maximum_packet_size": 100})
    client.subscribe(topic, 1)
    room = 100 - 2 - (2 + len(topic) + 2 + 1)
    client.publish(topic, b"x" * (room + 1), 1)
    client.publish(topic, b"y" * room, 1)
    assert client.receive(topic, b"y" * room).size == 100
    client.nothing()


def test_even_connack_is_kept_small(builtin):
    """[MQTT-3.1.2-24]: it comes without what does not fit, or the connection ends without it."""
    for size in (1, 4, 5, 8, 16, 40):
        connection = builtin.dial(5)
        connection.limits = {"maximum_packet_size": size}
        connection.send(wire.connect(5, "", values={"maximum_packet_size": size}))
        answer = connection.peek()
        assert answer is None or answer.size <= size


def test_too_large_for_the_broker(make_builtin, version):
    """More than it says in CONNACK: 0x95 [MQTT-3.2.2-15]; what is as large as that is good."""
    site = make_builtin(packet_size="1KiB")
    client = site.client(version)
    if version == 5:
        assert client.connack.properties["maximum_packet_size"] == 1024
    client.subscribe("t")
    head = 2 + 1 + (version == 5)
    client.publish("t", b"x" * (1024 - 3 - head))
    client.receive("t")
    client.send(wire.publish(version, "t", b"x" * (1024 - 3 - head + 1)))
    client.ends(TOO_LARGE)
