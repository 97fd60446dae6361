"""Wills: published on every end but a normal one, as what the client would have published itself."""
import time

import pytest

from harness import wire
from harness.client import fresh

WITH_WILL, KEEP_ALIVE_TIMEOUT = 0x04, 0x8D


def closed(client, _site):
    client.close()


def reset(client, _site):
    client.reset()


def malformed(client, _site):
    client.send(b"\xff" * 6)


def second_connect(client, _site):
    client.send(wire.connect(client.version, client.client_id))


def silence(client, _site):
    client.ends(KEEP_ALIVE_TIMEOUT)


def taken_over(client, site):
    site.client(client.version, client.client_id, keep=True)


def taken_over_and_dropped(client, site):
    site.client(client.version, client.client_id)


@pytest.mark.parametrize("end", [closed, reset, malformed, second_connect, silence, taken_over, taken_over_and_dropped])
@pytest.mark.parametrize("keep", [True, False])
def test_published_on_every_end_but_a_normal_one(builtin, version, end, keep):
    """[MQTT-3.1.2-8]; the session's own end has nothing to do with it."""
    topic = fresh("will")
    watcher = builtin.client(version)
    watcher.subscribe(topic, 2)
    client = builtin.client(version, keep=keep, keepalive=int(end is silence), will=wire.will(topic, b"gone", qos=1))
    if end is not silence:
        watcher.nothing()
    end(client, builtin)
    watcher.receive(topic, b"gone", qos=1, retain=False, dup=False)
    watcher.nothing()


def test_not_published_after_disconnect(builtin, version):
    """[MQTT-3.1.2-10] [3:MQTT-3.14.4-3] [5:MQTT-3.14.4-3]; nor where there is none [3:MQTT-3.1.2-12]."""
    topic = fresh("will")
    watcher = builtin.client(version)
    watcher.subscribe(topic)
    client = builtin.client(version, keep=True, will=wire.will(topic, b"gone"))
    client.disconnect()
    watcher.nothing()
    builtin.client(version, client.client_id, keep=True).close()  # which has none
    builtin.client(version).publish(topic, b"marker")
    watcher.receive(topic, b"marker")


@pytest.mark.parametrize("code", [WITH_WILL, 0x80, 0x83, 0x97, 0x99])
def test_published_after_disconnect_with_another_reason(builtin, code):
    """[5:MQTT-3.14.4-3]: only 0x00 discards it."""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    client = builtin.client(5, will=wire.will(topic, b"wanted"))
    client.disconnect(code)
    watcher.receive(topic, b"wanted")


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("retain", [False, True])
def test_qos_and_retain(builtin, version, qos, retain):
    """[3:MQTT-3.1.2-16, -17] [5:MQTT-3.1.2-14, -15]"""
    topic = fresh("will")
    watcher = builtin.client(version)
    watcher.subscribe(topic, 2)
    builtin.client(version, will=wire.will(topic, b"gone", qos=qos, retain=retain)).close()
    watcher.receive(topic, b"gone", qos=qos, retain=False)
    late = builtin.client(version)
    late.subscribe(topic, 2)
    if retain:
        late.receive(topic, b"gone", qos=qos, retain=True)
        watcher.publish(topic, b"", retain=True)
    else:
        late.nothing()


def test_of_zero_length(builtin, version):
    """3.1.3.3: allowed, and like any other; retained, it deletes [MQTT-3.3.1-10]."""
    topic = fresh("will")
    watcher = builtin.client(version)
    watcher.publish(topic, b"old", retain=True)
    watcher.subscribe(topic)
    watcher.receive(topic, b"old", retain=True)
    builtin.client(version, will=wire.will(topic, b"", retain=True)).close()
    watcher.receive(topic, b"")
    late = builtin.client(version)
    late.subscribe(topic)
    late.nothing()


def test_to_oneself(builtin, version):
    """A client whose session goes on gets its own will."""
    topic = fresh("will")
    client = builtin.client(version, keep=True, will=wire.will(topic, b"me", qos=1))
    client.subscribe(topic, 1)
    client.close()
    client = builtin.client(version, client.client_id, keep=True)
    client.receive(topic, b"me", qos=1)


def test_the_will_is_that_of_the_last_connect(builtin, version):
    """[MQTT-3.1.2-7]: a reconnect replaces it, or takes it away."""
    topic = fresh("will")
    watcher = builtin.client(version)
    watcher.subscribe(topic)
    client = builtin.client(version, keep=True, will=wire.will(topic, b"first"))
    client.disconnect()
    client = builtin.client(version, client.client_id, keep=True, will=wire.will(topic, b"second"))
    client.close()
    watcher.receive(topic, b"second")
    builtin.client(version, client.client_id, keep=True).close()
    builtin.client(version).publish(topic, b"marker")
    watcher.receive(topic, b"marker")


def test_the_properties_of_a_will(builtin):
    """MQTT5 3.1.3.2; user properties in their order [5:MQTT-3.1.3-10]."""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    values = {"payload_format_indicator": 1, "message_expiry_interval": 100, "content_type": "text/plain",
              "response_topic": "answers/here", "correlation_data": b"\0\xff",
              "user_property": [("b", "1"), ("a", "2"), ("b", "1")]}
    builtin.client(5, will=wire.will(topic, b"gone", values=values)).close()
    got = watcher.receive(topic, b"gone").properties
    assert got.pop("message_expiry_interval") in (99, 100)
    values.pop("message_expiry_interval")
    assert got == values


# Will delay


def delayed(site, topic, delay, expiry=3600, payload=b"late"):
    return site.client(5, clean=False, properties={"session_expiry_interval": expiry}, will=wire.will(
        topic, payload, qos=1, values={"will_delay_interval": delay}))


@pytest.mark.parametrize("delay, expiry", [(1, 3600), (3600, 1), (0xFFFFFFFF, 1), (1, 0xFFFFFFFF)])
def test_at_the_earlier_of_delay_and_session_end(builtin, delay, expiry):
    """[5:MQTT-3.1.2-8], 3.1.3.2.2"""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    client = delayed(builtin, topic, delay, expiry)
    closed_at = time.monotonic()
    client.close()
    watcher.receive(topic, b"late")
    assert time.monotonic() - closed_at > 0.9
    watcher.nothing()


def test_a_delay_means_nothing_where_the_session_ends_at_once(builtin):
    """3.1.3.2.2: whichever happens first."""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    delayed(builtin, topic, 3600, expiry=0).close()
    watcher.receive(topic, b"late")


def test_a_reconnect_within_the_delay_cancels(builtin):
    """[5:MQTT-3.1.3-9]"""
    for delay in (2, 8, 32):  # until the reconnect is quicker than that
        topic = fresh("will")
        watcher = builtin.client(5)
        watcher.subscribe(topic)
        client = delayed(builtin, topic, delay)
        closed_at = time.monotonic()
        client.close()
        again = builtin.client(5, client.client_id, keep=True)
        if time.monotonic() - closed_at < delay:
            break
    assert again.present
    delayed(builtin, topic, delay + 1, payload=b"of another, and later").close()
    watcher.receive(topic, b"of another, and later")
    again.close()
    watcher.nothing()


def test_a_take_over_within_the_delay_cancels(builtin):
    """[5:MQTT-3.1.3-9], 3.1.4: the connection is made before the delay has passed."""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    client = delayed(builtin, topic, 1)
    builtin.client(5, client.client_id, keep=True)
    delayed(builtin, topic, 2, payload=b"of another, and later").close()
    watcher.receive(topic, b"of another, and later")


def test_a_clean_start_ends_the_session_and_so_the_delay(builtin):
    """[5:MQTT-3.1.2-4], 3.1.3.2.2: the session ends, which publishes the will."""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    client = delayed(builtin, topic, 3600)
    client.close()
    watcher.nothing()
    assert not builtin.client(5, client.client_id).present
    watcher.receive(topic, b"late")


def test_disconnect_with_will_waits_for_the_delay(builtin):
    """3.14.2.1: 0x04 is an end like others."""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    client = delayed(builtin, topic, 1)
    left_at = time.monotonic()
    client.disconnect(WITH_WILL)
    watcher.receive(topic, b"late")
    assert time.monotonic() - left_at > 0.9


def test_disconnect_that_ends_the_session_ends_the_delay(builtin):
    """3.14.2.2.2: the new expiry counts."""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    client = delayed(builtin, topic, 3600)
    client.disconnect(WITH_WILL, {"session_expiry_interval": 0})
    watcher.receive(topic, b"late")


def test_the_expiry_of_the_message_begins_when_it_is_published(builtin):
    """3.1.3.2.4: the will's Message Expiry Interval is the message's, from its publication on."""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    builtin.client(5, clean=False, properties={"session_expiry_interval": 3600}, will=wire.will(
        topic, b"late", values={"will_delay_interval": 2, "message_expiry_interval": 1})).close()
    assert watcher.receive(topic, b"late").properties["message_expiry_interval"] == 1
