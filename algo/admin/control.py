"""The kill switch of the whole system, and heartbeats."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timesince import timesince
from unfold.decorators import display

from algo.admin.base import NOTHING, LedgerAdmin, badge
from algo.admin.kill_switch import SwitchPage, level_badge
from algo.models import Account, FlatProof, Halt, Heartbeat, Market, SystemControl
from algo.selectors.halts import Target, halts_standing, level_of, scope_name
from providers.clock import clock_from_env


@admin.register(SystemControl)
class SystemControlAdmin(SwitchPage, LedgerAdmin):
    """One row, so one page: the system's switch, every other one that stands, and what was last proved of accounts."""

    switch_permission = "algo.change_systemcontrol"
    sections = {"": ("changed_by", "changed_at", "version")}

    def switch_target(self, row: Any) -> Target | None:
        return None

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        row = SystemControl.load()
        return HttpResponseRedirect(reverse("admin:algo_systemcontrol_change", args=[row.pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        tables = {"Accounts, strategies and markets": _halts_table(), "Last checked whether flat": _proofs_table()}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "switch_tables": tables})


def _halts_table() -> dict[str, Any]:
    return {
        "headers": ["Of", "Stands at", "Reason", "By", "Since (UTC)"],
        "rows": [
            [
                _link(halt),
                level_badge(level_of(halt)),
                halt.reason,
                str(halt.changed_by or "the platform"),
                f"{halt.changed_at:%Y-%m-%d %H:%M:%S}" if halt.changed_at else NOTHING,
            ]
            for halt in halts_standing()
        ],
        "empty": "No account, strategy or market is switched off by itself. Their own pages have their switches.",
    }


def _link(halt: Halt) -> str:
    target = halt.target
    model = "account" if isinstance(target, Account) else "market" if isinstance(target, Market) else "strategyconfig"
    address = reverse(f"admin:algo_{model}_change", args=[target.pk if target else 0])
    return format_html('<a class="text-link" href="{}#kill-switch">{}</a>', address, scope_name(target))


def _proofs_table() -> dict[str, Any]:
    proofs = FlatProof.objects.select_related("account").order_by("account__name")
    return {
        "headers": ["Account", "Was flat", "Checked (UTC)", "What the exchange and the books said"],
        "rows": [
            [
                proof.account.name,
                badge("Proved", "success") if proof.is_flat else badge("Not proven", "danger"),
                f"{proof.checked_at:%Y-%m-%d %H:%M:%S}",
                proof.summary,
            ]
            for proof in proofs
        ],
        "empty": "No account was checked yet: accounts are checked while a switch over them stands at its last level.",
    }


@admin.register(Heartbeat)
class HeartbeatAdmin(LedgerAdmin):
    list_display = ("name", "at", "age")
    list_select_related = False
    search_fields = ("name",)
    ordering = ("name",)

    @display(description="last sign of life")
    def age(self, heartbeat: Heartbeat) -> str:
        return f"{timesince(heartbeat.at, clock_from_env().now())} ago"
