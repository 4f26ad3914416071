"""Does a backtest of this strategy mean anything? Look-ahead, warm-up, and whether it answers the same twice.

Every check compares decisions of the strategy with each other, never with a table: what it says while the future is
not there, or is another one; what it says with the window that live passes; what another instance says. Decisions are
compared whole (side, confidence, reason), where it speaks and where it is silent.

A difference counts only where it is more than the last digits of a float. Where the same prices, all scaled by a
billionth more, already turn the decision, rounding made it: such a scale keeps what is equal equal, and only rounds
otherwise. For the warm-up every price gets noise of its own, as small as what a recursive mean may still remember.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from algo.backtest.bias_asked import Asked, Said, SaidArrays, same
from algo.backtest.bias_findings import MOST_SHOWN, Check, Checked, CheckResult, Finding
from algo.strategies.interface import Candles, StrategyInterface

SECONDS = 4.0  # for all checks together; what is not looked at by then is not looked at, and the result says so
USUAL_CANDLES = 3000
LONGEST_WARM_UP = 20_000  # candles; a longer one is not judged
SIGNALS_ASKED = 60  # signals whose own candle and both neighbours are cut at
EVENLY_ASKED = 100  # cuts spread over the series, whether it speaks there or not
EXECUTES_ASKED = 600  # windows of a strategy that has only `execute`
FUTURES_ASKED = 30  # cuts behind which the candles are replaced
AGAIN_ASKED = 100  # windows asked again
OTHER_FUTURES = (3.0, 0.3)  # prices of a replaced future, as multiples
TRIALS = 10  # of candles a little off, to see whether a decision stands on the edge
MOST_EDGES = 40  # differences looked at so; more of the same are no news
SCALE = 1e-9  # as a share: far above a float's last digit, so that all of them change, and below any tick
WARM_UP_NOISE = 1e-6  # what a recursive mean may still remember of its start without anybody losing by it
FAR = 50  # a look ahead of more candles than this is no shift: it is something taken over the whole series

Decide = Callable[[Candles], Said | None]
Change = Callable[[Candles, int], Candles]


def check_strategy(
    strategy: StrategyInterface,
    candles: Candles,
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> Checked:
    """Check a strategy over closed candles, within about `seconds`. It is never asked itself: instances like it are.

    Signals are judged from the candle on that completes the strategy's warm-up: live and backtest are silent before.
    Order books are not part of it. ValueError for fewer than two candles.
    """
    if len(candles) < 2:
        raise ValueError(f"a check needs at least two candles; there are {len(candles)}")
    return _Examination(Asked(strategy, candles), seconds, clock).run()


def candles_wanted(strategy: StrategyInterface) -> tuple[int, int]:
    """How many candles a check wants, and with how few it still means something: the warm-up, and some to compare."""
    try:
        bars = int(strategy.warmup_bars)
    except Exception:  # noqa: BLE001 - users' code; the check itself will say what it raises
        bars = 0
    bars = min(max(bars, 0), LONGEST_WARM_UP)
    return max(USUAL_CANDLES, bars + 1000), bars + 500


class _Examination:
    def __init__(self, asked: Asked, seconds: float, clock: Callable[[], float]) -> None:
        self.asked, self.candles = asked, asked.candles
        self.count = len(self.candles)
        self.seconds, self.clock, self.begun = seconds, clock, clock()
        self.timed = self.begun  # from when on the seconds count: compiling a strategy is not looking at it
        self.bars, self.first = 0, 0  # the warm-up, and the shortest series that is judged
        self.live: dict[int, Said] = {}  # by cut: what `execute` said with the window that ends there
        self.done: dict[Check, int] = dict.fromkeys(Check, 0)
        self.possible: dict[Check, int] = dict.fromkeys(Check, 0)
        self.edges = self.edges_asked = 0
        self.reach = 0  # candles that a decision was seen to look ahead
        self.enough_bars = 0  # a window that decided as the whole history did, where the stated one did not
        self.signals = 0
        self.late = False

    def run(self) -> Checked:
        strategy = self.asked.fresh()
        bars = self.asked.warmup_bars(strategy) if strategy else None
        if strategy and bars:
            self.bars = bars
            self.first = bars if bars < self.count else max(self.count // 2, 1)
            possible = self.count - self.first + 1
            self.possible |= dict.fromkeys((Check.LOOK_AHEAD, Check.EXECUTE, Check.REPEATABLE), possible)
            self.possible[Check.WARM_UP] = max(self.count - bars, 0)
            if self.asked.has_signals:
                self._check_arrays(strategy)
            else:
                self._check_windows(strategy)
            self._check_again(strategy)
        return self._checked()

    # --- strategies that give arrays --------------------------------------------------------------------------------

    def _check_arrays(self, strategy: StrategyInterface) -> None:
        whole = self.asked.signals(strategy, self.candles)
        self.timed = self.clock()
        if whole is None:
            return
        spoke = np.flatnonzero(whole.side[self.first - 1 :]) + self.first - 1
        self.signals = int(spoke.size)
        cuts = _cuts(self.first, self.count, [int(index) + 1 for index in spoke])
        for cut in self._in_time(cuts, 0.6):
            self._check_cut(strategy, whole, cut)
        self._check_other_futures(strategy, whole, [cut for cut in cuts if cut < self.count][:FUTURES_ASKED])

    def _check_cut(self, strategy: StrategyInterface, whole: SaidArrays, cut: int) -> None:
        """Take the candles from `cut` on away: nothing before may change. Then ask as live would ask there."""
        part = self.asked.signals(strategy, self.candles.between(0, cut))
        if part is not None:
            self.done[Check.LOOK_AHEAD] += 1
            self._compare_past(strategy, part, whole, cut, self.candles.between(0, cut), "are taken away")
        if cut < self.bars:
            return
        window = self.candles.between(cut - self.bars, cut)
        said = self.asked.signals(strategy, window)
        executed = self.asked.execute(strategy, window)
        if executed is not None:
            self.live[cut] = executed
        if said is None:
            return
        live = said.at(-1)
        if part is not None and cut > self.bars:
            self._compare_warm_up(self._last_of(strategy), part.at(cut - 1), live, cut)
        if executed is not None:
            self._compare_execute(strategy, live, executed, cut)

    def _check_other_futures(self, strategy: StrategyInterface, whole: SaidArrays, cuts: Sequence[int]) -> None:
        """Replace the candles from a cut on by others of the same number: it catches what a shorter series hides."""
        for cut in self._in_time(cuts, 0.75):
            for factor in OTHER_FUTURES:
                other = _other_future(self.candles, cut, factor)
                said = self.asked.signals(strategy, other)
                if said is not None:
                    self._compare_past(strategy, said, whole, cut, other, "are replaced by others")

    def _compare_past(
        self, strategy: StrategyInterface, said: SaidArrays, whole: SaidArrays, cut: int, shown: Candles, how: str
    ) -> None:
        unequal = whole.differences(said, self.first - 1, cut)
        if not unequal.size:
            return
        for index in dict.fromkeys(map(int, (unequal[0], unequal[unequal.size // 2], unequal[-1]))):
            decide = self._at(strategy, index)
            if self._on_edge(Check.LOOK_AHEAD, [(decide, shown), (decide, self.candles)], _scaled):
                continue
            self.reach = max(self.reach, cut - index)
            what = f"The signal changes when the candles after {self.asked.time(cut - 1)} {how}"
            self._found(Check.LOOK_AHEAD, index, what, said.at(index), whole.at(index))
            return
        self.edges += 1

    def _compare_execute(self, strategy: StrategyInterface, said: Said, executed: Said, cut: int) -> None:
        self.done[Check.EXECUTE] += 1
        if same(said, executed):
            return
        window = self.candles.between(cut - self.bars, cut)
        asked = [(self._last_of(strategy), window), (self._executed(strategy), window)]
        if self._on_edge(Check.EXECUTE, asked, _scaled):
            self.edges += 1
            return
        what = f"`execute` decides otherwise than `signals` over the same {self.bars} candles"
        self._found(Check.EXECUTE, cut - 1, what, said, executed)

    # --- strategies that have only `execute` --------------------------------------------------------------------------

    def _check_windows(self, strategy: StrategyInterface) -> None:
        """A backtest asks `execute` at every candle; here as many are asked as time allows.

        Windows shorter than the warm-up are for strategies that decide without candles: no other one ever sees them.
        """
        if not self.asked.parameters.needs_candles:
            for short in sorted({1, 2, self.first // 2} - {0}):
                self.asked.execute(strategy, self.candles.between(0, min(short, self.count)))
        self._ask_window(strategy, self.first)  # the first call compiles
        self.timed = self.clock()
        for cut in self._in_time(_spread(self.first, self.count, EXECUTES_ASKED), 0.45):
            self._ask_window(strategy, cut)
        spoke = sorted(cut for cut, said in self.live.items() if said.side)
        self.signals = len(spoke)
        cuts = [cut for cut in _cuts(self.first, self.count, spoke) if cut > self.bars]
        for cut in self._in_time(cuts, 0.75):
            live = self.live[cut] if cut in self.live else self._ask_window(strategy, cut)
            history = self.asked.execute(strategy, self.candles.between(0, cut))
            if live is not None and history is not None:
                self._compare_warm_up(self._executed(strategy), history, live, cut)

    def _ask_window(self, strategy: StrategyInterface, cut: int) -> Said | None:
        said = self.asked.execute(strategy, self.candles.between(max(cut - self.bars, 0), cut))
        if said is not None:
            self.live[cut] = said
        return said

    # --- both kinds -----------------------------------------------------------------------------------------------

    def _compare_warm_up(self, decide: Decide, history: Said, live: Said, cut: int) -> None:
        self.done[Check.WARM_UP] += 1
        if same(history, live):
            return
        asked = [(decide, self.candles.between(cut - self.bars, cut)), (decide, self.candles.between(0, cut))]
        if self._on_edge(Check.WARM_UP, asked, _with_noise):
            self.edges += 1
            return
        what = f"With the last {self.bars} candles it decides otherwise than with all {cut} up to there"
        self._found(Check.WARM_UP, cut - 1, what, history, live)
        self._look_for_enough(decide, history, cut)

    def _look_for_enough(self, decide: Decide, history: Said, cut: int) -> None:
        """The hint's number: a longer window that decides as the whole history does, at every candle looked at."""
        bars = max(self.enough_bars, 2 * self.bars)
        while bars < cut:
            said = decide(self.candles.between(cut - bars, cut))
            if said is not None and same(said, history):
                break
            bars *= 2
        self.enough_bars = min(bars, cut)

    def _check_again(self, strategy: StrategyInterface) -> None:
        """The same questions to another instance, backwards; to this one, twice; to a new one each time."""
        spoke_first = sorted(self.live, key=lambda cut: (not self.live[cut].side, cut))
        cuts = sorted(spoke_first[:AGAIN_ASKED], reverse=True)
        other = self.asked.fresh()
        if other is None:
            return
        self._check_arrays_again(strategy, other)
        for number, cut in enumerate(self._in_time(cuts, 0.9)):
            self._again(self.asked.execute(other, self._window(cut)), cut, "Another instance decides otherwise")
            if number % 5 == 0:
                self._again(self.asked.execute(other, self._window(cut)), cut, "Asked twice, it decides otherwise")
                made = self.asked.fresh()
                again = self.asked.execute(made, self._window(cut)) if made else None
                self._again(again, cut, "A new instance decides otherwise")
            self.done[Check.REPEATABLE] += 1
        for cut in self._in_time(spoke_first[:5], 1.0):
            self.asked.explain(strategy, self._window(cut))
            self.asked.clock_reads(strategy, self._window(cut))

    def _check_arrays_again(self, strategy: StrategyInterface, other: StrategyInterface) -> None:
        if not self.asked.has_signals:
            return
        moved = _other_future(self.candles, self.first, OTHER_FUTURES[0])
        for series in (self.candles, moved):
            first, *more = [self.asked.signals(each, series) for each in (strategy, strategy, other)]
            for again in more:
                if first is None or again is None:
                    continue
                unequal = first.differences(again, self.first - 1, self.count)
                if unequal.size:
                    index = int(unequal[0])
                    what = "`signals`, asked again over the same candles, decides otherwise"
                    self._found(Check.REPEATABLE, index, what, first.at(index), again.at(index))

    def _again(self, said: Said | None, cut: int, what: str) -> None:
        if said is not None and not same(said, self.live[cut]):
            self._found(Check.REPEATABLE, cut - 1, what, self.live[cut], said)

    # --- steps ------------------------------------------------------------------------------------------------------

    def _window(self, cut: int) -> Candles:
        return self.candles.between(max(cut - self.bars, 0), cut)

    def _in_time(self, cuts: Iterable[int], share: float) -> Iterable[int]:
        """`cuts` until this share of the time is over; the first one always, so that every check sees something."""
        for number, cut in enumerate(cuts):
            if number and self.clock() - self.timed > share * self.seconds:
                self.late = True
                return
            yield cut

    def _at(self, strategy: StrategyInterface, index: int) -> Decide:
        def decide(candles: Candles) -> Said | None:
            said = self.asked.signals(strategy, candles)
            return None if said is None else said.at(index)

        return decide

    def _last_of(self, strategy: StrategyInterface) -> Decide:
        return self._at(strategy, -1)

    def _executed(self, strategy: StrategyInterface) -> Decide:
        return lambda candles: self.asked.execute(strategy, candles)

    def _on_edge(self, check: Check, asked: Iterable[tuple[Decide, Candles]], change: Change) -> bool:
        """Whether a change too small to matter turns one of these decisions."""
        if self.asked.findings.counts.get(check, 0) >= MOST_SHOWN:
            return False  # it has failed; the others are only counted
        self.edges_asked += 1
        if self.edges_asked > MOST_EDGES:
            return True
        for decide, candles in asked:
            base = decide(candles)
            for trial in range(TRIALS):
                said = decide(change(candles, trial))
                if base is not None and said is not None and not same(base, said):
                    return True
        return False

    def _found(self, check: Check, index: int, what: str, expected: Said, found: Said) -> None:
        self.asked.findings.add(Finding(check, index, self.asked.time(index), what, str(expected), str(found)))

    # --- the result -------------------------------------------------------------------------------------------------

    def _checked(self) -> Checked:
        results = tuple(self._result(check) for check in Check)
        return Checked(
            passed=all(result.passed is not False for result in results),
            results=results,
            candles=self.count,
            first_at=self.asked.time(0),
            last_at=self.asked.time(self.count - 1),
            signals=self.signals,
            seconds=round(self.clock() - self.begun, 3),
            notes=tuple(self._notes()),
        )

    def _result(self, check: Check) -> CheckResult:
        answered = self.asked.questions if check in (Check.RUNS, Check.VALUES, Check.INPUTS) else self.done[check]
        note, hint = self._note(check), self._hint(check)
        result = self.asked.findings.result(check, asked=answered, possible=self.possible[check], note=note, hint=hint)
        if check in (Check.LOOK_AHEAD, Check.EXECUTE) and not self.asked.has_signals and self.live:
            return replace(result, passed=True, possible=0)
        return result

    def _note(self, check: Check) -> str:
        if check in (Check.RUNS, Check.VALUES, Check.INPUTS):
            return f"asked {self.asked.questions:,} times"
        if check is Check.LOOK_AHEAD and not self.asked.has_signals:
            return "it has no `signals` of its own: `execute` is only ever shown candles that have closed"
        if check is Check.EXECUTE and not self.asked.has_signals:
            return "it has no `signals` of its own: a backtest asks `execute`"
        if check is Check.WARM_UP and self.bars >= self.count:
            return f"there are {self.count:,} candles; the strategy needs more than its warm-up of {self.bars:,}"
        return "" if self.done[check] else "it could not be asked"

    def _hint(self, check: Check) -> str:
        if check is Check.LOOK_AHEAD:
            return self._look_ahead_hint()
        if check is Check.WARM_UP:
            return (
                f"warmup_bars is {self.bars}: take more (at the differences found {self.enough_bars} agree; "
                "a recursive average needs many times its period), or look back over a fixed number of candles only."
            )
        return _HINTS[check]

    def _look_ahead_hint(self) -> str:
        if 0 < self.reach <= FAR:
            candles = "1 candle" if self.reach == 1 else f"{self.reach} candles"
            return (
                f"A value of the future is read, {candles} ahead: look for shift(-{self.reach}), np.roll, an index "
                "past the candle, or a centred window."
            )
        return (
            "Something is taken over the whole series: look for a maximum, mean, z-score or rank over all candles, the "
            "last element, or a value filled in backwards."
        )

    def _notes(self) -> Iterable[str]:
        if not self.signals and self.live:
            yield "no signals in the candles checked"
        if self.edges:
            yield f"{self.edges} decisions hung on the last digits of a float and were not counted as differences"
        if self.late:
            yield f"stopped after {self.seconds:g} s"


_HINTS = {
    Check.RUNS: "Live notes such a candle as an error and decides nothing; a backtest ends. Give None where there is "
    "too little to decide on.",
    Check.VALUES: 'A decision is {"side": "BUY" or "SELL", "confidence": above 0 to 1, "reason": "WHY"} or None.',
    Check.INPUTS: "Work on a copy: every strategy of the group reads the same arrays.",
    Check.REPEATABLE: "Keep nothing in the instance, the class or the module between two calls, read no clock, and "
    "draw nothing at random: any worker may be asked, any number of times.",
    Check.EXECUTE: 'Let execute be: return self.signals(market_data["candles"]).at(-1)',
}


# --- which candles, and others in their place -----------------------------------------------------------------------


def _cuts(first: int, last: int, spoke: Sequence[int]) -> list[int]:
    """Where to cut: both ends; at signals, one before and one after them; and evenly. `spoke` ends with its signal."""
    ends = [last, first, first + 1, last - 1]
    near = [cut + step for cut in _evenly(spoke, SIGNALS_ASKED) for step in (0, -1, 1)]
    cuts = [*ends, *_mixed([*near, *_spread(first, last, EVENLY_ASKED)])]
    return [cut for cut in dict.fromkeys(cuts) if first <= cut <= last]


def _spread(first: int, last: int, most: int) -> list[int]:
    """At most `most` cuts, evenly over the series, in an order that is spread too, however early time ends it."""
    evenly = np.unique(np.linspace(first, last, min(most, last - first + 1)).astype(np.int64))
    return _mixed(evenly.tolist())


def _evenly(values: Sequence[int], most: int) -> list[int]:
    if len(values) <= most:
        return list(values)
    return [values[int(index)] for index in np.linspace(0, len(values) - 1, most)]


def _mixed(cuts: Sequence[int]) -> list[int]:
    """The same in an order that is always the same, and has no direction."""
    order = np.random.default_rng(0).permutation(len(cuts))
    return [cuts[int(index)] for index in order]


def _other_future(candles: Candles, cut: int, factor: float) -> Candles:
    """The same candles up to `cut`; from there on the real ones backwards, at `factor` times the price and volume."""

    def replaced(values: np.ndarray) -> np.ndarray:
        return np.concatenate((values[:cut], values[cut:][::-1] * factor))

    prices = (replaced(values) for values in (candles.open, candles.high, candles.low, candles.close, candles.volume))
    return Candles(candles.open_time, *prices)


def _scaled(candles: Candles, trial: int) -> Candles:
    """Prices and volumes in a unit that is a little smaller: what was equal stays so, every last digit is another."""
    return _times(candles, 1 + SCALE * (trial + 1) * np.sqrt(2))


def _with_noise(candles: Candles, trial: int) -> Candles:
    """Every price and volume off by about WARM_UP_NOISE of itself."""
    rng = np.random.default_rng(trial)
    return _times(candles, *(1 + WARM_UP_NOISE * rng.standard_normal((5, len(candles)))))


def _times(candles: Candles, *factors: Any) -> Candles:
    """Open, high, low, close and volume, each times its factor, or all times the only one."""
    names = ("open", "high", "low", "close", "volume")
    each = factors if len(factors) > 1 else factors * len(names)
    columns = (getattr(candles, name) * factor for name, factor in zip(names, each, strict=True))
    return Candles(candles.open_time, *columns)
