"""What the best set of a search is worth: unseen candles, walk-forward, other orders of its deals, shuffled markets.

Each piece is kept as it is found: a process may be killed at any moment, and another one goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
from django.db import transaction

from algo.backtest import BacktestResult
from algo.backtest.engine import trading_days
from algo.backtest.judgement import judged
from algo.backtest.luck import (
    Blocks,
    ShuffledBest,
    deal_returns,
    deflated_sharpe,
    histogram,
    monte_carlo,
    shuffled_scores,
)
from algo.backtest.metrics import DAYS_A_YEAR, daily_returns
from algo.backtest.search import CHUNK, UNKNOWN, Figures, Window, distinct, pareto_front, score
from algo.backtest.space import Choice
from algo.backtest.walk_forward import Fold, FoldResult, WalkForward, walk_fold
from algo.indicators import Series
from algo.models import OptimisationRun
from algo.services.alone import alone
from algo.services.optimisations import (
    Halted,
    Progress,
    S,
    Search,
    Watch,
    folds_wanted,
    optimisation_trials,
    trial_json,
)
from algo.strategies import Candles
from providers.clock import Clock

POINTS = 300  # of an equity curve that is kept
FRONT = 20  # sets of a Pareto front that are kept
_JUDGING = 7130  # advisory locks: one for each run
MONTE_CARLO_DEALS = 20  # of the test window, below which the train window's deals are shuffled


def judging_alone(run: OptimisationRun) -> AbstractContextManager[bool]:
    """Whether this process may judge: False while another one does. Ends with the process, however that ends."""
    return alone(_JUDGING, run.pk)


def optimisation_judge(search: Search, *, clock: Clock, halted: Halted, progress: Progress | None = None) -> bool:
    """Find out what the best set is worth: unseen candles, walk-forward, other orders of its deals, shuffled markets.

    Each piece is kept as it is found; True where all is found and the run is done.
    """
    run = search.run
    run.refresh_from_db()
    if run.status != S.JUDGING:
        return run.status == S.DONE
    watch = Watch(run, clock, progress)
    for stage in (_judge_best, _judge_walk, _judge_shuffled):
        if not stage(search, watch, halted):
            return False
        if watch.look():
            return False
    trials = distinct(optimisation_trials(run))
    verdict = judged(_for_judgement(run.evidence), sets=len(trials), min_deals=search.min_deals)
    summary = {**optimisation_report(run), "sets": len(trials), "judgement": verdict.as_dict()}
    now = clock.now()
    changed = OptimisationRun.objects.filter(pk=run.pk, status=S.JUDGING).update(
        status=S.DONE, finished_at=now, worked_at=now, summary=summary
    )
    run.refresh_from_db()
    return bool(changed) or run.status == S.DONE


def _judge_best(search: Search, watch: Watch, halted: Halted) -> bool:
    """The best set in full: figures on both windows, the deflated Sharpe ratio, other orders of its deals."""
    run = search.run
    if "best" in run.evidence:
        return True
    if watch.look():
        return False
    trials = distinct(optimisation_trials(run))
    best = search.best(trials)
    if best is None:
        _keep(run, watch, best={"train": None})
        return True
    train = search.judge.play(search.train, best.choice)
    test = search.judge.play(search.test, best.choice) if search.test else None
    sharpes = [each.figures["sharpe"] for each in trials if each.figures["sharpe"] is not None]
    daily = [each / math.sqrt(DAYS_A_YEAR) for each in sharpes if each is not None]
    deflated = deflated_sharpe(_daily_returns(train), daily, len(trials))
    found: dict[str, Any] = {
        "number": best.number,
        "choice": dict(best.choice),
        "parameters": train.parameters.model_dump(mode="json"),
        "train": search.judge.played_figures(train),
        "test": search.judge.played_figures(test) if test else None,
        "deflated": deflated.as_dict() if deflated else None,
        "border": search.space.border(best.choice),
        "train_equity": _curve(train),
        "test_equity": _curve(test) if test else None,
        "data_warnings": list(train.warnings),
    }
    if len(search.objectives) > 1:
        front = pareto_front(trials, search.objectives, search.min_deals)
        found["front"] = [trial_json(each) for each in front[:FRONT]]
    source = test if test is not None and test.deal_count >= MONTE_CARLO_DEALS else train
    mixed = monte_carlo(deal_returns(source), paths=int(run.plan["paths"]), seed=run.seed)
    carlo = None
    if mixed is not None:
        carlo = {
            **mixed.as_dict(),
            "deals_of": "test" if source is test else "train",
            "drawdown_histogram": histogram(mixed.drawdowns),
            "final_histogram": histogram(mixed.finals),
        }
    _keep(run, watch, best=found, monte_carlo=carlo)
    return True


def _judge_walk(search: Search, watch: Watch, halted: Halted) -> bool:
    run = search.run
    count = int(run.plan["walk_forward"])
    if not count:
        return True
    folds = folds_wanted(len(search.candles), search.warmup, count, bool(run.plan["anchored"]))
    rows: list[dict[str, Any]] = list(run.evidence.get("folds", []))
    for fold in folds[len(rows) :]:
        if watch.look():
            return False
        watch.note("walk-forward", len(rows), count)
        result = walk_fold(search.candles, fold, search.warmup, search.judge, search.search)
        rows.append(_fold_json(search.candles, result))
        _keep(run, watch, folds=rows)
        watch.note("walk-forward", len(rows), count)
        if halted() and len(rows) < count:
            return False  # after a piece, never before: however little time a message has, it gets on
    if "walk_forward" not in run.evidence:
        walked = WalkForward(tuple(_fold_result(fold, row) for fold, row in zip(folds, rows, strict=True)))
        _keep(run, watch, walk_forward=walked.as_dict())
    return True


def _judge_shuffled(search: Search, watch: Watch, halted: Halted) -> bool:
    """The same blindly drawn sets on the real market and on shuffled ones."""
    run = search.run
    worlds, block = int(run.plan["worlds"]), int(run.plan["block"])
    if not worlds or run.evidence["best"]["train"] is None or "bootstrap" in run.evidence:
        return True
    drawn = search.space.draw(int(run.plan["sets"]), run.seed)
    best_on = partial(_best_score, search, drawn)
    candles = search.train.candles
    try:
        if "real_world" not in run.evidence:
            _keep(run, watch, real_world=best_on(candles))
        real = float(run.evidence["real_world"])
        done: list[float] = list(run.evidence.get("worlds", []))
        while len(done) < worlds:
            if watch.look():
                return False
            next_one = [len(done)]
            done += shuffled_scores(candles, best_on, next_one, block=block, kind=Blocks.STATIONARY, seed=run.seed)
            _keep(run, watch, worlds=done)
            watch.note("shuffled markets", len(done), worlds)
            if halted() and len(done) < worlds:
                return False
    except ValueError as exc:
        _keep(run, watch, bootstrap=None, bootstrap_note=str(exc))
        return True
    _keep(run, watch, bootstrap=ShuffledBest(real, tuple(done), len(drawn), block).as_dict())
    return True


def _best_score(search: Search, choices: Sequence[Choice], candles: Candles) -> float:
    """The best score of these sets on these candles; UNKNOWN where none has enough deals."""
    window = Window(candles, search.warmup)
    rows: list[Figures] = []
    for start in range(0, len(choices), CHUNK):
        found = search.judge.figures(window, choices[start : start + CHUNK])
        rows += [row for row in found if row is not None and (row["deals"] or 0) >= search.min_deals]
    return max((score(row, search.objectives[0]) for row in rows), default=UNKNOWN)


def _for_judgement(evidence: Mapping[str, Any]) -> dict[str, Any]:
    return {**evidence["best"], "walk_forward": evidence.get("walk_forward"), "bootstrap": evidence.get("bootstrap")}


# --- told -----------------------------------------------------------------------------------------------------------


def optimisation_report(run: OptimisationRun) -> dict[str, Any]:
    """Everything found so far, JSON-able; `judgement` once it is done."""
    evidence = run.evidence
    best = evidence.get("best", {})
    shown = {name: value for name, value in best.items() if not name.endswith("_equity")}
    return {
        "name": run.name,
        "strategy": run.strategy,
        "symbol": run.plan["rules"]["symbol"],
        "provider": run.plan["rules"]["provider"],
        "quote": run.plan["rules"]["quote"],
        "resolution": run.resolution,
        "method": run.method,
        "objectives": run.objectives,
        "seed": run.seed,
        "min_deals": run.plan["min_deals"],
        "status": run.status,
        "trials": {"wanted": run.trials_wanted, "done": run.trials_done, "refused": run.trials_refused},
        "space": run.space,
        "data": {
            "source": run.source,
            "from": run.data_from.isoformat(),
            "to": run.data_to.isoformat(),
            "candles": run.candles,
            "warmup": run.plan["warmup"],
            "train_candles": run.plan["split"] - run.plan["warmup"],
            "test_candles": run.candles - run.plan["split"],
            "fingerprint": run.data_fingerprint,
        },
        "best_so_far": run.best,
        "best": shown or None,
        "walk_forward": evidence.get("walk_forward"),
        "monte_carlo": evidence.get("monte_carlo"),
        "bootstrap": evidence.get("bootstrap"),
        "judgement": run.verdict or None,
        **{name: run.summary[name] for name in ("sets",) if name in run.summary},
    }


# --- small things ---------------------------------------------------------------------------------------------------


def _keep(run: OptimisationRun, watch: Watch, **found: Any) -> None:
    """Add pieces of evidence; what another process added meanwhile stays."""
    with transaction.atomic():
        held = OptimisationRun.objects.select_for_update().get(pk=run.pk)
        run.evidence = {**held.evidence, **found}
        run.worked_at = watch.clock.now()
        run.save(update_fields=["evidence", "worked_at"])


def _daily_returns(result: BacktestResult) -> Series:
    first = result.first
    days = trading_days(result.candles.open_time[first:], result.settings.time_zone)
    return daily_returns(float(result.equity[first - 1]), result.equity[first:], days)


def _curve(result: BacktestResult) -> dict[str, list[float]]:
    """Equity in quote by time, thinned out."""
    return _thinned(result.candles.open_time[result.first :], result.equity[result.first :])


def _thinned(times: Any, values: Series) -> dict[str, list[float]]:
    index = np.unique(np.linspace(0, values.size - 1, min(POINTS, values.size)).round().astype(int))
    return {"times": times[index].tolist(), "values": values[index].tolist()}


def _fold_json(candles: Candles, result: FoldResult) -> dict[str, Any]:
    fold = result.fold
    times = candles.open_time
    return {
        "choice": result.choice,
        "train": result.train,
        "test": result.test,
        "from": int(times[fold.train_stop]),
        "to": int(times[fold.test_stop - 1]),
        "equity": _thinned(times[fold.train_stop : fold.test_stop], result.equity),
    }


def _fold_result(fold: Fold, row: Mapping[str, Any]) -> FoldResult:
    return FoldResult(fold, row["choice"], row["train"], row["test"], np.array(row["equity"]["values"]))
