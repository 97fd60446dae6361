"""Clocks that jump: that of the daemon alone, and that of PostgreSQL alone. The time that passes stays what it is."""
from ..fault import fault
from ..shim import Shim

_DAY = 86400
_BACK = -_DAY + 600  # a reading is rejected if it is more than a day ahead of the daemon's clock


def _jumps(site, shim, chance, farthest):
    """Wherever the clock stands, the load goes on."""
    for _ in range(chance.randrange(1, 4)):
        shim.set_clock(chance.choice((_BACK, _DAY, chance.randrange(_BACK, _DAY), farthest)))
        site.load.wait(100)
        yield chance.uniform(0, 0.3)
    shim.set_clock(0)
    site.load.wait(100)


def _in_the_daemon(site):
    site.clock = Shim(site.configuration.directory)
    return site.clock.environment


@fault(breaks="clock", environment=_in_the_daemon, spool="both", alone=True)
def daemon_clock(site, chance):
    """The daemon's clock jumps a day back and forward, or 40 forward, and comes back."""
    yield from _jumps(site, site.clock, chance, 40 * _DAY)


@fault(breaks="clock daemon", environment=_in_the_daemon, again=True, spool="both", alone=True)
def daemon_clock_and_kill(site, chance):
    """The daemon is killed with one time and started with another."""
    site.clock.set_clock(chance.choice((_BACK, _DAY)))
    site.load.wait(50)
    site.daemon.kill9()
    site.clock.set_clock(chance.choice((_BACK, 0, _DAY)))
    yield chance.uniform(0, 0.1)
    site.daemon.start()
    site.load.wait(50)
    site.clock.set_clock(0)


def _in_postgres(site):
    site.clock = Shim(site.cluster.directory)
    site.cluster.environment = site.clock.environment
    site.cluster.restart()


@fault(breaks="clock", prepare=_in_postgres, postgres={"application_name": "own"}, spool="both", alone=True)
def postgres_clock(site, chance):
    """PostgreSQL's clock jumps a day back and forward, or 40, and comes back."""
    yield from _jumps(site, site.clock, chance, 40 * _DAY)


@fault(breaks="clock postgres", prepare=_in_postgres, postgres={"application_name": "own"}, spool="both", alone=True)
def postgres_clock_and_commit(site, chance):
    """PostgreSQL's clock jumps by a day, or by 40, as on a machine without a clock of its own, between a COMMIT whose
    answer is lost and the question what has become of it."""
    proxy = site.proxies.postgres
    for _ in range(chance.randrange(1, 4)):
        trips = proxy.trips
        proxy.when("COMMIT", "to client", "hold", skip=chance.randrange(20))
        proxy.wait_tripped(trips + 1)
        site.clock.set_clock(chance.choice((-_DAY, _DAY, 40 * _DAY)))
        proxy.cut()
        site.load.wait(100)
        yield chance.uniform(0, 0.1)
        site.clock.set_clock(0)
        site.load.wait(100)
