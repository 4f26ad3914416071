"""Searches for parameters: made, gone on with by whatever process has time, judged, kept.

Everything is written down as it is found: a process may be killed at any moment, and another one goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from django.db import IntegrityError, transaction
from pydantic import TypeAdapter

from algo.backtest import BacktestSettings
from algo.backtest.search import (
    ASKS_A_TRIAL,
    CHUNK,
    Figures,
    Judge,
    Objective,
    Trial,
    Window,
    best_of,
    directions,
    evaluate_next,
    grid_search,
    key_of,
    told,
    tpe_search,
)
from algo.backtest.space import Space, longest_warmup
from algo.backtest.walk_forward import Fold, folds_of
from algo.models import Market, OptimisationChunk, OptimisationRun, OptimisationStatus
from algo.selectors.candles import candles_range
from algo.services.audit import Actor, audit_record
from algo.services.backtests import candles_fingerprint
from algo.services.optuna_studies import Directions, open_study, study_forget_unfinished
from algo.strategies import Candles
from algo.strategies.strategy_factory import strategy_class
from providers.clock import Clock
from providers.recorded import read_candles_csv
from providers.types import MarketRules, Resolution

GRID, TPE = "grid", "tpe"
DATABASE, FILE = "database", "file "
MOST_SETS = 100_000  # of a grid
LEAST_CANDLES = 20  # in the train window and in the test window
ABANDONED = timedelta(minutes=5)  # after which a chunk that was claimed and not judged is taken by another process
SILENT = 180.0  # wall seconds without progress: hand it out again
GIVEN_UP = 3600.0  # wall seconds without progress: it cannot be done
_NOTE_SECONDS = 0.5

_RULES: TypeAdapter[MarketRules] = TypeAdapter(MarketRules)
_SETTINGS: TypeAdapter[BacktestSettings] = TypeAdapter(BacktestSettings)
S = OptimisationStatus
OPEN = (S.QUEUED, S.SEARCHING, S.JUDGING)

Progress = Callable[[OptimisationRun, str, float, float], None]  # run, what is done, how far, of how much
Halted = Callable[[], bool]


class OptimisationRefused(Exception):
    """A search that cannot be made or gone on with; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What somebody asks for. Percents in percent; `warmup` in candles, the longest of the space."""

    name: str
    strategy: str
    parameters: Mapping[str, Any]  # those that are not searched
    candles: Candles
    source: str = DATABASE  # or "file PATH"
    market: Market | None
    rules: MarketRules
    settings: BacktestSettings
    space: Space
    method: str = TPE
    objectives: Sequence[Objective] = (Objective.SHARPE,)
    trials: int = 200
    min_deals: int = 30
    test_percent: int = 30
    walk_forward: int = 0
    anchored: bool = False
    seed: int = 0
    paths: int = 1000
    worlds: int = 99
    block: int = 10
    sets: int = 200  # blindly drawn, for the shuffled markets


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """A run with everything it works on."""

    run: OptimisationRun
    candles: Candles
    judge: Judge
    space: Space
    objectives: tuple[Objective, ...]
    train: Window
    test: Window | None
    warmup: int

    @property
    def min_deals(self) -> int:
        return int(self.run.plan["min_deals"])

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        return best_of(trials, self.objectives, self.min_deals)

    def search(self, window: Window) -> Trial | None:
        """The whole search again in another window, in memory: what a walk does in each of its folds."""
        if self.run.method == GRID:
            return self.best(grid_search(self.space, self.judge, window))
        found = tpe_search(
            self.space,
            self.judge,
            window,
            objectives=self.objectives,
            trials=self.run.trials_wanted,
            min_deals=self.min_deals,
            seed=self.run.seed,
        )
        return self.best(found)


# --- made -----------------------------------------------------------------------------------------------------------


def warmup_of(strategy: str, parameters: Mapping[str, Any], space: Space) -> int:
    """Candles that any set of the space may need before the first one it is judged on. SpaceRefused."""
    return longest_warmup(strategy_class(strategy), parameters, space)


def optimisation_create(wanted: Wanted, *, now: datetime, requested_by: Any = None) -> OptimisationRun:
    """Write down what is asked. OptimisationRefused for what cannot be searched."""
    warmup = warmup_of(wanted.strategy, wanted.parameters, wanted.space)
    if wanted.method == GRID and wanted.space.size > MOST_SETS:
        raise OptimisationRefused(
            f"The grid has {wanted.space.size:,} sets; at most {MOST_SETS:,} are allowed. Name fewer parameters with "
            "--space, give larger steps, or search with --method tpe."
        )
    if not len(wanted.candles):
        raise OptimisationRefused("There are no stored candles in this period. Fetch them with manage.py fetch_ohlcv.")
    split = _split(len(wanted.candles), warmup, wanted.test_percent)
    if wanted.walk_forward:
        folds_wanted(len(wanted.candles), warmup, wanted.walk_forward, wanted.anchored)
    run = OptimisationRun(
        name=wanted.name,
        strategy=wanted.strategy,
        parameters=_plain(wanted.parameters),
        market=wanted.market,
        source=wanted.source,
        resolution=str(wanted.settings.resolution),
        data_from=_moment(wanted.candles.open_time[0]),
        data_to=_moment(wanted.candles.open_time[-1]),
        candles=len(wanted.candles),
        data_fingerprint=candles_fingerprint(wanted.candles),
        space=wanted.space.as_json(),
        method=wanted.method,
        objectives=[str(each) for each in wanted.objectives],
        plan={
            "rules": _RULES.dump_python(wanted.rules, mode="json"),
            "settings": _SETTINGS.dump_python(wanted.settings, mode="json"),
            "warmup": warmup,
            "split": split,
            **{
                name: getattr(wanted, name)
                for name in (
                    "min_deals",
                    "test_percent",
                    "walk_forward",
                    "anchored",
                    "paths",
                    "worlds",
                    "block",
                    "sets",
                )
            },
        },
        seed=wanted.seed,
        trials_wanted=wanted.space.size if wanted.method == GRID else min(wanted.trials, wanted.space.size),
        requested_by=requested_by,
        created_at=now,
    )
    try:
        with transaction.atomic():
            run.save(force_insert=True)
    except IntegrityError:
        raise OptimisationRefused(
            f"There is a search named {wanted.name!r} already. Go on with it with --resume {wanted.name}, or give "
            "another --name."
        ) from None
    run.study = f"{run.pk}-{now:%Y%m%d%H%M%S%f}"
    run.save(update_fields=["study"])
    return run


def _split(count: int, warmup: int, test_percent: int) -> int:
    """Index of the first candle of the test window."""
    judgeable = count - warmup
    split = count - judgeable * test_percent // 100
    if split - warmup < LEAST_CANDLES or (test_percent and count - split < LEAST_CANDLES):
        raise OptimisationRefused(
            f"{count} candles are too few: the widest set needs {warmup} of them to warm up, and {LEAST_CANDLES} must "
            "remain to search on and to test on. Take a longer period, a finer resolution or a narrower space."
        )
    return split


def folds_wanted(count: int, warmup: int, folds: int, anchored: bool) -> list[Fold]:
    try:
        return folds_of(warmup, count, folds, anchored=anchored)
    except ValueError as exc:
        raise OptimisationRefused(f"Walk-forward cannot be done: {exc}. Take a longer period or fewer folds.") from None


# --- opened ---------------------------------------------------------------------------------------------------------


def optimisation_open(run: OptimisationRun, candles: Candles | None = None) -> Search:
    """All that is needed to go on. OptimisationRefused where the candles are not the same any more."""
    candles = _candles_of(run) if candles is None else candles
    if not len(candles) or candles_fingerprint(candles) != run.data_fingerprint:
        raise OptimisationRefused(
            f"The candles of {run.name} have changed since it began ({run.candles} then, {len(candles)} now, or other "
            "prices). What was found is kept, but cannot be gone on with. Start a new search."
        )
    plan = run.plan
    warmup, split = int(plan["warmup"]), int(plan["split"])
    return Search(
        run=run,
        candles=candles,
        judge=Judge(
            strategy_class(run.strategy),
            run.parameters,
            _RULES.validate_python(plan["rules"]),
            _SETTINGS.validate_python(plan["settings"]),
        ),
        space=Space.from_json(run.space),
        objectives=tuple(Objective(each) for each in run.objectives),
        train=Window.between(candles, warmup, split, warmup),
        test=Window.between(candles, split, len(candles), warmup) if split < len(candles) else None,
        warmup=warmup,
    )


def optimisation_trials(run: OptimisationRun) -> list[Trial]:
    """Every set that was judged so far, in order."""
    if run.method == GRID:
        space = Space.from_json(run.space)
        return [
            Trial(number, space.at(number), row)
            for chunk in run.chunks.exclude(rows__isnull=True)
            for number, row in enumerate(chunk.rows or (), chunk.number * CHUNK)
            if row is not None
        ]
    with open_study(run.study, directions=_directions(run), seed=run.seed) as study:
        return told(study)


def _candles_of(run: OptimisationRun) -> Candles:
    if run.source.startswith(FILE):
        recorded = read_candles_csv(run.source.removeprefix(FILE))
        series = Candles(*(getattr(recorded, name) for name in Candles.__dataclass_fields__))
        ends = [run.data_from.timestamp(), run.data_to.timestamp() + 1]
        first, stop = np.searchsorted(series.open_time, ends)
        return series.between(int(first), int(stop))
    if run.market is None:
        raise OptimisationRefused(f"{run.name} has neither a market nor a file: its candles cannot be found.")
    return candles_range(run.market, Resolution(run.resolution), run.data_from, run.data_to + timedelta(seconds=1))


# --- searched -------------------------------------------------------------------------------------------------------


def optimisation_search(search: Search, *, clock: Clock, halted: Halted, progress: Progress | None = None) -> bool:
    """Judge sets until all that were wanted are, or somebody halts it. True where the search is over.

    Several processes may do this at once. Whatever was judged is kept.
    """
    run = search.run
    if not move(run, (S.QUEUED, S.SEARCHING), S.SEARCHING, clock):
        return run.status in (S.JUDGING, S.DONE)
    work = _search_grid if run.method == GRID else _search_tpe
    over = work(search, clock, halted, Watch(run, clock, progress))
    if over:
        move(run, (S.SEARCHING,), S.JUDGING, clock)
    return over


class Watch:
    """Writes progress down, not more than twice a second, and knows whether somebody asked to stop."""

    def __init__(self, run: OptimisationRun, clock: Clock, progress: Progress | None) -> None:
        self.run, self.clock, self.progress = run, clock, progress
        self.last = 0.0
        self.stopped = False

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self.last >= _NOTE_SECONDS

    def look(self) -> bool:
        """Whether to stop; asks the database when it is due."""
        if self.is_due:
            self.run.refresh_from_db(fields=["stop_requested", "status"])
            self.stopped = self.run.stop_requested or self.run.status not in OPEN
        return self.stopped

    def note(self, what: str, done: float, total: float, **fields: Any) -> None:
        self.last = time.monotonic()
        fields["worked_at"] = self.clock.now()
        for name, value in fields.items():
            setattr(self.run, name, value)
        self.run.save(update_fields=list(fields))
        if self.progress:
            self.progress(self.run, what, done, total)


def _search_tpe(search: Search, clock: Clock, halted: Halted, watch: Watch) -> bool:
    run = search.run
    from optuna.trial import TrialState  # noqa: PLC0415 - over a second of start-up that only a search needs to pay

    with open_study(run.study, directions=_directions(run), seed=run.seed) as study:
        known: dict[Any, Figures | None] = {key_of(each.choice): each.figures for each in told(study)}
        moved = False  # at least one set each time, however late it is
        while True:
            ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
            done = sum(each.state is TrialState.COMPLETE for each in ended)
            over = done >= run.trials_wanted or len(ended) >= run.trials_wanted * ASKS_A_TRIAL
            stop = over or (moved and halted()) or watch.look()
            if stop or watch.is_due:
                best = search.best(told(study))
                found = {"trials_done": done, "trials_refused": len(ended) - done, "best": trial_json(best)}
                watch.note("searching", done, run.trials_wanted, **found)
            if stop:
                return over
            evaluate_next(
                study,
                search.space,
                search.judge,
                search.train,
                known,
                objectives=search.objectives,
                min_deals=search.min_deals,
            )
            moved = True


def _search_grid(search: Search, clock: Clock, halted: Halted, watch: Watch) -> bool:
    run, total = search.run, math.ceil(search.space.size / CHUNK)
    while not watch.look():
        number = _claim(run, total, clock.now())
        if number is None:
            break
        numbers = range(number * CHUNK, min((number + 1) * CHUNK, search.space.size))
        rows = search.judge.figures(search.train, [search.space.at(n) for n in numbers])
        _keep_chunk(search, number, rows, watch)
        if halted():
            break
    return run.chunks.exclude(rows__isnull=True).count() >= total


def _claim(run: OptimisationRun, total: int, now: datetime) -> int | None:
    """A chunk that nobody works at; None where there is none."""
    taken = set(run.chunks.values_list("number", flat=True))
    for number in range(total):
        if number in taken:
            continue
        try:
            with transaction.atomic():
                OptimisationChunk.objects.create(run=run, number=number, claimed_at=now)
        except IntegrityError:
            continue  # another process was faster
        return number
    left = run.chunks.filter(rows__isnull=True, claimed_at__lt=now - ABANDONED)
    for chunk in left:
        if run.chunks.filter(pk=chunk.pk, claimed_at=chunk.claimed_at, rows__isnull=True).update(claimed_at=now):
            return chunk.number
    return None


def _keep_chunk(search: Search, number: int, rows: Sequence[Figures | None], watch: Watch) -> None:
    """The figures of a chunk, and the best so far; both or neither."""
    run, space = search.run, search.space
    trials = [Trial(n, space.at(n), row) for n, row in enumerate(rows, number * CHUNK) if row is not None]
    with transaction.atomic():
        held = OptimisationRun.objects.select_for_update().get(pk=run.pk)
        run.chunks.filter(number=number).update(rows=list(rows))
        counted = [
            row for chunk in run.chunks.exclude(rows__isnull=True).values_list("rows", flat=True) for row in chunk or ()
        ]
        if held.best:
            trials.append(_trial(held.best))
        refused = sum(row is None for row in counted)
        watch.note(
            "searching",
            len(counted),
            run.trials_wanted,
            trials_done=len(counted),
            trials_refused=refused,
            best=trial_json(search.best(trials)),
        )


# --- stopped and gone on with ---------------------------------------------------------------------------------------


@transaction.atomic
def optimisation_stop(run: OptimisationRun, *, by: Actor, at: datetime) -> bool:
    """Ask whoever works at it to stop; what was found is kept. False where it is over already."""
    asked = OptimisationRun.objects.filter(pk=run.pk, status__in=OPEN).update(stop_requested=True, status=S.STOPPED)
    run.refresh_from_db()
    if asked:
        audit_record("optimisation.stop", by=by, subject=run, at=at, details={"trials_done": run.trials_done})
    return bool(asked)


def optimisation_resume(run: OptimisationRun, *, trials: int | None = None, clock: Clock) -> None:
    """Go on where it stopped, or search on with more trials. Call it only while nobody works at it."""
    if run.method == TPE:
        study_forget_unfinished(run.study, directions=_directions(run))
    run.chunks.filter(rows__isnull=True).delete()
    if trials and run.method == TPE:
        wanted = min(trials, Space.from_json(run.space).size)
        if wanted > run.trials_wanted:
            run.evidence, run.summary = {}, {}
            run.trials_wanted = wanted
            run.status = S.QUEUED
    if run.status in (S.STOPPED, S.FAILED):
        run.status = S.JUDGING if "best" in run.evidence else S.QUEUED
    run.stop_requested, run.note = False, ""
    run.finished_at = run.finished_at if run.status == S.DONE else None
    run.worked_at = clock.now()
    run.save()


def optimisation_fail(run: OptimisationRun, why: str, *, now: datetime) -> None:
    """It cannot be done; what was found is kept."""
    OptimisationRun.objects.filter(pk=run.pk, status__in=OPEN).update(status=S.FAILED, note=why, finished_at=now)
    run.refresh_from_db()


def optimisations_silent(clock: Clock) -> list[OptimisationRun]:
    """Runs of workers without progress for a while: whoever worked is gone. Those silent for an hour fail."""
    now = clock.now()
    of_workers = OptimisationRun.objects.filter(status__in=OPEN, plan__celery=True)
    for run in of_workers.filter(worked_at__lt=now - clock.wall(GIVEN_UP)):
        optimisation_fail(run, "No worker made any progress for an hour. Look into the workers' log.", now=now)
    return list(of_workers.filter(worked_at__lt=now - clock.wall(SILENT)))


def optimisation_hand_over(run: OptimisationRun, *, now: datetime) -> None:
    """From now on workers go on with it, and the sweep looks after it. OptimisationRefused for candles in a file."""
    if run.source.startswith(FILE):
        raise OptimisationRefused(
            "Workers read candles from the database, not from a file of this machine. Import them with "
            "manage.py import_ohlcv, or search here with --workers 1."
        )
    run.plan = {**run.plan, "celery": True}
    run.worked_at = now
    run.save(update_fields=["plan", "worked_at"])


# --- small things ---------------------------------------------------------------------------------------------------


def file_source(path: str) -> str:
    return f"{FILE}{Path(path).resolve()}"


def move(run: OptimisationRun, old: Sequence[str], new: str, clock: Clock) -> bool:
    moved = OptimisationRun.objects.filter(pk=run.pk, status__in=old).update(status=new, worked_at=clock.now())
    run.refresh_from_db()
    return bool(moved)


def _directions(run: OptimisationRun) -> Directions:
    return directions([Objective(each) for each in run.objectives])


def trial_json(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    return {"number": trial.number, "choice": dict(trial.choice), "figures": dict(trial.figures)}


def _trial(row: Mapping[str, Any]) -> Trial:
    return Trial(row["number"], row["choice"], row["figures"])


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON keeps it: Decimals as text."""
    return {
        name: value if isinstance(value, int | float | bool | str) else str(value) for name, value in parameters.items()
    }


def _moment(unix: int) -> datetime:
    return datetime.fromtimestamp(int(unix), UTC)
