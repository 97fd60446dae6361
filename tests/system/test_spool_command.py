"""sensorlogd spool: what is in the spool's file, with the daemon running and without."""
import os
import re
import sqlite3

import pytest

from harness.daemon import run_command
from harness.load import mqtt_publish
from harness.mappings import COUNT, READING, count, reading
from harness.wait import wait_until

NOWHERE = "host=/nonexistent dbname=telemetry"
SPOOL = {"spool": {"mode": "outage", "outage_after": "0ms"}}


def spool(file, *options):
    result = run_command("spool", "-c", file, *options)
    assert result.returncode == 0, result.stderr
    return result.stdout


def messages(text):
    return int(re.search(r"^messages: +(\d+),", text, re.M)[1])


@pytest.fixture
def kept(make_daemon, make_mosquitto):
    """A daemon without a database, that has three messages in its spool."""
    site = make_mosquitto()
    daemon = make_daemon(site, [COUNT, READING], conf=SPOOL, conninfo=NOWHERE, wait_database=False)
    daemon.wait_subscribed()
    mqtt_publish(site.port, ("count/1", count(17)),
                 ("count/x\N{LATIN SMALL LETTER A WITH DIAERESIS}", b"\x1b[2J\\\xff" + bytes(100)),
                 ("reading/1", reading(3)))
    daemon.wait_messages(3, "spooled")
    return daemon


def test_it_says_what_is_there_while_the_daemon_runs(kept):
    text = spool(kept.configuration.file)
    assert messages(text) == 3
    assert kept.configuration.path("state/spool.db") in text
    assert re.search(r"^identifier: +[0-9a-f]{32}$", text, re.M)
    assert re.search(r"^in use: +yes", text, re.M)
    assert re.search(r"^oldest: +number 1, of 20\d\d-", text, re.M)
    assert re.search(r"^newest: +number 3, of 20\d\d-", text, re.M)
    assert re.search(r"^in doubt: +0 ", text, re.M)
    assert re.search(r"^ +1  site +count/1$", text, re.M)
    assert re.search(r"^ +1  site +reading/1$", text, re.M)


def test_a_stopped_daemon_has_it_no_longer(kept):
    assert kept.stop() == 0
    before = sorted(os.listdir(kept.configuration.path("state")))
    text = spool(kept.configuration.file)
    assert messages(text) == 3
    assert re.search(r"^in use: +no", text, re.M)
    kept.start()  # who has looked has left nothing in its way
    assert messages(spool(kept.configuration.file)) == 3
    assert "spool.db" in before


def test_messages_are_shown_safely(kept):
    text = spool(kept.configuration.file, "--list", "2")
    lines = [line for line in text.splitlines() if re.match(r"\d+  20", line)]
    assert len(lines) == 2
    assert re.fullmatch(r"1  20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  site  count/1  17", lines[0])
    assert "  site  count/x\N{LATIN SMALL LETTER A WITH DIAERESIS}  " in lines[1]
    assert r"\x1b[2J\\\xff\x00\x00" in lines[1]
    assert lines[1].endswith("... (106 bytes)")
    assert "\x1b" not in text
    assert len(spool(kept.configuration.file, "--list", "99").splitlines()) == len(text.splitlines()) + 1
    assert spool(kept.configuration.file, "--list", "0") == spool(kept.configuration.file)


def test_looking_does_not_hold_up_the_daemon(kept):
    """A reader that stays in the middle of the file: the daemon writes on, and the file is whole."""
    path = kept.configuration.path("state/spool.db")
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM entry").fetchone() == (3,)
    port = int(kept.configuration.sections["subscriber site"]["uri"].rsplit(":", 1)[1])
    mqtt_publish(port, *(("count/2", count(n)) for n in range(50)))
    kept.wait_messages(53, "spooled")
    assert reader.execute("SELECT count(*) FROM entry").fetchone() == (3,)
    reader.close()
    wait_until(lambda: messages(spool(kept.configuration.file)) == 53, "all to be seen")


def test_a_second_daemon_is_told_who_has_the_file(kept):
    result = run_command("run", "-c", kept.configuration.file)
    assert result.returncode != 0
    assert "spool" in result.stderr and "in use by another process" in result.stderr
    assert "received" not in result.stderr, "nothing was started that could have counted"


def test_nothing_to_look_into_is_no_failure(configuration):
    site = {"subscriber site": {"uri": "mqtt://127.0.0.1:1"}, "mappings": {"directory": "topics.d"},
            "state": {"directory": "state"}}
    assert spool(configuration(site, [COUNT]).file) == "no messages: [spool] mode is off\n"
    made = configuration({**site, "spool": {"mode": "outage"}}, [COUNT])
    assert spool(made.file) == f"no messages: there is no file {made.path('state/spool.db')} yet\n"
    assert os.listdir(made.path("state")) == []


def test_what_is_no_spool_is_said_and_left_alone(configuration):
    made = configuration({"subscriber site": {"uri": "mqtt://127.0.0.1:1"}, "mappings": {"directory": "topics.d"},
                          "spool": {"mode": "outage", "file": "other.db"}}, [COUNT])
    made.write("other.db", "this is some text of a user's, which is long enough to have a header of a database in it.\n" * 9)
    for command in "spool", "check", "run":
        result = run_command(command, "-c", made.file)
        assert result.returncode == 78
        assert re.search(r"\.conf:\d+: file: '.*other.db' is no SQLite database; name one", result.stderr)
    os.unlink(made.path("other.db"))
    with sqlite3.connect(made.path("other.db")) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    result = run_command("spool", "-c", made.file)
    assert result.returncode == 1
    assert "this is no spool, but a database of another program" in result.stderr
    result = run_command("run", "-c", made.file)
    assert result.returncode == 1
    assert "this is a database of another program" in result.stderr
    assert not [name for name in os.listdir(made.path(".")) if name.startswith("other.db-")]
    made.write("other.db", "")
    result = run_command("spool", "-c", made.file)
    assert result.returncode == 1
    assert "other.db: the file is empty" in result.stderr


def test_wrong_use(configuration):
    made = configuration({"subscriber site": {"uri": "mqtt://127.0.0.1:1"}}, [COUNT])
    assert run_command("spool", "-c", made.file, "--list", "-1").returncode == 2
    assert run_command("spool", "-c", made.file, "--list").returncode == 2
    assert run_command("spool").returncode == 2
    assert run_command("spool", "-c", made.path("nothing.conf")).returncode == 78
