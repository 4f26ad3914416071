"""Exchange name -> client. A new exchange is one folder and one line here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from providers.clock import Clock
from providers.http import InProcessBudget, Limit, RateBudget
from providers.interface import ExchangeProvider
from providers.nobitex.client import LIMITS as NOBITEX_LIMITS
from providers.nobitex.client import NobitexClient
from providers.wallex.client import LIMITS as WALLEX_LIMITS
from providers.wallex.client import WallexClient

_REGISTRY: dict[str, tuple[Callable[..., ExchangeProvider], Mapping[str, Limit]]] = {
    "wallex": (WallexClient, WALLEX_LIMITS),
    "nobitex": (NobitexClient, NOBITEX_LIMITS),
}
KNOWN_PROVIDERS = tuple(_REGISTRY)

# The exchanges count per address of the caller, so all clients of one process share a budget.
_budgets: dict[tuple[str, str], RateBudget] = {}
_budgets_lock = threading.Lock()


class UnknownProvider(ValueError):
    """No client goes by this name."""


def create_provider(
    name: str,
    *,
    base_url: str,
    api_key: str | None = None,
    clock: Clock | None = None,
    budget: RateBudget | None = None,
) -> ExchangeProvider:
    """A client of the exchange `name` at `base_url` (which may have a path prefix). Without a key, only market data.

    Raises UnknownProvider for a name that is not in KNOWN_PROVIDERS, ValueError for a base URL that is none, AuthFailed
    for a key that cannot be one."""
    if name not in _REGISTRY:
        raise UnknownProvider(f"unknown exchange {name!r}: known are {', '.join(KNOWN_PROVIDERS)}")
    client, limits = _REGISTRY[name]
    budget = budget or _shared_budget(name, base_url, limits)
    return client(base_url, api_key=api_key or None, clock=clock, budget=budget)


def _shared_budget(name: str, base_url: str, limits: Mapping[str, Limit]) -> RateBudget:
    with _budgets_lock:
        return _budgets.setdefault((name, base_url.rstrip("/")), InProcessBudget(limits))
