"""The daemon's metrics, and whether its books balance."""
import re
import urllib.request

_LINE = re.compile(r"(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+\d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_LAST_WORDS = re.compile(r"(source|mapping) (\S+): (\d+) received((?:, \d+ \w+)*), (\d+) pending$")
# Bytes for QoS 2 identifiers whose messages are settled and which are still to be forgotten, at most.
_IDENTIFIERS = 65536


class Metrics(dict):
    """{'name{label="value"}': number}, and sums over labels."""

    def total(self, name, **labels):
        """The sum of the samples of this name that have these labels."""
        return sum(value for key, value in self._samples(name, labels))

    def _samples(self, name, labels):
        for key, value in self.items():
            found = _LINE.match(f"{key} 0")
            if found["name"] == name and labels.items() <= _labels(found).items():
                yield key, value

    def values_of(self, name, label):
        """The values that the label has in the samples of this name."""
        return {_labels(_LINE.match(f"{key} 0"))[label] for key, _ in self._samples(name, {})}


def _labels(found):
    return dict(_LABEL.findall(found["labels"] or ""))


def parse(text):
    """Metrics out of Prometheus' text format; anything else in it is an error."""
    metrics = Metrics()
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        found = _LINE.match(line)
        assert found, f"not a line of metrics: {line!r}"
        key = line[:found.end("labels") + 1] if found["labels"] is not None else found["name"]
        assert key not in metrics, f"{key} twice"
        metrics[key] = float(found["value"])
    return metrics


def fetch(port, timeout=10):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=timeout) as answer:
        return parse(answer.read().decode())


def books_balance(metrics):
    """Received = the sum of the verdicts + pending: per source in messages, per mapping in parts; and they agree with
    what the writer and the memory have counted for themselves."""
    for label, received, settled, pending in (
            ("source", "sensorlog_messages_received_total", "sensorlog_messages_total", "sensorlog_messages_pending"),
            ("mapping", "sensorlog_parts_received_total", "sensorlog_parts_total", "sensorlog_parts_pending")):
        for value in metrics.values_of(received, label):
            of = {label: value}
            books = metrics.total(received, **of), metrics.total(settled, **of), metrics.total(pending, **of)
            assert books[0] == books[1] + books[2], \
                f"{label} {value}: {books[0]:g} received, {books[1]:g} settled, {books[2]:g} pending"
            assert min(books) >= 0, f"{label} {value}: {books}"
    _others_agree(metrics)


def _others_agree(metrics):
    """The writer also has the rows of mappings that are no more, and the rejects that no mapping has a part in."""
    for verdicts, counter in ((("stored", "deduplicated"), "sensorlog_rows_total"),
                              (("rejected",), "sensorlog_rejects_total")):
        parts = sum(metrics.total("sensorlog_parts_total", verdict=verdict) for verdict in verdicts)
        if counter in metrics:
            assert parts <= metrics[counter], f"{parts:g} parts {' or '.join(verdicts)}, {counter} {metrics[counter]:g}"
    pending = metrics.total("sensorlog_messages_pending")
    memory = metrics.get("sensorlog_memory_bytes", 0)
    assert pending > 0 or memory <= _IDENTIFIERS, f"no message is pending, and {memory:g} bytes are held for them"


def books_at_the_end(lines):
    """The last words of a daemon that has ended: nothing is pending, all has a verdict. The books by (kind, name)."""
    found = {}
    for line in lines:
        if words := _LAST_WORDS.search(line):
            kind, name, received, verdicts, pending = words.groups()
            settled = sum(map(int, re.findall(r"\d+", verdicts)))
            assert int(pending) == 0 and int(received) == settled, f"books that do not balance: {line}"
            found[kind, name] = int(received)
    return found
