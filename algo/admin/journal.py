"""Decisions, the outbox: what was thought and told."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RangeDateTimeFilter, RelatedDropdownFilter
from unfold.decorators import display

from algo.admin.base import NOTHING, LedgerAdmin, badge
from algo.localised import digits, number
from algo.models import Decision, OutboxEvent, Outcome, StrategyConfig
from algo.phrases import told
from algo.selectors.visible import rows_seen
from algo.selectors.why_not import decision_why, why_counts
from providers.clock import clock_from_env

BY_STRATEGY = "config__id__exact"

KINDS = {
    Outcome.ENTERED: "success",
    Outcome.EXIT: "primary",
    Outcome.DENIED: "warning",
    Outcome.STALE_DATA: "warning",
    Outcome.ERROR: "danger",
}


def why_link(config_id: int) -> str:
    """To the journal of one strategy."""
    address = reverse("admin:algo_decision_changelist")
    why = gettext("Why no trade?")
    return format_html('<a class="text-link" href="{}?{}={}">{}</a>', address, BY_STRATEGY, config_id, why)


@admin.register(Decision)
class DecisionAdmin(LedgerAdmin):
    """Why a strategy did or did not trade, candle by candle."""

    list_display = ("bar_open_at", "config", "outcome_badge", "why", "numbers", "decided_at")
    list_before_template = "algo/admin/why_counts.html"
    list_select_related = ("config",)
    list_filter = (
        ("outcome", ChoicesDropdownFilter),
        ("config", RelatedDropdownFilter),
        ("bar_open_at", RangeDateTimeFilter),
    )
    search_fields = ("config__name",)
    sections = {
        "": ("config", "bar_open_at", "decided_at", "outcome_badge", "why"),
        "Journal": ("journal",),
    }

    @display(description=_("outcome"), ordering="outcome")
    def outcome_badge(self, decision: Decision) -> str:
        return badge(decision.get_outcome_display(), KINDS.get(Outcome(decision.outcome), ""))

    @display(description=_("why"))
    def why(self, decision: Decision) -> str:
        why = decision_why(decision)
        return format_html('<span class="whitespace-normal">{}: {}</span>', why.code, told(why.sentence))

    @display(description=_("numbers"))
    def numbers(self, decision: Decision) -> str:
        known = decision_why(decision).numbers
        text = " · ".join(f"{name} {digits(value)}" for name, value in known.items()) or NOTHING
        return format_html('<span class="whitespace-normal text-xs">{}</span>', text)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        more = {"why_table": _why_table(request), **(extra_context or {})}
        return super().changelist_view(request, more)


def _why_table(request: HttpRequest) -> dict[str, Any]:
    """How often each answer came, for the strategy that the list is filtered by, or for all that one may see."""
    configs = rows_seen(request.user, StrategyConfig.objects.all())
    chosen = request.GET.get(BY_STRATEGY, "")
    if chosen.isascii() and chosen.isdigit() and len(chosen) < 19:
        configs = configs.filter(pk=int(chosen))
    rows = [[each.code, each.outcome, number(each.count)] for each in why_counts(configs, clock_from_env().now())]
    return {"headers": [gettext("Answer"), gettext("Outcome"), gettext("Candles")], "rows": rows}


@admin.register(OutboxEvent)
class OutboxEventAdmin(LedgerAdmin):
    list_display = ("id", "kind", "severity", "account", "config", "created_at", "fanned_out_at")
    list_select_related = ("account", "config")
    list_filter = ("kind", "severity", ("created_at", RangeDateTimeFilter))
    search_fields = ("=id", "kind")
    ordering = ("-id",)
