"""The kill switch, heartbeats."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.timesince import timesince
from unfold.decorators import display
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from algo.admin.base import LedgerAdmin, SettingsAdmin, badge
from algo.models import Heartbeat, KillSwitch, SystemControl
from algo.services.control import kill_switch_set
from providers.clock import clock_from_env


class SystemControlForm(forms.ModelForm):
    kill_switch = forms.ChoiceField(choices=KillSwitch.choices, widget=UnfoldAdminRadioSelectWidget)
    new_reason = forms.CharField(
        label="Reason for the change",
        required=False,
        max_length=400,
        widget=UnfoldAdminTextInputWidget,
        help_text="Required: whoever finds the switch turned must know why.",
    )
    confirm_flatten = forms.BooleanField(
        label="Close every open position at the market, now",
        required=False,
        widget=UnfoldBooleanWidget,
        help_text="Required for the last level: it sells at whatever the market gives.",
    )
    seen_version = forms.IntegerField(widget=forms.HiddenInput)

    class Meta:
        model = SystemControl
        fields = ("kill_switch",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.before = self.instance.kill_switch
        self.initial["seen_version"] = self.instance.version

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("seen_version") != self.instance.version:
            raise forms.ValidationError(
                f"The switch was turned by somebody else meanwhile; it stands at “{self.instance}”. Nothing was "
                "changed. Open this page again and decide anew."
            )
        level = data.get("kill_switch")
        if level == self.before:
            return data
        if not data.get("new_reason"):
            self.add_error("new_reason", "Say why. Nothing was changed.")
        if level == KillSwitch.FLATTEN and not data.get("confirm_flatten"):
            self.add_error("confirm_flatten", "Confirm that every open position is to be closed. Nothing was changed.")
        return data


@admin.register(SystemControl)
class SystemControlAdmin(SettingsAdmin):
    """One row, so one page."""

    form = SystemControlForm
    fieldsets = (
        ("Now", {"fields": ("level", "reason", "changed_by", "changed_at", "version")}),
        ("Turn the kill switch", {"fields": ("kill_switch", "new_reason", "confirm_flatten", "seen_version")}),
    )
    readonly_fields = ("level", "reason", "changed_by", "changed_at", "version")
    actions = None

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        row = SystemControl.load()
        return HttpResponseRedirect(reverse("admin:algo_systemcontrol_change", args=[row.pk]))

    def save_model(self, request: HttpRequest, obj: SystemControl, form: Any, change: bool) -> None:
        if form.cleaned_data["kill_switch"] == form.before:
            messages.info(request, "The kill switch stands where it stood: nothing was changed.")
            return
        kill_switch_set(
            form.cleaned_data["kill_switch"],
            reason=form.cleaned_data["new_reason"],
            user=cast(User, request.user),
            at=clock_from_env().now(),
        )

    @display(description="kill switch")
    def level(self, control: SystemControl) -> str:
        saved = SystemControl.objects.values_list("kill_switch", flat=True).get(pk=control.pk)
        return badge(KillSwitch(saved).label, "success" if saved == KillSwitch.OFF else "danger")


@admin.register(Heartbeat)
class HeartbeatAdmin(LedgerAdmin):
    list_display = ("name", "at", "age")
    list_select_related = False
    search_fields = ("name",)
    ordering = ("name",)

    @display(description="last sign of life")
    def age(self, heartbeat: Heartbeat) -> str:
        return f"{timesince(heartbeat.at, clock_from_env().now())} ago"
