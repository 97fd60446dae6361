"""Two messages with one key: a redelivery changes nothing, and what has other values is no redelivery. It is rejected,
takes the first one's place, or is ignored, as the mapping says; each is counted."""
import json
import time

import pytest

from harness.daemon import run_command
from harness.mappings import COUNT
from harness.wait import wait_until

# In milliseconds; ahead, where there are partitions whatever the date.
STARTED = (int(time.time()) + 3600) * 1000


def weather(on_conflict="", name="weather"):
    said = f'on_conflict = "{on_conflict}";' if on_conflict else ""
    return f"""{{
    name = "{name}"; filter = "{name}/+"; decoder = "json"; table = "{name}";
    time = {{ from = "/ts"; format = "unix_ms"; }};
    key = ["station", "time"]; {said}
    columns = (
      {{ name = "station"; type = "text";    from = "topic[1]"; }},
      {{ name = "temp";    type = "numeric"; from = "/temp"; }},
      {{ name = "note";    type = "text";    from = "/note"; }},
      {{ name = "came_at"; type = "timestamptz"; from = "received_at"; }},
      {{ name = "again";   type = "bool";    from = "dup"; }}
    );
  }}"""


def reading(n, temp, **more):
    return json.dumps({"ts": STARTED + n, "temp": temp, **more}).encode()


def stored(database):
    return [(temp if temp is None else float(temp), note)
            for temp, note in database.query("SELECT temp, note FROM telemetry.weather ORDER BY time")]


@pytest.mark.parametrize("on_conflict, values, verdict", [
    ("", (21.5, "first"), "rejected"), ("reject", (21.5, "first"), "rejected"),
    ("update", (22.75, None), "stored"), ("ignore", (21.5, "first"), "deduplicated")])
def test_a_second_reading_with_the_same_key(make_daemon, broker, database, on_conflict, values, verdict):
    daemon = make_daemon(broker, [weather(on_conflict)])
    connection = broker.wait_subscribed()
    broker.wait_done(broker.route("weather/roof", reading(1, 21.5, note="first")))
    broker.wait_done([connection.publish("weather/roof", reading(1, 21.5, note="first"), dup=True)])
    assert daemon.messages("deduplicated") == 1, "a redelivery, though DUP and the time of arrival differ"
    assert daemon.metric("sensorlog_mapping_conflicts_total", mapping="weather") == 0
    broker.wait_done(broker.route("weather/roof", reading(1, 22.75)))
    assert stored(database) == [values]
    assert daemon.messages(verdict) == {"rejected": 1, "stored": 2, "deduplicated": 2}[verdict]
    assert daemon.metric("sensorlog_mapping_conflicts_total", mapping="weather") == 1
    rejects = database.query("SELECT reason, detail, sqlstate, convert_from(payload, 'UTF8') FROM sensorlog.reject")
    assert rejects == ([("conflict", "temp: 21.5 is stored, 22.75 came; note: first is stored, null came", None,
                         reading(1, 22.75).decode())] if verdict == "rejected" else [])


def test_values_are_compared_as_the_live_table_has_them(make_daemon, broker, database):
    """numeric(6,1) and varchar(20) of the site's own: what the table rounds is the same as before."""
    database.query("""CREATE SCHEMA telemetry AUTHORIZATION logger; SET ROLE logger;
        CREATE TABLE telemetry.weather (time timestamptz(0) NOT NULL, station text NOT NULL, temp numeric(6,1),
            note varchar(20), came_at timestamptz, again bool, UNIQUE (station, time)); RESET ROLE""")
    daemon = make_daemon(broker, [weather()])
    broker.wait_subscribed()
    for _ in range(3):
        broker.wait_done(broker.route("weather/roof", reading(1, 21.5499, note="x")))
    assert (daemon.messages("stored"), daemon.messages("deduplicated")) == (1, 2)
    database.query("ALTER TABLE telemetry.weather ALTER temp TYPE numeric(8,2)")
    broker.wait_done(broker.route("weather/roof", reading(3000, 21.5499, note="x")))
    daemon.restart()
    broker.wait_subscribed()
    broker.wait_done(broker.route("weather/roof", reading(3000, 21.5499, note="x")))
    assert database.count("sensorlog.reject") == 0
    broker.wait_done(broker.route("weather/roof", reading(3000, 21.56, note="x")))
    assert database.column("SELECT detail FROM sensorlog.reject") == ["temp: 21.55 is stored, 21.56 came"]


@pytest.mark.parametrize("on_conflict, verdict", [("reject", "rejected"), ("ignore", "deduplicated")])
def test_a_trigger_changes_a_compared_column(make_daemon, broker, database, on_conflict, verdict):
    """What is stored is not what came, so each redelivery differs from it: a mapping of such a table says ignore."""
    daemon = make_daemon(broker, [weather(on_conflict)])
    broker.wait_subscribed()
    database.query("""CREATE FUNCTION public.shout() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.note := upper(NEW.note); RETURN NEW; END $$;
        CREATE TRIGGER shout BEFORE INSERT ON telemetry.weather FOR EACH ROW EXECUTE FUNCTION public.shout()""")
    for _ in range(3):
        broker.wait_done(broker.route("weather/roof", reading(1, 20, note="calm")))
    assert stored(database) == [(20, "CALM")]
    assert (daemon.messages("stored"), daemon.messages(verdict)) == (1, 2)
    assert database.count("sensorlog.reject", "reason = 'conflict'") == daemon.messages("rejected")
    assert daemon.metric("sensorlog_mapping_conflicts_total", mapping="weather") == 2


def test_everything_is_sent_again_and_some_has_changed(make_daemon, broker, database):
    """A thousand readings, then all once more in one go with every tenth another: those alone conflict."""
    daemon = make_daemon(broker, [weather(), COUNT])
    broker.wait_subscribed()
    broker.wait_done([one for n in range(1000) for one in broker.route("weather/roof", reading(n, n))])
    with database.locked("telemetry.weather"):
        deliveries = [one for n in range(1000) for one in broker.route("weather/roof", reading(n, n + (n % 10 == 7)))]
        daemon.wait_messages(2000)
    broker.wait_done(deliveries)
    assert (daemon.messages("stored"), daemon.messages("deduplicated"), daemon.messages("rejected")) == (1000, 900, 100)
    assert stored(database) == [(n, None) for n in range(1000)]
    assert database.count("sensorlog.reject", "reason = 'conflict'") == 100


def test_another_writer_commits_the_same_key_meanwhile(make_daemon, broker, database):
    daemon = make_daemon(broker, [weather()])
    broker.wait_subscribed()
    with database.connect() as other, other.cursor() as cursor:
        other.autocommit = False
        cursor.execute("INSERT INTO telemetry.weather (time, station, temp) VALUES"
                       f" (to_timestamp({STARTED + 1} / 1000.0), 'roof', 5), (to_timestamp({STARTED + 2} / 1000.0), 'roof', 6)")
        deliveries = broker.route("weather/roof", reading(1, 5)) + broker.route("weather/roof", reading(2, 7))
        wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the other's rows")
        assert not any(delivery.done for delivery in deliveries)
        other.commit()
    broker.wait_done(deliveries)
    assert (daemon.messages("deduplicated"), daemon.messages("rejected")) == (1, 1)
    assert database.column("SELECT detail FROM sensorlog.reject") == ["temp: 6 is stored, 7 came"]


def test_the_rule_changes_with_a_reload(make_daemon, broker, database):
    daemon = make_daemon(broker, [weather()])
    broker.wait_subscribed()
    broker.wait_done(broker.route("weather/roof", reading(1, 1)))
    broker.wait_done(broker.route("weather/roof", reading(1, 2)))
    daemon.configuration.set_mappings(weather("update"))
    daemon.reload()
    broker.wait_done(broker.route("weather/roof", reading(1, 3)))
    assert stored(database) == [(3, None)]
    assert database.count("sensorlog.reject") == 1
    wait_until(lambda: daemon.metric("sensorlog_mapping_conflicts_total", mapping="weather") == 2, "the sum of both")


def test_what_check_and_explain_say(make_daemon, broker, database):
    daemon = make_daemon(broker, [weather("update")], start=False)
    checked = run_command("check", "-c", daemon.configuration.file)
    assert checked.returncode == 0 and "brings the older values back" in checked.stdout
    explained = run_command("explain", "-c", daemon.configuration.file, "weather/roof", reading(1, 2).decode())
    assert "a second row with the same key and another temp or note: takes the place of the first" in explained.stdout


def test_an_update_needs_the_privilege(make_daemon, broker, database):
    database.query("""CREATE SCHEMA telemetry; GRANT USAGE ON SCHEMA telemetry TO logger;
        CREATE TABLE telemetry.weather (time timestamptz NOT NULL, station text NOT NULL, temp numeric,
            note text, came_at timestamptz, again bool, UNIQUE (station, time));
        GRANT SELECT, INSERT ON telemetry.weather TO logger""")
    daemon = make_daemon(broker, [weather("update")])
    broker.wait_subscribed()
    daemon.log.wait_for(r'"weather" is stopped: .*no privilege to update.*GRANT UPDATE')
