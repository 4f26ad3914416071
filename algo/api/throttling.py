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


class UserThrottle(_Steady, UserRateThrottle):
    """By user."""


class BacktestThrottle(_Steady, UserRateThrottle):
    """By user, for starting backtests: each costs a worker seconds to minutes."""

    scope = "backtests"


class _ByAddress(_Steady):
    def get_cache_key(self, request: Any, view: Any) -> str:
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


class LoginThrottle(_ByAddress):
    scope = "login"


class HealthThrottle(_ByAddress):
    scope = "health"
