"""explain shows what would happen to a message, with no broker and no database there."""
import glob
import os
import re

import pytest

from harness.daemon import repository, run_command
from harness.mappings import ALTIMETER, COUNT

CONF = """[postgres]
conninfo = host=/nonexistent dbname=nowhere
[subscriber site]
uri = mqtt://192.0.2.1:1883
[mappings]
directory = {directory}
"""

SHIPPED = sorted(glob.glob(repository("config", "*", "*.cfg")))


def examples(path):
    """The (topic, payload) of the lines "# example: TOPIC PAYLOAD" of a mapping file."""
    with open(path) as file:
        return re.findall(r"^\s*# example: (\S+) (.+)$", file.read(), re.M)


def names(path):
    """The mappings of a file, each with the names of its columns."""
    with open(path) as file:
        text = re.sub(r"^\s*#.*$", "", file.read(), flags=re.M)
    found = re.split(r"^\s*\{\s*$", text, flags=re.M)[1:]
    return {re.search(r'name\s*=\s*"([^"]+)"', one)[1]: re.findall(r'\{\s*name\s*=\s*"([^"]+)"', one) for one in found}


def test_there_are_shipped_examples():
    assert SHIPPED
    for path in SHIPPED:
        assert len(examples(path)) >= len(names(path)) >= 1, f"{path}: each mapping comes with an example"


@pytest.mark.parametrize("path, topic, payload", [
    pytest.param(path, topic, payload, id=f"{os.path.basename(path)} {topic}")
    for path in SHIPPED for topic, payload in examples(path)])
def test_each_shipped_example(configuration, path, topic, payload):
    """Mapping, decoded values, row and SQL; and again with the payload from standard input."""
    file = configuration(CONF.format(directory=os.path.dirname(path))).file
    result = run_command("explain", "-c", file, topic, payload)
    assert result.returncode == 0, result.stderr
    assert "INSERT INTO" in result.stdout
    assert "rejected" not in result.stdout.lower()
    matched = [name for name in names(path) if re.search(rf"\b{re.escape(name)}\b", result.stdout)]
    assert matched, f"no mapping of {path} in:\n{result.stdout}"
    for name in matched:
        for column in names(path)[name]:
            assert column in result.stdout
    again = run_command("explain", "-c", file, topic, "-", stdin=payload)
    assert again.returncode == 0
    arrival = re.compile(r"\d{4}-\d\d-\d\d[T ][\d:.]+\S*\s*")
    assert arrival.sub("", again.stdout) == arrival.sub("", result.stdout)


@pytest.fixture
def explain(configuration):
    file = configuration(CONF.format(directory="topics.d"),
                         [ALTIMETER, COUNT, ALTIMETER.replace('"altimeter"', '"all_sensors"').replace("+", "#")]).file
    return lambda topic, payload, **how: run_command("explain", "-c", file, topic, payload, **how)


def test_units_are_converted_before_ones_eyes(explain):
    result = explain("sensors/altimeter/1", "300 feet")
    assert result.returncode == 0
    assert "91.44" in result.stdout
    assert "altimeter" in result.stdout and "all_sensors" in result.stdout, "every mapping that matches"


def test_a_reject_says_why(explain):
    result = explain("sensors/altimeter/1", "300 pounds")
    assert "pounds" in result.stdout
    assert "reject" in result.stdout.lower()


def test_a_topic_that_nothing_matches(explain):
    result = explain("somewhere/else", "1")
    assert "no mapping" in (result.stdout + result.stderr).lower()


@pytest.mark.parametrize("topic", ["sensors/+/1", "#", ""])
def test_a_topic_that_is_none(explain, topic):
    result = explain(topic, "1")
    assert result.returncode != 0
    assert "topic" in result.stderr


def test_the_shipped_configuration_is_valid(configuration, tmp_path):
    """As it is, but for a password file that it may name, which is not installed here."""
    with open(repository("config", "sensorlogd.conf")) as file:
        text = file.read()
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    text = re.sub(r"^(password_file\s*=\s*)\S+", rf"\g<1>{password}", text, flags=re.M)
    mappings = {}
    for path in glob.glob(repository("config", "topics.d", "*.cfg")):
        with open(path) as file:
            mappings[os.path.basename(path)] = file.read()
    result = run_command("check", "-c", configuration(text, mappings).file)
    assert (result.returncode, result.stderr) == (0, "")
