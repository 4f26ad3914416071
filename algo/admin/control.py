"""The kill switch of the whole system, and heartbeats."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display

from algo.admin.base import NOTHING, LedgerAdmin, badge
from algo.admin.kill_switch import SwitchPage, level_badge
from algo.localised import moment, zone_name
from algo.models import Account, FlatProof, Halt, Heartbeat, Market, SystemControl
from algo.phrases import told
from algo.selectors.halts import Target, halts_standing, level_of, scope_name
from algo.selectors.visible import rows_seen
from providers.clock import clock_from_env


@admin.register(SystemControl)
class SystemControlAdmin(SwitchPage, LedgerAdmin):
    """One row, so one page: the system's switch, every other one that stands, and what was last proved of accounts."""

    sections = {"": ("changed_by", "changed_at", "version")}

    def switch_target(self, row: Any) -> Target | None:
        return None

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        row = SystemControl.load()
        return HttpResponseRedirect(reverse("admin:algo_systemcontrol_change", args=[row.pk]))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        tables = {
            gettext("Accounts, strategies and markets"): _halts_table(request),
            gettext("Last checked whether flat"): _proofs_table(request),
        }
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "switch_tables": tables})


def _halts_table(request: HttpRequest) -> dict[str, Any]:
    return {
        "headers": [
            gettext("Of"),
            gettext("Stands at"),
            gettext("Reason"),
            gettext("By"),
            gettext("Since (%(zone)s)") % {"zone": zone_name()},
        ],
        "rows": [
            [
                _link(halt),
                level_badge(level_of(halt)),
                halt.reason,
                str(halt.changed_by or gettext("the platform")),
                moment(halt.changed_at) if halt.changed_at else NOTHING,
            ]
            for halt in rows_seen(request.user, halts_standing())
        ],
        "empty": gettext(
            "No account, strategy or market is switched off by itself. Their own pages have their switches."
        ),
    }


def _link(halt: Halt) -> str:
    target = halt.target
    model = "account" if isinstance(target, Account) else "market" if isinstance(target, Market) else "strategyconfig"
    address = reverse(f"admin:algo_{model}_change", args=[target.pk if target else 0])
    return format_html('<a class="text-link" href="{}#kill-switch">{}</a>', address, told(scope_name(target)))


def _proofs_table(request: HttpRequest) -> dict[str, Any]:
    proofs = rows_seen(request.user, FlatProof.objects.select_related("account")).order_by("account__name")
    return {
        "headers": [
            gettext("Account"),
            gettext("Was flat"),
            gettext("Checked (%(zone)s)") % {"zone": zone_name()},
            gettext("What the exchange and the books said"),
        ],
        "rows": [
            [
                proof.account.name,
                badge(gettext("Proved"), "success") if proof.is_flat else badge(gettext("Not proven"), "danger"),
                moment(proof.checked_at),
                told(proof.summary),
            ]
            for proof in proofs
        ],
        "empty": gettext(
            "No account was checked yet: accounts are checked while a switch over them stands at its last level."
        ),
    }


@admin.register(Heartbeat)
class HeartbeatAdmin(LedgerAdmin):
    list_display = ("name", "at", "age")
    list_select_related = False
    search_fields = ("name",)
    ordering = ("name",)

    @display(description=_("last sign of life"))
    def age(self, heartbeat: Heartbeat) -> str:
        return gettext("%(timesince)s ago") % {"timesince": timesince(heartbeat.at, clock_from_env().now())}
