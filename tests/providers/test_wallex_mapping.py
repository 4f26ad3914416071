"""Wallex wire <-> vocabulary, worked by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from providers.errors import BadPayload, RejectReason
from providers.types import Candle, OrderStatus, OrderType, Resolution, Side
from providers.wallex import mapping
from providers.wallex.schemas import (
    AccountTradeSchema,
    CreateOrderRequestSchema,
    DepthSchema,
    FeeSchema,
    MarketSchema,
    OrderSchema,
)
from providers.wire import parse


def fill(price: str, quantity: str, second: int, fee: str = "0.001", asset: Any = "USDT") -> dict[str, Any]:
    stamp = f"2026-01-01T10:00:{second:02}.000000Z"
    return {"price": price, "quantity": quantity, "fee": fee, "feeAsset": asset, "timestamp": stamp, "isBuyer": True}


def order(**changes: Any) -> dict[str, Any]:
    base = {
        "symbol": "USDTTMN",
        "type": "LIMIT",
        "side": "BUY",
        "clientOrderId": "T1ABC",
        "price": "228900.0000000000000000",
        "origQty": "10.0000000000000000",
        "executedQty": "0.0000000000000000",
        "executedSum": "0.0000000000000000",
        "executedPrice": "62999995.0000000000000000",
        "fee": "0",
        "status": "NEW",
        "active": True,
        "fills": [],
        "created_at": "2026-01-01T10:00:00.000000Z",
        "somethingNew": {"a": 1},
    }
    return base | changes


def report(**changes: Any) -> Any:
    raw = order(**changes)
    return mapping.to_report(parse(OrderSchema, raw), raw)


@pytest.mark.parametrize(
    ("kind", "filled", "active", "label", "status"),
    [
        ("LIMIT", "0", True, "NEW", OrderStatus.OPEN),
        ("LIMIT", "4", True, "NEW", OrderStatus.PARTIALLY_FILLED),
        ("LIMIT", "4", True, "PARTIALLY_FILLED", OrderStatus.PARTIALLY_FILLED),
        ("LIMIT", "10", False, "FILLED", OrderStatus.FILLED),
        ("LIMIT", "10", True, "NEW", OrderStatus.FILLED),
        ("LIMIT", "0", False, "CANCELED", OrderStatus.CANCELED),
        ("LIMIT", "0", False, "FILLED", OrderStatus.CANCELED),  # the oldest documents' own cancel sample
        ("LIMIT", "4", False, "CANCELED", OrderStatus.CANCELED),
        ("MARKET", "4", False, "FILLED", OrderStatus.CANCELED),  # ended by the band
        ("MARKET", "0", True, "NEW", OrderStatus.OPEN),
        ("LIMIT", "0", False, "REJECTED", OrderStatus.REJECTED),
        ("LIMIT", "0", False, "EXPIRED", OrderStatus.EXPIRED),
        ("STOP_MARKET", "0", False, "NEW", OrderStatus.OPEN),  # waiting for its trigger
        ("STOP_MARKET", "0", True, "NEW", OrderStatus.OPEN),
        ("STOP_LIMIT", "0", False, "CANCELED", OrderStatus.CANCELED),
        ("STOP_MARKET", "10", False, "FILLED", OrderStatus.FILLED),
    ],
)
def test_numbers_decide_before_labels(kind: str, filled: str, active: bool, label: str, status: OrderStatus) -> None:
    assert report(type=kind, executedQty=filled, active=active, status=label).status is status


def test_an_unknown_status_raises() -> None:
    with pytest.raises(BadPayload, match="status"):
        report(status="HALF_BAKED")


@pytest.mark.parametrize(
    "change", [{"executedQty": "11"}, {"active": "yes"}, {"origQty": "0"}, {"side": "HOLD"}, {"price": "abc"}]
)
def test_an_impossible_order_is_no_answer(change: dict[str, Any]) -> None:
    with pytest.raises(BadPayload):
        report(**change)


def test_the_oldest_replies_have_only_the_required_fields() -> None:
    required = ("symbol", "type", "side", "price", "origQty", "executedQty", "status", "active", "clientOrderId")
    raw = {name: order()[name] for name in required}
    found = mapping.to_report(parse(OrderSchema, raw), raw)
    assert (found.status, found.fee, found.created_at, found.fills) == (OrderStatus.OPEN, None, None, ())
    assert found.fills_complete


def test_a_price_of_an_untouched_order_is_not_an_average() -> None:
    assert report().average_price is None
    touched = report(executedQty="4", executedSum="915600.0")
    assert touched.average_price == Decimal(228900)
    assert not touched.fills_complete


def test_fills_are_in_time_order_whichever_way_they_are_listed() -> None:
    fills = [fill("228900", "1", 1), fill("228901", "2", 2), fill("228902", "1", 2)]
    ascending = report(executedQty="4", executedSum="915604", fills=fills)
    descending = report(executedQty="4", executedSum="915604", fills=fills[::-1])
    assert ascending.fills == descending.fills
    assert [f.quantity for f in ascending.fills] == [1, 2, 1]
    assert len({f.trade_id for f in ascending.fills}) == 3
    assert ascending.fills_complete


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("second", [3, 2, 0], ids=["later", "of the same second", "booked late"])
def test_a_fill_keeps_its_id_whenever_another_comes_in(second: int, newest_first: bool) -> None:
    """The ledger books every id once: a fill under another's id is lost, and the other booked twice."""
    known = [fill("228900", "1", 1), fill("228901", "2", 2)]
    fills = sorted([*known, fill("228902", "1", second)], key=lambda row: row["timestamp"], reverse=newest_first)
    before = {f.trade_id: f.price for f in report(executedQty="3", fills=known[:: -1 if newest_first else 1]).fills}
    after = {f.trade_id: f.price for f in report(executedQty="4", fills=fills).fills}
    assert len(after) == 3
    assert before.items() <= after.items()


def test_a_time_without_its_fraction_is_the_same_fill() -> None:
    whole = fill("228900", "1", 1)
    exact = whole | {"timestamp": "2026-01-01T10:00:01.250000Z"}
    ids = [report(executedQty="1", fills=[row]).fills[0].trade_id for row in (whole, exact)]
    assert ids[0] == ids[1]
    assert ids[0].startswith("T1ABC:")


@pytest.mark.parametrize(
    ("side", "named", "asset"),
    [("BUY", "USDT", "USDT"), ("BUY", {}, "USDT"), ("SELL", None, "TMN"), ("SELL", "tmn", "TMN")],
)
def test_the_fee_is_in_what_is_received(side: str, named: Any, asset: str) -> None:
    found = report(side=side, executedQty="1", fills=[fill("228900", "1", 1, asset=named)])
    assert found.fills[0].fee_asset == asset


def test_raw_is_kept_as_json_with_amounts_as_text() -> None:
    raw = order(executedPercent=Decimal("33.5"))
    kept = mapping.to_report(parse(OrderSchema, raw), raw).raw
    assert kept["executedPercent"] == "33.5"
    assert kept["somethingNew"] == {"a": 1}


def test_decimals_become_grids() -> None:
    market = parse(
        MarketSchema,
        {
            "symbol": "BTCUSDT",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "stepSize": 6,
            "tickSize": 2,
            "minQty": Decimal("0.000001"),
            "minNotional": 10,
            "isMarketTypeEnable": False,
        },
    )
    fees = parse(FeeSchema, {"makerFeeRate": "0.00200000", "takerFeeRate": "0.00250000", "recent_days_sum": 0})
    rules = mapping.to_rules(market, fees)
    assert (rules.step_size, rules.tick_size, rules.min_quantity) == (
        Decimal("0.000001"),
        Decimal("0.01"),
        Decimal("0.000001"),
    )
    assert (rules.maker_fee_rate, rules.taker_fee_rate, rules.min_notional) == (Decimal("0.002"), Decimal("0.0025"), 10)
    assert rules.market_band == Decimal("0.02")
    assert not rules.allows_market_orders


def test_whole_toman_is_a_tick_of_one() -> None:
    payload = {
        "symbol": "BTCTMN",
        "baseAsset": "BTC",
        "quoteAsset": "TMN",
        "stepSize": 8,
        "tickSize": 0,
        "minNotional": "50000",
    }
    rules = mapping.to_rules(parse(MarketSchema, payload), mapping.DOCUMENTED_FEES)
    assert rules.tick_size == 1
    assert rules.min_quantity == rules.step_size == Decimal("1e-8")
    assert rules.pair == "BTC/IRT"


@pytest.mark.parametrize("places", [-1, 21, "6", Decimal("0.01"), True])
def test_a_grid_that_is_no_number_of_decimals_is_refused(places: Any) -> None:
    payload = {
        "symbol": "X",
        "baseAsset": "X",
        "quoteAsset": "TMN",
        "stepSize": places,
        "tickSize": 0,
        "minNotional": 1,
    }
    with pytest.raises(BadPayload):
        parse(MarketSchema, payload)


def test_a_book_is_sorted_best_first_and_empty_levels_fall_out() -> None:
    level = {"sum": "1"}
    depth = parse(
        DepthSchema,
        {
            "ask": [level | {"price": 102, "quantity": Decimal("1e-06")}, level | {"price": "101.0", "quantity": 2}],
            "bid": [level | {"price": "99", "quantity": 0}, level | {"price": 98, "quantity": 1}],
        },
    )
    book = mapping.to_book("BTCTMN", depth, datetime(2026, 1, 1, tzinfo=UTC))
    assert [(x.price, x.quantity) for x in book.asks] == [(101, 2), (102, Decimal("0.000001"))]
    assert [(x.price, x.quantity) for x in book.bids] == [(98, 1)]


def test_own_trades_get_ids_that_do_not_change_with_the_page() -> None:
    row = fill("100", "1", 5) | {"symbol": "USDTTMN"}
    first = mapping.to_account_fills([parse(AccountTradeSchema, row)])
    again = mapping.to_account_fills([parse(AccountTradeSchema, row), parse(AccountTradeSchema, row)])
    assert again[0] == first[0]
    assert again[1].trade_id != again[0].trade_id


# --- what we send ---


def test_the_request_spells_the_trigger_as_wallex_does() -> None:
    request = CreateOrderRequestSchema(
        symbol="BTCTMN",
        side="sell",
        type="STOP_MARKET",
        quantity="0.00000094",
        price=None,
        stopPrice=Decimal("1.9E+10"),
    )
    assert request.to_wire() == {
        "symbol": "BTCTMN",
        "type": "STOP_MARKET",
        "side": "SELL",
        "quantity": "0.00000094",
        "stop_Price": "19000000000",
    }


def test_a_limit_carries_its_price_and_a_market_order_none() -> None:
    limit = CreateOrderRequestSchema(
        symbol="BTCTMN", side="BUY", type="LIMIT", quantity="1.50", price="100", client_id="T1_9"
    )
    assert limit.to_wire()["price"] == "100"
    assert limit.to_wire()["client_id"] == "T1_9"
    market = CreateOrderRequestSchema(
        symbol="BTCTMN", side="BUY", type="MARKET", quantity="1", price="100", stopPrice=None
    )
    assert "price" not in market.to_wire()


@pytest.mark.parametrize(
    "change",
    [
        {"type": "STOP_MARKET"},  # without a trigger it could execute at once
        {"stopPrice": "1"},
        {"price": None},
        {"quantity": 0.1},
        {"quantity": "0"},
        {"quantity": "NaN"},
        {"price": "-1"},
        {"symbol": "btc/tmn"},
        {"client_id": "with-hyphen"},
        {"timeInForce": "IOC"},
    ],
)
def test_a_senseless_request_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CreateOrderRequestSchema(
            **({"symbol": "BTCTMN", "side": "BUY", "type": "LIMIT", "quantity": "1", "price": "1"} | change)
        )


@given(st.decimals(min_value=Decimal("1e-16"), max_value=10**12, places=16))
def test_amounts_go_out_in_plain_notation_and_unchanged(amount: Decimal) -> None:
    sent = CreateOrderRequestSchema(symbol="BTCTMN", side=Side.BUY, type=OrderType.LIMIT, quantity=amount, price=amount)
    assert set(sent.to_wire()["quantity"]) <= set("0123456789.")
    assert Decimal(sent.to_wire()["quantity"]) == amount


# --- candles made here ---


def minute(n: int, close: int) -> Candle:
    price = Decimal(close)
    opened = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n)
    return Candle(opened, price, price + 1, price - 1, price, Decimal(2))


def test_minutes_gather_on_the_grid_and_a_gap_stays_a_gap() -> None:
    five = mapping.aggregate([minute(4, 10), minute(5, 20), minute(7, 5), minute(9, 8), minute(15, 9)], Resolution.M5)
    assert [candle.open_time.minute for candle in five] == [0, 5, 15]
    middle = five[1]
    assert (middle.open, middle.high, middle.low, middle.close, middle.volume) == (20, 21, 4, 8, 6)


def test_days_keep_the_hour_at_which_they_open() -> None:
    tehran_midnight = datetime(2026, 1, 1, 20, 30, tzinfo=UTC)
    days = [Candle(tehran_midnight + timedelta(days=n), *[Decimal(n + 1)] * 4, Decimal(1)) for n in range(4)]
    pairs = mapping.aggregate(days, Resolution.D2)
    assert {candle.open_time.time() for candle in pairs} == {tehran_midnight.time()}
    assert sum(candle.volume for candle in pairs) == 4
    assert all(candle.open_time.toordinal() % 2 == pairs[0].open_time.toordinal() % 2 for candle in pairs)


@pytest.mark.parametrize(
    ("resolution", "source"),
    [
        (Resolution.M1, Resolution.M1),
        (Resolution.M15, Resolution.M1),
        (Resolution.M30, Resolution.M1),
        (Resolution.H1, Resolution.H1),
        (Resolution.H4, Resolution.H1),
        (Resolution.D1, Resolution.D1),
        (Resolution.D3, Resolution.D1),
    ],
)
def test_only_truthful_resolutions_are_sources(resolution: Resolution, source: Resolution) -> None:
    assert mapping.source_of(resolution) is source


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({"code": 422, "result": {"error_code": [1003]}}, RejectReason.BELOW_MINIMUM),
        ({"code": 422, "result": {"error_code": [1006], "quantity": ["…"]}}, RejectReason.INSUFFICIENT_BALANCE),
        ({"code": 422, "result": []}, RejectReason.INVALID),
        ({"code": 999, "result": None}, RejectReason.OTHER),
    ],
)
def test_the_specific_code_gives_the_reason(payload: dict[str, Any], reason: RejectReason) -> None:
    assert mapping.reject_reason(mapping.error_codes(payload)) is reason


def test_a_fill_that_is_listed_twice_is_one_fill() -> None:
    one, two = fill("228900", "1", 1), fill("228901", "2", 2)
    found = report(executedQty="3", fills=[one, one, two, two])
    assert [f.quantity for f in found.fills] == [1, 2]
    assert found.fills_complete


def test_two_equal_fills_are_two_where_the_order_executed_as_much() -> None:
    same = fill("228900", "1", 1)
    found = report(executedQty="2", fills=[same, same])
    assert len({f.trade_id for f in found.fills}) == 2
    assert found.fills[0].trade_id == report(executedQty="1", fills=[same]).fills[0].trade_id


def test_fills_that_say_more_than_the_order_executed_are_none() -> None:
    found = report(executedQty="1", fills=[fill("228900", "1", 1), fill("228901", "2", 2)])
    assert (found.fills, found.fills_complete) == ((), False)
