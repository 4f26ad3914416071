from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from algo.models import MarketQuote
from algo.selectors.worth import worth
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def tara(settings):
    settings.EXCHANGE_ENVIRONMENT = "paper"
    return make.make_trader("tara")


def holds(user, read_at=NOW, **balances):
    return make.make_account(
        owner=user, balances={asset: [amount, "0"] for asset, amount in balances.items()}, balances_read_at=read_at
    )


def bid(symbol, price, provider="nobitex", at=NOW):
    price = Decimal(price)
    market = make.make_market(symbol, provider=provider)
    MarketQuote.objects.create(market=market, bid=price, ask=price * 2, as_of=at, received_at=at)


def test_everything_is_counted_at_its_bid_in_both_moneys(tara):
    holds(tara, USDT="100", TMN="1000000", BTC="0.01")
    holds(tara, read_at=NOW - timedelta(minutes=3), ETH="2")
    bid("USDTIRT", "100000")
    bid("BTCUSDT", "50000")
    bid("ETHIRT", "300000000")  # in toman alone
    told = worth(tara, NOW)
    # 100 + 0.01 x 50,000 = 600 USDT; 1,000,000 + 2 x 300,000,000 = 601,000,000 toman = 6010 USDT
    assert (told.usdt, told.toman) == (Decimal("6610.00"), Decimal("661000000"))
    assert (told.unpriced, told.accounts, told.read_at) == ({}, 2, NOW - timedelta(minutes=3))


def test_what_has_no_price_of_now_is_told_apart(tara):
    holds(tara, USDT="100", DOGE="5", ETH="0")
    bid("DOGEUSDT", "0.2", at=NOW - timedelta(minutes=11))
    told = worth(tara, NOW)
    assert (told.usdt, told.toman, told.unpriced) == (Decimal("100.00"), None, {"DOGE": Decimal(5)})


def test_without_a_price_of_usdt_both_moneys_are_not_added(tara):
    holds(tara, USDT="100", TMN="1000000")
    told = worth(tara, NOW)
    assert (told.usdt, told.toman, told.tether) == (None, None, None)


def test_the_newest_quote_of_any_exchange_counts(tara):
    holds(tara, BTC="1")
    bid("BTCUSDT", "50000", provider="wallex", at=NOW - timedelta(seconds=5))
    bid("BTCUSDT", "50100", provider="nobitex")
    assert worth(tara, NOW).usdt == Decimal("50100.00")


def test_accounts_of_others_of_the_other_environment_and_never_read_do_not_count(tara):
    holds(make.make_trader(), USDT="1000")
    make.make_account(owner=tara)
    make.make_account(owner=tara, environment="live", balances={"USDT": ["5", "0"]}, balances_read_at=NOW)
    told = worth(tara, NOW)
    assert (told.usdt, told.accounts) == (None, 0)


def test_many_accounts_cost_as_many_queries_as_one(tara, django_assert_max_num_queries):
    for _ in range(20):
        holds(tara, USDT="1", BTC="1", TMN="1")
    bid("BTCUSDT", "50000")
    with django_assert_max_num_queries(5):  # the role, accounts, quotes, and two for the price of USDT
        worth(tara, NOW)
