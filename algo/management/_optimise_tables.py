"""A search as a trader reads it: the best set, what became of it on unseen candles, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from algo.backtest.judgement import Verdict
from algo.backtest.optimise_words import (
    FOLD_HEADS,
    OBJECTIVES,
    PARAMETER_HEADS,
    WINDOW_HEADS,
    best_line,
    choice_line,
    fold_rows,
    objective_words,
    parameter_rows,
    period_line,
    walk_line,
    window_rows,
)
from algo.sentences import capitalised

COLOURS = {Verdict.HOLDS: "green", Verdict.DOUBTFUL: "yellow", Verdict.LUCK: "red", Verdict.NOTHING: "yellow"}


def optimise_tables(report: Mapping[str, Any]) -> list[RenderableType]:
    """Of a report as `optimisation_report` makes it, of a search that is done or was stopped."""
    best = report["best"]
    if best is None or best["train"] is None:
        return [_title(report), *_best_so_far(report), *_judgement(report)]
    parts: Iterator[RenderableType | None] = iter(
        (
            _title(report),
            _parameters(report, best),
            _train_and_test(report),
            _front(report, best),
            _folds(report),
            _monte_carlo(report),
            _luck(report, best),
        )
    )
    return [*(part for part in parts if part is not None), *_judgement(report)]


def _title(report: Mapping[str, Any]) -> Text:
    trials = report["trials"]
    refused = f", {trials['refused']:,} refused by the strategy" if trials["refused"] else ""
    return Text(
        f"{report['name']}: {report['strategy']} on {report['symbol']} ({report['provider']}), resolution "
        f"{report['resolution']}\n{period_line(report)}\n"
        f"{trials['done']:,} of {trials['wanted']:,} sets judged ({report['method']}, seed {report['seed']}){refused}"
    )


def _best_so_far(report: Mapping[str, Any]) -> list[RenderableType]:
    best = report["best_so_far"]
    if best is None:
        return []
    return [Text(f"{capitalised(best_line(best, report['objectives']))}\n{choice_line(best['choice'])}")]


def _parameters(report: Mapping[str, Any], best: Mapping[str, Any]) -> Table:
    table = Table(title=f"Best set (number {best['number']})")
    for name in PARAMETER_HEADS:
        table.add_column(name, justify="right" if name == "Value" else "left")
    for row in parameter_rows(report):
        table.add_row(*row)
    return table


def _train_and_test(report: Mapping[str, Any]) -> Table:
    table = Table(title="Searched on against unseen")
    for name in WINDOW_HEADS:
        table.add_column(name, justify="right" if name else "left")
    for row in window_rows(report):
        table.add_row(*row)
    return table


def _front(report: Mapping[str, Any], best: Mapping[str, Any]) -> Table | None:
    """Sets that nothing beats in every objective: the choice between them is a matter of taste."""
    if "front" not in best:
        return None
    table = Table(title="Pareto front (train)")
    table.add_column("Set", justify="right")
    for name in report["objectives"]:
        table.add_column(capitalised(OBJECTIVES[name]), justify="right")
    table.add_column("Deals", justify="right")
    table.add_column("Parameters")
    for each in best["front"]:
        figures = [objective_words(each["figures"], name) for name in report["objectives"]]
        deals = f"{int(each['figures']['deals']):,}"
        table.add_row(str(each["number"]), *figures, deals, choice_line(each["choice"]))
    return table


def _folds(report: Mapping[str, Any]) -> Table | None:
    walk = report["walk_forward"]
    if walk is None:
        return None
    table = Table(title=f"Walk-forward: {walk_line(walk)}")
    for name in FOLD_HEADS:
        table.add_column(name, justify="left" if name == FOLD_HEADS[-1] else "right")
    for row in fold_rows(walk):
        table.add_row(*row)
    return table


def _monte_carlo(report: Mapping[str, Any]) -> Table | None:
    mixed = report["monte_carlo"]
    if mixed is None:
        return None
    window = "unseen" if mixed["deals_of"] == "test" else "searched"
    table = Table(title=f"Other fates of its {mixed['deals']} deals in the {window} window ({mixed['paths']} each)")
    table.add_column("")
    for quantile in mixed["final_equity"]:
        table.add_column(f"{quantile} %", justify="right")
    rows = (
        ("Max drawdown, other order", "max_drawdown_percent", 1.0),
        ("Max drawdown, deals drawn anew", "resampled_max_drawdown_percent", 1.0),
        ("End of the account, drawn anew", "final_equity", 100.0),
    )
    for label, name, scale in rows:
        table.add_row(label, *(f"{scale * value:,.2f} %" for value in mixed[name].values()))
    table.add_row("Ends with a loss", f"{100 * mixed['loss_probability']:.1f} %")
    return table


def _luck(report: Mapping[str, Any], best: Mapping[str, Any]) -> Text:
    lines = []
    if deflated := best["deflated"]:
        lines.append(
            f"Deflated Sharpe: {deflated['sharpe']:.3f} a day over {deflated['shape']['count']} days; the best of "
            f"{deflated['trials']} sets without skill would show {deflated['expected_best']:.3f}. Probability of "
            f"skill {100 * deflated['probability']:.1f} % ({100 * deflated['undeflated']:.1f} % if it had been the "
            "only set)."
        )
    if bootstrap := report["bootstrap"]:
        lines.append(
            f"Shuffled markets (blocks of about {bootstrap['block']} candles, {bootstrap['sets']} blindly drawn sets): "
            f"p = {bootstrap['p_value']:.3f} of {len(bootstrap['worlds'])} worlds."
        )
    return Text("\n".join(lines) or "Too few daily returns for a Sharpe ratio.")


def _judgement(report: Mapping[str, Any]) -> list[RenderableType]:
    judgement = report["judgement"]
    if judgement is None:
        return []
    warnings = [Text(f"Note: {text}", style="yellow") for text in judgement["warnings"]]
    return [*warnings, Text(judgement["sentence"], style=f"bold {COLOURS[Verdict(judgement['verdict'])]}")]


def moment_name(now: datetime) -> str:
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}"
