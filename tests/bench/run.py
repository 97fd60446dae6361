#!/usr/bin/python3
"""make bench: figures of this machine, in tables; nothing is asserted. Needs PostgreSQL in the environment
(tests/with_postgres.sh). run.py [--repeat N] [--quick] [sink|poison|cpu|end|python|broker|sensors]..."""
import argparse
import os
import pathlib
import statistics
import subprocess

import rig

median = statistics.median


def thousands(number):
    return f'{number:,.0f}'


class Report:
    """Markdown, to standard output as it comes and to a file."""

    def __init__(self, path):
        self.file = open(path, 'w')

    def line(self, text=''):
        print(text, flush=True)
        print(text, file=self.file, flush=True)

    def head(self, title, columns):
        self.line(f'\n### {title}\n')
        self.row(columns)
        self.row(['---'] + ['---:'] * (len(columns) - 1))

    def row(self, cells):
        self.line('| ' + ' | '.join(map(str, cells)) + ' |')


def sink(bench, report, repeat, scale):
    """The batch writer over the bare libpq program, in equal batches."""
    report.head('Sink: rows/s of the batch writer fed from memory, and of bare libpq with one or two transactions '
                'in flight per connection (sensorlogd has one)',
                ['rows per commit', 'connections', 'bare, one', 'bare, two', 'sensorlogd', 'ratio to one', 'target',
                 'ratio to two'])
    programs = [('bare_libpq', [1]), ('bare_libpq', [2]), ('sink', [])]
    for batch, batches in [(20, 3000), (1000, 400), (10000, 50)]:
        for connections in [1, 2, 4]:
            runs = []
            for _ in range(repeat):
                speeds = []
                for program, depth in programs:
                    bench.reset()
                    done = rig.run(program, batch, max(1, batches * connections // scale), connections,
                                   *depth)
                    speeds.append(done['rows'] / done['seconds'])
                runs.append(speeds)
            one, two, ours = (median(column) for column in zip(*runs))
            ratios = [median(run[2] / run[bare] for run in runs) for bare in (0, 1)]
            report.row([thousands(batch), connections, thousands(one), thousands(two), thousands(ours),
                        f'{ratios[0]:.2f}', '0.90', f'{ratios[1]:.2f}'])


def poison(bench, report, repeat, scale):
    """Rows that a constraint of the table's refuses, at random, among good ones: how much longer a full batch takes."""
    report.head('Rows at fault in batches of 10,000, fed from memory',
                ['refused', 'rows/s', 'time of good ones, times', 'target'])
    cases = [('none', 0, ''), ('one', None, ''), ('1 %', 1, ''), ('50 %', 50, '5'), ('all', 100, '')]
    runs = alternately(repeat, [lambda percent=percent: bench.refuse(percent, max(1, 10 // scale))
                                for _, percent, _ in cases])
    for (name, _, target), seconds in zip(cases, runs):
        report.row([name, thousands(10000 / median(seconds)), f'{ratio(seconds, runs[0]):.1f}', target])

    report.head('50 % at fault, by what refuses them; and PostgreSQL alone, each of the rows in a savepoint over all good ones '
                'at once', ['refused by', 'rows/s, all good', 'rows/s', 'time of good ones, times', 'target',
                            'PostgreSQL alone'])
    cases = [('CHECK', rig.check), ('CHECK, and a trigger that may mend rows', rig.check_behind_trigger),
             ('trigger', rig.trigger), ('foreign key', rig.foreign_key), ('text too long', rig.too_long),
             ('unique index of the site\'s own', rig.unique_index)]
    for table in rig.VALUES:
        for name, fault in cases:
            good, bad, at_once, each = alternately(repeat, [
                lambda measure=measure, share=share: measure(*fault(table, share), share, table)
                for measure in (lambda *how: bench.refuse_by(*how[:2], max(1, 10 // scale), *how[2:]), bench.alone)
                for share in (0, 0.5)])
            report.row([name + (', with a key' if table == 'keyed' else ''), thousands(10000 / median(good)),
                        thousands(10000 / median(bad)), f'{ratio(bad, good):.1f}', '5', f'{ratio(each, at_once):.1f}'])


def cpu(bench, report, repeat, scale):
    """What a message costs the daemon when a scripted broker feeds it as fast as it takes."""
    report.head('CPU and memory of the daemon, fed by a scripted broker',
                ['payload', 'window', 'messages/s', 'CPU us/message', 'target', 'RSS MiB', 'peak MiB',
                 'target'])
    for kind, target in [('text', '1.0'), ('json', '1.5')]:
        for window in [1000, 10000]:
            runs = [bench.feed(kind, 600000 // scale, window) for _ in range(repeat)]
            report.row([kind, thousands(window),
                        thousands(median(run['messages'] / run['seconds'] for run in runs)),
                        f'{median(run["cpu"] / run["messages"] * 1e6 for run in runs):.2f}', target,
                        f'{median(run["rss_kib"] for run in runs) / 1024:.1f}',
                        f'{median(run["peak_kib"] for run in runs) / 1024:.1f}',
                        '12' if window == 1000 else ''])


def commit_latency(bench):
    """Seconds of one commit of 20 rows by bare libpq, one after the other."""
    bench.reset()
    done = rig.run('bare_libpq', 20, 500, 1, 1)
    return done['seconds'] * 20 / done['rows']


def end(bench, report, repeat, scale):
    """Behind mosquitto, over a subscriber that only acknowledges."""
    report.head('End to end behind mosquitto: messages/s',
                ['in flight', 'acknowledges only', '20 / commit latency', 'sensorlogd', 'CPU us/message',
                 'ratio', 'target'])
    for in_flight, target in [(0, '0.95'), (None, '0.90')]:
        acknowledged, bounds, stored, used, ratios = [], [], [], [], []
        for _ in range(repeat):
            speed, _ = bench.pass_to([rig.PROGRAMS / 'ackonly'], 'text', 100000 // scale, in_flight)
            acknowledged.append(speed)
            bounds.append(20 / commit_latency(bench))
            speed, cost = bench.pass_to_daemon('text', 100000 // scale, in_flight)
            stored.append(speed)
            used.append(cost)
            reachable = acknowledged[-1] if in_flight == 0 else min(acknowledged[-1], bounds[-1])
            ratios.append(speed / reachable)
        report.row(['unlimited (MQTT 5)' if in_flight == 0 else '20 (default, MQTT 3.1.1)', thousands(median(acknowledged)),
                    '' if in_flight == 0 else thousands(median(bounds)), thousands(median(stored)),
                    f'{median(used) * 1e6:.1f}', f'{median(ratios):.2f}', target])


def python(bench, report, repeat, scale):
    """Beside it, the scripts that people write today."""
    report.head('Beside it, behind mosquitto with its limits lifted: paho-mqtt and psycopg2',
                ['logger', 'messages/s', 'CPU us/message'])
    logger = ['/usr/bin/python3', rig.HERE / 'python_logger.py']
    loggers = [
        ('Python, one INSERT per message', lambda: bench.pass_to([*logger, 'each'], 'text', 10000 // scale, 0)),
        ('Python, batches', lambda: bench.pass_to([*logger, 'batch'], 'text', 50000 // scale, 0)),
        ('sensorlogd', lambda: bench.pass_to_daemon('text', 100000 // scale, 0)),
    ]
    runs = [[measure() for _, measure in loggers] for _ in range(repeat)]
    for (name, _), measured in zip(loggers, zip(*runs)):
        report.row([name, thousands(median(speed for speed, _ in measured)),
                    f'{median(cost for _, cost in measured) * 1e6:.0f}'])


BROKERS = ['mosquitto', 'sensorlogd']


def alternately(repeat, measures):
    """Each measure's results, run in turns."""
    return list(zip(*([measure() for measure in measures] for _ in range(repeat))))


def broker(bench, report, repeat, scale):
    """The built-in broker without mappings, beside mosquitto."""
    throughput(bench, report, repeat, scale)
    latency(bench, report, repeat, scale)
    memory(bench, report, repeat, scale)


def throughput(bench, report, repeat, scale):
    report.head('Brokers as fast as they take it: messages/s, and CPU per message (1 to 50: per delivery)',
                ['publishers to subscribers', 'QoS', 'mosquitto', 'sensorlogd', 'ratio', 'target', 'CPU us, mosquitto',
                 'sensorlogd', 'ratio', 'target'])
    cases = [('1 to 1', 1, 1, 0, 400000, 100), ('1 to 1', 1, 1, 1, 400000, 100),
             ('50 to 1', 50, 1, 0, 400000, 100), ('50 to 1', 50, 1, 1, 400000, 100),
             ('50 to 1, each one at a time', 50, 1, 1, 100000, 1),
             ('1 to 50', 1, 50, 0, 20000, 100), ('1 to 50', 1, 50, 1, 20000, 100)]
    for title, publishers, subscribers, qos, count, window in cases:
        runs = alternately(repeat, [
            lambda name=name: bench.load(name, publishers, subscribers, qos, count // scale, window=window)
            for name in BROKERS])
        speeds = [[run['messages'] * subscribers / run['seconds'] for run in column] for column in runs]
        costs = [[run['cpu'] / run['messages'] / subscribers * 1e6 for run in column] for column in runs]
        report.row([title, qos, *(thousands(median(column)) for column in speeds),
                    f'{ratio(speeds[1], speeds[0]):.1f}', '3', *(f'{median(column):.1f}' for column in costs),
                    f'{ratio(costs[1], costs[0]):.2f}', '0.33'])


def latency(bench, report, repeat, scale):
    report.head('From PUBLISH to the subscriber: us',
                ['messages/s', 'QoS', 'mosquitto p50', 'p99', 'sensorlogd p50', 'p99', 'ratio of p99', 'target'])
    for rate in (1000, 10000):
        for qos in (0, 1):
            runs = alternately(repeat, [
                lambda name=name: bench.load(name, 1, 1, qos, rate * 5 // min(scale, 5), rate) for name in BROKERS])
            slow = [[run['p99_us'] for run in column] for column in runs]
            report.row([thousands(rate), qos,
                        *(f'{median(run[name] for run in column):.0f}' for column in runs for name in ('p50_us', 'p99_us')),
                        f'{ratio(slow[1], slow[0]):.2f}', '1'])


def memory(bench, report, repeat, scale):
    connections = 10000 // scale
    report.head(f'Memory: alone, and with {thousands(connections)} idle connections',
                ['broker', 'alone, MiB', 'of it shared with nobody', 'a connection, KiB', 'target'])
    runs = alternately(min(repeat, 3), [lambda name=name: bench.idle(name, connections) for name in BROKERS])
    for name, column, target in zip(BROKERS, runs, ['', 'mosquitto, and 2']):
        report.row([name, *(f'{median(run[i] for run in column) / 1024:.1f}' for i in (0, 1)),
                    f'{median((full - alone) / connections for alone, _, full in column):.2f}', target])


def sensors(bench, report, repeat, scale):
    """From sensors to committed rows, over the least program that does that."""
    report.head('50 sensors, QoS 1, acknowledged after the commit: readings/s',
                ['table', 'connections', 'bare COPY', 'sensorlogd', 'ratio', 'target', 'CPU us/reading', 'target',
                 'mosquitto + sensorlogd', 'ratio', 'target'])
    for kind, name in [('text', 'without key'), ('keyed', 'with a key')]:
        count = 600000 // scale
        bare, one, two, behind = alternately(repeat, [
            lambda: bench.store('bare', kind, 50, count),
            lambda: bench.store('sensorlogd', kind, 50, count, 1),
            lambda: bench.store('sensorlogd', kind, 50, count, 2),
            lambda: bench.store_behind_mosquitto(kind, 50, count)])
        bare, *ours = ([run['messages'] / run['seconds'] for run in column] for column in (bare, one, two))
        behind = [count / seconds for seconds in behind]
        for connections, runs, speeds in zip((1, 2), (one, two), ours):
            report.row([name, connections, thousands(median(bare)), thousands(median(speeds)),
                        f'{ratio(speeds, bare):.2f}', '0.80',
                        f'{median(run["cpu"] / run["messages"] * 1e6 for run in runs):.2f}', '1.0',
                        *([thousands(median(behind)), f'{ratio(speeds, behind):.1f}', '5' if kind == 'text' else '']
                          if connections == 1 else [''] * 3)])


def ratio(ours, theirs):
    """The median of the ratios of runs that followed each other."""
    return median(one / other for one, other in zip(ours, theirs))


def machine(bench):
    model = next((line.split(':')[1].strip() for line in open('/proc/cpuinfo')
                  if line.startswith('model name')), 'unknown processor')
    version, = bench.sql('SHOW server_version')
    settings = ', '.join(f'{name}={bench.sql("SHOW " + name)[0]}'
                         for name in ['fsync', 'synchronous_commit', 'max_wal_size'])
    broker = subprocess.run(['mosquitto', '-h'], stdout=subprocess.PIPE, text=True).stdout.split('\n')[0]
    return [f'{os.cpu_count()} cores of {model}', f'PostgreSQL {version} ({settings})', broker]


def main():
    sections = {'sink': sink, 'poison': poison, 'cpu': cpu, 'end': end, 'python': python, 'broker': broker, 'sensors': sensors}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--repeat', type=int, default=5, help='runs, of which the medians are given')
    parser.add_argument('--quick', action='store_true', help='a twentieth of the messages')
    parser.add_argument('section', nargs='*', default=[], help=' '.join(sections))
    arguments = parser.parse_args()

    bench = rig.Rig()
    path = pathlib.Path(rig.BUILD) / 'bench-results.md'
    report = Report(path)
    report.line(f'{"; ".join(machine(bench))}; medians of {arguments.repeat}')
    for name in arguments.section or sections:
        sections[name](bench, report, arguments.repeat, 20 if arguments.quick else 1)
    print(f'\n(also in {path})')


main()
