"""Where the front doors get their exchange clients. Everyone below is handed one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from django.conf import settings

from algo.models import Account
from providers.budgets import GUARDIAN_SHARE, InProcessBudget, Limit, WatchedBudget, limits_times, shares
from providers.clock import Clock, calls_factor, clock_from_env
from providers.interface import ExchangeProvider
from providers.provider_factory import circuits, create_provider, documented_limits

Wrap = Callable[[ExchangeProvider], ExchangeProvider]
BudgetOf = Callable[[str, str, Mapping[str, Limit]], WatchedBudget]

_clients: dict[tuple[str, str, str | None], ExchangeProvider] = {}
_budgets: dict[tuple[str, str], WatchedBudget] = {}
_making = threading.Lock()
CLOCK: Clock = clock_from_env()  # the one clock of this process


def _own_share(provider: str, url: str, limits: Mapping[str, Limit]) -> WatchedBudget:
    """What a process may call that counts alone: the guardian, and whoever has not said `share_budgets`."""
    return InProcessBudget(shares(limits, GUARDIAN_SHARE))


_budget_of: BudgetOf = _own_share


def share_budgets(budget_of: BudgetOf) -> None:
    """From now on, clients of this process spend from budgets that others spend from too."""
    global _budget_of  # noqa: PLW0603 - decided once, when a process starts
    _budget_of = budget_of
    _clients.clear()
    _budgets.clear()


def base_url(provider: str) -> str:
    """Address of an exchange: `WALLEX_BASE_URL`, `NOBITEX_BASE_URL`."""
    return str(getattr(settings, f"{provider.upper()}_BASE_URL"))


_wrap_public: Wrap | None = None


def prefer_streams(wrap: Wrap | None) -> None:
    """From now on, market data of this process comes through `wrap`, which knows the streams; None: by REST again."""
    global _wrap_public  # noqa: PLW0603 - decided once, when a process starts
    _wrap_public = wrap


def public_provider(name: str) -> ExchangeProvider:
    """A client for market data, without a key."""
    client = _client(name, None)
    return _wrap_public(client) if _wrap_public else client


def account_provider(account: Account) -> ExchangeProvider:
    """A client with the account's key, or with the key of the environment where none was stored.
    Raises SecretUnreadable."""
    key = account.api_key() or getattr(settings, f"{account.provider.upper()}_API_KEY", "") or None
    return _client(account.provider, key)


def _client(name: str, key: str | None) -> ExchangeProvider:
    """Clients are kept: their connections and rate budgets belong to the process, not to a task."""
    url = base_url(name)
    with _making:  # two budgets for one address would let twice as much through
        if (name, url, key) not in _clients:
            if (name, url) not in _budgets:
                limits = limits_times(documented_limits(name), calls_factor())
                _budgets[name, url] = _budget_of(name, url, limits)
            _clients[name, url, key] = create_provider(
                name, base_url=url, api_key=key, clock=CLOCK, budget=_budgets[name, url]
            )
        return _clients[name, url, key]


def sign_of_life() -> dict[str, Any]:
    """What this process knows of the exchanges, for the `detail` of its heartbeat: `algo.selectors.health` reads it."""
    now = CLOCK.now()
    with _making:
        budgets = {name: budget for (name, _), budget in _budgets.items()}
    return {
        "budgets": {name: budget.left() for name, budget in budgets.items()},
        "exchanges": {
            name: {"open": is_open, "answered_at": None if ago is None else (now - CLOCK.wall(ago)).isoformat()}
            for name, (is_open, ago) in circuits().items()
        },
    }
