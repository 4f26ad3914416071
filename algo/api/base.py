"""What every view of the API has in common."""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import AuthenticationFailed, NotAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from algo.api.deprecation import Deprecating
from algo.api.idempotency import Idempotent
from algo.api.query import KnownQuery
from algo.api.throttling import AnonymousThrottle


class Common(Idempotent, KnownQuery, Deprecating):
    """Comes before the framework's class. A POST may name a key; what will end says so. Whoever is refused for want of
    a login is counted by address: the framework counts only those whom it lets in."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        try:
            super().initial(request, *args, **kwargs)
        except (AuthenticationFailed, NotAuthenticated):
            limit = AnonymousThrottle()
            if not limit.allow_request(request, self):
                self.throttled(request, limit.wait())  # type: ignore[attr-defined]
            raise


class ApiView(Common, APIView):
    """For views that are no list and no row."""

    scope_needed: Any = None  # see algo.api.access
