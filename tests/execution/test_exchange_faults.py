"""What exchanges do to orders that they have accepted, and to the market around them, met by whole deals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError

from algo.execution.ledger_orm import OrmLedger
from algo.models import (
    CloseReason,
    Deal,
    DealEvent,
    DealStatus,
    Fill,
    Market,
    Order,
    OrderEvent,
    Role,
    Ticket,
)
from algo.selectors.entry_facts import market_blocked
from providers.errors import OrderRejected, RejectReason
from providers.types import OrderRef, OrderStatus
from tests.execution.bench import Trader, World, closed, opened
from tests.execution.faults import Faulty, delayed, raising, untouched
from tests.factories import unguarded

S = OrderStatus
PROVIDERS = pytest.mark.parametrize("provider", ["wallex", "nobitex"])
TRAILING = {"trailing_stop_percent": "1", "trailing_step_percent": "0.2"}


@contextmanager
def fault(trader: Trader, kind: str, moment: str = "*", path: str = "*", **more: Any) -> Iterator[None]:
    """A rule of the exchange against this trader, once unless `more` says otherwise."""
    rule = {"kind": kind, "method": moment, "path": path, "account": trader.name, "times": 1} | more
    trader.world.control("POST", "/faults", json=rule)
    try:
        yield
    finally:
        trader.world.control("DELETE", "/faults")


@contextmanager
def habit(world: World, venue: str, name: str, value: object) -> Iterator[None]:
    before = world.control("GET", "/switches")[venue][name]["value"]
    world.control("POST", "/switches", json={"venue": venue, "name": name, "value": value})
    try:
        yield
    finally:
        world.control("POST", "/switches", json={"venue": venue, "name": name, "value": before})


def placed(trader: Trader, side: str) -> list[dict[str, Any]]:
    return [order for order in trader.truth()["orders"] if order["side"] == side]


def resting(trader: Trader) -> list[dict[str, Any]]:
    return [order for order in trader.truth()["orders"] if order["status"] in ("OPEN", "INACTIVE")]


def without_oco(trader: Trader) -> Trader:
    trader.account.capabilities = trader.account.capabilities | {"oco": False}
    trader.account.save()
    return trader


# --- late ------------------------------------------------------------------------------------------------------------


@PROVIDERS
def test_an_entry_that_arrives_twenty_seconds_late_is_found_and_protected(world: World, provider):
    trader, late = world.trader(provider), []
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[delayed(late)])
    trader.advance()
    trader.wait(20)
    assert trader.deal().status == DealStatus.ENTERING
    late[0]()
    trader.wait(5)
    assert trader.deal().status == DealStatus.OPEN
    assert trader.deal().unprotected_since is None
    assert len(placed(trader, "BUY")) == 1
    trader.price("98.9")
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)


@PROVIDERS
def test_a_stop_that_is_sent_again_just_when_its_first_sending_arrives_rests_once(world: World, provider):
    trader, late = world.trader(provider), []

    def both(call: Callable[[], Any]) -> Any:
        late[0]()
        return call()

    trader.plan()
    pair = provider == "nobitex"
    faults = {"create_oco": [delayed(late), both]} if pair else {"create_order": [untouched, delayed(late), both]}
    trader.provider = Faulty(trader.client, **faults)
    trader.advance()
    trader.wait(20)
    (stop,) = trader.orders(Role.STOP)
    assert (stop.status, stop.attempts) == (S.OPEN, 2)
    assert len(resting(trader)) == (2 if pair else 1)
    assert trader.deal().unprotected_since is None
    trader.price("98.9")
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)


# --- accepted, and then otherwise ------------------------------------------------------------------------------------


def test_an_entry_that_was_accepted_and_filled_nothing_ends_its_deal(world: World):
    trader = world.trader()
    trader.plan()
    with fault(trader, "partial_then_cancel", "MATCH", params={"fraction": 0}):
        trader.advance()
        trader.wait(2)
    assert trader.deal().status == DealStatus.CANCELED
    assert trader.roles() == [] and resting(trader) == []
    assert trader.books_agree()


@PROVIDERS
def test_an_entry_that_is_refused_after_it_was_accepted_ends_its_deal(world: World, provider):
    trader = world.trader(provider)
    trader.plan()
    with fault(trader, "reject_after_accept", "SUBMIT", params={"seconds": 1}):
        trader.advance()
        trader.wait(4)
    assert trader.deal().status == DealStatus.CANCELED
    assert len(placed(trader, "BUY")) == 1
    assert trader.books_agree()


@PROVIDERS
def test_a_stop_that_is_refused_after_it_was_accepted_is_placed_again(world: World, provider):
    trader = without_oco(world.trader(provider))
    with fault(trader, "reject_after_accept", "SUBMIT", "*/SELL/*", params={"seconds": 1}):
        opened(trader)
        trader.wait(8)
    first, second = trader.orders(Role.STOP)
    assert first.status in (S.CANCELED, S.REJECTED)
    assert (second.status, len(resting(trader))) == (S.OPEN, 1)
    assert trader.deal().unprotected_since is None


@pytest.mark.parametrize(("fraction", "left"), [("0.4", "0.5982"), ("0", "0.997")])
def test_a_stop_that_sold_a_part_before_its_cancel_arrived_is_replaced_for_the_rest(world: World, fraction, left):
    trader = opened(world.trader(), **TRAILING)
    with fault(trader, "cancel_loses_to_fill", "CANCEL", params={"fraction": fraction}):
        trader.price("101.5")
        trader.wait(2)
    last = trader.orders(Role.STOP)[-1]
    assert (last.status, last.quantity, last.stop_price) == (S.OPEN, Decimal(left), Decimal("100.48"))
    trader.price("100.4")
    trader.calm()
    assert closed(trader, CloseReason.TRAILING_STOP)


# --- stops that fail -------------------------------------------------------------------------------------------------


def test_a_stop_refused_because_the_price_is_through_it_becomes_an_exit(world: World):
    trader = without_oco(world.trader("nobitex"))

    def too_late(call: Callable[[], Any]) -> Any:
        trader.price("98.9", run=False)
        return call()

    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[untouched, too_late])
    trader.advance()
    assert trader.roles(S.REJECTED) == [Role.STOP]
    trader.wait(2)
    assert closed(trader, CloseReason.STOP_LOSS)
    assert trader.roles(S.FILLED) == [Role.ENTRY, Role.EXIT]


def test_a_stop_that_the_exchange_never_takes_is_minded_by_the_guardian(world: World, caplog):
    trader = world.trader()
    trader.plan()
    no = raising(OrderRejected("outside of the price band", reason=RejectReason.PRICE_OUT_OF_BAND))
    trader.provider = Faulty(trader.client, create_order=[untouched, *[no] * 4])
    trader.advance()
    trader.wait(9)
    assert trader.roles(S.REJECTED) == [Role.STOP] * 4  # after pauses of 1, 2 and 4 seconds
    assert trader.deal().unprotected_since is not None
    assert "guardian" in caplog.text
    trader.price("98.9")
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)
    assert trader.roles(S.FILLED) == [Role.ENTRY, Role.EXIT]


@pytest.mark.parametrize("reason", RejectReason)
def test_a_pair_that_is_refused_is_a_plain_stop_in_the_same_look(world: World, reason):
    trader = world.trader("nobitex")
    trader.plan()
    trader.provider = Faulty(trader.client, always={"create_oco": raising(OrderRejected("no", reason=reason))})
    trader.advance()
    assert trader.roles(S.REJECTED) == [Role.TARGET, Role.STOP]
    assert trader.roles(S.OPEN) == [Role.STOP]
    assert trader.deal().unprotected_since is None
    trader.wait(10)
    assert trader.provider.calls["create_oco"] == 1
    trader.price("102.1")
    trader.calm()
    assert closed(trader, CloseReason.TAKE_PROFIT)


@PROVIDERS
@pytest.mark.parametrize("fraction", ["0", "0.5"])
@pytest.mark.parametrize("price", ["98.9", "96"], ids=["touched", "gap"])
def test_what_a_triggered_stop_leaves_is_sold_at_once(world: World, provider, fraction, price):
    trader = opened(without_oco(world.trader(provider)))
    with fault(trader, "triggered_stop_band_cancel", "TRIGGERED", params={"fraction": fraction}):
        trader.price(price)
        trader.wait(5)
    sold = [Decimal(order["filled_quantity"]) for order in placed(trader, "SELL")]
    assert sum(sold) == trader.deal().exit_quantity
    assert trader.deal().status == DealStatus.CLOSED
    assert trader.roles(S.FILLED)[-1] == Role.EXIT
    assert closed(trader, trader.deal().close_reason)


def test_a_price_that_jumps_over_the_stop_fills_it_where_the_market_is(world: World):
    trader = opened(world.trader())
    trader.price("96")
    trader.wait(2)
    assert closed(trader, CloseReason.STOP_LOSS)
    assert trader.orders(Role.STOP)[0].average_price == Decimal("95.99")


# --- pairs -----------------------------------------------------------------------------------------------------------


def test_a_pair_whose_target_was_filled_in_part_is_placed_anew_for_the_rest(world: World):
    # Nobitex: the first fill of the target cancels the stop beside it.
    trader = opened(world.trader("nobitex"))
    with fault(trader, "cancel_loses_to_fill", "CANCEL", params={"fraction": "0.3"}):
        trader.client.cancel_order(ref(trader.orders(Role.TARGET)[0]))
    trader.wait(8)
    target, stop = trader.orders()[-2:]
    assert (target.role, stop.role, target.status, stop.status) == (Role.TARGET, Role.STOP, S.OPEN, S.OPEN)
    sold = trader.orders(Role.TARGET)[0].filled_quantity
    assert sold > 0
    assert stop.quantity == trader.orders(Role.STOP)[0].quantity - sold
    assert trader.deal().unprotected_since is None
    trader.price("98.9")
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)


def ref(order: Order) -> OrderRef:
    return OrderRef("BTCUSDT", order.client_order_id, order.exchange_order_id)


def test_stop_and_target_that_both_meet_their_price_sell_no_more_than_there_is(world: World):
    # Where stops hold no balance both rest at once; nobody looks while the price goes up through one and down through
    # the other.
    with habit(world, "wallex", "stops_lock", False):
        trader = opened(world.trader(wallet={"USDT": "10000"}), mode=2)
        trader.wait(1)
        assert sorted(trader.roles(S.OPEN)) == [Role.STOP, Role.TARGET]
        trader.price("102.05", run=False)
        trader.price("98.9", run=False)
        trader.calm()
        deal = trader.deal()
        assert deal.status == DealStatus.CLOSED
        assert deal.exit_quantity <= Decimal("0.997")
        assert trader.total("BTC") >= 0
        assert closed(trader, CloseReason(deal.close_reason))


# --- the market itself -----------------------------------------------------------------------------------------------


def test_a_market_that_is_closed_refuses_its_own_entry_only(world: World):
    trader = world.trader()
    trader.plan()
    shut = raising(OrderRejected("the market is closed", reason=RejectReason.MARKET_CLOSED))
    trader.provider = Faulty(trader.client, create_order=[shut])
    trader.advance()
    assert trader.deal().status == DealStatus.CANCELED
    assert "market_closed" in trader.deal().note
    trader.pair, trader.config = "BTC/IRT", None
    trader.price(10_000_000, run=False)
    trader.plan(price="10000000")
    trader.advance()
    assert trader.deal().status == DealStatus.OPEN


def test_a_market_that_is_not_listed_any_more_keeps_its_deal_protected_to_the_end(world: World):
    trader = opened(world.trader())
    Market.objects.filter(pk=trader.market.pk).update(is_open=False)
    trader.wait(6)
    assert trader.roles(S.OPEN) == [Role.STOP]
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)


def test_a_coarser_grid_leaves_the_stop_alone_and_rules_the_next_one(world: World):
    trader = opened(world.trader(), **TRAILING)
    (stop,) = trader.orders(Role.STOP)
    Market.objects.filter(pk=trader.market.pk).update(tick_size=Decimal("0.05"))
    trader.wait(6)
    assert [(each.pk, each.status, each.stop_price) for each in trader.orders(Role.STOP)] == [
        (stop.pk, S.OPEN, Decimal("99.01"))
    ]
    trader.price("101.5")
    trader.wait(2)
    last = trader.orders(Role.STOP)[-1]
    assert (last.status, last.stop_price) == (S.OPEN, Decimal("100.50"))  # 1 % behind 101.49 is 100.4751


@PROVIDERS
def test_a_coarser_step_leaves_the_stop_alone_and_rules_the_next_one(world: World, provider):
    trader = opened(world.trader(provider), **TRAILING)
    before = resting(trader)
    Market.objects.filter(pk=trader.market.pk).update(step_size=Decimal("0.1"))
    trader.wait(6)
    assert resting(trader) == before
    trader.price("101.5")
    trader.wait(2)
    assert trader.orders(Role.STOP)[-1].quantity == Decimal("0.9")  # of a BTC less its fee
    assert {Decimal(order["quantity"]) for order in resting(trader)} == {Decimal("0.9")}


@PROVIDERS
@pytest.mark.parametrize("seconds", [-5, 5])
def test_an_exchange_whose_clock_is_wrong_costs_no_deal_its_protection(world: World, provider, seconds):
    trader = world.trader(provider)
    with fault(trader, "clock_skew", times=None, params={"seconds": seconds}):
        opened(trader)
        assert trader.deal().unprotected_since is None
        trader.price("98.9")
        trader.calm()
        assert closed(trader, CloseReason.STOP_LOSS)
        trader.advance(reconcile_now=True)
    assert not Ticket.objects.filter(account=trader.account).exists()


# --- nobody there, and a database that forgot -------------------------------------------------------------------------


@PROVIDERS
def test_a_deal_nobody_looks_after_for_five_minutes_is_closed_by_its_stop_at_the_exchange(world: World, provider):
    trader = opened(world.trader(provider))
    for _ in range(5):
        world.step(60)
    trader.price("98.9", run=False)
    assert resting(trader) == []
    sold = sum(Decimal(order["filled_quantity"]) for order in placed(trader, "SELL"))
    assert trader.deal().status == DealStatus.OPEN  # nobody here has noticed
    trader.wait(2)
    assert closed(trader, CloseReason.STOP_LOSS)
    assert trader.deal().exit_quantity == sold


def test_a_stop_that_the_database_forgot_is_found_under_its_name_and_not_placed_twice(world: World):
    # A server took over that had not received the last commits: the deal is open, its stop was never planned.
    trader = opened(world.trader(wallet={"USDT": "10000"}))
    (stop,) = trader.orders(Role.STOP)
    with unguarded():
        OrderEvent.objects.filter(order=stop).delete()
        Order.objects.filter(pk=stop.pk).delete()
    trader.advance(reconcile_now=True)
    trader.wait(12)
    (again,) = trader.orders(Role.STOP)
    assert (again.status, again.exchange_order_id) == (S.OPEN, stop.exchange_order_id)
    assert len(resting(trader)) == 1
    trader.price("98.9")
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)


def test_a_deal_that_the_database_forgot_is_a_ticket_that_blocks_its_market(world: World):
    trader = opened(world.trader(wallet={"USDT": "10000"}))
    with unguarded():
        OrderEvent.objects.filter(order__account=trader.account).delete()
        DealEvent.objects.filter(deal__account=trader.account).delete()
        Fill.objects.filter(account=trader.account).delete()
        Order.objects.filter(account=trader.account).delete()
        Deal.objects.filter(account=trader.account).delete()
    trader.advance(reconcile_now=True)
    (stop,) = resting(trader)  # it goes on protecting what nobody here knows of
    assert Ticket.objects.get(account=trader.account, reference=stop["exchange_order_id"]).market == trader.market
    assert "ticket" in market_blocked(trader.account.pk, trader.market.pk, world.clock.now())
    assert len(placed(trader, "BUY")) == 1


HEARD_BY_NOBODY = (
    "plan_order", "claim_send", "apply_report", "open_deal", "note_best", "move_stop", "request_cancel", "close_deal",
)  # fmt: skip


@pytest.mark.parametrize("name", HEARD_BY_NOBODY)
def test_a_commit_whose_answer_is_lost_is_neither_undone_nor_done_twice(world: World, monkeypatch, name):
    """The connection ends between the commit and the word of it: the process goes on, and does not know."""
    method, lost = getattr(OrmLedger, name), []

    def committed(self: OrmLedger, *args: Any, **more: Any) -> Any:
        answer = method(self, *args, **more)
        if not lost:
            lost.append(name)
            raise OperationalError("the connection was closed")
        return answer

    def look(seconds: int) -> None:
        for _ in range(seconds):
            world.step(1)
            with suppress(OperationalError):
                trader.advance()

    monkeypatch.setattr(OrmLedger, name, committed)
    trader = world.trader()
    trader.plan(**TRAILING)
    never_sent = name == "claim_send"  # of the entry, and by then nobody dares to send it
    look(60 if never_sent else 3)
    for price in ("101.5", "101.8", "100.4"):
        trader.price(price, run=False)
        look(4)
    assert lost == [name]
    assert trader.deal().status == (DealStatus.CANCELED if never_sent else DealStatus.CLOSED)
    assert len(placed(trader, "BUY")) == (0 if never_sent else 1)
    assert resting(trader) == []
    assert trader.books_agree()
