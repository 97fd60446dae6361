"""Where packets end in the bytes that a proxy passes on, and what kind they are: MQTT, and PostgreSQL's protocol."""
import collections
import re

from harness.wire import KINDS


class _Parser:
    """feed(data) gives (end in data, kind, bytes of it) of each packet that ends in this data; the bytes of one that began
    earlier count only as far as they are in it."""

    def __init__(self):
        self._rest = b""

    def feed(self, data):
        before = len(self._rest)
        data = self._rest + data
        at = 0
        while size := self._size(data, at):
            if at + size > len(data):
                break
            kind = self._kind(data, at, size)
            yield at + size - before, kind, min(size, at + size - before)
            at += size
        self._rest = data[at:]


class Mqtt(_Parser):
    """Its kinds are the packets' names. ledger, where there is one, sees each of them."""

    def __init__(self, from_server, ledger=None):
        super().__init__()
        self.from_server = from_server
        self.opposite = None  # the parser of the other direction
        self.version = None   # of the CONNECT
        self.inflight = {}    # packet id: (topic, payload, DUP) of what a server has sent
        self._ledger = ledger

    @classmethod
    def pair(cls, ledger=None):
        """(to the server, to the client)"""
        pair = cls(False, ledger), cls(True, ledger)
        pair[0].opposite, pair[1].opposite = pair[1], pair[0]
        return pair

    @staticmethod
    def head(data, at):
        """(bytes of the fixed header at this place, remaining length), zeros while it is not whole."""
        length = shift = 0
        for digit in range(at + 1, min(at + 5, len(data))):
            length |= (data[digit] & 127) << shift
            shift += 7
            if data[digit] < 128:
                return digit + 1 - at, length
        return 0, 0

    def _size(self, data, at):
        head, length = self.head(data, at)
        return head + length if head else 0

    def _kind(self, data, at, size):
        kind = KINDS[data[at] >> 4]
        if kind == "CONNECT":
            self.version = data[at + self.head(data, at)[0] + 6]
        if self._ledger:
            self._ledger.see(self, kind, data[at], data[at + self.head(data, at)[0]:at + size])
        return kind


class Postgres(_Parser):
    """Kinds: "COMMIT" both ways (the request; that it is done), "ready" when an answer is complete, "startup", "other"."""

    def __init__(self, from_server):
        super().__init__()
        self._from_server = from_server
        self._started = from_server

    @classmethod
    def pair(cls):
        """(to the server, to the client)"""
        return cls(False), cls(True)

    def _size(self, data, at):
        if len(data) < at + 5:
            return 0
        if not self._started:
            return int.from_bytes(data[at:at + 4], "big")
        return 1 + int.from_bytes(data[at + 1:at + 5], "big")

    def _kind(self, data, at, size):
        if not self._started:
            self._started = True
            return "startup"
        letter, small = data[at:at + 1], data[at + 5:at + min(size, 64)]
        if self._from_server:
            return "COMMIT" if letter == b"C" and small == b"COMMIT\0" else "ready" if letter == b"Z" else "other"
        # By the name of a prepared statement, or as text.
        return "COMMIT" if letter in (b"B", b"Q") and b"commit" in small.lower() else "other"


class Ledger:
    """What passed between the daemon and its broker. .acknowledged[topic][payload] = how often the daemon has acknowledged
    it, redeliveries left out; .seen[topic]: the payloads that were delivered to it; .delivered[topic]: PUBLISH packets."""

    def __init__(self):
        self.acknowledged = {}
        self.seen = {}
        self.delivered = collections.Counter()
        self.events = []  # (connection, kind, packet id, DUP, topic, payload), in order
        self._newest = None
        self._connections = 0

    @property
    def flying(self):
        """How many are delivered and not acknowledged, on the newest connection."""
        return len(self._newest.inflight) if self._newest else 0

    def see(self, parser, kind, first, body):
        if kind == "PUBLISH" and parser.from_server:
            self._delivered(parser, first, body)
        elif kind in ("PUBACK", "PUBREC", "PUBREL", "PUBCOMP"):
            pid = int.from_bytes(body[:2], "big")
            self.events.append((self._connections, kind, pid, False, None, None))
            if kind in ("PUBACK", "PUBREC") and not parser.from_server:
                self._acknowledged(parser, pid, len(body) > 2 and body[2] >= 0x80)
            elif kind == "PUBCOMP" and not parser.from_server:
                parser.opposite.inflight.pop(pid, None)  # a repetition that came behind the PUBREC
        elif kind == "CONNACK":
            self._newest = parser
            self._connections += 1
            self.events.append((self._connections, f"session present {body[0]}", 0, False, None, None))

    def _delivered(self, parser, first, body):
        length = int.from_bytes(body[:2], "big")
        topic, at = body[2:2 + length].decode(), 2 + length
        self.delivered[topic] += 1
        if not first >> 1 & 3:
            return
        pid, again = int.from_bytes(body[at:at + 2], "big"), bool(first & 8)
        at += 2
        if parser.opposite.version == 5:
            head, length = Mqtt.head(body, at - 1)  # the length of the properties
            at += head - 1 + length
        payload = body[at:]
        parser.inflight[pid] = (topic, payload, again)
        self.seen.setdefault(topic, set()).add(payload)
        self.events.append((self._connections, "PUBLISH", pid, again, topic, payload))

    def _acknowledged(self, parser, pid, refused):
        found = parser.opposite.inflight.pop(pid, None)
        if found and not refused:
            payloads = self.acknowledged.setdefault(found[0], {})
            payloads[found[1]] = payloads.get(found[1], 0) + (not found[2])

    def order(self, topic):
        """The numbers of this topic's payloads, as they were delivered."""
        return [int(match[0]) for _, _, _, again, of, what in self.events if of == topic and not again
                if (match := re.match(rb"\d+", what))]

    def story(self, topic, payload):
        """What became of a message, for people: all that passed with a packet identifier that it had, while it had it."""
        mine, told = set(), []
        for connection, kind, pid, again, of, what in self.events:
            if kind == "PUBLISH":
                (mine.add if (of, what) == (topic, payload) else mine.discard)(pid)
            if pid in mine or not pid:
                told.append(f"{connection}: {kind} {pid or ''}{' DUP' if again else ''}")
        return told
