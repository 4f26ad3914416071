"""An upgrade in the middle of trading: the database of the release before, with a deal open, migrates, and the deal is
looked after as if nothing had happened."""

from __future__ import annotations

import pytest
from django.db import connection

from algo.models import CloseReason, DealStatus, Order, Role
from algo.selectors.audit import broken_histories
from algo.selectors.performance import days_differ
from providers.types import OrderStatus
from tests.execution.bench import closed, opened
from tests.migrating import latest, migrate_to

BEFORE = ("algo", "0012_when_a_fill_was_booked")  # what version 0.1.0 had

pytestmark = pytest.mark.django_db(transaction=True)


def columns(table: str) -> set[str]:
    with connection.cursor() as cursor:
        return {column.name for column in connection.introspection.get_table_description(cursor, table)}


def test_a_deal_that_is_open_while_the_database_migrates_stays_protected_and_closes(world):
    past = opened(world.trader())
    past.price("98.9")
    past.wait(1)
    assert closed(past, CloseReason.STOP_LOSS)
    past.price("100")
    trader = opened(world.trader())
    opened_before = trader.deal()
    stop = next(order for order in trader.orders(Role.STOP) if order.status == OrderStatus.OPEN)
    try:
        migrate_to(BEFORE)
        assert "stop_loosened" not in columns("algo_deal")  # it is the former one
    finally:
        migrate_to(latest())
    deal = trader.deal()
    assert (deal.pk, deal.status, deal.unprotected_since) == (opened_before.pk, DealStatus.OPEN, None)
    assert Order.objects.get(pk=stop.pk).status == OrderStatus.OPEN
    assert (broken_histories(), days_differ()) == ([], 0)
    trader.wait(1)
    assert trader.roles(OrderStatus.OPEN) == [Role.STOP]
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)
    assert past.books_agree()
    assert (broken_histories(), days_differ()) == ([], 0)
