"""What the broker has acknowledged survives kill -9."""
import os
import random
import select
import time

import pytest

from harness import wire
from harness.client import fresh
from harness.sensor import Sensor, Subscriber
from harness.stall import Disk
from harness.wait import TimedOut, wait_until


def crash(site):
    site.kill9()
    site.start()


def stop(site):
    site.restart()


BOTH_ENDS = pytest.mark.parametrize("end", [crash, stop])


# Under load


DEEP = {"queued_messages": 100000, "queued_bytes": "64MiB"}


@pytest.mark.limit(300)
@pytest.mark.parametrize("qos", [1, 2])
def test_killed_at_any_moment(make_builtin, qos):
    """Nothing acknowledged is lost; QoS 2 neither lost nor doubled; order is kept [MQTT-4.3.2, 4.3.3, 4.6.0-6]."""
    under_load(make_builtin(**DEEP), qos)


def under_load(site, qos, before_the_kill=lambda site: None, after_it=lambda: None):
    """Kills it a dozen times, and looks at what has arrived."""
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    topic = fresh("topic")
    subscribers = [Subscriber(site.port, version, f"{topic}/+", qos).start() for version in (4, 5)]
    away = site.client(5, keep=True)
    away.subscribe(f"{topic}/0", qos)
    away.disconnect()
    sensors = [Sensor(site.port, version, f"{topic}/{number}", lambda n, number=number: b"%d %d" % (number, n), qos)
               for number, version in enumerate((4, 5, 5))]
    for one in sensors:
        one.start()
    for _ in range(12):
        goals = [len(one.acknowledged) + chance.randrange(1, 150) for one in sensors]
        wait_until(lambda: any(one.violations for one in sensors + subscribers) or all(
            len(one.acknowledged) >= goal for one, goal in zip(sensors, goals)), f"progress (seed {seed})",
                   progress=lambda: sum(len(one.acknowledged) for one in sensors))
        before_the_kill(site)
        site.kill9()
        after_it()
        site.start()
    sent = {b"%d %d" % (number, n) for number, one in enumerate(sensors) for n in one.stop()}
    for one in subscribers:
        wait_until(lambda: one.violations or set(one.received) >= sent, f"all to arrive (seed {seed})",
                   progress=lambda: len(one.received))
        one.end()
        judge(one.received, qos, seed)
    away = site.client(5, away.client_id, keep=True)
    expected = {payload for payload in sent if payload.startswith(b"0 ")}
    queued = []
    while not expected <= set(queued):
        queued.append(away.receive().payload)
    judge(queued, qos, seed)
    assert len(sent) > 500, "there was load"


def judge(payloads, qos, seed):
    """No gaps, no doubles of QoS 2, and the first copies in order."""
    by_sensor = {}
    for payload in payloads:
        number, n = map(int, payload.split())
        by_sensor.setdefault(number, []).append(n)
    for number, came in by_sensor.items():
        first = list(dict.fromkeys(came))
        assert qos < 2 or len(first) == len(came), f"sensor {number}: doubled (seed {seed})"
        assert first == sorted(first), f"sensor {number}: out of order (seed {seed})"


# What is acknowledged is durable


def test_what_was_just_acknowledged(make_builtin, version):
    """Killed at once after CONNACK, SUBACK, UNSUBACK, PUBACK, PUBREC and PUBCOMP."""
    site = make_builtin()
    topic = fresh("topic")
    client = site.client(version, keep=True)
    crash(site)
    client = site.client(version, client.client_id, keep=True)
    assert client.present, "CONNACK"
    client.subscribe(topic, 2)
    crash(site)
    publisher = site.client(version, keep=True)
    publisher.publish(topic, b"1", 1)
    crash(site)
    client = site.client(version, client.client_id, keep=True)
    client.receive(topic, b"1", qos=1)
    publisher = site.client(version, publisher.client_id, keep=True)
    publisher.send_publish(topic, b"2", 2, pid=7)
    publisher.expect("PUBREC", pid=7)
    crash(site)
    publisher = site.client(version, publisher.client_id, keep=True)
    publisher.send_publish(topic, b"2", 2, pid=7, dup=True)
    publisher.expect("PUBREC", pid=7)
    publisher.send(wire.ack("PUBREL", 7))
    assert publisher.expect("PUBCOMP", pid=7).code == 0
    crash(site)
    publisher = site.client(version, publisher.client_id, keep=True)
    assert publisher.release(7) == (0x92 if version == 5 else 0), "the identifier is gone before PUBCOMP"
    client = site.client(version, client.client_id, keep=True)
    message = client.take()
    if message.payload == b"1":  # its PUBACK need not have been remembered
        assert message.dup
        client.acknowledge(message)
        message = client.take()
    assert message.payload == b"2" and message.qos == 2
    client.acknowledge(message)
    client.unsubscribe(topic)
    crash(site)
    publisher = site.client(version, publisher.client_id, keep=True)
    publisher.publish(topic, b"3", 1)
    client = site.client(version, client.client_id, keep=True)
    client.sync()
    assert not [one for one in client.inbox if one.kind == "PUBLISH" and one.payload == b"3"], "UNSUBACK"


@BOTH_ENDS
def test_a_session_as_it_was(make_builtin, version, end):
    """Subscriptions with options and identifiers, what is queued and in flight both ways, in its order, with its
    properties [MQTT-4.1.0-1] [MQTT-4.4.0-1]."""
    site = make_builtin()
    topic = fresh("topic")
    client = site.client(version, keep=True)
    client.subscribe(f"{topic}/1", 2, identifier=5 if version == 5 else None, as_published=version == 5)
    client.subscribe(f"{topic}/own", 1, no_local=version == 5)
    publisher = site.client(version, keep=True)
    values = {"content_type": "a", "response_topic": "r", "correlation_data": b"\0", "payload_format_indicator": 1,
              "user_property": [("b", "1"), ("a", "2"), ("b", "1")]} if version == 5 else {}
    for number in range(6):
        publisher.publish(f"{topic}/1", b"%d" % number, 1 + number % 2, retain=number == 3, properties=values)
    first = [client.expect("PUBLISH", payload=b"%d" % number) for number in range(6)]
    client.ack("PUBACK", first[0].pid)
    client.ack("PUBREC", first[1].pid)
    client.expect("PUBREL", pid=first[1].pid)
    client.sync()
    end(site)
    publisher = site.client(version, publisher.client_id, keep=True)
    publisher.publish(f"{topic}/1", b"new", 1)
    client = site.client(version, client.client_id, keep=True)
    assert client.present
    if client.peek().pid == first[0].pid:
        client.receive(payload=b"0", dup=True)
    client.expect("PUBREL", pid=first[1].pid)
    client.ack("PUBCOMP", first[1].pid)
    for message in first[2:]:
        assert message.retain == (message.payload == b"3" and version == 5)
        again = client.receive(f"{topic}/1", message.payload, dup=True, pid=message.pid, qos=message.qos,
                               retain=message.retain)
        assert again.properties == {**values, **({"subscription_identifier": [5]} if version == 5 else {})}
    new = client.receive(f"{topic}/1", b"new", dup=False)
    assert new.pid == 7, "identifiers go on"
    client.publish(f"{topic}/own", b"x", 1)
    if version < 5:
        client.receive(f"{topic}/own")
    client.nothing()
    client.publish(f"{topic}/1", b"", 1, retain=True)
    client.receive(f"{topic}/1", b"", retain=version == 5)


@BOTH_ENDS
def test_what_has_ended_does_not_come_back(make_builtin, version, end):
    """A session after a clean start, and a will that was published."""
    site = make_builtin()
    watcher = site.client(version, keep=True)
    watcher.subscribe("will", 1)
    client = site.client(version, keep=True, will=wire.will("will", b"gone", qos=1))
    client.subscribe("t", 1)
    client.close()
    watcher.receive("will", b"gone")
    ended = site.client(version, keep=True)
    ended.subscribe("t", 1)
    ended.disconnect()
    site.client(version, ended.client_id).disconnect()
    watcher.publish("kept", b"what is acknowledged now is durable, and all before it", 1, retain=True)
    end(site)
    watcher = site.client(version, watcher.client_id, keep=True)
    watcher.publish("will", b"marker", 1)
    while (message := watcher.receive("will")).dup:  # its PUBACK need not have been remembered
        assert message.payload == b"gone"
    assert message.payload == b"marker"
    assert not site.client(version, ended.client_id, keep=True).present
    assert site.client(version, client.client_id, keep=True).present


@BOTH_ENDS
def test_retained_messages(make_builtin, version, end):
    """Those that are there and not those that were deleted or replaced [MQTT-3.3.1-5, -6]."""
    site = make_builtin()
    client = site.client(version)
    for number in range(30):
        client.publish(f"kept/{number}", b"old", 1, retain=True)
        if number % 3:
            client.publish(f"kept/{number}", b"new" if number % 3 == 1 else b"", number % 2 + 1, retain=True)
    end(site)
    client = site.client(version)
    client.subscribe("kept/+", 2)
    expected = {f"kept/{number}": b"new" if number % 3 else b"old" for number in range(30) if number % 3 != 2}
    got = {message.topic: message.payload for message in (client.receive(retain=True) for _ in expected)}
    assert got == expected
    client.nothing()


@pytest.mark.parametrize("keep", [True, False])
def test_a_will_is_published_after_a_crash(make_builtin, version, keep):
    """The connection has ended without DISCONNECT [MQTT-3.1.2-8]; whether the session outlives it is another matter."""
    site = make_builtin()
    watcher = site.client(version, keep=True)
    watcher.subscribe("will", 1)
    client = site.client(version, keep=keep, will=wire.will("will", b"gone", qos=1, retain=True))
    site.client(version, will=wire.will("will", b"not this one", qos=1)).disconnect()
    client.publish("kept", b"what is acknowledged now is durable, and all before it", 1, retain=True)
    crash(site)
    watcher = site.client(version, watcher.client_id, keep=True)
    watcher.receive("will", b"gone", qos=1, retain=False)
    watcher.nothing()
    late = site.client(version)
    late.subscribe("will")
    late.receive("will", b"gone", retain=True)


def delayed_will(site, topic, delay, payload):
    return site.client(5, clean=False, properties={"session_expiry_interval": 3600}, will=wire.will(
        topic, payload, qos=1, values={"will_delay_interval": delay, "user_property": [("a", "b")]}))


@BOTH_ENDS
def test_a_will_that_waits(make_builtin, end):
    """Its delay goes on while the daemon is down; a reconnect after the restart still cancels it [5:MQTT-3.1.3-9]."""
    site = make_builtin()
    for delay in (3, 12, 48):  # until the restart is quicker than that
        topic = fresh("will")
        watcher = site.client(5, keep=True)
        watcher.subscribe(topic, 1)
        cancelled = delayed_will(site, topic, delay, b"cancelled")
        closed = time.monotonic()
        cancelled.close()
        delayed_will(site, topic, delay + 1, b"late").close()
        watcher.publish("kept", b"what is acknowledged now is durable, and all before it", 1, retain=True)
        end(site)
        site.client(5, cancelled.client_id, keep=True)
        if time.monotonic() - closed < delay:
            break
    watcher = site.client(5, watcher.client_id, keep=True)
    assert watcher.receive(topic, b"late").properties == {"user_property": [("a", "b")]}


@BOTH_ENDS
def test_expiry_goes_on_while_it_is_down(make_builtin, end):
    """Of messages, of retained ones, and of sessions [5:MQTT-3.1.2-23] [5:MQTT-3.3.2-5, -6]."""
    site = make_builtin()
    client = site.client(5, keep=True)
    client.subscribe("t", 1)
    short = site.client(5, clean=False, properties={"session_expiry_interval": 2})
    client.disconnect()
    short.disconnect()
    publisher = site.client(5)
    for topic, retain in (("t", False), ("kept", True)):
        publisher.publish(topic, b"short", 1, retain=retain, properties={"message_expiry_interval": 2})
        publisher.publish(f"{topic}", b"long", 1, retain=retain, properties={"message_expiry_interval": 100})
    publisher.publish("gone", b"short", 1, retain=True, properties={"message_expiry_interval": 2})
    if end is crash:
        site.kill9()
    else:
        assert site.daemon.stop() == 0
    time.sleep(2.2)  # the outage
    site.start()
    assert not site.client(5, short.client_id, keep=True).present
    client = site.client(5, client.client_id, keep=True)
    assert client.receive("t", b"long").properties["message_expiry_interval"] in range(60, 99)
    client.subscribe("kept")
    assert client.receive("kept", b"long").properties["message_expiry_interval"] in range(60, 99)
    client.subscribe("gone")
    client.nothing()


def test_without_a_state_file_nothing_outlives(make_builtin, version):
    """state empty: sessions and retained messages last as long as the process, and all works."""
    site = make_builtin(state="")
    client = site.client(version, keep=True)
    client.subscribe("t", 2)
    client.disconnect()
    publisher = site.client(version)
    for qos in (1, 2):
        publisher.publish("t", b"%d" % qos, qos, retain=True)
    client = site.client(version, client.client_id, keep=True)
    assert client.present
    for qos in (1, 2):
        client.receive("t", b"%d" % qos)
    crash(site)
    client = site.client(version, client.client_id, keep=True)
    assert not client.present
    client.subscribe("t")
    client.nothing()


# A disk that stands still


@pytest.fixture
def disk(tmp_path):
    disk = Disk(tmp_path, "/broker.db")
    yield disk
    disk.go_on()


@pytest.mark.parametrize("qos", [1, 2])
def test_no_acknowledgement_before_it_is_durable(make_builtin, disk, version, qos):
    """While the disk stands still nothing is acknowledged that must be kept, and all else goes on."""
    site = make_builtin(environment=disk.environment)
    topic = fresh("topic")
    away = site.client(version, keep=True)
    away.subscribe(topic, qos)
    away.disconnect()
    publisher, keeper = (site.client(version, keep=True) for _ in range(2))
    passer_by, newcomer = site.client(version), site.dial(version)
    other = fresh("other")
    with disk.stalled():
        publisher.send_publish(topic, b"x", qos, pid=7)
        keeper.send(wire.subscribe(version, 5, [(other, qos)]))
        newcomer.send(wire.connect(version, fresh("new"), clean=False, values={"session_expiry_interval": 60}))
        assert passer_by.subscribe(other, 2) == 2
        for passing in (0, 1, 2):
            passer_by.publish(f"{topic}/of/nobody", b"x", passing)
        publisher.nothing()
        with pytest.raises(TimedOut):
            newcomer.read(0.1)
        assert not select.select([keeper], [], [], 0)[0]
    publisher.expect("PUBACK" if qos == 1 else "PUBREC", pid=7)
    keeper.expect("SUBACK", pid=5)
    newcomer.expect("CONNACK", code=0)
    if qos == 2:
        with disk.stalled():
            publisher.send(wire.ack("PUBREL", 7))
            publisher.nothing()
        publisher.expect("PUBCOMP", pid=7)
    site.client(version, away.client_id, keep=True).receive(topic, b"x", qos=qos)


def test_qos_2_goes_out_when_it_is_durable(make_builtin, disk, version):
    """Otherwise a crash would give its identifier to another message; so does PUBREL after PUBREC, so that the message
    is not sent again [MQTT-4.3.3-1] [5:MQTT-4.3.3-3 to -6]. QoS 1 may go at once."""
    site = make_builtin(environment=disk.environment)
    topic = fresh("topic")
    subscriber = site.client(version, keep=True)
    subscriber.subscribe(topic, 2)
    publisher = site.client(version)
    publisher.send_publish(topic, b"2", 2, pid=1)
    publisher.expect("PUBREC")
    with disk.stalled():
        publisher.send(wire.ack("PUBREL", 1))
        publisher.nothing()
        subscriber.nothing()
    message = subscriber.expect("PUBLISH", payload=b"2", qos=2)
    publisher.expect("PUBCOMP")
    with disk.stalled():
        subscriber.ack("PUBREC", message.pid)
        subscriber.nothing()
        publisher.send_publish(topic, b"1", 1, pid=2)
        publisher.nothing()
        subscriber.expect("PUBLISH", payload=b"1", qos=1)
    subscriber.expect("PUBREL", pid=message.pid)


@pytest.mark.parametrize("qos", [1, 2])
def test_killed_while_the_disk_stands_still(make_builtin, disk, version, qos):
    """What was not acknowledged may be sent again, and is there once then."""
    site = make_builtin(environment=disk.environment)
    topic = fresh("topic")
    subscriber, publisher = site.client(version, keep=True), site.client(version, keep=True)
    subscriber.subscribe(topic, qos)
    disk.stall()
    publisher.send_publish(topic, b"x", qos, pid=7)
    publisher.nothing()
    site.kill9()
    disk.go_on()
    site.start()
    publisher = site.client(version, publisher.client_id, keep=True)
    publisher.send_publish(topic, b"x", qos, pid=7, dup=True)
    publisher.answer("PUBACK" if qos == 1 else "PUBREC", 7)
    if qos == 2:
        publisher.release(7)
    subscriber = site.client(version, subscriber.client_id, keep=True)
    subscriber.receive(topic, b"x")
    subscriber.sync()
    assert qos == 1 or not subscriber.inbox


@pytest.mark.limit(300)
def test_killed_again_and_again_while_the_disk_stands_still(make_builtin, disk):
    """Under load, so that each time much has been taken in, and perhaps sent, that is not durable."""
    def stall(site):
        disk.stall()
        for _ in range(10):
            site.client(5).sync()

    under_load(make_builtin(environment=disk.environment, **DEEP), 2, stall, disk.go_on)


# The state file


def refuses_to_start(site):
    """Starts it and returns what it says."""
    with pytest.raises(AssertionError):
        site.daemon.start()
    assert site.daemon.wait() not in (0, 78), "neither well nor the configuration's fault"
    return site.log.text()


@pytest.mark.parametrize("damage", ["garbage", "overwritten", "cut"])
def test_a_damaged_state_file(make_builtin, damage):
    """A clear error that names the file and a way out; and nothing is thrown away."""
    site = make_builtin()
    client = site.client(5, keep=True)
    client.subscribe("t/#", 1)
    client.disconnect()
    publisher = site.client(5)
    for number in range(200):
        publisher.publish(f"t/{number}", b"x" * 1000, 1, retain=True)
    assert site.daemon.stop() == 0
    path = site.daemon.configuration.path("state/broker.db")
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        if damage == "garbage":
            file.write(b"this is no database at all " * 100)
        elif damage == "cut":
            file.truncate(size // 2)
        else:
            for at in range(4096, size, 4096):
                file.seek(at)
                file.write(b"\xa5" * 2000)
    with open(path, "rb") as file:
        before = file.read()
    said = refuses_to_start(site)
    assert "broker.db" in said
    assert any(word in said for word in ("damaged", "malformed", "not a database", "corrupt")), said
    with open(path, "rb") as file:
        assert file.read() == before, "the file is left as it is"
    os.rename(path, path + ".damaged")
    for suffix in ("-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.rename(path + suffix, path + ".damaged" + suffix)
    site.start()
    assert not site.client(5, client.client_id, keep=True).present


def test_a_state_file_in_use(make_builtin):
    """Two daemons do not share one."""
    site = make_builtin()
    other = make_builtin(state=site.daemon.configuration.path("state/broker.db"), start=False)
    assert "broker.db" in refuses_to_start(other)
    site.client(5).nothing()


def test_a_state_file_that_cannot_be_made(make_builtin):
    site = make_builtin(state="/nonexistent/broker.db", start=False)
    with pytest.raises(AssertionError):
        site.daemon.start()
    assert site.daemon.wait() != 0
    assert "/nonexistent" in site.log.text()
