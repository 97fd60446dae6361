"""The $SYS topics, as monitoring tools know them from mosquitto."""
import re
import subprocess

from harness.client import fresh
from harness.wait import wait_until

BROKER = {"sys_interval": "1s"}

_COUNTS = [
    "clients/total", "clients/connected", "clients/disconnected", "clients/maximum", "clients/expired",
    "messages/received", "messages/sent", "messages/stored",
    "publish/messages/received", "publish/messages/sent", "publish/messages/dropped",
    "publish/bytes/received", "publish/bytes/sent", "bytes/received", "bytes/sent",
    "subscriptions/count", "retained messages/count", "store/messages/count", "store/messages/bytes",
]
_LOADS = [f"load/{what}/{span}min" for span in (1, 5, 15) for what in (
    "messages/received", "messages/sent", "publish/received", "publish/sent", "publish/dropped", "bytes/received",
    "bytes/sent", "sockets", "connections")]


class Watcher:
    """A client that subscribes to them all; .values has the newest texts."""

    def __init__(self, builtin, version):
        self.client = builtin.client(version)
        self.values = {}
        self.messages = []
        self.client.subscribe("$SYS/#")
        self.look()

    def look(self):
        self.client.sync()
        while self.client.inbox:
            message = self.client.receive()
            self.messages.append(message)
            self.values[message.topic.removeprefix("$SYS/broker/")] = message.payload.decode()
        return self.values

    def number(self, name):
        return float(self.look().get(name, "nan"))

    def settled(self, name):
        """The number, when it counts these messages too."""
        return wait_until(lambda: self.number(name) > len(_COUNTS) and self.number(name), f"{name} to count all")

    def next(self):
        """All of them, as they are published next: with all that has been before."""
        uptime = self.look()["uptime"]
        wait_until(lambda: self.look()["uptime"] != uptime, "the next messages")
        return self.values

    def wait_for(self, name, number):
        wait_until(lambda: self.number(name) == number, f"{name} to be {number}")


def test_mosquittos_own_tool_reads_them(builtin):
    """All of them are retained, in the formats of mosquitto."""
    names = ["version", "uptime", *_COUNTS, *_LOADS]
    output = subprocess.run(["mosquitto_sub", "-p", str(builtin.port), "-v", "-t", "$SYS/#", "-C", str(len(names)),
                             "--retained-only", "-W", "30"],
                            check=True, capture_output=True, text=True).stdout
    values = {}
    for line in output.splitlines():
        name = next(name for name in sorted(names, key=len, reverse=True) if line.startswith(f"$SYS/broker/{name} "))
        values[name] = line.removeprefix(f"$SYS/broker/{name} ")
    assert set(values) == set(names)
    assert re.fullmatch(r"sensorlogd version \d+\.\S+", values["version"])
    assert re.fullmatch(r"\d+ seconds", values["uptime"])
    for name in _COUNTS:
        assert re.fullmatch(r"\d+", values[name]), name
    for name in _LOADS:
        assert re.fullmatch(r"\d+\.\d\d", values[name]), name


def test_messages_and_bytes_are_counted(builtin, version):
    watcher = Watcher(builtin, version)
    before = dict(watcher.next())
    publisher, subscriber, topic = builtin.client(version), builtin.client(version), fresh("topic")
    subscriber.subscribe(topic, 1)
    for _ in range(10):
        publisher.publish(topic, b"x" * 1000, 1)
        subscriber.receive(topic)
    subscriber.sync()

    def grown(name):
        return watcher.number(name) - float(before[name])

    wait_until(lambda: grown("publish/messages/received") == 10, "ten messages to be counted")
    assert grown("publish/bytes/received") == 10000
    watcher.next()  # with the tenth's acknowledgements
    assert grown("publish/messages/received") == 10
    assert grown("bytes/received") > 10000
    assert grown("messages/received") >= 20, "all packets, PUBACK too"
    assert grown("publish/messages/sent") >= 10, "and the messages to ourselves"
    assert grown("publish/bytes/sent") >= 10000
    assert grown("messages/sent") >= 20
    assert watcher.number("load/publish/received/1min") > 0
    assert watcher.number("load/bytes/received/15min") > 0


def test_clients_sessions_and_subscriptions_are_counted(make_builtin, version):
    builtin = make_builtin(**BROKER)
    watcher = Watcher(builtin, version)
    watcher.wait_for("clients/connected", 1)
    one, two = builtin.client(version, keep=True), builtin.client(version)
    one.subscribe_all([("a", 1), ("b", 0)])
    two.subscribe("c")
    watcher.wait_for("subscriptions/count", 4)
    watcher.wait_for("clients/connected", 3)
    one.disconnect()
    two.disconnect()
    watcher.wait_for("clients/connected", 1)
    assert watcher.number("clients/disconnected") == 1
    assert watcher.number("clients/total") == 2
    assert watcher.number("clients/maximum") == 3
    assert watcher.number("subscriptions/count") == 3
    before = watcher.settled("store/messages/count")
    publisher = builtin.client(version)
    for _ in range(3):
        publisher.publish("a", b"waits", 1)
    wait_until(lambda: watcher.number("store/messages/count") == before + 3, "three messages to be kept")


def test_expired_sessions_are_counted(make_builtin):
    builtin = make_builtin(**BROKER)
    watcher = Watcher(builtin, 5)
    builtin.client(5, keep=True, properties={"session_expiry_interval": 1}).disconnect()
    watcher.wait_for("clients/expired", 1)
    watcher.wait_for("clients/disconnected", 0)


def test_retained_messages_are_counted(builtin, version):
    watcher = Watcher(builtin, version)
    before = watcher.settled("retained messages/count")
    publisher, topic = builtin.client(version), fresh("kept")
    publisher.publish(topic, b"x", 1, retain=True)
    watcher.wait_for("retained messages/count", before + 1)
    publisher.publish(topic, b"", 1, retain=True)
    watcher.wait_for("retained messages/count", before)


def test_only_what_has_changed_is_published(make_builtin, version):
    """And QoS 0, without the retain flag to who is there already [MQTT-3.3.1-9]."""
    builtin = make_builtin(**BROKER)
    watcher = Watcher(builtin, version)
    watcher.wait_for("clients/connected", 1)
    first = int(watcher.look()["uptime"].split()[0])
    wait_until(lambda: int(watcher.look()["uptime"].split()[0]) > first, "all that we have changed")
    del watcher.messages[:]
    wait_until(lambda: int(watcher.look()["uptime"].split()[0]) >= first + 4, "three more seconds")
    names = {message.topic.removeprefix("$SYS/broker/") for message in watcher.messages}
    assert "uptime" in names and "bytes/sent" in names, "our own messages change them"
    assert not names & {"version", "clients/total", "clients/maximum", "subscriptions/count", "retained messages/count"}
    assert {(message.qos, message.retain) for message in watcher.messages} == {(0, False)}


def test_wildcards_do_not_match_them(builtin, version):
    """[MQTT-4.7.2-1]"""
    watcher, client = Watcher(builtin, version), builtin.client(version)
    client.subscribe_all([("#", 0), ("+/broker/uptime", 0)])
    watcher.next()
    client.nothing()


def test_a_client_cannot_publish_them(builtin, version):
    watcher, client = Watcher(builtin, version), builtin.client(version)
    client.publish("$SYS/broker/version", b"mine", 0, retain=True)
    assert Watcher(builtin, version).look()["version"] == watcher.look()["version"] != "mine"


def test_none_where_there_is_no_interval(make_builtin, version):
    builtin = make_builtin(sys_interval="0")
    client = builtin.client(version)
    client.subscribe("$SYS/#")
    client.nothing()


def test_they_are_no_part_of_the_state(make_builtin, version):
    """Durable sessions do not queue them, and after a restart there are no old ones."""
    builtin = make_builtin(**BROKER)
    client = builtin.client(version, keep=True)
    client.subscribe("$SYS/#", 1)
    watcher = Watcher(builtin, version)
    watcher.wait_for("clients/connected", 2)
    client.disconnect()
    watcher.wait_for("clients/connected", 1)
    stored = watcher.number("store/messages/count")
    watcher.next()
    assert watcher.number("store/messages/count") == stored
    conf = builtin.daemon.configuration
    with open(conf.file) as file:
        text = file.read()
    conf.write("sensorlogd.conf", text.replace("sys_interval = 1s", "sys_interval = 0"))
    builtin.kill9()
    builtin.start()
    client = builtin.client(version)
    client.subscribe("$SYS/#")
    client.nothing()
