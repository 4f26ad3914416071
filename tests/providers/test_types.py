"""Rounding and vocabulary."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.types import (
    Balance,
    Capabilities,
    MarketRules,
    OrderStatus,
    ProtectionMode,
    Resolution,
    Side,
    round_down,
)

grids = st.integers(0, 10).map(lambda places: Decimal(1).scaleb(-places)) | st.sampled_from(
    [Decimal(10), Decimal("0.05")]
)
amounts = st.decimals(min_value=0, max_value=10**12, places=12)
sides = st.sampled_from(list(Side))


def rules(tick: Decimal = Decimal("0.05"), step: Decimal = Decimal("0.001"), quote: str = "TMN") -> MarketRules:
    zero = Decimal(0)
    return MarketRules("wallex", f"BTC{quote}", "BTC", quote, tick, step, step, zero, zero, zero, Decimal("0.02"))


@pytest.mark.parametrize(("side", "asked", "sent"), [(Side.BUY, "100.07", "100.05"), (Side.SELL, "100.07", "100.10")])
def test_a_limit_is_never_rounded_to_a_worse_price(side: Side, asked: str, sent: str) -> None:
    assert rules().round_limit(Decimal(asked), side) == Decimal(sent)


@pytest.mark.parametrize(("side", "asked", "sent"), [(Side.SELL, "100.07", "100.10"), (Side.BUY, "100.07", "100.05")])
def test_a_stop_is_rounded_toward_safety(side: Side, asked: str, sent: str) -> None:
    assert rules().round_stop(Decimal(asked), side) == Decimal(sent)


@given(amounts, grids)
def test_a_quantity_is_rounded_down_by_less_than_a_step(quantity: Decimal, step: Decimal) -> None:
    rounded = rules(step=step).round_quantity(quantity)
    assert rounded <= quantity < rounded + step
    assert rounded % step == 0


@given(amounts, grids, sides)
def test_a_limit_stays_within_a_tick_on_its_side(price: Decimal, tick: Decimal, side: Side) -> None:
    rounded = rules(tick=tick).round_limit(price, side)
    assert rounded % tick == 0
    assert 0 <= (price - rounded) * side.sign < tick


@given(amounts, grids, sides)
def test_a_stop_triggers_no_later_than_asked(price: Decimal, tick: Decimal, side: Side) -> None:
    """A stop that sells triggers on the way down, so higher is earlier; one that buys back, the other way round."""
    rounded = rules(tick=tick).round_stop(price, side)
    assert rounded % tick == 0
    assert 0 <= (price - rounded) * side.sign < tick


@given(amounts, grids)
def test_rounding_twice_changes_nothing(value: Decimal, grid: Decimal) -> None:
    once = round_down(value, grid)
    assert round_down(once, grid) == once


def test_the_same_pair_has_one_name_on_every_exchange() -> None:
    assert rules(quote="TMN").pair == rules(quote="IRT").pair == "BTC/IRT"
    assert rules(quote="USDT").pair == "BTC/USDT"


def test_available_is_what_is_not_locked_and_never_negative() -> None:
    assert Balance("BTC", Decimal("1.5"), Decimal("0.4")).available == Decimal("1.1")
    assert Balance("BTC", Decimal(1), Decimal(2)).available == 0


def test_resolutions_know_their_length() -> None:
    assert [r.duration for r in (Resolution.M5, Resolution.H4, Resolution.D1, Resolution.D3)] == [
        timedelta(minutes=5),
        timedelta(hours=4),
        timedelta(days=1),
        timedelta(days=3),
    ]


def test_final_statuses_are_those_nothing_can_follow_but_a_late_fill() -> None:
    final = {status for status in OrderStatus if status.is_final}
    assert final == {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.REJECTED, OrderStatus.EXPIRED}


@pytest.mark.parametrize(
    ("capabilities", "mode"),
    [
        (Capabilities(), ProtectionMode.NO_STOPS),
        (Capabilities(stop_market=True), ProtectionMode.LOCKING_STOPS),
        (Capabilities(stop_limit=True, stops_lock_balance=False), ProtectionMode.FREE_STOPS),
        (Capabilities(oco=True), ProtectionMode.NATIVE_OCO),
    ],
)
def test_protection_follows_what_the_account_can_do(capabilities: Capabilities, mode: ProtectionMode) -> None:
    assert capabilities.protection_mode is mode
