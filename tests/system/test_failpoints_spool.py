"""The daemon dies at every point of the spool: while PostgreSQL is away, when it is back, and while the spool is
drained. Nothing that a publisher knows to be acknowledged is lost, and QoS 2 is stored exactly once, without a key."""
import contextlib
import http.client

import pytest

from harness.deaths import MAPPINGS, Place
from harness.wait import wait_until

# At which crossings the daemon dies, one after the other.
POINTS = {
    "spool-put": (1, 2, 30),
    "spool-write": (1, 5, 30),
    "spool-durable": (1, 2, 5),
    "spool-read": (1, 2, 3),
    "spool-drained": (1, 2, 3),
    "spool-deleted": (1, 2, 3),
    "resolve": (1, 2, 1),
    # The others, on their way through the spool.
    "sent": (3, 10),
    "committed": (3, 10),
    "acked": (10, 40),
    "forgotten": (3, 10),
    "epoch": (2, 3),
}
SPOOL = {"spool": {"mode": "outage", "outage_after": "50ms"}}
# Messages a second of each sensor. At full speed a busy machine keeps more of them than it stores, and the spool is
# never drained.
RATE = 200


@pytest.fixture(params=["broker", "subscriber"])
def place(request, database, make_builtin, make_daemon):
    if request.param == "broker":
        site = make_builtin(database, MAPPINGS, start=False, conf=SPOOL)
        made = Place(database, site.daemon, site.port, RATE)
    else:
        made = Place.of_subscriber(database, make_daemon, request.getfixturevalue("broker"), SPOOL)
    yield made
    made.load.close()


# What is raised where the daemon dies while it is asked.
DEATH = (AssertionError, OSError, http.client.HTTPException)


def unless_dead(place, condition, what):
    """Waits for the condition, or for the daemon's death."""
    def reached():
        with contextlib.suppress(*DEATH):
            return not place.daemon.running or condition()
    wait_until(reached, what)


def more(place, count, verdict):
    """Waits until so many more messages have ended like this, or for the daemon's death."""
    seen = []

    def enough():
        seen.append(place.daemon.messages(verdict))
        return seen[-1] > seen[0] + count

    unless_dead(place, enough, f"messages to be {verdict}")


def die(place, point, crossing):
    """Outages, one after the other, until it is dead."""
    place.start_to_die(point, crossing)
    for _ in range(50):
        more(place, 10, "stored")
        with place.away():
            more(place, 20, "spooled")
        unless_dead(place, lambda: place.daemon.metric("sensorlog_spool_messages") == 0, "the spool to be drained")
        if not place.daemon.running:
            break
    place.daemon.wait_died(point)


@pytest.mark.parametrize("point", POINTS)
def test_it_dies_there(place, point):
    """In outages, or when they are over; and then once more at another point, on what the first death has left."""
    others = [other for other in POINTS if other != point]
    for number, crossing in enumerate(POINTS[point]):
        die(place, point, crossing)
        die(place, others[(len(point) + number) % len(others)], 1)
    place.daemon.start()
    place.end()
