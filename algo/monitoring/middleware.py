"""First of all middleware: every request has an id, and probes are answered before anything can keep them from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from hmac import compare_digest

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse

from algo.monitoring.health import PARTS, readiness
from algo.trail import REQUEST_ID, sane_id, trail

HEADER = "X-Request-ID"
GetResponse = Callable[[HttpRequest], HttpResponseBase]


class RequestIds:
    """Whoever calls may name the request (`X-Request-ID`); the answer, the log lines and the tasks that come of it say
    the same id."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        name = sane_id(request.headers.get(HEADER))
        with trail(**{REQUEST_ID: name}):
            response = self.get_response(request)
        response.headers[HEADER] = name
        return response


class Probes:
    """`/health/live`, `/health/ready` and `/metrics`, whatever host they are asked under: they need no session, and no
    part of the platform that may be away. They tell nothing that has to be kept from strangers; `/metrics` does, and
    wants a token."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response
        self._answers = {"/health/live": live, "/health/ready": ready, "/metrics": metrics}

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        answer = self._answers.get(request.path_info)
        if answer is None:
            return self.get_response(request)
        if request.method not in ("GET", "HEAD"):
            response = _text("Only GET and HEAD are answered here.", status=405)
            response.headers["Allow"] = "GET, HEAD"
        else:
            response = answer(request)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response._has_been_logged = True  # type: ignore[attr-defined] # who asks every few seconds knows the answer
        return response


def live(request: HttpRequest) -> HttpResponse:
    """This process answers; it asks nobody else."""
    return JsonResponse({"status": "live"})


def ready(request: HttpRequest) -> HttpResponse:
    """503 where a part is not as it should be. `?only=database,redis` asks about these alone: what a load balancer may
    ask, for pages and kill switches are needed most while an exchange is away."""
    only = [name for name in request.GET.get("only", "").split(",") if name] or PARTS
    if unknown := sorted(set(only) - set(PARTS)):
        return JsonResponse({"status": "unknown_part", "parts": PARTS, "unknown": len(unknown)}, status=400)
    parts = readiness(only)
    is_ready = all(part.ok for part in parts)
    told = {part.name: {"ok": part.ok, "reason": part.reason} for part in parts}
    answer = {"status": "ready" if is_ready else "not_ready", "checks": told}
    return JsonResponse(answer, status=200 if is_ready else 503)


def metrics(request: HttpRequest) -> HttpResponse:
    """In Prometheus' text format, for `Authorization: Bearer <METRICS_TOKEN>`."""
    token = settings.METRICS_TOKEN
    if not token:
        return _text("Metrics are off. Set METRICS_TOKEN, and send it as: Authorization: Bearer <token>", status=403)
    given = re.fullmatch(r"Bearer (\S+)", request.headers.get("Authorization", ""))
    if given is None or not compare_digest(given[1].encode(), token.encode()):
        response = _text("Send the token of METRICS_TOKEN as: Authorization: Bearer <token>", status=401)
        response.headers["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return response
    from algo.monitoring.metrics import CONTENT_TYPE, exposition  # noqa: PLC0415 - read where it is used at all

    return HttpResponse(exposition(), content_type=CONTENT_TYPE)


def _text(text: str, status: int) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")
