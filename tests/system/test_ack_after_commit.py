"""No acknowledgement before the commit, and then all of them, in order."""
import pytest

from harness.broker import Delivery
from harness.mappings import COUNT, READING, count, reading, text_mapping
from harness.wait import wait_until


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("qos", [1, 2])
def test_while_the_table_is_locked_nothing_is_acknowledged(make_daemon, broker, database, protocol, qos):
    daemon = make_daemon(broker, [COUNT], conf={"subscriber site": {"protocol": protocol, "qos": qos}})
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0), qos=qos))
    acknowledged = len(broker.acknowledged())
    with database.locked("telemetry.count"):
        deliveries = [one for n in range(1, 101) for one in broker.route("count/1", count(n), qos=qos)]
        daemon.wait_messages(101)
        wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")
        assert len(broker.acknowledged()) == acknowledged
        assert daemon.metric("sensorlog_messages_pending") == 100
        wait_until(database.backends_waiting_for_a_lock, "the daemon, which waits still")
    broker.wait_done(deliveries)
    assert broker.acknowledged()[acknowledged:] == [delivery.pid for delivery in deliveries]
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == list(range(101))


def test_acknowledgements_keep_their_order_over_several_connections(make_daemon, broker, database):
    """A later message whose own commit is done waits for the earlier one."""
    daemon = make_daemon(broker, [text_mapping("slow", "slow"), text_mapping("quick", "quick/+")],
                         conf={"postgres": {"connections": 4}})
    broker.wait_subscribed()
    wait_until(lambda: len(database.backends()) >= 4, "four connections")
    with database.locked("telemetry.slow"):
        deliveries = broker.route("slow", b"0")
        wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")
        for n in range(1, 51):
            deliveries += broker.route("quick/1", count(n))
        wait_until(lambda: database.count("telemetry.quick") == 50, "the other connections to commit")
        assert not broker.acknowledged()
    broker.wait_done(deliveries)
    assert broker.acknowledged() == [delivery.pid for delivery in deliveries]
    assert daemon.messages("stored") == 51


def test_an_acknowledged_row_is_committed(make_daemon, broker, database):
    """Whatever has been acknowledged when one looks is there when one looks after it."""
    make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.window = 50
    deliveries = [one for n in range(3000) for one in broker.route("count/1", count(n))]
    while not all(delivery.done for delivery in deliveries):
        acknowledged = [int(delivery.payload) for delivery in deliveries if delivery.done]
        there = set(database.column("SELECT n FROM telemetry.count"))
        assert there.issuperset(acknowledged)
    assert database.count("telemetry.count") == 3000


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_full_window_starts_a_commit_and_no_timer_does(make_daemon, broker, protocol):
    """A sender with 20 in flight waits for nobody's clock: there are rounds in which the loop has seen no timer at all.
    Timers of other purposes fire now and then."""
    daemon = make_daemon(broker, [COUNT], conf={"subscriber site": {"protocol": protocol, "keepalive": 600}})
    broker.window = 20
    broker.wait_subscribed()
    broker.wait_done(broker.route("count/1", count(0)))
    seen = [daemon.metrics()]

    def increase(name):
        return seen[-1].total(name) - seen[-2].total(name)

    def has_no_timer(n):
        broker.wait_done([one for _ in range(20) for one in broker.route("count/1", count(n))])
        seen.append(daemon.metrics())
        assert increase("sensorlog_commits_total") > 0
        return increase("sensorlog_loop_timer_events_total") == 0

    rounds = []
    wait_until(lambda: rounds.append(has_no_timer(len(rounds))) or sum(rounds) >= 25, "25 rounds without a timer",
               interval=0)
    by_timer = "sensorlog_commits_by_timer_total"
    assert seen[-1].total(by_timer) == seen[0].total(by_timer)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_queue_behind_the_window_flows(make_daemon, broker, protocol):
    """The same with a queue that never runs dry, as a real broker's."""
    daemon = make_daemon(broker, [COUNT], conf={"subscriber site": {"protocol": protocol}})
    broker.window = 20
    broker.wait_subscribed()
    deliveries = [one for n in range(2000) for one in broker.route("count/1", count(n))]
    broker.wait_done(deliveries)
    metrics = daemon.metrics()
    assert metrics.total("sensorlog_commits_total") >= 100, "each window takes at least one commit"
    assert metrics.total("sensorlog_commits_by_timer_total") == 0


def test_a_full_window_ends_lingering(make_daemon, broker):
    """linger gathers for the flash's sake, but not while the sender can send no more."""
    daemon = make_daemon(broker, [COUNT], conf={"subscriber site": {"window": 20}, "batch": {"linger": "60s"}})
    broker.wait_subscribed()
    for _ in range(10):
        broker.wait_done([one for n in range(20) for one in broker.route("count/1", count(n))])
    metrics = daemon.metrics()
    assert metrics.total("sensorlog_window_full_total", source="site") >= 10
    assert metrics.total("sensorlog_commits_by_timer_total") == 0


def test_qos_2_is_stored_once_by_its_packet_id(make_daemon, broker, database):
    """A repeat before PUBREL is acknowledged and not stored; after PUBCOMP the same id is a new message."""
    make_daemon(broker, [COUNT], conf={"subscriber site": {"qos": 2}})
    connection = broker.wait_subscribed()
    broker.release_qos2 = False
    for dup in (False, True):
        connection.publish("count/1", count(1), qos=2, pid=77, dup=dup)
        wait_until(lambda: len(connection.of_kind("PUBREC")) == 1 + dup, "PUBREC")
    connection.send(bytes.fromhex("6202004d"))  # PUBREL
    wait_until(lambda: connection.of_kind("PUBCOMP"), "PUBCOMP")
    assert database.column("SELECT n FROM telemetry.count") == [1]
    broker.release_qos2 = True
    broker.wait_done([connection.publish("count/1", count(2), qos=2, pid=77)])
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == [1, 2]


def test_pubrel_of_an_unknown_id_is_answered(make_daemon, broker):
    """After a restart the other side may still be at the second half of an old exchange."""
    make_daemon(broker, [COUNT], conf={"subscriber site": {"protocol": "3.1.1", "qos": 2}})
    connection = broker.wait_subscribed()
    connection.session.in_flight[9] = Delivery("count/1", count(1), qos=2, pid=9, received=True)
    connection.send(bytes.fromhex("62020009"))
    wait_until(lambda: [packet.pid for packet in connection.of_kind("PUBCOMP")] == [9], "PUBCOMP")


def test_qos_0_is_stored_too(make_daemon, broker, database):
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    broker.route("count/1", count(1), qos=0)
    daemon.wait_messages(1, "stored")
    assert database.column("SELECT n FROM telemetry.count") == [1]
    assert not broker.acknowledged()


def test_a_redelivery_with_a_key_changes_nothing(make_daemon, broker, database):
    """DUP or not, the key decides: the second copy is DEDUPLICATED, and acknowledged."""
    daemon = make_daemon(broker, [READING])
    connection = broker.wait_subscribed()
    for dup in (False, True, False):
        broker.wait_done([connection.publish("reading/1", reading(5), dup=dup)])
    assert database.count("telemetry.reading") == 1
    assert daemon.messages("stored") == 1
    assert daemon.messages("deduplicated") == 2


def test_dup_alone_drops_nothing(make_daemon, broker, database):
    """Without a key two equal messages are two readings, whatever DUP says."""
    make_daemon(broker, [COUNT])
    connection = broker.wait_subscribed()
    broker.wait_done([connection.publish("count/1", count(5), dup=dup) for dup in (False, True)])
    assert database.count("telemetry.count") == 2
