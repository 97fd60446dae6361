"""Overlapping filters: one row per mapping and message, whatever the broker does about overlaps."""
import itertools

import hypothesis
import pytest
from hypothesis import strategies

from harness.load import mqtt_publish
from harness.mappings import count, text_mapping
from harness.metrics import books_balance
from harness.wire import matches

FILTERS = {"everything": "sensors/#", "altimeters": "sensors/altimeter/+", "firsts": "sensors/+/1"}
TOPICS = ("sensors", "sensors/altimeter/1", "sensors/altimeter/2", "sensors/wind/1", "sensors/wind/2",
          "sensors/altimeter/1/raw")


def rows(database, mapping):
    return sorted(database.query(f"SELECT topic, n FROM telemetry.{mapping}"))


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize("duplicates", ["true", "false"])
def test_three_overlapping_filters_on_mosquitto(make_daemon, make_mosquitto, database, protocol, duplicates):
    site = make_mosquitto(allow_duplicate_messages=duplicates)
    daemon = make_daemon(site, [text_mapping(name, topic_filter) for name, topic_filter in FILTERS.items()],
                         conf={"subscriber site": {"protocol": protocol}})
    daemon.wait_subscribed()
    sent = list(zip(TOPICS * 5, itertools.count()))
    mqtt_publish(site.port, *[(topic, count(n)) for topic, n in sent])
    daemon.wait_messages(len(sent), "stored")
    for name, topic_filter in FILTERS.items():
        assert rows(database, name) == sorted(one for one in sent if matches(topic_filter, one[0])), topic_filter
    assert daemon.messages() == len(sent), "each message has come once"


# Few names, so that filters overlap often and in every way.
_level = strategies.sampled_from(["a", "b", ""])
_filter_level = strategies.one_of(_level, strategies.just("+"))


@strategies.composite
def filters(draw):
    levels = draw(strategies.lists(_filter_level, min_size=1, max_size=3))
    if draw(strategies.booleans()):
        levels.append("#")
    return "/".join(levels) or "+"


topics = strategies.lists(_level, min_size=1, max_size=4).map("/".join).filter(bool)

# (protocol, how the broker delivers overlaps, whether it refuses filters that no mapping has)
BROKERS = {
    "old_once": ("3.1.1", "once", False),
    "old_copies": ("3.1.1", "copies", False),
    "new_once": ("5", "once", False),
    "new_ids": ("5", "once_with_ids", False),
    "new_copies": ("5", "copies", False),
    "strict_ids": ("5", "once_with_ids", True),
    "strict_copies": ("5", "copies", True),
}

_thousands = itertools.count()


@pytest.mark.limit(300)
@hypothesis.settings(max_examples=12, deadline=None, database=None, print_blob=True,
                     suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(wanted=strategies.lists(filters(), min_size=1, max_size=4),
                  sent=strategies.lists(topics, min_size=1, max_size=12))
@hypothesis.example(wanted=list(FILTERS.values()), sent=list(TOPICS))
@hypothesis.example(wanted=["a/+", "+/b", "a/b", "a/b"], sent=["a/b", "a/a", "b/b", "b/a"])
@hypothesis.example(wanted=["+", "/+", "#"], sent=["/", "a", "/a"])
def test_any_set_of_filters_with_any_broker(make_daemon, make_broker, database, wanted, sent):
    """One daemon on seven brokers at once, each with its own idea of overlaps; each broker sends every message."""
    brokers = {name: make_broker() for name in BROKERS}
    for name, (_, overlap, refuses) in BROKERS.items():
        brokers[name].overlap = overlap
        if refuses:
            brokers[name].grant = lambda topic_filter, qos: qos if topic_filter in wanted else 0x87
    daemon = make_daemon(
        brokers, [text_mapping(f"m{number}", topic_filter) for number, topic_filter in enumerate(wanted)],
        conf={f"subscriber {name}": {"protocol": protocol} for name, (protocol, _, _) in BROKERS.items()})
    try:
        for name in brokers:
            daemon.wait_subscribed(name)
        # The tables are those of the last round as well: each broker of each round has its own thousand.
        of_broker = {name: next(_thousands) * 1000 for name in brokers}
        for name, broker in brokers.items():
            broker.wait_done([one for n, topic in enumerate(sent)
                              for one in broker.route(topic, count(of_broker[name] + n))])
        for number, topic_filter in enumerate(wanted):
            stored = rows(database, f"m{number}")
            for name in brokers:
                from_it = [(topic, n - of_broker[name]) for topic, n in stored if n // 1000 * 1000 == of_broker[name]]
                assert from_it == sorted((topic, n) for n, topic in enumerate(sent) if matches(topic_filter, topic)), \
                    f"mapping {topic_filter!r} by {name}"
        books_balance(daemon.metrics())
    finally:
        daemon.kill9()
        for broker in brokers.values():
            broker.stop()
