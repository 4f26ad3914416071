from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from algo.selectors.strategy_table import DAYS, strategy_table
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def tara():
    return make.make_trader("tara")


@pytest.fixture
def config(tara):
    return make.make_config(account=make.make_account(owner=tara), name="demo", parameters={"max_daily_trades": 4})


def earns(config, profit, ago, **fields):
    """A deal that was planned and closed so long before NOW."""
    at = NOW - ago
    return make.make_closed_deal(
        config, profit=Decimal(profit), closed_at=at, opened_at=at, created_at=at, bar_open_at=at, **fields
    )


def test_a_strategy_tells_its_entries_its_profit_and_its_line(tara, config):
    earns(config, 5, 40 * DAY)  # before the line
    earns(config, 3, 2 * DAY)
    earns(config, -1, timedelta(minutes=5))
    make.make_open_deal(config, created_at=NOW)
    (row,) = strategy_table(tara, NOW)
    assert (row.entries, row.most_entries, row.open_deals) == (2, 4, 1)
    assert (row.today, row.month) == (Decimal(-1), Decimal(2))
    assert row.line == (*[Decimal(0)] * (DAYS - 3), Decimal(3), Decimal(3), Decimal(2))


def test_profits_in_another_money_are_not_added(tara, config):
    earns(config, 1000, timedelta(minutes=5), market=make.make_market("BTCTMN"))
    earns(config, 1, timedelta(minutes=4))
    assert strategy_table(tara, NOW)[0].today == Decimal(1)


def test_running_ones_come_first_and_those_of_others_not_at_all(tara, config):
    make.make_config(account=config.account, name="a stopped one", status="stopped", market=make.make_market("ETHUSDT"))
    make.make_config()
    rows = strategy_table(tara, NOW)
    assert [(row.config.name, row.is_running) for row in rows] == [("demo", True), ("a stopped one", False)]
    assert rows[1].line == tuple([Decimal(0)] * DAYS)


def test_many_strategies_cost_as_many_queries_as_one(tara, config, django_assert_max_num_queries):
    for _ in range(20):
        earns(make.make_config(account=make.make_account(owner=tara)), 1, DAY)
    with django_assert_max_num_queries(5):  # the role among them
        assert len(strategy_table(tara, NOW)) == 21
