"""The recovery ladder under clocks that differ."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from algo.execution.submit import order_ask
from algo.models import Role
from providers.errors import OrderNotFound
from providers.types import OrderStatus
from tests.execution import views
from tests.execution.test_resolve import ABSENT, GONE, NOW, WAIT, Books, Clock, Rungs, ago, climb, report

S = OrderStatus
AN_HOUR_AHEAD = -3600


@pytest.mark.parametrize(
    ("role", "looked", "decided"),
    [
        (Role.STOP, None, ABSENT),
        (Role.STOP, 5, WAIT),  # the exchange has its time since the first look: since when it was sent, nobody knows
        (Role.STOP, 9, ["release_send"]),
        (Role.EXIT, 9, GONE),
        (Role.ENTRY, 40, WAIT),
        (Role.ENTRY, 47, GONE),
    ],
)
def test_an_order_stamped_by_a_clock_that_was_an_hour_ahead_does_not_wait_for_that_hour(role, looked, decided):
    """Its position would be bare for that long."""
    negative = {} if looked is None else {"negative_at": ago(looked)}
    rungs = Rungs(balance=(1000, 0))
    known = {"balance_before": None, "locked_before": None, "balance_read_at": None}
    assert climb(rungs, Books(), role=role, sent=AN_HOUR_AHEAD, **known, **negative).told == decided


def test_an_order_without_its_name_is_known_by_the_clock_of_its_exchange():
    """Taken for absent, its position would stand without a deal."""
    nameless = report(None, created_at=ago(66))
    books = climb(Rungs(listed=[nameless], clock_difference=timedelta(seconds=-5)), Books(), **{"negative_at": ago(3)})
    assert books.told == ["apply_report"]
    older = report(None, created_at=ago(68))
    books = climb(Rungs(listed=[older], clock_difference=timedelta(seconds=-5)), Books(), **{"negative_at": ago(3)})
    assert books.told == GONE


def test_an_order_is_looked_for_in_the_history_by_the_clock_of_its_exchange():
    """Found absent twice, a stop that rests would be taken for lost."""
    asked: list[Any] = []

    class Behind(Rungs):
        def orders_since(self, symbol: str, since: Any) -> Any:
            asked.append(since)
            return [report(NAME_OF_STOP, status=S.OPEN, filled_quantity=0, fills=(), created_at=ago(65))]

    resting = views.stop(submitted_at=ago(60), client_order_id=NAME_OF_STOP)
    pictured = views.deal(views.entry(), resting)
    rungs = Behind(by_name=OrderNotFound("?"), clock_difference=timedelta(seconds=-5))
    books = Books()
    order_ask(pictured, resting, ledger=books, provider=rungs, clock=Clock())  # type: ignore[arg-type]
    assert books.told == ["apply_report"]
    assert asked[0] <= NOW - timedelta(seconds=65)


NAME_OF_STOP = "P1STOP"
