"""A scripted MQTT broker: a test decides what it answers, and sees every packet."""
import collections
import dataclasses
import itertools
import socket
import struct
import threading
import time

from . import wire
from .ports import free_port
from .wait import wait_until


@dataclasses.dataclass
class Entry:
    """One packet in the broker's log: way is '>' from the client and '<' to it."""
    seq: int
    at: float
    connection: int
    way: str
    packet: wire.Packet


@dataclasses.dataclass
class Subscription:
    filter: str
    options: int
    identifier: int  # or None

    @property
    def qos(self):
        return self.options & 3

    @property
    def inner(self):
        """The filter proper, of a shared subscription too."""
        return self.filter.split("/", 2)[2] if self.filter.startswith("$share/") else self.filter


@dataclasses.dataclass(eq=False)
class Delivery:
    """A PUBLISH to a client, and how far it has come."""
    topic: str
    payload: bytes
    qos: int
    retain: bool = False
    properties: dict = dataclasses.field(default_factory=dict)
    pid: int = 0
    received: bool = False  # QoS 2: PUBREC has come
    done: bool = False      # PUBACK or PUBCOMP has come (QoS 0: it is sent)


class Session:
    """What outlives a connection [MQTT-4.1]."""

    def __init__(self, client_id):
        self.client_id = client_id
        self.subscriptions = {}
        self.queue = collections.deque()
        self.in_flight = {}  # by packet id, in the order of sending
        self.connection = None
        self._next_pid = itertools.count(1)

    def new_pid(self):
        while True:
            pid = (next(self._next_pid) - 1) % 65535 + 1
            if pid not in self.in_flight:
                return pid


class Connection:
    """One client's connection. Reading and writing have a thread each, so that neither holds up the other."""

    def __init__(self, broker, number, sock):
        self.broker = broker
        self.number = number
        self.connect = None  # the CONNECT packet
        self.session = None
        self.packets = []    # from the client
        self.open = True
        self._socket = sock
        self._stream = wire.Stream()
        self._outbox = collections.deque()
        self._wakeup = threading.Condition()
        self._writing = False
        # Sent and not acknowledged, in order: acknowledgements must come in it [MQTT-4.6.0-2, -3].
        self._due = {"PUBACK": collections.deque(), "PUBREC": collections.deque()}
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._read, self._write)]

    def start(self):
        for thread in self._threads:
            thread.start()

    @property
    def version(self):
        return self._stream.version

    def of_kind(self, kind):
        """The client's packets of a kind, in order."""
        return [packet for packet in self.packets if packet.kind == kind]

    def send(self, data):
        """Bytes, or an iterator over pieces of them, as they are."""
        with self._wakeup:
            self._outbox.append(data)
            self._wakeup.notify_all()

    def publish(self, topic, payload, qos=1, pid=None, dup=False, retain=False, properties=None):
        """One PUBLISH whatever has been subscribed to, and whatever the window."""
        delivery = Delivery(topic, payload, qos, retain, properties or {})
        with self.broker.lock:
            if qos:
                delivery.pid = pid or self.session.new_pid()
            self.deliver(delivery, dup)
        return delivery

    def stream(self, topic, length, qos=1, piece=b"x" * 65536):
        """One PUBLISH with a payload of this many bytes, which are made as they go out."""
        delivery = Delivery(topic, b"", qos)
        with self.broker.lock:
            delivery.pid = self.session.new_pid() if qos else 0
            self._expect(delivery)
            self.send(wire.publish_head(self.version, topic, length, qos=qos, pid=delivery.pid))
        self.send(itertools.chain(itertools.repeat(piece, length // len(piece)), [piece[:length % len(piece)]]))
        return delivery

    def deliver(self, delivery, dup=False):
        self._expect(delivery)
        self.send(wire.publish(self.version, delivery.topic, delivery.payload, qos=delivery.qos,
                               pid=delivery.pid, dup=dup, retain=delivery.retain, values=delivery.properties))

    def _expect(self, delivery):
        if delivery.qos == 0:
            delivery.done = True
        else:
            self.session.in_flight[delivery.pid] = delivery
            due = self._due["PUBACK" if delivery.qos == 1 else "PUBREC"]
            if delivery.pid not in due:
                due.append(delivery.pid)
        self.broker.note(self, "<", wire.Packet(kind="PUBLISH", topic=delivery.topic, qos=delivery.qos,
                                                pid=delivery.pid))

    def close(self, reset=False):
        """Ends the connection once what was sent is out, or at once and with RST."""
        if not reset:
            wait_until(lambda: not self._outbox and not self._writing or not self.open, "the last bytes to leave")
        self._end(reset)

    def _end(self, reset=False):
        with self._wakeup:
            if not self.open:
                return
            self.open = False
            self._wakeup.notify_all()
        try:
            if reset:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.shutdown(socket.SHUT_RD if reset else socket.SHUT_RDWR)  # wakes the reader up
        except OSError:
            pass
        self._socket.close()

    def _write(self):
        try:
            while True:
                with self._wakeup:
                    self._writing = False
                    self._wakeup.wait_for(lambda: self._outbox or not self.open)
                    if not self.open:
                        return
                    self._writing = True
                    parts = list(self._outbox)
                    self._outbox.clear()
                for streamed, group in itertools.groupby(parts, lambda part: not isinstance(part, bytes)):
                    for data in itertools.chain.from_iterable(group) if streamed else [b"".join(group)]:
                        self._socket.sendall(data)
        except OSError:
            self._end()

    def _read(self):
        try:
            while data := self._socket.recv(65536):
                with self.broker.lock:
                    for packet in self._stream.feed(data):
                        self.packets.append(packet)
                        self.broker.note(self, ">", packet)
                        self._take(packet)
                    self.broker.pump(self.session)
        except wire.Malformed as violation:
            self.broker.violations.append(f"connection {self.number}: {violation}")
        except BlockingIOError:
            self.broker.violations.append(f"connection {self.number}: nothing for 1.5 keepalives [MQTT-3.1.2-22]")
        except OSError:
            pass
        self._end()

    def _give_up_after(self, seconds):
        # Not settimeout(), which would make a client that stops reading for a while look dead too.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO,
                                struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))

    def _take(self, packet):
        if packet.kind == "CONNECT":
            self.connect = packet
            self._give_up_after(packet.keepalive * 1.5)
            self.broker.admit(self)
        elif packet.kind in ("PUBACK", "PUBREC"):
            self._acknowledged(packet)
        elif packet.kind == "PUBCOMP":
            self._complete(packet.pid)
        elif packet.kind == "SUBSCRIBE":
            self.broker.subscribe(self, packet)
        elif packet.kind == "UNSUBSCRIBE":
            codes = [0 if self.session.subscriptions.pop(gone, None) else 0x11 for gone in packet.filters]
            self.send(wire.unsuback(self.version, packet.pid, codes))
        elif packet.kind == "PINGREQ" and self.broker.answer_pings:
            self.send(wire.PINGRESP)
        elif packet.kind == "PUBLISH":
            self._published(packet)
        elif packet.kind == "PUBREL":
            self.send(wire.ack("PUBCOMP", packet.pid))

    def _acknowledged(self, packet):
        due = self._due[packet.kind]
        if not due or due.popleft() != packet.pid:
            raise wire.Malformed(f"{packet.kind} {packet.pid} out of order or unasked [MQTT-4.6.0-2, -3]")
        if packet.kind == "PUBACK" or packet.code >= 0x80:
            self._complete(packet.pid)
        else:
            self.session.in_flight[packet.pid].received = True
            if self.broker.release_qos2:
                self.send(wire.ack("PUBREL", packet.pid))

    def _complete(self, pid):
        delivery = self.session.in_flight.pop(pid, None)
        if delivery is None:
            raise wire.Malformed(f"acknowledgement of {pid}, which is not in flight")
        delivery.done = True

    def _published(self, packet):
        self.broker.route(packet.topic, packet.payload, packet.qos, False, packet.properties)
        if packet.qos:
            self.send(wire.ack("PUBACK" if packet.qos == 1 else "PUBREC", packet.pid))


class Broker:
    """Listens on 127.0.0.1:.port from the start. A test sets, at any time:

    connack_code, connack_properties: of the answers to CONNECT
    session_present: None as it is, or what to say instead (False also drops the session)
    refuse: {5: 0x84} or the like: the versions to turn away, and by which code (in that version's CONNACK; codes
        under 0x80 in that of 3.1.1, as a broker that has never heard of MQTT 5 does)
    grant: fn(filter, qos) -> code of the SUBACK
    window: PUBLISH packets in flight; the client's Receive Maximum counts as well
    overlap: a message that matches several subscriptions comes "once", "once_with_ids" (with the identifiers of
        all) or in "copies", one per subscription
    answer_pings, release_qos2: whether PINGREQ and PUBREC are answered

    Acknowledgements out of order, malformed packets and missing pings are in .violations."""

    def __init__(self):
        self.lock = threading.RLock()
        self.connack_code = 0
        self.connack_properties = {}
        self.session_present = None
        self.refuse = {}
        self.grant = lambda topic_filter, qos: qos
        self.window = None
        self.overlap = "once"
        self.answer_pings = True
        self.release_qos2 = True
        self.sessions = {}
        self.connections = []
        self.log = []
        self.violations = []
        self.port = free_port()
        self._listener = None
        self.start()

    @property
    def uri(self):
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self):
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._listener], daemon=True).start()

    def stop(self):
        """Listens no more and drops its connections; sessions stay."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the accepting thread up
            self._listener.close()
            self._listener = None
        self.drop()

    def drop(self):
        """Cuts all connections with RST."""
        for connection in self.connections:
            connection.close(reset=True)

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                connection = Connection(self, len(self.connections), sock)
                self.connections.append(connection)
            connection.start()

    def note(self, connection, way, packet):
        self.log.append(Entry(len(self.log), time.monotonic(), connection.number, way, packet))

    # The broker's side of CONNECT and SUBSCRIBE.

    def admit(self, connection):
        version, connect = connection.version, connection.connect
        code = self.refuse.get(version, self.connack_code)
        if code:
            connection.send(wire.connack(5 if code >= 0x80 else 4, code))
            self._close_later(connection)
            return
        client_id = connect.client_id or self.connack_properties.get("assigned_client_identifier", "")
        session = self.sessions.get(client_id)
        if session is not None and session.connection is not None and session.connection.open:
            session.connection.close(reset=True)
        keep = session is not None and not connect.clean and self.session_present is not False
        if not keep:
            session = self.sessions[client_id] = Session(client_id)
        session.connection, connection.session = connection, session
        present = keep if self.session_present is None else self.session_present
        connection.send(wire.connack(version, 0, present, self.connack_properties))
        self._resend(connection)

    @staticmethod
    def _close_later(connection):
        threading.Thread(target=connection.close, daemon=True).start()

    @staticmethod
    def _resend(connection):
        for delivery in list(connection.session.in_flight.values()):
            if delivery.received:
                connection.send(wire.ack("PUBREL", delivery.pid))
            else:
                connection.deliver(delivery, dup=True)

    def subscribe(self, connection, packet):
        codes = []
        for topic_filter, options in packet.filters.items():
            code = self.grant(topic_filter, options & 3)
            codes.append(code)
            if code < 0x80:
                connection.session.subscriptions[topic_filter] = Subscription(
                    topic_filter, options & ~3 | code, packet.properties.get("subscription_identifier"))
        connection.send(wire.suback(connection.version, packet.pid, codes))

    # The way of a message.

    def route(self, topic, payload, qos=1, retain=False, properties=None):
        """Publishes to every session whose subscriptions match; returns the deliveries."""
        made = []
        with self.lock:
            for session in self.sessions.values():
                found = [one for one in session.subscriptions.values() if wire.matches(one.inner, topic)]
                for group in self._groups(found):
                    delivery = Delivery(topic, payload, min(qos, max(one.qos for one in group)), retain,
                                        dict(properties or {}))
                    identifiers = [one.identifier for one in group if one.identifier]
                    if identifiers:
                        delivery.properties["subscription_identifier"] = identifiers
                    session.queue.append(delivery)
                    made.append(delivery)
                self.pump(session)
        return made

    def _groups(self, subscriptions):
        if self.overlap == "copies":
            return [[one] for one in subscriptions]
        if self.overlap == "once":
            return [[max(subscriptions, key=lambda one: one.qos)]] if subscriptions else []
        return [subscriptions] if subscriptions else []

    def pump(self, session):
        """Sends from the queue what the window has room for."""
        if session is None or session.connection is None or not session.connection.open:
            return
        connection = session.connection
        window = min(self.window or 65535, connection.connect.properties.get("receive_maximum", 65535))
        while session.queue and (session.queue[0].qos == 0 or len(session.in_flight) < window):
            delivery = session.queue.popleft()
            if delivery.qos:
                delivery.pid = session.new_pid()
            connection.deliver(delivery)

    # What tests wait for.

    def entries(self, kind, way=">", since=0):
        return [entry for entry in self.log[since:] if entry.packet.kind == kind and entry.way == way]

    def acknowledged(self):
        """Packet ids by PUBACK (QoS 1) or PUBREC (QoS 2), in order."""
        return [entry.packet.pid for entry in list(self.log)
                if entry.way == ">" and entry.packet.kind in ("PUBACK", "PUBREC")]

    def wait_connected(self, count=1, timeout=None):
        """The count-th accepted client's connection, once its CONNECT has been answered well."""
        return wait_until(lambda: (self._admitted()[count - 1:count] or [None])[0],
                          f"client number {count} of the scripted broker", timeout)

    def _admitted(self):
        return [connection for connection in list(self.connections) if connection.session]

    def wait_subscribed(self, *filters, count=1):
        """As wait_connected, and the session has all these filters (default: any)."""
        connection = self.wait_connected(count)
        wait_until(lambda: set(filters) <= set(connection.session.subscriptions)
                   and connection.session.subscriptions, f"a subscription to {filters or 'anything'}")
        return connection

    def wait_done(self, deliveries, timeout=None):
        """Until all are acknowledged; nothing against the specification may have come meanwhile."""
        wait_until(lambda: self.violations or all(delivery.done for delivery in deliveries),
                   f"{len(deliveries)} acknowledgements", timeout)
        assert not self.violations, self.violations
