"""The admin: accounts, markets and strategies are set up here; the ledger is looked at, never written."""

from algo.admin import accounts, control, journal, ledger, markets, people, schedules, strategies

__all__ = ["accounts", "control", "journal", "ledger", "markets", "people", "schedules", "strategies"]
