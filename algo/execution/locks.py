"""One worker per account at a time.

The lock is a PostgreSQL advisory lock, held by the database session itself: a dead process lets go at once. A process
that lives but does not move (stopped, swapped out, cut off) would keep it, so whoever finds an account held by a
session that has been silent for long ends that session and takes the lock. The silent one's next statement fails: it
can write nothing more. The row in `AccountLock` says who holds the account and counts how often it was taken
(`epoch`); a send checks that count in its own transaction, in case a worker ever goes on over another session than the
one it locked.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import DatabaseError, InterfaceError, connection, transaction

from algo.execution.ledger import Fenced
from algo.models import Account, EventKind, OutboxEvent
from algo.services.alone import need_own_session
from algo.services.outbox import event_record
from providers.clock import Clock, clock_from_env
from providers.interface import ExchangeProvider

logger = logging.getLogger("algo.locks")

SILENT_SECONDS = 10.0  # a holder that did nothing for so long is taken for hung
BEAT_SECONDS = 2.0
TAKEOVER_SECONDS = 1.0  # how long an ended session may take to go; measured: 3 ms
_NAMESPACE = 0x414C  # advisory locks of accounts
_TELLING = 0x4154  # and of who tells of an eviction

# Short work only, while an account is held: a statement or a transaction that hangs ends, and with it this pass.
_BOUNDS = (
    "SET lock_timeout = '2s'; SET statement_timeout = '5s'; SET idle_in_transaction_session_timeout = '10s'",
    "RESET lock_timeout; RESET statement_timeout; RESET idle_in_transaction_session_timeout",
)
_TAKE = """
    INSERT INTO algo_accountlock (account_id, holder, backend_pid, epoch, heartbeat_at)
    VALUES (%s, %s, pg_backend_pid(), 1, clock_timestamp())
    ON CONFLICT (account_id) DO UPDATE SET holder = excluded.holder, backend_pid = excluded.backend_pid,
        epoch = algo_accountlock.epoch + 1, heartbeat_at = excluded.heartbeat_at
    RETURNING epoch
"""
_BEAT = "UPDATE algo_accountlock SET heartbeat_at = clock_timestamp() WHERE account_id = %s AND epoch = %s"
# By the server's own list: a process id that was given to another session is not in it.
_HELD = """
    held.locktype = 'advisory' AND held.granted AND held.objsubid = 2
    AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND held.classid = %(namespace)s AND held.objid = %(account)s
"""
# Any statement of the holder's session is a sign of life, as its beats are; all by the server's clock, never by two.
_HOLDER = f"""
    SELECT held.pid, lease.holder, lease.epoch, extract(epoch FROM clock_timestamp() - greatest(
        activity.query_start, CASE WHEN lease.backend_pid = held.pid THEN lease.heartbeat_at END))::float
    FROM pg_locks held
    JOIN pg_stat_activity activity ON activity.pid = held.pid
    LEFT JOIN algo_accountlock lease ON lease.account_id = %(account)s
    WHERE {_HELD}
"""  # noqa: S608 - two constants
_END = f"SELECT pg_terminate_backend(held.pid) FROM pg_locks held WHERE {_HELD} AND held.pid = %(pid)s"  # noqa: S608


def is_silent(seconds: float | None) -> bool:
    """Whether a holder that last gave a sign of life so many seconds ago may be ended; unknown is no proof."""
    return seconds is not None and seconds > SILENT_SECONDS


class LetGo(Fenced):
    """This process was told to end: the account is left to whoever comes next."""


_ending = threading.Event()


def let_go() -> None:
    """From now on, every account that this process holds is let go after the step that is being done."""
    _ending.set()


class Lease:
    """An account that is held. `epoch` is the number of this hold."""

    def __init__(self, account_id: int, epoch: int) -> None:
        self.account_id = account_id
        self.epoch = epoch
        self._session = connection.connection
        self._beaten_at = time.monotonic()

    @property
    def is_standing(self) -> bool:
        """Whether this thread still speaks through the session that took the lock."""
        return connection.connection is not None and connection.connection is self._session

    def beat(self) -> None:
        """Say that the loop moves; called between its steps, by the loop itself, for a thread that beats for another
        would keep a hung one alive. Raises Fenced when the account went to somebody else, or shall."""
        if _ending.is_set():
            raise LetGo(f"Account {self.account_id} is let go: this process ends.")
        self.touch()

    def touch(self) -> None:
        """The same within a step, which is always finished."""
        if not self.is_standing:
            raise Fenced(f"The session that held account {self.account_id} is gone; another worker goes on.")
        if time.monotonic() - self._beaten_at < BEAT_SECONDS:
            return
        with connection.cursor() as cursor:
            cursor.execute(_BEAT, [self.account_id, self.epoch])
            if cursor.rowcount != 1:
                raise Fenced(f"Account {self.account_id} was taken by another worker, which goes on.")
        self._beaten_at = time.monotonic()

    def rest(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        """Wait, with signs of life."""
        while seconds > 0:
            self.touch()
            sleep(min(seconds, BEAT_SECONDS))
            seconds -= BEAT_SECONDS


class Beating:
    """A client that gives a sign of life before every call: one call ends in time, a row of them may not."""

    def __init__(self, inside: ExchangeProvider, beat: Callable[[], None]) -> None:
        self._inside, self._beat = inside, beat

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inside, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            self._beat()
            return value(*args, **kwargs)

        return call


@contextmanager
def account_lock(account_id: int, clock: Clock | None = None) -> Iterator[Lease | None]:
    """Try to take an account; None where somebody else has it, and moves. Waits for nobody, but for at most a second
    for the end of a session that it found silent.

    Needs a session of its own (no transaction pooling between). Where the session is lost, the next statement fails
    with OperationalError; when this context ends, the thread has a usable connection again.
    """
    need_own_session()
    if not connection.in_atomic_block:
        connection.close_if_unusable_or_obsolete()
    is_had = _try(account_id) or (_evict(account_id, clock) and _try_for(account_id, TAKEOVER_SECONDS))
    if not is_had:
        yield None
        return
    session = connection.connection
    try:
        yield _enter(account_id)
    finally:
        _leave(account_id, session)


def _try(account_id: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_NAMESPACE, account_id])
        return bool(cursor.fetchone()[0])


def _enter(account_id: int) -> Lease:
    with connection.cursor() as cursor:
        cursor.execute(_BOUNDS[0])
        cursor.execute(_TAKE, [account_id, _holder_name()])
        return Lease(account_id, cursor.fetchone()[0])


def _leave(account_id: int, session: Any) -> None:
    if connection.connection is not session:
        return  # it is gone, and the lock with it
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_NAMESPACE, account_id])
            cursor.execute(_BOUNDS[1])
    except (DatabaseError, InterfaceError) as exc:
        logger.warning("account=%s let go with its session: %s", account_id, exc)
        connection.close()  # a session that may still hold a lock must not live on


def _holder_name() -> str:
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{threading.current_thread().name}"[:80]


def _evict(account_id: int, clock: Clock | None) -> bool:
    """End the session that holds an account where it is silent, and tell of it: the next to take the account may be
    somebody who saw nothing."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLDER, {"account": account_id, "namespace": _NAMESPACE})
        row = cursor.fetchone()
    if row is None or not is_silent(row[3]):
        return False
    pid, holder, epoch, seconds = row
    if not _end_session(account_id, pid):
        return False
    _tell(account_id, holder or "", epoch, seconds, clock or clock_from_env())
    return True


def _end_session(account_id: int, pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_END, {"account": account_id, "namespace": _NAMESPACE, "pid": pid})
        return cursor.fetchone() is not None


def _try_for(account_id: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not _try(account_id):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@transaction.atomic
def _tell(account_id: int, holder: str, epoch: int | None, seconds: float, clock: Clock) -> None:
    """Once for each hold, however many ended it."""
    account = Account.objects.only("name").get(pk=account_id)
    name = account.name
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [_TELLING, account_id])
        [nobody_else_does] = cursor.fetchone()
    told = OutboxEvent.objects.filter(kind=EventKind.GUARDIAN_EVICTED, account=account, payload__epoch=epoch)
    if not nobody_else_does or told.exists():
        return
    logger.error("account=%s taken from %s, which was silent for %.1f s", name, holder, seconds)
    payload = {"account": name, "holder": holder, "epoch": epoch, "silent_seconds": round(seconds, 1)}
    event_record(EventKind.GUARDIAN_EVICTED, payload, at=clock.now(), account=account)
