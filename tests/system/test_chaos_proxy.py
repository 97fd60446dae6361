"""The proxy of tests/chaos does what a fault asks for, at the packet that it names."""
import contextlib
import socket
import sys

import psycopg2
import pytest

from harness import wire
from harness.client import fresh
from harness.daemon import repository
from harness.wait import wait_until

sys.path.insert(0, repository("tests"))
from chaos.background import Background  # noqa: E402
from chaos.packets import Ledger, Mqtt, Postgres  # noqa: E402
from chaos.proxy import TO_CLIENT, TO_SERVER, Proxy  # noqa: E402


@pytest.fixture
def make_chaos_proxy():
    background, made = Background(), []

    def make(port, parsers):
        made.append(Proxy(background, port, parsers))
        return made[-1]

    yield make
    for one in made:
        one.close()
    background.close()


@pytest.fixture
def way(make_chaos_proxy, cluster, database):
    """To PostgreSQL, where there is a table."""
    database.query("CREATE TABLE t (n int); GRANT ALL ON t TO logger")
    return make_chaos_proxy(cluster.port, Postgres.pair)


@contextlib.contextmanager
def _inserted(way, database):
    """A connection whose transaction has inserted a row."""
    with contextlib.closing(psycopg2.connect(database.conninfo("127.0.0.1", way.port))) as connection:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO t VALUES (1)")
        yield connection


def _nobody_is_left(database):
    wait_until(lambda: not database.backends(), "the server process to end")


@pytest.mark.parametrize("direction, place, committed", [
    (TO_SERVER, "before", 0), (TO_SERVER, "inside", 0), (TO_SERVER, "after", 1), (TO_CLIENT, "before", 1)])
def test_a_cut_at_commit(way, database, direction, place, committed):
    with _inserted(way, database) as connection:
        way.when("COMMIT", direction, place=place)
        with pytest.raises(psycopg2.OperationalError):
            connection.commit()
    _nobody_is_left(database)
    assert (database.count("t"), way.trips) == (committed, 1)


def test_a_commit_that_arrives_when_its_sender_is_gone(way, database):
    with _inserted(way, database) as connection:
        way.when("COMMIT", TO_SERVER, "late")
        with pytest.raises(psycopg2.OperationalError):
            connection.commit()
    assert database.count("t") == 0 and database.backends()
    way.mend()
    _nobody_is_left(database)
    assert database.count("t") == 1


def test_a_server_whose_client_has_vanished_is_not_told(way, database):
    with _inserted(way, database) as connection:
        way.vanish(TO_CLIENT)
        with pytest.raises(psycopg2.OperationalError):
            connection.commit()
    assert database.backends("state = 'idle in transaction'")
    way.mend()
    _nobody_is_left(database)


def test_bytes_are_counted(way, database):
    with _inserted(way, database) as connection, connection.cursor() as cursor:
        way.when(None, TO_SERVER, skip=1000)
        cursor.execute("SELECT 1 --" + "x" * 500)
        assert way.trips == 0
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("SELECT 1 --" + "x" * 500)
        assert way.trips == 1


@pytest.mark.parametrize("qos, answer", [(1, "PUBACK"), (2, "PUBREC")])
def test_the_ledger_knows_what_was_acknowledged(make_chaos_proxy, site, version, qos, answer):
    """To a subscriber, which is what the daemon is."""
    ledger = Ledger()
    proxy = make_chaos_proxy(site.port, lambda: Mqtt.pair(ledger))
    with contextlib.closing(socket.create_connection(("127.0.0.1", proxy.port))) as sock:
        stream, packets = wire.ServerStream(version), []

        def comes(kind):
            while not (found := [packet for packet in packets if packet.kind == kind]):
                packets.extend(stream.feed(sock.recv(4096)))
            return found[0]

        sock.sendall(wire.connect(version, fresh("ledger")) + wire.subscribe(version, 1, [("t", qos)]))
        comes("SUBACK")
        sock.sendall(wire.publish(version, "t", b"7", qos=qos, pid=9) + (wire.ack("PUBREL", 9) if qos == 2 else b""))
        pid = comes("PUBLISH").pid
        assert ledger.flying == 1 and ledger.seen == {"t": {b"7"}} and not ledger.acknowledged
        sock.sendall(wire.ack(answer, pid))
        wait_until(lambda: ledger.acknowledged == {"t": {b"7": 1}}, "the acknowledgement to be booked")
        assert ledger.flying == 0
