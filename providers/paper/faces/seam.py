"""Between the wire and the faces: where faults happen to requests, and where every request is written down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Protocol
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from providers.paper.engine import Exchange
from providers.paper.faces import wire_faults as wire
from providers.paper.faces.wire_faults import Answer
from providers.paper.faults import VENUES, Fault, FaultKind
from providers.paper.request_log import RequestLog

_NAMES_AN_ORDER = ("client_id", "clientOrderId")


class Closer(Protocol):
    """Ends the connection of a request without an answer."""

    def __call__(self, scope: Scope, *, reset: bool) -> None: ...


def _no_wire(scope: Scope, *, reset: bool) -> None:
    """In process there is no connection to close; the caller of the application sees this instead."""
    raise ConnectionAbortedError("the exchange closed the connection without an answer")


class _Dropped(Exception):
    """The connection is gone."""


@dataclass(slots=True)
class _Call:
    """One request on its way."""

    venue: str
    path: str
    account: str | None
    scope: Scope
    faults: list[Fault]
    body: bytearray = field(default_factory=bytearray)
    status: int | None = None
    skew: float = 0.0
    hit_by: list[int] = field(default_factory=list)


class Seam:
    """Stands around both faces. Faults are decided by the exchange's plan; waiting is done by `sleep`, on the wall."""

    def __init__(
        self,
        app: ASGIApp,
        exchange: Exchange,
        *,
        close: Closer = _no_wire,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        self.log = RequestLog()
        self._exchange = exchange
        self._close = close
        self._sleep, self._monotonic, self._wall = sleep, monotonic, wall
        self._maintenance: dict[str, tuple[Fault, datetime]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        venue, _, rest = scope["path"].lstrip("/").partition("/")
        if scope["type"] != "http" or venue not in VENUES:
            await self.app(scope, receive, send)
            return
        call = self._call(venue, f"/{rest}", scope)
        began, arrived = self._monotonic(), self._wall()
        try:
            await self._serve(call, receive, send)
        except _Dropped:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._write_down(call, began, arrived)

    def _call(self, venue: str, path: str, scope: Scope) -> _Call:
        account = self._account(venue, Headers(scope=scope))
        plan = self._exchange.faults
        return _Call(venue, path, account, scope, plan.decide(venue, scope["method"], path, account))

    def _account(self, venue: str, headers: Headers) -> str | None:
        """Whose key the request carries, whether it is still good or not."""
        exchange = self._exchange
        if venue == "wallex":
            account = exchange.account_for_wallex(headers.get("x-api-key", ""))
        else:
            account = exchange.account_for_nobitex(headers.get("authorization", "").removeprefix("Token "))
        key = exchange.keys.get("nobitex", headers.get("nobitex-key", "")) if venue == "nobitex" else None
        return key.account if key is not None else account.name if account is not None else None

    # -- one request ---------------------------------------------------------------------------------------------

    async def _serve(self, call: _Call, receive: Receive, send: Send) -> None:
        began = self._begin_maintenance(call)
        if not call.faults and not began:
            await self.app(call.scope, _noting(call, receive), self._dated(call, send))
            return
        call.hit_by += [fault.rule_id for fault in call.faults]
        await _read_all(call, receive)  # a client that gives up meanwhile does not take the request back
        answer = await self._before(call)
        for fault in call.faults:
            answer = await self._after(call, fault, answer)
        await self._send(call, answer, send)

    def _begin_maintenance(self, call: _Call) -> bool:
        """Whether the exchange is closed for this request."""
        now = self._exchange.clock.now()
        for fault in call.faults:
            if fault.kind is FaultKind.MAINTENANCE:
                self._maintenance[call.venue] = fault, now + timedelta(seconds=fault.params["seconds"])
        if call.venue not in self._maintenance:
            return False
        running, until = self._maintenance[call.venue]
        if now >= until or not self._exchange.faults.has(running.rule_id):
            del self._maintenance[call.venue]
            return False
        if running not in call.faults:
            call.hit_by.append(running.rule_id)
        return True

    async def _before(self, call: _Call) -> Answer:
        """The answer of a fault that comes before the exchange, else the exchange's."""
        if call.venue in self._maintenance:
            return wire.page(503, "503 under maintenance")
        for fault in call.faults:
            if fault.kind is FaultKind.DROP_BEFORE:
                self._drop(call, fault)
            if fault.kind is FaultKind.DELAY and fault.params["when"] == "before":
                await self._sleep(fault.params["seconds"])
            answer = _instead(call, fault, "before")
            if answer is not None:
                return answer
        return await self._answer(call)

    async def _after(self, call: _Call, fault: Fault, answer: Answer) -> Answer:
        if fault.kind is FaultKind.DROP_AFTER:
            self._drop(call, fault)
        if fault.kind is FaultKind.DELAY and fault.params["when"] == "after":
            await self._sleep(fault.params["seconds"])
        if fault.kind is FaultKind.CLOCK_SKEW:
            call.skew += fault.params["seconds"]
        return _instead(call, fault, "after") or wire.distorted(fault, answer)

    def _drop(self, call: _Call, fault: Fault) -> None:
        self._close(call.scope, reset=fault.params["reset"])
        raise _Dropped

    async def _answer(self, call: _Call) -> Answer:
        """What the exchange says, whole."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self.app(call.scope, _replaying(call), collect)
        start = messages[0]
        headers = Headers(raw=start["headers"])
        kept = [(name, value) for name, value in start["headers"] if name not in (b"content-length", b"content-type")]
        body = b"".join(message.get("body", b"") for message in messages[1:])
        return Answer(start["status"], body, tuple(kept), headers.get("content-type", "application/json"))

    async def _send(self, call: _Call, answer: Answer, send: Send) -> None:
        headers = [
            *answer.headers, (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
        ]  # fmt: skip
        dated = self._dated(call, send)
        await dated({"type": "http.response.start", "status": answer.status, "headers": headers})
        slow = next((fault for fault in call.faults if fault.kind is FaultKind.SLOW_TRICKLE), None)
        if slow is not None:
            await self._trickle(answer.body, slow.params["bytes_per_second"], dated)
        else:
            await dated({"type": "http.response.body", "body": answer.body})

    async def _trickle(self, body: bytes, rate: float, send: Send) -> None:
        """In pieces of a twentieth of a second, at least a byte each."""
        size = max(int(rate / 20), 1)
        for start in range(0, len(body), size):
            await self._sleep(size / rate)
            await send({"type": "http.response.body", "body": body[start : start + size], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _dated(self, call: _Call, send: Send) -> Send:
        """Adds the Date header: the wall clock's time, or what a skewed clock says."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                at = datetime.fromtimestamp(self._wall() + call.skew, UTC)
                date = (b"date", format_datetime(at, usegmt=True).encode())
                message = {**message, "headers": [*message["headers"], date]}
            await send(message)

        return dated

    # -- the log -------------------------------------------------------------------------------------------------

    def _write_down(self, call: _Call, began: float, arrived: float) -> None:
        self.log.add(
            monotonic=round(began, 6),
            arrived_at=datetime.fromtimestamp(arrived, UTC).isoformat(),
            exchange_time=self._exchange.clock.now().isoformat(),
            venue=call.venue,
            method=call.scope["method"],
            path=call.path,
            query=call.scope["query_string"].decode("latin-1"),
            account=call.account,
            client_order_id=_client_order_id(call.body),
            status=call.status,
            duration_ms=round((self._monotonic() - began) * 1000, 3),
            faults=tuple(dict.fromkeys(call.hit_by)),
        )


def _instead(call: _Call, fault: Fault, when: str) -> Answer | None:
    """The answer a fault gives instead of the exchange, if it does so at this time."""
    if fault.params.get("when", "before") != when:
        return None
    match fault.kind:
        case FaultKind.HTTP_ERROR:
            return wire.error(call.venue, fault)
        case FaultKind.SUCCESS_FALSE_200:
            return wire.refused(call.venue, fault)
        case FaultKind.RATE_LIMITED:
            return wire.rate_limited(call.venue, fault)
        case FaultKind.KEY_REVOKED:
            return wire.revoked(call.venue)
    return None


def _noting(call: _Call, receive: Receive) -> Receive:
    async def noting() -> Message:
        message = await receive()
        if message["type"] == "http.request" and len(call.body) < 65_536:
            call.body += message.get("body", b"")
        return message

    return noting


async def _read_all(call: _Call, receive: Receive) -> None:
    while True:
        message = await receive()
        call.body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _replaying(call: _Call) -> Receive:
    async def replaying() -> Message:
        return {"type": "http.request", "body": bytes(call.body), "more_body": False}

    return replaying


def _client_order_id(body: bytes | bytearray) -> str | None:
    """The order a body names, as JSON or as a form; None where it names none."""
    if not body or not any(name.encode() in body for name in _NAMES_AN_ORDER):
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = {name: values[0] for name, values in parse_qs(bytes(body).decode("latin-1")).items()}
    named = (
        next((found[name] for name in _NAMES_AN_ORDER if found.get(name)), None) if isinstance(found, dict) else None
    )
    return named[:64] if isinstance(named, str) else None
