"""sensorlogd replay: what was rejected becomes rows once its reason is mended, each message exactly once."""
import os
import re
import signal
import subprocess
import types

import pytest

from harness import daemon as sensorlogd
from harness.client import fresh
from harness.load import Publisher
from harness.mappings import COUNT, READING, count, reading, text_mapping
from harness.processes import Process
from harness.proxy import COMMIT_DONE, COMMIT_REQUEST, TO_CLIENT, TO_SERVER
from harness.wait import PATIENCE, wait_until

NOWHERE = types.SimpleNamespace(uri="mqtt://127.0.0.1:1")
TEXT = text_mapping("noted", "count/+").replace('type = "int8"; from = "value"', 'type = "text"; from = "value"')


def replay(site, *options):
    """Runs it; returns its exit status and its last line."""
    result = sensorlogd.run_command("replay", "-c", site.file, *options)
    return result.returncode, (result.stdout.splitlines() or [""])[-1]


def numbers(database, table="count"):
    return database.column(f"SELECT n FROM telemetry.{table} ORDER BY n")


def rejects(database):
    return database.query("SELECT mapping, convert_from(payload, 'UTF8'), reason FROM sensorlog.reject ORDER BY id")


def reject_all(broker, *payloads, topic="count/1", **how):
    broker.wait_done([one for payload in payloads for one in broker.route(topic, payload, **how)])


@pytest.fixture
def make_site(database, configuration):
    """make_site(mappings, conninfo) is a configuration whose tables are there, with no daemon; rejects are put by hand."""
    made = []

    def make(mappings=(COUNT,), conninfo=None, writer="test", migrate=True):
        files, _ = sensorlogd.configuration_for(database, {"site": NOWHERE, "other": NOWHERE}, mappings,
                                                conninfo=conninfo, conf={"postgres": {"writer": writer}})
        made.append(files)
        assert not migrate or sensorlogd.run_command("migrate", "-c", files.file).returncode == 0
        return files

    yield make
    for one in made:
        one.remove()


def put(database, first, last, mapping="count", topic="count/1", payload=count, writer=None):
    """Rejects with the payloads of first to last - 1."""
    for n in range(first, last):
        database.query("INSERT INTO sensorlog.reject (received_at, source, mapping, topic, payload, payload_length, qos,"
                       " retain, dup, reason, writer) VALUES (now(), 'site', %s, %s, %s, %s, 1, false, false, 'by hand', %s)",
                       [mapping, topic, payload(n), len(payload(n)), writer])


# ---- what was in the way is mended ----


def test_a_mended_mapping(make_daemon, broker, database):
    """The daemon runs on; each is there once, in order, with the time it arrived."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    reject_all(broker, b"one", b"two", b"3")
    arrived = database.column("SELECT received_at FROM sensorlog.reject ORDER BY id")
    daemon.configuration.set_mappings(COUNT.replace('type = "int8"', 'type = "text"').replace('"count";\n    columns',
                                                                                              '"words";\n    columns'))
    assert replay(daemon.configuration) == (0, "replayed 2 messages: 2 stored")
    assert database.query("SELECT n, sensor FROM telemetry.words") == [("one", "1"), ("two", "1")]
    assert database.column("SELECT time FROM telemetry.words ORDER BY time") == arrived
    assert numbers(database) == [3]
    assert rejects(database) == []
    assert replay(daemon.configuration) == (0, "replayed 0 messages: 0 stored")


def test_what_it_creates_is_told(make_site, database):
    site = make_site([COUNT])
    put(database, 0, 1)
    site.set_mappings(COUNT.replace('"count";\n    columns', '"words";\n    columns'))
    result = sensorlogd.run_command("replay", "-c", site.file)
    assert result.returncode == 0
    assert 'created table "telemetry"."words"' in result.stderr
    again = sensorlogd.run_command("replay", "-c", site.file)
    assert again.returncode == 0 and " info: " not in again.stderr, "there is nothing to tell"


def test_all_that_came_with_it(make_daemon, make_site, broker, database):
    """Topic, QoS, DUP, RETAIN and the properties are those of the message."""
    mapping = """{
        name = "all"; filter = "a/+/c"; decoder = "text"; table = "everything"; retained = true;
        columns = (
          { name = "level";  type = "text"; from = "topic[1]"; },
          { name = "qos";    type = "int2"; from = "qos"; },
          { name = "dup";    type = "bool"; from = "dup"; },
          { name = "retain"; type = "bool"; from = "retain"; },
          { name = "site";   type = "text"; from = "property.site"; },
          { name = "blob";   type = "bytea"; from = "payload"; },
          { name = "at";     type = "timestamptz"; from = "received_at"; }%s
        );
      }"""
    daemon = make_daemon(broker, [mapping % ',\n { name = "n"; type = "int8"; from = "value"; required = true; }'])
    connection = broker.wait_subscribed()
    properties = {"user_property": [("x", "\"\\\u00e4\n"), ("x", "2"), ("site", "roof")],
                  "content_type": "text/plain", "correlation_data": b"\x00\xff", "payload_format_indicator": 1,
                  "message_expiry_interval": 77, "response_topic": "to/me"}
    broker.wait_done([connection.publish("a/\u00e4/c", b"\x01 \xf0\x9f\x9a\x80", qos=1, dup=True, retain=True,
                                         properties=properties)])
    kept = database.value("SELECT properties FROM sensorlog.reject")
    assert len(kept) == 6
    # Refused again, it keeps all of it.
    assert replay(daemon.configuration) == (1, "replayed 1 message: 0 stored, 1 refused again")
    assert database.query("SELECT properties, mapping, dup, retain, qos, source FROM sensorlog.reject") == \
        [(kept, "all", True, True, 1, "site")]
    at = database.value("SELECT received_at FROM sensorlog.reject")
    daemon.configuration.set_mappings((mapping % "").replace('"everything"', '"mended"'))
    assert replay(daemon.configuration)[0] == 0
    (row,) = database.query("SELECT level, qos, dup, retain, site, blob, at FROM telemetry.mended")
    assert row[:5] == ("\u00e4", 1, True, True, "roof")
    assert (bytes(row[5]), row[6]) == (b"\x01 \xf0\x9f\x9a\x80", at)


def test_the_client_that_published(make_builtin, database):
    """With the built-in broker it is known, and kept."""
    mapping = """{ name = "who"; filter = "who/+"; decoder = "text"; table = "who";
        columns = ({ name = "client"; type = "text"; from = "client_id"; },
                   { name = "n"; type = "%s"; from = "value"; required = true; }); }"""
    built_in = make_builtin(database, [mapping % "int8"])
    name = fresh("sensor")
    client = built_in.client(5, name)
    client.publish("who/1", b"north", qos=1)
    wait_until(lambda: database.count("sensorlog.reject"), "the reject")
    built_in.daemon.configuration.set_mappings((mapping % "text").replace('table = "who"', 'table = "names"'))
    assert replay(built_in.daemon.configuration)[0] == 0
    assert database.query("SELECT client, n FROM telemetry.names") == [(name, "north")]


def test_a_constraint_of_the_users_own(make_daemon, broker, database):
    """What a CHECK refused: stored when it is dropped; refused again while it is there, with the reason of now."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    database.query("ALTER TABLE telemetry.count ADD CONSTRAINT small CHECK (n < 10)")
    reject_all(broker, *map(count, range(8, 14)))
    assert replay(daemon.configuration) == (1, "replayed 4 messages: 0 stored, 4 refused again")
    database.query("ALTER TABLE telemetry.count DROP CONSTRAINT small, ADD CONSTRAINT other CHECK (n < 13)")
    assert replay(daemon.configuration) == (1, "replayed 4 messages: 3 stored, 1 refused again")
    assert numbers(database) == list(range(8, 13))
    ((detail, at),) = database.query("SELECT detail, received_at < rejected_at FROM sensorlog.reject")
    assert "other" in detail and at
    database.query("ALTER TABLE telemetry.count DROP CONSTRAINT other")
    assert replay(daemon.configuration) == (0, "replayed 1 message: 1 stored")
    assert numbers(database) == list(range(8, 14))


def test_a_table_that_was_forbidden(make_daemon, broker, database):
    """A stopped mapping's messages: they stay until the table takes rows."""
    daemon = make_daemon(broker, [COUNT])
    broker.wait_subscribed()
    reject_all(broker, count(0))
    database.query("ALTER TABLE telemetry.count RENAME COLUMN n TO m")
    reject_all(broker, *map(count, range(1, 5)))
    assert [(mapping, reason) for mapping, _, reason in rejects(database)] == [("count", "mapping stopped")] * 4
    ids = database.column("SELECT id FROM sensorlog.reject ORDER BY id")
    daemon.configuration.set("postgres", migrate="false")
    assert replay(daemon.configuration) == (
        1, "replayed 0 messages: 0 stored; 4 left: their mapping is stopped, see above")
    assert database.column("SELECT id FROM sensorlog.reject ORDER BY id") == ids, "they are not touched"
    database.query("ALTER TABLE telemetry.count RENAME COLUMN m TO n")
    assert replay(daemon.configuration) == (0, "replayed 4 messages: 4 stored")
    assert numbers(database) == list(range(5))


def test_a_key(make_site, database):
    """What is there already is no second row."""
    site = make_site([READING])
    put(database, 0, 10, mapping="reading", topic="reading/1", payload=reading)
    put(database, 5, 15, mapping="reading", topic="reading/1", payload=reading)
    assert replay(site) == (0, "replayed 20 messages: 15 stored, 5 were there already")
    assert numbers(database, "reading") == list(range(15))
    put(database, 14, 16, mapping="reading", topic="reading/1", payload=reading)
    assert replay(site) == (0, "replayed 2 messages: 1 stored, 1 was there already")


def test_only_the_part_that_failed(make_daemon, broker, database):
    """The other mapping's row of the same message is there since it came."""
    daemon = make_daemon(broker, [COUNT, TEXT])
    broker.wait_subscribed()
    reject_all(broker, b"north", b"south")
    assert database.column("SELECT n FROM telemetry.noted ORDER BY n") == ["north", "south"]
    daemon.configuration.set_mappings(TEXT, COUNT.replace('type = "int8"', 'type = "text"')
                                      .replace('"count";\n    columns', '"words";\n    columns'))
    assert replay(daemon.configuration)[0] == 0
    assert database.column("SELECT n FROM telemetry.words ORDER BY n") == ["north", "south"]
    assert database.column("SELECT n FROM telemetry.noted ORDER BY n") == ["north", "south"]


# ---- what is left ----


def test_what_no_mapping_takes_and_what_is_not_all_there(make_site, database):
    site = make_site([COUNT, text_mapping("elsewhere", "elsewhere/+", source='["other"]')])
    put(database, 0, 3)
    put(database, 3, 5, mapping="gone")
    put(database, 5, 7, mapping="count", topic="nobody/1")
    put(database, 7, 8, mapping="elsewhere", topic="elsewhere/1")  # which takes from another source
    database.query("INSERT INTO sensorlog.reject (topic, payload, payload_length, reason, mapping)"
                   " VALUES ('count/1', '12', 2000000, 'payload too large', 'count')")
    before = database.query("SELECT * FROM sensorlog.reject WHERE id > 3 ORDER BY id")
    assert replay(site) == (1, "replayed 3 messages: 3 stored; 5 left: no mapping takes them; "
                               "1 left: only the beginning of the payload was kept")
    assert database.query("SELECT * FROM sensorlog.reject ORDER BY id") == before


def test_what_was_rejected_as_a_whole(make_site, database):
    """Every mapping that matches takes it."""
    site = make_site([COUNT, TEXT])
    put(database, 0, 3, mapping=None)
    assert replay(site) == (0, "replayed 3 messages: 3 stored")
    assert numbers(database) == [0, 1, 2]
    assert database.column("SELECT n FROM telemetry.noted ORDER BY n") == ["0", "1", "2"]


def test_a_retained_copy(make_site, database):
    """It was wanted when it came; what the mapping says of copies now does not count."""
    site = make_site()
    put(database, 0, 2)
    database.query("UPDATE sensorlog.reject SET retain = true")
    assert replay(site) == (0, "replayed 2 messages: 2 stored")


def test_an_entry_that_somebody_has_edited(make_site, database):
    """Columns may be null, and properties anything: what is not as it should be is left out."""
    site = make_site()
    for n, properties in enumerate(["null", "[1]", '"x"', '{"user": 7}', '{"user": [1, [2], ["a", null], ["b", "c"]]}',
                                    '{"correlation_data": "xyz", "message_expiry": {"a": 1}}', None]):
        database.query("INSERT INTO sensorlog.reject (topic, payload, payload_length, reason, properties, received_at)"
                       " VALUES ('count/1', %s, 1, 'edited', %s, %s)",
                       [count(n), properties, "infinity" if n == 0 else None])
    assert replay(site) == (0, "replayed 7 messages: 7 stored")
    assert numbers(database) == list(range(7))


def test_of_one_mapping_alone(make_site, database):
    site = make_site([COUNT, TEXT])
    put(database, 0, 3)
    put(database, 3, 6, mapping="noted")
    assert replay(site, "--mapping", "count") == (0, "replayed 3 messages: 3 stored")
    assert len(rejects(database)) == 3
    result = sensorlogd.run_command("replay", "-c", site.file, "--mapping", "cuont")
    assert (result.returncode, result.stderr) == (1, 'sensorlogd: there is no mapping "cuont" in the configuration\n')


def test_a_dry_run_touches_nothing(make_site, database):
    site = make_site([COUNT])
    put(database, 0, 3)
    put(database, 3, 5, payload=lambda n: b"nonsense")
    put(database, 5, 6, mapping="gone")
    before = database.query("SELECT * FROM sensorlog.reject ORDER BY id")
    result = sensorlogd.run_command("replay", "-c", site.file, "--dry-run")
    *refused, total = result.stdout.splitlines()
    assert result.returncode == 1
    assert total == "of 5 messages 3 would be stored, 2 would be refused again; 1 left: no mapping takes them"
    assert [re.sub(r"\d+", "N", line, count=1) for line in refused] == \
        ['id N, topic count/1, mapping count: not a number: column n: \'nonsense\''] * 2
    assert database.query("SELECT * FROM sensorlog.reject ORDER BY id") == before
    assert numbers(database) == []


def test_order_over_many_pages(make_site, database):
    """By the order in which they were rejected; memory is bounded by the pages."""
    site = make_site()
    site.set("batch", memory="1MiB")
    site.set("subscriber site", max_payload="64KiB")
    database.query("CREATE SEQUENCE telemetry.serials; GRANT USAGE ON telemetry.serials TO logger;"
                   " ALTER TABLE telemetry.count ADD serial bigint DEFAULT nextval('telemetry.serials')")
    database.query("INSERT INTO sensorlog.reject (topic, payload, payload_length, reason, mapping)"
                   " SELECT 'count/1', convert_to(n || repeat(' ', 900), 'UTF8'), octet_length(n || repeat(' ', 900)),"
                   " 'r', 'count' FROM generate_series(1, 5000) AS n")
    assert replay(site) == (0, "replayed 5000 messages: 5000 stored")
    assert database.column("SELECT n FROM telemetry.count ORDER BY serial") == list(range(1, 5001))


# ---- several writers ----


OTHERS = " left: rejected by other writers (%s), see --writer"


def writers(database):
    """Who rejected what is in the table, by payload."""
    return dict(database.query("SELECT convert_from(payload, 'UTF8'), writer FROM sensorlog.reject ORDER BY id"))


def test_each_takes_its_own(make_daemon, make_broker, database):
    """Two boxes, one database, mappings of the same names: what each rejects carries its writer, and its replay leaves the
    other's alone. What is refused again is whose it was."""
    boxes = {}
    for name in ("edge3", "edge7"):
        broker = make_broker()
        daemon = make_daemon(broker, [COUNT, TEXT], conf={"postgres": {"writer": name}})
        broker.wait_subscribed()
        database.query("ALTER TABLE telemetry.noted DROP CONSTRAINT IF EXISTS short,"
                       " ADD CONSTRAINT short CHECK (length(n) < 9)")
        reject_all(broker, name.encode(), name.encode() + b" too long", b"\xff" + name.encode())
        boxes[name] = daemon.configuration
    assert database.query("SELECT writer, mapping, count(*) FROM sensorlog.reject GROUP BY 1, 2 ORDER BY 1, 2") == [
        ("edge3", "count", 3), ("edge3", "noted", 2), ("edge7", "count", 3), ("edge7", "noted", 2)]
    ids = "SELECT id FROM sensorlog.reject WHERE writer = 'edge7' ORDER BY id"
    before = database.column(ids)
    assert replay(boxes["edge3"]) == (1, "replayed 5 messages: 0 stored, 5 refused again; 5" + OTHERS % "edge7")
    assert database.query("SELECT writer, count(*) FROM sensorlog.reject GROUP BY 1 ORDER BY 1") == \
        [("edge3", 5), ("edge7", 5)], "not edge3/replay"
    assert database.column(ids) == before, "they are not touched"
    database.query("ALTER TABLE telemetry.noted DROP CONSTRAINT short")
    assert replay(boxes["edge3"], "--mapping", "noted", "--dry-run") == (
        1, "of 2 messages 1 would be stored, 1 would be refused again; 2" + OTHERS % "edge7")
    assert replay(boxes["edge7"], "--mapping", "noted") == (
        1, "replayed 2 messages: 1 stored, 1 refused again; 2" + OTHERS % "edge3")
    assert sorted(numbers(database, "noted")) == ["edge3", "edge7", "edge7 too long"]


def test_of_another_writer(make_site, database):
    """A box that was replaced, or renamed: its rejects are taken by name, and no others."""
    site = make_site()
    put(database, 0, 3)
    put(database, 3, 5, writer="test")
    put(database, 5, 9, writer="edge3")
    put(database, 9, 10, payload=lambda n: b"nonsense", writer="edge3")
    assert replay(site, "--writer", "edge3", "--dry-run") == (
        1, "of 5 messages 4 would be stored, 1 would be refused again; 5" + OTHERS % "unknown, test")
    assert replay(site, "--writer", "edge3") == (
        1, "replayed 5 messages: 4 stored, 1 refused again; 5" + OTHERS % "unknown, test")
    assert numbers(database) == [5, 6, 7, 8]
    assert writers(database)["nonsense"] == "edge3", "it is still whose it was"
    assert replay(site) == (0, "replayed 5 messages: 5 stored; 1" + OTHERS % "edge3")
    assert numbers(database) == list(range(9))
    assert replay(site, "--writer", "egde3") == (0, "replayed 0 messages: 0 stored; 1" + OTHERS % "edge3")
    assert replay(site, "--writer", "test/replay") == (0, "replayed 0 messages: 0 stored; 1" + OTHERS % "edge3")
    result = sensorlogd.run_command("replay", "-c", site.file, "--writer")
    assert result.returncode == 2 and "[--writer NAME]" in result.stderr


def test_of_all_writers(make_site, database):
    """Whose they were is kept, also where nobody knows; none is left to others, not even over a page's end."""
    site = make_site()
    names = ["edge3", None, "test", "a\x1b[1m", "edge4", "edge5"]
    database.query("INSERT INTO sensorlog.reject (topic, payload, payload_length, reason, mapping, writer)"
                   " SELECT 'count/1', convert_to(n::text, 'UTF8'), octet_length(n::text), 'r', 'count',"
                   " (%s::text[])[1 + n %% 6] FROM generate_series(0, 2999) AS n", [names])
    put(database, 0, 1, writer="edge5")  # then it has the most
    for n, name in enumerate(names):
        put(database, n, n + 1, payload=lambda n: b"bad %d" % n, writer=name)
    code, said = replay(site, "--dry-run")
    assert code == 1
    assert said == "of 1002 messages 1000 would be stored, 2 would be refused again; 2005" + \
        OTHERS % "edge5, a?[1m, edge3, ..."
    assert replay(site, "--writer", "*") == (1, "replayed 3007 messages: 3001 stored, 6 refused again")
    assert numbers(database) == sorted([0, *range(3000)])
    assert writers(database) == {f"bad {n}": name for n, name in enumerate(names)}


def test_what_an_older_release_has_rejected(make_site, database):
    """Its table had no writer. A view of the site's own on ours outlives the upgrade."""
    site = make_site(migrate=False)
    script = sensorlogd.run_command("migrate", "-c", site.file, "--print").stdout
    database.query("SET ROLE logger; " + script[:script.index("-- migration 004")] + "; RESET ROLE")
    put_before = ("INSERT INTO sensorlog.reject (topic, payload, payload_length, reason, mapping) VALUES"
                  " ('count/1', '1', 1, 'r', 'count'), ('count/1', 'x', 1, 'r', 'count')")
    database.query(put_before)
    database.query("CREATE VIEW mine AS SELECT topic, payload_text FROM sensorlog.rejects_last_day")
    assert sensorlogd.run_command("migrate", "-c", site.file).returncode == 0
    assert database.query("SELECT payload_text FROM mine ORDER BY 1") == [("1",), ("x",)]
    assert writers(database) == {"1": None, "x": None}
    database.query(put_before.replace("'1'", "'2'").replace("'x'", "'y'"))  # by a daemon that still runs
    put(database, 3, 4, writer="edge3")
    assert replay(site) == (1, "replayed 4 messages: 2 stored, 2 refused again; 1" + OTHERS % "edge3")
    assert numbers(database) == [1, 2]
    assert writers(database) == {"3": "edge3", "x": None, "y": None}, "nor does anybody know it now"


# ---- whatever fails ----


def test_without_a_database(make_site, cluster, database):
    """It says so and gives up."""
    site = make_site()
    cluster.stop()
    result = sensorlogd.run_command("replay", "-c", site.file)
    assert result.returncode == 1
    assert re.search(r"given up after 20 s: .*(No such file|refused)", result.stderr), result.stderr


def test_a_table_that_may_not_be_read(make_site, database):
    site = make_site()
    put(database, 0, 1)
    database.query("ALTER TABLE sensorlog.reject OWNER TO postgres")
    result = sensorlogd.run_command("replay", "-c", site.file)
    assert result.returncode == 1
    assert "sensorlog.reject cannot be read: permission denied for table reject" in result.stderr


@pytest.mark.parametrize("where, direction, action", [
    (COMMIT_REQUEST, TO_SERVER, "cut"),
    (COMMIT_REQUEST, TO_SERVER, "forward and cut"),
    (COMMIT_REQUEST, TO_SERVER, "abandon"),
    (COMMIT_DONE, TO_CLIENT, "cut"),
    (re.compile(b"octet_length"), TO_SERVER, "cut"),
    (re.compile(b"octet_length"), TO_SERVER, "forward and cut"),
], ids=["COMMIT lost", "COMMIT not answered", "COMMIT stuck", "answer lost", "page not asked for", "page lost"])
def test_a_connection_cut(make_site, make_proxy, cluster, database, where, direction, action):
    """An ambiguous COMMIT is resolved, and a page that does not come is asked for again."""
    proxy = make_proxy(cluster.port)
    site = make_site(conninfo=database.conninfo("127.0.0.1", proxy.port))
    site.set("batch", max_rows=100)
    put(database, 0, 1200)
    put(database, 1200, 1203, payload=lambda n: b"nonsense")
    with database.locked("telemetry.count") as locking:
        run = start(site)
        wait_until(database.backends_waiting_for_a_lock, "it to write")
        proxy.when(where, direction, action)
        locking.rollback()
    assert run.wait(2 * PATIENCE) == 1
    assert proxy.trips == 1
    assert numbers(database) == list(range(1200))
    assert len(rejects(database)) == 3
    assert run.log.find("^replayed 1203 messages: 1200 stored, 3 refused again$")


def start(site, *options, binary=sensorlogd.BINARY, **environment):
    return Process("sensorlogd replay", [binary, "replay", "-c", site.file, *options], env={**os.environ, **environment})


def test_killed_at_any_moment(make_site, database):
    """Each message is a row or a reject, whenever it is killed."""
    site = make_site([COUNT.replace("count/+", "count/#")])
    site.set("batch", max_rows=50)
    database.query("INSERT INTO sensorlog.reject (topic, payload, payload_length, reason, mapping)"
                   " SELECT 'count/1', convert_to(n::text, 'UTF8'), octet_length(n::text), 'r', 'count'"
                   " FROM generate_series(0, 19999) AS n")
    for target in range(500, 20000, 1500):
        run = start(site)
        wait_until(lambda: database.count("telemetry.count") >= target or not run.running, f"{target} rows")
        run.kill9()
        wait_until(lambda: not database.backends(), "its backends to end")
        left = database.column("SELECT convert_from(payload, 'UTF8')::int FROM sensorlog.reject")
        assert sorted(numbers(database) + left) == list(range(20000))
    assert replay(site)[0] == 0
    assert numbers(database) == list(range(20000))


@pytest.mark.parametrize("point", ["replay:1", "replay:2", "epoch:1", "batch:1", "batch:2", "sent:1", "sent:2",
                                   "committed:1", "settled:1"])
def test_it_dies_where_it_is_told_to(make_site, database, point):
    site = make_site()
    put(database, 0, 1200)
    binary = os.environ.get("SENSORLOGD_FAILPOINTS",
                            os.path.join(os.path.dirname(sensorlogd.BINARY), "failpoints", "sensorlogd"))
    if not os.access(binary, os.X_OK):
        pytest.skip("no build with failpoints")
    run = start(site, binary=binary, SENSORLOGD_FAILPOINT=point)
    assert run.wait() == -signal.SIGKILL
    wait_until(lambda: not database.backends(), "its backends to end")
    left = database.column("SELECT convert_from(payload, 'UTF8')::int FROM sensorlog.reject")
    assert sorted(numbers(database) + left) == list(range(1200))
    assert replay(site) == (0, f"replayed {len(left)} messages: {len(left)} stored")
    assert numbers(database) == list(range(1200))


def test_two_at_once(make_site, database):
    """By different writers: what one has taken the other leaves, and says so."""
    sites = [make_site(), make_site(writer="other")]
    for site in sites:
        site.set("batch", max_rows=20)
    database.query("INSERT INTO sensorlog.reject (topic, payload, payload_length, reason, mapping)"
                   " SELECT 'count/1', convert_to(n::text, 'UTF8'), octet_length(n::text), 'r', 'count'"
                   " FROM generate_series(0, 9999) AS n")
    with database.locked("telemetry.count") as locking:  # they meet
        runs = [start(site) for site in sites]
        wait_until(lambda: len(database.backends_waiting_for_a_lock()) == 2, "both to write")
        locking.rollback()
    assert [run.wait(2 * PATIENCE) for run in runs] == [0, 0]
    assert numbers(database) == list(range(10000))
    assert rejects(database) == []
    said = [run.log.find("^replayed")[-1] for run in runs]
    stored = [int(re.search(r"(\d+) stored", line)[1]) for line in said]
    assert sum(stored) == 10000, said
    assert any("taken by another replay meanwhile" in line for line in said), said


def test_one_at_a_time_by_one_name(make_site, database):
    """The second one waits for the first: they would fence each other off in turns."""
    site = make_site()
    put(database, 0, 50)
    asking = "query LIKE '%pg_try_advisory_lock%'"
    with database.locked("telemetry.count") as locking:
        first = start(site)
        wait_until(database.backends_waiting_for_a_lock, "the first to write")
        before = set(database.backends(asking))
        second = start(site)
        wait_until(lambda: set(database.backends(asking)) - before, "the second to ask")
        locking.rollback()
    assert [first.wait(), second.wait()] == [0, 0]
    assert first.log.find("50 stored") and second.log.find("^replayed 0 messages")
    assert numbers(database) == list(range(50))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop(make_site, database, number):
    """The transaction that runs is finished, and the rest stays."""
    site = make_site()
    put(database, 0, 1500)
    with database.locked("telemetry.count") as locking:
        run = start(site)
        wait_until(database.backends_waiting_for_a_lock, "it to write")
        run.signal(number)
        locking.rollback()
    assert run.wait() == 1
    assert run.log.find("^replayed 1000 messages: 1000 stored; not all were looked at$")
    assert numbers(database) == list(range(1000))
    assert replay(site) == (0, "replayed 500 messages: 500 stored")


def test_beside_a_daemon_under_load(make_daemon, site, database):
    """The daemon stores and rejects on; what it rejects meanwhile waits for the next replay."""
    daemon = make_daemon(site, [COUNT])
    daemon.wait_subscribed()
    publisher = Publisher(site.port, "count/1", lambda n: count(n) if n % 5 else b"x%d" % n, rate=1500).start()
    wait_until(lambda: database.count("sensorlog.reject") > 200, "rejects")
    mended = COUNT.replace('type = "int8"', 'type = "text"').replace('"count";\n    columns', '"words";\n    columns')
    daemon.configuration.set_mappings(mended)
    for _ in range(3):
        before = database.count("telemetry.words")
        assert replay(daemon.configuration)[0] == 0
        wait_until(lambda: database.count("sensorlog.reject") > 50, "more rejects")
        assert database.count("telemetry.words") > before
    sent = publisher.stop()
    wait_until(lambda: daemon.messages() >= len(sent) and daemon.metric("sensorlog_messages_pending") == 0,
               "all to be stored or rejected", progress=daemon.messages)
    assert daemon.stop() == 0
    assert replay(daemon.configuration)[0] == 0
    assert rejects(database) == []
    assert not daemon.log.find("epoch .* is over|another sensorlogd"), "the daemon's writer is left alone"
    assert numbers(database) == sorted(n for n in sent if n % 5)
    assert sorted(int(word[1:]) for word in database.column("SELECT n FROM telemetry.words")) == \
        sorted(n for n in sent if n % 5 == 0)


def test_progress_on_a_terminal(make_site, database):
    site = make_site()
    put(database, 0, 30)
    output = subprocess.run(["script", "-qec", f"{sensorlogd.BINARY} replay -c {site.file}", "/dev/null"],
                            stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert output.returncode == 0
    assert b"30 of 30" in output.stdout and b"replayed 30 messages: 30 stored" in output.stdout
