"""The subscriber's QoS 2: exactly once over restarts of the daemon, of PostgreSQL and of connections, as far as the broker
keeps the protocol. The table has no key, and mostly all messages are the same, so nothing else could tell two apart."""
import collections
import itertools
import os

import pytest

from harness import wire
from harness.broker import Delivery
from harness.exchanges import (Stream, comes_again, connections, identifiers, qos2, receive, reconnect, release, restart,
                               stored, wait_for_identifiers, wait_packets)
from harness.mappings import COUNT, count, text_mapping
from harness.proxy import COMMIT_REQUEST, TO_SERVER
from harness.sensor import Sensor
from harness.wait import wait_until


@pytest.fixture
def daemon(make_daemon, broker, version):
    """It is subscribed, and its table is there."""
    made = make_daemon(broker, [COUNT], conf=qos2(version))
    made.wait_subscribed()
    broker.wait_subscribed()
    return made


# One exchange, over restarts


def test_a_publish_that_comes_again_after_a_restart(daemon, broker, database):
    """PUBREC was lost with the daemon."""
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    receive(connection, 7)
    comes_again(connection, 7)
    again = restart(daemon, broker)
    wait_packets(again, "PUBREC", 7)
    assert daemon.messages("deduplicated") == 1
    assert release(again, 7) == 0
    assert identifiers(database) == []
    broker.release_qos2 = True
    broker.wait_done([again.publish("count/1", count(1), qos=2, pid=7)])
    assert stored(database) == 2, "after PUBCOMP the identifier is that of a new message"


def test_a_pubrel_that_comes_after_a_restart(daemon, broker, database):
    broker.release_qos2 = False
    receive(broker.wait_subscribed(), 7)
    assert identifiers(database) == [7]
    again = restart(daemon, broker)
    wait_packets(again, "PUBCOMP", 7)
    assert identifiers(database) == [], "PUBCOMP means that the identifier may be used again"
    broker.release_qos2 = True
    broker.wait_done([again.publish("count/1", count(1), qos=2, pid=7)])
    assert stored(database) == 2


def test_rejects_have_their_identifier_too(daemon, broker, database):
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    connection.publish("count/1", b"many", qos=2, pid=3)
    wait_packets(connection, "PUBREC", 3)
    comes_again(connection, 3)
    again = restart(daemon, broker)
    wait_packets(again, "PUBREC", 3)
    assert database.count("sensorlog.reject") == 1
    assert release(again, 3) == 0
    assert identifiers(database) == []


def test_what_no_mapping_takes_is_not_in_postgresql(make_daemon, broker, database):
    """The subscription is wider than the mappings: PostgreSQL has nothing to do with what is between."""
    make_daemon(broker, [text_mapping("one", "a/+"), text_mapping("two", "+/b")], conf=qos2())
    broker.release_qos2 = False
    connection = broker.wait_subscribed("+/+")
    connection.publish("x/y", b"1", qos=2, pid=4)
    wait_packets(connection, "PUBREC", 4)
    connection.publish("x/y", b"1", qos=2, pid=4, dup=True)
    wait_packets(connection, "PUBREC", 4, 4)
    assert identifiers(database) == []
    with database.locked("sensorlog.exchange"):
        assert release(connection, 4) == 0, "nothing is to be forgotten, so nothing is waited for"


# The session


def test_a_new_session_begins_anew(daemon, broker, database):
    """Session Present 0: what was stored under the identifiers of the old session says nothing about the new one."""
    broker.release_qos2 = False
    receive(broker.wait_subscribed(), 7)
    receive(broker.wait_subscribed(), 8)
    broker.session_present = False
    again = restart(daemon, broker)
    wait_until(lambda: again.session.subscriptions, "the subscription")
    wait_for_identifiers(database)
    receive(again, 7)
    broker.session_present = None
    comes_again(again, 7)
    again = restart(daemon, broker)
    wait_packets(again, "PUBREC", 7)
    assert stored(database) == 3
    assert identifiers(database) == [7]


def test_a_new_session_in_one_life(daemon, broker, database):
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    receive(connection, 7)
    broker.session_present = False
    again = reconnect(connection)
    wait_until(lambda: again.session.subscriptions, "the subscription")
    wait_for_identifiers(database)
    broker.session_present = None
    again.publish("count/1", count(1), qos=2, pid=7, dup=True)
    wait_packets(again, "PUBREC", 7)
    assert stored(database) == 2


def test_messages_of_a_session_that_has_ended_leave_no_identifier(daemon, broker, database):
    """They commit when their session is gone."""
    connection = broker.wait_subscribed()
    with database.locked("telemetry.count"):
        connection.publish("count/1", count(1), qos=2, pid=5)
        wait_until(database.backends_waiting_for_a_lock, "the transaction to wait")
        broker.session_present = False
        again = reconnect(connection)
        wait_until(lambda: again.session.subscriptions, "the subscription")
    daemon.wait_messages(1, "stored")
    wait_for_identifiers(database)


def test_a_death_at_the_moment_of_a_new_session(daemon, broker, database):
    """It had no time to remember that there is a new session, in which it has not subscribed to anything."""
    daemon.kill9()
    broker.session_present = False
    daemon.start_to_die("session:1")
    daemon.wait_died("session:1")
    broker.session_present = None
    daemon.start()
    connection = broker.wait_subscribed("count/+", count=3)
    broker.wait_done(broker.route("count/1", count(1), qos=2))
    assert connection.connect.clean is False
    assert stored(database) == 1


def test_a_subscriber_that_has_left_the_configuration(make_daemon, make_broker, database):
    """Nobody else would ever forget its identifiers."""
    site, gone = make_broker(), make_broker()
    gone.release_qos2 = False
    daemon = make_daemon({"site": site, "gone": gone}, [COUNT], conf={**qos2(), "subscriber gone": {"qos": 2}})
    receive(gone.wait_subscribed(), 7)
    site.release_qos2 = False
    connection = site.wait_subscribed()
    receive(connection, 8)
    comes_again(connection, 8)
    assert identifiers(database) == [7, 8]
    del daemon.configuration.sections["subscriber gone"]
    daemon.configuration.set("subscriber site")
    daemon.restart()
    wait_for_identifiers(database, 8)


def test_a_file_of_the_release_before(daemon, broker, database):
    """It has no number of the session: it is still believed about the filters, and gets a number."""
    daemon.stop()
    path = daemon.configuration.path("state/site.filters")
    with open(path) as file:
        lines = file.readlines()
    assert lines[0] == "sensorlogd filters 2\n"
    with open(path, "w") as file:
        file.writelines(["sensorlogd filters 1\n", lines[1], *lines[3:]])
    daemon.start()
    broker.release_qos2 = False
    connection = broker.wait_connected(2)
    receive(connection, 7)
    comes_again(connection, 7)
    again = restart(daemon, broker)
    wait_packets(again, "PUBREC", 7)
    assert stored(database) == 1
    assert not connection.of_kind("SUBSCRIBE") and not again.of_kind("SUBSCRIBE")


def test_without_a_state_directory(make_daemon, broker, database):
    """Identifiers are in memory only: once within one life, at least once over several."""
    daemon = make_daemon(broker, [COUNT], conf={**qos2(), "state": {"directory": ""}})
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    receive(connection, 7)
    assert identifiers(database) == []
    comes_again(connection, 7)
    wait_packets(reconnect(connection), "PUBREC", 7)
    assert stored(database) == 1
    comes_again(connection, 7)
    wait_packets(restart(daemon, broker), "PUBREC", 7)
    assert stored(database) == 2


def test_where_the_number_cannot_be_written(daemon, broker, database):
    """The same as without a directory; and what is written of the old session is not believed afterwards."""
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    receive(connection, 7)
    os.mkdir(daemon.configuration.path("state/site.filters.new"))
    broker.session_present = False
    again = reconnect(connection)
    wait_until(lambda: again.session.subscriptions, "the subscription")
    wait_for_identifiers(database)
    receive(again, 7)
    assert identifiers(database) == []
    assert release(again, 7) == 0
    assert os.listdir(daemon.configuration.path("state")) == ["site.filters.new"]
    os.rmdir(daemon.configuration.path("state/site.filters.new"))
    broker.session_present = None
    again = restart(daemon, broker)
    receive(again, 7)
    assert stored(database) == 3
    assert identifiers(database) == [7], "the number could be written again"


# PostgreSQL away


def test_what_comes_before_the_identifiers_are_known(daemon, broker, database, cluster):
    """It may be stored or not: it is held, and nothing else suffers from it."""
    daemon.configuration.set("subscriber site", keepalive=2)
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    receive(connection, 7)
    comes_again(connection, 7)
    cluster.stop()
    again = restart(daemon, broker)
    fresh = again.publish("count/1", count(1), qos=2, pid=8)
    wait_until(lambda: len(again.of_kind("PINGREQ")) >= 3, "three keepalives")
    assert daemon.messages() == 2 and not again.of_kind("PUBREC")
    cluster.start()
    wait_packets(again, "PUBREC", 7, 8)
    assert stored(database) == 2 and not fresh.done
    assert daemon.messages("deduplicated") == 1


def test_a_stop_before_the_identifiers_are_known(daemon, broker, database, cluster):
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    receive(connection, 7)
    comes_again(connection, 7)
    cluster.stop()
    restart(daemon, broker)
    daemon.wait_messages(1)
    daemon.restart()
    cluster.start()
    wait_packets(broker.wait_connected(3), "PUBREC", 7)
    assert stored(database) == 1


def test_a_new_session_before_the_identifiers_are_known(daemon, broker, database, cluster):
    """What waits is of the old one, whose identifiers nobody will forget any more: it leaves none."""
    cluster.stop()
    again = restart(daemon, broker)
    again.publish("count/1", count(1), qos=2, pid=5)
    daemon.wait_messages(1)
    broker.session_present = False
    again = reconnect(again)
    wait_until(lambda: again.session.subscriptions, "the subscription")
    cluster.start()
    daemon.wait_messages(1, "stored")
    assert identifiers(database) == []


def test_a_release_before_the_identifiers_are_known(daemon, broker, database, cluster):
    broker.release_qos2 = False
    receive(broker.wait_subscribed(), 7)
    cluster.stop()
    again = restart(daemon, broker)
    again.publish("count/1", count(1), qos=2, pid=9)
    daemon.wait_messages(1)
    assert not again.of_kind("PUBCOMP")
    cluster.start()
    wait_packets(again, "PUBCOMP", 7)
    wait_for_identifiers(database, 9)


def test_pubcomp_waits_for_the_commit(make_daemon, broker, database, version):
    """PUBREL repeated on a new connection has one answer, and what comes next under its identifier comes after it."""
    daemon = make_daemon(broker, [COUNT], conf=qos2(version, keepalive=2))
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    receive(connection, 7)
    with database.locked("sensorlog.exchange"):
        connection.send(wire.ack("PUBREL", 7))
        wait_until(database.backends_waiting_for_a_lock, "the transaction to wait")
        again = reconnect(connection)
        # The broker mixes up two messages under one identifier, as it must not.
        again.session.in_flight = collections.defaultdict(lambda: Delivery("count/1", count(1), 2, pid=7),
                                                          again.session.in_flight)
        again.publish("count/1", count(1), qos=2, pid=7)
        wait_until(lambda: len(again.of_kind("PINGREQ")) >= 3, "the connection to last while the PUBLISH is held")
        assert daemon.messages() == 1
        assert not connection.of_kind("PUBCOMP") and not again.of_kind("PUBCOMP")
    wait_packets(again, "PUBREC", 7)
    assert [packet.kind for packet in again.packets if packet.kind in ("PUBREC", "PUBCOMP")] == ["PUBCOMP", "PUBREC"]
    assert stored(database) == 2


def test_a_release_of_what_is_not_known(daemon, broker, version):
    connection = broker.wait_subscribed()
    connection.session.in_flight[9] = Delivery("count/1", count(1), qos=2, pid=9, received=True)
    assert (release(connection, 9) or 0) == (0x92 if version == 5 else 0)


def test_a_release_before_its_time_ends_the_connection(daemon, broker, database):
    """PUBREL of what has had no PUBREC: one of the two is confused, and beginning anew mends it."""
    connection = broker.wait_subscribed()
    with database.locked("telemetry.count"):
        connection.publish("count/1", count(1), qos=2, pid=7)
        wait_until(database.backends_waiting_for_a_lock, "the transaction to wait")
        connection.send(wire.ack("PUBREL", 7))
        wait_until(lambda: not connection.open, "the connection to end")
    broker.wait_done(list(connection.session.in_flight.values()))
    assert stored(database) == 1


# Brokers that bend the protocol


def test_again_and_again_on_one_connection(daemon, broker, database):
    """MQTT 5 forbids it, and brokers of 3.1.1 have done so after a time-out: before the commit and after PUBREC."""
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    with database.locked("telemetry.count"):
        for dup in (False, True, True):
            connection.publish("count/1", count(1), qos=2, pid=7, dup=dup)
        daemon.wait_messages(3)
    wait_packets(connection, "PUBREC", 7)
    connection.publish("count/1", count(1), qos=2, pid=7, dup=True)
    wait_packets(connection, "PUBREC", 7, 7)
    connection.publish("count/1", count(1), qos=2, pid=7)
    wait_packets(connection, "PUBREC", 7, 7, 7)
    assert stored(database) == 1
    assert release(connection, 7) == 0
    assert identifiers(database) == []


def test_released_while_its_repetition_waits(daemon, broker, database):
    """The broker repeated a message while our PUBREC was on its way, and releases it then: the repetition's own PUBREC
    waits behind that of another message."""
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    receive(connection, 7)
    with database.locked("telemetry.count"):
        connection.publish("count/1", count(1), qos=2, pid=8)
        wait_until(database.backends_waiting_for_a_lock, "the transaction to wait")
        connection.publish("count/1", count(1), qos=2, pid=7, dup=True)
        connection.send(wire.ack("PUBREL", 7))
        connection.publish("nobody's", b"behind it", qos=0)
        daemon.wait_messages(4)
    wait_packets(connection, "PUBCOMP", 7)
    wait_packets(connection, "PUBREC", 7, 8)
    receive(connection, 7)
    assert stored(database) == 3, "after PUBCOMP the identifier is that of a new message"
    for pid in (8, 7):
        assert release(connection, pid) == 0
    assert connection.open and identifiers(database) == []


def test_a_broker_that_was_set_back(daemon, broker, database):
    """It was killed, and knows nothing of what it sent since it last saved its state: it gives the same identifiers to
    other messages, from the first one after that state on. Those are stored, even if they are equal to the ones
    before."""
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    receive(connection, 6)
    assert release(connection, 6) == 0
    receive(connection, 7)
    receive(connection, 8, n=1)
    connection.session.in_flight.clear()
    again = reconnect(connection)
    for pid in (6, 7):
        receive(again, pid)
    again.publish("count/1", count(2), qos=2, pid=8, dup=True)
    wait_packets(again, "PUBREC", 6, 7, 8)
    assert stored(database) == 6
    assert release(again, 6) == 0
    again.session.in_flight.clear()
    again = restart(daemon, broker)
    again.publish("count/1", count(2), qos=2, pid=8, dup=True)
    wait_packets(again, "PUBREC", 8)
    assert stored(database) == 6, "it is the last one of the identifier that was sent again"
    again = restart(daemon, broker)
    for pid in (6, 7):
        receive(again, pid)
    again.publish("count/1", count(3), qos=2, pid=8, dup=True)
    wait_packets(again, "PUBREC", 6, 7, 8)
    assert stored(database) == 9
    for pid in (6, 7, 8):
        assert release(again, pid) == 0
    assert identifiers(database) == []


def test_a_broker_that_forgets_dup(daemon, broker, database):
    """What it sends again on a new connection comes before anything new, and so is known without DUP."""
    broker.release_qos2 = False
    connection = broker.wait_subscribed()
    for pid in (7, 8):
        receive(connection, pid)
    for begin_again in (lambda: reconnect(connection), lambda: restart(daemon, broker)):
        connection.session.in_flight.clear()
        connection = begin_again()
        for pid in (7, 8):
            receive(connection, pid)
        assert stored(database) == 2
    receive(connection, 9)
    assert stored(database) == 3
    for pid in (7, 8, 9):
        assert release(connection, pid) == 0
    assert identifiers(database) == []


# Under load


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "unique"])
@pytest.mark.parametrize("point", ["receive", "batch", "sent", "committed", "settled", "ack", "acked", "forgotten"])
def test_it_dies_at_every_point(make_daemon, broker, database, point, constant):
    """Several times, early and late in its life; and twice in a row where the next life begins."""
    daemon = make_daemon(broker, [COUNT], conf=qos2(4 if constant else 5))
    broker.wait_subscribed()
    stream = Stream(broker, constant)
    stream.send(20)
    daemon.wait_messages(1, "stored")
    for crossing in (1, 2, 3, 7, 12):
        if daemon.running:
            daemon.kill9()
        stream.send(60)
        daemon.start_to_die(f"{point}:{crossing}")
        daemon.wait_died(f"{point}:{crossing}")
    daemon.start()
    stream.send(20)
    stream.check(database)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "unique"])
def test_everything_fails_in_turn(make_daemon, make_proxy, broker, database, cluster, constant):
    """PostgreSQL is killed, cut off at COMMIT on both sides of it, the connection to the broker is, the daemon is."""
    postgres = make_proxy(cluster.port)
    daemon = make_daemon(broker, [COUNT], conf=qos2(), conninfo=database.conninfo("127.0.0.1", postgres.port))
    broker.wait_subscribed()
    stream = Stream(broker, constant)

    def cut(action):
        trips = postgres.trips
        postgres.when(COMMIT_REQUEST, TO_SERVER, action)
        stream.send(60)
        wait_until(lambda: postgres.trips > trips, "COMMIT to be cut off")

    def kill_postgres():
        cluster.kill9()
        cluster.start()

    def cut_broker():
        broker.wait_connected(connections(broker)).close(reset=True)

    def kill_daemon():
        daemon.kill9()
        daemon.start()

    faults = [kill_postgres, lambda: cut("cut"), cut_broker, kill_daemon, lambda: cut("forward and cut")]
    for first, second in itertools.product(faults, [kill_daemon, cut_broker]):
        before = daemon.messages("stored")
        stream.send(60)
        wait_until(lambda: daemon.messages("stored") > before, "work", interval=0.001)
        first()
        second()
    stream.check(database)


def test_mosquitto(make_daemon, site, database):
    """It keeps the protocol, with a window of its own; its publishers too."""
    daemon = make_daemon(site, [COUNT], conf=qos2())
    daemon.wait_subscribed()
    sensor = Sensor(site.port, 5, "count/1", lambda _n: count(1), 2, rate=300)
    sensor.start()
    try:
        for point in ("committed:3", "ack:4", "acked:5", "forgotten:2", "settled:6", "forgotten:1", "sent:2"):
            daemon.kill9()
            daemon.start_to_die(point)
            daemon.wait_died(point)
        daemon.start()
        daemon.wait_messages(50, "stored")
        wait_until(lambda: len(sensor.acknowledged) > 100 or sensor.violations, "more than a hundred")
        sensor.stop()
        wait_until(lambda: stored(database) >= len(sensor.acknowledged), "everything to be stored",
                   progress=lambda: stored(database))
        wait_for_identifiers(database)
        assert stored(database) == len(sensor.acknowledged) > 100
    finally:
        sensor.end()
