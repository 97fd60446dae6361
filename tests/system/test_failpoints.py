"""The daemon dies at every point between a message's arrival and its acknowledgement, and comes back: nothing that a
publisher knows to be acknowledged is lost, and nothing is doubled that must not be."""
import re
import subprocess

import pytest
from test_failpoints_spool import POINTS as POINTS_OF_THE_SPOOL

from harness.daemon import repository
from harness.deaths import Place
from harness.wait import wait_until

# At which crossings the daemon dies, one after the other.
POINTS = {
    "receive": (1, 50, 7),
    "batch": (1, 2, 20),
    "sent": (1, 2, 20),
    "committed": (1, 2, 20),
    "settled": (1, 2, 20),
    "ack": (1, 2, 20),
    "acked": (1, 2, 20),
    "epoch": (1, 2, 3),
    "forgotten": (1, 2, 20),
    "resolve": (1, 2, 3),
}
# Points that only new connections to PostgreSQL come by.
OF_CONNECTIONS = ("epoch", "resolve")
# Points with tests in other files.
ELSEWHERE = {
    "replay": "test_replay.py",
    "session": "test_qos2.py",
}


def test_every_point_has_its_test():
    found = subprocess.run(["grep", "-rhoE", "--include=*.c", r'FAILPOINT\("[^"]+"\)', repository("daemon")],
                           capture_output=True, text=True, check=True).stdout
    found = set(re.findall(r'"([^"]+)"', found))
    assert found <= {*POINTS, *POINTS_OF_THE_SPOOL, *ELSEWHERE}
    for point in found & set(ELSEWHERE):
        with open(repository("tests", "system", ELSEWHERE[point])) as text:
            assert f'"{point}' in text.read(), f"{ELSEWHERE[point]} tests {point}"


@pytest.fixture(params=["broker", "subscriber"])
def place(request, database, make_builtin, make_daemon):
    if request.param == "broker":
        made = Place.of_broker(database, make_builtin, {})
    else:
        made = Place.of_subscriber(database, make_daemon, request.getfixturevalue("broker"), {})
    yield made
    made.load.close()


def cut_off_again_and_again(place):
    """Each time when a new epoch has begun and it has committed something."""
    seen = None

    def died():
        nonlocal seen
        now = place.database.query("SELECT epoch, sum(seq) FROM sensorlog.writer_progress GROUP BY epoch"
                                   " ORDER BY epoch DESC LIMIT 1")
        if now != seen:
            place.cut_off()
            seen = now
        return not place.daemon.running

    wait_until(died, "the daemon to die")


@pytest.mark.parametrize("point", POINTS)
def test_it_dies_there(place, point):
    """Again and again, and twice in a row, the second time somewhere else."""
    place.load.progress(10)
    others = [other for other in POINTS if other != point and other not in OF_CONNECTIONS]
    for number, crossing in enumerate(POINTS[point]):
        place.start_to_die(point, crossing)
        if point in OF_CONNECTIONS:
            cut_off_again_and_again(place)
        place.daemon.wait_died(point)
        place.die(others[(len(point) + number) % len(others)], 1)
    place.daemon.start()
    place.end()
