"""Sensors: they publish by one session through any number of connections, and know what was acknowledged."""
import asyncio
import itertools
import math
import time

from harness import wire
from harness.wait import wait_until

_TICK = 0.005      # seconds
_MOST_CREDIT = 50  # of a sensor that cannot send
_IN_THE_REJECT_TABLE = 0x99


class _Connection(asyncio.Protocol):
    def __init__(self, sensor):
        self.sensor = sensor
        self.transport = None
        self.heard = time.monotonic()
        self.asked = False
        self._stream = wire.ServerStream(sensor.version)

    def connection_made(self, transport):
        self.transport = transport
        sensor = self.sensor
        sensor.connected(self)
        values = {"session_expiry_interval": 3600} if sensor.version == 5 else None
        transport.write(wire.connect(sensor.version, sensor.name, clean=sensor.clean, keepalive=30, values=values))

    def data_received(self, data):
        self.heard, self.asked = time.monotonic(), False
        try:
            for packet in self._stream.feed(data):
                self.sensor.take(packet)
        except Exception as error:  # a malformed packet, or one that should not have come
            self.sensor.violations.append(f"{self.sensor.name}: {error!r}")
            self.transport.abort()
        self.sensor.fill()

    def connection_lost(self, _error):
        self.sensor.lost()

    def look_after(self, now):
        silence = self.sensor.silence
        if now - self.heard > silence * 2:
            self.transport.abort()
        elif now - self.heard > silence and not self.asked:
            self.asked = True
            self.transport.write(wire.PINGREQ)


class _Nobody:
    """Whose a connection is that was left."""

    violations = []

    def take(self, _packet):
        pass

    fill = lost = lambda self: None


class Sensor:
    """Publishes kind.payload(n) to kind.topic for n = 0, 1, ... while it has credit.

    acknowledged: the n's of which the PUBACK or PUBREC has come; published: how many were begun.
    silence: seconds after which it asks whether anybody is there; after as many again it leaves the connection."""

    def __init__(self, kind, name, version, window, may_lose_session=False, silence=2):
        self.kind, self.name, self.version = kind, name, version
        self.topic, self.qos = kind.topic, kind.qos
        self.acknowledged = set()
        self.violations = []
        self.published = self.sent_again = self.connects = 0
        self.credit = 0
        self.may_lose_session = may_lose_session
        self.silence = silence
        self.clean = False  # its next connection begins a new session
        self.port = None
        self._window, self._limit = window, window
        self._flying = {}  # packet id: [n, step], in order
        self._last_pid = 0
        self._connection, self._ready = None, False
        self._connecting = None
        self._again_at = 0

    @property
    def settled(self):
        return not self._flying and (self.qos or self._ready)

    def tick(self, now):
        """Called again and again: connects where it is not, and sends what it may."""
        if self._connection:
            self._connection.look_after(now)
            self.fill()
        elif self._connecting is None and now >= self._again_at and not self.violations:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self):
        try:
            await asyncio.get_running_loop().create_connection(lambda: _Connection(self), "127.0.0.1", self.port)
        except OSError:
            self._again_at = time.monotonic() + 0.02
        finally:
            self._connecting = None

    def connected(self, connection):
        self._connection = connection

    def lost(self):
        self._connection, self._ready = None, False
        self._again_at = time.monotonic() + 0.02

    def desert(self):
        """Leaves its connection open, and takes its session over by another."""
        if self._connection:
            self._connection.sensor = _Nobody()
            self.lost()

    def hang_up(self):
        """In order, as far as that goes."""
        if self._connecting:
            self._connecting.cancel()
        if self._connection:
            self._connection.transport.write(wire.disconnect(self.version))
            self._connection.transport.close()

    def _write(self, data):
        self._connection.transport.write(data)

    def _publish(self, pid, n, dup):
        self._write(wire.publish(self.version, self.topic, self.kind.payload(n), qos=self.qos, pid=pid, dup=dup))

    def fill(self):
        if not self._ready or self._connection.transport.is_closing():
            return
        while self.credit > 0 and len(self._flying) < self._limit:
            self.credit -= 1
            pid = 0
            if self.qos:
                pid = self._new_pid()
                self._flying[pid] = [self.published, "PUBLISH"]
            self._publish(pid, self.published, False)
            self.published += 1

    def _new_pid(self):
        while True:
            self._last_pid = self._last_pid % 65535 + 1
            if self._last_pid not in self._flying:
                return self._last_pid

    def take(self, packet):
        if packet.kind == "CONNACK":
            self._welcomed(packet)
        elif packet.kind in ("PUBACK", "PUBREC", "PUBCOMP"):
            self._answered(packet)
        elif packet.kind == "DISCONNECT" or packet.kind == "PINGRESP":
            pass
        else:
            raise AssertionError(f"{packet} to a sensor")

    def _welcomed(self, packet):
        if packet.code:
            raise AssertionError(f"CONNACK says {packet.code:#x}")
        self._ready, self.clean = True, False
        self._limit = min(self._window, packet.properties.get("receive_maximum", 65535))
        if self.connects and not packet.session_present:
            self._begin_anew()
        self.connects += 1
        for pid, flying in self._flying.items():
            if flying[1] == "PUBREL":
                self._write(wire.ack("PUBREL", pid))
            else:
                again, flying[1] = flying[1] == "PUBLISH", "PUBLISH"
                self.sent_again += again
                self._publish(pid, flying[0], again and self.connects > 1 and packet.session_present)

    def _begin_anew(self):
        """The broker has no session any more: what it has taken it has taken, the rest are new messages."""
        if not self.may_lose_session:
            self.violations.append(f"{self.name}: the session is lost")
        self._flying = {pid: flying for pid, flying in self._flying.items() if flying[1] != "PUBREL"}

    def _answered(self, packet):
        flying = self._flying.get(packet.pid)
        expected = {1: ("PUBACK",), 2: ("PUBREC", "PUBCOMP")}[self.qos]
        if flying is None and self.may_lose_session:
            return
        if flying is None or packet.kind not in expected or packet.kind == "PUBCOMP" and flying[1] != "PUBREL":
            raise AssertionError(f"{packet}, where {flying} is in flight")
        if packet.code >= 0x80 and packet.kind != "PUBCOMP" and packet.code != _IN_THE_REJECT_TABLE:
            self._refused(packet, flying)
            return
        self.acknowledged.add(flying[0])
        if packet.kind == "PUBREC" and packet.code < 0x80:
            flying[1] = "PUBREL"
            self._write(wire.ack("PUBREL", packet.pid))
        else:
            del self._flying[packet.pid]

    def _refused(self, packet, flying):
        """A mosquitto that was set back counts exchanges as open that are over, and has room for fewer: what it refuses is
        published again, and by a new session where nothing is left that would make room."""
        if not self.may_lose_session:
            raise AssertionError(f"{packet.kind} refuses {packet.pid}: {packet.code:#x}")
        flying[1] = "REFUSED"
        self.clean = all(step != "PUBREL" for _, step in self._flying.values())
        self._connection.transport.abort()


class Load:
    """The sensors of a site, together at so many messages a second while it runs."""

    def __init__(self, background, sensors, rate):
        self.background, self.sensors, self.rate = background, sensors, rate
        self.running = False
        self._plenty = 0  # from there on the rate is a tenth
        self._turns = itertools.cycle(sensors)
        self._last, self._due = 0, 0
        self._end = None

    def start(self, port):
        """The sensors connect to the port; they publish between go() and rest()."""
        for sensor in self.sensors:
            sensor.port = port
        self._end = self.background.every(_TICK, self._tick)

    def _tick(self):
        now = time.monotonic()
        if self.running:
            rate = self.rate if self.published < self._plenty else self.rate / 10
            self._due += min(now - self._last, 0.1) * rate
            self._last = now
            for _ in range(int(self._due)):
                self._due -= 1
                sensor = next(self._turns)
                if sensor.credit < _MOST_CREDIT:
                    sensor.credit += 1
        for sensor in self.sensors:
            sensor.tick(now)

    @property
    def published(self):
        return sum(sensor.published for sensor in self.sensors)

    @property
    def progress(self):
        """Messages that are acknowledged to the sensors (QoS 0: sent)."""
        return sum(len(sensor.acknowledged) if sensor.qos else sensor.published for sensor in self.sensors)

    @property
    def violations(self):
        return [violation for sensor in self.sensors for violation in sensor.violations]

    def wait(self, count):
        """Until so many more messages have been acknowledged."""
        until = self.progress + count
        self._wait(lambda: self.progress >= until, f"{count} more messages to be acknowledged")

    def wait_published(self, until):
        self._wait(lambda: self.published >= until, "the load to go on")

    def _wait(self, predicate, what):
        """With no more patience once something has gone wrong."""
        wait_until(lambda: predicate() or self.violations, what, progress=lambda: (self.published, self.progress))
        assert not self.violations, self.violations

    def go(self, plenty=math.inf):
        """plenty: after so many more messages it goes on slowly, so that on a slow machine no end of them waits."""
        self._plenty = self.published + plenty
        self._last, self._due, self.running = time.monotonic(), 0, True

    def rest(self):
        """Nothing new is published; returns when all that was is acknowledged."""
        def stop():
            self.running = False
            for sensor in self.sensors:
                sensor.credit = 0
        self.background.call(stop)
        self._wait(lambda: all(sensor.settled for sensor in self.sensors), "all that was published to be acknowledged")

    def close(self):
        if self._end:
            self._end()
            self.background.call(lambda: [sensor.hang_up() for sensor in self.sensors])
