"""A sensor's PUBACK means "committed": what that looks like from the sensor."""
import random

import pytest

from harness import wire
from harness.client import fresh
from harness.mappings import COUNT, READING, count, reading, text_mapping
from harness.sensor import Sensor
from harness.wait import wait_until

PAYLOAD_INVALID, RECEIVE_MAXIMUM, NO_SUBSCRIBERS, NOT_FOUND = 0x99, 0x93, 0x10, 0x92
ACKNOWLEDGEMENT = {1: "PUBACK", 2: "PUBREC"}


def wait_for_the_lock(database):
    wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")


def numbers(database, table="count"):
    return database.column(f"SELECT n FROM telemetry.{table} ORDER BY n")


@pytest.mark.parametrize("qos", [1, 2])
def test_no_acknowledgement_before_the_commit(make_builtin, database, version, qos):
    """Table locked: no PUBACK, but PINGRESP, other clients, and local subscribers at once; released: PUBACK."""
    site = make_builtin(database, [COUNT])
    sensor, subscriber = site.client(version), site.client(version)
    subscriber.subscribe("count/+", 2)
    sensor.publish("count/1", count(0), qos)
    subscriber.receive("count/1", count(0))
    with database.locked("telemetry.count"):
        sensor.send_publish("count/1", count(1), qos, pid=100)
        if qos == 1:
            subscriber.receive("count/1", count(1))
        wait_for_the_lock(database)
        sensor.nothing()
        other = site.client(version)
        for unmapped in (0, 1, 2):
            other.publish(fresh("unmapped"), b"x", unmapped)
        subscriber.publish(fresh("unmapped"), b"x", 2)
        sensor.nothing()
        wait_until(database.backends_waiting_for_a_lock, "the daemon, which waits still")
        assert pending(site) == 1
    sensor.expect(ACKNOWLEDGEMENT[qos], pid=100, code=0)
    assert numbers(database) == [0, 1]
    if qos == 2:
        subscriber.nothing()
        sensor.release(100)
        subscriber.receive("count/1", count(1))


def pending(site):
    """Messages that wait for the database."""
    return site.daemon.metric("sensorlog_messages_pending", source="broker")


@pytest.mark.parametrize("qos", [1, 2])
def test_acknowledgements_keep_their_order(make_builtin, database, version, qos):
    """What needs no commit waits behind what does [MQTT-4.6.0-2, -3]; another's does not."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(version)
    with database.locked("telemetry.count"):
        for pid in range(1, 11):
            sensor.send_publish("count/1" if pid % 2 else fresh("unmapped"), count(pid), qos, pid=pid)
        wait_for_the_lock(database)
        sensor.nothing()
    assert [sensor.expect(ACKNOWLEDGEMENT[qos]).pid for _ in range(10)] == list(range(1, 11))
    assert numbers(database) == [1, 3, 5, 7, 9]


def test_an_acknowledged_reading_is_in_the_table(make_builtin, database, version):
    """Whenever one looks."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(version)
    for n in range(100):
        for copy in range(n % 5):
            sensor.send_publish("count/1", count(-n), 1, pid=1000 + copy)
        for copy in range(n % 5):
            sensor.expect("PUBACK", pid=1000 + copy)
        sensor.publish("count/1", count(n), 1 + n % 2)
        assert database.count("telemetry.count", f"n = {n}") == 1


def test_qos_0_is_stored_too(make_builtin, database, version):
    site = make_builtin(database, [COUNT])
    sensor = site.client(version)
    for n in range(100):
        sensor.send_publish("count/1", count(n), 0)
    site.daemon.wait_messages(100, "stored")
    assert numbers(database) == list(range(100))
    sensor.nothing()


def test_a_repeat_while_the_first_is_on_its_way(make_builtin, database, version):
    """The same message with DUP is the same reading, and acknowledged once; another one under an identifier that is in
    use is an error [MQTT-2.3.1-2] [MQTT5 2.2.1-3]."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(version)
    with database.locked("telemetry.count"):
        sensor.send_publish("count/1", count(1), 1, pid=5)
        for _ in range(3):
            sensor.send_publish("count/1", count(1), 1, pid=5, dup=True)
        sensor.nothing()
    sensor.expect("PUBACK", pid=5, code=0)
    sensor.nothing()
    assert numbers(database) == [1]
    with database.locked("telemetry.count"):
        sensor.send_publish("count/1", count(2), 1, pid=5)
        sensor.send_publish("count/1", count(3), 1, pid=5)
        sensor.ends(0x82, 0x91)
    site.daemon.wait_messages(2, "stored")
    assert numbers(database) == [1, 2]


@pytest.mark.parametrize("qos", [1, 2])
def test_a_bad_reading_is_acknowledged_with_the_truth(make_builtin, database, version, qos):
    """Under MQTT 5 by 0x99, which ends the exchange of QoS 2 too [5:MQTT-4.3.3-9]; it is in the reject table, and
    subscribers of QoS 1 have it all the same."""
    site = make_builtin(database, [COUNT])
    sensor, subscriber = site.client(version), site.client(version)
    subscriber.subscribe("count/+", 1)
    code = PAYLOAD_INVALID if version == 5 else 0
    assert sensor.publish("count/1", b"many", qos, pid=7) == code
    assert database.query("SELECT topic, convert_from(payload, 'UTF8') FROM sensorlog.reject") == [("count/1", "many")]
    if qos == 1 or version < 5:
        subscriber.receive("count/1", b"many")
    assert sensor.publish("count/1", count(1), qos, pid=7) == 0
    subscriber.receive("count/1", count(1))
    assert numbers(database) == [1]


def test_reasons_of_good_readings(make_builtin, database):
    """0x10 is for what neither a subscriber nor a mapping wants."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(5)
    for qos in (1, 2):
        assert sensor.publish("count/1", count(qos), qos) == 0
        assert sensor.publish(fresh("unmapped"), b"x", qos) == NO_SUBSCRIBERS


# Flow control


def test_a_v5_sensor_keeps_to_the_receive_maximum(make_builtin, database):
    """20 in flight are held; one more is 0x93 [MQTT-3.3.4-7]; what was in flight is stored."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(5)
    with database.locked("telemetry.count"):
        for pid in range(1, 21):
            sensor.send_publish("count/1", count(pid), 1, pid=pid)
        sensor.nothing()
        sensor.send_publish("count/1", count(21), 1, pid=21)
        sensor.ends(RECEIVE_MAXIMUM)
        site.client(5).nothing()
    site.daemon.wait_messages(20, "stored")
    assert numbers(database) == list(range(1, 21))


def test_a_3_1_1_sensor_is_held_up_alone(make_builtin, database):
    """It is read on to a bound in bytes, then its socket waits, and its keepalive with it; nobody else does."""
    site = make_builtin(database, [COUNT], received_bytes="64KiB")
    padding = b" " * 1000
    with database.locked("telemetry.count"):
        sensor = site.client(4, keepalive=3)
        for pid in range(1, 501):
            sensor.send_publish("count/1", count(pid) + padding, 1, pid=pid)
        wait_for_the_lock(database)
        site.daemon.wait_messages(31)
        other = site.client(4)
        silent = site.client(5, keepalive=3)
        silent.ends(0x8D)  # more than the sensor's keepalive and a half
        for _ in range(20):
            other.publish(fresh("unmapped"), b"x", 1)
        held = site.daemon.messages()
        assert held < 200, f"{held} of 500 were read"
    assert [sensor.expect("PUBACK").pid for _ in range(500)] == list(range(1, 501))
    sensor.nothing()
    assert numbers(database) == list(range(1, 501))


def test_memory_is_bounded_while_the_database_is_away(make_builtin, database):
    """Many sensors, all of whose messages would be more than [batch] memory: they wait, and QoS 0 is dropped and
    counted; unmapped topics and subscribers know nothing of it."""
    site = make_builtin(database, [COUNT], conf={"batch": {"memory": "1MiB"}}, window=100)
    sensors = [site.client(version) for version in (4, 5) * 10]
    padding = b" " * 10000
    subscriber, publisher = site.client(5), site.client(4)
    subscriber.subscribe("free/#", 1)
    with database.locked("telemetry.count"):
        for number, sensor in enumerate(sensors):
            for pid in range(1, 21):
                sensor.send_publish("count/1", count(number * 100 + pid) + padding, 1, pid=pid)
            sensor.send_publish("count/1", count(-1) + padding, 0)
        wait_for_the_lock(database)
        for n in range(50):
            publisher.publish("free/a", b"%d" % n, 1)
            subscriber.receive("free/a", b"%d" % n)
        assert pending(site) < 150, "messages of 10 kB in a budget of 1 MiB"
    for sensor in sensors:
        assert [sensor.expect("PUBACK").pid for _ in range(20)] == list(range(1, 21))
        sensor.sync()  # its QoS 0 has been read
    wait_until(lambda: not pending(site), "the last QoS 0")
    stored = numbers(database)
    assert [n for n in stored if n >= 0] == sorted(number * 100 + pid for number in range(20) for pid in range(1, 21))
    dropped = site.daemon.messages("dropped")
    assert stored.count(-1) + dropped == 20


def test_without_a_database_nothing_mapped_is_acknowledged(make_builtin, database, version):
    """PostgreSQL is stopped: readings wait, pings and everybody else do not; it is back: they are acknowledged."""
    site = make_builtin(database, [COUNT])
    sensor, other = site.client(version, keepalive=60), site.client(version, keep=True)
    sensor.publish("count/1", count(0), 1)
    database.cluster.stop()
    for n in (1, 2, 3):
        sensor.send_publish("count/1", count(n), 1, pid=100 + n)
    sensor.nothing()
    topic = fresh("unmapped")
    other.subscribe(topic, 2)
    for qos in (0, 1, 2):
        other.publish(topic, b"x", qos)
        other.receive(topic, qos=qos)
    other.subscribe("count/+", 1)
    sensor.send_publish("count/1", count(4), 1, pid=104)
    other.receive("count/1", count(4))
    sensor.nothing()
    database.cluster.start()
    assert [sensor.expect("PUBACK").pid for _ in range(4)] == [101, 102, 103, 104]
    assert numbers(database) == [0, 1, 2, 3, 4]


# Lost connections and QoS 2


def test_a_lost_connection_takes_no_reading_with_it(make_builtin, database, version):
    """What was on its way when the sensor went is stored; its acknowledgement is void."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(version, keep=True)
    with database.locked("telemetry.count"):
        sensor.send_publish("count/1", count(1), 1, pid=1)
        wait_for_the_lock(database)
        sensor.reset()
        sensor = site.client(version, sensor.client_id, keep=True)
        sensor.nothing()
    site.daemon.wait_messages(1, "stored")
    sensor.nothing()
    assert sensor.publish("count/1", count(2), 1, pid=1) == 0
    assert numbers(database) == [1, 2]


def test_qos_2_is_stored_once_for_each_exchange(make_builtin, database, version):
    """A repeat before PUBREL is one reading, on the same connection or the next; after PUBCOMP the identifier is new
    [MQTT-4.3.3-2]."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(version, keep=True)
    for n in (1, 2):
        for dup in (False, True, True):
            sensor.send_publish("count/1", count(n), 2, pid=9, dup=dup)
            sensor.expect("PUBREC", pid=9, code=0)
            if dup:
                sensor.reset()
                sensor = site.client(version, sensor.client_id, keep=True)
                assert sensor.present
        assert sensor.release(9) == 0
        assert sensor.release(9) == (NOT_FOUND if version == 5 else 0)
    assert numbers(database) == [1, 2]


@pytest.mark.parametrize("moment", ["before the commit", "before PUBREL", "after PUBREL"])
def test_qos_2_over_a_crash(make_builtin, database, version, moment):
    """PostgreSQL knows whether the rows exist: no table has a key, and nothing is stored twice or lost."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(version, keep=True)
    sensor.publish("count/1", count(0), 2)
    if moment == "before the commit":
        with database.locked("telemetry.count"):
            sensor.send_publish("count/1", count(1), 2, pid=9)
            wait_for_the_lock(database)
            site.kill9()
    else:
        sensor.send_publish("count/1", count(1), 2, pid=9)
        sensor.expect("PUBREC", pid=9)
        if moment == "after PUBREL":
            sensor.send(wire.ack("PUBREL", 9))
        site.kill9()
    site.start()
    sensor = site.client(version, sensor.client_id, keep=True)
    assert sensor.present
    if moment != "after PUBREL":
        sensor.send_publish("count/1", count(1), 2, pid=9, dup=True)
        sensor.expect("PUBREC", pid=9, code=0)
    sensor.release(9)
    assert numbers(database) == [0, 1]
    assert sensor.publish("count/1", count(2), 2, pid=9) == 0
    assert numbers(database) == [0, 1, 2]


def test_qos_2_waits_for_the_stored_identifiers(make_builtin, database, version):
    """After a start no QoS 2 reading is judged before PostgreSQL has been asked what it has."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(version, keep=True)
    sensor.send_publish("count/1", count(1), 2, pid=9)
    sensor.expect("PUBREC", pid=9)
    site.kill9()
    database.cluster.stop("immediate")
    site.daemon.start()
    sensor = site.client(version, sensor.client_id, keep=True)
    sensor.send_publish("count/1", count(1), 2, pid=9, dup=True)
    sensor.sync()  # its PUBREC may come at once, for the broker's own state knows the identifier
    sensor.send_publish("count/1", count(2), 2, pid=10)
    sensor.sync()
    assert not [packet for packet in sensor.inbox if packet.pid == 10]
    database.cluster.start()
    sensor.answer("PUBREC", 10)
    sensor.answer("PUBREC", 9)
    sensor.release(9)
    sensor.release(10)
    assert numbers(database) == [1, 2]


def test_a_new_session_is_a_new_incarnation(make_builtin, database, version):
    """A clean start makes the identifiers of the old session mean nothing: the same one is another message."""
    site = make_builtin(database, [COUNT])
    client_id = fresh("client")
    for n in (1, 2, 3):
        sensor = site.client(version, client_id, clean=True,
                             **({"properties": {"session_expiry_interval": 60}} if version == 5 else {}))
        sensor.send_publish("count/1", count(n), 2, pid=9)
        sensor.expect("PUBREC", pid=9, code=0)
        sensor.reset()
    assert numbers(database) == [1, 2, 3]


# Crashes at any moment


@pytest.mark.limit(300)
@pytest.mark.parametrize("victim", ["daemon", "PostgreSQL"])
def test_killed_at_any_moment(make_builtin, database, victim):
    """Every PUBACKed reading is in the table; with QoS 2, or with a key, once."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    site = make_builtin(database, [READING, COUNT, text_mapping("once", "once/+")])
    sensors = {
        "reading": Sensor(site.port, 5, "reading/1", reading, 1).start(),
        "count": Sensor(site.port, 4, "count/1", count, 1).start(),
        "once": Sensor(site.port, 5, "once/5", count, 2).start(),
    }
    for _ in range(8):
        goal = {name: len(one.acknowledged) + chance.randrange(1, 150) for name, one in sensors.items()}
        wait_until(lambda: any(one.violations for one in sensors.values())
                   or all(len(sensors[name].acknowledged) >= goal[name] for name in goal), f"progress (seed {seed})",
                   progress=lambda: sum(len(one.acknowledged) for one in sensors.values()))
        if victim == "daemon":
            site.kill9()
            site.daemon.start()
        else:
            database.cluster.kill9()
            database.cluster.start()
    acknowledged = {name: one.stop() for name, one in sensors.items()}
    for name, wanted in acknowledged.items():
        rows = numbers(database, name)
        assert set(rows) >= wanted, f"of {name} {sorted(wanted - set(rows))[:10]} are lost (seed {seed})"
        if name != "count":
            assert len(rows) == len(set(rows)), f"of {name} some are stored twice (seed {seed})"
    assert all(one.connections > 1 for one in sensors.values()) == (victim == "daemon")
