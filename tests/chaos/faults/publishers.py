"""Publishers that come and go in the middle of their exchanges with the built-in broker."""
from ..fault import fault
from ..walker import walkers


@fault(breaks="sensor daemon", on=["builtin"], again=True, spool="both", alone=True, faults=3)
def qos2_publishers(site, chance):
    """Publishers of QoS 2 that stop at every point of an exchange and take it up again by a new connection, by one that
    takes the old one over, after kill -9 of the daemon, or not at all, in a clean session."""
    for _ in range(chance.randrange(10, 30)):
        chance.choice(walkers(site)).walk(chance)
        yield 0


@fault(breaks="sensor", on=["builtin"], again=True, spool="both")
def sensors_taken_over(site, chance):
    """Second connections of the sensors take their sessions over, while the first ones stay open."""
    for _ in range(chance.randrange(1, 6)):
        some = chance.sample(site.load.sensors, chance.randrange(1, len(site.load.sensors) + 1))
        site.load.background.call(lambda some=some: [one.desert() for one in some if hasattr(one, "desert")])
        yield chance.uniform(0, 0.2)
