"""Request limits, counted in Redis for all processes together.

Without Redis the API goes on and each process counts for itself: reading deals must not depend on a cache, and the
login limit must not vanish with it.
"""

from __future__ import annotations

import logging
from typing import Any

from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from redis.exceptions import RedisError
from rest_framework.throttling import AnonRateThrottle, SimpleRateThrottle, UserRateThrottle

from algo.api.access import scope_needed

logger = logging.getLogger(__name__)

_of_this_process = LocMemCache("throttles", {})


class _Steady(SimpleRateThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        self.cache = cache
        try:
            return super().allow_request(request, view)
        except RedisError as exc:
            logger.warning("Redis does not answer, requests are counted per process: %s", type(exc).__name__)
            self.cache = _of_this_process
            return super().allow_request(request, view)


class AnonymousThrottle(_Steady, AnonRateThrottle):
    """By address, for requests without a login."""


class ScopeThrottle(_Steady):
    """By user, counted apart for reading, trading and administering: what polls never takes the place of an act."""

    def __init__(self) -> None:
        """The rate is known once the request is."""

    def allow_request(self, request: Any, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return True  # AnonymousThrottle's
        self.scope = scope_needed(request, view).value
        self.rate = self.get_rate()
        self.num_requests, self.duration = self.parse_rate(self.rate)
        return super().allow_request(request, view)

    def get_cache_key(self, request: Any, view: Any) -> str:
        return self.cache_format % {"scope": self.scope, "ident": request.user.pk}


class BacktestThrottle(_Steady, UserRateThrottle):
    """By user, for starting backtests: each costs a worker seconds to minutes."""

    scope = "backtests"


class ExchangeThrottle(_Steady, UserRateThrottle):
    """By user, for what asks an exchange several things at once: orders need its calls more."""

    scope = "exchange"


class _ByAddress(_Steady):
    def get_cache_key(self, request: Any, view: Any) -> str:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class LoginThrottle(_ByAddress):
    scope = "login"


class InboundThrottle(_ByAddress):
    """By address and by where it knocks: one who guesses at one door leaves the others open."""

    scope = "inbound"

    def get_cache_key(self, request: Any, view: Any) -> str:
        return f"{super().get_cache_key(request, view)}:{view.kwargs.get('id')}"


class InboundSumThrottle(_ByAddress):
    """By address, over all doors."""

    scope = "inbound_all"


class HealthThrottle(_ByAddress):
    scope = "health"
