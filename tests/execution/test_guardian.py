"""The guardian as a process of its own: PostgreSQL and the exchange are all it needs."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, InterfaceError, OperationalError, connection

from algo.execution.ledger import Fenced
from algo.execution.locks import LetGo
from algo.execution.views import Quote
from algo.management.commands import run_guardian
from algo.models import Account, CloseReason, DealStatus, Heartbeat, Order, OutboxEvent, Role
from algo.selectors.audit import ledger_difference
from providers.wallex.client import WallexClient
from tests.execution.processes import (
    GUARDIAN,
    environment,
    planned,
    restarted,
    said,
    seconds_to_stop,
    started,
    wait_for,
)
from tests.factories import make_account
from tests.paper.world import KEY, ROOT, running

DEAD_REDIS = "redis://127.0.0.1:1/0"


@pytest.fixture
def server(tmp_path):
    with running(tmp_path, "--seed", "4", "--no-rate-limits") as server:
        yield server


def test_it_loads_no_redis_client():
    """The Celery application is declared with the project; what could talk to a broker is never loaded."""
    code = (
        "import sys, django; django.setup()\n"
        "from algo.management.commands import run_guardian\n"
        "found = [name for name in sys.modules if name.split('.')[0] == 'redis' or name == 'kombu.transport.redis']\n"
        "sys.exit(f'imported: {found[:5]}' if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.django_db(transaction=True)
def test_without_redis_it_protects_a_deal_through_a_restart_of_the_exchange_and_stops_at_once(server, tmp_path):
    deal = planned(server)
    env = environment(server, REDIS_URL=DEAD_REDIS)

    def status(*statuses: str) -> bool:
        deal.refresh_from_db()
        return deal.status in statuses

    with started(tmp_path, *GUARDIAN, env=env) as guardian:
        wait_for(lambda: status("OPEN") and deal.protected_at, 20, "open and protected", folder=tmp_path)
        assert Order.objects.get(deal=deal, role=Role.STOP).status == "OPEN"
        wait_for(lambda: Heartbeat.objects.filter(name="guardian").exists(), 8, "heartbeat", folder=tmp_path)

        restarted(server)
        price = WallexClient(f"{server.url}/wallex", api_key=KEY).last_price("BTCUSDT")
        server.move_price("BTC/USDT", str((price * Decimal("0.93")).quantize(Decimal("0.01"))))
        wait_for(lambda: status("CLOSED"), 25, "closed by its stop", folder=tmp_path)
        assert deal.close_reason == CloseReason.STOP_LOSS
        truth = server.control("GET", "/accounts/demo").json()["venues"]["wallex"]
        assert ledger_difference(deal.account, truth) == 0
        assert guardian.poll() is None, said(tmp_path)
        assert seconds_to_stop(guardian) < 3
    assert "Traceback" not in said(tmp_path)


@pytest.mark.django_db(transaction=True)
def test_an_exchange_that_hangs_costs_the_other_nothing_and_does_not_keep_the_guardian_from_ending(server, tmp_path):
    deal = planned(server)
    make_account(provider="nobitex", api_key=KEY, environment="paper")
    with hole() as nowhere:
        env = environment(server, REDIS_URL=DEAD_REDIS) | {"NOBITEX_BASE_URL": nowhere}

        def is_protected() -> bool:
            deal.refresh_from_db()
            return deal.status == DealStatus.OPEN and deal.protected_at is not None

        with started(tmp_path, *GUARDIAN, env=env) as guardian:
            wait_for(is_protected, 20, "open and protected", folder=tmp_path)
            wait_for(lambda: Heartbeat.objects.filter(name="guardian").exists(), 8, "heartbeat", folder=tmp_path)
            seconds = seconds_to_stop(guardian)
            assert seconds < 10, said(tmp_path)
    assert "Traceback" not in said(tmp_path)


@pytest.mark.django_db(transaction=True)
def test_a_full_disk_under_its_log_does_not_keep_it_from_protecting(server, tmp_path):
    deal = planned(server)

    def status(status: str) -> bool:
        deal.refresh_from_db()
        return deal.status == status

    env = environment(server, REDIS_URL=DEAD_REDIS)
    with started(tmp_path, *GUARDIAN, env=env, log_file=Path("/dev/full")) as guardian:  # every write fails: ENOSPC
        wait_for(lambda: status("OPEN") and deal.protected_at, 20, "open and protected")
        price = WallexClient(f"{server.url}/wallex", api_key=KEY).last_price("BTCUSDT")
        server.move_price("BTC/USDT", str((price * Decimal("0.93")).quantize(Decimal("0.01"))))
        wait_for(lambda: status("CLOSED"), 25, "closed by its stop")
        assert guardian.poll() is None
        guardian.terminate()
        guardian.wait(10)  # its last words cannot be written either, so its exit code says nothing


@contextmanager
def hole() -> Iterator[str]:
    """The address of an exchange that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/nobitex"


# --- one pass ------------------------------------------------------------------------------------------------------


class Crews:
    """A guardian whose accounts are not looked after: a test says what happens instead, by the account's name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.guardian = run_guardian.Guardian()
        self.visited: list[str] = []
        self.more: list[dict[str, Any]] = []
        self.deeds: dict[str, Callable[[], object]] = {}
        monkeypatch.setattr(run_guardian, "account_provider", lambda account: None)
        monkeypatch.setattr(run_guardian, "look_after", self._look_after)

    def _look_after(self, account: Account, *args: object, **more: Any) -> None:
        self.deeds.get(account.name, lambda: None)()
        self.visited.append(account.name)
        self.more.append(more)

    def passes(self, times: int = 1) -> list[str]:
        """Who was looked after without trouble in so many passes."""
        self.visited.clear()
        for _ in range(times):
            self.guardian.tick()
            wait_for(lambda: not self._is_busy(), 10, "everybody is looked after", pause=0.005)
        return sorted(self.visited)

    def _is_busy(self) -> bool:
        return any(crew._taken for crew in self.guardian._crews.values())

    def sees(self, name: str, times: int = 3) -> None:
        """Wait until an account was looked after so often, a pass every now and then."""
        self.visited.clear()
        deadline = time.monotonic() + 10
        while self.visited.count(name) < times:
            assert time.monotonic() < deadline, f"{name} waits"
            self.guardian.tick()
            time.sleep(0.01)


@pytest.fixture
def crews(monkeypatch) -> Iterator[Crews]:
    crews = Crews(monkeypatch)
    yield crews
    for crew in crews.guardian._crews.values():
        disconnect(crew)
    crews.guardian.leave(5)


def disconnect(crew: run_guardian.Crew) -> None:
    """Leave no session behind in the database of the tests: every thread closes its own."""
    together = threading.Barrier(run_guardian.THREADS)

    def close() -> None:
        together.wait(10)
        connection.close()

    with suppress(RuntimeError):  # dismissed by the test itself
        for closed in [crew._pool.submit(close) for _ in range(run_guardian.THREADS)]:
            closed.result(15)


@pytest.fixture
def hangs() -> Iterator[Callable[[], object]]:
    """Something that does not return before the test is over."""
    over = threading.Event()
    yield lambda: over.wait(20)
    over.set()


def raises(error: type[Exception]) -> Callable[[], object]:
    def deed() -> None:
        raise error("as always")

    return deed


@pytest.mark.django_db
@pytest.mark.parametrize("error", [ValueError, LookupError, IntegrityError])
def test_one_accounts_trouble_does_not_keep_the_others_from_being_looked_after(crews, error):
    for name in ("a", "broken", "c"):
        make_account(name=name)
    crews.deeds["broken"] = raises(error)
    assert crews.passes() == ["a", "c"]


@pytest.mark.django_db
def test_an_exchange_that_hangs_holds_up_no_other(crews, hangs):
    for number in range(2 * run_guardian.THREADS):
        make_account(name=f"hung {number}", provider="wallex")
        crews.deeds[f"hung {number}"] = hangs
    make_account(name="other", provider="nobitex")
    crews.sees("other")


@pytest.mark.django_db
def test_an_account_that_hangs_holds_up_no_other_of_its_exchange(crews, hangs):
    for name in ("hung", "other"):
        make_account(name=name, provider="wallex")
    crews.deeds["hung"] = hangs
    crews.sees("other")
    assert len(crews.guardian._at_work()) == 1  # and nobody else of this process begins on it meanwhile
    assert "hung" not in crews.visited


@pytest.mark.django_db
def test_a_thread_that_hangs_shows_in_the_heartbeat(crews, hangs, monkeypatch):
    monkeypatch.setattr(run_guardian, "STUCK_SECONDS", 0.2)
    monkeypatch.setattr(run_guardian, "HEARTBEAT_SECONDS", 0.0)
    make_account(name="hung")
    crews.deeds["hung"] = hangs
    crews.guardian.tick()
    time.sleep(0.3)
    before = Heartbeat.objects.get(name="guardian").at
    crews.guardian.tick()
    assert Heartbeat.objects.get(name="guardian").at == before


@pytest.mark.django_db
def test_a_thread_that_goes_on_calling_shows_as_alive(crews, monkeypatch):
    """A row of slow calls is not a hung thread."""
    monkeypatch.setattr(run_guardian, "STUCK_SECONDS", 0.2)
    account = make_account(name="slow")
    crew = run_guardian.Crew("wallex")
    crew._note_move(account)
    time.sleep(0.3)
    assert crew.stuck() == ["slow"]
    monkeypatch.setattr(run_guardian, "account_provider", lambda account: WallexClient("http://127.0.0.1:1"))
    crew._client_of(account).capabilities()
    assert crew.stuck() == []


@pytest.mark.django_db(transaction=True)
def test_an_account_that_fails_again_and_again_is_left_for_longer_and_tells_once(crews, monkeypatch):
    for name in ("poison", "other"):
        make_account(name=name)
    tried: list[str] = []

    def defect() -> None:
        tried.append("poison")
        raise ZeroDivisionError

    crews.deeds["poison"] = defect
    assert crews.passes(4) == ["other"] * 4
    assert not OutboxEvent.objects.exists()
    assert crews.passes(4) == ["other"] * 4
    assert len(tried) == 5
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + run_guardian.POISON_SECONDS + 1)
    crews.passes(3)
    assert len(tried) == 6
    (event,) = OutboxEvent.objects.all()
    assert event.kind == "account.failing"
    assert event.payload == {"account": "poison", "failures": 5, "error": "ZeroDivisionError"}


@pytest.mark.django_db
def test_what_the_database_or_another_worker_does_is_no_failure_of_the_account(crews):
    make_account(name="a")
    for error in (OperationalError, Fenced, InterfaceError, LetGo):
        crews.deeds["a"] = raises(error)
        assert crews.passes(6) == []
    del crews.deeds["a"]
    assert crews.passes() == ["a"]


@pytest.mark.django_db
def test_failures_count_in_a_row_only(crews):
    make_account(name="a")
    for _ in range(3):
        crews.deeds["a"] = raises(ValueError)
        crews.passes(4)
        del crews.deeds["a"]
        assert crews.passes() == ["a"]


@pytest.mark.django_db
@pytest.mark.parametrize("error", [OperationalError, InterfaceError, Account.DoesNotExist])
def test_it_outlives_whatever_looking_for_accounts_meets(monkeypatch, crews, error):
    """A dead database, a connection that was closed, an account that somebody deletes at that moment."""

    def dead() -> None:
        raise error("not now")

    closed: list[str] = []
    monkeypatch.setattr(crews.guardian, "_due", dead)
    monkeypatch.setattr(run_guardian, "close_old_connections", lambda: closed.append("closed"))
    crews.guardian.tick()
    assert closed == ["closed"]


@pytest.mark.django_db
def test_the_first_pass_looks_at_every_account_and_reconciles_later_ones_only_at_what_is_due(crews):
    account = make_account(reconciled_at=run_guardian.CLOCK.now())
    make_account(state="stopped")
    crews.passes(2)
    assert [more["reconcile_now"] for more in crews.more] == [True]
    Account.objects.update(reconciled_at=None)
    crews.passes()
    assert [more["reconcile_now"] for more in crews.more] == [True, True]  # it was not its turn yet
    with crews.more[-1]["turn"].mine(account.name):
        pass
    crews.passes()
    assert [more["reconcile_now"] for more in crews.more] == [True, True, False]


@pytest.mark.django_db
def test_told_to_stop_it_finishes_what_is_in_hand_and_leaves_the_rest_to_its_successor(crews):
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slowly() -> None:
        begun.release()
        go_on.wait(20)

    names = [f"account {number}" for number in range(run_guardian.THREADS + 2)]
    for name in names:
        make_account(name=name)
        crews.deeds[name] = slowly
    crews.guardian.tick()
    for _ in range(run_guardian.THREADS):
        assert begun.acquire(timeout=10)
    assert len(crews.guardian.leave(0.1)) == run_guardian.THREADS  # they did not finish in time
    go_on.set()
    assert crews.guardian.leave(10) == []
    assert len(crews.visited) == run_guardian.THREADS


# --- one price -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, Quote(bid=Decimal(99), ask=Decimal(101), as_of=datetime.now(UTC), last=None)])
def test_who_asks_for_a_price_that_is_being_read_takes_what_comes_of_that(answer):
    asked, go_on, got = [], threading.Event(), []

    class Slow:
        def quote(self, provider: object, symbol: str) -> Quote | None:
            asked.append(symbol)
            go_on.wait(10)
            return answer

    quotes = run_guardian.SharedQuotes(Slow())  # type: ignore[arg-type]
    threads = [threading.Thread(target=lambda: got.append(quotes.quote(None, "BTCUSDT"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.2)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert (asked, got) == (["BTCUSDT"], [answer] * 4)
    quotes.quote(None, "BTCUSDT")
    assert len(asked) == 2  # how long a price may be kept is for the quotes to say


def test_a_price_that_hangs_holds_up_no_other():
    hung, go_on = threading.Event(), threading.Event()

    class Slow:
        def quote(self, provider: object, symbol: str) -> Quote | None:
            if symbol == "BTCUSDT":
                hung.set()
                go_on.wait(10)
            return None

    quotes = run_guardian.SharedQuotes(Slow())  # type: ignore[arg-type]
    thread = threading.Thread(target=quotes.quote, args=(None, "BTCUSDT"))
    thread.start()
    assert hung.wait(10)
    began = time.monotonic()
    quotes.quote(None, "ETHUSDT")
    assert time.monotonic() - began < 5
    go_on.set()
    thread.join(10)
