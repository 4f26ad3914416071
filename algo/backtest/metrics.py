"""Figures of a backtest. None where a figure has no meaning; never infinity.

Ratios come from the returns of trading days (equity at the end of each against the one before), with a risk-free rate
of 0 and 365 days a year: these markets do not close. CAGR uses the time between the first and the last candle counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from algo.backtest.engine import BacktestResult, starting_equity, trading_days
from algo.backtest.kernel import ExitReason
from algo.indicators import Series

DAYS_A_YEAR = 365.0
SECONDS_A_YEAR = DAYS_A_YEAR * 86_400
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

Tally = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall of equity from a peak, as a positive percent, and where it began and ended (candle indexes)."""

    percent: float
    peak_index: int
    trough_index: int
    recovered_index: int | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """Amounts in quote, `*_percent` in percent, holds in seconds.

    `by_hour` ("00" to "23") and `by_weekday` sort the deals by their entry, `monthly_percent` ("2026-11") gives the
    growth of equity in each month, all in the time zone of the trading day.
    """

    starting_equity: float
    final_equity: float
    net_profit: float
    net_profit_percent: float
    buy_and_hold_percent: float | None
    cagr_percent: float | None
    sharpe: float | None
    sortino: float | None
    calmar: float | None
    max_drawdown_percent: float
    max_drawdown_peak_at: str
    max_drawdown_trough_at: str
    max_drawdown_recovered_at: str | None
    deals: int
    wins: int
    losses: int
    win_rate_percent: float | None
    profit_factor: float | None
    expectancy: float | None
    best_deal: float | None
    worst_deal: float | None
    average_win: float | None
    average_loss: float | None
    exposure_percent: float
    fees_paid: float
    average_hold_seconds: float | None
    longest_hold_seconds: float | None
    longest_losing_streak: int
    by_exit_reason: Tally
    by_hour: Tally
    by_weekday: Tally
    monthly_percent: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def metrics_of(result: BacktestResult) -> Metrics:
    """All figures, counted from the first candle after warm-up."""
    first, settings = result.first, result.settings
    equity = result.equity[first:]
    times = result.candles.open_time[first:]
    # What the account was worth as the counting began: nothing is traded before.
    start = float(result.equity[max(first - 1, 0)] if first else starting_equity(result.candles, settings))
    end = float(equity[-1])
    profit = result.deals["profit"]
    fall = max_drawdown(np.concatenate(([start], equity)))
    growth = cagr(start, end, float(times[-1] - times[0] + settings.resolution.seconds))
    days = trading_days(times, settings.time_zone)
    daily = daily_returns(start, equity, days)
    wins, losses = profit[profit > 0], profit[profit < 0]
    holds = _hold_seconds(result)
    return Metrics(
        starting_equity=start,
        final_equity=end,
        net_profit=end - start,
        net_profit_percent=(end / start - 1) * 100,
        buy_and_hold_percent=buy_and_hold(result),
        cagr_percent=growth,
        sharpe=sharpe(daily),
        sortino=sortino(daily),
        calmar=growth / fall.percent if growth is not None and fall.percent > 0 else None,
        max_drawdown_percent=fall.percent,
        max_drawdown_peak_at=_time(result, fall.peak_index),
        max_drawdown_trough_at=_time(result, fall.trough_index),
        max_drawdown_recovered_at=None if fall.recovered_index is None else _time(result, fall.recovered_index),
        deals=int(profit.size),
        wins=int(wins.size),
        losses=int(losses.size),
        win_rate_percent=100 * wins.size / profit.size if profit.size else None,
        profit_factor=profit_factor(profit),
        expectancy=_mean(profit),
        best_deal=float(profit.max()) if profit.size else None,
        worst_deal=float(profit.min()) if profit.size else None,
        average_win=_mean(wins),
        average_loss=_mean(losses),
        exposure_percent=exposure(result),
        fees_paid=float(result.deals["fees"].sum()),
        average_hold_seconds=_mean(holds),
        longest_hold_seconds=float(holds.max()) if holds.size else None,
        longest_losing_streak=longest_losing_streak(profit),
        by_exit_reason=by_exit_reason(result),
        by_hour=by_hour(result),
        by_weekday=by_weekday(result),
        monthly_percent=monthly_percent(start, equity, days),
    )


def cagr(start: float, end: float, seconds: float) -> float | None:
    """Growth per year in percent: (end/start)^(year/elapsed) - 1. None where it cannot be told or is beyond a float."""
    if start <= 0 or end <= 0 or seconds <= 0:
        return None
    exponent = math.log(end / start) * SECONDS_A_YEAR / seconds
    return math.expm1(exponent) * 100 if exponent < 700 else None


def daily_returns(start: float, equity: Series, days: np.ndarray) -> Series:
    """Return of each trading day: its last equity against the last of the day before, the first against `start`."""
    last_of_day = np.append(np.flatnonzero(np.diff(days)), equity.size - 1)
    closes = np.concatenate(([start], equity[last_of_day]))
    return closes[1:] / closes[:-1] - 1


def sharpe(returns: Series) -> float | None:
    """Mean over standard deviation (n - 1) of daily returns, times sqrt(365)."""
    if returns.size < 2:
        return None
    return _ratio(float(returns.mean()), float(returns.std(ddof=1)))


def sortino(returns: Series) -> float | None:
    """Mean over downside deviation, sqrt(mean(min(r, 0)^2)), of daily returns, times sqrt(365)."""
    if returns.size < 2:
        return None
    return _ratio(float(returns.mean()), math.sqrt(float(np.mean(np.minimum(returns, 0) ** 2))))


def max_drawdown(equity: Series) -> Drawdown:
    """The deepest fall below the highest equity so far; the earliest where several are as deep."""
    peaks = np.maximum.accumulate(equity)
    falls = 1 - equity / peaks
    trough = int(np.argmax(falls))
    peak = int(np.argmax(equity[: trough + 1] >= peaks[trough]))
    after = np.flatnonzero(equity[trough:] >= peaks[trough])
    return Drawdown(float(falls[trough]) * 100, peak, trough, int(after[0]) + trough if after.size else None)


def profit_factor(profit: Series) -> float | None:
    """Sum of wins over sum of losses; None without a loss."""
    lost = -float(profit[profit < 0].sum())
    return float(profit[profit > 0].sum()) / lost if lost > 0 else None


def longest_losing_streak(profit: Series) -> int:
    """Most losing deals in a row; a deal that ends at zero breaks a streak."""
    longest = current = 0
    for value in profit:
        current = current + 1 if value < 0 else 0
        longest = max(longest, current)
    return longest


def buy_and_hold(result: BacktestResult) -> float | None:
    """Percent gained by buying at the first open after warm-up, paying the taker fee once, and holding to the end."""
    opens, closes = result.candles.open[result.first :], result.candles.close[result.first :]
    known_open, known_close = opens[np.isfinite(opens)], closes[np.isfinite(closes)]
    if not known_open.size or not known_close.size:
        return None
    rate = result.settings.taker_fee_rate
    fee = float(result.rules.taker_fee_rate if rate is None else rate)
    return float((known_close[-1] / known_open[0] * (1 - fee) - 1) * 100)


def exposure(result: BacktestResult) -> float:
    """Percent of candles during which a deal was open."""
    held = result.deals["close_index"] - result.deals["open_index"] + 1
    return float(100 * held.sum() / (len(result.candles) - result.first))


def by_exit_reason(result: BacktestResult) -> dict[str, dict[str, float]]:
    """Count, profit and share of wins for each way deals closed."""
    reasons = result.deals["exit_reason"]
    return _tally(result, {reason.name.lower(): reasons == reason for reason in ExitReason})


def by_hour(result: BacktestResult) -> dict[str, dict[str, float]]:
    """The same for each hour of the day in which a deal was entered."""
    hours = np.array([moment.hour for moment in _entered(result)])
    return _tally(result, {f"{hour:02}": hours == hour for hour in range(24)})


def by_weekday(result: BacktestResult) -> dict[str, dict[str, float]]:
    """The same for each day of the week."""
    weekdays = np.array([moment.weekday() for moment in _entered(result)])
    return _tally(result, {name: weekdays == number for number, name in enumerate(WEEKDAYS)})


def monthly_percent(start: float, equity: Series, days: NDArray[np.int64]) -> dict[str, float]:
    """Growth of equity in each month, in percent: its last equity against the last of the month before."""
    months = days.astype("datetime64[D]").astype("datetime64[M]")
    growth = daily_returns(start, equity, months.astype(np.int64))
    return {str(month): float(100 * value) for month, value in zip(np.unique(months), growth, strict=True)}


def _tally(result: BacktestResult, groups: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Count, profit and share of wins of each group of deals that is not empty."""
    table: dict[str, dict[str, float]] = {}
    for name, chosen in groups.items():
        profit = result.deals["profit"][chosen] if result.deal_count else np.empty(0)
        if profit.size:
            table[name] = {
                "deals": int(profit.size),
                "profit": float(profit.sum()),
                "win_rate_percent": 100 * float((profit > 0).mean()),
            }
    return table


def _entered(result: BacktestResult) -> list[datetime]:
    """When each deal was entered, on the clock of the trading day."""
    zone, times = ZoneInfo(result.settings.time_zone), result.candles.open_time
    return [datetime.fromtimestamp(int(times[int(index)]), zone) for index in result.deals["open_index"]]


def _hold_seconds(result: BacktestResult) -> Series:
    times = result.candles.open_time
    opened, closed = (result.deals[name].astype(np.int64) for name in ("open_index", "close_index"))
    return (times[closed] - times[opened]).astype(np.float64)


def _time(result: BacktestResult, index: int) -> str:
    """Time of a point of the drawdown series, whose first point stands before the first candle counted."""
    return result.time(min(max(result.first + index - 1, 0), len(result.candles) - 1))


def _mean(values: Series) -> float | None:
    return float(values.mean()) if values.size else None


def _ratio(mean: float, deviation: float) -> float | None:
    return mean / deviation * math.sqrt(DAYS_A_YEAR) if deviation > 1e-12 else None
