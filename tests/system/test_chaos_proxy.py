"""The proxy of tests/chaos does what a fault asks for, at the packet that it names."""
import contextlib
import select
import socket
import sys
import threading

import psycopg2
import pytest

from harness import wire
from harness.client import fresh
from harness.daemon import repository
from harness.wait import PATIENCE, wait_until

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


# ---- before PostgreSQL and a real broker ----


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
        proxy.background.call(lambda: None)  # it has done what it is at
        assert ledger.flying == 1 and ledger.seen == {"t": {b"7"}} and not ledger.acknowledged
        sock.sendall(wire.ack(answer, pid))
        wait_until(lambda: ledger.acknowledged == {"t": {b"7": 1}}, "the acknowledgement to be booked")
        assert ledger.flying == 0


# ---- between two scripted ends: what passes, and what is counted of it ----


class Ends:
    """A client, which is what the daemon is, and its server, whose CONNECT and CONNACK have passed."""

    def __init__(self, make_chaos_proxy, version=4):
        self._ledger, self.version = Ledger(), version
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.proxy = make_chaos_proxy(listener.getsockname()[1], lambda: Mqtt.pair(self._ledger))
            self.client = socket.create_connection(("127.0.0.1", self.proxy.port), PATIENCE)
            listener.settimeout(PATIENCE)
            self.server = listener.accept()[0]
        for sock in (self.client, self.server):
            sock.settimeout(PATIENCE)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.passes(self.client, self.server, wire.connect(version, "daemon"))
        self.passes(self.server, self.client, wire.connack(version))

    def publish(self, n, **how):
        return wire.publish(self.version, "t", b"%d" % n, qos=1, pid=n, **how)

    @staticmethod
    def passes(sender, receiver, data):
        sender.sendall(data)
        assert receive(receiver, len(data)) == data

    def taken(self):
        """Until the proxy has read all that was sent."""
        def unread():
            sockets = [sock for link in list(self.proxy.links) for sock in link.sockets.values() if sock.fileno() >= 0]
            return select.select(sockets, [], [], 0)[0]
        wait_until(lambda: not unread(), "the proxy to read")

    @property
    def ledger(self):
        """As it is when the proxy has done what it is at."""
        self.proxy.background.call(lambda: None)
        return self._ledger

    @property
    def counted(self):
        return self.ledger.delivered["t"]

    @property
    def acknowledged(self):
        return self.ledger.acknowledged.get("t", {})

    def close(self):
        self.client.close()
        self.server.close()


@pytest.fixture
def ends(make_chaos_proxy, version):
    made = Ends(make_chaos_proxy, version)
    yield made
    made.close()


@pytest.fixture
def make_ends(make_chaos_proxy):
    with contextlib.ExitStack() as stack:
        def make():
            made = Ends(make_chaos_proxy)
            stack.callback(made.close)
            return made
        yield make


def receive(sock, length):
    data = b""
    while len(data) < length and (more := sock.recv(length - len(data))):
        data += more
    return data


def rest(sock):
    """(what comes until the end, how it ends)"""
    data = b""
    try:
        while more := sock.recv(4096):
            data += more
    except ConnectionResetError:
        return data, "cut"
    return data, "close"


def is_silent(sock):
    """Nothing is there to be read, not even an end."""
    return not select.select([sock], [], [], 0)[0]


def test_a_packet_is_counted_when_all_of_it_has_passed(ends):
    whole = ends.publish(1)
    for at in range(len(whole)):
        assert ends.counted == 0
        ends.passes(ends.server, ends.client, whole[at:at + 1])
    assert ends.counted == 1 and ends.ledger.seen == {"t": {b"1"}} and ends.ledger.flying == 1
    acknowledgement = wire.ack("PUBACK", 1)
    for at in range(len(acknowledgement)):
        assert not ends.acknowledged
        ends.passes(ends.client, ends.server, acknowledgement[at:at + 1])
    assert ends.acknowledged == {b"1": 1} and ends.ledger.flying == 0


@pytest.mark.parametrize("length", [1, 2, 3, 7, 11, 64, 1000])
def test_pieces_need_not_end_where_packets_do(ends, length):
    data = b"".join(ends.publish(n) for n in range(1, 51))
    for at in range(0, len(data), length):
        ends.passes(ends.server, ends.client, data[at:at + length])
    assert ends.counted == 50
    assert ends.ledger.order("t") == list(range(1, 51))
    ends.passes(ends.client, ends.server, b"".join(wire.ack("PUBACK", n) for n in range(1, 51)))
    assert ends.acknowledged == {b"%d" % n: 1 for n in range(1, 51)}


def test_what_comes_again_is_delivered_twice_and_acknowledged_once(ends):
    ends.passes(ends.server, ends.client, ends.publish(1) + ends.publish(1, dup=True))
    ends.passes(ends.client, ends.server, wire.ack("PUBACK", 1))
    assert ends.counted == 2 and ends.ledger.seen == {"t": {b"1"}}
    assert ends.acknowledged == {b"1": 0} and ends.ledger.order("t") == [1]


@pytest.mark.parametrize("action", ["cut", "close"])
def test_a_cut_at_any_byte_of_a_piece(make_ends, action):
    """So many bytes pass and no more; the packets that are whole in them are counted and no other."""
    one = len(make_ends().publish(1))
    for at in range(3 * one):
        ends = make_ends()
        data = b"".join(ends.publish(n) for n in (1, 2, 3))
        ends.proxy.when(None, TO_CLIENT, action, skip=at)
        ends.server.sendall(data)
        assert rest(ends.client) == (data[:at], action)
        assert ends.counted == at // one, at
        assert ends.proxy.trips == 1


@pytest.mark.parametrize("action", ["cut", "close"])
@pytest.mark.parametrize("place, counted", [("before", 1), ("inside", 1), ("after", 2)])
def test_a_cut_at_a_packet_in_the_middle_of_a_piece(ends, action, place, counted):
    packets = [ends.publish(n) for n in (1, 2, 3)]
    ends.proxy.when("PUBLISH", TO_CLIENT, action, place=place, skip=1)
    ends.server.sendall(b"".join(packets))
    data, how = rest(ends.client)
    assert how == action and ends.counted == counted
    if place == "inside":
        assert data.startswith(packets[0]) and len(packets[0]) < len(data) < len(packets[0] + packets[1])
    else:
        assert data == b"".join(packets[:counted])
    assert rest(ends.server) == (b"", action), "its other end is told in the same way"


@pytest.mark.parametrize("kind", ["PUBLISH", None])
def test_so_many_pass_unharmed(ends, kind):
    """Packets or bytes, whatever pieces they come in."""
    one = len(ends.publish(1))
    ends.proxy.when(kind, TO_CLIENT, "close", skip=7 if kind else 7 * one)
    for first, last in ((1, 1), (2, 4), (5, 7)):
        ends.passes(ends.server, ends.client, b"".join(ends.publish(n) for n in range(first, last + 1)))
    ends.server.sendall(ends.publish(8))
    assert rest(ends.client) == (b"", "close")
    assert ends.counted == 7


@pytest.mark.parametrize("place, counted", [("before", {}), ("inside", {}), ("after", {b"1": 1})])
def test_an_acknowledgement_that_is_cut(ends, place, counted):
    """Within one piece with others, of which those before it are counted."""
    ends.passes(ends.server, ends.client, b"".join(ends.publish(n) for n in (1, 2, 3)))
    ends.proxy.when("PUBACK", TO_SERVER, place=place, skip=1)
    ends.client.sendall(wire.ack("PUBACK", 2) + wire.ack("PUBACK", 1) + wire.ack("PUBACK", 3))
    data, how = rest(ends.server)
    assert how == "cut" and data.startswith(wire.ack("PUBACK", 2))
    assert ends.acknowledged == {b"2": 1, **counted}
    assert ends.ledger.flying == 2 - len(counted)


def test_a_packet_that_began_in_the_piece_before(ends):
    """Its beginning has passed when it is known to end: a cut before it leaves that, and it is not counted."""
    whole = ends.publish(1)
    ends.proxy.when("PUBLISH", TO_CLIENT)
    ends.passes(ends.server, ends.client, whole[:5])
    ends.server.sendall(whole[5:] + ends.publish(2))
    assert rest(ends.client) == (b"", "cut")
    assert ends.counted == 0


def test_two_rules_in_one_piece(ends):
    """What is to happen at a packet happens, and so does what is to happen at a byte behind it."""
    packets = [ends.publish(n) for n in (1, 2, 3)]
    ends.proxy.when(None, TO_CLIENT, "close", skip=len(packets[0] + packets[1]) + 1)
    ends.proxy.when("PUBLISH", TO_CLIENT, "hold", place="after", skip=1)
    ends.server.sendall(b"".join(packets))
    ends.proxy.wait_tripped()
    assert ends.client.recv(4096) == packets[0] + packets[1]
    ends.proxy.mend()
    assert rest(ends.client) == (packets[2][:1], "close")
    assert ends.counted == 2


def test_two_rules_the_other_way_round(ends):
    packets = [ends.publish(n) for n in (1, 2, 3)]
    ends.proxy.when(None, TO_CLIENT, "hold", skip=len(packets[0]) + 1)
    ends.proxy.when("PUBLISH", TO_CLIENT, "close", skip=2)
    ends.server.sendall(b"".join(packets))
    ends.proxy.wait_tripped()
    assert ends.client.recv(4096) == packets[0] + packets[1][:1]
    ends.proxy.mend()
    assert rest(ends.client) == (packets[1][1:], "close")
    assert ends.counted == 2


@pytest.mark.parametrize("reset", [True, False])
def test_all_connections_are_cut(ends, reset):
    ends.passes(ends.server, ends.client, ends.publish(1))
    ends.proxy.cut(reset)
    for sock in (ends.client, ends.server):
        assert rest(sock) == (b"", "cut" if reset else "close")
    assert ends.counted == 1 and not ends.proxy.links


@pytest.mark.parametrize("by_rule", [True, False])
def test_one_end_vanishes_and_the_other_is_not_told(ends, by_rule):
    """What it sends into the void is not counted."""
    if by_rule:
        ends.proxy.when("PUBLISH", TO_CLIENT, "vanish", skip=1, place="after")
        ends.server.sendall(ends.publish(1) + ends.publish(2) + ends.publish(3))
        assert rest(ends.client) == (ends.publish(1) + ends.publish(2), "cut")
    else:
        ends.passes(ends.server, ends.client, ends.publish(1) + ends.publish(2))
        ends.proxy.vanish(TO_CLIENT)
        assert rest(ends.client) == (b"", "cut")
    ends.server.sendall(ends.publish(4))
    ends.taken()
    assert is_silent(ends.server) and ends.counted == 2
    ends.proxy.mend()
    assert rest(ends.server) == (b"", "cut")


@pytest.mark.parametrize("directions, counted", [((), (0, 0)), ((TO_CLIENT,), (0, 1)), ((TO_SERVER,), (1, 0))])
def test_what_is_held_passes_when_it_is_released(ends, directions, counted):
    ends.passes(ends.server, ends.client, ends.publish(7))
    ends.proxy.hold(*directions)
    ends.server.sendall(ends.publish(8))
    ends.client.sendall(wire.ack("PUBACK", 7))
    ends.taken()
    for sock, passed in ((ends.client, counted[0]), (ends.server, counted[1])):
        if passed:
            assert sock.recv(1)
        else:
            assert is_silent(sock)
    assert (ends.counted - 1, len(ends.acknowledged)) == counted
    ends.proxy.mend()
    left = [ends.publish(8)[counted[0]:], wire.ack("PUBACK", 7)[counted[1]:]]
    assert [receive(sock, len(data)) for sock, data in zip((ends.client, ends.server), left)] == left
    assert ends.counted == 2 and ends.acknowledged == {b"7": 1}


def test_what_is_held_and_cut_is_not_counted(ends):
    ends.proxy.when("PUBLISH", TO_CLIENT, "hold", skip=1)
    ends.server.sendall(ends.publish(1) + ends.publish(2))
    ends.proxy.wait_tripped()
    ends.server.sendall(ends.publish(3))
    ends.proxy.cut()
    assert rest(ends.client) == (ends.publish(1), "cut")
    assert ends.counted == 1


def test_what_is_late_is_counted_when_it_arrives(ends):
    """Its sender has been told that the connection is gone."""
    ends.passes(ends.server, ends.client, ends.publish(1))
    ends.proxy.when("PUBACK", TO_SERVER, "late")
    ends.client.sendall(wire.ack("PUBACK", 1))
    assert rest(ends.client) == (b"", "cut")
    assert is_silent(ends.server) and not ends.acknowledged
    ends.proxy.mend()
    assert rest(ends.server) == (wire.ack("PUBACK", 1), "close")
    assert ends.acknowledged == {b"1": 1}


_HOUR = 3600


@pytest.mark.parametrize("slow, passed", [({"delay": _HOUR}, False), ({"rate": 1 / _HOUR}, False),
                                          ({"delay": 0.001}, True), ({"rate": 1e6}, True)])
def test_what_is_slow_comes_whole_and_once(ends, slow, passed):
    """Also what is under way when the proxy is mended; what is not yet through is not counted."""
    data = wire.publish(ends.version, "t", b"x" * 5000, qos=1, pid=1) + ends.publish(2)
    vars(ends.proxy).update(slow)
    ends.server.sendall(data)
    if not passed:
        ends.taken()
        assert is_silent(ends.client) and ends.counted == 0
        ends.proxy.mend()
    assert receive(ends.client, len(data)) == data
    assert ends.counted == 2


def test_what_the_kernel_has_no_room_for_is_not_counted(ends):
    """A reader that does not read, and then a cut."""
    one, many = wire.publish(ends.version, "t", bytes(1000), qos=1, pid=1), 60000
    counts = [-1, 0]

    def send():
        with contextlib.suppress(OSError):
            ends.server.sendall(one * many)

    def rests():
        counts.append(ends.counted)
        return counts[-1] == counts[-2] > 0

    sender = threading.Thread(target=send)
    sender.start()
    wait_until(rests, "the way to be full", interval=0.1)
    ends.proxy.cut(reset=False)
    data, _ = rest(ends.client)
    sender.join()
    assert ends.counted == len(data) // len(one) < many


def test_what_is_refused(ends):
    ends.proxy.refusing = True
    with contextlib.suppress(ConnectionResetError), \
            socket.create_connection(("127.0.0.1", ends.proxy.port), PATIENCE) as other:
        assert rest(other) == (b"", "cut")
    ends.passes(ends.server, ends.client, ends.publish(1))
