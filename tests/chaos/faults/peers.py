"""Scripted brokers, each with a habit of its own, that cut the daemon off at every point of its exchanges: see peer.py.

Where a broker breaks the protocol (qos2_again), only a key keeps what comes again single."""
import time

from harness.wait import wait_until

from ..fault import broker, fault
from ..scripted import Scripted

_POINTS = [(kind, when) for kind in ("PUBACK", "PUBREC", "PUBCOMP") for when in ("before", "after")] \
    + [(kind, when) for kind in ("PUBLISH", "PUBREL") for when in ("before", "middle", "after")] \
    + [("CONNACK", "after"), ("CONNACK", "before"), ("SUBACK", "middle")]
_NEEDS_LOAD = 3  # seconds, after which a point that does not come is left alone


@broker("faithful")
class Faithful(Scripted):
    rules = {}


@broker("narrow")
class Narrow(Scripted):
    rules = {"window": 3, "reuse": True}
    rate = 300  # messages a second that come to it: three of them at a time go to the daemon


@broker("reusing")
class Reusing(Scripted):
    rules = {"reuse": True}


@broker("renumbering")
class Renumbering(Scripted):
    rules = {"renumber": True}


@broker("renumbering-from-1")
class RenumberingFromOne(Scripted):
    rules = {"renumber": True, "reuse": True}


@broker("no-dup")
class NoDup(Scripted):
    rules = {"dup": False}


@broker("amnesiac")
class Amnesiac(Scripted):
    rules = {"present": False}


@broker("repeating")
class Repeating(Scripted):
    rules = {"again": True}


@broker("impatient")
class Impatient(Scripted):
    rules = {"live": 0.01, "versions": [4]}


def _cuts(site, chance, kill=0.4):
    """One cut, at a point of chance; the daemon is killed then, now and then, or is away for a while."""
    kind, when = chance.choice(_POINTS)
    cut = site.broker.cut_at(kind, when, chance.randrange(1, 200), chance.random() < 0.5)
    if kind in ("CONNACK", "SUBACK"):
        site.broker.drop()
    deadline = time.monotonic() + _NEEDS_LOAD
    while not site.broker.has_cut(cut) and time.monotonic() < deadline:
        yield 0.005
    site.broker.check()
    if chance.random() < kill:
        site.daemon.kill9()
        yield chance.choice((0, chance.uniform(0, 0.1)))
        site.daemon.start()
    yield chance.uniform(0, 0.1)
    site.broker.forget_cuts()


@fault(breaks="broker broker-net daemon", on=["faithful", "narrow"], again=True, spool="both")
def peer_faithful(site, chance):
    """Cut at every point of an exchange, by a broker that keeps to the protocol; the daemon killed in between."""
    yield from _cuts(site, chance)


@fault(breaks="broker broker-net daemon", on=["reusing"], again=True)
def peer_reuses_ids(site, chance):
    """A broker that uses an identifier again right after its acknowledgement."""
    yield from _cuts(site, chance)


@fault(breaks="broker broker-net daemon", on=["no-dup"], again=True)
def peer_forgets_dup(site, chance):
    """A broker that redelivers without DUP [against MQTT-3.3.1-1]."""
    yield from _cuts(site, chance)


@fault(breaks="broker broker-net daemon", on=["impatient"], again=True)
def peer_impatient(site, chance):
    """A broker of MQTT 3.1.1 that redelivers inside a live connection what is not acknowledged within 10 ms."""
    yield from _cuts(site, chance)


@fault(breaks="broker broker-net daemon", on=["renumbering", "renumbering-from-1"], again=True, qos2_again=True)
def peer_renumbers(site, chance):
    """A broker that redelivers under new packet identifiers after a reconnect."""
    yield from _cuts(site, chance)


@fault(breaks="broker broker-net daemon", on=["amnesiac"], again=True, qos2_again=True)
def peer_amnesiac(site, chance):
    """A broker that says Session Present 0 after each reconnect, and sends what is not acknowledged as if it were new."""
    yield from _cuts(site, chance)


@fault(breaks="broker broker-net daemon", on=["repeating"], again=True, qos2_again=True, faults=3)
def peer_repeats_all(site, chance):
    """A broker that delivers everything from the beginning after each reconnect, acknowledged or not, as if new."""
    yield from _cuts(site, chance)


@fault(breaks="broker broker-net daemon postgres", on=["faithful", "narrow", "reusing"], again=True, spool="both",
       alone=True)
def peer_and_postgres(site, chance):
    """The same while PostgreSQL goes away and comes back, by brokers whose QoS 2 is to be trusted."""
    cuts = _cuts(site, chance)
    yield next(cuts)
    site.cluster.stop("immediate")
    yield chance.uniform(0, 0.5)
    site.cluster.start()
    yield from cuts
