"""Reads the Redis stream for this process, and finds its place again after Redis was away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, cast

from redis.asyncio import Redis

from algo.live.redis_link import TROUBLE
from algo.live.updates.events import NOWHERE, Event, Place, event_of, place_of, text_of
from algo.live.updates.hub import Hub
from algo.live.updates.relay import STREAM

logger = logging.getLogger("algo.live")

BLOCK_SECONDS = 2.0
AGAIN_SECONDS = 0.5
AT_ONCE = 500
MOST_CAUGHT_UP = 2_000

Entry = tuple[str, dict[str, str]]


class Follower:
    """Hands every event of the stream to the hub, in order, each once. `waits` is a connection that may be blocked for
    `BLOCK_SECONDS`; `server` answers at once."""

    def __init__(self, waits: Redis, server: Redis, hub: Hub, *, stream: str = STREAM) -> None:
        self._waits, self._redis, self._hub, self._stream = waits, server, hub, stream
        self.found = asyncio.Event()  # a place in the stream, for the first time

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                await self._find_place()
                self.found.set()
                self._hub.flowing(True)
                while True:
                    await self._read()
            except TROUBLE as exc:
                if self._hub.is_flowing:
                    logger.warning("live: no Redis (%s): pages wait", type(exc).__name__)
                self._hub.flowing(False)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _find_place(self) -> None:
        """Where this process was, if the stream still knows that place: then nothing after it is missing. Else its
        end, and everybody begins anew."""
        if self._hub.place != NOWHERE and await self._holds(self._hub.place):
            return
        newest = cast(list[Entry], await self._redis.xrevrange(self._stream, count=1))
        self._hub.place = (place_of(newest[0][0]) or NOWHERE) if newest else NOWHERE
        self._hub.begin_anew("what happened meanwhile is not known")

    async def _holds(self, place: Place) -> bool:
        at = text_of(place)
        return bool(await self._redis.xrange(self._stream, at, at))

    async def _read(self) -> None:
        since = {self._stream: text_of(self._hub.place)}
        found = await self._waits.xread(cast(Any, since), count=AT_ONCE, block=int(BLOCK_SECONDS * 1000))
        for _, entries in cast(Any, found) or ():
            self._hub.tell(_events(entries))

    async def since(self, place: Place, until: Place) -> list[tuple[Place, Event]] | None:
        """What happened after `place`, up to `until`; None where that is not known any more, or is too much. Raises
        what Redis raises."""
        if place == until:
            return []
        if place > until or not await self._holds(place):
            return None
        found = await self._redis.xrange(self._stream, f"({text_of(place)}", text_of(until), count=MOST_CAUGHT_UP + 1)
        events = _events(cast(list[Entry], found))
        return None if len(events) > MOST_CAUGHT_UP else [(place_of(text) or NOWHERE, event) for text, event in events]


def _events(entries: Sequence[Entry]) -> list[tuple[str, Event]]:
    return [(text, event_of(fields)) for text, fields in entries]
