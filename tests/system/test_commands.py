"""The sub-commands that touch the database, and those that touch nothing."""
import contextlib
import os
import re
import signal
import stat
import subprocess
import termios

import pytest

from harness.daemon import BINARY, configuration_for, repository, run_command
from harness.mappings import ALTIMETER, COUNT, READING, count
from harness.wait import PATIENCE, wait_until


@pytest.fixture
def files(database):
    """files(broker, mappings, ...) is the path of a configuration for this test's database."""
    made = []

    def make(broker, mappings, **how):
        made.append(configuration_for(database, broker, mappings, **how)[0])
        return made[-1].file

    yield make
    for one in made:
        one.remove()


class Nowhere:
    uri = "mqtt://127.0.0.1:1"


def test_version_and_help():
    with open(repository("daemon", "VERSION")) as version:
        assert version.read().strip() in run_command("--version").stdout
    result = run_command("--help")
    assert result.returncode == 0
    for command in ("run", "check", "explain", "migrate", "config", "passwd"):
        assert re.search(rf"\b{command}\b", result.stdout)


def test_migrate_creates_what_is_missing_and_is_done_once(files, database):
    file = files(Nowhere, [ALTIMETER, READING])
    for _ in range(2):
        result = run_command("migrate", "-c", file)
        assert result.returncode == 0, result.stderr
    columns = database.query("SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
                             " WHERE attrelid = 'telemetry.reading'::regclass AND attnum > 0")
    assert set(columns) == {("time", "timestamp with time zone", True), ("sensor", "text", True), ("n", "bigint", True)}
    assert database.value("SELECT relkind FROM pg_class WHERE oid = 'telemetry.reading'::regclass") == "p"
    assert database.value("SELECT bool_or(indisunique) FROM pg_index"
                          " WHERE indrelid = 'telemetry.reading'::regclass") is True
    for table in ("reject", "writer", "writer_progress"):
        assert database.value("SELECT to_regclass(%s) IS NOT NULL", [f"sensorlog.{table}"]), table
    assert database.count("sensorlog.reject") == 0


def test_migrate_print_needs_no_database(files, database):
    result = run_command("migrate", "-c", files(Nowhere, [ALTIMETER], conninfo="host=/nonexistent"), "--print")
    assert result.returncode == 0, result.stderr
    assert "altitude_m" in result.stdout
    assert re.search(r"PARTITION BY RANGE", result.stdout, re.I)
    database.query(result.stdout)
    assert database.value("SELECT to_regclass('telemetry.altimeter') IS NOT NULL")


def test_migrate_without_a_database_fails(files):
    result = run_command("migrate", "-c", files(Nowhere, [ALTIMETER], conninfo="host=/nonexistent"))
    assert result.returncode == 1
    assert "/nonexistent" in result.stderr


def test_what_must_not_be_created_is_missed(make_daemon, broker, database):
    """migrate = false: only look, and say what is not there; once somebody has run migrate, all is well."""
    daemon = make_daemon(broker, [COUNT], conf={"postgres": {"migrate": "false"}}, wait_database=False)
    daemon.log.wait_for(r"sensorlog|telemetry")
    broker.wait_subscribed()
    delivery = broker.route("count/1", count(1))
    daemon.wait_messages(1)
    assert database.value("SELECT to_regclass('telemetry.count')") is None
    assert not delivery[0].done
    result = run_command("migrate", "-c", daemon.configuration.file)
    assert result.returncode == 0, result.stderr
    daemon.restart().wait_database()
    broker.wait_done(delivery)


def test_check_connect(files, broker, database):
    """Tries database, mappings against live tables, and broker; touches nothing."""
    file = files(broker, [COUNT])
    assert run_command("migrate", "-c", file).returncode == 0
    result = run_command("check", "-c", file, "--connect")
    assert result.returncode == 0, result.stdout + result.stderr
    broker.wait_connected()
    assert not broker.entries("SUBSCRIBE")
    database.query("ALTER TABLE telemetry.count DROP COLUMN n CASCADE")
    result = run_command("check", "-c", file, "--connect")
    assert result.returncode == 1
    assert re.search(r"count.*\bn\b", result.stdout + result.stderr)


def test_check_connect_names_the_grants_that_are_missing(files, broker, database):
    """Without them the daemon would store nothing: as after an upgrade where another role owns the schema."""
    file = files(broker, [COUNT])
    assert run_command("migrate", "-c", file).returncode == 0
    database.query("REVOKE DELETE ON sensorlog.reject FROM logger; REVOKE ALL ON sensorlog.spool_progress FROM logger")
    result = run_command("check", "-c", file, "--connect")
    assert result.returncode == 1
    assert "subscribers: ok" not in result.stdout
    grants = re.findall(r"own tables: (GRANT .*)", result.stderr)
    assert sorted(grants) == ["GRANT DELETE ON sensorlog.reject TO logger",
                              "GRANT SELECT, INSERT, UPDATE, DELETE ON sensorlog.spool_progress TO logger"]
    database.query("; ".join(grants))
    assert run_command("check", "-c", file, "--connect").returncode == 0
    database.query("ALTER SCHEMA sensorlog OWNER TO postgres; REVOKE ALL ON SCHEMA sensorlog FROM logger")
    result = run_command("check", "-c", file, "--connect")
    assert result.returncode == 1
    assert "GRANT USAGE ON SCHEMA sensorlog TO logger" in result.stderr


def test_check_connect_without_broker_or_database(files, broker):
    result = run_command("check", "-c", files(Nowhere, [COUNT]), "--connect")
    assert result.returncode == 1
    assert "site" in result.stdout + result.stderr
    result = run_command("check", "-c", files(broker, [COUNT], conninfo="host=/nonexistent"), "--connect")
    assert result.returncode == 1
    assert "/nonexistent" in result.stdout + result.stderr


def test_check_alone_needs_neither(files):
    result = run_command("check", "-c", files(Nowhere, [COUNT], conninfo="host=/nonexistent"))
    assert (result.returncode, result.stderr) == (0, "")


# ---- passwd ----


@pytest.fixture
def users(tmp_path):
    return tmp_path / "users"


def passwd(*arguments, password=""):
    return run_command("passwd", *map(str, arguments), stdin=password)


def test_passwd_takes_a_line_of_standard_input(users):
    result = passwd(users, "lamp", password="secret\nnot this\n")
    assert result.returncode == 0, result.stderr
    assert "systemctl reload sensorlogd" in result.stdout
    assert "secret" not in result.stdout + result.stderr
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    assert re.fullmatch(r"lamp:\$argon2id\$v=19\$m=19456,t=2,p=1\$[\w+/]{22}\$[\w+/]{43}\n", users.read_text())
    before = users.read_text()
    assert passwd(users, "door", password="x").returncode == 0
    assert passwd(users, "lamp", password="new\r\n").returncode == 0
    lamp, door = users.read_text().splitlines()
    assert lamp.startswith("lamp:$argon2id$") and lamp not in before
    assert door.startswith("door:$argon2id$")


def test_passwd_deletes(users):
    users.write_text("# kept\nlamp:x\ndoor:y\n")
    users.chmod(0o644)
    for option in ("--delete", "-D"):
        users.write_text("# kept\nlamp:x\ndoor:y\n")
        assert passwd(option, users, "lamp").returncode == 0
        assert users.read_text() == "# kept\ndoor:y\n"
        assert stat.S_IMODE(users.stat().st_mode) == 0o644
    result = passwd("--delete", users, "lamp")
    assert result.returncode == 1
    assert "lamp" in result.stderr
    assert users.read_text() == "# kept\ndoor:y\n"


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", " a", "#a"])
def test_passwd_refuses_names_that_the_file_cannot_hold(users, name):
    result = passwd(users, name, password="secret\n")
    assert result.returncode == 2
    assert "name" in result.stderr
    assert not users.exists()


@pytest.mark.parametrize("password", ["", "\n", "\r\n", 65536 * "x"], ids=["nothing", "LF", "CRLF", "too long"])
def test_passwd_refuses_what_is_no_password(users, password):
    result = passwd(users, "lamp", password=password)
    assert result.returncode == 1
    assert re.search("empty|longer", result.stderr)
    assert not users.exists()


def test_passwd_in_a_directory_that_is_not_there(tmp_path):
    result = passwd(tmp_path / "none" / "users", "lamp", password="secret\n")
    assert result.returncode == 1
    assert "No such file or directory" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["users"], ["users", "lamp", "secret"], ["-c", "x", "users", "lamp"]])
def test_wrong_usage_of_passwd(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = passwd(*arguments)
    assert result.returncode == 2
    assert "usage: sensorlogd passwd" in result.stderr


def _as_at_a_terminal():
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # which whoever runs the tests in the background has ignored


class Terminal:
    """sensorlogd passwd, asked at a terminal."""

    def __init__(self, *arguments):
        self._ours, self._theirs = os.openpty()
        os.set_blocking(self._ours, False)
        self.shown = ""
        self.process = subprocess.Popen([BINARY, "passwd", *map(str, arguments)], stdin=self._theirs,
                                        stdout=self._theirs, stderr=self._theirs, start_new_session=True,
                                        preexec_fn=_as_at_a_terminal)

    def read(self):
        with contextlib.suppress(BlockingIOError):
            self.shown += os.read(self._ours, 4096).decode()
        return self.shown

    @property
    def echoes(self):
        return bool(termios.tcgetattr(self._theirs)[3] & termios.ECHO)

    def answer(self, question, answer):
        wait_until(lambda: re.search(question, self.read()), f"the question {question!r}")
        assert not self.echoes
        os.write(self._ours, answer.encode() + b"\n")

    def wait(self):
        status = self.process.wait(PATIENCE)
        self.read()
        return status

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def terminal():
    made = []

    def make(*arguments):
        made.append(Terminal(*arguments))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_passwd_asks_twice_and_shows_nothing(users, terminal):
    asked = terminal(users, "lamp")
    asked.answer("lamp: $", "secret")
    asked.answer("again: $", "secret")
    assert asked.wait() == 0
    assert asked.echoes
    assert "secret" not in asked.shown
    assert users.read_text().startswith("lamp:$argon2id$")


def test_passwd_wants_the_same_twice(users, terminal):
    asked = terminal(users, "lamp")
    asked.answer("lamp: $", "secret")
    asked.answer("again: $", "Secret")
    assert asked.wait() == 1
    assert asked.echoes
    assert not users.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_passwd_that_is_interrupted_leaves_a_terminal_that_echoes(users, terminal, number):
    asked = terminal(users, "lamp")
    asked.answer("lamp: $", "secret")
    wait_until(lambda: re.search("again: $", asked.read()), "the second question")
    asked.process.send_signal(number)
    assert asked.wait() == -number
    assert asked.echoes
    assert not users.exists()
