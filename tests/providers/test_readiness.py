"""What could be done now without waiting for a call budget: asked of the budget that the call would spend."""

from __future__ import annotations

from typing import Any

import pytest

from providers.budgets import Priority
from providers.nobitex.client import NobitexClient
from providers.wallex.client import WallexClient

URL = "http://127.0.0.1:9"


class TwoLeft:
    """A budget with two calls left of everything; keeps the names it was asked by."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def ready(self, name: str, priority: Priority, calls: int = 1) -> bool:
        self.asked.append(name)
        return calls <= 2


@pytest.mark.parametrize(
    ("client", "lists", "orders"),
    [(WallexClient, "account", "orders"), (NobitexClient, "list", "add")],
    ids=["wallex", "nobitex"],
)
def test_lists_and_orders_are_weighed_by_their_own_budgets(client: Any, lists: str, orders: str):
    budget = TwoLeft()
    exchange = client(URL, api_key="a" * 40, budget=budget)
    assert [exchange.can_list(2), exchange.can_list(3)] == [True, False]
    assert [exchange.can_place(2), exchange.can_place(3)] == [True, False]
    assert budget.asked == [lists, lists, orders, orders]
