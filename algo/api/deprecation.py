"""What will end says so before: `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and a link, in every answer, and
`deprecated` in the schema.

Mark a view, one of its actions or methods, or single query parameters:

    @deprecated(since=datetime(2027, 1, 1, tzinfo=UTC), sunset=datetime(2027, 7, 1, tzinfo=UTC), link="/api/#deals-v2")
    class OldView(ApiView): ...

    @deprecated(since=..., parameters=("page",))
    def list(self, request): ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.utils.http import http_date
from rest_framework.request import Request
from rest_framework.response import Response

Marked = TypeVar("Marked", bound=Callable[..., Any])
_MARKS = "deprecations"


@dataclass(frozen=True, slots=True)
class Deprecation:
    """`since` and `sunset` (when it may stop to answer) are aware; `link` leads to what to do instead. Without
    `parameters` all of what is marked ends, else those query parameters alone."""

    since: datetime
    sunset: datetime | None = None
    link: str = "/api/"
    parameters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.since.tzinfo is None or (self.sunset is not None and self.sunset.tzinfo is None):
            raise ValueError("a moment without a time zone is not one moment")
        if self.sunset is not None and self.sunset < self.since:
            raise ValueError("it cannot end before it is deprecated")

    def headers(self) -> dict[str, str]:
        told = {
            "Deprecation": f"@{int(self.since.timestamp())}",
            "Link": f'<{self.link}>; rel="deprecation"; type="text/html"',
        }
        return told if self.sunset is None else told | {"Sunset": http_date(self.sunset.timestamp())}


def deprecated(
    *,
    since: datetime,
    sunset: datetime | None = None,
    link: str = "/api/",
    parameters: tuple[str, ...] = (),
) -> Callable[[Marked], Marked]:
    """Marks a view, an action or a method; several times for several parameters with different ends."""
    mark = Deprecation(since, sunset, link, parameters)

    def marked(what: Marked) -> Marked:
        setattr(what, _MARKS, (mark, *getattr(what, _MARKS, ())))
        return what

    return marked


def deprecations(view: Any, method: str) -> Iterator[Deprecation]:
    """The marks of what answers `method`, and then those of the whole view."""
    handler = getattr(type(view), getattr(view, "action", None) or method.lower(), None)
    yield from getattr(handler, _MARKS, ())
    yield from getattr(type(view), _MARKS, ())


class Deprecating:
    """Before the framework's class: answers tell of what ends. A parameter does only to who sends it."""

    def finalize_response(self, request: Request, response: Response, *args: Any, **kwargs: Any) -> Response:
        answer: Response = super().finalize_response(request, response, *args, **kwargs)  # type: ignore[misc]
        asked = set(request.query_params) if isinstance(request, Request) else set()
        meant = (
            mark
            for mark in deprecations(self, str(request.method))
            if not mark.parameters or asked & set(mark.parameters)
        )
        if (mark := next(meant, None)) is not None:
            links = [answer["Link"]] if "Link" in answer else []
            for name, value in mark.headers().items():
                answer[name] = ", ".join([*links, value]) if name == "Link" else value
        return answer
