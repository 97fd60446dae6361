"""Under systemd: the unit, readiness, status and stop, heard by a notify socket of the test's own."""
import filecmp
import glob
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from harness.client import Client
from harness.daemon import BINARY, repository
from harness.mappings import COUNT, count
from harness.ports import free_port
from harness.processes import Process
from harness.wait import wait_until


def test_the_units_are_verified_without_a_word(tmp_path):
    """As they would be once installed: the binary under test is put where the service looks for it."""
    with open(repository("systemd", "sensorlogd.service")) as file:
        text = file.read()
    unit, replaced = re.subn(r"^(Exec\w+=)/\S*/sensorlogd\b", rf"\g<1>{BINARY}", text, flags=re.M)
    assert replaced
    (tmp_path / "sensorlogd.service").write_text(unit)
    shutil.copy(repository("systemd", "sensorlogd.socket"), tmp_path)
    for name in ("sensorlogd.service", "sensorlogd.socket"):
        result = subprocess.run(["systemd-analyze", "verify", str(tmp_path / name)], capture_output=True, text=True)
        assert (result.returncode, result.stderr) == (0, "")


def test_the_service_is_confined(tmp_path):
    """Nothing that the broker needs has opened it: 1.2 of 10 is what it was without one."""
    with open(repository("systemd", "sensorlogd.service")) as file:
        (tmp_path / "sensorlogd.service").write_text(file.read().replace("/usr/bin/sensorlogd", BINARY))
    result = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--threshold=12",
                             str(tmp_path / "sensorlogd.service")], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


@pytest.fixture
def install(tmp_path):
    """install(VARIABLE=VALUE...) is make install of the binary under test; says where."""
    def run(**variables):
        subprocess.run(["make", "-C", repository(), "install", "-o", BINARY, f"BUILD={os.path.dirname(BINARY)}",
                        f"DESTDIR={tmp_path}", *(f"{name}={value}" for name, value in variables.items())],
                       stdout=subprocess.DEVNULL, check=True)
        return tmp_path
    return run


def mode(path):
    return path.stat().st_mode & 0o7777


def test_an_upgrade_leaves_the_configuration_alone(install):
    """What was changed stays changed, and a mapping that was removed does not come back."""
    root = install()
    etc, examples = root / "etc/sensorlogd", root / "usr/share/doc/sensorlogd/examples"
    shipped = {os.path.basename(path) for path in glob.glob(repository("config", "topics.d", "*"))}
    assert {path.name for path in (etc / "topics.d").iterdir()} == shipped
    assert mode(etc / "sensorlogd.conf") == 0o640, "it may name passwords"
    (etc / "sensorlogd.conf").write_text("# mine\n")
    for path in (etc / "topics.d").iterdir():
        path.unlink()
    (etc / "topics.d/mine.cfg").write_text("# mine\n")
    for path in (examples / "door.cfg", root / "usr/bin/sensorlogd"):
        path.write_text("of the release before\n")

    install()
    assert (etc / "sensorlogd.conf").read_text() == "# mine\n"
    assert [path.name for path in (etc / "topics.d").iterdir()] == ["mine.cfg"]
    assert filecmp.cmp(root / "usr/bin/sensorlogd", BINARY, shallow=False)
    for path in glob.glob(repository("config", "examples", "*")):
        assert filecmp.cmp(path, examples / os.path.basename(path), shallow=False)
    assert {mode(path) for path in examples.iterdir()} == {0o644}


@pytest.mark.parametrize("prefix, etc", [("/usr", "/etc"), ("/usr/local", "/etc"), ("/opt/logger", "/opt/logger/etc")])
def test_the_installed_files_name_each_other(install, prefix, etc):
    root = install(PREFIX=prefix, SYSCONFDIR=etc)
    tree = root / prefix[1:]
    unit = (tree / "lib/systemd/system/sensorlogd.service").read_text()
    command = re.search(r"^ExecStart=(\S+) run -c (\S+)$", unit, re.M)
    assert command.groups() == (f"{prefix}/bin/sensorlogd", f"{etc}/sensorlogd/sensorlogd.conf")
    for path in command.groups():
        assert (root / path[1:]).is_file()
    assert (tree / "lib/systemd/system/sensorlogd.socket").is_file()
    assert f"d {etc}/sensorlogd/topics.d " in (tree / "lib/tmpfiles.d/sensorlogd.conf").read_text()
    assert f"{etc}/sensorlogd/topics.d" in (tree / "share/man/man8/sensorlogd.8").read_text()


def test_the_unit_says_what_the_daemon_keeps():
    with open(repository("systemd", "sensorlogd.service")) as file:
        lines = [line.replace(" ", "") for line in file.read().splitlines()]
    assert "Type=notify" in lines
    assert any(line.startswith("Restart=") and line != "Restart=no" for line in lines)
    assert any(line.startswith("RestartPreventExitStatus=") and "78" in line for line in lines)
    files, = [int(line.partition("=")[2]) for line in lines if line.startswith("LimitNOFILE=")]
    assert any(line.startswith("ExecReload=") and "-HUP" in line for line in lines)
    assert files > 10000, "connections that the built-in broker takes by default"


# ---- sockets from systemd ----


@pytest.fixture
def activated(make_builtin):
    """activated(builtin, addresses) opens sockets as systemd does and starts the daemon, which is not running, with the
    first connection; the process."""
    made = []

    def make(builtin, *addresses):
        listens = [word for address in addresses for word in ("-l", address)]
        made.append(Process("sensorlogd", ["systemd-socket-activate", *listens, "--fdname=mqtt", BINARY, "run", "-c",
                                           builtin.daemon.configuration.file]))
        made[-1].log.wait_for("Listening on " + re.escape(addresses[-1]))
        return made[-1]

    yield make
    for process in made:
        process.kill9()


def test_sockets_that_systemd_opens(make_builtin, activated):
    """The daemon starts with the first connection, and takes over the sockets; it opens the others itself."""
    own = free_port()
    builtin = make_builtin(start=False)
    conf = builtin.daemon.configuration
    with open(conf.file) as file:
        text = file.read()
    conf.write("sensorlogd.conf", text.replace(f"listen = {builtin.uri}", f"listen = {builtin.uri} mqtt://127.0.0.1:{own}"))
    process = activated(builtin, f"127.0.0.1:{builtin.port}")
    assert not process.log.find("sensorlogd"), "it is not started yet"
    subscriber = builtin.client(5)
    subscriber.subscribe("a")
    Client(own, 5).publish("a", b"x")
    subscriber.receive("a", b"x")
    process.log.wait_for(f"listening on {builtin.uri} .socket from systemd")
    process.log.wait_for(f"listening on mqtt://127.0.0.1:{own}$")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0


def test_a_socket_that_is_not_configured_is_an_error(make_builtin, activated):
    """Who may come is decided by the address: a socket with another one is not for everybody by mistake."""
    builtin = make_builtin(start=False)
    port = free_port()
    process = activated(builtin, f"127.0.0.1:{port}")
    builtin.port = port
    builtin.dial(5)
    assert process.wait() == 1
    assert process.log.find("sensorlogd.socket")


def test_ready_status_and_stop(make_daemon, broker):
    daemon = make_daemon(broker, [COUNT])
    connection = broker.wait_subscribed()
    assert daemon.notify.values("READY") == ["1"]
    broker.wait_done(broker.route("count/1", count(1)))
    daemon.notify.wait_for("STATUS", lambda text: "site" in text and "connected" in text)
    assert daemon.stop() == 0
    daemon.notify.wait_for("STOPPING")
    assert daemon.notify.values("STOPPING") == ["1"]
    assert daemon.notify.values("READY") == ["1"]
    wait_until(lambda: not connection.open, "the end of the connection")
    assert connection.packets[-1].kind == "DISCONNECT"
    assert connection.packets[-1].code == 0


def test_ready_without_database_and_broker(make_daemon, cluster, broker):
    """A box that boots before its database still serves; the states are in STATUS, and change there."""
    cluster.stop()
    broker.stop()
    daemon = make_daemon(broker, [COUNT], wait_database=False)
    assert daemon.notify.values("READY") == ["1"]
    down = daemon.notify.wait_for("STATUS", lambda text: "down" in text)
    assert daemon.metric("sensorlog_database_up") == 0
    cluster.start()
    broker.start()
    daemon.wait_database()
    broker.wait_subscribed()
    daemon.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(1)))
    daemon.notify.wait_for("STATUS", lambda text: text != down and "down" not in text)


@pytest.mark.parametrize("database_is", ["up", "down", "locked"])
def test_sigterm_ends_it_with_0_within_10_seconds(make_daemon, cluster, broker, database, database_is):
    """With a database, what is in is committed and acknowledged; without one it is left to the broker."""
    daemon = make_daemon(broker, [COUNT])
    connection = broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))

    def stop_under_load():
        deliveries = [one for n in range(1, 501) for one in broker.route("count/1", count(n))]
        daemon.wait_messages(501)
        started = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - started < 10
        wait_until(lambda: not connection.open, "the end of the connection")
        return deliveries

    if database_is == "up":
        deliveries = stop_under_load()
        assert all(delivery.done for delivery in deliveries), "acknowledged before DISCONNECT"
    elif database_is == "down":
        cluster.stop()
        deliveries = stop_under_load()
        assert not any(delivery.done for delivery in deliveries)
        cluster.start()
    else:
        with database.locked("telemetry.count"):
            deliveries = stop_under_load()
            assert not any(delivery.done for delivery in deliveries)
    assert connection.packets[-1].kind == "DISCONNECT"
    daemon.start()
    broker.wait_done(deliveries)
    stored = database.column("SELECT n FROM telemetry.count")
    assert set(stored) == set(range(501)), "nothing is lost"
    if database_is != "locked":  # else its last transaction may have ended well after it, and nobody knows
        assert len(stored) == 501, "nothing is there twice"


def test_sigterm_while_everything_is_away(make_daemon, cluster, broker):
    cluster.stop()
    broker.stop()
    daemon = make_daemon(broker, [COUNT], wait_database=False)
    started = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - started < 10


def test_sigint_is_as_good(make_daemon, broker):
    """Ctrl-C at a terminal."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    daemon.signal(signal.SIGINT)
    assert daemon.wait() == 0


def test_log_lines_have_priorities_for_the_journal(make_daemon, broker):
    """With JOURNAL_STREAM each line begins with <N> (sd-daemon(3)); elsewhere it does not."""
    plain = make_daemon(broker, [COUNT])
    assert plain.log.lines() and not [line for line in plain.log.lines() if re.match(r"<\d>", line)]
    plain.stop()
    daemon = make_daemon(broker, [COUNT], start=False)
    daemon.start(journal=True)
    assert daemon.stop() == 0
    assert daemon.log.lines() and all(re.match(r"<[3-7]>", line) for line in daemon.log.lines())
