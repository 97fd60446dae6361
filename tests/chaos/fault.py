"""Classes of faults, and how a file in faults/ makes one: see README.md."""
import dataclasses
import importlib
import pkgutil
import typing

classes = {}  # by name
brokers = {}  # by name: what stands in for mosquitto

SITES = ("builtin", "mosquitto")


@dataclasses.dataclass(eq=False)
class Fault:
    name: str
    run: typing.Callable
    doc: str
    breaks: set
    on: typing.Sequence
    again: bool = False
    qos2_again: bool = False
    rejects: bool = False
    broker_loses: bool = False
    drops: bool = False
    spool: str = "off"
    conf: dict = dataclasses.field(default_factory=dict)
    postgres: dict = dataclasses.field(default_factory=dict)
    mosquitto: dict = dataclasses.field(default_factory=dict)
    qos: typing.Sequence = (1, 2)
    environment: typing.Any = None
    faults: int = 5
    alone: bool = False
    prepare: typing.Callable = None

    @property
    def plain(self):
        """Whether it happens on any site of its kind of broker."""
        return not (self.conf or self.postgres or self.mosquitto or self.environment or self.prepare or self.drops
                    or self.broker_loses or self.alone)

    @property
    def parts(self):
        """What it breaks, a part and the way to it being one: what locks a table waits for who is cut off."""
        return {part.removesuffix("-net") for part in self.breaks}

    def may_overlap(self, other, broker):
        """Whether the other may happen while this one does, on this one's site."""
        return (not self.alone and other.plain and broker in other.on and self.spool == other.spool
                and self.qos == other.qos and not self.parts & other.parts)


def fault(*, breaks, on=SITES, spool="off", name=None, doc=None, **how):
    """Makes a class of faults of a generator function(site, chance), called after it if no name is given."""
    def made(function):
        title = name or function.__name__.replace("_", "-")
        words = " ".join((doc or function.__doc__).split())
        for mode in ("off", "outage") if spool == "both" else (spool,):
            full = f"{title}+spool" if mode == "outage" else title
            assert full not in classes, f"two classes are called {full}"
            classes[full] = Fault(full, function, words, set(breaks.split()), tuple(on), spool=mode, **how)
        return function
    return made


def broker(name):
    """Makes a class, with the interface of harness' Mosquitto, one that a fault can ask for by on=[name]."""
    def made(form):
        brokers[name] = form
        return form
    return made


def load():
    """All classes, by name."""
    if not classes:
        from . import faults
        for module in pkgutil.iter_modules(faults.__path__):
            importlib.import_module(f"{faults.__name__}.{module.name}")
    return classes
