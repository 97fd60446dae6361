"""QoS 2 while PostgreSQL is away and the spool takes its place: exchanges go on and end, over kill -9 of the daemon, and
afterwards everything is in a table without a key exactly once, be all messages the same."""
import pytest

from harness.exchanges import (Stream, comes_again, connections, identifiers, qos2, receive, release, restart,
                               stored, wait_for_identifiers, wait_packets)
from harness.mappings import COUNT, count
from harness.sensor import Sensor
from harness.spool import DIRECT, KEEPING, wait_direct, wait_state
from harness.wait import wait_until

SPOOL = {"spool": {"mode": "outage", "outage_after": "200ms"}}


@pytest.fixture
def daemon(make_daemon, broker, version):
    """It is subscribed, its table is there, and the spool is not in use: on a slow machine the start was an outage."""
    made = make_daemon(broker, [COUNT], conf={**qos2(version), **SPOOL})
    made.wait_subscribed()
    broker.wait_subscribed()
    wait_direct(made)
    broker.release_qos2 = False
    return made


def go_away(daemon, cluster):
    cluster.stop()
    wait_state(daemon, KEEPING)


def come_back(daemon, cluster):
    cluster.start()
    wait_direct(daemon)


def no_outage_any_more(daemon):
    """From the next start on, which may take its time: what comes then goes to PostgreSQL."""
    daemon.configuration.set("spool", outage_after="1h")


def die_before_the_commit(daemon, database, connection, pid):
    """A message whose transaction never ends."""
    with database.locked("telemetry.count"):
        connection.publish("count/1", count(1), qos=2, pid=pid)
        wait_until(database.backends_waiting_for_a_lock, "the transaction to wait")
        daemon.kill9()
        database.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'logger'")
        wait_until(lambda: not database.backends(), "its end")


# One exchange


def test_exchanges_begin_and_end_without_postgresql(daemon, broker, database, cluster):
    connection = broker.wait_subscribed()
    go_away(daemon, cluster)
    for _ in range(3):
        receive(connection, 7)
        assert release(connection, 7) == 0
    receive(connection, 8)
    come_back(daemon, cluster)
    assert stored(database) == 4
    wait_for_identifiers(database, 8)
    assert release(connection, 8) == 0
    assert identifiers(database) == []


@pytest.mark.parametrize("killed", [False, True], ids=["in one life", "in two"])
def test_an_exchange_that_began_before(daemon, broker, database, cluster, killed):
    """PostgreSQL still has the identifier when another message is given it."""
    connection = broker.wait_subscribed()
    receive(connection, 7)
    go_away(daemon, cluster)
    assert release(connection, 7) == 0
    receive(connection, 7)
    if killed:
        comes_again(connection, 7)
        connection = restart(daemon, broker)
        wait_packets(connection, "PUBREC", 7)
    come_back(daemon, cluster)
    assert stored(database) == 2
    assert release(connection, 7) == 0
    assert identifiers(database) == []
    receive(connection, 7)
    assert stored(database) == 3


@pytest.mark.parametrize("killed", [False, True], ids=["in one life", "in two"])
def test_an_exchange_that_began_before_and_ended(daemon, broker, database, cluster, killed):
    """The identifier is not PostgreSQL's any more when it comes back, with or without a message under it."""
    connection = broker.wait_subscribed()
    receive(connection, 7)
    receive(connection, 8)
    go_away(daemon, cluster)
    assert release(connection, 7) == 0
    assert release(connection, 8) == 0
    receive(connection, 7)
    assert release(connection, 7) == 0
    if killed:
        connection = restart(daemon, broker)
    come_back(daemon, cluster)
    assert stored(database) == 3
    assert identifiers(database) == []
    again = connection.publish("count/1", count(1), qos=2, pid=8)
    wait_until(lambda: again.received, "PUBREC")
    assert stored(database) == 4


@pytest.mark.parametrize("killed", [False, True], ids=["in one life", "in two"])
def test_the_next_message_of_which_only_the_repetition_comes(daemon, broker, database, cluster, killed):
    """It has DUP and the content of the one before, whose identifier PostgreSQL still has."""
    connection = broker.wait_subscribed()
    receive(connection, 7)
    go_away(daemon, cluster)
    assert release(connection, 7) == 0
    if killed:
        connection = restart(daemon, broker)
    again = connection.publish("count/1", count(1), qos=2, pid=7, dup=True)
    wait_until(lambda: again.received, "PUBREC")
    come_back(daemon, cluster)
    assert stored(database) == 2
    wait_for_identifiers(database, 7)


# Without PostgreSQL from the start


def test_what_postgresql_has_is_not_stored_again(daemon, broker, database, cluster):
    """Whether it has it is not known when PUBREC is due: it turns out afterwards."""
    connection = broker.wait_subscribed()
    receive(connection, 7)
    comes_again(connection, 7)
    cluster.stop()
    again = restart(daemon, broker)
    again.publish("count/1", count(1), qos=2, pid=8)
    wait_packets(again, "PUBREC", 7, 8)
    assert release(again, 7) == 0
    receive(again, 7)
    come_back(daemon, cluster)
    assert stored(database) == 3
    assert daemon.messages("deduplicated") == 1
    wait_for_identifiers(database, 7, 8)


def test_what_postgresql_does_not_have_is_stored(daemon, broker, database, cluster):
    connection = broker.wait_subscribed()
    die_before_the_commit(daemon, database, connection, 7)
    cluster.stop()
    daemon.start()
    again = broker.wait_connected(2)
    wait_packets(again, "PUBREC", 7)
    comes_again(again, 7)
    wait_packets(restart(daemon, broker), "PUBREC", 7)
    come_back(daemon, cluster)
    assert stored(database) == 1


def test_a_release_without_postgresql(daemon, broker, database, cluster):
    connection = broker.wait_subscribed()
    receive(connection, 7)
    cluster.stop()
    again = restart(daemon, broker)
    wait_packets(again, "PUBCOMP", 7)
    receive(again, 7)
    comes_again(again, 7)
    again = restart(daemon, broker)
    wait_packets(again, "PUBREC", 7)
    come_back(daemon, cluster)
    assert stored(database) == 2
    wait_for_identifiers(database, 7)


def test_a_release_when_the_spool_has_messages_at_the_start(daemon, broker, database, cluster):
    """PostgreSQL has identifiers that the file does not know: they end too, and what comes next under one is new."""
    connection = broker.wait_subscribed()
    receive(connection, 6)
    receive(connection, 7)
    go_away(daemon, cluster)
    receive(connection, 8)
    again = restart(daemon, broker)
    wait_packets(again, "PUBCOMP", 6, 7, 8)
    receive(again, 6, dup=True)
    come_back(daemon, cluster)
    assert stored(database) == 4
    wait_for_identifiers(database, 6)
    assert release(again, 6) == 0
    assert identifiers(database) == []


def test_what_waits_because_nothing_is_known(daemon, broker, database, cluster):
    """The spool does not take it before the outage is one, and PostgreSQL comes back before that."""
    no_outage_any_more(daemon)
    connection = broker.wait_subscribed()
    receive(connection, 7)
    comes_again(connection, 7)
    cluster.stop()
    again = restart(daemon, broker)
    again.publish("count/1", count(1), qos=2, pid=8)
    daemon.wait_messages(2)
    assert not again.of_kind("PUBREC")
    cluster.start()
    wait_packets(again, "PUBREC", 7, 8)
    assert stored(database) == 2


@pytest.mark.parametrize("at_once", [10000, 16], ids=["all at once", "bit by bit"])
def test_a_full_spool(daemon, broker, database, cluster, at_once):
    """What finds no room is judged when PostgreSQL is back: if it is stored, then not again, by way of the spool or past
    it."""
    daemon.configuration.set("spool", max_bytes="1MiB")
    daemon.configuration.set("batch", max_rows=at_once)
    connection = broker.wait_subscribed()
    receive(connection, 700)
    cluster.stop()
    daemon.kill9()
    broker.connections[-1].close(reset=True)
    # What comes again, comes behind what fills the spool.
    held = connection.session.in_flight.pop(700)
    filling = [broker.route("count/1", b"%d" % n + b" " * 10000, qos=2)[0] for n in range(150)]
    daemon.start()
    again = broker.wait_connected(2)
    wait_until(lambda: sum(one.received for one in filling) > 60, "the spool to be full")
    again.session.in_flight[700] = held
    again.deliver(held, dup=True)
    daemon.wait_messages(151)
    come_back(daemon, cluster)
    wait_until(lambda: held.received and all(one.received for one in filling), "PUBREC for all")
    assert stored(database) == 151


# After it


def test_a_spooled_message_that_comes_again_when_all_is_stored(daemon, broker, database, cluster):
    connection = broker.wait_subscribed()
    go_away(daemon, cluster)
    receive(connection, 7)
    come_back(daemon, cluster)
    comes_again(connection, 7)
    no_outage_any_more(daemon)
    again = restart(daemon, broker)
    wait_packets(again, "PUBREC", 7)
    assert stored(database) == 1
    assert release(again, 7) == 0
    assert identifiers(database) == []


def test_the_next_message_under_the_identifier_of_a_spooled_one(daemon, broker, database, cluster):
    """It is not taken for the one before, though it comes again and is the same."""
    connection = broker.wait_subscribed()
    go_away(daemon, cluster)
    receive(connection, 7)
    come_back(daemon, cluster)
    assert release(connection, 7) == 0
    die_before_the_commit(daemon, database, connection, 7)
    no_outage_any_more(daemon)
    daemon.start()
    wait_packets(broker.wait_connected(2), "PUBREC", 7)
    assert stored(database) == 2


def test_the_next_message_under_an_identifier_that_was_void(daemon, broker, database, cluster):
    """That it was is not said any more when PostgreSQL has it again."""
    connection = broker.wait_subscribed()
    receive(connection, 7)
    go_away(daemon, cluster)
    assert release(connection, 7) == 0
    come_back(daemon, cluster)
    assert identifiers(database) == []
    receive(connection, 7)
    comes_again(connection, 7)
    no_outage_any_more(daemon)
    wait_packets(restart(daemon, broker), "PUBREC", 7)
    assert stored(database) == 2


def test_a_new_session_without_postgresql(daemon, broker, database, cluster):
    """What the old one left, in PostgreSQL and in the spool, says nothing about it and goes."""
    connection = broker.wait_subscribed()
    receive(connection, 7)
    go_away(daemon, cluster)
    receive(connection, 8)
    broker.session_present = False
    again = restart(daemon, broker)
    wait_until(lambda: again.session.subscriptions, "the subscription")
    broker.session_present = None
    receive(again, 7)
    receive(again, 8)
    for pid in (7, 8):
        comes_again(again, pid)
    wait_packets(restart(daemon, broker), "PUBREC", 7, 8)
    come_back(daemon, cluster)
    assert stored(database) == 4
    wait_for_identifiers(database, 7, 8)
    assert len(set(database.column("SELECT session FROM sensorlog.exchange"))) == 1


# Under load


POINTS = ["receive", "spool-put", "spool-write", "spool-durable", "ack", "acked", "epoch", "spool-read", "batch", "sent",
          "committed", "spool-drained", "settled", "spool-deleted", "forgotten"]


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "unique"])
@pytest.mark.parametrize("point", POINTS)
def test_it_dies_at_every_point(make_daemon, broker, database, cluster, point, constant):
    """In outages and as they end."""
    daemon = make_daemon(broker, [COUNT], conf={**qos2(4 if constant else 5), **SPOOL, "batch": {"max_rows": 16}})
    broker.wait_subscribed()
    stream = Stream(broker, constant)

    def died():
        if stream.done == len(stream.sent):
            stream.send(10)
        return not daemon.running

    stream.send(30)
    daemon.wait_messages(1, "stored")
    for crossing in (1,) if point == "epoch" else (1, 2, 3):
        cluster.stop()
        done = stream.done
        stream.send(60)
        wait_until(lambda: stream.done > done + 20, "exchanges to end without PostgreSQL")
        daemon.kill9()
        stream.send(60)
        lives = connections(broker)
        daemon.start_to_die(f"{point}:{crossing}")
        wait_until(lambda lives=lives: connections(broker) > lives or not daemon.running, "messages, before PostgreSQL")
        cluster.start()
        wait_until(died, f"the daemon to die at {point}")
        daemon.wait_died(point)
        cluster.stop()
        daemon.start()
    cluster.start()
    stream.send(20)
    broker.wait_done(stream.sent)
    wait_state(daemon, DIRECT)
    stream.check(database)


@pytest.mark.parametrize("constant", [True, False], ids=["constant", "unique"])
def test_sensors_at_the_built_in_broker(make_builtin, database, cluster, version, constant):
    site = make_builtin(database, [COUNT], conf=SPOOL)
    site.daemon.wait_database()
    sensor = Sensor(site.port, version, "count/1", lambda n: count(1 if constant else n), 2, rate=200)
    sensor.start()

    def go_on():
        known = len(sensor.acknowledged) + 30
        wait_until(lambda: len(sensor.acknowledged) > known or sensor.violations, "acknowledgements")

    try:
        go_on()
        for deaths in (0, 1, 2):
            cluster.stop()
            go_on()
            for _ in range(deaths):
                site.daemon.kill9()
                site.daemon.start()
                go_on()
            cluster.start()
            if deaths == 2:
                site.daemon.kill9()
                site.daemon.start()
            go_on()
        sensor.stop()
        wait_state(site.daemon, DIRECT)
        rows = database.column("SELECT n FROM telemetry.count ORDER BY n")
        assert rows == sorted(1 if constant else n for n in sensor.acknowledged)
        wait_for_identifiers(database)
    finally:
        sensor.end()
