"""kill -9 of the daemon, over and over: nothing that the broker has taken is lost, and a key keeps it single."""
import re

import pytest

from harness.load import Publisher
from harness.mappings import COUNT, READING, count, reading
from harness.proxy import TO_SERVER
from harness.wait import wait_until


_PUBACK = re.compile(rb"\x40\x02")  # its type and its length


def under_load(daemon, database, _acks):
    """Kills at any moment of work."""
    daemon.wait_messages(20)


def with_rows_committed_and_acknowledgements_held(daemon, _database, acks):
    """Kills when rows are committed, and no acknowledgement of them has reached the broker."""
    daemon.wait_messages(1, "stored")
    trips = acks.trips
    acks.when(_PUBACK, TO_SERVER, "hold")
    wait_until(lambda: acks.trips > trips, "an acknowledgement on its way")


def with_the_commit_held(daemon, database, _acks):
    """Kills when messages are in, and their transaction cannot end."""
    daemon.wait_messages(1, "stored")
    with database.locked("telemetry.reading"):
        wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")
        daemon.kill9()


MOMENTS = (under_load, with_rows_committed_and_acknowledgements_held, with_the_commit_held)


@pytest.mark.limit(400)
def test_fifty_times_between_publish_and_puback(make_daemon, make_proxy, site, database):
    acks = make_proxy(site.port)
    daemon = make_daemon(acks, [READING, COUNT])
    daemon.wait_subscribed()
    keyed = Publisher(site.port, "reading/1", reading, rate=400).start()
    unkeyed = Publisher(site.port, "count/1", count, rate=100).start()
    came_again = 0
    for number in range(50):
        MOMENTS[number % len(MOMENTS)](daemon, database, acks)
        if daemon.running:
            came_again += daemon.messages("deduplicated")
            daemon.kill9()
        acks.cut()
        acks.release()
        daemon.start()
    sent = keyed.stop()
    counted = unkeyed.stop()
    wait_until(lambda: set(database.column("SELECT n FROM telemetry.reading")) >= sent
               and set(database.column("SELECT n FROM telemetry.count")) >= counted,
               "everything that the broker has acknowledged to be stored", interval=0.2,
               progress=lambda: (database.count("telemetry.reading"), database.count("telemetry.count")))
    came_again += daemon.messages("deduplicated")  # the last one was killed with acknowledgements held
    assert len(sent) > 500, "there was load"
    assert came_again > 0, "committed and not acknowledged: that was hit at least once"
    rows = database.column("SELECT n FROM telemetry.reading")
    assert sorted(rows) == sorted(set(rows)), "nothing twice where there is a key"
    assert database.count("sensorlog.reject") == 0
