"""Sessions of the built-in broker: whose they are, what they keep, when they end.

Clauses are of MQTT 3.1.1 and 5 alike, unless a 5: or 3: stands before them."""
import threading
import time

import pytest

from harness import wire
from harness.client import Closed, fresh

PROTOCOL_ERROR, BAD_METHOD, KEEP_ALIVE_TIMEOUT, TAKEN_OVER = 0x82, 0x8C, 0x8D, 0x8E


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
    client = builtin.client(5, clean=False, properties={"session_expiry_interval": 60},
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
