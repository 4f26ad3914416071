"""The paper exchange on a real socket inside the test, on a market and a clock the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import requests
import uvicorn
from websockets.sync.client import ClientConnection, connect

from providers.paper.app import build_app
from providers.paper.engine import Exchange
from providers.paper.faces.stream_line import uvicorn_options
from providers.paper.faults import FaultRule
from providers.paper.feeds.replay import ReplayFeed
from providers.paper.profiles import venue_profiles
from providers.paper.store import Store

T = TypeVar("T")

START = datetime(2025, 5, 20, tzinfo=UTC)  # where the recorded candles begin
# Twelve trades a candle, five seconds apart, each of 1/12 of the volume. The first minute rises: 100, 99.75, 99.5,
# 99.25, 99, 100, 101, 102, 103, 102.66, 102.33, 102; the second falls.
CANDLES = ((100, 103, 99, 102, 12), (102, 104, 98, 99, 24), *((99, 99, 99, 99, 12),) * 60)
TOKENS = {"ann": "a1" * 20, "bob": "b2" * 20}
KEYS = {"ann": "1|annkey", "bob": "2|bobkey"}


class MovedClock:
    """Market time stands where the test puts it."""

    speed = 1.0

    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.at.timestamp()


class Paper:
    """A running exchange. Prices are those of `CANDLES` in `pair`, times 1000 in toman."""

    def __init__(self, folder: Path, pair: str, switches: dict[str, dict[str, Any]], clock: Any, feed: Any) -> None:
        self.clock = clock or MovedClock(START)
        feed = feed or ReplayFeed(_recorded(folder, pair), pair)
        profiles = tuple(
            each.with_switches(**{f"stream_{name}": value for name, value in switches.get(each.name, {}).items()})
            for each in venue_profiles(tuple(feed.specs))
        )
        self.exchange = Exchange(feed, self.clock, Store(folder / "paper.sqlite3"), profiles)
        for name, key in KEYS.items():
            held = {"USDT": Decimal(10_000), "IRT": Decimal(10_000_000), "BTC": Decimal(10)}
            self.exchange.open_account(
                name, wallex_key=key, nobitex_token=TOKENS[name], balances={"nobitex": held, "wallex": held}
            )
        self.app = build_app(self.exchange, rate_limits=False)
        self.hub = self.app.state.streams

    def start(self) -> None:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(self.app, log_level="warning", timeout_graceful_shutdown=1, **uvicorn_options())
        self._server = uvicorn.Server(config)
        started = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            started.set()
            await self._server.serve(sockets=[listener])

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        started.wait(5)
        wait_until(lambda: self._server.started)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(5)
        assert not self._thread.is_alive()

    # -- the test's hands ----------------------------------------------------------------------------------------

    def call(self, work: Callable[[], T]) -> T:
        """Do something in the exchange's own loop."""

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(5)

    def pass_time(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)

    def fault(self, kind: str, path: str = "*", venue: str = "nobitex", **more: Any) -> int:
        rule = FaultRule.from_json({"kind": kind, "venue": venue, "path": path, **more})
        return self.call(lambda: self.exchange.add_fault(rule))

    def nobitex(self, path: str, body: dict[str, Any] | None = None, account: str | None = None) -> Any:
        headers = {"Authorization": f"Token {TOKENS[account]}"} if account else {}
        method = "POST" if body is not None else "GET"
        url = f"http://127.0.0.1:{self.port}/nobitex{path}"
        return requests.request(method, url, json=body, headers=headers, timeout=5).json()

    @contextmanager
    def centrifugo(self, *commands: dict[str, Any], connect_with: dict[str, Any] | None = None) -> Iterator[Centrifugo]:
        """A client whose `connect` was answered; the commands were sent with it."""
        with self.raw("/nobitex/connection/websocket") as connection:
            client = Centrifugo(connection)
            client.send({"id": 1, "connect": connect_with or {}}, *commands)
            client.connected = client.reply(1)
            yield client

    @contextmanager
    def raw(self, path: str) -> Iterator[ClientConnection]:
        with connect(
            f"ws://127.0.0.1:{self.port}{path}", ping_interval=None, proxy=None, close_timeout=1
        ) as connection:
            yield connection

    @property
    def stream_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/nobitex/connection/websocket"


class Centrifugo:
    """The other side of the protocol, by hand: JSON objects, several to a frame."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.connected: dict[str, Any] = {}
        self._waiting: list[dict[str, Any]] = []

    def send(self, *commands: dict[str, Any]) -> None:
        self.connection.send("\n".join(json.dumps(each) for each in commands))

    def subscribe(self, number: int, channel: str, **more: Any) -> dict[str, Any]:
        self.send({"id": number, "subscribe": {"channel": channel, **more}})
        return self.reply(number)

    def next(self, seconds: float = 3) -> dict[str, Any]:
        """The next object; `TimeoutError` if none comes."""
        while not self._waiting:
            text = self.connection.recv(timeout=seconds)
            self._waiting = [json.loads(line) for line in str(text).split("\n")]
        return self._waiting.pop(0)

    def reply(self, number: int) -> dict[str, Any]:
        """The answer to a command; what comes before it waits."""
        passed = []
        while (found := self.next()).get("id") != number:
            passed.append(found)
        self._waiting = passed + self._waiting
        return found

    def push(self, seconds: float = 3) -> tuple[str, Any, int]:
        """(channel, payload, offset) of the next push; pings in between are passed over."""
        while "push" not in (found := self.next(seconds)):
            assert found == {}, found
        pub = found["push"]["pub"]
        assert isinstance(pub["data"], str)
        return found["push"]["channel"], json.loads(pub["data"], parse_float=Decimal), pub["offset"]

    def pushes(self, seconds: float = 1.0) -> list[tuple[str, Any, int]]:
        """All that come until nothing did for so long."""
        found = []
        with contextlib.suppress(TimeoutError):
            while True:
                found.append(self.push(seconds))
        return found


@contextmanager
def paper(
    folder: Path, *, pair: str = "BTC/IRT", clock: Any = None, feed: Any = None, wallex: Any = None, **nobitex: Any
) -> Iterator[Paper]:
    """A running exchange; keyword arguments are switches of Nobitex' streams, `wallex` those of the other."""
    server = Paper(folder, pair, {"nobitex": nobitex, "wallex": wallex or {}}, clock, feed)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def wait_until(check: Callable[[], Any], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def _recorded(folder: Path, pair: str) -> Path:
    scale = 1000 if pair.endswith("IRT") else 1
    rows = [
        f"{int(START.timestamp()) + 60 * number},{','.join(str(price * scale) for price in candle[:4])},{candle[4]}"
        for number, candle in enumerate(CANDLES)
    ]
    path = folder / "candles.csv"
    path.write_text("time,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    return path
