"""Rows that PostgreSQL refuses among good ones, through the whole daemon: the good ones are stored, the others are in the
reject table with what PostgreSQL said, and all are acknowledged. Whatever refuses them is the site's own."""
import pytest

from harness.mappings import COUNT, READING, count, reading, text_mapping
from harness.wait import wait_until

FAULTS = {
    "check": ("ALTER TABLE telemetry.count ADD CONSTRAINT odd CHECK (n % 2 = 1)", "23514"),
    "domain": ("CREATE DOMAIN telemetry.odd AS int8 CHECK (VALUE % 2 = 1);"
               "DROP VIEW telemetry.count_latest; ALTER TABLE telemetry.count ALTER n TYPE telemetry.odd", "23514"),
    "foreign key": ("CREATE TABLE telemetry.known (n int8 PRIMARY KEY);"
                    "INSERT INTO telemetry.known SELECT generate_series(1, 999, 2);"
                    "GRANT SELECT ON telemetry.known TO logger;"
                    "ALTER TABLE telemetry.count ADD FOREIGN KEY (n) REFERENCES telemetry.known", "23503"),
    "deferred": ("CREATE TABLE telemetry.known (n int8 PRIMARY KEY);"
                 "INSERT INTO telemetry.known SELECT generate_series(1, 999, 2);"
                 "GRANT SELECT ON telemetry.known TO logger;"
                 "ALTER TABLE telemetry.count ADD FOREIGN KEY (n) REFERENCES telemetry.known"
                 " DEFERRABLE INITIALLY DEFERRED", "23503"),
    "trigger": ("CREATE FUNCTION telemetry.f() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN IF NEW.n % 2 = 0 THEN RAISE 'even'; END IF; RETURN NEW; END $$;"
                "CREATE TRIGGER t AFTER INSERT ON telemetry.count FOR EACH ROW EXECUTE FUNCTION telemetry.f()", "P0001"),
    "overflow": ("CREATE FUNCTION telemetry.f() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE i int2; BEGIN"
                 " IF NEW.n % 2 = 0 THEN i := 70000; END IF; RETURN NEW; END $$;"
                 "CREATE TRIGGER t BEFORE INSERT ON telemetry.count FOR EACH ROW EXECUTE FUNCTION telemetry.f()", "22003"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_half_of_a_batch_is_refused(make_daemon, broker, database, fault):
    sql, sqlstate = FAULTS[fault]
    daemon = make_daemon(broker, [COUNT, text_mapping("other", "count/+")])
    broker.wait_subscribed()
    database.query(sql)
    failures = daemon.metric("sensorlog_commit_failures_total")
    with database.locked("telemetry.count"):
        deliveries = [one for n in range(800) for one in broker.route("count/1", count(n))]
        daemon.wait_messages(800)
    broker.wait_done(deliveries)
    assert sorted(database.column("SELECT n FROM telemetry.count")) == list(range(1, 800, 2))
    assert database.count("telemetry.other") == 800, "the other mapping's rows of the same messages"
    assert database.query("SELECT count(*), count(DISTINCT payload), min(sqlstate), max(sqlstate), max(mapping)"
                          " FROM sensorlog.reject") == [(400, 400, sqlstate, sqlstate, "count")]
    assert (daemon.messages("stored"), daemon.messages("rejected")) == (400, 400)
    assert daemon.metric("sensorlog_commit_failures_total") - failures <= 6, "a transaction or two per batch, not per row"


def test_rows_refused_beside_redeliveries(make_daemon, broker, database):
    """With a key: refused, there already, and new ones in one batch."""
    daemon = make_daemon(broker, [READING])
    broker.wait_subscribed()
    broker.wait_done([one for n in range(0, 300, 3) for one in broker.route("reading/1", reading(n))])
    database.query("ALTER TABLE telemetry.reading ADD CHECK (n % 3 <> 1) NOT VALID")
    with database.locked("telemetry.reading"):
        deliveries = [one for n in range(300) for one in broker.route("reading/1", reading(n))]
        daemon.wait_messages(400)
    broker.wait_done(deliveries)
    assert [daemon.messages(verdict) for verdict in ("stored", "deduplicated", "rejected")] == [200, 100, 100]
    assert database.count("telemetry.reading") == 200


def test_the_daemon_is_killed_while_it_looks_for_them(make_daemon, broker, database):
    """kill -9 in the midst: what was not acknowledged comes again, and each is stored or rejected once."""
    daemon = make_daemon(broker, [READING])
    broker.wait_subscribed()
    database.query("CREATE FUNCTION telemetry.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.005);"
                   " IF NEW.n % 2 = 0 THEN RAISE 'even'; END IF; RETURN NEW; END $$;"
                   "CREATE TRIGGER t BEFORE INSERT ON telemetry.reading FOR EACH ROW EXECUTE FUNCTION telemetry.f()")
    for n in range(200):
        broker.route("reading/1", reading(n))
    wait_until(lambda: database.backends("query LIKE 'DO %' OR query LIKE '%SAVEPOINT%'"), "it to look for them")
    daemon.kill9()
    daemon.start()
    broker.wait_subscribed()
    broker.wait_done([one for n in range(200) for one in broker.route("reading/1", reading(n))])
    assert sorted(database.column("SELECT n FROM telemetry.reading")) == list(range(1, 200, 2))
