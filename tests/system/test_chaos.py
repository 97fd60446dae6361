"""Faults by chance, 200 of them, and whether the oracle of tests/chaos sees what is wrong. TEST_CHAOS_SEED: another seed."""
import collections
import os
import re
import signal
import subprocess
import sys
import traceback

import pytest

from harness.client import Client
from harness.daemon import BINARY, repository
from harness.wait import wait_until

sys.path.insert(0, repository("tests"))
from chaos import run  # noqa: E402
from chaos.background import Background  # noqa: E402
from chaos.fault import Fault  # noqa: E402
from chaos.kinds import Constant, Count, Reading  # noqa: E402
from chaos.life import Life  # noqa: E402
from chaos.oracle import Oracle  # noqa: E402
from chaos.sensors import Load, Sensor  # noqa: E402
from chaos.site import Site  # noqa: E402


# Of these no site begins after the first; a wait has failed after the other. Neither makes a slow machine fail.
_SECONDS, _PATIENCE = 900, 90


@pytest.mark.limit(2400)
def test_two_hundred_faults(tmp_path):
    """Nothing lost, nothing twice. The table of the README is that of a longer run."""
    patience = max(_PATIENCE, float(os.environ.get("TEST_PATIENCE", 0)))
    done = subprocess.run(
        ["/usr/bin/python3", "-B", repository("tests", "chaos", "run.py"), "--faults", "200", "--messages", "200",
         "--jobs", "2", "--seed", os.environ.get("TEST_CHAOS_SEED", "1"), "--keep", tmp_path / "failed",
         "--seconds", str(_SECONDS)],
        capture_output=True, text=True, env={**os.environ, "SENSORLOGD": BINARY, "TEST_PATIENCE": str(patience)})
    for log in sorted(tmp_path.glob("failed/*/*")):
        lines = log.read_text(errors="replace").split("\n")
        print(f"---- {log.parent.name}: {log.name}", *(lines[:40] if log.name == "story" else lines[-20:]), sep="\n")
    print(done.stdout, done.stderr)
    last = done.stderr.strip().rpartition("\n\n")[2].split("\n")[-12:]
    if done.returncode:
        pytest.fail("\n".join(last))
    faults = int(re.search(r"^\| all +\| +([\d,]+)", done.stdout, re.M)[1].replace(",", ""))
    assert faults >= 200 or faults > 0 and "the time was up" in last[-1]


def test_the_last_lines_say_what_has_failed(capsys):
    try:
        wait_until(lambda: False, "a condition", timeout=0)
    except AssertionError:
        raised = traceback.format_exc()
    run.sum_up([Life("table-locked", 7, 2, 200, failure="count1-7: lost: 1: 5\ncount2-7: nobody has published 1: 9"),
                Life("daemon-stop", 9, 2, 200), Life("daemon-kill", 8, 2, 200, failure=raised)])
    assert re.fullmatch(r"""table-locked:7: count1-7: lost: 1: 5; count2-7: nobody has published 1: 9
  make chaos ONE=table-locked:7 EACH=2 MESSAGES=200
daemon-kill:8: harness.wait.TimedOut: waited 0 s in vain for: a condition \(.*\) \(.*system/harness/wait.py:\d+\)
  make chaos ONE=daemon-kill:8 EACH=2 MESSAGES=200
2 of 3 sites failed
""", capsys.readouterr().err)


@pytest.fixture(params=["builtin", "mosquitto"])
def site(request, cluster):
    """A site on which nothing fails, after some load."""
    background = Background()
    site = Site(Fault("nothing", None, "", {"nothing"}, [request.param]), 1, background, cluster)
    try:
        site.start()
        site.load.go()
        site.load.wait(1000)
        site.settle()
        yield site
    finally:
        site.end()
        background.close()


def test_the_oracle_has_nothing_to_say_where_nothing_failed(site):
    account = Oracle(site).judge()
    assert account.findings == [] and account.messages >= 1000 and account.rejected > 0
    assert (account.lost, account.duplicated, account.again, account.broker_lost, account.dropped) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("table, sensor", [("reading", "reading1"), ("reading", "twice2"), ("count", "count1"),
                                           ("count", "count2"), ("count", "constant1"), ("count", "constant2")])
def test_the_oracle_finds_a_row_that_is_gone_and_one_that_is_there_twice(site, table, sensor):
    one = f"telemetry.{table} WHERE ctid = (SELECT min(ctid) FROM telemetry.{table} WHERE sensor = '{sensor}')"
    site.database.query("CREATE TABLE kept AS SELECT * FROM " + one)
    site.database.query("DELETE FROM " + one)
    account = Oracle(site).judge()
    assert (account.lost, account.duplicated) == (1, 0) and len(account.findings) == 1
    site.database.query(f"ALTER TABLE telemetry.{table} DROP CONSTRAINT IF EXISTS {table}_sensor_time_key")
    for index in site.database.column("SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = %s::regclass"
                                      " AND indisunique", [f"telemetry.{table}"]):
        site.database.query(f"DROP INDEX {index}")
    site.database.query(f"INSERT INTO telemetry.{table} SELECT kept.* FROM kept, generate_series(1, 2)")
    account = Oracle(site).judge()
    assert (account.lost, account.duplicated) == (0, 1)
    assert len([finding for finding in account.findings if "committed after" not in finding]) == 1


def test_the_oracle_finds_a_row_with_another_value_and_one_that_was_committed_late(site):
    site.shape.connections = 1
    site.database.query("UPDATE telemetry.reading SET value = 1000 WHERE sensor = 'reading1' AND n = 5")
    site.database.query("UPDATE telemetry.count SET n = n WHERE sensor = 'count1' AND n = 5")
    assert Oracle(site).judge().findings == ["reading1: 1 rows with another value than was published",
                                             "count1-1: committed after what came behind them: 1: 5"]


def test_the_oracle_finds_rejects_without_reason_and_rows_from_nowhere(site):
    site.database.query("INSERT INTO sensorlog.reject (topic, payload, payload_length, reason)"
                        " VALUES ('count/count1', '1', 1, 'test')")
    site.database.query("INSERT INTO telemetry.count (time, sensor, n) VALUES (now(), 'count2', 1000000)")
    findings = "\n".join(Oracle(site).judge().findings)
    assert "count1-1: in the reject table without reason: 1: 1" in findings
    assert "count2-1: nobody has published 1: 1000000" in findings


@pytest.mark.parametrize("site", ["mosquitto"], indirect=True)
def test_the_oracle_finds_what_a_broker_has_taken_and_nobody_stored(site):
    site.daemon.kill9()
    site.load.go()
    site.load.wait(200)  # equal readings under one key are one row
    site.load.rest()
    assert Oracle(site).judge().lost >= 100
    site.daemon.start()
    site.settle()
    assert Oracle(site).judge().findings == []


# ---- sensors ----

ROOM = 5  # messages that mosquitto lets a client have in flight


def mosquitto_set_back(make_mosquitto, sensor, count):
    """One that was killed and is back: so many exchanges of QoS 2, which are over for the sensor, are open again."""
    mosquitto = make_mosquitto(persistence=True, max_inflight_messages=ROOM)
    client = Client(mosquitto.port, 5, sensor, keep=True)
    pids = range(1000, 1000 + count)
    for pid in pids:
        client.send_publish("before", b"1", 2, pid=pid)
    for pid in pids:
        client.answer("PUBREC", pid)
    os.kill(mosquitto.pid, signal.SIGUSR1)
    wait_until(lambda: os.path.exists(os.path.join(mosquitto.directory, "mosquitto.db")), "mosquitto to save them")
    for pid in pids:
        client.release(pid)
    client.close()
    mosquitto.kill9()
    mosquitto.start()
    return mosquitto


@pytest.fixture
def make_load():
    """make_load(sensor, port) starts one of it alone."""
    background, loads = Background(), []

    def make(sensor, port):
        loads.append(Load(background, [sensor], 1000))
        loads[-1].start(port)
        loads[-1].go()
        return loads[-1]

    yield make
    for load in loads:
        load.close()
    background.close()


@pytest.mark.parametrize("open_again", [ROOM - 2, ROOM])
@pytest.mark.parametrize("kind", [Count("count", 2), Constant("constant", 2), Reading("reading", 1)],
                         ids=["2", "2 constant", "1"])
def test_what_a_broker_that_was_set_back_refuses_is_published_again(make_mosquitto, make_load, kind, open_again):
    """It counts as acknowledged when the broker has taken it, and comes once."""
    mosquitto = mosquitto_set_back(make_mosquitto, "sensor", open_again)
    listener = Client(mosquitto.port, 5)
    listener.subscribe(kind.topic, 2)
    sensor = Sensor(kind, "sensor", 5, ROOM, may_lose_session=True)
    load = make_load(sensor, mosquitto.port)
    load.wait(50)
    load.rest()
    assert sensor.violations == []
    assert sensor.acknowledged == set(range(sensor.published))
    came = collections.Counter(listener.receive().payload for _ in range(sensor.published))
    assert came == collections.Counter(map(kind.payload, range(sensor.published)))
    listener.nothing()


def test_a_broker_that_may_not_lose_a_session_may_not_refuse(make_mosquitto, make_load):
    mosquitto = mosquitto_set_back(make_mosquitto, "sensor", ROOM)
    sensor = Sensor(Count("count", 2), "sensor", 5, ROOM)
    make_load(sensor, mosquitto.port)
    wait_until(lambda: sensor.violations, "what the sensor has to say")
    assert "PUBREC refuses 1: 0x97" in sensor.violations[0]
    assert not sensor.acknowledged
