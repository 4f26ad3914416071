"""What is done next about one deal: hand-made pictures, one action each."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from algo.execution import decide
from algo.execution.decide import Action, next_action
from algo.execution.views import Budgets, Control, DealView, OrderView, Quote
from algo.models import CloseReason, DealStatus, Role
from providers.clock import AnchoredClock
from providers.types import ZERO, OrderStatus, OrderType, Side
from tests.execution.views import (
    ABILITIES,
    BUDGETS,
    FLATTEN,
    FREELY,
    KILLED,
    NOW,
    RULES,
    ago,
    deal,
    entry,
    leave,
    pair,
    quote,
    stop,
    target,
)

S = OrderStatus
BOTH = pytest.mark.parametrize("side", [Side.BUY, Side.SELL])
RESTING_MODES = pytest.mark.parametrize("mode", [2, 3])
ALL_MODES = pytest.mark.parametrize("mode", [1, 2, 3, 4])


def act(view: DealView, price: Quote | None = None, control: Control = FREELY, now: datetime = NOW) -> Action:
    return next_action(view, price, control, now, BUDGETS)


def at(side: Side, percent: float) -> Quote:
    """The price `percent` in favour of a deal entered at 100 on `side` (against it when negative)."""
    return quote(100 + side.sign * percent)


# --- the entry ------------------------------------------------------------------------------------------------------


def entering(*orders: object, **fields: object) -> DealView:
    return deal(*orders, status=DealStatus.ENTERING, entry_price=None, best_price=None, **fields)  # type: ignore[arg-type]


def test_a_planned_entry_is_sent():
    planned = entry(status=S.PENDING, created_at=ago(1))
    assert act(entering(planned)) == decide.Send(planned)


def test_a_planned_entry_is_withdrawn_when_it_has_grown_too_old():
    planned = entry(status=S.PENDING, created_at=ago(21))
    action = act(entering(planned))
    assert isinstance(action, decide.Withdraw)
    assert action.order == planned


@pytest.mark.parametrize("control", [KILLED, FLATTEN])
def test_a_planned_entry_is_withdrawn_while_entries_are_switched_off(control):
    action = act(entering(entry(status=S.PENDING, created_at=ago(1))), quote(), control)
    assert isinstance(action, decide.Withdraw)
    assert action.reason == control.reason


def test_an_entry_of_unknown_fate_is_looked_up_and_never_sent_again():
    sent = entry(status=S.SUBMITTED)
    assert act(entering(sent)) == decide.Recover(sent)


def test_between_two_look_ups_of_an_unknown_order_nothing_is_done():
    sent = entry(status=S.SUBMITTED, submitted_at=ago(1), checked_at=ago(0.4))
    assert act(entering(sent), quote(), FLATTEN) == decide.Rest()


def test_a_working_entry_is_read_back_then_left_its_time_then_cut_off():
    working = entry(status=S.OPEN, submitted_at=ago(2), checked_at=ago(1.1))
    assert act(entering(working)) == decide.Ask(working)
    fresh = replace(working, checked_at=ago(0.5))
    assert act(entering(fresh)) == decide.Rest()
    slow = replace(fresh, submitted_at=ago(3.1))
    assert isinstance(act(entering(slow)), decide.Cancel)


def test_what_the_stream_spoke_of_is_read_at_once():
    told = entry(status=S.OPEN, submitted_at=ago(0.4), checked_at=ago(0.1), is_spoken_of=True)
    assert act(entering(told)) == decide.Ask(told)


def test_what_has_ended_is_not_read_again_because_the_stream_spoke_of_it():
    assert act(deal(entry(is_spoken_of=True), stop()), quote()) == decide.Rest()


def test_an_entry_that_filled_nothing_cancels_the_deal():
    action = act(entering(entry(status=S.REJECTED, reason="below_minimum: too small")))
    assert action == decide.CancelDeal("below_minimum: too small")


@BOTH
def test_a_filled_entry_opens_the_deal_with_stop_and_target_by_its_real_price(side):
    # 1 % behind 110 is 108.90 (111.10 for a SELL), 2 % ahead 112.20 (107.80)
    filled = entry(side, average_price=Decimal(110))
    action = act(entering(filled, side=side))
    assert isinstance(action, decide.OpenDeal)
    assert action.entry_price == 110
    assert action.stop_price == (Decimal("108.90") if side is Side.BUY else Decimal("111.10"))
    assert action.target_price == (Decimal("112.20") if side is Side.BUY else Decimal("107.80"))


def test_a_partly_filled_entry_that_ended_opens_the_deal_with_what_was_filled():
    action = act(entering(entry(status=S.CANCELED, filled="0.4")))
    assert isinstance(action, decide.OpenDeal)
    assert action.quantity == Decimal("0.4")


def late(*orders: OrderView, **fields: object) -> DealView:
    """A deal that had ended and was reopened: its entry turned up after it was given up."""
    return deal(*orders, exit_reason=CloseReason.EMERGENCY, **fields)  # type: ignore[arg-type]


@ALL_MODES
def test_a_deal_whose_entry_may_still_be_filled_is_not_closed(mode):
    """Else what it gets belongs to nobody: it is cut off, and read until it has ended."""
    arrived = entry(status=S.OPEN)
    assert act(late(arrived, mode=mode), quote()) == decide.Cancel(arrived, "its deal is over: what it gets is closed")
    assert act(late(entry(status=S.CANCELING), mode=mode), quote()) == decide.Rest()
    assert act(late(entry(status=S.CANCELED), mode=mode), quote()) == decide.CloseDeal(CloseReason.EMERGENCY, ZERO)


@ALL_MODES
def test_what_a_late_entry_got_is_closed_while_the_rest_of_it_is_cut_off(mode):
    action = act(late(entry(status=S.CANCELING, filled="0.4"), mode=mode), quote())
    assert isinstance(action, decide.Place)
    assert (action.role, action.quantity) == (Role.EXIT, Decimal("0.4"))


# --- the position ---------------------------------------------------------------------------------------------------


def test_the_position_of_a_long_deal_is_what_the_fee_in_base_left():
    view = deal(entry(fee_base=Decimal("0.003")), leave(S.CANCELED, filled="0.25"))
    assert view.position == Decimal("0.747")
    assert view.closable == Decimal("0.747")


def test_the_position_of_a_short_deal_ignores_fees():
    view = deal(
        entry(Side.SELL), leave(S.CANCELED, side=Side.SELL, filled="0.25", fee_base=Decimal("0.00075")), side=Side.SELL
    )
    assert view.position == Decimal("0.75")


def test_an_exit_is_never_larger_than_the_position_rounded_down_to_the_step():
    view = deal(entry(fee_base=Decimal("0.00305")))
    assert view.closable == Decimal("0.9969")


def test_what_cannot_be_traded_any_more_is_dust():
    # 0.0499 at 100 is 4.99, below the minimum of 5; 0.05 is worth exactly 5
    assert deal(entry(quantity="0.0499")).is_dust(Decimal(100))
    assert not deal(entry(quantity="0.05")).is_dust(Decimal(100))


# --- protection rests -----------------------------------------------------------------------------------------------


@BOTH
@RESTING_MODES
def test_an_open_deal_gets_its_stop_first(mode, side):
    action = act(deal(entry(side), mode=mode, side=side), at(side, 0))
    stop_price = Decimal(99) if side is Side.BUY else Decimal(101)
    assert action == decide.Place(Role.STOP, OrderType.STOP_MARKET, Decimal(1), None, stop_price, "stop")


@RESTING_MODES
def test_without_a_price_the_stop_is_placed_all_the_same(mode):
    action = act(deal(mode=mode), None)
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


@BOTH
def test_where_only_stop_limits_are_known_the_limit_rests_three_percent_beyond(side):
    abilities = replace(ABILITIES[3], stop_market=False)
    action = act(deal(entry(side), capabilities=abilities, side=side), at(side, 0))
    assert isinstance(action, decide.Place)
    assert action.type is OrderType.STOP_LIMIT
    # 99 x 0.97 = 96.03; 101 x 1.03 = 104.03
    assert action.price == (Decimal("96.03") if side is Side.BUY else Decimal("104.03"))


@BOTH
def test_mode_1_places_both_as_one_pair(side):
    action = act(deal(entry(side), mode=1, side=side), at(side, 0))
    if side is Side.BUY:
        assert action == decide.PlacePair(Decimal(1), Decimal(102), Decimal(99), Decimal("96.03"))
    else:
        assert action == decide.PlacePair(Decimal(1), Decimal(98), Decimal(101), Decimal("104.03"))


@BOTH
def test_mode_1_protects_with_a_plain_stop_while_the_last_trade_is_beyond_the_target(side):
    # The exchange would refuse the pair; the book does not pay the target, so leaving is not due either.
    beyond = Decimal(100) + Decimal("2.1") * side.sign
    here = replace(at(side, 1), last=beyond)
    action = act(deal(entry(side), mode=1, side=side), here)
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


def enough_for_one(side: Side, held: str | None = None) -> OrderView:
    """A resting stop of an account that holds what closing once takes, and no more: 1 BTC, or 101 to buy it back at the
    stop; or `held`."""
    balance = None if held == "unknown" else Decimal(held or (1 if side is Side.BUY else 101))
    return stop(side=side, balance_before=balance, balance_read_at=ago(30))


@BOTH
def test_mode_2_places_the_target_beside_the_stop_where_the_balance_is_enough_for_one_of_them(side):
    action = act(deal(entry(side), enough_for_one(side), mode=2, side=side), at(side, 0))
    price = Decimal(102) if side is Side.BUY else Decimal(98)
    assert action == decide.Place(Role.TARGET, OrderType.LIMIT, Decimal(1), price, None, "target")


@BOTH
@pytest.mark.parametrize("held", ["500", "unknown"])
def test_mode_2_rests_the_stop_alone_where_the_balance_would_let_both_fill(side, held):
    view = deal(entry(side), enough_for_one(side, held), mode=2, side=side)
    assert act(view, at(side, 0)) == decide.Rest()
    assert act(view, at(side, 2)) == decide.BeginSwap()


def test_what_the_entry_brought_after_the_balance_was_read_counts():
    # 0 BTC were there before the entry bought 1; the other account had 5 already.
    bought = entry(submitted_at=ago(20))
    view = deal(bought, enough_for_one(Side.BUY, "0"), mode=2)
    assert isinstance(act(view, at(Side.BUY, 0)), decide.Place)
    assert act(deal(bought, enough_for_one(Side.BUY, "5"), mode=2), at(Side.BUY, 0)) == decide.Rest()


@BOTH
def test_mode_4_rests_nothing_and_leaves_at_the_target(side):
    view = deal(entry(side), mode=4, side=side)
    assert act(view, at(side, 1)) == decide.Rest()
    action = act(view, at(side, 2))
    assert isinstance(action, decide.StartExit)
    assert action.reason is CloseReason.TAKE_PROFIT


@pytest.mark.parametrize(
    ("mode", "orders"),
    [(1, pair()), (2, [stop(balance_before=Decimal(1), balance_read_at=ago(30)), target()]), (3, [stop()]), (4, [])],
    ids=["oco", "free", "lock", "no"],
)
def test_a_protected_deal_is_left_alone(mode, orders):
    assert act(deal(entry(), *orders, mode=mode), quote(100.5)) == decide.Rest()


def test_a_new_stop_is_read_back_at_once():
    fresh = stop(checked_at=None)
    assert act(deal(entry(), fresh), quote()) == decide.Ask(fresh)
    assert not deal(entry(), fresh).is_protected(Decimal(100))


def test_a_resting_stop_is_read_every_five_seconds_and_every_second_once_its_price_is_near_its_end():
    resting = stop(checked_at=ago(4))
    assert act(deal(entry(), resting), quote()) == decide.Rest()
    assert act(deal(entry(), replace(resting, checked_at=ago(5))), quote()) == decide.Ask(
        replace(resting, checked_at=ago(5))
    )
    assert act(deal(entry(), resting), quote(98.9)) == decide.Ask(resting)


def test_a_stop_that_vanished_at_the_exchange_is_placed_again():
    action = act(deal(entry(), stop(S.CANCELED)), quote())
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


@RESTING_MODES
def test_a_stop_for_another_quantity_than_the_position_is_taken_down(mode):
    view = deal(entry(), leave(S.CANCELED, filled="0.3"), stop(), mode=mode)
    action = act(view, quote())
    assert isinstance(action, decide.Cancel)
    assert action.order.role is Role.STOP


COARSER = replace(RULES, step_size=Decimal("0.1"), tick_size=Decimal("0.3"))


@pytest.mark.parametrize(
    ("mode", "closing"),
    [
        (1, pair(quantity="0.9969")),
        (2, [stop(quantity="0.9969", balance_before=Decimal(1), balance_read_at=ago(30)), target(quantity="0.9969")]),
        (3, [stop(quantity="0.9969")]),
    ],
)
def test_what_rests_is_left_alone_when_the_grids_become_coarser(mode, closing):
    # 0.99695 are there; the next order could be for 0.9 only, at a stop of 99.0 (330 x 0.3) and a target of 102.0
    view = deal(entry(fee_base=Decimal("0.00305")), *closing, mode=mode, rules=COARSER)
    assert view.closable == Decimal("0.9")
    assert act(view, quote()) == decide.Rest()


@BOTH
@pytest.mark.parametrize("mode", [1, 2, 3])
def test_a_stop_that_is_placed_again_is_moved_to_the_coarser_tick_first_toward_safety(mode, side):
    # Ticks of 0.4: 99 is 247.5 of them, so 99.2 sells; 101 is 252.5, so 100.8 buys back. 102 is 255; 98 is 245.
    rules = replace(RULES, tick_size=Decimal("0.4"))
    view = deal(entry(side), mode=mode, side=side, rules=rules)
    on_it = Decimal("99.2") if side is Side.BUY else Decimal("100.8")
    assert act(view, at(side, 0)) == decide.MoveStop(on_it, Decimal(100))
    action = act(replace(view, stop_price=on_it), at(side, 0))
    assert isinstance(action, decide.Place | decide.PlacePair)
    assert action.stop_price == on_it


@pytest.mark.parametrize("mode", [1, 2, 3])
def test_a_target_is_placed_on_the_coarser_tick_and_never_for_less(mode):
    rules = replace(RULES, tick_size=Decimal("0.9"))  # 99 is 110 of them; 102 is 113.3, so 102.6
    resting = {1: [], 2: [enough_for_one(Side.BUY)], 3: []}[mode]
    price, swapped = (100, None) if mode != 3 else (103, ago(1))
    action = act(deal(entry(), *resting, mode=mode, rules=rules, swapped_at=swapped), quote(price))
    assert isinstance(action, decide.Place | decide.PlacePair)
    assert action.price == Decimal("102.6")


UNTRADABLE = [replace(RULES, step_size=Decimal(2)), replace(RULES, min_notional=Decimal(200))]


@pytest.mark.parametrize("rules", UNTRADABLE, ids=["step", "minimum"])
@pytest.mark.parametrize(
    ("mode", "closing"), [(1, pair()), (2, [stop(), target()]), (3, [stop()])], ids=["oco", "free", "lock"]
)
def test_what_rests_stays_when_the_exchange_would_take_nothing_in_its_place(mode, closing, rules):
    trailing = {"trailing_percent": Decimal(1), "trailing_step_percent": Decimal("0.1")}
    view = deal(entry(), *closing, mode=mode, rules=rules, **trailing)
    for price in (100, 101.5, 102.5):
        assert act(view, quote(price)) == decide.Rest()
    assert isinstance(act(replace(view, exit_reason=CloseReason.MANUAL), quote()), decide.Cancel)
    assert isinstance(act(replace(view, orders=view.orders[:1]), quote()), decide.CloseDeal)


def test_a_stop_for_more_than_there_is_is_taken_down_however_coarse_the_grid():
    view = deal(entry(fee_base=Decimal("0.00311")), stop(quantity="0.9969"), rules=COARSER)
    assert isinstance(act(view, quote()), decide.Cancel)


def test_mode_2_takes_down_a_target_that_is_larger_than_the_position():
    # The stop sold a part and was replaced for the rest: a target of the old size could sell what is not the deal's.
    view = deal(
        entry(), stop(S.CANCELED, filled="0.3"), stop(id=11, quantity="0.7", created_at=ago(9)), target(), mode=2
    )
    action = act(view, quote())
    assert isinstance(action, decide.Cancel)
    assert action.order.role is Role.TARGET


# 0.0503 at 100 is worth 5.03, and 4.98 at its stop of 99: the exchange takes orders of 5 and more.
TINY = "0.0503"


@pytest.mark.parametrize("mode", [1, 2, 3])
def test_what_is_too_small_for_its_stop_is_closed_at_once(mode):
    note = "what is left is too small for a stop"
    assert act(deal(entry(quantity=TINY), mode=mode), quote()) == decide.StartExit(CloseReason.EMERGENCY, note)
    sold = target(S.CANCELED, filled=Decimal(1) - Decimal(TINY), booked=Decimal(1) - Decimal(TINY))
    assert act(deal(entry(), sold, mode=mode), quote()) == decide.StartExit(CloseReason.TAKE_PROFIT, note)


def test_a_limit_behind_the_trigger_is_what_counts_where_only_stop_limits_are_known():
    # 0.052 at 96.03, where the stop's limit rests, is worth 4.99; at its trigger of 99 it would be 5.15
    only_limits = replace(ABILITIES[3], stop_market=False)
    assert isinstance(act(deal(entry(quantity="0.052"), capabilities=only_limits), quote()), decide.StartExit)
    assert isinstance(act(deal(entry(quantity="0.052")), quote()), decide.Place)


def test_what_is_worth_more_at_its_stop_gets_it():
    action = act(deal(entry(Side.SELL, quantity=TINY), side=Side.SELL), quote())
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


def test_what_rests_is_left_alone_however_small_and_without_stops_the_guardian_watches():
    assert act(deal(entry(quantity=TINY), stop(quantity=TINY)), quote()) == decide.Rest()
    assert act(deal(entry(quantity=TINY), mode=4), quote()) == decide.Rest()


# --- refused stops --------------------------------------------------------------------------------------------------


def refused(number: int, age: float) -> OrderView:
    return stop(S.REJECTED, id=10 + number, created_at=ago(age), closed_at=ago(age))


@RESTING_MODES
@pytest.mark.parametrize(("times", "pause"), [(1, 1), (2, 2), (3, 4), (4, 8), (9, 30)])
def test_a_refused_stop_is_tried_again_with_growing_pauses(mode, times, pause):
    def history(newest: float) -> DealView:
        return deal(entry(), *[refused(n, newest + (times - 1 - n) * 40) for n in range(times)], mode=mode)

    assert isinstance(act(history(pause - 0.1), quote()), decide.Rest)
    action = act(history(pause), quote())
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


def test_after_three_refusals_a_person_is_called():
    action = act(deal(entry(), *[refused(n, 3 + (2 - n) * 40) for n in range(3)]), quote())
    assert isinstance(action, decide.Rest)
    assert "guardian" in action.alarm


def test_a_refused_target_does_not_keep_the_stop_waiting():
    view = deal(
        entry(),
        stop(S.CANCELED, created_at=ago(30)),
        target(S.REJECTED, created_at=ago(0.2), closed_at=ago(0.1)),
        swapped_at=ago(1),
    )
    action = act(view, quote(102))
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


def refused_pair(age: float) -> list[OrderView]:
    return pair(S.REJECTED, created_at=ago(age), closed_at=ago(age))


def test_mode_1_rests_a_plain_stop_at_once_where_the_pair_was_refused():
    action = act(deal(entry(), *refused_pair(0), mode=1), quote())
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


def test_mode_1_tries_a_plain_stop_at_once_although_one_was_refused_before_the_pair():
    action = act(deal(entry(), refused(-3, 1.5), *refused_pair(0.1), mode=1), quote())
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


@pytest.mark.parametrize(("times", "pause"), [(1, 1), (2, 2), (3, 4), (9, 30)])
def test_mode_1_tries_the_plain_stop_again_with_growing_pauses_and_never_the_pair(times, pause):
    def history(newest: float) -> DealView:
        stops = [refused(n + 20, newest + (times - 1 - n) * 0.01) for n in range(times)]
        return deal(entry(), *refused_pair(newest + 5), *stops, mode=1)

    assert isinstance(act(history(pause - 0.1), quote()), decide.Rest)
    action = act(history(pause), quote())
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


def test_mode_1_calls_a_person_after_three_refusals_of_the_plain_stop():
    stops = [refused(n + 20, 3 + (2 - n) * 40) for n in range(3)]
    action = act(deal(entry(), *refused_pair(200), *stops, mode=1), quote())
    assert isinstance(action, decide.Rest)
    assert "guardian" in action.alarm


def test_mode_1_keeps_a_plain_stop_that_stands_in_for_a_refused_pair():
    view = deal(entry(), *refused_pair(30), stop(id=19, created_at=ago(5)), mode=1)
    assert act(view, quote()) == decide.Rest()


def test_mode_1_moves_a_plain_stop_that_stands_in_for_a_refused_pair_without_trying_the_pair_again():
    moved = stop(S.CANCELED, id=19, created_at=ago(5), closed_at=ago(0.1))
    action = act(deal(entry(), *refused_pair(30), moved, mode=1, stop_price=Decimal("99.5")), quote())
    assert action == decide.Place(Role.STOP, OrderType.STOP_MARKET, Decimal(1), None, Decimal("99.5"), "stop")


def test_mode_1_with_a_plain_stop_leaves_at_the_target_by_the_guardian():
    view = deal(entry(), *refused_pair(30), stop(id=19, created_at=ago(5)), mode=1)
    action = act(view, quote(102))
    assert isinstance(action, decide.StartExit)
    assert action.reason is CloseReason.TAKE_PROFIT


# --- the pair of mode 1 ---------------------------------------------------------------------------------------------


def test_a_pair_with_one_leg_gone_is_taken_down():
    legs = pair()
    view = deal(entry(), replace(legs[0], status=S.CANCELED, closed_at=ago(1)), legs[1], mode=1)
    action = act(view, quote())
    assert isinstance(action, decide.Cancel)
    assert action.order.role is Role.STOP


def test_a_leg_that_is_still_unknown_while_the_other_is_known_is_looked_up():
    # The answer was written for the first leg only: the process died before the second.
    legs = pair()
    lost = replace(legs[1], status=S.SUBMITTED, exchange_order_id=None, checked_at=None, accepted_at=None)
    assert act(deal(entry(), legs[0], lost, mode=1), quote()) == decide.Recover(lost)
    ended = replace(legs[0], status=S.CANCELED, closed_at=ago(1))
    assert act(deal(entry(), ended, lost, mode=1), quote()) == decide.Recover(lost)


def test_both_unknown_legs_are_looked_up_through_the_first():
    first, second = pair(S.SUBMITTED)
    assert act(deal(entry(), first, second, mode=1), quote()) == decide.Recover(first)


def test_a_pair_is_sent_through_its_first_leg_only():
    first, second = pair(S.PENDING)
    assert act(deal(entry(), first, second, mode=1), quote()) == decide.Send(first)


def test_mode_1_does_not_place_a_pair_through_whose_target_the_price_has_gone():
    action = act(deal(mode=1), quote(102))
    assert isinstance(action, decide.StartExit)
    assert action.reason is CloseReason.TAKE_PROFIT


# --- the stop is crossed --------------------------------------------------------------------------------------------


@BOTH
@ALL_MODES
def test_a_crossed_stop_is_first_written_down(mode, side):
    resting = {1: pair(side=side), 2: [stop(side=side), target(side=side)], 3: [stop(side=side)], 4: []}[mode]
    assert act(deal(entry(side), *resting, mode=mode, side=side), at(side, -1)) == decide.NoteCrossed(True)


@BOTH
@ALL_MODES
def test_a_crossed_stop_that_does_not_rest_is_an_exit_at_once(mode, side):
    action = act(deal(entry(side), mode=mode, side=side, crossed_at=ago(0.1)), at(side, -1.2))
    assert isinstance(action, decide.StartExit)
    assert action.reason is CloseReason.STOP_LOSS


@BOTH
def test_a_crossed_stop_that_rests_gets_three_seconds_to_fill(side):
    view = deal(entry(side), stop(side=side), side=side, crossed_at=ago(2.9))
    assert act(view, at(side, -1.2)) == decide.Rest()
    action = act(replace(view, crossed_at=ago(3.1)), at(side, -1.2))
    assert isinstance(action, decide.StartExit)
    assert action.reason is CloseReason.EMERGENCY


def test_a_price_that_came_back_is_forgiven():
    assert act(deal(entry(), stop(), crossed_at=ago(2)), quote()) == decide.NoteCrossed(False)


def test_a_crossed_trailing_stop_without_an_order_is_called_by_its_name():
    view = deal(entry(), stop_price=Decimal("100.5"), crossed_at=ago(1), trailing_percent=Decimal(1))
    action = act(view, quote(100.4))
    assert isinstance(action, decide.StartExit)
    assert action.reason is CloseReason.TRAILING_STOP
    moved_by_hand = act(replace(view, trailing_percent=Decimal(0)), quote(100.4))
    assert isinstance(moved_by_hand, decide.StartExit)
    assert moved_by_hand.reason is CloseReason.STOP_LOSS


def test_the_last_trade_decides_about_the_stop_and_not_the_book():
    wide = Quote(bid=Decimal("98.9"), ask=Decimal("100.1"), as_of=NOW, last=Decimal("99.5"))
    assert decide.needs_last_price(deal(), wide)
    assert act(deal(entry(), stop()), wide) == decide.Rest()
    assert not decide.needs_last_price(deal(exit_reason=CloseReason.EMERGENCY), wide)  # an exit does not wait for it


def test_a_stop_planned_before_the_price_went_through_it_is_withdrawn():
    planned = stop(S.PENDING)
    assert isinstance(act(deal(entry(), planned), quote(98.9)), decide.Withdraw)


# --- the target of mode 3 -------------------------------------------------------------------------------------------


@BOTH
def test_at_the_target_the_stop_makes_way_step_by_step(side):
    resting = deal(entry(side), stop(side=side), side=side)
    assert act(resting, at(side, 2)) == decide.BeginSwap()
    begun = replace(resting, swapped_at=ago(0.1))
    action = act(begun, at(side, 2))
    assert isinstance(action, decide.Cancel)
    cleared = deal(entry(side), stop(S.CANCELED, side=side), side=side, swapped_at=ago(0.3))
    action = act(cleared, at(side, 2))
    price = Decimal(102) if side is Side.BUY else Decimal(98)
    assert action == decide.Place(Role.TARGET, OrderType.LIMIT, Decimal(1), price, None, "target")


def test_while_the_stop_is_being_cancelled_the_target_is_not_placed():
    view = deal(entry(), stop(S.CANCELING), swapped_at=ago(0.3))
    assert act(view, quote(102)) == decide.Rest()


@pytest.mark.parametrize(("price", "swapped"), [(101.9, 1.0), (102.0, 5.1)], ids=["fell back", "took too long"])
def test_an_unfilled_target_makes_way_for_the_stop_again(price, swapped):
    live = target(created_at=ago(swapped - 0.1), submitted_at=ago(swapped - 0.1))
    action = act(deal(entry(), stop(S.CANCELED), live, swapped_at=ago(swapped)), quote(price))
    assert isinstance(action, decide.Cancel)
    assert action.order == live
    gone = replace(live, status=S.CANCELED, closed_at=NOW)
    action = act(deal(entry(), stop(S.CANCELED), gone, swapped_at=ago(swapped)), quote(price))
    assert isinstance(action, decide.Place)
    assert action.role is Role.STOP


def test_after_a_refused_target_the_stop_that_came_back_is_left_alone():
    refused_target = target(S.REJECTED, created_at=ago(1), closed_at=ago(1))
    back = stop(id=11, created_at=ago(0.9), submitted_at=ago(0.9))
    view = deal(entry(), stop(S.CANCELED), refused_target, back, swapped_at=ago(1.2))
    assert act(view, quote(102)) == decide.Rest()


def test_without_a_price_a_target_makes_way_for_the_stop():
    live = target(created_at=ago(1), submitted_at=ago(1))
    assert isinstance(act(deal(entry(), stop(S.CANCELED), live, swapped_at=ago(1.1)), None), decide.Cancel)


def test_a_swap_is_not_tried_again_before_its_pause_is_over():
    view = deal(entry(), stop(), target(S.CANCELED, created_at=ago(9)), swapped_at=ago(10))
    assert act(view, quote(102)) == decide.Rest()
    assert act(replace(view, swapped_at=ago(15.1)), quote(102)) == decide.BeginSwap()


def test_a_target_planned_for_a_swap_that_is_over_is_withdrawn_and_not_sent():
    view = deal(entry(), stop(S.CANCELED), target(S.PENDING, created_at=ago(1)), swapped_at=ago(1.2))
    assert isinstance(act(view, quote(101.5)), decide.Withdraw)


# --- trailing -------------------------------------------------------------------------------------------------------


def trailing(*orders: object, side: Side = Side.BUY, **fields: object) -> DealView:
    values = {"trailing_percent": Decimal(1), "trailing_step_percent": Decimal("0.2"), "mode": 3} | fields
    return deal(*orders, side=side, **values)  # type: ignore[arg-type]


@BOTH
def test_the_stop_follows_the_best_price(side):
    # best 101 (99): 1 % behind is 99.99 (99.99)
    action = act(trailing(entry(side), stop(side=side), side=side), at(side, 1))
    assert action == decide.MoveStop(Decimal("99.99"), Decimal(100) + side.sign)


@BOTH
def test_the_stop_never_moves_back(side):
    stop_price = Decimal(100) + side.sign * Decimal("0.5")
    view = trailing(entry(side), stop(side=side, stop_price=stop_price), side=side, stop_price=stop_price)
    for percent in (0.6, 0.8, 1.2):
        assert not isinstance(act(view, at(side, percent)), decide.MoveStop)


def test_the_stop_does_not_move_by_less_than_a_step():
    # 0.2 % of 99 is 0.198: the best price has to reach 100.2 before 1 % behind it is 99.198
    assert not isinstance(act(trailing(entry(), stop()), quote(100.19)), decide.MoveStop)
    assert isinstance(act(trailing(entry(), stop()), quote(100.21)), decide.MoveStop)


def test_the_stop_does_not_move_again_before_ten_seconds():
    assert not isinstance(act(trailing(entry(), stop(), trailed_at=ago(9)), quote(101)), decide.MoveStop)
    assert isinstance(act(trailing(entry(), stop(), trailed_at=ago(10)), quote(101)), decide.MoveStop)


def test_a_best_price_is_remembered_while_the_stop_has_to_wait():
    assert act(trailing(entry(), stop(), trailed_at=ago(5)), quote(101.5)) == decide.NoteBest(Decimal("101.5"))


def test_a_stop_at_its_old_price_is_taken_down_unless_it_is_about_to_be_needed():
    moved = trailing(entry(), stop(), stop_price=Decimal("99.99"), best_price=Decimal(101), trailed_at=ago(1))
    action = act(moved, quote(101))
    assert isinstance(action, decide.Cancel)
    # the old stop rests at 99: at 99.05 the price is within 0.1 % of it, and through the new one
    near = replace(moved, stop_price=Decimal("99.04"))
    assert not isinstance(act(near, quote(99.05)), decide.Cancel)


@BOTH
def test_without_a_price_a_stop_is_not_moved(side):
    moved = trailing(entry(side), stop(side=side), side=side, stop_price=Decimal(100) - side.sign * Decimal("0.1"))
    assert act(moved, None) == decide.Rest()


# --- leaving --------------------------------------------------------------------------------------------------------


def leaving(*orders: object, **fields: object) -> DealView:
    values = {"status": DealStatus.EXITING, "exit_reason": CloseReason.MANUAL} | fields
    return deal(*orders, **values)  # type: ignore[arg-type]


@BOTH
@ALL_MODES
def test_an_exit_first_takes_down_what_rests_then_sells_at_the_market(mode, side):
    resting = {1: pair(side=side), 2: [stop(side=side), target(side=side)], 3: [stop(side=side)], 4: []}[mode]
    if resting:
        assert isinstance(act(leaving(entry(side), *resting, mode=mode, side=side), at(side, 0)), decide.Cancel)
    gone = [replace(each, status=S.CANCELED, closed_at=ago(1)) for each in resting]
    action = act(leaving(entry(side), *gone, mode=mode, side=side), at(side, 0))
    assert action == decide.Place(Role.EXIT, OrderType.MARKET, Decimal(1), None, None, "manual")


def test_an_exit_is_never_planned_while_one_is_live():
    for status in (S.OPEN, S.PARTIALLY_FILLED, S.CANCELING):
        working = leave(status, submitted_at=ago(1), created_at=ago(1))
        assert act(leaving(entry(), working), quote()) == decide.Rest()


def test_an_exit_that_is_not_filled_in_time_is_cut_off_and_the_rest_is_sold():
    working = leave(S.PARTIALLY_FILLED, filled="0.6", submitted_at=ago(3.1))
    assert isinstance(act(leaving(entry(), working), quote()), decide.Cancel)
    cut = leave(S.CANCELED, filled="0.6", closed_at=ago(0.1))
    action = act(leaving(entry(), cut), quote())
    assert isinstance(action, decide.Place)
    assert action.quantity == Decimal("0.4")


def test_exits_that_fill_nothing_come_with_growing_pauses():
    empty = leave(S.CANCELED, created_at=ago(1.5), closed_at=ago(0.9))
    assert act(leaving(entry(), empty), quote()) == decide.Rest()
    assert isinstance(act(leaving(entry(), replace(empty, closed_at=ago(1.1))), quote()), decide.Place)


def test_after_eight_exits_a_person_is_called():
    exits = [leave(S.CANCELED, id=30 + n, created_at=ago(60 - n), closed_at=ago(1)) for n in range(8)]
    action = act(leaving(entry(), *exits), quote())
    assert isinstance(action, decide.Rest)
    assert "8 exits" in action.alarm


def test_without_market_orders_an_exit_is_a_limit_that_crosses_half_of_the_band():
    rules = replace(RULES, allows_market_orders=False)
    action = act(leaving(entry(), rules=rules), quote())
    assert action == decide.Place(Role.EXIT, OrderType.LIMIT, Decimal(1), Decimal(99), None, "manual")
    action = act(leaving(entry(Side.SELL), rules=rules, side=Side.SELL), quote())
    assert action == decide.Place(Role.EXIT, OrderType.LIMIT, Decimal(1), Decimal(101), None, "manual")
    assert isinstance(act(leaving(entry(), rules=rules), None), decide.Rest)


@ALL_MODES
def test_the_kill_switch_flattens_an_open_deal_in_every_mode(mode):
    action = act(deal(mode=mode), quote(), FLATTEN)
    assert action == decide.StartExit(CloseReason.KILL_SWITCH, "everything out")


@ALL_MODES
def test_switching_entries_off_does_not_touch_protection(mode):
    assert act(deal(mode=mode), quote(), KILLED) == act(deal(mode=mode), quote(), FREELY)


def test_a_stop_planned_before_the_exit_was_decided_is_withdrawn():
    assert isinstance(act(leaving(entry(), stop(S.PENDING)), quote()), decide.Withdraw)


# --- the end --------------------------------------------------------------------------------------------------------


def test_when_the_stop_has_filled_the_target_of_mode_2_is_taken_back_then_the_deal_closes():
    view = deal(entry(), stop(S.FILLED), target(), mode=2)
    assert isinstance(act(view, quote(99)), decide.Cancel)
    view = deal(entry(), stop(S.FILLED), target(S.CANCELED), mode=2)
    assert act(view, quote(99)) == decide.CloseDeal(CloseReason.STOP_LOSS, Decimal(0))


def test_an_order_is_settled_when_its_fills_are_booked_to_the_last_digit():
    assert stop(S.FILLED, filled="0.9969", booked=Decimal("0.99690")).is_settled
    assert not stop(S.FILLED, filled="0.9969", booked=Decimal("0.996899999999999999")).is_settled


def test_a_deal_is_not_closed_before_every_fill_is_booked():
    late = stop(S.FILLED, booked=Decimal("0.5"), checked_at=ago(0.1), closed_at=ago(0.2))
    assert act(deal(entry(), late), quote(99)) == decide.Rest()
    assert act(deal(entry(), replace(late, checked_at=ago(1.9))), quote(99)) == decide.Rest()
    due = replace(late, checked_at=ago(2))
    assert act(deal(entry(), due), quote(99)) == decide.Ask(due)


def test_fills_that_stay_away_are_asked_for_ever_more_seldom():
    late = stop(S.FILLED, booked=Decimal("0.5"), checked_at=ago(4.9), closed_at=ago(40))
    assert act(deal(entry(), late), quote(99)) == decide.Rest()
    assert isinstance(act(deal(entry(), replace(late, checked_at=ago(5))), quote(99)), decide.Ask)


@pytest.mark.parametrize(
    ("orders", "reason"),
    [
        ([stop(S.FILLED)], CloseReason.STOP_LOSS),
        ([stop(S.FILLED, stop_price=Decimal("99.5"))], CloseReason.STOP_LOSS),  # moved by hand
        ([stop(S.CANCELED), target(S.FILLED)], CloseReason.TAKE_PROFIT),
        ([stop(S.CANCELED), leave(S.FILLED)], CloseReason.MANUAL),
        ([stop(S.CANCELED, filled="0.4"), leave(S.FILLED, quantity="0.6", closed_at=ago(1))], CloseReason.MANUAL),
    ],
)
def test_the_reason_of_the_end_is_what_filled_last(orders, reason):
    view = leaving(entry(), *orders)
    assert act(view, quote(99)) == decide.CloseDeal(reason, Decimal(0))


def test_a_deal_that_trailed_ended_by_its_trailing_stop():
    view = replace(leaving(entry(), stop(S.FILLED, stop_price=Decimal("99.5"))), trailing_percent=Decimal(1))
    assert act(view, quote(99)) == decide.CloseDeal(CloseReason.TRAILING_STOP, Decimal(0))


@pytest.mark.parametrize("by_hand", [{"exit_reason": CloseReason.MANUAL}, {"cancel_asked_at": ago(0)}])
def test_an_entry_that_a_person_wants_no_more_of_is_withdrawn_or_cut_off(by_hand):
    def view(status):
        cut = {"cancel_asked_at": by_hand["cancel_asked_at"]} if "cancel_asked_at" in by_hand else {}
        cut |= {"filled": Decimal(0), "booked": Decimal(0), "checked_at": NOW, "closed_at": None}
        row = replace(entry(), status=status, cancel_requested_at=NOW, **cut)
        return replace(deal(row, status=DealStatus.ENTERING), exit_reason=by_hand.get("exit_reason"))

    assert isinstance(act(view(S.PENDING), quote()), decide.Withdraw)
    assert isinstance(act(view(S.OPEN), quote()), decide.Cancel)
    assert act(view(S.CANCELING), quote()) == decide.Rest()


def test_what_was_read_before_a_person_asked_is_read_again_and_then_not():
    view = replace(deal(entry(), stop(checked_at=ago(0.5))), look_asked_at=ago(0.2))
    assert isinstance(act(view, quote()), decide.Ask)
    assert act(replace(view, look_asked_at=ago(0.5)), quote()) == decide.Rest()
    ahead = replace(view, look_asked_at=ago(-3600))  # by a clock that was wrong
    assert act(ahead, quote()) == decide.Rest()


def test_dust_that_is_left_is_recorded():
    view = leaving(entry(fee_base=Decimal("0.00305")), leave(S.FILLED, quantity="0.9969"))
    assert act(view, quote()) == decide.CloseDeal(CloseReason.MANUAL, Decimal("0.00005"))


@pytest.mark.parametrize("status", [DealStatus.CLOSED, DealStatus.CANCELED])
def test_nothing_is_done_about_a_deal_that_has_ended(status):
    assert act(replace(deal(), status=status), quote(), FLATTEN) == decide.Rest()


# --- the unknown comes first ----------------------------------------------------------------------------------------


@ALL_MODES
@pytest.mark.parametrize("lost", [stop(S.SUBMITTED), leave(S.SUBMITTED)], ids=["stop", "exit"])
def test_while_an_order_is_unknown_nothing_is_sent_cancelled_or_planned(mode, lost):
    waiting = replace(lost, checked_at=ago(0.2), submitted_at=ago(1))
    planned = target(S.PENDING)
    for view in (
        deal(entry(), waiting, planned, mode=mode),
        leaving(entry(), waiting, planned, mode=mode, exit_reason=CloseReason.MANUAL),
    ):
        for price in (None, quote(), quote(98), quote(103)):
            assert act(view, price, FLATTEN) == decide.Rest()


def test_look_ups_of_an_unknown_order_grow_rarer_up_to_every_five_seconds():
    lost = stop(S.SUBMITTED, submitted_at=ago(60), checked_at=ago(4.5))
    assert act(deal(entry(), lost), quote()) == decide.Rest()
    assert isinstance(act(deal(entry(), replace(lost, checked_at=ago(5))), quote()), decide.Recover)


@pytest.mark.parametrize(
    ("absent", "looked", "due"),
    [
        (2, 2, True),  # the look that showed nothing was the first that counts
        (1, 1, False),
        (6, 2, False),  # it was not decided then: not every two seconds for ever
        (30, 3, False),  # before it was sent again
    ],
)
def test_the_look_that_decides_about_a_stop_comes_as_soon_as_it_counts(absent, looked, due):
    lost = stop(S.SUBMITTED, submitted_at=ago(20), negative_at=ago(absent), checked_at=ago(looked))
    assert isinstance(act(deal(entry(), lost), quote()), decide.Recover) is due


def test_nothing_waits_for_the_look_that_decides_about_an_entry():
    lost = entry(status=S.SUBMITTED, submitted_at=ago(20), negative_at=ago(2), checked_at=ago(2))
    assert act(entering(lost)) == decide.Rest()


# --- a cancel is followed through -----------------------------------------------------------------------------------


@pytest.mark.parametrize("orders", [[stop(S.CANCELING)], [leave(S.CANCELING)]], ids=["stop", "exit"])
def test_a_cancel_that_has_not_worked_is_asked_for_again(orders):
    waiting = leaving(entry(), *orders)
    assert act(waiting, quote()) == decide.Rest()
    stuck = [replace(each, cancel_requested_at=ago(2.1)) for each in orders]
    action = act(leaving(entry(), *stuck), quote())
    assert isinstance(action, decide.Cancel)


def test_an_entry_whose_cancel_got_lost_is_cancelled_again():
    stuck = entry(status=S.CANCELING, cancel_requested_at=ago(2.1))
    assert isinstance(act(entering(stuck)), decide.Cancel)


def test_a_stop_that_is_being_cancelled_does_not_count_as_protection():
    assert deal(entry(), stop()).is_protected(Decimal(100))
    assert not deal(entry(), stop(S.CANCELING)).is_protected(Decimal(100))


def test_patience_is_wall_time_whatever_the_speed_of_the_market():
    # At 60 times the speed of the world, three seconds on the wall are three minutes of the market.
    assert Budgets.of(AnchoredClock(speed=60.0)).stop_patience == timedelta(minutes=3)
    assert Budgets.of(AnchoredClock()).settle_entry == timedelta(seconds=45)
