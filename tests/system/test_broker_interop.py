"""Ordinary clients work unchanged: each against our broker, both ways, over TCP, TLS and WebSocket."""
import os
import subprocess
import sys
import threading
import urllib.parse

import paho.mqtt.client as mqtt
import pytest

from harness import builtin as built_in
from harness.certificates import self_signed
from harness.client import fresh
from harness.mappings import ALTIMETER
from harness.node import NODE_ENVIRONMENT, has_node
from harness.processes import Process
from harness.wait import PATIENCE, wait_until

_HERE = os.path.join(os.path.dirname(__file__), "interop")


class _Scripted:
    """A program that takes the arguments of interop/paho.c."""
    transports = ("mqtt", "mqtts", "ws", "wss")

    def __init__(self, program, environment=None):
        self._program = program
        self._environment = environment

    def subscriber(self, uri, version, ca, topic_filter, will_topic):
        return Process("client", [*self._program, "sub", uri, str(version), ca, topic_filter, "2", will_topic, "gone"],
                       env=self._environment)

    def publish(self, uri, version, ca, messages):
        subprocess.run([*self._program, "pub", uri, str(version), ca, *[str(part) for one in messages for part in one]],
                       check=True, timeout=PATIENCE + 30, env=self._environment)


class _Mosquitto:
    """mosquitto_pub and mosquitto_sub, which know no WebSocket."""
    transports = ("mqtt", "mqtts")

    @staticmethod
    def _common(program, uri, version, ca):
        place = urllib.parse.urlsplit(uri)
        argv = [program, "-h", place.hostname, "-p", str(place.port), "-V", {4: "mqttv311", 5: "mqttv5"}[version]]
        return argv + (["--cafile", ca] if ca != "-" else [])

    def subscriber(self, uri, version, ca, topic_filter, will_topic):
        return Process("mosquitto_sub", [
            "stdbuf", "-oL", *self._common("mosquitto_sub", uri, version, ca), "-t", topic_filter, "-q", "2", "-d",
            "-F", "%t %q %r %p", "--will-topic", will_topic, "--will-payload", "gone", "--will-qos", "1"])

    def publish(self, uri, version, ca, messages):
        for topic, payload, qos, retain in messages:
            more = ["-t", topic, "-m", payload, "-q", str(qos), *(["-r"] if retain else [])]
            subprocess.run([*self._common("mosquitto_pub", uri, version, ca), *more], check=True,
                           timeout=PATIENCE + 30)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("interop")


@pytest.fixture(scope="module")
def tools(directory):
    program = directory / "paho"
    subprocess.run(["gcc", "-Wall", "-Werror", "-o", program, f"{_HERE}/paho.c", "-lpaho-mqtt3cs"], check=True)
    return {"mosquitto": _Mosquitto(), "paho.mqtt.c": _Scripted([program]),
            "paho-mqtt": _Scripted([sys.executable, f"{_HERE}/paho_python.py"]),
            "node-mqtt": _Scripted(["/usr/bin/node", f"{_HERE}/node.js"], NODE_ENVIRONMENT)}


@pytest.fixture(scope="module")
def _site(directory):
    certificate, key = self_signed(directory, "broker")
    site = built_in.BuiltIn(also=("mqtts", "ws", "wss"), certificate_file=certificate, key_file=key)
    site.certificate = certificate
    try:
        yield site.start()
    finally:
        site.end()


@pytest.fixture
def everywhere(_site):
    """The built-in broker on all its transports."""
    _site.show()
    yield _site
    _site.hang_up()
    _site.check()


_NO_NODE = pytest.mark.skipif(not has_node("mqtt", "ws"), reason="not installed: apt-get install node-mqtt node-ws")
_NAMES = ["mosquitto", "paho.mqtt.c", "paho-mqtt", pytest.param("node-mqtt", marks=_NO_NODE)]
_TOOLS = [pytest.param("mosquitto", transport) for transport in _Mosquitto.transports] + [
    pytest.param(name, transport, marks=_NO_NODE if name == "node-mqtt" else ())
    for name in ("paho.mqtt.c", "paho-mqtt", "node-mqtt") for transport in _Scripted.transports]


def place(site, transport):
    """The listener's URI, and the file of the certificate to trust."""
    tls = transport in ("mqtts", "wss")
    return f"{transport}://127.0.0.1:{site.ports[transport]}", site.certificate if tls else "-"


@pytest.mark.parametrize("tool, transport", _TOOLS)
def test_as_subscriber(everywhere, tools, version, tool, transport):
    """QoS 0, 1 and 2, retained, by a wildcard; and its will when it is killed."""
    uri, ca = place(everywhere, transport)
    root, will = fresh("root"), fresh("will")
    client = everywhere.client(version)
    client.subscribe(will, 2)
    client.publish(f"{root}/a/kept", b"kept", 1, retain=True)
    subscriber = tools[tool].subscriber(uri, version, ca, f"{root}/+/#", will)
    subscriber.log.wait_for("^ready|^Subscribed ")
    client.publish(f"{root}", b"not matched", 1)
    for qos in (0, 1, 2):
        client.publish(f"{root}/a", b"live %d" % qos, qos, retain=qos == 1)
    client.publish(f"{root}/b/c/d", b"deep", 2)
    expected = [f"{root}/a/kept 1 1 kept", f"{root}/a 0 0 live 0", f"{root}/a 1 0 live 1", f"{root}/a 2 0 live 2",
                f"{root}/b/c/d 2 0 deep"]
    wait_until(lambda: subscriber.log.find(" deep$"), "the last message")
    assert subscriber.log.find(f"^{root}") == expected
    client.nothing()
    subscriber.kill9()
    client.receive(will, b"gone", qos=1)


@pytest.mark.parametrize("tool, transport", _TOOLS)
def test_as_publisher(everywhere, tools, version, tool, transport):
    """QoS 0, 1 and 2, and retained."""
    uri, ca = place(everywhere, transport)
    topic = fresh("topic")
    client = everywhere.client(version)
    client.subscribe(topic, 2)
    live = [(topic, f"live {qos}", qos, 0) for qos in (0, 1, 2)]
    tools[tool].publish(uri, version, ca, [*live, (topic, "kept", 2, 1)])
    for qos in (0, 1, 2):
        client.receive(topic, b"live %d" % qos, qos=qos, retain=False)
    client.receive(topic, b"kept", qos=2, retain=False)
    client.nothing()
    client.subscribe(topic, 2)
    client.receive(topic, b"kept", qos=2, retain=True)


@pytest.mark.parametrize("publisher", _NAMES)
@pytest.mark.parametrize("subscriber", _NAMES)
def test_one_to_the_other(everywhere, tools, publisher, subscriber):
    """Over different transports, with different versions."""
    topic = fresh("topic")
    uri, ca = place(everywhere, "mqtts")
    reader = tools[subscriber].subscriber(uri, 5, ca, topic, fresh("will"))
    reader.log.wait_for("^ready|^Subscribed ")
    uri, ca = place(everywhere, tools[publisher].transports[-2])
    tools[publisher].publish(uri, 4, ca, [(topic, f"live {qos}", qos, 0) for qos in (0, 1, 2)])
    wait_until(lambda: reader.log.find("live 2$"), "the last message")
    assert reader.log.find(f"^{topic}") == [f"{topic} {qos} 0 live {qos}" for qos in (0, 1, 2)]
    reader.kill9()


def test_the_classic_script(make_builtin, database):
    """Connect, subscribe in on_connect, print each message; and the sensor that says 300 feet: 91.44 m in the table."""
    site = make_builtin(database, [ALTIMETER])
    printed, subscribed = [], threading.Event()

    def on_connect(client, _userdata, _flags, code):
        assert code == 0
        client.subscribe("sensors/altimeter/1", qos=1)

    def on_message(_client, _userdata, message):
        printed.append(f"{message.topic} {message.payload.decode()}")

    client = mqtt.Client()
    client.on_connect = on_connect
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = on_message
    client.connect("127.0.0.1", site.port, 60)
    client.loop_start()
    assert subscribed.wait(PATIENCE)
    sensor = mqtt.Client()
    sensor.connect("127.0.0.1", site.port)
    sensor.loop_start()
    sensor.publish("sensors/altimeter/1", "300 feet", qos=1).wait_for_publish(PATIENCE)
    assert database.query("SELECT sensor, altitude_m FROM telemetry.altimeter") == [("1", 91.44)]
    wait_until(lambda: printed == ["sensors/altimeter/1 300 feet"], "the message to be printed")
    for one in (sensor, client):
        one.disconnect()
        one.loop_stop()


@pytest.mark.parametrize("tool", _NAMES)
def test_readings_of_ordinary_clients(make_builtin, database, tools, version, tool):
    """A client that has its acknowledgement has its row."""
    site = make_builtin(database, [ALTIMETER])
    tools[tool].publish(site.uri, version, "-", [("sensors/altimeter/7", "300 feet", qos, 0) for qos in (1, 2)])
    assert database.query("SELECT sensor, altitude_m FROM telemetry.altimeter") == [("7", 91.44)] * 2
