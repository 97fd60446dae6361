#!/usr/bin/python3
"""Faults by chance on many sites, and the table of what came of them."""
import argparse
import ctypes
import os
import random
import re
import shutil
import signal
import sys
import time
from multiprocessing import TimeoutError, get_context, util

_HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(_HERE), os.path.join(os.path.dirname(_HERE), "system")]

from chaos import fault as faults  # noqa: E402
from chaos.background import Background  # noqa: E402
from chaos.cluster import Cluster  # noqa: E402
from chaos.life import Life, live  # noqa: E402
from chaos.table import table  # noqa: E402

_LIFE_SECONDS = 600, 120  # of a life, and for each of its faults: then it is interrupted where it hangs
_PATIENCE = 1200          # seconds without the end of a life
_SAID = 5                 # of failed lives, at the end
_WORDS = 300              # characters of each
_PR_SET_PDEATHSIG = 1


# One of the processes that lives are lived in.

_mine = {}


def _begin(keep, until):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _mine.update(keep=keep, until=until, background=Background(), cluster=None)
    util.Finalize(None, _leave, exitpriority=1)


def _hung(_number, _frame):
    raise AssertionError("this life takes too long")


def _live(life):
    if time.monotonic() > _mine["until"]:
        return None
    if _mine["cluster"] is None:
        _mine["cluster"] = Cluster()
    signal.signal(signal.SIGALRM, _hung)
    signal.alarm(_LIFE_SECONDS[0] + life.faults * _LIFE_SECONDS[1])
    life = live(life, _mine["background"], _mine["cluster"], _mine["keep"])
    signal.alarm(0)
    if life.failure:  # nobody knows in which state it is
        _leave()
    return life


def _leave():
    cluster, _mine["cluster"] = _mine["cluster"], None
    if cluster:
        cluster.remove()


# The process that plans and counts.

def plan(names, count, seed, messages):
    """Lives with so many faults altogether, of all classes evenly."""
    chance = random.Random(seed)
    lives, left = [], count
    most = -(-count // len(names))
    while left > 0:
        chance.shuffle(names)
        for name in names:
            number = min(left, most, faults.load()[name].faults)
            if number:
                lives.append(Life(name, chance.randrange(1000000), number, messages))
                left -= number
    return lives


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=1200, help="at least so many with each fault")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--class", dest="part", help="only classes whose name this is found in, a regular expression")
    parser.add_argument("--one", metavar="CLASS:SEED", help="lives this one again")
    parser.add_argument("--each", type=int, help="with --one: how many faults it has")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no other site begins")
    parser.add_argument("--keep", default="build/chaos", help="where the logs of failed lives are put")
    parser.add_argument("--verbose", action="store_true", help="says how it goes on")
    parser.add_argument("--list", action="store_true", help="lists the classes")
    return parser.parse_args()


def _planned(arguments):
    if arguments.one:
        name, _, seed = arguments.one.rpartition(":")
        return [Life(name, int(seed), arguments.each or faults.load()[name].faults, arguments.messages)]
    names = sorted(name for name in faults.load() if re.search(arguments.part or "", name))
    if not names:
        sys.exit(f"chaos: no class has {arguments.part!r} in its name; --list shows them")
    return plan(names, arguments.faults, arguments.seed, arguments.messages)


def _say(*lines):
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def _report(life):
    _say(f"\nFAILED {life.name}:{life.seed}\n{life.failure.strip()}\n  logs:  {life.directory}\n  again: {_again(life)}\n")


def _again(life):
    return f"make chaos ONE={life.name}:{life.seed} EACH={life.faults} MESSAGES={life.messages}"


def _cause(failure):
    """In one line: what the oracle has found; of an exception, its message and where it came from."""
    _, is_exception, last = failure.rpartition("Traceback (most recent call last):\n")
    message = re.search(r"^\S.*", last.strip("\n"), re.M | re.S)[0]
    places = re.findall(r'^  File ".*?/tests/(\S+)", line (\d+)', last, re.M)
    words = "; ".join(message.split("\n"))
    words = words if len(words) <= _WORDS else f"{words[:_WORDS]} ..."
    return words + f" ({', '.join(':'.join(place) for place in places[-2:])})" * bool(is_exception)


def sum_up(lives):
    """The failures once more, in short: the end of a log is what is read first."""
    failed = [life for life in lives if life.failure]
    for life in failed[:_SAID]:
        _say(f"{life.name}:{life.seed}: {_cause(life.failure)}", f"  {_again(life)}")
    if failed:
        _say(f"{len(failed)} of {len(lives)} sites failed")


def _all(results, lives):
    """Each life as it ends."""
    try:
        for _ in lives:
            yield results.next(_PATIENCE)
    except TimeoutError:
        sys.exit(f"chaos: no life has ended for {_PATIENCE} s; some process is stuck or gone")


def main():
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if arguments.list:
        for name, one in sorted(faults.load().items()):
            print(f"{name:40} {one.doc}")
        return 0
    lives = _planned(arguments)
    keep = os.path.abspath(arguments.keep)
    shutil.rmtree(keep, ignore_errors=True)
    began, done = time.monotonic(), []
    with get_context("fork").Pool(min(arguments.jobs, len(lives)), _begin, [keep, began + arguments.seconds]) as pool:
        for life in filter(None, _all(pool.imap_unordered(_live, lives), lives)):
            done.append(life)
            if life.failure:
                _report(life)
            elif arguments.verbose:
                _say(f"{len(done)}/{len(lives)} {life.name}:{life.seed}, {life.done} faults in {life.seconds:.1f} s")
        pool.close()
        pool.join()
    print(table(done, arguments.seed, time.monotonic() - began), flush=True)
    if len(done) < len(lives):
        _say(f"the time was up: {len(done)} of {len(lives)} sites")
    sum_up(done)
    return 1 if any(life.failure for life in done) else 0


if __name__ == "__main__":
    sys.exit(main())
