"""A slow database slows those who publish readings, by flow control and in bounded memory; and nobody else."""
import contextlib
import os
import select
import signal

import pytest

from harness.client import fresh
from harness.daemon import is_sanitized
from harness.load import Publisher
from harness.mappings import COUNT, count
from harness.wait import wait_until

MEMORY = 2 << 20
PADDING = b" " * 20000
SENSORS, EACH = 20, 20  # all of it: four times the memory


def memory(daemon):
    """The most that it has ever used."""
    with open(f"/proc/{daemon.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


@contextlib.contextmanager
def stopped(database):
    """The backends stand still: what is sent to them is not even read."""
    backends = database.backends()
    for backend in backends:
        os.kill(backend, signal.SIGSTOP)
    try:
        yield
    finally:
        for backend in backends:
            os.kill(backend, signal.SIGCONT)


@contextlib.contextmanager
def sleeping(database):
    """Each transaction takes its time, from now on."""
    database.query("CREATE FUNCTION sleep() RETURNS trigger LANGUAGE plpgsql AS"
                   " 'BEGIN PERFORM pg_sleep(0.2); RETURN NULL; END'")
    database.query("CREATE TRIGGER sleep AFTER INSERT ON telemetry.count EXECUTE FUNCTION sleep()")
    yield


@pytest.mark.parametrize("slow", [stopped, sleeping])
def test_it_slows_nobody_else(make_builtin, database, slow):
    """Who publishes readings waits, and no memory beyond the bound is used; pings, and topics that no mapping wants,
    come back at once, before the readings are acknowledged."""
    site = make_builtin(database, [COUNT], conf={"batch": {"memory": f"{MEMORY >> 20}MiB"}}, window=100)
    sensors = [site.client(4 + number % 2) for number in range(SENSORS)]
    subscriber, publisher = site.client(5), site.client(4)
    topic = fresh("unmapped")
    subscriber.subscribe(topic, 2)
    sensors[0].publish("count/1", count(0), 1, pid=EACH + 1)
    before = memory(site.daemon)
    with slow(database):
        for number, sensor in enumerate(sensors):
            for pid in range(1, EACH + 1):
                sensor.send_publish("count/1", count(number * 100 + pid) + PADDING, 1, pid=pid)
        for n in range(30):
            publisher.publish(topic, b"%d" % n, n % 3)
            subscriber.receive(topic, b"%d" % n)
            subscriber.nothing()
        if slow is stopped:
            assert not select.select(sensors, [], [], 0)[0], "no reading is acknowledged"
    for sensor in sensors:
        assert [sensor.expect("PUBACK").pid for _ in range(EACH)] == list(range(1, EACH + 1))
    assert database.count("telemetry.count") == SENSORS * EACH + 1
    assert is_sanitized() or memory(site.daemon) - before < 6 * MEMORY


def test_it_slows_the_sites_broker(make_daemon, site, database):
    """What the daemon does not take stays with mosquitto, and the daemon's memory within its bound."""
    daemon = make_daemon(site, [COUNT], conf={"batch": {"memory": f"{MEMORY >> 20}MiB"}})
    daemon.wait_subscribed()
    publisher = Publisher(site.port, "count/1", lambda n: count(n) + PADDING)
    publisher.publish_all(1)
    daemon.wait_messages(1, "stored")
    before = memory(daemon)
    with sleeping(database):
        publisher.publish_all(500)
        wait_until(lambda: database.count("telemetry.count") >= 501, "all of it to be stored", interval=0.05,
                   progress=lambda: database.count("telemetry.count"))
    publisher.close()
    # Of two partitions, at the end of a month, the earlier one was made first.
    assert database.column("SELECT n FROM telemetry.count ORDER BY tableoid, ctid") == list(range(501))
    assert is_sanitized() or memory(daemon) - before < 6 * MEMORY
