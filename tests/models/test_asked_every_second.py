"""What is asked every second of all orders and deals that ever were is answered by an index over the few it concerns.

With three million orders and without these, one look for accounts took 0.9 s, one comparison of the books 1.2 s and one
signal 2 s, measured over the database of `benchmarks.scale`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from algo.exchanges import CLOCK
from algo.execution.ledger_orm import OrmLedger
from algo.execution.reconcile import accounts_due
from algo.selectors.entry_facts import entry_facts, market_blocked
from providers.types import Capabilities
from tests.factories import NOW, make_closed_deal, make_config, make_order

pytestmark = pytest.mark.django_db
ORDERS = 60


@pytest.fixture
def config() -> Any:
    config = make_config()
    for number in range(ORDERS):
        deal = make_closed_deal(config, bar_open_at=NOW - timedelta(minutes=number))
        make_order(deal, status="FILLED")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE algo_order, algo_deal")
        cursor.execute("SET LOCAL enable_seqscan = off")  # so few rows would be read without any index
    return config


def plans(ask: Callable[[], Any]) -> str:
    """How PostgreSQL would answer what `ask` asks."""
    with CaptureQueriesContext(connection) as asked:
        ask()
    told = []
    for query in asked:
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query['sql']}")
            told += [line for (line,) in cursor.fetchall()]
    return "\n".join(told)


def test_who_is_looked_after_is_found_among_orders_in_doubt(config):
    assert "order_in_doubt" in plans(lambda: list(accounts_due(CLOCK)))


def test_what_may_still_turn_up_is_found_among_orders_in_doubt(config):
    ledger = OrmLedger(config.account, Capabilities())
    assert "order_in_doubt" in plans(lambda: ledger.symbols_in_doubt(NOW))
    assert "order_in_doubt" in plans(lambda: market_blocked(config.account_id, config.market_id, NOW))


def test_what_is_at_stake_is_found_among_orders_that_have_not_ended(config):
    ledger = OrmLedger(config.account, Capabilities())
    assert "order_unended" in plans(lambda: ledger.symbols_at_stake(NOW))


def test_a_signal_is_judged_by_indexes_alone(config):
    moments = {name: NOW for name in ("bar", "day_start", "recent_since", "quarantine_since")}
    names = {
        "account": config.account_id,
        "config": config.pk,
        "market": config.market_id,
        "quote": "USDT",
        "opposite": "SELL",
    }
    told = plans(lambda: entry_facts(**names, **moments))
    assert {"deal_by_bar", "order_in_doubt"} <= set(told.split())
    assert "Seq Scan on algo_order" not in told
    assert "Seq Scan on algo_deal" not in told
