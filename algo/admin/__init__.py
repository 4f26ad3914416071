"""The admin: accounts, markets and strategies are set up here; the ledger is looked at, never written."""

from django.contrib import admin
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

admin.site.index_template = home.TEMPLATE
admin.site.index_title = _("At a glance")
