"""One process that listens to the exchanges: their streams in a loop, Redis, database and broker in threads beside it,
so that none of these can hold up another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

from algo.live.board import Board
from algo.live.hints import Hints
from algo.live.market_feed import FeedWriter
from algo.live.recorder import Recorder, Wanted
from algo.models import Account
from algo.models.fields import SecretUnreadable
from providers.clock import Clock
from providers.errors import AuthFailed
from providers.streams import MarketStream, OrderHint, OrderStream, StreamEvent, StreamState

logger = logging.getLogger("algo.feed")

AGAIN_SECONDS = 5.0  # after a stream failed by a defect
LEAVE_SECONDS = 1.0

OrderStreamOf = Callable[[Account], OrderStream | None]


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the streams come from and where their news goes."""

    market_stream: Callable[[str], MarketStream | None]
    order_stream: OrderStreamOf
    writer: Callable[[Board], FeedWriter]


class Streaming:
    """Listens to `providers` until `stopping` is set."""

    def __init__(self, providers: Collection[str], clock: Clock, doors: Doors) -> None:
        streams = {name: doors.market_stream(name) for name in providers}
        self._streams = {name: stream for name, stream in streams.items() if stream is not None}
        self._boards: Mapping[str, Board] = {name: Board(name, clock) for name in self._streams}
        self._writers = [doors.writer(board) for board in self._boards.values()]
        self._hints = Hints()
        self._orders = {name: OrderStreams(doors.order_stream, self._hints) for name in self._streams}
        self._recorder = Recorder(self._boards, clock, self._wanted)

    async def run(self, stopping: asyncio.Event) -> None:
        """Ends within about a second of `stopping`."""
        self._loop = asyncio.get_running_loop()
        for writer in self._writers:
            writer.start()
        self._hints.start()
        self._recorder.start()
        streams = [
            asyncio.create_task(_kept(name, partial(stream.run, self._boards[name].apply), stopping))
            for name, stream in self._streams.items()
        ]
        logger.info("streams started providers=%s", ",".join(self._boards))
        await stopping.wait()
        self._recorder.stop()
        await asyncio.gather(*(orders.stop(LEAVE_SECONDS) for orders in self._orders.values()), _ended(streams))
        for writer in self._writers:
            writer.stop()
        logger.info("streams stopped")

    def _wanted(self, provider: str, wanted: Wanted) -> None:
        """From the recorder's thread into the loop."""
        self._loop.call_soon_threadsafe(self._listen_to, provider, wanted)

    def _listen_to(self, provider: str, wanted: Wanted) -> None:
        watched = wanted.watched
        self._boards[provider].watch(watched.markets, watched.resolutions)
        self._streams[provider].watch(sorted(watched.markets), sorted(watched.resolutions))
        self._orders[provider].want(wanted.accounts)


class OrderStreams:
    """The order streams of the accounts that have something live. One that the exchange refused is not started again
    until its key has changed."""

    def __init__(self, stream_of: OrderStreamOf, hints: Hints) -> None:
        self._stream_of, self._hints = stream_of, hints
        self._running: dict[int, tuple[str, asyncio.Event, asyncio.Task[None]]] = {}
        self._refused: dict[int, str] = {}

    def want(self, accounts: Collection[Account]) -> None:
        """Listen to these accounts and to no others. Called in the loop."""
        keys = {account.pk: account.api_key_sealed for account in accounts}
        for pk, (key, stopping, _) in list(self._running.items()):
            if keys.get(pk) != key:
                stopping.set()
                del self._running[pk]
        for account in accounts:
            if account.pk not in self._running and self._refused.get(account.pk) != account.api_key_sealed:
                self._begin(account)

    def _begin(self, account: Account) -> None:
        try:
            stream = self._stream_of(account)
        except (SecretUnreadable, AuthFailed) as exc:
            logger.warning("account=%s has no order stream: %s", account.name, exc)
            stream = None
        if stream is None:  # not again with this key
            self._refused[account.pk] = account.api_key_sealed
            return
        stopping = asyncio.Event()
        task = asyncio.create_task(self._listen(account, stream, stopping))
        self._running[account.pk] = (account.api_key_sealed, stopping, task)

    async def _listen(self, account: Account, stream: OrderStream, stopping: asyncio.Event) -> None:
        def sink(event: StreamEvent) -> None:
            if isinstance(event, StreamState):
                logger.info("order stream account=%s up=%s reason=%s", account.name, event.is_up, event.reason)
            if isinstance(event, OrderHint):
                self._hints.add(account.pk, [event.exchange_order_id] if event.exchange_order_id else [])
            elif isinstance(event, StreamState) and event.is_up:
                self._hints.add(account.pk)  # what happened while it was down is looked for too

        try:
            await stream.run(sink, stopping)
        except Exception:  # outlives one account
            logger.exception("order stream account=%s failed", account.name)
            await _pause(stopping, AGAIN_SECONDS)
        else:
            if not stopping.is_set():
                logger.warning("order stream account=%s ended by itself: not again with this key", account.name)
                self._refused[account.pk] = account.api_key_sealed
        if account.pk in self._running and self._running[account.pk][1] is stopping:
            del self._running[account.pk]

    async def stop(self, seconds: float) -> None:
        tasks = [task for _, _, task in self._running.values()]
        for _, stopping, _ in self._running.values():
            stopping.set()
        await _ended(tasks, seconds)


async def _kept(name: str, run: Callable[[asyncio.Event], object], stopping: asyncio.Event) -> None:
    """A stream that fails by a defect is started again; it keeps its connection alive by itself."""
    while not stopping.is_set():
        try:
            await run(stopping)  # type: ignore[misc]
        except Exception:  # outlives a defect in one stream
            logger.exception("stream provider=%s failed, starting it again", name)
        if not stopping.is_set():
            await _pause(stopping, AGAIN_SECONDS)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return


async def _ended(tasks: Collection[asyncio.Task[None]], seconds: float = LEAVE_SECONDS) -> None:
    """Wait a little; who has not left by then is cancelled."""
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
