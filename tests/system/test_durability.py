"""Whether the server keeps what it commits: sensorlogd looks at each connect, and says what weakens its promise."""
import os
import shutil

import pytest

from harness import cluster as postgresql
from harness.daemon import run_command
from harness.mappings import COUNT, count
from harness.wait import PATIENCE, wait_until


def for_the_role(database, setting, value):
    database.query(f"ALTER ROLE logger IN DATABASE {database.name} SET {setting} = '{value}'")


def connect_again(daemon, database):
    wait_until(lambda: daemon.metric("sensorlog_database_up") == 1, "the connection to be up")
    mark, lane = daemon.log.mark(), "application_name = 'sensorlogd'"
    old = database.backends(lane)
    for backend in old:
        database.query("SELECT pg_terminate_backend(%s)", [backend])
    wait_until(lambda: database.backends(lane) and set(old).isdisjoint(database.backends(lane))
               and daemon.metric("sensorlog_database_up") == 1, "the connection to be up again")
    return mark


@pytest.fixture
def safe(database):
    """A server that is as it should be; the tests' own has no need to write to the disk."""
    with database.server_settings(fsync="on", full_page_writes="on"):
        yield database


def check(daemon):
    return run_command("check", "-c", daemon.configuration.file, "--connect")


def test_nothing_is_said_of_a_server_that_keeps_it(make_daemon, broker, safe):
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    connect_again(daemon, safe)
    result = check(daemon)
    assert (result.returncode, result.stderr) == (0, "")
    assert not [line for line in daemon.log.lines() if " is off" in line or "synchronous" in line or "standby" in line]


@pytest.mark.parametrize("setting, said", [
    ("fsync", "fsync is off: when the server's machine crashes or loses power"),
    ("full_page_writes", "full_page_writes is off: a loss of power may destroy pages"),
])
def test_a_server_that_does_not_write_to_the_disk(make_daemon, broker, safe, setting, said):
    """It is said when it is found, once until it changes, and when it is mended."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    with safe.server_settings(**{setting: "off"}):
        mark = connect_again(daemon, safe)
        daemon.log.wait_for("warning: postgres: " + said, mark)
        connect_again(daemon, safe)
        result = check(daemon)
        assert len(daemon.log.find("warning: postgres: " + said, mark)) == 1, "once"
        assert result.returncode == 0
        assert f"warning: database: {said}" in result.stderr
        mark = daemon.log.mark()  # the last connection may look when all is well again
    with safe.server_settings(fsync="on", full_page_writes="on"):
        connect_again(daemon, safe)
        daemon.log.wait_for(f"no longer: {setting} is off", mark)


@pytest.mark.parametrize("level, said", [
    ("local", "synchronous_commit is local: a COMMIT does not wait for the synchronous standbys"),
    ("remote_write", "synchronous_commit is remote_write: a COMMIT does not wait for the disks of the synchronous"),
])
def test_a_commit_that_does_not_wait_for_the_standbys(make_daemon, broker, safe, level, said):
    """As good as any where there are none; with synchronous standbys it is said what may be lost."""
    for_the_role(safe, "synchronous_commit", level)
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(1)))
    assert not daemon.log.find("synchronous_commit")
    with safe.server_settings(synchronous_standby_names="nobody"):
        mark = daemon.log.mark()
        for backend in safe.backends():
            safe.query("SELECT pg_terminate_backend(%s)", [backend])
        daemon.log.wait_for("warning: postgres: " + said, mark)
        if level == "local":
            assert f"warning: database: {said}" in check(daemon).stderr


def test_a_role_that_is_read_only(make_daemon, broker, safe):
    """The daemon writes nevertheless."""
    for_the_role(safe, "default_transaction_read_only", "on")
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(1)))
    assert safe.column("SELECT n FROM telemetry.count") == [1]
    daemon.log.wait_for("default_transaction_read_only is on here")
    assert len(daemon.log.find("default_transaction_read_only is on here")) == 1


@pytest.fixture
def own_cluster():
    cluster = postgresql.Cluster()
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.mark.limit(300)
def test_a_standby(make_daemon, broker, own_cluster):
    """It takes no rows: nothing is acknowledged, and the log says why, until it is promoted."""
    database = own_cluster.create_database()
    daemon = make_daemon(broker, [COUNT], conninfo=database.conninfo())
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(1)))
    database.close()
    own_cluster.stop()
    signal_file = os.path.join(own_cluster.directory, "data", "standby.signal")
    open(signal_file, "w").close()
    if own_cluster.user:
        shutil.chown(signal_file, own_cluster.user)
    mark = daemon.log.mark()
    own_cluster.start()
    deliveries = broker.route("count/1", count(2))
    daemon.log.wait_for("postgres: the server is a standby: it takes no rows", mark)
    assert "warning: database: the server is a standby" in check(daemon).stderr
    mark = daemon.log.mark()
    daemon.restart()
    daemon.log.wait_for("the server is a standby", mark)
    assert not any(delivery.done for delivery in deliveries)
    database.query("SELECT pg_promote()")
    broker.wait_done(deliveries, timeout=PATIENCE + 60)
    assert sorted(database.column("SELECT n FROM telemetry.count")) == [1, 2]
    daemon.stop()
    database.close()
