"""What a fault makes of an answer: pure, bytes in and bytes out, in the words of each exchange."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from providers.paper.faults import Fault, FaultKind

_GATEWAY = "<!doctype html><html><head><title>{0}</title></head><body><h1>{0}</h1><hr>gateway</body></html>"
_FILLS = ("trades", "AccountLatestTrades", "fills")
_MS = ("lastUpdate", "time")
_SECONDS = ("transactTime",)
_ISO = ("created_at", "updated_at", "timestamp")


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, whole."""

    status: int
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: str = field(default="application/json")


def whole_answer(status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Answer:
    """An answer of the exchange; what the server says of its length is said anew when it leaves."""
    kept = tuple((name, value) for name, value in headers if name not in (b"content-length", b"content-type"))
    kind = next((value for name, value in headers if name == b"content-type"), b"application/json")
    return Answer(status, body, kept, kind.decode("latin-1"))


def page(status: int, text: str) -> Answer:
    """What a gateway in front of the exchange answers."""
    return Answer(status, _GATEWAY.format(text).encode(), content_type="text/html; charset=utf-8")


def _json(status: int, body: Any, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Answer:
    return Answer(status, json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), headers)


def _failure(venue: str, status: int, code: str, message: str, http: int, **more: Any) -> Answer:
    """The exchange's own envelope of a failure (contracts: wallex 1.3, nobitex 2)."""
    if venue == "wallex":
        number = int(code) if code.isascii() and code.isdigit() else status
        return _json(http, {"success": False, "code": number, "message": message, "result": more})
    return _json(http, {"status": "failed", "code": code, "message": message, **more})


def error(venue: str, fault: Fault) -> Answer:
    status = fault.params["status"]
    if fault.params["body"] == "html":
        return page(status, f"{status} injected fault")
    return _failure(venue, status, "SimFault", "injected fault", status)


def refused(venue: str, fault: Fault) -> Answer:
    return _failure(venue, 9999, fault.params["code"], "injected fault", 200)


def revoked(venue: str) -> Answer:
    """The dialects of a refused key (contracts: wallex 1.3, nobitex 2)."""
    if venue == "wallex":
        return _failure(venue, 1201, "1201", "کلید API نامعتبر است", 401)
    return _json(401, {"detail": "توکن غیر مجاز"})


def rate_limited(venue: str, fault: Fault) -> Answer:
    """429 (contracts: wallex 1.4, nobitex 2.1), telling the wait where the rule says."""
    seconds, told_in = int(fault.params["seconds"]), fault.params["told_in"]
    in_body = {"backOff": seconds, "limit": 1} if told_in in ("body", "both") else {}
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if told_in in ("header", "both"):
        headers = (
            (b"retry-after", str(seconds).encode()),
            (b"x-ratelimit-limit", b"1"),
            (b"x-ratelimit-remaining", b"0"),
        )
    answer = _failure(venue, 429, "TooManyRequests", "Too Many Attempts.", 429, **in_body)
    return replace(answer, headers=headers)


def distorted(fault: Fault, answer: Answer) -> Answer:
    """The answer as the fault changes it; what is not JSON passes, except through `malformed_json`."""
    if fault.kind is FaultKind.MALFORMED_JSON:
        body = answer.body[: max(len(answer.body) // 2, 1)] if fault.params["how"] == "truncated" else b"{]garbage"
        return replace(answer, body=body)
    change = _CHANGES.get(fault.kind)
    if change is None or "json" not in answer.content_type:
        return answer
    try:
        body = json.loads(answer.body)
    except ValueError:
        return answer  # another fault has spoiled it already
    return _json_like(answer, change(body, fault))


def _json_like(answer: Answer, body: Any) -> Answer:
    return replace(answer, body=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode())


def _wrong_types(body: Any, fault: Fault) -> Any:
    """Everything below the envelope's own flag, so that the payload is what is wrong."""
    if not isinstance(body, dict):
        return _wrong(body)
    return {name: value if name in ("success", "status", "s") else _wrong(value) for name, value in body.items()}


def _wrong(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _wrong(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_wrong(each) for each in value]
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return {"value": value}
    return [value] if isinstance(value, str) else value


def _duplicate_fills(body: Any, fault: Fault) -> Any:
    if isinstance(body, list):
        return [_duplicate_fills(each, fault) for each in body]
    if not isinstance(body, dict):
        return body
    changed = {name: _duplicate_fills(value, fault) for name, value in body.items()}
    lists = {name: value for name, value in changed.items() if name in _FILLS and isinstance(value, list) and value}
    return changed | {name: [value[0], *value] for name, value in lists.items()}


def _shift_times(body: Any, fault: Fault) -> Any:
    if isinstance(body, list):
        return [_shift_times(each, fault) for each in body]
    if not isinstance(body, dict):
        return body
    return {name: _shifted(name, value, fault) for name, value in body.items()}


def _shifted(name: str, value: Any, fault: Fault) -> Any:
    seconds = fault.params["seconds"]
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if name in _MS and is_number:
        return value + int(seconds * 1000)
    if name in _SECONDS and is_number:
        return value + int(seconds)
    if name in _ISO and isinstance(value, str):
        return _shifted_iso(value, seconds)
    return _shift_times(value, fault)


def _shifted_iso(text: str, seconds: float) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    shifted = (at + timedelta(seconds=seconds)).isoformat(timespec="microseconds")
    return shifted.replace("+00:00", "Z") if text.endswith("Z") else shifted


_CHANGES: dict[FaultKind, Callable[[Any, Fault], Any]] = {
    FaultKind.WRONG_TYPES: _wrong_types,
    FaultKind.DUPLICATE_FILL: _duplicate_fills,
    FaultKind.CLOCK_SKEW: _shift_times,
}
