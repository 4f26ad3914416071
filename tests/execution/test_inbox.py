"""What a person answers to a ticket is carried out at the exchange, once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from algo.execution import inbox
from algo.execution.advance import Advanced
from algo.execution.reconcile import accounts_due
from algo.models import (
    Account,
    AccountState,
    CloseReason,
    Deal,
    DealStatus,
    Fill,
    Order,
    OrderEvent,
    OutboxEvent,
    Role,
    Ticket,
    TicketAnswer,
)
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set
from algo.services.tickets import ticket_answer
from providers.errors import AuthFailed, OrderNotFound, Unavailable
from providers.types import OrderRequest, OrderStatus, OrderType, ProtectionMode, Side
from tests.execution.bench import Trader, World, closed, opened
from tests.execution.faults import Faulty, delayed, lost_answer, lost_request, raising
from tests.execution.test_crashes import Fate, living, mortal
from tests.execution.test_reconcile import blocked, everything
from tests.factories import by, make_config

S = OrderStatus
ADOPT, IGNORE, CLOSE = TicketAnswer.ADOPT, TicketAnswer.IGNORE, TicketAnswer.CLOSE
PROVIDERS = pytest.mark.parametrize("provider", ["wallex", "nobitex"])
RICH = {"USDT": "10000", "BTC": "3"}


def place(
    trader: Trader,
    side: Side = Side.BUY,
    quantity: str = "0.3",
    price: str | None = None,
    stop: str | None = None,
    name: str = "HAND1",
) -> None:
    """A person places an order of his own on the same account."""
    kind = OrderType.MARKET if price is None else OrderType.LIMIT
    if stop:
        kind = OrderType.STOP_MARKET if price is None else OrderType.STOP_LIMIT
    trader.client.create_order(
        OrderRequest(
            name,
            trader.market.symbol,
            side,
            kind,
            Decimal(quantity),
            price=Decimal(price) if price else None,
            stop_price=Decimal(stop) if stop else None,
        )
    )


def ticket_of(trader: Trader) -> Ticket:
    """The only ticket there is, once reconciliation looked."""
    trader.advance(reconcile_now=True)
    return Ticket.objects.get(account=trader.account)


def answer(trader: Trader, choice: TicketAnswer, config: Any = None) -> None:
    ticket = Ticket.objects.get(account=trader.account)
    user, now = trader.account.owner, trader.world.clock.now()
    assert ticket_answer(ticket, choice, note="", by=by(user), at=now, config=config)


def answered(trader: Trader, choice: TicketAnswer, config: Any = None) -> Ticket:
    """The ticket after the account was looked after once."""
    answer(trader, choice, config)
    trader.advance()
    return Ticket.objects.get(account=trader.account)


def strategy(trader: Trader, **fields: Any) -> Any:
    """Rules with a stop of 1 % and a target of 2 %."""
    rules = {"stop_loss_percent": "1", "take_profit_percent": "2"}
    trader.config = make_config(
        account=trader.account, market=trader.market, data_market=trader.market, parameters=rules, **fields
    )
    return trader.config


def at_exchange(trader: Trader, name: str = "HAND1") -> str:
    return next(order["status"] for order in trader.truth()["orders"] if order["client_order_id"] == name)


def sold(trader: Trader) -> Decimal:
    """What the deal's own orders and those of the person sold altogether."""
    orders = trader.truth()["orders"]
    return sum((Decimal(each["filled_quantity"]) for each in orders if each["side"] == "SELL"), Decimal(0))


def rich(world: World, provider: str = "wallex", **capabilities: Any) -> Trader:
    """A trader with more of the base than his deal has, so that an order by hand fits beside the stop."""
    trader = world.trader(provider, wallet=RICH)
    trader.account.capabilities = trader.account.capabilities | capabilities
    trader.account.save()
    return trader


def position(trader: Trader) -> Decimal:
    """What the stop of the open deal covers: all of it."""
    return trader.orders(Role.STOP)[-1].quantity


# --- ignore and close -----------------------------------------------------------------------------------------------


@PROVIDERS
def test_an_ignored_order_is_left_alone_and_never_asked_about_again(world: World, provider):
    trader = world.trader(provider)
    place(trader, price="90")
    ticket_of(trader)
    assert "ticket" in blocked(trader)
    answer(trader, IGNORE)
    assert blocked(trader) == ""
    before = everything(trader)
    for _ in range(2):
        trader.advance(reconcile_now=True)
    assert everything(trader) == before
    assert at_exchange(trader) == "OPEN"


@PROVIDERS
def test_a_closed_order_is_cancelled_and_its_market_free_again(world: World, provider):
    trader = world.trader(provider)
    place(trader, price="90")
    ticket_of(trader)
    answer(trader, CLOSE)
    assert "ticket" in blocked(trader)  # until the exchange says so
    account = Account.objects.get(pk=trader.account.pk)
    assert account in accounts_due(world.clock)
    trader.advance()
    ticket = Ticket.objects.get(account=account)
    assert at_exchange(trader) == "CANCELED"
    assert (ticket.resolved_at, ticket.resolved_by) == (world.clock.now(), trader.account.owner)
    assert ticket.outcome == "Cancelled: nothing of it was filled."
    assert blocked(trader) == ""
    assert account not in accounts_due(world.clock)
    before = everything(trader)
    trader.advance(reconcile_now=True)
    assert everything(trader) == before


def test_what_was_filled_before_the_cancel_is_told(world: World):
    trader = world.trader()
    world.feed.depth = Decimal("0.1")
    place(trader, price="100.01")
    world.feed.depth = Decimal(0)
    ticket = ticket_of(trader)
    ticket = answered(trader, CLOSE)
    assert at_exchange(trader) == "CANCELED"
    assert "Cancelled: 0.1 of 0.3 BTC had been bought at 100.01" in ticket.outcome
    assert "no deal counts it" in ticket.outcome
    assert not Deal.objects.filter(account=trader.account).exists()


def test_an_order_that_was_filled_before_it_could_be_cancelled_is_told(world: World):
    trader = world.trader()
    place(trader, price="90")
    ticket_of(trader)
    trader.price("89", run=False)
    assert answered(trader, CLOSE).outcome.startswith("It had ended already: 0.3 of 0.3 BTC had been bought at")


@pytest.mark.parametrize("fault", [lost_request, lost_answer, raising(OrderNotFound("busy"))])
def test_a_cancel_without_an_answer_is_read_back_and_asked_for_again(world: World, fault):
    trader = world.trader()
    place(trader, price="90")
    ticket_of(trader)
    trader.provider = Faulty(trader.client, cancel_order=[fault])
    answered(trader, CLOSE)
    trader.wait(1)
    assert at_exchange(trader) == "CANCELED"
    ticket = Ticket.objects.get(account=trader.account)
    assert ticket.outcome.startswith(("Cancelled", "It had ended already"))
    assert OutboxEvent.objects.filter(kind="ticket.resolved", payload__ticket=ticket.pk).count() == 1


# --- adopt: an entry of its own -------------------------------------------------------------------------------------


@PROVIDERS
def test_an_adopted_purchase_waits_for_its_price_and_then_lives_like_any_deal(world: World, provider):
    trader = world.trader(provider)
    place(trader, price="99.5")
    ticket_of(trader)
    ticket = answered(trader, ADOPT, strategy(trader))
    deal = trader.deal()
    assert ticket.outcome == f"Adopted as the entry of deal {deal.pk}, under the rules of {trader.config.name}."
    assert (deal.status, deal.planned_price, deal.rules["stop_loss_percent"]) == (
        DealStatus.ENTERING,
        Decimal("99.5"),
        "1",
    )
    trader.wait(6)
    assert trader.deal().status == DealStatus.ENTERING
    assert at_exchange(trader) == "OPEN"
    trader.price("99.4")
    trader.wait(1)
    deal = trader.deal()
    assert (deal.status, deal.entry_price, deal.unprotected_since) == (DealStatus.OPEN, Decimal("99.5"), None)
    stop = trader.orders(Role.STOP)[-1]
    assert (stop.status, stop.stop_price) == (S.OPEN, Decimal("98.51"))  # 99.5 less 1 % is 98.505, rounded to safety
    assert deal.entry_quantity * Decimal("0.99") < stop.quantity <= deal.entry_quantity
    trader.price("98")
    trader.wait(2)
    assert closed(trader, CloseReason.STOP_LOSS)
    assert Ticket.objects.filter(account=trader.account).count() == 1


def test_an_adopted_order_is_watched_by_what_the_kill_switch_says(world: World):
    trader = world.trader()
    place(trader, price="90")
    ticket_of(trader)
    answered(trader, ADOPT, strategy(trader))
    kill_switch_set("cancel", reason="enough", by=PLATFORM, at=world.clock.now())
    trader.wait(2)
    assert at_exchange(trader) == "CANCELED"
    assert trader.deal().status == DealStatus.CANCELED


@PROVIDERS
def test_a_purchase_that_was_filled_already_is_protected_by_the_pass_that_adopts_it(world: World, provider):
    trader = world.trader(provider)
    place(trader, price="99.5")
    ticket_of(trader)
    trader.price("99.4", run=False)
    answered(trader, ADOPT, strategy(trader))
    deal = trader.deal()
    assert (deal.status, deal.entry_quantity) == (DealStatus.OPEN, Decimal("0.3"))
    assert S.OPEN in [order.status for order in trader.orders(Role.STOP)]
    (entry,) = trader.orders(Role.ENTRY)
    assert (entry.adoptions, entry.attempts, entry.status) == (1, 0, S.FILLED)
    assert trader.books_agree()


def test_what_is_filled_in_part_is_protected_and_the_rest_cut_off(world: World):
    trader = world.trader()
    world.feed.depth = Decimal("0.1")
    place(trader, price="100.01")
    world.feed.depth = Decimal(0)
    ticket_of(trader)
    answered(trader, ADOPT, strategy(trader))
    world.feed.depth = Decimal(100)
    trader.price("100.5", run=False)
    trader.wait(5)
    deal = trader.deal()
    assert (deal.status, deal.entry_quantity) == (DealStatus.OPEN, Decimal("0.1"))
    assert at_exchange(trader) == "CANCELED"
    assert trader.orders(Role.STOP)[-1].quantity <= Decimal("0.1")
    assert trader.books_agree()


def test_an_order_that_ended_unfilled_leaves_nothing_to_adopt(world: World):
    trader = world.trader()
    place(trader, price="90")
    ticket = ticket_of(trader)
    trader.client.cancel_order(inbox.OrderRef(trader.market.symbol, exchange_order_id=ticket.reference))
    assert answered(trader, ADOPT, strategy(trader)).outcome.startswith("It had ended without being filled")
    assert not Deal.objects.filter(account=trader.account).exists()


def test_two_orders_of_one_moment_become_two_deals_one_after_the_other(world: World):
    trader = world.trader()
    config = strategy(trader)
    moments = []
    for name in ("HAND1", "HAND2"):
        place(trader, price="99.5", name=name)
    trader.advance(reconcile_now=True)
    trader.price("99.4", run=False)
    for ticket in Ticket.objects.filter(account=trader.account).order_by("id"):
        ticket_answer(ticket, ADOPT, note="", by=by(trader.account.owner), at=world.clock.now(), config=config)
        trader.advance()
        moments.append(trader.deal().bar_open_at)
        trader.price("98", run=False)
        trader.wait(3)
        assert trader.deal().status == DealStatus.CLOSED
    assert len(set(moments)) == 2
    assert trader.books_agree()


# --- adopt: an exit of the live deal --------------------------------------------------------------------------------


@PROVIDERS
def test_a_position_sold_by_hand_is_closed_by_that_sale(world: World, provider):
    trader = opened(rich(world, provider))
    held = position(trader)
    place(trader, Side.SELL, str(held))
    ticket_of(trader)
    assert trader.deal().status == DealStatus.OPEN
    ticket = answered(trader, ADOPT)
    assert closed(trader, CloseReason.MANUAL)  # the stop was taken back, and the books agree
    assert ticket.outcome == f"Adopted as the exit of deal {trader.deal().pk}."
    assert sold(trader) == held
    (hand,) = trader.orders(Role.EXIT)
    assert Fill.objects.filter(order=hand).exists()
    assert trader.deal().profit is not None


@PROVIDERS
def test_a_part_sold_by_hand_makes_the_position_smaller_and_its_stop(world: World, provider):
    trader = opened(rich(world, provider))
    held = position(trader)
    place(trader, Side.SELL, "0.4")
    ticket_of(trader)
    answered(trader, ADOPT)
    trader.wait(2)
    deal = trader.deal()
    assert (deal.status, deal.exit_reason, deal.unprotected_since) == (DealStatus.OPEN, "", None)
    assert position(trader) == held - Decimal("0.4")
    trader.price("98.9")
    trader.wait(2)
    assert closed(trader, CloseReason.STOP_LOSS)
    assert sold(trader) == held


def test_a_limit_order_by_hand_becomes_the_target_where_nothing_else_rests(world: World):
    trader = rich(world, stop_market=False, stop_limit=False)
    opened(trader, mode=ProtectionMode.NO_STOPS)
    place(trader, Side.SELL, "0.997", price="101")  # 1 BTC less 0.3 %
    ticket_of(trader)
    answered(trader, ADOPT)
    trader.wait(6)
    assert trader.roles(S.OPEN) == [Role.TARGET]
    trader.price("101.5")
    trader.wait(6)
    assert closed(trader, CloseReason.TAKE_PROFIT)
    assert sold(trader) == Decimal("0.997")


def test_a_limit_order_is_not_adopted_where_it_and_the_stop_could_both_fill(world: World):
    trader = rich(world, stops_lock_balance=False)
    opened(trader, mode=ProtectionMode.FREE_STOPS)
    place(trader, Side.SELL, str(position(trader)), price="101")
    ticket = ticket_of(trader)
    answered(trader, ADOPT)
    ticket.refresh_from_db()
    assert "both could be filled" in ticket.outcome
    assert trader.roles(S.OPEN) == [Role.STOP]


@PROVIDERS
def test_a_tighter_stop_by_hand_takes_the_place_of_our_own(world: World, provider):
    trader = opened(rich(world, provider))
    held = position(trader)
    slack = None if provider == "wallex" else "97"
    place(trader, Side.SELL, str(held), stop="99.5", price=slack)
    ticket_of(trader)
    answered(trader, ADOPT)
    trader.wait(2)
    deal = trader.deal()
    assert (deal.status, deal.stop_price, deal.unprotected_since) == (DealStatus.OPEN, Decimal("99.5"), None)
    assert [(order.status, order.adoptions) for order in trader.orders(Role.STOP)] == [(S.CANCELED, 0), (S.OPEN, 1)]
    trader.price("99.4")
    trader.wait(2)
    assert closed(trader, CloseReason.STOP_LOSS)
    assert sold(trader) == held


@pytest.mark.parametrize("provider", ["wallex", "nobitex"])
@pytest.mark.parametrize(
    ("order", "why"),
    [
        ({"side": Side.SELL, "quantity": "1.5", "price": "110"}, "never closes more than it has"),
        ({"side": Side.SELL, "quantity": "1.5"}, "never closes more than it has"),
        ({"side": Side.BUY, "price": "90"}, "positions are not enlarged"),
        ({"side": Side.SELL, "price": "101"}, "both could be filled"),
        ({"side": Side.SELL, "stop": "98", "price": "97"}, "less than its own stop"),
        ({"side": Side.SELL, "stop": "99.5", "price": "97"}, "less than its own stop"),  # for 0.3 of the position
    ],
    ids=["larger", "sold more", "same side", "limit beside the stop", "looser stop", "smaller stop"],
)
def test_what_would_not_close_the_deal_safely_is_refused_and_left_alone(world: World, provider, order, why):
    trader = opened(rich(world, provider))
    place(trader, **order)
    ticket_of(trader)
    rows, truth = list(Order.objects.order_by("pk").values_list("pk", "status")), at_exchange(trader)
    ticket = answered(trader, ADOPT)
    assert why in ticket.outcome
    assert (ticket.answer, ticket.answered_at, ticket.resolved_at) == ("", None, None)
    assert OutboxEvent.objects.filter(kind="ticket.refused", payload__ticket=ticket.pk).exists()
    assert list(Order.objects.order_by("pk").values_list("pk", "status")) == rows
    assert at_exchange(trader) == truth
    assert "ticket" in blocked(trader)
    assert answered(trader, CLOSE).resolved_at is not None
    assert at_exchange(trader) in ("CANCELED", "FILLED")
    assert trader.roles(S.OPEN)[-1] == Role.STOP


@pytest.mark.parametrize(
    ("order", "fields", "why"),
    [
        (
            {"side": Side.SELL, "quantity": "0.3", "stop": "90", "price": "89"},
            {"allowed_sides": "BOTH"},
            "a stop order",
        ),
        ({"side": Side.SELL, "quantity": "0.3", "price": "110"}, {"allowed_sides": "BUY"}, "does not take SELL"),
    ],
    ids=["stop", "side"],
)
def test_what_can_be_no_entry_is_refused(world: World, order, fields, why):
    trader = rich(world)
    place(trader, **order)
    ticket_of(trader)
    ticket = answered(trader, ADOPT, strategy(trader, **fields))
    assert why in ticket.outcome
    assert ticket.answer == ""
    assert not Deal.objects.filter(account=trader.account).exists()


def test_an_order_that_is_older_than_the_deal_is_no_exit_of_it(world: World):
    trader = rich(world)
    place(trader, Side.SELL, "0.3", price="110")
    world.step(1)
    opened(trader)
    ticket_of(trader)
    assert "older than deal" in answered(trader, ADOPT).outcome


def test_a_deal_that_ended_before_its_exit_was_adopted_leaves_the_question_open(world: World):
    trader = opened(rich(world))
    place(trader, Side.SELL, "0.3", price="110")
    ticket_of(trader)
    trader.price("98.9")
    trader.wait(2)
    assert trader.deal().status == DealStatus.CLOSED
    Ticket.objects.filter(account=trader.account).update(answer=ADOPT, answered_at=world.clock.now())
    trader.advance()
    ticket = Ticket.objects.get(account=trader.account)
    assert (ticket.answer, ticket.outcome[:27]) == ("", "No deal is open on this mar")


def test_an_order_of_an_ended_deal_waits_for_the_deal_that_stands_in_its_way(world: World):
    trader = world.trader()
    trader.plan()
    late: list[Any] = []
    trader.provider = Faulty(trader.client, create_order=[delayed(late)])
    trader.advance()
    trader.wait(60)
    first = trader.deal()
    late[0]()
    trader.provider = trader.client
    Order.objects.filter(account=trader.account).update(negative_at=None)
    trader.plan()
    world.step(1)
    trader.advance()
    trader.advance(reconcile_now=True)
    assert "two deals cannot share one position" in answered(trader, ADOPT).outcome
    trader.price("98.9")
    trader.wait(2)
    assert trader.deal().status == DealStatus.CLOSED
    answer(trader, ADOPT, trader.config)
    trader.advance()
    assert "the next reconciliation takes it back" in Ticket.objects.get(account=trader.account).outcome
    trader.advance(reconcile_now=True)
    trader.wait(5)
    ticket = Ticket.objects.get(account=trader.account)
    assert ticket.outcome == f"It is in the books: an order of deal {first.pk}."
    assert Deal.objects.get(pk=first.pk).close_reason == CloseReason.EMERGENCY
    assert trader.books_agree()


# --- trouble --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fetch_order", "cancel_order"])
def test_while_the_exchange_does_not_answer_the_answer_waits(world: World, call):
    trader = world.trader()
    place(trader, price="90")
    ticket_of(trader)
    trader.provider = Faulty(trader.client, always={call: raising(Unavailable("down for repairs"))})
    ticket = answered(trader, CLOSE)
    assert (ticket.answer, ticket.resolved_at) == (CLOSE, None)
    assert "did not do it yet (down for repairs)" in ticket.outcome
    assert Account.objects.get(pk=trader.account.pk).last_error == "down for repairs"
    trader.provider = trader.client
    trader.wait(1)
    assert at_exchange(trader) == "CANCELED"
    assert Ticket.objects.get(account=trader.account).outcome.startswith("Cancelled")


def test_an_answer_that_cannot_be_carried_out_does_not_keep_a_deal_from_its_exit(world: World, monkeypatch):
    trader = opened(rich(world))
    place(trader, price="80")
    ticket_of(trader)
    answer(trader, CLOSE)

    def broken(desk: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(inbox, "_carry_out", broken)
    trader.price("98.9")
    trader.wait(2)
    assert trader.deal().close_reason == CloseReason.STOP_LOSS
    assert "failed unexpectedly" in Ticket.objects.get(account=trader.account).outcome


def test_a_refused_key_stops_the_account_and_keeps_the_answer(world: World):
    trader = world.trader()
    place(trader, price="90")
    ticket_of(trader)
    trader.provider = Faulty(trader.client, always={"fetch_order": raising(AuthFailed("expired"))})
    answer(trader, CLOSE)
    assert trader.advance() is Advanced.STOPPED
    assert Account.objects.get(pk=trader.account.pk).state == AccountState.STOPPED
    assert Ticket.objects.get(account=trader.account).answer == CLOSE


def test_an_order_that_the_exchange_forgot_is_looked_for_a_while_and_then_asked_about(world: World):
    trader = world.trader()
    place(trader, price="90")
    ticket_of(trader)
    nothing: dict[str, Callable[[Callable[[], Any]], Any]] = {
        "fetch_order": raising(OrderNotFound("who?")),
        "orders_since": lambda call: [],
    }
    trader.provider = Faulty(trader.client, always=nothing)
    assert "does not know this order just now" in answered(trader, CLOSE).outcome
    trader.wait(9)
    assert Ticket.objects.get(account=trader.account).answer == CLOSE
    trader.wait(2)
    ticket = Ticket.objects.get(account=trader.account)
    assert (ticket.answer, ticket.resolved_at) == ("", None)
    assert "Compare the balance" in ticket.outcome


# --- crashes --------------------------------------------------------------------------------------------------------


def closing(trader: Trader) -> Iterator[None]:
    place(trader, price="90")
    ticket_of(trader)
    answer(trader, CLOSE)
    yield
    mortal(trader.advance)
    yield
    assert at_exchange(trader) == "CANCELED"


def adopting_an_entry(trader: Trader) -> Iterator[None]:
    place(trader, price="99.5")
    ticket_of(trader)
    trader.price("99.4", run=False)
    answer(trader, ADOPT, strategy(trader))
    yield
    mortal(trader.advance)
    mortal(trader.calm)
    yield
    trader.price("98")
    trader.calm()
    assert trader.deal().close_reason == CloseReason.STOP_LOSS


def adopting_an_exit(trader: Trader) -> Iterator[None]:
    opened(trader)
    place(trader, Side.SELL, str(position(trader)))
    ticket_of(trader)
    answer(trader, ADOPT)
    yield
    mortal(trader.advance)
    mortal(trader.calm)
    yield
    assert trader.deal().close_reason == CloseReason.MANUAL


def adopting_a_stop(trader: Trader) -> Iterator[None]:
    opened(trader)
    place(trader, Side.SELL, str(position(trader)), stop="99.5")
    ticket_of(trader)
    answer(trader, ADOPT)
    yield
    mortal(trader.advance)
    mortal(trader.calm)
    yield
    trader.price("99.4")
    trader.calm()


def lived(world: World, life: Callable[[Trader], Iterator[None]], fate: Fate, monkeypatch: pytest.MonkeyPatch) -> Fate:
    """One life; its accidents begin when the answer is there. The inbox's own writes are steps too, inside their
    transactions and after them."""
    for pair in world.feed.specs:
        world.feed.set(pair, Decimal(100))
    world.step(20)
    trader = rich(world)
    story = life(trader)
    next(story)
    with monkeypatch.context() as patch, living(trader, fate, monkeypatch):
        for name in ("ticket_resolve", "ticket_hint", "ticket_reopen", "_new_order", "_new_deal", "_follow"):
            patch.setattr(inbox, name, _counted(name, getattr(inbox, name), fate))
        patch.setattr(inbox, "_carry_out", _counted("_carry_out", inbox._carry_out, fate))
        next(story)
    assert next(story, None) is None
    judge(trader, f"{life.__name__}, died after step {fate.fatal}: {fate.steps}")
    return fate


def _counted(name: str, method: Callable[..., Any], fate: Fate) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        fate.step(name)
        return result

    return call


def judge(trader: Trader, story: str) -> None:
    ticket, truth = Ticket.objects.get(account=trader.account), trader.truth()
    assert ticket.resolved_at is not None, story
    assert OutboxEvent.objects.filter(kind="ticket.resolved", payload__ticket=ticket.pk).count() == 1, story
    assert not [each for each in truth["orders"] if each["status"] in ("OPEN", "INACTIVE")], f"orphans: {story}"
    assert Deal.objects.filter(account=trader.account).count() <= 1, story
    for deal in Deal.objects.filter(account=trader.account):
        assert (deal.status, deal.unprotected_since) == (DealStatus.CLOSED, None), story
    assert sold(trader) <= 1, f"sold more than the deal had: {story}"
    assert Order.objects.filter(account=trader.account, adoptions=1).count() <= 1, story
    for order in trader.orders():
        assert OrderEvent.objects.filter(order=order).latest("id").to_status == order.status, story
    assert not trader.orders() or trader.books_agree(), story


@pytest.mark.parametrize(
    "life",
    [
        closing,
        adopting_an_entry,
        *(pytest.param(each, marks=pytest.mark.long) for each in (adopting_an_exit, adopting_a_stop)),
    ],
)
def test_a_death_at_any_step_changes_nothing_in_the_end(world: World, monkeypatch, life):
    steps = len(lived(world, life, Fate(), monkeypatch).steps)
    assert steps >= 3
    for fatal in range(1, steps + 1):
        assert lived(world, life, Fate(fatal), monkeypatch).deaths == 1
