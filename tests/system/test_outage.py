"""PostgreSQL goes away under load: the connection to the broker stays, memory stays bounded, nothing is lost, and
nothing is stored twice, not even where no key would notice."""
import contextlib
import os
import signal
import time

import pytest

from harness.daemon import is_sanitized
from harness.load import Publisher
from harness.mappings import COUNT, READING, count, reading
from harness.proxy import COMMIT_DONE, COMMIT_REQUEST, TO_CLIENT, TO_SERVER
from harness.wait import PATIENCE, wait_until

KEEPALIVE = 2
MEMORY = 4 * 1024 * 1024


def numbers(database, table):
    return sorted(database.column(f"SELECT n FROM telemetry.{table}"))


def watch(daemon, seconds):
    """Waits this long and returns the most that the daemon has used: (by its own account, resident)."""
    own = resident = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        own = max(own, daemon.metric("sensorlog_memory_bytes"))
        resident = max(resident, daemon.resident())
        time.sleep(0.1)
    return own, resident


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("end", ["fast", "kill -9"])
def test_longer_than_three_keepalives_under_load(make_daemon, make_mosquitto, cluster, database, end, protocol):
    site = make_mosquitto(max_inflight_messages=0)
    daemon = make_daemon(site, [READING, COUNT], conf={
        "subscriber site": {"protocol": protocol, "keepalive": KEEPALIVE, "window": 60000},
        "batch": {"memory": "4MiB"}})
    daemon.wait_subscribed()
    large = Publisher(site.port, "reading/1", lambda n: reading(n, padding=8000), rate=800).start()
    small = Publisher(site.port, "count/1", count, rate=300).start()
    daemon.wait_messages(500, "stored")
    before = daemon.resident()

    if end == "fast":
        cluster.stop("fast")
    else:
        cluster.kill9()
    wait_until(lambda: daemon.metric("sensorlog_database_up") == 0, "the daemon to notice")
    already = len(large.acknowledged)
    own, resident = watch(daemon, 3.5 * KEEPALIVE)
    wait_until(lambda: (len(large.acknowledged) - already) * 8000 > 2 * MEMORY, "more load than fits into memory")
    assert own <= 1.25 * MEMORY
    if not is_sanitized():
        assert resident - before < 6 * MEMORY

    cluster.start()
    sent, counted = large.stop(), small.stop()
    wait_until(lambda: daemon.metric("sensorlog_database_up") == 1, "the daemon to be back")
    wait_until(lambda: len(numbers(database, "reading")) >= len(sent)
               and len(numbers(database, "count")) >= len(counted), "everything to be stored", interval=0.2,
               progress=lambda: len(numbers(database, "reading")))
    assert numbers(database, "reading") == sorted(sent)
    assert numbers(database, "count") == sorted(counted)
    assert site.connects("sensorlogd-site") == 1, "the connection to the broker has stayed"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_paused_daemon_pings_and_misses_no_answer(make_daemon, broker, database, protocol):
    """What it has no room for stays unread, PINGRESP behind it: that is no failure of the broker's.

    There are far more bytes than the memory and the sockets between take."""
    make_daemon(broker, [READING], conf={
        "subscriber site": {"protocol": protocol, "keepalive": KEEPALIVE, "window": 60000},
        "batch": {"memory": "2MiB"}})
    connection = broker.wait_subscribed()
    with database.locked("telemetry.reading"):
        deliveries = [one for n in range(4000) for one in broker.route("reading/1", reading(n, padding=8000))]
        pings = len(connection.of_kind("PINGREQ"))
        wait_until(lambda: len(connection.of_kind("PINGREQ")) >= pings + 4, "four more keepalives")
        assert connection.open
        assert not broker.acknowledged()
    broker.wait_done(deliveries, 2 * PATIENCE)
    assert len(broker.connections) == 1
    assert numbers(database, "reading") == list(range(4000))


@pytest.mark.parametrize("pattern, direction, action", [
    pytest.param(COMMIT_REQUEST, TO_SERVER, "cut", id="before COMMIT arrives"),
    pytest.param(COMMIT_REQUEST, TO_SERVER, "forward and cut", id="while it commits"),
    pytest.param(COMMIT_DONE, TO_CLIENT, "cut", id="after the commit and before its confirmation"),
    pytest.param(COMMIT_REQUEST, TO_SERVER, "abandon", id="before COMMIT arrives with the backend left alive"),
])
@pytest.mark.parametrize("connections", [1, 3])
def test_a_connection_cut_in_the_commit(make_daemon, make_proxy, broker, cluster, database, connections,
                                        pattern, direction, action):
    """An ambiguous COMMIT is resolved: every message is one row, though there is no key."""
    proxy = make_proxy(cluster.port)
    daemon = make_daemon(broker, [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port),
                         conf={"postgres": {"connections": connections}})
    broker.window = 100
    broker.wait_subscribed()
    sent = 0

    def route(messages):
        nonlocal sent
        first, sent = sent, sent + messages
        return [one for n in range(first, sent) for one in broker.route("count/1", count(n))]

    for cuts in range(1, 4):
        broker.wait_done(route(200))
        proxy.when(pattern, direction, action)
        deliveries = route(500)
        wait_until(lambda: proxy.trips == cuts, "the cut")
        broker.wait_done(deliveries)
    assert numbers(database, "count") == list(range(sent))
    assert daemon.messages("stored") == sent
    assert len(broker.connections) == 1


@contextlib.contextmanager
def commits_held(database):
    """Commits to telemetry.count wait, inside COMMIT, until the end of the block."""
    database.query("""
        CREATE OR REPLACE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock_shared(42); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON telemetry.count DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION hold_commit()""")
    with contextlib.closing(database.connect()) as holder:
        holder.cursor().execute("SELECT pg_advisory_lock(42)")
        yield


@pytest.mark.parametrize("cut", ["reset", "abandoned"])
def test_a_backend_stopped_inside_commit(make_daemon, make_proxy, broker, cluster, database, cut):
    """A backend that answers nobody keeps its locks: until it has ended, one way or the other, nothing is
    acknowledged, and then everything is there once."""
    proxy = make_proxy(cluster.port)
    daemon = make_daemon(broker, [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port))
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    with commits_held(database):
        deliveries = [one for n in range(1, 21) for one in broker.route("count/1", count(n))]
        backend = wait_until(lambda: database.backends("wait_event = 'advisory'"), "a backend inside COMMIT")[0]
        os.kill(backend, signal.SIGSTOP)
    try:
        if cut == "reset":
            proxy.cut()
        else:
            for link in proxy.open_links:
                link.abandon()
        wait_until(lambda: set(database.backends_waiting_for_a_lock()) - {backend},
                   "the daemon to wait for the old transaction's lock")
        wait_until(lambda: daemon.metric("sensorlog_messages_pending") == 20, "all to be in")
        assert len(broker.acknowledged()) == 1
    finally:
        os.kill(backend, signal.SIGCONT)
    broker.wait_done(deliveries)
    assert numbers(database, "count") == list(range(21))
    assert len(broker.connections) == 1


def test_a_backend_killed_inside_commit(make_daemon, broker, database):
    """kill -9 of one backend restarts all of PostgreSQL; the commit it was in has not happened."""
    make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    with commits_held(database):
        deliveries = [one for n in range(1, 21) for one in broker.route("count/1", count(n))]
        backend = wait_until(lambda: database.backends("wait_event = 'advisory'"), "a backend inside COMMIT")[0]
        os.kill(backend, signal.SIGKILL)
    broker.wait_done(deliveries)
    assert numbers(database, "count") == list(range(21))


def test_a_stale_writer_commits_nothing(make_daemon, make_proxy, broker, cluster, database):
    """The COMMIT of a daemon that is dead by now is still on its way when the next one begins: it must fail, for
    its messages come again."""
    proxy = make_proxy(cluster.port)
    daemon = make_daemon(broker, [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port))
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    proxy.when(COMMIT_REQUEST, TO_SERVER, "hold")
    deliveries = [one for n in range(1, 21) for one in broker.route("count/1", count(n))]
    wait_until(lambda: proxy.trips == 1, "COMMIT to be on its way")
    stale = wait_until(lambda: database.backends("state <> 'idle'"), "the transaction that it is to end")
    daemon.kill9()
    daemon.start()
    broker.wait_done(deliveries)
    proxy.release()
    wait_until(lambda: not set(stale) & set(database.backends()), "the stale backend to be gone")
    assert numbers(database, "count") == list(range(21))


def test_a_database_made_anew(make_daemon, broker, database):
    """Dropped and created again while the daemon runs: it migrates it as it did the first one, and goes on."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    database.query("DROP SCHEMA sensorlog CASCADE; DROP SCHEMA telemetry CASCADE")
    for backend in database.backends():
        database.query("SELECT pg_terminate_backend(%s)", [backend])
    broker.wait_done(broker.route("count/1", count(1)))
    assert numbers(database, "count") == [1]
    daemon.log.wait_for(r"schema sensorlog is gone")


def test_a_locked_table_holds_up_no_other_mapping(make_daemon, broker, database):
    """Neither where a partition ahead is missing when the daemon starts, nor where a row needs one."""
    daemon = make_daemon(broker, [READING, COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("reading/1", reading(0)) + broker.route("count/1", count(0)))
    daemon.stop()
    newest = database.value("SELECT max(inhrelid::regclass::text) FROM pg_inherits"
                            " WHERE inhparent = 'telemetry.reading'::regclass")
    database.query(f"DROP TABLE {newest}")
    with database.locked("telemetry.reading"):
        daemon.start()
        broker.wait_done(broker.route("count/1", count(1)))
        two_years = 2 * 366 * 86400 * 1000
        old = broker.route("reading/1", reading(1 - two_years))
        wait_until(database.backends_waiting_for_a_lock, "the partition of two years ago to wait")
        database.query("DROP TABLE " + ", ".join(database.column(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'telemetry.count'::regclass")))
        new = broker.route("count/1", count(2))  # is acknowledged in its turn, after the old one
        wait_until(lambda: numbers(database, "count") == [2], "a row in a partition that is made meanwhile")
    broker.wait_done(old + new)
    assert numbers(database, "reading") == [1 - two_years, 0]


def test_a_role_that_only_reads_by_default(make_daemon, broker, database):
    database.query(f"ALTER ROLE logger IN DATABASE {database.name} SET default_transaction_read_only = on")
    make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    assert numbers(database, "count") == [0]
