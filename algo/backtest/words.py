"""The figures of a backtest as words: one wording for the terminal, the HTML report and the pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from algo.backtest.metrics import WEEKDAYS

UNKNOWN = "-"

Metrics = Mapping[str, Any]
Words = Callable[[str, Metrics], str]  # of a fill model and its figures


def figure_rows(report: Mapping[str, Any]) -> list[tuple[str, Words]]:
    """Every figure a trader reads, in the order he reads them: its label, and its words for a fill model."""
    quote = report["quote"]
    amount = amount_in(quote)
    return [
        (f"Net profit ({quote})", lambda _, m: amount(m["net_profit"])),
        *_toman_rows(report),
        ("Net profit", lambda _, m: percent(m["net_profit_percent"])),
        ("Buy and hold", lambda _, m: percent(m["buy_and_hold_percent"])),
        ("Growth per year (CAGR)", lambda _, m: percent(m["cagr_percent"])),
        ("Sharpe / Sortino / Calmar", lambda _, m: " / ".join(number(m[n]) for n in ("sharpe", "sortino", "calmar"))),
        ("Max drawdown", lambda _, m: percent(m["max_drawdown_percent"])),
        ("  from peak to trough", lambda _, m: _fall(report, m)),
        ("  recovered", lambda _, m: _recovery(report, m)),
        ("Deals", lambda _, m: str(m["deals"])),
        ("Win rate", lambda _, m: percent(m["win_rate_percent"])),
        ("Profit factor", lambda _, m: number(m["profit_factor"])),
        (f"Expectancy per deal ({quote})", lambda _, m: amount(m["expectancy"])),
        (f"Average win / loss ({quote})", lambda _, m: f"{amount(m['average_win'])} / {amount(m['average_loss'])}"),
        (f"Best / worst deal ({quote})", lambda _, m: f"{amount(m['best_deal'])} / {amount(m['worst_deal'])}"),
        ("Longest losing streak", lambda _, m: str(m["longest_losing_streak"])),
        ("Average hold", lambda _, m: duration(m["average_hold_seconds"])),
        ("Longest hold", lambda _, m: duration(m.get("longest_hold_seconds"))),
        ("Time in the market", lambda _, m: percent(m["exposure_percent"])),
        (f"Fees paid ({quote})", lambda _, m: amount(m["fees_paid"])),
    ]


def models_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The fill models with their figures, the run's own first: a database keeps no order of names."""
    own = report["fill_model"]
    return dict(sorted(report["models"].items(), key=lambda item: (item[0] != own, item[0])))


def tally_of(metrics: Metrics, name: str) -> dict[str, Mapping[str, float]]:
    """`by_hour`, `by_weekday` or `by_exit_reason` in the order people expect; empty where an older run has none."""
    rows: Mapping[str, Mapping[str, float]] = metrics.get(name, {})
    place = {day: number for number, day in enumerate(WEEKDAYS)}
    return dict(sorted(rows.items(), key=lambda item: (place.get(item[0], 0), item[0])))


def toman_line(report: Mapping[str, Any]) -> str:
    """At which price the profit was turned into toman; empty where the quote is toman, or no price is known."""
    toman = report.get("toman")
    if not toman or not toman["as_of"]:
        return ""
    moment = toman["as_of"][:16].replace("T", " ")
    return f"1 {report['quote']} = {amount_in('IRT')(float(toman['price']))} toman, {toman['source']}, {moment} UTC"


def amount_in(quote: str) -> Callable[[float | None], str]:
    """How an amount of `quote` is written: whole toman, cents of dollars, eight digits of anything else."""
    digits = {"IRT": 0, "TMN": 0, "USDT": 2}.get(quote, 8)
    return lambda value: UNKNOWN if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.2f} %"


def percent_of(rate: str) -> str:
    """A rate (0.003) as a percent (0.30 %)."""
    return percent(100 * float(rate))


def number(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.2f}"


def duration(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else str(timedelta(seconds=round(seconds)))


def period(start: str, end: str) -> str:
    """Two moments in ISO form, to the minute."""
    return f"{start[:16]} to {end[:16]}".replace("T", " ")


def _toman_rows(report: Mapping[str, Any]) -> list[tuple[str, Words]]:
    if "toman" not in report or (report["toman"] and not report["toman"]["as_of"]):
        return []  # not asked for, or the quote is toman
    toman = report["toman"]
    if toman is None:
        return [("Net profit (toman)", lambda *_: "not known")]
    amount = amount_in("IRT")
    return [("Net profit (toman)", lambda model, _: amount(toman["net_profit"][model]))]


def _fall(report: Mapping[str, Any], m: Metrics) -> str:
    if not m["max_drawdown_percent"]:
        return UNKNOWN
    return f"{_date(report, m['max_drawdown_peak_at'])} to {_date(report, m['max_drawdown_trough_at'])}"


def _recovery(report: Mapping[str, Any], m: Metrics) -> str:
    if not m["max_drawdown_percent"]:
        return UNKNOWN
    return _date(report, m["max_drawdown_recovered_at"]) if m["max_drawdown_recovered_at"] else "not yet"


def _date(report: Mapping[str, Any], moment: str) -> str:
    """With the year where the period covers more than one, or nobody could tell."""
    first = 5 if report["from"][:4] == report["to"][:4] == moment[:4] else 0
    return moment[first:16].replace("T", " ")
