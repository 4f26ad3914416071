"""Two guardians over one database and one exchange, as processes: either may die, hang or lose its session."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from django.db import connection

from algo.execution.locks import SILENT_SECONDS
from algo.models import Account, AccountLock, CloseReason, Deal, DealStatus, Order, OutboxEvent, Role
from algo.selectors.audit import ledger_difference
from providers.wallex.client import WallexClient
from tests.execution.processes import GUARDIAN, environment, planned, said, started, wait_for
from tests.paper.world import KEY, Server, running

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


class Guardians:
    """Two of them, which look after one deal."""

    def __init__(self, server: Server, deal: Deal, processes: dict[Path, subprocess.Popen[bytes]]) -> None:
        self.server, self.deal, self.processes = server, deal, processes

    @property
    def both(self) -> list[subprocess.Popen[bytes]]:
        return list(self.processes.values())

    def lock(self) -> AccountLock:
        return AccountLock.objects.get(pk=self.deal.account_id)

    def holder(self) -> subprocess.Popen[bytes]:
        pid = self.lock().holder.split(":")[1]
        return next(process for process in self.both if str(process.pid) == pid)

    def log_of(self, wanted: subprocess.Popen[bytes]) -> str:
        return next(said(folder) for folder, process in self.processes.items() if process is wanted)

    def wait(self, condition: Callable[[], object], seconds: float, what: str) -> float:
        """How long it took."""
        began = time.monotonic()
        try:
            wait_for(condition, seconds, what, pause=0.02)
        except AssertionError as exc:
            logs = "\n".join(self.log_of(each)[-1500:] for each in self.both)
            raise AssertionError(f"{exc}\n{logs}") from None
        return time.monotonic() - began

    def is_protected(self) -> bool:
        self.deal.refresh_from_db()
        return self.deal.status == DealStatus.OPEN and self.deal.protected_at is not None

    def is_closed(self) -> bool:
        self.deal.refresh_from_db()
        return self.deal.status == DealStatus.CLOSED

    def caught(self) -> subprocess.Popen[bytes]:
        """The one that holds the account, with the exchange silent, so that it goes on holding it."""
        self.server.process.send_signal(signal.SIGSTOP)
        self.wait(self._is_held_for_long, 5, "somebody waits for the exchange")
        return self.holder()

    def _is_held_for_long(self) -> bool:
        epoch = self.lock().epoch
        time.sleep(0.3)
        return held_by_anybody(self.deal.account_id) and self.lock().epoch == epoch

    def has_taken_over(self, loser: subprocess.Popen[bytes], epoch: int) -> bool:
        return self.lock().epoch > epoch and self.holder() is not loser

    def falls(self) -> None:
        """The price goes through the stop."""
        price = WallexClient(f"{self.server.url}/wallex", api_key=KEY).last_price("BTCUSDT")
        self.server.move_price("BTC/USDT", str((price * Decimal("0.93")).quantize(Decimal("0.01"))))

    def books_agree(self) -> bool:
        truth = self.server.control("GET", "/accounts/demo").json()["venues"]["wallex"]
        return ledger_difference(self.deal.account, truth) == 0


def held_by_anybody(account_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted", [account_id])
        return cursor.fetchone() is not None


def end_all_other_sessions() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


@contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop a process; it runs again afterwards whatever happens."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)


@pytest.fixture
def guardians(tmp_path) -> Iterator[Guardians]:
    with running(tmp_path, "--seed", "4", "--no-rate-limits") as server:
        deal = planned(server)
        env = environment(server, REDIS_URL="redis://127.0.0.1:1/0")
        one, two = tmp_path / "one", tmp_path / "two"
        for folder in (one, two):
            folder.mkdir()
        with started(one, *GUARDIAN, env=env) as first, started(two, *GUARDIAN, env=env) as second:
            guardians = Guardians(server, deal, {one: first, two: second})
            guardians.wait(guardians.is_protected, 30, "open and protected")
            try:
                yield guardians
            finally:
                server.process.send_signal(signal.SIGCONT)


def test_lost_sessions_are_replaced_and_a_killed_holder_within_two_seconds_and_nothing_is_sent_twice(guardians):
    deal = guardians.deal
    assert sorted(Order.objects.filter(deal=deal).values_list("role", flat=True)) == [Role.ENTRY, Role.STOP]
    assert guardians.books_agree()

    assert end_all_other_sessions() >= 2
    epoch = guardians.lock().epoch
    guardians.wait(lambda: guardians.lock().epoch > epoch + 2, 10, "the account is looked after again")
    assert [each.poll() for each in guardians.both] == [None, None]
    assert not any("Traceback" in guardians.log_of(each) for each in guardians.both)

    dead = guardians.caught()
    epoch = guardians.lock().epoch
    dead.kill()
    dead.wait(10)
    assert guardians.wait(lambda: guardians.has_taken_over(dead, epoch), 10, "the other one holds the account") < 2
    guardians.server.process.send_signal(signal.SIGCONT)
    assert not OutboxEvent.objects.filter(kind="guardian.evicted").exists()  # a dead session lets go by itself

    guardians.falls()
    guardians.wait(guardians.is_closed, 20, "closed by its stop")
    assert deal.close_reason == CloseReason.STOP_LOSS
    assert guardians.books_agree()


def test_a_holder_that_hangs_is_evicted_writes_nothing_more_and_lives_on(guardians):
    zombie = guardians.caught()
    epoch = guardians.lock().epoch
    with stopped(zombie):
        guardians.server.process.send_signal(signal.SIGCONT)
        seconds = guardians.wait(lambda: guardians.has_taken_over(zombie, epoch), 16, "the other one holds the account")
        assert SILENT_SECONDS - 2 < seconds < SILENT_SECONDS + 4
        (event,) = OutboxEvent.objects.filter(kind="guardian.evicted")
        assert str(zombie.pid) in event.payload["holder"]
        guardians.falls()
        guardians.wait(guardians.is_closed, 20, "closed by its stop")
        sent = list(Order.objects.order_by("pk").values())
    guardians.wait(lambda: "was let go in the middle" in guardians.log_of(zombie), 10, "it notices that it was evicted")
    assert list(Order.objects.order_by("pk").values()) == sent
    assert guardians.books_agree()

    def holds_again() -> bool:
        Account.objects.update(reconciled_at=None)  # something to do, for whoever comes first
        return guardians.holder() is zombie

    guardians.wait(holds_again, 20, "it looks after accounts again")
    assert guardians.lock().epoch > epoch
    assert [each.poll() for each in guardians.both] == [None, None]
    assert "Traceback" not in guardians.log_of(zombie)
