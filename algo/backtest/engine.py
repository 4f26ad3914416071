"""A backtest: the signals a strategy would have given live, and what the kernel says became of the money."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time
from decimal import Decimal
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from algo.backtest.books import BookSeries
from algo.backtest.equity import equity_of, marks_of
from algo.backtest.kernel import (
    BALANCE_COLUMNS,
    DEAL_COLUMNS,
    NO_BOOKS,
    Account,
    Books,
    Cues,
    ExitReason,
    Market,
    Orders,
    Prices,
    Refusal,
    Rules,
    cues_of,
    prepared,
    rules_table,
    simulate,
)
from algo.indicators import Series
from algo.risk.costs import target_pays_fees
from algo.risk.sizing import MINIMUM_MARGIN
from algo.strategies.interface import Candles, SignalArrays, StrategyInterface, signals_by_execute
from algo.strategies.schemas import StrategySchema
from providers.types import MarketRules, Resolution, Side

_EPOCH = date(1970, 1, 1)


class FillModel(StrEnum):
    """How a candle is read: pessimistic, or as freqtrade reads it (oracle for an outside judge)."""

    CONSERVATIVE = "conservative"
    FREQTRADE = "freqtrade"


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestSettings:
    """All that is no strategy parameter and no market rule. Balances in quote and base; percents in percent."""

    resolution: Resolution = Resolution.M1
    fill_model: FillModel = FillModel.CONSERVATIVE
    starting_quote: Decimal = Decimal(10_000)
    starting_base: Decimal = Decimal(0)
    slippage_percent: Decimal = Decimal("0.05")  # against every market order; freqtrade's model knows none
    max_position_size_percent: Decimal = Decimal("50.0")  # the setting for everybody
    allowed_sides: frozenset[Side] = frozenset(Side)
    time_zone: str = "Asia/Tehran"  # of the trading day
    taker_fee_rate: Decimal | None = None  # None: the market's
    maker_fee_rate: Decimal | None = None
    target_is_maker: bool = False  # True where the target rests in the book from the entry on (OCO, free stops)
    warmup_bars: int | None = None  # None: the strategy's; 0 for bare signal arrays


@dataclass(frozen=True, eq=False)
class Played:
    """What the kernel wrote: rows of DEAL_COLUMNS and BALANCE_COLUMNS for each deal, counts by Refusal.

    What follows from them is computed when somebody asks for it, and once.
    """

    deals: NDArray[np.float64]
    balances: NDArray[np.float64]
    refused: NDArray[np.int64]
    account: Account  # what it began with
    market: Market

    @cached_property
    def columns(self) -> Mapping[str, Series]:
        """The deals, an array for each of DEAL_COLUMNS."""
        return dict(zip(DEAL_COLUMNS, self.deals.T.copy(), strict=True))

    @cached_property
    def equity(self) -> Series:
        """What the account was worth in quote after each candle."""
        marks = marks_of(self.market.prices.close, self.market.day_marks[0])
        return equity_of(self.deals, self.balances, self.account.quote, self.account.base, marks)


@dataclass(frozen=True, slots=True, eq=False)
class BacktestResult:
    """What happened. `deals` has one array per column of DEAL_COLUMNS; `equity` is in quote, after each candle."""

    candles: Candles
    parameters: StrategySchema
    rules: MarketRules
    settings: BacktestSettings
    signals: SignalArrays
    played: Played
    refused: Mapping[str, int]  # signals that made no deal, by risk code
    first: int  # index of the first candle after warm-up: metrics begin here
    strategy_name: str = ""
    warnings: tuple[str, ...] = field(default=())

    @property
    def deals(self) -> Mapping[str, Series]:
        return self.played.columns

    @property
    def equity(self) -> Series:
        return self.played.equity

    @property
    def deal_count(self) -> int:
        return len(self.played.deals)

    def rows(self) -> list[dict[str, Any]]:
        """The deals for people and files: times, words and plain numbers, oldest first."""
        return [self._row(i) for i in range(self.deal_count)]

    def _row(self, i: int) -> dict[str, Any]:
        d = {name: float(column[i]) for name, column in self.deals.items()}
        opened, closed = int(d["open_index"]), int(d["close_index"])
        return {
            "side": str(Side.BUY if d["side"] > 0 else Side.SELL),
            "reason": self.signals.reasons[int(self.signals.reason[opened - 1])],
            "opened_at": self.time(opened),
            "closed_at": self.time(closed),
            "close_reason": ExitReason(int(d["exit_reason"])).name.lower(),
            "open_index": opened,
            "close_index": closed,
            **{name: d[name] for name in DEAL_COLUMNS[4:]},
        }

    def time(self, index: int) -> str:
        """Open time of a candle, ISO 8601 UTC."""
        return f"{np.datetime64(int(self.candles.open_time[index]), 's')}+00:00"


def run(
    candles: Candles,
    source: StrategyInterface | SignalArrays,
    parameters: StrategySchema | None,
    rules: MarketRules,
    settings: BacktestSettings | None = None,
    books: BookSeries | None = None,
) -> BacktestResult:
    """Play a strategy, or signals made before, over closed candles.

    `parameters` None takes the strategy's own. Where `books` were recorded, market orders pay what their levels ask
    (conservative model only) and the strategy sees them, as it would live. ValueError for fewer than two candles, for
    candles without a price, for an account without money, for signals of another length, and for bare signals without
    parameters.
    """
    settings = settings or BacktestSettings()
    parameters = _parameters(source, parameters)
    check_candles(candles, settings)
    warmup = _warmup(source, settings)
    signals = silenced(signals_of(source, candles, books, settings.resolution), warmup)
    walks = books is not None and settings.fill_model is FillModel.CONSERVATIVE
    market = market_of(
        candles, settings.time_zone, books.for_kernel(candles.open_time) if books and walks else NO_BOOKS
    )
    played = play(market, orders_of(signals), account_of(settings), kernel_rules(parameters, rules, settings))
    return BacktestResult(
        candles=candles,
        parameters=parameters,
        rules=rules,
        settings=settings,
        signals=signals,
        played=played,
        refused={code.name.lower(): int(played.refused[code]) for code in Refusal if code and played.refused[code]},
        first=min(warmup, len(candles) - 1),
        strategy_name=type(source).__name__ if isinstance(source, StrategyInterface) else "",
        warnings=_warnings(candles, parameters, rules, warmup, books),
    )


def run_both(
    candles: Candles,
    source: StrategyInterface | SignalArrays,
    parameters: StrategySchema | None,
    rules: MarketRules,
    settings: BacktestSettings | None = None,
    books: BookSeries | None = None,
) -> dict[FillModel, BacktestResult]:
    """The same signals under both fill models; the settings' own model comes first."""
    settings = settings or BacktestSettings()
    if isinstance(source, StrategyInterface):
        parameters = _parameters(source, parameters)
    order = sorted(FillModel, key=lambda model: model is not settings.fill_model)
    first = run(candles, source, parameters, rules, replace(settings, fill_model=order[0]), books)
    fixed = replace(settings, fill_model=order[1], warmup_bars=_warmup(source, settings))
    second = run(candles, first.signals, parameters, rules, fixed, books)
    return {
        order[0]: first,
        order[1]: replace(second, strategy_name=first.strategy_name, warnings=first.warnings),
    }


def signals_of(
    source: StrategyInterface | SignalArrays,
    candles: Candles,
    books: BookSeries | None = None,
    resolution: Resolution = Resolution.M1,
) -> SignalArrays:
    """The signals of a strategy over all candles: its arrays, or `execute` asked at each candle.

    Where a book was known as a candle closed, `execute` is asked with it.
    """
    signals = source.signals(candles) if isinstance(source, StrategyInterface) else source
    if not (len(signals) == signals.confidence.size == signals.reason.size == len(candles)):
        raise ValueError(f"there are {len(signals)} signals for {len(candles)} candles; each candle needs one")
    if books is None or not isinstance(source, StrategyInterface):
        return signals
    known = books.known_at(candles.open_time + resolution.seconds)
    return signals_by_execute(
        source, candles, {int(i): books.books[known[i]] for i in np.flatnonzero(known >= 0)}, signals
    )


def account_of(settings: BacktestSettings) -> Account:
    """What a run begins with."""
    return Account(float(settings.starting_quote), float(settings.starting_base))


def starting_equity(candles: Candles, settings: BacktestSettings) -> float:
    """What the account is worth at the first open that is known."""
    known = candles.open[np.isfinite(candles.open)]
    return float(settings.starting_quote) + float(settings.starting_base) * (float(known[0]) if known.size else 0.0)


def market_of(candles: Candles, time_zone: str, books: Books = NO_BOOKS) -> Market:
    """The candles as the kernel reads them; made once for all runs over them."""
    prices = Prices(candles.open, candles.high, candles.low, candles.close)
    return prepared(candles.open_time, day_starts(candles.open_time, time_zone), prices, books)


def play(market: Market, orders: Orders, account: Account, rules: Rules) -> Played:
    """One run of the kernel."""
    row, refused = rules_table([rules])[0], nobody_refused()
    cues = cues_of(market, orders, row, refused)
    deals, balances = room_for(cues)
    count = simulate(cues, market, orders, account, row, (deals, balances, refused))
    return Played(deals[:count], balances[:count], refused, account, market)


def room_for(cues: Cues) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the kernel writes deals and balances: every signal may become a deal."""
    deals, balances = (np.empty((cues.candle.size, len(names))) for names in (DEAL_COLUMNS, BALANCE_COLUMNS))
    return deals, balances


def nobody_refused() -> NDArray[np.int64]:
    """Counts by Refusal, before the first."""
    return np.zeros(len(Refusal), dtype=np.int64)


def day_starts(open_time: NDArray[np.int64], time_zone: str) -> NDArray[np.int64]:
    """Index of the first candle of each trading day that has one, in that zone. Times ascend."""
    zone, first, last = ZoneInfo(time_zone), int(open_time[0]), int(open_time[-1])
    years = range(datetime.fromtimestamp(first, zone).year, datetime.fromtimestamp(last, zone).year + 1)
    midnights = np.concatenate([_midnights(time_zone, year) for year in years])
    between = midnights[(first < midnights) & (midnights <= last)]
    return np.unique(np.concatenate(([0], _first_from(open_time, between)))).astype(np.int64)


def _first_from(open_time: NDArray[np.int64], moments: NDArray[np.int64]) -> NDArray[np.int64]:
    """Index of the first candle at or after each moment, all of them after the first candle and not after the last.

    Candles without gaps tell it without a search, which would have to wait for memory at every step.
    """
    first, steps = int(open_time[0]), open_time.size - 1
    if moments.size:
        found = -((first - moments) * steps // (int(open_time[-1]) - first))  # rounded up
        if ((open_time[found - 1] < moments) & (moments <= open_time[found])).all():
            return found
    return np.searchsorted(open_time, moments)


@lru_cache(maxsize=256)
def _midnights(time_zone: str, year: int) -> NDArray[np.int64]:
    """When each day of a calendar year begins in that zone, in unix seconds: the same whatever the candles."""
    zone, first, next_first = ZoneInfo(time_zone), date(year, 1, 1).toordinal(), date(year + 1, 1, 1).toordinal()
    days = (date.fromordinal(number) for number in range(first, next_first))
    return np.array([int(datetime.combine(day, time(), zone).timestamp()) for day in days], dtype=np.int64)


def trading_days(open_time: NDArray[np.int64], time_zone: str) -> NDArray[np.int64]:
    """The trading day of each time, as days since 1970 in that zone. Times ascend."""
    zone, starts = ZoneInfo(time_zone), day_starts(open_time, time_zone)
    numbers = [(datetime.fromtimestamp(int(open_time[start]), zone).date() - _EPOCH).days for start in starts]
    return np.repeat(np.array(numbers, dtype=np.int64), np.diff(np.append(starts, open_time.size)))


def kernel_rules(parameters: StrategySchema, rules: MarketRules, settings: BacktestSettings) -> Rules:
    """The schema, the market and the settings as plain numbers."""
    taker = float(rules.taker_fee_rate if settings.taker_fee_rate is None else settings.taker_fee_rate)
    maker = float(rules.maker_fee_rate if settings.maker_fee_rate is None else settings.maker_fee_rate)
    seconds, freqtrade = settings.resolution.seconds, settings.fill_model is FillModel.FREQTRADE
    return Rules(
        **{name: number(getattr(parameters, source)) for name, (source, number) in _OF_PARAMETERS.items()},
        max_fraction=_fraction(settings.max_position_size_percent),
        max_age_seconds=parameters.max_data_age_bars * seconds,
        tick_size=float(rules.tick_size),
        step_size=float(rules.step_size),
        min_quantity=float(rules.min_quantity),
        min_notional=float(rules.min_notional),
        minimum_margin=float(MINIMUM_MARGIN),
        entry_fee=taker,
        exit_fee=taker,
        target_fee=maker if settings.target_is_maker else taker,
        slippage=0.0 if freqtrade else _fraction(settings.slippage_percent),
        market_band=float(rules.market_band),
        price_band=math.inf if rules.price_band is None else float(rules.price_band),
        candle_seconds=seconds,
        allow_buy=Side.BUY in settings.allowed_sides,
        allow_sell=Side.SELL in settings.allowed_sides,
        freqtrade=freqtrade,
        gap_at_open=not freqtrade,
    )


def kernel_table(sets: Sequence[StrategySchema], rules: MarketRules, settings: BacktestSettings) -> NDArray[Any]:
    """`kernel_rules` of each set, a row each. What all share is converted once, and of the rest each value once."""
    if not sets:
        return rules_table([])
    table = rules_table([kernel_rules(sets[0], rules, settings)]).repeat(len(sets))
    for name, (source, number) in _OF_PARAMETERS.items():
        values = [getattr(parameters, source) for parameters in sets]
        numbers = {value: number(value) for value in set(values)}
        table[name] = [numbers[value] for value in values]
    table["max_age_seconds"] = [parameters.max_data_age_bars for parameters in sets]
    table["max_age_seconds"] *= settings.resolution.seconds
    return table


def check_candles(candles: Candles, settings: BacktestSettings) -> None:
    """ValueError for candles or balances that nothing can be tested with."""
    if len(candles) < 2:
        raise ValueError(f"a backtest needs at least two candles; there are {len(candles)}")
    if not (np.isfinite(candles.close[0]) or np.isfinite(candles.close).any()):  # most often the first one tells
        raise ValueError("none of the candles has a close price")
    amounts = (settings.starting_quote, settings.starting_base)
    if min(amounts) < 0 or not any(amounts):
        raise ValueError("a backtest needs a starting balance in quote or base, and none below zero")


def orders_of(signals: SignalArrays) -> Orders:
    """Signals as the kernel reads them. The opposite side is an exit, where the rules listen to it."""
    return Orders(signals.side, signals.confidence, signals.side)


def _fraction(percent: Decimal) -> float:
    return float(percent / 100)


# Rules of the kernel that follow from one parameter alone: which one, and how it becomes a number.
_OF_PARAMETERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "stop": ("stop_loss_percent", _fraction),
    "target": ("take_profit_percent", _fraction),
    "trailing": ("trailing_stop_percent", bool),
    "trail_distance": ("trailing_stop_percent", _fraction),
    "trail_step": ("trailing_step_percent", _fraction),
    "position_fraction": ("max_position_size_percent", _fraction),
    "cooldown_seconds": ("trade_cooldown_minutes", lambda minutes: minutes * 60),
    "max_daily_trades": ("max_daily_trades", int),
    "max_daily_loss": ("max_daily_loss_percent", _fraction),
    "use_exits": ("exit_on_opposite_signal", bool),
}


def _parameters(source: StrategyInterface | SignalArrays, parameters: StrategySchema | None) -> StrategySchema:
    if parameters is not None:
        return parameters
    if isinstance(source, StrategyInterface):
        found: StrategySchema = source.parameters
        return found
    raise ValueError("bare signals need the parameters of the risk rules beside them")


def _warmup(source: StrategyInterface | SignalArrays, settings: BacktestSettings) -> int:
    if settings.warmup_bars is not None:
        return settings.warmup_bars
    return source.warmup_bars if isinstance(source, StrategyInterface) else 0


def silenced(signals: SignalArrays, warmup: int) -> SignalArrays:
    """Silence the candles at which a live run would not have had its window yet."""
    if warmup <= 1:
        return signals
    side, confidence, reason = signals.side.copy(), signals.confidence.copy(), signals.reason.copy()
    for array in (side, confidence, reason):
        array[: warmup - 1] = 0
    return SignalArrays(side, confidence, reason, signals.reasons)


def _warnings(
    candles: Candles,
    parameters: StrategySchema,
    rules: MarketRules,
    warmup: int,
    books: BookSeries | None,
) -> tuple[str, ...]:
    found = [target_pays_fees(parameters, rules)]
    if books is not None:
        known = int((books.known_at(candles.open_time) >= 0).sum())
        found.append(f"order books were recorded for {known} of {len(candles)} candles; elsewhere slippage is fixed")
    elif hasattr(parameters, "order_book_imbalance"):
        found.append("order-book signals and vetoes were off: there are no recorded books for these candles")
    if warmup >= len(candles):
        found.append(
            f"nothing could be traded: the strategy needs {warmup} candles of warm-up, there are {len(candles)}"
        )
    return tuple(text for text in found if text)
