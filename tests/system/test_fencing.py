"""Several daemons on one database. By one writer name: who comes last is the writer, and the one before can commit
nothing behind its back. By names of their own: they share a subscription, and what one leaves another takes."""
import os
import re
import signal

import pytest

from harness.load import Publisher
from harness.mappings import COUNT, READING, count, reading
from harness.proxy import COMMIT_DONE, COMMIT_REQUEST, TO_CLIENT, TO_SERVER
from harness.wait import PATIENCE, wait_until

# Who has lost the name waits some seconds before it takes it back.
BACK = PATIENCE + 30
TAKEN_OVER = 'another sensorlogd uses the writer name "test"'


def numbers(database, table="count"):
    return sorted(database.column(f"SELECT n FROM telemetry.{table}"))


def epoch(database):
    return database.value("SELECT epoch FROM sensorlog.writer WHERE writer = 'test'")


def stopped(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"


def freeze(daemon):
    daemon.signal(signal.SIGSTOP)
    wait_until(lambda: stopped(daemon.pid), "the daemon to stand still")


# ---- one name ----


@pytest.mark.parametrize("mapping, payload", [(COUNT, count), (READING, reading)], ids=["without key", "with key"])
def test_frozen_within_a_transaction(make_daemon, make_broker, database, mapping, payload):
    """The first is stopped with a transaction open, which its successor ends; thawed it says who has taken over, and
    sends its messages again when it has the name."""
    brokers = [make_broker(), make_broker()]
    first = make_daemon(brokers[0], [mapping])
    brokers[0].wait_subscribed()
    topic = "count/1" if mapping is COUNT else "reading/1"
    table = topic.split("/")[0]
    brokers[0].wait_done(brokers[0].route(topic, payload(0)))
    with database.locked(f"telemetry.{table}") as locking:
        waiting = brokers[0].route(topic, payload(1))
        wait_until(database.backends_waiting_for_a_lock, "the first one's transaction")
        freeze(first)
        second = make_daemon(brokers[1], [mapping], wait_database=False)
        second.log.wait_for("waiting for an earlier transaction of this writer to end")
        second.log.wait_for("still held a transaction of writer \"test\" and was told to end")
        second.wait_database()
        locking.rollback()
    brokers[1].wait_subscribed()
    brokers[1].wait_done(brokers[1].route(topic, payload(2)))
    assert numbers(database, table) == [0, 2]
    first.signal(signal.SIGCONT)
    brokers[0].wait_done(waiting, timeout=BACK)
    brokers[1].wait_done(brokers[1].route(topic, payload(3)), timeout=BACK)
    assert numbers(database, table) == [0, 1, 2, 3]
    assert first.metric("sensorlog_ambiguous_repeated_total") == 1


@pytest.mark.parametrize("done", [False, True], ids=["COMMIT on its way", "COMMIT answered"])
def test_frozen_at_its_commit(make_daemon, make_broker, make_proxy, cluster, database, done):
    """Its COMMIT is on the way to the server, or the answer on its way back: what it did not hear is resolved, also
    when another one has had the name since."""
    proxy = make_proxy(cluster.port)
    brokers = [make_broker(), make_broker()]
    first = make_daemon(brokers[0], [COUNT], conninfo=database.conninfo("127.0.0.1", proxy.port))
    brokers[0].wait_subscribed()
    brokers[0].wait_done(brokers[0].route("count/1", count(0)))
    if done:
        proxy.when(COMMIT_DONE, TO_CLIENT, "hold")
    else:
        proxy.when(COMMIT_REQUEST, TO_SERVER, "hold")
    waiting = brokers[0].route("count/1", count(1))
    wait_until(lambda: proxy.trips, "the COMMIT")
    freeze(first)
    second = make_daemon(brokers[1], [COUNT])
    brokers[1].wait_subscribed()
    brokers[1].wait_done(brokers[1].route("count/1", count(2)))
    assert numbers(database) == ([0, 1, 2] if done else [0, 2])
    if done:
        assert not second.log.find("was told to end")
    else:
        second.log.wait_for("was told to end")
    first.signal(signal.SIGCONT)
    proxy.release()
    brokers[0].wait_done(waiting, timeout=BACK)
    assert numbers(database) == [0, 1, 2]
    brokers[1].wait_done(brokers[1].route("count/1", count(3)), timeout=BACK)
    brokers[0].wait_done(brokers[0].route("count/1", count(4)), timeout=BACK)
    assert numbers(database) == [0, 1, 2, 3, 4]


def test_an_old_one_cannot_commit(make_daemon, make_broker, database):
    """Thawed between two transactions, with messages at hand: its next one fails, it says so, and acknowledges only what
    it has stored later, in an epoch of its own."""
    brokers = [make_broker(), make_broker()]
    first = make_daemon(brokers[0], [COUNT])
    brokers[0].wait_subscribed()
    brokers[0].wait_done(brokers[0].route("count/1", count(0)))
    freeze(first)
    second = make_daemon(brokers[1], [COUNT])
    brokers[1].wait_subscribed()
    assert epoch(database) == 2
    waiting = brokers[0].route("count/1", count(1))
    first.signal(signal.SIGCONT)
    first.log.wait_for(TAKEN_OVER)
    stored, acknowledged = numbers(database), waiting[0].done
    assert epoch(database) > 2 or stored == [0] and not acknowledged
    brokers[1].wait_done(brokers[1].route("count/1", count(2)), timeout=BACK)
    brokers[0].wait_done(waiting, timeout=BACK)
    assert epoch(database) > 2, "it has taken the name back, since nobody told it to end"
    assert second.stop() == 0
    brokers[0].wait_done(brokers[0].route("count/1", count(3)), timeout=BACK)
    assert numbers(database) == [0, 1, 2, 3]


def test_a_successor_after_kill_9_of_a_frozen_one(make_daemon, broker, database):
    """The box froze, the service was started elsewhere: once each."""
    first = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    with database.locked("telemetry.count") as locking:
        waiting = broker.route("count/1", count(0))
        wait_until(database.backends_waiting_for_a_lock, "its transaction")
        freeze(first)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        second = make_daemon(broker, [COUNT], wait_database=False)
        second.log.wait_for("was told to end")
        locking.rollback()
    broker.wait_done(waiting)
    assert numbers(database) == [0]


# ---- a name each ----


SHARED = {"share": "loggers", "client_id": None}


def member(make_daemon, site, number, mapping):
    daemon = make_daemon(site, [mapping], conf={
        "postgres": {"writer": f"box{number}"},
        "subscriber site": {**SHARED, "client_id": f"box{number}", "session_expiry": "1h"}})
    daemon.wait_subscribed()
    return daemon


@pytest.mark.parametrize("victim", ["kill -9", "frozen"])
def test_a_share_of_the_load(make_daemon, site, database, victim):
    """Three boxes behind one $share: one dies under load, or stands still and comes back. Nothing is lost, and by key
    nothing is there twice."""
    boxes = [member(make_daemon, site, number, READING) for number in range(3)]
    publisher = Publisher(site.port, "reading/1", reading, rate=2000).start()
    wait_until(lambda: all(box.messages("stored") > 200 for box in boxes), "all to have their share")
    if victim == "kill -9":
        boxes[0].kill9()
    else:
        freeze(boxes[0])
    before = [box.messages("stored") for box in boxes[1:]]
    wait_until(lambda: all(box.messages("stored") > was + 200 for box, was in zip(boxes[1:], before)), "the others to go on")
    if victim == "kill -9":
        boxes[0].start()
    else:
        boxes[0].signal(signal.SIGCONT)
    boxes[0].wait_subscribed()
    acknowledged = publisher.stop()
    wait_until(lambda: acknowledged <= set(numbers(database, "reading")), "all that mosquitto has acknowledged")
    stored = numbers(database, "reading")
    assert len(stored) == len(set(stored))
    assert not any(box.log.find("another sensorlogd") for box in boxes)


def test_rejects_of_a_share(make_daemon, site, database):
    """What several boxes reject is there once each too."""
    boxes = [member(make_daemon, site, number, COUNT) for number in range(2)]
    publisher = Publisher(site.port, "count/1", lambda n: b"bad %d" % n)
    publisher.publish_all(300)
    publisher.close()
    wait_until(lambda: sum(box.messages("rejected") for box in boxes) >= 300, "the rejects")
    payloads = database.column("SELECT convert_from(payload, 'UTF8') FROM sensorlog.reject")
    assert sorted(int(re.search(r"\d+", payload)[0]) for payload in payloads) == list(range(300))
    assert all(box.messages("rejected") > 0 for box in boxes)
