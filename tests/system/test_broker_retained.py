"""Retained messages."""
import pytest

from harness.client import fresh


def retained(site, version, topic_filter, qos=2, **how):
    """What a new subscription brings, as {topic: message}."""
    client = site.client(version)
    client.subscribe(topic_filter, qos, **how)
    client.sync()
    messages = []
    while client.inbox:
        message = client.take()
        client.acknowledge(message)
        messages.append(message)
    assert all(message.retain for message in messages), "[MQTT-3.3.1-8]"
    topics = [message.topic for message in messages]
    assert len(set(topics)) == len(topics)
    return dict(zip(topics, messages))


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_last_one_of_a_topic(builtin, version, qos):
    """Kept with its QoS, and sent to new subscriptions with RETAIN 1 [3:MQTT-3.3.1-5, -6, -8] [5:MQTT-3.3.1-5, -9]."""
    topic = fresh("topic")
    publisher = builtin.client(version)
    publisher.publish(topic, b"old", 1, retain=True)
    publisher.publish(topic, b"new", qos, retain=True)
    publisher.publish(topic, b"passing", 1)
    got = retained(builtin, version, topic)
    assert got[topic].payload == b"new" and got[topic].qos == qos
    assert retained(builtin, version, topic, 0)[topic].qos == 0


def test_without_the_flag_nothing_is_kept(builtin, version):
    """[3:MQTT-3.3.1-12] [5:MQTT-3.3.1-8]"""
    topic = fresh("topic")
    publisher = builtin.client(version)
    publisher.publish(topic, b"passing", 1)
    assert not retained(builtin, version, topic)
    publisher.publish(topic, b"kept", 1, retain=True)
    publisher.publish(topic, b"", 1)
    assert retained(builtin, version, topic)[topic].payload == b"kept", "an empty one without the flag removes nothing"


def test_an_empty_one_deletes(builtin, version):
    """Is delivered itself, and is not kept [3:MQTT-3.3.1-10, -11] [5:MQTT-3.3.1-6, -7]."""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic, 1)
    publisher = builtin.client(version)
    publisher.publish(topic, b"x", 1, retain=True)
    publisher.publish(topic, b"", 1, retain=True)
    watcher.receive(topic, b"x", retain=False)
    watcher.receive(topic, b"", retain=False)
    assert not retained(builtin, version, topic)
    publisher.publish(topic, b"", 1, retain=True)
    watcher.receive(topic, b"", retain=False)
    assert not retained(builtin, version, topic)


def test_established_subscriptions_see_no_flag(builtin, version):
    """[3:MQTT-3.3.1-9] [5:MQTT-3.3.1-12]"""
    topic = fresh("topic")
    watcher = builtin.client(version)
    watcher.subscribe(topic)
    builtin.client(version).publish(topic, b"x", retain=True)
    watcher.receive(topic, b"x", retain=False)


def test_retain_as_published(builtin):
    """[5:MQTT-3.3.1-13]: the flag as the publisher set it."""
    topic = fresh("topic")
    watcher = builtin.client(5)
    watcher.subscribe(topic, as_published=True)
    publisher = builtin.client(5)
    for retain in (True, False):
        publisher.publish(topic, b"x", retain=retain)
        watcher.receive(topic, b"x", retain=retain)
    again = retained(builtin, 5, topic, as_published=False)
    assert again[topic].retain, "on subscription always"


@pytest.mark.parametrize("topic_filter, expected", [
    ("#", "a a/b a/b/c a//c b /a"), ("a", "a"), ("a/#", "a a/b a/b/c a//c"), ("+", "a b"), ("a/+", "a/b"),
    ("+/+", "a/b /a"), ("a/+/c", "a/b/c a//c"), ("a/b/#", "a/b a/b/c"), ("x/#", ""), ("/+", "/a"), ("/#", "/a"),
    ("+/b/#", "a/b a/b/c"),
])
def test_by_wildcards(builtin, version, topic_filter, expected):
    """The same matches as of live messages [MQTT-4.7.1-2, -3]."""
    root = fresh("root")
    publisher = builtin.client(version)
    topics = "a a/b a/b/c a//c b /a".split(" ")
    for topic in topics:
        publisher.publish(f"{root}/{topic}", topic.encode(), 1, retain=True)
    got = retained(builtin, version, f"{root}/{topic_filter}")
    assert set(got) == {f"{root}/{topic}" for topic in expected.split(" ") if expected}


def test_every_subscribe_brings_them_again(builtin, version):
    """Also of a filter that is subscribed to already [3:MQTT-3.8.4-3] [5:MQTT-3.3.1-9]."""
    topic = fresh("topic")
    client = builtin.client(version)
    client.publish(topic, b"x", 1, retain=True)
    for qos in (1, 0, 1):
        client.subscribe(topic, qos)
        client.receive(topic, b"x", qos=qos, retain=True)
    client.nothing()


def test_retain_handling(builtin):
    """0: each time; 1: if the subscription is new; 2: never [5:MQTT-3.3.1-9 to -11]."""
    topic = fresh("topic")
    client = builtin.client(5)
    client.publish(topic, b"x", 1, retain=True)
    for handling, comes in ((2, False), (1, False), (0, True), (1, False), (0, True)):
        client.subscribe(topic, handling=handling)
        if comes:
            client.receive(topic, b"x", retain=True)
        client.nothing()
    client.unsubscribe(topic)
    client.subscribe(topic, handling=1)
    client.receive(topic, b"x", retain=True)


def test_retain_handling_1_of_a_session_that_was_kept(builtin):
    """The subscription is not new [5:MQTT-3.3.1-10]."""
    topic = fresh("topic")
    client = builtin.client(5, keep=True)
    client.publish(topic, b"x", 1, retain=True)
    client.subscribe(topic, handling=1)
    client.receive(topic)
    client.disconnect()
    client = builtin.client(5, client.client_id, keep=True)
    client.subscribe(topic, handling=1)
    client.nothing()


def test_each_filter_of_one_subscribe(builtin, version):
    """3.8.4: as if each had come alone [3:MQTT-3.8.4-4] [5:MQTT-3.8.4-5]."""
    topic = fresh("topic")
    client = builtin.client(version)
    client.publish(f"{topic}/a", b"x", 1, retain=True)
    client.subscribe_all([(f"{topic}/a", 0), (f"{topic}/+", 1)])
    assert sorted(client.receive(f"{topic}/a", b"x", retain=True).qos for _ in range(2)) == [0, 1]


def test_suback_comes_first(builtin, version):
    """The answer, and then what was kept."""
    topic = fresh("topic")
    client = builtin.client(version, keep=True)
    client.publish(topic, b"x", 1, retain=True)
    for _ in range(5):
        client.sync()
        client.subscribe(topic, 1)
        client.receive(topic, retain=True)


def test_not_for_shared_subscriptions(builtin):
    """[5:MQTT-3.3.1-9], 4.8.2: never on subscribing to one."""
    topic = fresh("topic")
    client = builtin.client(5)
    client.publish(topic, b"x", 1, retain=True)
    client.subscribe(f"$share/{fresh('group')}/{topic}", 1)
    client.nothing()


def test_a_retained_message_is_queued_for_nobody_twice(builtin, version):
    """For a session that is away it is a message like others, without the flag."""
    topic = fresh("topic")
    client = builtin.client(version, keep=True)
    client.subscribe(topic, 1)
    client.disconnect()
    builtin.client(version).publish(topic, b"x", 1, retain=True)
    client = builtin.client(version, client.client_id, keep=True)
    client.receive(topic, b"x", retain=False)
    client.nothing()


def test_many(builtin, version):
    """More than the window lets through at once."""
    root = fresh("root")
    publisher = builtin.client(version)
    for number in range(300):
        publisher.publish(f"{root}/{number}", b"%d" % number, number % 3, retain=True)
    client = builtin.client(version)
    client.subscribe(f"{root}/+", 2)
    got = [client.receive(retain=True) for _ in range(300)]
    assert {message.topic: message.payload for message in got} == {
        f"{root}/{number}": b"%d" % number for number in range(300)}
    client.nothing()


def test_with_its_properties(builtin):
    """[5:MQTT-3.3.2-17 to -20]: kept with it."""
    topic = fresh("topic")
    values = {"payload_format_indicator": 1, "content_type": "text/plain", "response_topic": "r",
              "correlation_data": b"\0", "user_property": [("b", "1"), ("a", "2"), ("b", "1")]}
    builtin.client(5).publish(topic, b"x", 1, retain=True, properties=values)
    assert retained(builtin, 5, topic)[topic].properties == values
    assert retained(builtin, 4, topic)[topic].payload == b"x"


def test_expired_ones_are_gone(builtin):
    """And others say what is left [5:MQTT-3.3.2-5, -6]."""
    root = fresh("root")
    publisher = builtin.client(5)
    publisher.publish(f"{root}/short", b"x", 1, retain=True, properties={"message_expiry_interval": 1})
    publisher.publish(f"{root}/long", b"x", 1, retain=True, properties={"message_expiry_interval": 100})
    builtin.client(5, keepalive=1).ends(0x8D)  # more than a second later
    got = retained(builtin, 5, f"{root}/#")
    assert set(got) == {f"{root}/long"}
    assert got[f"{root}/long"].properties["message_expiry_interval"] in range(60, 100)
