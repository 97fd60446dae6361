"""A scripted broker in a process of its own: it keeps all in memory, misbehaves by rule, and cuts where it is told.

peer.py PORT RULES, the rules as JSON; see Rules. Commands come by stdin as lines of JSON, answers and events go to
stdout alike:
    {"cut": N, "at": "PUBACK", "when": "before", "count": 3, "reset": true}   answered by {"cut": N} once it has cut
    {"forget": true}                                                          no cut that has not come is to come
    {"drop": true}                                                            cuts the subscribers at once"""
import collections
import dataclasses
import itertools
import json
import os
import selectors
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from harness import wire  # noqa: E402


@dataclasses.dataclass
class Rules:
    """What it does to subscribers."""
    client_id: str = "sensorlogd"  # of the subscriber
    versions: tuple = (4, 5)   # that the subscriber may speak
    window: int = 100          # QoS 1 and 2 messages in flight; Receive Maximum counts too
    present: bool = True       # False: says Session Present 0 after every reconnect, and sends what it has all the same
    dup: bool = True           # False: DUP is forgotten
    renumber: bool = False     # redelivers under new packet identifiers
    again: bool = False        # redelivers everything after each reconnect, acknowledged or not
    reuse: bool = False        # the lowest free identifier, so that one comes again right after its acknowledgement
    live: float = 0            # seconds after which it redelivers inside the connection, then three times as long


@dataclasses.dataclass(eq=False)
class Delivery:
    topic: bytes
    payload: bytes
    qos: int
    properties: bytes   # encoded, without their length; MQTT 5 only
    pid: int = 0
    received: bool = False  # QoS 2: PUBREC has come
    at: float = 0        # when it was sent last
    patience: float = 0  # after which it is sent again in the same connection


class Session:
    """What outlives a connection."""

    def __init__(self, rules):
        self.rules = rules
        self.subscriptions = {}  # filter: (QoS, identifier)
        self.queue = collections.deque()
        self.in_flight = {}      # by packet identifier, in the order of sending
        self.over = []           # acknowledged
        self.receiving = set()   # identifiers of QoS 2 messages from a publisher
        self.link = None
        self._pids = itertools.cycle(range(1, 65536))

    def new_pid(self):
        pids = itertools.count(1) if self.rules.reuse else self._pids
        return next(pid for pid in pids if pid not in self.in_flight)

    def take_back(self):
        """After a reconnect: what is to be sent before the queue, as (delivery, whether it is a repetition)."""
        rules, old = self.rules, list(self.in_flight.values())
        if rules.again or not rules.present:
            # Of the rest PUBREC has come: they are across.
            old = [*self.over, *old] if rules.again else [one for one in old if not one.received]
            for one in old:
                one.received = False
            self.queue.extendleft(reversed(old))
            self.in_flight, self.over = {}, []
            return []
        if rules.renumber:
            self.in_flight = {one.pid: one for one in old if one.received}
            for one in old:
                if not one.received:
                    one.pid = self.new_pid()
                    self.in_flight[one.pid] = one
        return list(self.in_flight.values())


class Link:
    """One connection."""

    def __init__(self, broker, sock):
        self.broker = broker
        self.sock = sock
        self.version = None
        self.session = None
        self.window = broker.rules.window
        self.subscribed = False
        self.open = True
        self.out = bytearray()
        self.due = {"PUBACK": collections.deque(), "PUBREC": collections.deque()}
        self._bytes = bytearray()

    def feed(self, data):
        """Takes each packet that is whole now."""
        self._bytes += data
        buffer, at = self._bytes, 0
        while self.open and len(buffer) - at >= 2:
            length, size = 0, 1
            while size < len(buffer) - at:
                length |= (buffer[at + size] & 127) << 7 * (size - 1)
                size += 1
                if buffer[at + size - 1] < 128:
                    break
            else:
                break
            if len(buffer) - at < size + length:
                break
            first, body = buffer[at], bytes(buffer[at + size:at + size + length])
            at += size + length
            self.broker.take(self, wire.KINDS[first >> 4], first & 15, body)
        del buffer[:at]

    def send(self, kind, data):
        """Sends a packet, unless the connection is cut there."""
        cut = self.broker.trapped(self, kind)
        if not cut:
            self.out += data
        else:
            self.out += {"before": b"", "middle": data[:len(data) // 2], "after": data}[cut["when"]]
            self.broker.cut(self, cut)

    def flush(self):
        try:
            while self.open and self.out:
                del self.out[:self.sock.send(self.out)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self, reset=False):
        if not self.open:
            return
        self.open = False
        self.broker.forget(self)
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Broker:
    """All of it, in one loop."""

    def __init__(self, port, rules):
        self.rules = rules
        self.sessions = {}
        self.links = set()
        self._by_sock = {}
        self._traps = []
        self._commands = b""
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(sys.stdin.buffer.raw, selectors.EVENT_READ, self._command)
        self._say(ready=port)

    @staticmethod
    def _say(**what):
        print(json.dumps(what), flush=True)

    def run(self):
        while True:
            for key, events in self._selector.select(0.05 if self.rules.live else None):
                key.data(key.fileobj, events)
            if self.rules.live:
                self._repeat()
            for link in list(self.links):
                if link.out:
                    link.flush()
                if link.open:
                    self._watch(link)

    def _watch(self, link):
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.out else 0)
        if self._selector.get_key(link.sock).events != wanted:
            self._selector.modify(link.sock, wanted, self._ready)

    def _accept(self, _listener, _events):
        sock, _ = self._listener.accept()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = Link(self, sock)
        self.links.add(link)
        self._by_sock[sock] = link
        self._selector.register(sock, selectors.EVENT_READ, self._ready)

    def _ready(self, sock, events):
        link = self._by_sock.get(sock)
        if link is None or not events & selectors.EVENT_READ:
            return
        try:
            data = sock.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            link.close()
            return
        try:
            link.feed(data)
        except (wire.Malformed, KeyError, IndexError, struct.error) as error:
            self.violation(link, repr(error))
        if link.session and link.open:
            self.pump(link.session)

    def forget(self, link):
        self._selector.unregister(link.sock)
        self.links.discard(link)
        del self._by_sock[link.sock]
        if link.session and link.session.link is link:
            link.session.link = None

    def violation(self, link, what):
        self._say(violation=what)
        link.close(reset=True)

    # Commands and what they ask for.

    def _command(self, _stdin, _events):
        data = os.read(0, 65536)
        if not data:
            sys.exit(0)
        self._commands += data
        *lines, self._commands = self._commands.split(b"\n")
        for line in lines:
            command = json.loads(line)
            if "cut" in command:
                self._traps.append(command)
            elif "forget" in command:
                self._traps.clear()
            for link in list(self.links) if "drop" in command else ():
                if link.subscribed:
                    link.close(reset=True)

    def trapped(self, link, kind):
        """The trap that snaps at this packet, if one does: only subscribers are cut."""
        if not self._traps or link.session is None or not link.session.subscriptions:
            return None
        for trap in self._traps:
            if trap["at"] == kind:
                trap["count"] -= 1
                if trap["count"] <= 0:
                    self._traps.remove(trap)
                    return trap
        return None

    def cut(self, link, trap):
        link.flush()
        link.close(trap["reset"])
        self._say(cut=trap["cut"])

    def _repeat(self):
        now = time.monotonic()
        for link in list(self.links):
            late = [one for one in (link.session.in_flight.values() if link.subscribed else ())
                    if now - one.at > one.patience]
            for one in late:
                one.patience *= 3
                self.deliver(link, one, repeated=True)

    # Packets.

    def take(self, link, kind, flags, body):
        cut = self.trapped(link, kind)
        if cut is None or cut["when"] != "before":
            getattr(self, "_" + kind.lower())(link, flags, body)
        if cut is not None and link.open:
            self.cut(link, cut)

    def _connect(self, link, _flags, body):
        packet = wire._connect(wire._Reader(body), None, 0)
        if packet["client_id"] == self.rules.client_id and packet["version"] not in self.rules.versions:
            link.send("CONNACK", wire.connack(5, 0x84) if packet["version"] == 5 else wire.connack(4, 1))
            link.flush()
            link.close()
            return
        link.version = packet["version"]
        link.window = min(link.window, packet["properties"].get("receive_maximum", 65535))
        session = self.sessions.get(packet["client_id"])
        present = session is not None and not packet["clean"]
        if present and session.subscriptions and not self.rules.present:
            present = False
            session.subscriptions = {name: None for name in session.subscriptions}
        elif not present and session is None or packet["clean"]:
            session = self.sessions[packet["client_id"]] = Session(self.rules)
        if session.link is not None:
            session.link.close(reset=True)
        session.link, link.session = link, session
        link.send("CONNACK", wire.connack(link.version, 0, present))
        if link.open:
            self._resume(link)

    def _resume(self, link):
        link.subscribed = any(link.session.subscriptions.values())
        for one in link.session.take_back():
            if one.received:
                link.send("PUBREL", wire.ack("PUBREL", one.pid))
            else:
                self.deliver(link, one, repeated=True)

    def _subscribe(self, link, _flags, body):
        packet = wire._subscribe(wire._Reader(body), link.version, 0)
        for name, options in packet["filters"].items():
            link.session.subscriptions[name] = options & 3, packet["properties"].get("subscription_identifier")
        link.subscribed = True
        link.send("SUBACK", wire.suback(link.version, packet["pid"], [one & 3 for one in packet["filters"].values()]))

    def _unsubscribe(self, link, _flags, body):
        packet = wire._unsubscribe(wire._Reader(body), link.version, 0)
        codes = [0 if link.session.subscriptions.pop(name, None) else 0x11 for name in packet["filters"]]
        link.send("UNSUBACK", wire.unsuback(link.version, packet["pid"], codes))

    def _pingreq(self, link, _flags, _body):
        link.send("PINGRESP", wire.PINGRESP)

    def _disconnect(self, link, _flags, body):
        if body and body[0] and link.subscribed:
            self._say(violation=f"DISCONNECT 0x{body[0]:02x} from the subscriber")
        link.close()

    def _publish(self, link, flags, body):
        packet = wire._publish(wire._Reader(body), link.version, flags)
        pid = packet["pid"]
        if packet["qos"] < 2 or pid not in link.session.receiving:
            self.route(packet)
        if packet["qos"] == 1:
            link.send("PUBACK", wire.ack("PUBACK", pid))
        elif packet["qos"] == 2:
            link.session.receiving.add(pid)
            link.send("PUBREC", wire.ack("PUBREC", pid))

    def _pubrel(self, link, _flags, body):
        pid = struct.unpack_from(">H", body)[0]
        link.session.receiving.discard(pid)
        link.send("PUBCOMP", wire.ack("PUBCOMP", pid))

    def _puback(self, link, _flags, body):
        self._acknowledged(link, "PUBACK", body)

    def _pubrec(self, link, _flags, body):
        self._acknowledged(link, "PUBREC", body)

    def _acknowledged(self, link, kind, body):
        pid, code = struct.unpack_from(">H", body)[0], body[2] if len(body) > 2 else 0
        due, one = link.due[kind], link.session.in_flight.get(pid)
        if self.rules.live and one is None:
            return  # of a repetition
        if not self.rules.live and (not due or due.popleft() != pid):
            self.violation(link, f"{kind} {pid} out of order or unasked [MQTT-4.6.0-2, -3]")
        elif one is None or (one.qos == 2) != (kind == "PUBREC"):
            self.violation(link, f"{kind} {pid}, where {one} is in flight")
        elif kind == "PUBACK" or code >= 0x80:
            self._complete(link, pid)
        else:
            one.received, one.at = True, time.monotonic()
            link.send("PUBREL", wire.ack("PUBREL", pid))

    def _pubcomp(self, link, _flags, body):
        pid = struct.unpack_from(">H", body)[0]
        one = link.session.in_flight.get(pid)
        if one is not None and one.received:
            self._complete(link, pid)
        elif not self.rules.live:
            self.violation(link, f"PUBCOMP {pid}, where {one} is in flight")

    def _complete(self, link, pid):
        one = link.session.in_flight.pop(pid)
        if self.rules.again:
            link.session.over.append(one)

    # The way of a message.

    def route(self, packet):
        for session in self.sessions.values():
            found = [options or (2, None) for name, options in session.subscriptions.items()
                     if wire.matches(name.split("/", 2)[2] if name.startswith("$share/") else name, packet["topic"])]
            if found:
                identifiers = [one for _, one in found if one]
                session.queue.append(Delivery(
                    packet["topic"].encode(), packet["payload"], min(packet["qos"], max(qos for qos, _ in found)),
                    wire.properties({**packet["properties"], "subscription_identifier": identifiers})))
                self.pump(session)

    def pump(self, session):
        link = session.link
        if link is None or not link.subscribed:
            return
        while link.open and session.queue and (session.queue[0].qos == 0 or len(session.in_flight) < link.window):
            one = session.queue.popleft()
            if one.qos:
                one.pid = session.new_pid()
                session.in_flight[one.pid] = one
            one.patience = self.rules.live
            self.deliver(link, one)

    def deliver(self, link, one, repeated=False):
        if not link.open:
            return
        one.at = time.monotonic()
        if one.received:
            link.send("PUBREL", wire.ack("PUBREL", one.pid))
            return
        if one.qos and not self.rules.live:
            link.due["PUBACK" if one.qos == 1 else "PUBREC"].append(one.pid)
        body = struct.pack(">H", len(one.topic)) + one.topic + (struct.pack(">H", one.pid) if one.qos else b"") \
            + (one.properties if link.version == 5 else b"") + one.payload
        dup = repeated and self.rules.dup
        link.send("PUBLISH", bytes([3 << 4 | dup << 3 | one.qos << 1]) + wire.varint(len(body)) + body)


if __name__ == "__main__":
    Broker(int(sys.argv[1]), Rules(**json.loads(sys.argv[2]))).run()
