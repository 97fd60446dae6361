"""Retained copies that a subscription brings are old readings: skipped, unless the mapping says otherwise."""
import pytest

from harness.load import mqtt_publish
from harness.mappings import count, text_mapping
from harness.wait import wait_until


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_retained_messages_on_subscribe(make_daemon, site, database, protocol):
    """One mapping skips them and another, of the same topic, stores them; live ones go to both, even if their
    publisher asks the broker to retain them."""
    mqtt_publish(site.port, *[(f"sensors/{n}", count(n), True) for n in range(5)])
    daemon = make_daemon(site, [text_mapping("live", "sensors/+"),
                                text_mapping("also_old", "sensors/#", retained="true"),
                                text_mapping("elsewhere", "other/#")],
                         conf={"subscriber site": {"protocol": protocol}})
    daemon.wait_subscribed()
    wait_until(lambda: database.count("telemetry.also_old") == 5, "the old readings")
    mqtt_publish(site.port, ("sensors/7", count(7), True), ("sensors/8", count(8), False))
    daemon.wait_messages(7, "stored")
    assert database.column("SELECT n FROM telemetry.live ORDER BY n") == [7, 8]
    assert database.column("SELECT n FROM telemetry.also_old ORDER BY n") == [0, 1, 2, 3, 4, 7, 8]
    assert daemon.metric("sensorlog_parts_total", mapping="live", verdict="skipped") == 5


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_where_nobody_wants_them_they_are_skipped(make_daemon, make_mosquitto, make_proxy, database, protocol):
    """Also after the broker has lost the session and is subscribed to again."""
    site = make_mosquitto(persistence=False)
    proxy = make_proxy(site.port)
    daemon = make_daemon(proxy, [text_mapping("live", "sensors/+")], conf={"subscriber site": {"protocol": protocol}})
    daemon.wait_subscribed()
    for n in (1, 2):
        proxy.refusing = True  # the daemon comes back when the retained message is already there
        site.restart()
        mqtt_publish(site.port, ("sensors/old", count(n), True))
        proxy.refusing = False
        wait_until(lambda: site.connects("sensorlogd-site") > n, "the daemon to be back")
        daemon.wait_subscribed()
        mqtt_publish(site.port, ("sensors/new", count(n)))
        wait_until(lambda: database.count("telemetry.live", f"n = {n}"), "the new one to be stored")
    assert database.column("SELECT topic FROM telemetry.live") == ["sensors/new", "sensors/new"]
    wait_until(lambda: daemon.metric("sensorlog_messages_pending") == 0, "nothing to be pending")
