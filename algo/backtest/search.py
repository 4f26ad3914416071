"""Searching a space of parameters: what is wanted, how a set is judged, and which one is the best.

The sampler is optuna's TPE; where its trials are kept is the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from algo.backtest.engine import BacktestResult, BacktestSettings, run
from algo.backtest.metrics import cagr, metrics_of
from algo.backtest.space import Choice, Space, Value, validated
from algo.backtest.sweep import sweep
from algo.strategies.interface import Candles, StrategyInterface
from algo.strategies.schemas import StrategySchema
from providers.types import MarketRules

if TYPE_CHECKING:
    from optuna import Study
    from optuna import Trial as Asked
    from optuna.samplers import BaseSampler

Figures = Mapping[str, float | None]

UNKNOWN = -100.0  # stands for a figure that could not be told: worse than any that can
MOST = 100.0  # a ratio without anything in its denominator counts as this
CHUNK = 64  # sets of one sweep
ASKS_A_TRIAL = 4  # so many suggestions for each wanted trial; the schema may refuse most of a badly cut space
_SHORT = "deals_missing"  # constraint of a trial: what it lacks of the fewest deals
_CHOICE, _FIGURES = "choice", "figures"


class Objective(StrEnum):
    """What a search wants: as much as possible of all but the drawdown."""

    SHARPE = "sharpe"
    NET_PROFIT = "net_profit"
    CALMAR = "calmar"
    PROFIT_FACTOR = "profit_factor"
    WIN_RATE = "win_rate"
    MAX_DRAWDOWN = "max_drawdown"

    @property
    def figure(self) -> str:
        """Its name among the figures of a set."""
        percents = (Objective.NET_PROFIT, Objective.WIN_RATE, Objective.MAX_DRAWDOWN)
        return f"{self.value}_percent" if self in percents else self.value


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Candles to judge on. The first `warmup` of them only feed the indicators: no deal begins before, none counts."""

    candles: Candles
    warmup: int

    @property
    def seconds(self) -> float:
        """From the open of the first candle judged to the open of the last one."""
        times = self.candles.open_time
        return float(times[-1] - times[self.warmup])

    @classmethod
    def between(cls, candles: Candles, start: int, stop: int, warmup: int) -> Window:
        """Judges candles `start` to `stop - 1`, warmed up by the `warmup` before `start`."""
        if start < warmup or stop - start < 1:
            raise ValueError(f"candles {start} to {stop} cannot be judged after {warmup} of warm-up")
        return cls(candles.between(start - warmup, stop), warmup)


@dataclass(frozen=True, slots=True)
class Judge:
    """Plays sets of one strategy: `base` are the parameters that are not searched."""

    strategy: type[StrategyInterface]
    base: Mapping[str, Any]
    rules: MarketRules
    settings: BacktestSettings

    def parameters(self, choice: Choice, window: Window) -> StrategySchema | None:
        """None where the schema refuses the set, or where it needs more history than every set is given."""
        parameters = validated(self.strategy.schema, self.base, choice)
        if parameters is None or self.strategy(parameters).warmup_bars > window.warmup:
            return None
        return parameters

    def figures(self, window: Window, choices: Sequence[Choice]) -> list[Figures | None]:
        """The figures of every set, all counted from the same candle; None for a set that was refused."""
        wanted = [self.parameters(choice, window) for choice in choices]
        valid = [each for each in wanted if each is not None]
        rows: Iterator[Figures] = iter(self._swept(window, valid) if valid else [])
        return [None if each is None else next(rows) for each in wanted]

    def play(self, window: Window, choice: Choice) -> BacktestResult:
        """One set in full: its deals and its equity. ValueError for a set that is refused."""
        parameters = self.parameters(choice, window)
        if parameters is None:
            raise ValueError(f"the strategy refuses {dict(choice)}")
        return run(window.candles, self.strategy(parameters), None, self.rules, self._settings(window))

    def played_figures(self, result: BacktestResult) -> Figures:
        """The same figures of a set that was played in full."""
        found = metrics_of(result).as_dict()
        names = (*(objective.figure for objective in Objective), "net_profit", "final_equity", "deals", "fees_paid")
        return {name: found[name] for name in (*names, "exposure_percent", "sortino", "cagr_percent")}

    def _swept(self, window: Window, sets: Sequence[StrategySchema]) -> list[Figures]:
        found = sweep(window.candles, self.strategy, sets, self.rules, self._settings(window)).figures
        rows = [{name: _known(column[i]) for name, column in found.items()} for i in range(len(sets))]
        return [{**row, "calmar": _calmar(row, window.seconds + self.settings.resolution.seconds)} for row in rows]

    def _settings(self, window: Window) -> BacktestSettings:
        return replace(self.settings, warmup_bars=window.warmup)


@dataclass(frozen=True, slots=True)
class Trial:
    """A set that was judged."""

    number: int
    choice: Choice
    figures: Figures

    @property
    def deals(self) -> int:
        return int(self.figures["deals"] or 0)


def score(figures: Figures, objective: Objective) -> float:
    """How good, the more the better, always a finite number; UNKNOWN where it cannot be told."""
    value = figures[objective.figure]
    if objective is Objective.MAX_DRAWDOWN:
        return UNKNOWN if value is None else -value
    if value is None:
        gained = (figures["net_profit"] or 0) > 0
        return MOST if gained and objective in (Objective.PROFIT_FACTOR, Objective.CALMAR) else UNKNOWN
    return max(UNKNOWN, min(value, MOST)) if objective is not Objective.NET_PROFIT else value


def scores(figures: Figures, objectives: Sequence[Objective]) -> tuple[float, ...]:
    return tuple(score(figures, each) for each in objectives)


def best_of(trials: Sequence[Trial], objectives: Sequence[Objective], min_deals: int) -> Trial | None:
    """The best by the first objective, ties by the next, then the earliest; None where none has enough deals."""
    enough = [trial for trial in trials if trial.deals >= min_deals]
    return max(enough, key=lambda trial: (scores(trial.figures, objectives), -trial.number), default=None)


def pareto_front(trials: Sequence[Trial], objectives: Sequence[Objective], min_deals: int) -> list[Trial]:
    """Sets that no other one beats in every objective, the best of the first objective first."""
    enough = [trial for trial in distinct(trials) if trial.deals >= min_deals]
    ordered = sorted(enough, key=lambda trial: (scores(trial.figures, objectives), -trial.number), reverse=True)
    front: list[Trial] = []
    for trial in ordered:  # whoever beats a trial stands before it
        mine = scores(trial.figures, objectives)
        if not any(_beats(scores(other.figures, objectives), mine) for other in front):
            front.append(trial)
    return front


def distinct(trials: Sequence[Trial]) -> list[Trial]:
    """Each set once, the earliest: a sampler may come back to one."""
    first: dict[Any, Trial] = {}
    for trial in trials:
        first.setdefault(key_of(trial.choice), trial)
    return list(first.values())


def key_of(choice: Choice) -> tuple[tuple[str, Value], ...]:
    return tuple(sorted(choice.items()))


def grid_search(
    space: Space, judge: Judge, window: Window, *, progress: Callable[[int, int], None] | None = None
) -> list[Trial]:
    """Every combination, a chunk at a time; those that are refused are left out."""
    trials: list[Trial] = []
    for start in range(0, space.size, CHUNK):
        numbers = range(start, min(start + CHUNK, space.size))
        rows = judge.figures(window, [space.at(number) for number in numbers])
        trials += [Trial(n, space.at(n), row) for n, row in zip(numbers, rows, strict=True) if row is not None]
        if progress:
            progress(numbers.stop, space.size)
    return trials


# --- TPE ------------------------------------------------------------------------------------------------------------


def tpe_search(
    space: Space,
    judge: Judge,
    window: Window,
    *,
    objectives: Sequence[Objective],
    trials: int,
    min_deals: int,
    seed: int,
) -> list[Trial]:
    """A search of its own, kept in memory. The same seed gives the same trials."""
    import optuna  # noqa: PLC0415 - over a second of start-up that only a search needs to pay

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=directions(objectives), sampler=sampler(seed))
    known: dict[Any, Figures | None] = {}
    for _ in range(trials * ASKS_A_TRIAL):
        found = evaluate_next(study, space, judge, window, known, objectives=objectives, min_deals=min_deals)
        trials -= found is not None
        if not trials:
            break
    return told(study)


def sampler(seed: int) -> BaseSampler:
    """TPE: it takes sets with too few deals for not wanted, whatever they earned."""
    from optuna.samplers import TPESampler  # noqa: PLC0415 - as above

    return TPESampler(seed=seed)


def directions(objectives: Sequence[Objective]) -> list[Literal["minimize", "maximize"]]:
    """All are maximised: `score` turns what should be small around."""
    return ["maximize"] * len(objectives)


def evaluate_next(
    study: Study,
    space: Space,
    judge: Judge,
    window: Window,
    known: dict[Any, Figures | None],
    *,
    objectives: Sequence[Objective],
    min_deals: int,
) -> Trial | None:
    """Ask the study for one set, judge it, tell. None where it was refused: that is told too, so that it learns.
    A set in `known` is not played again."""
    asked, choice = ask(study, space)
    key = key_of(choice)
    if key not in known:
        known[key] = judge.figures(window, [choice])[0]
    figures = known[key]
    tell(study, asked, choice, figures, objectives=objectives, min_deals=min_deals)
    return None if figures is None else Trial(asked.number, choice, figures)


def ask(study: Study, space: Space) -> tuple[Asked, dict[str, Value]]:
    """The next set: ordered values by their index, so that the sampler knows which are neighbours."""
    asked = study.ask()
    choice: dict[str, Value] = {}
    for each in space.dimensions:
        if len(each.values) == 1:
            choice[each.name] = each.values[0]
        elif each.ordered:
            choice[each.name] = each.values[asked.suggest_int(each.name, 0, len(each.values) - 1)]
        else:
            choice[each.name] = each.values[asked.suggest_categorical(each.name, range(len(each.values)))]
    return asked, choice


def tell(
    study: Study,
    asked: Asked,
    choice: Choice,
    figures: Figures | None,
    *,
    objectives: Sequence[Objective],
    min_deals: int,
) -> None:
    from optuna.trial import TrialState  # noqa: PLC0415 - as above

    asked.set_user_attr(_CHOICE, dict(choice))
    if figures is None:
        study.tell(asked, state=TrialState.PRUNED, skip_if_finished=True)
        return
    asked.set_user_attr(_FIGURES, dict(figures))
    asked.set_constraint(_SHORT, min_deals - float(figures["deals"] or 0))
    study.tell(asked, scores(figures, objectives), skip_if_finished=True)


def told(study: Study) -> list[Trial]:
    """Every set that was judged, in order."""
    from optuna.trial import TrialState  # noqa: PLC0415 - as above

    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [Trial(each.number, each.user_attrs[_CHOICE], each.user_attrs[_FIGURES]) for each in done]


# --- numbers --------------------------------------------------------------------------------------------------------


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _calmar(row: Figures, seconds: float) -> float | None:
    percent, fall = row["net_profit_percent"], row["max_drawdown_percent"]
    if percent is None or not fall or fall <= 0:
        return None
    growth = cagr(1.0, 1.0 + percent / 100, seconds)
    return None if growth is None else growth / fall


def _beats(other: Sequence[float], mine: Sequence[float]) -> bool:
    return all(a >= b for a, b in zip(other, mine, strict=True)) and tuple(other) != tuple(mine)
