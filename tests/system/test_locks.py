"""A server with room for few locks, and tables of many partitions: a transaction needs a lock for each partition that it
writes to, and for each of its indexes. What has no room at once is committed in parts."""
import contextlib
import json
import re

import psycopg2
import pytest

from harness import cluster as postgresql
from harness.proxy import COMMIT_DONE, COMMIT_REQUEST, TO_CLIENT, TO_SERVER
from harness.spool import KEEPING, SPOOL, wait_direct, wait_state
from harness.wait import wait_until

DAYS = 400 # twice as many locks, where there is room for fewer than 700
NOON = 1700049600000  # of a day in 2023, as unix_ms
NO_ROOM = r"no room for a transaction of (\d+) rows \(out of shared memory\).*max_locks_per_transaction"


@pytest.fixture(scope="module")
def _cluster():
    cluster = postgresql.Cluster(max_locks_per_transaction="10", max_connections="20", max_worker_processes="0",
                                 max_wal_senders="0", autovacuum_max_workers="1")
    cluster.start()
    yield cluster
    cluster.remove()


def daily(name, key=""):
    return f"""{{
    name = "{name}"; filter = "{name}/+"; decoder = "json"; table = "{name}"; partition = "day"; {key}
    time = {{ from = "/ts"; format = "unix_ms"; }};
    columns = (
      {{ name = "n";     type = "int8"; from = "/n"; required = true; }},
      {{ name = "value"; type = "int8"; from = "/value"; }}
    );
  }}"""


DAILY = daily("daily")
KEYED = daily("keyed", 'key = ["n", "time"];')
WIDE = {"subscriber site": {"window": 10000}}


def reading(n, value=0):
    """The n-th is of the n-th day, and so again after DAYS."""
    return json.dumps({"n": n, "value": value, "ts": NOON + n % DAYS * 86400000 + n // DAYS}).encode()


def send(broker, table, first, last, value=0):
    return [one for n in range(first, last) for one in broker.route(f"{table}/1", reading(n, value))]


def waiting(database):
    """Backends that wait for a lock."""
    with contextlib.suppress(psycopg2.errors.OutOfMemory):  # at times there is no room for the question either
        return database.backends_waiting_for_a_lock()


def send_at_once(daemon, broker, database, table, first, last, **more):
    """As two batches, where there is one connection: one of the first message, which waits for a lock, and one of the
    others."""
    before = daemon.messages()
    with database.locked(f"ONLY telemetry.{table}"):
        deliveries = send(broker, table, first, first + 1, **more)
        wait_until(lambda: waiting(database), "the first to wait")
        deliveries += send(broker, table, first + 1, last, **more)
        daemon.wait_messages(before + last - first)
    return deliveries


@contextlib.contextmanager
def all_locks_taken(database):
    """By another transaction: nobody else's can begin to write."""
    with contextlib.closing(database.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = False
        with pytest.raises(psycopg2.errors.OutOfMemory):
            for number in range(100000):
                cursor.execute("SAVEPOINT s; SELECT pg_advisory_xact_lock(%s)", [number])
        cursor.execute("ROLLBACK TO s")
        yield


@pytest.fixture
def make_filled(make_daemon, broker, database):
    """make_filled(mapping, ...): a daemon whose table has a partition for each day, with the first DAYS readings; before:
    what is done to the table while it has none."""
    def make(mapping, before="SELECT", conf=None, **how):
        daemon = make_daemon(broker, [mapping], conf={**WIDE, **(conf or {})}, **how)
        broker.wait_subscribed()
        database.query(before)
        for first in range(0, DAYS, 100):  # no more than there is room for
            broker.wait_done(send(broker, mapping.split('"')[1], first, first + 100))
        assert daemon.metric("sensorlog_commit_failures_total") == 0
        return daemon
    return make


def each_partition(database, table, sql):
    """All rows of a query of each, one after the other: for all of them at once there is no room either."""
    partitions = database.column("SELECT inhrelid::regclass::text FROM pg_inherits"
                                 " WHERE inhparent = %s::regclass", [f"telemetry.{table}"])
    return [row for partition in partitions for row in database.query(sql.format(partition))]


def stored(database, table="daily"):
    return sorted(n for n, in each_partition(database, table, "SELECT n FROM {}"))


def transactions(database, table="daily"):
    """{transaction: what it has stored}, the oldest first."""
    made = {}
    for xid, n in sorted(each_partition(database, table, "SELECT xmin::text::bigint, n FROM {}")):
        made.setdefault(xid, []).append(n)
    return made


def test_a_batch_for_more_partitions_than_there_is_room_for(make_filled, broker, database):
    """It is committed in parts, in order, each row once."""
    daemon = make_filled(DAILY)
    broker.wait_done(send_at_once(daemon, broker, database, "daily", DAYS, 3 * DAYS))
    assert stored(database) == list(range(3 * DAYS)), "each once"
    assert daemon.messages("stored") == 3 * DAYS and database.count("sensorlog.reject") == 0
    failures = daemon.metric("sensorlog_commit_failures_total")
    assert 1 <= failures <= 4
    in_order = list(transactions(database).values())
    assert all(before[-1] < after[0] for before, after in zip(in_order, in_order[1:]))
    assert max(map(len, in_order[-4:])) < DAYS
    assert re.findall(NO_ROOM, daemon.log.text()) == [str(2 * DAYS - 1)], "said once, however often it is so"


def test_a_part_is_acknowledged_when_it_is_committed(make_filled, broker, database):
    """The last day's partition is locked: all parts but its own are stored, and acknowledged."""
    daemon = make_filled(DAILY)
    last = database.value("SELECT tableoid::regclass::text FROM telemetry.daily WHERE time > to_timestamp(%s)",
                          [NOON // 1000 + (DAYS - 2) * 86400 + 1])
    with contextlib.closing(database.connect()) as reader:
        reader.autocommit = False
        reader.cursor().execute(f"LOCK TABLE {last} IN SHARE MODE")  # it can be read
        deliveries = send_at_once(daemon, broker, database, "daily", DAYS, 2 * DAYS)
        wait_until(lambda: deliveries[DAYS // 4].done and waiting(database), "the parts before")
        done = [one.done for one in deliveries]
        acknowledged = done.index(False)
        assert not any(done[acknowledged:])
        assert set(range(DAYS + acknowledged)) <= set(stored(database)[:DAYS + acknowledged])
    broker.wait_done(deliveries)
    assert stored(database) == list(range(2 * DAYS))


def test_not_even_one_message(make_filled, broker, database):
    """Who has all the locks lets go in the end: until then it waits, and says what to do."""
    daemon = make_filled(DAILY)
    with all_locks_taken(database):
        deliveries = send(broker, "daily", DAYS, DAYS + 100)
        daemon.log.wait_for("out of shared memory; not even one message fits: raise PostgreSQL's max_locks_per_transaction")
        assert not any(one.done for one in deliveries)
    broker.wait_done(deliveries)
    assert stored(database) == list(range(DAYS + 100))


@pytest.mark.parametrize("on_conflict", ["reject", "update"])
def test_redeliveries_and_conflicts_of_all_partitions(make_filled, broker, database, on_conflict):
    """Rows that are there already are looked at in their own partitions alone."""
    daemon = make_filled(daily("keyed", f'key = ["n", "time"]; on_conflict = "{on_conflict}";'))
    broker.wait_done(send_at_once(daemon, broker, database, "keyed", 0, DAYS))
    assert daemon.messages("deduplicated") == DAYS
    broker.wait_done(send_at_once(daemon, broker, database, "keyed", 0, DAYS, value=1))
    assert daemon.metric("sensorlog_mapping_conflicts_total", mapping="keyed") == DAYS
    assert daemon.messages("rejected") == database.count("sensorlog.reject", "reason = 'conflict'") == \
        (DAYS if on_conflict == "reject" else 0)
    values = [value for value, in each_partition(database, "keyed", "SELECT value FROM {}")]
    assert values == [int(on_conflict == "update")] * DAYS


def test_one_redelivery(make_filled, broker, database):
    """It needs no more locks than its own partition's, however many there are, and however few are left."""
    daemon = make_filled(daily("keyed", 'key = ["n", "time"];'))
    broker.wait_done(send(broker, "keyed", 7, 8))
    failures = daemon.metric("sensorlog_commit_failures_total")
    assert failures <= 1, "of the first, for it was not expected"
    broker.wait_done(send(broker, "keyed", 7, 8))
    broker.wait_done(send(broker, "keyed", 7, 8, value=1))
    assert (daemon.messages("deduplicated"), daemon.messages("rejected")) == (2, 1)
    assert daemon.metric("sensorlog_commit_failures_total") == failures


@pytest.mark.parametrize("constraint", ["CHECK (n % 3 <> 0 OR value = 0)", "CHECK (n % 3 <> 0 OR value < random())"])
def test_rows_at_fault_in_all_partitions(make_filled, broker, database, constraint):
    """Looking for them, by one question or one by one, needs locks too."""
    daemon = make_filled(DAILY, before=f"ALTER TABLE telemetry.daily ADD CONSTRAINT third {constraint}")
    broker.wait_done(send_at_once(daemon, broker, database, "daily", DAYS, 2 * DAYS, value=1))
    good = [n for n in range(DAYS, 2 * DAYS) if n % 3]
    assert stored(database) == list(range(DAYS)) + good
    assert sorted(database.column("SELECT (convert_from(payload, 'UTF8')::jsonb ->> 'n')::int FROM sensorlog.reject"
                                  " WHERE sqlstate = '23514'")) == [n for n in range(DAYS, 2 * DAYS) if n % 3 == 0]


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("pattern, direction", [(COMMIT_REQUEST, TO_SERVER), (COMMIT_DONE, TO_CLIENT)],
                         ids=["before", "after"])
def test_the_connection_is_cut_in_the_commit_of_a_part(make_filled, make_proxy, broker, cluster, database, connections,
                                                       pattern, direction):
    """No key: a part that is stored twice, or not at all, is seen."""
    proxy = make_proxy(cluster.port)
    daemon = make_filled(DAILY, conninfo=database.conninfo("127.0.0.1", proxy.port),
                         conf={"postgres": {"connections": connections}})
    deliveries = send_at_once(daemon, broker, database, "daily", DAYS, 2 * DAYS)
    proxy.when(pattern, direction, "cut", times=3)
    broker.wait_done(deliveries)
    broker.wait_done(send_at_once(daemon, broker, database, "daily", 2 * DAYS, 3 * DAYS))
    assert stored(database) == list(range(3 * DAYS))
    assert proxy.trips == 3 and daemon.messages("stored") == 3 * DAYS


def test_the_spool_is_drained_in_parts(make_filled, broker, cluster, database):
    """With PostgreSQL back its entries are stored in order, each once, and new messages beside them."""
    daemon = make_filled(DAILY, conf={"spool": SPOOL})
    cluster.stop()
    wait_state(daemon, KEEPING)
    broker.wait_done(send(broker, "daily", DAYS, 3 * DAYS))
    cluster.start()
    broker.wait_done(send(broker, "daily", 3 * DAYS, 4 * DAYS))
    wait_direct(daemon)
    assert stored(database) == list(range(4 * DAYS))
    in_order = list(transactions(database).values())
    assert all(before[-1] < after[0] for before, after in zip(in_order, in_order[1:]))


@pytest.mark.parametrize("connections", [1, 3])
def test_a_cut_off_transaction_of_conflicts_is_judged_anew(make_filled, broker, database, connections):
    """It is sent again as the rows that it had been, which fit: their rejects would make it too large once more."""
    daemon = make_filled(daily("keyed", 'key = ["n", "time"]; on_conflict = "reject";'),
                         conf={"postgres": {"connections": connections}})
    broker.wait_done(send_at_once(daemon, broker, database, "keyed", DAYS, 2 * DAYS))
    broker.wait_done(send(broker, "keyed", 0, 1, value=1))
    before = daemon.messages()
    with database.locked("sensorlog.reject"):
        with database.locked("ONLY telemetry.keyed"):
            deliveries = send(broker, "keyed", 2 * DAYS + 5, 2 * DAYS + 6)
            wait_until(lambda: waiting(database), "the first to wait")
            deliveries += send(broker, "keyed", 1, DAYS, value=1)
            daemon.wait_messages(before + DAYS)
        wait_until(lambda: deliveries[0].done, "the first to be stored")
        wait_until(lambda: waiting(database), "the rejects to wait")
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    broker.wait_done(deliveries)
    wait_until(lambda: daemon.messages("rejected") == DAYS, "all conflicts to be counted")
    assert database.count("sensorlog.reject", "reason = 'conflict'") == DAYS
