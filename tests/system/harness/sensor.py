"""Sensors and subscribers that live through anything, each in a thread, and keep an account of what they have seen."""
import threading
import time

from . import wire
from .client import Client, Closed, fresh
from .wait import TimedOut, wait_until

_WINDOW = 20


class _Peer:
    """Connects again and again to one session, and does _work() on each connection."""

    def __init__(self, port, version, client_id=None):
        self.port, self.version = port, version
        self.client_id = client_id or fresh("peer")
        self.violations = []
        self.connections = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def start(self):
        self._thread.start()
        return self

    def _live(self):
        while not self._stopping.is_set():
            try:
                client = Client(self.port, self.version, self.client_id, keep=True)
            except (OSError, Closed):
                time.sleep(0.02)
                continue
            except Exception as error:
                self.violations.append(repr(error))
                return
            try:
                if self.connections and not client.present:
                    self.violations.append("the session is lost")
                self.connections += 1
                self._begin(client)
                while not self._stopping.is_set():
                    self._work(client)
            except (Closed, OSError):
                pass
            except Exception as error:
                self.violations.append(repr(error))
                return
            finally:
                client.close()

    def _read(self, client):
        """The packets that have come, after a moment at most."""
        try:
            client.read(0.05)
        except TimedOut:
            pass
        packets = list(client.inbox)
        client.inbox.clear()
        return packets

    def end(self):
        self._stopping.set()
        self._thread.join()
        assert not self.violations, self.violations


class Sensor(_Peer):
    """Publishes payload(n) for n = 0, 1, ... to the topic, a window of them at a time, and what is unacknowledged again
    after each reconnect. .acknowledged: the n's of which the PUBACK or PUBCOMP has come; .refused: {n: reason code}."""

    def __init__(self, port, version, topic, payload, qos, client_id=None, rate=None):
        super().__init__(port, version, client_id)
        self.acknowledged = set()
        self.refused = {}
        self._topic, self._payload, self._qos = topic, payload, qos
        self._pause = 1 / rate if rate else 0
        self._next, self._last_pid = 0, 0
        self._flying = {}  # pid: [n, "PUBLISH" or "PUBREL"], in order
        self._no_more = threading.Event()

    def _begin(self, client):
        for pid, (n, step) in self._flying.items():
            self._send(client, pid, n, step, dup=True)

    def _send(self, client, pid, n, step, dup=False):
        if step == "PUBLISH":
            client.send_publish(self._topic, self._payload(n), self._qos, pid=pid, dup=dup)
        else:
            client.send(wire.ack("PUBREL", pid))

    def _work(self, client):
        while len(self._flying) < _WINDOW and not self._no_more.is_set():
            self._last_pid = self._last_pid % 65535 + 1
            self._flying[self._last_pid] = [self._next, "PUBLISH"]
            self._send(client, self._last_pid, self._next, "PUBLISH")
            self._next += 1
            if self._pause:
                time.sleep(self._pause)
                break
        for packet in self._read(client):
            self._take(client, packet)

    def _take(self, client, packet):
        flying = self._flying.get(packet.pid)
        wanted = {1: "PUBACK", 2: "PUBREC"}[self._qos] if flying and flying[1] == "PUBLISH" else "PUBCOMP"
        if flying is None or packet.kind != wanted and not (packet.kind == "PUBREC" and self._qos == 2):
            raise AssertionError(f"{packet}, where {flying} is in flight")
        if packet.code >= 0x80 and packet.kind != "PUBCOMP":
            self.refused[flying[0]] = packet.code
            del self._flying[packet.pid]
        elif packet.kind == "PUBREC":
            flying[1] = "PUBREL"
            client.send(wire.ack("PUBREL", packet.pid))
        else:
            self.acknowledged.add(flying[0])
            del self._flying[packet.pid]

    def stop(self):
        """Begins nothing new, waits until all is acknowledged, and returns what was."""
        self._no_more.set()
        wait_until(lambda: not self._flying or self.violations, "all that was published to be acknowledged")
        self.end()
        return self.acknowledged


class Subscriber(_Peer):
    """.received: the payloads in order, QoS 2 once for each exchange; of QoS 1 whatever comes, and be it again."""

    def __init__(self, port, version, topic_filter, qos, client_id=None):
        super().__init__(port, version, client_id)
        self.received = []
        self.subscribed = threading.Event()
        self._filter, self._qos = topic_filter, qos
        self._unreleased = set()

    def start(self):
        super().start()
        assert self.subscribed.wait(30), self.violations
        return self

    def _begin(self, client):
        if not self.subscribed.is_set():
            client.subscribe(self._filter, self._qos)
            self.subscribed.set()

    def _work(self, client):
        for packet in self._read(client):
            if packet.kind == "PUBREL":
                self._unreleased.discard(packet.pid)
                client.ack("PUBCOMP", packet.pid)
            elif packet.kind != "PUBLISH":
                raise AssertionError(f"{packet} to a subscriber")
            elif packet.qos < 2:
                self.received.append(packet.payload)
                if packet.qos:
                    client.ack("PUBACK", packet.pid)
            else:
                if packet.pid not in self._unreleased:
                    self.received.append(packet.payload)
                self._unreleased.add(packet.pid)
                client.ack("PUBREC", packet.pid)
