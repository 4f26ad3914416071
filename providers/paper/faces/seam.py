"""Between the wire and the faces: where faults happen to requests, and where every request is written down."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from providers.paper.engine import Exchange
from providers.paper.faces.injector import Call, FaultInjector, Step
from providers.paper.faces.wire_faults import Answer, whole_answer
from providers.paper.faults import VENUES
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
class _Request:
    """One request over ASGI, and what is written down of it."""

    call: Call
    scope: Scope
    body: bytearray = field(default_factory=bytearray)
    status: int | None = None


class Seam:
    """Stands around both faces. What goes wrong is the injector's word; waiting is done by `sleep`, on the wall."""

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
        self._injector = FaultInjector(exchange, wall=wall)
        self._close = close
        self._sleep, self._monotonic, self._wall = sleep, monotonic, wall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        venue, _, rest = scope["path"].lstrip("/").partition("/")
        if scope["type"] != "http" or venue not in VENUES:
            await self.app(scope, receive, send)
            return
        call = self._injector.arrived(venue, scope["method"], f"/{rest}", Headers(scope=scope))
        request = _Request(call, scope)
        began, arrived = self._monotonic(), self._wall()
        try:
            await self._serve(request, receive, send)
        except _Dropped:
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self._write_down(request, began, arrived)

    # -- one request ---------------------------------------------------------------------------------------------

    async def _serve(self, request: _Request, receive: Receive, send: Send) -> None:
        call = request.call
        if call.is_untouched:
            await self.app(request.scope, _noting(request, receive), self._dated(request, send))
            return
        await _read_all(request, receive)  # a client that gives up meanwhile does not take the request back
        answer = await self._done(request, self._injector.before(call)) or await self._answer(request)
        changed = await self._done(request, self._injector.after(call, answer))
        await self._send(request, changed or answer, send)

    async def _done(self, request: _Request, step: Step) -> Answer | None:
        """Wait as long as the step says; its answer, if it has one."""
        if step.delay:
            await self._sleep(step.delay)
        if step.drop is not None:
            self._close(request.scope, reset=step.drop.params["reset"])
            raise _Dropped
        return step.answer

    async def _answer(self, request: _Request) -> Answer:
        """What the exchange says, whole."""
        messages: list[Message] = []

        async def collect(message: Message) -> None:
            messages.append(message)

        await self.app(request.scope, _replaying(request), collect)
        start = messages[0]
        return whole_answer(start["status"], start["headers"], b"".join(each.get("body", b"") for each in messages[1:]))

    async def _send(self, request: _Request, answer: Answer, send: Send) -> None:
        headers = [
            *answer.headers, (b"content-type", answer.content_type.encode()),
            (b"content-length", str(len(answer.body)).encode()),
        ]  # fmt: skip
        dated = self._dated(request, send)
        await dated({"type": "http.response.start", "status": answer.status, "headers": headers})
        rate = request.call.bytes_per_second
        if rate is not None:
            await self._trickle(answer.body, rate, dated)
        else:
            await dated({"type": "http.response.body", "body": answer.body})

    async def _trickle(self, body: bytes, rate: float, send: Send) -> None:
        """In pieces of a twentieth of a second, at least a byte each."""
        size = max(int(rate / 20), 1)
        for start in range(0, len(body), size):
            await self._sleep(size / rate)
            await send({"type": "http.response.body", "body": body[start : start + size], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def _dated(self, request: _Request, send: Send) -> Send:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
                date = (b"date", self._injector.date(request.call).encode())
                message = {**message, "headers": [*message["headers"], date]}
            await send(message)

        return dated

    # -- the log -------------------------------------------------------------------------------------------------

    def _write_down(self, request: _Request, began: float, arrived: float) -> None:
        call = request.call
        self.log.add(
            monotonic=round(began, 6),
            arrived_at=datetime.fromtimestamp(arrived, UTC).isoformat(),
            exchange_time=self._exchange.clock.now().isoformat(),
            venue=call.venue,
            method=call.method,
            path=call.path,
            query=request.scope["query_string"].decode("latin-1"),
            account=call.account,
            client_order_id=_client_order_id(request.body),
            status=request.status,
            duration_ms=round((self._monotonic() - began) * 1000, 3),
            faults=tuple(dict.fromkeys(call.hit_by)),
        )


def _noting(request: _Request, receive: Receive) -> Receive:
    async def noting() -> Message:
        message = await receive()
        if message["type"] == "http.request" and len(request.body) < 65_536:
            request.body += message.get("body", b"")
        return message

    return noting


async def _read_all(request: _Request, receive: Receive) -> None:
    while True:
        message = await receive()
        request.body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            return


def _replaying(request: _Request) -> Receive:
    async def replaying() -> Message:
        return {"type": "http.request", "body": bytes(request.body), "more_body": False}

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
