"""TLS with real certificates: the subscriber with mosquitto, and the built-in broker with mosquitto's clients."""
import shutil
import subprocess
import types

import pytest

from harness.certificates import LOCAL, Authority
from harness.daemon import run_command
from harness.load import Publisher
from harness.mappings import COUNT, count
from harness.wait import PATIENCE, wait_until


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "ca")


@pytest.fixture(scope="module")
def other_ca(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("certificates") / "other", "Other CA")


@pytest.fixture(scope="module")
def server(ca):
    return ca.issue("server", LOCAL)


@pytest.fixture
def make_tls_mosquitto(make_mosquitto):
    """make(identity, **options): one that listens with TLS; and without it for publishers, at .plain_port."""
    def make(identity, **options):
        return make_mosquitto(certfile=identity.certificate, keyfile=identity.key, **options)

    return make


def at(port, host="localhost", scheme="mqtts"):
    return types.SimpleNamespace(uri=f"{scheme}://{host}:{port}")


def site(**settings):
    return {"subscriber site": settings}


def publish(port, topic, payload, *options, host="localhost"):
    """mosquitto_pub, QoS 1; the completed process."""
    return subprocess.run(["mosquitto_pub", "-V", "5", "-h", host, "-p", str(port), "-q", "1", "-t", topic,
                           "-m", payload, *options], capture_output=True, text=True, timeout=PATIENCE)


def as_client(ca, identity=None):
    """mosquitto_pub's options."""
    shown = ["--cert", identity.certificate, "--key", identity.key] if identity else []
    return ["--cafile", ca.certificate, *shown]


# The subscriber


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_readings_come_by_tls(make_daemon, make_tls_mosquitto, database, ca, server, host):
    mosquitto = make_tls_mosquitto(server)
    make_daemon(at(mosquitto.port, host), [COUNT], conf=site(ca_file=ca.certificate)).wait_subscribed()
    assert publish(mosquitto.port, "count/1", count(7).decode(), *as_client(ca)).returncode == 0
    wait_until(lambda: database.column("SELECT n FROM telemetry.count") == [7], "the reading")


def test_a_client_certificate(make_daemon, make_tls_mosquitto, ca, server):
    """The broker knows the subscriber by its certificate."""
    logger = ca.issue("logger")
    mosquitto = make_tls_mosquitto(server, cafile=ca.certificate, require_certificate="true",
                                   use_identity_as_username="true")
    daemon = make_daemon(at(mosquitto.port), [COUNT],
                         conf=site(ca_file=ca.certificate, certificate_file=logger.certificate, key_file=logger.key))
    daemon.wait_subscribed()
    mosquitto.log.wait_for(r"as sensorlogd-site .*u'logger'")


def test_without_the_client_certificate_that_is_asked_for(make_daemon, make_tls_mosquitto, ca, server):
    mosquitto = make_tls_mosquitto(server, cafile=ca.certificate, require_certificate="true")
    daemon = make_daemon(at(mosquitto.port), [COUNT], conf=site(ca_file=ca.certificate))
    daemon.log.wait_for(r"site: .*TLS: the peer says '.*certificate required'")
    assert daemon.metric("sensorlog_source_connected", source="site") == 0


@pytest.mark.parametrize("kind, why", [
    ("expired", "certificate has expired"),
    ("elsewhere", "hostname mismatch"),
    ("other", r"unable to get local issuer certificate \(is its issuer in ca_file\?\)"),
    ("revoked", "certificate revoked"),
    ("old list", r"CRL has expired \(fetch a new crl_file\)"),
])
def test_a_bad_server_is_refused_and_said_to_be(make_daemon, make_tls_mosquitto, ca, other_ca, kind, why):
    identity = {
        "expired": lambda: ca.issue("server", LOCAL, expired=True),
        "elsewhere": lambda: ca.issue("localhost", ["DNS:elsewhere.example"]),
        "other": lambda: other_ca.issue("server", LOCAL),
    }.get(kind, lambda: ca.issue("server", LOCAL))()
    settings = {"ca_file": ca.certificate}
    if kind == "revoked":
        ca.revoke(identity)
    if kind in ("revoked", "old list"):
        settings["crl_file"] = ca.revoked(expired=kind == "old list")
    mosquitto = make_tls_mosquitto(identity)
    daemon = make_daemon(at(mosquitto.port), [COUNT], conf=site(**settings))
    daemon.log.wait_for(f"site: no connection to localhost:{mosquitto.port}: certificate of localhost: {why}; next try")
    daemon.notify.wait_for("STATUS", lambda text: "certificate of localhost" in text)
    assert daemon.metric("sensorlog_source_connected", source="site") == 0
    checked = run_command("check", "-c", daemon.configuration.file, "--connect")
    assert checked.returncode == 1
    assert "broker site: down: certificate of localhost: " in checked.stderr


def test_verification_can_be_turned_off(make_daemon, make_tls_mosquitto, ca):
    mosquitto = make_tls_mosquitto(ca.issue("server", LOCAL, expired=True))
    daemon = make_daemon(at(mosquitto.port), [COUNT], conf=site(verify="false"))
    daemon.wait_subscribed()
    checked = run_command("check", "-c", daemon.configuration.file, "--connect")
    assert checked.returncode == 0, checked.stderr


def test_a_broker_that_speaks_no_tls(make_daemon, site, ca):
    daemon = make_daemon(at(site.port), [COUNT], conf={"subscriber site": {"ca_file": ca.certificate}})
    daemon.log.wait_for(r"site: no connection to .*TLS")


@pytest.mark.parametrize("key", ["ca_file", "certificate_file", "key_file", "crl_file"])
def test_a_file_that_is_none_of_the_kind_is_named(configuration, ca, server, tmp_path, key):
    garbage = tmp_path / "garbage"
    garbage.write_text("this is no PEM\n")
    settings = {"uri": "mqtts://localhost", "ca_file": ca.certificate, "certificate_file": server.certificate,
                "key_file": server.key, key: str(garbage)}
    checked = run_command("check", "-c", configuration({"subscriber site": settings}, [COUNT]).file)
    assert checked.returncode == 78
    assert f"{garbage}: holds no " in checked.stderr


def test_new_certificates_are_taken_over(make_daemon, make_tls_mosquitto, database, ca, other_ca, tmp_path):
    """SIGHUP: the connection there is goes on, the next one is with the new authority."""
    trusted = tmp_path / "trusted.pem"
    shutil.copy(ca.certificate, trusted)
    before, after = ca.issue("server", LOCAL), other_ca.issue("server", LOCAL)
    files = types.SimpleNamespace(certificate=str(tmp_path / "server.pem"), key=str(tmp_path / "server.key"))
    shutil.copy(before.certificate, files.certificate)
    shutil.copy(before.key, files.key)
    mosquitto = make_tls_mosquitto(files)
    daemon = make_daemon(at(mosquitto.port), [COUNT], conf=site(ca_file=trusted))
    daemon.wait_subscribed()
    shutil.copy(other_ca.certificate, trusted)
    daemon.reload()
    assert publish(mosquitto.port, "count/1", count(1).decode(), *as_client(ca)).returncode == 0
    wait_until(lambda: database.column("SELECT n FROM telemetry.count") == [1], "the reading")
    assert daemon.metric("sensorlog_source_connects_total", source="site") == 1
    shutil.copy(after.certificate, files.certificate)
    shutil.copy(after.key, files.key)
    mosquitto.restart()
    wait_until(lambda: daemon.metric("sensorlog_source_connects_total", source="site") > 1, "the new connection")
    assert not daemon.log.find("certificate of localhost")


def test_certificates_that_are_no_good_are_not_taken_over(make_daemon, make_tls_mosquitto, ca, server, tmp_path):
    trusted = tmp_path / "trusted.pem"
    shutil.copy(ca.certificate, trusted)
    mosquitto = make_tls_mosquitto(server)
    daemon = make_daemon(at(mosquitto.port), [COUNT], conf=site(ca_file=trusted))
    daemon.wait_subscribed()
    trusted.write_text("this is no PEM\n")
    daemon.reload()
    daemon.log.wait_for(f"{trusted}: holds no certificate in PEM format")
    mosquitto.restart()
    wait_until(lambda: daemon.metric("sensorlog_source_connects_total", source="site") > 1, "the next connection")


# The built-in broker


def test_sensors_publish_by_tls(make_builtin, database, ca, server):
    broker = make_builtin(database, [COUNT], also=["mqtts"], certificate_file=server.certificate,
                          key_file=server.key, allow_anonymous="true")
    assert publish(broker.ports["mqtts"], "count/1", count(3).decode(), *as_client(ca)).returncode == 0
    assert database.column("SELECT n FROM telemetry.count") == [3]
    assert publish(broker.ports["mqtts"], "count/1", count(4).decode()).returncode != 0  # without TLS
    broker.log.wait_for("the peer does not speak TLS")


@pytest.fixture
def make_strict_broker(make_builtin, database, ca, server):
    """One that asks for certificates of the authority, whose names are the users'."""
    def make():
        return make_builtin(database, [COUNT], also=["mqtts"], certificate_file=server.certificate,
                            key_file=server.key, ca_file=ca.certificate, crl_file=ca.revoked(),
                            client_certificates="required", certificate_as_username="true", allow_anonymous="true")

    return make


@pytest.mark.parametrize("kind, why", [
    ("none", "TLS: the client shows no certificate"),
    ("other", "certificate of client altimeter: unable to get local issuer certificate"),
    ("expired", "certificate of client altimeter: certificate has expired"),
    ("revoked", "certificate of client altimeter: certificate revoked"),
])
def test_sensors_without_a_good_certificate_are_refused(make_strict_broker, database, ca, other_ca, kind, why):
    identity = None if kind == "none" else (other_ca if kind == "other" else ca).issue("altimeter",
                                                                                       expired=kind == "expired")
    if kind == "revoked":
        ca.revoke(identity)
    broker = make_strict_broker()
    assert publish(broker.ports["mqtts"], "count/1", "1", *as_client(ca, identity)).returncode != 0
    broker.log.wait_for(why)
    good = ca.issue("altimeter 7")
    assert publish(broker.ports["mqtts"], "count/1", "2", *as_client(ca, good)).returncode == 0
    broker.log.wait_for("connected: user altimeter 7,")
    assert database.column("SELECT n FROM telemetry.count") == [2]


def test_a_certificate_is_revoked_while_the_broker_runs(make_strict_broker, ca):
    lost = ca.issue("altimeter 8")
    broker = make_strict_broker()
    assert publish(broker.ports["mqtts"], "count/1", "1", *as_client(ca, lost)).returncode == 0
    ca.revoke(lost)
    ca.revoked()
    broker.daemon.reload()
    assert publish(broker.ports["mqtts"], "count/1", "2", *as_client(ca, lost)).returncode != 0
    broker.log.wait_for("certificate of client altimeter 8: certificate revoked")


def test_a_subscriber_at_the_built_in_broker(make_daemon, make_builtin, database, ca, server):
    """Both ends are ours, and both verify."""
    logger = ca.issue("logger")
    broker = make_builtin(also=["mqtts"], certificate_file=server.certificate, key_file=server.key,
                          ca_file=ca.certificate, client_certificates="required", allow_anonymous="true")
    make_daemon(at(broker.ports["mqtts"]), [COUNT],
                conf=site(ca_file=ca.certificate, certificate_file=logger.certificate,
                          key_file=logger.key)).wait_subscribed()
    load = Publisher(broker.port, "count/1", count)
    load.publish_all(500)
    load.stop()
    wait_until(lambda: len(set(database.column("SELECT n FROM telemetry.count"))) == 500, "all readings")
