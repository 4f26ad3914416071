"""One Centrifugo connection, spoken by centrifuge-python in its JSON protocol (contract: nobitex 7).

The library is used for one connection at a time: it pings, subscribes, refreshes the token; coming back is the link's.
It gives up the whole connection over one frame it cannot read, and reads numbers as floats; therefore the frames pass
through a codec of ours, which drops what is damaged and keeps decimals exact.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    ConnectedContext,
    ConnectingContext,
    DisconnectedContext,
    ErrorContext,
    PublicationContext,
    SubscribedContext,
    SubscriptionEventHandler,
    UnsubscribedContext,
)
from centrifuge.codecs import _JsonCodec

from providers.errors import BadPayload
from providers.http import to_json_number
from providers.nobitex.stream_schemas import ReplySchema
from providers.stream_link import Drops, Link, Lost, StreamTiming, uses_proxy
from providers.wire import parse

_REFRESH_AT = 0.9  # of a token's life: the exchange need not grant anything after its end
_NEVER = 86400.0  # the library's own reconnecting, which the link replaces
_NOT_AUTHORIZED = 101
_PERMISSION_DENIED = 103
_FROM_SERVER = 2000  # codes of unsubscribe pushes begin here; below are refusals of a command, 0 is our own
_BLUNT = range(3500, 4000)  # disconnect codes that ask not to come back
_INVALID_TOKEN = (3500, 101, 103, 109)  # at connect, each may mean that the token is not accepted
_DISCONNECT_CALLED = 0


def loads(text: str) -> Any:
    """JSON with exact decimals. Raises ValueError or RecursionError."""
    return json.loads(text, parse_float=to_json_number, parse_constant=_no_constant)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


class TolerantCodec(_JsonCodec):
    """The library's JSON codec, but a damaged object costs itself only. `token_life`: seconds after which a token is
    renewed at the latest; None for connections without one."""

    def __init__(self, link: Link, drops: Drops, token_life: float | None) -> None:
        self._link, self._drops, self._token_life = link, drops, token_life

    def decode_replies(self, data: str | bytes) -> list[dict[str, Any]]:
        self._link.heard()
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        return list(self._readable(text))

    def _readable(self, text: str) -> Iterator[dict[str, Any]]:
        for line in text.strip().split("\n"):
            try:
                reply = loads(line)
                known = parse(ReplySchema, reply)
            except (BadPayload, ValueError, RecursionError) as exc:
                self._drops.count("frame_unreadable", type(exc).__name__)
                continue
            if known.push is None or known.push.pub or known.push.unsubscribe or known.push.disconnect:
                yield self._completed(reply, known)

    def _completed(self, reply: dict[str, Any], known: ReplySchema) -> dict[str, Any]:
        """What the library takes for granted, and the moment to renew the token moved before its end."""
        for owner in (reply, reply.get("push") or {}):
            for name in ("error", "unsubscribe", "disconnect"):
                if isinstance(owner.get(name), dict):
                    owner[name] = {"message": "", "reason": "", **owner[name]}
        for name, stated in (("connect", known.connect), ("refresh", known.refresh)):
            if stated is not None and self._token_life is not None:
                life = min(stated.ttl or self._token_life, self._token_life)
                reply[name] |= {"expires": True, "ttl": life * _REFRESH_AT}
        if known.connect is not None:
            reply["connect"].setdefault("client", "")
        if known.push is not None and known.push.pub is not None:
            reply["push"]["pub"] = {"data": known.push.pub.data, "offset": known.push.pub.offset}
        return reply


class _ClientEvents(ClientEventHandler):
    def __init__(self, wire: CentrifugoWire) -> None:
        self._wire = wire

    async def on_connected(self, ctx: ConnectedContext) -> None:
        self._wire.connected.set()

    async def on_connecting(self, ctx: ConnectingContext) -> None:
        if self._wire.connected.is_set():
            self._wire.lost(ctx.code, ctx.reason)

    async def on_disconnected(self, ctx: DisconnectedContext) -> None:
        if ctx.code != _DISCONNECT_CALLED:
            self._wire.lost(ctx.code, ctx.reason)

    async def on_error(self, ctx: ErrorContext) -> None:
        if not self._wire.connected.is_set():  # later ones either end in on_connecting or are tried again
            self._wire.lost(ctx.code, f"{type(ctx.error).__name__}: {ctx.error}")


class _ChannelEvents(SubscriptionEventHandler):
    def __init__(self, wire: CentrifugoWire, channel: str) -> None:
        self._wire, self._channel = wire, channel

    async def on_subscribed(self, ctx: SubscribedContext) -> None:
        self._wire.subscribed(self._channel)

    async def on_publication(self, ctx: PublicationContext) -> None:
        self._wire.published(self._channel, ctx.pub.data)

    async def on_unsubscribed(self, ctx: UnsubscribedContext) -> None:
        self._wire.unsubscribed(self._channel, ctx.code, ctx.reason)


class CentrifugoWire:
    """A `Wire`. `on_data(channel, data)` gets every publication, `on_subscribed(channel)` every confirmed
    subscription, `on_refused(channel, code)` what the exchange does not give; all in the loop."""

    def __init__(
        self,
        url: str,
        link: Link,
        timing: StreamTiming,
        drops: Drops,
        *,
        on_data: Callable[[str, Any], None],
        on_subscribed: Callable[[str], None],
        on_refused: Callable[[str, int], None],
        get_token: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self.connected = asyncio.Event()
        self.invalid_token = False
        self._link, self._timing, self._drops = link, timing, drops
        self._on_data, self._on_subscribed, self._on_refused = on_data, on_subscribed, on_refused
        self._client = Client(
            url,
            events=_ClientEvents(self),
            get_token=get_token,
            timeout=timing.open_timeout,
            max_server_ping_delay=timing.silent_after,
            name="",
            min_reconnect_delay=_NEVER,
            max_reconnect_delay=_NEVER,
            proxy=True if uses_proxy(url) else None,
        )
        life = timing.token_life if get_token is not None else None
        self._client._codec = TolerantCodec(link, drops, life)

    async def open(self) -> None:
        """Returns once the exchange confirmed the connection. Raises what `Link.end` was told otherwise."""
        try:
            async with asyncio.timeout(2 * self._timing.open_timeout):
                await self._client.connect()
                while not self.connected.is_set() and not self._link.ended:
                    await _either(self.connected, 0.05)
            self._link.check()
        except TimeoutError:
            await self.close()
            raise Lost("no answer to the connect command") from None
        except BaseException:
            await self.close()
            raise

    async def subscribe(self, channel: str) -> None:
        await self._client.new_subscription(channel, events=_ChannelEvents(self, channel)).subscribe()

    async def unsubscribe(self, channel: str) -> None:
        subscription = self._client.get_subscription(channel)
        if subscription is not None:
            await subscription.unsubscribe()
            self._client.remove_subscription(subscription)

    async def close(self) -> None:
        with suppress(CentrifugeError):
            await self._client.disconnect()

    # --- what the library tells ---

    def lost(self, code: int, reason: str) -> None:
        self.invalid_token = self.invalid_token or code in _INVALID_TOKEN
        self._link.end(Lost(f"{reason} (code {code})", blunt=code in _BLUNT))

    def subscribed(self, channel: str) -> None:
        self._guarded(lambda: self._on_subscribed(channel))

    def published(self, channel: str, data: Any) -> None:
        self._link.heard(data=True)
        self._guarded(lambda: self._on_data(channel, data))

    def unsubscribed(self, channel: str, code: int, reason: str) -> None:
        if code >= _FROM_SERVER:
            self.lost(code, f"the exchange ended a subscription: {reason}")
        elif code >= _NOT_AUTHORIZED:
            self._guarded(lambda: self._on_refused(channel, code))

    def _guarded(self, call: Callable[[], None]) -> None:
        """The library swallows what a handler raises: `Refused` and programming errors end the link instead."""
        try:
            call()
        except Exception as exc:  # noqa: BLE001 - handed on whole: the link raises it where its owner sees it
            self._link.end(exc)


def refuses_us(code: int) -> bool:
    """Whether a refused subscription means that our key, not the channel, is the reason."""
    return code in (_NOT_AUTHORIZED, _PERMISSION_DENIED)


def payload(data: Any) -> Any:
    """`data` is text that holds JSON; an object is accepted too (contract: nobitex 7)."""
    return loads(data) if isinstance(data, str) else data


async def _either(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
