"""A PostgreSQL cluster of the tests' own, and fresh databases in it."""
import contextlib
import glob
import os
import shutil
import signal
import subprocess
import tempfile

import psycopg2

from .ports import free_port
from .processes import Log, Process, identity, user_for_servers
from .wait import wait_until

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # What the kernel has is safe from kill -9: fsync only guards against the loss of power.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "autovacuum": "off",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %a: ",
    "timezone": "UTC",
}


def _bindir():
    return sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]


class Cluster:
    """PostgreSQL with unix socket (in .directory) and TCP (127.0.0.1) on .port; settings override the defaults."""

    def __init__(self, **settings):
        self.user = user_for_servers()
        self.port = free_port()
        self.log = Log()
        self.environment = {}  # of it alone
        self.directory = tempfile.mkdtemp(prefix="sl", dir="/tmp")  # short: a socket's path has 107 bytes
        self._data = os.path.join(self.directory, "data")
        self._process = None
        self._databases = 0
        if self.user:
            shutil.chown(self.directory, self.user)
        os.chmod(self.directory, 0o755)
        subprocess.run(
            [f"{_bindir()}/initdb", "-D", self._data, "-U", "postgres", "-A", "trust", "-E", "UTF8",
             "--locale=C.UTF-8", "--no-sync", "--no-instructions"],
            check=True, stdout=subprocess.DEVNULL, cwd="/", **identity(self.user))
        with open(os.path.join(self._data, "postgresql.auto.conf"), "a") as conf:
            for name, value in {**_SETTINGS, "port": str(self.port), **settings,
                                "unix_socket_directories": self.directory}.items():
                conf.write(f"{name} = '{value}'\n")

    @property
    def running(self):
        return self._process is not None and self._process.running

    @property
    def pid(self):
        """Of the postmaster."""
        return self._process.pid

    def start(self):
        """Starts it, if it is not running, and waits until it takes connections."""
        if self.running:
            return
        self._process = Process("PostgreSQL", [f"{_bindir()}/postgres", "-D", self._data], user=self.user,
                                last_signal=signal.SIGQUIT, log=self.log, env={**os.environ, **self.environment})
        self.wait_up()

    def wait_up(self):
        """Until it takes connections."""
        wait_until(self._answers, "PostgreSQL to take connections")

    def _answers(self):
        assert self._process.running, f"PostgreSQL did not start:\n{self.log.text()[-3000:]}"
        try:
            self.connect("postgres").close()
            return True
        except psycopg2.OperationalError:
            return False

    def stop(self, mode="fast"):
        """As pg_ctl stop: smart, fast or immediate; returns when it is down."""
        self._process.signal({"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
        self._process.wait()

    def kill9(self):
        """kill -9 of the postmaster and of every backend."""
        self._process.kill9()

    def restart(self, mode="fast"):
        self.stop(mode)
        self.start()

    def remove(self):
        if self.running:
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def connect(self, database, user="postgres"):
        """A psycopg2 connection, in autocommit mode."""
        connection = psycopg2.connect(host=self.directory, port=self.port, dbname=database, user=user,
                                      application_name="test", connect_timeout=5)
        connection.autocommit = True
        return connection

    def create_database(self):
        """A fresh database that belongs to logger, a role without privileges of its own."""
        self._databases += 1
        name = f"t{self._databases}"
        with contextlib.closing(self.connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = 'logger'")
            if cursor.fetchone() is None:
                cursor.execute("CREATE ROLE logger LOGIN PASSWORD 'feet'")
            cursor.execute(f"CREATE DATABASE {name} OWNER logger")
        return Database(self, name)


class Database:
    """One database of a cluster, seen by its superuser, who is not the daemon."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self._connection = None

    def conninfo(self, host=None, port=None):
        """libpq's conninfo for the daemon: by unix socket, or by TCP (through a proxy) without encryption."""
        place = f"host={host or self.cluster.directory} port={port or self.cluster.port}"
        return f"{place} dbname={self.name} user=logger sslmode=disable gssencmode=disable connect_timeout=5"

    def connect(self, user="postgres"):
        return self.cluster.connect(self.name, user)

    def query(self, sql, args=None):
        """All rows of one statement; connects again where a restart has taken the connection away."""
        for attempt in (1, 2):
            try:
                if self._connection is None:
                    self._connection = self.connect()
                with self._connection.cursor() as cursor:
                    cursor.execute(sql, args)
                    return cursor.fetchall() if cursor.description else []
            except psycopg2.Error as error:
                # An error with a code is about the statement, unless its class says "operator intervention".
                if attempt == 2 or error.pgcode and not error.pgcode.startswith("57P"):
                    raise
                self.close()

    def value(self, sql, args=None):
        """The first column of the first row, or None."""
        rows = self.query(sql, args)
        return rows[0][0] if rows else None

    def column(self, sql, args=None):
        return [row[0] for row in self.query(sql, args)]

    def count(self, table, where="true"):
        """Rows of the table; 0 while it does not exist."""
        if self.value("SELECT to_regclass(%s)", [table]) is None:
            return 0
        return self.value(f"SELECT count(*) FROM {table} WHERE {where}")

    @contextlib.contextmanager
    def server_settings(self, **settings):
        """Of the whole server, by ALTER SYSTEM, for new connections too; afterwards as they were."""
        before = {name: self.value(f"SHOW {name}") for name in settings}
        try:
            self._set_server(settings)
            yield
        finally:
            self._set_server(before)

    def _set_server(self, settings):
        loaded = self._settings_loaded()
        for name, value in settings.items():
            self.query(f"ALTER SYSTEM SET {name} = '{value}'")
        self.query("SELECT pg_reload_conf()")
        wait_until(lambda: self._settings_loaded() > loaded, "the server's settings to be loaded")

    def _settings_loaded(self):
        """When the postmaster did; the sessions that are there already may be ahead of it."""
        with contextlib.closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_conf_load_time()")
            return cursor.fetchone()[0]

    @contextlib.contextmanager
    def locked(self, *tables):
        """Another transaction that holds ACCESS EXCLUSIVE on the tables; .rollback() of the value lets go."""
        with contextlib.closing(self.connect()) as connection:
            connection.autocommit = False
            with connection.cursor() as cursor:
                for table in tables:
                    cursor.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield connection

    def backends(self, where="true"):
        """Process ids of the daemon's connections, by a condition on pg_stat_activity."""
        return self.column("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                           f" AND usename = 'logger' AND ({where}) ORDER BY pid")

    def backends_waiting_for_a_lock(self):
        return self.backends("wait_event_type = 'Lock'")

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def drop(self):
        self.close()
        with contextlib.closing(self.cluster.connect("postgres")) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {self.name} WITH (FORCE)")
