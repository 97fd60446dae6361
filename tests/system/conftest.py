"""Fixtures of the system tests, what a failure shows, and how the tests are counted."""
import contextlib
import os
import signal

import pytest

from harness import broker as scripted
from harness import builtin as built_in
from harness import cluster as postgresql
from harness import daemon as sensorlogd
from harness import metrics, mosquitto, processes, proxy

_TEST_SECONDS = 120


@pytest.fixture(scope="session")
def _cluster():
    cluster = postgresql.Cluster()
    cluster.start()
    yield cluster
    cluster.remove()


@pytest.fixture
def cluster(_cluster):
    """The PostgreSQL of this session, running; a test may stop it."""
    processes.show_on_failure("PostgreSQL", _cluster.log)
    _cluster.start()
    yield _cluster
    _cluster.start()


@pytest.fixture
def database(cluster):
    """A fresh database."""
    database = cluster.create_database()
    yield database
    cluster.start()
    database.drop()


@pytest.fixture
def make_mosquitto():
    """make_mosquitto(**options) starts one; see harness/mosquitto.py."""
    made = []

    def make(**options):
        made.append(mosquitto.Mosquitto(**options))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def site(make_mosquitto):
    """A mosquitto with no limits on what it queues."""
    return make_mosquitto()


@pytest.fixture
def make_broker():
    """make_broker() starts a scripted broker; nothing that comes to it may violate the specification."""
    made = []

    def make():
        made.append(scripted.Broker())
        return made[-1]

    yield make
    for one in made:
        one.stop()
    assert not [violation for one in made for violation in one.violations]


@pytest.fixture
def broker(make_broker):
    """A scripted broker."""
    return make_broker()


@pytest.fixture
def make_proxy():
    """make_proxy(port) starts a proxy in front of the port."""
    made = []

    def make(port):
        made.append(proxy.Proxy(port))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def configuration():
    """configuration(conf, mappings) writes one, for what is not to be run as a daemon."""
    made = []

    def make(conf, mappings=()):
        made.append(sensorlogd.Configuration(conf, mappings))
        return made[-1]

    yield make
    for one in made:
        one.remove()


@pytest.fixture
def make_daemon(database):
    """make_daemon(broker, mappings, ...) starts one on this test's database, as configuration_for() has it;
    it has READY=1 and the database, unless wait_database is false; start=False leaves it stopped."""
    made = []

    def make(broker, mappings, *, start=True, wait_database=True, **how):
        files, port = sensorlogd.configuration_for(database, broker, mappings, **how)
        made.append(sensorlogd.Daemon(files, port))
        if start:
            made[-1].start()
            if wait_database:
                made[-1].wait_database()
        return made[-1]

    yield make
    with contextlib.ExitStack() as stack:  # all of it, whatever fails
        for one in made:
            stack.callback(one.configuration.remove)
            stack.callback(one.end)
            if one.running:
                stack.callback(lambda one=one: metrics.books_balance(one.metrics()))


@pytest.fixture(scope="module")
def _builtin(request):
    made = built_in.BuiltIn(**getattr(request.module, "BROKER", {}))
    try:
        yield made.start()
    finally:
        made.end()


@pytest.fixture
def builtin(_builtin):
    """The daemon with its built-in broker and no database, one for the module, which may say by BROKER how it is
    configured; see harness/builtin.py. Tests use client ids and topics of their own: harness.client.fresh()."""
    _builtin.show()
    yield _builtin
    _builtin.hang_up()
    _builtin.check()


@pytest.fixture
def make_builtin():
    """make_builtin(database, mappings, **keys of [broker]) starts one for this test; start=False leaves it stopped."""
    made = []

    def make(*arguments, start=True, **how):
        made.append(built_in.BuiltIn(*arguments, **how))
        return made[-1].start() if start else made[-1]

    yield make
    with contextlib.ExitStack() as stack:  # all of it, whatever fails
        for one in made:
            stack.callback(one.end)
            if one.daemon.running:
                stack.callback(one.check)


@pytest.fixture(params=[4, 5], ids=["3.1.1", "5"])
def version(request):
    """The protocol level: a test that takes it runs under both versions."""
    return request.param


# A test that hangs is interrupted where it hangs.


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    marker = item.get_closest_marker("limit")
    seconds = marker.args[0] if marker else _TEST_SECONDS

    def expired(_number, _frame):
        pytest.fail(f"not done after {seconds} s")

    previous = signal.signal(signal.SIGALRM, expired)
    signal.alarm(seconds)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


# A failure shows the end of what each program of the test has said.


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    processes.logs_of_this_test.clear()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        if report.when == "call" and "database" in item.funcargs:
            report.sections.append(("sensorlog.reject", _rejects(item.funcargs["database"])))
        for title, log, mark in processes.logs_of_this_test:
            report.sections.append((f"{title} ({report.when})", "\n".join(log.lines(mark)[-60:])))


def _rejects(database):
    try:
        rows = database.query("SELECT mapping, topic, reason, detail, sqlstate FROM sensorlog.reject"
                              " ORDER BY id LIMIT 5")
        return "\n".join(map(str, rows))
    except Exception as error:  # whatever state the test has left it in
        return str(error)


# Counting, for tests/run.sh: each test once, by the worst that happened to it.

_outcomes = {}
_WORST = ("passed", "skipped", "failed")


def _count(name, outcome):
    _outcomes[name] = max(_outcomes.get(name, "passed"), outcome, key=_WORST.index)


def pytest_runtest_logreport(report):
    _count(report.nodeid, report.outcome)


def pytest_collectreport(report):
    if report.failed:
        _count(report.nodeid, "failed")


def pytest_sessionfinish(session):
    path = os.environ.get("TEST_COUNTS")
    if path and not hasattr(session.config, "workerinput"):
        with open(path, "w") as counts:
            for outcome in _WORST:
                print(outcome, sum(one == outcome for one in _outcomes.values()), file=counts)
