"""Where the front doors get their exchange clients. Everyone below is handed one."""

from __future__ import annotations

from django.conf import settings

from algo.models import Account
from providers.clock import Clock, clock_from_env
from providers.interface import ExchangeProvider
from providers.provider_factory import create_provider

_clients: dict[tuple[str, str, str | None], ExchangeProvider] = {}
CLOCK: Clock = clock_from_env()  # the one clock of this process


def base_url(provider: str) -> str:
    """Address of an exchange: `WALLEX_BASE_URL`, `NOBITEX_BASE_URL`."""
    return str(getattr(settings, f"{provider.upper()}_BASE_URL"))


def public_provider(name: str) -> ExchangeProvider:
    """A client for market data, without a key."""
    return _client(name, None)


def account_provider(account: Account) -> ExchangeProvider:
    """A client with the account's key, or with the key of the environment where none was stored.
    Raises SecretUnreadable."""
    key = account.api_key() or getattr(settings, f"{account.provider.upper()}_API_KEY", "") or None
    return _client(account.provider, key)


def _client(name: str, key: str | None) -> ExchangeProvider:
    """Clients are kept: their connections and rate budgets belong to the process, not to a task."""
    where = (name, base_url(name), key)
    if where not in _clients:
        _clients[where] = create_provider(name, base_url=where[1], api_key=key, clock=CLOCK)
    return _clients[where]
