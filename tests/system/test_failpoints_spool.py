"""The daemon dies at every point of the spool: while PostgreSQL is away, when it is back, and while the spool is
drained. Nothing that a publisher knows to be acknowledged is lost, and QoS 2 is stored exactly once, without a key."""
import pytest

from harness.deaths import Place
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


@pytest.fixture(params=["broker", "subscriber"])
def place(request, database, make_builtin, make_daemon):
    if request.param == "broker":
        made = Place.of_broker(database, make_builtin, SPOOL)
    else:
        made = Place.of_subscriber(database, make_daemon, request.getfixturevalue("site"), SPOOL)
    yield made
    made.load.close()


def unless_dead(place, condition, what):
    """Waits for the condition, or for the daemon's death."""
    def reached():
        try:
            return not place.daemon.running or condition()
        except (AssertionError, OSError):  # it has died while it was asked
            return False
    wait_until(reached, what)


def die(place, point, crossing):
    """Outages, one after the other, until it is dead."""
    place.start_to_die(point, crossing)
    for _ in range(20):
        unless_dead(place, lambda: place.daemon.messages("stored") > 10, "messages to be stored")
        with place.away():
            unless_dead(place, lambda: place.daemon.messages("spooled") > 20, "messages to be spooled")
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
