"""The page of one's second factor: set it up, get new recovery codes, remove it."""

from __future__ import annotations

from base64 import b32encode
from typing import Any
from urllib.parse import quote, urlencode

import django_otp
import segno
from django.contrib import admin, messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from algo.models import Door, SecondFactor
from algo.selectors.second_factor import factor_demanded, factor_of
from algo.services.audit import Actor
from algo.services.refused import Refused
from algo.services.second_factor import factor_begin, factor_confirm, factor_remove, recovery_codes_renew
from providers.clock import clock_from_env

ISSUER = "algo_trade"


@never_cache
@sensitive_post_parameters("code")
@login_required
@require_http_methods(["GET", "POST"])
def second_factor(request: HttpRequest) -> HttpResponse:
    """`act`: confirm, codes or remove, each with a `code`. New recovery codes are in the answer, and nowhere else."""
    act = {"confirm": _confirm, "codes": _renew, "remove": _remove}.get(request.POST.get("act", ""))
    if request.method == "GET" or act is None:
        return _page(request)
    try:
        return act(request, request.POST.get("code", ""))
    except Refused as exc:
        return _page(request, wrong=str(exc))


def _confirm(request: HttpRequest, code: str) -> HttpResponse:
    factor, codes = factor_confirm(request.user, code, **_who_and_when(request))
    request.session.cycle_key()
    django_otp.login(request, factor)
    messages.success(request, gettext("The second factor is set up. Your other sessions have ended."))
    return _page(request, codes=codes)


def _renew(request: HttpRequest, code: str) -> HttpResponse:
    codes = recovery_codes_renew(request.user, code, **_who_and_when(request))
    return _page(request, codes=codes)


def _remove(request: HttpRequest, code: str) -> HttpResponse:
    factor_remove(request.user, code, **_who_and_when(request))
    logout(request)
    messages.success(request, gettext("The second factor was removed. Sign in again."))
    return redirect("second-factor")


def _who_and_when(request: HttpRequest) -> dict[str, Any]:
    return {"by": Actor(request.user, Door.ADMIN), "now": timezone.now(), "at": clock_from_env().now()}


def _page(request: HttpRequest, *, codes: list[str] | None = None, wrong: str = "") -> HttpResponse:
    factor = factor_of(request.user)
    context = {
        **admin.site.each_context(request),
        "title": gettext("Second factor"),
        "codes": codes,
        "wrong": wrong,
        "is_set_up": factor is not None,
        "is_demanded": factor_demanded(request.user),
        "codes_left": factor.recovery_codes.filter(used_at=None).count() if factor else 0,
        **({} if factor else _to_scan(request.user)),
    }
    return render(request, "algo/personal/second_factor.html", context, status=400 if wrong else 200)


def _to_scan(user: Any) -> dict[str, str]:
    begun = factor_begin(user)
    secret = b32encode(begun.secret()).decode()
    picture = segno.make(_address(begun, secret), error="m").svg_data_uri(scale=5, dark="#000", light="#fff", border=4)
    return {"picture": picture, "secret": " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))}


def _address(factor: SecondFactor, secret: str) -> str:
    """As authenticator apps read it (Key URI Format)."""
    words = {"secret": secret, "issuer": ISSUER, "algorithm": "SHA1", "digits": 6, "period": 30}
    return f"otpauth://totp/{quote(f'{ISSUER}:{factor.user.get_username()}')}?{urlencode(words)}"
