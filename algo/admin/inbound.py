"""Signals from outside: keys for who may send them, and what was sent."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseRedirect
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action, display

from algo.admin.action_buttons import ActionButtons
from algo.admin.base import NOTHING, LedgerAdmin, SettingsAdmin, actor, badge, rows_to_act_on
from algo.models import AlertState, InboundAlert, InboundKey, StrategyConfig
from algo.selectors.rights import accounts_tradable
from algo.services.inbound import InboundRefused, inbound_key_make, inbound_key_revoke, inbound_key_switch
from algo.services.refused import Refused
from algo.strategies.strategy_factory import external_names
from providers.clock import clock_from_env

ALERT_KINDS = {
    AlertState.WAITING: "info",
    AlertState.DECIDED: "success",
    AlertState.CLOSED: "success",
    AlertState.REFUSED: "danger",
}


@admin.register(InboundKey)
class InboundKeyAdmin(ActionButtons, SettingsAdmin):
    """A key is made, switched and revoked; nothing of it is edited."""

    list_display = ("config", "label", "secret_hint", "state_badge", "made_by", "made_at", "last_used_at")
    list_select_related = ("config", "made_by")
    list_filter = ("is_on", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("config__name", "label")
    actions = ("switch_on", "switch_off", "revoke")
    shown = ("config", "label", "address", "secret_hint", "state_badge", "made_by", "made_at", "last_used_at")

    def get_fields(self, request: HttpRequest, obj: InboundKey | None = None) -> list[str]:
        return list(self.shown) if obj else ["config", "label"]

    def get_fieldsets(self, request: HttpRequest, obj: InboundKey | None = None) -> list[Any]:
        return [(None, {"fields": self.get_fields(request, obj)})]

    def get_readonly_fields(self, request: HttpRequest, obj: InboundKey | None = None) -> list[str]:
        return list(self.shown) if obj else []

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "config":
            rows = StrategyConfig.objects.filter(
                strategy__in=external_names(), account__in=accounts_tradable(request.user)
            )
            kwargs["queryset"] = rows
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if isinstance(field, forms.ModelChoiceField) and db_field.name == "config":
            field.help_text = gettext(
                "A strategy of the kind ExternalSignals. A new key takes the place of the one it has."
            )
        return field

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # revoked ones stay in the list

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **kwargs: Any) -> Any:
        if obj is not None:
            context |= {"show_save": False, "show_save_and_continue": False, "show_save_and_add_another": False}
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (InboundRefused, PermissionDenied) as exc:
            messages.error(request, str(exc))
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: InboundKey, form: Any, change: bool) -> None:
        if change:
            return
        made, secret = inbound_key_make(obj.config, by=actor(request), at=clock_from_env().now(), label=obj.label)
        obj.__dict__.update(made.__dict__)
        messages.warning(
            request,
            gettext("The secret, shown this once: %(secret)s The key is off: switch it on when the sender is ready.")
            % {"secret": secret},
        )
        if not settings.INBOUND_SIGNALS:
            messages.warning(request, gettext("INBOUND_SIGNALS is false: no signal is taken before it is true."))

    def buttons_for(self, row: InboundKey) -> dict[str, str]:
        if row.revoked_at is not None:
            return {}
        switch = {"switch_off": gettext("Switch off")} if row.is_on else {"switch_on": gettext("Switch on")}
        return {**switch, "revoke": gettext("Revoke")}

    @action(description=_("Switch on: take what is sent"), permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: Any) -> None:
        self._each(request, rows, inbound_key_switch, gettext("Switched on: %(names)s."), is_on=True)

    @action(description=_("Switch off: refuse what is sent"), permissions=["change"])
    def switch_off(self, request: HttpRequest, rows: Any) -> None:
        self._each(request, rows, inbound_key_switch, gettext("Switched off: %(names)s."), is_on=False)

    @action(description=_("Revoke: it proves nothing any more"), permissions=["change"])
    def revoke(self, request: HttpRequest, rows: Any) -> None:
        self._each(request, rows, inbound_key_revoke, gettext("Revoked: %(names)s."))

    def _each(self, request: HttpRequest, rows: Any, act: Any, said: str, **more: Any) -> None:
        done = []
        for key in rows_to_act_on(request, rows.select_related("config__account")):
            try:
                if act(key, by=actor(request), at=clock_from_env().now(), **more):
                    done.append(str(key))
            except Refused as exc:
                messages.error(request, str(exc))
        names = ", ".join(done) or gettext("none, it stood so already")
        messages.success(request, said % {"names": names})

    @display(description=_("address"))
    def address(self, key: InboundKey) -> str:
        return f"{settings.WEB_URL}/api/v1/inbound/{key.public_id}/"

    @display(description=_("state"))
    def state_badge(self, key: InboundKey) -> str:
        if key.revoked_at is not None:
            return badge(_("Revoked"), "danger")
        return badge(_("On"), "success") if key.is_on else badge(_("Off"))


@admin.register(InboundAlert)
class InboundAlertAdmin(LedgerAdmin):
    list_display = ("id", "config", "alert_id", "action", "state_badge", "outcome", "why", "received_at")
    list_select_related = ("config", "signal")
    list_filter = (("state", ChoicesDropdownFilter), ("action", ChoicesDropdownFilter), "config")
    search_fields = ("=id", "alert_id", "config__name")
    ordering = ("-id",)
    sections = {
        "": ("config", "alert_id", "action", "state_badge", "outcome", "note", "signal"),
        "Times": ("alert_at", "received_at", "done_at"),
        "As it was sent": ("asked",),
    }

    @display(description=_("state"), ordering="state")
    def state_badge(self, alert: InboundAlert) -> str:
        state = AlertState(alert.state)
        return badge(state.label, ALERT_KINDS[state])

    @display(description=_("why"))
    def why(self, alert: InboundAlert) -> str:
        return alert.note or NOTHING
