"""Asking a strategy and noting what it does on the way: what it says in a form that compares, what it raises, whether
it changes what it was shown, and whether it reads the clock. A strategy is users' code: nothing it does ends a check.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from algo.backtest.bias_findings import Check, Finding, Findings
from algo.strategies.interface import Candles, MarketData, SignalArrays, StrategyInterface
from providers.types import Side

SAME_CONFIDENCE = 1e-6  # confidences this close are one: floats differ in their last digits, and it only sizes
LONGEST_REASON = 24  # characters; the column of the signals table

Answer = TypeVar("Answer")


class Said(NamedTuple):
    """One decision: +1, -1 or 0 for nothing, and with what words."""

    side: int
    confidence: float
    reason: str

    def __str__(self) -> str:
        if not self.side:
            return "nothing"
        words = f"{'BUY' if self.side > 0 else 'SELL'}, confidence {self.confidence:.6g}"
        return f"{words}, reason {self.reason}" if self.reason else words


NOTHING = Said(0, 0.0, "")


def same(one: Said, other: Said) -> bool:
    """Whether two decisions are one, but for the last digits of the confidence."""
    if one.side != other.side:
        return False
    close = abs(one.confidence - other.confidence) <= SAME_CONFIDENCE
    return not one.side or (close and one.reason == other.reason)


@dataclass(frozen=True, slots=True, eq=False)
class SaidArrays:
    """The decisions of a series; `reason` counts in a list that all answers of one check share."""

    side: NDArray[np.int8]
    confidence: NDArray[np.float64]
    reason: NDArray[np.int64]
    names: list[str]

    def at(self, index: int) -> Said:
        if not self.side[index]:
            return NOTHING
        return Said(int(self.side[index]), float(self.confidence[index]), self.names[int(self.reason[index])])

    def differences(self, other: SaidArrays, start: int, stop: int) -> NDArray[np.int64]:
        """Where two series do not say the same between `start` and `stop - 1`."""
        span = slice(start, stop)
        words = (np.abs(self.confidence[span] - other.confidence[span]) > SAME_CONFIDENCE) | (
            self.reason[span] != other.reason[span]
        )
        unequal = (self.side[span] != other.side[span]) | ((self.side[span] != 0) & words)
        return np.flatnonzero(unequal) + start


class Asked:
    """One strategy over one series: every question goes through here, and what is wrong with an answer is noted."""

    def __init__(self, strategy: StrategyInterface, candles: Candles) -> None:
        self.kind, self.parameters = type(strategy), strategy.parameters
        self.has_signals = self.kind.signals is not StrategyInterface.signals
        self.candles = _copy(candles)
        self._untouched = _copy(candles)
        self.findings = Findings()
        self.questions = 0
        self._names: list[str] = [""]
        self._codes: dict[tuple[str, ...], NDArray[np.int64]] = {}

    def fresh(self) -> StrategyInterface | None:
        """A new instance, ready to decide; None (and a finding) where it cannot be made."""

        def make() -> StrategyInterface:
            made: StrategyInterface = self.kind(self.parameters)
            if not made.initialize():
                raise RuntimeError("initialize() answered that it cannot run as configured")
            return made

        return self._tried(make, -1, "while it is made ready")

    def warmup_bars(self, strategy: StrategyInterface) -> int | None:
        bars = self._tried(lambda: strategy.warmup_bars, -1, "in warmup_bars")
        if bars is None or (isinstance(bars, int) and bars >= 1):
            return bars
        self.wrong(-1, "warmup_bars is no whole number of at least 1", "1 or more", repr(bars))
        return None

    def signals(self, strategy: StrategyInterface, candles: Candles) -> SaidArrays | None:
        """All decisions over `candles`; None (and a finding) where there are none to compare."""
        last = self._index(candles)
        arrays = self._tried(lambda: strategy.signals(candles), last, "in signals")
        return None if arrays is None else self._read(arrays, candles)

    def execute(self, strategy: StrategyInterface, candles: Candles) -> Said | None:
        """The decision at the close of the last candle; None (and a finding) where it cannot be read."""
        last = self._index(candles)
        wrapped = self._tried(lambda: (strategy.execute(MarketData(candles)),), last, "in execute")
        return None if wrapped is None else self._decision(wrapped[0], last)

    def explain(self, strategy: StrategyInterface, candles: Candles) -> None:
        """Ask for the journal, which must be JSON: live stores it with every decision."""
        last = self._index(candles)
        journal = self._tried(lambda: strategy.explain(MarketData(candles)), last, "in explain")
        if journal is None:
            return
        try:
            json.dumps(journal, allow_nan=False)
        except (TypeError, ValueError) as exc:
            why = str(exc).replace("JSON compliant", "a number that JSON has")
            self.wrong(last, "What explain() gives cannot be stored as JSON", "plain numbers, text, None", why)

    def clock_reads(self, strategy: StrategyInterface, candles: Candles) -> None:
        """Ask once more, watching for calls of the clock. A finding for each place that makes one."""
        places: dict[str, None] = {}
        before = sys.getprofile()
        sys.setprofile(lambda frame, event, function: _note_clock(places, frame, event, function))
        try:
            self.execute(strategy, candles)
            if self.has_signals:
                self.signals(strategy, candles)
        finally:
            sys.setprofile(before)
        for place in places:
            self.findings.add(
                Finding(
                    Check.REPEATABLE,
                    self._index(candles),
                    self.time(self._index(candles)),
                    f"It reads the clock: {place}",
                    "an answer that depends on the candles alone",
                    "an answer that depends on when it is asked",
                )
            )

    def wrong(self, index: int, what: str, expected: str, found: str) -> None:
        """Note a value that no decision may have."""
        self.findings.add(Finding(Check.VALUES, index, self.time(index), what, expected, found))

    def time(self, index: int) -> str:
        """Open time of a candle, ISO 8601 UTC; empty where the matter is about none."""
        return "" if index < 0 else datetime.fromtimestamp(int(self.candles.open_time[index]), UTC).isoformat()

    # --- what it does on the way ----------------------------------------------------------------------------------

    def _tried(self, call: Callable[[], Answer], index: int, where: str) -> Answer | None:
        self.questions += 1
        try:
            answer = call()
        except Exception as exc:  # noqa: BLE001 - users' code: whatever it raises is what the check found
            answer = None
            found = f"{type(exc).__name__}: {exc}"
            self.findings.add(
                Finding(Check.RUNS, index, self.time(index), f"It fails {where}", "an answer or None", found)
            )
        self._look_at_candles(index)
        return answer

    def _look_at_candles(self, index: int) -> None:
        """Put back what it changed: the next question is about the same candles."""
        for each in fields(self.candles):
            mine, kept = getattr(self.candles, each.name), getattr(self._untouched, each.name)
            changed = np.flatnonzero(mine.view(np.int64) != kept.view(np.int64))
            if not changed.size:
                continue
            first = int(changed[0])
            self.findings.add(
                Finding(
                    Check.INPUTS,
                    index,
                    self.time(index),
                    f"It changes `{each.name}` of the candle of {self.time(first)}, which others read too",
                    str(kept[first]),
                    str(mine[first]),
                )
            )
            mine[:] = kept

    def _index(self, candles: Candles) -> int:
        """Where the last of these candles stands in the series."""
        return int(np.searchsorted(self._untouched.open_time, candles.open_time[-1]))

    # --- what it says ---------------------------------------------------------------------------------------------

    def _read(self, arrays: SignalArrays, candles: Candles) -> SaidArrays | None:
        last, count = self._index(candles), len(candles)
        first = last + 1 - count
        if not isinstance(arrays, SignalArrays):
            self.wrong(last, "signals() gives something else than SignalArrays", "SignalArrays", type(arrays).__name__)
            return None
        sizes = [np.size(arrays.side), np.size(arrays.confidence), np.size(arrays.reason)]
        if sizes != [count] * 3:
            self.wrong(last, "signals() has not one value per candle", str(count), ", ".join(map(str, sizes)))
            return None
        side, confidence = np.asarray(arrays.side), np.asarray(arrays.confidence, dtype=np.float64)
        speaks = side != 0
        self._all(np.isin(side, (-1, 0, 1)), first, "side is none of +1, -1, 0", "+1, -1 or 0", side)
        sound = ~speaks | ((confidence > 0) & (confidence <= 1))
        self._all(sound, first, "confidence is not above 0 and at most 1", "above 0, at most 1", confidence)
        reason = np.asarray(arrays.reason)
        known = (reason >= 0) & (reason < len(arrays.reasons))
        if not self._all(known, first, "reason is no index into reasons", f"0 to {len(arrays.reasons) - 1}", reason):
            return None
        return SaidArrays(
            np.sign(side).astype(np.int8), confidence, self._codes_of(arrays.reasons, last)[reason], self._names
        )

    def _all(self, good: NDArray[np.bool_], first: int, what: str, expected: str, values: NDArray[Any]) -> bool:
        bad = np.flatnonzero(~good)
        if bad.size:
            self.wrong(first + int(bad[0]), what, expected, str(values[bad[0]]))
        return not bad.size

    def _codes_of(self, reasons: tuple[str, ...], index: int) -> NDArray[np.int64]:
        key = tuple(map(str, reasons))
        if key not in self._codes:
            self._codes[key] = np.array([self._code(name, index) for name in key], dtype=np.int64)
        return self._codes[key]

    def _code(self, name: str, index: int) -> int:
        if len(name) > LONGEST_REASON:
            self.wrong(index, "reason is too long to be stored", f"at most {LONGEST_REASON} characters", name)
        if name not in self._names:
            self._names.append(name)
        return self._names.index(name)

    def _decision(self, answer: Any, index: int) -> Said | None:
        if not answer:
            return NOTHING
        if not isinstance(answer, Mapping):
            self.wrong(index, "execute() gives something else than a dict or None", "a dict or None", repr(answer))
            return None
        side, confidence = answer.get("side"), answer.get("confidence", 1.0)
        if side not in tuple(Side):
            self.wrong(index, "side is neither BUY nor SELL", "BUY or SELL", repr(side))
            return None
        try:
            size = float(confidence)
        except (TypeError, ValueError):
            size = 0.0
        if not 0 < size <= 1:
            self.wrong(index, "confidence is not above 0 and at most 1", "above 0, at most 1", repr(confidence))
            size = 0.0  # NaN would differ from itself
        name = str(answer.get("reason", ""))
        self._code(name, index)
        return Said(Side(side).sign, size, name)


def _copy(candles: Candles) -> Candles:
    columns = (np.array(getattr(candles, each.name), dtype=np.float64, order="C") for each in fields(candles)[1:])
    return Candles(np.array(candles.open_time, dtype=np.int64, order="C"), *columns)


# --- the clock --------------------------------------------------------------------------------------------------------

_CLOCK_CALLS = {"datetime": {"now", "utcnow", "today"}, "time": {"time", "time_ns"}}
_LIBRARIES = (sysconfig.get_paths()["stdlib"], "site-packages", "dist-packages", "<frozen")


def _note_clock(places: dict[str, None], frame: FrameType, event: str, function: Any) -> None:
    """A profile hook: note who calls the clock, unless it is a library: a log line stamps its time and harms nobody."""
    if event != "c_call":
        return
    owner, name = getattr(function, "__self__", None), getattr(function, "__name__", "")
    module = owner.__module__ if isinstance(owner, type) else getattr(owner, "__name__", "")
    file = frame.f_code.co_filename
    if name in _CLOCK_CALLS.get(module, ()) and not any(part in file for part in _LIBRARIES):
        places[f"{getattr(owner, '__name__', module)}.{name}() is called in {frame.f_code.co_qualname}"] = None
