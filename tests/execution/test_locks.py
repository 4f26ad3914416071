"""An account is held by one worker at a time; one that does not move loses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import OperationalError, connection, transaction

from algo.execution import locks
from algo.execution.ledger import Fenced
from algo.execution.ledger_orm import OrmLedger
from algo.execution.ledger_rows import order_plan
from algo.execution.locks import Beating, Lease, LetGo, account_lock, is_silent, let_go
from algo.models import Account, AccountLock, Deal, DealStatus, Order, OrderEvent, OutboxEvent, Role
from providers.types import Capabilities, OrderType, Side
from tests.factories import make_account, make_deal

pytestmark = pytest.mark.django_db(transaction=True)


class Holder:
    """Another worker: a thread with a session of its own, which does what it is told while it holds the account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._held, self._told, self._go_on = threading.Event(), threading.Event(), threading.Event()
        self._deed: Callable[[Lease], object] = lambda lease: None
        self.lease: Lease | None = None
        self.raised: BaseException | None = None
        self.after: object = None
        self._thread = threading.Thread(target=self._run, name="holder")

    def _run(self) -> None:
        try:
            try:
                with account_lock(self._account.pk) as lease:
                    self.lease = lease
                    self._held.set()
                    assert self._told.wait(20)
                    if lease:
                        self._deed(lease)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the test wants to see it
                self.raised = exc
            self.after = Account.objects.count()  # it lives on, over whatever connection it has now
        finally:
            connection.close()

    def does(self, deed: Callable[[Lease], object]) -> BaseException | None:
        """Let it do one thing and end. Returns what that raised."""
        self._deed = deed
        self._told.set()
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.raised


@contextmanager
def holding(account: Account) -> Iterator[Holder]:
    holder = Holder(account)
    holder._thread.start()
    assert holder._held.wait(20)
    try:
        yield holder
    finally:
        holder._told.set()
        holder._thread.join(20)


def row(account: Account) -> AccountLock:
    return AccountLock.objects.get(pk=account.pk)


def evictions() -> list[dict[str, object]]:
    return list(OutboxEvent.objects.filter(kind="guardian.evicted").values_list("payload", flat=True))


@pytest.fixture
def short_patience(monkeypatch):
    """Silent is who did nothing for 0.2 s."""
    monkeypatch.setattr(locks, "SILENT_SECONDS", 0.2)


# --- who holds it -----------------------------------------------------------------------------------------------------


def test_one_worker_at_a_time_holds_an_account_and_nobody_waits():
    account, other = make_account(name="one"), make_account(name="other")
    with holding(account) as holder:
        began = time.monotonic()
        with account_lock(account.pk) as lease:
            assert lease is None
        assert time.monotonic() - began < 0.5
        with account_lock(other.pk) as lease:
            assert lease
    assert holder.raised is None
    with account_lock(account.pk) as lease:
        assert lease


def test_the_row_says_who_holds_it_and_counts_how_often_it_was_taken():
    account = make_account()
    with account_lock(account.pk) as first:
        assert first.epoch == 1
    with holding(account) as holder:
        assert holder.lease.epoch == 2
        found = row(account)
        assert found.epoch == 2
        assert found.holder.endswith(":holder")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            assert found.backend_pid not in (None, cursor.fetchone()[0])
    with account_lock(account.pk) as again:
        assert again.epoch == 3


def test_a_dead_session_lets_go_at_once():
    account = make_account()
    with holding(account) as holder:
        holder.does(lambda lease: connection.close())
    deadline = time.monotonic() + 2  # the server notices the end of a session in its own time, some milliseconds
    while time.monotonic() < deadline:
        with account_lock(account.pk) as lease:
            if lease:
                assert evictions() == []
                return
        time.sleep(0.02)
    raise AssertionError("the lock of a dead session is still held")


def test_an_error_inside_lets_go_and_travels_on():
    account = make_account()
    with pytest.raises(ZeroDivisionError), account_lock(account.pk):
        raise ZeroDivisionError
    with holding(account) as holder:
        assert holder.lease


def test_a_lock_lost_with_its_connection_is_an_error_of_the_database_and_not_of_the_lock():
    account = make_account()
    with pytest.raises(ZeroDivisionError), account_lock(account.pk) as lease:
        assert lease
        connection.connection.close()
        raise ZeroDivisionError
    with account_lock(account.pk) as lease:  # over a new connection, which nobody had to ask for
        assert lease


def test_an_account_that_is_gone_leaves_no_lock_behind():
    gone = make_account().pk + 1_000
    with pytest.raises(Exception, match="foreign key"), account_lock(gone):
        raise AssertionError("held")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (0,)


# --- who does not move ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "silent"), [(None, False), (0.0, False), (10.0, False), (10.1, True), (1e6, True), (-3.0, False)]
)
def test_silent_is_who_gave_no_sign_of_life_for_more_than_ten_seconds(seconds, silent):
    assert is_silent(seconds) is silent


def test_a_holder_that_moves_is_never_evicted_however_old_its_hold():
    account = make_account()
    with holding(account):
        AccountLock.objects.filter(pk=account.pk).update(heartbeat_at="2020-01-01T00:00:00Z", backend_pid=None)
        with account_lock(account.pk) as lease:
            assert lease is None  # its session spoke a moment ago: what the row says is not all there is
    assert evictions() == []


@pytest.mark.usefixtures("short_patience")
def test_a_silent_holder_loses_the_account_writes_nothing_more_and_lives_on():
    account = make_account()
    with holding(account) as holder:
        time.sleep(0.3)
        began = time.monotonic()
        with account_lock(account.pk) as lease:
            assert time.monotonic() - began < 1
            assert lease.epoch == holder.lease.epoch + 1

            def write(old: Lease) -> None:
                with transaction.atomic():
                    Account.objects.filter(pk=account.pk).update(last_error="from the grave")

            assert isinstance(holder.does(write), OperationalError)
    assert holder.after == 1
    account.refresh_from_db()
    assert account.last_error == ""
    (event,) = evictions()
    assert event["account"] == account.name
    assert str(event["holder"]).endswith(":holder")
    assert 0.2 < event["silent_seconds"] < 5


@pytest.mark.usefixtures("short_patience")
def test_an_evicted_holder_that_did_nothing_since_leaves_quietly_with_a_usable_connection():
    account = make_account()
    with holding(account) as holder:
        time.sleep(0.3)
        with account_lock(account.pk) as lease:
            assert lease
        assert holder.does(lambda old: None) is None
        assert holder.after == 1


@pytest.mark.usefixtures("short_patience")
def test_beats_keep_the_account_through_long_work(monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.05)
    account = make_account()
    with holding(account) as holder:
        done = threading.Event()

        def work(lease: Lease) -> None:
            until = time.monotonic() + 0.8
            while time.monotonic() < until:
                lease.beat()
                time.sleep(0.02)
            done.set()

        threading.Thread(target=holder.does, args=(work,)).start()
        while not done.is_set():
            with account_lock(account.pk) as lease:
                assert lease is None or done.is_set()
            time.sleep(0.05)
    assert holder.raised is None
    assert evictions() == []


def test_a_beat_is_written_by_the_database_clock_and_only_now_and_then(monkeypatch, django_assert_num_queries):
    account = make_account()
    with account_lock(account.pk) as lease:
        first = row(account).heartbeat_at
        with django_assert_num_queries(0):
            lease.beat()
        monkeypatch.setattr(locks, "BEAT_SECONDS", 0.0)
        with django_assert_num_queries(1):
            lease.beat()
        assert row(account).heartbeat_at > first


def test_a_beat_of_who_was_replaced_says_so(monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.0)
    account = make_account()
    with account_lock(account.pk) as lease:
        AccountLock.objects.filter(pk=account.pk).update(epoch=lease.epoch + 1)
        with pytest.raises(Fenced):
            lease.beat()


def test_a_beat_over_another_session_than_the_one_that_took_the_lock_says_so():
    account = make_account()
    with account_lock(account.pk) as lease:
        connection.close()
        Account.objects.count()  # Django connects anew without a word; the lock stayed behind
        with pytest.raises(Fenced):
            lease.beat()


def test_a_row_of_calls_and_a_long_wait_are_full_of_signs_of_life(monkeypatch):
    """Each call ends in time; five of them in a row, without a word to the database between, may not."""
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.0)
    beats: list[str] = []

    class Exchange:
        name = "wallex"

        def last_price(self, symbol: str) -> str:
            beats.append("call")
            return symbol

    client = Beating(Exchange(), lambda: beats.append("beat"))
    assert (client.name, client.last_price("BTCUSDT"), client.last_price("BTCUSDT")) == ("wallex", "BTCUSDT", "BTCUSDT")
    assert beats == ["beat", "call", "beat", "call"]

    monkeypatch.setattr(locks, "BEAT_SECONDS", 2.0)
    slept: list[float] = []
    with account_lock(make_account().pk) as lease:
        lease.rest(5.0, slept.append)
    assert slept == [2.0, 2.0, 1.0]


def test_a_process_that_ends_lets_go_between_two_steps_and_not_within_one(monkeypatch):
    monkeypatch.setattr(locks, "_ending", threading.Event())
    account = make_account()
    with account_lock(account.pk) as lease:
        lease.beat()
        let_go()
        lease.touch()
        with pytest.raises(LetGo):
            lease.beat()
    with holding(account) as holder:
        assert holder.lease


def test_an_eviction_is_told_of_whoever_takes_the_account_then(monkeypatch):
    """Somebody who came when the silent session had just ended: he saw nothing of it."""
    monkeypatch.setattr(locks, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(locks, "_try_for", lambda account_id, seconds: False)
    account = make_account()
    with holding(account):
        time.sleep(0.3)
        with account_lock(account.pk) as lease:
            assert lease is None
        with account_lock(account.pk) as lease:
            assert lease is not None
    assert len(evictions()) == 1


def test_of_many_who_find_a_silent_holder_one_takes_the_account(monkeypatch):
    monkeypatch.setattr(locks, "SILENT_SECONDS", 1.0)
    account = make_account()
    with holding(account):
        time.sleep(1.1)
        held, start, over = [], threading.Barrier(4), threading.Barrier(4)

        def contend() -> None:
            try:
                start.wait(10)
                with account_lock(account.pk) as lease:
                    held.append(lease is not None)
                    over.wait(10)
            finally:
                connection.close()

        threads = [threading.Thread(target=contend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert sorted(held) == [False, False, False, True]
    assert len(evictions()) == 1


# --- what a hold is good for ------------------------------------------------------------------------------------------


def planned_entry() -> tuple[Deal, Callable[[int | None], bool]]:
    """A deal whose entry waits to be sent, and the claim to send it of a worker with such an epoch."""
    deal = make_deal(rules={"stop_loss_percent": "1", "take_profit_percent": "2"}, status=DealStatus.PLANNED)
    order_plan(
        deal,
        role=Role.ENTRY,
        leg=1,
        side=Side.BUY,
        kind=OrderType.MARKET,
        quantity=deal.planned_quantity,
        price=None,
        stop_price=None,
        reason="test",
        now=deal.created_at,
    )

    def claim(epoch: int | None) -> bool:
        ledger = OrmLedger(deal.account, Capabilities(), epoch)
        (order,) = ledger.deal(deal.pk).orders
        return ledger.claim_send(order, now=deal.created_at)

    return deal, claim


def test_who_holds_the_account_may_send_and_the_order_says_under_which_hold():
    deal, claim = planned_entry()
    with account_lock(deal.account_id) as lease:
        assert claim(lease.epoch)
    order = Order.objects.get(deal=deal)
    assert (order.status, order.epoch) == ("SUBMITTED", lease.epoch)


@pytest.mark.parametrize("behind", [1, 2])
def test_who_held_the_account_before_another_may_not_send_and_leaves_no_trace(behind):
    """The database session is the first line of defence; here it is taken away."""
    deal, claim = planned_entry()
    for _ in range(behind):
        with account_lock(deal.account_id):
            pass
    with account_lock(deal.account_id) as lease:
        before = OrderEvent.objects.count()
        with pytest.raises(Fenced):
            claim(lease.epoch - behind)
    order = Order.objects.get(deal=deal)
    assert (order.status, order.epoch, order.attempts) == ("PENDING", None, 0)
    assert OrderEvent.objects.count() == before


# --- what hangs in the database ---------------------------------------------------------------------------------------


def settings_now() -> list[str]:
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    with connection.cursor() as cursor:
        cursor.execute("SELECT " + ", ".join(f"current_setting('{name}')" for name in names))
        return list(cursor.fetchone())


def test_statements_and_transactions_are_bounded_while_an_account_is_held_and_only_then():
    before = settings_now()
    with account_lock(make_account().pk):
        assert settings_now() == ["2s", "5s", "10s"]
    assert settings_now() == before
    assert before[1:] == ["0", "10s"]  # a report may take its time, an open transaction with nothing to do may not
