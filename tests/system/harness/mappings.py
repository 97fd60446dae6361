"""Mappings that several tests use, and what to publish for them."""
import json
import time

ALTIMETER = """{
    name = "altimeter";
    filter = "sensors/altimeter/+";
    decoder = "text";
    table = "altimeter";
    columns = (
      { name = "sensor";     type = "text";   from = "topic[2]"; },
      { name = "altitude_m"; type = "float8"; from = "value"; unit = "m"; }
    );
  }"""

# No key, and no time of its own: nothing but the daemon's own care keeps a message from being stored twice.
COUNT = """{
    name = "count";
    filter = "count/+";
    decoder = "text";
    table = "count";
    columns = (
      { name = "sensor"; type = "text"; from = "topic[1]"; required = true; },
      { name = "n";      type = "int8"; from = "value";    required = true; }
    );
  }"""

READING = """{
    name = "reading";
    filter = "reading/+";
    decoder = "json";
    time = { from = "/ts"; format = "unix_ms"; };
    table = "reading";
    key = ["sensor", "n", "time"];
    columns = (
      { name = "sensor"; type = "text"; from = "topic[1]"; required = true; },
      { name = "n";      type = "int8"; from = "/n";       required = true; }
    );
  }"""

_STARTED = int(time.time() * 1000)


def count(n):
    """A payload for COUNT."""
    return str(n).encode()


def reading(n, padding=0):
    """A payload for READING: the n-th always has the same time."""
    payload = {"n": n, "ts": _STARTED + n}
    if padding:
        payload["padding"] = "x" * padding
    return json.dumps(payload).encode()


def text_mapping(name, topic_filter, **settings):
    """A mapping that stores topic and number into the table of its name; settings are libconfig's."""
    more = "".join(f"    {key} = {value};\n" for key, value in settings.items())
    return f"""{{
    name = "{name}";
    filter = "{topic_filter}";
    decoder = "text";
    table = "{name}";
{more}    columns = (
      {{ name = "topic"; type = "text"; from = "topic"; }},
      {{ name = "n";     type = "int8"; from = "value"; required = true; }}
    );
  }}"""
