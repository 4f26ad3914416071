"""A backtest as a trader reads it: the figures of both fill models side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

UNKNOWN = "-"


def backtest_tables(report: Mapping[str, Any]) -> list[RenderableType]:
    """Title, figures, exits by reason, what was refused, and warnings, of a report as `side_by_side` makes it."""
    return [_title(report), _figures(report), _exits(report), _refused(report), *_warnings(report)]


def _title(report: Mapping[str, Any]) -> Text:
    start, end = report["from"][:16].replace("T", " "), report["to"][:16].replace("T", " ")
    costs = report["costs"]
    return Text(
        f"{report['strategy']} on {report['symbol']} ({report['provider']}), resolution {report['resolution']}\n"
        f"{start} to {end} UTC, {report['candles']} candles after {report['warmup_candles']} of warm-up\n"
        f"fee {_percent(100 * float(costs['taker_fee_rate']))} taker, {_percent(100 * float(costs['maker_fee_rate']))} "
        f"maker, slippage {_percent(float(costs['slippage_percent']))}"
    )


def _figures(report: Mapping[str, Any]) -> Table:
    quote = report["quote"]
    amount = amount_in(quote)
    models = report["models"]
    table = Table(title="Figures by fill model")
    table.add_column("")
    for model in models:
        table.add_column(model, justify="right")
    for label, text in _rows(quote, amount):
        table.add_row(label, *(text(model["metrics"]) for model in models.values()))
    return table


Metrics = Mapping[str, Any]


def _rows(quote: str, amount: Callable[[Any], str]) -> list[tuple[str, Callable[[Metrics], str]]]:
    return [
        (f"Net profit ({quote})", lambda m: amount(m["net_profit"])),
        ("Net profit", lambda m: _percent(m["net_profit_percent"])),
        ("Buy and hold", lambda m: _percent(m["buy_and_hold_percent"])),
        ("Growth per year (CAGR)", lambda m: _percent(m["cagr_percent"])),
        ("Max drawdown", lambda m: _percent(m["max_drawdown_percent"])),
        ("  from peak to trough", _drawdown_dates),
        (
            "Sharpe / Sortino / Calmar",
            lambda m: " / ".join(_number(m[name]) for name in ("sharpe", "sortino", "calmar")),
        ),
        ("Deals", lambda m: str(m["deals"])),
        ("Win rate", lambda m: _percent(m["win_rate_percent"])),
        ("Profit factor", lambda m: _number(m["profit_factor"])),
        (f"Expectancy per deal ({quote})", lambda m: amount(m["expectancy"])),
        (f"Best / worst deal ({quote})", lambda m: f"{amount(m['best_deal'])} / {amount(m['worst_deal'])}"),
        ("Longest losing streak", lambda m: str(m["longest_losing_streak"])),
        ("Average hold", lambda m: _duration(m["average_hold_seconds"])),
        ("Time in the market", lambda m: _percent(m["exposure_percent"])),
        (f"Fees paid ({quote})", lambda m: amount(m["fees_paid"])),
    ]


def _exits(report: Mapping[str, Any]) -> Table:
    amount = amount_in(report["quote"])
    table = Table(title="Exits by reason")
    for name in ("Fill model", "Reason", "Deals", "Won", f"Profit ({report['quote']})"):
        table.add_column(name, justify="left" if name in ("Fill model", "Reason") else "right")
    for model, figures in report["models"].items():
        for reason, row in figures["metrics"]["by_exit_reason"].items():
            table.add_row(model, reason, str(row["deals"]), _percent(row["win_rate_percent"]), amount(row["profit"]))
    return table


def _refused(report: Mapping[str, Any]) -> Text:
    refused = ", ".join(f"{code} {count}" for code, count in report["refused"].items()) or "none"
    signals = report["signals"]
    return Text(f"Signals: {signals['buy']} buy, {signals['sell']} sell. Refused: {refused}.")


def _warnings(report: Mapping[str, Any]) -> list[RenderableType]:
    return [Text(f"Note: {text}", style="yellow") for text in report["warnings"]]


def _drawdown_dates(metrics: Metrics) -> str:
    if not metrics["max_drawdown_percent"]:
        return UNKNOWN
    return f"{metrics['max_drawdown_peak_at'][5:16]} to {metrics['max_drawdown_trough_at'][5:16]}".replace("T", " ")


def amount_in(quote: str) -> Callable[[float | None], str]:
    """How an amount of `quote` is written: whole toman, cents of dollars, eight digits of anything else."""
    digits = {"IRT": 0, "TMN": 0, "USDT": 2}.get(quote, 8)
    return lambda value: UNKNOWN if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.2f} %"


def _number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.2f}"


def _duration(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else str(timedelta(seconds=round(seconds)))
