"""What both faces share: parsing and limits."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)

Handler = Callable[[Request], Awaitable[Response]]

_PLAIN_DECIMAL = re.compile(r"\d{1,30}(\.\d{1,30})?")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` requests in `seconds` of wall time."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request is within its limit; `back_off` is the wait in seconds when it is not; `count` is the limit."""

    allowed: bool
    remaining: int
    back_off: int
    count: int


class RateLimiter:
    """Fixed windows beginning with the first request (nobitex 2.1). Wall time, whatever the market's clock does; where
    a replay lets the exchange's minutes pass faster, `factor` times as many requests."""

    def __init__(
        self, *, enabled: bool = True, factor: float = 1.0, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.enabled = enabled
        self.factor = factor
        self.monotonic = monotonic
        self._windows: dict[tuple[str, ...], tuple[float, int]] = {}

    def hit(self, limit: Limit, *key: str) -> Verdict:
        """Count one request for this key."""
        count = int(limit.count * self.factor)
        if not self.enabled:
            return Verdict(True, count, 0, count)
        now = self.monotonic()
        began, used = self._windows.get(key, (now, 0))
        if now - began >= limit.seconds:
            began, used = now, 0
        self._windows[key] = (began, used + 1)
        back_off = max(int(began + limit.seconds - now) + 1, 1)
        return Verdict(used < count, max(count - used - 1, 0), back_off, count)


class JSON(Response):
    """UTF-8 JSON, Persian left readable."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return _ENCODER.encode(content).encode()


async def json_body(request: Request) -> dict[str, Any]:
    """The request's JSON object, fractions as Decimal. Raises `ValueError` for anything else."""
    return json_object(await request.body())


def json_object(raw: bytes) -> dict[str, Any]:
    """A JSON object, fractions as Decimal; nothing is an empty one. Raises `ValueError` for anything else."""
    try:
        body = json.loads(raw, parse_float=Decimal) if raw else {}
    except (ValueError, RecursionError) as exc:
        raise ValueError("the body is not JSON") from exc
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")  # noqa: TRY004 - what a caller sent, not how we were called
    return body


def amount(value: Any) -> Decimal | None:
    """A plain, non-negative decimal from a JSON string or number; None where there is none. Raises `ValueError`."""
    if value is None or value == "":
        return None
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    if isinstance(value, bool) or not _PLAIN_DECIMAL.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a plain decimal number")
    return Decimal(text)


def plain(value: Decimal) -> str:
    """A decimal without exponent and without padding."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def places(value: Decimal, count: int = 16) -> str:
    """A decimal padded (or rounded half-even, for averages) to `count` places."""
    return format(value, f".{count}f")


def client_ip(request: Request) -> str:
    return request.client.host if request.client else ""


def positive_int(text: str | None, default: int, most: int) -> int:
    """A page or page size from a query string. Raises `ValueError` outside 1..most."""
    value = default if text is None else int(text)
    if not 1 <= value <= most:
        raise ValueError(f"must be between 1 and {most}")
    return value
