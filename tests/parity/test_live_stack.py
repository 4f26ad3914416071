"""Recorded candles through the whole live stack and through the engine: same signals, same deals, same reasons.

How equal, and why. The paper exchange of this test has one tick of spread and a deep book, and the recording reaches
every stop and target at the extreme of a candle's walk, a few ticks beyond it. So
  - an entry, an exit by signal and a stop that a gap jumped over are filled at the last trade and one tick: to the tick
    what the engine reckons with a slippage that rounds up to one tick (0.001 %);
  - a stop is filled at the trade that reached it, which lies at most 3 ticks beyond: within 5 ticks of the engine's;
  - a target is filled at the best bid of the trade that reached it: up to 8 ticks better than the engine's, which never
    gives more than the target's own price;
  - a trailing stop follows the best bid live and the candle's high in the engine: a tick of spread, and a tick of
    rounding; within 6 ticks.
Quantities follow from the balance before each entry, which moves by those ticks from deal to deal: within 0.1 %.

On candles of a real market the twelve trades of a candle lie further apart: there a stop or a target is filled within
the range of the candle that reached it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from algo.backtest import BacktestSettings, run
from algo.models import Deal, Signal
from algo.selectors.candles import candles_range
from algo.services.parity import parity_of
from algo.strategies import create_strategy
from providers.types import Resolution, Side
from tests.parity.recording import PARAMETERS, Recording, every_exit
from tests.parity.stage import Stage, staged

pytestmark = pytest.mark.django_db

WARM = timedelta(minutes=42)  # before the first decision that is played
EXITS = ["take_profit", "stop_loss", "trailing_stop", "signal", "stop_loss"]
TICKS = {"signal": 0, "stop_loss": 5, "take_profit": 8, "trailing_stop": 6}


@dataclass(frozen=True)
class Made:
    """One deal, by whoever made it."""

    entered: datetime  # open time of the candle
    left: datetime
    reason: str
    why: str
    entry: float
    exit: float
    quantity: float


def by_live(row: Deal) -> Made:
    assert row.signal is not None
    times = (row.opened_at, row.closed_at)
    opened, closed = (moment.replace(second=0, microsecond=0) for moment in times if moment)
    prices = [float(price) for price in (row.entry_price, row.exit_price, row.entry_quantity) if price is not None]
    return Made(opened, closed, row.close_reason, row.signal.reason, *prices)


def by_engine(row: dict[str, Any]) -> Made:
    moments = (datetime.fromisoformat(row[name]) for name in ("opened_at", "closed_at"))
    return Made(*moments, row["close_reason"], row["reason"], row["open_price"], row["close_price"], row["quantity"])


def settings(side: Side) -> BacktestSettings:
    return BacktestSettings(
        starting_quote=Decimal(10_000),
        starting_base=Decimal(10),
        slippage_percent=Decimal("0.001"),
        allowed_sides=frozenset({side}),
    )


@pytest.fixture
def play(tmp_path: Path) -> Any:
    def _play(recording: Recording, side: Side) -> Iterator[Stage]:
        path = recording.write(tmp_path / "candles.csv")
        return staged(tmp_path, path, parameters=PARAMETERS, allowed_sides=side)

    return _play


@pytest.mark.parametrize("side", [Side.BUY, pytest.param(Side.SELL, marks=pytest.mark.long)])
def test_the_engine_says_and_does_what_the_live_stack_did(play, side):
    with play(every_exit(side), side) as stage:
        start, end = stage.begins + WARM, stage.ends.replace(second=0)
        stage.play(start, end)
        said = list(Signal.objects.order_by("bar_open_at").values_list("bar_open_at", "side", "reason", "denial_code"))
        live = [by_live(row) for row in Deal.objects.order_by("bar_open_at").select_related("signal")]
        strategy = create_strategy("BreakoutStrategy", PARAMETERS)
        candles = candles_range(stage.config.data_market, Resolution.M1, stage.begins, end)
        result = run(candles, strategy, None, stage.config.market.rules, settings(side))
        parity, notes = parity_of(stage.config, start, end)

    # Same signals: each candle, side and reason.
    spoke = [i for i in range(len(candles)) if result.signals.side[i]]
    engine_said = [
        (
            datetime.fromtimestamp(int(candles.open_time[i]), UTC),
            "BUY" if result.signals.side[i] > 0 else "SELL",
            result.signals.reasons[result.signals.reason[i]],
        )
        for i in spoke
    ]
    assert [row[:3] for row in said] == engine_said
    # Same refusals, for the same reasons.
    denied = [row[3] for row in said if row[3]]
    assert {code: denied.count(code) for code in denied} == dict(result.refused)
    assert {"open_deal_exists", "cooldown", "side_not_allowed"} <= set(denied)
    # Same deals: candle and reason of entry and exit, and the fills as far as the head of this file says.
    engine = [by_engine(row) for row in result.rows()]
    assert [deal.reason for deal in live] == EXITS
    assert [(d.entered, d.left, d.reason, d.why) for d in live] == [
        (d.entered, d.left, d.reason, d.why) for d in engine
    ]
    for ours, theirs in zip(live, engine, strict=True):
        assert ours.entry == pytest.approx(theirs.entry, abs=1e-9)
        assert ours.exit == pytest.approx(theirs.exit, abs=TICKS[ours.reason] * 0.01 + 1e-9), ours.reason
        assert ours.quantity == pytest.approx(theirs.quantity, rel=1e-3)
    assert live[-1].exit == pytest.approx(engine[-1].exit, abs=1e-9)  # a gap is filled at the open by both
    # And so says the comparison of the day.
    assert [each.as_dict() for each in parity.differences] == []
    summary = parity.summary
    assert (summary["signals_equal"], summary["deals_equal"]) == (summary["signals_compared"], 5)
    assert (summary["signals_live"], summary["deals_live"], summary["deals_engine"]) == (len(said), 5, 5)
    minutes = (end - start) // timedelta(minutes=1)
    assert summary["candles"] == summary["decided"] == minutes - 1  # an entry on the very last candle has no next one
    assert notes == []


# The day on which Bitcoin fell by a third: the fall for those who sell, what came after the low for those who buy. Stop
# and target are far enough apart that no candle holds both.
FIRST = {Side.SELL: datetime(2021, 5, 19, 11, 0, tzinfo=UTC), Side.BUY: datetime(2021, 5, 19, 12, 45, tzinfo=UTC)}
REAL = {**PARAMETERS, "breakout_period": 8, "stop_loss_percent": "1.2", "take_profit_percent": "1.5"} | {
    "trailing_stop_percent": "0",
    "exit_on_opposite_signal": False,
    "trade_cooldown_minutes": 4,
}


@pytest.mark.long
@pytest.mark.parametrize("side", list(Side))
def test_a_real_market_is_traded_by_the_live_stack_as_the_engine_says(shared, tmp_path, side):
    a_tick = replace(settings(side), slippage_percent=Decimal("0.00001"))  # rounded up
    path = hours_of(
        shared / "data" / "ohlcv" / "binance_BTCUSDT_1m_20210420_20210520.csv.gz", tmp_path / "real.csv", FIRST[side]
    )
    with staged(tmp_path, path, parameters=REAL, allowed_sides=side) as stage:
        start, end = stage.begins + WARM, stage.ends.replace(second=0)
        stage.play(start, end)
        said = list(Signal.objects.order_by("bar_open_at").values_list("bar_open_at", "side", "reason", "denial_code"))
        live = [by_live(row) for row in Deal.objects.order_by("bar_open_at").select_related("signal") if row.closed_at]
        candles = candles_range(stage.config.data_market, Resolution.M1, stage.begins, end)
        result = run(candles, create_strategy("BreakoutStrategy", REAL), None, stage.config.market.rules, a_tick)
    spoke = [i for i in range(len(candles)) if result.signals.side[i]]
    assert [(row[0].timestamp(), Side(row[1]).sign, row[2]) for row in said] == [
        (candles.open_time[i], result.signals.side[i], result.signals.reasons[result.signals.reason[i]]) for i in spoke
    ]
    assert len(said) > 20
    engine = [by_engine(row) for row in result.rows() if row["close_reason"] != "end_of_data"]
    assert [(d.entered, d.left, d.reason, d.why) for d in live] == [
        (d.entered, d.left, d.reason, d.why) for d in engine
    ]
    assert {deal.reason for deal in live} == {"stop_loss", "take_profit"}
    for ours, theirs in zip(live, engine, strict=True):
        (at,) = (i for i in range(len(candles)) if candles.open_time[i] == ours.left.timestamp())
        assert ours.entry == pytest.approx(theirs.entry, abs=0.011)
        assert ours.exit == pytest.approx(theirs.exit, abs=candles.high[at] - candles.low[at]), ours.reason


def hours_of(recorded: Path, out: Path, first: datetime, count: int = 200) -> Path:
    """Part of a recording as a file of its own."""
    import gzip

    begin = int(first.timestamp())
    with gzip.open(recorded, "rt") as source:
        header, *rows = source.read().splitlines()
    out.write_text(
        "\n".join([header, *(row for row in rows if 0 <= int(row.split(",")[0]) - begin < count * 60)]) + "\n"
    )
    return out
