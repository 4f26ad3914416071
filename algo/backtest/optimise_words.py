"""A search as words: one wording for the terminal, the HTML report and the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from algo.backtest.words import UNKNOWN, amount_in, number, percent

OBJECTIVES = {
    "sharpe": "Sharpe ratio",
    "net_profit": "net profit",
    "calmar": "Calmar ratio",
    "profit_factor": "profit factor",
    "win_rate": "win rate",
    "max_drawdown": "max drawdown",
}
PARAMETER_HEADS = ("Parameter", "Value", "Searched")
WINDOW_HEADS = ("", "Train", "Test")
FOLD_HEADS = ("Fold", "Train", "Test", "Train deals", "Test deals", "Best set of the fold")

Report = Mapping[str, Any]  # as `optimisation_report` makes it


def period_line(report: Report) -> str:
    """Which candles were searched on, and which were not."""
    data = report["data"]
    first, last = (str(data[name])[:16].replace("T", " ") for name in ("from", "to"))
    return (
        f"{first} to {last} UTC: {data['warmup']:,} candles of warm-up, {data['train_candles']:,} searched on, "
        f"{data['test_candles']:,} kept unseen"
    )


def parameter_rows(report: Report) -> list[tuple[str, str, str]]:
    """What was searched, and the values of the best set, as far as there is one."""
    best = report["best"] or report["best_so_far"]
    chosen, border = (best or {}).get("choice", {}), (best or {}).get("border", ())
    return [
        (
            each["name"],
            str(chosen.get(each["name"], UNKNOWN)),
            f"{_span(each)}{'  (border)' if each['name'] in border else ''}",
        )
        for each in report["space"]
    ]


def window_rows(report: Report) -> list[tuple[str, str, str]]:
    """Figures of the best set where it was searched and where it was not; empty until they are known."""
    best, quote = report["best"], report["quote"]
    if not best or best["train"] is None:
        return []
    amount = amount_in(quote)
    told = (
        (f"Net profit ({quote})", "net_profit", amount),
        ("Net profit", "net_profit_percent", percent),
        ("Sharpe", "sharpe", number),
        ("Calmar", "calmar", number),
        ("Max drawdown", "max_drawdown_percent", percent),
        ("Profit factor", "profit_factor", number),
        ("Win rate", "win_rate_percent", percent),
        ("Deals", "deals", lambda count: f"{int(count):,}"),
        ("Time in the market", "exposure_percent", percent),
        (f"Fees paid ({quote})", "fees_paid", amount),
    )
    train, test = best["train"], best["test"]
    return [
        (label, words(train[name]), UNKNOWN if test is None else words(test[name]))
        for label, name, words in told
        if name in train
    ]


def walk_line(walk: Mapping[str, Any]) -> str:
    """What searching and trading step by step came to."""
    kept = UNKNOWN if walk["efficiency"] is None else f"{100 * walk['efficiency']:.0f} %"
    return (
        f"{percent(walk['net_profit_percent'])} unseen, {walk['winning_folds']} of {len(walk['folds'])} folds won, "
        f"efficiency {kept}"
    )


def fold_rows(walk: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for fold in walk["folds"]:
        both = (fold["train_figures"], fold["test_figures"])
        rows.append(
            (
                str(fold["number"]),
                *(percent(figures["net_profit_percent"]) if figures else UNKNOWN for figures in both),
                *(f"{int(figures['deals']):,}" if figures else UNKNOWN for figures in both),
                choice_line(fold["choice"]) or "none had enough deals: nothing traded",
            )
        )
    return rows


def choice_line(choice: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{name}={value}" for name, value in (choice or {}).items())


def best_line(best: Mapping[str, Any] | None, objectives: Sequence[str]) -> str:
    """The best set so far, in half a line."""
    if best is None:
        return "no set has enough deals yet"
    told = ", ".join(f"{OBJECTIVES[name]} {objective_words(best['figures'], name)}" for name in objectives)
    return f"best so far is set {best['number']}: {told}, {int(best['figures']['deals']):,} deals"


def objective_words(figures: Mapping[str, Any], objective: str) -> str:
    """An objective of a set, in its unit."""
    name = f"{objective}_percent"
    return percent(figures[name]) if name in figures else number(figures[objective])


def _span(dimension: Mapping[str, Any]) -> str:
    values = dimension["values"]
    return f"{values[0]} to {values[-1]}" if dimension["ordered"] and len(values) > 2 else ", ".join(map(str, values))
