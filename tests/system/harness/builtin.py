"""A site that has no broker but the daemon's own."""
import contextlib

from . import metrics
from .client import Client, Connection
from .daemon import Daemon, configuration_for
from .mappings import text_mapping
from .ports import free_port
from .processes import show_on_failure

# A directory without a socket: PostgreSQL is away.
_NOWHERE = "host=/nonexistent dbname=none"
_UNUSED = text_mapping("unused", "mapped/+")


class BuiltIn:
    """sensorlogd with [broker] on 127.0.0.1:.port, and with a database and mappings, or without.

    also: schemes, each of which gets a listener of its own, at .ports[scheme].
    keys: of [broker]; conf: sections laid over the configuration."""

    def __init__(self, database=None, mappings=(), *, also=(), conf=None, conninfo=None, environment=None, **keys):
        self.ports = {scheme: free_port() for scheme in ("mqtt", *also)}
        self.port = self.ports["mqtt"]
        listens = " ".join(f"{scheme}://127.0.0.1:{port}" for scheme, port in self.ports.items())
        sections = {**(conf or {}), "broker": {"listen": listens, "state": "state/broker.db", **keys}}
        files, http_port = configuration_for(database, {}, mappings or [_UNUSED], conf=sections,
                                             conninfo=conninfo or (None if database else _NOWHERE))
        self.daemon = Daemon(files, http_port)
        self.daemon.environment.update(environment or {})
        self._with_database = database is not None
        self._connections = []

    @property
    def uri(self):
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def log(self):
        return self.daemon.log

    def start(self):
        self.daemon.start()
        if self._with_database:
            self.daemon.wait_database()
        return self

    def kill9(self):
        self.daemon.kill9()

    def restart(self):
        """Ends it as systemd does, and starts it again."""
        self.daemon.restart()

    def dial(self, version, **how):
        """A connection on which nothing has been said yet."""
        self._connections.append(Connection(self.port, version, **how))
        return self._connections[-1]

    def client(self, version, client_id=None, **how):
        """A connected client; see harness/client.py."""
        self._connections.append(Client(self.port, version, client_id, **how))
        return self._connections[-1]

    def show(self):
        """The log belongs to the test that runs now."""
        show_on_failure("sensorlogd", self.log)

    def hang_up(self):
        """Closes what the test has left open."""
        while self._connections:
            self._connections.pop().close()

    def check(self):
        """What must be true after any test: it runs, and its books balance."""
        assert self.daemon.running, "the daemon has ended"
        metrics.books_balance(self.daemon.metrics())

    def end(self):
        with contextlib.ExitStack() as stack:  # all of it, whatever fails
            stack.callback(self.daemon.configuration.remove)
            stack.callback(self.daemon.end)
            stack.callback(self.hang_up)
