"""PostgreSQL is away for long and the spool takes its place: what is acknowledged is durable on the local disk, and
comes into the tables later, in order, once, while new messages flow."""
import contextlib
import sqlite3

import pytest

from harness.client import fresh
from harness.mappings import COUNT, count
from harness.processes import children, standing_still
from harness.proxy import COMMIT_DONE, COMMIT_REQUEST, TO_CLIENT, TO_SERVER
from harness.sensor import Sensor
from harness.spool import (
    DIRECT, KEEPING, SPOOL, in_order, number_rows, numbers, publish_all, same, spool_balances, wait_direct,
    wait_state, wait_stored)
from harness.wait import wait_until

# Messages a second of each sensor. mosquitto gives out a packet identifier again after 65,535 messages, even if it is
# in use still: there must not be as many before the oldest exchange ends.
_RATE_AT_MOSQUITTO = 400


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
            # mosquitto changes the order of what waits for a place in the window.
            daemon = make_daemon(broker, list(mappings), conf={"subscriber site": {
                "protocol": "5" if version == 5 else "3.1.1", "qos": 2, "window": 60000}, **conf}, **how)
            daemon.wait_subscribed()
            wait_direct(daemon)
            return Site(daemon, broker.port, version, rate or _RATE_AT_MOSQUITTO)
        site = make_builtin(database, list(mappings), conf=conf, **how)
        wait_direct(site.daemon)
        return Site(site.daemon, site.port, version, rate)
    return make


@pytest.fixture
def make_direct(make_builtin, database):
    """make_direct(conf, ...): the built-in broker and a spool that is not in use; on a slow machine the start was an
    outage."""
    def make(conf=None, **how):
        site = make_builtin(database, [COUNT], conf={"spool": SPOOL, **(conf or {})}, **how)
        wait_direct(site.daemon)
        return site
    return make


def make_gate(database):
    """From here on rows of telemetry.count go in up to the number that open_gate() names; others wait, with their
    transaction."""
    database.query("""
        CREATE SEQUENCE telemetry.gate MINVALUE 0;
        GRANT ALL ON telemetry.gate TO PUBLIC;
        CREATE FUNCTION telemetry.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          WHILE NEW.n > (SELECT last_value FROM telemetry.gate) LOOP
            PERFORM pg_sleep(0.01);
          END LOOP;
          RETURN NEW; END $$;
        CREATE TRIGGER wait BEFORE INSERT ON telemetry.count FOR EACH ROW EXECUTE FUNCTION telemetry.wait()""")


def open_gate(database, number):
    database.query("SELECT setval('telemetry.gate', %s)", [number])  # seen at once, in any transaction


# ---- the outage ----


@pytest.mark.parametrize("end", ["fast", "kill -9"])
def test_an_outage_under_load(make_site, cluster, database, version, end):
    """Acknowledgements go on; all is there once, in the order of each sensor, though there is no key."""
    site = make_site(version).start()
    daemon = site.daemon
    number_rows(database)
    site.more()
    cluster.stop("fast") if end == "fast" else cluster.kill9()
    wait_state(daemon, KEEPING)
    daemon.log.wait_for(r"of no use for 0\.3 s; messages are kept in .*spool\.db")
    site.more(300)
    wait_until(lambda: daemon.metric("sensorlog_spool_messages") > 0, "messages in the file")
    assert daemon.metric("sensorlog_database_up") == 0
    cluster.start()
    wait_direct(daemon)
    site.more()
    acknowledged = site.stop()
    wait_stored(daemon, database, acknowledged)
    same(in_order(database), acknowledged)
    spool_balances(daemon)
    daemon.log.wait_for("spool .*: empty; messages go to PostgreSQL directly")


@contextlib.contextmanager
def server_stands_still(cluster, _database):
    with standing_still([cluster.pid, *children(cluster.pid)]):
        yield


@contextlib.contextmanager
def commits_wait_for_nobody(_cluster, database):
    """A synchronous standby that is not there; new connections work."""
    with database.server_settings(synchronous_standby_names="nobody"):
        yield


@pytest.mark.parametrize("stalled, connections", [(server_stands_still, 1), (commits_wait_for_nobody, 3)])
def test_a_server_that_does_not_answer(make_site, cluster, database, stalled, connections):
    """No connection breaks, and nothing gets done: it is asked by another one, and then it is an outage as any."""
    site = make_site(5, conf={"postgres": {"connections": connections}}).start()
    daemon = site.daemon
    number_rows(database)
    site.more()
    with stalled(cluster, database):
        daemon.log.wait_for("nothing has been committed for .* and the server does not answer: its connections are given up")
        wait_state(daemon, KEEPING)
        site.more(300)
    wait_direct(daemon)
    site.more()
    acknowledged = site.stop()
    wait_stored(daemon, database, acknowledged)
    if connections == 1:
        same(in_order(database), acknowledged)
    else:
        assert sorted(numbers(database)) == sorted(n for ns in acknowledged.values() for n in ns)
    spool_balances(daemon)


def test_a_server_that_does_not_answer_without_a_spool(make_builtin, cluster, database):
    """It is said, and the connection waits for it."""
    site = make_builtin(database, [COUNT], conf={"spool": {"outage_after": "300ms"}})
    load = Sensor(site.port, 5, "count/1", count, 1, fresh("load"), rate=100).start()
    wait_until(lambda: len(load.acknowledged) > 10, "some to be stored")
    backends = database.backends("application_name = 'sensorlogd'")
    with standing_still([cluster.pid, *children(cluster.pid)]):
        site.daemon.log.wait_for("the server does not answer: messages stay unacknowledged until it does")
    wait_until(lambda: database.count("telemetry.count") >= 200, "more to be stored")
    acknowledged = load.stop()
    assert numbers(database) == sorted(acknowledged)
    assert database.backends("application_name = 'sensorlogd'") == backends


def test_qos_0_is_kept_too(make_direct, cluster, database):
    site = make_direct()
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


def test_kill_9_in_the_outage(make_site, cluster, database, version):
    """What was acknowledged is durable; the next one begins where PostgreSQL is away still, and goes on."""
    site = make_site(version).start()
    daemon = site.daemon
    number_rows(database)
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
    assert sorted(stored["q2"]) == acknowledged["q2"], "QoS 2 is stored once, whatever happens between"


def test_what_was_acknowledged_comes_once(make_direct, cluster, database):
    """Where no acknowledgement is lost, the spool alone decides: kill -9 at any moment of the drain."""
    site = make_direct({"batch": {"max_rows": 100}})
    make_gate(database)
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    publish_all(site.client(4), 0, 5000)
    site.kill9()
    cluster.start()
    for kills in range(30):
        site.daemon.start()
        done = database.count("telemetry.count")
        open_gate(database, done + 1000)  # no life can store all that is left
        wait_until(lambda done=done: database.count("telemetry.count") > done
                   or site.daemon.metric("sensorlog_spool_state") == DIRECT, "some to be stored")
        if site.daemon.metric("sensorlog_spool_state") == DIRECT:
            break
        site.kill9()
    else:
        site.daemon.start()
    assert kills > 3
    open_gate(database, 5000)
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(5000))}


@pytest.mark.parametrize("end", ["kill -9 of PostgreSQL", "backends", "fast"])
@pytest.mark.parametrize("connections", [1, 3])
def test_postgres_leaves_while_it_is_drained(make_direct, cluster, database, end, connections):
    """It keeps again, and the order stays."""
    site = make_direct({"batch": {"max_rows": 200}, "postgres": {"connections": connections}})
    sensor = site.client(4)
    number_rows(database)
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


def test_new_messages_come_behind_those_of_the_spool(make_direct, cluster, database):
    """While the drain is held up in the middle, acknowledgements go on: it is no outage, but the spool is in use, and
    keeps."""
    site = make_direct({"batch": {"max_rows": 100, "memory": "1MiB"}})
    make_gate(database)
    open_gate(database, 450)
    sensor = site.client(4)
    publish_all(sensor, 0, 1)
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    publish_all(sensor, 1, 1000)
    cluster.start()
    wait_until(lambda: database.backends("wait_event = 'PgSleep'"), "the drain to wait")
    assert 1 < database.count("telemetry.count") <= 450
    publish_all(sensor, 1000, 1500)
    open_gate(database, 1500)
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(1500))}


# ---- what is an outage ----


def test_a_lock_is_no_outage(make_direct, database):
    site = make_direct()
    sensor = site.client(4)
    mark = site.daemon.log.mark()
    with database.locked("telemetry.count"):
        sensor.send_publish("count/1", count(1), 1, pid=5)
        wait_until(database.backends_waiting_for_a_lock, "the transaction to wait")
        site.daemon.log.wait_for("nothing has been committed for .* and the server answers: a lock", mark)
        assert site.daemon.metric("sensorlog_spool_state") == DIRECT
        sensor.nothing()
    sensor.expect("PUBACK", pid=5)
    assert not site.daemon.log.find("kept in", mark)


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
def test_a_server_that_cannot_commit_is_an_outage(make_direct, database, sqlstate, connections):
    """Connections come and go, and nothing can be committed: disk full, read-only, starting up, I/O error."""
    site = make_direct({"postgres": {"connections": connections}})
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
def test_a_server_that_lets_nobody_in_is_an_outage(make_direct, database, why, so, again):
    site = make_direct()
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
def test_a_commit_in_doubt(make_direct, make_proxy, cluster, database, committed, connections, killed):
    """A transaction is cut off in its COMMIT and PostgreSQL stays away: its messages are kept, and whether they are
    stored is looked up before they are."""
    proxy = make_proxy(cluster.port)
    site = make_direct({"postgres": {"connections": connections}},
                       conninfo=database.conninfo("127.0.0.1", proxy.port))
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


def test_a_commit_in_doubt_of_another_name(make_direct, make_proxy, cluster, database):
    """[postgres] writer is another one when PostgreSQL is back."""
    proxy = make_proxy(cluster.port)
    site = make_direct(conninfo=database.conninfo("127.0.0.1", proxy.port))
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
def test_a_commit_in_doubt_in_the_drain(make_direct, make_proxy, cluster, database, committed):
    proxy = make_proxy(cluster.port)
    site = make_direct({"batch": {"max_rows": 100}}, conninfo=database.conninfo("127.0.0.1", proxy.port))
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
            proxy.when(pattern, direction, "hold")
        wait_until(lambda: proxy.trips == trip, "a COMMIT")
        proxy.refusing = True  # at least until the table is locked again: no drain is faster
        proxy.cut()
        if away:
            wait_state(site.daemon, KEEPING)
    proxy.refusing = False
    wait_direct(site.daemon)
    assert in_order(database) == {"1": list(range(2000))}
    spool_balances(site.daemon)


def test_somebody_else_has_stored_some(make_direct, cluster, database):
    """A copy of the file was drained: where it is is asked anew, and nothing comes twice."""
    site = make_direct({"batch": {"max_rows": 100}})
    sensor = site.client(4)
    publish_all(sensor, 0, 1)
    database.query(f"ALTER DATABASE {database.name} CONNECTION LIMIT 0")  # which its superuser has not
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    publish_all(sensor, 1, 1001)
    cluster.start()
    with contextlib.closing(database.connect()) as other, other.cursor() as cursor:
        other.autocommit = False
        cursor.execute("LOCK TABLE telemetry.count")
        database.query(f"ALTER DATABASE {database.name} CONNECTION LIMIT -1")
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
        return file.execute("SELECT id FROM spool").fetchone()[0] + "/test"


def test_a_database_made_anew_in_the_outage(make_direct, make_proxy, cluster, database):
    """It knows nothing of what was stored before: what is kept goes into it."""
    proxy = make_proxy(cluster.port)
    site = make_direct(conninfo=database.conninfo("127.0.0.1", proxy.port))
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
