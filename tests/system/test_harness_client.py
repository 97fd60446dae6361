"""The harness's clients: a tool that lies, or sees nothing wrong, makes every test that uses it worthless."""
import socket

import pytest

from harness import websocket, wire
from harness.cases import cases
from harness.client import Client, Closed, Connection, fresh
from harness.node import NODE_ENVIRONMENT, has_node
from harness.processes import Process
from harness.sensor import Sensor, Subscriber
from harness.wait import TimedOut, wait_until
from harness.wire import Malformed


def told(version, *packets, close=False, limits=None):
    """A connection to a broker that has said all this already."""
    ours, theirs = socket.socketpair()
    theirs.sendall(b"".join(packets))
    connection = Connection(None, version, sock=ours)
    connection.limits = limits or {}
    connection.other = theirs  # which lives as long
    if close:
        theirs.close()
    return connection


def connack(version, **how):
    return wire.connack(version, **how)


def publish(version, qos=1, pid=1, topic="t", **how):
    return wire.publish(version, topic, b"x", qos=qos, pid=pid, **how)


@pytest.mark.parametrize("version, packets, limits", cases(
    (5, [wire.PINGRESP], {}, "an answer before CONNACK"),
    (5, [connack(5), connack(5)], {}, "a second CONNACK"),
    (5, [connack(5, code=0x80, session_present=True)], {}, "Session Present in a refusal"),
    (5, [connack(5, values={"topic_alias": 1})], {}, "a property of another packet"),
    (5, [connack(5, values=bytes.fromhex("21000a21000a"))], {}, "a property twice"),
    (5, [connack(5), wire.disconnect(5, 0x82, {"session_expiry_interval": 1})], {}, "a client's property"),
    (4, [connack(4), wire.disconnect(4)], {}, "DISCONNECT to 3.1.1"),
    (4, [connack(4), wire.packet("SUBACK", b"\0\1\0", 2)], {}, "flags"),
    (4, [connack(4), wire.packet("UNSUBACK", b"\0\1\0")], {}, "codes in UNSUBACK of 3.1.1"),
    (4, [connack(4), wire.PINGREQ], {}, "a packet of clients"),
    (4, [connack(4), publish(4, qos=0, dup=True)], {}, "DUP with QoS 0"),
    (4, [connack(4), publish(4, topic="a/+")], {}, "a wildcard"),
    (4, [connack(4), publish(4, topic=b"\xff")], {}, "no UTF-8"),
    (4, [connack(4), publish(4, pid=0)], {}, "packet identifier 0"),
    (4, [connack(4), b"\x30\x80\x80\x80\x80"], {}, "five bytes of length"),
    (5, [connack(5), publish(5), publish(5)], {}, "an identifier in use"),
    (5, [connack(5), publish(5), publish(5, pid=2)], {"receive_maximum": 1}, "more than Receive Maximum"),
    (5, [connack(5), publish(5)], {"maximum_packet_size": 5}, "more than Maximum Packet Size"),
    (5, [connack(5), publish(5, values={"topic_alias": 1})], {}, "an alias that was not allowed"),
    (5, [connack(5), publish(5, values={"topic_alias": 3})], {"topic_alias_maximum": 2}, "an alias too high"),
    (5, [connack(5), publish(5, topic="")], {"topic_alias_maximum": 2}, "no topic"),
))
def test_what_a_broker_must_not_send_fails_the_test(version, packets, limits):
    connection = told(version, *packets, limits=limits)
    with pytest.raises((Malformed, AssertionError)) as caught:
        for _ in packets:
            connection.take()
    assert not isinstance(caught.value, (Closed, TimedOut))


def test_what_it_reads():
    connection = told(5, connack(5), publish(5, values={"topic_alias": 1}), publish(5, topic="", pid=2, values={
        "topic_alias": 1, "user_property": [("a", "b"), ("a", "b")], "subscription_identifier": [1, 300]}),
        limits={"topic_alias_maximum": 1})
    connection.expect("CONNACK", code=0, session_present=False)
    assert connection.take().named
    message = connection.expect("PUBLISH", topic="t", payload=b"x", qos=1, retain=False)
    assert not message.named
    assert message.properties == {"user_property": [("a", "b"), ("a", "b")], "subscription_identifier": [1, 300]}


def test_what_is_expected_is_not_something_else():
    connection = told(4, connack(4), wire.PINGRESP, publish(4))
    connection.take()
    with pytest.raises(AssertionError):
        connection.expect("PUBLISH")
    with pytest.raises(AssertionError):
        connection.expect("PUBLISH", topic="other")


def test_an_answer_leaves_what_came_before_it():
    connection = told(4, connack(4), publish(4), wire.ack("PUBACK", 6), wire.ack("PUBACK", 7))
    connection.take()
    assert connection.answer("PUBACK", 7).pid == 7
    assert [connection.take().kind, connection.take().pid] == ["PUBLISH", 6]


@pytest.mark.parametrize("version, packets, codes, close, good", cases(
    (5, [wire.disconnect(5, 0x81)], [0x81, 0x82], True, True, "as it should"),
    (5, [wire.disconnect(5, 0x83)], [0x81, 0x82], True, False, "another code"),
    (5, [], [0x81], True, False, "without a word"),
    (5, [wire.disconnect(5, 0x81)], [], True, False, "with a word too many"),
    (5, [wire.disconnect(5, 0x81)], [0x81], False, False, "it does not close"),
    (5, [wire.PINGRESP, wire.disconnect(5, 0x81)], [0x81], True, False, "something else first"),
    (4, [], [0x81], True, True, "3.1.1 has no words"),
    (4, [wire.PINGRESP], [], True, False, "3.1.1, something else first"),
))
def test_the_end_of_a_connection(version, packets, codes, close, good):
    connection = told(version, connack(version), *packets, close=close)
    connection.take()
    connection.patience = 0.05
    if good:
        connection.ends(*codes)
        return
    with pytest.raises(AssertionError):
        connection.ends(*codes)


def test_nothing_means_nothing():
    for packets, good in (([wire.PINGRESP], True), ([publish(4), wire.PINGRESP], False), ([], False)):
        connection = told(4, connack(4), *packets)
        connection.take()
        connection.patience = 0.05
        if good:
            Client.nothing(connection)
        else:
            with pytest.raises(AssertionError):
                Client.nothing(connection)


# The web socket, against an implementation that is not ours

_ECHO = """
const server = new (require("ws").Server)({ port: 0, host: "127.0.0.1", handleProtocols: () => "mqtt" }, () =>
    console.log("port " + server.address().port));
server.on("connection", (socket) => socket.on("message", (data, isBinary) => {
    console.log(isBinary ? "binary" : "text");
    socket.send(data, { binary: true });
}));
"""


@pytest.fixture
def echo():
    """The port of a WebSocket server that sends everything back."""
    if not has_node("ws"):
        pytest.skip("node-ws is not installed: apt-get install node-ws")
    server = Process("node", ["/usr/bin/node", "-e", _ECHO], env=NODE_ENVIRONMENT)
    yield int(server.log.wait_for("^port ").split()[1])
    server.kill9()
    assert not server.log.find("text")


def test_a_web_socket(echo):
    sock = websocket.dial(echo)
    assert sock.answer["sec-websocket-protocol"] == "mqtt"
    for size in (1, 125, 126, 65535, 65536, 200000):
        data = bytes(number % 251 for number in range(size))
        sock.sendall(data)
        assert sock.recv(0) == data
    sock.frame_size = 2
    sock.sendall(b"12345")
    assert [sock.recv(0) for _ in range(3)] == [b"12", b"34", b"5"]
    sock.send_frame(websocket.BINARY, b"one ", final=False)
    sock.send_frame(websocket.PING, b"?")
    sock.send_frame(websocket.CONTINUATION, b"message")
    assert sock.recv(0) == b"one message"
    assert sock.control == [(websocket.PONG, b"?")]
    sock.send_frame(websocket.BINARY, b"x", masked=False)
    assert sock.recv(0) == b"" and sock.control[-1][0] == websocket.CLOSE
    sock.close()


def test_a_refused_web_socket(site):
    with pytest.raises((websocket.Refused, OSError)):
        websocket.dial(site.port)


# Sensors and subscribers


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [1, 2])
def test_sensors_and_subscribers_live_through_lost_connections(site, make_proxy, version, qos):
    """And their accounts are right: all arrives, and by QoS 2 once."""
    proxy, topic = make_proxy(site.port), fresh("topic")
    subscriber = Subscriber(proxy.port, version, topic, qos).start()
    sensor = Sensor(proxy.port, version, topic, lambda n: b"%d" % n, qos).start()
    for round_number in range(5):
        goal = 100 * (round_number + 1)
        wait_until(lambda: len(sensor.acknowledged) >= goal and subscriber.connections > round_number
                   or sensor.violations or subscriber.violations, "progress")
        proxy.cut()
    sent = sensor.stop()
    wait_until(lambda: {int(one) for one in subscriber.received} >= sent or subscriber.violations, "all to arrive")
    subscriber.end()
    assert sent == set(range(len(sent))) and len(sent) >= 500
    assert sensor.connections > 3 and subscriber.connections > 3
    assert qos == 1 or len(subscriber.received) == len(set(subscriber.received))


def test_a_lost_session_is_a_violation(broker):
    sensor = Sensor(broker.port, 5, "t", lambda n: b"%d" % n, 1).start()
    wait_until(lambda: len(sensor.acknowledged) > 10, "progress")
    broker.session_present = False
    broker.drop()
    wait_until(lambda: sensor.violations, "the sensor to notice")
    with pytest.raises(AssertionError):
        sensor.end()


def test_a_wrong_acknowledgement_is_a_violation(broker):
    sensor = Sensor(broker.port, 4, "t", lambda n: b"%d" % n, 2).start()
    broker.wait_connected().send(wire.ack("PUBACK", 60000))
    wait_until(lambda: sensor.violations, "the sensor to notice")
    with pytest.raises(AssertionError):
        sensor.end()
