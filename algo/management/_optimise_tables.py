"""A search as a trader reads it: the best set, what became of it on unseen candles, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from algo.backtest.judgement import Verdict
from algo.backtest.words import UNKNOWN, amount_in

COLOURS = {Verdict.HOLDS: "green", Verdict.DOUBTFUL: "yellow", Verdict.LUCK: "red", Verdict.NOTHING: "yellow"}
PERCENTS = ("net_profit_percent", "max_drawdown_percent", "win_rate_percent", "exposure_percent")


def optimise_tables(report: Mapping[str, Any]) -> list[RenderableType]:
    """Of a report as `optimisation_report` makes it, of a search that is done or was stopped."""
    best = report["best"]
    if best is None or best["train"] is None:
        return [_title(report), *_best_so_far(report), *_judgement(report)]
    parts: Iterator[RenderableType | None] = iter(
        (
            _title(report),
            _parameters(report, best),
            _train_and_test(report, best),
            _front(report, best),
            _folds(report),
            _monte_carlo(report),
            _luck(report, best),
        )
    )
    return [*(part for part in parts if part is not None), *_judgement(report)]


def best_line(best: Mapping[str, Any] | None, objectives: Sequence[str]) -> str:
    """The best set so far in half a line."""
    if best is None:
        return "none has enough deals yet"
    figures = best["figures"]
    told = ", ".join(f"{name} {_figure(figures, name)}" for name in objectives)
    return f"set {best['number']}: {told}, {int(figures['deals'])} deals"


def _title(report: Mapping[str, Any]) -> Text:
    data, trials = report["data"], report["trials"]
    refused = f", {trials['refused']} refused by the strategy" if trials["refused"] else ""
    return Text(
        f"{report['name']}: {report['strategy']} on {report['symbol']} ({report['provider']}), resolution "
        f"{report['resolution']}\n{data['from'][:16]} to {data['to'][:16]} UTC: {data['warmup']} candles of warm-up, "
        f"{data['train_candles']} searched on, {data['test_candles']} kept unseen\n"
        f"{trials['done']} of {trials['wanted']} sets judged ({report['method']}, seed {report['seed']}){refused}"
    )


def _best_so_far(report: Mapping[str, Any]) -> list[RenderableType]:
    best = report["best_so_far"]
    if best is None:
        return []
    chosen = ", ".join(f"{name}={value}" for name, value in best["choice"].items())
    return [Text(f"Best so far, {best_line(best, report['objectives'])}\n{chosen}")]


def _parameters(report: Mapping[str, Any], best: Mapping[str, Any]) -> Table:
    table = Table(title=f"Best set (number {best['number']})")
    for name in ("Parameter", "Value", "Searched"):
        table.add_column(name, justify="right" if name == "Value" else "left")
    for each in report["space"]:
        values = each["values"]
        span = f"{values[0]} to {values[-1]}" if each["ordered"] and len(values) > 2 else ", ".join(map(str, values))
        border = "  (border)" if each["name"] in best["border"] else ""
        table.add_row(each["name"], str(best["choice"][each["name"]]), f"{span}{border}")
    return table


def _train_and_test(report: Mapping[str, Any], best: Mapping[str, Any]) -> Table:
    train, test, amount = best["train"], best["test"], amount_in(report["quote"])
    table = Table(title="Searched on against unseen")
    table.add_column("")
    table.add_column("Train", justify="right")
    table.add_column("Test", justify="right")
    rows = [(f"Net profit ({report['quote']})", lambda f: amount(f["net_profit"]))]
    rows += [
        ("Net profit", lambda f: _number(f["net_profit_percent"], " %")),
        ("Sharpe", lambda f: _number(f["sharpe"])),
        ("Calmar", lambda f: _number(f["calmar"])),
        ("Max drawdown", lambda f: _number(f["max_drawdown_percent"], " %")),
        ("Profit factor", lambda f: _number(f["profit_factor"])),
        ("Win rate", lambda f: _number(f["win_rate_percent"], " %")),
        ("Deals", lambda f: str(int(f["deals"]))),
        ("Time in the market", lambda f: _number(f["exposure_percent"], " %")),
        (f"Fees paid ({report['quote']})", lambda f: amount(f["fees_paid"])),
    ]
    for label, text in rows:
        table.add_row(label, text(train), UNKNOWN if test is None else text(test))
    return table


def _front(report: Mapping[str, Any], best: Mapping[str, Any]) -> Table | None:
    """Sets that nothing beats in every objective: the choice between them is a matter of taste."""
    if "front" not in best:
        return None
    table = Table(title="Pareto front (train)")
    table.add_column("Set", justify="right")
    for name in report["objectives"]:
        table.add_column(name, justify="right")
    table.add_column("Deals", justify="right")
    table.add_column("Parameters")
    for each in best["front"]:
        chosen = ", ".join(f"{name}={value}" for name, value in each["choice"].items())
        figures = [_figure(each["figures"], name) for name in report["objectives"]]
        table.add_row(str(each["number"]), *figures, str(int(each["figures"]["deals"])), chosen)
    return table


def _folds(report: Mapping[str, Any]) -> Table | None:
    walk = report["walk_forward"]
    if walk is None:
        return None
    kept = UNKNOWN if walk["efficiency"] is None else f"{100 * walk['efficiency']:.0f} %"
    title = (
        f"Walk-forward: {walk['net_profit_percent']:.2f} % unseen, {walk['winning_folds']} of {len(walk['folds'])} "
        f"folds won, efficiency {kept}"
    )
    table = Table(title=title)
    for name in ("Fold", "Train %", "Test %", "Train deals", "Test deals"):
        table.add_column(name, justify="right")
    table.add_column("Best set of the fold")
    for fold in walk["folds"]:
        train, test = fold["train_figures"], fold["test_figures"]
        chosen = ", ".join(f"{name}={value}" for name, value in (fold["choice"] or {}).items())
        table.add_row(
            str(fold["number"]),
            *(_number(figures and figures["net_profit_percent"]) for figures in (train, test)),
            *(str(int(figures["deals"])) if figures else UNKNOWN for figures in (train, test)),
            chosen or "none had enough deals: nothing traded",
        )
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


def _figure(figures: Mapping[str, Any], objective: str) -> str:
    percent = f"{objective}_percent"
    return _number(figures[percent], " %") if percent in PERCENTS else _number(figures[objective])


def _number(value: float | None, unit: str = "") -> str:
    return UNKNOWN if value is None else f"{value:,.2f}{unit}"


def moment_name(now: datetime) -> str:
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}"
