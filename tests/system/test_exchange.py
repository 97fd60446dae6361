"""sensorlog.exchange: the QoS 2 identifiers that PostgreSQL keeps are those of exchanges that have not ended."""
import glob
import os

from harness.client import fresh
from harness.mappings import COUNT, count, text_mapping
from harness.wait import wait_until


def identifiers(database):
    return database.column("SELECT packet_id FROM sensorlog.exchange ORDER BY packet_id")


def wait_for_identifiers(database, *wanted):
    wait_until(lambda: identifiers(database) == list(wanted), f"the identifiers {wanted}")


def receive(sensor, pid, n=1, topic="count/1"):
    """One QoS 2 message as far as PUBREC."""
    sensor.send_publish(topic, count(n), 2, pid=pid)
    sensor.expect("PUBREC", pid=pid)


def keeping(version, seconds=3600):
    return {"properties": {"session_expiry_interval": seconds}} if version == 5 else {}


def test_they_come_with_the_rows_and_go_with_the_exchange(make_builtin, database, version):
    site = make_builtin(database, [COUNT])
    sensor = site.client(version, keep=True)
    receive(sensor, 5)
    receive(sensor, 9)
    receive(sensor, 7, topic="elsewhere")  # no mapping: PostgreSQL has nothing to do with it
    assert identifiers(database) == [5, 9]
    assert sensor.release(5) == 0
    assert identifiers(database) == [9]
    assert sensor.release(9) == 0
    assert identifiers(database) == []


def test_rejects_have_them_too(make_builtin, database):
    """With MQTT 3.1.1 the exchange of a message that is rejected goes its usual way."""
    site = make_builtin(database, [COUNT, text_mapping("both", "count/+")])
    sensor = site.client(4, keep=True)
    sensor.send_publish("count/1", b"many", 2, pid=3)
    sensor.expect("PUBREC", pid=3)
    assert identifiers(database) == [3]
    site.kill9()
    site.start()
    sensor = site.client(4, sensor.client_id, keep=True)
    sensor.send_publish("count/1", b"many", 2, pid=3, dup=True)
    sensor.expect("PUBREC", pid=3)
    sensor.release(3)
    assert identifiers(database) == []
    assert database.count("sensorlog.reject") == 2, "one for each mapping"


def test_those_of_a_session_that_ends_go_with_it(make_builtin, database, version):
    """Its client begins a new one, in which they are new [MQTT-3.1.2-4]."""
    site = make_builtin(database, [COUNT])
    client_id = fresh("client")
    sensor = site.client(version, client_id, keep=True)
    receive(sensor, 5)
    sensor.reset()
    sensor = site.client(version, client_id, clean=True, **keeping(version))
    wait_for_identifiers(database)
    site.daemon.restart()
    assert identifiers(database) == []


def test_one_that_is_on_its_way_when_its_session_ends(make_builtin, database, version):
    site = make_builtin(database, [COUNT])
    client_id = fresh("client")
    sensor = site.client(version, client_id, keep=True)
    with database.locked("telemetry.count"):
        sensor.send_publish("count/1", count(1), 2, pid=5)
        wait_until(database.backends_waiting_for_a_lock, "the transaction to wait")
        sensor.reset()
        site.client(version, client_id, clean=True, **keeping(version))
    site.daemon.wait_messages(1, "stored")
    wait_for_identifiers(database)


def test_one_that_has_expired_is_forgotten_and_others_are_not(make_builtin, database):
    site = make_builtin(database, [COUNT])
    brief = site.client(5, fresh("brief"), clean=False, **keeping(5, 1))
    long = site.client(5, fresh("long"), clean=False, **keeping(5))
    receive(brief, 5)
    receive(long, 6)
    assert identifiers(database) == [5, 6]
    site.kill9()
    site.start()
    wait_for_identifiers(database, 6)


def test_without_the_state_file_all_sessions_are_no_more(make_builtin, database):
    """Whatever became of it: what PostgreSQL has of sessions that nobody knows goes at the next start."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(5, keep=True)
    receive(sensor, 5)
    receive(sensor, 6)
    site.kill9()
    for path in glob.glob(site.daemon.configuration.path("state/broker.db*")):
        os.remove(path)
    site.start()
    wait_for_identifiers(database)
