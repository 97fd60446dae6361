"""The spool where it gets tight or odd: full, the disk full, its file damaged, bad messages in it, reload and stop,
turned off."""
import contextlib
import errno
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys

import pytest

from harness.daemon import repository, run_command
from harness.load import mqtt_publish
from harness.mappings import COUNT, READING, count, reading, text_mapping
from harness.proxy import COMMIT_DONE, TO_CLIENT
from harness.sensor import Sensor
from harness.spool import (
    DIRECT, DRAINING, KEEPING, SPOOL, in_order, numbers, publish_all, spool_balances, wait_direct, wait_state)
from harness.wait import TimedOut, wait_until

sys.path.insert(0, repository("tests"))
from chaos.shim import Shim  # noqa: E402

FILE = "/state/spool.db"


@pytest.fixture
def disk(tmp_path):
    return Shim(tmp_path)


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
        len(sensor.acknowledged) for sensor in sensors) == daemon.metric("sensorlog_spool_messages") else None,
                              "the acknowledgements")
    assert daemon.metric("sensorlog_spool_limit_bytes") == 1 << 20
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
    daemon.log.wait_for("the oldest messages are dropped")
    wait_until(lambda: daemon.messages("dropped", source="spool") == daemon.metric("sensorlog_spool_dropped_total") > 0,
               "the books and the spool to agree on what was dropped")
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
    wait_until(lambda: daemon.metric("sensorlog_spool_failing") == 1, "the metric to say so")
    sensor.nothing()
    resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (hard, hard))
    for pid in pids:
        sensor.expect("PUBACK", pid=pid)
    site.kill9()
    daemon.start()
    cluster.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(500))}


@pytest.mark.parametrize("end", ["there is room again", "kill -9"])
def test_the_disk_gets_full_in_the_drain(make_builtin, cluster, database, disk, end):
    """What is stored cannot be deleted from the file, which takes room too. All that is in it is stored all the same,
    once; what it cannot take is not acknowledged."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL, "batch": {"max_rows": 50}},
                        environment=disk.environment)
    daemon, sensor = site.daemon, site.client(4)
    cluster.stop()
    wait_state(daemon, KEEPING)
    publish_all(sensor, 0, 3000)
    daemon.signal(signal.SIGSTOP)
    cluster.start()
    with database.locked("telemetry.count"):
        daemon.signal(signal.SIGCONT)
        wait_until(database.backends_waiting_for_a_lock, "the drain to begin")
        disk.fail(FILE, write=errno.ENOSPC)
        pids = [sensor.send_publish("count/1", count(n), 1) for n in range(3000, 3020)]
        daemon.log.wait_for(r"spool .*: the disk is full .*: make room there\. .*not acknowledged; trying again")
        # All of them behind the others: when the last of those are on their way, what comes waits in memory.
        wait_until(lambda: daemon.messages(source="broker") == 3020, "the daemon to have them all")
    wait_until(lambda: database.count("telemetry.count") == 3000, "all that was in the file to be stored")
    sensor.nothing()
    assert daemon.metric("sensorlog_spool_failing") == 1
    assert daemon.metric("sensorlog_spool_messages") == 3020, "nothing could be deleted"
    if end == "kill -9":
        site.kill9()
        disk.heal()
        daemon.start()
        sensor = site.client(4)
        publish_all(sensor, 3000, 3020)  # none was acknowledged
    else:
        disk.heal()
        for pid in pids:
            sensor.expect("PUBACK", pid=pid)
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(3020))}


@pytest.mark.parametrize("messages", [1000, 5000])
def test_a_drain_ends_though_the_disk_is_full(make_builtin, cluster, database, disk, messages):
    """Messages that the file has not been given need no room in it, and acknowledgements come from PostgreSQL. What is
    stored and still in the file does not count, and be it more than fits into memory."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL, "batch": {"memory": "2MiB"}},
                        environment=disk.environment)
    daemon, sensor = site.daemon, site.client(4)
    cluster.stop()
    wait_state(daemon, KEEPING)
    publish_all(sensor, 0, messages)
    with disk.failing(FILE, write=errno.ENOSPC):
        cluster.start()
        wait_state(daemon, DIRECT)
        publish_all(sensor, messages, messages + 100)
        assert in_order(database) == {"1": list(range(messages + 100))}
        assert daemon.metric("sensorlog_spool_messages") == messages, "nothing could be deleted"
        site.kill9()
    daemon.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(messages + 100))}


def test_what_had_committed_does_not_hold_up_the_end_of_the_drain(make_builtin, make_proxy, cluster, database, disk):
    """It is in the file, nothing is behind it, and it cannot be deleted: the disk is full."""
    proxy = make_proxy(cluster.port)
    site = make_builtin(database, [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port), conf={"spool": SPOOL},
                        environment=disk.environment)
    daemon, sensor = site.daemon, site.client(4)
    publish_all(sensor, 0, 10)
    proxy.when(COMMIT_DONE, TO_CLIENT, "hold")
    pid = sensor.send_publish("count/1", count(10), 1)
    wait_until(lambda: proxy.trips == 1, "a COMMIT")
    proxy.refusing = True
    proxy.cut()
    sensor.expect("PUBACK", pid=pid)
    with disk.failing(FILE, write=errno.ENOSPC):
        proxy.refusing = False
        wait_state(daemon, DIRECT)
        publish_all(sensor, 11, 100)
        assert in_order(database) == {"1": list(range(100))}
        assert daemon.metric("sensorlog_spool_messages") == 1
        site.kill9()
    daemon.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(100))}


def test_a_start_on_a_full_disk(make_builtin, cluster, database, disk):
    """After kill -9; it says what is the matter, and the next start is as ever."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL}, environment=disk.environment)
    daemon = site.daemon
    cluster.stop()
    wait_state(daemon, KEEPING)
    publish_all(site.client(4), 0, 100)
    site.kill9()
    with disk.failing(FILE, write=errno.ENOSPC), pytest.raises(AssertionError, match="did not start"):
        daemon.start()
    assert daemon.wait() == 1
    assert daemon.log.find(r"error: .*/state/spool\.db: the disk is full \(No space left on device\): make room there")
    cluster.start()
    daemon.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(100))}


# ---- a page of the file is damaged while the daemon runs ----


class Damage:
    """Zeros in a page of entries in the middle of the file: .first are before it, .count are on it."""

    def __init__(self, daemon):
        self.path = daemon.configuration.path("state/spool.db")
        with contextlib.closing(sqlite3.connect(self.path)) as other:
            # The page is to be read from there: not from the log, and what the daemon remembers is void then.
            assert other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
            pages = other.execute("SELECT pageno, ncell, pgsize FROM dbstat WHERE name = 'entry' AND pagetype = 'leaf'"
                                  " ORDER BY path").fetchall()
        middle = len(pages) // 2
        self.first = sum(count for _, count, _ in pages[:middle])
        page, self.count, self._size = pages[middle]
        self._at = (page - 1) * self._size
        with open(self.path, "rb") as file:
            file.seek(self._at)
            self._before = file.read(self._size)
        self._put(bytes(self._size))

    def _put(self, page):
        with open(self.path, "r+b") as file:
            file.seek(self._at)
            file.write(page)

    def undo(self):
        self._put(self._before)


@pytest.fixture
def damaged(make_builtin, cluster, database, disk):
    """(site, sensor, damage): PostgreSQL is back, and has of 1000 messages what is before a page that was damaged when it
    was away."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL}, environment=disk.environment)
    daemon, sensor = site.daemon, site.client(4)
    cluster.stop()
    wait_state(daemon, KEEPING)
    publish_all(sensor, 0, 1000)
    damage = Damage(daemon)
    cluster.start()
    wait_until(lambda: database.count("telemetry.count") >= damage.first, "what is before the page to be stored")
    daemon.log.wait_for(f"error: spool {re.escape(damage.path)}: the file is damaged")
    return site, sensor, damage


def wait_stuck(daemon, damage):
    daemon.log.wait_for(f"error: spool .*: what comes after message number {damage.first} cannot be read;"
                        f" {1000 - damage.first} message.s. wait for it, new ones are kept behind them")


def test_a_damaged_page_stops_the_drain_and_nothing_else(damaged, database):
    """What is before it is stored, nothing after it overtakes it, new messages are acknowledged, from the file behind it.
    People are told; when it can be read again the drain goes on."""
    site, sensor, damage = damaged
    daemon = site.daemon
    for n in range(1000, 1100, 10):  # at first they wait in memory for the end of the drain
        publish_all(sensor, n, n + 10)
    wait_stuck(daemon, damage)
    assert daemon.metric("sensorlog_spool_state") == DRAINING
    assert daemon.metric("sensorlog_spool_failing") == 1
    wait_until(lambda: "the file is damaged" in daemon.notify.values("STATUS")[-1], "the status to say so")
    assert in_order(database) == {"1": list(range(damage.first))}
    damage.undo()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(1100))}
    spool_balances(daemon)


def test_an_outage_does_not_end_a_drain_before_the_damaged_page(make_builtin, make_proxy, cluster, database):
    """PostgreSQL is away again while what is before the page is on its way there, and what comes after it is being read
    in vain. It is read again, and stored."""
    proxy = make_proxy(cluster.port)
    site = make_builtin(database, [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port), conf={"spool": SPOOL})
    daemon, sensor = site.daemon, site.client(4)
    proxy.refusing = True
    proxy.cut()
    wait_state(daemon, KEEPING)
    publish_all(sensor, 0, 1000)
    damage = Damage(daemon)
    with database.locked("telemetry.count"):
        proxy.refusing = False
        daemon.log.wait_for("the file is damaged")
        wait_until(database.backends_waiting_for_a_lock, "the drain to wait for the lock")
        proxy.refusing = True
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'logger'")
        wait_until(lambda: not database.backends(), "its end")
        wait_state(daemon, KEEPING)
    proxy.refusing = False
    wait_until(lambda: database.count("telemetry.count") == damage.first, "what is before the page to be stored")
    publish_all(sensor, 1000, 1100)
    damage.undo()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(1100))}
    spool_balances(daemon)


def test_a_stop_where_a_page_is_damaged(damaged, database, disk):
    """What is in becomes durable, and is acknowledged, though something else cannot be done."""
    site, sensor, damage = damaged
    daemon = site.daemon
    publish_all(sensor, 1000, 1010)
    wait_stuck(daemon, damage)
    with disk.failing(FILE, delay=0.1):
        pids = [sensor.send_publish("count/1", count(n), 1) for n in range(1010, 1020)]
        wait_until(lambda: daemon.messages(source="broker") == 1020, "the daemon to have them all")
        assert daemon.stop() == 0
    for pid in pids:
        sensor.expect("PUBACK", pid=pid)
    damage.undo()
    daemon.start()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(1020))}


def test_the_way_out_of_a_damaged_page(damaged, database):
    """What the log says: the messages on the page are lost, no other, and nothing is stored twice."""
    site, _, damage = damaged
    daemon = site.daemon
    said = daemon.log.find("the file is damaged")[0]
    assert daemon.stop() == 0
    refused = run_command("run", "-c", daemon.configuration.file)
    assert refused.returncode == 1
    assert "the file is damaged" in refused.stderr
    command = re.search(r"by this command, which needs the package sqlite3: (.*); then put it in the old one's place", said)
    subprocess.run(["sh", "-c", command[1]], check=True)
    with contextlib.closing(sqlite3.connect(damage.path + ".new")) as new:
        assert new.execute("PRAGMA auto_vacuum").fetchone()[0] == 2, "it can get smaller, as the old one"
    os.replace(damage.path + ".new", damage.path)
    with contextlib.suppress(FileNotFoundError):
        os.remove(damage.path + "-wal")
    daemon.start()
    publish_all(site.client(4), 1000, 1100)
    wait_direct(daemon)
    assert in_order(database) == {"1": [*range(damage.first), *range(damage.first + damage.count, 1100)]}


# ---- PostgreSQL answers, and commits nothing ----


def refuse(database, table, sqlstate):
    """All rows of the table, until no_more() is called."""
    database.query(f"""CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'no room for it' USING ERRCODE = '{sqlstate}'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION public.refuse()""")

    def no_more():
        database.query(f"DROP TRIGGER refuse ON {table}")
    return no_more


def fail_again(daemon, times):
    """Until so many more transactions have failed."""
    goal = daemon.metric("sensorlog_commit_failures_total") + times
    wait_until(lambda: daemon.metric("sensorlog_commit_failures_total") >= goal, f"{times} more failures")


def trouble(daemon, mark=0):
    return daemon.log.find("postgres: connection|of no use|epoch|is back|left", mark)


@pytest.mark.parametrize("table, sqlstate", [("telemetry.count", "53100"), ("sensorlog.reject", "42501")],
                         ids=["full disk", "no rejects"])
def test_nothing_can_be_committed_for_long(make_builtin, database, table, sqlstate):
    """It is tried again, ever less often, with what was drained first; new messages are acknowledged meanwhile, from the
    file. The log says it once, and people see that it is so."""
    site = make_builtin(database, [COUNT], conf={"spool": SPOOL})
    daemon, sensor = site.daemon, site.client(4)
    publish_all(sensor, 0, 10)
    no_more = refuse(database, table, sqlstate)
    if table == "sensorlog.reject":
        sensor.send_publish("count/1", b"bad", 1, pid=999)
        sensor.expect("PUBACK", pid=999)
    publish_all(sensor, 10, 100)
    wait_state(daemon, DRAINING)
    fail_again(daemon, 2)
    daemon.log.wait_for("PostgreSQL is back")
    epoch, mark = database.value("SELECT epoch FROM sensorlog.writer"), daemon.log.mark()
    for first in (100, 200):
        publish_all(sensor, first, first + 100)
        fail_again(daemon, 1)
        assert daemon.metric("sensorlog_spool_state") == DRAINING
        assert daemon.metric("sensorlog_database_up") == 0
    wait_until(lambda: "no room for it" in daemon.notify.values("STATUS")[-1]
               and "commits nothing" in daemon.notify.values("STATUS")[-1], "the status to say so")
    assert database.value("SELECT epoch FROM sensorlog.writer") == epoch
    assert trouble(daemon, mark) == []
    assert len(daemon.log.find("no room for it")) == 1
    assert len(trouble(daemon)) <= 10
    no_more()
    wait_direct(daemon)
    assert in_order(database) == {"1": list(range(300))}
    assert database.value("SELECT epoch FROM sensorlog.writer") == epoch
    wait_until(lambda: len(daemon.log.find("connection 0 is up")) == 2, "the log to say that it is over")
    assert daemon.metric("sensorlog_database_up") == 1
    spool_balances(daemon)


def test_nothing_can_be_committed_without_a_spool(make_builtin, database):
    """The same is said once, and that it is over when something has been committed."""
    site = make_builtin(database, [COUNT])
    daemon, sensor = site.daemon, site.client(4)
    publish_all(sensor, 0, 1)
    daemon.log.wait_for("connection 0 is up")
    no_more, mark = refuse(database, "telemetry.count", "53100"), daemon.log.mark()
    pid = sensor.send_publish("count/1", count(1), 1)
    fail_again(daemon, 5)
    assert daemon.metric("sensorlog_database_up") == 0
    daemon.log.wait_for("no room for it", mark)
    assert len(trouble(daemon, mark)) == 1
    no_more()
    sensor.expect("PUBACK", pid=pid)
    wait_until(lambda: len(trouble(daemon, mark)) == 2, "the end of it")
    assert daemon.log.find("connection 0 is up", mark)


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
