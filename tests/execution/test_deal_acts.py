"""Acts by hand, over the real clients against the running paper exchange: what a person asks for is rows, and whoever
looks after the account next carries it out."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from algo.models import AuditRecord, CloseReason, Deal, DealEvent, DealStatus, MarketQuote, Order, Role
from algo.services.deal_acts import (
    ActForbidden,
    ActRefused,
    LooserStop,
    deal_close,
    deal_reprotect,
    deal_stop_move,
    order_cancel,
)
from providers.types import OrderRef, Side
from providers.types import OrderStatus as S
from tests.execution.bench import Trader, World, closed, opened
from tests.factories import by, make_trader

pytestmark = pytest.mark.django_db


def now(trader: Trader) -> dict[str, Any]:
    """By the account's owner, at the world's time."""
    return {"by": by(trader.account.owner), "at": trader.world.clock.now()}


def quote(trader: Trader, price: str = "100") -> None:
    """What the stream last told."""
    at = Decimal(price)
    told = {"bid": at - 1, "ask": at + 1, "last": at, "as_of": trader.world.clock.now()}
    MarketQuote.objects.update_or_create(market=trader.market, defaults=told | {"received_at": told["as_of"]})


def move(trader: Trader, price: str, **more: Any) -> bool:
    quote(trader)
    return deal_stop_move(trader.deal(), Decimal(price), **now(trader), **more)


def live_stop(trader: Trader) -> Order:
    (stop,) = [order for order in trader.orders(Role.STOP) if order.status == S.OPEN]
    return stop


def acts() -> list[tuple[str, str]]:
    return list(AuditRecord.objects.order_by("pk").values_list("act", "username"))


# --- close ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "mode"), [("wallex", 3), ("wallex", 4), ("nobitex", 1), ("nobitex", 2)])
def test_an_open_deal_is_closed_at_the_market(world: World, provider, mode):
    trader = opened(world.trader(provider), mode=mode)
    assert deal_close(trader.deal(), **now(trader), reason="holiday")
    assert trader.deal().status == DealStatus.EXITING
    trader.wait(2)
    assert closed(trader, CloseReason.MANUAL)
    assert trader.books_agree()
    owner = trader.account.owner.username
    assert acts() == [("deal.close", owner)]
    assert DealEvent.objects.get(kind="exit").detail["why"] == f"closed by {owner}: holiday"


def test_pressing_close_twice_is_once(world: World):
    trader = opened(world.trader())
    assert deal_close(trader.deal(), **now(trader))
    assert not deal_close(trader.deal(), **now(trader))
    trader.wait(2)
    with pytest.raises(ActRefused, match=r"has ended on .* closed\. Nothing was changed\."):
        deal_close(trader.deal(), **now(trader))
    assert len(acts()) == 1
    assert len(trader.orders(Role.EXIT)) == 1


def test_a_planned_deal_that_is_closed_sends_nothing(world: World):
    trader = world.trader()
    trader.plan()
    assert deal_close(trader.deal(), **now(trader))
    trader.wait(1)
    assert (trader.deal().status, trader.deal().note) == (DealStatus.CANCELED, "its deal is to be closed")
    assert trader.truth()["orders"] == []


def test_an_entry_that_got_a_part_is_cut_off_and_the_part_is_sold(world: World):
    trader = world.trader()
    world.feed.depth = Decimal("0.4")
    trader.plan()
    trader.advance(reconcile_now=True)
    assert trader.deal().status in (DealStatus.ENTERING, DealStatus.OPEN)
    assert deal_close(trader.deal(), **now(trader))
    trader.calm()
    assert closed(trader, CloseReason.MANUAL)
    assert trader.books_agree()


def test_an_entry_is_not_sent_for_a_deal_that_was_closed_a_moment_ago(world: World):
    """Between the decision to send and the claim of the send, a person closes the deal."""
    from algo.execution.ledger_orm import OrmLedger

    trader = world.trader()
    deal = trader.plan()
    ledger = OrmLedger(trader.account, trader.account.known_capabilities(trader.client.capabilities()))
    entry = ledger.deal(deal.pk).last(Role.ENTRY)
    deal_close(deal, **now(trader))
    assert not ledger.claim_send(entry, now=world.clock.now())
    assert trader.orders()[0].status == S.PENDING


# --- move the stop --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("provider", "mode"), [("wallex", 3), ("nobitex", 1), ("nobitex", 2)])
def test_a_moved_stop_replaces_the_one_that_rests(world: World, provider, mode):
    trader = opened(world.trader(provider), mode=mode)
    assert move(trader, "99.5", reason="news")
    trader.wait(2)
    assert live_stop(trader).stop_price == Decimal("99.5")
    deal = trader.deal()
    assert (deal.stop_price, deal.unprotected_since, deal.stop_loosened) == (Decimal("99.5"), None, 0)
    told = DealEvent.objects.get(kind="stop_moved").detail
    assert (told["before"], told["after"], told["by"]) == ("99.01", "99.5", trader.account.owner.username)
    trader.price("99.4")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)


def test_without_stops_at_the_exchange_the_guardian_watches_the_moved_one(world: World):
    trader = opened(world.trader(), mode=4)
    move(trader, "99.5")
    MarketQuote.objects.all().delete()  # the stream is silent again: the guardian asks the exchange
    trader.price("99.4")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)


def test_a_looser_stop_is_counted_and_only_where_it_is_meant(world: World):
    trader = opened(world.trader())
    with pytest.raises(LooserStop, match=r"98 is farther from the price than the stop that stands, 99.01"):
        move(trader, "98")
    assert trader.deal().stop_price == Decimal("99.01")
    assert move(trader, "98", looser_ok=True)
    trader.wait(2)
    assert (live_stop(trader).stop_price, trader.deal().stop_loosened) == (Decimal(98), 1)
    trader.price("98.5")
    assert trader.deal().status == DealStatus.OPEN


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ("100", "through a stop at 100"),
        ("101", "through a stop at 101"),
        ("103", "far side of the target 102"),
        ("99.005", r"off the tick of BTCUSDT \(0.01\): 99 or 99.01 would fit"),
        ("0", "above zero"),
        ("NaN", "above zero"),
    ],
)
def test_a_stop_that_does_not_fit_is_refused_and_nothing_changes(world: World, price, words):
    trader = opened(world.trader())
    with pytest.raises(ActRefused, match=words):
        move(trader, price, looser_ok=True)
    assert trader.deal().stop_price == Decimal("99.01")
    assert acts() == []


def test_a_stop_of_a_short_deal_moves_the_other_way(world: World):
    trader = opened(world.trader(), side=Side.SELL)
    with pytest.raises(ActRefused, match="through a stop at 99"):
        move(trader, "99")
    assert move(trader, "100.5")
    with pytest.raises(LooserStop):
        move(trader, "102")
    trader.wait(2)
    assert live_stop(trader).stop_price == Decimal("100.5")


def test_a_stop_is_not_moved_while_no_price_is_known(world: World):
    trader = opened(world.trader())
    quote(trader)
    world.clock.step(11)
    with pytest.raises(ActRefused, match="No price of BTCUSDT is known"):
        deal_stop_move(trader.deal(), Decimal("99.5"), **now(trader))


def test_a_stop_set_where_it_stands_is_no_move(world: World):
    trader = opened(world.trader())
    assert not move(trader, "99.01")
    assert acts() == []


def test_trailing_goes_on_from_a_moved_stop_and_never_lowers_it(world: World):
    trader = opened(world.trader(), trailing_stop_percent="1", trailing_step_percent="0.1")
    move(trader, "99.8")
    trader.wait(2)
    trader.price("100.5")  # 1 % behind it is 99.49: less than what the person said
    trader.wait(12)
    assert trader.deal().stop_price == Decimal("99.8")
    trader.price("101.5")
    trader.wait(12)
    assert trader.deal().stop_price == Decimal("100.48")  # 101.5 less 1 % is 100.485


def test_a_trailing_stop_is_not_loosened_for_it_would_come_back_at_once(world: World):
    trader = opened(world.trader(), trailing_stop_percent="1", trailing_step_percent="0.1")
    with pytest.raises(ActRefused, match=r"trails its best price at 1 %: a stop at 98 would be moved to 99.01 again"):
        move(trader, "98", looser_ok=True)


def test_what_is_entering_closing_or_over_has_no_stop_to_move(world: World):
    trader = world.trader()
    trader.plan()
    for act in (move, lambda who, _: deal_reprotect(who.deal(), **now(who))):
        with pytest.raises(ActRefused, match="still entering"):
            act(trader, "99.5")
    trader.advance(reconcile_now=True)
    deal_close(trader.deal(), **now(trader))
    for act in (move, lambda who, _: deal_reprotect(who.deal(), **now(who))):
        with pytest.raises(ActRefused, match="being closed"):
            act(trader, "99.5")
    trader.wait(2)
    with pytest.raises(ActRefused, match="has ended"):
        move(trader, "99.5")


# --- look at once ---------------------------------------------------------------------------------------------------


def test_a_look_finds_at_once_that_a_stop_is_gone_and_places_it(world: World):
    trader = opened(world.trader())
    trader.wait(1)
    stop = live_stop(trader)
    trader.client.cancel_order(OrderRef("BTCUSDT", stop.client_order_id, stop.exchange_order_id))
    trader.advance()  # it was read a moment ago, and is not read again yet
    assert live_stop(trader) == stop
    assert deal_reprotect(trader.deal(), **now(trader))
    trader.advance()
    assert [order.status for order in trader.orders(Role.STOP)] == [S.CANCELED, S.OPEN]
    assert trader.deal().unprotected_since is None


def test_a_look_is_one_look_and_may_be_repeated(world: World):
    trader = opened(world.trader())
    for _ in range(2):
        world.step(1)
        assert deal_reprotect(trader.deal(), **now(trader))
        trader.advance()
        read_at = live_stop(trader).checked_at
        world.step(1)
        trader.advance()
        assert live_stop(trader).checked_at == read_at
    assert len(trader.orders(Role.STOP)) == 1


# --- cancel an order ------------------------------------------------------------------------------------------------


def test_a_planned_entry_is_withdrawn(world: World):
    trader = world.trader()
    trader.plan()
    entry = trader.orders()[0]
    assert order_cancel(entry, **now(trader), reason="changed my mind")
    assert not order_cancel(entry, **now(trader))
    trader.wait(1)
    assert (trader.orders()[0].status, trader.deal().status) == (S.CANCELED, DealStatus.CANCELED)
    assert trader.truth()["orders"] == []
    assert acts() == [("order.cancel", trader.account.owner.username)]


@pytest.mark.parametrize(("provider", "mode", "role", "words"), [
    ("wallex", 3, Role.STOP, "a position must never be bare: close the deal, or move its stop"),
    ("nobitex", 1, Role.TARGET, "close the deal instead"),
])  # fmt: skip
def test_what_protects_a_position_is_not_cancelled(world: World, provider, mode, role, words):
    trader = opened(world.trader(provider), mode=mode)
    with pytest.raises(ActRefused, match=words):
        order_cancel(trader.orders(role)[0], **now(trader))
    trader.wait(1)
    assert live_stop(trader).cancel_asked_at is None
    with pytest.raises(ActRefused, match="has ended: filled"):
        order_cancel(trader.orders(Role.ENTRY)[0], **now(trader))


@pytest.mark.parametrize(("column", "value", "words"), [
    ("state", "stopped", "refuses the key"), ("environment", "live", "nobody looks after it here"),
])  # fmt: skip
def test_nothing_is_asked_for_where_nobody_could_carry_it_out(world: World, column, value, words):
    trader = opened(world.trader())
    type(trader.account).objects.filter(pk=trader.account.pk).update(**{column: value})
    with pytest.raises(ActRefused, match=words):
        deal_close(trader.deal(), **now(trader))
    assert trader.deal().exit_reason == ""


# --- who may --------------------------------------------------------------------------------------------------------


def test_who_may_only_look_at_the_account_does_nothing_by_hand(world: World):
    trader = opened(world.trader())
    looker = make_trader()
    trader.account.viewers.add(looker)
    quote(trader)
    act = {"by": by(looker), "at": world.clock.now()}
    for refused in (
        lambda: deal_close(trader.deal(), **act),
        lambda: deal_stop_move(trader.deal(), Decimal("99.5"), **act),
        lambda: deal_reprotect(trader.deal(), **act),
        lambda: order_cancel(trader.orders(Role.STOP)[0], **act),
    ):
        with pytest.raises(ActForbidden, match="Only a Trader who owns the account"):
            refused()
    assert (trader.deal().stop_price, trader.deal().status) == (Decimal("99.01"), DealStatus.OPEN)
    assert acts() == []
    assert Deal.objects.filter(look_asked_at=None).exists()
