"""Small worlds for the paper exchange: a venue whose book and prices the test decides, and a real process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import requests

from providers.paper.core import Venue
from providers.paper.faults import FaultPlan, FaultRule
from providers.paper.orders import Book, Instruction
from providers.paper.profiles import NOBITEX, WALLEX, VenueProfile
from providers.types import BookLevel, OrderType, Side

ROOT = Path(__file__).resolve().parents[2]
T0 = datetime(2026, 1, 1, tzinfo=UTC)
PAIR = "BTC/USDT"
KEY = "7|paperWALLEXkey1"
TOKEN = "ab" * 20
CONTROL = "control-of-the-tests"


def D(text: str | int) -> Decimal:
    return Decimal(text)


def levels(*rows: tuple[str, str]) -> tuple[BookLevel, ...]:
    return tuple(BookLevel(D(price), D(quantity)) for price, quantity in rows)


# Last price 100; each side 1 BTC at the best level, then thinner and further.
BOOK = Book(
    bids=levels(("99.90", "1"), ("99.50", "2"), ("98.50", "5"), ("97", "50")),
    asks=levels(("100.10", "1"), ("100.50", "2"), ("101.50", "5"), ("103", "50")),
)


class World:
    """One venue at last price 100 with one trader, `ann`, who has 10,000 USDT and 10 BTC."""

    def __init__(self, profile: VenueProfile = WALLEX, book: Book = BOOK) -> None:
        self.book = book
        self.now = T0
        self.faults = FaultPlan()
        self.venue = Venue(profile, lambda pair, at: self.book, self.faults)
        self.venue.on_tick(PAIR, D(100), D(1), T0)
        self.venue.deposit("ann", {"USDT": D(10_000), "BTC": D(10)}, T0)

    def order(self, side: str, kind: str, quantity: str, **more: Any) -> Any:
        texts = {name: D(value) for name, value in more.items() if name in ("price", "stop_price")}
        rest = {name: value for name, value in more.items() if name not in ("price", "stop_price")}
        asked = Instruction(PAIR, Side(side), OrderType(kind), D(quantity), **texts, **rest)
        return self.venue.submit("ann", asked, self.later())

    def tick(self, price: str, volume: str = "1000") -> None:
        self.venue.on_tick(PAIR, D(price), D(volume), self.later())

    def fault(self, kind: str, **rule: Any) -> int:
        return self.faults.add(FaultRule.from_json({"kind": kind, **rule}))

    def settle(self, seconds: float) -> None:
        """So much time passes without a trade."""
        self.venue.settle(self.later(seconds))

    def later(self, seconds: float = 1) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def total(self, asset: str) -> Decimal:
        return self.venue.balance("ann", asset).total

    def available(self, asset: str) -> Decimal:
        return self.venue.balance("ann", asset).available


def wallex(**switches: object) -> World:
    return World(WALLEX.with_switches(**switches))


def nobitex(**switches: object) -> World:
    return World(NOBITEX.with_switches(**switches))


class Server:
    """The real process, on a free loopback port, with one account `demo`."""

    def __init__(self, folder: Path, *extra: str, env: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.extra = extra
        self._env = env or {}
        self.accounts = folder / "accounts.json"
        held = {"USDT": "10000", "BTC": "1"}
        balances = {"wallex": {**held, "TMN": "500000000"}, "nobitex": {**held, "IRT": "500000000"}}
        row = {"name": "demo", "wallex_key": KEY, "nobitex_token": TOKEN, "balances": balances}
        self.accounts.write_text(json.dumps([row]))
        self.start()

    def start(self) -> None:
        with socket.socket() as probe, socket.socket() as control:
            for each in (probe, control):
                each.bind(("127.0.0.1", 0))
            self.port, self.control_port = probe.getsockname()[1], control.getsockname()[1]
        command = [sys.executable, "-m", "providers.paper", "--port", str(self.port),
                   "--control-port", str(self.control_port), "--data-dir",
                   str(self.folder / "data"), "--accounts", str(self.accounts), *self.extra]  # fmt: skip
        environment = os.environ | {"PAPER_CONTROL_TOKEN": CONTROL} | self._env
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        self._wait_until_up()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.process.stderr.read().decode()  # type: ignore[union-attr]
            try:
                requests.get(f"{self.url}/paper/health", timeout=2)
            except requests.ConnectionError:
                time.sleep(0.05)
            else:
                return
        raise AssertionError("the paper exchange did not come up")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.control_port}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> float:
        """Seconds from SIGTERM to the end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(10)
        return time.monotonic() - began

    def wallex(self, method: str, path: str, *, key: str | None = KEY, **more: Any) -> requests.Response:
        headers = {"x-api-key": key} if key else {}
        return requests.request(method, f"{self.url}/wallex{path}", headers=headers, timeout=10, **more)

    def nobitex(self, method: str, path: str, *, token: str | None = TOKEN, **more: Any) -> requests.Response:
        headers = {"Authorization": f"Token {token}"} if token else {}
        return requests.request(method, f"{self.url}/nobitex{path}", headers=headers, timeout=10, **more)

    def control(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {"x-paper-control": CONTROL}
        return requests.request(method, f"{self.control_url}/paper{path}", headers=headers, timeout=10, **more)

    def add_fault(self, kind: str, **rule: Any) -> int:
        """The id of the new rule; parameters of the kind go into `params`."""
        answer = self.control("POST", "/faults", json={"kind": kind, **rule})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["id"])

    def clear_faults(self) -> None:
        assert self.control("DELETE", "/faults").status_code == 200

    def move_price(self, pair: str, price: str) -> None:
        assert self.control("POST", "/prices", json={"pair": pair, "price": price}).status_code == 200


@contextmanager
def running(folder: Path, *extra: str, env: dict[str, str] | None = None) -> Iterator[Server]:
    server = Server(folder, *extra, env=env)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(10)
        if server.process.stderr is not None:
            server.process.stderr.close()


@contextmanager
def switched(server: Server, venue: str, name: str, value: Any) -> Iterator[None]:
    """One habit of a venue, changed for a while."""
    before = server.control("GET", "/switches").json()[venue][name]["value"]

    def choose(chosen: Any) -> None:
        asked = {"venue": venue, "name": name, "value": chosen}
        answer = server.control("POST", "/switches", json=asked)
        assert answer.status_code == 200, answer.text

    choose(value)
    try:
        yield
    finally:
        choose(before)
