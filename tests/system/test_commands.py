"""The sub-commands that touch the database, and those that touch nothing."""
import re

import pytest

from harness.daemon import configuration_for, repository, run_command
from harness.mappings import ALTIMETER, COUNT, READING, count


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
    for command in ("run", "check", "explain", "migrate", "config"):
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
