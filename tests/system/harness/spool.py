"""What tests of the spool share: its states, the order of what was stored, its books."""
import collections

from .mappings import count
from .wait import wait_until

DIRECT, KEEPING, DRAINING = 0, 1, 2
SPOOL = {"mode": "outage", "outage_after": "300ms"}


def number_rows(database):
    """From here on the rows know in which order they were stored."""
    database.query("ALTER TABLE telemetry.count ADD COLUMN stored bigserial")


def in_order(database):
    """{sensor: its numbers in the order in which they were stored}, where need be by transaction and place."""
    numbered = database.value("SELECT EXISTS (SELECT FROM pg_attribute WHERE attname = 'stored'"
                              " AND attrelid = 'telemetry.count'::regclass)")
    order = "stored" if numbered else "xmin::text::bigint, ctid"
    stored = {}
    for sensor, n in database.query(f"SELECT sensor, n FROM telemetry.count ORDER BY {order}"):
        stored.setdefault(sensor, []).append(n)
    return stored


def numbers(database, table="count"):
    return database.column(f"SELECT n FROM telemetry.{table} ORDER BY n")


def wait_state(daemon, *states):
    wait_until(lambda: daemon.metric("sensorlog_spool_state") in states, f"the spool to be in state {states}",
               interval=0.02)


def wait_direct(daemon):
    """Until all of the spool is stored."""
    wait_state(daemon, DIRECT)
    wait_until(lambda: daemon.metric("sensorlog_spool_messages") == 0, "the file to be empty")


def same(stored, acknowledged):
    """Of each sensor all is there, once, in its order; what differs is said."""
    for name, ns in acknowledged.items():
        got = stored.get(name, [])
        lost, alien = sorted(set(ns) - set(got)), sorted(set(got) - set(ns))
        twice = sorted(n for n, times in collections.Counter(got).items() if times > 1)
        late = [pair for pair in zip(got, got[1:]) if pair[0] > pair[1]]
        assert not (lost or alien or twice or late), \
            f"{name}: {len(lost)} lost {lost[:9]}, {len(alien)} unknown {alien[:9]}, " \
            f"{len(twice)} twice {twice[:9]}, {len(late)} late {late[:9]}"


def wait_stored(daemon, database, acknowledged):
    """Until all is there, also what a broker between has still had, and no exchange of QoS 2 is unfinished."""
    wait_until(lambda: database.value("SELECT count(DISTINCT (sensor, n)) FROM telemetry.count")
               >= sum(map(len, acknowledged.values())), "all to be stored", interval=0.05)
    wait_until(lambda: daemon.metric("sensorlog_messages_pending") == 0, "nothing to be pending", interval=0.05)
    # mosquitto looks through all that is under way for each PUBREC: with tens of thousands its PUBRELs take their time.
    while left := database.count("sensorlog.exchange"):
        wait_until(lambda left=left: database.count("sensorlog.exchange") < left, f"the last {left} exchanges to end",
                   interval=0.05)


def spool_balances(daemon):
    """What became durable here is drained, was committed before, was dropped, or is here still."""
    metrics = daemon.metrics()
    kept, drained, resolved, dropped, here = (metrics.total(f"sensorlog_spool_{name}") for name in (
        "kept_total", "drained_total", "resolved_total", "dropped_total", "messages"))
    assert kept == drained + resolved + dropped + here, (kept, drained, resolved, dropped, here)


def publish_all(client, first, last, topic="count/1", payload=count):
    """Publishes by QoS 1 and waits until all are acknowledged."""
    pids = [client.send_publish(topic, payload(n), 1) for n in range(first, last)]
    for pid in pids:
        client.expect("PUBACK", pid=pid)
