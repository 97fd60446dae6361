"""Every mistake in the configuration is told with file, line, and what would be right; all of them in one run.

In the texts below » marks the line that is to be named (one of them, where there are several); the mark itself is
taken out."""
import re
import shutil
import subprocess

import pytest

from harness.daemon import mappings_file, repository, run_command

CONF = """[postgres]
conninfo = host=/run/postgresql dbname=telemetry
schema = telemetry

[subscriber site]
uri = mqtt://127.0.0.1:1883
client_id = sensorlogd-edge7
keepalive = 60
qos = 1
window = 1000
session_expiry = 7d

[batch]
max_rows = 10000
linger = 0ms
memory = 64MiB

[mappings]
directory = topics.d

[log]
level = info
"""

# A site with the built-in broker; the test writes users and acl beside it.
BROKER_CONF = """[postgres]
conninfo = host=/run/postgresql dbname=telemetry

[broker]
listen = mqtt://127.0.0.1:1883 ws://*:9001
password_file = users
acl_file = acl
state = state/broker.db
connections = 100

[forward office]
uri = mqtt://broker.example
filters = sensors/#

[mappings]
directory = topics.d
"""
USERS = "# nobody else\nlamp:$7$5$4GA7Q5YRSp5+vi85$" + 86 * "A" + "==\n"
ACL = "user lamp\ntopic write lamp/#\n"

MAPPING = """{
    name = "weather";
    filter = "sensors/weather/#";
    decoder = "json";
    time = { from = "/ts"; format = "unix_ms"; };
    table = "weather";
    key = ["station", "time"];
    columns = (
      { name = "station";     type = "text";   from = "/station"; required = true; },
      { name = "temperature"; type = "float8"; from = "/temp"; min = -90.0; max = 60.0; }
    );
  }"""

# What is replaced in CONF, by what, and words that the explanation must have.
CONF_MISTAKES = {
    "unknown section": ("[log]", "»[lag]", ["lag", "log"]),
    "unknown key": ("linger =", "»lingre =", ["lingre", "linger"]),
    "key of another section": ("level = info", "»window = 5", ["window"]),
    "key given twice": ("qos = 1\n", "qos = 1\n»qos = 2\n", ["qos", "twice|again|already|duplicate"]),
    "key before any section": ("[postgres]\n", "»level = info\n[postgres]\n", ["level|section"]),
    "line that is no setting": ("level = info", "»level info", ["=|level"]),
    "section without its end": ("[log]", "»[log", ["log|\\]"]),
    "subscriber without a name": ("[subscriber site]", "»[subscriber]", ["name"]),
    "subscriber without a broker": ("[subscriber site]\nuri = mqtt://127.0.0.1:1883", "»[subscriber site]", ["uri"]),
    "no number": ("window = 1000", "»window = many", ["many", "number|1"]),
    "number with a tail": ("window = 1000", "»window = 1000x", ["1000x"]),
    "number too small": ("window = 1000", "»window = 0", ["window", "1", "65535"]),
    "number too large": ("window = 1000", "»window = 65536", ["window", "1", "65535"]),
    "no QoS": ("qos = 1", "»qos = 3", ["qos", "0", "2"]),
    "no such scheme": ("mqtt://127", "»http://127", ["http", "mqtt"]),
    "no such port": (":1883", ":99999»", ["99999|port"]),
    "no such protocol": ("qos = 1", "»protocol = 4", ["4", "3.1.1", "5"]),
    "no duration": ("linger = 0ms", "»linger = soon", ["soon", "ms|s"]),
    "duration without a unit": ("session_expiry = 7d", "»session_expiry = 7 fortnights", ["fortnights"]),
    "no size": ("memory = 64MiB", "»memory = 64 bananas", ["bananas", "MiB"]),
    "no log level": ("level = info", "»level = loud", ["loud", "info", "debug"]),
    "no boolean": ("schema = telemetry", "»migrate = perhaps", ["perhaps", "true", "false"]),
    "connections out of range": ("schema = telemetry", "»connections = 0", ["connections", "1"]),
    "conninfo that libpq does not take": ("dbname=telemetry", "databasename=telemetry»", ["databasename"]),
    "indented line": ("qos = 1", "»  qos = 1", ["indent|space|blank|continu"]),
    "line over the parser's buffer": ("client_id = sensorlogd", "»client_id = " + 5000 * "s", ["long"]),
    "section name over the parser's buffer": ("[subscriber site]", f"»[subscriber {60 * 's'}]", ["long"]),
    "no such password file": ("qos = 1", "»password_file = /nonexistent/password", ["/nonexistent/password"]),
    "share that is no level of a topic": ("qos = 1", "»share = a/b", ["share|a/b"]),
    "no such directory of mappings": ("= topics.d", "= nowhere.d»", ["nowhere.d"]),
    "address without a port": ("[log]", "[http]\n»listen = everywhere\n[log]", ["everywhere"]),
}

BROKER_MISTAKES = {
    "no such scheme": ("mqtt://127.0.0.1", "»http://127.0.0.1", ["http", "mqtts"]),
    "name to listen on": ("mqtt://127.0.0.1", "»mqtt://localhost", ["localhost", "numeric"]),
    "address twice": ("ws://*:9001", "ws://*:1883»", ["same", "port"]),
    "TLS without certificate": ("ws://*:9001", "wss://*:9001»", ["certificate_file"]),
    "nobody can log in": ("listen = mqtt://127.0.0.1:1883 ws://*:9001\npassword_file = users\n",
                          "listen = mqtt://127.0.0.1:1883 ws://*:9001»\n",
                          ["log in", "sensorlogd passwd", "allow_anonymous"]),
    "anonymous forbidden, no users": ("password_file = users", "»allow_anonymous = false", ["log in"]),
    "no such file of users": ("= users", "= nobody»", ["nobody", "No such file"]),
    "no file of users": ("= users", "= acl»", ["acl:1"]),
    "no such directory of the state": ("state/broker.db", "none/broker.db»", ["none", "directory"]),
    "number out of range": ("connections = 100", "connections = 0»", ["1", "1000000"]),
    "key of mosquitto": ("connections = 100", "persistence = true»", ["mosquitto", "state"]),
    "certificates asked for in vain": ("connections = 100", "client_certificates = required»", ["ca_file"]),
    "no filter": ("sensors/#", "sensors#»", ["sensors#"]),
    "no address to forward to": ("mqtt://broker", "»ws://broker", ["ws", "mqtts"]),
    "forward to itself": ("mqtt://broker.example", "»mqtt://127.0.0.1:1883", ["itself"]),
}

# What is replaced in which of the files of users and rules.
FILE_MISTAKES = {
    "password in plain text": ("users", "lamp:$7", "lamp:»secret$7", ["plain text", "sensorlogd passwd"]),
    "damaged hash": ("users", "AA==", "»", ["damaged", "lamp"]),
    "line without a hash": ("users", "# nobody else", "»lamp", ["HASH"]),
    "no such access": ("acl", "write", "wirte»", ["wirte", "readwrite", "deny"]),
    "no such word": ("acl", "user", "usr»", ["usr", "pattern"]),
    "no filter": ("acl", "lamp/#", "lamp/#/x»", ["lamp/#/x"]),
}

MAPPING_MISTAKES = {
    "syntax": ('decoder = "json";', '»decoder = = "json";', ["syntax"]),
    "unknown key": ("filter =", "»filtre =", ["filtre", "filter"]),
    "unknown key of a column": ("required = true", "requierd = true»", ["requierd", "required"]),
    "no name": ('{\n    name = "weather";', "»{", ["name"]),
    "no filter": ('{\n    name = "weather";\n    filter = "sensors/weather/#";', '»{\n»    name = "weather";',
                  ["filter"]),
    "no table": ('{\n    name = "weather";\n', '»{\n»    name = "weather";\n', ["table"]),
    "filter with # inside": ("sensors/weather/#", "sensors/#/weather»", ["#", "sensors/#/weather"]),
    "filter with + in a level": ("sensors/weather/#", "sensors+/weather»", [r"\+"]),
    "no such decoder": ('"json"', '"jsno"»', ["jsno", "json"]),
    "no such type": ('"float8"', '"flaot8"»', ["flaot8", "float8"]),
    "no such time format": ('"unix_ms"', '"unix_min"»', ["unix_min", "unix_ms"]),
    "number where text belongs": ('table = "weather"', "»table = 5", ["table", "text|string"]),
    "text where a number belongs": ("min = -90.0", 'min = "cold"»', ["min", "number"]),
    "text where true or false belongs": ("required = true", 'required = "yes"»', ["required", "true"]),
    "min over max": ("min = -90.0", "min = 90.0»", ["min", "max"]),
    "number that wraps without an L": ("min = -90.0", "min = -300000000000»", ["L"]),
    "column twice": ('"temperature"', '"station"»', ["station", "twice|again|already|duplicate"]),
    "column named time": ('name = "temperature"', 'name = "time"»', ["time"]),
    "column that takes from nowhere": ('from = "/temp"; ', "»", ["from"]),
    "pointer without its slash": ('from = "/temp"', 'from = "temp"»', ["temp", "/"]),
    "level that is no number": ('from = "/station"', 'from = "topic[last]"»', [r"topic\[last\]"]),
    "column from two places": ('from = "/temp"', 'from = "/temp"; value = "5"»', ["from|value"]),
    "constant that is no value of the type": ('from = "/temp"; min = -90.0; max = 60.0', 'value = "warm"»', ["warm"]),
    "default that is no value of the type": ("max = 60.0", 'default = "warm"»', ["warm|default"]),
    "no such unit": ("max = 60.0", 'unit = "bananas"»', ["bananas"]),
    "unit of a text": ("required = true", 'unit = "m"»', ["unit"]),
    "QoS 3": ("{\n    name", "{\n»    qos = 3;\n    name", ["qos", "0|2"]),
    "no such source": ("{\n    name", '{\n»    source = ["roof"];\n    name', ["roof", "site"]),
    "key with no such column": ('["station"', '»["sattion"', ["sattion", "station"]),
    "key without the time": ('["station", "time"]', '["station"]»', ["time"]),
    "key with the time of arrival": (
        '    time = { from = "/ts"; format = "unix_ms"; };\n    table = "weather";\n    key',
        '»    table = "weather";\n»    key', ["arriv"]),
    "key with dup": ('from = "/station"', 'from = "dup"»', ["dup"]),
    "name too long for PostgreSQL": ('table = "weather"', f'»table = "{70 * "w"}"', ["63|long"]),
}


def broken(text, replaced, by):
    """(the text with the mistake in it, the numbers of its marked lines)."""
    assert replaced in text
    marked = text.replace(replaced, by, 1)
    assert "»" in marked
    lines = [number for number, line in enumerate(marked.split("\n"), 1) if "»" in line]
    return marked.replace("»", ""), lines


def told(output, file, lines, words):
    """Whether a line of the output names file, one of the lines, and all the words."""
    places = "|".join(map(str, lines))
    return any(re.search(rf"{re.escape(file)}:({places}):", line) and
               all(re.search(word, line.split(":", 2)[-1]) for word in words) for line in output.splitlines())


def test_without_mistakes_there_is_nothing_to_tell(configuration):
    result = run_command("check", "-c", configuration(CONF, [MAPPING]).file)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""


@pytest.mark.parametrize("mistake", CONF_MISTAKES)
def test_a_mistake_in_the_settings(configuration, mistake):
    replaced, by, words = CONF_MISTAKES[mistake]
    text, lines = broken(CONF, replaced, by)
    result = run_command("check", "-c", configuration(text, [MAPPING]).file)
    assert result.returncode == 78
    assert told(result.stderr, "sensorlogd.conf", lines, words), result.stderr


@pytest.mark.parametrize("mistake", MAPPING_MISTAKES)
def test_a_mistake_in_a_mapping(configuration, mistake):
    replaced, by, words = MAPPING_MISTAKES[mistake]
    text, lines = broken(mappings_file(MAPPING), replaced, by)
    if mistake == "no table":
        text = text.replace('    table = "weather";\n', "")
    result = run_command("check", "-c", configuration(CONF, {"weather.cfg": text}).file)
    assert result.returncode == 78
    assert told(result.stderr, "topics.d/weather.cfg", lines, words), result.stderr


@pytest.fixture
def broker_site(configuration):
    """broker_site(conf, name=text, ...) writes one, with the files of users and rules."""
    def make(conf, **files):
        site = configuration(conf, [MAPPING])
        for name, text in {"users": USERS, "acl": ACL, **files}.items():
            site.write(name, text)
        return site
    return make


def test_a_broker_without_mistakes(broker_site):
    result = run_command("check", "-c", broker_site(BROKER_CONF).file)
    assert (result.returncode, result.stderr) == (0, "")
    assert "built-in broker" in result.stdout


@pytest.mark.parametrize("mistake", BROKER_MISTAKES)
def test_a_mistake_in_the_broker(broker_site, mistake):
    replaced, by, words = BROKER_MISTAKES[mistake]
    text, lines = broken(BROKER_CONF, replaced, by)
    result = run_command("check", "-c", broker_site(text).file)
    assert result.returncode == 78
    assert told(result.stderr, "sensorlogd.conf", lines, words), result.stderr


@pytest.mark.parametrize("mistake", FILE_MISTAKES)
def test_a_mistake_in_users_or_rules(broker_site, mistake):
    """With both places: where the file is named, and its own line. A password is not shown."""
    name, replaced, by, words = FILE_MISTAKES[mistake]
    text, lines = broken({"users": USERS, "acl": ACL}[name], replaced, by)
    result = run_command("check", "-c", broker_site(BROKER_CONF, **{name: text}).file)
    assert result.returncode == 78
    named = 1 + BROKER_CONF[:BROKER_CONF.index(f"_file = {name}")].count("\n")
    assert told(result.stderr, "sensorlogd.conf", [named], [rf"/{name}:{lines[0]}: ", *words]), result.stderr
    assert "secret" not in result.stderr


def test_the_effective_settings_of_a_broker_can_be_read_again(broker_site):
    site = broker_site(BROKER_CONF + "[state]\ndirectory = state\n")
    result = run_command("config", "-c", site.file)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^\[broker\]\nlisten = mqtt://127.0.0.1:1883 ws://\*:9001$", result.stdout, re.M)
    assert re.search(r"^allow_anonymous = false$", result.stdout, re.M)
    assert re.search(r"^queued_bytes = 4MiB$", result.stdout, re.M)
    site.write("sensorlogd.conf", result.stdout)
    again = run_command("config", "-c", site.file)
    assert (again.returncode, again.stdout) == (0, result.stdout), again.stderr


def test_certificates_are_loaded(broker_site, tmp_path):
    """Whose key it is, and whether it is one, is known before the daemon starts."""
    for name in ("one", "other"):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-subj", "/CN=localhost", "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"],
                       check=True, capture_output=True)
    conf = BROKER_CONF.replace("ws://", "wss://").replace(
        "connections", f"certificate_file = {tmp_path}/one.pem\nkey_file = {tmp_path}/one.key\nconnections")
    assert run_command("check", "-c", broker_site(conf).file).returncode == 0
    text, lines = broken(conf, "one.key", "other.key»")
    result = run_command("check", "-c", broker_site(text).file)
    assert result.returncode == 78
    assert told(result.stderr, "sensorlogd.conf", lines, ["key", "certificate"]), result.stderr


def test_the_example_of_a_site_with_the_broker_is_valid(configuration):
    """But for its users, whom the reader makes as the example says."""
    with open(repository("config", "examples", "broker.conf")) as file:
        text = file.read()
    site = configuration("", [MAPPING])
    site.write("sensorlogd.conf", text.replace("/etc/sensorlogd", site.directory)
               .replace("[mappings]", f"[state]\ndirectory = {site.path('state')}\n[mappings]"))
    shutil.copy(repository("config", "examples", "broker.acl"), site.path("acl"))
    shutil.copy(repository("config", "examples", "broker.users"), site.path("users"))
    assert run_command("passwd", site.path("users"), "altimeter1", stdin="secret\n").returncode == 0
    result = run_command("check", "-c", site.file)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_name_given_twice_tells_both_places(configuration):
    files = configuration(CONF, {"a.cfg": mappings_file(MAPPING), "b.cfg": mappings_file(MAPPING)})
    result = run_command("check", "-c", files.file)
    assert result.returncode == 78
    assert told(result.stderr, "topics.d/b.cfg", [2, 3], ["weather", "a.cfg"]), result.stderr


# Those that can stand beside each other: none ends the reading of its file.
TOGETHER_CONF = ("unknown section", "unknown key", "key given twice", "no such scheme", "no size",
                 "conninfo that libpq does not take", "number too large")
TOGETHER_MAPPING = ("unknown key of a column", "filter with # inside", "no such decoder", "no such type",
                    "no such time format", "key with no such column", "QoS 3")


def test_all_mistakes_are_told_in_one_run(configuration):
    """Over all files: settings, conf.d and mappings."""
    conf, mapping = CONF, mappings_file(MAPPING)
    for mistake in TOGETHER_CONF:
        conf = conf.replace(*CONF_MISTAKES[mistake][:2], 1)
    for mistake in TOGETHER_MAPPING:
        mapping = mapping.replace(*MAPPING_MISTAKES[mistake][:2], 1)
    extra = "[batch]\n»linger = soon\n"
    syntax = "mappings = (\n»  { name = = 5; }\n);\n"
    texts = {"sensorlogd.conf": conf, "conf.d/extra.conf": extra, "topics.d/a.cfg": mapping, "topics.d/b.cfg": syntax}
    files = configuration(conf.replace("»", ""),
                          {"a.cfg": mapping.replace("»", ""), "b.cfg": syntax.replace("»", "")})
    files.write("conf.d/extra.conf", extra.replace("»", ""))
    result = run_command("check", "-c", files.file)
    assert result.returncode == 78
    missing = [(name, number) for name, text in texts.items() for number, line in enumerate(text.split("\n"), 1)
               if "»" in line and not told(result.stderr, name, [number], [])]
    assert not missing, result.stderr
    assert sum(text.count("»") for text in texts.values()) >= 16, "this test has that many"


def test_a_file_that_is_not_there_is_one_problem():
    result = run_command("check", "-c", "/nonexistent/sensorlogd.conf")
    assert result.returncode == 78
    assert result.stderr.splitlines() == [
        "/nonexistent/sensorlogd.conf: cannot be opened: No such file or directory", "1 problem in the configuration"]


@pytest.mark.parametrize("command", [["run"], ["check"], ["explain", "a", "b"], ["migrate"], ["config"]])
def test_every_command_ends_with_78(configuration, command):
    """So that systemd does not start it again and again."""
    text, lines = broken(CONF, "window = 1000", "»window = many")
    name, *rest = command
    result = run_command(name, "-c", configuration(text, [MAPPING]).file, *rest)
    assert result.returncode == 78
    assert told(result.stderr, "sensorlogd.conf", lines, ["many"]), result.stderr


def test_a_file_that_is_not_there(tmp_path):
    result = run_command("check", "-c", str(tmp_path / "none.conf"))
    assert result.returncode == 78
    assert "none.conf" in result.stderr


@pytest.mark.parametrize("arguments", [[], ["dance"], ["run", "--fast"], ["explain", "-c", "x"], ["run", "-c"]])
def test_wrong_usage_ends_with_2(arguments):
    result = run_command(*arguments)
    assert result.returncode == 2
    assert "sensorlogd" in result.stderr


def test_conf_d_overrides_in_name_order(configuration):
    files = configuration(CONF, [MAPPING])
    files.write("conf.d/20-last.conf", "[batch]\nmax_rows = 30\n")
    files.write("conf.d/10-first.conf", "[batch]\nmax_rows = 20\nlinger = 5ms\n")
    files.write("conf.d/ignored.txt", "nonsense\n")
    result = run_command("config", "-c", files.file)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^max_rows = 30$", result.stdout, re.M)
    assert re.search(r"^linger = 5ms$", result.stdout, re.M)


def test_the_effective_settings_can_be_read_again_and_keep_secrets(configuration):
    text = CONF.replace("dbname=telemetry", "dbname=telemetry password='top secret'")
    files = configuration(text + "[state]\ndirectory = state\n", [MAPPING])
    result = run_command("config", "-c", files.file)
    assert result.returncode == 0, result.stderr
    assert "secret" not in result.stdout + result.stderr
    assert re.search(r"^\[subscriber site\]$", result.stdout, re.M)
    assert re.search(r"^window = 1000$", result.stdout, re.M)
    files.write("sensorlogd.conf", result.stdout)
    again = run_command("config", "-c", files.file)
    assert (again.returncode, again.stdout) == (0, result.stdout), again.stderr
