"""Notification channels, and what was sent to them. An address goes in and never comes out."""

from __future__ import annotations

import time
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminPasswordWidget

from algo.admin.action_buttons import ActionButtons
from algo.admin.base import NOTHING, LedgerAdmin, SettingsAdmin, actor, badge
from algo.localised import moment
from algo.models import Account, ChannelType, Delivery, DeliveryState, NotificationChannel, StrategyConfig
from algo.models.event_kinds import CHOOSABLE
from algo.notifications.channels import (
    PEOPLE_SET,
    channel_create,
    channel_delete,
    channel_secret_renew,
    channel_update,
    target_clean,
)
from algo.queues import channel_hint
from algo.selectors.visible import accounts_visible, strategies_visible
from algo.services.channels import ChannelRefused
from algo.services.deliveries import channel_test, delivery_redeliver
from algo.services.refused import Refused
from providers.clock import clock_from_env

SHOWN = 10  # of the newest deliveries on a channel's page
LOOKED_SECONDS, LOOK_EVERY = 4.0, 0.25  # for what became of a test
CHOSEN = ("accounts", "strategies")
KINDS = {DeliveryState.WAITING: "info", DeliveryState.DELIVERED: "success", DeliveryState.GIVEN_UP: "danger"}


class ChannelForm(forms.ModelForm):
    target = forms.CharField(
        label=_("Address"),
        required=False,
        max_length=2000,
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "off"}),
        help_text=_(
            "https://… for a webhook, an e-mail address, or a chat's address as tgram://TOKEN/CHAT_ID/ or "
            "bale://TOKEN/CHAT_ID. Write-only: stored encrypted, never shown again. Leave empty to keep the one "
            "that is stored."
        ),
    )
    kinds = forms.MultipleChoiceField(
        label=_("Events"),
        required=False,
        choices=CHOOSABLE,
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("None chosen: all of them."),
    )

    class Meta:
        model = NotificationChannel
        fields = "__all__"

    owner_of_new: Any = None  # who fills the form in

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        kind = self.instance.type or data.get("type")
        target = data.get("target", "")
        if not self.instance.pk and not target:
            self.add_error("target", gettext("Where is it to be sent?"))
        elif target and kind:
            try:
                target_clean(kind, target)
            except ChannelRefused as exc:
                self.add_error("target", str(exc))
        self._ends(data)
        rows = NotificationChannel.objects.filter(owner=self._owner(), name=data.get("name")).exclude(
            pk=self.instance.pk
        )
        if rows.exists():
            self.add_error("name", gettext("Another channel is called so: choose another name."))
        return data

    def _ends(self, data: dict[str, Any]) -> None:
        if (data.get("quiet_from") is None) != (data.get("quiet_to") is None):
            self.add_error("quiet_to", gettext("Quiet hours have a beginning and an end, or neither."))
        if data.get("daily_summary") and data.get("summary_at") is None:
            self.add_error("summary_at", gettext("Say at what time of its zone the summary is to come."))

    def _owner(self) -> Any:
        return self.instance.owner if self.instance.pk else self.owner_of_new

    def validate_constraints(self) -> None:
        """Said above, in words and beside their fields."""


@admin.register(NotificationChannel)
class NotificationChannelAdmin(ActionButtons, SettingsAdmin):
    form = ChannelForm
    change_form_outer_after_template = "algo/admin/channel_deliveries.html"
    list_display = ("name", "type", "target_hint", "owner", "state_badge", "language", "daily_summary")
    list_select_related = ("owner",)
    list_filter = (("type", ChoicesDropdownFilter), "is_enabled")
    search_fields = ("name", "owner__username")
    actions = ("send_test", "switch_on", "switch_off", "renew_secret")
    readonly_fields = ("target_hint", "state_badge", "owner")

    def get_fieldsets(self, request: HttpRequest, obj: NotificationChannel | None = None) -> list[Any]:
        where: list[Any] = [("name", "type"), "target"]
        if obj:
            where = [("name", "type"), ("target_hint", "target"), ("is_enabled", "state_badge"), "owner"]
        return [
            (None, {"fields": where}),
            (_("What it tells"), {"fields": ["kinds", ("minimum_severity", "language"), ("accounts", "strategies")]}),
            (
                _("When"),
                {"fields": ["time_zone", ("quiet_from", "quiet_to"), "quiet_rule", ("groups", "most_per_minute")]},
            ),
            (_("Daily summary"), {"fields": [("daily_summary", "summary_at")]}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: NotificationChannel | None = None) -> tuple[str, ...]:
        return (*self.readonly_fields, "type") if obj else self.readonly_fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change=change, **kwargs)
        form.owner_of_new = request.user
        return form

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """To look at, not to act on: what one may see is enough."""
        seen = {Account: accounts_visible, StrategyConfig: strategies_visible}[db_field.remote_field.model]
        return super().formfield_for_manytomany(db_field, request, queryset=seen(request.user), **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: NotificationChannel | None = None) -> bool:
        """The operator's is set in the environment."""
        return super().has_change_permission(request, obj) and (obj is None or not obj.is_operators)

    def has_delete_permission(self, request: HttpRequest, obj: NotificationChannel | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or not obj.is_operators)

    @method_decorator(sensitive_post_parameters("target"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except (ChannelRefused, PermissionDenied) as exc:
            messages.error(request, str(exc))
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: NotificationChannel, form: Any, change: bool) -> None:
        values = {name: form.cleaned_data[name] for name in (*PEOPLE_SET, *CHOSEN) if name in form.cleaned_data}
        target, by, at = form.cleaned_data["target"], actor(request), clock_from_env().now()
        if change:
            channel_update(obj, values, target=target, by=by, at=at)
            return
        # What was left as it stood is for the service to say: a webhook is not grouped unless somebody asks.
        values = {name: value for name, value in values.items() if name in form.changed_data}
        made, secret = channel_create(obj.type, target, values, owner=request.user, by=by, at=at)
        obj.__dict__.update(made.__dict__)
        if secret:
            self._tell_secret(request, secret)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The service did."""

    def delete_model(self, request: HttpRequest, obj: NotificationChannel) -> None:
        channel_delete(obj, by=actor(request), at=clock_from_env().now())

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for channel in queryset:
            if not channel.is_operators:
                self.delete_model(request, channel)

    def buttons_for(self, row: NotificationChannel) -> dict[str, str]:
        switch = {"switch_off": gettext("Switch off")} if row.is_enabled else {"switch_on": gettext("Switch on")}
        renew = {"renew_secret": gettext("New secret")} if row.type == ChannelType.WEBHOOK else {}
        return {"send_test": gettext("Test"), **switch, **renew}

    @action(description=_("Test: send one message that says nothing"), permissions=["change"])
    def send_test(self, request: HttpRequest, rows: Any) -> None:
        clock = clock_from_env()
        for channel in rows:
            try:
                delivery = channel_test(channel, by=actor(request), at=clock.now(), speed=clock.speed)
            except Refused as exc:
                messages.error(request, str(exc))
                continue
            channel_hint(channel.pk)
            self._tell_outcome(request, channel, delivery)

    def _tell_outcome(self, request: HttpRequest, channel: NotificationChannel, delivery: Delivery) -> None:
        """Look for it for a moment: a worker sends it."""
        until = time.monotonic() + LOOKED_SECONDS
        while time.monotonic() < until:
            delivery.refresh_from_db()
            if delivery.state == DeliveryState.DELIVERED or delivery.last_error:
                break
            time.sleep(LOOK_EVERY)
        if delivery.state == DeliveryState.DELIVERED:
            messages.success(request, gettext("%(name)s took the test.") % {"name": channel.name})
        elif delivery.last_error:
            messages.error(
                request,
                gettext("%(name)s did not take the test: %(why)s It is tried again for a day.")
                % {"name": channel.name, "why": delivery.last_error.rstrip(".") + "."},
            )
        else:
            messages.info(
                request,
                gettext("A worker sends the test to %(name)s within seconds: look below what became of it.")
                % {"name": channel.name},
            )

    @action(description=_("Switch on"), permissions=["change"])
    def switch_on(self, request: HttpRequest, rows: Any) -> None:
        self._switch(request, rows, is_on=True)

    @action(description=_("Switch off: nothing is sent, what waits goes on waiting"), permissions=["change"])
    def switch_off(self, request: HttpRequest, rows: Any) -> None:
        self._switch(request, rows, is_on=False)

    def _switch(self, request: HttpRequest, rows: Any, *, is_on: bool) -> None:
        for channel in rows:
            try:
                channel_update(channel, {"is_enabled": is_on}, by=actor(request), at=clock_from_env().now())
            except Refused as exc:
                messages.error(request, str(exc))
                continue
            said = gettext("%(name)s is switched on.") if is_on else gettext("%(name)s is switched off.")
            messages.success(request, said % {"name": channel.name})

    @action(description=_("New secret: the one before signs nothing any more"), permissions=["change"])
    def renew_secret(self, request: HttpRequest, rows: Any) -> None:
        for channel in rows:
            try:
                secret = channel_secret_renew(channel, by=actor(request), at=clock_from_env().now())
            except Refused as exc:
                messages.error(request, str(exc))
                continue
            self._tell_secret(request, secret)

    def _tell_secret(self, request: HttpRequest, secret: str) -> None:
        messages.warning(
            request,
            gettext("The secret that signs it, shown this once: %(secret)s Give it to the receiver.")
            % {"secret": secret},
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        more, channel = dict(extra_context or {}), cast(Any, self.get_object(request, object_id))
        if channel is not None and self.has_view_permission(request, channel):
            more["deliveries_table"] = _deliveries_table(channel)
        return super().change_view(request, object_id, form_url, more)

    @display(description=_("state"))
    def state_badge(self, channel: NotificationChannel) -> str:
        if not channel.is_enabled:
            return badge(_("Off"))
        if channel.failures:
            return badge(_("Failing"), "danger")
        return badge(_("On"), "success")


@admin.register(Delivery)
class DeliveryAdmin(LedgerAdmin):
    """The delivery log."""

    change_form_outer_before_template = "algo/admin/action_buttons.html"
    list_display = ("id", "kind", "channel", "state_badge", "attempts", "status_code", "error", "created_at")
    list_select_related = ("event", "channel")
    list_filter = (("state", ChoicesDropdownFilter), "channel", "event__kind")
    search_fields = ("=id", "event__kind", "channel__name")
    ordering = ("-id",)
    actions = ("redeliver",)
    sections = {
        "": ("kind", "channel", "state_badge", "attempts", "status_code", "last_error"),
        "Times": ("created_at", "next_attempt_at", "delivered_at", "expires_at"),
    }

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.do_view))
        return [path("<path:object_id>/do/", view, name="algo_delivery_do"), *super().get_urls()]

    def has_redeliver_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def told(self, request: HttpRequest, row: Delivery) -> dict[str, Any]:
        return {
            "buttons": [("redeliver", _("Send once more"))],
            "buttons_address": reverse("admin:algo_delivery_do", args=[row.pk]),
        }

    def do_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row) or request.POST.get("act") != "redeliver":
            raise PermissionDenied
        self.redeliver(request, [row])
        return HttpResponseRedirect(reverse("admin:algo_delivery_change", args=[row.pk]))

    @action(description=_("Send once more, with a whole day of tries"), permissions=["redeliver"])
    def redeliver(self, request: HttpRequest, rows: Any) -> None:
        clock, sent = clock_from_env(), 0
        for row in rows:
            try:
                sent += delivery_redeliver(row, by=actor(request), at=clock.now(), speed=clock.speed)
            except Refused as exc:
                messages.error(request, str(exc))
        if sent:
            messages.success(request, gettext("It is sent within seconds: look again what became of it."))
        else:
            messages.info(request, gettext("Nothing was changed: what waits is due already."))

    @display(description=_("event"))
    def kind(self, delivery: Delivery) -> str:
        return str(delivery.event.title)

    @display(description=_("state"), ordering="state")
    def state_badge(self, delivery: Delivery) -> str:
        return _state(delivery)

    @display(description=_("last error"))
    def error(self, delivery: Delivery) -> str:
        return delivery.last_error or NOTHING


def _state(delivery: Delivery) -> str:
    state = DeliveryState(delivery.state)
    return badge(str(state.label).partition(":")[0], KINDS[state])


def _deliveries_table(channel: NotificationChannel) -> dict[str, Any]:
    rows = channel.deliveries.select_related("event").order_by("-pk")[:SHOWN]
    return {
        "headers": [gettext("Event"), gettext("State"), gettext("Tries"), gettext("Last error"), gettext("When")],
        "rows": [
            [
                str(row.event.title),
                _state(row),
                str(row.attempts),
                row.last_error or NOTHING,
                moment(row.delivered_at or row.created_at),
            ]
            for row in rows
        ],
    }
