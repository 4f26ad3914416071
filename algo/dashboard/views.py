"""The page that is watched all day, and what it asks for. Everything is read; nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from algo.dashboard.page import page_context
from algo.dashboard.shapes import chart_shape, curve_shape, quotes_shape
from algo.dashboard.state import state_context
from algo.localised import reader
from algo.selectors.equity import CURRENCIES, Span, curve_of
from algo.selectors.price_chart import price_chart
from algo.selectors.streams import quotes_watched
from algo.selectors.visible import strategies_visible
from providers.clock import clock_from_env

KEPT_SECONDS = 5
View = Callable[..., HttpResponse]


def _read(view: View) -> View:
    """For who is signed in, and never out of a cache."""
    return require_safe(never_cache(login_required(view)))


@_read
def home(request: HttpRequest) -> HttpResponse:
    clock = clock_from_env()
    context = {**state_context(request.user, clock), **page_context(request, clock)}
    return render(request, "algo/dashboard/page.html", context)


@_read
def state(request: HttpRequest) -> HttpResponse:
    """The parts of the page that the server makes, again. `after` is the event that made the page ask: all pages of a
    user that heard it get one text, for it was made after the event. Without it, a text of their own."""
    after = request.GET.get("after", "")
    kept, key = caches["process"], _key(request, after)
    html = kept.get(key) if after else None
    if html is None:
        context: dict[str, Any] = {**state_context(request.user, clock_from_env()), "again": True}
        html = render_to_string("algo/dashboard/state.html", context, request)
        kept.set(key, html, KEPT_SECONDS)
    return HttpResponse(html)


def _key(request: HttpRequest, after: str) -> str:
    """Whose it is, how they read, and after which event."""
    who = reader()
    words = (request.user.pk, who.language, who.calendar, who.digits, who.zone, after)
    return sha256(repr([str(word) for word in words]).encode()).hexdigest()


@_read
def equity(request: HttpRequest) -> HttpResponse:
    currency, span = request.GET.get("currency", CURRENCIES[0]), request.GET.get("span", Span.DAY.value)
    if currency not in CURRENCIES or span not in [each.value for each in Span]:
        return HttpResponseBadRequest("Ask for currency=USDT or IRT, and for span=day, week, month or all.")
    return JsonResponse(curve_shape(curve_of(request.user, currency, Span(span), clock_from_env().now())))


@_read
def quotes(request: HttpRequest) -> HttpResponse:
    return JsonResponse(quotes_shape(quotes_watched(request.user)))


@_read
def chart(request: HttpRequest, pk: int) -> HttpResponse:
    config = get_object_or_404(strategies_visible(request.user), pk=pk)
    return JsonResponse(chart_shape(price_chart(config, clock_from_env().now())))
