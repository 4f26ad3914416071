"""Accounts. The exchange key goes in and never comes out: the page shows its last four characters."""

from __future__ import annotations

import re
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget

from algo import exchanges
from algo.admin.base import LedgerAdmin, SettingsAdmin, badge
from algo.admin.kill_switch import SwitchPage
from algo.models import Account, AccountState, ProbeOrder
from algo.models.fields import SecretUnreadable
from algo.services.accounts import (
    KEY_FIELDS,
    account_pause,
    account_resume,
    account_set_key,
    key_warning_due,
)
from algo.services.probe import account_probe
from providers.clock import clock_from_env
from providers.errors import ProviderError
from providers.types import ProtectionMode

KEY = re.compile(r"[\x21-\x7e]{8,4096}")
PROTECTION = {
    ProtectionMode.NATIVE_OCO: ("1 · native OCO", "success"),
    ProtectionMode.FREE_STOPS: ("2 · free stops", "success"),
    ProtectionMode.LOCKING_STOPS: ("3 · locking stops", "info"),
    ProtectionMode.NO_STOPS: ("4 · NO STOPS, guardian only", "danger"),
}


class AccountForm(forms.ModelForm):
    api_key = forms.CharField(
        label="API key",
        required=False,
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text="Write-only: stored encrypted, never shown again. Leave empty to keep the key that is stored. Use a "
        "key that may read and trade, and may not withdraw.",
    )

    class Meta:
        model = Account
        fields = "__all__"

    def clean_api_key(self) -> str:
        key: str = self.cleaned_data["api_key"]
        if key and not KEY.fullmatch(key):
            raise forms.ValidationError(
                "This is not an API key: it must be 8 or more Latin letters, digits and signs without spaces. "
                "Nothing was stored. Copy it again from the exchange."
            )
        return key


@admin.register(Account)
class AccountAdmin(SwitchPage, SettingsAdmin):
    form = AccountForm
    list_display = (
        "name",
        "owner",
        "provider",
        "environment",
        "state_badge",
        "protection_badge",
        "key_hint",
        "key_badge",
        "reconciled_at",
    )
    actions = ("pause", "activate")
    list_filter = ("provider", "environment", "state")
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")
    autocomplete_fields = ("owner",)
    fieldsets = (
        (None, {"fields": ("name", "owner", "provider", "environment")}),
        ("Key", {"fields": ("api_key", "key_hint", "key_expires_at", "key_badge")}),
        ("State", {"fields": ("state_badge", "state_reason", "last_error", "reconciled_at", "advanced_at")}),
        ("What it can do", {"fields": ("protection_badge", "capabilities_probed_at", "capabilities")}),
    )
    readonly_fields = (
        "key_hint",
        "key_badge",
        "state_badge",
        "state_reason",
        "capabilities_probed_at",
        "last_error",
        "reconciled_at",
        "advanced_at",
        "protection_badge",
        "capabilities",
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> tuple[str, ...]:
        """Orders name the exchange through their account: it cannot move to another one."""
        return (*self.readonly_fields, "provider", "environment") if obj else self.readonly_fields

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        defaults = {"owner": request.user.pk, "environment": settings.EXCHANGE_ENVIRONMENT}
        return {**defaults, **super().get_changeform_initial_data(request)}

    @method_decorator(sensitive_post_parameters("api_key"))
    def changeform_view(self, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(*args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        if key := form.cleaned_data["api_key"]:
            told = obj.key_expires_at if "key_expires_at" in form.changed_data else None
            account_set_key(obj, key, expires_at=told)
        super().save_model(request, obj, form, change)
        self._warn(request, obj)

    def written_fields(self, form: Any) -> set[str]:
        sealed = KEY_FIELDS if form.cleaned_data["api_key"] else frozenset()
        return super().written_fields(form) | sealed

    @action(description="Pause: no new positions, open ones stay protected", permissions=["change"])
    def pause(self, request: HttpRequest, rows: Any) -> None:
        now, user = clock_from_env().now(), cast(User, request.user)
        names = [account.name for account in rows if account_pause(account, user=user, at=now)]
        messages.success(request, f"Paused: {', '.join(names) or 'none, no active account was chosen'}.")

    @action(description="Activate: ask the exchange whether the key works, then trade", permissions=["change"])
    def activate(self, request: HttpRequest, rows: Any) -> None:
        for account in rows:
            try:
                self._activate(request, account)
            except (ProviderError, SecretUnreadable) as exc:
                messages.error(
                    request,
                    f"{account.name} stays {account.get_state_display().partition(':')[0].lower()}: {exc} Enter a key "
                    "that works on its page, then activate it again.",
                )

    def _activate(self, request: HttpRequest, account: Account) -> None:
        """The exchange is asked first, with the key that is stored now: a stopped account needs one that works."""
        if account.environment != settings.EXCHANGE_ENVIRONMENT:
            self._warn(request, account)
            return
        findings = account_probe(account, exchanges.account_provider(account), clock=exchanges.CLOCK)
        if findings.errors:
            messages.error(request, f"{account.name} was not activated: {' '.join(findings.errors)}")
            return
        for warning in findings.warnings:
            messages.warning(request, f"{account.name}: {warning}")
        if account_resume(account, user=cast(User, request.user), at=exchanges.CLOCK.now()):
            messages.success(request, f"{account.name} is active: the exchange accepts its key.")
        else:
            messages.info(request, f"{account.name} was active already, or got another key meanwhile.")

    def _warn(self, request: HttpRequest, account: Account) -> None:
        if not account.api_key_sealed:
            messages.warning(request, f"{account.name} has no API key yet: nothing can be ordered with it.")
        if account.environment != settings.EXCHANGE_ENVIRONMENT:
            messages.warning(
                request,
                f"{account.name} is a {account.get_environment_display().lower()} account, but the platform runs with "
                f"EXCHANGE_ENVIRONMENT={settings.EXCHANGE_ENVIRONMENT}: it will not be used.",
            )

    @display(description="key", empty_value="no key")
    def key_hint(self, account: Account) -> str | None:
        return account.api_key_hint or None

    @display(description="key expires", ordering="key_expires_at")
    def key_badge(self, account: Account) -> str:
        """Red from a day before its end, yellow from two weeks before."""
        if account.key_expires_at is None:
            return badge("not known")
        due = key_warning_due(account.key_expires_at, clock_from_env().now())
        kind = "success" if due is None else "warning" if due > 1 else "danger"
        return badge(f"{account.key_expires_at:%Y-%m-%d %H:%M}" + (" · EXPIRED" if due == 0 else ""), kind)

    @display(description="state", ordering="state")
    def state_badge(self, account: Account) -> str:
        state = account.state or AccountState.ACTIVE
        kind = "danger" if state == AccountState.STOPPED else None
        return badge(AccountState(state).name.capitalize(), kind)

    @display(description="protection")
    def protection_badge(self, account: Account) -> str:
        mode = account.protection
        return badge(*PROTECTION[mode]) if mode else badge("not probed yet", "warning")


@admin.register(ProbeOrder)
class ProbeOrderAdmin(LedgerAdmin):
    """What was tried on accounts, and what became of it."""

    list_display = ("id", "account", "symbol", "side", "type", "quantity", "stop_price", "outcome_badge", "created_at")
    list_select_related = ("account",)
    list_filter = ("outcome", "account")
    search_fields = ("client_order_id", "exchange_order_id", "account__name")
    date_hierarchy = "created_at"

    @display(description="outcome", ordering="outcome")
    def outcome_badge(self, probe: ProbeOrder) -> str:
        kinds = {"open": "warning", "filled": "danger", "removed": "success"}
        return badge(probe.outcome.capitalize(), kinds.get(probe.outcome))
