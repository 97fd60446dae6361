"""Who may log in, and who may publish and receive what: password files and ACL files, those of mosquitto and our own."""
import contextlib
import random
import re
import select
import subprocess

import pytest

from harness import wire
from harness.client import Client, fresh
from harness.daemon import run_command
from harness.wait import wait_until

ANONYMOUS_REFUSED = {4: 5, 5: 0x87}
REFUSED = {4: 4, 5: 0x86}

USERS = {"lamp": "one", "big lamp": "zwei mit Leerzeichen", "door": "\u0434\u0432\u0435\u0440\u044c", "a+b": "plus"}


def mosquitto_passwd(path, name, password, *options):
    create = [] if path.exists() else ["-c"]
    subprocess.run(["mosquitto_passwd", *create, *options, "-b", path, name, password], check=True)


def passwd(path, name, password):
    result = run_command("passwd", str(path), name, stdin=password + "\n")
    assert result.returncode == 0, result.stderr


@pytest.fixture
def users(tmp_path):
    """A file with a user of each kind of hash."""
    path = tmp_path / "users"
    mosquitto_passwd(path, "lamp", USERS["lamp"])
    mosquitto_passwd(path, "big lamp", USERS["big lamp"], "-H", "sha512")
    mosquitto_passwd(path, "a+b", USERS["a+b"])
    passwd(path, "door", USERS["door"])
    return path


@pytest.fixture
def acl(tmp_path):
    return tmp_path / "acl"


# ---- who gets in ----


@pytest.mark.parametrize("name", USERS)
def test_every_kind_of_hash_lets_its_user_in(make_builtin, users, version, name):
    site = make_builtin(password_file=users)
    site.client(version, username=name, password=USERS[name].encode()).nothing()
    for wrong in (USERS[name] + " ", USERS[name].upper() + "x", ""):
        site.client(version, username=name, password=wrong.encode(), code=REFUSED[version]).ends()


def test_who_is_not_in_the_file_does_not_get_in(make_builtin, users, version):
    site = make_builtin(password_file=users)
    site.client(version, username="nobody", password=b"one", code=REFUSED[version]).ends()
    site.client(version, username="", password=b"one", code=REFUSED[version]).ends()
    site.client(version, username="lamp", code=REFUSED[version]).ends()
    site.client(version, code=ANONYMOUS_REFUSED[version]).ends()


def test_anonymous_clients_beside_users(make_builtin, users, version):
    site = make_builtin(password_file=users, allow_anonymous="true")
    site.client(version).nothing()
    site.client(version, username="lamp", password=b"one").nothing()
    site.client(version, username="lamp", password=b"two", code=REFUSED[version]).ends()


def test_passwords_are_not_in_the_log(make_builtin, users):
    site = make_builtin(password_file=users, conf={"log": {"level": "debug"}})
    site.client(5, username="lamp", password=b"treasure", code=0x86).ends()
    site.client(5, username="lamp", password=b"one").nothing()
    site.log.wait_for("connected: user lamp")
    assert "treasure" not in site.log.text()


# ---- the reload ----


def test_a_reload_ends_those_who_are_no_longer_allowed_and_nobody_else(make_builtin, users, version):
    site = make_builtin(password_file=users)
    clients = {name: site.client(version, username=name, password=password.encode())
               for name, password in USERS.items()}
    passwd(users, "lamp", "another")
    assert run_command("passwd", "--delete", str(users), "door").returncode == 0
    passwd(users, "new", "new")
    site.daemon.reload()
    clients["lamp"].ends(0x98)
    clients["door"].ends(0x98)
    clients["big lamp"].nothing()
    clients["a+b"].nothing()
    site.client(version, username="new", password=b"new").nothing()
    site.client(version, username="lamp", password=b"another").nothing()
    site.client(version, username="lamp", password=b"one", code=REFUSED[version]).ends()


def test_a_broken_file_changes_nothing(make_builtin, users, acl):
    acl.write_text("user lamp\ntopic write lamp\n")
    site = make_builtin(password_file=users, acl_file=acl)
    client = site.client(5, username="lamp", password=b"one")
    good = users.read_text()
    for path, text in ((users, good + "wall:plain text\n"), (acl, "user lamp\ntopic raed lamp\n")):
        before = path.read_text()
        mark = site.log.mark()
        path.write_text(text)
        site.daemon.reload()
        line = text.count("\n")
        assert site.log.find(rf"{path}:{line}: ", mark), site.log.text(mark)
        client.nothing()
        assert client.publish("lamp", qos=1) == 0x10
        site.client(5, username="lamp", password=b"one").nothing()
        path.write_text(before)


def test_rules_count_as_soon_as_they_are_reloaded(make_builtin, users, acl, version):
    acl.write_text("user lamp\ntopic write a\nuser door\ntopic read #\n")
    site = make_builtin(password_file=users, acl_file=acl)
    lamp = site.client(version, username="lamp", password=b"one")
    door = site.client(version, username="door", password=USERS["door"].encode())
    assert door.subscribe("#", 1) == 1
    for topic in ("a", "b"):
        lamp.publish(topic, b"1", 1)
    door.receive("a", b"1")
    door.nothing()
    acl.write_text("user lamp\ntopic write b\ntopic write c\nuser door\ntopic read b\n")
    site.daemon.reload()
    for topic in ("a", "b", "c"):
        lamp.publish(topic, b"2", 1)
    door.receive("b", b"2")
    door.nothing()


# ---- the rules ----


def test_refusals_are_told(make_builtin, acl):
    acl.write_text("topic read open/#\ntopic write drop\n")
    site = make_builtin(acl_file=acl, allow_anonymous="true")
    for version in (4, 5):
        client = site.client(version)
        refused = 0x80 if version == 4 else 0x87
        assert client.subscribe_all([("open/1", 1), ("closed", 0), ("#", 2), ("drop", 0)]) == [1, refused, 2, refused]
        assert client.publish("drop", qos=1) < 0x80
        assert client.publish("open/1", qos=1) == (0 if version == 4 else 0x87)
        assert client.publish("open/1", qos=2) == (0 if version == 4 else 0x87)
        client.publish("open/1")
        client.nothing()


def test_a_will_needs_leave_too(make_builtin, acl):
    acl.write_text("topic read #\ntopic write allowed\n")
    site = make_builtin(acl_file=acl)
    watcher = site.client(5)
    assert watcher.subscribe("#") == 0
    for topic in ("denied", "allowed"):
        site.client(4, will=wire.will(topic, b"gone")).close()
    watcher.receive("allowed", b"gone")
    wait_until(lambda: site.daemon.metric("sensorlog_broker_clients") == 1, "the broker to see that both have gone")
    watcher.nothing()


def test_nobody_becomes_a_wildcard(make_builtin, users, acl, version):
    """CVE-2017-7650."""
    acl.write_text("pattern readwrite of/%u/#\npattern readwrite by/%c/#\nuser door\ntopic readwrite #\n")
    site = make_builtin(password_file=users, acl_file=acl)
    door = site.client(version, username="door", password=USERS["door"].encode())
    assert door.subscribe("#") == 0
    lamp = {"username": "lamp", "password": b"one"}
    for client in (site.client(version, username="a+b", password=b"plus"), site.client(version, "+", **lamp),
                   site.client(version, "#", **lamp), site.client(version, "x+", **lamp)):
        refused = 0x80 if version == 4 else 0x87
        assert client.subscribe_all([("of/#", 0), ("by/#", 0), ("#", 0)]) == 3 * [refused]
        for topic in ("of/lamp/1", "by/else/1", "of/a/1"):
            client.publish(topic, b"1", 1)
        client.nothing()
    door.nothing()
    honest = site.client(version, "x", **lamp)
    for topic in ("of/lamp/1", "by/x/1", "by/else/1"):
        honest.publish(topic, b"1", 1)
    door.receive("of/lamp/1")
    door.receive("by/x/1")
    door.nothing()


# ---- the same as mosquitto ----

_TOPICS = ["a", "b", "a/b", "a/b/lamp", "a/id1", "b/lamp", "b/lamp/id1", "lamp", "a//b", "/a", "a b/c", "b/a b", "a/b/id2",
           "a/c"]
_CLIENTS = [("lamp", "id1"), ("big lamp", "id1"), ("lamp", "id2"), (None, "id1"), (None, "lamp"), ("a+b", "id1"),
            ("lamp", "x#")]
_LEVELS = ["a", "b", "lamp", "id1", "+", "a b", "", "c"]


def _random_rules(chance):
    """An ACL file; the watcher may do all. Without denials in patterns, which we take for stronger."""
    lines = ["user watcher", "topic readwrite #"]
    for user in [None, *USERS, None]:
        if user is not None:
            lines.append(f"user {user}")
        elif len(lines) > 2:
            break
    lines = []

    def topic(levels):
        text = "/".join(chance.choice(levels) for _ in range(chance.randint(1, 3)))
        if chance.random() < 0.3:
            text = "#" if chance.random() < 0.2 else text + "/#"
        return text or "a"

    def rules(count):
        for _ in range(count):
            access = chance.choice(["", "read ", "write ", "readwrite ", "deny "])
            text = topic(_LEVELS)
            lines.append(f"topic {access if ' ' not in text else access or 'readwrite '}{text}")

    rules(chance.randint(0, 3))
    for user in chance.sample(sorted(USERS), 3):
        lines.append(f"user {user}")
        rules(chance.randint(0, 4))
    for _ in range(chance.randint(0, 3)):
        access = chance.choice(["", "read ", "write ", "readwrite "])
        text = topic([*_LEVELS, "%u", "%c", "x%c", "%u"])
        lines.insert(chance.randint(0, len(lines)), f"pattern {access if ' ' not in text else 'readwrite '}{text}")
    lines += ["user watcher", "topic readwrite #"]
    return "\n".join(lines) + "\n"


def _decisions(port, passwords):
    """What the broker lets through: {(user, client id, "reads" or "writes", topic)}."""
    def client(user, client_id):
        login = {"username": user, "password": passwords[user].encode()} if user else {}
        return contextlib.closing(Client(port, 5, client_id, **login))

    result = set()
    with client("watcher", "watcher") as watcher:
        for user, client_id in _CLIENTS:
            for topic in _TOPICS:
                with client(user, client_id) as one:  # Debian's mosquitto ends the connection after a denial
                    if one.publish(topic, b"1", 1) != 0x87:
                        result.add((user, client_id, "writes", topic))
            with client(user, client_id) as one:
                one.subscribe("#")
                for topic in _TOPICS:
                    watcher.publish(topic, b"2", 1)
                one.sync()
                result |= {(user, client_id, "reads", packet.topic) for packet in one.inbox}
    return result


@pytest.mark.limit(300)
def test_the_same_file_means_the_same_as_to_mosquitto(make_builtin, make_mosquitto, tmp_path, acl):
    """Random rules, each topic, both ways. allow_anonymous beside users, as mosquitto has it."""
    passwords = {**USERS, "watcher": "w"}
    path = tmp_path / "users"
    for name, password in passwords.items():
        mosquitto_passwd(path, name, password)
    acl.write_text("")
    site = make_builtin(password_file=path, acl_file=acl, allow_anonymous="true")
    chance = random.Random(4)
    seen = set()
    for turn in range(8):
        text = _random_rules(chance)
        acl.write_text(text)
        site.daemon.reload()
        theirs = make_mosquitto(password_file=path, allow_anonymous="true", acl_file=acl)
        expected, decided = _decisions(theirs.port, passwords), _decisions(site.port, passwords)
        theirs.stop()
        assert decided == expected, f"turn {turn}:\n{text}\nmore: {decided - expected}\nless: {expected - decided}"
        seen |= expected
    assert len(seen) > 100, "this test sees what is allowed"


# ---- many at a time ----


_WAITING_CHECKS = """
#include <argon2.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
int argon2id_ctx(argon2_context *context)
{
    int (*real)(argon2_context *) = (int (*)(argon2_context *))dlsym(RTLD_NEXT, "argon2id_ctx");
    if (access(getenv("CHECKS_WAIT"), F_OK) == 0)
        close(open(getenv("CHECKS_BEGUN"), O_WRONLY | O_CREAT, 0644));
    while (access(getenv("CHECKS_WAIT"), F_OK) == 0)
        usleep(1000);
    return real(context);
}
"""


def test_many_logins_at_once_hold_up_nobody(make_builtin, users, tmp_path):
    """Sixty passwords, whose checks take as long as this test likes: others are served meanwhile."""
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-x", "c", "-o", tmp_path / "wait.so", "-", "-ldl"],
                   input=_WAITING_CHECKS, text=True, check=True)
    checks_wait, checks_begun = tmp_path / "wait", tmp_path / "begun"
    site = make_builtin(password_file=users, environment={
        "LD_PRELOAD": str(tmp_path / "wait.so"), "CHECKS_WAIT": str(checks_wait), "CHECKS_BEGUN": str(checks_begun),
        "ASAN_OPTIONS": "verify_asan_link_order=0"})
    publisher, reader = (site.client(4, username="lamp", password=b"one") for _ in range(2))
    reader.subscribe("t", 1)
    checks_wait.touch()
    password, rush = USERS["door"].encode(), []
    for number in range(60):
        rush.append(site.dial(5))
        rush[-1].send(wire.connect(5, fresh("rush"), username="door" if number % 4 < 3 else "nobody",
                                   password=b"wrong" if number % 2 else password))
    wait_until(checks_begun.exists, "a check to begin")
    wait_until(lambda: site.daemon.metric("sensorlog_broker_connections_total") == 62, "all to be connected")
    for number in range(20):
        publisher.publish("t", b"%d" % number, 1)
        reader.receive("t", b"%d" % number)
    known = [one for number, one in enumerate(rush) if number % 4 < 3]
    assert not select.select(known, [], [], 0)[0], "nobody has an answer before his password is checked"
    checks_wait.unlink()
    codes = [one.expect("CONNACK").code for one in rush]
    assert codes == [0 if number % 2 == 0 and number % 4 < 3 else 0x86 for number in range(60)]


def test_memory_of_logins_is_bounded(make_builtin, users):
    """However many ask at a time: two are looked at, with 19 MiB each."""
    site = make_builtin(password_file=users)
    before = site.daemon.resident()

    def peak():
        with open(f"/proc/{site.daemon.pid}/status") as status:
            return int(re.search(r"^VmHWM:\s+(\d+) kB$", status.read(), re.M).group(1)) << 10

    rush = [site.dial(4) for _ in range(60)]
    for one in rush:
        one.send(wire.connect(4, fresh("rush"), username="door", password=b"wrong"))
    for one in rush:
        one.expect("CONNACK", code=4)
    assert peak() < before + (60 << 20)
    wait_until(lambda: site.daemon.resident() < before + (20 << 20), "the memory to be given back")
