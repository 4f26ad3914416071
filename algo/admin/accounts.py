"""Accounts. The exchange key goes in and never comes out: the page shows its last four characters."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.http import HttpRequest
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget

from algo.admin.base import SettingsAdmin, badge
from algo.models import Account, AccountState
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
class AccountAdmin(SettingsAdmin):
    form = AccountForm
    list_display = (
        "name",
        "owner",
        "provider",
        "environment",
        "state_badge",
        "protection_badge",
        "key_hint",
        "key_expires_at",
        "reconciled_at",
    )
    list_filter = ("provider", "environment", "state")
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")
    autocomplete_fields = ("owner",)
    fieldsets = (
        (None, {"fields": ("name", "owner", "provider", "environment")}),
        ("Key", {"fields": ("api_key", "key_hint", "key_expires_at")}),
        ("State", {"fields": ("state", "state_reason", "last_error", "reconciled_at", "advanced_at")}),
        ("What it can do", {"fields": ("protection_badge", "capabilities")}),
    )
    readonly_fields = (
        "key_hint",
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
            obj.set_api_key(key)
        super().save_model(request, obj, form, change)
        self._warn(request, obj)

    def written_fields(self, form: Any) -> set[str]:
        sealed = {"api_key_sealed", "api_key_hint"} if form.cleaned_data["api_key"] else set()
        return super().written_fields(form) | sealed

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

    @display(description="state", ordering="state")
    def state_badge(self, account: Account) -> str:
        kind = "danger" if account.state == AccountState.STOPPED else None
        return badge(AccountState(account.state).name.capitalize(), kind)

    @display(description="protection")
    def protection_badge(self, account: Account) -> str:
        mode = account.protection
        return badge(*PROTECTION[mode]) if mode else badge("not probed yet", "warning")
