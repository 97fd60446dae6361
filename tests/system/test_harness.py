"""The harness itself: a tool that lies makes every test that uses it worthless."""
import contextlib
import socket
import subprocess
import threading

import paho.mqtt.client as mqtt
import psycopg2
import psycopg2.extras
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import metrics, wire
from harness.load import Publisher, mqtt_publish
from harness.notify import NotifySocket
from harness.proxy import COMMIT_DONE, COMMIT_REQUEST, TO_CLIENT, TO_SERVER
from harness.wait import PATIENCE, TimedOut, wait_until


class Client:
    """An implementation of MQTT that is not ours, collecting what it gets."""

    def __init__(self, port, protocol=mqtt.MQTTv5, subscriptions=(("#", 1),), **how):
        self.received = []
        if protocol == mqtt.MQTTv311:
            how.setdefault("clean_session", True)
        self.client = mqtt.Client("client", protocol=protocol, **how)
        self.client.on_message = lambda _client, _userdata, message: self.received.append(message)
        self._subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: self._subscribed.set()
        self.client.on_connect = lambda *_: [self.client.subscribe(*one) for one in subscriptions]
        self.client.connect("127.0.0.1", port, 60)
        self.client.loop_start()

    def wait_subscribed(self):
        assert self._subscribed.wait(PATIENCE)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def client():
    made = []

    def make(*arguments, **how):
        made.append(Client(*arguments, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_waiting_ends_with_the_condition_or_says_what_was_missing():
    answers = iter([0, 0, 7])
    assert wait_until(lambda: next(answers), "seven") == 7
    with pytest.raises(TimedOut, match="the sun"):
        wait_until(lambda: False, "the sun", timeout=0.02)


# PostgreSQL


def test_a_database_is_fresh_and_belongs_to_the_logger(database):
    with contextlib.closing(psycopg2.connect(database.conninfo())) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)")
        connection.commit()
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (False,)
    assert database.count("t") == 2
    assert database.count("t", "n > 1") == 1
    assert database.count("there_is_none") == 0


@pytest.mark.parametrize("end", ["fast", "immediate", "kill -9"])
def test_postgresql_comes_back_with_what_was_committed(cluster, database, end):
    database.query("CREATE TABLE t (n int)")
    database.query("INSERT INTO t VALUES (1)")
    if end == "kill -9":
        cluster.kill9()
    else:
        cluster.stop(end)
    assert not cluster.running
    with pytest.raises(psycopg2.OperationalError):
        database.query("SELECT 1")
    cluster.start()
    assert database.count("t") == 1


def test_a_lock_makes_others_wait_and_shows_who_waits(database):
    database.query("CREATE TABLE t (n int); GRANT ALL ON t TO logger")
    with contextlib.closing(psycopg2.connect(database.conninfo(), async_=True)) as other:
        psycopg2.extras.wait_select(other)
        cursor = other.cursor()
        with database.locked("t"):
            cursor.execute("SELECT * FROM t")
            wait_until(lambda: database.backends_waiting_for_a_lock() == [other.info.backend_pid], "the waiting")
        psycopg2.extras.wait_select(other)
        assert not database.backends_waiting_for_a_lock()


# mosquitto


@pytest.mark.parametrize("persistence, wanted", [(True, [b"kept", b"last"]), (False, [b"last"])])
def test_mosquitto_keeps_its_sessions_where_it_is_told_to(make_mosquitto, client, persistence, wanted):
    site = make_mosquitto(persistence=persistence)
    first = client(site.port, mqtt.MQTTv311, clean_session=False)
    first.wait_subscribed()
    first.close()
    mqtt_publish(site.port, ("a", "kept"))
    site.restart()
    second = client(site.port, mqtt.MQTTv311, clean_session=False)
    second.wait_subscribed()
    mqtt_publish(site.port, ("a", "last"))
    wait_until(lambda: [m for m in second.received if m.payload == b"last"], "the last message")
    assert [message.payload for message in second.received] == wanted
    wait_until(lambda: len(site.subscriptions("client")) >= 2, "both subscriptions in its log")
    assert site.connects("client") == 2
    assert site.subscriptions("client") == ["#", "#"]


def test_mosquitto_asks_for_the_password(make_mosquitto):
    site = make_mosquitto(users={"anna": "secret"})
    load = Publisher(site.port, "a", str, username="anna", password="secret")
    load.publish_all(10)
    assert load.stop() == set(range(10))
    refused = []
    stranger = mqtt.Client()
    stranger.on_connect = lambda _client, _userdata, _flags, code: refused.append(code)
    stranger.connect("127.0.0.1", site.port)
    wait_until(lambda: stranger.loop(0.1) or refused, "CONNACK")
    assert refused == [5]


def test_a_publisher_knows_what_was_acknowledged(site, client):
    subscriber = client(site.port)
    wait_until(lambda: site.subscriptions("client"), "the subscription")
    load = Publisher(site.port, "a", str, rate=500).start()
    wait_until(lambda: len(load.acknowledged) > 50, "50 acknowledgements")
    acknowledged = load.stop()
    wait_until(lambda: len(subscriber.received) >= len(acknowledged), "as many messages")
    assert {int(message.payload) for message in subscriber.received} == acknowledged


# The scripted broker


@pytest.mark.parametrize("protocol", [mqtt.MQTTv311, mqtt.MQTTv5])
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_scripted_broker_speaks_to_a_client_that_is_not_ours(broker, client, protocol, qos):
    subscriber = client(broker.port, protocol, [("a/+", qos)])
    broker.wait_subscribed("a/+")
    deliveries = broker.route("a/1", b"one", qos=qos) + broker.route("a/2", b"two", qos=qos)
    assert not broker.route("b", b"nobody's")
    broker.wait_done(deliveries)
    wait_until(lambda: len(subscriber.received) == 2, "two messages")
    assert [(m.topic, m.payload, m.qos) for m in subscriber.received] == [("a/1", b"one", qos), ("a/2", b"two", qos)]
    assert len(broker.acknowledged()) == (2 if qos else 0)


def test_the_scripted_broker_passes_on_what_clients_publish(broker, client):
    subscriber = client(broker.port)
    broker.wait_subscribed("#")
    mqtt_publish(broker.port, ("a", "x"), protocol=mqtt.MQTTv5)
    wait_until(lambda: subscriber.received, "the message")


@pytest.mark.parametrize("protocol, window", [(mqtt.MQTTv311, 20), (mqtt.MQTTv5, 20), (mqtt.MQTTv5, 5)])
def test_the_window_is_kept(broker, client, protocol, window):
    """Of the broker's own window and the client's Receive Maximum, the smaller counts."""
    broker.window = 20
    subscriber = Client.__new__(Client)
    subscriber.received = []
    subscriber.client = mqtt.Client("client", protocol=protocol)
    how = {}
    if protocol == mqtt.MQTTv5:
        how["properties"] = Properties(PacketTypes.CONNECT)
        how["properties"].ReceiveMaximum = 65535 if window == 20 else window
    subscriber.client.on_connect = lambda *_: subscriber.client.subscribe("#", 1)
    subscriber.client.connect("127.0.0.1", broker.port, **how)
    wait_until(lambda: subscriber.client.loop(0.05) or broker.sessions and broker.sessions["client"].subscriptions,
               "the subscription")
    session = broker.sessions["client"]
    deliveries = [one for n in range(200) for one in broker.route("a", b"%d" % n)]
    assert len(session.in_flight) == window, "the client has read nothing yet"
    most = window
    while not all(one.done for one in deliveries):
        subscriber.client.loop(0.05)
        most = max(most, len(session.in_flight))
    assert most == window
    subscriber.client.disconnect()


@pytest.mark.parametrize("overlap, wanted", [
    ("once", [[2]]), ("once_with_ids", [[1, 2]]), ("copies", [[1], [2]])])
def test_overlapping_subscriptions_come_as_the_test_wants(broker, client, overlap, wanted):
    broker.overlap = overlap
    subscriber = client(broker.port, subscriptions=())
    broker.wait_connected()
    for identifier, topic_filter in ((1, "a/+"), (2, "a/#")):
        properties = Properties(PacketTypes.SUBSCRIBE)
        properties.SubscriptionIdentifier = identifier
        subscriber.client.subscribe(topic_filter, identifier, properties=properties)
    broker.wait_subscribed("a/+", "a/#")
    broker.wait_done(broker.route("a/1", b"x", qos=2))
    wait_until(lambda: len(subscriber.received) == len(wanted), "the copies")
    assert sorted(m.properties.SubscriptionIdentifier for m in subscriber.received) == wanted


def test_a_session_outlives_its_connection(broker, client):
    """What was not acknowledged comes again, with DUP, in its order; what came meanwhile comes after it."""
    broker.window = 2
    subscriber = client(broker.port, mqtt.MQTTv311, clean_session=False)
    connection = broker.wait_subscribed("#")
    connection.broker.drop()
    deliveries = broker.route("a", b"1") + broker.route("a", b"2") + broker.route("a", b"3")
    broker.wait_connected(2)
    broker.wait_done(deliveries)
    wait_until(lambda: len(subscriber.received) == 3, "three messages")
    assert [m.payload for m in subscriber.received] == [b"1", b"2", b"3"]


def test_a_client_out_of_order_is_found_out(broker):
    """The broker under test is a scripted one: here the client is scripted too, and acknowledges 2 before 1."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", broker.port))) as sock:
        sock.sendall(bytes.fromhex("100d00044d5154540402003c000161"))
        connection = broker.wait_connected()
        first = connection.publish("a", b"x", pid=1)
        connection.publish("a", b"x", pid=2)
        sock.sendall(wire.ack("PUBACK", 2))
        wait_until(lambda: broker.violations, "the violation")
    assert "MQTT-4.6.0-2" in broker.violations.pop()
    assert not first.done


@pytest.mark.parametrize("packet, what", [
    ("3003000161", "out of place"),                      # PUBLISH before CONNECT
    ("100d00044d5154540403003c000161", "reserved flag"), # CONNECT
    ("ffffffffff", "five bytes"),
])
def test_malformed_packets_are_found_out(broker, packet, what):
    with contextlib.closing(socket.create_connection(("127.0.0.1", broker.port))) as sock:
        sock.sendall(bytes.fromhex(packet))
        wait_until(lambda: broker.violations, "the violation")
    assert what in broker.violations.pop()


def test_a_client_that_does_not_ping_is_found_out(broker):
    with contextlib.closing(socket.create_connection(("127.0.0.1", broker.port))) as sock:
        sock.sendall(bytes.fromhex("100d00044d51545404020001000161"))
        wait_until(lambda: broker.violations, "the violation")
    assert "keepalive" in broker.violations.pop()


def test_refusals_are_what_the_test_wants(broker):
    """CONNACK and SUBACK codes as set, by version."""
    broker.refuse = {5: 0x84}
    codes = []
    modern = mqtt.Client("m", protocol=mqtt.MQTTv5)
    modern.on_connect = lambda _client, _userdata, _flags, code, _properties: codes.append(code.value)
    modern.connect("127.0.0.1", broker.port)
    wait_until(lambda: modern.loop(0.05) or codes, "CONNACK")
    assert codes == [0x84]
    granted = []
    broker.grant = lambda topic_filter, qos: 0x80 if topic_filter == "b" else qos
    old = mqtt.Client("o", protocol=mqtt.MQTTv311)
    old.on_connect = lambda *_: old.subscribe([("a", 1), ("b", 1)])
    old.on_subscribe = lambda _client, _userdata, _mid, codes: granted.extend(codes)
    old.connect("127.0.0.1", broker.port)
    wait_until(lambda: old.loop(0.05) or granted, "SUBACK")
    assert granted == [1, 0x80]
    assert list(broker.sessions["o"].subscriptions) == ["a"]


def test_the_scripted_broker_takes_ten_thousand_at_a_time(broker):
    """The client is a socket that acknowledges what it reads without looking at it twice."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", broker.port))) as sock:
        sock.sendall(bytes.fromhex("100d00044d5154540402003c000161"))
        assert sock.recv(4) == bytes.fromhex("20020000")
        sock.sendall(bytes.fromhex("820600010001") + b"#" + b"\1")
        broker.wait_subscribed("#")
        assert sock.recv(5) == bytes.fromhex("9003000101")
        deliveries = [one for _ in range(10000) for one in broker.route("a", b"300 feet")]
        size, left = len(wire.publish(4, "a", b"300 feet", qos=1, pid=1)), b""
        seen = 0
        while seen < len(deliveries):
            data = left + sock.recv(65536)
            whole = len(data) // size
            sock.sendall(b"".join(b"\x40\x02" + data[size * n + 5:size * n + 7] for n in range(whole)))
            left, seen = data[size * whole:], seen + whole
        broker.wait_done(deliveries)
    assert broker.acknowledged() == list(range(1, 10001))


def test_a_huge_payload_is_streamed(broker, client):
    subscriber = client(broker.port)
    connection = broker.wait_subscribed("#")
    size = 5 * 1024 * 1024 + 3
    broker.wait_done([connection.stream("a", size)])
    assert len(subscriber.received[0].payload) == size


# The proxy


@pytest.fixture
def through(cluster, database, make_proxy):
    """The proxy, and a connection through it to a table t."""
    database.query("CREATE TABLE t (n int); GRANT ALL ON t TO logger")
    proxy = make_proxy(cluster.port)
    connection = psycopg2.connect(database.conninfo("127.0.0.1", proxy.port))
    yield proxy, connection
    connection.close()


def insert(connection, n):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO t VALUES (%s)", [n])
    connection.commit()


def test_the_proxy_passes_on(through, database):
    proxy, connection = through
    insert(connection, 1)
    assert database.count("t") == 1
    proxy.cut()
    with pytest.raises(psycopg2.OperationalError):
        insert(connection, 2)
    assert database.count("t") == 1
    assert not proxy.open_links


@pytest.mark.parametrize("pattern, direction, action, committed", [
    (COMMIT_REQUEST, TO_SERVER, "cut", [0]),
    (COMMIT_REQUEST, TO_SERVER, "forward and cut", [0, 1]),
    (COMMIT_DONE, TO_CLIENT, "cut", [1]),
])
def test_the_proxy_cuts_at_the_commit(through, database, pattern, direction, action, committed):
    """The client cannot know whether it has committed; the test does."""
    proxy, connection = through
    proxy.when(pattern, direction, action)
    with pytest.raises(psycopg2.OperationalError):
        insert(connection, 1)
    wait_until(lambda: not database.backends(), "the backend to end")
    wait_until(lambda: proxy.trips == 1, "the proxy to have acted")
    assert database.count("t") in committed


def test_the_proxy_leaves_a_transaction_behind(through, database):
    """The server goes on with a client that is long gone."""
    proxy, connection = through
    proxy.when(COMMIT_REQUEST, TO_SERVER, "abandon")
    with pytest.raises(psycopg2.OperationalError):
        insert(connection, 1)
    assert len(database.backends("state = 'idle in transaction'")) == 1
    proxy.cut()
    wait_until(lambda: not database.backends(), "the backend to end")
    assert database.count("t") == 0


def test_the_proxy_holds_and_releases(through, database):
    proxy, connection = through
    proxy.when(COMMIT_DONE, TO_CLIENT, "hold")
    inserting = threading.Thread(target=insert, args=[connection, 1])
    inserting.start()
    wait_until(lambda: database.count("t") == 1, "the row")
    wait_until(lambda: proxy.trips == 1, "the confirmation to be held")
    assert inserting.is_alive()
    proxy.release()
    inserting.join(PATIENCE)
    assert not inserting.is_alive()
    proxy.hold(TO_SERVER)
    inserting = threading.Thread(target=insert, args=[connection, 2])
    inserting.start()
    proxy.release()
    inserting.join(PATIENCE)
    assert database.count("t") == 2


# The rest


def test_the_notify_socket_hears(monkeypatch):
    notify = NotifySocket()
    try:
        monkeypatch.setenv("NOTIFY_SOCKET", notify.path)
        # --no-block: else it waits for a barrier, which only systemd itself lifts.
        subprocess.run(["systemd-notify", "--no-block", "--ready", "--status=all is well"], check=True)
        assert notify.wait_for("READY") == "1"
        assert notify.wait_for("STATUS", lambda text: "well" in text) == "all is well"
    finally:
        notify.close()


def test_the_last_words_of_a_daemon_are_read():
    words = ["2026-11-23T20:19:27.612Z info: source site: 3 received, 1 stored, 2 abandoned, 0 pending",
             "<6>mapping count: 0 received, 0 pending", "info: of something else: 3 received"]
    assert metrics.books_at_the_end(words) == {("source", "site"): 3, ("mapping", "count"): 0}
    for wrong in ("source site: 3 received, 2 stored, 1 pending", "source site: 3 received, 2 stored, 0 pending"):
        with pytest.raises(AssertionError):
            metrics.books_at_the_end([*words, wrong])


def test_metrics_are_read_and_balanced():
    text = '''# HELP sensorlog_messages_received_total Messages.
# TYPE sensorlog_messages_received_total counter
sensorlog_messages_received_total{source="site"} 5
sensorlog_messages_total{source="site",verdict="stored"} 3
sensorlog_messages_total{source="site",verdict="skipped",reason="no \\"mapping\\""} 1
sensorlog_messages_pending{source="site"} 1
sensorlog_database_up 1
'''
    parsed = metrics.parse(text)
    assert parsed["sensorlog_database_up"] == 1
    assert parsed.total("sensorlog_messages_total", source="site") == 4
    assert parsed.total("sensorlog_messages_total", verdict="stored") == 3
    metrics.books_balance(parsed)
    with pytest.raises(AssertionError, match="site"):
        metrics.books_balance(metrics.parse(text.replace("} 5", "} 6")))
    parts = 'sensorlog_parts_received_total{mapping="m"} 2\nsensorlog_parts_total{mapping="m",verdict="stored"} 2\n' \
            'sensorlog_parts_pending{mapping="m"} 0\n'
    metrics.books_balance(metrics.parse(text + parts + "sensorlog_rows_total 2\n"))
    with pytest.raises(AssertionError, match="sensorlog_rows_total 1"):
        metrics.books_balance(metrics.parse(text + parts + "sensorlog_rows_total 1\n"))
    with pytest.raises(AssertionError, match="no message is pending, and 65537 bytes"):
        metrics.books_balance(metrics.parse("sensorlog_memory_bytes 65537\n"))


@pytest.mark.parametrize("topic_filter, topic, wanted", [
    ("a/b", "a/b", True), ("a/b", "a/c", False), ("a/+", "a/b", True), ("a/+", "a", False), ("a/+", "a/b/c", False),
    ("a/#", "a", True), ("a/#", "a/b/c", True), ("#", "$SYS/a", False), ("+/a", "$SYS/a", False), ("#", "/", True),
    ("+/+", "/a", True), ("+", "/a", False), ("$SYS/#", "$SYS/a", True), ("a/+/c", "a//c", True),
])
def test_filters_match_as_the_specification_has_it(topic_filter, topic, wanted):
    assert wire.matches(topic_filter, topic) is wanted
