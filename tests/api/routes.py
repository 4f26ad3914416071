"""Every address of the API with the methods it takes, read from its URL conf: a new one is in the tests of access by
itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, get_resolver

METHODS = ("get", "post", "put", "patch", "delete")
SAFE = ("get",)


@dataclass(frozen=True)
class Route:
    """`path` is as "deals/{pk}/close"; `name` that of the URL conf; `action` that of a view set."""

    path: str
    name: str
    method: str
    action: str
    view: type[Any]
    initkwargs: Any

    def address(self, **ids: Any) -> str:
        return "/api/v1/" + self.path.format(**ids)

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


def routes() -> Iterator[Route]:
    """All but the one that answers for addresses that do not exist."""
    [v1] = [each for each in get_resolver("algo.api.urls").url_patterns if str(each.pattern) == "v1/"]
    for pattern in v1.url_patterns:
        if isinstance(pattern, URLPattern) and pattern.name != "unknown":
            yield from _of(pattern)


def _of(pattern: URLPattern) -> Iterator[Route]:
    callback: Any = pattern.callback
    view, initkwargs = callback.cls, getattr(callback, "initkwargs", {})
    actions = getattr(callback, "actions", None)
    path = re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", str(pattern.pattern).lstrip("^").rstrip("$").removesuffix(r"\Z"))
    path = path.removesuffix("/?").replace("\\", "")
    for method in METHODS:
        if actions is None:
            if hasattr(view, method):
                yield Route(path, pattern.name or "", method, "", view, initkwargs)
        elif method in actions:
            yield Route(path, pattern.name or "", method, actions[method], view, initkwargs)
