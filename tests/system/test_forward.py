"""[forward NAME]: what local publishers send goes to a broker upstream, at least once, whatever happens on the way."""
import contextlib
import itertools
import signal
import socket
import ssl
import subprocess
import threading
import time

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness.client import fresh
from harness.daemon import is_sanitized
from harness.load import Publisher
from harness.processes import standing_still
from harness.wait import PATIENCE, TimedOut, wait_until

IDENTIFIER_REJECTED, CLIENT_ID_NOT_VALID = 0x02, 0x85
# However many messages have to wait: there is room.
DEEP = {"queued_messages": 100000, "queued_bytes": "64MiB"}


class Collector:
    """A client of the upstream broker that keeps its session, whatever happens to the broker; .messages come in order."""

    def __init__(self, upstream, topic_filter="#"):
        self.messages = []
        self._subscribed = threading.Event()
        self._client = mqtt.Client(fresh("collector"), protocol=mqtt.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(topic_filter, 2)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _userdata, message: self.messages.append(message)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 3600
        if hasattr(upstream, "certificate"):
            self._client.tls_set(upstream.certificate, tls_version=ssl.PROTOCOL_TLS_CLIENT)
        self._client.connect("127.0.0.1", upstream.port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert self._subscribed.wait(PATIENCE)

    def payloads(self, topic):
        return [message.payload for message in list(self.messages) if message.topic == topic]

    def wait_for(self, topic, payloads):
        """Until all of them have come to the topic, repeated or not, in whatever order."""
        try:
            wait_until(lambda: not set(payloads) - set(self.payloads(topic)), f"{len(payloads)} messages to {topic}",
                       progress=lambda: len(self.messages))
        except TimedOut:
            missing = sorted(set(payloads) - set(self.payloads(topic)))
            raise AssertionError(f"{len(missing)} messages to {topic} did not come: {missing[:20]}") from None

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def upstream(make_mosquitto):
    """A mosquitto that keeps sessions over restarts."""
    return make_mosquitto(persistence=True)


@pytest.fixture
def collect():
    """collect(upstream, filter) is a Collector."""
    with contextlib.ExitStack() as stack:
        def make(upstream, topic_filter="#"):
            collector = Collector(upstream, topic_filter)
            stack.callback(collector.close)
            return collector
        yield make


def section(upstream, **keys):
    """A section [forward up] with a prefix."""
    return {"forward up": {"uri": upstream.uri, "client_id": "edge", "filters": "sensors/#", "prefix": "site/7/", "qos": 2,
                           **keys}}


def connected(builtin, times=1):
    """Until the forward has connected so often."""
    wait_until(lambda: len(builtin.log.find(r"forward up: connected to")) >= times, f"connection {times} to the upstream")


def nothing_waits(builtin):
    """Until the upstream has acknowledged all."""
    wait_until(lambda: builtin.daemon.metric("sensorlog_forward_queued", forward="up") == 0, "the queue to be empty")


def payloads(name, count):
    return [b"%s %d" % (name, n) for n in range(count)]


def test_messages_arrive_with_the_prefix(make_builtin, upstream, collect, version):
    collector = collect(upstream)
    builtin = make_builtin(conf=section(upstream))
    connected(builtin)
    publisher = builtin.client(version)
    publisher.publish("sensors/a", b"zero", 0)
    publisher.publish("sensors/a", b"one", 1)
    publisher.publish("sensors/b", b"two", 2, retain=True)
    publisher.publish("other/a", b"stays here", 2)
    publisher.publish("sensors/c", b"", 1)
    wait_until(lambda: len(collector.messages) >= 4, "four messages")
    assert sorted((message.topic, message.payload, message.qos) for message in collector.messages) == [
        ("site/7/sensors/a", b"one", 1), ("site/7/sensors/a", b"zero", 0), ("site/7/sensors/b", b"two", 2),
        ("site/7/sensors/c", b"", 1)]
    late = collect(upstream, "site/7/sensors/b")
    wait_until(lambda: late.messages, "the retained message")
    assert (late.messages[0].payload, late.messages[0].retain) == (b"two", 1)


def test_properties_arrive(make_builtin, upstream, collect):
    collector = collect(upstream)
    builtin = make_builtin(conf=section(upstream))
    builtin.client(5).publish("sensors/a", b"x", 1, properties={
        "payload_format_indicator": 1, "content_type": "text/plain", "response_topic": "answers",
        "correlation_data": b"\0\1", "message_expiry_interval": 3600,
        "user_property": [("b", "1"), ("a", "2"), ("b", "3")]})
    wait_until(lambda: collector.messages, "the message")
    properties = collector.messages[0].properties
    assert properties.PayloadFormatIndicator == 1
    assert properties.ContentType == "text/plain"
    assert properties.ResponseTopic == "answers"
    assert properties.CorrelationData == b"\0\1"
    assert 3500 < properties.MessageExpiryInterval <= 3600
    assert properties.UserProperty == [("b", "1"), ("a", "2"), ("b", "3")]


def test_qos_is_bounded_by_the_section(make_builtin, upstream, collect):
    collector = collect(upstream)
    builtin = make_builtin(conf=section(upstream, qos=1))
    builtin.client(5).publish("sensors/a", b"two", 2)
    wait_until(lambda: collector.messages, "the message")
    assert collector.messages[0].qos == 1


def test_an_outage_of_the_upstream_loses_nothing(make_builtin, upstream, collect):
    """Stopped while messages are on their way, and restarted: all arrive."""
    collector = collect(upstream)
    builtin = make_builtin(conf=section(upstream), **DEEP)
    connected(builtin)
    publisher = Publisher(builtin.port, "sensors/one", lambda n: b"one %d" % n, rate=400).start()
    second = builtin.client(5)
    wait_until(lambda: len(collector.messages) > 100, "a hundred messages")
    upstream.stop()
    wait_until(lambda: len(publisher.acknowledged) > 600, "messages to be published meanwhile")
    acknowledged = publisher.stop()
    for n in range(100):
        second.publish("sensors/two", b"two %d" % n, 2)
    upstream.start()
    collector.wait_for("site/7/sensors/one", [b"one %d" % n for n in acknowledged])
    collector.wait_for("site/7/sensors/two", payloads(b"two", 100))


@pytest.mark.parametrize("qos", [1, 2])
def test_an_outage_of_the_upstream_changes_no_order(make_builtin, broker, qos):
    """Seen on the wire: what mosquitto 2.0.11 keeps for a subscriber that comes back may overtake what it has in flight."""
    builtin = make_builtin(conf=section(broker))
    connected(builtin)
    publisher = builtin.client(5)
    for n in range(300):
        publisher.publish("sensors/a", b"a %d" % n, qos)
        if n == 100:
            broker.stop()
        if n == 200:
            broker.start()

    def came():
        return [entry.packet.payload for entry in broker.entries("PUBLISH")]

    wait_until(lambda: len(set(came())) == 300, "all messages")
    assert list(dict.fromkeys(came())) == payloads(b"a", 300), "in order, but for what was sent again"


def test_kill_9_during_an_outage_loses_nothing(make_builtin, upstream, collect):
    collector = collect(upstream)
    builtin = make_builtin(conf=section(upstream))
    connected(builtin)
    upstream.stop()
    publisher = builtin.client(5)
    for n in range(200):
        publisher.publish("sensors/a", b"a %d" % n, 1 + n % 2)
    builtin.kill9()
    builtin.daemon.start()
    builtin.client(5).publish("sensors/a", b"after", 1)
    builtin.kill9()
    builtin.daemon.start()
    upstream.start()
    collector.wait_for("site/7/sensors/a", payloads(b"a", 200) + [b"after"])


def test_kill_9_while_messages_are_on_their_way(make_builtin, upstream, collect):
    """What was forwarded and not yet known to be may come twice; nothing is lost."""
    collector = collect(upstream)
    builtin = make_builtin(conf=section(upstream), **DEEP)
    numbers = itertools.count()
    acknowledged = []
    for kill in range(3):
        publisher = builtin.client(5)
        before = len(collector.messages)
        while len(collector.messages) < before + 50:
            for n in itertools.islice(numbers, 10):
                assert publisher.publish("sensors/a", b"a %d" % n, 1 + kill % 2) == 0
                acknowledged.append(n)
        builtin.kill9()
        builtin.daemon.start()
    collector.wait_for("site/7/sensors/a", [b"a %d" % n for n in acknowledged])


def test_what_an_orderly_stop_has_forwarded_does_not_come_twice(make_builtin, upstream, collect):
    """Those that the upstream acknowledges within a second: a stop waits no longer for it."""
    collector = collect(upstream)
    builtin = make_builtin(conf=section(upstream))
    quick = []
    for turn in range(20):
        wait_until(lambda: builtin.daemon.metric("sensorlog_forward_connected", forward="up") == 1, "the upstream")
        nothing_waits(builtin)
        publisher = builtin.client(5)
        marks = upstream.log.mark(), builtin.log.mark()
        with standing_still([upstream.pid]):
            for n in range(100):
                publisher.publish("sensors/a", b"%d %d" % (turn, n), 1)
            began = time.monotonic()
            builtin.daemon.signal(signal.SIGTERM)
            builtin.log.wait_for("then stopping", marks[1])
        upstream.log.wait_for("Client edge disconnected", marks[0])
        if time.monotonic() - began < 1:
            quick.append(turn)
        assert builtin.daemon.wait() == 0
        builtin.start()
        if len(quick) == 3:
            break
    collector.wait_for("site/7/sensors/a", [b"%d %d" % (of, n) for of in range(turn + 1) for n in range(100)])
    came = [payload for payload in collector.payloads("site/7/sensors/a") if int(payload.split()[0]) in quick]
    assert len(came) == 100 * len(quick)
    assert not upstream.log.find("Client edge closed its connection|exceeded timeout"), "it says DISCONNECT"


def test_filters_that_leave_the_configuration_are_not_forwarded(make_builtin, upstream, collect):
    collector = collect(upstream)
    builtin = make_builtin(conf=section(upstream, filters="sensors/# doors/+"))
    builtin.client(5).publish("doors/1", b"1", 1)
    collector.wait_for("site/7/doors/1", [b"1"])
    nothing_waits(builtin)
    conf = builtin.daemon.configuration
    with open(conf.file) as file:
        text = file.read()
    conf.write("sensorlogd.conf", text.replace("sensors/# doors/+", "sensors/# windows/+"))
    builtin.restart()
    publisher = builtin.client(5)
    for topic in ("doors/1", "windows/1", "sensors/1"):
        publisher.publish(topic, b"2", 1)
    collector.wait_for("site/7/windows/1", [b"2"])
    collector.wait_for("site/7/sensors/1", [b"2"])
    assert collector.payloads("site/7/doors/1") == [b"1"]


def test_access_rules_are_for_clients(make_builtin, upstream, collect, tmp_path):
    collector = collect(upstream)
    (tmp_path / "acl").write_text("topic write sensors/#\n")
    builtin = make_builtin(conf=section(upstream), acl_file=tmp_path / "acl")
    builtin.client(5).publish("sensors/a", b"x", 1)
    collector.wait_for("site/7/sensors/a", [b"x"])


def test_no_client_takes_the_session(make_builtin, upstream, version):
    builtin = make_builtin(conf=section(upstream))
    refused = IDENTIFIER_REJECTED if version == 4 else CLIENT_ID_NOT_VALID
    builtin.client(version, "$forward/up", code=refused).ends()
    builtin.client(version, "$forward/none", code=refused).ends()


# ---- TLS ----


@pytest.fixture
def certificates(tmp_path):
    """certificates(name, host) makes NAME.key and a certificate NAME.crt that signs itself; says where, without ending."""
    def make(name, host):
        place = str(tmp_path / name)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={host}",
                        "-keyout", f"{place}.key", "-out", f"{place}.crt"], check=True, capture_output=True)
        return place
    return make


@pytest.fixture
def secure(make_mosquitto, certificates):
    """An upstream with TLS, whose certificate is .certificate."""
    place = certificates("upstream", "IP:127.0.0.1")
    mosquitto = make_mosquitto(certfile=f"{place}.crt", keyfile=f"{place}.key")
    mosquitto.certificate = f"{place}.crt"
    return mosquitto


def test_tls_upstream(make_builtin, secure, collect):
    collector = collect(secure)
    builtin = make_builtin(conf=section(secure, uri=f"mqtts://127.0.0.1:{secure.port}", ca_file=secure.certificate))
    builtin.client(5).publish("sensors/a", b"x" * 100000, 2)
    collector.wait_for("site/7/sensors/a", [b"x" * 100000])


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_certificate_that_is_not_the_upstreams_is_refused(make_builtin, secure, certificates, wrong):
    ca_file = secure.certificate if wrong == "name" else f"{certificates('other', 'IP:127.0.0.1')}.crt"
    host = "localhost" if wrong == "name" else "127.0.0.1"
    builtin = make_builtin(conf=section(secure, uri=f"mqtts://{host}:{secure.port}", ca_file=ca_file))
    builtin.log.wait_for("forward up: no connection to .* TLS handshake")
    assert not builtin.log.find("forward up: connected")
    assert builtin.daemon.metric("sensorlog_forward_connected", forward="up") == 0


def test_without_verification_on_request_alone(make_builtin, secure, collect, certificates):
    collector = collect(secure)
    builtin = make_builtin(conf=section(secure, uri=f"mqtts://127.0.0.1:{secure.port}", verify="false"))
    builtin.client(5).publish("sensors/a", b"x", 1)
    collector.wait_for("site/7/sensors/a", [b"x"])


def test_user_and_password(make_builtin, make_mosquitto, collect, tmp_path):
    upstream = make_mosquitto(users={"edge": "feet"})
    (tmp_path / "password").write_text("metres\n")
    builtin = make_builtin(conf=section(upstream, username="edge", password_file=tmp_path / "password"))
    builtin.log.wait_for("forward up: no connection to .*[Nn]ot authorized")
    (tmp_path / "password").write_text("feet\n")
    connected(builtin)
    assert not builtin.log.find("feet|metres"), "secrets never reach a log"


# ---- an upstream that is ill ----


@pytest.fixture
def mute():
    """A server that takes connections and says nothing."""
    server = socket.create_server(("127.0.0.1", 0))
    yield server
    server.close()


def test_an_upstream_that_says_nothing_holds_nobody_up(make_builtin, mute):
    uri = f"mqtt://127.0.0.1:{mute.getsockname()[1]}"
    builtin = make_builtin(conf={"forward up": {"uri": uri, "client_id": "edge", "filters": "#"}})
    connection, _ = mute.accept()
    watcher, publisher = builtin.client(5), builtin.client(5)
    watcher.subscribe("a", 1)
    for n in range(50):
        publisher.publish("a", b"%d" % n, 1)
        watcher.receive("a", b"%d" % n)
    assert builtin.daemon.stop(PATIENCE) == 0
    connection.close()


_HANGING_NAMES = """
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    while (strstr(name, ".hangs") && !(hints->ai_flags & AI_NUMERICHOST))
        pause();
    return real(name, service, hints, found);
}
"""


def test_a_name_server_that_hangs_holds_nobody_up(make_builtin, upstream, collect, tmp_path):
    """Neither the clients, nor another forward, nor a stop."""
    if is_sanitized():
        pytest.skip("a sanitizer wants to be the first library")
    subprocess.run(["gcc", "-D_GNU_SOURCE", "-shared", "-fPIC", "-x", "c", "-o", tmp_path / "hang.so", "-", "-ldl"],
                   input=_HANGING_NAMES, text=True, check=True)
    collector = collect(upstream)
    sections = section(upstream)
    sections["forward hung"] = {"uri": "mqtt://upstream.hangs", "client_id": "edge", "filters": "#"}
    builtin = make_builtin(conf=sections, environment={"LD_PRELOAD": str(tmp_path / "hang.so"),
                                                      "ASAN_OPTIONS": "verify_asan_link_order=0"})
    publisher = builtin.client(5)
    for n in range(50):
        publisher.publish("sensors/a", b"a %d" % n, 1)
    collector.wait_for("site/7/sensors/a", payloads(b"a", 50))
    assert builtin.daemon.metric("sensorlog_forward_queued", forward="hung") == 50
    assert builtin.daemon.stop(PATIENCE) == 0


def test_a_name_that_does_not_exist_holds_nobody_up(make_builtin):
    builtin = make_builtin(conf={"forward up": {"uri": "mqtt://upstream.invalid", "client_id": "edge", "filters": "#"}})
    publisher = builtin.client(5)
    for n in range(50):
        assert publisher.publish("a", b"%d" % n, 1) == 0
    why = "(Name or service not known|Temporary failure)"
    # With time for name servers that do not answer.
    builtin.log.wait_for(f"forward up: no connection to mqtt://upstream.invalid: {why}", timeout=PATIENCE + 60)
    assert builtin.daemon.stop() == 0


@pytest.mark.parametrize("code", [0x84, 0x01])
def test_an_upstream_of_3_1_1(make_builtin, broker, code):
    """Whether it knows MQTT 5 well enough to refuse it in its own words, or not."""
    broker.refuse = {5: code}
    builtin = make_builtin(conf=section(broker))
    builtin.log.wait_for("forward up: connected to .* MQTT 3.1.1")
    builtin.client(5).publish("sensors/a", b"x", 2, properties={"content_type": "text"})
    wait_until(lambda: broker.connections[-1].of_kind("PUBREL"), "the whole exchange")
    message, = broker.connections[-1].of_kind("PUBLISH")
    assert (message.topic, message.payload, message.qos) == ("site/7/sensors/a", b"x", 2)


def test_what_waits_is_seen(make_builtin, upstream):
    builtin = make_builtin(conf=section(upstream))
    connected(builtin)
    assert builtin.daemon.metric("sensorlog_forward_connected", forward="up") == 1
    upstream.stop()
    builtin.log.wait_for("forward up: (lost the|no) connection to")
    for n in range(5):
        builtin.client(5).publish("sensors/a", b"%d" % n, 1)
    assert builtin.daemon.metric("sensorlog_forward_connected", forward="up") == 0
    assert builtin.daemon.metric("sensorlog_forward_queued", forward="up") == 5
    upstream.start()
    nothing_waits(builtin)
    assert builtin.daemon.metric("sensorlog_forward_sent_total", forward="up") == 5
