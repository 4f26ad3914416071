from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from algo.models import Candle, MarketQuote
from algo.selectors.toman import profit_in_toman, toman_price
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


def close(market, price, at, resolution="1"):
    prices = dict.fromkeys(("open", "high", "low", "close"), Decimal(price))
    Candle.objects.create(market=market, resolution=resolution, open_time=at, volume=1, **prices)


def quote(market, bid, at):
    MarketQuote.objects.create(market=market, bid=Decimal(bid), ask=Decimal(bid) + 100, as_of=at, received_at=at)


def test_where_no_price_is_stored_none_is_told():
    make.make_market("USDTIRT", provider="nobitex")
    assert toman_price("USDT") is None
    assert profit_in_toman("USDT", {"conservative": 1.0}) is None


def test_the_newest_candle_of_any_exchange_and_length_counts():
    nobitex, wallex = make.make_market("USDTIRT", provider="nobitex"), make.make_market("USDTTMN")
    close(nobitex, 98_000, NOW)
    close(wallex, 99_000, NOW - timedelta(minutes=30), resolution="60")  # closes half an hour later than NOW
    known = toman_price("USDT")
    assert (known.price, known.as_of) == (Decimal(99_000), NOW + timedelta(minutes=30))
    assert known.source == "close of USDTTMN @ Wallex"


def test_a_quote_counts_by_its_bid_until_a_newer_candle():
    market = make.make_market("USDTIRT", provider="nobitex")
    close(market, 98_000, NOW)
    quote(market, 97_500, NOW + timedelta(minutes=2))
    assert toman_price("USDT").price == Decimal(97_500)
    close(market, 97_900, NOW + timedelta(minutes=2))
    assert toman_price("USDT").price == Decimal(97_900)


def test_profits_of_every_model_are_turned_and_say_at_which_price():
    quote(make.make_market("USDTIRT", provider="nobitex"), "98000.5", NOW)
    assert profit_in_toman("USDT", {"conservative": 2.0, "freqtrade": -1.0}) == {
        "price": "98000.5",
        "as_of": "2026-11-02T10:00:00+00:00",
        "source": "bid of USDTIRT @ Nobitex",
        "net_profit": {"conservative": 196_001.0, "freqtrade": -98_000.5},
    }


@pytest.mark.parametrize("asset", ["IRT", "TMN"])
def test_toman_is_toman_and_needs_no_price(asset):
    told = profit_in_toman(asset, {"conservative": 7.0})
    assert (told["price"], told["as_of"], told["net_profit"]) == ("1", None, {"conservative": 7.0})
