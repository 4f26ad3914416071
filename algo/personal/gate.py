"""Who must have a second factor gets no further than to the page that sets one up."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse

from algo.selectors.second_factor import Standing, standing_of

API = "/api/"  # asks the same of sessions itself, and answers as programs expect


class SecondFactorGate:
    """After authentication. A session that began before its user set up a second factor ends."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._stopped(request) or self.get_response(request)

    def _stopped(self, request: HttpRequest) -> HttpResponseBase | None:
        if request.path_info.startswith((settings.STATIC_URL, API)) or not request.user.is_authenticated:
            return None
        standing = standing_of(request.user)
        if standing is Standing.NOT_PROVED:
            logout(request)
            return redirect(settings.LOGIN_URL)
        if standing is Standing.ENOUGH or request.path_info in _open_to_all():
            return None
        return redirect("second-factor")


def _open_to_all() -> tuple[str, ...]:
    return (reverse("second-factor"), reverse("admin:logout"), reverse("set_language"), reverse("admin:jsi18n"))
