"""Nobitex over REST (contract: nobitex): spot only. The groups of calls are in files of their own; the addresses in
endpoints.py; the meaning of values in mapping.py."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from requests.auth import AuthBase

from providers.breaker import Breaker
from providers.budgets import InProcessBudget, RateBudget
from providers.clock import HOST, AnchoredClock, Clock, HostTime
from providers.http import CLIENT_VERSION, HttpSession
from providers.nobitex.account import AccountData
from providers.nobitex.auth import TokenAuth, auth_for
from providers.nobitex.endpoints import LIMITS
from providers.nobitex.market_data import MarketData
from providers.nobitex.trading import Trading
from providers.transport import Transport
from providers.types import Capabilities

__all__ = ["LIMITS", "NobitexClient"]


class NobitexClient(MarketData, AccountData, Trading):
    """`ExchangeProvider` for Nobitex. Prices go in and come out in toman for IRT markets."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        auth: AuthBase | None = None,
        clock: Clock | None = None,
        budget: RateBudget | None = None,
        breaker: Breaker | None = None,
        transport: Transport | None = None,
        host: HostTime = HOST,
        wall_time: Callable[[], float] | None = None,
    ) -> None:
        """`api_key` is a token or the private key of an Ed25519 API key, told apart by its form; another scheme is
        handed in as `auth`. Raises AuthFailed for a key that is neither. `wall_time` dates signatures, else `host`."""
        self._clock = clock or AnchoredClock()
        auth = auth or (auth_for(api_key, wall_time=wall_time or host.wall) if api_key else None)
        self._key_is_token = isinstance(auth, TokenAuth)
        super().__init__(
            HttpSession(
                self.name,
                base_url,
                auth=auth,
                budget=budget or InProcessBudget(LIMITS, monotonic=host.monotonic, sleep=host.sleep),
                breaker=breaker,
                headers={"User-Agent": f"TraderBot/algo_trade-{CLIENT_VERSION}"},
                transport=transport,
                host=host,
            )
        )

    def __repr__(self) -> str:
        return f"NobitexClient({self._http!r})"

    @property
    def clock_difference(self) -> timedelta | None:
        """Theirs minus ours, by the Date of their last answer."""
        return self._http.clock_difference

    def capabilities(self) -> Capabilities:
        """Whether stops lock balance is not documented: taken as yes (contract: nobitex 8)."""
        return Capabilities(
            oco=True,
            stop_market=True,
            stop_limit=True,
            stops_lock_balance=True,
            finds_closed_by_client_id=False,
            market_takes_price=True,
        )
