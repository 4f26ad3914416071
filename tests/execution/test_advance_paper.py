"""Whole lives of deals against the paper exchange, over real sockets, through the real clients."""

from __future__ import annotations

from decimal import Decimal

import pytest

from algo.execution.advance import Advanced
from algo.models import CloseReason, DealStatus, KillSwitch, Order, Role, SystemControl
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set
from providers.budgets import InProcessBudget, Priority
from providers.nobitex.endpoints import LIMITS
from providers.types import OrderRef, OrderStatus, Side
from tests.execution.bench import World, closed, opened
from tests.execution.faults import Counting

S = OrderStatus


# --- mode 3, Wallex ------------------------------------------------------------------------------------------------


def test_one_look_enters_opens_and_protects(world: World):
    trader = opened(world.trader())
    deal = trader.deal()
    # Bought 1 at 100.01, 0.3 % fee in base: 0.997 is left, and that is what the stop rests for, 1 % below.
    entry, stop = trader.orders()
    assert (entry.status, entry.average_price, entry.fee) == (S.FILLED, Decimal("100.01"), Decimal("0.003"))
    assert (stop.status, stop.quantity) == (S.OPEN, Decimal("0.997"))
    assert stop.stop_price == deal.stop_price == Decimal("99.01")  # 99.0099, toward safety
    assert deal.target_price == Decimal("102.02")  # 102.0102, never worse than asked for
    assert stop.checked_at is not None
    assert deal.protected_at is not None
    assert deal.unprotected_since is None
    assert trader.books_agree()


def test_closed_by_its_stop(world: World):
    trader = opened(world.trader())
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)
    deal = trader.deal()
    # Sold 0.997 at 98.89, fee 0.3 % of 98.59333 = 0.29577999: 98.59333 - 0.29577999 - 100.01 = -1.71244999
    assert deal.profit == Decimal("-1.71244999")
    # fee of the entry 0.003 x 100.01 = 0.30003, of the exit 0.29577999
    assert deal.fees_quote == Decimal("0.59580999")
    assert trader.total("USDT") == Decimal(10000) + Decimal("-1.71244999")
    assert trader.total("BTC") == 1


def test_closed_at_its_target_by_the_swap(world: World):
    trader = opened(world.trader())
    trader.price("102.05")
    trader.wait(1)
    assert closed(trader, CloseReason.TAKE_PROFIT)
    assert [order.role for order in trader.orders()] == [Role.ENTRY, Role.STOP, Role.TARGET]
    assert trader.orders(Role.STOP)[0].status == S.CANCELED


def test_a_target_that_is_not_filled_gives_the_stop_its_place_back(world: World):
    trader = opened(world.trader())
    world.feed.depth = Decimal("0.3")
    trader.price("102.05")  # 0.3 of it is sold, the rest rests
    assert trader.roles(S.PARTIALLY_FILLED) == [Role.TARGET]
    trader.price("101")
    trader.wait(1)
    assert trader.roles(S.OPEN) == [Role.STOP]
    assert trader.orders(Role.STOP)[-1].quantity == Decimal("0.697")
    trader.price("98.9")
    trader.wait(2)
    world.feed.depth = Decimal(100)
    trader.calm()
    assert closed(trader, CloseReason.STOP_LOSS)


def test_closed_by_its_trailing_stop(world: World):
    trader = opened(world.trader(), trailing_stop_percent="1", trailing_step_percent="0.2")
    trader.price("101.5")
    trader.wait(1)
    # best bid 101.49: 1 % behind is 100.4751, toward safety 100.48
    assert trader.deal().stop_price == Decimal("100.48")
    assert trader.orders(Role.STOP)[-1].stop_price == Decimal("100.48")
    assert trader.roles(S.OPEN) == [Role.STOP]
    trader.price("101")
    trader.wait(12)
    assert trader.deal().stop_price == Decimal("100.48")  # never back
    trader.price("100.4")
    trader.wait(1)
    assert closed(trader, CloseReason.TRAILING_STOP)
    assert trader.deal().profit < 0  # two fees of 0.3 % eat 0.4 %: what is tracked is the money, not the move
    assert len(trader.orders(Role.STOP)) == 2


def test_a_stop_is_not_taken_down_while_its_successor_would_have_to_wait(world: World):
    trader = opened(world.trader(), trailing_stop_percent="1", trailing_step_percent="0.2")
    resting = trader.orders(Role.STOP)[0]
    trader.client._http._budget.is_ready = False
    trader.price("101.5")
    trader.wait(3)
    assert [(order.id, order.status) for order in trader.orders(Role.STOP)] == [(resting.id, S.OPEN)]
    trader.client._http._budget.is_ready = True
    trader.wait(1)
    assert trader.orders(Role.STOP)[-1].stop_price == Decimal("100.48")


def test_a_bare_position_is_not_kept_bare_because_its_stop_should_move_too(world: World):
    trader = opened(world.trader(), trailing_stop_percent="1", trailing_step_percent="0.2")
    stop = trader.orders(Role.STOP)[0]
    trader.client.cancel_order(OrderRef("BTCUSDT", stop.client_order_id, stop.exchange_order_id))
    Order.objects.filter(pk=stop.pk).update(status=S.CANCELED, closed_at=world.clock.now())
    trader.client._http._budget.is_ready = False  # for two; one might still be sent
    trader.price("101.5")
    trader.wait(1)
    assert trader.orders(Role.STOP)[-1].stop_price == Decimal("100.48")
    assert trader.deal().unprotected_since is None


def test_a_target_is_not_swapped_in_while_it_would_have_to_wait(world: World):
    trader = opened(world.trader(), take_profit_percent="1")
    resting = trader.orders(Role.STOP)[0]
    trader.client._http._budget.is_ready = False
    trader.price("101.5")
    trader.wait(3)
    assert [order.id for order in trader.orders(Role.STOP) if order.status == S.OPEN] == [resting.id]
    trader.client._http._budget.is_ready = True
    trader.wait(2)
    assert closed(trader, CloseReason.TAKE_PROFIT)


def test_a_short_deal_buys_back_what_it_sold(world: World):
    trader = opened(world.trader(), side=Side.SELL)
    stop = trader.orders(Role.STOP)[0]
    assert (stop.side, stop.quantity, stop.stop_price) == (Side.BUY, Decimal(1), Decimal("100.98"))
    trader.price("97.9")
    trader.wait(1)
    assert closed(trader, CloseReason.TAKE_PROFIT)
    # Sold 1 at 99.99 for 99.99 - 0.29997; the target 97.99 (97.9902 down) is above the ask 97.91: bought 1 there,
    # 0.003 of it went as fee, worth 0.29373: 99.69003 - 97.91 - 0.29373 = 1.4863
    assert trader.deal().profit == Decimal("1.4863")
    assert trader.total("BTC") == Decimal("0.997")


def test_a_stop_cancelled_at_the_exchange_is_placed_again(world: World):
    trader = opened(world.trader())
    stop = trader.orders(Role.STOP)[0]
    trader.client.cancel_order(OrderRef("BTCUSDT", stop.client_order_id, stop.exchange_order_id))
    trader.wait(6)
    first, second = trader.orders(Role.STOP)
    assert (first.status, second.status) == (S.CANCELED, S.OPEN)
    assert second.client_order_id != first.client_order_id
    assert trader.deal().unprotected_since is None
    assert trader.books_agree()


def test_a_person_may_leave_at_any_time(world: World):
    trader = opened(world.trader())
    deal = trader.deal()
    deal.exit_reason, deal.status = CloseReason.MANUAL, DealStatus.EXITING
    deal.save()
    trader.wait(1)
    assert closed(trader, CloseReason.MANUAL)


@pytest.mark.parametrize(("provider", "mode"), [("wallex", 3), ("wallex", 4), ("nobitex", 1), ("nobitex", 3)])
def test_the_kill_switch_flattens(world: World, provider, mode):
    trader = opened(world.trader(provider), mode=mode)
    kill_switch_set(KillSwitch.FLATTEN, reason="test", by=PLATFORM, at=world.clock.now())
    trader.wait(1)
    assert closed(trader, CloseReason.KILL_SWITCH)


def test_a_paused_account_still_protects_and_does_not_enter(world: World):
    trader = opened(world.trader())
    trader.account.state = "paused"
    trader.account.save()
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)
    trader.plan()
    trader.wait(1)
    assert trader.deal().status == DealStatus.CANCELED
    assert len(trader.truth()["orders"]) == 2


def test_a_thin_book_is_left_in_slices(world: World):
    trader = opened(world.trader())
    world.feed.depth = Decimal("0.4")
    kill_switch_set(KillSwitch.FLATTEN, reason="test", by=PLATFORM, at=world.clock.now())
    trader.calm()
    assert closed(trader, CloseReason.KILL_SWITCH)
    slices = [order.filled_quantity for order in trader.orders(Role.EXIT) if order.filled_quantity]
    assert slices == [Decimal("0.4"), Decimal("0.4"), Decimal("0.197")]


def test_a_partly_filled_entry_is_protected_for_what_it_got(world: World):
    trader = world.trader()
    world.feed.depth = Decimal("0.4")
    opened(trader)
    # 0.4 less 0.3 % is 0.3988
    assert trader.orders(Role.STOP)[0].quantity == Decimal("0.3988")
    assert trader.deal().entry_quantity == Decimal("0.4")
    assert trader.books_agree()


def test_what_is_too_small_to_protect_is_closed_as_dust(world: World):
    trader = world.trader()
    world.feed.depth = Decimal("0.009")  # worth 0.90 USDT; the exchange's least order is 1 USDT
    trader.plan()
    trader.advance()
    deal = trader.deal()
    assert (deal.status, deal.dust_quantity) == (DealStatus.CLOSED, Decimal("0.008973"))
    assert trader.books_agree()


# --- mode 4 --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "reason"), [("98.9", CloseReason.STOP_LOSS), ("102.05", CloseReason.TAKE_PROFIT)], ids=["stop", "target"]
)
def test_mode_4_is_closed_by_the_guardian(world: World, price, reason):
    trader = opened(world.trader(), mode=4)
    assert trader.roles(S.OPEN) == []
    assert trader.deal().unprotected_since is not None  # nothing rests at the exchange, and that is what is counted
    trader.price(price)
    trader.wait(1)
    deal = trader.deal()
    assert deal.status == DealStatus.CLOSED
    assert trader.orders()[-1].role == Role.EXIT
    assert deal.close_reason == reason
    assert trader.books_agree()


# --- mode 1, Nobitex ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", ["BTC/USDT", "BTC/IRT"])
@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("by", ["stop", "target"])
def test_a_pair_closes_the_deal_by_either_leg(world: World, pair, side, by):
    trader = world.trader("nobitex")
    trader.pair = pair
    scale = 1 if pair == "BTC/USDT" else 1_000_000
    trader.price(100 * scale, run=False)
    opened(trader, side=side, price=str(100 * scale))
    target, stop = trader.orders()[1:]
    assert (target.role, stop.role) == (Role.TARGET, Role.STOP)
    assert (target.status, stop.status) == (S.OPEN, S.OPEN)
    assert target.pair_id == stop.pk
    assert target.exchange_order_id != stop.exchange_order_id
    move = -Decimal("1.1") if by == "stop" else Decimal("2.1")
    trader.price((100 + side.sign * move) * scale)
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS if by == "stop" else CloseReason.TAKE_PROFIT)
    assert len(trader.orders(Role.EXIT)) == 0


def test_a_fill_that_the_stream_tells_of_is_protected_at_once(world: World):
    trader = world.trader("nobitex")
    late = {"kind": "accept_delayed", "venue": "nobitex", "account": trader.name, "nth": 1, "params": {"seconds": 0.4}}
    world.control("POST", "/faults", json=late)
    trader.plan()
    trader.advance(reconcile_now=True)
    [entry] = trader.orders()
    assert entry.status == S.OPEN
    world.clock.step(0.5)  # it is filled; its next reading by the clock is due a second after the last
    trader.advance()
    assert trader.roles(S.FILLED) == []
    trader.advance(spoken_of=[entry.exchange_order_id])
    assert trader.roles(S.FILLED, S.OPEN) == [Role.ENTRY, Role.TARGET, Role.STOP]
    assert trader.deal().unprotected_since is None


def test_no_stop_waits_for_a_list_of_fills(world: World):
    trader, now, rested = world.trader("nobitex"), [0.0], []

    def sleep(seconds: float) -> None:
        now[0] += seconds
        rested.append(trader.roles(S.OPEN))

    budget = InProcessBudget(LIMITS, monotonic=lambda: now[0], sleep=sleep)
    while budget.take("own_trades", Priority.EXITS, 1) == 0:
        pass
    trader.client._http._budget = budget
    trader.plan()
    trader.advance()
    # Whatever waited (the first comparison of the books) waited while the pair rested already.
    assert all(each == [Role.TARGET, Role.STOP] for each in rested)
    entry, _, stop = trader.orders()
    # Bought 1 for 100.01, 0.2 % fee in base by the order's own word; the fill itself is booked later.
    assert (entry.status, stop.status, stop.quantity) == (S.FILLED, S.OPEN, Decimal("0.998"))
    now[0] += 60
    trader.wait(3)
    assert trader.orders()[0].fills.count() == 1


def test_what_the_stream_tells_of_is_read_once_in_a_pass_and_strangers_are_nobodys(world: World):
    trader = opened(world.trader("nobitex"))
    stop = trader.orders(Role.STOP)[0]
    counting = trader.provider = Counting(trader.client)
    trader.advance(spoken_of=[stop.exchange_order_id, "999999999"])
    assert counting.calls["fetch_order"] == 1


def test_a_pair_follows_the_trailing_stop_as_a_whole(world: World):
    trader = opened(world.trader("nobitex"), trailing_stop_percent="1", trailing_step_percent="0.2")
    trader.price("101")
    trader.wait(1)
    assert trader.roles(S.OPEN) == [Role.TARGET, Role.STOP]
    assert trader.roles(S.CANCELED) == [Role.TARGET, Role.STOP]
    assert trader.orders(Role.STOP)[-1].stop_price == trader.deal().stop_price == Decimal("99.99")
    trader.price("99.9")
    trader.wait(1)
    assert closed(trader, CloseReason.TRAILING_STOP)


def test_nobitex_without_oco_rests_a_stop_and_swaps(world: World):
    trader = world.trader("nobitex")
    trader.account.capabilities = trader.account.capabilities | {"oco": False}
    trader.account.save()
    opened(trader)
    assert trader.roles(S.OPEN) == [Role.STOP]
    trader.price("102.05")
    trader.wait(1)
    assert closed(trader, CloseReason.TAKE_PROFIT)


# --- nothing is done that need not be --------------------------------------------------------------------------------


def test_who_is_hurried_leaves_the_comparison_of_the_books_to_the_next(world: World):
    trader = world.trader()
    counting = trader.provider = Counting(trader.client)
    trader.plan()
    trader.advance(hurried=True)
    assert trader.roles(S.OPEN) == [Role.STOP]
    assert "open_orders" not in counting.calls
    trader.advance()
    assert counting.calls["open_orders"] == 1


def test_an_account_held_by_somebody_else_is_left_alone(world: World, monkeypatch):
    from contextlib import contextmanager

    @contextmanager
    def taken(*args):
        yield None

    trader = world.trader()
    trader.plan()
    monkeypatch.setattr("algo.execution.advance.account_lock", taken)
    assert trader.advance() is Advanced.BUSY
    assert trader.truth()["orders"] == []


def test_an_account_of_the_other_environment_is_refused(world: World):
    trader = world.trader()
    trader.plan()
    trader.account.environment = "live"
    trader.account.save()
    assert trader.advance() is Advanced.STOPPED
    trader.account.refresh_from_db()
    assert "live account" in trader.account.last_error
    assert trader.truth()["orders"] == []


def test_a_protected_deal_costs_one_price_and_now_and_then_one_look(world: World):
    trader = opened(world.trader())
    trader.provider = Counting(trader.client)
    trader.wait(10)
    assert trader.provider.calls == {"order_book": 10, "can_ask": 4, "fetch_order": 2, "capabilities": 10}
    assert SystemControl.objects.count() <= 1
