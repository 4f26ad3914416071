"""Stored backtests, read: their report as a page, and several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from algo.backtest.words import UNKNOWN, figure_rows, percent_of
from algo.models import BacktestRun
from algo.selectors.toman import TOMAN
from providers.types import canonical_asset

FEWEST, MOST = 2, 6  # runs that can be read side by side
Row = dict[str, Any]  # {"name": …, "values": [one text for each run]}


def has_report(run: BacktestRun) -> bool:
    """Whether its HTML report can be drawn: it is done, and what is drawn was kept."""
    return bool(run.charts)


def report_page(run: BacktestRun) -> str:
    """The HTML report of a run for which `has_report` says yes, drawn from what was kept."""
    from algo.backtest.html_report import html_report  # noqa: PLC0415 - drawn rarely, by few processes

    return html_report(run.summary, run.charts)


def backtests_compare(runs: Sequence[BacktestRun]) -> dict[str, list[Row]]:
    """Runs that are done, side by side: `differences` holds what they do not have in common, `figures` all figures of
    each run's own fill model."""
    return {
        "differences": _rows([_conditions(run) for run in runs], only_different=True),
        "figures": _rows([_figures(run.summary) for run in runs], only_different=False),
    }


def _conditions(run: BacktestRun) -> dict[str, str]:
    report = run.summary
    costs = report["costs"]
    return {
        "Strategy": run.strategy,
        "Market": str(run.market),
        "Resolution": run.resolution,
        "From": report["from"][:16].replace("T", " "),
        "To": report["to"][:16].replace("T", " "),
        "Fill model": report["fill_model"],
        "Taker fee": percent_of(costs["taker_fee_rate"]),
        "Maker fee": percent_of(costs["maker_fee_rate"]),
        "Slippage": f"{costs['slippage_percent']} %",
        "Target pays": costs["target_pays"],
        "Sides": run.asked.get("sides") or UNKNOWN,
        **{name: str(value) for name, value in sorted(run.parameters.items())},
        "Candles read": run.data_fingerprint[:12],
        "Code": run.code_version or UNKNOWN,
        "Source of the strategy": run.strategy_fingerprint[:12] or UNKNOWN,
    }


def _figures(report: Mapping[str, Any]) -> dict[str, str]:
    """By labels that do not name the quote: runs of different quotes stand in one row."""
    model, metrics, quote = report["fill_model"], report["metrics"], report["quote"]
    figures = {
        label.replace(f"({quote})", "(quote)").strip(): words(model, metrics) for label, words in figure_rows(report)
    }
    if canonical_asset(quote) == TOMAN:
        figures["Net profit (toman)"] = figures["Net profit (quote)"]
    return figures


def _rows(columns: Sequence[Mapping[str, str]], *, only_different: bool) -> list[Row]:
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [{"name": name, "values": [column.get(name, UNKNOWN) for column in columns]} for name in names]
    return [row for row in rows if not only_different or len(set(row["values"])) > 1]
