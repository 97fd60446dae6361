"""The subscriber over WebSocket, plain and with TLS, at mosquitto and at the built-in broker."""
import types

import pytest

from harness.certificates import LOCAL, Authority
from harness.load import Publisher
from harness.mappings import COUNT, count
from harness.ports import free_port
from harness.wait import wait_until


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "ca")


@pytest.fixture
def make_websocket_mosquitto(make_mosquitto):
    """make(**options): one with a plain listener for publishers at .port, and one for WebSocket at .websocket_port."""
    def make(**options):
        port = free_port()
        also = "".join(f"\n{name} {value}" for name, value in options.items())
        mosquitto = make_mosquitto(set_tcp_nodelay=f"true\nlistener {port} 127.0.0.1\nprotocol websockets{also}")
        mosquitto.websocket_port = port
        return mosquitto

    return make


def at(scheme, port, path="", host="localhost"):
    return types.SimpleNamespace(uri=f"{scheme}://{host}:{port}{path}")


def publish_and_compare(port, database, number):
    load = Publisher(port, "count/1", count)
    load.publish_all(number)
    load.stop()
    wait_until(lambda: len(set(database.column("SELECT n FROM telemetry.count"))) == number, "all readings")


@pytest.mark.parametrize("path", ["", "/", "/mqtt", "/some/where?and=how"])
def test_readings_come_by_websocket(make_daemon, make_websocket_mosquitto, database, path):
    mosquitto = make_websocket_mosquitto()
    make_daemon(at("ws", mosquitto.websocket_port, path, "127.0.0.1"), [COUNT]).wait_subscribed()
    publish_and_compare(mosquitto.port, database, 300)


def test_readings_come_by_websocket_over_tls(make_daemon, make_websocket_mosquitto, database, ca):
    server = ca.issue("server", LOCAL)
    mosquitto = make_websocket_mosquitto(certfile=server.certificate, keyfile=server.key)
    daemon = make_daemon(at("wss", mosquitto.websocket_port), [COUNT],
                         conf={"subscriber site": {"ca_file": ca.certificate}})
    daemon.wait_subscribed()
    publish_and_compare(mosquitto.port, database, 300)


def test_a_restart_of_the_broker(make_daemon, make_websocket_mosquitto):
    mosquitto = make_websocket_mosquitto()
    daemon = make_daemon(at("ws", mosquitto.websocket_port), [COUNT])
    daemon.wait_subscribed()
    mosquitto.restart()
    wait_until(lambda: daemon.metric("sensorlog_source_connects_total", source="site") > 1, "the next connection")
    assert daemon.stop() == 0


def test_a_port_that_speaks_no_websocket(make_daemon, site):
    """It may close, or say something in MQTT."""
    daemon = make_daemon(at("ws", site.port), [COUNT])
    daemon.log.wait_for(r"site: no connection to .*WebSocket")


def test_a_subscriber_at_the_built_in_broker(make_daemon, make_builtin, database, ca):
    server = ca.issue("server", LOCAL)
    broker = make_builtin(also=["ws", "wss"], certificate_file=server.certificate, key_file=server.key,
                          allow_anonymous="true")
    brokers = {scheme: at(scheme, broker.ports[scheme]) for scheme in ("ws", "wss")}
    daemon = make_daemon(brokers, [COUNT], conf={"subscriber wss": {"ca_file": ca.certificate}})
    for source in brokers:
        daemon.wait_subscribed(source)
    publish_and_compare(broker.port, database, 300)
    for source in brokers:  # whichever was first, its rows are all that the comparison has seen
        wait_until(lambda source=source: daemon.messages("stored", source) >= 300, f"those of {source}")
    assert [daemon.messages("stored", source) for source in brokers] == [300, 300]
    assert database.count("telemetry.count") == 600


def test_a_reading_of_a_megabyte_crosses_many_reads(make_daemon, make_builtin, database):
    """At the built-in broker: mosquitto takes half a minute for it."""
    broker = make_builtin(also=["ws"])
    make_daemon(at("ws", broker.ports["ws"]), [COUNT]).wait_subscribed()
    load = Publisher(broker.port, "count/1", lambda n: f"{n}{' ' * 1000000}".encode() if n == 1 else count(n))
    load.publish_all(3)
    load.stop()
    wait_until(lambda: database.column("SELECT n FROM telemetry.count ORDER BY n") == [0, 1, 2], "all readings")
