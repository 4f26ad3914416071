"""The admin: accounts, markets and strategies are set up here; the ledger is looked at, never written."""

from django.contrib import admin
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy as _

from algo.admin import (
    accounts,
    audit_log,
    backtests,
    candles,
    channels,
    control,
    home,
    inbound,
    inbox,
    journal,
    ledger,
    markets,
    optimisations,
    parity,
    people,
    schedules,
    strategies,
)

__all__ = [
    "accounts",
    "audit_log",
    "backtests",
    "candles",
    "channels",
    "control",
    "home",
    "inbound",
    "inbox",
    "journal",
    "ledger",
    "markets",
    "optimisations",
    "parity",
    "people",
    "schedules",
    "strategies",
]

# Every page asks for the list of all applications, and hardly one shows it: our sidebar stands where it would.
_all_applications = admin.site.get_app_list
admin.site.get_app_list = lambda *args, **kwargs: SimpleLazyObject(lambda: _all_applications(*args, **kwargs))  # type: ignore[assignment]
admin.site.index_template = home.TEMPLATE
admin.site.login_template = "algo/personal/login.html"
admin.site.index_title = _("At a glance")
