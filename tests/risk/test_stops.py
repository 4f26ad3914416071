"""Stops and targets: on the tick, on the right side, and never moved back."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.risk import initial_stop, stop_crossed, target_price, target_reached, trailing_stop
from providers.types import Side
from tests.risk.worlds import D, rules_of

SIDES = st.sampled_from(list(Side))
PRICES = st.decimals(Decimal("10"), Decimal("1000000"), places=2)
PERCENTS = st.decimals(Decimal("0.01"), Decimal("50"), places=2)
TICKS = st.sampled_from([D("0.01"), D("0.05"), D(1)])


@pytest.mark.parametrize(
    ("side", "stop", "target"),
    [(Side.BUY, "99.75", "100.65"), (Side.SELL, "100.30", "99.40")],
)
def test_stops_round_toward_safety_and_targets_never_worse(side, stop, target):
    rules = rules_of(tick_size=D("0.05"))
    # entry 100.02: BUY stop 99.71994 up, target 100.62012 up; SELL stop 100.32006 down, target 99.41988 down
    entry = D("100.02")
    assert initial_stop(entry, side, D("0.3"), rules) == D(stop)
    assert target_price(entry, side, D("0.6"), rules) == D(target)


@given(SIDES, PRICES, PERCENTS, TICKS)
def test_the_stop_is_on_the_tick_and_never_riskier_than_asked(side, entry, percent, tick):
    stop = initial_stop(entry, side, percent, rules_of(tick_size=tick))
    asked = entry * (1 - side.sign * percent / 100)
    assert stop % tick == 0
    assert 0 <= (stop - asked) * side.sign < tick


@given(SIDES, PRICES, PERCENTS, TICKS)
def test_the_target_is_on_the_tick_and_never_nearer_than_asked(side, entry, percent, tick):
    target = target_price(entry, side, percent, rules_of(tick_size=tick))
    asked = entry * (1 + side.sign * percent / 100)
    assert target % tick == 0
    assert 0 <= (target - asked) * side.sign < tick


@pytest.mark.parametrize(
    ("side", "best", "current", "expected"),
    [
        (Side.BUY, "110", "98", "108.90"),
        (Side.BUY, "100", "99.00", None),  # where it stands
        (Side.BUY, "100.09", "99.00", None),  # 99.0891: less than a step of 0.099
        (Side.BUY, "100.10", "99.00", "99.10"),  # 99.099: rounded up 99.10, a step of 0.10
        (Side.BUY, "90", "99.00", None),
        (Side.SELL, "90", "102", "90.90"),
        (Side.SELL, "100", "100.50", None),  # 101 would be a step back
        (Side.SELL, "99.90", "101.00", "100.89"),  # 100.899 down, a step of 0.11
    ],
)
def test_trailing_by_hand(side, best, current, expected):
    stop = trailing_stop(side, D(best), D(current), D(1), D("0.1"), rules_of())
    assert stop == (expected and D(expected))


def test_trailing_off_moves_nothing():
    assert trailing_stop(Side.BUY, D(1000), D(1), D(0), D("0.1"), rules_of()) is None


@given(SIDES, PRICES, st.lists(PRICES, max_size=20), PERCENTS, st.decimals(Decimal(0), Decimal(5), places=2), TICKS)
def test_a_trailing_stop_only_moves_toward_profit_and_by_whole_steps(side, first, path, percent, step, tick):
    rules = rules_of(tick_size=tick)
    stop = initial_stop(first, side, percent, rules)
    for best in path:
        moved = trailing_stop(side, best, stop, percent, step, rules)
        if moved is not None:
            assert (moved - stop) * side.sign >= stop * step / 100
            assert moved != stop
            assert moved == initial_stop(best, side, percent, rules)
            stop = moved


@pytest.mark.parametrize(
    ("side", "last", "stopped", "reached"),
    [
        (Side.BUY, "99", True, False),
        (Side.BUY, "99.01", False, False),
        (Side.BUY, "101", False, True),
        (Side.SELL, "101", False, False),
        (Side.SELL, "99", False, True),
    ],
)
def test_a_touch_counts(side, last, stopped, reached):
    stop, target = (D(99), D(101)) if side is Side.BUY else (D(102), D(99))
    assert stop_crossed(side, stop, D(last)) is stopped
    assert target_reached(side, target, D(last)) is reached


def test_the_stop_of_a_sell_is_crossed_from_below():
    assert stop_crossed(Side.SELL, D(101), D(101))
    assert not stop_crossed(Side.SELL, D(101), D("100.99"))
