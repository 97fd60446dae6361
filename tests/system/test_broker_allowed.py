"""What the ACL file does not allow to publish, or to read, is refused as the clauses say, and never delivered."""
from harness import wire
from harness.wait import wait_until

NOT_AUTHORIZED = 0x87

ACL = """
topic read #
topic write open/#
topic read $SYS/#
"""


def test_what_is_not_allowed_is_delivered_to_nobody(make_builtin, version, tmp_path):
    """Acknowledged, under MQTT 5 with 0x87, but never delivered or retained [3:MQTT-3.3.5-2]; a will likewise."""
    (tmp_path / "acl").write_text(ACL)
    site = make_builtin(acl_file=tmp_path / "acl")
    watcher = site.client(version)
    assert watcher.subscribe("#", 2) == 2
    client = site.client(version)
    for qos in (0, 1, 2):
        assert client.publish("closed/a", b"no", qos, retain=True) == (NOT_AUTHORIZED if qos and version == 5 else 0)
    site.client(version, will=wire.will("closed/will", b"no", qos=1)).close()
    site.client(version, will=wire.will("open/will", b"yes", qos=1)).close()
    watcher.receive("open/will", b"yes")
    wait_until(lambda: site.daemon.metric("sensorlog_broker_clients") == 2, "the broker to see that both have gone")
    assert client.publish("open/a", b"yes", 1) == 0
    watcher.receive("open/a", b"yes")
    late = site.client(version)
    late.subscribe("#")
    late.nothing()


def test_what_may_not_be_read_is_not_delivered(make_builtin, version, tmp_path):
    """Neither live nor retained, though a wider filter matches; a filter under which nothing may be read is refused
    [3:MQTT-3.9.3-2] [5:MQTT-3.9.3-2]."""
    (tmp_path / "acl").write_text("topic read open/#\ntopic write #\n")
    site = make_builtin(acl_file=tmp_path / "acl")
    client = site.client(version)
    client.publish("closed/a", b"no", 1, retain=True)
    client.publish("open/a", b"yes", 1, retain=True)
    assert client.subscribe_all([("closed/#", 1), ("open/#", 1)]) == [NOT_AUTHORIZED if version == 5 else 0x80, 1]
    client.receive("open/a", b"yes", retain=True)
    client.subscribe("#", 1)
    seen = client.receive_all(1)
    client.publish("closed/a", b"no", 1)
    client.publish("open/b", b"marker", 1)
    while seen[-1].payload != b"marker":
        seen.append(client.receive())
    assert not any(message.topic.startswith("closed") for message in seen)
