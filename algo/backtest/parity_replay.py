"""The engine's side of a comparison: what it says for the same candles, from the state that live was in.

Three questions, each a run of the kernel. `free`: what would a backtest of this period have shown? `entries`: given
what the strategy really said live, when would the engine have entered, and why not elsewhere? `partner`: this very
deal, with its own rules and the balance it really had. So one difference does not make every later deal differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any

import numpy as np

from algo.backtest.engine import BacktestResult, BacktestSettings, run, signals_of
from algo.backtest.kernel import ExitReason
from algo.backtest.parity_values import LiveDay, LiveDeal
from algo.strategies.interface import Candles, MarketData, SignalArrays, StrategyInterface
from providers.types import MarketRules, Side

PERCENT = Decimal(100)
SAME = 1e-9  # relative: what two ways of reckoning one indicator may differ by


@dataclass(frozen=True, slots=True)
class EngineDeal:
    """One deal of the engine. `close_index` and what belongs to it are None while it is open at the end."""

    open_index: int
    entry_price: float
    quantity: float
    close_index: int | None
    exit_price: float | None
    close_reason: str
    fees: float
    profit: float
    notional: float
    stop_price: float


@dataclass(frozen=True, slots=True)
class Said:
    """What a strategy said at one candle; `side` None is nothing."""

    side: Side | None = None
    reason: str = ""
    confidence: float = 0.0

    def __str__(self) -> str:
        return f"{self.side} {self.reason} {self.confidence:g}" if self.side else "nothing"


class Replay:
    """One strategy over the candles of a day, with its warm-up before and, where there is one, a candle after."""

    def __init__(
        self,
        day: LiveDay,
        candles: Candles,
        strategy: StrategyInterface,
        rules: MarketRules,
        settings: BacktestSettings,
    ) -> None:
        """ValueError where there are not enough candles to say anything about the day."""
        self.day, self.candles, self.strategy, self.rules = day, candles, strategy, rules
        self.settings = replace(settings, warmup_bars=0)  # live's signals are silenced here, not in the engine
        self.seconds = day.resolution.seconds
        if len(candles) < 3:
            raise ValueError(f"there are {len(candles)} candles; a comparison needs at least three")
        self._start, self._end = int(day.start.timestamp()), int(day.end.timestamp())
        self._index = {int(time): i for i, time in enumerate(candles.open_time)}
        self._signals = signals_of(strategy, candles)

    @property
    def compared(self) -> range:
        """Indexes of the candles at whose close something was to be decided in the period, and whose next candle is
        known to its end."""
        closes = self.candles.open_time + self.seconds
        first, stop = np.searchsorted(closes, [self._start, self._end])
        first = max(int(first), self.strategy.warmup_bars - 1)
        return range(first, min(int(stop), len(self.candles) - 2))

    @property
    def until(self) -> datetime:
        """What happened before this is compared: the end of the last candle that is not the very last."""
        return self.time(len(self.candles) - 1)

    def index(self, bar: int) -> int | None:
        return self._index.get(bar)

    def index_at(self, moment: datetime) -> int:
        """The candle a moment falls into, or the last one before it; -1 before the first."""
        return int(np.searchsorted(self.candles.open_time, moment.timestamp(), side="right")) - 1

    def time(self, index: int) -> datetime:
        return datetime.fromtimestamp(int(self.candles.open_time[index]), UTC)

    def said(self, index: int) -> Said:
        """What the strategy says by the candles alone."""
        sign = int(self._signals.side[index])
        if not sign:
            return Said()
        reason = self._signals.reasons[int(self._signals.reason[index])]
        return Said(Side.BUY if sign > 0 else Side.SELL, reason, float(self._signals.confidence[index]))

    def seen_otherwise(self, index: int, journal: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Indicators that live wrote down with another value than the stored candles give: name to (live, stored)."""
        window = self.candles.between(max(index + 1 - self.strategy.warmup_bars, 0), index + 1)
        now = self.strategy.explain(MarketData(window))["indicators"]
        pairs = ((name, journal[name], now.get(name)) for name in journal if name != "order_book_ratio")
        numbers = ((name, a, b) for name, a, b in pairs if _is_number(a) and _is_number(b))
        return {name: (float(a), float(b)) for name, a, b in numbers if abs(a - b) > SAME * max(abs(a), abs(b))}

    # --- the three questions -----------------------------------------------------------------------------------------

    @cached_property
    def free(self) -> list[EngineDeal]:
        """A backtest of the period by the strategy's own signals; what live had done before it still counts."""
        sides = np.zeros(len(self.candles), dtype=np.int8)
        inside = slice(self.compared.start, max(self.compared.stop, self.compared.start))
        sides[inside] = self._signals.side[inside]
        confidence = np.where(sides != 0, self._signals.confidence, 0.0)
        for deal in self._before():
            self._put(sides, confidence, deal)
        deals = self._deals(self._run(sides, confidence, self.settings))
        return [deal for deal in deals if deal.open_index > self.compared.start]

    def entries(self) -> dict[int, str]:
        """For every signal of live in the period: "" where the engine enters, else the code of its refusal. An entry of
        the engine that live did not make is taken back before the next signal is asked about."""
        entered = {self.index(deal.bar) for deal in self.day.deals if deal.is_filled}
        sides, confidence = self._live_signals()
        chosen, weights = np.zeros_like(sides), np.zeros_like(confidence)
        answers: dict[int, str] = {}
        before: Mapping[str, int] = {}
        for i in np.flatnonzero(sides):
            chosen[i], weights[i] = sides[i], confidence[i]
            result = self._run(chosen, weights, self.settings)
            if (result.deals["open_index"] == i + 1).any():
                answers[int(i)] = ""
                if int(i) not in entered:
                    chosen[i], weights[i] = 0, 0.0
                continue
            codes = [code for code, count in result.refused.items() if count > before.get(code, 0)]
            answers[int(i)], before = codes[0] if codes else "", result.refused
        return {i: answer for i, answer in answers.items() if i in self.compared}

    def partner(self, deal: LiveDeal) -> EngineDeal | str:
        """The same deal by the engine: from the same signal, by the deal's own rules, with the balance it had. The code
        of the refusal where the engine does not make it."""
        index = self.index(deal.bar)
        if index is None or deal.parameters is None:
            return "stale_data"
        sides, confidence = self._live_signals()
        sides[:index], confidence[:index] = 0, 0.0
        self._put(sides, confidence, deal)
        result = self._run(sides, confidence, self._funded(deal), deal)
        made = [each for each in self._deals(result) if each.open_index == index + 1]
        return made[0] if made else next(iter(result.refused), "stale_data")

    # --- runs --------------------------------------------------------------------------------------------------------

    def _run(
        self, sides: Any, confidence: Any, settings: BacktestSettings, deal: LiveDeal | None = None
    ) -> BacktestResult:
        arrays = SignalArrays(sides.copy(), confidence.copy(), np.zeros(len(sides), dtype=np.int8))
        parameters = deal.parameters if deal else self.strategy.parameters
        return run(self.candles, arrays, parameters, self.rules, settings)

    def _live_signals(self) -> tuple[Any, Any]:
        """What live said: every signal of the period, and the entries before it that may still count."""
        sides, confidence = np.zeros(len(self.candles), dtype=np.int8), np.zeros(len(self.candles))
        for row in self.day.decisions:
            index = self.index(row.bar)
            if row.side is not None and index is not None and index in self.compared:
                sides[index], confidence[index] = row.side.sign, row.confidence
        for deal in self.day.deals:
            self._put(sides, confidence, deal)
        return sides, confidence

    def _put(self, sides: Any, confidence: Any, deal: LiveDeal) -> None:
        if (index := self.index(deal.bar)) is not None:
            sides[index], confidence[index] = deal.side.sign, deal.confidence

    def _before(self) -> Iterable[LiveDeal]:
        return (deal for deal in self.day.deals if deal.bar + self.seconds < self._start)

    def _funded(self, deal: LiveDeal) -> BacktestSettings:
        """With what the account had; where that was not recorded, with what makes the planned size come out."""
        had = deal.available or Decimal(0)
        if not had and deal.parameters is not None:
            asked = min(Decimal(str(deal.confidence)) * deal.parameters.max_position_size_percent, self._largest(deal))
            spent = deal.planned_quantity * (deal.planned_price if deal.side is Side.BUY else 1)
            had = spent / asked * PERCENT
        # A SELL is sized by its coin; that the quote pays for its stop was live's to see, and is not on record.
        for_stop = deal.planned_quantity * deal.planned_price
        quote, base = (had, Decimal(0)) if deal.side is Side.BUY else (for_stop, had)
        return replace(self.settings, starting_quote=quote, starting_base=base, allowed_sides=frozenset(Side))

    def _largest(self, deal: LiveDeal) -> Decimal:
        own = deal.parameters.max_position_size_percent if deal.parameters else PERCENT
        return min(own, self.settings.max_position_size_percent)

    def _deals(self, result: BacktestResult) -> list[EngineDeal]:
        last = len(self.candles) - 1
        return [_engine_deal({name: float(column[i]) for name, column in result.deals.items()}, last)
                for i in range(result.deal_count)]  # fmt: skip


def _engine_deal(row: Mapping[str, float], last: int) -> EngineDeal:
    is_open = int(row["close_index"]) >= last
    return EngineDeal(
        open_index=int(row["open_index"]),
        entry_price=row["open_price"],
        quantity=row["quantity"],
        close_index=None if is_open else int(row["close_index"]),
        exit_price=None if is_open else row["close_price"],
        close_reason="" if is_open else ExitReason(int(row["exit_reason"])).name.lower(),
        fees=row["fees"],
        profit=0.0 if is_open else row["profit"],
        notional=row["notional"],
        stop_price=row["stop_price"],
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value  # noqa: PLR0124 - NaN
