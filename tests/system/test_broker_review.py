"""Of the built-in broker: memory that is used up, sessions that change hands, publishers that go while held."""
import select
import subprocess
import time

import pytest

from harness import wire
from harness.client import Closed, fresh
from harness.daemon import is_sanitized
from harness.mappings import COUNT, count
from harness.stall import Disk
from harness.wait import PATIENCE, wait_until


# The memory is used up


def fill(client):
    """Retained messages up to the limit; how many."""
    number = 0
    while client.publish(f"full/{number}", b"x" * 4000, 1, retain=True) < 0x80:
        number += 1
        assert number < 1000
    return number


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("keep", [False, True])
def test_retained_messages_can_be_deleted(make_builtin, qos, keep):
    """It is the way out [MQTT-3.3.1-6]."""
    site = make_builtin(memory="1MiB")
    client = site.client(5, keep=keep)
    kept = fill(client)
    assert not [number for number in range(kept) if client.publish(f"full/{number}", b"", qos, retain=True) >= 0x80]
    assert client.publish("full/0", b"x" * 4000, 1, retain=True) < 0x80
    site.kill9()
    site.start()
    reader = site.client(5)
    reader.subscribe("full/#")
    reader.receive("full/0", b"x" * 4000)
    reader.nothing()


@pytest.mark.parametrize("qos", [0, 1])
def test_who_reads_is_served(make_builtin, version, qos):
    """What others have left lying is nothing to one who takes what it is sent at once."""
    site = make_builtin(memory="1MiB")
    publisher, reader = site.client(version), site.client(version)
    reader.subscribe("t", qos)
    fill(site.client(5))
    for _ in range(3):
        for _ in range(5):
            publisher.publish("t", b"x", qos)
        for _ in range(5):
            reader.receive("t", b"x", qos=qos)


def test_a_publisher_that_releases_nothing(make_builtin):
    """QoS 2 without PUBREL, under 3.1.1, which has no Receive Maximum: others have room."""
    site = make_builtin(memory="8MiB")
    hog, reader, publisher = site.client(4), site.client(5), site.client(5)
    reader.subscribe("#", 1)
    for pid in range(1, 1000):
        hog.send_publish("q", b"x" * 20000, 2, pid=pid)
    hog.sync()
    assert publisher.publish("t", b"x", 1) < 0x80


def test_ever_new_sessions(make_builtin):
    """Each with a will that waits: at the limit CONNECT is refused."""
    site = make_builtin(memory="1MiB")
    before = site.daemon.resident()
    refused = 0
    for _ in range(300):
        connection = site.dial(5)
        connection.send(wire.connect(5, fresh("many"), values={"session_expiry_interval": 3600}, clean=False,
                                     will=wire.will("w", b"x" * 60000, values={"will_delay_interval": 3600})))
        refused += connection.take().code >= 0x80
        connection.close()
    grown = site.daemon.resident() - before
    assert refused > 200, f"{grown} bytes more"
    assert is_sanitized() or grown < 8 << 20, f"{grown} bytes more"


def test_who_comes_while_it_is_used_up(make_builtin, version):
    """Who has a session has it still, who leaves nothing may come; what would stay is refused."""
    site = make_builtin(memory="1MiB")
    known = site.client(version, keep=True).client_id
    fill(site.client(5))
    small, large = wire.will("w", b"gone"), wire.will("w", b"x" * 2000)
    assert site.client(version, known, keep=True, will=small).present
    site.client(version, will=small).nothing()
    hour = {"session_expiry_interval": 3600}
    for name, values, clean, will in [(fresh("new"), hour, False, None), (known, hour, False, large),
                                      (fresh("new"), None, True, large)]:
        connection = site.dial(version)
        connection.send(wire.connect(version, name, values=values if version == 5 else None, clean=clean, will=will))
        assert connection.take().code == (0x97 if version == 5 else 3)
    wait_until(lambda: "no memory for a new session" in site.log.text(), "the line about it")


def those_that_hear(clients):
    """To whom something has come that they have not read, or the end."""
    return select.select(clients, [], [], 0)[0]


def test_unfinished_packets(make_builtin):
    """What has not come as a whole takes no more than the memory, and small messages pass."""
    site = make_builtin(memory="8MiB")
    before = site.daemon.resident()
    start = wire.publish(5, "t", b"x" * 1000000)[:-1]
    slow = [site.client(5) for _ in range(30)]
    for client in slow:
        client.send(start[:10])
        client.send_some(start[10:])
    wait_until(lambda: site.daemon.metric("sensorlog_broker_clients") <= 9, "the broker to refuse those that exceed it")
    refused = wait_until(lambda: len(those_that_hear(slow)) >= 21 and those_that_hear(slow), "those to be told")
    assert len(refused) <= 22
    for client in refused:
        client.ends(0x97, silently=True)
    assert is_sanitized() or site.daemon.resident() - before < 16 << 20
    assert site.client(5).publish("t", b"x" * 3000, 1) < 0x80
    for client in slow:
        client.close()
    wait_until(lambda: site.daemon.metric("sensorlog_broker_clients") <= 1, "what was unfinished to be gone")
    site.client(5).publish("t", b"x" * 1000000, 1)


def test_topic_aliases_count(make_builtin):
    """Long ones are refused when the memory is used up; those of ordinary length are not."""
    site = make_builtin(memory="1MiB", connections=100)
    before = site.daemon.resident()
    ended = 0
    for _ in range(20):
        client = site.client(5)
        client.send(*[wire.publish(5, "t" * 60000, b"", values={"topic_alias": n}) for n in range(1, 11)])
        client.send(wire.PINGREQ)
        ended += client.take().kind == "DISCONNECT"
    assert ended >= 17
    client = site.client(5)
    client.send(wire.publish(5, "t", b"x", values={"topic_alias": 1}))
    client.nothing()
    assert is_sanitized() or site.daemon.resident() - before < 8 << 20


def test_retained_messages_that_are_not_sent_are_counted(make_builtin):
    """The memory is used up, and the subscriber does not read fast enough for all of them."""
    site = make_builtin(memory="1MiB", unsent_bytes="64KiB")
    reader = site.client(5)
    reader.subscribe("full/#", 0)
    fill(site.client(5))
    before = site.daemon.metric("sensorlog_broker_dropped_total")
    reader.send(wire.subscribe(5, 1, [("full/#", 0)]))
    wait_until(lambda: site.daemon.metric("sensorlog_broker_dropped_total") > before, "the broker to count them")
    wait_until(lambda: "raise memory" in site.log.text(), "the line about them")


# Publishers that are held


def test_publishers_that_go_while_they_are_held(make_builtin):
    """The database is away and [batch] memory used up: whoever has given up makes room for others."""
    site = make_builtin(None, [COUNT], conf={"batch": {"memory": "1MiB"}}, connections=20)
    filler = site.client(4)
    for n in range(1000):
        filler.send_publish("count/1", count(n) + b" " * 2000, 0)
    filler.sync()
    for n in range(40):
        try:
            sensor = site.client(4)
        except Closed:
            break
        sensor.send_publish("count/1", count(n), 1)
        time.sleep(0.01)
        sensor.close()
    wait_until(lambda: site.daemon.metric("sensorlog_broker_clients") == 1, "the broker to see that they have gone",
               timeout=PATIENCE + 10)
    site.client(4).nothing()


def test_newcomers_that_go_while_the_disk_stands_still(make_builtin, tmp_path):
    """CONNACK waits for it, but nobody waits for a CONNACK whom it cannot reach any more."""
    disk = Disk(tmp_path, "/broker.db")
    site = make_builtin(environment=disk.environment)
    with disk.stalled():
        gone = site.dial(5)
        gone.send(wire.connect(5, fresh("gone"), clean=False, values={"session_expiry_interval": 60}))
        wait_until(lambda: site.daemon.metric("sensorlog_broker_clients") == 1, "the broker to see the client")
        gone.close()
        wait_until(lambda: site.daemon.metric("sensorlog_broker_clients") == 0, "the broker to see that it has gone")


# QoS 2 over two connections


def test_pubcomp_answers_a_pubrel_of_this_connection(make_builtin, database, version):
    """The PUBREL of the connection before is repeated by the client; it must not get two PUBCOMPs: with the first its
    identifier is free, and the second would be taken for an answer to what comes next under it [MQTT-4.4.0-1]."""
    site = make_builtin(database, [COUNT])
    sensor = site.client(version, keep=True)
    sensor.send_publish("count/1", count(1), 2, pid=1)
    sensor.expect("PUBREC", pid=1)
    with database.locked("sensorlog.exchange"):
        sensor.send(wire.ack("PUBREL", 1))
        wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")
        again = site.client(version, sensor.client_id, keep=True)
    site.client(version).publish("count/1", count(2), 1)
    wait_until(lambda: not database.column("SELECT packet_id FROM sensorlog.exchange"), "the identifier to go")
    site.client(version).publish("count/1", count(3), 1)
    again.subscribe(fresh("topic"))
    again.nothing()
    again.release(1)
    again.nothing()


# Sessions and who may read


@pytest.fixture
def guarded(make_builtin, tmp_path):
    """A broker with users a and b, of whom only a may read "secret"."""
    tmp_path.chmod(0o755)
    users, acl = tmp_path / "users", tmp_path / "acl"
    users.touch()
    for user in ("a", "b"):
        subprocess.run(["mosquitto_passwd", "-b", users, user, "password"], check=True)
    users.chmod(0o644)
    acl.write_text("user a\ntopic readwrite secret\ntopic readwrite public\nuser b\ntopic read public\n")
    site = make_builtin(password_file=users, acl_file=acl)
    site.acl = acl
    return site


def who(name):
    return {"username": name, "password": b"password", "keep": True}


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("crash", [False, True])
def test_a_session_that_another_user_takes(guarded, version, qos, crash):
    """It does not get what was queued for the one before, but what it may read."""
    session, publisher = guarded.client(version, **who("a")), guarded.client(version, **who("a"))
    for topic in ("secret", "public"):
        session.subscribe(topic, qos)
    session.disconnect()
    for topic in ("secret", "public", "secret"):
        publisher.publish(topic, b"x", qos)
    if crash:
        guarded.kill9()
        guarded.start()
    thief = guarded.client(version, session.client_id, **who("b"))
    thief.receive("public", b"x", qos=qos)
    thief.nothing()


def test_a_session_whose_user_may_no_longer_read(guarded, version):
    """What was queued before a reload of the ACL."""
    session, publisher = guarded.client(version, **who("a")), guarded.client(version, **who("a"))
    session.subscribe("secret", 1)
    session.disconnect()
    publisher.publish("secret", b"x", 1)
    guarded.acl.write_text("user a\ntopic readwrite public\n")
    guarded.daemon.reload()
    guarded.client(version, session.client_id, **who("a")).nothing()


def test_rules_are_not_for_what_waits_to_be_forwarded(make_builtin, make_mosquitto, tmp_path):
    """Not after a restart either."""
    upstream = make_mosquitto(persistence=True)
    (tmp_path / "acl").write_text("topic write sensors/#\n")
    tmp_path.chmod(0o755)
    forward = {"forward up": {"uri": upstream.uri, "client_id": "edge", "filters": "sensors/#", "qos": 1}}
    site = make_builtin(conf=forward, acl_file=tmp_path / "acl")
    upstream.stop()
    site.client(5).publish("sensors/a", b"x", 1)
    site.kill9()
    site.start()
    wait_until(lambda: site.daemon.metric("sensorlog_broker_queued") == 1, "what waits")
