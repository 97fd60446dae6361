"""Child processes that cannot outlive the tests, and whose output is kept line by line."""
import contextlib
import ctypes
import os
import pwd
import re
import signal
import subprocess
import threading

from .wait import wait_until

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

# The logs of what the running test uses: (title, Log, mark where the test began). A failure prints them.
logs_of_this_test = []


def show_on_failure(title, log):
    if not any(log is shown for _, shown, _ in logs_of_this_test):
        logs_of_this_test.append((title, log, log.mark()))


class Log:
    """Lines as they come; wait_for() finds those that came after a mark."""

    def __init__(self):
        self._lines = []

    def add(self, line):
        self._lines.append(line)

    def mark(self):
        """Where the log ends now, for the since of the others."""
        return len(self._lines)

    def lines(self, since=0):
        return self._lines[since:]

    def text(self, since=0):
        return "\n".join(self._lines[since:])

    def find(self, pattern, since=0):
        """All lines that the regular expression is found in."""
        return [line for line in self._lines[since:] if re.search(pattern, line)]

    def wait_for(self, pattern, since=0, timeout=None):
        """The first line that the regular expression is found in, as soon as it is there."""
        return wait_until(lambda: self.find(pattern, since), f"a log line with {pattern!r}", timeout)[0]


def user_for_servers():
    """The user for what refuses to run as root: postgres if we are root, else (None) ourselves."""
    return "postgres" if os.geteuid() == 0 else None


def identity(user):
    """Popen's arguments to become that user with its groups; none for None."""
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": os.getgrouplist(user, entry.pw_gid)}


@contextlib.contextmanager
def standing_still(pids):
    """SIGSTOP, and SIGCONT at the end; some may have gone meanwhile."""
    for number, group in ((signal.SIGSTOP, pids), (signal.SIGCONT, pids)):
        for pid in group:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            yield


def children(pid):
    """The process ids of all descendants."""
    found = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as listing:
                for child in map(int, listing.read().split()):
                    found += [child, *children(child)]
    except FileNotFoundError:
        pass
    return found


class Process:
    """A started program. Start it from the main thread: it gets last_signal when the thread that started it ends."""

    def __init__(self, title, argv, *, user=None, env=None, last_signal=signal.SIGKILL, log=None, journal=False):
        """journal: standard error looks like the journal's [JOURNAL_STREAM, systemd.exec(5)]."""
        self.title = title
        self.log = log or Log()
        show_on_failure(title, self.log)
        output, theirs = os.pipe()
        if journal:
            stat = os.fstat(theirs)
            env = {**(env or os.environ), "JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
        self._child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env,
            preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, int(last_signal)), **identity(user))
        os.close(theirs)
        self.pid = self._child.pid
        self._reader = threading.Thread(target=self._read, args=[output], daemon=True)
        self._reader.start()

    def _read(self, output):
        with open(output, "rb") as lines:
            for line in lines:
                self.log.add(line.decode(errors="replace").rstrip("\n"))

    @property
    def running(self):
        return self._child.poll() is None

    def signal(self, number):
        if self.running:
            self._child.send_signal(number)

    def wait(self, timeout=None):
        """The exit status (negative: the signal it died of), with all its output in the log."""
        wait_until(lambda: not self.running, f"the end of {self.title}", timeout)
        self._reader.join(5)
        return self._child.returncode

    def kill9(self):
        """Ends it, and what it has started, without a chance to tidy up."""
        family = [self.pid, *children(self.pid)] if self.running else []
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_until(lambda: not any(_alive(pid) for pid in family if pid != self.pid),
                   f"the end of what {self.title} had started")
        return self.wait()


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def resident_bytes(pid):
    """Resident memory of the process."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
