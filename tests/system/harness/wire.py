"""MQTT 3.1.1 and 5 on the wire, for scripted brokers and clients, and strict about what the other side sends.

Where text or properties are given as bytes, they are sent as they are, however wrong."""
import struct
from types import SimpleNamespace

KINDS = (None, "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
         "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH")
_NUMBERS = {kind: number for number, kind in enumerate(KINDS)}
_ACKS = ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP")

# Identifier: name and format [MQTT5 2.2.2.2].
_PROPERTIES = {
    0x01: ("payload_format_indicator", "B"), 0x02: ("message_expiry_interval", "I"),
    0x03: ("content_type", "text"), 0x08: ("response_topic", "text"), 0x09: ("correlation_data", "binary"),
    0x0B: ("subscription_identifier", "varint"), 0x11: ("session_expiry_interval", "I"),
    0x12: ("assigned_client_identifier", "text"), 0x13: ("server_keep_alive", "H"),
    0x15: ("authentication_method", "text"), 0x16: ("authentication_data", "binary"),
    0x17: ("request_problem_information", "B"), 0x18: ("will_delay_interval", "I"),
    0x19: ("request_response_information", "B"), 0x1A: ("response_information", "text"),
    0x1C: ("server_reference", "text"), 0x1F: ("reason_string", "text"), 0x21: ("receive_maximum", "H"),
    0x22: ("topic_alias_maximum", "H"), 0x23: ("topic_alias", "H"), 0x24: ("maximum_qos", "B"),
    0x25: ("retain_available", "B"), 0x26: ("user_property", "pair"), 0x27: ("maximum_packet_size", "I"),
    0x28: ("wildcard_subscription_available", "B"), 0x29: ("subscription_identifier_available", "B"),
    0x2A: ("shared_subscription_available", "B"),
}
_IDENTIFIERS = {name: (identifier, form) for identifier, (name, form) in _PROPERTIES.items()}


class Malformed(Exception):
    """What the other side sent is against the specification."""


class Packet(SimpleNamespace):
    """A packet: .kind, .size in bytes, and fields by kind."""


def matches(topic_filter, topic):
    """Whether the filter (not a shared one) matches the topic [MQTT-4.7]."""
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and wanted[0] in ("+", "#"):
        return False
    for depth, level in enumerate(wanted):
        if level == "#":
            return True
        if depth >= len(levels) or level not in ("+", levels[depth]):
            return False
    return len(wanted) == len(levels)


# Encoding: what both sides need.


def varint(number):
    encoded = bytearray()
    while True:
        number, digit = divmod(number, 128)
        encoded.append(digit | (128 if number else 0))
        if not number:
            return bytes(encoded)


def _binary(data):
    return struct.pack(">H", len(data)) + data


def _text(text):
    return _binary(text if isinstance(text, bytes) else text.encode())


def _property(name, value):
    identifier, form = _IDENTIFIERS[name]
    if form == "text":
        encoded = _text(value)
    elif form == "binary":
        encoded = _binary(value)
    elif form == "varint":
        encoded = varint(value)
    elif form == "pair":
        encoded = _text(value[0]) + _text(value[1])
    else:
        encoded = struct.pack(">" + form, value)
    return bytes([identifier]) + encoded


def properties(values):
    """The property list with its length; a list as value repeats the property."""
    if isinstance(values, bytes):
        return varint(len(values)) + values
    encoded = b"".join(_property(name, one) for name, value in (values or {}).items()
                       for one in (value if isinstance(value, list) else [value]))
    return varint(len(encoded)) + encoded


def packet(kind, body, flags=0):
    return bytes([_NUMBERS[kind] << 4 | flags]) + varint(len(body)) + body


# Encoding: what a broker sends.


def connack(version, code=0, session_present=False, values=None):
    body = bytes([session_present, code])
    return packet("CONNACK", body + (properties(values) if version == 5 else b""))


def publish_head(version, topic, payload_length, qos=0, pid=0, dup=False, retain=False, values=None):
    """A PUBLISH without its payload, of payload_length bytes."""
    head = _text(topic) + (struct.pack(">H", pid) if qos else b"")
    if version == 5:
        head += properties(values)
    flags = dup << 3 | qos << 1 | retain
    return bytes([3 << 4 | flags]) + varint(len(head) + payload_length) + head


def publish(version, topic, payload, **how):
    return publish_head(version, topic, len(payload), **how) + payload


def ack(kind, pid, code=None, values=None):
    """PUBACK and the like, in their short form, which both versions share, or with code and properties (5)."""
    body = struct.pack(">H", pid)
    if code is not None:
        body += bytes([code])
    if values is not None:
        body += properties(values)
    return packet(kind, body, 2 if kind == "PUBREL" else 0)


def suback(version, pid, codes):
    return packet("SUBACK", struct.pack(">H", pid) + (b"\0" if version == 5 else b"") + bytes(codes))


def unsuback(version, pid, codes):
    return packet("UNSUBACK", struct.pack(">H", pid) + (b"\0" + bytes(codes) if version == 5 else b""))


def disconnect(version, code=0, values=None):
    return packet("DISCONNECT", bytes([code]) + properties(values) if version == 5 else b"")


PINGRESP = packet("PINGRESP", b"")


# Encoding: what a client sends.


def will(topic, payload, qos=0, retain=False, values=None):
    """A will for connect()."""
    return SimpleNamespace(topic=topic, payload=payload, qos=qos, retain=retain, values=values)


def connect(version, client_id, *, clean=True, keepalive=0, will=None, username=None, password=None, values=None,
            name="MQTT", level=None, flags=None):
    """level and flags: what to say instead of the version and of what the payload has."""
    if flags is None:
        flags = clean << 1 | (password is not None) << 6 | (username is not None) << 7
        if will:
            flags |= 4 | will.qos << 3 | will.retain << 5
    v5 = version == 5
    body = _text(name) + struct.pack(">BBH", version if level is None else level, flags, keepalive)
    body += (properties(values) if v5 else b"") + _text(client_id)
    if will:
        body += (properties(will.values) if v5 else b"") + _text(will.topic) + _binary(will.payload)
    for text in (username, password):
        body += _text(text) if text is not None else b""
    return packet("CONNECT", body)


def subscribe(version, pid, filters, values=None):
    """filters: (filter, options) each."""
    body = struct.pack(">H", pid) + (properties(values) if version == 5 else b"")
    return packet("SUBSCRIBE", body + b"".join(_text(one) + bytes([options]) for one, options in filters), 2)


def unsubscribe(version, pid, filters, values=None):
    body = struct.pack(">H", pid) + (properties(values) if version == 5 else b"")
    return packet("UNSUBSCRIBE", body + b"".join(map(_text, filters)), 2)


def auth(code, values=None):
    return packet("AUTH", bytes([code]) + properties(values))


PINGREQ = packet("PINGREQ", b"")


# Decoding: what a client sends.


class Stream:
    """Bytes as they come from a client, and whole packets out of them."""

    sender = "client"
    flags = {"PUBREL": 2, "SUBSCRIBE": 2, "UNSUBSCRIBE": 2}  # others have 0 [MQTT-2.1.3-1]

    def __init__(self):
        self._bytes = bytearray()
        self.version = None  # of the CONNECT, once it is there

    def feed(self, data):
        """Yields each packet that is complete now."""
        self._bytes += data
        at = 0
        try:
            while True:
                head = _fixed_header(self._bytes, at)
                if head is None or at + sum(head) > len(self._bytes):
                    return
                start, length = at + head[0], head[1]
                yield self._decode(self._bytes[at], bytes(self._bytes[start:start + length]), sum(head))
                at = start + length
        finally:
            del self._bytes[:at]

    def _decode(self, first, body, size):
        kind, flags = KINDS[first >> 4], first & 15
        self._in_place(kind)
        if kind != "PUBLISH" and flags != self.flags.get(kind, 0):
            raise Malformed(f"flags {flags} of {kind}")
        reader = _Reader(body)
        decoders = _DECODERS[self.sender]
        if kind in _ACKS:
            decoded = _ack(reader, self.version)
        elif kind in decoders:
            decoded = decoders[kind](reader, self.version, flags)
        else:
            raise Malformed(f"a {self.sender} sends no {kind}")
        self._allowed(kind, decoded.get("properties", {}))
        if reader.left:
            raise Malformed(f"{reader.left} bytes left over in {kind}")
        if kind == "CONNECT":
            self.version = decoded["version"]
        return Packet(kind=kind, size=size, **decoded)

    def _in_place(self, kind):
        if (self.version is None) != (kind == "CONNECT"):
            raise Malformed(f"{kind} out of place [MQTT-3.1.0-1, -2]")

    def _allowed(self, kind, names):
        pass


class ServerStream(Stream):
    """The same of what a server sends to a client of this version."""

    sender = "server"
    flags = {"PUBREL": 2}

    def __init__(self, version):
        super().__init__()
        self.version = version
        self._accepted = False

    def _in_place(self, kind):
        if self._accepted == (kind == "CONNACK"):
            raise Malformed(f"{kind} out of place [MQTT-3.2.0-1, -2]")
        if self.version < 5 and kind in ("DISCONNECT", "AUTH"):
            raise Malformed(f"a server of 3.1.1 sends no {kind}")
        self._accepted = True

    def _allowed(self, kind, names):
        wrong = set(names) - _FROM_A_SERVER.get(kind, set())
        if wrong:
            raise Malformed(f"{', '.join(wrong)} in {kind} from a server")


# Properties that a server may send [MQTT5 2.2.2.2].
_EXPLANATION = {"reason_string", "user_property"}
_FROM_A_SERVER = {
    "CONNACK": _EXPLANATION | {
        "session_expiry_interval", "receive_maximum", "maximum_qos", "retain_available", "maximum_packet_size",
        "assigned_client_identifier", "topic_alias_maximum", "wildcard_subscription_available",
        "subscription_identifier_available", "shared_subscription_available", "server_keep_alive",
        "response_information", "server_reference", "authentication_method", "authentication_data"},
    "PUBLISH": {"payload_format_indicator", "message_expiry_interval", "topic_alias", "response_topic",
                "correlation_data", "user_property", "subscription_identifier", "content_type"},
    "DISCONNECT": _EXPLANATION | {"server_reference"},
    "AUTH": _EXPLANATION | {"authentication_method", "authentication_data"},
    **{kind: _EXPLANATION for kind in (*_ACKS, "SUBACK", "UNSUBACK")},
}


def _fixed_header(data, at):
    """(length of the fixed header, remaining length), or None while it is not whole."""
    length = 0
    for digit in range(4):
        if at + 1 + digit >= len(data):
            return None
        byte = data[at + 1 + digit]
        length |= (byte & 127) << 7 * digit
        if byte < 128:
            return 2 + digit, length
    raise Malformed("five bytes of Remaining Length")


class _Reader:
    def __init__(self, data):
        self._data = data
        self._at = 0

    @property
    def left(self):
        return len(self._data) - self._at

    def take(self, count):
        if count > self.left:
            raise Malformed("packet too short")
        self._at += count
        return self._data[self._at - count:self._at]

    def rest(self):
        return self.take(self.left)

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))[0]

    def binary(self):
        return self.take(self.number("H"))

    def text(self):
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise Malformed("ill-formed UTF-8 [MQTT-1.5.4-1]") from error
        if "\0" in text:
            raise Malformed("U+0000 in a string [MQTT-1.5.4-2]")
        return text

    def varint(self):
        number = 0
        for digit in range(4):
            byte = self.number("B")
            number |= (byte & 127) << 7 * digit
            if byte < 128:
                return number
        raise Malformed("variable byte integer too long")

    def packet_id(self):
        pid = self.number("H")
        if pid == 0:
            raise Malformed("packet id 0 [MQTT-2.2.1-3]")
        return pid

    def properties(self, version, lists=("user_property",)):
        """{name: value}; those that may be repeated are lists."""
        if version != 5:
            return {}
        inner = _Reader(self.take(self.varint()))
        values = {}
        while inner.left:
            identifier = inner.varint()
            if identifier not in _PROPERTIES:
                raise Malformed(f"property 0x{identifier:02x}")
            name, form = _PROPERTIES[identifier]
            value = inner.value(form)
            if name in lists:
                values.setdefault(name, []).append(value)
            elif name in values:
                raise Malformed(f"{name} twice")
            else:
                values[name] = value
        return values

    def value(self, form):
        if form == "pair":
            return self.text(), self.text()
        plain = {"text": self.text, "binary": self.binary, "varint": self.varint}
        return plain[form]() if form in plain else self.number(form)


def _connect(reader, _version, _flags):
    name, version = reader.text(), reader.number("B")
    if name != "MQTT" or version not in (4, 5):
        raise Malformed(f"protocol {name} {version}")
    flags, keepalive = reader.number("B"), reader.number("H")
    if flags & 1:
        raise Malformed("reserved flag of CONNECT [MQTT-3.1.2-3]")
    packet = {"version": version, "clean": bool(flags & 2), "keepalive": keepalive,
              "properties": reader.properties(version), "client_id": reader.text()}
    if flags & 4:
        reader.properties(version)
        packet["will"] = (reader.text(), reader.binary())
    packet["username"] = reader.text() if flags & 128 else None
    packet["password"] = reader.binary() if flags & 64 else None
    return packet


def _publish(reader, version, flags, lists=("user_property",)):
    qos = flags >> 1 & 3
    if qos == 3:
        raise Malformed("QoS 3 [MQTT-3.3.1-4]")
    return {"qos": qos, "dup": bool(flags & 8), "retain": bool(flags & 1), "topic": reader.text(),
            "pid": reader.packet_id() if qos else 0, "properties": reader.properties(version, lists),
            "payload": reader.rest()}


def _ack(reader, version):
    packet = {"pid": reader.packet_id(), "code": 0, "properties": {}}
    if version == 5 and reader.left:
        packet["code"] = reader.number("B")
        if reader.left:
            packet["properties"] = reader.properties(version)
    return packet


def _subscribe(reader, version, _flags):
    packet = {"pid": reader.packet_id(), "properties": reader.properties(version), "filters": {}}
    while reader.left:
        topic_filter, options = reader.text(), reader.number("B")
        if options & 3 == 3 or options >> (6 if version == 5 else 2):
            raise Malformed(f"subscription options 0x{options:02x} [MQTT-3.8.3-5]")
        packet["filters"][topic_filter] = options
    if not packet["filters"]:
        raise Malformed("SUBSCRIBE without a filter [MQTT-3.8.3-2]")
    return packet


def _unsubscribe(reader, version, _flags):
    packet = {"pid": reader.packet_id(), "properties": reader.properties(version), "filters": []}
    while reader.left:
        packet["filters"].append(reader.text())
    if not packet["filters"]:
        raise Malformed("UNSUBSCRIBE without a filter [MQTT-3.10.3-2]")
    return packet


def _disconnect(reader, version, _flags):
    packet = {"code": 0, "properties": {}}
    if version == 5 and reader.left:
        packet["code"] = reader.number("B")
        if reader.left:
            packet["properties"] = reader.properties(version)
    return packet


def _connack(reader, version, _flags):
    flags, code = reader.number("B"), reader.number("B")
    if flags > 1 or flags and code:
        raise Malformed(f"flags {flags} and code {code} of CONNACK [MQTT-3.2.2-1, -6]")
    return {"session_present": bool(flags), "code": code, "properties": reader.properties(version)}


def _delivery(reader, version, flags):
    decoded = _publish(reader, version, flags, ("user_property", "subscription_identifier"))
    if decoded["dup"] and not decoded["qos"]:
        raise Malformed("DUP with QoS 0 [MQTT-3.3.1-2]")
    if set("+#") & set(decoded["topic"]):
        raise Malformed("a wildcard in a topic name [MQTT-3.3.2-2]")
    return decoded


def _suback(reader, version, _flags):
    return {"pid": reader.packet_id(), "properties": reader.properties(version), "codes": list(reader.rest())}


def _unsuback(reader, version, flags):
    decoded = _suback(reader, version, flags)
    if version < 5 and decoded["codes"]:
        raise Malformed("UNSUBACK of 3.1.1 with codes")
    return decoded


_DECODERS = {
    "client": {"CONNECT": _connect, "PUBLISH": _publish, "SUBSCRIBE": _subscribe, "UNSUBSCRIBE": _unsubscribe,
               "PINGREQ": lambda *_: {}, "DISCONNECT": _disconnect},
    "server": {"CONNACK": _connack, "PUBLISH": _delivery, "SUBACK": _suback, "UNSUBACK": _unsuback,
               "PINGRESP": lambda *_: {}, "DISCONNECT": _disconnect, "AUTH": _disconnect},
}
