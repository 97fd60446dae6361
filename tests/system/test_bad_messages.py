"""A bad message never blocks a good one: it goes to the reject table, with its reason, and is acknowledged."""
import json
import socket
import struct

import pytest

from harness import wire
from harness.broker import Delivery
from harness.daemon import is_sanitized
from harness.mappings import ALTIMETER, COUNT, READING, count, reading, text_mapping
from harness.wait import PATIENCE, wait_until

HUGE = 200 * 1024 * 1024


@pytest.mark.limit(300)
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_hundred_in_a_row_and_a_huge_one_block_nothing(make_daemon, broker, database, protocol):
    daemon = make_daemon(broker, [COUNT], conf={"subscriber site": {"protocol": protocol}})
    connection = broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    before = daemon.resident()
    deliveries = broker.route("count/1", count(1))
    deliveries += [one for n in range(100) for one in broker.route("count/1", b"nonsense %d" % n)]
    deliveries += broker.route("count/1", count(2))
    deliveries.append(connection.stream("count/1", HUGE))
    deliveries += broker.route("count/1", count(3))
    deliveries += [one for n in range(4, 14) for payload in (count(n), b"", b"\xff\xfe")
                   for one in broker.route("count/1", payload)]
    broker.wait_done(deliveries, timeout=PATIENCE + 60)
    if not is_sanitized():
        assert daemon.resident() - before < 16 * 1024 * 1024, "the huge one is read through, not kept"
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == list(range(14))
    rejects = database.query("SELECT payload, payload_length, reason, topic, source, qos, mapping"
                             " FROM sensorlog.reject ORDER BY id")
    assert len(rejects) == 100 + 1 + 20
    assert all(reason for _, _, reason, *_ in rejects)
    assert {tuple(rest) for _, _, _, *rest in rejects if rest[-1]} == {("count/1", "site", 1, "count")}
    assert [bytes(payload) for payload, *_ in rejects[:100]] == [b"nonsense %d" % n for n in range(100)]
    huge = [(bytes(payload), length) for payload, length, *_ in rejects if length == HUGE]
    assert huge == [(b"x" * 65536, HUGE)], "the first 64 KiB, and how long it was"
    assert daemon.messages("rejected") == 121


def test_a_reject_keeps_all_that_came_with_it(make_daemon, broker, database):
    """Topic, payload, and the properties of MQTT 5: enough to try it again once the mapping is mended."""
    make_daemon(broker, [COUNT])
    connection = broker.wait_subscribed()
    broker.wait_done([connection.publish(
        "count/ä", bytes(range(256)), dup=True,
        properties={"user_property": [("site", "roof"), ("site", "cellar")], "content_type": "text/plain"})])
    (row,) = database.query("SELECT topic, payload, payload_length, properties, dup, retain, mapping,"
                            " received_at <= rejected_at FROM sensorlog.reject")
    assert (row[0], bytes(row[1]), row[2]) == ("count/ä", bytes(range(256)), 256)
    assert row[4:] == (True, False, "count", True)
    text = json.dumps(row[3])
    assert all(word in text for word in ("site", "roof", "cellar", "text/plain"))


def test_what_postgresql_refuses_is_found_in_the_batch(make_daemon, broker, database):
    """One batch, a tenth of it against a constraint that only the table knows: that tenth is rejected."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    database.query("ALTER TABLE telemetry.count ADD CONSTRAINT no_threes CHECK (n % 10 <> 3)")
    with database.locked("telemetry.count"):
        deliveries = [one for n in range(1000) for one in broker.route("count/1", count(n))]
        daemon.wait_messages(1000)
    broker.wait_done(deliveries)
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == [n for n in range(1000) if n % 10 != 3]
    rejects = database.query("SELECT convert_from(payload, 'UTF8')::int, sqlstate,"
                             " concat(reason, detail) FROM sensorlog.reject ORDER BY 1")
    assert [n for n, _, _ in rejects] == list(range(3, 1000, 10))
    assert {state for _, state, _ in rejects} == {"23514"}
    assert all("no_threes" in why for _, _, why in rejects)
    assert daemon.messages("stored") == 900
    assert daemon.messages("rejected") == 100


def test_a_batch_of_nothing_but_refusals(make_daemon, broker, database):
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    database.query("ALTER TABLE telemetry.count ADD CONSTRAINT never CHECK (n < 0)")
    broker.wait_done([one for n in range(300) for one in broker.route("count/1", count(n))])
    assert database.count("sensorlog.reject") == 300
    assert daemon.messages("rejected") == 300


def test_rows_and_rejects_are_one_transaction(make_daemon, broker, database):
    """A message with a good part and a bad one: neither shows, and no acknowledgement goes out, without the other."""
    daemon = make_daemon(broker, [text_mapping("number", "a"), text_mapping("positive", "a")])
    broker.wait_subscribed()
    database.query("ALTER TABLE telemetry.positive ADD CHECK (n > 0)")
    for times, locked in enumerate(("telemetry.number", "sensorlog.reject")):
        with database.locked(locked):
            deliveries = broker.route("a", b"-1")
            wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")
            assert not deliveries[0].done
            other = "sensorlog.reject" if locked == "telemetry.number" else "telemetry.number"
            assert database.count(other) == times
        broker.wait_done(deliveries)
    assert database.count("telemetry.number") == database.count("sensorlog.reject") == 2
    assert database.count("telemetry.positive") == 0
    assert daemon.metric("sensorlog_parts_total", mapping="number", verdict="stored") == 2
    assert daemon.metric("sensorlog_parts_total", mapping="positive", verdict="rejected") == 2
    assert daemon.messages("rejected") == 2, "the weightiest verdict of the parts is the message's"


def test_a_table_that_does_not_fit_stops_only_itself(make_daemon, broker, database):
    """It is said at start; its parts are rejected, the other mapping's are stored."""
    database.query("CREATE SCHEMA telemetry AUTHORIZATION logger; SET ROLE logger;"
                   "CREATE TABLE telemetry.count (time timestamptz NOT NULL, sensor text, n text); RESET ROLE")
    daemon = make_daemon(broker, [COUNT, text_mapping("fits", "count/+")])
    broker.wait_subscribed()
    line = daemon.log.wait_for(r"telemetry.*count.*\bn\b")
    assert "text" in line and ("int8" in line or "bigint" in line), "what it is, and what it should be"
    broker.wait_done(broker.route("count/1", count(7)))
    assert database.column("SELECT n FROM telemetry.fits") == [7]
    assert database.column("SELECT mapping FROM sensorlog.reject") == ["count"]


DAY_MS = 24 * 3600 * 1000


@pytest.mark.parametrize("when", ["1970-01-01T00:00:01Z", "2106-02-07T06:28:15Z"])
def test_times_out_of_bounds_make_no_partition(make_daemon, broker, database, when):
    """A clock that was never set is no reason for a partition of its own."""
    make_daemon(broker, [READING.replace('"unix_ms"', '"rfc3339"')])
    broker.wait_subscribed()
    broker.wait_done(broker.route("reading/1", json.dumps({"n": 1, "ts": when}).encode()))
    partitions = database.column("SELECT pg_get_expr(relpartbound, oid) FROM pg_class, pg_inherits"
                                 " WHERE oid = inhrelid AND inhparent = 'telemetry.reading'::regclass")
    assert partitions, "mapped tables are partitioned from the start"
    assert not [bounds for bounds in partitions if when[:4] in bounds]
    assert database.count("telemetry.reading") == 0
    assert "time" in database.value("SELECT concat(reason, ' ', detail) FROM sensorlog.reject")


def test_partitions_are_made_on_demand(make_daemon, broker, database):
    """Late readings, of months that no partition was made ahead for, are stored; so is the one after a partition
    went missing."""
    make_daemon(broker, [READING])
    broker.wait_subscribed()
    now = json.loads(reading(0))["ts"]
    late = [now - months * 35 * DAY_MS for months in range(4)]
    broker.wait_done([one for n, ts in enumerate(late)
                      for one in broker.route("reading/1", json.dumps({"n": n, "ts": ts}).encode())])
    assert database.column("SELECT n FROM telemetry.reading ORDER BY n") == [0, 1, 2, 3]
    partition = database.value("SELECT tableoid::regclass::text FROM telemetry.reading WHERE n = 3")
    database.query(f"DROP TABLE {partition}")
    broker.wait_done(broker.route("reading/1", json.dumps({"n": 4, "ts": late[3]}).encode()))
    assert database.column("SELECT n FROM telemetry.reading ORDER BY n") == [0, 1, 2, 4]
    assert database.count("sensorlog.reject") == 0


def test_the_units_and_numbers_of_text(make_daemon, broker, database):
    """The decoder's promises, as far as a database can tell."""
    make_daemon(broker, [ALTIMETER])
    broker.wait_subscribed()
    cases = {"300 feet": 91.44, "1 km": 1000, "-2.5e2 cm": -2.5, "12": 12, "0x10": None, "300 pounds": None,
             "300 feet high": None, "1e999": None, "nan": None, "": None}
    broker.wait_done([one for number, text in enumerate(cases)
                      for one in broker.route(f"sensors/altimeter/{number}", text.encode())])
    stored = dict(database.query("SELECT sensor::int, altitude_m FROM telemetry.altimeter"))
    rejected = database.column("SELECT convert_from(payload, 'UTF8') FROM sensorlog.reject")
    for number, (text, wanted) in enumerate(cases.items()):
        if wanted is None:
            assert text in rejected and number not in stored, text
        else:
            assert stored[number] == pytest.approx(wanted), text


def test_rejects_are_said_in_the_log_once_a_minute(make_daemon, broker):
    """One line names topic, mapping and reason; a hundred rejects are not a hundred lines."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    for _ in range(3):
        broker.wait_done([one for n in range(30) for one in broker.route("count/7", b"nonsense")])
    wait_until(lambda: "90 rejected" in str(daemon.notify.values("STATUS")[-1:]), "the status to say so")
    line = daemon.log.wait_for("sensorlog.reject")
    assert all(word in line for word in ("warning", "count/7", "mapping count", "nonsense"))
    assert len(daemon.log.find("sensorlog.reject")) == 1


# What brokers let through that they should not


def read_packet(stream):
    """(first byte, body) of the next packet; it is a short one."""
    first, length = stream.read(2)
    return first, stream.read(length)


def publish_unchecked(port, topic, messages):
    """Publishes (payload, properties) each by QoS 1 of MQTT 5, properties that no library would send too."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock, sock.makefile("rb") as stream:
        sock.sendall(wire.packet("CONNECT", b"\0\4MQTT\5\2\0\0\0\0\1p"))
        assert read_packet(stream)[1][1] == 0, "CONNACK"
        for pid, (payload, properties) in enumerate(messages, 1):
            sock.sendall(wire.publish(5, topic, payload, qos=1, pid=pid, values=properties))
            first, body = read_packet(stream)
            assert (first, body[:2]) == (0x40, struct.pack(">H", pid)) and max(body[2:3], default=0) < 0x80, "PUBACK"


def test_properties_out_of_range_are_dropped(make_daemon, make_mosquitto, database):
    """mosquitto takes them and passes them on: the reading is good, whatever they say."""
    mosquitto = make_mosquitto()
    daemon = make_daemon(mosquitto, [COUNT])
    daemon.wait_subscribed()
    out_of_range = [{}, {"response_topic": "a/#"}, {"response_topic": ""}, {"payload_format_indicator": 2}, {}]
    publish_unchecked(mosquitto.port, "count/1", [(count(n), one) for n, one in enumerate(out_of_range)])
    daemon.wait_messages(5, "stored")
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == [0, 1, 2, 3, 4]
    assert database.count("sensorlog.reject") == 0
    assert daemon.metric("sensorlog_source_connects_total", source="site") == 1


def publish_as_is(broker, connection, topic, behind, qos=1):
    """A PUBLISH with any bytes as its topic, and any behind the packet identifier."""
    delivery = Delivery("", b"", qos)
    with broker.lock:
        delivery.pid = connection.session.new_pid() if qos else 0
        connection._expect(delivery)
        pid = struct.pack(">H", delivery.pid) if qos else b""
        connection.send(wire.packet("PUBLISH", struct.pack(">H", len(topic)) + topic + pid + behind, qos << 1))
    return delivery


# Topic and what stands behind it on the wire; topic and detail in the reject table.
BAD_TOPICS = [
    (b"count/#", b"7", "count/#", "wildcard"),
    (b"", b"7", "", "empty"),
    (b"count/\xff\xc3", b"7", r"count/\xFF\xC3", "topic name is not well-formed UTF-8"),
    (b"\xc3\xa4\xed\xa0\x80", b"", "\u00e4" + r"\xED\xA0\x80", "topic name is not well-formed UTF-8"),
    (b"a\0b", b"\0\xff", r"a\x00b", "topic name is not well-formed UTF-8"),
]
BAD_PROPERTIES = [
    (b"count/1", b"\2\4\x007", "count/1", "unknown property"),
    (b"count/1", b"\x7f7", "count/1", "past the end of the packet"),
    (b"count/1", b"", "count/1", "past the end of the packet"),
    (b"count/1", b"\2\3\x007", "count/1", "past the end of the properties"),
    (b"count/1", b"\4\1\0\1\x007", "count/1", "given twice"),
    (b"count/1", b"\2\x0b\x007", "count/1", "Subscription Identifier is out of range"),
    (b"count/1", b"\6\x26\0\1\xff\0\x007", "count/1", "not well-formed UTF-8"),
    (b"", b"\3\x23\0\x017", "", "topic alias"),
    (b"count/1", b"\3\x23\0\x017", "count/1", "topic alias"),
]


@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_malformed_messages_block_nothing(make_daemon, broker, database, protocol, qos):
    """They are rejected as a whole, as they came, and acknowledged; the connection stays."""
    no_properties = b"\0" if protocol == "5" else b""
    cases = [(topic, no_properties + behind, shown, why) for topic, behind, shown, why in BAD_TOPICS]
    cases += BAD_PROPERTIES if protocol == "5" else []
    daemon = make_daemon(broker, [COUNT], conf={"subscriber site": {"protocol": protocol}})
    connection = broker.wait_subscribed()
    deliveries = []
    for n, (topic, behind, _, _) in enumerate(cases):
        deliveries += broker.route("count/1", count(n))
        deliveries.append(publish_as_is(broker, connection, topic, behind, qos))
    deliveries += broker.route("count/1", count(len(cases)))
    broker.wait_done(deliveries)
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == list(range(len(cases) + 1))
    rejects = database.query("SELECT topic, payload, payload_length, qos, mapping, source, reason, detail"
                             " FROM sensorlog.reject ORDER BY id")
    assert [(topic, bytes(payload), *rest) for topic, payload, *rest, _ in rejects] == [
        (shown, behind, len(behind), qos, None, "site", "malformed PUBLISH") for _, behind, shown, _ in cases]
    for (*_, detail), (*_, why) in zip(rejects, cases):
        assert why in detail
    assert len(broker.connections) == 1
    assert daemon.messages("rejected") == len(cases)
    assert daemon.metric("sensorlog_parts_total", mapping="count", verdict="rejected") == 0
    daemon.log.wait_for(r"warning.*site: the broker breaks the protocol")
    assert len(daemon.log.find(r"warning.*site: the broker breaks the protocol")) == 1


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_malformed_message_comes_again(make_daemon, broker, database, protocol):
    """Before it is acknowledged: it is known by what came, as any other is."""
    daemon = make_daemon(broker, [COUNT], conf={"subscriber site": {"protocol": protocol}})
    connection = broker.wait_subscribed()
    with database.locked("sensorlog.reject"):
        delivery = publish_as_is(broker, connection, b"count/\xff", b"\0", qos=2)
        wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")
        connection.send(wire.packet("PUBLISH", b"\0\7count/\xff" + struct.pack(">H", delivery.pid) + b"\0", 0xC))
        daemon.wait_messages(2)  # else it may come behind the PUBREC, and is answered once more
    broker.wait_done([delivery] + broker.route("count/1", count(1)))
    assert database.column("SELECT topic FROM sensorlog.reject") == [r"count/\xFF"]
    assert len(broker.connections) == 1


MALFORMED_HUGE = 2 * 1024 * 1024


def test_huge_and_malformed(make_daemon, broker, database):
    """What is read through is told by its true lengths: payload, or properties."""
    make_daemon(broker, [COUNT])
    connection = broker.wait_subscribed()
    deliveries = broker.route("count/1", count(1))
    deliveries.append(publish_as_is(broker, connection, b"a/#", b"\0" + b"x" * MALFORMED_HUGE))
    deliveries.append(publish_as_is(broker, connection, b"a/b", b"\xff\xff\xff\x7f" + b"x" * MALFORMED_HUGE))
    deliveries.append(connection.publish("count/1", b"7" * 11, properties={"user_property": [("k", "v" * 60000)] * 25}))
    deliveries += broker.route("count/1", count(2))
    broker.wait_done(deliveries)
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == [1, 2]
    rejects = database.query("SELECT topic, payload, payload_length, properties, mapping, reason"
                             " FROM sensorlog.reject ORDER BY id")
    assert [(topic, bytes(payload), *rest) for topic, payload, *rest in rejects] == [
        ("a/#", b"\0" + b"x" * 65535, MALFORMED_HUGE + 1, None, None, "malformed PUBLISH"),
        ("a/b", b"\xff\xff\xff\x7f" + b"x" * 65532, MALFORMED_HUGE + 4, None, None, "malformed PUBLISH"),
        ("count/1", b"", 11, None, None, "properties too large"),
    ]
    assert str(25 * 60006) in database.value("SELECT detail FROM sensorlog.reject ORDER BY id DESC LIMIT 1")
    assert len(broker.connections) == 1
