"""Limits of the built-in broker: what is over them is refused or held up, and stalls nobody else."""
import resource
import select
import time

import pytest

from harness import wire
from harness.client import fresh
from harness.daemon import is_sanitized
from harness.wait import wait_until

QUOTA, KEEP_ALIVE_TIMEOUT, ALIAS_INVALID = 0x97, 0x8D, 0x94


@pytest.fixture(scope="module", autouse=True)
def many_files():
    """This process, too, has many connections open."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


# Connections


def test_connections(make_builtin, version):
    """One too many is refused, by a CONNACK or none; where one goes there is room for another."""
    site = make_builtin(connections=5)
    clients = [site.client(version) for _ in range(5)]
    for _ in range(3):
        refused = site.dial(version)
        refused.send(wire.connect(version, fresh("client")))
        if (answer := refused.peek()) is not None:
            assert answer.kind == "CONNACK" and answer.code in ((0x88, 0x89, 0x97, 0x9F) if version == 5 else (3,))
            refused.take()
        refused.ends()
    for client in clients:
        client.nothing()
    clients[0].disconnect()
    wait_until(lambda: _connects(site, version), "room for another")
    clients[1].nothing()


def _connects(site, version):
    connection = site.dial(version)
    connection.send(wire.connect(version, fresh("client")))
    answer = connection.peek()
    return answer is not None and answer.code == 0


def half_open(site, version, number):
    """A connection that has not said all of its CONNECT, or nothing at all."""
    half = wire.connect(version, "half")[:-3]
    connection = site.dial(version)
    if number % 2:
        connection.send(half[:number % len(half)])
    return connection


def test_half_open_connections(make_builtin, version):
    """1,000 that never send CONNECT, or not all of it, stall nobody."""
    site = make_builtin(connect_timeout="1h")
    witness, publisher = site.client(version), site.client(version)
    witness.subscribe("t", 1)
    ends = select.poll()
    for number in range(1000):
        ends.register(half_open(site, version, number), select.POLLIN)
        if number % 50 == 0:
            round_trip(publisher, witness)
            site.client(version).disconnect()
    round_trip(publisher, witness)
    assert not ends.poll(0), "they are there all the time"


def test_half_open_connections_are_closed(make_builtin, version):
    """In time; those that did send CONNECT stay."""
    site = make_builtin(connect_timeout="2s")
    witness, publisher = site.client(version), site.client(version)
    opened = time.monotonic()
    for connection in [half_open(site, version, number) for number in range(100)]:
        connection.ends(*([0x81, 0x82, 0x8D, 0xA0] if version == 5 else []), silently=True)
    assert time.monotonic() - opened > 1.9
    witness.nothing()
    publisher.nothing()


def round_trip(publisher, witness):
    """From PUBLISH to delivery."""
    publisher.publish("t", b"x", 1)
    witness.receive("t")


def test_keepalive(make_builtin):
    """Who asks for more than the bound, or for none, is given the bound [MQTT-3.2.2-21, -22] [MQTT-3.1.2-21]."""
    site = make_builtin(keepalive="2s")
    for asked, given in ((0, 2), (60, 2), (3, 2), (2, None), (1, None)):
        assert site.client(5, keepalive=asked).connack.properties.get("server_keep_alive") == given
    client = site.client(5, keepalive=65535)
    begun = time.monotonic()
    client.ends(KEEP_ALIVE_TIMEOUT)
    assert time.monotonic() - begun > 2.5


def test_session_expiry(make_builtin):
    """More than the bound is cut to it, and MQTT 5 clients are told [MQTT5 3.2.2.3.2]; 3.1.1 sessions have it too."""
    site = make_builtin(session_expiry="2s")
    assert "session_expiry_interval" not in site.client(5, properties={"session_expiry_interval": 1}).connack.properties
    clients = [site.client(version, keep=True) for version in (4, 5)]
    assert clients[1].connack.properties["session_expiry_interval"] == 2
    for client in clients:
        client.disconnect()
    wait_until(lambda: site.daemon.metric("sensorlog_broker_sessions") == 1, "the sessions to expire", interval=0.1)
    for client in clients:
        assert not site.client(client.version, client.client_id, keep=True).present


# Subscriptions and queues


def test_subscriptions(make_builtin, version):
    """Of one client: one too many is refused, the same filter again is not one more, and UNSUBSCRIBE makes room."""
    site = make_builtin(subscriptions=3)
    refused = QUOTA if version == 5 else 0x80
    client, other = site.client(version), site.client(version)
    assert client.subscribe_all([("a", 0), ("b", 1), ("c", 2), ("d", 0)]) == [0, 1, 2, refused]
    assert client.subscribe("a", 2) == 2
    assert client.subscribe("$share/g/e", 0) == refused
    assert other.subscribe("d", 1) == 1
    client.unsubscribe("b")
    assert client.subscribe("d", 1) == 1
    other.publish("b", b"x", 1)
    client.nothing()


@pytest.mark.parametrize("keys, fits", [({"queued_messages": 10}, 10), ({"queued_bytes": "64KiB"}, range(50, 66))])
def test_queued_messages(make_builtin, version, keys, fits):
    """For a session that is away: what comes when the queue is full is not queued, and an MQTT 5 publisher is told;
    others get it; and there is room again once the session has been there."""
    site = make_builtin(**keys)
    away = site.client(version, keep=True)
    away.subscribe("t", 1)
    away.disconnect()
    there = site.client(version)
    there.subscribe("t", 1)
    publisher = site.client(version)
    payload = b"x" * 1000
    for _ in range(2):
        codes = []
        for number in range(80):
            codes.append(publisher.publish("t", b"%02d" % number + payload, 1))
            there.receive("t")
        queued = codes.count(0) if version == 5 else None
        away = site.client(version, away.client_id, keep=True)
        away.sync()
        came = []
        while away.inbox:
            came.append(int(away.receive("t").payload[:2]))
            if not away.inbox:
                away.sync()
        assert came == list(range(len(came)))
        assert len(came) in (fits if isinstance(fits, range) else [fits])
        if version == 5:
            assert codes == [0] * queued + [QUOTA] * (80 - queued) and queued == len(came)
        away.disconnect()


def test_memory(make_builtin):
    """Of all queues together: the newest is refused, and there is room again when something has been delivered."""
    site = make_builtin(memory="1MiB", queued_messages=100000, queued_bytes="64MiB")
    sessions = [site.client(5, keep=True) for _ in range(4)]
    for number, client in enumerate(sessions):
        client.subscribe(f"t/{number}", 1)
        client.disconnect()
    publisher = site.client(5)
    taken = []
    for number in range(600):
        if publisher.publish(f"t/{number % 4}", b"%d " % number + b"x" * 4000, 1) == 0:
            taken.append(number)
    assert 100 < len(taken) < 300, f"{len(taken)} of 4 kB are in 1 MiB"
    assert taken == list(range(len(taken))), "the newest are refused"
    for number, client in enumerate(sessions):
        client = site.client(5, client.client_id, keep=True)
        expected = [one for one in taken if one % 4 == number]
        assert [int(client.receive().payload.split()[0]) for _ in expected] == expected
        client.nothing()
        client.disconnect()
    assert publisher.publish("t/0", b"x" * 4000, 1) == 0


@pytest.mark.parametrize("version, receive_maximum", [(4, None), (5, None), (5, 3), (5, 100)])
def test_inflight(make_builtin, version, receive_maximum):
    """Unacknowledged deliveries to one client: at most this, and at most its Receive Maximum."""
    site = make_builtin(inflight=5)
    client = site.client(version, properties={"receive_maximum": receive_maximum} if receive_maximum else {})
    client.subscribe("t", 1)
    publisher = site.client(version)
    for number in range(12):
        publisher.publish("t", b"%d" % number, 1)
    client.sync()
    assert len(client.inbox) == min(5, receive_maximum or 5)
    assert [int(client.receive().payload) for _ in range(12)] == list(range(12))


def test_window_and_aliases_of_publishers(make_builtin):
    """What CONNACK says is the configured."""
    site = make_builtin(window=2, topic_aliases=0)
    client = site.client(5)
    assert client.connack.properties["receive_maximum"] == 2
    assert client.connack.properties.get("topic_alias_maximum", 0) == 0
    for pid in (1, 2):
        client.send_publish("t", b"x", 2, pid=pid)
        client.expect("PUBREC")
    client.send_publish("t", b"x", 2, pid=3)
    client.ends(0x93)
    client = site.client(5)
    client.send_publish("t", b"x", 0, properties={"topic_alias": 1})
    client.ends(ALIAS_INVALID)


# Readers that do not read


def mute_readers(site, version, qos):
    for _ in range(5):
        site.client(version, keep=True, receive_buffer=4096).subscribe("flood", qos)


def flood(publisher, qos):
    for _ in range(10):
        publisher.send_publish("flood", b"x" * 50000, 0)
    if qos:
        publisher.publish("flood", b"x" * 50000, 1)


@pytest.mark.parametrize("qos", [0, 1])
def test_readers_that_never_read(make_builtin, version, qos):
    """Memory is bounded, and nobody else waits."""
    site = make_builtin(write_timeout="1h")
    witness, publisher = site.client(version), site.client(version)
    witness.subscribe("t", 1)
    mute_readers(site, version, qos)
    publisher.publish("flood", b"x", qos)
    before = site.daemon.resident()
    for _ in range(50):
        flood(publisher, qos)
        round_trip(publisher, witness)
    grown = site.daemon.resident() - before
    assert is_sanitized() or grown < 5 * (4 << 20) + (4 << 20), f"{grown} bytes more after 5 times 25 MB"
    assert site.daemon.metric("sensorlog_broker_clients") == 7, "they are there all the time"


@pytest.mark.parametrize("qos", [0, 1])
def test_readers_that_never_read_are_closed(make_builtin, version, qos):
    """After write_timeout, and nobody else is."""
    site = make_builtin(write_timeout="2s")
    witness, publisher = site.client(version), site.client(version)
    mute_readers(site, version, qos)
    for _ in range(50):
        flood(publisher, qos)
    wait_until(lambda: site.daemon.metric("sensorlog_broker_clients") == 2, "the mute ones to be closed")
    witness.nothing()
    publisher.nothing()


def test_a_reader_that_comes_to_itself(make_builtin, version):
    """QoS 1 waits for it, complete and in order; QoS 0 may be missing where it was slow."""
    site = make_builtin(queued_messages=1000, queued_bytes="16MiB", inflight=1000, write_timeout="1h")
    mute = site.client(version, receive_buffer=4096)
    mute.subscribe("flood", 1)
    publisher = site.client(version)
    payload = b" " * 10000
    for number in range(500):
        publisher.publish("flood", b"%d" % number + payload, 1)
        publisher.send_publish("flood", b"-1" + payload, 0)
    publisher.sync()
    got = []
    while 499 not in got:
        message = mute.receive("flood")
        got.append(int(message.payload))
    assert [number for number in got if number >= 0] == list(range(500))
    assert got.count(-1) < 500, "it was slow"
    publisher.publish("flood", b"1000", 0)
    while (message := mute.receive("flood")).payload != b"1000":
        assert message.qos == 0
    mute.nothing()


class MutePublisher:
    """Sends pings as long as they are taken, and does not read the answers."""

    def __init__(self, site, version):
        self._client = site.client(version, receive_buffer=4096)
        self._left = b""
        self.client_id = self._client.client_id

    def send(self):
        """How many bytes were taken; None where the broker has closed."""
        self._left = self._left or wire.PINGREQ * 50000
        sent = self._client.send_some(self._left)
        self._left = self._left[sent:]
        return sent


def test_a_publisher_that_reads_nothing(make_builtin, version):
    """What it does not take is bounded, too: it is held up, and nobody else is."""
    site = make_builtin(write_timeout="1h")
    witness, publisher = site.client(version), site.client(version)
    witness.subscribe("t", 1)
    mute = MutePublisher(site, version)
    before = site.daemon.resident()
    sent = []

    def is_held_up():
        sent.append(mute.send())
        round_trip(publisher, witness)
        return len(sent) > 20 and not any(sent[-20:])

    wait_until(is_held_up, "the broker to read no more of it", interval=0)
    assert None not in sent
    grown = site.daemon.resident() - before
    assert is_sanitized() or grown < 8 << 20, f"{grown} bytes more"


def test_a_publisher_that_reads_nothing_is_closed(make_builtin, version):
    """In time, and nobody else is."""
    site = make_builtin(write_timeout="2s")
    witness = site.client(version)
    mute = MutePublisher(site, version)
    wait_until(lambda: mute.send() is None, "the broker to close it")
    site.log.wait_for(f"'{mute.client_id}' .* disconnected: .*timed out")
    witness.nothing()


# Sizes


def test_a_small_packet_size_holds_for_connect(make_builtin, version):
    """Also for the first packet."""
    site = make_builtin(packet_size="1KiB")
    connection = site.dial(version)
    connection.send(wire.connect(version, "x" * 2000))
    connection.ends(0x95, silently=True)
    site.client(version, "x" * 500)
