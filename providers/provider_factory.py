"""Exchange name -> client. A new exchange is one folder and one line here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

from providers.breaker import CircuitBreaker
from providers.budgets import InProcessBudget, Limit, RateBudget
from providers.clock import Clock
from providers.interface import ExchangeProvider
from providers.nobitex.client import LIMITS as NOBITEX_LIMITS
from providers.nobitex.client import NobitexClient
from providers.nobitex.stream import NobitexMarketStream, NobitexOrderStream
from providers.streams import MarketStream, OrderStream
from providers.wallex.client import LIMITS as WALLEX_LIMITS
from providers.wallex.client import WallexClient
from providers.wallex.stream import WallexMarketStream

S = TypeVar("S")

_REGISTRY: dict[str, tuple[Callable[..., ExchangeProvider], Mapping[str, Limit]]] = {
    "wallex": (WallexClient, WALLEX_LIMITS),
    "nobitex": (NobitexClient, NOBITEX_LIMITS),
}
KNOWN_PROVIDERS = tuple(_REGISTRY)

# What each exchange tells without being asked. Wallex' private channels need an interactive login: no order stream.
_MARKET_STREAMS: dict[str, Callable[..., MarketStream]] = {
    "wallex": WallexMarketStream,
    "nobitex": NobitexMarketStream,
}
_ORDER_STREAMS: dict[str, Callable[..., OrderStream]] = {"nobitex": NobitexOrderStream}

# The exchanges count per address of the caller, and fail for all callers at once: clients of one process share both.
_budgets: dict[tuple[str, str], RateBudget] = {}
_breakers: dict[tuple[str, str], CircuitBreaker] = {}
_shared_lock = threading.Lock()


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
    limits = documented_limits(name)
    where = (name, base_url.rstrip("/"))
    with _shared_lock:
        budget = budget or _budgets.setdefault(where, InProcessBudget(limits))
        breaker = _breakers.setdefault(where, CircuitBreaker(name))
    return _REGISTRY[name][0](base_url, api_key=api_key or None, clock=clock, budget=budget, breaker=breaker)


def circuits() -> dict[str, tuple[bool, float | None]]:
    """Of each exchange that this process has a client of: whether its circuit is open, and for how many seconds it has
    not answered (None: it never has)."""
    with _shared_lock:
        known = list(_breakers.items())
    return {name: (breaker.is_open, breaker.answered_seconds_ago()) for (name, _), breaker in known}


def documented_limits(name: str) -> Mapping[str, Limit]:
    """What one caller may do at most, by budget name. Raises UnknownProvider."""
    if name not in _REGISTRY:
        raise UnknownProvider(f"unknown exchange {name!r}: known are {', '.join(KNOWN_PROVIDERS)}")
    return _REGISTRY[name][1]


def create_market_stream(
    name: str, *, base_url: str, rest: ExchangeProvider, clock: Clock | None = None, ws_url: str | None = None
) -> MarketStream | None:
    """Public data of the exchange `name`, whose REST base URL is `base_url`. `rest` is a client of it, key or not,
    which the stream calls in threads; `ws_url` says where the stream is, when that is not where it belongs. None: the
    exchange has no such stream.

    Raises UnknownProvider for a name that is not in KNOWN_PROVIDERS, ValueError for a base URL that is none."""
    return _create_stream(_MARKET_STREAMS, name, base_url, rest, clock, ws_url)


def create_order_stream(
    name: str, *, base_url: str, rest: ExchangeProvider, clock: Clock | None = None, ws_url: str | None = None
) -> OrderStream | None:
    """Hints about the orders of the account whose key `rest` has; otherwise as `create_market_stream`."""
    return _create_stream(_ORDER_STREAMS, name, base_url, rest, clock, ws_url)


def _create_stream(
    registry: Mapping[str, Callable[..., S]],
    name: str,
    base_url: str,
    rest: ExchangeProvider,
    clock: Clock | None,
    ws_url: str | None,
) -> S | None:
    documented_limits(name)  # knows which names are known
    stream = registry.get(name)
    return None if stream is None else stream(base_url, rest=rest, clock=clock, ws_url=ws_url)
