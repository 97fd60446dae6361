"""What the benchmarks share: configuration, broker, daemon, and one run of messages through them."""
import contextlib
import os
import pathlib
import re
import resource
import signal
import socket
import subprocess
import tempfile
import time

import psycopg2

HERE = pathlib.Path(__file__).parent
BUILD = pathlib.Path(os.environ.get('BUILD', HERE.parent.parent / 'build')).absolute()
PROGRAMS = BUILD / 'bench'
DAEMON = BUILD / 'sensorlogd'

MAPPINGS = '''
mappings = (
  { name = "altimeter"; filter = "sensors/altimeter/+"; decoder = "text"; table = "altimeter";
    columns = (
      { name = "sensor";     type = "text";   from = "topic[2]"; },
      { name = "altitude_m"; type = "float8"; from = "value"; unit = "m"; }); },
  { name = "weather"; filter = "sensors/weather/+"; decoder = "json"; table = "weather";
    time = { from = "/ts"; format = "unix_ms"; };
    columns = (
      { name = "station";     type = "text";   from = "/station"; },
      { name = "temperature"; type = "float8"; from = "/temperature"; },
      { name = "humidity";    type = "float8"; from = "/humidity"; },
      { name = "pressure";    type = "float8"; from = "/pressure"; },
      { name = "wind_speed";  type = "float8"; from = "/wind_speed"; }); },
  { name = "keyed"; filter = "sensors/keyed/+"; decoder = "json"; table = "keyed";
    time = { from = "/ts"; format = "unix_ms"; }; key = ["sensor", "time"];
    columns = (
      { name = "sensor";     type = "text";   from = "topic[2]"; },
      { name = "feet";       type = "float8"; from = "/feet"; }); },
  { name = "finished"; filter = "bench/finished"; decoder = "text"; table = "finished";
    columns = ({ name = "value"; type = "float8"; from = "value"; }); }
);
'''
TABLES = {'text': 'telemetry.altimeter', 'json': 'telemetry.weather', 'keyed': 'telemetry.keyed'}
VALUES = {'altimeter': 'altitude_m', 'keyed': 'feet'}
IN_FLIGHT = 100          # of a publisher
SENSORS_IN_FLIGHT = 1000 # of a sensor, so that what is gathered during a commit is bounded by the commits alone
FILES = 12000            # open ones, for ten thousand connections


# What refuses this share of the rows that sink sends to the table, and what ends that.
def check(table, share):
    return (f'ALTER TABLE telemetry.{table} ADD CONSTRAINT good CHECK ({VALUES[table]} >= {1000 * share})',
            f'ALTER TABLE telemetry.{table} DROP CONSTRAINT good')


def check_behind_trigger(table, share):
    return (f"""{check(table, share)[0]};
                CREATE FUNCTION mend() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
                CREATE TRIGGER mend BEFORE INSERT ON telemetry.{table} FOR EACH ROW EXECUTE FUNCTION mend()""",
            f'{check(table, share)[1]}; DROP FUNCTION mend CASCADE')


def trigger(table, share):
    return (f"""CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN IF NEW.{VALUES[table]} < {1000 * share} THEN RAISE 'too low'; END IF; RETURN NULL; END $$;
                CREATE TRIGGER refuse AFTER INSERT ON telemetry.{table} FOR EACH ROW EXECUTE FUNCTION refuse()""",
            'DROP FUNCTION refuse CASCADE')


def foreign_key(table, share):
    return (f"""CREATE TABLE known (sensor text PRIMARY KEY);
                INSERT INTO known SELECT n || CASE WHEN n < 50 THEN '' ELSE '-far' END -- as sink names them
                    FROM generate_series(0, {round(100 * (1 - share)) - 1}) n;
                ALTER TABLE telemetry.{table} ADD FOREIGN KEY (sensor) REFERENCES known""",
            'DROP TABLE known CASCADE')


def too_long(table, share):
    # A view of sensorlogd's own stands in the way.
    return (f'''DROP VIEW IF EXISTS telemetry.{table}_latest;
                ALTER TABLE telemetry.{table} ALTER sensor TYPE varchar({3 if share else 20})''',
            f'ALTER TABLE telemetry.{table} ALTER sensor TYPE text')


def unique_index(table, share):
    # Of each partition: one of the whole table would have to contain the time. The first comers are there already.
    there = ','.join(str(value) for value in sent_values(100000) if value < 1000 * share)
    return (f'''DO $$ DECLARE name regclass; BEGIN
                FOR name IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'telemetry.{table}'::regclass LOOP
                EXECUTE format('CREATE UNIQUE INDEX %I ON %s ({VALUES[table]})', 'once_' || name::oid, name); END LOOP; END $$;
                INSERT INTO telemetry.{table} (time, sensor, {VALUES[table]})
                    SELECT now(), 'first ' || n, value FROM unnest('{{{there}}}'::float8[]) WITH ORDINALITY AS there(value, n)''',
            '''DO $$ DECLARE name text; BEGIN
               FOR name IN SELECT relname FROM pg_class WHERE relname LIKE 'once%' LOOP
               EXECUTE format('DROP INDEX telemetry.%I', name); END LOOP; END $$''')


def sent_values(count):
    """What sink sends, one after the other: drand48() * 1000."""
    state, values = 0, []  # glibc's, where nothing was seeded
    for _ in range(count):
        state = (state * 0x5deece66d + 0xb) % 2**48
        values.append(state / 2**48 * 1000)
    return values


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def wait_until(condition, what, seconds=30.0, pause=0.005):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f'no {what} after {seconds:.0f} s')
        time.sleep(pause)


def values(text):
    """'a=1 b=2.5' as a dictionary of numbers."""
    return {name: float(number) for name, number in re.findall(r'(\w+)=(\S+)', text)}


def run(name, *arguments):
    """One of the benchmark's own programs, to its end: what it printed."""
    done = subprocess.run([PROGRAMS / name, *map(str, arguments)], check=True, text=True,
                          stdout=subprocess.PIPE)
    return values(done.stdout)


def memory_kib(pid, what='VmRSS'):
    status = pathlib.Path(f'/proc/{pid}/status').read_text()
    return int(re.search(rf'^{what}:\s+(\d+)', status, re.M)[1])


def cpu_seconds(pid):
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class Rig:
    """A database with the mapped tables, and a directory for configurations and logs."""

    def __init__(self):
        resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, max(FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1])))
        self.scratch = tempfile.TemporaryDirectory()
        self.directory = pathlib.Path(self.scratch.name)
        (self.directory / 'topics.d').mkdir()
        (self.directory / 'topics.d' / 'bench.cfg').write_text(MAPPINGS)
        self.database = psycopg2.connect('')
        self.database.autocommit = True
        subprocess.run([DAEMON, 'migrate', '-c', self.configure(1883)], check=True,
                       stdout=subprocess.DEVNULL)

    def sql(self, query):
        with self.database.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchone() if cursor.description else None

    def reset(self):
        """Empty tables, and no checkpoint due in the run that follows."""
        self.sql('TRUNCATE telemetry.altimeter, telemetry.weather, telemetry.keyed, telemetry.finished')
        self.sql('CHECKPOINT')

    def expect_rows(self, kind, count):
        stored, = self.sql(f'SELECT count(*) FROM {TABLES[kind]}')
        if stored != count:
            raise RuntimeError(f'{count} messages made {stored} rows')

    def configure(self, port, window=1000, protocol='5'):
        """sensorlogd as a client of the broker at the port."""
        return self.write_configuration(f'''
[subscriber bench]
uri = mqtt://127.0.0.1:{port}
client_id = sensorlogd-bench
protocol = {protocol}
window = {window}
[mappings]
directory = {self.directory}/topics.d
''')

    def configure_broker(self, port, connections):
        """sensorlogd with its own broker at the port; with so many connections to the database, or, with none, without a
        mapping that takes anything."""
        unmapped = self.directory / 'unmapped.d'
        unmapped.mkdir(exist_ok=True)
        (unmapped / 'bench.cfg').write_text(MAPPINGS.replace('filter = "', 'filter = "unmapped/'))
        return self.write_configuration(f'''
[broker]
listen = mqtt://127.0.0.1:{port}
state = {self.directory}/broker.db
connections = {FILES}
queued_messages = 100000
inflight = 1000
[mappings]
directory = {self.directory / 'topics.d' if connections else unmapped}
''', connections or 1)

    def write_configuration(self, sections, connections=1):
        path = self.directory / 'sensorlogd.conf'
        where = ' '.join(f'{name}={os.environ[variable]}' for name, variable in
                         [('host', 'PGHOST'), ('port', 'PGPORT'), ('user', 'PGUSER'),
                          ('dbname', 'PGDATABASE')])
        path.write_text(f'''
[postgres]
conninfo = {where}
writer = bench
connections = {connections}
[state]
directory = {self.directory}
[log]
level = warning
{sections}''')
        return path

    @contextlib.contextmanager
    def process(self, command, **options):
        child = subprocess.Popen([str(word) for word in command], **options)
        try:
            yield child
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait()

    @contextlib.contextmanager
    def mosquitto(self, in_flight):
        """Debian's broker with no bound on its queues; in_flight None leaves its default of 20. Its port."""
        port = free_port()
        settings = ['allow_anonymous true', f'listener {port} 127.0.0.1', 'log_type subscribe',
                    'max_queued_messages 0', 'max_queued_bytes 0']
        if in_flight is not None:
            settings.append(f'max_inflight_messages {in_flight}')
        (self.directory / 'mosquitto.conf').write_text('\n'.join(settings) + '\n')
        with open(self.directory / 'mosquitto.log', 'w') as log:
            with self.process(['mosquitto', '-c', self.directory / 'mosquitto.conf'], stdout=log,
                              stderr=log):
                wait_until(lambda: self.listens(port), 'mosquitto')
                yield port

    @contextlib.contextmanager
    def broker(self, name, kind=None, connections=0):
        """A broker to put under load: mosquitto, sensorlogd (which stores readings by so many connections, or nothing), or
        bare, the program that does no more than store readings of the kind. Its port and process id."""
        port = free_port()
        (self.directory / 'mosquitto.conf').write_text('\n'.join([
            'allow_anonymous true', f'listener {port} 127.0.0.1', 'log_type error', 'max_queued_messages 0',
            'max_queued_bytes 0', 'max_inflight_messages 1000', 'max_connections -1']))
        commands = {
            'mosquitto': ['mosquitto', '-c', self.directory / 'mosquitto.conf'],
            'sensorlogd': [DAEMON, 'run', '-c', self.configure_broker(port, connections)],
            'bare': [PROGRAMS / 'copier', port, kind],
        }
        with open(self.directory / 'broker.log', 'w') as log:
            with self.process(commands[name], stdout=log, stderr=log) as process:
                wait_until(lambda: self.listens(port), name)
                yield port, process.pid

    @staticmethod
    def listens(port):
        with socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', port)) == 0

    def feed(self, kind, count, window):
        """The daemon fed by the scripted broker: the feeder's report."""
        self.reset()
        port = free_port()
        report = run('feeder', port, kind, count, DAEMON, 'run', '-c', self.configure(port, window))
        self.expect_rows(kind, count + 1)
        return report

    def refuse(self, percent, batches, table='altimeter'):
        """Seconds per batch of 10,000 rows fed from memory, of which a CHECK refuses so many (None: one)."""
        least = percent * 10 if percent is not None else 0.017 # of 10,000 at random from 0 to 1,000; sink's are always the same
        return self.refuse_by(*check(table, least / 1000), 1 if percent is None else batches,
                              1e-4 if percent is None else percent / 100, table)

    def refuse_by(self, fault, cure, batches, expected, table):
        """The same of whatever it is that refuses this share."""
        self.reset()
        self.sql('TRUNCATE sensorlog.reject')
        self.sql(fault)
        try:
            done = run('sink', 10000, batches, 1, *(['keyed'] if table == 'keyed' else []))
        finally:
            self.sql(cure)
        share = done['rejected'] / done['rows']
        if abs(share - expected) > expected / 10:
            raise RuntimeError(f'a share of {share} was refused, not {expected}')
        return done['seconds'] / done['rows'] * 10000

    def alone(self, fault, cure, share, table):
        """Seconds that PostgreSQL alone takes for 10,000 rows such as sink's: at once, or, where a share is at fault,
        each in a savepoint of its own."""
        columns = f'INSERT INTO telemetry.{table} (time, sensor, {VALUES[table]})'
        at_once = f'{columns} SELECT unnest(t), unnest(s), unnest(v) FROM sent'
        each = f'''DO $$ DECLARE r record; BEGIN
                   FOR r IN SELECT u.* FROM sent, unnest(t, s, v) AS u(t, s, v) LOOP
                   BEGIN {columns} VALUES (r.t, r.s, r.v); EXCEPTION WHEN OTHERS THEN NULL; END;
                   END LOOP; END $$'''
        self.reset()
        self.sql('SET plan_cache_mode = force_generic_plan')
        self.sql(f'''CREATE TEMP TABLE sent AS SELECT array_agg(now() + n * interval '1 us' ORDER BY n) AS t,
                     array_agg((n - 1) % 100 || CASE WHEN (n - 1) % 100 < 50 THEN '' ELSE '-far' END ORDER BY n) AS s,
                     array_agg(v ORDER BY n) AS v
                     FROM unnest('{{{','.join(map(str, sent_values(10000)))}}}'::float8[]) WITH ORDINALITY AS u(v, n)''')
        self.sql(fault)
        try:
            start = time.monotonic()
            self.sql(each if share else at_once)
            return time.monotonic() - start
        finally:
            self.sql(cure)
            self.sql('DROP TABLE sent')

    def load(self, name, publishers, subscribers, qos, count, rate=0, window=IN_FLIGHT):
        """Publishers and subscribers at the broker of this name, without mappings: the load's report."""
        with self.broker(name) as (port, pid):
            return run('load', port, pid, publishers, subscribers, qos, window, rate, count, 'stamp')

    def idle(self, name, connections):
        """KiB that the broker takes up alone, those of them that no library shares, and with so many connections that do
        nothing."""
        with self.broker(name) as (port, pid):
            alone, own = memory_kib(pid), memory_kib(pid, 'RssAnon')
            with self.process([PROGRAMS / 'idle', port, connections], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True) as idle:
                if idle.stdout.readline() != 'connected\n':
                    raise RuntimeError(f'{connections} connections cannot be held')
                return alone, own, memory_kib(pid)

    def store(self, name, kind, publishers, count, connections=1):
        """Sensors at a broker that acknowledges what is committed: the load's report."""
        self.reset()
        with self.broker(name, kind, connections) as (port, pid):
            report = run('load', port, pid, publishers, 0, 1, SENSORS_IN_FLIGHT, 0, count, kind)
            self.expect_rows(kind, count)
        return report

    def store_behind_mosquitto(self, kind, publishers, count):
        """The same sensors at mosquitto, with sensorlogd as its client: seconds until all is committed."""
        self.reset()
        with self.mosquitto(0) as port:
            with self.process([DAEMON, 'run', '-c', self.configure(port)]) as daemon:
                log = self.directory / 'mosquitto.log'
                wait_until(lambda: 'sensors/weather' in log.read_text(), 'subscription')
                report = run('load', port, daemon.pid, publishers, 0, 1, SENSORS_IN_FLIGHT, 0, count, kind)
                wait_until(lambda: self.sql(f'SELECT count(*) FROM {TABLES[kind]}')[0] == count,
                           'last row', seconds=300, pause=0.05)
                return time.monotonic() - report['start']

    def pass_to_daemon(self, kind, count, in_flight):
        """Publisher, mosquitto, sensorlogd: messages committed per second, CPU of the daemon per message."""
        # Under MQTT 5 the Receive Maximum of the subscriber replaces mosquitto's own bound of 20.
        protocol = '3.1.1' if in_flight is None else '5'
        self.reset()
        with self.mosquitto(in_flight) as port:
            with self.process([DAEMON, 'run', '-c', self.configure(port, protocol=protocol)]) as daemon:
                log = self.directory / 'mosquitto.log'
                wait_until(lambda: 'sensors/weather' in log.read_text(), 'subscription')
                used = cpu_seconds(daemon.pid)
                published = run('publisher', port, kind, count)
                wait_until(lambda: self.sql('SELECT count(*) FROM telemetry.finished')[0] == 1,
                           'last row', seconds=300)
                seconds = time.monotonic() - published['start']
                used = cpu_seconds(daemon.pid) - used
                self.expect_rows(kind, count)
        return count / seconds, used / count

    def pass_to(self, command, kind, count, in_flight):
        """The same with another subscriber, a command that is given the broker's port."""
        self.reset()
        with self.mosquitto(in_flight) as port:
            with self.process([*command, port], stdout=subprocess.PIPE, text=True) as subscriber:
                subscriber.stdout.readline()  # "subscribed"
                published = run('publisher', port, kind, count)
                received = values(subscriber.stdout.readline())
                subscriber.wait()
        if received['messages'] != count:
            raise RuntimeError(f'{command[0]} received {received["messages"]:.0f} of {count}')
        return count / (received['end'] - published['start']), received.get('cpu', 0) / count
