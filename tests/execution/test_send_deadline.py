"""What is not sent soon after it was claimed is not sent; how soon is measured by a clock that nobody sets."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from algo.execution.submit import order_submit
from algo.execution.views import Budgets
from algo.models import Role
from providers.clock import AnchoredClock, seconds_since_boot
from providers.errors import OutcomeUnknown
from providers.types import OrderStatus as S
from tests.execution.views import NOW, deal, order


class HostClock:
    """A machine whose wall clock can be set. `speed` as in a replay."""

    def __init__(self, speed: float = 1.0) -> None:
        self.speed, self._now, self._awake = speed, NOW, 1000.0

    def now(self) -> datetime:
        return self._now

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds * self.speed)

    def monotonic(self) -> float:
        return self._awake

    def passes(self, seconds: float) -> None:
        self._now += self.wall(seconds)
        self._awake += seconds

    def is_set(self, by: float) -> None:
        self._now += timedelta(seconds=by)


class Books:
    """A ledger during whose commit something happens to the machine."""

    def __init__(self, meanwhile: Any) -> None:
        self._meanwhile, self.told = meanwhile, []

    def claim_send(self, *args: Any, **more: Any) -> bool:
        self._meanwhile()
        return True

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **more: self.told.append((name, more.get("reason")))


class Exchange:
    sent = 0

    def create_order(self, request: Any) -> Any:
        self.sent += 1
        raise OutcomeUnknown("no answer")


def submit(clock: HostClock, meanwhile: Any) -> tuple[Books, int]:
    books, exchange = Books(meanwhile), Exchange()
    planned = order(Role.ENTRY, S.PENDING)
    order_submit(deal(planned), planned, ledger=books, provider=exchange, clock=clock, budgets=Budgets.of(clock))
    return books, exchange.sent


def held_back(books: Books) -> bool:
    return ("release_send", "the process stalled before sending") in books.told


@pytest.mark.parametrize(("seconds", "sent"), [(0.0, 1), (1.9, 1), (2.1, 0), (80.0, 0)])
@pytest.mark.parametrize("speed", [1.0, 60.0])
def test_a_process_that_stalls_between_commit_and_send_does_not_send(seconds, sent, speed):
    clock = HostClock(speed)
    books, count = submit(clock, lambda: clock.passes(seconds))
    assert count == sent
    assert held_back(books) is not bool(sent)


@pytest.mark.parametrize("by", [3600.0, -3600.0, 86400.0 * 365])
def test_a_wall_clock_that_is_set_meanwhile_holds_nothing_back(by):
    clock = HostClock()
    books, count = submit(clock, lambda: clock.is_set(by))
    assert count == 1
    assert not held_back(books)


def test_a_wall_clock_that_is_set_back_lets_no_stalled_process_send():
    clock = HostClock()

    def stall() -> None:
        clock.passes(30)
        clock.is_set(-3600)

    books, count = submit(clock, stall)
    assert count == 0
    assert held_back(books)


def test_the_platforms_clock_measures_elapsed_time_apart_from_the_time_of_day(monkeypatch):
    clock = AnchoredClock()
    began, told = clock.monotonic(), clock.now()
    before = time.time()
    monkeypatch.setattr(time, "time", lambda: before + 3600)
    assert clock.now() - told >= timedelta(minutes=59)
    assert 0 <= clock.monotonic() - began < 60


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="this system has no clock that counts while suspended")
def test_time_in_which_the_machine_was_suspended_counts():
    assert abs(seconds_since_boot() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1
