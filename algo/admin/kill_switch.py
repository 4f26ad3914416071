"""The kill switch on a page: how it stands, whether everything under it is proved flat, and the form that turns it."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import translation
from django.utils.translation import gettext, gettext_noop
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from algo.admin.base import NOTHING, actor, badge
from algo.localised import moment, zone_name
from algo.models import Halt, KillSwitch, SystemControl
from algo.phrases import told
from algo.queues import events_hint
from algo.selectors.halts import Target, level_of, scope_name, switch_of, switch_state
from algo.selectors.rights import may_switch
from algo.selectors.visible import row_seen
from algo.services.control import ControlRefused, kill_switch_set
from providers.clock import clock_from_env


class SwitchForm(forms.Form):
    """What a person says who turns a switch. The service has the last word."""

    level = forms.ChoiceField(label=_("Level"), choices=KillSwitch.choices, widget=UnfoldAdminRadioSelectWidget)
    reason = forms.CharField(
        label=_("Reason"),
        max_length=400,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("Required: whoever finds the switch turned must know why."),
        error_messages={"required": _("Say why. Nothing was changed.")},
    )
    confirm_flatten = forms.BooleanField(
        label=_("Close every open position under this switch at the market, now"),
        required=False,
        widget=UnfoldBooleanWidget,
        help_text=_("Required for the last level: it sells at whatever the market gives."),
    )
    unproven_ok = forms.BooleanField(
        label=_("I know that it is not proved flat"),
        required=False,
        widget=UnfoldBooleanWidget,
        help_text=_("Only to leave the last level without a proof. It is recorded with your name."),
    )
    seen_version = forms.IntegerField(label=_("Seen version"), widget=forms.HiddenInput)

    def __init__(self, row: SystemControl | Halt, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial = {**self.initial, "level": level_of(row), "seen_version": row.version}
        self._stands_at = level_of(row)
        if self._stands_at != KillSwitch.FLATTEN:
            del self.fields["unproven_ok"]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        asked = data.get("level") == KillSwitch.FLATTEN and self._stands_at != KillSwitch.FLATTEN
        if asked and not data.get("confirm_flatten"):
            self.add_error(
                "confirm_flatten", gettext("Confirm that every open position is to be closed. Nothing was changed.")
            )
        return data


class SwitchPage(ModelAdmin):
    """Adds the kill switch of the page's account, strategy or market to its page."""

    change_form_outer_after_template = "algo/admin/kill_switch.html"

    def switch_target(self, row: Any) -> Target | None:
        return cast(Target, row)

    def has_switch_permission(self, request: HttpRequest, row: Any) -> bool:
        return may_switch(request.user, self.switch_target(row))

    def get_urls(self) -> list[URLPattern]:
        turn = self.admin_site.admin_view(require_POST(self.switch_view))
        return [path("<path:object_id>/kill-switch/", turn, name=self._switch_address()), *super().get_urls()]

    def _switch_address(self) -> str:
        return f"algo_{self.model._meta.model_name}_kill_switch"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        row, more = self.get_object(request, object_id), dict(extra_context or {})
        if row is not None and self.has_view_permission(request, row):
            switch = switch_of(self.switch_target(row))
            more |= self._switch_context(request, row, switch)
            if self.has_switch_permission(request, row):
                more.setdefault("switch_form", SwitchForm(switch))
        return super().change_view(request, object_id, form_url, more)

    def _switch_context(self, request: HttpRequest, row: Any, switch: SystemControl | Halt) -> dict[str, Any]:
        level, target = level_of(switch), self.switch_target(row)
        return {
            "switch": switch,
            "switch_title": gettext("Kill switch of %(scope)s") % {"scope": told(scope_name(target))},
            "switch_level": level_badge(level),
            "switch_address": reverse(f"admin:{self._switch_address()}", args=[row.pk]),
            "flat_table": flat_table(request, target, switch) if level == KillSwitch.FLATTEN else None,
        }

    def switch_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        if not self.has_switch_permission(request, row):
            raise PermissionDenied
        form = SwitchForm(switch_of(self.switch_target(row)), request.POST)
        if form.is_valid() and self._turn_switch(request, row, form):
            address = reverse(f"admin:algo_{self.model._meta.model_name}_change", args=[row.pk])
            return HttpResponseRedirect(address)
        request.method = "GET"  # the same page again, with what was typed and what is wrong with it
        return cast(HttpResponse, self.change_view(request, object_id, extra_context={"switch_form": form}))

    def _turn_switch(self, request: HttpRequest, row: Any, form: SwitchForm) -> bool:
        target, data = self.switch_target(row), form.cleaned_data
        before = switch_of(target)
        try:
            switch = kill_switch_set(
                data["level"],
                reason=data["reason"],
                by=actor(request),
                at=clock_from_env().now(),
                target=target,
                seen_version=data["seen_version"],
                unproven_ok=data.get("unproven_ok", False),
            )
        except ControlRefused as exc:
            form.add_error(None, str(exc))
            return False
        events_hint()
        if switch.version == before.version:
            messages.info(request, gettext("The kill switch stands where it stood: nothing was changed."))
            return True
        what = {"before": level_of(before), "level": level_of(switch), "reason": switch.reason}
        said = gettext_noop("Kill switch of %(scope)s: %(before)s → %(level)s. %(reason)s")
        with translation.override("en"):
            self.log_change(request, row, said % {"scope": scope_name(target), **what})
        messages.success(request, gettext(said) % {"scope": told(scope_name(target)), **what})
        return True


def level_badge(level: KillSwitch) -> str:
    return badge(level.label, "success" if level == KillSwitch.OFF else "danger")


def flat_table(request: HttpRequest, target: Target | None, switch: SystemControl | Halt) -> dict[str, Any]:
    """Every account one may see under a switch at FLATTEN: is it proved flat, when was it asked, and why not."""
    return {
        "headers": [
            gettext("Account"),
            gettext("Flat"),
            gettext("Checked (%(zone)s)") % {"zone": zone_name()},
            gettext("What the exchange and the books say"),
        ],
        "rows": [
            [
                state.account.name,
                badge(gettext("Proved"), "success") if state.is_flat else badge(gettext("Not proven"), "danger"),
                moment(state.checked_at) if state.checked_at else NOTHING,
                told(state.why),
            ]
            for state in switch_state(target, switch, clock_from_env()).accounts
            if row_seen(request.user, state.account)
        ],
    }
