"""Tables of cases."""
import pytest


def cases(*rows):
    """For parametrize: the last of each row is its name."""
    return [pytest.param(*row[:-1], id=row[-1]) for row in rows]
