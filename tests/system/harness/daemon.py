"""The daemon: its configuration, its life, and what it says."""
import os
import shutil
import signal
import subprocess
import tempfile

from . import metrics
from .notify import NotifySocket
from .ports import free_port
from .processes import Log, Process, resident_bytes
from .wait import wait_until

_ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
BINARY = os.path.abspath(os.environ.get("SENSORLOGD", os.path.join(_ROOT, "build", "sensorlogd")))
# The build that dies where a test tells it to (make FAILPOINTS=1).
_DYING = os.path.abspath(os.environ.get("SENSORLOGD_FAILPOINTS",
                                        os.path.join(os.path.dirname(BINARY), "failpoints", "sensorlogd")))

_ENVIRONMENT = {
    **os.environ,
    "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "detect_stack_use_after_return=1"),
    "UBSAN_OPTIONS": os.environ.get("UBSAN_OPTIONS", "print_stacktrace=1"),
    "TZ": "America/St_Johns",  # not a whole hour from UTC: whoever takes local time for UTC is found out
    "LC_ALL": "C.UTF-8",
}
_SANITIZERS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer",
               "WARNING: MemorySanitizer")


def is_sanitized():
    """Whether the binary is a sanitizer build, whose memory and speed say nothing."""
    with open(BINARY, "rb") as binary:
        return b"__asan_init" in binary.read()


def repository(*path):
    """A path in the project."""
    return os.path.join(_ROOT, *path)


class Configuration:
    """A directory with sensorlogd.conf, topics.d/, and state/, which is empty.

    conf: {section: {key: value}}, or the text itself; None for a value leaves the key out.
    mappings: {file name: text}, or the list of mapping groups "{ ... }" of a single file."""

    def __init__(self, conf, mappings=()):
        self.directory = tempfile.mkdtemp(prefix="slc", dir="/tmp")
        self.sections = {} if isinstance(conf, str) else {name: dict(keys) for name, keys in conf.items()}
        for name in ("topics.d", "state"):
            os.mkdir(self.path(name))
        self.write("sensorlogd.conf", conf if isinstance(conf, str) else _ini(conf))
        files = mappings if isinstance(mappings, dict) else {"test.cfg": mappings_file(*mappings)}
        for name, text in files.items():
            self.write(f"topics.d/{name}", text)

    @property
    def file(self):
        return self.path("sensorlogd.conf")

    def path(self, name):
        return os.path.join(self.directory, name)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as file:
            file.write(text)

    def set(self, section, **keys):
        """Changes keys of a section, or adds it; None takes the key out."""
        self.sections.setdefault(section, {}).update(keys)
        self.write("sensorlogd.conf", _ini(self.sections))

    def set_mappings(self, *groups):
        self.write("topics.d/test.cfg", mappings_file(*groups))

    def remove(self):
        shutil.rmtree(self.directory)


def mappings_file(*groups):
    """A mapping file with these groups."""
    return "mappings = (\n" + ",\n".join(groups) + "\n);\n"


def _ini(sections):
    return "\n".join(f"[{section}]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items()
                                               if value is not None)
                     for section, keys in sections.items())


def run_command(*arguments, stdin="", timeout=60, check_sanitizers=True):
    """Runs a sub-command to its end; the result has returncode, stdout and stderr as text."""
    result = subprocess.run([BINARY, *arguments], input=stdin, text=True, capture_output=True, timeout=timeout,
                            env=_ENVIRONMENT)
    if check_sanitizers:
        _no_sanitizer_report(result.stderr)
    return result


def _no_sanitizer_report(text):
    for report in _SANITIZERS:
        assert report not in text, text[max(0, text.find(report) - 200):][:8000]


class Daemon:
    """sensorlogd run, by a Configuration. Its HTTP port is .http_port, its notify socket .notify."""

    def __init__(self, configuration, http_port):
        self.configuration = configuration
        self.http_port = http_port
        self.log = Log()
        self.notify = NotifySocket()
        self.environment = {}  # of it alone
        self._process = None
        self._started = 0  # the mark in its log

    def start(self, journal=False):
        """Starts it and waits for READY=1; journal as for Process."""
        assert os.access(BINARY, os.X_OK), f"there is no daemon at {BINARY}: build it, or set SENSORLOGD"
        before = len(self.notify.values("READY"))
        self._launch(BINARY, self.environment, journal)
        wait_until(lambda: len(self.notify.values("READY")) > before or not self.running, "READY=1")
        assert self.running, f"the daemon did not start:\n{self.log.text()}"
        return self

    def _launch(self, binary, environment, journal=False):
        self._started = self.log.mark()
        self._process = Process("sensorlogd", [binary, "run", "-c", self.configuration.file], log=self.log,
                                env={**_ENVIRONMENT, "NOTIFY_SOCKET": self.notify.path, **environment},
                                journal=journal)

    def start_to_die(self, failpoint):
        """Starts the build with failpoints, which is to die at this one: "committed:3", the third crossing."""
        assert os.access(_DYING, os.X_OK), \
            f"there is no daemon at {_DYING}: make FAILPOINTS=1, or set SENSORLOGD_FAILPOINTS"
        self._launch(_DYING, {**self.environment, "SENSORLOGD_FAILPOINT": failpoint})

    def wait_died(self, failpoint):
        """Until it is dead, as if by kill -9."""
        status = self._process.wait()
        assert status == -signal.SIGKILL, f"it ended with status {status} instead of dying at {failpoint}"

    @property
    def running(self):
        return self._process is not None and self._process.running

    @property
    def pid(self):
        return self._process.pid

    def signal(self, number):
        self._process.signal(number)

    def reload(self):
        """SIGHUP; returns when it says, to systemd and in its log, that it has read its configuration again."""
        ready, mark = len(self.notify.values("READY")), self.log.mark()
        self.signal(signal.SIGHUP)
        wait_until(lambda: len(self.notify.values("READY")) > ready, "READY=1 after the reload")
        self.log.wait_for("the configuration is (read again|not reloaded)", mark)

    def wait(self, timeout=None):
        """Its exit status, when it ends by itself."""
        return self._process.wait(timeout)

    def kill9(self):
        self._process.kill9()

    def stop(self, timeout=12):
        """SIGTERM; returns the exit status. A daemon that has ended well has nothing pending in its books."""
        self._process.signal(signal.SIGTERM)
        status = self._process.wait(timeout)
        books = metrics.books_at_the_end(self.log.lines(self._started))
        assert status != 0 or books or not self._tells_books(), "the daemon has ended without a word on its books"
        return status

    def _tells_books(self):
        """They are of the level info."""
        return "level" not in self.configuration.sections.get("log", {})

    def restart(self):
        status = self.stop()
        assert status == 0, f"exit status {status}"
        return self.start()

    def resident(self):
        """Resident memory in bytes."""
        return resident_bytes(self.pid)

    def metrics(self):
        try:
            return metrics.fetch(self.http_port)
        except OSError:
            if self.running:
                raise
            raise AssertionError(f"the daemon has ended, with status {self.wait()}") from None

    def metric(self, name, **labels):
        return self.metrics().total(name, **labels)

    def messages(self, verdict=None, source=None):
        """How many messages have ended in this verdict, or have been received."""
        labels = {"source": source} if source else {}
        if verdict is None:
            return self.metric("sensorlog_messages_received_total", **labels)
        return self.metric("sensorlog_messages_total", verdict=verdict, **labels)

    def wait_messages(self, count, verdict=None, timeout=None):
        """Until (at least) so many messages have ended in this verdict, or have been received."""
        return wait_until(lambda: self.messages(verdict) >= count, f"{count} messages {verdict or 'received'}",
                          timeout, interval=0.03)

    def wait_database(self):
        """Until the tables are there and rows can be committed."""
        wait_until(lambda: self.metric("sensorlog_database_up") == 1, "the database to be up", interval=0.03)
        return self

    def wait_subscribed(self, source="site"):
        """Until the subscriber is connected and its subscriptions are granted."""
        wait_until(lambda: self.metric("sensorlog_source_connected", source=source) == 1,
                   f"[subscriber {source}] to be connected", interval=0.03)

    def end(self):
        """Whatever state it is in: it goes, and must not have left a sanitizer's report."""
        if self.running:
            self.kill9()
        self.notify.close()
        _no_sanitizer_report(self.log.text())


def configuration_for(database, broker, mappings, *, conf=None, conninfo=None):
    """The usual configuration of the tests, with the sections of conf laid over it, and its HTTP port.

    broker: what has a .uri, or {subscriber's name: broker}."""
    brokers = broker if isinstance(broker, dict) else {"site": broker}
    port = free_port()
    sections = {
        "postgres": {"conninfo": conninfo or database.conninfo(), "writer": "test"},
        **{f"subscriber {name}": {"uri": one.uri, "client_id": f"sensorlogd-{name}"}
           for name, one in brokers.items()},
        "mappings": {"directory": "topics.d"},
        "state": {"directory": "state"},
        "http": {"listen": f"127.0.0.1:{port}"},
    }
    for section, keys in (conf or {}).items():
        sections.setdefault(section, {}).update(keys)
    return Configuration(sections, mappings), port
