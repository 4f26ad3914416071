"""A backtest as a trader reads it: the figures of both fill models side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.columns import Columns
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from algo.backtest.words import amount_in, figure_rows, percent, percent_of, period, toman_line

__all__ = ["amount_in", "backtest_tables"]


def backtest_tables(report: Mapping[str, Any]) -> list[RenderableType]:
    """Title, figures, exits by reason, hours and weekdays, what was refused, and warnings, of a report as
    `side_by_side` makes it."""
    return [_title(report), _figures(report), _exits(report), _when(report), _refused(report), *_warnings(report)]


def _title(report: Mapping[str, Any]) -> Text:
    costs = report["costs"]
    return Text(
        f"{report['strategy']} on {report['symbol']} ({report['provider']}), resolution {report['resolution']}\n"
        f"{period(report['from'], report['to'])} UTC, {report['candles']:,} candles after "
        f"{report['warmup_candles']:,} of warm-up\n"
        f"fee {percent_of(costs['taker_fee_rate'])} taker, {percent_of(costs['maker_fee_rate'])} "
        f"maker, slippage {percent(float(costs['slippage_percent']))}"
        + (f"\n{line}" if (line := toman_line(report)) else "")
    )


def _figures(report: Mapping[str, Any]) -> Table:
    models = report["models"]
    table = Table(title="Figures by fill model")
    table.add_column("")
    for model in models:
        table.add_column(model, justify="right")
    for label, words in figure_rows(report):
        table.add_row(label, *(words(name, model["metrics"]) for name, model in models.items()))
    return table


def _exits(report: Mapping[str, Any]) -> Table:
    amount = amount_in(report["quote"])
    table = Table(title="Exits by reason")
    for name in ("Fill model", "Reason", "Deals", "Won", f"Profit ({report['quote']})"):
        table.add_column(name, justify="left" if name in ("Fill model", "Reason") else "right")
    for model, figures in report["models"].items():
        for reason, row in figures["metrics"]["by_exit_reason"].items():
            table.add_row(model, reason, str(row["deals"]), percent(row["win_rate_percent"]), amount(row["profit"]))
    return table


def _when(report: Mapping[str, Any]) -> RenderableType:
    """Deals of the first fill model by the hour and the weekday of their entry."""
    metrics, zone = report["metrics"], report["time_zone"]
    if not metrics["deals"]:
        return Text("")
    tables = []
    for what in ("hour", "weekday"):
        table = Table(title=f"By {what} ({report['fill_model']}, {zone})")
        for name in (what.capitalize(), "Deals", "Won", f"Profit ({report['quote']})"):
            table.add_column(name, justify="left" if name == what.capitalize() else "right")
        for name, row in metrics[f"by_{what}"].items():
            profit = amount_in(report["quote"])(row["profit"])
            table.add_row(name, str(row["deals"]), percent(row["win_rate_percent"]), profit)
        tables.append(table)
    return Columns(tables, padding=(0, 3))


def _refused(report: Mapping[str, Any]) -> Text:
    refused = ", ".join(f"{code} {count}" for code, count in report["refused"].items()) or "none"
    signals = report["signals"]
    return Text(f"Signals: {signals['buy']} buy, {signals['sell']} sell. Refused: {refused}.")


def _warnings(report: Mapping[str, Any]) -> list[RenderableType]:
    return [Text(f"Note: {text}", style="yellow") for text in report["warnings"]]
