#!/usr/bin/python3
"""The outage drill: PostgreSQL is away while publishers go on at a steady rate, with the spool on.

Prints what became of every message and how fast the spool was drained; exit status 1 where a message was lost, doubled
or out of order."""
import argparse
import dataclasses
import glob
import os
import re
import subprocess
import sys
import tempfile
import time

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(os.path.dirname(_HERE), "system")]

from harness.builtin import BuiltIn  # noqa: E402
from harness.cluster import Cluster  # noqa: E402
from harness.metrics import books_balance  # noqa: E402
from harness.wait import wait_until  # noqa: E402

PUBLISHERS = 20
# position: the order in which the rows were inserted
TABLES = ("counted", "keyed")
_NUMBERS = '{ name = "sensor"; type = "text"; from = "topic[1]"; }, { name = "n"; type = "int8"; from = "%s"; }'
MAPPINGS = [
    f"""{{
    name = "counted"; filter = "counted/+"; decoder = "text"; table = "counted";
    columns = ( {_NUMBERS % "value"} );
  }}""",
    f"""{{
    name = "keyed"; filter = "keyed/+"; decoder = "json"; table = "keyed";
    time = {{ from = "/ts"; format = "unix_ms"; }}; key = ["sensor", "n", "time"];
    columns = ( {_NUMBERS.replace("; }", "; required = true; }") % "/n"} );
  }}""",
]


class Publishers:
    """steady.c, compiled into the directory."""

    def __init__(self, directory, port, rate, count=PUBLISHERS):
        program = os.path.join(directory, "steady")
        subprocess.run(["gcc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program,
                        f"{_HERE}/steady.c", f"{_HERE}/../bench/wire.c"], check=True)
        self._process = subprocess.Popen([program, str(port), str(count), str(rate), str(int(time.time() * 1000))],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def phase(self, name):
        """What is due from now on counts for this phase."""
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()

    def stop(self, timeout):
        """No more is published, and all of it acknowledged: messages by publisher, and figures by phase."""
        output, _ = self._process.communicate("stop\n", timeout)
        assert self._process.returncode == 0, "a publisher has failed, see above"
        figures = {name: {key: float(value) for key, value in re.findall(r"(\w+)=(\S+)", rest)}
                   for kind, name, rest in re.findall(r"(\w+) (\S+) (.*)", output) if kind == "phase"}
        return list(map(int, re.findall(r"publisher \d+ published=(\d+)", output))), figures

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


class Watch:
    """What the daemon uses, and what its spool does, looked at again and again."""

    def __init__(self, site):
        self._daemon = site.daemon
        self._files = site.daemon.configuration.path("state/spool.db*")
        self.file_bytes = 0
        self.drained = []  # (time, messages that have come back from the spool so far)

    def look(self):
        """True: nothing is in the spool, and new messages go past it."""
        self.file_bytes = max(self.file_bytes, sum(map(os.path.getsize, glob.glob(self._files))))
        metrics = self._daemon.metrics()
        self.drained.append((time.monotonic(), metrics.total("sensorlog_messages_total", source="spool")))
        return metrics.total("sensorlog_spool_state") == 0

    def drain(self):
        """Messages a second, from the first that came back to the last."""
        end = self.drained[-1][1]
        began = max((when for when, count in self.drained if count == 0), default=self.drained[0][0])
        ended = next(when for when, count in self.drained if count == end)
        return end, end / max(ended - began, 1e-3)

    def peak_bytes(self):
        with open(f"/proc/{self._daemon.pid}/status") as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) * 1024


@dataclasses.dataclass
class Books:
    """Over all publishers."""
    published: int = 0
    stored: int = 0
    rejected: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0

    @property
    def hold(self):
        return not (self.rejected or self.lost or self.doubled or self.out_of_order)


def books_of(database, published):
    """What is stored of so many messages of each publisher, all of which were acknowledged."""
    books = Books(published=sum(published), rejected=database.count("sensorlog.reject"))
    stored = {}
    for table in TABLES:
        stored.update({int(sensor): rest for sensor, *rest in database.query(
            f"""SELECT sensor, count(*), count(DISTINCT n), count(*) FILTER (WHERE n < before)
                  FROM (SELECT sensor, n, lag(n) OVER (PARTITION BY sensor ORDER BY position) AS before
                          FROM telemetry.{table}) AS rows GROUP BY sensor""")})
    for publisher, count in enumerate(published):
        rows, different, back = stored.get(publisher, (0, 0, 0))
        books.stored += rows
        books.lost += count - different
        books.doubled += rows - different
        books.out_of_order += back
    return books


@dataclasses.dataclass
class Result:
    books: Books
    phases: dict
    file_bytes: int
    peak_bytes: int
    drained: int
    drain_rate: float
    direct_after: float  # seconds from when PostgreSQL was started


def number_rows(database):
    for table in TABLES:
        database.query(f"CREATE SEQUENCE telemetry.{table}_position")
        database.query(f"GRANT ALL ON SEQUENCE telemetry.{table}_position TO logger")
        database.query(f"ALTER TABLE telemetry.{table} ADD COLUMN position int8"
                       f" DEFAULT nextval('telemetry.{table}_position')")


def drill(cluster, database, site, publishers, seconds, patience=None):
    """One outage of so many seconds. site: a BuiltIn that runs, with MAPPINGS and the spool on."""
    watch = Watch(site)
    log = site.log
    time.sleep(min(2.0, seconds))
    publishers.phase("waiting")
    mark = log.mark()
    cluster.stop("immediate")
    stopped = time.monotonic()
    log.wait_for("messages are kept in|PostgreSQL is away", mark, patience)
    publishers.phase("outage")
    while time.monotonic() < stopped + seconds:
        watch.look()
        time.sleep(0.2)
    started = time.monotonic()
    cluster.start()
    publishers.phase("drain")
    wait_until(watch.look, "the spool to be drained", patience, interval=0.1)
    direct_after = time.monotonic() - started
    publishers.phase("after")
    time.sleep(min(2.0, seconds))
    published, phases = publishers.stop(patience)
    wait_until(lambda: site.daemon.metric("sensorlog_messages_pending") == 0, "the last commits")
    books_balance(site.daemon.metrics())
    drained, rate = watch.drain()
    return Result(books_of(database, published), phases, watch.file_bytes, watch.peak_bytes(), drained, rate,
                  direct_after)


def report(result, seconds, rate):
    books, phases = result.books, result.phases
    mib = 1024 * 1024
    lines = [
        ("PostgreSQL away", f"{seconds:g} s, {rate:g} messages/s of {PUBLISHERS} publishers"),
        ("messages published, acknowledged", f"{books.published}"),
        ("rows stored", f"{books.stored}"),
        ("rejected", f"{books.rejected}"),
        ("lost", f"{books.lost}"),
        ("doubled", f"{books.doubled}"),
        ("out of order", f"{books.out_of_order}"),
        *((f"PUBACK {name}, p50 / p99 / max", f"{of['p50_ms']:.1f} / {of['p99_ms']:.1f} / {of['max_ms']:.0f} ms")
          for name, of in phases.items()),
        ("spool's file at most", f"{result.file_bytes / mib:.1f} MiB"),
        ("drained", f"{result.drained:g} messages, {result.drain_rate:.0f}/s,"
                    f" {result.drain_rate / rate:.1f} times the arrival rate (wanted: 5)"),
        ("direct again after", f"{result.direct_after:.1f} s"),
        ("memory of the daemon at most", f"{result.peak_bytes / mib:.1f} MiB"),
    ]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {value}" for name, value in lines)


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--rate", type=float, default=2000)
    options = options.parse_args()
    seconds = options.minutes * 60
    # As durable as it would be on a site.
    cluster = Cluster(fsync="on", full_page_writes="on", max_wal_size="4GB")
    site = publishers = None
    try:
        cluster.start()
        database = cluster.create_database()
        site = BuiltIn(database, MAPPINGS, conf={"spool": {"mode": "outage"}}).start()
        number_rows(database)
        with tempfile.TemporaryDirectory() as directory:
            publishers = Publishers(directory, site.port, options.rate)
            result = drill(cluster, database, site, publishers, seconds, patience=max(60, seconds))
        print(report(result, seconds, options.rate))
        return 0 if result.books.hold else 1
    except BaseException:
        if site:
            print("\n".join(site.log.lines()[-30:]), file=sys.stderr)
        raise
    finally:
        for one in (publishers and publishers.close, site and site.end, cluster.remove):
            if one:
                one()


if __name__ == "__main__":
    sys.exit(main())
