"""The admin: accounts, markets and strategies are set up here; the ledger is looked at, never written."""

from django.contrib import admin

from algo.admin import (
    accounts,
    backtests,
    control,
    home,
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
    "backtests",
    "control",
    "home",
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
admin.site.index_title = "At a glance"
