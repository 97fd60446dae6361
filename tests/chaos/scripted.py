"""Scripted brokers as sites use them: peer.py in its process, and what it says."""
import json
import os
import subprocess
import sys
import threading

from harness.ports import free_port
from harness.processes import Log
from harness.wait import wait_until

_PEER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer.py")


class Scripted:
    """A broker on 127.0.0.1:.port by these rules of peer.py."""

    rules = {}

    def __init__(self, **_options):
        self.port = free_port()
        self.log = Log()
        self.violations = []
        self._process = None
        self._cuts = 0
        self._done = set()

    @property
    def uri(self):
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self._process.pid

    def start(self):
        self._process = subprocess.Popen([sys.executable, _PEER, str(self.port), json.dumps(self.rules)],
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                         text=True, bufsize=1)
        threading.Thread(target=self._read, args=[self._process.stdout], daemon=True).start()
        wait_until(lambda: self.log.find('"ready"') or self._process.poll() is not None, "the scripted broker")
        assert self._process.poll() is None, self.log.text()

    def _read(self, output):
        for line in output:
            self.log.add(line.rstrip("\n"))
            if line.startswith("{"):
                event = json.loads(line)
                self._done.add(event.get("cut"))
                self.violations += [event["violation"]] if "violation" in event else []

    def _tell(self, **command):
        self._process.stdin.write(json.dumps(command) + "\n")

    def cut_at(self, kind, when, count=1, reset=False):
        """Ends the subscriber's connection at the count-th packet of this kind: before it (it is not sent, or not
        seen), after it, or (of what the broker sends) in its middle. Returns what has_cut() takes."""
        self._cuts += 1
        self._tell(cut=self._cuts, at=kind, when=when, count=count, reset=reset)
        return self._cuts

    def has_cut(self, number):
        return number in self._done

    def forget_cuts(self):
        """Those that have not come are not to come."""
        self._tell(forget=True)

    def drop(self):
        """Ends all subscribers' connections."""
        self._tell(drop=True)

    def check(self):
        """Nothing against the specification has come to it, and it lives."""
        assert self._process.poll() is None, f"the scripted broker has ended:\n{self.log.text()[-3000:]}"
        assert not self.violations, self.violations

    def stop(self):
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    remove = stop
