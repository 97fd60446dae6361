"""Copies of the spool's file, as boxes that are made from another one's image have them; and what the drain keeps in
memory."""
import contextlib
import glob
import os
import shutil

import pytest

from harness.daemon import is_sanitized
from harness.mappings import COUNT, READING, count, reading
from harness.processes import standing_still
from harness.spool import KEEPING, SPOOL, in_order, publish_all, wait_direct, wait_state
from harness.wait import wait_until


def copy_spool(site, other):
    os.makedirs(other.daemon.configuration.path("state"), exist_ok=True)
    for file in glob.glob(site.daemon.configuration.path("state/spool.db*")):
        shutil.copy(file, other.daemon.configuration.path("state"))


@pytest.mark.parametrize("kept", [0, 20], ids=["empty", "with messages"])
def test_a_box_made_from_the_image_of_another(make_builtin, cluster, database, kept):
    """Each has a writer of its own, and an outage: what either has acknowledged is stored, though the sequences of
    their spools begin alike. What was in the image is stored by both, for which of them had it cannot be known."""
    box, other = (make_builtin(database, [COUNT], conf={"spool": SPOOL, "postgres": {"writer": writer}}, start=False)
                  for writer in ("box", "other"))
    box.start()
    wait_direct(box.daemon)
    publish_all(box.client(4), 0, 1, "count/box")
    cluster.stop()
    wait_state(box.daemon, KEEPING)
    if kept:
        publish_all(box.client(4), 1, 1 + kept, "count/box")
    else:
        cluster.start()
        wait_direct(box.daemon)
    box.daemon.stop()
    copy_spool(box, other)
    if not kept:
        cluster.stop()
    for site in (box, other):
        site.daemon.start()
        wait_state(site.daemon, KEEPING)
    publish_all(box.client(4), 1 + kept, 101, "count/box")
    publish_all(other.client(4), 0, 50, "count/other")
    cluster.start()
    for site in (box, other):
        wait_direct(site.daemon)
    stored = in_order(database)
    assert sorted(stored["box"]) == sorted(list(range(101)) + list(range(1, 1 + kept)))
    assert stored["other"] == list(range(50))


def peak_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) >> 10


def test_the_drain_of_large_messages(make_builtin, cluster, database):
    """It waits for a lock: what it has in memory is bounded by bytes, and new messages are kept and acknowledged."""
    site = make_builtin(database, [COUNT, READING], conf={"spool": SPOOL, "batch": {"memory": "16MiB"}})
    large, small = site.client(4), site.client(4)
    publish_all(large, 0, 1, "reading/1", reading)
    cluster.stop()
    wait_state(site.daemon, KEEPING)
    for first in range(1, 1001, 50):
        publish_all(large, first, first + 50, "reading/1", lambda n: reading(n, 100000))
    kept = peak_mib(site.daemon.pid)
    with contextlib.ExitStack() as held_up:
        with standing_still([site.daemon.pid]):  # the drain cannot win the race for the lock
            cluster.start()
            held_up.enter_context(database.locked("telemetry.reading"))
        wait_until(database.backends_waiting_for_a_lock, "the drain to wait")
        publish_all(small, 0, 20, "count/1", count)
    wait_direct(site.daemon)
    assert is_sanitized() or peak_mib(site.daemon.pid) < kept + 16
    assert database.value("SELECT count(*) FROM telemetry.reading") == 1001
    assert in_order(database)["1"] == list(range(20))
