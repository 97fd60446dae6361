"""The outage drill of tests/chaos, in short: PostgreSQL is away for some seconds while publishers go on."""
import importlib.util

import pytest

from harness.daemon import repository

_spec = importlib.util.spec_from_file_location("drill", repository("tests", "chaos", "drill.py"))
drill = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drill)


@pytest.mark.limit(180)
def test_a_short_outage(make_builtin, database, tmp_path):
    """Nothing is lost, doubled or out of order; publishers are acknowledged meanwhile."""
    site = make_builtin(database, drill.MAPPINGS, conf={"spool": {"mode": "outage", "outage_after": "500ms"}})
    drill.number_rows(database)
    publishers = drill.Publishers(tmp_path, site.port, 1000)
    try:
        result = drill.drill(database.cluster, database, site, publishers, 5)
    finally:
        publishers.close()
    assert result.books.hold, result.books
    assert result.drained > drill.PUBLISHERS, "the spool was of use"
    assert result.phases["outage"]["published"] > drill.PUBLISHERS, "publishers were acknowledged meanwhile"
