"""What sensors publish, and what must become of it."""
import json
import re
import time

_BEGAN = int(time.time() * 1000)
_BAD_EVERY = 97

MAPPINGS = ("""{
    name = "reading";
    filter = "reading/+";
    decoder = "json";
    time = { from = "/ts"; format = "unix_ms"; };
    table = "reading";
    key = ["sensor", "time"];
    columns = (
      { name = "sensor"; type = "text";   from = "topic[1]"; required = true; },
      { name = "n";      type = "int8";   from = "/n";       required = true; },
      { name = "value";  type = "float8"; from = "/value"; }
    );
  }""", """{
    name = "count";
    filter = "count/+";
    decoder = "text";
    table = "count";
    columns = (
      { name = "sensor"; type = "text"; from = "topic[1]"; required = true; },
      { name = "n";      type = "int8"; from = "value";    required = true; }
    );
  }""")


class Kind:
    """One kind of message. Without a key the rows are all that tells; a constant payload does not tell messages apart."""

    keyed = constant = False

    def __init__(self, name, qos):
        self.name, self.qos = name, qos
        self.topic = f"{self.table}/{name}"

    def bad(self, n):
        """Whether the n-th is one for the reject table."""
        return n % _BAD_EVERY == _BAD_EVERY // 2

    def identity(self, n):
        """What stands in column n of its row."""
        return n


class Reading(Kind):
    """With a key, each with a time of its own."""

    table, keyed = "reading", True

    def payload(self, n):
        when = "yesterday" if self.bad(n) else _BEGAN + n
        return json.dumps({"ts": when, "n": n, "value": n / 8}).encode()

    @staticmethod
    def rejected(payload):
        """The n of a payload in the reject table."""
        return json.loads(payload)["n"]


class Twice(Reading):
    """With a key; a constant value, and each reading is published twice over: one row."""

    def bad(self, n):
        return False

    def identity(self, n):
        return n // 2

    def payload(self, n):
        return json.dumps({"ts": _BEGAN + n // 2, "n": n // 2, "value": 7.5}).encode()


class Count(Kind):
    """Without a key."""

    table = "count"

    def payload(self, n):
        return f"{n} parsnips" .encode() if self.bad(n) else str(n).encode()

    @staticmethod
    def rejected(payload):
        return int(re.match(rb"\d+", payload)[0])


class Constant(Count):
    """Without a key, and each message is like every other."""

    constant = True

    def bad(self, n):
        return False

    def identity(self, n):
        return 7

    def payload(self, n):
        return b"7"


def kinds(qos):
    """One of each, by each QoS."""
    return [form(f"{form.__name__.lower()}{level}", level) for level in qos for form in (Reading, Twice, Count, Constant)]
