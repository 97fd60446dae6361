"""SIGHUP: the configuration is read again while readings arrive."""
import collections
import re

import pytest

from harness.load import Publisher, mqtt_publish
from harness.mappings import COUNT, count, text_mapping
from harness.wait import wait_until

QUOTA = 0x97


def changing(generation, topic_filter="count/+"):
    """A mapping that has another constant and, every other time, another column each time; no key."""
    extra = f"""{{ name = "extra{generation}"; type = "text"; value = "of {generation}"; }},""" if generation % 2 else ""
    return f"""{{
    name = "changing";
    filter = "{topic_filter}";
    decoder = "text";
    table = "changing";
    columns = (
      {extra}
      {{ name = "generation"; type = "int4"; value = "{generation}"; }},
      {{ name = "n"; type = "int8"; from = "value"; required = true; }}
    );
  }}"""


def stored(database, table):
    return collections.Counter(database.column(f"SELECT n FROM telemetry.{table}"))


def wait_once_each(database, table, sent):
    """Until the table has each of these numbers, and then: each once."""
    wait_until(lambda: set(stored(database, table)) >= sent, f"all readings in {table}", interval=0.1,
               progress=lambda: database.count(f"telemetry.{table}"))
    rows = stored(database, table)
    assert set(rows) == sent
    assert [n for n, copies in rows.items() if copies > 1] == []


class Site:
    """A daemon that readings reach: as a subscriber behind mosquitto, or by its own broker."""

    def __init__(self, daemon, port, source):
        self.daemon, self.port, self.source = daemon, port, source
        self.configuration = daemon.configuration
        self.log = daemon.log

    def connects(self):
        if self.source == "broker":
            return self.daemon.metric("sensorlog_broker_connections_total")
        return self.daemon.metric("sensorlog_source_connects_total", source=self.source)


@pytest.fixture(params=["subscriber", "broker"])
def make_site(request, make_daemon, make_builtin, database):
    def make(*mappings, **conf):
        if request.param == "broker":
            built_in = make_builtin(database, mappings, conf=conf)
            return Site(built_in.daemon, built_in.port, "broker")
        mosquitto = request.getfixturevalue("site")
        daemon = make_daemon(mosquitto, mappings, conf=conf)
        daemon.wait_subscribed()
        return Site(daemon, mosquitto.port, "site")
    return make


@pytest.mark.parametrize("connections", [1, 3])
def test_mappings_change_under_load(make_site, database, connections):
    """One mapping stays as it is, one is another each time, one comes and goes; no reading is lost, none comes twice."""
    site = make_site(COUNT, changing(0), postgres={"connections": connections})
    load = Publisher(site.port, "count/1", count).start()
    for generation in range(1, 13):
        so_far = site.daemon.messages("stored")
        wait_until(lambda: site.daemon.messages("stored") > so_far + 300, "readings")
        guest = [text_mapping("guest", "count/+"), text_mapping("visitor", "visitor/#")] if generation % 3 == 0 else []
        site.configuration.set_mappings(COUNT, changing(generation), *guest)
        site.daemon.reload()
        wait_until(lambda: database.count("telemetry.changing", f"generation = {generation}"),
                   f"rows of generation {generation}")
    sent = load.stop()
    wait_once_each(database, "count", sent)
    wait_once_each(database, "changing", sent)
    assert database.value("SELECT count(*) FROM telemetry.changing WHERE generation % 2 = 1 AND extra1 IS NULL"
                          " AND extra3 IS NULL AND extra5 IS NULL AND extra7 IS NULL AND extra9 IS NULL"
                          " AND extra11 IS NULL") == 0
    assert max(stored(database, "guest").values()) == 1
    assert site.connects() == 1
    assert database.count("sensorlog.reject") == 0
    # The books of a mapping that was changed go on.
    wait_until(lambda: site.daemon.metric("sensorlog_parts_total", mapping="changing", verdict="stored") == len(sent),
               "the books to add up")


def test_rows_on_their_way_go_where_they_were_meant_to(make_site, database):
    """A mapping is replaced while its rows wait for the database, and so do those of its successor."""
    site = make_site(COUNT, changing(0))
    load = Publisher(site.port, "count/1", count)
    load.publish_all(1)
    wait_until(lambda: database.count("telemetry.changing"), "the table")
    with database.locked("telemetry.changing"):
        load.start()
        wait_until(database.backends_waiting_for_a_lock, "a transaction in the way")
        wait_until(lambda: site.daemon.metric("sensorlog_parts_pending", mapping="changing") > 10, "rows that wait")
        for generation in (1, 2, 3):
            site.configuration.set_mappings(COUNT, changing(generation))
            site.daemon.reload()
        site.configuration.set_mappings(COUNT)
        site.daemon.reload()
        site.configuration.set_mappings(COUNT, changing(4))
        site.daemon.reload()
    wait_until(lambda: database.count("telemetry.changing", "generation = 4"), "rows of the last generation")
    sent = load.stop()
    wait_once_each(database, "count", sent)
    rows = stored(database, "changing")
    assert max(rows.values()) == 1
    assert set(rows) <= sent
    assert database.count("telemetry.changing", "generation = 0") > 1


def test_rejects_on_their_way_say_where_they_came_from(make_site, database):
    site = make_site(COUNT)
    load = Publisher(site.port, "count/1", lambda n: b"parsnips" if n % 2 else count(n))
    load.publish_all(1)
    site.daemon.reload()
    wait_until(lambda: database.count("telemetry.count"), "the table")
    with database.locked("telemetry.count"):
        load.start()
        wait_until(database.backends_waiting_for_a_lock, "a transaction in the way")
        wait_until(lambda: site.daemon.metric("sensorlog_parts_pending", mapping="count") > 10, "messages that wait")
        for _ in range(3):
            site.daemon.reload()
    sent = load.stop()
    wait_once_each(database, "count", {n for n in sent if n % 2 == 0})
    assert set(database.column("SELECT source FROM sensorlog.reject")) == {site.source}


def test_filters_are_subscribed_and_unsubscribed(make_daemon, broker, database):
    """The scripted broker sees what is asked for: first the new, then away with the old, nothing of what stays."""
    daemon = make_daemon(broker, [COUNT, text_mapping("old", "old/+")])
    connection = broker.wait_subscribed()
    before = len(connection.packets)

    def asked_for():
        return [packet for packet in connection.packets[before:] if "SUB" in packet.kind]

    daemon.configuration.set_mappings(COUNT, text_mapping("new", "new/#"))
    daemon.reload()
    wait_until(lambda: [packet.kind for packet in asked_for()] == ["SUBSCRIBE", "UNSUBSCRIBE"],
               "SUBSCRIBE, then UNSUBSCRIBE")
    subscribe, unsubscribe = asked_for()
    assert list(subscribe.filters) == ["new/#"]
    assert list(unsubscribe.filters) == ["old/+"]
    broker.wait_done(broker.route("new/1", b"5"))
    assert database.column("SELECT n FROM telemetry.new") == [5]

    # The same once more: nothing is asked for.
    daemon.reload()
    broker.wait_done(broker.route("new/1", b"6"))
    assert len(asked_for()) == 2


def test_mistakes_change_nothing(make_site, database):
    site = make_site(COUNT)
    load = Publisher(site.port, "count/1", count, rate=300).start()
    mark = site.log.mark()
    site.configuration.write("topics.d/test.cfg", "mappings = ( { name = 5; } );")
    site.configuration.set("batch", max_rows=0, lingre="1s")
    site.daemon.reload()
    said = "\n".join(site.log.lines(mark))
    assert "max_rows" in said and "lingre" in said and "test.cfg:1" in said
    assert "the configuration is not reloaded: all stays as it was" in said
    so_far = database.count("telemetry.count")
    wait_until(lambda: database.count("telemetry.count") > so_far + 50, "readings to go on")
    sent = load.stop()
    wait_once_each(database, "count", sent)

    # Mended, it is taken.
    site.configuration.set("batch", max_rows=None, lingre=None)
    site.configuration.set_mappings(COUNT, text_mapping("second", "count/+"))
    site.daemon.reload()
    mqtt_publish(site.port, ("count/2", b"77"))
    wait_until(lambda: site.daemon.metric("sensorlog_parts_received_total", mapping="second"), "the new mapping")


def test_systemd_is_told(make_daemon, broker):
    daemon = make_daemon(broker, [COUNT])
    daemon.reload()
    messages = [fields for _, fields in daemon.notify.messages]
    reloading = [index for index, fields in enumerate(messages) if "RELOADING" in fields]
    assert len(reloading) == 1
    assert re.fullmatch(r"\d+", messages[reloading[0]]["MONOTONIC_USEC"])
    assert [fields["READY"] for fields in messages[reloading[0]:] if "READY" in fields] == ["1"]


def test_what_needs_a_restart_is_said(make_daemon, broker, make_broker):
    daemon = make_daemon(broker, [COUNT], conf={"batch": {"max_rows": 100}})
    broker.wait_subscribed()
    mark = daemon.log.mark()
    other = make_broker()
    daemon.configuration.set("batch", max_rows=200)
    daemon.configuration.set("postgres", writer="another")
    daemon.configuration.set("subscriber site", keepalive=30, window=5)
    daemon.configuration.set("subscriber more", uri=other.uri)
    daemon.configuration.set("broker", listen="mqtt://127.0.0.1:1", state="")
    daemon.reload()
    said = [line for line in daemon.log.lines(mark) if "restarted" in line]
    for words in ("[batch] max_rows has changed", "[postgres] writer has changed",
                  "[subscriber site] keepalive has changed", "[subscriber site] window has changed",
                  "[subscriber more] is new", "[broker] is new"):
        assert [line for line in said if words in line], f"{words!r} is not in {said}"
    assert len(said) == 6
    assert not other.entries("CONNECT")

    # Taken back: nothing is left to be said.
    mark = daemon.log.mark()
    daemon.configuration.set("batch", max_rows=100)
    daemon.configuration.set("postgres", writer="test")
    daemon.configuration.set("subscriber site", keepalive=None, window=None)
    for section in ("subscriber more", "broker"):
        del daemon.configuration.sections[section]
    daemon.configuration.set("log", level="debug")
    daemon.reload()
    assert not [line for line in daemon.log.lines(mark) if "restarted" in line]


def test_what_the_broker_takes_over_is_not_said(make_builtin, database):
    """Its limits count for clients to come; listeners and the state file stay as they are."""
    built_in = make_builtin(database, [COUNT])
    daemon = built_in.daemon
    mark = daemon.log.mark()
    daemon.configuration.set("broker", listen="mqtt://127.0.0.1:1", state="", window=7, queued_messages=5)
    daemon.reload()
    said = [line for line in daemon.log.lines(mark) if "restarted" in line]
    assert [line.split("]")[1].split()[0] for line in said] == ["listen", "state"]
    load = Publisher(built_in.port, "count/1", count)
    load.publish_all(50)
    load.close()
    wait_once_each(database, "count", set(range(50)))


@pytest.mark.parametrize("qos", [1, 2])
def test_more_memory_takes_effect_at_once(make_builtin, qos):
    """All of it waits for a client that is away: nothing is given back that would show the room."""
    site = make_builtin(memory="1MiB", queued_messages=1000, queued_bytes="64MiB")
    away = site.client(5, "away", keep=True)
    away.subscribe("t/#", 1)
    away.close()
    publisher = site.client(5)
    while publisher.publish("t/1", bytes(50000), qos) == 0:
        pass
    assert publisher.publish("t/1", bytes(50000), qos) == QUOTA
    site.daemon.configuration.set("broker", memory="64MiB")
    site.daemon.reload()
    assert [publisher.publish("t/1", bytes(50000), qos) for _ in range(10)] == [0] * 10

    # Less than is in use: it is full again.
    site.daemon.configuration.set("broker", memory="1MiB")
    site.daemon.reload()
    assert publisher.publish("t/1", bytes(50000), qos) == QUOTA


def test_a_table_that_does_not_fit_stops_its_new_mapping_alone(make_site, database):
    """Its readings are rejects until another reload mends it; the others' go on."""
    site = make_site(COUNT, text_mapping("second", "count/+"))
    load = Publisher(site.port, "count/1", count)
    load.publish_all(10)
    wait_once_each(database, "second", set(range(10)))
    wrong = text_mapping("second", "count/+").replace('"int8"', '"float8"')
    site.configuration.set_mappings(COUNT, wrong)
    site.daemon.reload()
    wait_until(lambda: site.daemon.metric("sensorlog_mapping_stopped", mapping="second") == 1, "it to be stopped")
    load.publish_all(10)
    wait_once_each(database, "count", set(range(20)))
    wait_until(lambda: database.count("sensorlog.reject", "mapping = 'second'") == 10, "rejects")
    site.configuration.set_mappings(text_mapping("second", "count/+"), COUNT)
    site.daemon.reload()
    load.publish_all(10)
    load.close()
    wait_once_each(database, "count", set(range(30)))
    wait_once_each(database, "second", set(range(10)) | set(range(20, 30)))
    assert site.daemon.metric("sensorlog_mapping_stopped") == 0


def test_a_reload_while_the_database_is_away(make_site, cluster, database):
    """What was received before goes by the mappings of then; the new ones have their tables when it is back."""
    site = make_site(COUNT)
    cluster.stop("fast")
    load = Publisher(site.port, "count/1", count, rate=200).start()
    wait_until(lambda: site.daemon.metric("sensorlog_messages_pending") >= 10, "readings that wait")
    site.configuration.set_mappings(COUNT, changing(1))
    site.daemon.reload()
    so_far = site.daemon.metric("sensorlog_messages_pending")
    if site.source == "site":  # a sensor's window is full by now
        wait_until(lambda: site.daemon.metric("sensorlog_messages_pending") > so_far + 10, "more of them")
    cluster.start()
    wait_until(lambda: database.count("telemetry.changing", "generation = 1"), "rows of the new mapping")
    sent = load.stop()
    wait_once_each(database, "count", sent)
    assert max(stored(database, "changing").values()) == 1
    assert 0 < len(stored(database, "changing")) < len(sent)
