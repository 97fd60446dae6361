"""The life of one site: faults of one class under load, one after the other and now and then two at a time."""
import dataclasses
import heapq
import os
import random
import time
import traceback

from harness import metrics, processes

from . import fault as faults
from .oracle import Account, Oracle
from .site import Site

_OVERLAP = 0.2  # how often another fault is there at the same time
_PLENTY = 20    # times what a fault is to have at least: then the load goes on slowly


@dataclasses.dataclass
class Life:
    """Which one, and how it went. failure: None, or what was wrong; directory: where its logs are then."""
    name: str
    seed: int
    faults: int    # how many it is to have
    messages: int  # at least so many in each
    done: int = 0
    overlapped: int = 0
    account: Account = dataclasses.field(default_factory=Account)
    peak: int = 0
    seconds: float = 0
    failure: str = None
    directory: str = None


def live(life, background, cluster, keep):
    """Fills the life in; keep: the directory for what is left of lives that failed."""
    processes.logs_of_this_test.clear()
    processes.show_on_failure("PostgreSQL", cluster.log)
    began = time.monotonic()
    story = []
    site = oracle = None
    try:
        site = Site(faults.load()[life.name], life.seed, background, cluster)
        oracle = Oracle(site)
        story.append(f"{life.name}:{life.seed} on {site.shape}")
        site.start()
        _live(life, site, oracle, _teller(story))
    except Exception:
        life.failure = life.failure or traceback.format_exc()
    finally:
        if site:
            try:
                if life.failure:
                    _keep(life, site, oracle, story, keep)
                life.peak = site.daemon.peak if hasattr(site, "daemon") else 0
                site.end()
            except Exception:
                life.failure = life.failure or traceback.format_exc()
    life.seconds = time.monotonic() - began
    return life


def _teller(story):
    began = time.monotonic()
    return lambda text: story.append(f"{time.monotonic() - began:8.3f} {text}")


def _live(life, site, oracle, tell):
    chance = random.Random(f"faults {life.name}:{life.seed}")
    for number in range(life.faults):
        happening = [site.fault]
        others = [other for _, other in sorted(faults.load().items())
                  if site.fault.may_overlap(other, site.shape.broker)]
        if others and chance.random() < _OVERLAP:
            happening.append(chance.choice(others))
        oracle.allowed.update(happening)
        _suffer(life, site, happening, chance, tell)
        life.done += 1
        life.overlapped += len(happening) - 1
        life.account = _judge(site, oracle, tell)
        if _failed(life, site):
            return
    _end(life, site, oracle, tell)


def _judge(site, oracle, tell):
    """Once all is there, or nothing comes any more: the last message may overtake, in mosquitto, what waits for a place in
    the daemon's window."""
    while True:
        site.settle()
        settled = site.settled()
        account = oracle.judge()
        tell(f"judged: {account.words()}")
        if not account.findings or not site.more_is_settled_than(settled):
            return account


def _suffer(life, site, happening, chance, tell):
    load = site.load
    until = load.published + life.messages
    load.go(life.messages * _PLENTY)
    load.wait(chance.randrange(1, max(2, life.messages // 2)))
    _happen([(one, one.run(site, random.Random(chance.random()))) for one in happening], chance, tell)
    tell("mended")
    if load.published < until:
        load.wait_published(until)


def _happen(happening, chance, tell):
    """Runs the generators side by side, each on until it says for how long it waits."""
    now = time.monotonic()
    due = [(now + (chance.uniform(0, 0.3) if place else 0), place, fault, steps)
           for place, (fault, steps) in enumerate(happening)]
    heapq.heapify(due)
    told = None
    while due:
        when, place, fault, steps = heapq.heappop(due)
        time.sleep(max(0, when - time.monotonic()))
        for seconds in steps:
            if told != (told := (fault.name, steps.gi_frame.f_lineno)):
                tell(f"{fault.name}: line {steps.gi_frame.f_lineno}, for {seconds or 0:.3f} s")
            heapq.heappush(due, (time.monotonic() + (seconds or 0), place, fault, steps))
            break


def _end(life, site, oracle, tell):
    status = site.daemon.stop()
    if status != 0:
        life.failure = f"the daemon ended with status {status}"
        return
    assert metrics.books_at_the_end(site.daemon.log.lines()), "the daemon's last words have no books"
    life.account = oracle.judge()
    tell(f"at the end: {life.account.words()}")
    _failed(life, site)


def _failed(life, site):
    wrong = [*life.account.findings, *site.violations]
    if wrong:
        life.failure = "\n".join(wrong)
    return bool(wrong)


def _keep(life, site, oracle, story, keep):
    """The logs, and what the oracle had to say."""
    life.directory = os.path.join(keep, f"{life.name}-{life.seed}")
    os.makedirs(life.directory, exist_ok=True)
    try:
        site.load.running = False
        time.sleep(0.5)
        found = oracle.judge()
        story += ["", "found, where some may still be on its way:", *found.findings, *found.stories, *site.violations]
    except Exception as error:
        story.append(f"the oracle could not look: {error!r}")
    try:
        story += [f"{key} {value:g}" for key, value in site.daemon.metrics().items()]
    except Exception as error:
        story.append(f"no metrics: {error!r}")
    for title, log, mark in processes.logs_of_this_test:
        with open(os.path.join(life.directory, f"{title}.log"), "w") as file:
            file.write(log.text(mark) + "\n")
    if hasattr(site, "configuration"):
        with open(site.configuration.file) as conf:
            story += ["", conf.read()]
    with open(os.path.join(life.directory, "story"), "w") as file:
        file.write("\n".join(story + ["", life.failure, ""]))
