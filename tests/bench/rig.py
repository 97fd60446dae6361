"""What the benchmarks share: configuration, broker, daemon, and one run of messages through them."""
import contextlib
import os
import pathlib
import re
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
  { name = "finished"; filter = "bench/finished"; decoder = "text"; table = "finished";
    columns = ({ name = "value"; type = "float8"; from = "value"; }); }
);
'''
TABLES = {'text': 'telemetry.altimeter', 'json': 'telemetry.weather'}


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


def cpu_seconds(pid):
    fields = pathlib.Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


class Rig:
    """A database with the mapped tables, and a directory for configurations and logs."""

    def __init__(self):
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
        self.sql('TRUNCATE telemetry.altimeter, telemetry.weather, telemetry.finished')
        self.sql('CHECKPOINT')

    def expect_rows(self, kind, count):
        stored, = self.sql(f'SELECT count(*) FROM {TABLES[kind]}')
        if stored != count:
            raise RuntimeError(f'{count} messages made {stored} rows')

    def configure(self, port, window=1000, protocol='5'):
        path = self.directory / 'sensorlogd.conf'
        where = ' '.join(f'{name}={os.environ[variable]}' for name, variable in
                         [('host', 'PGHOST'), ('port', 'PGPORT'), ('user', 'PGUSER'),
                          ('dbname', 'PGDATABASE')])
        path.write_text(f'''
[postgres]
conninfo = {where}
writer = bench
[subscriber bench]
uri = mqtt://127.0.0.1:{port}
client_id = sensorlogd-bench
protocol = {protocol}
window = {window}
[mappings]
directory = {self.directory}/topics.d
[state]
directory = {self.directory}
[log]
level = warning
''')
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
