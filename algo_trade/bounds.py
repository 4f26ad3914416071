"""How much a request may bring, and what a page may ask of a browser."""

from __future__ import annotations

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from algo.api.problems import PREFIX, TooLarge, problem_response

# Nothing here needs any of it; a script that got into a page shall not either.
PERMISSIONS = ", ".join(
    f"{feature}=()"
    for feature in ("camera", "geolocation", "microphone", "payment", "usb", "serial", "bluetooth", "display-capture")
)


class BoundedRequests:
    """Refuses a body by the length it announces, before a byte of it is read: the server reads no further than that,
    and Django's own bound holds neither for files nor for what a parser reads itself."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = _too_large(request) if _length(request) > _most() else self.get_response(request)
        response.headers.setdefault("Permissions-Policy", PERMISSIONS)
        return response


def _most() -> int:
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def _length(request: HttpRequest) -> int:
    """As Django reads it: what is no number is no body."""
    said = request.META.get("CONTENT_LENGTH") or "0"
    return int(said) if said.isdecimal() else 0


def _too_large(request: HttpRequest) -> HttpResponseBase:
    if request.path_info.startswith(PREFIX):
        return problem_response(TooLarge.status_code, code=TooLarge.default_code, detail=TooLarge.default_detail)
    return HttpResponse(str(TooLarge.default_detail), status=TooLarge.status_code, content_type="text/plain")
