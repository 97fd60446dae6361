"""A publisher of QoS 2 that stops anywhere in its exchanges, and takes them up again as the specification lets it."""
from harness import wire
from harness.client import Client, Closed
from harness.wait import wait_until

from .kinds import Constant, Count


class Walker:
    """One of the sensors of a site, as far as its load and the oracle are concerned, that only walk() makes publish."""

    def __init__(self, site, form, version):
        self.kind = form(f"walker{version}", 2)
        self.kind.bad = lambda n: False
        self.name = f"{self.kind.table}-{form.__name__.lower()}-{version}"
        self.kind.name, self.kind.topic = self.name, f"{self.kind.table}/{self.name}"
        self.topic, self.qos, self.version = self.kind.topic, 2, version
        self.acknowledged = set()
        self.violations = []
        self.published = self.sent_again = self.credit = self.connects = 0
        self.settled = True
        self._site = site
        self._client, self._left_open = None, []
        self._flying = {}  # packet identifier: [n, step], in order
        self._outbox = []

    def tick(self, _now):
        pass

    def hang_up(self):
        for client in [self._client, *self._left_open]:
            if client:
                client.close()
        self._client, self._left_open = None, []

    def walk(self, chance):
        """Some messages, through any number of connections, until their exchanges are over."""
        first = chance.choice((1, 1, 1000))
        for pid in range(first, first + chance.randrange(1, 8)):
            self._flying[pid] = [self.published, "new"]
            self.published += 1
        while self._flying:
            if self._client is None:
                self._connect(chance)
            if not self._go(chance.randrange(1, 30), chance):
                self._break_off(chance)
        if self._client is not None:
            self._client.sync()
            self._client.inbox.clear()  # answers to what was sent twice

    def _connect(self, chance, clean=False):
        def connected():
            try:
                return Client(self._site.proxies.sensor.port, self.version, self.name, keep=not clean, clean=clean)
            except (OSError, Closed):
                return None
        self._client = wait_until(connected, "the broker to take the connection")
        assert clean or not self.connects or self._client.present, "the session is lost"
        self.connects += 1
        if clean:
            return
        self._outbox = [packet for pid, (n, step) in self._flying.items()
                        for packet in self._next(pid, n, step, chance)]

    def _next(self, pid, n, step, chance):
        """What is to be sent again, or for the first time."""
        if step == "new" or step == "sent" or step == "received" and chance.random() < 0.5:
            self._flying[pid][1] = "sent" if step == "new" else step
            yield pid, wire.publish(self.version, self.topic, self.kind.payload(n), qos=2, pid=pid, dup=step != "new")
        if step in ("received", "released"):
            self._flying[pid][1] = "released"
            yield pid, wire.ack("PUBREL", pid)

    def _go(self, steps, chance):
        """So many packets sent or received; True when all is over before."""
        if not self._outbox:  # the connection is an old one
            self._outbox = [packet for pid, (n, step) in self._flying.items() if step == "new"
                            for packet in self._next(pid, n, step, chance)]
        try:
            for _ in range(steps):
                if not self._flying:
                    return True
                if self._outbox:
                    pid, packet = self._outbox.pop(0)
                    self._client.send(packet)
                    if self.version == 4 and chance.random() < 0.1:
                        self._client.send(self._again(packet))
                else:
                    self._take(self._client.take())
            if self._outbox and chance.random() < 0.5:
                packet = self._outbox[0][1]
                self._client.send(packet[:chance.randrange(len(packet))])
        except (Closed, OSError):
            pass
        return not self._flying

    @staticmethod
    def _again(packet):
        """The same inside the connection, as MQTT 3.1.1 lets a client do."""
        return bytes([packet[0] | 8]) + packet[1:] if packet[0] >> 4 == 3 else packet

    def _take(self, packet):
        n, step = self._flying.get(packet.pid, (None, None))
        assert packet.kind in ("PUBREC", "PUBCOMP") and packet.code in (0, 0x10, 0x92), packet
        if packet.kind == "PUBREC" and n is not None:
            assert packet.code != 0x92, packet
            self.acknowledged.add(n)
            if step == "sent":
                self._flying[packet.pid][1] = "released"
                self._outbox.append((packet.pid, wire.ack("PUBREL", packet.pid)))
        elif packet.kind == "PUBCOMP" and step == "released":
            del self._flying[packet.pid]

    def _break_off(self, chance):
        how = chance.choice(("reset", "close", "close", "taken over", "taken over", "killed", "clean"))
        self._outbox = []
        if how == "taken over":
            self._left_open.append(self._client)
        elif how == "reset":
            self._client.reset()
        else:
            self._client.close()
        if how == "killed":
            self._site.daemon.kill9()
            self._site.daemon.start()
        elif how == "clean":
            self._begin_anew(chance)
        self._client = None

    def _begin_anew(self, chance):
        """Nobody knows what has become of what was not acknowledged; the next have the same identifiers."""
        self._connect(chance, clean=True)
        self._client.disconnect()
        self._client.close()
        self.connects = 0
        self._flying.clear()


def walkers(site):
    """Those of a site, which its oracle looks at from then on."""
    if not hasattr(site, "walkers"):
        site.walkers = [Walker(site, form, version) for form in (Count, Constant) for version in (4, 5)]
        site.load.sensors.extend(site.walkers)
    return site.walkers
