"""Keeping one connection of a stream alive: open, watch its pulse, come back with jitter, and say why it went.

All times here are wall seconds. What flows over the connection is not this file's business.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from providers.redaction import redact

logger = logging.getLogger("providers.streams")

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_jitter = secrets.SystemRandom()


@dataclass(frozen=True, slots=True)
class StreamTiming:
    """How patient a stream is, in wall seconds."""

    open_timeout: float = 10.0
    silent_after: float = 60.0  # no frame at all, not even a ping: the connection is dead
    stalled_after: float = 300.0  # pings, but none of the data that was asked for
    backoff_first: float = 0.5
    backoff_longest: float = 30.0
    steady_after: float = 10.0  # a connection that lived this long starts the backoff anew
    renew_after: float = 1500.0  # where an exchange ends every connection after a time
    token_life: float = 1200.0  # where the exchange does not state it with the connection
    refresh_after: float = 60.0  # a book nobody spoke of for so long is read by REST
    rest_pause: float = 0.1  # between two REST reads
    rest_retry: float = 1.0  # after a failed REST read, doubled each time
    close_grace: float = 3.0  # after a candle's end, before it is read back
    cache_age: float = 1.5  # how old a public REST answer may be (contract: nobitex 2.2)
    check_every: float = 0.25


class Lost(Exception):
    """The connection ended, or never came up. `planned`: by us, come back at once. `blunt`: the exchange asked not to
    be called again soon. `wait`: not before so many seconds."""

    def __init__(self, reason: str, *, planned: bool = False, blunt: bool = False, wait: float = 0.0) -> None:
        super().__init__(redact(reason)[:200])
        self.planned, self.blunt, self.wait = planned, blunt, wait


class Refused(Exception):
    """The exchange refuses us: coming back by itself would make it worse."""

    def __init__(self, reason: str) -> None:
        super().__init__(redact(reason)[:300])


class Wire(Protocol):
    """One open connection. It tells its link what it hears; it may raise `Lost` from every call but `close`."""

    async def subscribe(self, channel: str) -> None: ...

    async def unsubscribe(self, channel: str) -> None: ...

    async def close(self) -> None: ...


class Link:
    """One connection and its channels, kept alive until cancelled. `run` raises `Refused` and programming errors."""

    def __init__(
        self,
        name: str,
        open_wire: Callable[[Link], Awaitable[Wire]],
        timing: StreamTiming,
        *,
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        renews: bool = False,
    ) -> None:
        self.name = name
        self.timing = timing
        self._open, self._on_up, self._on_down, self._renews = open_wire, on_up, on_down, renews
        self._wanted: frozenset[str] = frozenset()
        self._news = asyncio.Event()  # something for `_serve` to look at
        self._ending: Exception | None = None
        self._up_since: float | None = None
        self._heard = self._fed = 0.0
        self._tries = 0

    # --- told by the owner ---

    def want(self, channels: Collection[str]) -> None:
        """From now on these channels; the difference is subscribed and unsubscribed."""
        self._wanted = frozenset(channels)
        self._news.set()

    # --- told by the wire ---

    def heard(self, *, data: bool = False) -> None:
        """A frame came in; `data` when it was one that was subscribed to."""
        self._heard = time.monotonic()
        if data:
            self._fed = self._heard

    def end(self, exc: Exception) -> None:
        """The connection is over for this reason; the first reason stays."""
        if self._ending is None:
            self._ending = exc
            self._news.set()

    @property
    def ended(self) -> bool:
        return self._ending is not None

    def check(self) -> None:
        """Raises what ended the connection, if it has."""
        if self._ending is not None:
            raise self._ending

    # --- its life ---

    async def run(self) -> None:
        while True:
            self._ending, self._up_since = None, None
            self.heard(data=True)
            try:
                await self._live()
            except Lost as exc:
                await self._rest_after(exc)

    async def _live(self) -> None:
        wire = await self._open(self)
        try:
            self._up_since = time.monotonic()
            self.heard(data=True)
            self._on_up()
            await self._serve(wire)
        finally:
            await wire.close()

    async def _serve(self, wire: Wire) -> None:
        renew_at = time.monotonic() + self.timing.renew_after * _jitter.uniform(0.9, 1.0)
        subscribed: frozenset[str] = frozenset()
        while True:
            self._news.clear()
            self.check()
            wanted = self._wanted
            for channel in sorted(subscribed - wanted):
                await wire.unsubscribe(channel)
            for channel in sorted(wanted - subscribed):
                await wire.subscribe(channel)
            if wanted != subscribed:
                self._fed = time.monotonic()
            subscribed = wanted
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), self.timing.check_every)
            self._check_pulse(bool(subscribed), renew_at)

    def _check_pulse(self, expects_data: bool, renew_at: float) -> None:
        now = time.monotonic()
        if now - self._heard > self.timing.silent_after:
            raise Lost(f"silent for {self.timing.silent_after:g} s")
        if expects_data and now - self._fed > self.timing.stalled_after:
            raise Lost(f"alive, but without data for {self.timing.stalled_after:g} s")
        if self._renews and now > renew_at:
            raise Lost("renewed before the exchange ends it", planned=True)

    async def _rest_after(self, lost: Lost) -> None:
        now = time.monotonic()
        if self._up_since is not None and now - self._up_since >= self.timing.steady_after:
            self._tries = 0
        delay = 0.0 if lost.planned else max(self._backoff(lost.blunt), lost.wait)
        level = logging.INFO if lost.planned else logging.WARNING
        logger.log(level, "stream down link=%s reason=%s back_in_s=%.1f", self.name, lost, delay)
        self._on_down(str(lost))
        await asyncio.sleep(delay)

    def _backoff(self, blunt: bool) -> float:
        """Full jitter; the upper half of the longest wait where the exchange asked to be left alone."""
        longest = self.timing.backoff_longest
        if blunt:
            return _jitter.uniform(longest / 2, longest)
        delay = _jitter.uniform(0.0, min(longest, self.timing.backoff_first * 2 ** min(self._tries, 20)))
        self._tries += 1
        return delay


class Drops:
    """Counts what was thrown away and logs it sparingly: the first of a kind, then each time the count doubles. The
    content is never logged."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self.counts: dict[str, int] = {}

    def count(self, kind: str, detail: str = "") -> None:
        total = self.counts[kind] = self.counts.get(kind, 0) + 1
        if total & (total - 1) == 0:
            text = redact(detail)[:160]
            logger.warning("frames dropped stream=%s kind=%s total=%d detail=%s", self._stream, kind, total, text)


def websocket_url(base_url: str, path: str) -> str:
    """`base_url` with the WebSocket scheme and `path` added to its own."""
    parts = urlsplit(base_url)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise ValueError(f"a base URL must look like https://host[/prefix], not {redact(base_url)!r}")
    return urlunsplit((scheme, parts.netloc, parts.path.rstrip("/") + path, "", ""))


def uses_proxy(url: str) -> bool:
    """Proxies of the environment are used, except for loopback addresses, as everywhere in `providers`."""
    return urlsplit(url).hostname not in _LOOPBACK


class _NoFrames(logging.Filter):
    """The libraries below log whole frames at DEBUG, tokens among them: those records are dropped, secrets masked."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return False
        record.msg, record.args = redact(record.getMessage()), ()
        return True


_no_frames = _NoFrames()
for _name in ("centrifuge", "websockets.client"):
    logging.getLogger(_name).addFilter(_no_frames)
