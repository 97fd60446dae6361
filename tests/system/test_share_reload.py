"""SIGHUP with another share: the filters of a subscriber become $share/NAME/filter and back, and nothing is lost over it."""
import collections
import os
import re

import pytest

from harness.load import Publisher
from harness.mappings import COUNT, READING, count, reading
from harness.proxy import TO_CLIENT, TO_SERVER
from harness.wait import wait_until

PLAIN, SHARED = "count/+", "$share/g/count/+"
UNSUBACK = re.compile(rb"\xb0[\x02\x04]")
NOT_AUTHORIZED = 0x87


def share(daemon, name):
    daemon.configuration.set("subscriber site", share=name)


def wait_filters(broker, *filters):
    """Until these are what the daemon's session has, and no others."""
    wait_until(lambda: broker.sessions and set(next(iter(broker.sessions.values())).subscriptions) == set(filters),
               f"a session with {filters}")


@pytest.mark.parametrize("before, after", [("", "g"), ("g", ""), ("g", "h")])
def test_the_new_filter_is_there_before_the_old_one_goes(make_daemon, broker, before, after):
    daemon = make_daemon(broker, [COUNT], conf={"subscriber site": {"share": before}})
    old, new = (f"$share/{name}/{PLAIN}" if name else PLAIN for name in (before, after))
    connection = broker.wait_subscribed(old)
    since = len(broker.log)
    share(daemon, after)
    daemon.reload()
    wait_filters(broker, new)
    asked = [entry.packet for entry in broker.log[since:] if entry.way == ">" and "SUB" in entry.packet.kind]
    assert [(packet.kind, list(packet.filters)) for packet in asked] == [("SUBSCRIBE", [new]), ("UNSUBSCRIBE", [old])]
    assert len(broker.connections) == 1 and connection.open


@pytest.mark.parametrize("dies", [False, True])
@pytest.mark.parametrize("before, after", [("", "g"), ("g", "")])
def test_back_again_before_it_is_known_that_the_old_filter_is_gone(make_daemon, broker, make_proxy, database, before,
                                                                   after, dies):
    """The broker has unsubscribed it, and its answer is lost: it is subscribed again."""
    proxy = make_proxy(broker.port)
    daemon = make_daemon(proxy, [COUNT], conf={"subscriber site": {"share": before}})
    old, new = (f"$share/{name}/{PLAIN}" if name else PLAIN for name in (before, after))
    broker.wait_subscribed(old)
    proxy.when(UNSUBACK, TO_CLIENT, "hold")
    share(daemon, after)
    daemon.reload()
    wait_filters(broker, new)
    wait_until(lambda: proxy.trips, "the answer")
    share(daemon, before)
    if dies:
        daemon.kill9()
        proxy.release()
        proxy.cut()
        daemon.start()
        daemon.wait_database()
    else:
        daemon.reload()
        proxy.release()
        proxy.cut()
    wait_filters(broker, old)
    broker.wait_done(broker.route("count/1", b"1"))
    assert database.column("SELECT n FROM telemetry.count") == [1]


def test_what_cannot_be_written_down_is_asked_for_again(make_daemon, broker, make_proxy):
    """The same where the daemon dies and its disk is full: what it has written down before is no longer true."""
    proxy = make_proxy(broker.port)
    daemon = make_daemon(proxy, [COUNT])
    broker.wait_subscribed(PLAIN)
    proxy.when(UNSUBACK, TO_CLIENT, "hold")
    mark = daemon.log.mark()
    os.mkdir(daemon.configuration.path("state/site.filters.new"))  # in the way of its next memory
    share(daemon, "g")
    daemon.reload()
    wait_filters(broker, SHARED)
    daemon.log.wait_for("cannot write .*site.filters", mark)
    share(daemon, "")
    daemon.kill9()
    proxy.release()
    proxy.cut()
    daemon.start()
    wait_filters(broker, PLAIN, SHARED)


@pytest.mark.parametrize("how", ["the filter is refused", "there are no shared subscriptions"])
def test_a_filter_that_is_refused_does_not_end_the_old_one(make_daemon, broker, database, how):
    """Messages go on coming by it, until the broker takes the new one."""
    if how == "the filter is refused":
        broker.grant = lambda topic_filter, qos: NOT_AUTHORIZED if topic_filter.startswith("$share/") else qos
    else:
        broker.connack_properties = {"shared_subscription_available": 0}
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed(PLAIN)
    share(daemon, "g")
    for connection in (1, 2):
        mark = daemon.log.mark()
        if connection == 1:
            daemon.reload()
        else:
            broker.drop()
        daemon.log.wait_for(r"'count/\+' stays subscribed", mark)
        broker.wait_done(broker.route("count/1", count(connection)))
    assert database.column("SELECT n FROM telemetry.count ORDER BY n") == [1, 2]
    broker.grant = lambda topic_filter, qos: qos
    broker.connack_properties = {}
    broker.drop()
    wait_filters(broker, SHARED)


# ---- real brokers, under load ----

@pytest.fixture(params=["mosquitto", "built in"])
def upstream(request, make_mosquitto, make_builtin):
    """A broker to subscribe to: Debian's mosquitto, or that of another sensorlogd, which has no database."""
    if request.param == "mosquitto":
        return make_mosquitto()
    return make_builtin(queued_messages=100000)


def stored(database, table):
    return collections.Counter(database.column(f"SELECT n FROM telemetry.{table}"))


class Loads:
    """Readings for a mapping with a key, and for one without."""

    def __init__(self, port):
        self._loads = {"count": Publisher(port, "count/1", count, rate=1000).start(),
                       "reading": Publisher(port, "reading/1", reading, rate=1000).start()}

    def stop(self, database):
        """All that the broker has taken is stored, by key once; returns how often the others are."""
        sent = {table: load.stop() for table, load in self._loads.items()}
        for table, numbers in sent.items():
            wait_until(lambda: set(stored(database, table)) >= numbers, f"all readings in {table}", interval=0.1)
            assert set(stored(database, table)) == numbers
        assert set(stored(database, "reading").values()) == {1}
        assert database.count("sensorlog.reject") == 0
        return stored(database, "count")


def more(daemon, messages=200):
    so_far = daemon.messages()
    wait_until(lambda: daemon.messages() > so_far + messages, "readings")


def test_nothing_is_lost(make_daemon, upstream, database):
    """Without a key some come twice: of the moment when both filters are there."""
    daemon = make_daemon(upstream, [COUNT, READING])
    daemon.wait_subscribed()
    loads = Loads(upstream.port)
    change_the_share(daemon, "g", "", "g", "h", "", "h", "g", "")
    assert max(loads.stop(database).values()) <= 2
    assert daemon.metric("sensorlog_source_connects_total", source="site") == 1


def test_nothing_is_lost_where_others_share(make_daemon, upstream, database):
    """They get some of the messages whenever this one has the share too."""
    other = make_daemon(upstream, [COUNT, READING], conf={
        "postgres": {"writer": "other"}, "subscriber site": {"client_id": "other", "share": "g"}})
    daemon = make_daemon(upstream, [COUNT, READING], conf={"subscriber site": {"share": "g"}})
    for one in (other, daemon):
        one.wait_subscribed()
    loads = Loads(upstream.port)
    change_the_share(daemon, "", "g", "h", "g", "", "g")
    loads.stop(database)


def change_the_share(daemon, *names):
    for name in names:
        more(daemon)
        mark = daemon.log.mark()
        share(daemon, name)
        daemon.reload()
        daemon.log.wait_for("unsubscribed '.*count/", mark)
    more(daemon)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("before, after", [("", "g"), ("g", "")])
def test_what_waits_in_the_broker_comes_though_its_filter_is_gone(make_daemon, upstream, database, before, after,
                                                                  protocol):
    """The window is full, so the broker keeps what came by the old filter. Nothing came by both: each is stored once."""
    daemon = make_daemon(upstream, [COUNT], conf={"subscriber site": {
        "share": before, "window": 100, "protocol": protocol}})
    daemon.wait_subscribed()
    load = Publisher(upstream.port, "count/1", count)
    load.publish_all(1)
    wait_until(lambda: database.count("telemetry.count"), "the table")
    with database.locked("telemetry.count"):
        load.publish_all(500)
        mark = daemon.log.mark()
        share(daemon, after)
        daemon.reload()
        daemon.log.wait_for("unsubscribed '.*count/", mark)
        load.publish_all(500)
    sent = load.stop()
    wait_until(lambda: set(stored(database, "count")) == sent, "all of them", interval=0.1)
    assert set(stored(database, "count").values()) == {1}


@pytest.mark.parametrize("action", ["cut", "forward and cut"])
@pytest.mark.parametrize("asked", ["SUBSCRIBE", "UNSUBSCRIBE"])
def test_nothing_is_lost_where_the_connection_is_or_the_daemon_dies(make_daemon, make_proxy, upstream, database, asked,
                                                                    action):
    """Before the broker has got what is asked, or before its answer is there; and the share changes on, and back."""
    proxy = make_proxy(upstream.port)
    daemon = make_daemon(proxy, [COUNT, READING], conf={"subscriber site": {"share": "a"}})
    daemon.wait_subscribed()
    loads = Loads(upstream.port)
    before = "a"
    for turn in range(4):
        more(daemon)
        name = {"a": "b", "b": "a"}[before]
        passes = f"$share/{name if asked == 'SUBSCRIBE' else before}/"
        proxy.when(re.compile(re.escape(passes).encode()), TO_SERVER, action)
        trips = proxy.trips
        share(daemon, name)
        daemon.reload()
        wait_until(lambda: proxy.trips > trips, f"the {asked}")
        if turn % 2:
            share(daemon, before)
            daemon.kill9()
            daemon.start()
            daemon.wait_database()
        else:
            before = name
        daemon.wait_subscribed()
    more(daemon)
    loads.stop(database)
