"""What a client may conclude when an exchange misbehaves, the same for every exchange: the error says what to do."""

from __future__ import annotations

from decimal import Decimal

import pytest

from providers.errors import (
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OutcomeUnknown,
    ProviderError,
    RateLimited,
    Unavailable,
)
from providers.types import OrderRef, OrderStatus, OrderType, Side
from tests.contract.conftest import SYMBOL, Wire
from tests.contract.test_orders import until

PLACES = {"wallex": ("POST", "*/v1/account/orders"), "nobitex": ("POST", "*/market/orders/add")}
CANCELS = {"wallex": ("DELETE", "*/v1/account/orders*"), "nobitex": ("POST", "*/market/orders/update-status")}
READS = {"wallex": ("GET", "*/v1/account/balances"), "nobitex": ("GET", "*/v2/wallets")}
LOST_ANSWERS = (
    ("drop_after", {}),
    ("drop_after", {"reset": True}),
    ("http_error", {"status": 502, "body": "html", "when": "after"}),
    ("http_error", {"status": 504, "body": "json", "when": "after"}),
    ("http_error", {"status": 500, "body": "html", "when": "after"}),
    ("malformed_json", {"how": "truncated"}),
    ("malformed_json", {"how": "garbage"}),
    ("wrong_types", {}),
    ("delay", {"seconds": 9, "when": "after"}),
    ("slow_trickle", {"bytes_per_second": 1}),
)


def far_limit(wire: Wire):
    return wire.request(Side.BUY, OrderType.LIMIT, "0.001", price=wire.price("0.8"))


@pytest.mark.parametrize(("kind", "params"), LOST_ANSWERS)
def test_a_write_without_a_usable_answer_is_unknown_and_is_found_by_its_name(wire: Wire, kind, params):
    asked = far_limit(wire)
    wire.fault(kind, *PLACES[wire.name], params=params)
    with pytest.raises(OutcomeUnknown):
        wire.client.create_order(asked)
    found = wire.client.fetch_order(OrderRef(SYMBOL, asked.client_order_id))
    assert found.status is OrderStatus.OPEN
    assert len(wire.truth()["orders"]) == 1  # one request on the wire, whatever happened


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("drop_before", {}),
        ("drop_before", {"reset": True}),
        ("http_error", {"status": 503, "body": "html", "when": "before"}),
    ],
)
def test_a_write_that_was_lost_on_the_way_is_unknown_too_and_is_not_there(wire: Wire, kind, params):
    asked = far_limit(wire)
    wire.fault(kind, *PLACES[wire.name], params=params)
    with pytest.raises(OutcomeUnknown):
        wire.client.create_order(asked)
    with pytest.raises(OrderNotFound):
        wire.client.fetch_order(OrderRef(SYMBOL, asked.client_order_id))
    assert wire.client.orders_since(SYMBOL, wire.began) == []


@pytest.mark.parametrize("told_in", ["header", "body", "both", "nowhere"])
def test_a_429_is_a_definite_no_with_a_time_to_wait(wire: Wire, told_in):
    wire.fault("rate_limited", *PLACES[wire.name], params={"seconds": 3, "told_in": told_in})
    with pytest.raises(RateLimited) as caught:
        wire.client.create_order(far_limit(wire))
    told = told_in in ("header", "both") or (told_in == "body" and wire.name == "nobitex")
    assert 2 <= caught.value.retry_after <= 4 if told else caught.value.retry_after >= 10
    assert wire.truth()["orders"] == []


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("drop_before", {}),
        ("drop_after", {}),
        ("http_error", {"status": 502, "body": "html", "when": "before"}),
        ("http_error", {"status": 500, "body": "json", "when": "after"}),
    ],
)
def test_a_read_is_tried_again_by_itself(wire: Wire, kind, params):
    wire.fault(kind, *READS[wire.name], params=params, times=2)
    assert wire.client.balances()["USDT"].total == 20_000


@pytest.mark.parametrize("kind", ["malformed_json", "wrong_types"])
def test_a_read_that_cannot_be_understood_is_no_answer(wire: Wire, kind):
    wire.fault(kind, *READS[wire.name])
    with pytest.raises(BadPayload):
        wire.client.balances()


def test_an_exchange_in_maintenance_is_unavailable_and_nothing_was_done(wire: Wire):
    wire.fault("maintenance", params={"seconds": 2}, account=None)
    with pytest.raises(Unavailable):
        wire.client.balances()
    until(lambda: answers(wire), 20)


def answers(wire: Wire) -> bool:
    try:
        wire.client.balances()
    except ProviderError:
        return False
    return True


def test_a_revoked_key_is_told_as_such(wire: Wire):
    wire.fault("key_revoked", times=None)
    with pytest.raises(AuthFailed):
        wire.client.balances()
    with pytest.raises(AuthFailed):
        wire.client.create_order(far_limit(wire))


def test_a_refusal_that_nobody_documented_proves_nothing(wire: Wire):
    """It may stand for an order that is there: the look-up decides, not the words."""
    wire.fault("success_false_200", *PLACES[wire.name])
    with pytest.raises(OutcomeUnknown):
        wire.client.create_order(far_limit(wire))
    assert wire.truth()["orders"] == []


# --- the exchange is slow to know, or changes its mind ---------------------------------------------------------------


def test_an_accepted_order_may_not_be_visible_yet(wire: Wire):
    wire.fault("read_lag", "SUBMIT", params={"seconds": 2})
    placed = wire.resting()
    with pytest.raises(OrderNotFound):
        wire.client.fetch_order(wire.ref(placed))
    assert wire.client.open_orders() == []
    until(lambda: bool(wire.client.open_orders()))
    assert wire.client.fetch_order(wire.ref(placed)).status is OrderStatus.OPEN


def test_a_cancel_that_loses_to_a_fill_reports_the_fill(wire: Wire):
    placed = wire.resting()
    wire.fault("cancel_loses_to_fill", "CANCEL", params={"fraction": "0.5"})
    try:
        report = wire.client.cancel_order(wire.ref(placed))
    except OrderNotFound:
        report = wire.client.fetch_order(wire.ref(placed))
    assert (report.status, report.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.0005"))
    assert sum(fill.quantity for fill in wire.client.fetch_fills(report)) == Decimal("0.0005")


def test_a_cancel_that_comes_too_late_leaves_a_filled_order(wire: Wire):
    placed = wire.resting()
    wire.fault("cancel_loses_to_fill", "CANCEL")
    with pytest.raises(OrderNotFound):
        wire.client.cancel_order(wire.ref(placed))
    assert wire.client.fetch_order(wire.ref(placed)).status is OrderStatus.FILLED


def test_a_market_order_may_be_cut_short_by_the_system(wire: Wire):
    wire.fault("partial_then_cancel", "MATCH", params={"fraction": "0.25"})
    report = wire.bought("0.004")
    assert (report.status, report.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.001"))
    assert sum(fill.quantity for fill in wire.client.fetch_fills(report)) == Decimal("0.001")


def test_an_order_may_be_rejected_after_it_was_accepted(wire: Wire):
    wire.fault("reject_after_accept", "SUBMIT", params={"seconds": 0.3})
    placed = wire.resting()
    until(lambda: wire.client.fetch_order(wire.ref(placed)).status is OrderStatus.CANCELED)
    assert wire.client.fetch_order(wire.ref(placed)).filled_quantity == 0


def test_a_fill_that_is_listed_twice_is_one_fill(wire: Wire):
    report = wire.bought("0.002")
    wire.fault("duplicate_fill", times=None)
    fresh = wire.client.fetch_order(wire.ref(report))
    assert sum(fill.quantity for fill in wire.client.fetch_fills(fresh)) == Decimal("0.002")


@pytest.mark.parametrize("kind", ["empty_book", "crossed_book"])
def test_an_empty_or_crossed_book_is_told_as_unusable(wire: Wire, kind: str):
    assert wire.client.order_book(SYMBOL).is_usable
    wire.fault(kind, "BOOK", account=None, params={"seconds": 3})
    until(lambda: not wire.client.order_book(SYMBOL).is_usable, 2.5)  # public answers are cached for a second
    until(lambda: wire.client.order_book(SYMBOL).is_usable)
