"""Which fills a reading of the balance holds: by our own clock where it can say, else by the exchange's stamp."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from algo.execution.ledger_rows import came_after, is_ambiguous
from tests.execution.views import NOW, ago

READING = timedelta(seconds=2)  # from NOW on


def later(seconds: float):
    return ago(-seconds)


@pytest.mark.parametrize(
    ("sent", "stamped", "booked", "expected"),
    [
        (ago(60), ago(50), ago(49), "in it"),
        (ago(60), later(3), later(4), "after it"),
        (later(1), later(1), later(2), "after it"),  # sent since: whatever the stamp says
        (later(1), ago(4), later(2), "after it"),
        (ago(60), later(1), later(4), "nobody can say"),  # while it was read
        (ago(60), ago(4), later(1), "nobody can say"),  # a stamp of a clock that was behind, or booked late
        (ago(60), later(30), ago(49), "in it"),  # a stamp of a clock that was ahead
        (ago(60), ago(50), None, "in it"),  # from before we kept when it was booked
        (ago(60), later(3), None, "after it"),
        (None, later(3), later(4), "after it"),
    ],
)
def test_a_fill_was_in_a_balance_or_came_after_it(sent, stamped, booked, expected):
    fill = SimpleNamespace(order=SimpleNamespace(submitted_at=sent), executed_at=stamped, booked_at=booked)
    if is_ambiguous(fill, NOW, READING):
        assert expected == "nobody can say"
    else:
        assert expected == ("after it" if came_after(fill, NOW) else "in it")
