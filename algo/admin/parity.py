"""Live against backtest: the reports, and the last of them on the strategy's page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import display

from algo.admin.base import NOTHING, LedgerAdmin, badge
from algo.backtest.parity_words import (
    DIFFERENCE_HEADS,
    FIGURE_HEADS,
    difference_rows,
    figure_rows,
    money,
    verdict,
)
from algo.localised import day, digits, unit
from algo.models import ParityReport, StrategyConfig
from algo.phrases import told
from algo.selectors.parity import latest_reports
from algo.sentences import sentence


@admin.register(ParityReport)
class ParityReportAdmin(LedgerAdmin):
    """What a day of live trading and the engine over the same candles do not agree about."""

    list_display = ("day", "config", "signals", "deals", "profit", "unexplained_badge", "computed_at")
    list_select_related = ("config",)
    list_filter = (("config", RelatedDropdownFilter),)
    search_fields = ("config__name",)
    date_hierarchy = "day"
    sections = {"": ("config", "day", "computed_at", "unexplained_badge")}
    change_form_outer_after_template = "algo/admin/parity_report.html"

    def told(self, request: HttpRequest, row: ParityReport) -> dict[str, Any]:
        return _told(row)

    @display(description=_("signals equal"))
    def signals(self, report: ParityReport) -> str:
        return equal_of(report, "signals")

    @display(description=_("deals equal"))
    def deals(self, report: ParityReport) -> str:
        return equal_of(report, "deals")

    @display(description=_("profit, live and engine"))
    def profit(self, report: ParityReport) -> str:
        return profits(report)

    @display(description=_("unexplained"), ordering="unexplained")
    def unexplained_badge(self, report: ParityReport) -> str:
        return unexplained_badge(report)


def _told(report: ParityReport) -> dict[str, Any]:
    """The report in tables and sentences, as the command prints it."""
    summary, kept = report.summary, report.differences
    return {
        "parity_verdict": told(verdict(summary, len(kept))),
        "parity_notes": [sentence(told(note)) for note in summary["notes"]],
        "parity_figures": _table(FIGURE_HEADS, figure_rows(summary)),
        "parity_differences": _table(DIFFERENCE_HEADS, difference_rows(kept)) if kept else None,
    }


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> dict[str, Any]:
    return {"headers": [told(each) for each in heads], "rows": [[digits(told(cell)) for cell in row] for row in rows]}


def recent_reports(config: StrategyConfig) -> str:
    """The last days of a strategy, each a link to its report."""
    rows = [
        (
            reverse("admin:algo_parityreport_change", args=[report.pk]),
            day(report.day),
            unexplained_badge(report),
            gettext("%(count)s differences") % {"count": digits(report.summary.get("differences", 0))},
            gettext("signals %(signals)s, deals %(deals)s")
            % {"signals": equal_of(report, "signals"), "deals": equal_of(report, "deals")},
            gettext("profit %(profits)s") % {"profits": profits(report)},
        )
        for report in latest_reports(config)
    ]
    if not rows:
        return gettext("%(nothing)s (a day is compared in the hour after its end)") % {"nothing": NOTHING}
    lines = format_html_join("", '<li><a class="underline" href="{}">{}</a> {} {} · {} · {}</li>', rows)
    return format_html("<ul>{}</ul>", lines)


def equal_of(report: ParityReport, what: str) -> str:
    return gettext("%(equal)s of %(compared)s") % {
        "equal": digits(report.summary.get(f"{what}_equal", 0)),
        "compared": digits(report.summary.get(f"{what}_compared", 0)),
    }


def profits(report: ParityReport) -> str:
    """Of the deals that were closed that day."""
    figures, quote = report.summary, report.summary["quote"]
    live, engine = (money(figures[f"profit_{side}"], quote) for side in ("live", "engine"))
    return gettext("%(live)s live, %(engine)s engine (%(quote)s)") % {
        "live": digits(live),
        "engine": digits(engine),
        "quote": unit(quote),
    }


def unexplained_badge(report: ParityReport) -> str:
    if not report.unexplained:
        return badge(gettext("All explained"), "success")
    return badge(gettext("%(unexplained)s unexplained") % {"unexplained": report.unexplained}, "danger")
