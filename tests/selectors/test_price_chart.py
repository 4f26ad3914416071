from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from algo.models import Candle, DealEvent
from algo.selectors.price_chart import Mark, StopLine, price_chart
from providers.types import Side
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)
UNIX = int(NOW.timestamp())


@pytest.fixture
def config():
    return make.make_config(resolution="1", parameters={"ema_fast_period": 2, "ema_slow_period": 3})


def candles(config, *closes):
    """One-minute candles, the last of which ends at NOW."""
    for number, price in enumerate(reversed(closes), 1):
        prices = dict.fromkeys(("open", "high", "low", "close"), Decimal(price))
        Candle.objects.create(
            market=config.data_market, resolution="1", open_time=NOW - number * MINUTE, volume=2, **prices
        )


def test_averages_are_the_strategys_own_and_known_from_before_what_is_shown(config):
    candles(config, 10, 20, 30, 40)
    chart = price_chart(config, NOW, bars=2)
    assert list(chart.candles.close) == [30, 40]
    period, fast = chart.averages["ema_fast_period"]
    # seeded by (10 + 20) / 2 = 15, then 2/3 of each: 15 + 2/3 x 15 = 25, 25 + 2/3 x 15 = 35
    assert (period, list(fast)) == (2, [pytest.approx(25), pytest.approx(35)])
    period, slow = chart.averages["ema_slow_period"]
    assert (period, list(slow)) == (3, [pytest.approx(20), pytest.approx(30)])


def test_a_candle_that_still_runs_is_not_drawn(config):
    candles(config, 10)
    assert len(price_chart(config, NOW - MINUTE / 2).candles) == 0


def test_a_strategy_that_is_no_longer_in_the_factory_has_no_averages(config):
    config.strategy = "GoneStrategy"
    candles(config, 10)
    assert price_chart(config, NOW).averages == {}


def test_fills_are_marked_and_the_stop_stands_where_it_was_moved(config):
    candles(config, 10, 20, 30)
    deal = make.make_closed_deal(config, opened_at=NOW - 2 * MINUTE, closed_at=NOW - MINUTE)
    make.make_fill(make.make_order(deal), executed_at=NOW - 2 * MINUTE, price=Decimal(50_000))
    make.make_fill(make.make_order(deal, role="STOP"), executed_at=NOW - MINUTE, price=Decimal(50_100))
    DealEvent.objects.create(
        deal=deal, at=NOW - 1.5 * MINUTE, kind="stop_moved", detail={"before": "49850", "after": "50100"}
    )
    DealEvent.objects.create(deal=deal, at=NOW, kind="status", to_status="CLOSED")
    chart = price_chart(config, NOW)
    assert chart.marks == (
        Mark(UNIX - 120, True, Side.BUY, Decimal(50_000), deal.pk),
        Mark(UNIX - 60, False, Side.SELL, Decimal(50_100), deal.pk),
    )
    steps = ((UNIX - 120, Decimal(49_850)), (UNIX - 90, Decimal(50_100)))
    assert chart.stops == (StopLine(deal.pk, steps, UNIX - 60, Decimal(50_300), Side.BUY),)


def test_deals_before_the_first_candle_cancelled_ones_and_those_of_others_are_not_drawn(config):
    candles(config, 10, 20)
    make.make_closed_deal(config, opened_at=NOW - 20 * MINUTE, closed_at=NOW - 10 * MINUTE)
    make.make_deal(config, status="CANCELED")
    make.make_open_deal(make.make_config(market=make.make_market("ETHUSDT")))
    chart = price_chart(config, NOW)
    assert (chart.marks, chart.stops) == ((), ())


def test_an_open_deals_stop_has_no_end(config):
    candles(config, 10)
    deal = make.make_open_deal(config)
    (line,) = price_chart(config, NOW).stops
    assert (line.deal, line.until) == (deal.pk, None)


def test_the_books_balance_at_each_candle_is_the_share_of_the_bids(config):
    candles(config, 10, 20)
    for ago, ratio in ((2, 3.0), (1, None), (30, 1.0)):
        make.make_decision(config, bar_open_at=NOW - ago * MINUTE, journal={"indicators": {"order_book_ratio": ratio}})
    assert price_chart(config, NOW).imbalance == ((UNIX - 120, 0.75),)  # three to one; the last is older than the chart


def test_much_costs_as_many_queries_as_little(config, django_assert_num_queries):
    candles(config, *range(10, 40))
    for number in range(10):
        deal = make.make_closed_deal(config, opened_at=NOW - 20 * MINUTE, closed_at=NOW - number * MINUTE)
        make.make_fill(make.make_order(deal), executed_at=NOW - 5 * MINUTE)
    with django_assert_num_queries(5):
        assert len(price_chart(config, NOW).marks) == 10
