"""PostgreSQL is away for long and the spool takes its place: what is acknowledged is durable on the local disk, and
comes into the tables later, in order, once, while new messages flow."""
import contextlib
import resource
import sqlite3

import pytest

from harness.client import fresh
from harness.load import mqtt_publish
from harness.mappings import COUNT, READING, count, reading, text_mapping
from harness.proxy import COMMIT_DONE, COMMIT_REQUEST, TO_CLIENT, TO_SERVER
from harness.sensor import Sensor
from harness.wait import TimedOut, wait_until

DIRECT, KEEPING, DRAINING = 0, 1, 2
SPOOL = {"mode": "outage", "outage_after": "300ms"}


def in_order(database, table="count"):
    """The numbers of each sensor as they were stored: by transaction, and within it by the order of the rows."""
    rows = database.query(f"SELECT sensor, n FROM telemetry.{table} ORDER BY xmin::text::bigint, ctid")
    stored = {}
    for sensor, n in rows:
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


def wait_stored(daemon, database, acknowledged):
    """Until all is there, also what a broker between has still had, and no exchange of QoS 2 is unfinished."""
    wait_until(lambda: database.value("SELECT count(DISTINCT (sensor, n)) FROM telemetry.count")
               >= sum(map(len, acknowledged.values())), "all to be stored", interval=0.05)
    wait_until(lambda: database.count("sensorlog.exchange") == daemon.metric("sensorlog_messages_pending") == 0,
               "all exchanges to end", interval=0.05)


def spool_balances(daemon):
    """What became durable here is drained, was committed before, was dropped, or is here still."""
    metrics = daemon.metrics()
    kept, drained, resolved, dropped, here = (metrics.total(f"sensorlog_spool_{name}") for name in (
        "kept_total", "drained_total", "resolved_total", "dropped_total", "messages"))
    assert kept == drained + resolved + dropped + here, (kept, drained, resolved, dropped, here)


class Site:
    """Sensors, at the built-in broker or at one before a subscriber, of all levels of QoS that are acknowledged."""

    def __init__(self, daemon, port, version, rate=None):
        self.daemon = daemon
        self._sensors = {}
        for qos in (1, 2):
            name = f"q{qos}"
            self._sensors[name] = Sensor(port, version, f"count/{name}", count, qos, fresh(name), rate=rate)

    def start(self):
        for sensor in self._sensors.values():
            sensor.start()
        return self

    def acknowledged(self):
        return sum(len(sensor.acknowledged) for sensor in self._sensors.values())

    def more(self, messages=100):
        """Until so many more are acknowledged, of each sensor."""
        goals = {name: len(sensor.acknowledged) + messages for name, sensor in self._sensors.items()}
        wait_until(lambda: all(len(sensor.acknowledged) >= goals[name] or sensor.violations
                               for name, sensor in self._sensors.items()), f"{messages} more of each", interval=0.02)

    def stop(self):
        """{sensor: the numbers that were acknowledged, in order}."""
        return {name: sorted(sensor.stop()) for name, sensor in self._sensors.items()}


@pytest.fixture(params=["built-in broker", "subscriber"])
def make_site(request, make_builtin, make_mosquitto, make_daemon, database):
    """make_site(version, mappings, conf, ...): a daemon with sensors, by either way."""
    def make(version, mappings=(COUNT,), conf=None, rate=None, **how):
        conf = {"spool": SPOOL, **(conf or {})}
        if request.param == "subscriber":
            broker = make_mosquitto(max_inflight_messages=0)
            daemon = make_daemon(broker, list(mappings), conf={
                "subscriber site": {"protocol": "5" if version == 5 else "3.1.1", "qos": 2}, **conf}, **how)
            daemon.wait_subscribed()
            return Site(daemon, broker.port, version, rate)
        site = make_builtin(database, list(mappings), conf=conf, **how)
        return Site(site.daemon, site.port, version, rate)
    return make


# ---- the outage ----


@pytest.mark.parametrize("end", ["fast", "kill -9"])
def test_an_outage_under_load(make_site, cluster, database, version, end):
    """Acknowledgements go on; all is there once, in the order of each sensor, though there is no key."""
    site = make_site(version).start()
    daemon = site.daemon
    site.more()
    cluster.stop("fast") if end == "fast" else cluster.kill9()
    wait_state(daemon, KEEPING)
    daemon.log.wait_for(r"of no use for 0\.3 s; messages are kept in .*spool\.db")
    site.more(300)
    assert daemon.metric("sensorlog_spool_messages") > 0
    assert daemon.metric("sensorlog_database_up") == 0
    cluster.start()
    wait_direct(daemon)
    site.more()
    acknowledged = site.stop()
    wait_stored(daemon, database, acknowledged)
    assert in_order(database) == acknowledged
    spool_balances(daemon)
    daemon.log.wait_for("spool .*: empty; messages go to PostgreSQL directly")


def test_qos_0_is_kept_too(make_builtin, cluster, database):
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL})
    sensor = site.client(4)
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    for n in range(50):
        sensor.send_publish("count/1", count(n), 0)
    sensor.sync()
    wait_until(lambda: site.daemon.metric("sensorlog_spool_kept_total") == 50, "all to be durable")
    site.kill9()
    site.daemon.start()
    cluster.start()
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(50))}


def publish_all(client, first, last, topic="count/1", payload=count):
    """Publishes by QoS 1 and waits until all are acknowledged."""
    pids = [client.send_publish(topic, payload(n), 1) for n in range(first, last)]
    for pid in pids:
        client.expect("PUBACK", pid=pid)


def test_kill_9_in_the_outage(make_site, cluster, database, version):
    """What was acknowledged is durable; the next one begins where PostgreSQL is away still, and goes on."""
    site = make_site(version).start()
    daemon = site.daemon
    site.more(20)
    cluster.stop()
    wait_state(daemon, KEEPING)
    for _ in range(3):
        site.more(50)
        daemon.kill9()
        daemon.start()
        wait_state(daemon, KEEPING)
    site.more(50)
    cluster.start()
    wait_direct(daemon)
    acknowledged = site.stop()
    wait_stored(daemon, database, acknowledged)
    stored = in_order(database)
    assert {name: sorted(set(ns)) for name, ns in stored.items()} == acknowledged
    print([(i, a, b) for i, (a, b) in enumerate(zip(stored["q2"], stored["q2"][1:])) if b != a + 1], len(stored["q2"]), len(acknowledged["q2"]))
    assert stored["q2"] == acknowledged["q2"], "QoS 2 is stored once, whatever happens between"


def test_what_was_acknowledged_comes_once(make_builtin, cluster, database):
    """Where no acknowledgement is lost, the spool alone decides: kill -9 at any moment of the drain."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL, "batch": {"max_rows": 100}})
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    publish_all(site.client(4), 0, 5000)
    site.kill9()
    cluster.start()
    kills = 0
    for kills in range(1, 30):
        site.daemon.start()
        done = database.count("telemetry.count")
        with contextlib.suppress(TimedOut):
            wait_until(lambda: database.count("telemetry.count") > done, "some to be stored", timeout=5)
        if site.daemon.metric("sensorlog_spool_state") == DIRECT:
            break
        site.kill9()
    assert kills > 3
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(5000))}


@pytest.mark.parametrize("end", ["kill -9 of PostgreSQL", "backends", "fast"])
@pytest.mark.parametrize("connections", [1, 3])
def test_postgres_leaves_while_it_is_drained(make_builtin, cluster, database, end, connections):
    """It keeps again, and the order stays."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL, "batch": {"max_rows": 200},
                                                 "postgres": {"connections": connections}})
    sensor = site.client(4)
    publish_all(sensor, 0, 10)
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    publish_all(sensor, 10, 2000)
    for outages in range(3):
        cluster.start()
        stored = database.count("telemetry.count")
        wait_until(lambda: database.count("telemetry.count") > stored
                   or site.daemon.metric("sensorlog_spool_state") == DIRECT, "some to be stored")
        if end == "backends":
            for backend in database.backends():
                database.query("SELECT pg_terminate_backend(%s)", [backend])
        else:
            cluster.stop() if end == "fast" else cluster.kill9()
            wait_state(site.daemon, KEEPING)
        publish_all(sensor, 2000 + 500 * outages, 2500 + 500 * outages)
    cluster.start()
    wait_direct(site.daemon)
    publish_all(sensor, 3500, 3510)
    stored = in_order(database)["1"]
    assert sorted(stored) == list(range(3510))
    assert connections > 1 or stored == list(range(3510))
    spool_balances(site.daemon)


def test_new_messages_come_behind_those_of_the_spool(make_builtin, cluster, database):
    """While the table is locked in the middle of the drain, acknowledgements go on: it is no outage, but the spool is
    in use, and keeps."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL, "batch": {"max_rows": 100, "memory": "1MiB"}})
    sensor = site.client(4)
    publish_all(sensor, 0, 1)
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    publish_all(sensor, 1, 1000)
    cluster.start()
    with contextlib.suppress(Exception), database.locked("telemetry.count"):
        wait_until(database.backends_waiting_for_a_lock, "the drain to wait for the lock")
        publish_all(sensor, 1000, 1500)
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(1500))}


# ---- what is an outage ----


def test_a_lock_is_no_outage(make_builtin, database):
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL})
    sensor = site.client(4)
    with database.locked("telemetry.count"):
        sensor.send_publish("count/1", count(1), 1, pid=5)
        wait_until(database.backends_waiting_for_a_lock, "the transaction to wait")
        with pytest.raises(TimedOut):
            wait_until(lambda: site.daemon.metric("sensorlog_spool_state") != DIRECT, "nothing", timeout=1.5)
        sensor.nothing()
    sensor.expect("PUBACK", pid=5)


def raising(database, sqlstate):
    """Rows of telemetry.count are refused so, until accepting(database)."""
    database.query(f"""
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'refused' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON telemetry.count FOR EACH ROW EXECUTE FUNCTION public.refuse()""")


def accepting(database):
    database.query("CREATE OR REPLACE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS"
                   " $$ BEGIN RETURN NEW; END $$")


@pytest.mark.parametrize("connections", [1, 2])
@pytest.mark.parametrize("sqlstate", ["53100", "25006", "57P03", "58030"])
def test_a_server_that_cannot_commit_is_an_outage(make_builtin, database, sqlstate, connections):
    """Connections come and go, and nothing can be committed: disk full, read-only, starting up, I/O error."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL, "postgres": {"connections": connections}})
    sensor = site.client(4)
    publish_all(sensor, 0, 10)
    raising(database, sqlstate)
    publish_all(sensor, 10, 100)
    assert site.daemon.metric("sensorlog_spool_kept_total") > 0
    accepting(database)
    wait_direct(site.daemon)
    stored = in_order(database)["1"]
    assert sorted(stored) == list(range(100))
    assert stored[10:] == list(range(10, 100))
    spool_balances(site.daemon)


@pytest.mark.parametrize("why, so, again", [
    ("authentication", "ALTER ROLE logger NOLOGIN", "ALTER ROLE logger LOGIN"),
    ("connections", "ALTER ROLE logger CONNECTION LIMIT 0", "ALTER ROLE logger CONNECTION LIMIT -1"),
])
def test_a_server_that_lets_nobody_in_is_an_outage(make_builtin, database, why, so, again):
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL})
    sensor = site.client(4)
    publish_all(sensor, 0, 10)
    try:
        database.query(so)
        for backend in database.backends():
            database.query("SELECT pg_terminate_backend(%s)", [backend])
        publish_all(sensor, 10, 100)
        wait_state(site.daemon, KEEPING)
    finally:
        database.query(again)
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(100))}


def test_postgres_was_never_there(make_builtin, cluster, database):
    """A box that boots before its database: no table has been looked at yet."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL}, start=False)
    cluster.stop()
    site.daemon.start()
    publish_all(site.client(4), 0, 100)
    wait_state(site.daemon, KEEPING)
    cluster.start()
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(100))}


# ---- transactions in doubt ----


@pytest.mark.parametrize("killed", [False, True], ids=["running", "killed"])
@pytest.mark.parametrize("connections", [1, 2])
@pytest.mark.parametrize("committed", [True, False], ids=["had committed", "had not"])
def test_a_commit_in_doubt(make_builtin, make_proxy, cluster, database, committed, connections, killed):
    """A transaction is cut off in its COMMIT and PostgreSQL stays away: its messages are kept, and whether they are
    stored is looked up before they are."""
    proxy = make_proxy(cluster.port)
    site = make_builtin(database, [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port),
                        conf={"spool": SPOOL, "postgres": {"connections": connections}})
    sensor = site.client(4)
    publish_all(sensor, 0, 10)
    if committed:
        proxy.when(COMMIT_DONE, TO_CLIENT, "hold")
    else:
        proxy.when(COMMIT_REQUEST, TO_SERVER, "hold")
    pids = [sensor.send_publish("count/1", count(n), 1) for n in range(10, 200)]
    wait_until(lambda: proxy.trips == 1, "a COMMIT")
    proxy.refusing = True
    proxy.cut()
    for pid in pids:
        sensor.expect("PUBACK", pid=pid)
    wait_state(site.daemon, KEEPING)
    publish_all(sensor, 200, 300)
    if killed:
        site.kill9()
        site.daemon.start()
        sensor = site.client(4)
        publish_all(sensor, 300, 310)
    proxy.refusing = False
    wait_direct(site.daemon)
    last = 310 if killed else 300
    assert numbers(database) == list(range(last))
    assert connections > 1 or in_order(database) == {"1": list(range(last))}
    resolved = site.daemon.metric("sensorlog_spool_resolved_total")
    assert resolved > 0 if committed else resolved == 0 or connections > 1
    assert killed or spool_balances(site.daemon) is None


def test_a_commit_in_doubt_of_another_name(make_builtin, make_proxy, cluster, database):
    """[postgres] writer is another one when PostgreSQL is back."""
    proxy = make_proxy(cluster.port)
    site = make_builtin(database, [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port), conf={"spool": SPOOL})
    sensor = site.client(4)
    publish_all(sensor, 0, 10)
    proxy.when(COMMIT_DONE, TO_CLIENT, "hold")
    pids = [sensor.send_publish("count/1", count(n), 1) for n in range(10, 100)]
    wait_until(lambda: proxy.trips == 1, "a COMMIT")
    proxy.refusing = True
    proxy.cut()
    for pid in pids:
        sensor.expect("PUBACK", pid=pid)
    site.kill9()
    site.daemon.configuration.set("postgres", writer="renamed")
    site.daemon.start()
    proxy.refusing = False
    wait_direct(site.daemon)
    assert site.daemon.metric("sensorlog_spool_resolved_total") > 0
    assert in_order(database) == {"1": list(range(100))}
    assert set(database.column("SELECT writer FROM sensorlog.writer")) == {"test", "renamed"}


@pytest.mark.parametrize("committed", [True, False], ids=["had committed", "had not"])
def test_a_commit_in_doubt_in_the_drain(make_builtin, make_proxy, cluster, database, committed):
    proxy = make_proxy(cluster.port)
    site = make_builtin(database, [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port),
                        conf={"spool": SPOOL, "batch": {"max_rows": 100}})
    sensor = site.client(4)
    publish_all(sensor, 0, 10)
    proxy.refusing = True
    proxy.cut()
    wait_state(site.daemon, KEEPING)
    publish_all(sensor, 10, 2000)
    for trip, away in enumerate((True, False, True), start=1):
        pattern, direction = (COMMIT_DONE, TO_CLIENT) if committed else (COMMIT_REQUEST, TO_SERVER)
        with database.locked("telemetry.count"):
            proxy.refusing = False
            wait_until(database.backends_waiting_for_a_lock, "the drain to wait for the lock")
            if pattern is COMMIT_DONE:
                proxy.when(pattern, direction, "hold")
        if pattern is COMMIT_REQUEST:
            proxy.when(pattern, direction, "hold")
        wait_until(lambda: proxy.trips == trip, "a COMMIT")
        proxy.refusing = away
        proxy.cut()
        if away:
            wait_state(site.daemon, KEEPING)
    proxy.refusing = False
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(2000))}
    spool_balances(site.daemon)


def test_somebody_else_has_stored_some(make_builtin, cluster, database):
    """A copy of the file was drained: where it is is asked anew, and nothing comes twice."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL, "batch": {"max_rows": 100}})
    sensor = site.client(4)
    publish_all(sensor, 0, 1)
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    publish_all(sensor, 1, 1001)
    cluster.start()
    with contextlib.closing(database.connect()) as other, other.cursor() as cursor:
        other.autocommit = False
        cursor.execute("LOCK TABLE telemetry.count")
        if site.daemon.metric("sensorlog_spool_drained_total") == 0:
            wait_until(database.backends_waiting_for_a_lock, "the drain to wait for the lock")
            cursor.execute("INSERT INTO sensorlog.spool_progress (spool, seq, at) VALUES (%s, 500, now())",
                           [spool_id(site.daemon)])
        other.commit()
    wait_direct(site.daemon)
    site.daemon.log.wait_for("PostgreSQL has other entries of it than expected")
    assert in_order(database) == {"1": [0, *range(501, 1001)]}


def spool_id(daemon):
    """What PostgreSQL knows the file by."""
    with contextlib.closing(sqlite3.connect(f"file:{daemon.configuration.path('state/spool.db')}?mode=ro",
                                            uri=True)) as file:
        return file.execute("SELECT id FROM spool").fetchone()[0]


def test_a_database_made_anew_in_the_outage(make_builtin, make_proxy, cluster, database):
    """It knows nothing of what was stored before: what is kept goes into it."""
    proxy = make_proxy(cluster.port)
    site = make_builtin(database, [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port), conf={"spool": SPOOL})
    sensor = site.client(4)
    for first in (0, 100):
        publish_all(sensor, first, first + 10)
        proxy.refusing = True
        proxy.cut()
        wait_state(site.daemon, KEEPING)
        publish_all(sensor, first + 10, first + 100)
        if first > 0:
            database.query("DROP SCHEMA sensorlog CASCADE; DROP SCHEMA telemetry CASCADE")
        proxy.refusing = False
        wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(110, 200))}


# ---- full ----


def large(n):
    return reading(n, padding=8000)


FULL = {**SPOOL, "max_bytes": "1MiB"}


def test_a_full_spool_withholds(make_builtin, cluster, database):
    """Acknowledgements stop, memory stays bounded, QoS 0 is dropped and counted, and all goes on when there is room."""
    site = make_builtin(database, [READING], conf={"spool": FULL, "batch": {"memory": "2MiB"}})
    daemon = site.daemon
    cluster.stop()
    wait_state(daemon, KEEPING)
    sensors = [Sensor(site.port, 4, f"reading/{i}", large, 1).start() for i in range(2)]
    daemon.log.wait_for("spool .*: full")
    acknowledged = wait_until(lambda: [len(sensor.acknowledged) for sensor in sensors] if sum(
        len(sensor.acknowledged) for sensor in sensors) == daemon.messages("spooled") else None, "the acknowledgements")
    other = site.client(4)
    dropped = 0
    while not daemon.messages("dropped"):
        other.send_publish("reading/0", large(10 ** 6 + dropped), 0)
        other.sync()
        dropped += 1
    assert [len(sensor.acknowledged) for sensor in sensors] == acknowledged
    assert daemon.metric("sensorlog_spool_bytes") <= 1 << 20
    assert daemon.metric("sensorlog_memory_bytes") <= 1.25 * (2 << 20)
    assert "full" in daemon.notify.values("STATUS")[-1] or wait_until(
        lambda: "full" in daemon.notify.values("STATUS")[-1], "the status to say so")
    cluster.start()
    wait_direct(daemon)
    for sensor in sensors:
        wait_until(lambda sensor=sensor: len(sensor.acknowledged) > 300, "more than fits")
    stored = [sorted(sensor.stop()) for sensor in sensors]
    wait_until(lambda: daemon.metric("sensorlog_messages_pending") == 0, "all to be stored")
    for i, ns in enumerate(stored):
        assert database.column("SELECT n FROM telemetry.reading WHERE sensor = %s AND n < 1000000 ORDER BY n",
                               [str(i)]) == ns
    assert daemon.metric("sensorlog_memory_peak_bytes") <= 1.5 * (2 << 20)
    spool_balances(daemon)


def test_a_full_spool_drops_the_oldest(make_builtin, cluster, database):
    """Where the user wants it so: what is dropped is counted, and the newest are there."""
    site = make_builtin(database, [READING], conf={"spool": {**FULL, "on_full": "drop-oldest"}})
    daemon = site.daemon
    cluster.stop()
    wait_state(daemon, KEEPING)
    publish_all(site.client(4), 0, 400, "reading/1", large)
    dropped = wait_until(lambda: daemon.metric("sensorlog_spool_dropped_total"), "some to be dropped")
    daemon.log.wait_for("the oldest messages are dropped")
    assert daemon.messages("dropped", source="spool") == dropped
    cluster.start()
    wait_direct(daemon)
    dropped = daemon.metric("sensorlog_spool_dropped_total")
    assert 250 < dropped < 350
    assert numbers(database, "reading") == list(range(int(dropped), 400))
    spool_balances(daemon)


@pytest.mark.parametrize("way", ["from the beginning", "in the middle"])
def test_a_full_disk(make_builtin, cluster, database, way):
    """Nothing is acknowledged that is not durable; pings are answered; when there is room it goes on."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL})
    daemon = site.daemon
    sensor = site.client(4)
    cluster.stop()
    wait_state(daemon, KEEPING)
    first = 0
    if way == "in the middle":
        first = 100
        publish_all(sensor, 0, first)
    _, hard = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (4096, hard))
    pids = [sensor.send_publish("count/1", count(n), 1) for n in range(first, 500)]
    daemon.log.wait_for("spool .*not acknowledged; trying again")
    assert daemon.metric("sensorlog_spool_failing") == 1
    sensor.nothing()
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))
    for pid in pids:
        sensor.expect("PUBACK", pid=pid)
    site.kill9()
    daemon.start()
    cluster.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(500))}


# ---- what happens to messages on the way ----


def test_bad_messages_go_through_the_spool(make_builtin, cluster, database):
    """Each finds its end in the drain as it would have without an outage."""
    checked = text_mapping("checked", "checked/+")
    gone = text_mapping("gone", "gone/+")
    site = make_builtin(database, [COUNT, checked, gone], conf={"spool": SPOOL})
    daemon = site.daemon
    sensor = site.client(4)
    database.query("ALTER TABLE telemetry.checked ADD CHECK (n <> 5)")
    cluster.stop()
    wait_state(daemon, KEEPING)
    publish_all(sensor, 0, 10)
    publish_all(sensor, 0, 10, "checked/1")
    publish_all(sensor, 0, 10, "gone/1")
    publish_all(sensor, 10, 11, payload=lambda n: b"ten")
    publish_all(sensor, 11, 20)
    assert daemon.messages("spooled") == 40
    daemon.configuration.set_mappings(COUNT, checked)
    daemon.reload()
    cluster.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": [n for n in range(20) if n != 10]}
    assert numbers(database, "checked") == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert database.query("SELECT reason, count(*), min(source), min(octet_length(payload)) FROM sensorlog.reject"
                          " GROUP BY 1 ORDER BY 1") == [
        ("no mapping takes it any more", 10, "broker", 1), ("not a number", 1, "broker", 3),
        ("refused by PostgreSQL", 1, "broker", 1)]
    assert daemon.messages("rejected", source="spool") == 12
    spool_balances(daemon)


def test_a_stopped_mapping(make_builtin, cluster, database):
    """Its table is gone: its messages go to the reject table, the others to their tables."""
    site = make_builtin(database, [COUNT, text_mapping("other", "other/+")], conf={"spool": SPOOL})
    sensor = site.client(4)
    publish_all(sensor, 0, 1, "other/1")
    publish_all(sensor, 0, 1)
    database.query("ALTER TABLE telemetry.other RENAME n TO m")
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    publish_all(sensor, 1, 10, "other/1")
    publish_all(sensor, 1, 10)
    cluster.start()
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(10))}
    assert database.value("SELECT count(*) FROM sensorlog.reject WHERE mapping = 'other'") == 9


def test_what_no_mapping_wants_is_not_kept(make_daemon, make_mosquitto, cluster, database):
    """Nor are retained copies."""
    broker = make_mosquitto()
    mqtt_publish(broker.port, ("count/1", count(1), True), ("count/2", count(2), True))
    daemon = make_daemon(broker, [COUNT], conf={"spool": SPOOL, "subscriber site": {"protocol": "3.1.1"}}, start=False)
    cluster.stop()
    daemon.start()
    daemon.wait_subscribed()
    wait_state(daemon, KEEPING)
    wait_until(lambda: daemon.messages("skipped") == 2, "the retained copies to be skipped")
    mqtt_publish(broker.port, ("count/1", count(3)), ("elsewhere", count(4)))
    wait_until(lambda: daemon.messages("spooled") == 1, "the live one to be kept")
    cluster.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": [3]}


def test_reload_in_the_outage_and_in_the_drain(make_builtin, cluster, database):
    """A mapping that changes meanwhile decodes what was kept before; a new one gets what comes from then on."""
    changed = COUNT.replace('"n";      type = "int8"; from = "value"', '"n";      type = "int8"; from = "payload"')
    added = text_mapping("added", "added/+")
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL, "batch": {"max_rows": 50}})
    daemon, sensor = site.daemon, site.client(4)
    publish_all(sensor, 0, 10)
    cluster.stop()
    wait_state(daemon, KEEPING)
    publish_all(sensor, 10, 1000)
    daemon.configuration.set_mappings(changed, added)
    daemon.reload()
    publish_all(sensor, 1000, 1500)
    publish_all(sensor, 0, 100, "added/1")
    cluster.start()
    for mappings in ([COUNT, added], [changed, added], [COUNT, added]):
        daemon.configuration.set_mappings(*mappings)
        daemon.reload()
        publish_all(sensor, 0, 1, "added/2")
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(1500))}
    assert database.value("SELECT count(*) FROM telemetry.added") == 103
    assert database.value("SELECT count(*) FROM sensorlog.reject") == 0
    spool_balances(daemon)


# ---- the stop, and the mode ----


def test_a_stop_in_an_outage_acknowledges_what_is_in(make_builtin, cluster, database):
    """Before the outage has lasted for outage_after."""
    site = make_builtin(database, [COUNT], conf={"spool": {**SPOOL, "outage_after": "1h"}})
    daemon, sensor = site.daemon, site.client(4)
    publish_all(sensor, 0, 10)
    cluster.stop()
    pids = [sensor.send_publish("count/1", count(n), 1) for n in range(10, 100)]
    daemon.wait_messages(100)
    sensor.nothing()
    assert daemon.stop(timeout=10) == 0
    for pid in pids:
        sensor.expect("PUBACK", pid=pid)
    cluster.start()
    daemon.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(100))}


@pytest.mark.parametrize("when", ["keeping", "draining"])
def test_a_stop(make_builtin, cluster, database, when):
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL, "batch": {"max_rows": 50}})
    daemon, sensor = site.daemon, site.client(4)
    cluster.stop()
    wait_state(daemon, KEEPING)
    publish_all(sensor, 0, 3000)
    if when == "draining":
        cluster.start()
        wait_state(daemon, DRAINING, DIRECT)
    assert daemon.stop(timeout=10) == 0
    daemon.log.wait_for(r"source broker: 3000 received, 3000 spooled, 0 pending")
    cluster.start()
    daemon.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(3000))}


def test_the_spool_is_turned_off_with_messages_in_it(make_builtin, cluster, database):
    """They are stored first, what comes meanwhile is acknowledged when it is committed; then there is no spool."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL})
    daemon = site.daemon
    cluster.stop()
    wait_state(daemon, KEEPING)
    publish_all(site.client(4), 0, 1000)
    assert daemon.stop() == 0
    daemon.configuration.set("spool", mode="off")
    daemon.start()
    daemon.log.wait_for(r"1000 message\(s\) from before wait for PostgreSQL; \[spool\] mode is off")
    sensor = site.client(4)
    pids = [sensor.send_publish("count/1", count(n), 1) for n in range(1000, 1100)]
    sensor.nothing()
    cluster.start()
    for pid in pids:
        sensor.expect("PUBACK", pid=pid)
    assert in_order(database) == {"1": list(range(1100))}
    wait_direct(daemon)
    assert daemon.messages("spooled") == 0
    cluster.stop()
    sensor.send_publish("count/1", count(1100), 1, pid=7)
    with pytest.raises(TimedOut):
        wait_until(lambda: daemon.metric("sensorlog_spool_state") != DIRECT, "nothing", timeout=1)
    sensor.nothing()
