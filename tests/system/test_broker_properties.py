"""MQTT 5: properties, and all forms of packets that have them."""
import pytest

from harness import wire
from harness.cases import cases
from harness.client import fresh

MALFORMED, PROTOCOL_ERROR = 0x81, 0x82

_USER = bytes.fromhex("26000161000162")


def connect(values, will_values=None):
    will = wire.will("t", b"x", values=will_values) if will_values is not None else None
    return wire.connect(5, fresh("client"), values=values, will=will)


def packet(kind, values):
    """A packet of this kind whose properties are these bytes."""
    properties = wire.properties(values)
    if kind == "PUBLISH":
        return wire.publish(5, "t", b"x", qos=1, pid=1, values=values)
    if kind == "SUBSCRIBE":
        return wire.subscribe(5, 1, [("a", 0)], values)
    if kind == "UNSUBSCRIBE":
        return wire.unsubscribe(5, 1, ["a"], values)
    if kind in ("DISCONNECT", "AUTH"):
        return wire.packet(kind, b"\0" + properties)
    return wire.packet(kind, b"\0\1\0" + properties, 2 if kind == "PUBREL" else 0)


# Every property once, encoded with a value that is good, and the packets of a client that may have it [MQTT5 2.2.2.2].
_PROPERTIES = {
    "0101": "PUBLISH WILL", "020000000a": "PUBLISH WILL", "03000161": "PUBLISH WILL", "08000161": "PUBLISH WILL",
    "09000161": "PUBLISH WILL", "0b01": "SUBSCRIBE", "110000000a": "CONNECT DISCONNECT", "12000161": "",
    "13000a": "", "15000161": "CONNECT AUTH", "16000161": "CONNECT AUTH", "1701": "CONNECT", "180000000a": "WILL",
    "1901": "CONNECT", "1a000161": "", "1c000161": "", "1f000161": "PUBACK PUBREC PUBREL PUBCOMP DISCONNECT AUTH",
    "21000a": "CONNECT", "22000a": "CONNECT", "230001": "PUBLISH", "2401": "", "2501": "",
    "26000161000162": "CONNECT WILL PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE UNSUBSCRIBE DISCONNECT AUTH",
    "2700000100": "CONNECT", "2801": "", "2901": "", "2a01": "",
}
_PACKETS = ["PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "UNSUBSCRIBE", "DISCONNECT"]
# These refer to something else that is not there, or end the connection.
_NOT_ALONE = {"15000161", "16000161"}


@pytest.mark.parametrize("kind", _PACKETS)
def test_properties_by_packet(builtin, kind):
    """Those of other packets are malformed, 2.2.2.2; the packet's own are not."""
    for encoded, allowed in _PROPERTIES.items():
        client = builtin.client(5, clean=False, properties={"session_expiry_interval": 10})
        client.send(packet(kind, bytes.fromhex(encoded)))
        if kind not in allowed.split():
            client.ends(MALFORMED, PROTOCOL_ERROR)
        elif kind == "DISCONNECT":
            client.ends()
        else:
            client.sync()
            assert not [one for one in client.inbox if one.kind == "DISCONNECT"]


@pytest.mark.parametrize("place", ["CONNECT", "WILL"])
def test_properties_of_connect(builtin, place):
    """The same of CONNECT and of its will."""
    for encoded, allowed in _PROPERTIES.items():
        if encoded in _NOT_ALONE and place == "CONNECT":
            continue
        values = bytes.fromhex(encoded)
        connection = builtin.dial(5)
        connection.send(connect(values) if place == "CONNECT" else connect(None, values))
        if place in allowed.split():
            connection.expect("CONNACK", code=0)
        else:
            connection.ends(MALFORMED, PROTOCOL_ERROR)


@pytest.mark.parametrize("encoded", [one for one in _PROPERTIES if one not in _NOT_ALONE])
def test_a_property_twice(builtin, encoded):
    """A protocol error [MQTT5 2.2.2]; only user properties may be repeated."""
    for kind in ["CONNECT", "WILL", *_PACKETS]:
        if kind not in _PROPERTIES[encoded].split():
            continue
        values = bytes.fromhex(encoded) * 2
        if kind in ("CONNECT", "WILL"):
            connection = builtin.dial(5)
            connection.send(connect(values) if kind == "CONNECT" else connect(None, values))
        else:
            connection = builtin.client(5, clean=False, properties={"session_expiry_interval": 10})
            connection.send(packet(kind, values))
        if encoded.startswith("26"):
            connection.send(wire.PINGREQ)
            answer = connection.peek()
            assert answer is None if kind == "DISCONNECT" else answer.kind != "DISCONNECT"
        else:
            connection.ends(PROTOCOL_ERROR, MALFORMED)


@pytest.mark.parametrize("kind", ["CONNECT", "WILL", *_PACKETS])
@pytest.mark.parametrize("block", cases(
    (b"\x05" + _USER, "the length ends within a property"),
    (b"\x08" + _USER, "the length goes beyond the packet, or into what follows"),
    (b"\x01\x26", "an identifier without a value"),
    (b"\x02\x7e\x00", "an unknown identifier"),
    (b"\x80\x80\x80\x80\x01" + _USER, "a length of five bytes [MQTT-1.5.5-1]"),
    (b"\x03\xa6\x00\x00", "an identifier in two bytes that is no such property"),
))
def test_properties_that_are_cut_or_unknown(builtin, kind, block):
    head = b"\0\4MQTT\5"
    if kind in ("CONNECT", "WILL"):
        connection = builtin.dial(5)
        client_id = fresh("client").encode()
        client_id = len(client_id).to_bytes(2, "big") + client_id
        if kind == "CONNECT":
            body = head + b"\2\0\0" + block + client_id
        else:
            body = head + b"\6\0\0\0" + client_id + block + b"\0\1t\0\1x"
        connection.send(wire.packet("CONNECT", body))
    else:
        connection = builtin.client(5)
        body = {"PUBLISH": b"\0\1t\0\1" + block, "SUBSCRIBE": b"\0\1" + block, "UNSUBSCRIBE": b"\0\1" + block,
                "DISCONNECT": b"\0" + block}.get(kind, b"\0\1\0" + block)
        flags = {"PUBLISH": 2, "PUBREL": 2, "SUBSCRIBE": 2, "UNSUBSCRIBE": 2}.get(kind, 0)
        connection.send(wire.packet(kind, body, flags))
    connection.ends(MALFORMED, PROTOCOL_ERROR)


@pytest.mark.parametrize("kind, encoded", cases(
    ("PUBLISH", "0102", "Payload Format Indicator 2, 3.3.2.3.2"),
    ("PUBLISH", "0b01", "a Subscription Identifier from a client [MQTT-3.3.4-6]"),
    ("PUBLISH", "0800012b", "a Response Topic with a wildcard [MQTT-3.3.2-14]"),
    ("SUBSCRIBE", "0b00", "Subscription Identifier 0, 3.8.2.1.2"),
    ("SUBSCRIBE", "0b8080808001", "Subscription Identifier of five bytes [MQTT-1.5.5-1]"),
    ("CONNECT", "210000", "Receive Maximum 0, 3.1.2.11.3"),
    ("CONNECT", "2700000000", "Maximum Packet Size 0, 3.1.2.11.4"),
    ("CONNECT", "1702", "Request Problem Information 2, 3.1.2.11.7"),
    ("CONNECT", "1902", "Request Response Information 2, 3.1.2.11.6"),
    ("WILL", "0102", "Payload Format Indicator 2, 3.1.3.2.3"),
))
def test_out_of_range(builtin, kind, encoded):
    values = bytes.fromhex(encoded)
    if kind in ("CONNECT", "WILL"):
        connection = builtin.dial(5)
        connection.send(connect(values) if kind == "CONNECT" else connect(None, values))
    else:
        connection = builtin.client(5)
        connection.send(packet(kind, values))
    connection.ends(MALFORMED, PROTOCOL_ERROR)


# Message expiry


def a_second_goes_by(site):
    """And more: a client with a keepalive of one is thrown out by then."""
    site.client(5, keepalive=1).ends(0x8D)


def test_expired_messages_are_not_sent(builtin):
    """Neither those queued for who is away, nor those behind a full window; the rest say what is left
    [MQTT-3.3.2-5, -6]."""
    topic = fresh("topic")
    limits = {"receive_maximum": 1, "session_expiry_interval": 60}
    client = builtin.client(5, keep=True, properties=limits)
    client.subscribe(topic, 2)
    client.disconnect()
    publisher = builtin.client(5)
    for number in range(1, 4):
        publisher.publish(topic, b"short", number % 3, properties={"message_expiry_interval": 1})
        publisher.publish(topic, b"long", 1 + number % 2, properties={"message_expiry_interval": 100})
        publisher.publish(topic, b"for ever", 1)
    a_second_goes_by(builtin)
    client = builtin.client(5, client.client_id, keep=True, properties=limits)
    for _ in range(3):
        assert client.receive(topic, b"long").properties["message_expiry_interval"] in range(60, 100)
        assert client.receive(topic, b"for ever").properties == {}
    publisher.publish(topic, b"in flight", 1)
    in_flight = client.expect("PUBLISH", payload=b"in flight")
    publisher.publish(topic, b"short", 1, properties={"message_expiry_interval": 1})
    publisher.publish(topic, b"last", 1)
    a_second_goes_by(builtin)
    client.acknowledge(in_flight)
    client.receive(topic, b"last")
    client.nothing()


def test_what_is_passed_on_at_once_says_what_it_said(builtin):
    topic = fresh("topic")
    client = builtin.client(5)
    client.subscribe(topic)
    for interval in (1, 60, 0xFFFFFFFF):
        client.publish(topic, b"x", properties={"message_expiry_interval": interval})
        assert interval - 1 <= client.receive(topic).properties["message_expiry_interval"] <= interval


def test_an_expiry_of_0_is_over_at_once(builtin):
    """Sent to whoever is there at that moment at the most, kept for nobody [MQTT-3.3.2-5]."""
    topic = fresh("topic")
    client = builtin.client(5)
    client.publish(topic, b"x", 1, retain=True, properties={"message_expiry_interval": 0})
    a_second_goes_by(builtin)
    client.subscribe(topic)
    client.nothing()


# What passes through


def test_properties_of_messages_pass_through(builtin):
    """Unaltered, user properties in their order [MQTT-3.3.2-4, -15 to -18, -20]."""
    topic = fresh("topic")
    client = builtin.client(5)
    client.subscribe(topic, 2)
    values = {"payload_format_indicator": 1, "content_type": "h\u00f6he", "response_topic": "answer/here",
              "correlation_data": bytes(range(256)),
              "user_property": [("z", "1"), ("a", "2"), ("z", "1"), ("", ""), ("a", "1"), ("\u2708", "\u2708")]}
    for qos in (0, 1, 2):
        client.publish(topic, b"x", qos, properties=values)
        assert client.receive(topic, b"x").properties == values
    for one in values:
        client.publish(topic, b"x", properties={one: values[one]})
        assert client.receive(topic, b"x").properties == {one: values[one]}
    client.publish(topic, b"x", properties={"payload_format_indicator": 0})
    assert client.receive(topic, b"x").properties in ({}, {"payload_format_indicator": 0})


def test_many_user_properties(builtin):
    topic = fresh("topic")
    client = builtin.client(5)
    client.subscribe(topic)
    values = {"user_property": [(f"name {number % 7}", f"value {number}") for number in range(2000)]}
    client.publish(topic, b"x", properties=values)
    assert client.receive(topic, b"x").properties == values


def test_to_a_client_of_3_1_1_it_is_the_message_alone(builtin):
    topic = fresh("topic")
    client = builtin.client(4)
    client.subscribe(topic, 1)
    builtin.client(5).publish(topic, b"x", 1, properties={"content_type": "a", "message_expiry_interval": 5})
    client.receive(topic, b"x")


def test_the_payload_format_is_not_judged(builtin):
    """A broker may pass on what is not the UTF-8 that it claims to be, 3.3.2.3.2."""
    topic = fresh("topic")
    client = builtin.client(5)
    client.subscribe(topic, 1)
    if client.publish(topic, b"\xff", 1, properties={"payload_format_indicator": 1}) < 0x80:
        client.receive(topic, b"\xff")


def test_all_subscription_identifiers_that_match(builtin):
    """In one message, or one copy for each subscription [MQTT-3.3.4-3 to -5]."""
    topic = fresh("topic")
    client = builtin.client(5)
    for topic_filter, identifier in ((f"{topic}/a", 1), (f"{topic}/+", 268435455), (f"{topic}/#", 128),
                                     (f"{topic}/b", 7), ("+/a", None)):
        client.subscribe(topic_filter, 1, identifier=identifier)
    client.publish(f"{topic}/a", b"x", 1)
    client.sync()
    identifiers = []
    while client.inbox:
        identifiers += client.receive(f"{topic}/a").properties.get("subscription_identifier", [])
    assert sorted(identifiers) == [1, 128, 268435455]


def test_one_identifier_for_several_filters(builtin):
    """3.8.2.1.2: it is of all filters of its SUBSCRIBE, and is said once for each that matches."""
    topic = fresh("topic")
    client = builtin.client(5)
    client.subscribe_all([(f"{topic}/a", 0), (f"{topic}/+", 0)], identifier=9)
    client.publish(f"{topic}/a", b"x")
    client.sync()
    came = [client.receive(f"{topic}/a").properties["subscription_identifier"] for _ in range(len(client.inbox))]
    assert came in ([[9]], [[9, 9]], [[9], [9]])


def test_a_request_and_its_response(builtin):
    """4.10: by Response Topic and Correlation Data."""
    requests, answers = fresh("requests"), fresh("answers")
    asker, responder = builtin.client(5), builtin.client(5)
    responder.subscribe(requests, 1)
    asker.subscribe(answers, 1)
    asker.publish(requests, b"?", 1, properties={"response_topic": answers, "correlation_data": b"42"})
    request = responder.receive(requests, b"?")
    responder.publish(request.properties["response_topic"], b"!", 1,
                      properties={"correlation_data": request.properties["correlation_data"]})
    assert asker.receive(answers, b"!").properties == {"correlation_data": b"42"}


# Short and long forms


@pytest.mark.parametrize("form", [{}, {"code": 0}, {"code": 0, "values": {}}, {"code": 0, "values": {
    "reason_string": "good", "user_property": [("a", "b")]}}], ids=["id", "code", "no properties", "properties"])
def test_all_forms_of_acknowledgements(builtin, form):
    """Without reason code and properties, and with [MQTT5 3.4.2.1, 3.5.2.1, 3.6.2.1, 3.7.2.1]."""
    topic = fresh("topic")
    client = builtin.client(5)
    client.subscribe(topic, 2)
    for qos in (1, 2):
        client.publish(topic, b"x", qos)
        message = client.expect("PUBLISH", qos=qos)
        for kind in ("PUBACK",) if qos == 1 else ("PUBREC", "PUBCOMP"):
            client.send(wire.ack(kind, message.pid, form.get("code"), form.get("values")))
            if kind == "PUBREC":
                client.expect("PUBREL", pid=message.pid)
        client.unacknowledged.clear()
        client.send_publish(fresh("topic"), b"x", 2, pid=500)
        client.expect("PUBREC", pid=500)
        client.send(wire.ack("PUBREL", 500, form.get("code"), form.get("values")))
        client.expect("PUBCOMP", pid=500, code=0)
    client.nothing()


@pytest.mark.parametrize("body", ["", "00", "0000", "04", "0400", "00051100000000", "000726000161000162"])
def test_all_forms_of_disconnect(builtin, body):
    """[MQTT5 3.14.2.1, 3.14.2.2.1]"""
    topic = fresh("will")
    watcher = builtin.client(5)
    watcher.subscribe(topic)
    client = builtin.client(5, will=wire.will(topic, b"gone"))
    client.send(wire.packet("DISCONNECT", bytes.fromhex(body)))
    client.ends()
    if body.startswith("04"):
        watcher.receive(topic, b"gone")
    watcher.nothing()


@pytest.mark.parametrize("packet_bytes", cases(
    (wire.packet("PUBACK", b"\0\1\1"), "a code that PUBACK does not have [MQTT-3.4.2-1]"),
    (wire.packet("PUBREC", b"\0\1\x92"), "a code that PUBREC does not have [MQTT-3.5.2-1]"),
    (wire.packet("PUBREL", b"\0\1\x80", 2), "a code that PUBREL does not have [MQTT-3.6.2-1]"),
    (wire.packet("PUBCOMP", b"\0\1\x10"), "a code that PUBCOMP does not have [MQTT-3.7.2-1]"),
    (wire.packet("DISCONNECT", b"\x01"), "a code that DISCONNECT does not have [MQTT-3.14.2-1]"),
    (wire.packet("DISCONNECT", b"\x8b"), "a code of servers alone [MQTT-3.14.2-1]"),
    (wire.packet("PUBACK", b"\0"), "half an identifier"),
    (wire.packet("PUBACK", b"\0\0"), "packet identifier 0"),
    (wire.packet("PUBACK", b"\0\1\0\0\0"), "a byte too many"),
    (wire.packet("PINGREQ", b"\0"), "a body of PINGREQ, 3.12.2"),
))
def test_malformed_acknowledgements(builtin, packet_bytes):
    client = builtin.client(5)
    client.send(packet_bytes)
    client.ends(MALFORMED, PROTOCOL_ERROR)
