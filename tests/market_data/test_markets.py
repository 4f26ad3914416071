"""Markets as the exchange states them, and the sentence for a symbol that is none."""

from __future__ import annotations

from decimal import Decimal

import pytest

from algo.models import Market
from algo.selectors.markets import UnknownSymbol, market_get
from algo.services.markets import markets_refresh
from providers.errors import BadPayload
from tests.factories import make_market
from tests.market_data.exchange import FakeExchange, at, rules

pytestmark = pytest.mark.django_db


def refresh(*listed, minute=0):
    return markets_refresh(FakeExchange(listed=listed), now=at(minute))


def test_markets_are_stored_with_everything_the_exchange_states():
    stated = rules("BTCIRT", quote="IRT", price_band=Decimal("0.3"))
    assert refresh(stated, rules("ETHUSDT", base="ETH")) == 2
    market = Market.objects.get(symbol="BTCIRT")
    assert market.rules == stated
    assert (market.pair, market.refreshed_at) == ("BTC/IRT", at(0))


def test_a_second_refresh_updates_the_same_rows():
    refresh(rules("BTCUSDT"))
    first = Market.objects.get()
    assert refresh(rules("BTCUSDT", taker_fee_rate=Decimal("0.001")), minute=5) == 1
    again = Market.objects.get()
    assert (again.pk, again.taker_fee_rate, again.refreshed_at) == (first.pk, Decimal("0.001"), at(5))


def test_a_market_that_is_not_listed_any_more_is_closed_and_opens_again_when_it_is():
    refresh(rules("BTCUSDT"), rules("ETHUSDT"))
    other_exchange = make_market("ETHUSDT", provider="wallex")
    refresh(rules("BTCUSDT"))
    assert not Market.objects.get(provider="nobitex", symbol="ETHUSDT").is_open
    other_exchange.refresh_from_db()
    assert other_exchange.is_open
    refresh(rules("BTCUSDT"), rules("ETHUSDT"))
    assert Market.objects.get(provider="nobitex", symbol="ETHUSDT").is_open


def test_an_empty_answer_closes_nothing():
    refresh(rules("BTCUSDT"))
    with pytest.raises(BadPayload, match="Nothing was changed"):
        refresh()
    assert Market.objects.get().is_open


def test_a_market_without_a_usable_grid_is_skipped_and_the_others_are_stored():
    assert refresh(rules("BTCUSDT"), rules("BADUSDT", tick_size=Decimal(0))) == 1
    assert [market.symbol for market in Market.objects.all()] == ["BTCUSDT"]


def test_a_market_is_found_whatever_the_case():
    make_market("BTCUSDT")
    assert market_get("wallex", " btcusdt ").symbol == "BTCUSDT"


@pytest.mark.parametrize(("asked", "meant"), [("BTCUSD", "BTCUSDT"), ("BTCTMN", "BTCIRT"), ("BTC", "BTCUSDT")])
def test_an_unknown_symbol_names_what_was_probably_meant(asked, meant):
    for symbol in ("BTCUSDT", "BTCIRT", "ETHUSDT"):
        make_market(symbol, provider="nobitex")
    with pytest.raises(UnknownSymbol, match=f"Did you mean .*{meant}"):
        market_get("nobitex", asked)


def test_before_the_first_refresh_the_sentence_says_how_to_learn_the_markets():
    with pytest.raises(UnknownSymbol, match="refresh_markets --provider nobitex"):
        market_get("nobitex", "BTCUSDT")
