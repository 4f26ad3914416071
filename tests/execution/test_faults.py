"""Answers that get lost, refusals and silence: what is done, and above all what is not done twice."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from algo.execution.advance import Advanced
from algo.models import Account, AccountState, CloseReason, DealStatus, KillSwitch, Role, Ticket
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set
from providers.errors import (
    AlreadySubmitted,
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    RateLimited,
    RejectReason,
    Unavailable,
)
from providers.types import OrderRef, OrderRequest, OrderStatus, OrderType, Side
from tests.execution.bench import Trader, World, closed, opened
from tests.execution.faults import Faulty, lost_answer, lost_request, raising, untouched
from tests.factories import unguarded

S = OrderStatus
PROVIDERS = pytest.mark.parametrize("provider", ["wallex", "nobitex"])
DOWN = raising(Unavailable("connection refused; nothing was sent"))
BUSY = raising(RateLimited("called too often; nothing was done", retry_after=2))


def entries(trader: Trader) -> int:
    """How many entries the exchange ever had."""
    return sum(1 for order in trader.truth()["orders"] if order["side"] == "BUY")


def stopped_out(trader: Trader) -> bool:
    """From here on everything works: the price falls, the deal ends, the books agree."""
    trader.provider = trader.client
    trader.price("98.9")
    trader.calm()
    return closed(trader, CloseReason.STOP_LOSS)


# --- the entry ------------------------------------------------------------------------------------------------------


@PROVIDERS
def test_an_entry_whose_answer_is_lost_is_found_and_not_sent_again(world: World, provider):
    trader = world.trader(provider)
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[lost_answer])
    trader.advance()
    trader.wait(2)
    assert trader.deal().status == DealStatus.OPEN
    assert entries(trader) == 1
    assert trader.deal().unprotected_since is None
    assert stopped_out(trader)


def test_an_entry_is_known_by_its_looks_where_lists_forget_the_names_of_closed_orders(world: World):
    trader = world.trader("nobitex")
    trader.plan()
    nameless = {"orders_since": lambda call: [replace(report, client_order_id=None) for report in call()]}
    trader.provider = Faulty(trader.client, create_order=[lost_answer], always=nameless)
    trader.advance()
    trader.wait(2)
    assert trader.deal().status == DealStatus.OPEN
    assert entries(trader) == 1
    assert stopped_out(trader)


def test_somebody_elses_order_of_the_same_size_is_not_taken_for_ours(world: World):
    trader = world.trader("nobitex")
    trader.plan()
    by_hand = OrderRequest("HAND1", "BTCUSDT", Side.BUY, OrderType.MARKET, Decimal(1))

    def instead(call):
        trader.client.create_order(by_hand)
        return lost_request(call)

    trader.provider = Faulty(trader.client, create_order=[instead])
    trader.advance()
    trader.wait(60)
    assert trader.deal().status == DealStatus.CANCELED
    assert Ticket.objects.filter(account=trader.account).count() == 1  # a trade of his own, for a person to explain


@PROVIDERS
def test_an_entry_that_never_arrived_is_given_up_after_two_looks_and_not_sent_again(world: World, provider):
    trader = world.trader(provider)
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[lost_request])
    trader.advance()
    trader.wait(40)
    assert trader.deal().status == DealStatus.ENTERING  # too early to say
    trader.wait(15)
    assert trader.deal().status == DealStatus.CANCELED
    assert trader.provider.calls["create_order"] == 1
    assert trader.books_agree()


@pytest.mark.parametrize("silence", ["fetch_order", "orders_since", "own_trades"])
def test_no_entry_is_given_up_while_one_of_the_looks_gets_no_answer(world: World, silence):
    trader = world.trader()
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[lost_request], always={silence: DOWN})
    trader.advance()
    trader.wait(60)
    assert trader.deal().status == DealStatus.ENTERING
    assert trader.orders()[0].status == S.SUBMITTED


@PROVIDERS
@pytest.mark.parametrize("fault", [DOWN, BUSY], ids=["unavailable", "rate limited"])
def test_an_entry_that_provably_was_not_sent_goes_out_later_while_it_is_young(world: World, provider, fault):
    trader = world.trader(provider)
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[fault, fault])
    trader.advance()
    assert trader.orders()[0].status == S.PENDING
    trader.wait(2)
    assert trader.deal().status == DealStatus.OPEN
    assert entries(trader) == 1
    assert stopped_out(trader)


def test_an_entry_that_could_not_be_sent_for_twenty_seconds_is_withdrawn(world: World):
    trader = world.trader()
    trader.plan()
    trader.provider = Faulty(trader.client, always={"create_order": DOWN})
    trader.advance()
    trader.wait(21)
    assert trader.deal().status == DealStatus.CANCELED
    assert entries(trader) == 0


@PROVIDERS
def test_a_duplicate_answer_to_an_entry_means_look_it_up(world: World, provider):
    trader = world.trader(provider)
    trader.plan()

    def twice(call):
        call()
        raise AlreadySubmitted("this client id is in use")

    trader.provider = Faulty(trader.client, create_order=[twice])
    trader.advance()
    trader.wait(2)
    assert trader.deal().status == DealStatus.OPEN
    assert entries(trader) == 1


def test_a_refused_entry_ends_the_deal(world: World):
    trader = world.trader(wallet={"USDT": "10"})
    trader.plan()
    trader.advance()
    deal = trader.deal()
    assert deal.status == DealStatus.CANCELED
    assert "insufficient_balance" in deal.note
    assert trader.truth()["orders"] == []


def test_fills_that_cannot_be_read_yet_do_not_hold_up_protection(world: World):
    # Nobitex: the order says how much was filled, the trades say for which fee. Until then the fee is estimated.
    trader = world.trader("nobitex")
    trader.plan()
    trader.provider = Faulty(trader.client, always={"fetch_fills": raising(BadPayload("unusable answer"))})
    trader.advance()
    assert trader.deal().status == DealStatus.OPEN
    assert trader.roles(S.OPEN) == [Role.TARGET, Role.STOP]
    trader.provider = trader.client
    trader.wait(20)
    assert trader.books_agree()
    assert stopped_out(trader)


def test_a_report_without_a_fee_makes_no_stop_larger_than_the_balance(world: World):
    # Lists may leave the fee out: 1 BTC bought is 0.998 held.
    trader = world.trader("nobitex", wallet={"USDT": "1000"})

    def without_fee(call):
        return replace(call(), fee=None)

    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[without_fee], always={"fetch_order": without_fee})
    trader.provider.faults["fetch_fills"] = [DOWN]
    trader.advance()
    trader.wait(1)
    assert trader.roles(S.REJECTED) == []
    assert trader.orders(Role.STOP)[0].quantity == Decimal("0.998")


# --- protection -----------------------------------------------------------------------------------------------------


def lose_the_stop(trader: Trader, fault) -> None:
    call = "create_oco" if trader.account.provider == "nobitex" else "create_order"
    before = [untouched] if call == "create_order" else []
    trader.plan()
    trader.provider = Faulty(trader.client, **{call: [*before, fault]})
    trader.advance()


@PROVIDERS
def test_a_stop_whose_answer_is_lost_is_found(world: World, provider):
    trader = world.trader(provider)
    lose_the_stop(trader, lost_answer)
    assert Role.STOP in trader.roles(S.SUBMITTED)
    assert trader.deal().unprotected_since is not None  # nobody knows
    trader.wait(3)
    assert Role.STOP in trader.roles(S.OPEN)
    assert len(trader.orders(Role.STOP)) == 1
    assert trader.deal().unprotected_since is None
    assert stopped_out(trader)


@PROVIDERS
def test_a_stop_that_never_arrived_is_sent_again_under_the_same_name(world: World, provider):
    trader = world.trader(provider)
    lose_the_stop(trader, lost_request)
    trader.wait(16)
    (stop,) = trader.orders(Role.STOP)
    assert (stop.status, stop.attempts) == (S.OPEN, 2)
    assert trader.deal().unprotected_since is None
    assert stopped_out(trader)


@PROVIDERS
@pytest.mark.parametrize("fault", [DOWN, BUSY], ids=["unavailable", "rate limited"])
def test_a_stop_that_provably_was_not_sent_goes_out_at_the_next_look(world: World, provider, fault):
    trader = world.trader(provider)
    lose_the_stop(trader, fault)
    trader.wait(1)
    assert Role.STOP in trader.roles(S.OPEN)
    assert stopped_out(trader)


def test_a_pair_that_executed_before_anybody_heard_of_it_is_found(world: World):
    # The answer to the OCO is lost, and the price runs through the stop before the next look: the target is closed,
    # cannot be found by its client id, and the stop never had one.
    trader = world.trader("nobitex")
    lose_the_stop(trader, lost_answer)
    trader.price("98.9", run=False)
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)
    assert trader.roles(S.FILLED) == [Role.ENTRY, Role.STOP]


@pytest.mark.parametrize("lost", ["pair_id", "client_order_id"])
def test_a_pair_is_found_even_where_the_lists_do_not_say_what_belongs_together(world: World, lost):
    def without(report):
        return replace(report, **{lost: None}) if report.exchange_order_id else report

    trader = world.trader("nobitex")
    lose_the_stop(trader, lost_answer)
    trader.provider.always = {
        "fetch_order": (lambda call: without(call())) if lost == "pair_id" else untouched,
        "orders_since": lambda call: [without(report) for report in call()],
    }
    trader.price("98.9", run=False)
    trader.wait(20)
    trader.provider = trader.client
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)


def test_a_stop_refused_for_its_balance_makes_the_orders_be_read_again(world: World):
    trader = opened(world.trader(wallet={"USDT": "1000"}))
    # Our books say that the stop was cancelled unfilled; in truth it sold. The exit must find that out, not insist.
    trader.price("98.9", run=False)
    stop = trader.orders(Role.STOP)[0]
    stop.status, stop.closed_at = S.CANCELED, world.clock.now()
    stop.save()
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)


@pytest.mark.parametrize("fault", [DOWN, BUSY, raising(BadPayload("garbled"))], ids=["down", "rate limited", "garbled"])
def test_balances_that_cannot_be_read_do_not_keep_a_deal_from_its_stop(world: World, fault):
    # The first stop is refused because the fill's base is not free yet; then nobody can say what is.
    trader = world.trader()
    trader.plan()
    short = raising(OrderRejected("not enough", reason=RejectReason.INSUFFICIENT_BALANCE))
    trader.provider = Faulty(trader.client, create_order=[untouched, short], always={"balances": fault})
    trader.advance()
    assert trader.roles(S.REJECTED) == [Role.STOP]
    trader.wait(3)
    assert trader.roles(S.OPEN) == [Role.STOP]
    assert trader.deal().unprotected_since is None


# --- cancels --------------------------------------------------------------------------------------------------------


@PROVIDERS
@pytest.mark.parametrize(
    "fault", [DOWN, BUSY, lost_answer, lost_request], ids=["unavailable", "limited", "answer", "request"]
)
def test_a_cancel_that_goes_wrong_is_followed_through(world: World, provider, fault):
    trader = opened(world.trader(provider))
    kill_switch_set(KillSwitch.FLATTEN, reason="test", by=PLATFORM, at=world.clock.now())
    trader.provider = Faulty(trader.client, cancel_order=[fault, fault])
    trader.calm()
    assert closed(trader, CloseReason.KILL_SWITCH)


@PROVIDERS
def test_a_cancel_that_a_fill_outran_sells_nothing_twice(world: World, provider):
    trader = opened(world.trader(provider))

    def too_late(call):
        trader.price("98.9", run=False)
        return call()

    kill_switch_set(KillSwitch.FLATTEN, reason="test", by=PLATFORM, at=world.clock.now())
    trader.provider = Faulty(trader.client, cancel_order=[too_late])
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)
    assert trader.orders(Role.EXIT) == []


# --- exits ----------------------------------------------------------------------------------------------------------


@PROVIDERS
@pytest.mark.parametrize("fault", [lost_answer, lost_request, DOWN, BUSY], ids=["answer", "request", "down", "busy"])
def test_an_exit_that_goes_wrong_is_done_once(world: World, provider, fault):
    trader = opened(world.trader(provider))
    kill_switch_set(KillSwitch.FLATTEN, reason="test", by=PLATFORM, at=world.clock.now())
    trader.provider = Faulty(trader.client, create_order=[fault])
    trader.calm()
    assert closed(trader, CloseReason.KILL_SWITCH)
    sold = [
        order for order in trader.truth()["orders"] if order["side"] == "SELL" and Decimal(order["filled_quantity"])
    ]
    assert len(sold) == 1


# --- reads ----------------------------------------------------------------------------------------------------------


@PROVIDERS
def test_a_list_that_cannot_be_read_does_not_keep_a_deal_from_its_protection(world: World, provider):
    trader = world.trader(provider)
    trader.plan()
    trader.provider = Faulty(trader.client, always={"open_orders": DOWN, "orders_since": DOWN})
    trader.advance()
    assert trader.deal().status == DealStatus.OPEN
    assert trader.deal().unprotected_since is None
    assert "connection refused" in Account.objects.get(pk=trader.account.pk).last_error


@pytest.mark.parametrize("fault", [DOWN, raising(BadPayload("unknown status"))], ids=["unavailable", "unreadable"])
def test_an_order_that_cannot_be_read_does_not_keep_its_deal_from_an_emergency_exit(world: World, fault):
    trader = opened(world.trader(), mode=3)
    truth = trader.truth()["orders"][-1]
    assert truth["type"] == "STOP_MARKET"
    trader.provider = Faulty(trader.client, always={"fetch_order": fault})
    trader.provider.faults["create_order"] = []
    # the exchange does not trigger the stop: its last price stays, while the book falls
    world.feed.set(trader.pair, Decimal("99.02"))
    trader.provider.always["last_price"] = lambda call: Decimal("98.5")
    trader.provider.always["order_book"] = lambda call: _lower(call())
    trader.wait(6)
    deal = trader.deal()
    assert deal.exit_reason == CloseReason.EMERGENCY
    trader.provider = trader.client
    trader.calm()
    assert closed(trader, CloseReason.EMERGENCY)


def _lower(book):
    level = book.bids[0]
    return replace(book, bids=(replace(level, price=Decimal("98.5")),), last_price=None)


def test_a_stale_read_does_not_undo_a_fill(world: World):
    trader = world.trader()
    stale = []

    def remember(call):
        stale.append(call())
        return stale[-1]

    opened(trader)
    trader.provider = Faulty(trader.client, fetch_order=[remember])
    trader.wait(6)
    trader.price("98.9", run=False)
    trader.provider = Faulty(trader.client, fetch_order=[untouched, lambda call: stale[0]])
    trader.wait(2)
    stop = trader.orders(Role.STOP)[0]
    assert (stop.status, stop.filled_quantity) == (S.FILLED, stop.quantity)
    assert closed(trader, CloseReason.STOP_LOSS)


def test_an_order_the_exchange_does_not_know_once_keeps_its_state(world: World):
    trader = opened(world.trader())
    trader.wait(10)
    gone = raising(OrderNotFound("unknown"))
    trader.provider = Faulty(trader.client, fetch_order=[gone], orders_since=[lambda call: []])
    trader.wait(9)
    assert trader.roles(S.OPEN) == [Role.STOP]
    assert len(trader.orders(Role.STOP)) == 1
    assert not Ticket.objects.filter(account=trader.account).exists()


def test_an_order_the_exchange_lost_is_replaced_and_a_person_is_asked(world: World):
    trader = opened(world.trader())
    trader.wait(10)
    # cancelled and purged from every answer
    stop = trader.orders(Role.STOP)[0]
    trader.client.cancel_order(OrderRef("BTCUSDT", stop.client_order_id, stop.exchange_order_id))
    gone = raising(OrderNotFound("unknown"))
    nothing = {"orders_since": lambda call: [], "open_orders": lambda call: []}
    trader.provider = Faulty(trader.client, always={"fetch_order": gone, **nothing})
    trader.wait(9)
    trader.provider = trader.client
    trader.wait(3)
    first, second = trader.orders(Role.STOP)
    assert (first.status, second.status) == (S.CANCELED, S.OPEN)
    assert Ticket.objects.get(account=trader.account).kind == "order_missing"
    assert trader.deal().unprotected_since is None


def test_without_prices_a_new_position_still_gets_its_stop(world: World):
    trader = world.trader()
    trader.plan()
    trader.provider = Faulty(trader.client, always={"order_book": DOWN, "last_price": DOWN})
    trader.advance()
    assert trader.roles(S.OPEN) == [Role.STOP]


# --- the key, and other people's trouble ------------------------------------------------------------------------------


@PROVIDERS
def test_a_refused_key_stops_the_account_at_once(world: World, provider):
    trader = opened(world.trader(provider))
    trader.provider = Faulty(trader.client, always={"fetch_order": raising(AuthFailed("HTTP 401"))})
    trader.wait(5)
    assert trader.advance() is Advanced.STOPPED
    calls = dict(trader.provider.calls)
    trader.wait(5)
    assert trader.provider.calls == calls
    account = Account.objects.get(pk=trader.account.pk)
    assert account.state == AccountState.STOPPED
    assert "valid key" in account.state_reason
    assert len([order for order in trader.truth()["orders"] if order["status"] == "INACTIVE"]) == 1  # the stop rests


def test_after_a_new_key_the_account_goes_on_where_it_was(world: World):
    trader = world.trader()
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[untouched, raising(AuthFailed("HTTP 401"))])
    assert trader.advance() is Advanced.STOPPED
    assert trader.roles(S.PENDING) == [Role.STOP]  # refused, so provably not there
    trader.account.state = AccountState.ACTIVE
    trader.account.save()
    trader.wait(1)
    assert trader.roles(S.OPEN) == [Role.STOP]
    assert stopped_out(trader)


def test_an_entry_refused_for_its_key_is_not_sent_when_the_key_is_new(world: World):
    trader = world.trader()
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[raising(AuthFailed("HTTP 401"))])
    assert trader.advance() is Advanced.STOPPED
    world.step(30)
    trader.account.state = AccountState.ACTIVE
    trader.account.save()
    trader.wait(1)
    assert trader.deal().status == DealStatus.CANCELED
    assert entries(trader) == 0


def test_one_deals_trouble_does_not_keep_the_next_one_from_its_protection(world: World):
    trader = world.trader(wallet={"USDT": "10000", "IRT": "1000000000"})
    broken = trader.plan()
    with unguarded():
        type(broken).objects.filter(pk=broken.pk).update(rules={})  # no stop: reading it raises
    trader.pair, trader.config = "BTC/IRT", None
    trader.price(1_000_000, run=False)
    trader.plan(price="1000000")
    trader.advance()
    trader.wait(1)
    assert trader.deal().status == DealStatus.OPEN
    assert trader.deal().unprotected_since is None


def test_a_refused_pair_is_replaced_by_a_plain_stop_that_stays(world: World):
    trader = world.trader("nobitex")
    trader.plan()
    no = raising(OrderRejected("FeatureUnavailable", reason=RejectReason.OTHER))
    trader.provider = Faulty(trader.client, always={"create_oco": no})
    trader.advance()
    trader.wait(30)
    assert trader.provider.calls["create_oco"] == 1
    assert trader.roles(S.OPEN) == [Role.STOP]
    assert stopped_out(trader)


def test_a_process_that_stalls_before_sending_sends_nothing_late(world: World, monkeypatch):
    from algo.execution.ledger_orm import OrmLedger

    claim = OrmLedger.claim_send
    stalls = [3.0]

    def slow(self, order, *, now):
        answer = claim(self, order, now=now)
        if stalls and order.role == Role.STOP:
            world.clock.step(stalls.pop())
        return answer

    monkeypatch.setattr(OrmLedger, "claim_send", slow)
    trader = world.trader()
    trader.plan()
    trader.advance()
    (stop,) = trader.orders(Role.STOP)
    assert (stop.status, stop.attempts) == (S.OPEN, 1)  # looked at again at once, with the deadline kept


# --- less there than the books say ------------------------------------------------------------------------------------


def test_what_a_person_took_away_by_hand_is_not_insisted_on(world: World):
    trader = opened(world.trader(wallet={"USDT": "1000"}))
    stop = trader.orders(Role.STOP)[0]
    name = OrderRef("BTCUSDT", stop.client_order_id, stop.exchange_order_id)
    trader.client.cancel_order(name)
    by_hand = OrderRequest("HAND1", "BTCUSDT", Side.SELL, OrderType.MARKET, Decimal("0.597"))
    trader.client.create_order(by_hand)  # 0.4 of 0.997 is left
    trader.wait(12)
    assert trader.roles(S.OPEN) == [Role.STOP]
    assert trader.orders(Role.STOP)[-1].quantity == Decimal("0.4")
    assert trader.deal().unprotected_since is not None  # by the books, more is bare
    sent = len(trader.orders())
    trader.wait(20)
    assert len(trader.orders()) == sent  # the smaller stop is left alone
    trader.price("98.9")
    trader.wait(20)
    assert trader.deal().status != DealStatus.CLOSED  # a balance may be wrong for a moment
    trader.wait(60)
    deal = trader.deal()
    assert deal.status == DealStatus.CLOSED
    assert deal.dust_quantity == Decimal("0.597")
    assert Ticket.objects.get(account=trader.account, kind="unknown_trade").reference == f"deal {deal.pk}"


def test_a_short_deal_buys_back_what_the_money_is_enough_for(world: World):
    # Sold 1 at 99.99 less 0.3 %: 99.69003 USDT, and nothing else. The stop at 100.98 cannot rest for 1 BTC.
    trader = world.trader(wallet={"BTC": "1"})
    trader.plan(side=Side.SELL)
    trader.advance()
    trader.wait(12)
    trader.price("101.2")
    trader.wait(60)
    deal = trader.deal()
    assert deal.status == DealStatus.CLOSED
    assert deal.exit_quantity > Decimal("0.95")
    assert trader.books_agree()
