"""What a database does to its clients: locks, timeouts, refused commits, connections and logins, tables that go."""
import contextlib
import os

import psycopg2

from harness.wait import wait_until

from ..fault import fault

_DAEMONS = "datname = current_database() AND usename = 'logger'"


def _end_sessions(site):
    site.database.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_DAEMONS}")


def change(site, *statements):
    """Statements against which the daemon's transactions stand: what loses a deadlock to them, or does not get its turn, is
    tried again."""
    for statement in statements:
        while True:
            try:
                site.database.query(statement)
                break
            except (psycopg2.errors.DeadlockDetected, psycopg2.errors.LockNotAvailable):
                pass


@contextlib.contextmanager
def _role_has(site, **settings):
    """Settings of the daemon's role; its sessions begin anew with them, and without them."""
    where = f"ALTER ROLE logger IN DATABASE {site.database.name}"
    for name, value in settings.items():
        site.database.query(f"{where} SET {name} = '{value}'")
    _end_sessions(site)
    try:
        yield
    finally:
        site.database.query(f"{where} RESET ALL")
        _end_sessions(site)


@contextlib.contextmanager
def trigger(site, table, body, *, when="BEFORE INSERT", each="STATEMENT", deferred=False):
    """A trigger of somebody's on a table, which does body (PL/pgSQL)."""
    site.database.query(f"CREATE OR REPLACE FUNCTION public.chaos() RETURNS trigger LANGUAGE plpgsql AS"
                        f" $chaos$BEGIN {body} RETURN NEW; END$chaos$")
    kind, later = ("CONSTRAINT", "DEFERRABLE INITIALLY DEFERRED") if deferred else ("", "")
    change(site, f"CREATE {kind} TRIGGER chaos {when} ON {table} {later} FOR EACH {each}"
                 " EXECUTE FUNCTION public.chaos()")
    try:
        yield
    finally:
        change(site, f"DROP TRIGGER IF EXISTS chaos ON {table}", "DROP FUNCTION public.chaos CASCADE")


def at_commit(site, body):
    """A trigger that does body when a transaction of the daemon's commits: each updates one row of writer_progress."""
    return trigger(site, "sensorlog.writer_progress", body, when="AFTER INSERT OR UPDATE", each="ROW", deferred=True)


@fault(breaks="postgres", spool="both")
def table_locked(site, chance):
    """Another session holds ACCESS EXCLUSIVE on a table for up to two seconds; now and then the daemon's server processes
    are ended meanwhile."""
    with site.database.locked(chance.choice([*site.tables, "sensorlog.writer_progress", "sensorlog.reject"])):
        yield chance.uniform(0, 2)
        if chance.random() < 0.5:
            _end_sessions(site)
            yield chance.uniform(0, 0.3)


@fault(breaks="postgres", spool="both")
def commit_slow(site, chance):
    """COMMIT takes up to 300 ms; now and then its server process is ended in the middle of it."""
    with at_commit(site, f"PERFORM pg_sleep({chance.uniform(0.001, 0.3):.3f});"):
        for _ in range(chance.randrange(1, 4)):
            yield chance.uniform(0.1, 0.5)
            if chance.random() < 0.5:
                site.database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                    f" WHERE {_DAEMONS} AND wait_event = 'PgSleep'")


@fault(breaks="postgres", spool="both")
def commit_refused(site, chance):
    """COMMIT itself fails, again and again: a serialization failure, a deadlock, a full disk, a cancelled statement."""
    state = chance.choice(("40001", "40P01", "53100", "57014"))
    with at_commit(site, f"IF random() < {chance.uniform(0.2, 1):.2f} THEN"
                         f" RAISE EXCEPTION 'chaos at COMMIT' USING ERRCODE = '{state}'; END IF;"):
        yield chance.uniform(0.1, 1)


@fault(breaks="postgres", spool="both")
def serialization_failures(site, chance):
    """Most INSERTs fail with 40001 or 40P01: they are to be tried again, and nothing else."""
    state = chance.choice(("40001", "40P01"))
    with trigger(site, chance.choice(site.tables), f"IF random() < {chance.uniform(0.3, 0.95):.2f} THEN"
                 f" RAISE EXCEPTION 'chaos' USING ERRCODE = '{state}'; END IF;"):
        yield chance.uniform(0.1, 1)


@fault(breaks="postgres")
def deadlocks(site, chance):
    """Other sessions lock the daemon's tables in the other order, and PostgreSQL ends the daemon's transaction."""
    with _role_has(site, deadlock_timeout="5ms"), \
            trigger(site, "telemetry.reading", "PERFORM pg_sleep(0.01);", when="AFTER INSERT"):
        for _ in range(chance.randrange(5, 20)):
            yield chance.uniform(0, 0.05)
            # Whoever began to wait last is ended: where that is not the daemon, this gives up.
            with contextlib.suppress(psycopg2.errors.LockNotAvailable):
                with site.database.locked("telemetry.count") as other, other.cursor() as cursor:
                    cursor.execute("SET LOCAL deadlock_timeout = '10s'; SET LOCAL lock_timeout = '100ms';"
                                   " LOCK TABLE telemetry.reading IN ACCESS EXCLUSIVE MODE")


@fault(breaks="postgres", spool="both")
def timeouts(site, chance):
    """statement_timeout, lock_timeout, idle_session_timeout and idle_in_transaction_session_timeout of some
    milliseconds on the daemon's role, while a table is locked now and then."""
    names = ("statement_timeout", "lock_timeout", "idle_session_timeout", "idle_in_transaction_session_timeout")
    some = chance.sample(names, chance.randrange(1, 5))
    with _role_has(site, **{name: f"{chance.randrange(2, 60)}ms" for name in some}):
        for _ in range(chance.randrange(1, 4)):
            with site.database.locked(chance.choice(site.tables)):
                yield chance.uniform(0, 0.3)
            yield chance.uniform(0, 0.3)


@fault(breaks="postgres")
def statements_cancelled(site, chance):
    """An administrator cancels the daemon's statements, many times a second."""
    for _ in range(chance.randrange(5, 40)):
        site.database.query(f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {_DAEMONS} AND state <> 'idle'")
        yield chance.uniform(0, 0.03)


# With a cluster of their own.


@fault(breaks="postgres", spool="both", postgres={"max_connections": "13"}, faults=4)
def connections_used_up(site, chance):
    """Other clients take every connection of max_connections, those of the daemon too once they are ended."""
    site.database.query("DO $$BEGIN IF to_regrole('hog') IS NULL THEN CREATE ROLE hog LOGIN; END IF; END$$")
    with contextlib.ExitStack() as hogs:
        for _ in range(chance.randrange(5, 40)):
            try:
                while True:
                    hogs.enter_context(contextlib.closing(site.database.connect("hog")))
            except psycopg2.OperationalError:
                _end_sessions(site)
            yield chance.uniform(0, 0.05)


@fault(breaks="postgres", spool="both", postgres={"application_name": "own"})
def read_only(site, chance):
    """The database becomes read-only for a while: for new transactions, at once, or for the daemon's role."""
    if chance.random() < 0.5:
        with _role_has(site, default_transaction_read_only="on"):
            yield chance.uniform(0, 1)
        return
    with site.database.server_settings(default_transaction_read_only="on"):
        yield chance.uniform(0, 1)


def _ask_for_a_password(site):
    with open(os.path.join(site.cluster.directory, "data", "pg_hba.conf"), "w") as hba:
        hba.write("local all all trust\nhost all logger 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n")
    site.database.query("SELECT pg_reload_conf()")
    conninfo = site.configuration.sections["postgres"]["conninfo"]
    site.configuration.set("postgres", conninfo=f"{conninfo} password=feet")


@fault(breaks="postgres", spool="both", postgres={"application_name": "own"}, prepare=_ask_for_a_password, faults=4)
def login_refused(site, chance):
    """The daemon's password is another one for a while, or its role may not log in, or not to this database."""
    wrong, right = chance.choice((
        ("ALTER ROLE logger PASSWORD 'inches'", "ALTER ROLE logger PASSWORD 'feet'"),
        ("ALTER ROLE logger NOLOGIN", "ALTER ROLE logger LOGIN"),
        ("ALTER ROLE logger CONNECTION LIMIT 0", "ALTER ROLE logger CONNECTION LIMIT -1"),
        (f"ALTER DATABASE {site.database.name} ALLOW_CONNECTIONS false",
         f"ALTER DATABASE {site.database.name} ALLOW_CONNECTIONS true")))
    with contextlib.closing(site.cluster.connect("postgres")) as connection, connection.cursor() as cursor:
        cursor.execute(wrong)
        try:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'logger'")
            yield chance.uniform(0, 1)
        finally:
            cursor.execute(right)


# What an administrator does to the tables. What is refused then is in the reject table.


@fault(breaks="postgres", rejects=True, faults=4)
def table_renamed(site, chance):
    """A table is renamed, and gets its name back."""
    table = chance.choice(site.tables)
    name = table.partition(".")[2]
    change(site, f"ALTER TABLE {table} RENAME TO gone")
    yield chance.uniform(0, 1)
    # The daemon may have made it anew meanwhile.
    change(site, _BACK.format(table=table, name=name))


_BACK = """DO $$BEGIN
    IF to_regclass('{table}') IS NULL THEN
        ALTER TABLE telemetry.gone RENAME TO {name};
    ELSE
        INSERT INTO {table} SELECT * FROM telemetry.gone ON CONFLICT DO NOTHING;
        DROP TABLE telemetry.gone CASCADE;
    END IF;
END$$"""


@fault(breaks="postgres daemon", rejects=True, again=True, faults=3)
def table_made_anew(site, chance):
    """A table is gone, and the daemon makes it anew when it is restarted; what was in the old one is put in again."""
    table = chance.choice(site.tables)
    change(site, f"ALTER TABLE {table} RENAME TO gone")
    # Its partitions have the names that those of the new table are to have.
    change(site, "ALTER TABLE telemetry.gone SET SCHEMA public", _PARTITIONS_AWAY)
    yield chance.uniform(0, 0.5)
    site.daemon.kill9() if chance.random() < 0.5 else site.daemon.stop()
    site.daemon.start()
    wait_until(lambda: site.database.value("SELECT to_regclass(%s)", [table]), f"{table} to be made anew")
    yield chance.uniform(0, 0.3)
    _put_in_again(site, "public.gone", table)
    change(site, "DROP TABLE public.gone CASCADE")


def _put_in_again(site, gone, table):
    """What was in it, once the daemon has made the partitions."""
    wait_until(lambda: _put(site, gone, table), "the partitions to be made anew", interval=0.05)


def _put(site, gone, table):
    try:
        change(site, f"INSERT INTO {table} SELECT * FROM {gone} ON CONFLICT DO NOTHING")
        return True
    except psycopg2.errors.CheckViolation:  # no partition
        return False


_PARTITIONS_AWAY = """DO $$DECLARE part regclass; BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'public.gone'::regclass LOOP
        EXECUTE format('ALTER TABLE %s SET SCHEMA public', part);
    END LOOP;
END$$"""


@fault(breaks="postgres", rejects=True)
def permission_revoked(site, chance):
    """The daemon's role loses INSERT on a table, or USAGE of the schema, and gets it back."""
    what = chance.choice([f"INSERT ON {table}" for table in site.tables] + ["USAGE ON SCHEMA telemetry"])
    change(site, f"REVOKE {what} FROM logger")
    yield chance.uniform(0, 1)
    change(site, f"GRANT {what} TO logger")


@fault(breaks="postgres", again=True)
def partition_detached(site, chance):
    """A partition is detached under load; the daemon makes what is missing, and what was in it is put in again."""
    table = chance.choice(site.tables)
    part = chance.choice(site.database.column("SELECT inhrelid::regclass::text FROM pg_inherits"
                                              " WHERE inhparent = %s::regclass ORDER BY 1", [table]))
    change(site, f"ALTER TABLE {table} DETACH PARTITION {part}", f"ALTER TABLE {part} RENAME TO detached")
    yield chance.uniform(0, 1)
    _put_in_again(site, "telemetry.detached", table)
    change(site, "DROP TABLE telemetry.detached")


@fault(breaks="postgres", rejects=True)
def poison(site, chance):
    """One row in five is refused: by a constraint that was added, or by somebody's trigger, at once or at COMMIT."""
    table, part = chance.choice(site.tables), chance.randrange(5)
    how = chance.randrange(3)
    if how == 0:
        change(site, f"ALTER TABLE {table} ADD CONSTRAINT chaos CHECK (n % 5 <> {part}) NOT VALID")
        yield chance.uniform(0, 1)
        change(site, f"ALTER TABLE {table} DROP CONSTRAINT chaos")
        return
    state = chance.choice(("P0001", "23514", "22023"))
    body = (f"IF NEW.n % 5 = {part} THEN RAISE EXCEPTION 'chaos' USING ERRCODE = '{state}',"
            " CONSTRAINT = 'chaos'; END IF;")
    with trigger(site, table, body, when="AFTER INSERT", each="ROW", deferred=how == 2):
        yield chance.uniform(0, 1)
