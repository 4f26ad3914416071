"""The ASGI application: `/live/events`, a stream of server-sent events, and `/live/health`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs

from django.utils.translation import gettext_lazy as _

from algo.live.redis_link import TROUBLE
from algo.live.updates.events import HELLO, RESET, Place, Visitor, alive, as_json, frame, place_of, reset
from algo.live.updates.follower import Follower
from algo.live.updates.hub import Client, Full, Hub
from algo.live.updates.prices import Market, Prices
from algo.live.updates.relay import Relay
from algo.version import VERSION

logger = logging.getLogger("algo.live")

EVENTS, HEALTH = "/live/events", "/live/health"
ALIVE_SECONDS = 10.0
RECHECK_SECONDS = 60.0
RETRY_MS = (2_000, 5_000)  # spread, so that all who lost a server do not come back at once
FIND_SECONDS = 2.0
LEAVE_SECONDS = 0.3
DOORS = 4  # threads that ask the database who somebody is

FOREIGN = _("Pages of this origin may not listen here. Open the platform under its own address (WEB_URL).")
NOTHING = _("There is nothing at this address but %(address)s.")
ONLY_GET = _("Live updates are read with GET; acts belong to /api/v1/.")
FULL_OF_USER = _("You have %(most)s live connections open already. Close a page and open this one again.")
FULL = _("All %(most)s live connections are taken. Try again.")

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: a refusal, or a health."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who came in, and which markets are looked at."""

    visitor: Visitor
    markets: Mapping[Market, int]


class Door(Protocol):
    """Who may come in. Called in threads; asks the database."""

    def enter(self, scope: Scope) -> Admitted | Answer:
        """For a request that begins."""

    def still(self, scope: Scope) -> Visitor | None:
        """Who it is now; None where they may not listen any more. Raises where that cannot be known."""

    def refuse(self, scope: Scope, status: int, code: str, detail: Any, headers: Headers, **named: object) -> Answer:
        """`detail`, a sentence translated late, in the language that is asked for, with what it names."""


class Live:
    """One process' live updates. `web_origin` is the page's, where it is served from another port or host."""

    def __init__(
        self, hub: Hub, follower: Follower, prices: Prices, relay: Relay, door: Door, *, web_origin: str = ""
    ) -> None:
        self._hub, self._follower, self._prices, self._relay, self._door = hub, follower, prices, relay, door
        self._web_origin = web_origin
        self._name = uuid.uuid4().hex[:12]
        self._threads = ThreadPoolExecutor(DOORS, "live-door")
        self._work: list[asyncio.Task[None]] = []
        self._scopes: dict[Client, Scope] = {}

    # --- life ---

    async def start(self) -> None:
        self._relay.start()
        self._work = [
            asyncio.create_task(work) for work in (self._follower.run(), self._prices.run(), self._watch_visitors())
        ]
        with contextlib.suppress(TimeoutError):  # without Redis pages are served too, and wait
            await asyncio.wait_for(self._follower.found.wait(), FIND_SECONDS)

    def end(self) -> None:
        """Every stream ends; clients come back to whoever serves them then. May be called from a signal handler."""
        self._hub.end()

    async def stop(self) -> None:
        self._hub.end()
        for task in self._work:
            task.cancel()
        if self._work:
            await asyncio.wait(self._work, timeout=LEAVE_SECONDS)
        await asyncio.to_thread(self._relay.stop, LEAVE_SECONDS)
        self._threads.shutdown(wait=False, cancel_futures=True)

    # --- requests ---

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = await self._answer(scope, receive, send)
        if answer is not None:
            await _send_whole(send, answer)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> Answer | None:
        origin = _header(scope, b"origin")
        allowed = self._cors(scope, origin)
        if allowed is None:
            return self._door.refuse(scope, 403, "foreign_origin", FOREIGN, [(b"vary", b"Origin")])
        if scope["path"] not in (EVENTS, HEALTH):
            return self._door.refuse(scope, 404, "not_found", NOTHING, allowed, address=EVENTS)
        if scope["method"] != "GET":
            return self._door.refuse(scope, 405, "method_not_allowed", ONLY_GET, [*allowed, (b"allow", b"GET")])
        if scope["path"] == HEALTH:
            return self._health(allowed)
        return await self._events(scope, allowed, receive, send)

    def _cors(self, scope: Scope, origin: str) -> Headers | None:
        """Headers for a page of `origin`; None where it is neither the platform's own nor this very place."""
        vary = (b"vary", b"Origin")
        if not origin or origin.partition("://")[2] == _header(scope, b"host"):
            return [vary]
        if origin != self._web_origin:
            return None
        return [
            vary,
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-credentials", b"true"),
        ]

    def _health(self, headers: Headers) -> Answer:
        told = {"status": "ok", "flowing": self._hub.is_flowing, "relay": self._relay.leads}
        body = json.dumps(told | {"clients": len(self._hub.clients)}).encode()
        return Answer(200, [*headers, (b"content-type", b"application/json"), (b"cache-control", b"no-store")], body)

    async def _events(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> Answer | None:
        admitted = await self._in_thread(self._door.enter, scope)
        if isinstance(admitted, Answer):
            return Answer(admitted.status, [*admitted.headers, *headers], admitted.body)
        client = Client(admitted.visitor, frozenset(admitted.markets.values()))
        try:
            self._hub.add(client)
        except Full as full:
            return self._full(scope, full, headers)
        self._scopes[client] = scope
        try:
            await self._serve(client, scope, admitted, headers, receive, send)
        finally:
            self._hub.remove(client)
            del self._scopes[client]
        return None

    def _full(self, scope: Scope, full: Full, headers: Headers) -> Answer:
        again = [*headers, (b"retry-after", b"30")]
        if full.whose == "user":
            return self._door.refuse(scope, 429, "too_many_connections", FULL_OF_USER, again, most=full.most)
        return self._door.refuse(scope, 503, "full", FULL, again, most=full.most)

    async def _serve(
        self, client: Client, scope: Scope, admitted: Admitted, headers: Headers, receive: Receive, send: Send
    ) -> None:
        """Until the client goes, or is sent away."""
        until = self._hub.place
        begun = asyncio.create_task(self._pump(client, scope, admitted, until, headers, send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({begun, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
            gone.cancel()
            await asyncio.gather(begun, gone, return_exceptions=True)

    async def _pump(
        self, client: Client, scope: Scope, admitted: Admitted, until: Place, headers: Headers, send: Send
    ) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [*STREAM_HEADERS, *headers]})
        await _send_piece(send, self._hello(client) + await self._missed(client, scope, until))
        await self._prices.look(client, admitted.markets)
        while True:
            told = await client.next(ALIVE_SECONDS)
            if told or not client.is_ending:
                await _send_piece(send, told or self._hub.alive())
            if client.is_ending:
                break
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _hello(self, client: Client) -> bytes:
        retry = f"retry: {random.randint(*RETRY_MS)}\n".encode()  # noqa: S311 - spread, not secret
        told = as_json({"server": self._name, "version": VERSION, "markets": sorted(client.markets)})
        return retry + frame(HELLO, told) + self._hub.state()

    async def _missed(self, client: Client, scope: Scope, until: Place) -> bytes:
        """What happened since the client was here last, or that it must read everything anew; its place either way."""
        came_from = _last_event_id(scope)
        if came_from is None:
            return alive(until)
        place = place_of(came_from)
        try:
            missed = await self._follower.since(place, until) if place and self._hub.is_flowing else None
        except TROUBLE:
            missed = None
        if missed is None:
            return frame(RESET, reset("too long ago, or not known").data, until)
        seen: Iterable[bytes] = (
            frame(event.kind, event.data, at) for at, event in missed if client.visitor.may_hear(event.audience)
        )
        return b"".join(seen) + alive(until)

    # --- who may still listen ---

    async def _watch_visitors(self) -> None:
        """Each is looked at once a minute, one after the other."""
        looked: dict[Client, float] = {}
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            looked = {client: looked.get(client, now) for client in self._scopes}
            for client, at in list(looked.items()):
                if now - at >= RECHECK_SECONDS and client in self._scopes:
                    looked[client] = now
                    await self._look_again(client)

    async def _look_again(self, client: Client) -> None:
        try:
            visitor = await self._in_thread(self._door.still, self._scopes[client])
        except Exception:  # outlives a database that is away: then nobody's rights can have changed either
            logger.warning("live: who listens cannot be asked now, asking again in a minute", exc_info=True)
            return
        if visitor is None:
            client.end()
        elif visitor != client.visitor:
            client.visitor = visitor
            client.tell_now(frame(RESET, reset("what you may see has changed").data, self._hub.place))

    async def _in_thread(self, call: Callable[[Scope], Any], scope: Scope) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, scope)


STREAM_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx: pass every piece on at once
    (b"x-content-type-options", b"nosniff"),
]


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _last_event_id(scope: Scope) -> str | None:
    """As a browser sends it by itself; in the address by a page that opens a new connection. None for a first one."""
    asked = parse_qs(scope["query_string"].decode("latin-1"))
    return _header(scope, b"last-event-id") or asked.get("last_event_id", [""])[0] or None


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_piece(send: Send, body: bytes) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": True})


async def _send_whole(send: Send, answer: Answer) -> None:
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
