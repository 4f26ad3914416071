"""The world of the commands: a clock that stands still, an exchange at the seam, the paper exchange behind sockets."""

from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.core.management import call_command

from algo import exchanges
from providers.types import Balance, Capabilities
from tests.market_data.exchange import START, FakeExchange

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class StoppedClock:
    at: datetime = START

    speed: float = 1.0

    def now(self) -> datetime:
        return self.at

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self.at.timestamp()


class FakeVenue(FakeExchange):
    """Also answers what an account has and what the exchange promises."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.held_balances: dict[str, Balance] = {}

    def balances(self) -> dict[str, Balance]:
        self.before(0)
        return self.held_balances

    def markets(self) -> Any:
        self.before(0)
        return super().markets()

    def capabilities(self) -> Capabilities:
        return Capabilities(oco=True)


@pytest.fixture
def clock(monkeypatch) -> StoppedClock:
    clock = StoppedClock()
    monkeypatch.setattr(exchanges, "CLOCK", clock)
    return clock


@pytest.fixture
def venue(monkeypatch, clock) -> FakeVenue:
    """The exchange every command gets."""
    venue = FakeVenue()
    monkeypatch.setattr(exchanges, "public_provider", lambda name: venue)
    return venue


@pytest.fixture
def run(db) -> Callable[..., str]:
    """Run a command, get its stdout."""

    def _run(name: str, *args: str) -> str:
        out = io.StringIO()
        call_command(name, *args, stdout=out)
        return out.getvalue()

    return _run


@pytest.fixture(scope="session")
def paper(tmp_path_factory) -> Iterator[dict[str, str]]:
    """The paper exchange as its own process; gives `url` and the keys of one account at both exchanges."""
    folder = tmp_path_factory.mktemp("paper")
    keys = {"wallex_key": "12345|" + "a" * 40, "nobitex_token": "b" * 40}
    balances = {"nobitex": {"USDT": "1000"}, "wallex": {"USDT": "1000"}}
    accounts = folder / "accounts.json"
    accounts.write_text(json.dumps([{"name": "main", **keys, "balances": balances}]))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--port", str(port), "--data-dir", str(folder), "--accounts", str(accounts), "--seed", "1"]
    log = (folder / "log").open("w")
    argv = [sys.executable, "-m", "providers.paper", *options, "--no-rate-limits"]
    process = subprocess.Popen(argv, cwd=ROOT, stdout=log, stderr=log)
    try:
        _wait_for(port, process)
        yield {"url": f"http://127.0.0.1:{port}", **keys}
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the paper exchange did not start")


@pytest.fixture
def paper_exchange(paper, settings, monkeypatch) -> dict[str, str]:
    """Every address of the platform is the paper exchange's, and no call of the minute is spent yet."""
    monkeypatch.setattr(exchanges, "_clients", {})
    monkeypatch.setattr(exchanges, "_budgets", {})
    with redis.Redis.from_url(settings.REDIS_URL) as server:
        for key in server.scan_iter("algo:budget:*"):
            server.delete(key)
    settings.NOBITEX_BASE_URL = f"{paper['url']}/nobitex"
    settings.WALLEX_BASE_URL = f"{paper['url']}/wallex"
    return paper
