"""What is asked after an order was refused for its balance: where calls are few, each reading takes a second."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from algo.execution import submit
from providers.types import OrderStatus as S
from tests.execution.views import deal, entry, stop, target

ENDED = stop(S.CANCELED, exchange_order_id="1")
FILLING = target(status=S.PARTIALLY_FILLED, exchange_order_id="2", filled="0.1", booked=Decimal("0.1"))


class Books:
    """After as many readings as `after`, the deal has one more fill."""

    def __init__(self, now: Any, after: int) -> None:
        self.now, self.left, self.asked = now, after, []

    def deal(self, deal_id: int) -> Any:
        self.left -= 1
        if self.left > 0:
            return self.now
        filled = [replace(each, filled=each.filled + Decimal("0.1")) for each in self.now.orders]
        return replace(self.now, orders=tuple(filled))


@pytest.mark.parametrize(("after", "asked"), [(1, ["2"]), (2, ["2", "0"]), (9, ["2", "0", "1"])])
def test_what_still_works_is_asked_first_and_no_more_than_shows_a_fill(monkeypatch, after, asked):
    # A target that was filling waited behind all ended orders, which had nothing to tell.
    held = deal(replace(entry(), exchange_order_id="0"), ENDED, FILLING)
    books = Books(held, after)
    monkeypatch.setattr(submit, "order_ask", lambda of, order, **_: books.asked.append(order.exchange_order_id))
    submit._read_again(held, ledger=books, provider=None, clock=None)  # type: ignore[arg-type]
    assert books.asked == asked
