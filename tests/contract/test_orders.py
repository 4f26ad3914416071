"""Orders, the same promises from every exchange and every way to be let in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from providers.errors import AlreadySubmitted, AuthFailed, OrderNotFound, OrderRejected, RejectReason
from providers.provider_factory import create_provider
from providers.types import ZERO, OcoRequest, OrderRef, OrderStatus, OrderType, Side
from tests.contract.conftest import SYMBOL, Wire, new_id


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


# --- placing and reading back ---------------------------------------------------------------------------------------


def test_a_limit_order_rests_and_is_found_by_both_names(wire: Wire):
    placed = wire.resting()
    assert placed.status is OrderStatus.OPEN
    by_client_id = wire.client.fetch_order(OrderRef(SYMBOL, placed.client_order_id))
    by_exchange_id = wire.client.fetch_order(OrderRef(SYMBOL, None, placed.exchange_order_id))
    for report in (by_client_id, by_exchange_id):
        assert (report.client_order_id, report.exchange_order_id) == (placed.client_order_id, placed.exchange_order_id)
        assert (report.side, report.quantity, report.price) == (Side.BUY, Decimal("0.001"), placed.price)
        assert report.filled_quantity == 0


def test_a_market_order_fills_and_its_fills_add_up(wire: Wire):
    before = wire.client.balances()
    report = wire.bought("0.002")
    assert (report.status, report.filled_quantity) == (OrderStatus.FILLED, Decimal("0.002"))
    fills = wire.client.fetch_fills(report)
    assert sum(fill.quantity for fill in fills) == Decimal("0.002")
    assert {fill.fee_asset for fill in fills} == {"BTC"}  # what is received
    fee = sum(fill.fee for fill in fills)
    assert fee == Decimal("0.002") * wire.rules.taker_fee_rate
    after = wire.client.balances()
    assert after["BTC"].total - before["BTC"].total == Decimal("0.002") - fee
    paid = sum(fill.price * fill.quantity for fill in fills)
    assert before["USDT"].total - after["USDT"].total == paid
    assert report.average_price == pytest.approx(paid / Decimal("0.002"), rel=Decimal("1e-8"))


def test_a_sale_pays_its_fee_in_the_quote(wire: Wire):
    asked = wire.request(Side.SELL, OrderType.MARKET, "0.001", price=wire.price())
    report = wire.client.fetch_order(wire.ref(wire.client.create_order(asked)))
    fills = wire.client.fetch_fills(report)
    assert {fill.fee_asset for fill in fills} == {wire.rules.quote}


@pytest.mark.parametrize(("side", "factor"), [(Side.SELL, "0.9"), (Side.BUY, "1.1")])
def test_a_stop_rests_untriggered_and_holds_its_balance(wire: Wire, side: Side, factor: str):
    asked = wire.request(side, OrderType.STOP_MARKET, "0.002", stop_price=wire.price(factor))
    placed = wire.client.create_order(asked)
    read = wire.client.fetch_order(wire.ref(placed))
    assert (read.status, read.stop_price, read.filled_quantity) == (OrderStatus.OPEN, asked.stop_price, ZERO)
    assert asked.client_order_id in {report.client_order_id for report in wire.client.open_orders(SYMBOL)}
    assert wire.client.balances()["BTC" if side is Side.SELL else "USDT"].locked > 0
    assert wire.client.cancel_order(wire.ref(placed)).status is OrderStatus.CANCELED
    assert all(balance.locked == 0 for balance in wire.client.balances().values())


def test_a_stop_limit_keeps_both_its_prices(wire: Wire):
    stop = wire.price("0.9")
    asked = wire.request(Side.SELL, OrderType.STOP_LIMIT, "0.002", stop_price=stop, price=wire.price("0.89"))
    read = wire.client.fetch_order(wire.ref(wire.client.create_order(asked)))
    assert (read.stop_price, read.price, read.status) == (stop, asked.price, OrderStatus.OPEN)


def test_an_oco_is_one_order_of_two_legs_or_refused(wire: Wire):
    target, stop, stop_limit = (wire.price(factor) for factor in ("1.1", "0.9", "0.89"))
    asked = OcoRequest(new_id(), SYMBOL, Side.SELL, Decimal("0.01"), target, stop, stop_limit)
    if not wire.client.capabilities().oco:
        with pytest.raises(OrderRejected):
            wire.client.create_oco(asked)
        assert wire.client.open_orders() == []
        return
    limit, second = wire.client.create_oco(asked)
    assert (limit.client_order_id, second.client_order_id) == (asked.client_order_id, None)
    assert (limit.pair_id, second.pair_id) == (second.exchange_order_id, limit.exchange_order_id)
    assert wire.client.balances()["BTC"].locked == Decimal("0.01")  # once, for both
    wire.client.cancel_order(OrderRef(SYMBOL, None, second.exchange_order_id))
    assert wire.client.open_orders() == []


# --- the end of an order --------------------------------------------------------------------------------------------


def test_a_cancel_is_confirmed_and_frees_the_balance(wire: Wire):
    placed = wire.resting()
    canceled = wire.client.cancel_order(wire.ref(placed))
    assert (canceled.status, canceled.filled_quantity) == (OrderStatus.CANCELED, ZERO)
    assert wire.client.open_orders() == []
    assert wire.client.balances()["USDT"].locked == 0


def test_a_second_cancel_finds_nothing_to_cancel(wire: Wire):
    placed = wire.resting()
    wire.client.cancel_order(wire.ref(placed))
    with pytest.raises(OrderNotFound):
        wire.client.cancel_order(wire.ref(placed))


def test_a_cancel_of_an_order_that_never_was_finds_nothing(wire: Wire):
    with pytest.raises(OrderNotFound):
        wire.client.cancel_order(OrderRef(SYMBOL, new_id()))


def test_an_order_that_never_was_is_not_found(wire: Wire):
    with pytest.raises(OrderNotFound):
        wire.client.fetch_order(OrderRef(SYMBOL, new_id()))


def test_an_order_of_somebody_else_is_not_found(wire: Wire, server):
    placed = wire.resting()
    other = {"name": new_id(), "balances": {wire.name: {"USDT": "100"}}}
    keys = server.control("POST", "/accounts", json=other).json()
    secret = keys["wallex_key" if wire.name == "wallex" else "nobitex_token"]
    stranger = create_provider(wire.name, base_url=f"{server.url}/{wire.name}", api_key=secret)
    with pytest.raises(OrderNotFound):
        stranger.fetch_order(wire.ref(placed))
    with pytest.raises(OrderNotFound):
        stranger.cancel_order(wire.ref(placed))
    assert wire.client.fetch_order(wire.ref(placed)).status is OrderStatus.OPEN


def test_a_closed_order_is_found_by_client_id_only_where_the_capabilities_say_so(wire: Wire):
    report = wire.bought()
    ref = OrderRef(SYMBOL, report.client_order_id)
    if wire.client.capabilities().finds_closed_by_client_id:
        assert wire.client.fetch_order(ref).status is OrderStatus.FILLED
    else:
        with pytest.raises(OrderNotFound):
            wire.client.fetch_order(ref)
    assert report.exchange_order_id in {each.exchange_order_id for each in wire.client.orders_since(SYMBOL, wire.began)}


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "quantity", "factor", "reason"),
    [
        (Side.SELL, "500", "1.1", RejectReason.INSUFFICIENT_BALANCE),
        (Side.BUY, "5", "0.9", RejectReason.INSUFFICIENT_BALANCE),
        (Side.BUY, "0.000001", "0.9", RejectReason.BELOW_MINIMUM),
    ],
)
def test_a_refusal_has_a_reason_and_changes_nothing(wire: Wire, side, quantity, factor, reason):
    before = wire.client.balances()
    with pytest.raises(OrderRejected) as caught:
        wire.client.create_order(wire.request(side, OrderType.LIMIT, quantity, price=wire.price(factor)))
    assert caught.value.reason is reason
    assert wire.client.balances() == before
    assert wire.client.open_orders() == []


def test_a_name_that_is_in_use_is_never_a_second_order(wire: Wire):
    placed = wire.resting()
    again = wire.request(Side.BUY, OrderType.LIMIT, "0.0011", price=wire.price("0.79"))
    with pytest.raises(AlreadySubmitted):
        wire.client.create_order(replace(again, client_order_id=placed.client_order_id))
    assert len(wire.client.open_orders()) == 1


def test_a_wrong_key_is_refused_at_the_first_call(wire: Wire, server):
    wrong = "1|wrongkey" if wire.name == "wallex" else "0" * 40
    client = create_provider(wire.name, base_url=f"{server.url}/{wire.name}", api_key=wrong)
    with pytest.raises(AuthFailed):
        client.balances()


def test_a_valid_key_tells_what_the_exchange_tells(wire: Wire):
    details = wire.client.key_details()
    assert details.scopes is None or "read" in details.scopes


# --- lists ----------------------------------------------------------------------------------------------------------


def test_lists_hold_every_order_once_over_all_pages(wire: Wire):
    placed = [wire.resting("0.0002", f"0.{900 - n}").exchange_order_id for n in range(120)]
    assert sorted(report.exchange_order_id for report in wire.client.open_orders(SYMBOL)) == sorted(placed)
    assert sorted(report.exchange_order_id for report in wire.client.orders_since(SYMBOL, wire.began)) == sorted(placed)
    assert wire.client.open_orders("ETHUSDT") == []


def test_own_trades_are_those_of_the_market_oldest_first(wire: Wire):
    for quantity in ("0.001", "0.002", "0.003"):
        wire.bought(quantity)
    trades = wire.client.own_trades(SYMBOL, wire.began)
    assert sum(trade.quantity for trade in trades) == Decimal("0.006")
    assert [trade.executed_at for trade in trades] == sorted(trade.executed_at for trade in trades)
    assert wire.client.own_trades("ETHUSDT", wire.began) == []


# --- the books of the exchange agree --------------------------------------------------------------------------------


def test_what_the_client_says_is_what_the_exchange_has_in_its_books(wire: Wire):
    wire.bought("0.002")
    wire.resting()
    truth = wire.truth()
    for asset, balance in wire.client.balances().items():
        held = truth["balances"]["IRT" if asset in ("TMN", "IRT") else asset]
        assert (balance.total, balance.locked) == (Decimal(held["total"]), Decimal(held["locked"]))
    assert sum(Decimal(trade["quantity"]) for trade in truth["trades"]) == Decimal("0.002")
