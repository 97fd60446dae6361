"""What the subscriber says to brokers of all kinds, and what it makes of their answers."""
import pytest

from harness.load import Publisher
from harness.mappings import COUNT, READING, count, reading, text_mapping
from harness.wait import wait_until


def site(**settings):
    return {"subscriber site": settings}


# CONNECT and its refusal


def test_mqtt_5_and_its_session(make_daemon, broker):
    """A persistent session, the window as Receive Maximum; no Maximum Packet Size, for then brokers discard what is
    larger, silently."""
    make_daemon(broker, [COUNT], conf=site(window=123, session_expiry="2d", keepalive=17))
    connect = broker.wait_subscribed().connect
    assert (connect.version, connect.clean, connect.keepalive) == (5, False, 17)
    assert connect.client_id == "sensorlogd-site"
    assert connect.properties["receive_maximum"] == 123
    assert connect.properties["session_expiry_interval"] == 2 * 24 * 3600
    assert "maximum_packet_size" not in connect.properties


def test_3_1_1_where_it_is_asked_for(make_daemon, broker):
    make_daemon(broker, [COUNT], conf=site(protocol="3.1.1"))
    connect = broker.wait_subscribed().connect
    assert (connect.version, connect.clean) == (4, False)


@pytest.mark.parametrize("code", [0x84, 0x01])
def test_falling_back_to_3_1_1(make_daemon, broker, database, code):
    """Whether the broker knows MQTT 5 well enough to refuse it in its own words, or not."""
    broker.refuse = {5: code}
    make_daemon(broker, [COUNT])
    connection = broker.wait_subscribed()
    assert [entry.packet.version for entry in broker.entries("CONNECT")] == [5, 4]
    broker.wait_done(broker.route("count/1", count(1)))
    connection.close()
    assert broker.wait_connected(2).connect.version == 4
    assert database.column("SELECT n FROM telemetry.count") == [1]


@pytest.mark.parametrize("protocol, code", [("5", 0x86), ("5", 0x87), ("3.1.1", 4), ("3.1.1", 5)])
def test_a_refused_connect_is_told_and_tried_again(make_daemon, broker, protocol, code):
    broker.connack_code = code
    daemon = make_daemon(broker, [COUNT], conf=site(protocol=protocol))
    daemon.log.wait_for(r"site.*(authori[sz]ed|user ?name|password)")
    broker.connack_code = 0
    broker.wait_subscribed()
    daemon.wait_subscribed()


def test_user_name_and_password(make_daemon, make_mosquitto, database, tmp_path):
    """The password is read from its file, without the line's end, and does not show up anywhere."""
    password = tmp_path / "password"
    password.write_text("top secret\n")
    password.chmod(0o600)
    mosquitto = make_mosquitto(users={"logger": "top secret", "anna": "hers"})
    daemon = make_daemon(mosquitto, [COUNT], conf=site(username="logger", password_file=password))
    daemon.wait_subscribed()
    load = Publisher(mosquitto.port, "count/1", count, username="anna", password="hers")
    load.publish_all(10)
    load.stop()
    daemon.wait_messages(10, "stored")
    assert "secret" not in daemon.log.text()


def test_a_wrong_password(make_daemon, make_mosquitto, tmp_path):
    password = tmp_path / "password"
    password.write_text("wrong\n")
    password.chmod(0o600)
    mosquitto = make_mosquitto(users={"logger": "right"})
    daemon = make_daemon(mosquitto, [COUNT], conf=site(username="logger", password_file=password))
    daemon.log.wait_for(r"site.*(authori[sz]ed|user ?name|password)")
    assert daemon.metric("sensorlog_source_connected", source="site") == 0


# The server's limits


def test_server_keep_alive(make_daemon, broker):
    """The broker's 1 s counts, not the configured hour, in which there would be one ping."""
    broker.connack_properties = {"server_keep_alive": 1}
    make_daemon(broker, [COUNT], conf=site(keepalive=3600))
    broker.wait_subscribed()
    wait_until(lambda: len(broker.entries("PINGREQ")) >= 3, "three pings")


def test_assigned_client_identifier(make_daemon, broker):
    """Without a client id of its own it keeps the one it was given: its session belongs to that."""
    broker.connack_properties = {"assigned_client_identifier": "auto-7"}
    make_daemon(broker, [COUNT], conf=site(client_id=""))
    first = broker.wait_subscribed()
    assert first.connect.client_id == ""
    first.close(reset=True)
    second = broker.wait_connected(2)
    assert second.connect.client_id == "auto-7"
    assert second.session is first.session


def test_maximum_packet_size(make_daemon, broker):
    """Subscriptions are spread over as many packets as it takes."""
    broker.connack_properties = {"maximum_packet_size": 150}
    filters = [f"building/{number:02}/a-rather-long-name-of-a-floor/+" for number in range(40)]
    make_daemon(broker, [text_mapping(f"m{number}", one) for number, one in enumerate(filters)])
    connection = broker.wait_subscribed(*filters)
    assert max(packet.size for packet in connection.packets if packet.kind != "CONNECT") <= 150


def test_a_filter_over_the_maximum_packet_size_is_told(make_daemon, broker):
    broker.connack_properties = {"maximum_packet_size": 100}
    daemon = make_daemon(broker, [text_mapping("long", 200 * "x"), COUNT])
    broker.wait_subscribed("count/+")
    daemon.log.wait_for("x" * 100)
    assert all(packet.size <= 100 for connection in broker.connections for packet in connection.packets[1:])


def test_the_brokers_receive_maximum_is_for_the_other_direction(make_daemon, broker, database):
    """It bounds what we publish: what we receive is bounded by our own."""
    broker.connack_properties = {"receive_maximum": 1}
    make_daemon(broker, [COUNT], conf=site(window=10))
    connection = broker.wait_subscribed()
    with database.locked("telemetry.count"):
        deliveries = [one for n in range(30) for one in broker.route("count/1", count(n))]
        assert len(connection.session.in_flight) == 10
    broker.wait_done(deliveries)


@pytest.mark.parametrize("limit, missing, kept", [
    ("wildcard_subscription_available", "sensors/+/raw", "plain"),
    ("shared_subscription_available", "$share/group/sensors/+/raw", None),
])
def test_what_the_broker_does_not_offer_is_told_and_not_asked_for(make_daemon, broker, limit, missing, kept):
    """It is an error that names the filter: silence would look like a sensor that has nothing to say."""
    broker.connack_properties = {limit: 0}
    settings = site(share="group") if kept is None else None
    daemon = make_daemon(broker, [text_mapping("one", "sensors/+/raw"), text_mapping("two", "plain")], conf=settings)
    broker.wait_connected()
    line = daemon.log.wait_for(r"sensors/\+/raw")
    assert "not" in line
    if kept:
        broker.wait_subscribed(kept)
    asked = [one for connection in broker.connections for packet in connection.of_kind("SUBSCRIBE")
             for one in packet.filters]
    assert missing not in asked


def test_without_subscription_identifiers(make_daemon, broker):
    broker.connack_properties = {"subscription_identifier_available": 0}
    make_daemon(broker, [text_mapping("one", "a/+"), text_mapping("two", "+/b")])
    connection = broker.wait_subscribed()
    assert not any("subscription_identifier" in packet.properties for packet in connection.of_kind("SUBSCRIBE"))
    broker.wait_done(broker.route("a/b", b"1"))


# SUBSCRIBE


@pytest.mark.parametrize("protocol, code", [("5", 0x87), ("5", 0x8F), ("3.1.1", 0x80)])
def test_a_refused_filter_is_named(make_daemon, broker, database, protocol, code):
    """And the others go on."""
    broker.grant = lambda topic_filter, qos: code if topic_filter == "secret/+" else qos
    daemon = make_daemon(broker, [text_mapping("secret", "secret/+"), COUNT], conf=site(protocol=protocol))
    broker.wait_subscribed("count/+")
    daemon.log.wait_for(r"secret/\+")
    broker.wait_done(broker.route("count/1", count(1)))
    assert database.column("SELECT n FROM telemetry.count") == [1]


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_the_qos_of_a_mapping(make_daemon, broker, protocol):
    """The subscriber's, unless the mapping has its own; of filters that are covered, the highest."""
    make_daemon(broker, [text_mapping("usual", "a/+"), text_mapping("exact", "b/+", qos=2),
                         text_mapping("careless", "c/+", qos=0), text_mapping("wide", "d/#", qos=0),
                         text_mapping("narrow", "d/1", qos=2)], conf=site(protocol=protocol, qos=1))
    connection = broker.wait_subscribed("a/+", "b/+", "c/+", "d/#")
    granted = {one.filter: one.qos for one in connection.session.subscriptions.values()}
    assert granted == {"a/+": 1, "b/+": 2, "c/+": 0, "d/#": 2}


def test_retain_as_published_is_off(make_daemon, broker):
    """Else live messages would look retained [MQTT 5, 3.8.3.1]."""
    make_daemon(broker, [COUNT])
    connection = broker.wait_subscribed()
    assert not [one for one in connection.session.subscriptions.values() if one.options & 8]


def test_shared_subscriptions_share(make_daemon, make_mosquitto, database):
    """Two daemons, one share: each message is stored by one of them."""
    mosquitto = make_mosquitto()
    daemons = [make_daemon(mosquitto, [COUNT], conf={
        "postgres": {"writer": name}, "subscriber site": {"share": "loggers", "client_id": name}})
        for name in ("first", "second")]
    for daemon in daemons:
        daemon.wait_subscribed()
    for name in ("first", "second"):
        wait_until(lambda name=name: mosquitto.subscriptions(name), f"what {name} has subscribed to, in the log")
        assert mosquitto.subscriptions(name) == ["$share/loggers/count/+"]
    load = Publisher(mosquitto.port, "count/1", count)
    load.publish_all(200)
    load.stop()
    wait_until(lambda: database.count("telemetry.count") >= 200, "all rows")
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == list(range(200))
    wait_until(lambda: sum(daemon.messages("stored") for daemon in daemons) >= 200, "all to be counted")
    assert all(daemon.messages("stored") > 0 for daemon in daemons)


def test_shared_filters_are_never_generalised(make_daemon, broker):
    """A group may have members that want only the one filter."""
    make_daemon(broker, [text_mapping("one", "a/+"), text_mapping("two", "+/b")], conf=site(share="group"))
    connection = broker.wait_subscribed("$share/group/a/+", "$share/group/+/b")
    assert set(connection.session.subscriptions) == {"$share/group/a/+", "$share/group/+/b"}


def test_partial_overlaps_are_generalised(make_daemon, broker):
    make_daemon(broker, [text_mapping("one", "a/+"), text_mapping("two", "+/b"), text_mapping("three", "a/b")])
    connection = broker.wait_subscribed()
    assert set(connection.session.subscriptions) == {"+/+"}


# Sessions


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_what_left_the_configuration_is_unsubscribed(make_daemon, broker, protocol):
    """By a daemon that was not there when it was subscribed to; and what has not changed is left alone."""
    mappings = [text_mapping("kept", "kept/+"), text_mapping("gone", "gone/+")]
    daemon = make_daemon(broker, mappings, conf=site(protocol=protocol))
    first = broker.wait_subscribed("kept/+", "gone/+")
    daemon.wait_subscribed()
    session = first.session

    daemon.restart()
    second = broker.wait_connected(2)
    daemon.wait_subscribed()
    broker.wait_done(broker.route("kept/1", b"1"))
    assert not second.of_kind("SUBSCRIBE") and not second.of_kind("UNSUBSCRIBE"), "nothing has changed"

    daemon.configuration.write("topics.d/test.cfg", f"mappings = ( {mappings[0]} );\n")
    daemon.restart()
    third = broker.wait_connected(3)
    wait_until(lambda: set(session.subscriptions) == {"kept/+"}, "the other filter to be unsubscribed")
    assert [packet.filters for packet in third.of_kind("UNSUBSCRIBE")] == [["gone/+"]]
    broker.wait_done(broker.route("kept/1", b"2"))


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("present", [True, False])
def test_session_present(make_daemon, broker, database, protocol, present):
    """With its session the daemon is subscribed already, without it subscribes again; either way it goes on."""
    make_daemon(broker, [READING], conf=site(protocol=protocol))
    first = broker.wait_subscribed()
    broker.wait_done(broker.route("reading/1", reading(1)))
    broker.session_present = None if present else False
    first.close(reset=True)
    second = broker.wait_subscribed("reading/+", count=2)
    broker.wait_done(broker.route("reading/1", reading(2)))
    assert bool(second.of_kind("SUBSCRIBE")) is not present
    assert database.column("SELECT n FROM telemetry.reading ORDER BY n") == [1, 2]


def test_acknowledgements_of_a_lost_connection_are_void(make_daemon, broker, database):
    """The packet ids of the old connection mean nothing on the new one: what comes again is acknowledged once."""
    make_daemon(broker, [READING])
    first = broker.wait_subscribed()
    with database.locked("telemetry.reading"):
        deliveries = [one for n in range(20) for one in broker.route("reading/1", reading(n))]
        wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")
        first.close(reset=True)
        second = broker.wait_connected(2)
    broker.wait_done(deliveries)
    assert [packet.pid for packet in second.of_kind("PUBACK")] == [delivery.pid for delivery in deliveries]
    assert database.column("SELECT n FROM telemetry.reading ORDER BY n") == list(range(20))


# What a broker must not send


@pytest.mark.parametrize("garbage", [
    bytes.fromhex("3606000161000178"),          # PUBLISH of QoS 3
    bytes.fromhex("32050001610000"),            # packet id 0
    bytes.fromhex("300400036161"),              # a topic longer than its packet
    bytes.fromhex("3203000161"),                # no packet id
    bytes.fromhex("300400016100") + b"\xff" * 5, # a good one, and then none at all
    bytes.fromhex("ffffffffffff"),
    bytes.fromhex("20020000"),                  # a second CONNACK
])
def test_garbage_ends_the_connection_and_not_the_daemon(make_daemon, broker, database, garbage):
    make_daemon(broker, [COUNT], conf=site(protocol="3.1.1"))
    connection = broker.wait_subscribed()
    connection.send(garbage)
    wait_until(lambda: not connection.open, "the daemon to leave")
    second = broker.wait_connected(2)
    broker.wait_done([second.publish("count/1", count(1))])
    assert database.column("SELECT n FROM telemetry.count") == [1]
