"""What a site does to the daemon: a role's settings, a broker's and a database's words, a partition dropped by hand, an
index gone bad, a second daemon, an operator's stop at any moment. An acknowledgement stays a promise."""
import contextlib
import json
import os
import signal
import time

import pytest

from harness import daemon as sensorlogd
from harness import wire
from harness.mappings import COUNT, READING, count, reading
from harness.processes import Process
from harness.wait import PATIENCE, wait_until

DAY_MS = 86400 * 1000
MIB = 1024 * 1024

BLOB = """{
    name = "blob";
    filter = "blob/+";
    decoder = "text";
    table = "blob";
    columns = ({ name = "bytes"; type = "bytea"; from = "payload"; });
  }"""


def numbers(database, table):
    return sorted(database.column(f"SELECT n FROM telemetry.{table}"))


def rejects(database):
    return database.query("SELECT mapping, convert_from(payload, 'UTF8'), sqlstate FROM sensorlog.reject ORDER BY id")


def set_for_the_role(database, setting, value):
    """In this database only, from the role's next connection on."""
    database.query(f"ALTER ROLE logger IN DATABASE {database.name} SET {setting} = '{value}'")


def triggered(database, table, body):
    """A trigger before each row; body is PL/pgSQL."""
    database.query(f"""
        CREATE FUNCTION of_the_site() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} RETURN new; END$$;
        CREATE TRIGGER of_the_site BEFORE INSERT ON telemetry.{table} FOR EACH ROW EXECUTE FUNCTION of_the_site()""")


def partition_of(database, table, where="true"):
    return database.value(f"SELECT tableoid::regclass::text FROM telemetry.{table} WHERE {where}")


@contextlib.contextmanager
def one_batch(daemon, broker, database, topic, payload):
    """What is routed in the block gathers into the next batch, behind this message, whose table is locked; the value is
    the locking transaction. Not before everything is in does the lock go."""
    before = daemon.messages()
    routed = len(broker.entries("PUBLISH", "<"))
    with database.locked(f"telemetry.{topic.split('/')[0]}") as locking:
        broker.route(topic, payload)
        wait_until(database.backends_waiting_for_a_lock, "the batch before to wait for the lock")
        yield locking
        daemon.wait_messages(before + len(broker.entries("PUBLISH", "<")) - routed)


# ---- a role's settings ----


def test_a_role_that_does_not_wait_for_the_disk(make_daemon, broker, cluster, database):
    """synchronous_commit = off: what is acknowledged is there after kill -9 of PostgreSQL nevertheless."""
    set_for_the_role(database, "synchronous_commit", "off")
    # What does not wait for its write-ahead log finds it written ten seconds later.
    with database.server_settings(wal_writer_delay="10s"):
        daemon = make_daemon(broker, [COUNT])
        broker.wait_subscribed()
        for n in range(100):
            broker.wait_done(broker.route("count/1", count(n)))
        cluster.kill9()
        cluster.start()
        assert numbers(database, "count") == list(range(100))
    assert len(daemon.log.find("synchronous_commit is off")) == 1, "it is said once"


def test_a_role_with_a_short_statement_timeout(make_daemon, broker, database):
    """A batch that takes longer is stored; it would take as long the next time."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    set_for_the_role(database, "statement_timeout", "300ms")
    triggered(database, "count", "PERFORM pg_sleep(0.005);")
    for backend in database.backends():
        database.query("SELECT pg_terminate_backend(%s)", [backend])
    broker.wait_done(broker.route("count/1", count(1)))
    with one_batch(daemon, broker, database, "count/1", count(2)):
        deliveries = [one for n in range(3, 200) for one in broker.route("count/1", count(n))]
    broker.wait_done(deliveries)
    assert numbers(database, "count") == list(range(200))


# ---- words of others ----


FORGERY = "busy\nWATCHDOG=trigger\nMAINPID=1\n<0>forged"


def told(daemon):
    """The names of all variables that the notify socket has been told."""
    return {name for _, fields in list(daemon.notify.messages) for name in fields}


def test_a_broker_cannot_speak_to_systemd(make_daemon, broker, database):
    """A Reason String with newlines stays one line of the status, and of the log."""
    def refuse(connection):
        connection.send(wire.connack(5, 0x88, values={"reason_string": FORGERY}))
        connection.close()

    broker.admit = refuse
    daemon = make_daemon(broker, [COUNT])
    daemon.notify.wait_for("STATUS", lambda status: "busy" in status)
    assert told(daemon) <= {"READY", "STATUS"}
    assert not daemon.log.find("^(<0>|MAINPID)")


def test_a_database_cannot_speak_to_systemd(make_daemon, broker, database):
    """An error's text with newlines, from a table's trigger."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    triggered(database, "count", f"RAISE EXCEPTION USING MESSAGE = '{FORGERY}', ERRCODE = '58030';")
    deliveries = broker.route("count/1", count(1))
    daemon.notify.wait_for("STATUS", lambda status: "busy" in status)
    assert told(daemon) <= {"READY", "STATUS"}
    assert not daemon.log.find("^(<0>|MAINPID)")
    database.query("DROP TRIGGER of_the_site ON telemetry.count")
    broker.wait_done(deliveries)
    assert numbers(database, "count") == [0, 1]


# ---- partitions ----


def long_ago(n):
    """A payload for READING, for a partition of its own."""
    return json.dumps({"n": n, "ts": int(time.time() * 1000) - 100 * DAY_MS}).encode()


def test_a_partition_dropped_and_a_bad_row_in_one_batch(make_daemon, broker, database):
    """Each costs the batch an attempt or more; only the bad row is a reject."""
    daemon = make_daemon(broker, [READING])
    broker.wait_subscribed()
    broker.wait_done(broker.route("reading/1", long_ago(1)) + broker.route("reading/1", reading(2)))
    database.query("ALTER TABLE telemetry.reading ADD CONSTRAINT lucky CHECK (n <> 13)")
    database.query(f"DROP TABLE {partition_of(database, 'reading', 'n = 1')}")
    with one_batch(daemon, broker, database, "reading/1", reading(3)):
        deliveries = [one for payload in (reading(13), reading(4), long_ago(5), reading(6), long_ago(7))
                      for one in broker.route("reading/1", payload)]
    broker.wait_done(deliveries)
    assert numbers(database, "reading") == [2, 3, 4, 5, 6, 7]
    assert [(json.loads(payload)["n"], state) for _, payload, state in rejects(database)] == [(13, "23514")]


def test_a_partition_dropped_while_a_batch_has_failed_often(make_daemon, broker, database):
    """It has had its attempts, for want of a lock; none of them was for want of a partition."""
    set_for_the_role(database, "lock_timeout", "100ms")
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    partition = partition_of(database, "count")
    failures = daemon.metric("sensorlog_commit_failures_total")
    with database.locked("telemetry.count") as locking:
        deliveries = [one for n in range(1, 6) for one in broker.route("count/1", count(n))]
        wait_until(lambda: daemon.metric("sensorlog_commit_failures_total") >= failures + 4, "four attempts")
        locking.cursor().execute(f"DROP TABLE {partition}")
        locking.commit()
    broker.wait_done(deliveries)
    assert numbers(database, "count") == [1, 2, 3, 4, 5]
    assert rejects(database) == []


# ---- much and corrupt ----


@pytest.mark.limit(400)
def test_no_transaction_of_any_size(make_daemon, broker, database):
    """While a table is locked a hundred MiB gather; they are several transactions, for no message of PostgreSQL's
    protocol takes a GiB."""
    daemon = make_daemon(broker, [BLOB], conf={"batch": {"memory": "256MiB"}})
    broker.wait_subscribed()
    broker.wait_done(broker.route("blob/1", b"first"))
    with one_batch(daemon, broker, database, "blob/1", b"second"):
        deliveries = [one for n in range(100) for one in broker.route("blob/1", b"%03d" % n + b"x" * (MIB - 3))]
    broker.wait_done(deliveries, 4 * PATIENCE)
    sizes = database.column("SELECT sum(length(bytes)) FROM telemetry.blob GROUP BY xmin::text")
    assert sum(sizes) == 100 * MIB + len("first" "second")
    assert max(sizes) <= 65 * MIB
    assert daemon.metric("sensorlog_commits_total") == len(sizes)


def test_a_corrupt_table_holds_up_no_other(make_daemon, broker, database):
    """After some tries its rows are rejects, with PostgreSQL's word for it."""
    daemon = make_daemon(broker, [COUNT, READING])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    triggered(database, "count", "RAISE EXCEPTION 'index \"count_pkey\" is corrupted' USING ERRCODE = 'XX002';")
    deliveries = [one for n in range(1, 51) for one in broker.route("count/1", count(n))
                  + broker.route("reading/1", reading(n))]
    broker.wait_done(deliveries)
    assert numbers(database, "reading") == list(range(1, 51))
    assert numbers(database, "count") == [0]
    refused = rejects(database)
    assert {mapping for mapping, _, _ in refused} == {"count"}
    assert sorted(int(payload) for _, payload, _ in refused) == list(range(1, 51))
    assert refused[0][2] == "XX002"
    assert daemon.metric("sensorlog_mapping_stopped", mapping="count") == 1


# ---- a stop ----


class Starting:
    """A daemon that begins to read its configuration, which is a pipe here: until configure() it reads on."""

    def __init__(self, configuration):
        with open(configuration.file) as file:
            self._text = file.read()
        self._path = configuration.path("pipe.conf")
        os.mkfifo(self._path)
        self.process = Process("sensorlogd", [sensorlogd.BINARY, "run", "-c", self._path])
        self._pipe = open(self._path, "w")  # as soon as the daemon has opened it too

    def configure(self):
        with self._pipe as pipe:
            pipe.write(self._text)
        os.unlink(self._path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_stop_while_it_reads_its_configuration(make_daemon, broker, number):
    """It waits until it can be a stop, and is no death by a signal."""
    daemon = Starting(make_daemon(broker, [COUNT], start=False).configuration)
    daemon.process.signal(number)
    daemon.configure()
    assert daemon.process.wait() == 0
    assert len(daemon.process.log.find("committing what is in, then stopping")) == 1


def test_a_stop_right_after_the_start(make_daemon, broker):
    """So many milliseconds after it has got its configuration, whatever it does by then."""
    configuration = make_daemon(broker, [COUNT], start=False).configuration
    for milliseconds in (0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50):
        daemon = Starting(configuration)
        daemon.configure()
        time.sleep(milliseconds / 1000)
        daemon.process.signal(signal.SIGTERM)
        assert daemon.process.wait() == 0, f"after {milliseconds} ms"


def test_a_stop_while_the_database_dies(make_daemon, broker, cluster, database):
    """Where no connection is left nothing can be committed: the time for it, 6 s, is not waited for."""
    daemon = make_daemon(broker, [COUNT], conf={"postgres": {"connections": 2}})
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    with database.locked("telemetry.count"):
        deliveries = broker.route("count/1", count(1))
        wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")
        daemon.signal(signal.SIGTERM)
        daemon.log.wait_for("committing what is in, then stopping")
        cluster.kill9()
        died = time.monotonic()
        assert daemon.wait() == 0
        assert time.monotonic() - died < 5
    assert not deliveries[0].done
    cluster.start()
    daemon.start()
    broker.wait_done(deliveries)
    assert numbers(database, "count") == [0, 1]


@contextlib.contextmanager
def worked_at(database, table):
    """Somebody works at the table, as VACUUM does: rows go in, partitions do not; .rollback() of the value lets go."""
    with contextlib.closing(database.connect()) as work:
        work.autocommit = False
        work.cursor().execute(f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE")
        yield work


def test_a_stop_while_a_partition_is_late(make_daemon, broker, database):
    """What waits for it is stored and acknowledged before the end."""
    daemon = make_daemon(broker, [READING])
    broker.wait_subscribed()
    broker.wait_done(broker.route("reading/1", reading(0)))
    with worked_at(database, "telemetry.reading") as work:
        deliveries = broker.route("reading/1", reading(1)) + broker.route("reading/1", long_ago(2))
        wait_until(database.backends_waiting_for_a_lock, "the partition to wait for the lock")
        daemon.signal(signal.SIGTERM)
        daemon.log.wait_for("committing what is in, then stopping")
        work.rollback()
        assert daemon.wait() == 0
    broker.wait_done(deliveries)
    assert numbers(database, "reading") == [0, 1, 2]


def test_a_stop_while_a_partition_cannot_be_made(make_daemon, broker, database):
    """What waits for it stays with the broker, and is stored after the next start."""
    daemon = make_daemon(broker, [READING])
    broker.wait_subscribed()
    broker.wait_done(broker.route("reading/1", reading(0)))
    with worked_at(database, "telemetry.reading"):
        deliveries = broker.route("reading/1", reading(1)) + broker.route("reading/1", long_ago(2))
        wait_until(database.backends_waiting_for_a_lock, "the partition to wait for the lock")
        deliveries += broker.route("reading/1", reading(3))
        daemon.wait_messages(4)
        assert daemon.stop() == 0
        acknowledged = {json.loads(delivery.payload)["n"] for delivery in deliveries if delivery.done}
        assert acknowledged <= set(numbers(database, "reading"))
        assert 2 not in numbers(database, "reading")
    daemon.start()
    broker.wait_done(deliveries)
    assert numbers(database, "reading") == [0, 1, 2, 3]
    assert rejects(database) == []


# ---- a second daemon ----


def test_two_daemons_with_one_name(make_daemon, make_broker, database):
    """They take turns, and say why; a transaction that the other has fenced off is repeated."""
    brokers = [make_broker(), make_broker()]
    daemons = []
    for broker in brokers:
        daemons.append(make_daemon(broker, [READING]))
        broker.wait_subscribed()
        broker.wait_done(broker.route("reading/1", reading(len(daemons))))
    deliveries = [[], []]
    for n in range(100, 200):
        for second, broker in enumerate(brokers):
            deliveries[second] += broker.route("reading/1", reading(n + 100 * second))
    daemons[0].log.wait_for('another sensorlogd uses the writer name "test"')
    for broker, routed in zip(brokers, deliveries):
        broker.wait_done(routed, timeout=2 * PATIENCE)
    assert numbers(database, "reading") == [1, 2, *range(100, 300)]
    assert rejects(database) == []
    assert sum(daemon.messages("stored") for daemon in daemons) == 202
