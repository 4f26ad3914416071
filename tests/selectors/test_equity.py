from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from algo.models import Candle
from algo.selectors.equity import LeftOut, Span, curve_of
from algo.selectors.toman import tether_prices
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def close(market, price, at, resolution="1"):
    """A candle that ends at `at`."""
    lengths = {"1": MINUTE, "60": HOUR, "D": DAY}
    prices = dict.fromkeys(("open", "high", "low", "close"), Decimal(price))
    opened = at - lengths[resolution]
    Candle.objects.create(market=market, resolution=resolution, open_time=opened, volume=1, **prices)


@pytest.fixture
def tara():
    return make.make_trader("tara")


@pytest.fixture
def in_usdt(tara):
    return make.make_config(account=make.make_account(owner=tara))


@pytest.fixture
def in_toman(tara):
    account = make.make_account(owner=tara, provider="nobitex")
    return make.make_config(account=account, market=make.make_market("BTCIRT", provider="nobitex"))


def earns(config, profit, closed_at):
    return make.make_closed_deal(
        config, profit=Decimal(profit), closed_at=closed_at, opened_at=closed_at - MINUTE, bar_open_at=closed_at - HOUR
    )


# --- what one USDT cost -----------------------------------------------------------------------------------------------


def test_the_price_of_a_time_is_that_of_the_newest_candle_that_had_ended_by_then():
    market = make.make_market("USDTIRT", provider="nobitex")
    close(market, 100_000, NOW - 2 * HOUR)
    close(market, 101_000, NOW)
    close(market, 102_000, NOW + MINUTE)
    before, exactly, between = tether_prices([NOW - MINUTE, NOW, NOW + MINUTE / 2])
    assert (before.price, before.as_of) == (Decimal(100_000), NOW - 2 * HOUR)
    assert (exactly.price, between.price) == (Decimal(101_000), Decimal(101_000))
    assert exactly.source == "close of USDTIRT @ Nobitex"


def test_a_price_of_more_than_a_day_before_is_none():
    close(make.make_market("USDTIRT", provider="nobitex"), 100_000, NOW - DAY)
    known, unknown = tether_prices([NOW, NOW + MINUTE])
    assert known.price == Decimal(100_000)
    assert unknown is None


def test_without_a_market_of_usdt_a_coin_in_both_moneys_tells_the_price():
    toman, tether = make.make_market("BTCIRT", provider="nobitex"), make.make_market("BTCUSDT", provider="nobitex")
    close(toman, 5_000_000_000, NOW)
    close(tether, 50_000, NOW)
    close(toman, 9_000_000_000, NOW + MINUTE)  # that of USDT is missing: this one says nothing
    (known,) = tether_prices([NOW + MINUTE])
    assert (known.price, known.as_of) == (Decimal(100_000), NOW)
    assert known.source == "close of BTCIRT @ Nobitex over that of BTCUSDT"


def test_two_exchanges_are_never_crossed_and_a_market_of_usdt_comes_first():
    close(make.make_market("BTCIRT", provider="nobitex"), 5_000_000_000, NOW)
    close(make.make_market("BTCUSDT", provider="wallex"), 50_000, NOW)
    assert tether_prices([NOW]) == [None]
    close(make.make_market("BTCUSDT", provider="nobitex"), 50_000, NOW)
    assert tether_prices([NOW])[0].price == Decimal(100_000)
    close(make.make_market("USDTTMN"), 99_000, NOW - HOUR)
    assert tether_prices([NOW])[0].price == Decimal(99_000)


def test_many_moments_cost_as_many_queries_as_one(django_assert_num_queries):
    close(make.make_market("USDTIRT", provider="nobitex"), 100_000, NOW)
    with django_assert_num_queries(2):
        assert len(tether_prices([NOW + MINUTE * number for number in range(500)])) == 500


# --- the curve --------------------------------------------------------------------------------------------------------


def test_the_day_adds_up_the_last_24_hours_by_five_minutes(tara, in_usdt):
    earns(in_usdt, 100, NOW - DAY - MINUTE)  # before
    earns(in_usdt, 3, NOW - 61 * MINUTE)  # 08:59, in 08:55 to 09:00
    earns(in_usdt, -1, NOW - 60 * MINUTE)  # 09:00
    earns(in_usdt, "0.5", NOW - 58 * MINUTE)  # 09:02
    curve = curve_of(tara, "USDT", Span.DAY, NOW)
    assert curve.start == NOW - DAY
    assert curve.points == [(NOW - 60 * MINUTE, Decimal(3)), (NOW - 55 * MINUTE, Decimal("2.5"))]
    assert (curve.sources, curve.left_out) == ([], [])


def test_a_step_that_still_runs_ends_now(tara, in_usdt):
    earns(in_usdt, 1, NOW)
    assert curve_of(tara, "USDT", Span.WEEK, NOW).points == [(NOW, Decimal(1))]


def test_every_profit_is_turned_at_the_price_of_its_time(tara, in_usdt, in_toman):
    market = make.make_market("USDTIRT", provider="nobitex")
    close(market, 100_000, NOW - 3 * HOUR)
    close(market, 110_000, NOW - HOUR)
    earns(in_usdt, 2, NOW - 3 * HOUR)  # turned at 07:05: 200,000 toman
    earns(in_usdt, 2, NOW - HOUR)  # turned at 09:05: 220,000 toman
    earns(in_toman, 55_000, NOW - HOUR)  # half a USDT
    toman = curve_of(tara, "IRT", Span.DAY, NOW)
    assert [total for _, total in toman.points] == [Decimal(200_000), Decimal(475_000)]
    assert toman.sources == ["close of USDTIRT @ Nobitex"]
    tether = curve_of(tara, "USDT", Span.DAY, NOW)
    assert [total for _, total in tether.points] == [Decimal(2), Decimal("4.5")]


def test_profits_without_a_price_of_their_time_are_left_out_and_told(tara, in_usdt, in_toman):
    close(make.make_market("USDTIRT", provider="nobitex"), 100_000, NOW - 2 * DAY)
    earns(in_usdt, 2, NOW - 3 * DAY)  # before the first price
    earns(in_usdt, 1, NOW - 3 * DAY + MINUTE)
    earns(in_usdt, 3, NOW - 2 * DAY)
    earns(in_toman, 1000, NOW)
    curve = curve_of(tara, "IRT", Span.WEEK, NOW)
    ended = NOW - 3 * DAY + HOUR
    assert [total for _, total in curve.points] == [Decimal(300_000), Decimal(301_000)]
    assert curve.left_out == [LeftOut("USDT", 2, Decimal(3), ended, ended)]


def test_profits_in_a_third_currency_are_left_out_and_told(tara):
    market = make.make_market("ETHBTC")
    config = make.make_config(account=make.make_account(owner=tara), market=market, data_market=market)
    earns(config, "0.01", NOW)
    curve = curve_of(tara, "USDT", Span.DAY, NOW)
    assert curve.points == []
    assert curve.left_out == [LeftOut("BTC", 1, Decimal("0.01"), NOW, NOW)]


def test_month_and_all_go_by_trading_days(tara, in_usdt):
    old, recent = NOW - 40 * DAY, NOW - 2 * DAY
    earns(in_usdt, 7, old)
    earns(in_usdt, 1, recent)
    earns(in_usdt, 2, recent + HOUR)
    month, whole = (curve_of(tara, "USDT", span, NOW) for span in (Span.MONTH, Span.ALL))
    assert [total for _, total in month.points] == [Decimal(3)]
    assert [total for _, total in whole.points] == [Decimal(7), Decimal(10)]
    # 31 October 10:00 UTC is 13:30 in Tehran: that day ends at 20:30 UTC
    assert month.points[0][0].isoformat() == "2026-10-31T20:30:00+00:00"
    # 30 trading days, today included: the first is 4 October, which began at 20:30 UTC of the 3rd
    assert month.start.isoformat() == "2026-10-03T20:30:00+00:00"


def test_nobody_sees_what_others_earned(tara, in_usdt):
    earns(in_usdt, 1, NOW)
    somebody = make.make_trader()
    for span in Span:
        assert curve_of(somebody, "USDT", span, NOW).points == []


@pytest.mark.parametrize("span", Span)
def test_many_deals_cost_as_many_queries_as_few(tara, in_usdt, in_toman, span, django_assert_max_num_queries):
    for number in range(30):
        earns(in_usdt, 1, NOW - number * 13 * MINUTE)
        earns(in_toman, 1000, NOW - number * 17 * MINUTE)
    with django_assert_max_num_queries(4):  # the role, the deals, and two for prices
        assert curve_of(tara, "IRT", span, NOW).points
