"""QoS 2 between a scripted broker and the daemon: one exchange step by step, and streams of them."""
import collections
import itertools

from . import wire
from .mappings import count
from .wait import wait_until


def qos2(version=5, **keys):
    """The configuration of the subscriber."""
    return {"subscriber site": {"qos": 2, "protocol": "5" if version == 5 else "3.1.1", **keys}}


def connections(broker):
    return len([one for one in broker.connections if one.session])


def restart(daemon, broker):
    """kill -9, and the next life's connection."""
    before = connections(broker)
    daemon.kill9()
    daemon.start()
    return broker.wait_connected(before + 1)


def reconnect(connection):
    before = connections(connection.broker)
    connection.close(reset=True)
    return connection.broker.wait_connected(before + 1)


def comes_again(connection, pid):
    """The broker has not seen the PUBREC: it will deliver the message again."""
    connection.session.in_flight[pid].received = False


def identifiers(database):
    return database.column("SELECT packet_id FROM sensorlog.exchange ORDER BY packet_id")


def wait_for_identifiers(database, *wanted):
    wait_until(lambda: identifiers(database) == list(wanted), f"the identifiers {wanted}")


def wait_packets(connection, kind, *pids):
    wait_until(lambda: [packet.pid for packet in connection.of_kind(kind)] == list(pids), f"{kind} {pids}")


def receive(connection, pid, n=1, dup=False):
    """One message as far as PUBREC; the broker is not to answer it."""
    before = len(connection.of_kind("PUBREC"))
    delivery = connection.publish("count/1", count(n), qos=2, pid=pid, dup=dup)
    wait_until(lambda: len(connection.of_kind("PUBREC")) == before + 1, "PUBREC")
    return delivery


def release(connection, pid):
    """PUBREL; the reason of the PUBCOMP."""
    before = len(connection.of_kind("PUBCOMP"))
    connection.send(wire.ack("PUBREL", pid))
    wait_until(lambda: len(connection.of_kind("PUBCOMP")) == before + 1, "PUBCOMP")
    packet = connection.of_kind("PUBCOMP")[-1]
    assert packet.pid == pid
    return packet.code


def stored(database):
    return database.count("telemetry.count")


class Stream:
    """Messages for the mapping COUNT, of which ten are under way at a time; constant: all are the same."""

    def __init__(self, broker, constant):
        self.broker = broker
        self.sent = []
        self._payload = (lambda _n: count(1)) if constant else count
        self._numbers = itertools.count()
        broker.window = 10

    def send(self, number):
        self.sent += [one for n in itertools.islice(self._numbers, number)
                      for one in self.broker.route("count/1", self._payload(n), qos=2)]

    @property
    def done(self):
        return sum(one.done for one in self.sent)

    def check(self, database):
        """Each is there once, and no exchange is open."""
        self.broker.wait_done(self.sent)
        sent = collections.Counter(one.payload.decode() for one in self.sent)
        rows = collections.Counter(database.column("SELECT n::text FROM telemetry.count"))
        assert not (sent - rows or rows - sent), f"lost: {sent - rows}, stored twice: {rows - sent}"
        assert identifiers(database) == []
