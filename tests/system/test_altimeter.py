"""A reading published to the site's broker becomes a row."""
import subprocess

import paho.mqtt.client as mqtt
import pytest

from harness.load import mqtt_publish
from harness.mappings import ALTIMETER, text_mapping
from harness.wait import wait_until


def by_paho(port, topic, payload):
    mqtt_publish(port, (topic, payload), protocol=mqtt.MQTTv311)


def by_mosquitto_pub(port, topic, payload):
    subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(port), "-V", "mqttv311", "-q", "1",
                    "-t", topic, "-m", payload], check=True)


@pytest.mark.parametrize("publish", [by_paho, by_mosquitto_pub])
@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_300_feet_are_one_row_of_91_44_m(make_daemon, site, database, publish, protocol):
    daemon = make_daemon(site, [ALTIMETER], conf={"subscriber site": {"protocol": protocol}})
    daemon.wait_subscribed()
    before = database.value("SELECT clock_timestamp()")
    publish(site.port, "sensors/altimeter/1", "300 feet")
    daemon.wait_messages(1, "stored")
    assert database.query("SELECT sensor, altitude_m FROM telemetry.altimeter") == [("1", pytest.approx(91.44))]
    assert database.value("SELECT time BETWEEN %s AND clock_timestamp() FROM telemetry.altimeter", [before]), \
        "without a time of its own a row has the time of arrival"


def test_a_message_goes_to_every_mapping_that_matches_in_one_transaction(make_daemon, broker, database):
    """While one of two tables is locked, neither the other's row nor the acknowledgement is out."""
    daemon = make_daemon(broker, [text_mapping("one", "sensors/#"), text_mapping("two", "sensors/altimeter/+")])
    broker.wait_subscribed()
    for locked, free in (("one", "two"), ("two", "one")):
        before = database.count(f"telemetry.{free}")
        with database.locked(f"telemetry.{locked}"):
            delivery = broker.route("sensors/altimeter/1", b"7")
            wait_until(database.backends_waiting_for_a_lock, "the daemon to wait for the lock")
            assert database.count(f"telemetry.{free}") == before
            assert not delivery[0].done
        broker.wait_done(delivery)
        assert database.count(f"telemetry.{free}") == before + 1
    assert daemon.messages("stored") == 2
    assert daemon.metric("sensorlog_parts_total", verdict="stored") == 4


def test_what_no_mapping_wants_is_acknowledged_and_counted(make_daemon, broker, database):
    """A session may still hold what an earlier configuration subscribed to."""
    daemon = make_daemon(broker, [ALTIMETER])
    connection = broker.wait_subscribed()
    broker.wait_done([connection.publish("somewhere/else", b"7")])
    daemon.wait_messages(1, "skipped")
    assert database.count("telemetry.altimeter") == 0
    assert database.count("sensorlog.reject") == 0


def test_a_mapping_takes_from_the_sources_it_names(make_daemon, make_broker, database):
    """Several brokers at once; a mapping with a source hears that one alone."""
    roof, cellar = make_broker(), make_broker()
    daemon = make_daemon({"roof": roof, "cellar": cellar},
                         [text_mapping("everywhere", "a/#"), text_mapping("roof_only", "a/+", source='["roof"]')])
    for broker in (roof, cellar):
        broker.wait_subscribed()
    roof.wait_done(roof.route("a/1", b"1"))
    cellar.wait_done(cellar.route("a/1", b"2"))
    assert database.column("SELECT n FROM telemetry.everywhere ORDER BY n") == [1, 2]
    assert database.column("SELECT n FROM telemetry.roof_only") == [1]
    assert daemon.messages("stored", source="roof") == daemon.messages("stored", source="cellar") == 1
