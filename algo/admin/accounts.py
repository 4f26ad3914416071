"""Accounts. The exchange key goes in and never comes out: the page shows its last four characters."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget

from algo import exchanges
from algo.admin.action_buttons import ActionButtons
from algo.admin.base import KINDS, Audited, LedgerAdmin, SettingsAdmin, actor, amount_text, badge, rows_to_act_on
from algo.admin.kill_switch import SwitchPage
from algo.localised import digits, listed, minute, zone_name
from algo.models import Account, AccountState, ProbeOrder
from algo.selectors.rights import may_administer
from algo.sentences import sentence
from algo.services.account_acts import (
    AccountRefused,
    account_activate,
    account_balances,
    account_look,
    key_problem,
)
from algo.services.accounts import (
    KEY_FIELDS,
    account_pause,
    account_set_key,
    key_warning_due,
)
from algo.services.probe import Findings
from providers.clock import clock_from_env
from providers.errors import AuthFailed, ProviderError
from providers.types import Capabilities, ProtectionMode

KEY_LABEL = _("API key")
PROTECTION = {
    ProtectionMode.NATIVE_OCO: (_("1 · native OCO"), "success"),
    ProtectionMode.FREE_STOPS: (_("2 · free stops"), "success"),
    ProtectionMode.LOCKING_STOPS: (_("3 · locking stops"), "info"),
    ProtectionMode.NO_STOPS: (_("4 · NO STOPS, guardian only"), "danger"),
}

ABILITIES = (
    ("oco", _("stop and target rest as one pair, the fill of one cancels the other (OCO)")),
    ("stop_market", _("a stop that sells at the market rests at the exchange")),
    ("stop_limit", _("a stop with a limit price rests at the exchange")),
    ("stops_lock_balance", _("a resting stop locks what it would sell: no target beside it")),
    ("finds_closed_by_client_id", _("an order that is closed is found by the name we gave it")),
    ("market_takes_price", _("a market order takes a worst price")),
)
UNPROVED = _("So the exchange documents it; manage.py probe_account “{}” --orders proves it with tiny orders far away.")


ACCOUNT_STATES = {
    AccountState.ACTIVE: _("Active"),
    AccountState.PAUSED: _("Paused"),
    AccountState.STOPPED: _("Stopped"),
}
KEY_SCOPES = {"read": _("Read"), "trade": _("Trade"), "withdraw": _("Withdraw")}


class AccountForm(forms.ModelForm):
    api_key = forms.CharField(
        label=KEY_LABEL,
        required=False,
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text=_(
            "Write-only: stored encrypted, never shown again. Leave empty to keep the key that is "
            "stored. Use a key that may read and trade, and may not withdraw."
        ),
    )

    class Meta:
        model = Account
        fields = "__all__"

    def clean_api_key(self) -> str:
        key: str = self.cleaned_data["api_key"]
        if key and (problem := key_problem(key)):
            raise forms.ValidationError(problem)
        return key


class OwnAccountForm(AccountForm):
    """For who is no Admin: an account without a key uses that of the environment, which is the operator's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "api_key" in self.fields:
            self.fields["api_key"].required = True
            self.fields["api_key"].error_messages["required"] = gettext(
                "Enter the key of your account at the exchange."
            )


@admin.register(Account)
class AccountAdmin(Audited, ActionButtons, SwitchPage, SettingsAdmin):
    form = AccountForm
    change_form_outer_before_template = "algo/admin/account_page.html"
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
    actions = ("probe", "read_balances", "pause", "activate")
    list_filter = ("provider", "environment", "state")
    list_select_related = ("owner",)
    search_fields = ("name", "owner__username")
    autocomplete_fields = ("owner", "viewers")
    fieldsets = (
        (None, {"fields": ("name", "owner", "viewers", "provider", "environment")}),
        (_("Key"), {"fields": ("api_key", "key_hint", "key_expires_at", "key_badge", "scopes")}),
        (_("State"), {"fields": ("state_badge", "state_reason", "last_error", "reconciled_at", "advanced_at")}),
        (_("What it can do"), {"fields": ("protection_badge", "capabilities_probed_at", "abilities")}),
    )
    readonly_fields = (
        "key_hint",
        "key_badge",
        "scopes",
        "state_badge",
        "state_reason",
        "capabilities_probed_at",
        "last_error",
        "reconciled_at",
        "advanced_at",
        "protection_badge",
        "abilities",
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> tuple[str, ...]:
        """Orders name the exchange through their account: it cannot move to another one. Whose it is and who may look
        at it, an Admin decides; whoever else adds one owns it."""
        people = () if may_administer(request.user) else ("owner", "viewers")
        return (*self.readonly_fields, *people, *(("provider", "environment") if obj else ()))

    def get_form(self, request: HttpRequest, obj: Account | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None and not may_administer(request.user):
            kwargs["form"] = OwnAccountForm
        return super().get_form(request, obj, change=change, **kwargs)

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
        if not change and not may_administer(request.user):
            obj.owner = cast(User, request.user)
        super().save_model(request, obj, form, change)
        self._warn(request, obj)

    def written_fields(self, form: Any) -> set[str]:
        sealed = KEY_FIELDS if form.cleaned_data["api_key"] else frozenset()
        return super().written_fields(form) | sealed

    def audit_act(self, what: str, fields: Any) -> str:
        return "account.key" if what == "change" and KEY_LABEL in fields else super().audit_act(what, fields)

    def audit_details(self, row: Account) -> dict[str, Any]:
        """Of the key, its last characters."""
        viewers = sorted(row.viewers.values_list("username", flat=True))
        return {"key": row.api_key_hint, "owner": row.owner.get_username(), "viewers": viewers}

    def buttons_for(self, row: Account) -> dict[str, str]:
        switch = {"pause": gettext("Pause")} if row.state == AccountState.ACTIVE else {"activate": gettext("Activate")}
        return {"probe": gettext("Probe"), "read_balances": gettext("Read balances"), **switch}

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Balances as they were last read: no page waits for an exchange that nobody asked."""
        account, more = self.get_object(request, object_id), dict(extra_context or {})
        if account is not None and self.has_view_permission(request, account):
            more["balances_table"] = _balances_table(cast(Account, account))
            more["balances_read_at"] = cast(Account, account).balances_read_at
        return super().change_view(request, object_id, form_url, more)

    @action(description=_("Probe: ask the exchange what the key may do; nothing is ordered"), permissions=["change"])
    def probe(self, request: HttpRequest, rows: Any) -> None:
        self._ask_each(request, rows, self._probe)

    def _probe(self, request: HttpRequest, account: Account) -> None:
        findings = account_look(account, exchanges.account_provider, by=actor(request), clock=exchanges.CLOCK)
        for error in findings.errors:
            messages.error(request, f"{account.name}: {error}")
        for warning in (*findings.warnings, *findings.unknown):
            messages.warning(request, f"{account.name}: {warning}")
        messages.success(
            request,
            gettext("%(account)s was probed. %(found_in_words)s")
            % {"account": account.name, "found_in_words": found_in_words(findings)},
        )

    @action(description=_("Read balances from the exchange"), permissions=["change"])
    def read_balances(self, request: HttpRequest, rows: Any) -> None:
        self._ask_each(request, rows, self._read_balances)

    def _read_balances(self, request: HttpRequest, account: Account) -> None:
        held, _ = account_balances(account, exchanges.account_provider, max_age=0, clock=exchanges.CLOCK)
        messages.success(
            request, gettext("%(account)s: %(held)s balances were read.") % {"account": account.name, "held": len(held)}
        )

    def _ask_each(self, request: HttpRequest, rows: Any, ask: Callable[[HttpRequest, Account], None]) -> None:
        """One after the other; an exchange that is away is said, and ends it: the others would wait as long."""
        for account in rows_to_act_on(request, rows):
            try:
                ask(request, account)
            except AccountRefused as exc:
                messages.error(request, str(exc))
            except AuthFailed as exc:
                messages.error(
                    request,
                    gettext("%(account)s: %(why)s Enter a key that works, then activate it.")
                    % {"account": account.name, "why": exc},
                )
            except ProviderError as exc:
                said = sentence(
                    gettext("%(provider)s did not answer: %(why)s")
                    % {"provider": account.get_provider_display(), "why": exc}
                )
                messages.error(
                    request,
                    gettext("%(said)s What was known of %(account)s stays. Ask again later.")
                    % {"said": said, "account": account.name},
                )
                return

    @action(description=_("Pause: no new positions, open ones stay protected"), permissions=["change"])
    def pause(self, request: HttpRequest, rows: Any) -> None:
        now, by = clock_from_env().now(), actor(request)
        names = [account.name for account in rows_to_act_on(request, rows) if account_pause(account, by=by, at=now)]
        messages.success(
            request,
            gettext("Paused: %(names)s.") % {"names": listed(names) or gettext("none, no active account was chosen")},
        )

    @action(description=_("Activate: ask the exchange whether the key works, then trade"), permissions=["change"])
    def activate(self, request: HttpRequest, rows: Any) -> None:
        for account in rows_to_act_on(request, rows):
            try:
                self._activate(request, account)
            except ProviderError as exc:
                messages.error(
                    request,
                    gettext(
                        "%(account)s stays %(partition)s: %(why)s Enter a key that works on its page, then "
                        "activate it again."
                    )
                    % {
                        "account": account.name,
                        "partition": account.get_state_display().partition(":")[0].lower(),
                        "why": exc,
                    },
                )
            except AccountRefused as exc:
                messages.error(request, str(exc))

    def _activate(self, request: HttpRequest, account: Account) -> None:
        """The exchange is asked first, with the key that is stored now: a stopped account needs one that works."""
        done, findings = account_activate(account, exchanges.account_provider, by=actor(request), clock=exchanges.CLOCK)
        for warning in findings.warnings:
            messages.warning(request, f"{account.name}: {warning}")
        if done:
            messages.success(
                request, gettext("%(account)s is active: the exchange accepts its key.") % {"account": account.name}
            )
        else:
            messages.info(
                request,
                gettext("%(account)s was active already, or got another key meanwhile.") % {"account": account.name},
            )

    def _warn(self, request: HttpRequest, account: Account) -> None:
        if not account.api_key_sealed:
            messages.warning(
                request,
                gettext("%(account)s has no API key yet: nothing can be ordered with it.") % {"account": account.name},
            )
        if account.environment != settings.EXCHANGE_ENVIRONMENT:
            messages.warning(
                request,
                gettext(
                    "%(account)s is a %(environment)s account, but the platform runs with "
                    "EXCHANGE_ENVIRONMENT=%(EXCHANGE_ENVIRONMENT)s: it will not be used."
                )
                % {
                    "account": account.name,
                    "environment": account.get_environment_display().lower(),
                    "EXCHANGE_ENVIRONMENT": settings.EXCHANGE_ENVIRONMENT,
                },
            )

    @display(description=_("key"), empty_value=_("no key"))
    def key_hint(self, account: Account) -> str | None:
        return account.api_key_hint or None

    @display(description=_("key expires"), ordering="key_expires_at")
    def key_badge(self, account: Account) -> str:
        """Red from a day before its end, yellow from two weeks before."""
        if account.key_expires_at is None:
            return badge(gettext("not known"))
        due = key_warning_due(account.key_expires_at, clock_from_env().now())
        kind = "success" if due is None else "warning" if due > 1 else "danger"
        return badge(minute(account.key_expires_at) + (gettext(" · EXPIRED") if due == 0 else ""), kind)

    @display(description=_("what the key may do"))
    def scopes(self, account: Account) -> str:
        """Red where it may withdraw: no key of ours needs to."""
        if account.key_scopes is None:
            return gettext("Not known: the exchange does not tell, or no probe has asked since the key was entered.")
        kinds = {"withdraw": "danger", "trade": "success"}
        return format_html_join(
            " ",
            "{}",
            ((badge(KEY_SCOPES.get(each, each.capitalize()), kinds.get(each, "")),) for each in account.key_scopes),
        )

    @display(description=_("state"), ordering="state")
    def state_badge(self, account: Account) -> str:
        state = account.state or AccountState.ACTIVE
        kind = "danger" if state == AccountState.STOPPED else None
        return badge(ACCOUNT_STATES[AccountState(state)], kind or KINDS.get(state))

    @display(description=_("what the exchange lets it do"))
    def abilities(self, account: Account) -> str:
        """As a probe with orders proved it, else as the exchange documents it; what is not known is taken as not
        possible."""
        found, yes, no = abilities_of(account), badge(gettext("Yes"), "success"), badge(gettext("No"))
        rows = ((yes if getattr(found, name) else no, words) for name, words in ABILITIES)
        told = "" if account.capabilities else UNPROVED.format(account.name)
        listed = format_html_join("", '<li class="mb-1">{} {}</li>', rows)
        return format_html('<ul class="list-none">{}</ul><p class="mt-2">{}</p>', listed, told)

    @display(description=_("protection"))
    def protection_badge(self, account: Account) -> str:
        return protection_badge(account)


def abilities_of(account: Account) -> Capabilities:
    """As the last probe with orders found it; before the first, as the exchange documents it. Nothing is asked."""
    if account.capabilities:
        return account.known_capabilities(Capabilities())
    return exchanges.public_provider(account.provider).capabilities()


def protection_badge(account: Account) -> str:
    """The mode that its orders follow; yellow while that is only documented."""
    text, kind = PROTECTION[abilities_of(account).protection_mode]
    return (
        badge(text, kind)
        if account.capabilities
        else badge(gettext("%(text)s · as documented, not proved") % {"text": text}, "warning")
    )


def found_in_words(findings: Findings) -> str:
    """What a probe found, in sentences."""
    scopes = findings.key.scopes
    may = (
        gettext("What its key may do the exchange does not tell")
        if scopes is None
        else gettext("Its key may %(scopes)s") % {"scopes": ", ".join(sorted(scopes))}
    )
    until = (
        gettext("until %(expires_at)s %(zone)s") % {"zone": zone_name(), "expires_at": minute(findings.expires_at)}
        if findings.expires_at
        else gettext("until when is not known")
    )
    clocks = findings.clock_difference
    apart = (
        ""
        if clocks is None
        else gettext(" The clocks are %(abs)s s apart.") % {"abs": digits(f"{abs(clocks.total_seconds()):.0f}")}
    )
    mode = PROTECTION[findings.capabilities.protection_mode][0]
    return gettext("%(may)s, %(until)s. It answered in %(latency_seconds)s s.%(apart)s Protection: %(mode)s.") % {
        "may": may,
        "until": until,
        "latency_seconds": digits(f"{findings.latency_seconds:.2f}"),
        "apart": apart,
        "mode": mode,
    }


def _balances_table(account: Account) -> dict[str, Any]:
    rows = [
        [
            asset,
            amount_text(Decimal(total)),
            amount_text(Decimal(locked)),
            amount_text(Decimal(total) - Decimal(locked)),
        ]
        for asset, (total, locked) in sorted(account.balances.items())
    ]
    return {"headers": [gettext("Asset"), gettext("Total"), gettext("Locked"), gettext("Available")], "rows": rows}


@admin.register(ProbeOrder)
class ProbeOrderAdmin(LedgerAdmin):
    """What was tried on accounts, and what became of it."""

    list_display = ("id", "account", "symbol", "side", "type", "quantity", "stop_price", "outcome_badge", "created_at")
    list_select_related = ("account",)
    list_filter = ("outcome", "account")
    search_fields = ("client_order_id", "exchange_order_id", "account__name")
    date_hierarchy = "created_at"

    @display(description=_("outcome"), ordering="outcome")
    def outcome_badge(self, probe: ProbeOrder) -> str:
        kinds = {"open": "warning", "filled": "danger", "removed": "success"}
        return badge(probe.outcome.capitalize(), kinds.get(probe.outcome))
