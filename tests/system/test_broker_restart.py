"""The site's broker goes and comes back, and so does the daemon."""
import re

import pytest

from harness.load import Publisher, mqtt_publish
from harness.mappings import READING, reading
from harness.wait import PATIENCE, wait_until


def stored(database):
    return set(database.column("SELECT n FROM telemetry.reading"))


@pytest.mark.parametrize("persistence", [True, False])
def test_the_daemon_comes_back_by_itself(make_daemon, make_mosquitto, database, persistence):
    """With its session or without it: it is subscribed again, and new messages are stored."""
    site = make_mosquitto(persistence=persistence)
    daemon = make_daemon(site, [READING])
    daemon.wait_subscribed()
    mqtt_publish(site.port, ("reading/1", reading(0)))
    for n in (1, 2):
        before = site.connects("sensorlogd-site")
        site.restart()
        wait_until(lambda: site.connects("sensorlogd-site") > before, "the daemon to be back")
        daemon.wait_subscribed()
        mqtt_publish(site.port, ("reading/1", reading(n)))
        wait_until(lambda: stored(database) == set(range(n + 1)), "the new message's row")


def test_what_a_persistent_broker_has_taken_arrives(make_daemon, make_mosquitto, database):
    """Load goes on over restarts; what is in flight when the broker goes comes again, and the key knows it."""
    site = make_mosquitto(persistence=True)
    daemon = make_daemon(site, [READING])
    daemon.wait_subscribed()
    load = Publisher(site.port, "reading/1", reading, rate=500).start()
    for _ in range(3):
        so_far = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > so_far + 100, "load")
        before = site.connects("sensorlogd-site")
        site.restart()
        wait_until(lambda: site.connects("sensorlogd-site") > before, "the daemon to be back")
    sent = load.stop()
    wait_until(lambda: stored(database) >= sent, "everything to be stored", interval=0.1)
    rows = database.column("SELECT n FROM telemetry.reading")
    assert sorted(rows) == sorted(set(rows))


def test_rows_that_commit_after_their_connection_are_stored(make_daemon, make_mosquitto, database):
    """The acknowledgement is void with the connection, the row is not; the copy that comes again is deduplicated."""
    site = make_mosquitto(persistence=True)
    daemon = make_daemon(site, [READING])
    daemon.wait_subscribed()
    with database.locked("telemetry.reading"):
        mqtt_publish(site.port, *[("reading/1", reading(n)) for n in range(10)])
        daemon.wait_messages(10)
        site.restart()
        daemon.wait_messages(20)  # the broker sends again what was not acknowledged
    wait_until(lambda: daemon.metric("sensorlog_messages_pending") == 0, "all verdicts")
    assert stored(database) == set(range(10))
    assert daemon.messages("stored") == 10
    assert daemon.messages("deduplicated") == 10


def test_a_broker_that_is_away_is_asked_less_and_less_often(make_daemon, broker):
    """Back-off, with jitter: the third and the fourth wait together are longer than the first two. Each is as long as
    it says, or longer on a busy machine."""
    broker.connack_code = 0x88  # server unavailable
    daemon = make_daemon(broker, [READING], conf={"log": {"level": "debug"}})
    wait_until(lambda: len(broker.entries("CONNECT")) >= 5, "five attempts", timeout=PATIENCE + 15)
    times = [entry.at for entry in broker.entries("CONNECT")]
    waits = [after - before for before, after in zip(times, times[1:])]
    tries = daemon.log.find("site: no connection to")[:4]
    said = [float(re.search(r"next try in ([\d.]+) s", line)[1]) for line in tries]
    assert sum(said[2:]) > sum(said[:2]), f"waits of {said}"
    assert all(wait > least - 0.1 for wait, least in zip(waits, said)), f"{waits}, where it says {said}"
    assert daemon.metric("sensorlog_source_connected", source="site") == 0


def test_a_lost_connection_is_made_again_quickly(make_daemon, broker, database):
    """Back-off begins anew after a connection that worked, so that each cut costs little."""
    make_daemon(broker, [READING])
    for n in range(3):
        connection = broker.wait_subscribed(count=n + 1)
        broker.wait_done(broker.route("reading/1", reading(n)))
        connection.close(reset=bool(n % 2))
    broker.wait_connected(4)
    assert stored(database) == {0, 1, 2}


def test_a_broker_that_answers_no_ping_is_left(make_daemon, broker):
    """PINGRESP that does not come ends the connection, and another one begins."""
    broker.answer_pings = False
    make_daemon(broker, [READING], conf={"subscriber site": {"keepalive": 3}})
    broker.wait_connected(2)
    assert broker.entries("PINGREQ")
