"""Nobitex wire <-> vocabulary, worked by hand. Rial on the wire, toman here."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import BadPayload
from providers.nobitex import mapping
from providers.nobitex.mapping import Currencies, Pair, rial_to_toman, split_symbol, toman_to_rial
from providers.nobitex.schemas import (
    CoinSchema,
    MarketStatsSchema,
    OptionsSchema,
    OrderBookSchema,
    OrderSchema,
    OwnTradeSchema,
    ProfileOptionsSchema,
    WalletSchema,
)
from providers.types import OcoRequest, OrderRequest, OrderStatus, OrderType, Side
from providers.wire import parse

IRT, USDT = Pair("BTC", "IRT"), Pair("BTC", "USDT")


def order(**changes: Any) -> dict[str, Any]:
    base = {
        "id": 26,
        "type": "sell",
        "execution": "StopMarket",
        "market": "BTC-RLS",
        "srcCurrency": "Bitcoin",
        "dstCurrency": "﷼",
        "price": "market",
        "amount": "0.64",
        "param1": "47500",
        "matchedAmount": 0,
        "unmatchedAmount": "0.64",
        "status": "Inactive",
        "fee": 0,
        "created_at": "2022-01-17T12:14:18.005896+00:00",
        "averagePrice": "0",
        "clientOrderId": "T1ABC",
        "somethingNew": [1],
    }
    return {name: value for name, value in (base | changes).items() if value is not ...}


def report(pair: Pair = IRT, **changes: Any) -> Any:
    raw = order(**changes)
    return mapping.to_report(parse(OrderSchema, raw), raw, pair)


@given(st.decimals(min_value=0, max_value=10**16, places=12))
def test_toman_and_rial_differ_by_ten_to_the_last_digit(amount: Decimal) -> None:
    assert rial_to_toman(amount) * 10 == amount
    assert rial_to_toman(toman_to_rial(amount)) == amount


@given(st.decimals(min_value=Decimal("0.1"), max_value=10**12, places=1), st.sampled_from([IRT, USDT]))
def test_a_price_sent_and_read_back_is_the_same(price: Decimal, pair: Pair) -> None:
    assert pair.from_wire(Decimal(pair.to_wire(price))) == price


def test_only_irt_markets_are_converted() -> None:
    assert report(IRT, price="500").price == 50
    assert report(USDT, price="500").price == 500
    assert report(IRT).stop_price == 4750
    assert (IRT.to_wire(Decimal("1E+3")), USDT.to_wire(Decimal("1E+3"))) == ("10000", "1000")


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [
        ("BTCIRT", "BTC", "IRT"),
        ("USDTIRT", "USDT", "IRT"),
        ("TUSDT", "T", "USDT"),
        ("WIRT", "W", "IRT"),
        ("1M_BTTUSDT", "1M_BTT", "USDT"),
        ("100K_FLOKIIRT", "100K_FLOKI", "IRT"),
    ],
)
def test_symbols_split_at_their_quote(symbol: str, base: str, quote: str) -> None:
    assert split_symbol(symbol) == Pair(base, quote)
    assert split_symbol(symbol).symbol == symbol


@pytest.mark.parametrize("symbol", ["BTCTMN", "IRT", "USDT", "", "BTC"])
def test_what_ends_otherwise_is_no_market(symbol: str) -> None:
    with pytest.raises(BadPayload):
        split_symbol(symbol)


def test_requests_name_the_rial_in_their_own_way() -> None:
    assert split_symbol("1M_PEPEIRT").codes == {"srcCurrency": "1m_pepe", "dstCurrency": "rls"}
    assert split_symbol("BTCUSDT").codes == {"srcCurrency": "btc", "dstCurrency": "usdt"}


@pytest.mark.parametrize(
    ("wire", "matched", "status"),
    [
        ("New", "0", OrderStatus.OPEN),
        ("Inactive", 0, OrderStatus.OPEN),
        ("Active", "0E-10", OrderStatus.OPEN),
        ("Active", "0.1", OrderStatus.PARTIALLY_FILLED),
        ("Done", "0.64", OrderStatus.FILLED),
        ("Canceled", "0", OrderStatus.CANCELED),
        ("Canceled", "0.3", OrderStatus.CANCELED),
        ("Rejected", "0", OrderStatus.REJECTED),
    ],
)
def test_statuses(wire: str, matched: Any, status: OrderStatus) -> None:
    found = report(status=wire, matchedAmount=matched)
    assert found.status is status
    assert found.filled_quantity == Decimal(str(matched))


@pytest.mark.parametrize(
    "change",
    [
        {"status": "Frozen"},
        {"status": ...},
        {"amount": ...},
        {"amount": "0"},
        {"type": "hold"},
        {"matchedAmount": "0.65"},
        {"matchedAmount": "-1"},
        {"created_at": "now"},
        {"id": "x"},
        {"status": "Active", "matchedAmount": ..., "unmatchedAmount": ...},
    ],
)
def test_an_order_that_cannot_be_understood_is_no_answer(change: dict[str, Any]) -> None:
    with pytest.raises(BadPayload):
        report(**change)


def test_what_is_filled_may_have_to_be_told_from_the_rest() -> None:
    assert report(matchedAmount=..., unmatchedAmount="0.60").filled_quantity == Decimal("0.04")
    assert report(matchedAmount=..., unmatchedAmount=..., status="Done").filled_quantity == Decimal("0.64")


def test_a_stop_market_has_a_trigger_and_no_price() -> None:
    found = report()
    assert (found.type, found.price, found.stop_price) == (OrderType.STOP_MARKET, None, 4750)
    assert (found.exchange_order_id, found.client_order_id, found.average_price) == ("26", "T1ABC", None)
    assert found.fills_complete
    assert found.raw["somethingNew"] == [1]


def test_the_fee_is_toman_on_a_sell_and_base_on_a_buy() -> None:
    assert report(fee="100", matchedAmount="0.1").fee == 10
    assert report(type="buy", fee="0.001", matchedAmount="0.1").fee == Decimal("0.001")


def test_display_names_lead_back_to_the_market() -> None:
    coins = [CoinSchema(coin="btc", name="Bitcoin", stdName="بیت‌کوین"), CoinSchema(coin="usdt", name="Tether")]
    currencies = Currencies(coins)
    for names, symbol in [
        ({"srcCurrency": "Bitcoin", "dstCurrency": "﷼"}, "BTCIRT"),
        ({"srcCurrency": "btc", "dstCurrency": "ریال"}, "BTCIRT"),
        ({"srcCurrency": "Tether", "dstCurrency": "rls"}, "USDTIRT"),
        ({"srcCurrency": "Bitcoin", "dstCurrency": "Tether"}, "BTCUSDT"),
        ({"srcCurrency": "Newcoin", "dstCurrency": "Tether"}, "NEWCOINUSDT"),
        ({"market": "1INCH-USDT"}, "1INCHUSDT"),
    ]:
        wire = parse(OrderSchema, {"status": "Active", **names})
        assert mapping.pair_of(wire, currencies).symbol == symbol
    with pytest.raises(BadPayload):
        mapping.pair_of(parse(OrderSchema, {"status": "Active"}), currencies)


OPTIONS = parse(
    OptionsSchema,
    {
        "coins": [{"coin": "btc", "name": "Bitcoin"}],
        "nobitex": {
            "minOrders": {"rls": "3000000", "usdt": "11", "2": "3000000"},
            "amountPrecisions": {
                "BTCIRT": "0.000001",
                "BTCUSDT": "0.000001",
                "HBARIRT": "1",
                "ETHIRT": "0.00001",
                "XEUR": "1",
            },
            "pricePrecisions": {"BTCIRT": "10", "BTCUSDT": "0.01", "HBARIRT": "1", "XEUR": "1"},
            "testingCurrencies": ["hbar"],
        },
    },
)


def test_grids_and_minimums_of_irt_markets_are_in_toman() -> None:
    rules = {r.symbol: r for r in mapping.to_rules(OPTIONS, {}, ProfileOptionsSchema(fee="0.25", feeUsdt="0.13"))}
    assert set(rules) == {"BTCIRT", "BTCUSDT", "HBARIRT"}, "a market needs both grids and a known quote"
    toman, tether = rules["BTCIRT"], rules["BTCUSDT"]
    assert (toman.tick_size, toman.min_notional, toman.taker_fee_rate) == (1, 300_000, Decimal("0.0025"))
    assert (tether.tick_size, tether.min_notional, tether.maker_fee_rate) == (Decimal("0.01"), 11, Decimal("0.0013"))
    assert (toman.step_size, toman.base, toman.pair) == (Decimal("0.000001"), "BTC", "BTC/IRT")
    assert (toman.market_band, toman.price_band) == (Decimal("0.01"), Decimal("0.3"))
    assert rules["HBARIRT"].tick_size == Decimal("0.1")


@pytest.mark.parametrize("key", ["btc-rls", "btc-irr", "btc-irt"])
def test_a_market_is_open_unless_it_is_said_to_be_closed_or_in_testing(key: str) -> None:
    rules = {
        r.symbol: r for r in mapping.to_rules(OPTIONS, {key: MarketStatsSchema(isClosed=True)}, ProfileOptionsSchema())
    }
    assert (rules["BTCIRT"].is_open, rules["BTCUSDT"].is_open, rules["HBARIRT"].is_open) == (False, True, False)


def test_a_book_is_converted_and_sorted() -> None:
    book = mapping.to_book(
        "BTCIRT",
        parse(
            OrderBookSchema,
            {
                "lastUpdate": 1726581829816,
                "lastTradePrice": "35650565900",
                "asks": [["35077909990", "0.009433"], ["35077909980", "1"]],
                "bids": [["35020080070", "0"], ["35020080080", "0.185784"]],
            },
        ),
    )
    assert book.last_price == 3565056590
    assert [level.price for level in book.asks] == [3507790998, 3507790999]
    assert [(level.price, level.quantity) for level in book.bids] == [(3502008008, Decimal("0.185784"))]
    assert book.as_of == datetime(2024, 9, 17, 14, 3, 49, 816000, tzinfo=UTC)


def test_a_last_price_of_zero_is_none() -> None:
    wire = parse(OrderBookSchema, {"lastUpdate": "1726581829816", "lastTradePrice": "0E-10", "asks": [], "bids": []})
    assert mapping.to_book("BTCUSDT", wire).last_price is None


@pytest.mark.parametrize(
    ("code", "asset", "total", "locked"),
    [("RLS", "IRT", 1000, 100), ("rls", "IRT", 1000, 100), ("BTC", "BTC", 10000, 1000)],
)
def test_the_rial_wallet_is_toman(code: str, asset: str, total: int, locked: int) -> None:
    balance = mapping.to_balance(code, parse(WalletSchema, {"id": 1, "balance": "10000.00", "blocked": 1000}))
    assert (balance.asset, balance.total, balance.locked) == (asset, total, locked)


def test_a_fill_is_converted_and_its_fee_is_in_what_was_received() -> None:
    row = {"id": 9, "orderId": 26, "market": "USDT-RLS", "timestamp": "2022-01-17T12:14:18Z", "type": "sell"}
    row |= {"price": "316800", "amount": "57.3605", "total": "18171806.4", "fee": "27257.7096"}
    pair = Pair("USDT", "IRT")
    sold = mapping.to_fill(parse(OwnTradeSchema, row), pair)
    assert (sold.price, sold.fee, sold.fee_asset) == (31680, Decimal("2725.77096"), "IRT")
    assert (sold.trade_id, sold.exchange_order_id, sold.side) == ("9", "26", Side.SELL)
    bought = mapping.to_fill(parse(OwnTradeSchema, row | {"type": "buy", "fee": "0.08"}), pair)
    assert (bought.fee, bought.fee_asset) == (Decimal("0.08"), "USDT")


# --- what we send ---


def request(kind: OrderType, **changes: Any) -> OrderRequest:
    base = {
        "client_order_id": "T1ABC",
        "symbol": "BTCIRT",
        "side": Side.SELL,
        "type": kind,
        "quantity": Decimal("0.50"),
    }
    return OrderRequest(**(base | changes))


COMMON = {"type": "sell", "srcCurrency": "btc", "dstCurrency": "rls", "amount": "0.5", "clientOrderId": "T1ABC"}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (request(OrderType.LIMIT, price=Decimal(700)), {"execution": "limit", "price": "7000"}),
        (request(OrderType.MARKET), {"execution": "market"}),
        (request(OrderType.MARKET, price=Decimal(700)), {"execution": "market", "price": "7000"}),
        (
            request(OrderType.STOP_MARKET, price=Decimal(1), stop_price=Decimal(650)),
            {"execution": "stop_market", "stopPrice": "6500"},
        ),
        (
            request(OrderType.STOP_LIMIT, price=Decimal(640), stop_price=Decimal(650)),
            {"execution": "stop_limit", "price": "6400", "stopPrice": "6500"},
        ),
    ],
)
def test_orders_go_out_in_rial(asked: OrderRequest, sent: dict[str, str]) -> None:
    assert mapping.to_wire_order(asked) == COMMON | sent


def test_an_oco_names_a_mode_and_no_execution() -> None:
    asked = OcoRequest("T1ABC", "BTCUSDT", Side.SELL, Decimal("0.5"), Decimal(110), Decimal(90), Decimal("89.5"))
    prices = {"price": "110", "stopPrice": "90", "stopLimitPrice": "89.5"}
    assert mapping.to_wire_oco(asked) == COMMON | {"dstCurrency": "usdt", "mode": "oco"} | prices


def leg(order_id: int, pair_id: int | None, **changes: Any) -> Any:
    return report(id=order_id, pairId=pair_id, **changes)


def test_the_legs_of_an_oco_are_told_apart_whatever_their_order() -> None:
    limit = leg(27, 28, execution="Limit", param1=..., price="50000")
    stop = leg(28, 27, execution="StopLimit", price="47000", clientOrderId=None)
    assert mapping.oco_legs([limit, stop]) == mapping.oco_legs([stop, limit]) == (limit, stop)
    for wrong in ([limit], [limit, limit], [stop, stop], [limit, leg(28, 99, execution="StopLimit")]):
        with pytest.raises(BadPayload):
            mapping.oco_legs(wrong)
