"""What an SQLSTATE means: one table in code and manual, and each class as a real PostgreSQL raises it. Never acknowledged
by mistake, never spinning, and others go on."""
import re
import time

import pytest

from harness.daemon import repository
from harness.mappings import COUNT, count, text_mapping
from harness.wait import wait_until


def in_code():
    with open(repository("daemon", "store", "sqlstate.c"), encoding="utf-8") as file:
        return re.findall(r'\{"(\w+)", SQL_(\w+)\}', file.read())


def in_manual():
    with open(repository("daemon", "man", "sensorlogd.8"), encoding="utf-8") as file:
        return [(code, action.upper()) for code, action in re.findall(r"^\.It Li (\w+) Ta Em (\w+)", file.read(), re.M)]


def test_code_and_manual_have_the_same_table():
    assert len(in_code()) > 20
    assert in_code() == in_manual()


def raising(database, sqlstate, when="true", constraint="of_the_site"):
    """A trigger that raises; the sequence counts how often, and a rollback takes nothing of it back."""
    database.query(f"""
        CREATE SEQUENCE IF NOT EXISTS telemetry.raised;
        GRANT ALL ON telemetry.raised TO PUBLIC;
        CREATE FUNCTION telemetry.raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
          IF {when} THEN
            PERFORM nextval('telemetry.raised');
            RAISE EXCEPTION 'as the test wants' USING ERRCODE = '{sqlstate}', CONSTRAINT = '{constraint}';
          END IF;
          RETURN NEW; END $$;
        CREATE TRIGGER raise BEFORE INSERT ON telemetry.count FOR EACH ROW EXECUTE FUNCTION telemetry.raise()""")


def raised(database):
    return database.value("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM telemetry.raised")


def cured(database):
    database.query("DROP TRIGGER raise ON telemetry.count; DROP FUNCTION telemetry.raise()")


WAITING = ["08006", "25006", "26000", "28000", "53100", "53200", "53300", "55P03", "57014", "57P01", "57P03", "58030",
           "XX000", "40001", "40P01"]


@pytest.mark.parametrize("sqlstate", WAITING)
def test_what_passes_is_waited_for(make_daemon, broker, database, sqlstate):
    """Nothing is acknowledged, nothing is rejected, attempts are few; and when it has passed all is stored, once."""
    make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    raising(database, sqlstate)
    deliveries = broker.route("count/1", count(1))
    began = time.monotonic()
    wait_until(lambda: raised(database) >= 3, "a few attempts")
    attempts, seconds = raised(database), time.monotonic() - began
    assert attempts <= 6 + 10 * seconds, "five at once, and then with pauses that grow"
    assert not deliveries[0].done
    assert database.count("sensorlog.reject") == 0
    cured(database)
    broker.wait_done(deliveries)
    assert sorted(database.column("SELECT n FROM telemetry.count")) == [0, 1]
    assert database.count("sensorlog.reject") == 0


ISOLATED = ["21000", "22003", "22P02", "23502", "23503", "23505", "23514", "23P01", "27000", "38000", "39004", "44000",
            "54000", "P0001", "ZZ123"]


@pytest.mark.parametrize("sqlstate", ISOLATED)
def test_a_row_at_fault_goes_alone(make_daemon, broker, database, sqlstate):
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    raising(database, sqlstate, "NEW.n % 10 = 3")
    with database.locked("telemetry.count"):
        deliveries = [one for n in range(1, 100) for one in broker.route("count/1", count(n))]
        daemon.wait_messages(100)
    broker.wait_done(deliveries)
    assert sorted(database.column("SELECT n FROM telemetry.count")) == [n for n in range(100) if n % 10 != 3]
    assert database.query("SELECT DISTINCT reason, detail, sqlstate FROM sensorlog.reject") == [
        ("refused by PostgreSQL", "as the test wants", sqlstate)]
    assert database.count("sensorlog.reject") == 10


STOPPING = ["0A000", "3F000", "42501", "42P01", "42703", "55000", "55006"]


@pytest.mark.parametrize("sqlstate", STOPPING)
def test_a_mapping_at_fault_stops_alone(make_daemon, broker, database, sqlstate):
    """It is said loudly, its messages are acknowledged and in the reject table, and the other mapping goes on."""
    daemon = make_daemon(broker, [COUNT, text_mapping("other", "other/+")])
    broker.wait_subscribed()
    raising(database, sqlstate)
    broker.wait_done([one for n in range(20) for topic in ("count/1", "other/1")
                      for one in broker.route(topic, count(n))])
    assert database.count("telemetry.other") == 20
    assert database.count("telemetry.count") == 0
    assert database.query("SELECT count(*), min(mapping), max(mapping) FROM sensorlog.reject") == [(20, "count", "count")]
    assert sqlstate in database.column("SELECT DISTINCT sqlstate FROM sensorlog.reject WHERE sqlstate IS NOT NULL")
    daemon.log.wait_for(rf'mapping "count" is stopped: .*{sqlstate}')
    assert daemon.metric("sensorlog_mapping_stopped", mapping="count") == 1
    assert raised(database) <= 3, "once it is stopped nobody asks"


def test_without_a_constraint_name_a_partition_is_missing(make_daemon, broker, database):
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    database.query("DO $$ DECLARE p text; BEGIN FOR p IN SELECT inhrelid::regclass FROM pg_inherits"
                   " WHERE inhparent = 'telemetry.count'::regclass LOOP EXECUTE 'DROP TABLE ' || p; END LOOP; END $$")
    broker.wait_done(broker.route("count/1", count(1)))
    assert database.column("SELECT n FROM telemetry.count") == [1]
    assert database.count("sensorlog.reject") == 0
    assert daemon.metric("sensorlog_mapping_stopped", mapping="count") == 0


@pytest.mark.parametrize("trouble, cure", [
    ("REVOKE INSERT ON sensorlog.reject FROM logger", "GRANT INSERT ON sensorlog.reject TO logger"),
    ("ALTER TABLE sensorlog.reject ADD CONSTRAINT never CHECK (topic = '')",
     "ALTER TABLE sensorlog.reject DROP CONSTRAINT never"),
], ids=["revoked", "refused"])
def test_if_rejects_cannot_be_written_everything_waits(make_daemon, broker, database, trouble, cure):
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    database.query(trouble)
    deliveries = broker.route("count/1", b"nonsense")
    deliveries += [one for n in range(10) for one in broker.route("count/1", count(n))]
    wait_until(lambda: daemon.metric("sensorlog_commit_failures_total") >= 3, "attempts")
    assert not deliveries[0].done and daemon.messages("rejected") == 0
    if cure.startswith("GRANT"):
        daemon.log.wait_for("permission denied for table reject; GRANT it to this role: see sql/README.md, Roles")
    database.query(cure)
    broker.wait_done(deliveries)
    assert sorted(database.column("SELECT n FROM telemetry.count")) == list(range(10))
    assert database.count("sensorlog.reject") == 1


def set_for_the_role(database, setting, value):
    database.query(f"ALTER ROLE logger IN DATABASE {database.name} SET {setting} = '{value}'")


def test_a_role_with_a_short_lock_timeout(make_daemon, broker, database):
    """Who cannot have the lock tries again, and nobody's row is rejected for it."""
    database.query("SELECT 1")
    set_for_the_role(database, "lock_timeout", "100ms")
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    with database.locked("telemetry.count"):
        deliveries = [one for n in range(50) for one in broker.route("count/1", count(n))]
        wait_until(lambda: daemon.metric("sensorlog_commit_failures_total") >= 2, "attempts that end by the timeout")
        assert not deliveries[0].done
    broker.wait_done(deliveries)
    assert sorted(database.column("SELECT n FROM telemetry.count")) == list(range(50))
    assert database.count("sensorlog.reject") == 0


def test_a_role_with_short_timeouts_isolates_all_the_same(make_daemon, broker, database):
    """A statement's and an idle transaction's: many rows at fault, one by one within the server, take longer."""
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"):
        set_for_the_role(database, setting, "500ms")
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    database.query("CREATE FUNCTION telemetry.slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                   " PERFORM pg_sleep(0.01); IF NEW.n % 2 = 0 THEN RAISE 'even'; END IF; RETURN NEW; END $$;"
                   "CREATE TRIGGER slow BEFORE INSERT ON telemetry.count FOR EACH ROW EXECUTE FUNCTION telemetry.slow()")
    with database.locked("telemetry.count"):
        deliveries = [one for n in range(200) for one in broker.route("count/1", count(n))]
        daemon.wait_messages(200)
    broker.wait_done(deliveries)
    assert sorted(database.column("SELECT n FROM telemetry.count")) == list(range(1, 200, 2))
    assert database.count("sensorlog.reject", "sqlstate = 'P0001'") == 100
