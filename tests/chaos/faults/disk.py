"""Disks that are full, fail or are slow: for the broker's state, for the spool, and for PostgreSQL."""
import contextlib
import errno
import resource
import time

from harness.wait import PATIENCE, wait_until

from ..fault import fault
from ..shim import Shim

_BROKER_STATE, _SPOOL = "/state/broker.db", "/state/spool.db"


def _shim(site):
    site.disk = Shim(site.configuration.directory)
    return site.disk.environment


def _ways(chance):
    """How a disk fails."""
    return chance.choice((
        {"write": errno.ENOSPC}, {"write": errno.ENOSPC, "torn": True}, {"write": errno.EIO, "torn": True},
        {"sync": errno.EIO}, {"delay": chance.uniform(0.001, 0.05)}, {"write": errno.ENOSPC, "sync": errno.EIO}))


def _fails(site, chance, path):
    """The daemon's disk, for some times; now and then the daemon is killed with it."""
    for _ in range(chance.randrange(1, 4)):
        with site.disk.failing(path, **_ways(chance)):
            yield chance.uniform(0, 0.7)
            if chance.random() < 0.2:
                site.daemon.kill9()
        if not site.daemon.running:
            site.daemon.start()
        yield chance.uniform(0, 0.3)


@fault(breaks="disk daemon", on=["builtin"], environment=_shim, again=True)
def broker_state_disk(site, chance):
    """The disk of the built-in broker's state is full, fails or is slow."""
    yield from _fails(site, chance, _BROKER_STATE)


@fault(breaks="disk daemon postgres", spool="outage", environment=_shim, again=True, alone=True)
def spool_disk(site, chance):
    """The spool's disk is full, fails or is slow, while it fills and while it drains."""
    if chance.random() < 0.7:
        site.cluster.stop("fast")
    yield chance.uniform(0, 0.6)
    yield from _fails(site, chance, _SPOOL)
    if not site.cluster.running:
        if chance.random() < 0.5:
            site.cluster.start()
            yield from _fails(site, chance, _SPOOL)
        else:
            with site.disk.failing(_SPOOL, **_ways(chance)):
                site.cluster.start()
                yield chance.uniform(0, 0.5)


@contextlib.contextmanager
def _no_file_grows(pid):
    """Beyond 64 KiB, which the daemon's files have already."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (65536, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


@fault(breaks="disk daemon", on=["builtin"])
def broker_file_size_limit(site, chance):
    """RLIMIT_FSIZE: no file of the daemon may grow beyond 64 KiB, the state of its broker above all."""
    with _no_file_grows(site.daemon.pid):
        yield chance.uniform(0, 1)


@fault(breaks="disk daemon postgres", spool="outage")
def spool_file_size_limit(site, chance):
    """RLIMIT_FSIZE: no file of the daemon may grow beyond 64 KiB, while PostgreSQL is away."""
    with _no_file_grows(site.daemon.pid):
        site.cluster.stop("fast")
        yield chance.uniform(0, 1)
    yield chance.uniform(0, 0.5)
    site.cluster.start()


# PostgreSQL's own.


def _bites(disk, before):
    """Until a call has failed: a fault that nobody has felt shows nothing."""
    deadline = time.monotonic() + PATIENCE
    while disk.failed == before:
        assert time.monotonic() < deadline, "nothing was written"
        yield 0.01


def _shim_postgres(site):
    site.disk = Shim(site.cluster.directory)
    site.cluster.environment = site.disk.environment
    site.cluster.restart()


@fault(breaks="postgres", spool="both", prepare=_shim_postgres, postgres={"fsync": "on"})
def postgres_disk_full(site, chance):
    """PostgreSQL's tables cannot grow: every INSERT that needs a new page fails with 53100."""
    before = site.disk.failed
    with site.disk.failing("/base/", write=chance.choice((errno.ENOSPC, errno.EIO))):
        yield from _bites(site.disk, before)
        yield chance.uniform(0.1, 1.5)


@fault(breaks="postgres", spool="both", prepare=_shim_postgres, postgres={"fsync": "on"}, faults=4)
def postgres_log_full(site, chance):
    """PostgreSQL's write-ahead log cannot be written, or not be synced: it panics, and recovers, if it can."""
    how = chance.choice(({"write": errno.ENOSPC}, {"write": errno.ENOSPC, "torn": True}, {"sync": errno.EIO}))
    before = site.disk.failed
    with site.disk.failing("/pg_wal/", **how):
        yield from _bites(site.disk, before)
        yield chance.uniform(0.1, 1)
    # It may be on its way down, or up again.
    wait_until(lambda: not site.cluster.running or _serves(site), "PostgreSQL to recover, or to give up")
    site.cluster.start()


def _serves(site):
    try:
        site.cluster.connect("postgres").close()
        return True
    except Exception:
        return False


@fault(breaks="postgres", spool="both", prepare=_shim_postgres, postgres={"fsync": "on"})
def postgres_disk_slow(site, chance):
    """Each write and fsync of PostgreSQL takes some milliseconds."""
    with site.disk.failing("/base/", "/pg_wal/", delay=chance.uniform(0.001, 0.05)):
        yield chance.uniform(0.1, 1.5)
