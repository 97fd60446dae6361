"""Bytes: fixed headers, lengths, borders of TCP segments and of WebSocket frames."""
import random

import pytest

from harness import wire, websocket
from harness.cases import cases
from harness.client import Client, Closed, Connection, fresh
from harness.daemon import is_sanitized
from harness.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT

MALFORMED, PROTOCOL_ERROR, TOO_LARGE = 0x81, 0x82, 0x95
BROKER = {"packet_size": "4MiB", "connect_timeout": "3s", "also": ("ws",)}


# Fixed headers


_GOOD_FLAGS = {"PUBREL": 2, "SUBSCRIBE": 2, "UNSUBSCRIBE": 2}


@pytest.mark.parametrize("kind", ["PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "UNSUBSCRIBE", "PINGREQ",
                                  "DISCONNECT"])
def test_flags_of_the_fixed_header(builtin, version, kind):
    """Those of each type, or the connection ends [3:MQTT-2.2.2-2] [5:MQTT-2.1.3-1]."""
    body = {"SUBSCRIBE": b"\0\1" + (b"\0" if version == 5 else b"") + b"\0\1a\0",
            "UNSUBSCRIBE": b"\0\1" + (b"\0" if version == 5 else b"") + b"\0\1a",
            "PINGREQ": b"", "DISCONNECT": b""}.get(kind, b"\0\1")
    for flags in range(16):
        client = builtin.client(version)
        client.send(wire.packet(kind, body, flags))
        if flags != _GOOD_FLAGS.get(kind, 0):
            client.ends(MALFORMED, PROTOCOL_ERROR)
        elif kind == "DISCONNECT":
            client.ends()
        else:
            client.sync()


def test_flags_of_connect(builtin, version):
    """[3:MQTT-2.2.2-2] [5:MQTT-2.1.3-1]"""
    good = wire.connect(version, fresh("client"))
    for flags in range(1, 16):
        connection = builtin.dial(version)
        connection.send(bytes([good[0] | flags]) + good[1:])
        connection.ends(MALFORMED, PROTOCOL_ERROR, silently=True)


@pytest.mark.parametrize("first", [0x00, 0x0F, 0x20, 0x90, 0xB0, 0xD0, 0xF0])
def test_types_that_clients_do_not_send(builtin, version, first):
    """Type 0, and those of servers; AUTH (0xF0) where none was asked for."""
    client = builtin.client(version)
    client.send(bytes([first, 0]))
    client.ends(MALFORMED, PROTOCOL_ERROR)


# Remaining Length


@pytest.mark.parametrize("size", [2, 127, 128, 16383, 16384, 2097151, 2097152, 4 << 20])
def test_remaining_length(builtin, version, size):
    """Of 1 to 4 bytes, at their borders [3:2.2.3] [5:MQTT-1.5.5-1]; the last is as long as a packet may be."""
    client = builtin.client(version)
    topic = fresh("t") if size > 100 else "t"
    client.subscribe(topic, 0)
    head = 2 + len(topic) + (version == 5)
    if size == 4 << 20:
        size -= 5
    payload = b"x" * max(size - head, 0)
    client.send(wire.publish(version, topic, payload))
    client.receive(topic, payload)
    client.unsubscribe(topic)


@pytest.mark.parametrize("first", [0x10, 0x30, 0x32, 0x82, 0xC0])
def test_a_fifth_byte_of_length(builtin, version, first):
    """As soon as the fourth announces it [3:2.2.3] [5:MQTT-1.5.5-1]."""
    client = builtin.dial(version) if first == 0x10 else builtin.client(version)
    client.send(bytes([first]) + b"\x80" * 4)
    client.ends(MALFORMED, PROTOCOL_ERROR, silently=first == 0x10)


def test_more_bytes_than_needed_for_a_length(builtin, version):
    """MQTT 5 asks for the shortest form [5:MQTT-1.5.5-1]; 3.1.1 does not."""
    client = builtin.client(version)
    client.send(b"\xc0\x80\x00")
    if version == 5:
        client.ends(MALFORMED)
    else:
        client.expect("PINGRESP")


def test_larger_than_the_broker_takes(builtin, version):
    """The length says so: the connection ends before the rest has come."""
    client = builtin.client(version)
    client.send(b"\x30" + wire.varint((4 << 20) + 1) + b"\0\1t")
    client.ends(TOO_LARGE)


def test_lengths_before_connect_cost_nothing(builtin, version):
    """No memory is taken because of a length before a CONNECT is accepted."""
    builtin.client(version).sync()
    before = builtin.daemon.resident()
    connections = [builtin.dial(version) for _ in range(200)]
    for number, connection in enumerate(connections):
        first = (0x10, 0x30, 0x82)[number % 3]
        connection.send(bytes([first]) + b"\xff\xff\xff\x7f\0\4MQTT" + bytes([version]) + b"\2\0\0" + b"\0" * 2000)
    builtin.client(version).sync()
    grown = builtin.daemon.resident() - before
    assert is_sanitized() or grown < 8 << 20, f"{grown} bytes"
    for connection in connections:
        connection.ends(MALFORMED, PROTOCOL_ERROR, TOO_LARGE, silently=True)


# Borders


def story(version, topic):
    """A session in bytes, and the kinds of packets that answer it, those that may overtake each other sorted."""
    packets = [wire.connect(version, fresh("client"), will=wire.will(topic, b"will"), username="u", password=b"p"),
               wire.subscribe(version, 1, [(topic, 2), (f"{topic}/+", 0)]),
               wire.publish(version, topic, b"x" * 200, qos=1, pid=2), wire.publish(version, topic, b"", qos=2, pid=3),
               wire.ack("PUBREL", 4), wire.unsubscribe(version, 4, [f"{topic}/+"]), wire.PINGREQ]
    return b"".join(packets), sorted(["CONNACK", "SUBACK", "PUBLISH", "PUBACK", "PUBREC", "PUBCOMP", "UNSUBACK",
                                      "PINGRESP"])


def assert_told(connection, answers):
    """That it is answered so, and by nothing else."""
    assert sorted(connection.take().kind for _ in answers) == answers
    connection.send(wire.PINGREQ)
    connection.expect("PINGRESP")
    connection.close()


def test_packets_glued_and_split(builtin, version):
    """All of it at once, byte by byte, and in two pieces, cut anywhere."""
    data, answers = story(version, fresh("topic"))
    connection = builtin.dial(version)
    connection.send(data)
    assert_told(connection, answers)
    data, answers = story(version, fresh("topic"))
    connection = builtin.dial(version)
    for at in range(len(data)):
        connection.send(data[at:at + 1])
    assert_told(connection, answers)
    for cut in range(1, len(data), 3):
        data, answers = story(version, fresh("topic"))
        connection = builtin.dial(version)
        connection.send(data[:cut])
        # The broker has surely read the first piece when it has answered another that came after it.
        builtin.client(version).disconnect()
        connection.send(data[cut:])
        assert_told(connection, answers)


def test_why_it_ended_gets_out(builtin):
    """The last DISCONNECT arrives, though the client goes on sending and reads late [MQTT5 4.13.1]."""
    for _ in range(20):
        client = builtin.client(5)
        client.send(b"\xc1\0", b"\xc0\0" * 50000)
        client.ends(MALFORMED)


# Chance


def test_random_bytes_end_connections_and_nothing_else(builtin, version):
    """Packets with a few bytes changed, left out or put in, from a seed that a failure names."""
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    witness = builtin.client(version)
    witness.subscribe(fresh("witness"))
    for _ in range(300):
        data, _ = story(version, "fuzz")
        mutated = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(mutated))
            choice = chance.randrange(3)
            if choice == 0:
                mutated[at] = chance.randrange(256)
            elif choice == 1:
                del mutated[at:at + chance.randrange(1, 4)]
            else:
                mutated[at:at] = chance.randbytes(chance.randrange(1, 4))
        connection = builtin.dial(version)
        connection.send(bytes(mutated))
        connection.close()
        assert builtin.daemon.running, f"seed {seed}"
    witness.nothing()


# WebSocket [MQTT5 6] [MQTT 6]


def web(builtin, version, **how):
    sock = websocket.dial(builtin.ports["ws"], **how)
    return Connection(None, version, sock=sock), sock


def test_over_websocket(builtin, version):
    """The subprotocol is mqtt [MQTT-6.0.0-4], frames are binary [MQTT-6.0.0-1]; a whole session of it."""
    sock = websocket.dial(builtin.ports["ws"])
    assert sock.answer["sec-websocket-protocol"] == "mqtt"
    topic = fresh("topic")
    client = Client(None, version, sock=sock)
    client.subscribe(topic, 2)
    other = builtin.client(version)
    other.subscribe(topic, 2)
    for payload in (b"", b"x" * 100, b"x" * 125, b"x" * 126, b"x" * 70000, b"x" * 1000000):
        for qos in (0, 1, 2):
            client.publish(topic, payload, qos)
            client.receive(topic, payload, qos=qos)
            other.receive(topic, payload, qos=qos)
    other.publish(topic, b"from TCP", 1)
    client.receive(topic, b"from TCP")
    assert not sock.control
    client.disconnect()


def test_the_subprotocol_among_others(builtin, version):
    connection, sock = web(builtin, version, protocols="chat, mqtt , mqttv3.1", headers=["Origin: http://example.com"])
    assert sock.answer["sec-websocket-protocol"] == "mqtt"
    connection.send(wire.connect(version, fresh("client")))
    connection.expect("CONNACK")
    connection.close()


@pytest.mark.parametrize("how", [{"protocols": "chat"}, {"protocols": None}, {"protocols": "mqttx"}])
def test_another_subprotocol_is_refused(builtin, how):
    """[MQTT-6.0.0-3, -4]"""
    with pytest.raises(websocket.Refused):
        websocket.dial(builtin.ports["ws"], **how)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, None])
def test_packets_over_frame_borders(builtin, version, size):
    """Frames need not begin or end with packets [MQTT-6.0.0-2]."""
    connection, sock = web(builtin, version)
    sock.frame_size = size
    data, answers = story(version, fresh("topic"))
    connection.send(data)
    assert_told(connection, answers)


def test_fragmented_messages_and_pings_between(builtin, version):
    """Continuation frames carry on; a ping is answered by a pong with its payload, also within a message, and is no
    part of the stream [RFC 6455, 5.4, 5.5.2]."""
    connection, sock = web(builtin, version)
    data, answers = story(version, fresh("topic"))
    third = len(data) // 3
    sock.send_frame(BINARY, data[:third], final=False)
    sock.send_frame(PING, b"are you there?")
    sock.send_frame(CONTINUATION, b"", final=False)
    sock.send_frame(CONTINUATION, data[third:2 * third], final=False)
    sock.send_frame(PONG, b"unasked")
    sock.send_frame(PING, b"")
    sock.send_frame(CONTINUATION, data[2 * third:])
    assert_told(connection, answers)
    assert [one for one in sock.control if one[0] == PONG] == [(PONG, b"are you there?"), (PONG, b"")]


@pytest.mark.parametrize("frame", cases(
    (websocket.frame(TEXT, b"\xc0\0"), "text [MQTT-6.0.0-1]"),
    (websocket.frame(BINARY, b"\xc0\0", masked=False), "not masked [RFC 6455, 5.1]"),
    (websocket.frame(BINARY, b"\xc0\0", reserved=4), "a reserved bit [RFC 6455, 5.2]"),
    (websocket.frame(3, b"\xc0\0"), "a reserved opcode [RFC 6455, 5.2]"),
    (websocket.frame(11, b""), "a reserved opcode of control [RFC 6455, 5.2]"),
    (websocket.frame(CONTINUATION, b"\xc0\0"), "nothing to continue [RFC 6455, 5.4]"),
    (websocket.frame(BINARY, b"\xc0", final=False) + websocket.frame(BINARY, b"\0"), "not continued [RFC 6455, 5.4]"),
    (websocket.frame(PING, b"x", final=False), "a fragmented ping [RFC 6455, 5.5]"),
    (websocket.frame(PING, b"x" * 126), "a long ping [RFC 6455, 5.5]"),
    (b"\x82\xff" + b"\xff" * 8 + b"mask", "a length beyond all measure [RFC 6455, 5.2]"),
))
def test_frames_that_end_the_connection(builtin, version, frame):
    connection, sock = web(builtin, version)
    connection.send(wire.connect(version, fresh("client")))
    connection.expect("CONNACK", code=0)
    sock.send_raw(frame)
    with pytest.raises(Closed):
        while connection.take().kind == "DISCONNECT":
            pass


def test_the_web_sockets_close(builtin, version):
    """It is answered by a close, and is for MQTT an end without DISCONNECT: the will is published."""
    topic = fresh("will")
    watcher = builtin.client(version)
    watcher.subscribe(topic)
    connection, sock = web(builtin, version)
    connection.send(wire.connect(version, fresh("client"), will=wire.will(topic, b"gone")))
    connection.expect("CONNACK")
    sock.send_frame(CLOSE, b"\x03\xe8")
    with pytest.raises(Closed):
        connection.take()
    assert [opcode for opcode, _ in sock.control] == [CLOSE]
    watcher.receive(topic, b"gone")


@pytest.mark.parametrize("request_bytes", cases(
    (b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n", "no upgrade"),
    (b"POST /mqtt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "POST"),
    (b"\x10\x0c\0\4MQTT\4\2\0\0\0\0", "MQTT without WebSocket"),
    (b"GET " + b"/" * 100000, "a line that never ends"),
    (b"\r\n" * 50000, "empty lines"),
    (b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
     b"Sec-WebSocket-Protocol: mqtt\r\n\r\n", "no key"),
    (b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
     b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n", "another version"),
))
def test_what_is_no_handshake(builtin, request_bytes):
    """Refused or closed; never a connection."""
    connection = Connection(builtin.ports["ws"], 4)
    connection.send(request_bytes)
    assert not connection.everything().startswith(b"HTTP/1.1 101")


def test_a_handshake_that_never_ends_is_ended(builtin):
    """As a CONNECT that never comes; connect_timeout is 3 s here."""
    connection = Connection(builtin.ports["ws"], 4)
    connection.send(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n")
    connection.everything()
    connection, _ = web(builtin, 4)
    with pytest.raises(Closed):
        connection.take()
