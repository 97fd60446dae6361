"""What the built-in broker and its commands say where something is wrong: enough to mend it, and nothing that misleads."""
import os
import shutil

import pytest

from harness import daemon
from harness.certificates import LOCAL, Authority
from harness.client import Connection
from harness.daemon import run_command
from harness.mappings import COUNT, count

QUOTA = 0x97
WARNING = r"warning: .*"


def passwd(path, name, password):
    result = run_command("passwd", str(path), name, stdin=password + "\n")
    assert result.returncode == 0, result.stderr


@pytest.fixture
def users(tmp_path):
    path = tmp_path / "users"
    for name in ("lamp", "door"):
        passwd(path, name, "one")
    return path


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "ca")


# ---- the state file ----


def state_of(site):
    return site.daemon.configuration.path("state/broker.db")


def test_a_new_state_file_is_said_to_be_new_once(make_builtin):
    site = make_builtin()
    new = f"info: broker state {state_of(site)} is new: no sessions"
    site.log.wait_for(new)
    since = site.log.mark()
    site.restart()
    site.log.wait_for("listening on", since)  # which is said later
    assert not site.log.find("is new", since)


def test_a_log_without_its_file_is_not_thrown_away(make_builtin):
    """broker.db moved, broker.db-wal left behind: it does not start; put back, the session is there."""
    site = make_builtin()
    client = site.client(5, keep=True)
    client.subscribe("a", 1)
    site.kill9()
    state = state_of(site)
    assert os.path.getsize(state + "-wal") > 0
    shutil.move(state, state + ".away")
    with pytest.raises(AssertionError, match="did not start"):
        site.daemon.start()
    site.log.wait_for(f"error: .*broker state {state}: .*{state}-wal.*move the file back")
    assert site.daemon.wait() != 0
    shutil.move(state + ".away", state)
    site.start()
    assert site.client(5, client.client_id, keep=True).present


# ---- acknowledgements ----


@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_committed_is_no_failure(make_builtin, database, qos):
    """A full queue of a subscriber: the sensor of a mapped topic would repeat its message for nothing."""
    site = make_builtin(database, [COUNT], queued_messages=2)
    away = site.client(5, keep=True)
    away.subscribe_all([("count/#", 1), ("other", 1)])
    away.disconnect()
    sensor = site.client(5)
    for number in range(4):
        assert sensor.publish("count/1", count(number), qos) == 0
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == list(range(4))
    assert sensor.publish("other", b"x", 1) == QUOTA


# ---- refusals ----


def test_a_refused_subscription_is_logged(make_builtin, tmp_path, version):
    acl = tmp_path / "acl"
    acl.write_text("topic read allowed/#\n")
    site = make_builtin(acl_file=acl)
    client = site.client(version, "spy")
    client.subscribe("secret/#")
    site.log.wait_for(WARNING + r"client 'spy' at 127\.0\.0\.1:\d+ may not subscribe to 'secret/#': allow it in acl_file")


@pytest.mark.parametrize("keys, topic_filter, cure", [
    ({"subscriptions": 1}, "b", "raise subscriptions"),
    ({}, "/".join("a" * 200), "too many levels"),
])
def test_a_subscription_beyond_the_limits_is_logged(make_builtin, version, keys, topic_filter, cure):
    site = make_builtin(**keys)
    client = site.client(version)
    client.subscribe("a")
    client.subscribe(topic_filter)
    site.log.wait_for(WARNING + f"may not subscribe to '{topic_filter}': .*{cure}")


def test_a_refused_login_names_who_it_is(make_builtin, users, version):
    site = make_builtin(password_file=users)
    site.client(version, "sensor 7", username="lamp", password=b"treasure", code=4 if version == 4 else 0x86).ends()
    site.log.wait_for(WARNING + r"client 'sensor 7' at 127\.0\.0\.1:\d+, user 'lamp', is refused: bad user name or password$")
    assert "treasure" not in site.log.text()


def test_one_trouble_does_not_hide_another(make_builtin, users):
    """All within the time in which lines of one kind are held back."""
    site = make_builtin(password_file=users)
    for _ in range(3):
        site.client(5, "bad", username="lamp", password=b"two", code=0x86).ends()
    site.client(5, "nameless", code=0x87).ends()
    site.client(5, "$forward/x", username="lamp", password=b"one", code=0x85).ends()
    scan = Connection(site.port, 5)
    scan.send(b"GET / HTTP/1.1\r\n\r\n")
    scan.ends(silently=True)
    for why in ("'bad' .*is refused: bad user", "'nameless' .*no user name, is refused: a user name is needed",
                "is refused: its client identifier is the broker's own", "info: broker: client at .* closed: "):
        site.log.wait_for(why)
    assert site.log.text().count("bad user name or password") == 1
    assert "0 more" not in site.log.text()


def reload_users(site, users, text):
    users.write_text(text)
    site.daemon.reload()


def test_why_a_client_may_not_stay(make_builtin, users):
    site = make_builtin(password_file=users, allow_anonymous="true")
    lamp, door = (site.client(5, name, username=name, password=b"one") for name in ("lamp", "door"))
    nobody = site.client(5, "nobody")
    passwd(users, "lamp", "two")
    site.daemon.reload()
    lamp.ends(0x98)
    site.log.wait_for("'lamp' .*disconnected: the password of its user was changed")
    reload_users(site, users, "".join(line for line in users.read_text().splitlines(True) if line.startswith("lamp:")))
    door.ends(0x98)
    site.log.wait_for("'door' .*disconnected: its user is no longer in password_file")
    nobody.nothing()
    site.daemon.configuration.set("broker", allow_anonymous="false")
    site.daemon.reload()
    nobody.ends(0x98)
    site.log.wait_for("'nobody' .*disconnected: anonymous clients are no longer allowed")


# ---- certificates ----


def test_certificates_that_end_soon_are_named(make_builtin, ca):
    """At start, by check, after a reload."""
    old = ca.issue("server", LOCAL)  # for a day
    expires = WARNING + rf"certificate_file: {old.certificate} expires on 20\d\d-\d\d-\d\d: renew it and reload"
    site = make_builtin(also=["mqtts"], certificate_file=old.certificate, key_file=old.key)
    site.log.wait_for(expires)
    checked = run_command("check", "-c", site.daemon.configuration.file)
    assert checked.returncode == 0 and f"{old.certificate} expires on" in checked.stderr
    since = site.log.mark()
    expired = ca.issue("server", LOCAL, expired=True)
    shutil.copy(expired.certificate, old.certificate)
    shutil.copy(expired.key, old.key)
    site.daemon.reload()
    site.log.wait_for(WARNING + f"{old.certificate} has expired on .*: renew it and reload", since)


def test_a_certificate_that_ends_late_is_not_mentioned(make_builtin, ca):
    good = ca.issue("server", LOCAL, days=30)
    site = make_builtin(also=["mqtts"], certificate_file=good.certificate, key_file=good.key)
    checked = run_command("check", "-c", site.daemon.configuration.file)
    assert checked.returncode == 0 and checked.stderr == ""
    assert "expire" not in site.log.text()


# ---- the commands ----


def test_commands_on_a_machine_without_the_state_directory(make_builtin, tmp_path, monkeypatch):
    """The default place is the server's: elsewhere explain and check work, and run does not."""
    nowhere = tmp_path / "nowhere"
    site = make_builtin(start=False, state=None, conf={"state": {"directory": None}})
    file = site.daemon.configuration.file
    monkeypatch.setitem(daemon._ENVIRONMENT, "STATE_DIRECTORY", str(nowhere))
    explained = run_command("explain", "-c", file, "mapped/x", "1")
    checked = run_command("check", "-c", file)
    assert explained.returncode == 0 and explained.stderr == "", explained.stderr
    assert checked.returncode == 0 and checked.stdout.startswith("configuration: ok")
    assert checked.stderr.startswith(f"warning: [broker] state: the directory '{nowhere}'")
    with pytest.raises(AssertionError, match="did not start"):
        site.daemon.start()
    assert site.daemon.wait() == 78
    site.log.wait_for(f"error: .*state: the directory '{nowhere}'")


def test_check_says_what_it_has_tried(make_builtin, database):
    site = make_builtin(database, [COUNT], conf={"forward office": {"uri": "mqtt://127.0.0.1:1", "filters": "a/#"}})
    checked = run_command("check", "-c", site.daemon.configuration.file, "--connect")
    assert checked.returncode == 0, checked.stderr
    assert "forward office: not tried\ndatabase, tables and subscribers: ok\n" in checked.stdout
