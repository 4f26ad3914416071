"""What a strategy is: candles in, a decision out. It holds no memory and looks at nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from algo.strategies.schemas import StrategySchema, validate_parameters
from providers.types import Candle, OrderBook, Side

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Candles:
    """Closed candles as arrays of one length, oldest first. `open_time` is in unix seconds, UTC; volume in base."""

    open_time: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __post_init__(self) -> None:
        if len({getattr(self, field.name).size for field in fields(self)}) != 1:
            raise ValueError("the arrays of a candle series must have one length")
        if self.open_time.size > 1 and not (np.diff(self.open_time) > 0).all():
            raise ValueError("candles must stand in order of time, each time once")

    def __len__(self) -> int:
        return int(self.open_time.size)

    @classmethod
    def from_candles(cls, candles: Sequence[Candle]) -> Self:
        """From the exchange's candles, oldest first. Here, and nowhere before, Decimals become floats."""
        columns = [[float(getattr(c, name)) for c in candles] for name in ("open", "high", "low", "close", "volume")]
        times = [int(candle.open_time.timestamp()) for candle in candles]
        return cls(np.array(times, dtype=np.int64), *(np.array(column, dtype=np.float64) for column in columns))

    def between(self, start: int, stop: int) -> Self:
        """Candles `start` to `stop - 1` by index; views, nothing is copied."""
        return type(self)(*(getattr(self, field.name)[start:stop] for field in fields(self)))

    def window(self, n: int) -> Self:
        """The last `n` candles, or all of them where there are fewer."""
        return self.between(max(len(self) - n, 0), len(self))

    def frame(self) -> pd.DataFrame:
        """For custom indicators: columns open, high, low, close, volume, indexed by open time (UTC)."""
        import pandas as pd  # noqa: PLC0415 - half a second of start-up that only data frames need to pay

        index = pd.DatetimeIndex(pd.to_datetime(self.open_time, unit="s", utc=True), name="open_time")
        columns = {name: getattr(self, name) for name in ("open", "high", "low", "close", "volume")}
        return pd.DataFrame(columns, index=index)


@dataclass(frozen=True, slots=True)
class MarketData(Mapping[str, Any]):
    """All a strategy may look at: closed candles up to now, and the book if there is one.

    Also a mapping: `market_data["candles"]`, `market_data.get("order_book")`.
    """

    candles: Candles
    order_book: OrderBook | None = None

    def __getitem__(self, key: str) -> Any:
        if key in ("candles", "order_book"):
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(("candles", "order_book"))

    def __len__(self) -> int:
        return 2


@dataclass(frozen=True, slots=True, eq=False)
class SignalArrays:
    """What a strategy says at the close of every candle.

    `side` is +1 BUY, -1 SELL, 0 nothing; `confidence` is 0 where it says nothing; `reason` is an index into `reasons`,
    whose first entry is the empty one.
    """

    side: NDArray[np.int8]
    confidence: Floats
    reason: NDArray[np.int8]
    reasons: tuple[str, ...] = ("",)

    def __len__(self) -> int:
        return int(self.side.size)

    def at(self, index: int) -> dict[str, Any] | None:
        """The decision on one candle, as `execute` gives it but without indicators; None where nothing is said."""
        sign = int(self.side[index])
        if sign == 0:
            return None
        return {
            "side": str(Side.BUY if sign > 0 else Side.SELL),
            "confidence": float(self.confidence[index]),
            "reason": self.reasons[int(self.reason[index])],
        }


class StrategyInterface(ABC):
    """A trading strategy. Subclass it, set `schema`, write `execute`, add a line to strategy_factory.py.

    One instance may decide once or a million times and may be rebuilt between any two: cooldowns, open deals and
    counts are the risk gate's, never kept in the instance.
    """

    schema: ClassVar[type[StrategySchema]] = StrategySchema
    is_external: ClassVar[bool] = False  # its signals are sent to it: no candle has it decide

    def __init__(self, parameters: Mapping[str, Any] | StrategySchema | None = None, **overrides: Any) -> None:
        """`parameters` are validated by `schema`; raises InvalidParameters with a message for every wrong field."""
        self.parameters: Any = validate_parameters(self.schema, parameters, **overrides)

    def initialize(self) -> bool:
        """Called once before the first decision; False means that this strategy cannot run as configured."""
        return True

    @abstractmethod
    def execute(self, market_data: Mapping[str, Any]) -> dict[str, Any] | None:
        """The decision at the close of the last candle of `market_data["candles"]`, or None.

        {"side": "BUY" or "SELL", "confidence": above 0 to 1, "reason": "WHY", "indicators": {...}}. Only `side` must be
        there.
        """

    @property
    def warmup_bars(self) -> int:
        """How many candles make a live window decide as the whole history would. Override it."""
        return 300

    def signal_key(self) -> tuple[Any, ...]:
        """Equal for instances that say the same over the same candles: a sweep asks for the signals of one of them.

        All parameters but the risk rules that every strategy has. Override it where `execute` looks at those too.
        """
        values = self.parameters.__dict__
        return tuple([values[name] for name in _own_fields(self.schema)])

    @cached_property
    def version(self) -> tuple[type, str]:
        """Its class and its parameters: instances of one version decide alike over the same candles and book."""
        return type(self), self.parameters.model_dump_json()

    def signals(self, candles: Candles) -> SignalArrays:
        """What `execute` says at every candle, without order books. Override it where arrays are faster."""
        return signals_by_execute(self, candles)

    def explain(self, market_data: Mapping[str, Any]) -> dict[str, Any]:
        """For the journal: the decision, the indicator values and each condition of it. JSON-able."""
        return _told(self.execute(market_data))

    def judge(self, market_data: Mapping[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """What `execute` and `explain` say. Override it where both come of one computation."""
        decision = self.execute(market_data)
        is_plain = type(self).explain is StrategyInterface.explain
        return decision, _told(decision) if is_plain else self.explain(market_data)


def _told(decision: dict[str, Any] | None) -> dict[str, Any]:
    """For the journal, where a strategy says no more than its decision."""
    return {"decision": decision, "indicators": (decision or {}).get("indicators", {}), "conditions": {}}


@cache
def _own_fields(schema: type[StrategySchema]) -> tuple[str, ...]:
    """Fields that a strategy's schema has beside the risk rules."""
    return tuple(name for name in schema.model_fields if name not in StrategySchema.model_fields)


def signals_by_execute(
    strategy: StrategyInterface,
    candles: Candles,
    books: Mapping[int, OrderBook] | None = None,
    others: SignalArrays | None = None,
) -> SignalArrays:
    """Ask `execute` at every candle, each time with the window that it would see live. Slow and always right.

    As live, it is silent until there are `warmup_bars` candles, but for a strategy that decides without any.
    `books` are the order books known as candles closed, by their index. With `others` only those candles are asked; all
    others say what stands there.
    """
    first = strategy.warmup_bars - 1 if strategy.parameters.needs_candles else 0
    asked = range(max(first, 0), len(candles)) if others is None else [i for i in sorted(books or ()) if i >= first]
    if others is None:
        others = SignalArrays(
            np.zeros(len(candles), dtype=np.int8), np.zeros(len(candles)), np.zeros(len(candles), dtype=np.int8)
        )
    side, confidence, reason = others.side.copy(), others.confidence.copy(), others.reason.copy()
    reasons = list(others.reasons)
    for i in asked:
        window = candles.between(max(i + 1 - strategy.warmup_bars, 0), i + 1)
        decision = strategy.execute(MarketData(window, (books or {}).get(i)))
        side[i] = Side(decision["side"]).sign if decision else 0
        confidence[i] = float(decision.get("confidence", 1.0)) if decision else 0.0
        name = str(decision.get("reason", "")) if decision else ""
        if name not in reasons:
            reasons.append(name)
        reason[i] = reasons.index(name)
    return SignalArrays(side, confidence, reason, tuple(reasons))
