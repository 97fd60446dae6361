"""Load on a daemon that dies at failpoints (base/failpoint.h), and what must have become of it."""
import collections
import contextlib

from .load import mqtt_publish
from .mappings import reading
from .metrics import books_balance
from .sensor import Sensor
from .wait import wait_until

# What is published: some of it cannot be decoded, some PostgreSQL refuses.


def every(n):
    """For a mapping that takes whatever number there is."""
    return b"many %d" % n if n % 10 == 9 else b"%d" % n


def every_reading(n):
    payload = reading(n)
    return payload.replace(b": %d," % n, b': "many %d",' % n) if n % 10 == 9 else payload


def constant(_n):
    """Where all payloads are the same, a wrong deduplication loses something."""
    return b"7"


def numbers_table(name):
    """A mapping without a key that says which rows may have come before."""
    return f"""{{
    name = "{name}"; filter = "{name}/+"; decoder = "text"; table = "{name}";
    columns = (
      {{ name = "n";   type = "int8"; from = "value"; required = true; }},
      {{ name = "dup"; type = "bool"; from = "dup"; }}
    );
  }}"""


KEYED = """{
    name = "keyed"; filter = "keyed/+"; decoder = "json"; table = "keyed";
    time = { from = "/ts"; format = "unix_ms"; };
    key = ["n", "time"];
    columns = ( { name = "n"; type = "int8"; from = "/n"; required = true; } );
  }"""

MAPPINGS = [KEYED, *map(numbers_table, ("counted", "same", "once", "sameonce", "end"))]


class Load:
    """Sensors of every kind, each with a table of its own, and what must have become of what they published."""

    def __init__(self, port, rate):
        self.sensors = {
            "keyed": Sensor(port, 5, "keyed/1", every_reading, 1, rate=rate),
            "counted": Sensor(port, 4, "counted/1", every, 1, rate=rate),
            "same": Sensor(port, 5, "same/1", constant, 1, rate=rate),
            "once": Sensor(port, 4, "once/1", every, 2, rate=rate),
            "sameonce": Sensor(port, 5, "sameonce/1", constant, 2, rate=rate),
        }
        for sensor in self.sensors.values():
            sensor.start()

    def progress(self, messages):
        goals = {name: len(self.known(name)) + messages for name in self.sensors}
        wait_until(lambda: any(sensor.violations for sensor in self.sensors.values())
                   or all(len(self.known(name)) >= goals[name] for name in goals), "acknowledgements")

    def known(self, name):
        """What the sensor knows to be acknowledged: those that are refused are in the reject table."""
        sensor = self.sensors[name]
        return sensor.acknowledged | set(sensor.refused)

    def stop(self):
        """Until all that was published is acknowledged."""
        for sensor in self.sensors.values():
            sensor.stop()

    def close(self):
        for sensor in self.sensors.values():
            sensor.end()


def refuse_some(database):
    """A constraint of the user's own, for what has been decoded."""
    for table in ("keyed", "counted", "once"):
        database.query(f"ALTER TABLE telemetry.{table} ADD CONSTRAINT of_mine CHECK (n % 10 <> 8)")


def stored(database, table):
    """How often each n is in the table or among the rejects."""
    numbers = database.column(f"SELECT n FROM telemetry.{table}")
    refused = database.column("SELECT substring(convert_from(payload, 'UTF8') FROM '[0-9]+')::int8"
                              " FROM sensorlog.reject WHERE mapping = %s", [table])
    assert not any(n % 10 > 7 for n in numbers) and all(n % 10 > 7 for n in refused)
    return collections.Counter(numbers + refused)


def books_hold(load, database):
    known = {name: load.known(name) for name in load.sensors}
    of = {name: stored(database, name) for name in ("keyed", "counted", "once")}
    for name, rows in of.items():
        assert set(rows) == known[name], f"of {name} {sorted(known[name] - set(rows))[:10]} are lost"
    twice = database.query("SELECT n FROM telemetry.keyed GROUP BY n HAVING count(*) > 1")
    assert not twice, "a key keeps it single"
    assert max(of["once"].values()) == 1, "QoS 2 is exactly once"
    assert database.count("telemetry.sameonce") == len(known["sameonce"]), "QoS 2 is exactly once"
    unmarked = database.query("SELECT n FROM telemetry.counted WHERE NOT dup GROUP BY n HAVING count(*) > 1")
    assert not unmarked, "what comes again is marked"
    rows, first = (database.count("telemetry.same", where) for where in ("true", "NOT dup"))
    assert first <= len(known["same"]) <= rows, "QoS 1 is at least once, and what comes again is marked"


class Place:
    """A daemon, its database, and sensors, which publish to its own broker and see its acknowledgements; or to a
    mosquitto, which acknowledges for itself and goes on delivering until the daemon does."""

    def __init__(self, database, daemon, port, rate):
        self.database, self.daemon, self.port = database, daemon, port
        daemon.start().wait_database()
        refuse_some(database)
        self.load = Load(port, rate)

    @classmethod
    def of_broker(cls, database, make_builtin, conf):
        site = make_builtin(database, MAPPINGS, start=False, conf=conf)
        return cls(database, site.daemon, site.port, rate=None)

    @classmethod
    def of_subscriber(cls, database, make_daemon, site, conf):
        daemon = make_daemon(site, MAPPINGS, start=False, conf={"subscriber site": {"qos": "2"}, **conf})
        daemon.start().wait_subscribed()
        daemon.kill9()
        # At full speed it would have thousands to deliver in the end.
        return cls(database, daemon, site.port, rate=100)

    def start_to_die(self, point, crossing):
        if self.daemon.running:
            self.daemon.kill9()
        self.daemon.start_to_die(f"{point}:{crossing}")

    def die(self, point, crossing):
        self.start_to_die(point, crossing)
        self.daemon.wait_died(point)

    def cut_off(self):
        """The daemon's connections, in the middle of whatever they do."""
        self.database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'logger'")

    @contextlib.contextmanager
    def away(self):
        """PostgreSQL, as far as the daemon can see."""
        self.database.query("ALTER ROLE logger NOLOGIN")
        try:
            wait_until(lambda: self.cut_off() or not self.database.backends(), "the daemon's connections to end")
            yield
        finally:
            self.database.query("ALTER ROLE logger LOGIN")

    def end(self):
        """The daemon goes on until everything is stored; then the books must hold."""
        self.load.progress(10)
        self.load.stop()
        mqtt_publish(self.port, ("end/1", b"1"))
        wait_until(lambda: self.database.count("telemetry.end"), "the last message, and all before it, to be stored")
        wait_until(lambda: self.daemon.metric("sensorlog_messages_pending") == 0, "quiet")
        books_balance(self.daemon.metrics())
        books_hold(self.load, self.database)
