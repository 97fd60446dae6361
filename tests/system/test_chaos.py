"""Faults by chance, 200 of them, and whether the oracle of tests/chaos sees what is wrong. TEST_CHAOS_SEED: another seed."""
import os
import re
import subprocess
import sys

import pytest

from harness.daemon import BINARY, repository

sys.path.insert(0, repository("tests"))
from chaos.background import Background  # noqa: E402
from chaos.fault import Fault  # noqa: E402
from chaos.oracle import Oracle  # noqa: E402
from chaos.site import Site  # noqa: E402


@pytest.mark.limit(1500)
def test_two_hundred_faults(tmp_path):
    """Nothing lost, nothing twice. The table of the README is that of a longer run."""
    done = subprocess.run(
        ["/usr/bin/python3", "-B", repository("tests", "chaos", "run.py"), "--faults", "200", "--messages", "200",
         "--jobs", "2", "--seed", os.environ.get("TEST_CHAOS_SEED", "1"), "--keep", tmp_path / "failed"],
        capture_output=True, text=True, env={**os.environ, "SENSORLOGD": BINARY})
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    faults = int(re.search(r"^\| all +\| +([\d,]+)", done.stdout, re.M)[1].replace(",", ""))
    assert faults >= 200


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
