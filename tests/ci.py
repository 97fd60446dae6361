#!/usr/bin/python3
"""Runs lint and tests. The last line of the output is the count of the tests; no process is left behind."""
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading

PR_SET_CHILD_SUBREAPER = 36
COUNT = re.compile(r"\d+ passed, \d+ failed, \d+ skipped\n?$")


def descendants(pid):
    """The ids of all processes below this one."""
    found = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as listing:
                children = [int(child) for child in listing.read().split()]
        except FileNotFoundError:
            continue
        for child in children:
            try:
                found += [child, *descendants(child)]
            except FileNotFoundError:
                found.append(child)
    return found


def reap_all():
    """Kills whatever is left. Orphans have become our children, so that none gets away."""
    while left := descendants(os.getpid()):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, 0):
                pass
        except ChildProcessError:
            pass


def run(*command):
    """Runs the command with its output passed on; returns (its success, the last count line in it, its last line)."""
    count = last = None
    print("+", *command, flush=True)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace")

    def pass_on():
        nonlocal count, last
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line.strip()
            if COUNT.match(line):
                count = last

    reader = threading.Thread(target=pass_on)
    reader.start()
    status = process.wait()
    reap_all()  # who is left may hold the pipe open
    reader.join()
    return status == 0, count, last


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
    os.environ["CI"] = "true"
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    linted, _, _ = run("make", "lint")
    tested, count, last = run("make", "test")
    if not linted:
        print("make lint has failed")
    if not tested:
        print("make test has failed")
    if not linted or not count or last != count:
        print(count or "0 passed, 1 failed, 0 skipped", flush=True)
    return 0 if linted and tested and count else 1


if __name__ == "__main__":
    sys.exit(main())
