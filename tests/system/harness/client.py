"""A client of raw packets: a test decides what it sends, in which bytes, and sees every packet of the answer.

It answers nothing by itself, and is strict: a malformed packet, a packet identifier that is still in use, more in
flight than the Receive Maximum, or more bytes than the Maximum Packet Size, fail the test."""
import collections
import itertools
import socket
import struct

from . import wire
from .wait import PATIENCE, TimedOut

_numbers = itertools.count(1)


def fresh(name):
    """A client id, topic or the like that no other test uses."""
    return f"{name}{next(_numbers)}"


class Closed(AssertionError):
    """The broker has closed the connection."""


class Connection:
    """A connection on which nothing has been said yet; sock: an open one instead (TLS, WebSocket)."""

    def __init__(self, port, version, *, sock=None, receive_buffer=None):
        self.version = version
        self.patience = PATIENCE         # in seconds
        self.inbox = collections.deque()
        self.unacknowledged = {}         # PUBLISH packets by identifier, until release()
        self.limits = {}                 # properties of our CONNECT
        self._aliases = {}
        self._stream = wire.ServerStream(version)
        self._socket = sock or self._dial(port, receive_buffer)

    @staticmethod
    def _dial(port, receive_buffer):
        sock = socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.connect(("127.0.0.1", port))
        except OSError:
            sock.close()
            raise
        return sock

    def send(self, *packets):
        """Bytes as they are."""
        try:
            self._socket.sendall(b"".join(packets))
        except (BrokenPipeError, ConnectionResetError):
            pass  # the broker may close before it has read all; what it has said is still to be read

    def send_some(self, data):
        """Sends what goes out at once: how many bytes, or None where the broker has closed."""
        self._socket.settimeout(0)
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return None
        finally:
            self._socket.settimeout(PATIENCE)

    def fileno(self):
        return self._socket.fileno()

    def read(self, timeout=None):
        """Reads once into the inbox; TimedOut, or Closed."""
        timeout = timeout or self.patience
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(65536)
        except socket.timeout:
            raise TimedOut(f"waited {timeout:g} s in vain for a packet") from None
        except ConnectionResetError:
            data = b""
        finally:
            self._socket.settimeout(PATIENCE)
        if not data:
            raise Closed("the broker has closed the connection")
        for packet in self._stream.feed(data):
            self._check(packet)
            self.inbox.append(packet)

    def _check(self, packet):
        maximum = self.limits.get("maximum_packet_size", packet.size)
        assert packet.size <= maximum, f"{packet} is larger than {maximum} [MQTT-3.1.2-24]"
        if packet.kind != "PUBLISH":
            return
        if packet.qos:
            assert packet.pid not in self.unacknowledged, f"{packet.pid} is still in use [MQTT-2.2.1-4]"
            self.unacknowledged[packet.pid] = packet
            maximum = self.limits.get("receive_maximum", 65535)
            assert len(self.unacknowledged) <= maximum, f"over the Receive Maximum of {maximum} [MQTT-3.3.4-9]"
        packet.alias = packet.properties.pop("topic_alias", None)
        packet.named = bool(packet.topic)  # the topic stood in the packet
        if packet.alias is not None:
            assert 0 < packet.alias <= self.limits.get("topic_alias_maximum", 0), "[MQTT-3.1.2-26, -27]"
            packet.topic = self._aliases[packet.alias] = packet.topic or self._aliases[packet.alias]
        assert packet.topic, "a PUBLISH without a topic [MQTT-3.3.2-8]"

    def take(self):
        """The next packet."""
        while not self.inbox:
            self.read()
        return self.inbox.popleft()

    def peek(self):
        """The next packet, which stays; None where the broker has closed."""
        try:
            self.inbox.appendleft(self.take())
        except Closed:
            return None
        return self.inbox[0]

    def expect(self, kind, **fields):
        """The next packet, which must be this."""
        packet = self.take()
        assert packet.kind == kind, f"{kind} {fields} expected, {packet} came"
        different = {name: getattr(packet, name) for name in fields if getattr(packet, name) != fields[name]}
        assert not different, f"{kind} with {fields} expected, {different} came"
        return packet

    def answer(self, kind, pid=None):
        """The first packet of this kind (and identifier), whatever came before it, which stays in the inbox."""
        looked_at = 0
        while True:
            for at in range(looked_at, len(self.inbox)):
                packet = self.inbox[at]
                if packet.kind == kind and (pid is None or packet.pid == pid):
                    del self.inbox[at]
                    return packet
            looked_at = len(self.inbox)
            self.read()

    def ends(self, *codes, silently=False):
        """The broker closes the connection, and says nothing more; under MQTT 5, with codes, it first says why, with
        one of them, in a DISCONNECT or, until the CONNECT has been accepted, in a CONNACK [MQTT5 4.13] (silently:
        or it does not)."""
        said = None
        try:
            packet = self.take()
            if codes and self.version == 5:
                assert packet.kind in ("DISCONNECT", "CONNACK"), f"{packet} came instead of the end"
                assert packet.code in codes, f"code 0x{packet.code:02x} and not {[hex(code) for code in codes]}"
                said = packet
                packet = self.take()
        except Closed:
            assert said or silently or not codes or self.version < 5, "it closed without a word"
            self.close()
            return said
        raise AssertionError(f"{packet} came instead of the end")

    def everything(self):
        """All bytes that come until the broker closes, as they are."""
        data = b""
        try:
            while piece := self._socket.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        self.close()
        return data

    def close(self):
        """Ends the connection without a DISCONNECT."""
        self._socket.close()

    def reset(self):
        """The same by RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


class Client(Connection):
    """The same, connected: its CONNACK is .connack.

    client_id: None for a fresh one. keep: a session that outlives the connection, of an hour under MQTT 5.
    code: of the CONNACK. properties: of the CONNECT. The rest as for wire.connect()."""

    def __init__(self, port, version, client_id=None, *, keep=False, code=0, properties=None, sock=None,
                 receive_buffer=None, **how):
        super().__init__(port, version, sock=sock, receive_buffer=receive_buffer)
        self.client_id = fresh("client") if client_id is None else client_id
        self.limits = dict(properties or {})
        if keep:
            how.setdefault("clean", False)
            self.limits.setdefault("session_expiry_interval", 3600)
        self._pids = itertools.count(1)
        self.send(wire.connect(version, self.client_id, values=self.limits, **how))
        self.connack = self.expect("CONNACK", code=code)

    @property
    def present(self):
        return self.connack.session_present

    def pid(self):
        return (next(self._pids) - 1) % 65535 + 1

    # To be sure of what has not come, or that the broker is done with what was sent.

    def nothing(self):
        """Nothing has come, nor comes before the answer to a PINGREQ."""
        self.send(wire.PINGREQ)
        self.expect("PINGRESP")

    def sync(self):
        """The broker has read all that was sent before; what comes meanwhile stays in the inbox."""
        self.send(wire.PINGREQ)
        self.answer("PINGRESP")

    # The verbs: each sends, and returns when it is answered.

    def subscribe(self, topic_filter, qos=0, *, identifier=None, no_local=False, as_published=False, handling=0):
        """The reason code."""
        options = qos | no_local << 2 | as_published << 3 | handling << 4
        return self.subscribe_all([(topic_filter, options)], identifier)[0]

    def subscribe_all(self, filters, identifier=None):
        """One SUBSCRIBE with (filter, options) each; the reason codes."""
        pid = self.pid()
        self.send(wire.subscribe(self.version, pid, filters,
                                 {"subscription_identifier": identifier} if identifier else None))
        codes = self.answer("SUBACK", pid).codes
        assert len(codes) == len(filters), "[MQTT-3.8.4-5, MQTT5 3.8.4-6]"
        return codes

    def unsubscribe(self, *filters):
        """The reason codes; none under 3.1.1."""
        pid = self.pid()
        self.send(wire.unsubscribe(self.version, pid, filters))
        return self.answer("UNSUBACK", pid).codes

    def publish(self, topic, payload=b"", qos=0, *, retain=False, dup=False, pid=None, properties=None):
        """Through its whole exchange; the reason code of PUBACK or PUBREC."""
        pid = self.send_publish(topic, payload, qos, retain=retain, dup=dup, pid=pid, properties=properties)
        if qos == 0:
            self.sync()
            return 0
        acknowledgement = self.answer("PUBACK" if qos == 1 else "PUBREC", pid)
        if qos == 2 and acknowledgement.code < 0x80:
            self.release(pid)
        return acknowledgement.code

    def send_publish(self, topic, payload=b"", qos=0, *, retain=False, dup=False, pid=None, properties=None):
        """Sends it and waits for nothing; its identifier."""
        pid = (pid or self.pid()) if qos else 0
        self.send(wire.publish(self.version, topic, payload, qos=qos, pid=pid, retain=retain, dup=dup,
                               values=properties))
        return pid

    def release(self, pid):
        """The second half of QoS 2; the reason code of PUBCOMP."""
        self.send(wire.ack("PUBREL", pid))
        return self.answer("PUBCOMP", pid).code

    # What comes.

    def receive(self, topic=None, payload=None, **fields):
        """The next packet, which must be a PUBLISH with this, acknowledged."""
        if topic is not None:
            fields["topic"] = topic
        if payload is not None:
            fields["payload"] = payload
        message = self.expect("PUBLISH", **fields)
        self.acknowledge(message)
        return message

    def receive_all(self, count):
        return [self.receive() for _ in range(count)]

    def acknowledge(self, message):
        """Through the whole exchange."""
        if message.qos == 1:
            self.ack("PUBACK", message.pid)
        elif message.qos == 2:
            self.ack("PUBREC", message.pid)
            self.answer("PUBREL", message.pid)
            self.ack("PUBCOMP", message.pid)

    def ack(self, kind, pid, code=None, properties=None):
        """Sends one acknowledgement of a delivery."""
        if kind in ("PUBACK", "PUBCOMP") or (code or 0) >= 0x80:
            self.unacknowledged.pop(pid, None)
        self.send(wire.ack(kind, pid, code, properties))

    def ack_all(self, kind, pids):
        """Acknowledgements of many deliveries, in one piece."""
        for pid in pids:
            self.unacknowledged.pop(pid, None)
        self.send(*[wire.ack(kind, pid) for pid in pids])

    def disconnect(self, code=0, properties=None):
        """DISCONNECT, after which the broker closes [MQTT-3.14.4-1, -2]."""
        self.send(wire.disconnect(self.version, code, properties))
        self.inbox.clear()
        self._drain()

    def _drain(self):
        try:
            while True:
                self.read()
                self.inbox.clear()
        except Closed:
            self.close()
