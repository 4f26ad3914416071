"""Decisions, the outbox: what was thought and told."""

from __future__ import annotations

from django.contrib import admin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from algo.admin.base import LedgerAdmin, badge
from algo.models import Decision, OutboxEvent, Outcome
from algo.notifications.outbox import MAX_ATTEMPTS

KINDS = {
    Outcome.ENTERED: "success",
    Outcome.EXIT: "primary",
    Outcome.DENIED: "warning",
    Outcome.STALE_DATA: "warning",
    Outcome.ERROR: "danger",
}


@admin.register(Decision)
class DecisionAdmin(LedgerAdmin):
    """Why a strategy did or did not trade, candle by candle."""

    list_display = ("id", "config", "bar_open_at", "outcome_badge", "decided_at")
    list_select_related = ("config",)
    list_filter = (("outcome", ChoicesDropdownFilter), ("config", RelatedDropdownFilter))
    search_fields = ("config__name",)
    date_hierarchy = "bar_open_at"
    sections = {
        "": ("config", "bar_open_at", "decided_at", "outcome_badge"),
        "Journal": ("journal",),
    }

    @display(description="outcome", ordering="outcome")
    def outcome_badge(self, decision: Decision) -> str:
        return badge(decision.get_outcome_display(), KINDS.get(Outcome(decision.outcome), ""))


@admin.register(OutboxEvent)
class OutboxEventAdmin(LedgerAdmin):
    list_display = ("id", "kind", "state", "attempts", "created_at", "delivered_at", "next_attempt_at", "last_error")
    list_select_related = False
    list_filter = ("kind", "delivered_at")
    search_fields = ("=id", "kind")
    date_hierarchy = "created_at"
    ordering = ("-id",)

    @display(description="state")
    def state(self, event: OutboxEvent) -> str:
        if event.delivered_at:
            return badge("Delivered", "success")
        if event.attempts >= MAX_ATTEMPTS:
            return badge("Given up", "danger")
        return badge("Failing" if event.attempts else "Waiting", "warning" if event.attempts else "info")
