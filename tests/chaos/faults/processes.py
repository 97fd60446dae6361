"""Processes that are killed, stopped and started again."""
import contextlib
import os
import signal

from harness.processes import children, standing_still
from harness.wait import wait_until

from ..fault import fault


@fault(breaks="daemon", again=True, spool="both")
def daemon_kill(site, chance):
    """kill -9 of the daemon."""
    site.daemon.kill9()
    yield chance.uniform(0, 0.3)
    site.daemon.start()


@fault(breaks="daemon", again=True, spool="both")
def daemon_restart(site, chance):
    """SIGTERM to the daemon under load, as systemd ends it; it must end with status 0."""
    status = site.daemon.stop()
    assert status == 0, f"exit status {status}"
    yield chance.uniform(0, 0.2)
    site.daemon.start()


# Its transaction stays open, and whoever changes a table meanwhile waits.
@fault(breaks="daemon postgres", again=True)
def daemon_stop(site, chance):
    """SIGSTOP and SIGCONT of the daemon."""
    with standing_still([site.daemon.pid]):
        yield chance.choice((chance.uniform(0, 0.5), chance.uniform(0, 3)))


@fault(breaks="daemon")
def daemon_reload(site, chance):
    """SIGHUP, several times in a row."""
    for _ in range(chance.randrange(1, 5)):
        site.daemon.reload()
        yield chance.uniform(0, 0.1)


# While the old filter and the new one are both there, each message comes twice.
@fault(breaks="daemon broker broker-net", on=["mosquitto"], again=True, qos2_again=True)
def share_changed(site, chance):
    """SIGHUP with another share, again and again; now and then the daemon loses its broker meanwhile, or is killed."""
    for _ in range(chance.randrange(1, 6)):
        site.configuration.set("subscriber site", share=chance.choice(("", "a", "b")))
        site.daemon.reload()
        yield chance.choice((0, chance.uniform(0, 0.1)))
        what = chance.random()
        if what < 0.2:
            site.proxies.broker.cut()
        elif what < 0.4:
            site.configuration.set("subscriber site", share=chance.choice(("", "a", "b")))
            site.daemon.kill9()
            site.daemon.start()


@fault(breaks="postgres", spool="both")
def postgres_kill(site, chance):
    """kill -9 of PostgreSQL, all of it."""
    site.cluster.kill9()
    yield chance.uniform(0, 0.5)
    site.cluster.start()


@fault(breaks="postgres", spool="both")
def postgres_stop(site, chance):
    """PostgreSQL stopped by its administrator, and started again."""
    site.cluster.stop(chance.choice(("fast", "immediate")))
    yield chance.uniform(0, 0.5)
    site.cluster.start()


@fault(breaks="postgres")
def postgres_kill_backend(site, chance):
    """kill -9 of one of the daemon's server processes: PostgreSQL ends all others, and recovers."""
    backends = site.database.backends()
    killed = chance.choice(backends) if backends else None
    if killed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(killed, signal.SIGKILL)
    yield chance.uniform(0, 0.3)
    # It takes connections until it has noticed, and then none until it has recovered.
    wait_until(lambda: not os.path.exists(f"/proc/{killed}"), "PostgreSQL to notice")
    site.cluster.wait_up()


@fault(breaks="postgres")
def postgres_terminate_backend(site, chance):
    """An administrator ends the daemon's server processes, again and again."""
    for _ in range(chance.randrange(1, 6)):
        site.database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'logger'")
        yield chance.uniform(0, 0.1)


@fault(breaks="postgres", spool="both")
def postgres_freeze(site, chance):
    """SIGSTOP and SIGCONT of PostgreSQL, all of it: soon, or when the daemon has found that it does not answer."""
    with standing_still([site.cluster.pid, *children(site.cluster.pid)]):
        yield chance.choice((chance.uniform(0, 1), chance.uniform(0, 1), chance.uniform(4, 6)))


@fault(breaks="postgres")
def postgres_freeze_backend(site, chance):
    """SIGSTOP and SIGCONT of the daemon's server processes."""
    with standing_still(site.database.backends()):
        yield chance.uniform(0, 1)


@fault(breaks="broker", on=["mosquitto"], faults=3, again=True, qos2_again=True, broker_loses=True, spool="both")
def mosquitto_restart(site, chance):
    """mosquitto ends in order and comes back with its sessions: Session Present 1. What it forgets is how far exchanges of
    QoS 2 have come: it loses some between PUBREC and PUBREL, and sends PUBLISH again after PUBREL."""
    site.broker.stop()
    yield chance.uniform(0, 0.2)
    site.broker.start()


@fault(breaks="broker", on=["mosquitto"], faults=3, again=True, qos2_again=True, broker_loses=True, mosquitto={"persistence": False})
def mosquitto_restart_forgetful(site, chance):
    """mosquitto ends in order and comes back without its sessions: Session Present 0."""
    site.broker.stop()
    yield chance.uniform(0, 0.2)
    site.broker.start()


@fault(breaks="broker", on=["mosquitto"], faults=3, again=True, qos2_again=True, broker_loses=True, mosquitto={"autosave_interval": 1})
def mosquitto_kill(site, chance):
    """kill -9 of mosquitto, which saves its sessions every second."""
    site.broker.kill9()
    yield chance.uniform(0, 0.2)
    site.broker.start()


@fault(breaks="broker", on=["mosquitto"], faults=3, again=True, qos2_again=True, broker_loses=True, mosquitto={"persistence": False})
def mosquitto_kill_forgetful(site, chance):
    """kill -9 of mosquitto, which saves nothing: Session Present 0."""
    site.broker.kill9()
    yield chance.uniform(0, 0.2)
    site.broker.start()


@fault(breaks="broker", on=["mosquitto"], faults=3, again=True)
def mosquitto_stop(site, chance):
    """SIGSTOP and SIGCONT of mosquitto."""
    with standing_still([site.broker.pid]):
        yield chance.choice((chance.uniform(0, 0.5), chance.uniform(0, 4)))


@fault(breaks="daemon", qos=(0,), drops=True)
def qos0_daemon_kill(site, chance):
    """kill -9 of the daemon, with QoS 0."""
    yield from daemon_kill(site, chance)


@fault(breaks="postgres", qos=(0,), drops=True)
def qos0_postgres_kill(site, chance):
    """kill -9 of PostgreSQL, with QoS 0."""
    yield from postgres_kill(site, chance)
