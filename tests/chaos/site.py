"""A site: PostgreSQL, a broker, the daemon, sensors, and a proxy on each way between them."""
import contextlib
import dataclasses
import random
import time
import types

from harness.daemon import Configuration, Daemon
from harness.mosquitto import Mosquitto
from harness.ports import free_port
from harness.wait import PATIENCE, TimedOut, wait_until
from harness import metrics

from . import fault as faults
from .cluster import Cluster
from .kinds import MAPPINGS, Reading, kinds
from .packets import Ledger, Mqtt, Postgres
from .proxy import Proxy
from .sensors import Load, Sensor

SPOOL = "sensorlog_spool_messages"


class WatchedDaemon(Daemon):
    """.peak: the most memory that any of its lives has used, in bytes. How fast it answers and ends is for other tests to
    judge, on a machine with less to do."""

    peak = 0

    def look(self):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            with open(f"/proc/{self.pid}/status") as status:
                line = next(line for line in status if line.startswith("VmHWM:"))
            self.peak = max(self.peak, int(line.split()[1]) * 1024)

    def kill9(self):
        self.look()
        super().kill9()

    def metrics(self):
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return super().metrics()
            except OSError as error:
                if "timed out" not in str(error) or time.monotonic() > deadline:
                    raise

    def stop(self, timeout=PATIENCE):
        self.look()
        return super().stop(timeout)


def _silence(fault):
    """Seconds after which silence ends a connection: few, but where no acknowledgement may be lost none must be given up
    because the machine is busy."""
    return 2 if fault.again else 15


@dataclasses.dataclass
class Shape:
    """What chance has made of a site."""
    broker: str
    spool: str
    rate: int
    sensor_window: int
    subscriber: dict
    connections: int
    inflight: int

    @classmethod
    def by(cls, fault, chance):
        broker = chance.choice(sorted(fault.on))
        rate = chance.choice((1000, 2000, 3000))
        return cls(broker=broker, spool=fault.spool,
                   rate=min(rate, getattr(faults.brokers.get(broker), "rate", rate)), sensor_window=chance.choice((5, 20, 100)),
                   subscriber={"protocol": chance.choice(("5", "3.1.1")), "window": chance.choice((50, 1000)),
                               "qos": "2", "keepalive": f"{_silence(fault)}s"},
                   connections=chance.choice((1, 1, 2, 3)), inflight=chance.choice((20, 100, 1000)))


class Site:
    """As README.md says. Made for the lives of one class of faults; shared is a cluster for who needs no other."""

    def __init__(self, fault, seed, background, shared):
        self.fault, self.background = fault, background
        chance = random.Random(f"{fault.name}:{seed}")
        self.shape = Shape.by(fault, chance)
        self.tables = ["telemetry.reading", "telemetry.count"]
        self._closing = contextlib.ExitStack()
        self._last_reject = 0
        self.ledger = None
        self.broker = None
        self.cluster = shared
        versions = [chance.choice((4, 5)) for _ in range(100)]
        # Of what a sensor of MQTT 3.1.1 has in flight over mosquitto's bound it loses messages of QoS 2.
        window = min(self.shape.sensor_window, self.shape.inflight)
        self._sensors = [Sensor(kind, f"{kind.name}-{seed}", version, window, fault.broker_loses, _silence(fault))
                         for kind, version in zip(kinds(fault.qos), versions)]
        self._marker = Sensor(Reading("marker", 1), f"marker-{seed}", 4, 1, fault.broker_loses)
        self._marker.kind.bad = lambda n: False

    def start(self):
        try:
            self._start()
        except BaseException:
            self.end()
            raise
        return self

    def _start(self):
        if self.fault.postgres:
            self.cluster = Cluster(**self.fault.postgres)
            self._closing.callback(self.cluster.remove)
        self.cluster.start()
        self.database = self.cluster.create_database()
        self._closing.callback(self._drop_database)
        # Whoever waits for PostgreSQL cannot be interrupted.
        self.database.query(f"ALTER ROLE postgres IN DATABASE {self.database.name} SET lock_timeout = '60s'")
        self.database.close()
        self._start_brokers()
        self._make_daemon()
        self.load = Load(self.background, self._sensors, self.shape.rate)
        self._marks = Load(self.background, [self._marker], 1)
        for load in (self.load, self._marks):
            self._closing.callback(load.close)
        if self.fault.prepare:
            self.fault.prepare(self)
        self.daemon.start()
        self.daemon.wait_database()
        if self.shape.broker != "builtin":
            self.daemon.wait_subscribed()
        self.load.start(self.proxies.sensor.port)
        self._marks.start(self._broker_port)

    def _drop_database(self):
        if not self.fault.postgres:
            self.cluster.start()
            self.database.drop()

    def _proxy(self, port, parsers):
        proxy = Proxy(self.background, port, parsers)
        self._closing.callback(proxy.close)
        return proxy

    def _start_brokers(self):
        postgres = self._proxy(self.cluster.port, Postgres.pair)
        between = None
        if self.shape.broker == "builtin":
            self._broker_port = free_port()
        else:
            if self.shape.broker == "mosquitto":
                options = {"persistence": True, "max_inflight_messages": self.shape.inflight, **self.fault.mosquitto}
                self.broker = Mosquitto(**options)
            else:
                self.broker = faults.brokers[self.shape.broker]()
            self._closing.callback(self.broker.remove)
            self.broker.start()
            self._broker_port = self.broker.port
            self.ledger = Ledger()
            between = self._proxy(self._broker_port, lambda: Mqtt.pair(self.ledger))
        self.proxies = types.SimpleNamespace(sensor=self._proxy(self._broker_port, Mqtt.pair), broker=between,
                                             postgres=postgres)

    def _sections(self):
        http = free_port()
        sections = {
            "postgres": {"conninfo": self.database.conninfo("127.0.0.1", self.proxies.postgres.port), "writer": "chaos",
                         "connections": self.shape.connections},
            "mappings": {"directory": "topics.d"},
            "state": {"directory": "state"},
            "http": {"listen": f"127.0.0.1:{http}"},
        }
        if self.broker is None:
            sections["broker"] = {"listen": f"mqtt://127.0.0.1:{self._broker_port}"}
        else:
            sections["subscriber site"] = {"uri": self.proxies.broker.uri, "client_id": "sensorlogd",
                                           **self.shape.subscriber}
        if self.fault.spool == "outage":
            sections["spool"] = {"mode": "outage", "outage_after": "200ms"}
        for name, keys in self.fault.conf.items():
            sections.setdefault(name, {}).update(keys)
        return sections, http

    def _make_daemon(self):
        sections, http = self._sections()
        self.configuration = Configuration(sections, list(MAPPINGS))
        self._closing.callback(self.configuration.remove)
        self.state = self.configuration.path("state")
        self.daemon = WatchedDaemon(self.configuration, http)
        self._closing.callback(self.daemon.end)
        environment = self.fault.environment
        self.daemon.environment.update((environment(self) if callable(environment) else environment) or {})

    def settle(self):
        """Until nothing is on its way any more: a message behind all others has arrived, and the books are closed."""
        self.load.rest()
        self._mark()
        wait_until(self._nothing_pending, "all that has arrived to have its verdict and to be forgotten, and the spool to be empty",
                   progress=self.settled)
        self.daemon.look()

    def _mark(self):
        """One more message; again and again where the broker may take one and not deliver it."""
        marker, first = self._marker, self._marker.published
        self._last_reject = self.database.value("SELECT coalesce(max(id), 0) FROM sensorlog.reject")
        sent = 0

        def arrived():
            nonlocal sent
            if marker.settled and not marker.credit and (
                    not sent or self.fault.broker_loses and time.monotonic() > sent + 2):
                marker.credit, sent = 1, time.monotonic()
            return self._marked(first)
        wait_until(arrived, "the last message's row", interval=0.02, progress=self.settled)

    def _marked(self, first):
        return self.database.query("SELECT 1 FROM telemetry.reading WHERE sensor = 'marker' AND n >= %s UNION ALL"
                                   " SELECT 1 FROM sensorlog.reject WHERE topic = 'reading/marker' AND id > %s",
                                   [first, self._last_reject])

    def settled(self):
        """How many messages have their verdict."""
        return self.daemon.metrics().total("sensorlog_messages_total")

    def more_is_settled_than(self, before):
        with contextlib.suppress(TimedOut):
            return wait_until(lambda: self.settled() != before, "more to have its verdict", timeout=PATIENCE / 3)

    def _nothing_pending(self):
        books = self.daemon.metrics()
        if books.total("sensorlog_messages_pending") == 0 and books.total("sensorlog_memory_bytes"):
            return False  # identifiers of QoS 2 exchanges that are not over yet
        metrics.books_balance(books)
        return (books.total("sensorlog_messages_pending") == 0 and books.total(SPOOL) == 0
                and not (self.ledger and self.ledger.flying))

    @property
    def violations(self):
        return [*self.load.violations, *self._marks.violations, *getattr(self.broker, "violations", ())]

    def end(self):
        self._closing.close()
