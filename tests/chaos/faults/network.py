"""The ways between sensors, broker, daemon and PostgreSQL: cut, silent, slow."""
import time

from harness.wait import PATIENCE, TimedOut

from ..fault import fault
from ..proxy import TO_CLIENT, TO_SERVER

# Each way, on the sites that have it; whether an acknowledgement can be lost on it; what passes on it, how many of these a
# fault lets pass before it acts, and how often it acts at most. After each loss of its broker the daemon waits twice as long.
_PUBLISHER = [("PUBLISH", TO_SERVER), ("PUBREL", TO_SERVER), ("PUBACK", TO_CLIENT), ("PUBREC", TO_CLIENT),
              ("PUBCOMP", TO_CLIENT)]
_SUBSCRIBER = [("PUBLISH", TO_CLIENT), ("PUBREL", TO_CLIENT), ("PUBACK", TO_SERVER), ("PUBREC", TO_SERVER),
               ("PUBCOMP", TO_SERVER)]
_WAYS = {
    "sensor": (dict(on=["builtin", "mosquitto"], again=True), _PUBLISHER, 200, 4),
    "broker": (dict(on=["mosquitto"], again=True, faults=3), _SUBSCRIBER, 200, 1),
    "postgres": (dict(spool="both"), [("COMMIT", TO_SERVER), ("COMMIT", TO_CLIENT)], 20, 4),
}
_DIRECTIONS = (TO_SERVER, TO_CLIENT)


def _on_each_way(function):
    """A class for each way, of function(proxy, chance, what passes on it, how many may pass, how often at most)."""
    for way, (how, *more) in _WAYS.items():
        _make(function, way, how, more)
    return function


def _make(function, way, how, more):
    @fault(name=f"{way}-{function.__name__.replace('_', '-')}", doc=function.__doc__, breaks=f"{way}-net", **how)
    def run(site, chance):
        proxy = getattr(site.proxies, way)
        yield from function(proxy, chance, *more)
        proxy.mend()


def _tripped(proxy, before):
    """Waits until a rule has acted."""
    until = time.monotonic() + PATIENCE
    while proxy.trips == before:
        if time.monotonic() > until:
            raise TimedOut(f"did not pass: {proxy.rules}")
        yield 0.02


@_on_each_way
def cut(proxy, chance, _kinds, _skip, times):
    """All connections are cut, by RST or in order, several times."""
    for _ in range(chance.randint(1, times)):
        proxy.cut(reset=chance.random() < 0.7)
        yield chance.uniform(0, 0.15)


@_on_each_way
def cut_at_byte(proxy, chance, _kinds, _skip, times):
    """Cut when so many bytes have passed, several times."""
    for _ in range(chance.randint(1, times)):
        before = proxy.trips
        proxy.when(None, chance.choice(_DIRECTIONS), chance.choice(("cut", "close")),
                   skip=chance.choice((chance.randrange(100), chance.randrange(5000))))
        yield from _tripped(proxy, before)


@_on_each_way
def cut_at_packet(proxy, chance, kinds, skip, times):
    """Cut right before, in the middle of or after a packet of the acknowledgement or of COMMIT, several times."""
    for _ in range(chance.randint(1, times)):
        before = proxy.trips
        kind, direction = chance.choice(kinds)
        proxy.when(kind, direction, chance.choice(("cut", "close", "vanish")),
                   place=chance.choice(("before", "inside", "after")), skip=chance.randrange(skip))
        yield from _tripped(proxy, before)
        yield chance.uniform(0, 0.1)
        proxy.mend()


@_on_each_way
def hold_at_packet(proxy, chance, kinds, skip, _times):
    """From a packet of the acknowledgement or of COMMIT on nothing passes; then it does, or the connection is cut."""
    before = proxy.trips
    kind, direction = chance.choice(kinds)
    proxy.when(kind, direction, "hold", skip=chance.randrange(skip))
    yield from _tripped(proxy, before)
    yield chance.uniform(0, 0.5)
    if chance.random() < 0.5:
        proxy.cut()


@_on_each_way
def late_packet(proxy, chance, kinds, skip, _times):
    """A packet, or COMMIT, that arrives only when its sender has lost the connection and come back."""
    before = proxy.trips
    kind, direction = chance.choice([one for one in kinds if one[1] == TO_SERVER])
    proxy.when(kind, direction, "late", skip=chance.randrange(skip))
    yield from _tripped(proxy, before)
    yield chance.uniform(0, 0.5)


@_on_each_way
def silence(proxy, chance, _kinds, _skip, _times):
    """Nothing passes, one way or both; then everything does, or the connections are cut."""
    proxy.hold(*chance.choice((_DIRECTIONS, [TO_SERVER], [TO_CLIENT])))
    yield chance.choice((chance.uniform(0, 0.5), chance.uniform(0, 2)))
    if chance.random() < 0.5:
        proxy.cut()


@_on_each_way
def half_open(proxy, chance, _kinds, _skip, _times):
    """One side is gone, and the other is not told."""
    proxy.vanish(chance.choice(_DIRECTIONS))
    yield chance.choice((chance.uniform(0, 0.5), chance.uniform(0, 4)))


@_on_each_way
def refused(proxy, chance, _kinds, _skip, _times):
    """All connections are cut, and for a while none is made."""
    proxy.refusing = True
    proxy.cut()
    yield chance.uniform(0, 1)


@_on_each_way
def delay(proxy, chance, _kinds, _skip, _times):
    """Everything takes longer."""
    proxy.delay = chance.uniform(0.001, 0.1)
    yield chance.uniform(0.1, 1)


@_on_each_way
def throttle(proxy, chance, _kinds, _skip, _times):
    """Little passes."""
    proxy.rate = chance.choice((5000, 20000, 100000))
    yield chance.uniform(0.1, 1)
