"""`manage.py optimise_strategy`: the best parameters on past candles, and what of them is luck."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import signal
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from django.core.management.base import CommandError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from algo import exchanges
from algo.backtest import FillModel
from algo.backtest.optimise_words import best_line
from algo.backtest.search import Objective
from algo.backtest.space import Space, SpaceRefused, space_of
from algo.management import _optimise_child
from algo.management._backtest_plan import add_plan_options, planned
from algo.management._cli import CliCommand, parent_folder_exists
from algo.management._optimise_tables import moment_name, optimise_tables
from algo.models import OptimisationRun, OptimisationStatus
from algo.queues import NoBroker, search_hand_out
from algo.sentences import sentence
from algo.services.audit import SHELL
from algo.services.optimisation_evidence import optimisation_judge, optimisation_report
from algo.services.optimisations import (
    DATABASE,
    GRID,
    OPEN,
    TPE,
    OptimisationRefused,
    Search,
    Wanted,
    file_source,
    optimisation_create,
    optimisation_hand_over,
    optimisation_open,
    optimisation_resume,
    optimisation_search,
    optimisation_stop,
    optimisation_trials,
    warmup_of,
)
from algo.services.optuna_studies import StudyUnavailable

CELERY = "celery"
KEPT = "Every set that was judged is kept."
DEFAULTS: Mapping[str, Any] = {
    "method": TPE,
    "trials": 200,
    "objective": ["sharpe"],
    "min_deals": 30,
    "test": 30,
    "walk_forward": 0,
    "anchored": False,
    "seed": 0,
    "points": 5,
    "shuffles": 99,
    "block": 10,
    "paths": 1000,
}
# What a search is, once it has begun; --resume takes it from there.
FIXED = (
    *(name for name in DEFAULTS if name != "trials"),
    *("strategy", "config", "param", "provider", "symbol", "resolution", "days", "start", "end", "csv"),
    *("fee", "slippage", "balance", "base_balance", "sides", "fill_model", "space", "name"),
)
_POLL_SECONDS = 0.3
_PATIENCE = 60.0  # without a worker's progress

Told = Callable[[OptimisationRun, str, float, float], None]


class Command(CliCommand):
    kept = KEPT
    help = (
        "Search for parameters on past candles, test the best on candles the search has not seen, and say whether it "
        "is more than luck. Ctrl-C keeps what was found; --resume goes on."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_plan_options(parser)
        add = parser.add_argument
        add("--fill-model", choices=[*FillModel], help="How a candle is read (default: conservative).")
        add("--space", action="append", default=[], metavar="NAME=LOW:HIGH[:STEP]", help="Or NAME=A,B,C. Repeatable.")
        add("--method", choices=[TPE, GRID], help="Learn from what was tried, or try all (default: tpe).")
        add("--trials", help="Sets to judge with tpe (default: 200).")
        add("--points", help="Values of a range without STEP in a grid (default: 5).")
        add("--objective", action="append", choices=[*Objective], help="Repeatable (default: sharpe).")
        add("--min-deals", help="Sets with fewer deals are not wanted (default: 30).")
        add("--test", metavar="PERCENT", help="Newest candles kept from the search (default: 30).")
        add("--walk-forward", metavar="FOLDS", help="Also search and trade in so many steps (default: 0, off).")
        add("--anchored", action="store_true", help="Train windows of the walk all begin at the first candle.")
        add("--shuffles", help="Shuffled markets to compare with (default: 99; 0 is off).")
        add("--block", help="Candles that stay together in a shuffled market (default: 10).")
        add("--paths", help="Other orders of the deals (default: 1000).")
        add("--seed", help="The same seed gives the same answer with one worker (default: 0).")
        add("--workers", default="1", metavar="N|celery", help="Processes of this machine, or Celery's (default: 1).")
        add("--jobs", help="With --workers celery: messages handed out at once (default: 4).")
        add("--name", help="To find it again (default: strategy, symbol and time).")
        add("--resume", metavar="NAME", help="Go on with a search; with --trials, on to so many.")
        add("--json", action="store_true", help="One JSON object on stdout, nothing else.")
        add("--html", metavar="FILE", help="A report with charts, one file that needs no network.")
        add("--heat", metavar="X,Y", help="Parameters of the heat map (default: the two that matter most).")

    def handle(self, *args: Any, **options: Any) -> None:
        parent_folder_exists(options["html"])
        workers, jobs = _workers(options["workers"]), _whole(options, "jobs", 4, 1, 64)
        try:
            search = self._resumed(options) if options["resume"] else self._begun(options)
            with _interruptible() as halted:
                self._work(search, workers, jobs, halted)
        except (OptimisationRefused, SpaceRefused, StudyUnavailable) as exc:
            raise CommandError(sentence(str(exc))) from exc
        self._tell(search.run, options)

    def _begun(self, options: dict[str, Any]) -> Search:
        """A new search, its candles downloaded where they are missing."""
        asked = {**DEFAULTS, **{name: options[name] for name in DEFAULTS if options[name]}}
        given = [text.partition("=")[0] for text in options["param"]]
        numbers = _numbers(options)
        found: list[Space] = []

        def warmup(strategy: Any) -> int:
            space = space_of(strategy.schema, options["space"], fixed=given)
            found.append(space.thinned(numbers["points"]) if asked["method"] == GRID else space)
            return warmup_of(type(strategy).__name__, _base(strategy), found[0])

        fill_model = options["fill_model"] or str(FillModel.CONSERVATIVE)
        plan, data = planned({**options, "fill_model": fill_model}, self.stderr, warmup=warmup)
        now, strategy = exchanges.CLOCK.now(), type(plan.strategy).__name__
        wanted = Wanted(
            name=options["name"] or _free_name(f"{strategy}-{plan.rules.symbol}-{moment_name(now)}"),
            strategy=strategy,
            parameters=_base(plan.strategy),
            candles=data.candles,
            source=file_source(options["csv"]) if options["csv"] else DATABASE,
            market=plan.market,
            rules=plan.rules,
            settings=plan.settings,
            space=found[0],
            method=asked["method"],
            objectives=[Objective(each) for each in dict.fromkeys(asked["objective"])],
            trials=numbers["trials"],
            min_deals=numbers["min_deals"],
            test_percent=numbers["test"],
            walk_forward=numbers["walk_forward"],
            anchored=bool(asked["anchored"]),
            seed=numbers["seed"],
            paths=numbers["paths"],
            worlds=numbers["shuffles"],
            block=numbers["block"],
        )
        _heat(options["heat"], wanted.space)
        return optimisation_open(optimisation_create(wanted, now=now), data.candles)

    def _resumed(self, options: dict[str, Any]) -> Search:
        if given := [f"--{name.replace('_', '-')}" for name in FIXED if options[name]]:
            raise CommandError(
                f"--resume goes on with what was asked when it began: leave out {', '.join(given)}, or begin a new "
                "search."
            )
        run = OptimisationRun.objects.select_related("market").filter(name=options["resume"]).first()
        if run is None:
            known = ", ".join(OptimisationRun.objects.values_list("name", flat=True)[:10]) or "none"
            raise CommandError(f"There is no search named {options['resume']!r}. Known are: {known}.")
        search = optimisation_open(run)
        _heat(options["heat"], search.space)
        trials = _whole(options, "trials", run.trials_wanted, 1, 100_000)
        optimisation_resume(run, trials=trials, clock=exchanges.CLOCK)
        return search

    # --- work ---------------------------------------------------------------------------------------------------------

    def _work(self, search: Search, workers: int | str, jobs: int, halted: Callable[[], bool]) -> None:
        run = search.run
        with _bar(self.stderr.isatty()) as told:
            if run.status == OptimisationStatus.DONE:
                return
            if workers == CELERY:
                self._by_celery(run, jobs, halted, told)
            else:
                if isinstance(workers, int) and workers > 1:
                    self._by_processes(run, workers, halted, told)
                optimisation_search(search, clock=exchanges.CLOCK, halted=halted, progress=told)
                if not halted():
                    optimisation_judge(search, clock=exchanges.CLOCK, halted=halted, progress=told)
        if halted():
            self._interrupted(run)

    def _by_processes(self, run: OptimisationRun, count: int, halted: Callable[[], bool], told: Told) -> None:
        """Children search; this process tells, and finishes what they leave."""
        spawn = multiprocessing.get_context("spawn")
        children = [spawn.Process(target=_optimise_child.work, args=(run.pk,), daemon=True) for _ in range(count)]
        for child in children:
            child.start()
        try:
            while any(child.is_alive() for child in children) and not halted():
                time.sleep(_POLL_SECONDS)
                run.refresh_from_db()
                told(run, "searching", run.trials_done, run.trials_wanted)
        finally:
            if halted():
                optimisation_stop(run, by=SHELL, at=exchanges.CLOCK.now())
            for child in children:
                child.join(10)
                if child.is_alive():
                    child.terminate()
        if all(child.exitcode for child in children):
            raise CommandError("None of the processes that were to search came to an end: see above. " + KEPT)

    def _by_celery(self, run: OptimisationRun, jobs: int, halted: Callable[[], bool], told: Told) -> None:
        """Workers search and judge; this process tells. Closing it does not stop them, Ctrl-C does."""
        optimisation_hand_over(run, now=exchanges.CLOCK.now())
        try:
            search_hand_out(run.pk, jobs=jobs)
        except NoBroker as exc:
            optimisation_stop(run, by=SHELL, at=exchanges.CLOCK.now())
            raise CommandError(
                f"{exc}. Start the platform with ./run, or search here, with this process: {_resume(run)}"
            ) from exc
        seen, since = (0, ""), time.monotonic()
        while run.status in OPEN and not halted():
            time.sleep(_POLL_SECONDS)
            run.refresh_from_db()
            told(run, run.status, run.trials_done, run.trials_wanted)
            if (run.trials_done, str(run.worked_at)) != seen:
                seen, since = (run.trials_done, str(run.worked_at)), time.monotonic()
            elif time.monotonic() - since > _PATIENCE:
                raise CommandError(
                    "No worker of the queue `backtests` has made any progress for a minute. The search is kept and "
                    f"goes on when one is up; or go on here: {_resume(run)}"
                )
        if run.status == OptimisationStatus.FAILED:
            raise CommandError(f"The search failed: {run.note} {KEPT}")

    def _interrupted(self, run: OptimisationRun) -> None:
        optimisation_stop(run, by=SHELL, at=exchanges.CLOCK.now())
        report = optimisation_report(run)
        if report["best"] is None or run.status != OptimisationStatus.DONE:
            self.stderr.write(sentence(best_line(run.best, run.objectives)))
        raise CommandError(
            f"Stopped. {KEPT[:-1]} ({run.trials_done} of {run.trials_wanted}). Go on with: {_resume(run)}",
            returncode=130,
        )

    # --- told ---------------------------------------------------------------------------------------------------------

    def _tell(self, run: OptimisationRun, options: Mapping[str, Any]) -> None:
        if run.status != OptimisationStatus.DONE:
            raise CommandError(f"The search was stopped from elsewhere. {KEPT} Go on with: {_resume(run)}")
        report = optimisation_report(run)
        if options["html"]:
            self._write_html(run, Path(options["html"]), options["heat"])
        if options["json"]:
            self.stdout.write(json.dumps(report, allow_nan=False))
        else:
            self.show(*optimise_tables(report))

    def _write_html(self, run: OptimisationRun, path: Path, heat: str | None) -> None:
        from algo.backtest.optimise_report import optimisation_html  # noqa: PLC0415 - plotly is half a second

        axes = tuple(heat.split(",")) if heat else None
        page = optimisation_html(optimisation_report(run), run.evidence, optimisation_trials(run), heat=axes)
        draft = path.with_name(f".{path.name}.part")
        try:
            draft.write_text(page, encoding="utf-8")
            draft.replace(path)
        except OSError as exc:
            draft.unlink(missing_ok=True)
            raise CommandError(
                f"{path} cannot be written: {exc.strerror}. The search is kept; write it again with: {_resume(run)} "
                "--html FILE"
            ) from exc


# --- words ----------------------------------------------------------------------------------------------------------


def _base(strategy: Any) -> dict[str, Any]:
    base: dict[str, Any] = strategy.parameters.model_dump(mode="json")
    return base


def _free_name(name: str) -> str:
    """`name`, with a number behind it where another search began in the same second."""
    taken = set(OptimisationRun.objects.filter(name__startswith=name).values_list("name", flat=True))
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in taken)


def _resume(run: OptimisationRun) -> str:
    return f"python manage.py optimise_strategy --resume {run.name}"


def _workers(text: str) -> int | str:
    if text == CELERY:
        return CELERY
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise CommandError(f"--workers must be a whole number from 1 to 64, or celery; it is {text!r}.")
    return int(text)


def _numbers(options: Mapping[str, Any]) -> dict[str, int]:
    bounds = {
        "trials": (1, 100_000),
        "points": (2, 1000),
        "min_deals": (1, 100_000),
        "test": (0, 80),
        "walk_forward": (0, 100),
        "shuffles": (0, 10_000),
        "block": (1, 10_000),
        "paths": (100, 100_000),
        "seed": (0, 2**31 - 1),
    }
    return {name: _whole(options, name, DEFAULTS[name], *ends) for name, ends in bounds.items()}


def _whole(options: Mapping[str, Any], name: str, default: int, low: int, high: int) -> int:
    text = options[name]
    if text is None:
        return default
    number = int(text) if str(text).isdecimal() else -1
    if not low <= number <= high:
        raise CommandError(
            f"--{name.replace('_', '-')} must be a whole number from {low:,} to {high:,}; it is {text!r}."
        )
    return number


def _heat(text: str | None, space: Space) -> None:
    """Refuse axes that the heat map cannot have before any work was done."""
    names = [each.name for each in space.dimensions]
    axes = text.split(",") if text else []
    if text and (len(axes) != 2 or axes[0] == axes[1] or not set(axes) <= set(names)):
        raise CommandError(f"--heat {text!r} is no X,Y of two searched parameters. Searched are: {', '.join(names)}.")


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C asks to stop after what is being judged; a second one does not wait for it."""
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _bar(is_terminal: bool) -> Iterator[Told]:
    """How far the search is, and the best so far, on stderr where that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), disable=not is_terminal)
    with bar:
        task = bar.add_task("searching", total=None)

        def tell(run: OptimisationRun, what: str, done: float, total: float) -> None:
            bar.update(task, description=f"{what} · {best_line(run.best, run.objectives)}", completed=done, total=total)

        yield tell
