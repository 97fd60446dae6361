"""Every column type, from the JSON text to the value that PostgreSQL gives back."""
import datetime
import decimal
import json
import uuid

import pytest

ALL_TYPES = """{
    name = "types";
    filter = "types/+";
    decoder = "json";
    table = "types";
    columns = (
      { name = "b";   type = "bool";        from = "/b"; },
      { name = "i2";  type = "int2";        from = "/i2"; },
      { name = "i4";  type = "int4";        from = "/i4"; },
      { name = "i8";  type = "int8";        from = "/i8"; },
      { name = "f4";  type = "float4";      from = "/f4"; },
      { name = "f8";  type = "float8";      from = "/f8"; },
      { name = "num"; type = "numeric";     from = "/num"; },
      { name = "txt"; type = "text";        from = "/txt"; },
      { name = "doc"; type = "jsonb";       from = "/doc"; },
      { name = "at";  type = "timestamptz"; from = "/at"; format = "rfc3339"; },
      { name = "id";  type = "uuid";        from = "/id"; },
      { name = "raw"; type = "bytea";       from = "payload"; }
    );
  }"""

PAYLOAD = """{"b": true, "i2": -32768, "i4": 2147483647, "i8": -9223372036854775808, "f4": 1.5, "f8": 0.1,
 "num": 123456789012345678901234567890.0123456789, "txt": "gr\\u00fc\\u00dfe \\ud83c\\udf21 'quoted'; --",
 "doc": {"a": [1, 2.50, {"b/c": null}], "": "x"}, "at": "2024-02-29T12:34:56.789012+02:00",
 "id": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"}"""

WANTED = {
    "b": True, "i2": -32768, "i4": 2147483647, "i8": -9223372036854775808, "f4": 1.5, "f8": 0.1,
    "num": decimal.Decimal("123456789012345678901234567890.0123456789"), "txt": "grüße 🌡 'quoted'; --",
    "doc": {"a": [1, 2.5, {"b/c": None}], "": "x"},
    "at": datetime.datetime(2024, 2, 29, 10, 34, 56, 789012, tzinfo=datetime.timezone.utc),
    "id": str(uuid.UUID("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
}


def test_every_type_comes_back_as_it_was_sent(make_daemon, broker, database):
    make_daemon(broker, [ALL_TYPES])
    broker.wait_subscribed()
    broker.wait_done(broker.route("types/1", PAYLOAD.encode()))
    for column, wanted in WANTED.items():
        assert database.value(f"SELECT {column} FROM telemetry.types") == wanted, column
    assert bytes(database.value("SELECT raw FROM telemetry.types")) == PAYLOAD.encode()


def test_what_is_missing_or_null_is_null(make_daemon, broker, database):
    make_daemon(broker, [ALL_TYPES])
    broker.wait_subscribed()
    broker.wait_done(broker.route("types/1", b"{}")
                     + broker.route("types/2", json.dumps(dict.fromkeys(WANTED)).encode()))
    nothing = " AND ".join(f"{column} IS NULL" for column in WANTED if column != "doc")
    assert database.count("telemetry.types", nothing) == 2


@pytest.mark.parametrize("column, value", [
    ("b", '"yes please"'), ("i2", "32768"), ("i4", "-2147483649"), ("i8", "9223372036854775808"), ("i4", "1.5"),
    ("f4", "1e39"), ("f8", "1e400"), ("num", '"12 monkeys"'), ("at", '"yesterday"'), ("at", '"2024-02-30T00:00:00Z"'),
    ("id", '"not-a-uuid"'), ("txt", '"\\u0000"'), ("doc", '{"x": "\\u0000"}'),
])
def test_a_value_that_does_not_fit_is_rejected(make_daemon, broker, database, column, value):
    """And the good one beside it, in the same batch or not, is stored."""
    make_daemon(broker, [ALL_TYPES])
    broker.wait_subscribed()
    with database.locked("telemetry.types"):
        deliveries = [one for payload in (PAYLOAD, f'{{"{column}": {value}}}', PAYLOAD)
                      for one in broker.route("types/1", payload.encode())]
    broker.wait_done(deliveries)
    assert database.count("telemetry.types") == 2
    assert database.count("sensorlog.reject") == 1
    why = database.value("SELECT concat_ws(' ', reason, detail) FROM sensorlog.reject")
    assert column in why or column == "doc", "PostgreSQL, whose word decides about jsonb, names no column"


@pytest.mark.parametrize("payload", [b"{", b'{"b": true,}', b"{'b': 1}", b'{"b": 01}', b'{"b": tru}', b'[' * 100000,
                                     b'{"txt": "\xff"}', b'{"b": true} x', b"", b'{"i2": NaN}'])
def test_what_is_no_json_is_rejected(make_daemon, broker, database, payload):
    make_daemon(broker, [ALL_TYPES])
    broker.wait_subscribed()
    broker.wait_done(broker.route("types/1", payload))
    assert database.count("sensorlog.reject") == 1
    assert database.count("telemetry.types") == 0


SOURCES = """{
    name = "sources";
    filter = "a/+/c";
    decoder = "text";
    table = "sources";
    columns = (
      { name = "topic";    type = "text";        from = "topic"; },
      { name = "level";    type = "text";        from = "topic[1]"; },
      { name = "number";   type = "float8";      from = "value"; },
      { name = "unit";     type = "text";        from = "unit"; },
      { name = "raw";      type = "bytea";       from = "payload"; },
      { name = "arrived";  type = "timestamptz"; from = "received_at"; },
      { name = "qos";      type = "int2";        from = "qos"; },
      { name = "dup";      type = "bool";        from = "dup"; },
      { name = "retain";   type = "bool";        from = "retain"; },
      { name = "site";     type = "text";        from = "property.site"; },
      { name = "hangar";   type = "text";        value = "hangar 3"; },
      { name = "fallback"; type = "int4";        from = "property.count"; default = 42; }
    );
  }"""


def test_every_source_of_a_column(make_daemon, broker, database):
    make_daemon(broker, [SOURCES])
    connection = broker.wait_subscribed()
    broker.wait_done([connection.publish("a/b/c", b"12.5 m", dup=True, properties={"user_property": [("site", "N")]})])
    (row,) = database.query("SELECT topic, level, number, unit, raw, arrived = time, qos, dup, retain, site, hangar,"
                            " fallback FROM telemetry.sources")
    assert bytes(row[4]) == b"12.5 m"
    assert row[:4] + row[5:] == ("a/b/c", "b", 12.5, "m", True, 1, True, False, "N", "hangar 3", 42)


LIMITS = """{
    name = "limits";
    filter = "limits";
    decoder = "json";
    table = "limits";
    time = { from = "/ts"; format = "unix_s"; };
    columns = (
      { name = "station";     type = "text";   from = "/station"; required = true; },
      { name = "temperature"; type = "float8"; from = "/temp"; min = -90; max = 60.0; }
    );
  }"""


@pytest.mark.parametrize("change, stored", [
    ({}, True), ({"temp": -90}, True), ({"temp": 60}, True), ({"temp": 60.001}, False), ({"temp": -91}, False),
    ({"temp": None}, True), ({"station": None}, False), ({"ts": None}, False), ({"ts": "soon"}, False),
])
def test_bounds_and_what_is_required(make_daemon, broker, database, change, stored):
    make_daemon(broker, [LIMITS])
    broker.wait_subscribed()
    now = database.value("SELECT extract(epoch FROM now())::bigint")
    broker.wait_done(broker.route("limits", json.dumps({"station": "N", "temp": 7, "ts": now, **change}).encode()))
    assert database.count("telemetry.limits") == stored
    assert database.count("sensorlog.reject") == (not stored)
    if stored:
        assert database.value("SELECT extract(epoch FROM time)::bigint FROM telemetry.limits") == now
