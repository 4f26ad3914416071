"""Which Content-Security-Policy a page gets. The strict one, unless what makes the page cannot live with it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from csp.constants import NONE, SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase

Directives = dict[str, list[str]]


def strict_policy(live_url: str) -> Directives:
    """For the dashboard and all that is not named below: nothing inline, nothing evaluated, nothing from elsewhere.
    `live_url`: where the live events come from, "" for the page's own origin."""
    live = urlsplit(live_url)
    return {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF, *([f"{live.scheme}://{live.netloc}"] if live.netloc else [])],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }


# Alpine, on which the admin's theme stands, compiles what its templates say; styles are written into elements.
ADMIN: Directives = {
    "script-src": [SELF, UNSAFE_EVAL],
    "style-src": [SELF, UNSAFE_INLINE],
    "img-src": [SELF, "data:"],
    "font-src": [SELF, "data:"],
}
# Both pages of the API's documentation write styles into the page; Redoc searches in a worker that it makes itself.
SWAGGER: Directives = {"style-src": [SELF, UNSAFE_INLINE], "img-src": [SELF, "data:"]}
REDOC: Directives = {**SWAGGER, "worker-src": ["blob:"]}


class PagesCSPMiddleware(CSPMiddleware):
    """A page that brings a policy of its own (the reports of backtests) keeps it."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        parts.replace = {**_loosened(request), **(parts.replace or {})}
        return parts


def _loosened(request: HttpRequest) -> dict[str, Any]:
    match = request.resolver_match
    if match is None:
        return {}
    if "admin" in match.app_names:
        return ADMIN
    policies: dict[str, dict[str, Any]] = settings.CSP_OF_PAGES
    return policies.get(match.view_name, {})
