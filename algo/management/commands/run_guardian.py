"""manage.py run_guardian: look after every open position, once a second, with PostgreSQL and the exchange alone.

One thread finds the accounts that need it and hands them to the crew of their exchange: a few threads with one price
per market between them. So an exchange that hangs costs the others nothing, and an account whose private calls hang
costs nothing to the others of its exchange, which its crew's next thread takes. An account is in one thread's hands at
a time; between processes the database sees to that.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from django.core.management.base import BaseCommand
from django.db import DatabaseError, InterfaceError, OperationalError, close_old_connections

from algo.exchanges import CLOCK, account_provider, sign_of_life
from algo.execution.advance import Turn, look_after
from algo.execution.ledger import Fenced
from algo.execution.locks import Beating, LetGo, let_go
from algo.execution.quotes import Quotes
from algo.execution.reconcile import accounts_due
from algo.execution.views import Quote
from algo.models import Account, AccountState, EventKind, Heartbeat
from algo.selectors.sessions import is_lost
from algo.services.accounts import withdrawers_pause
from algo.services.outbox import event_record
from algo.services.tallies import Teller
from providers.interface import ExchangeProvider

logger = logging.getLogger("algo.guardian")

TICK_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
THREADS = 4  # of one exchange, each with a database session
STUCK_SECONDS = 60.0  # without beginning a call: the longest call takes 16 s with its waits, the longest statement 5 s
LEAVE_SECONDS = 9.0  # how long steps that are being done may delay the end of the process
POISON_FAILURES = 5  # unexpected ones in a row, after which an account is looked at only
POISON_SECONDS = 30.0  # so often


class Command(BaseCommand):
    help = "Watch over every account once a second: protect, trail, exit, reconcile. Needs no Redis."

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument(
            "--alive-file", type=Path, help="touched with every sign of life, for whoever watches this one"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        told: queue.SimpleQueue[int] = queue.SimpleQueue()  # safe in a signal handler, where an Event can deadlock
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: told.put(number))
        logger.info("guardian started")
        with suppress(OperationalError, InterfaceError):  # the database may come later; beat asks every hour
            withdrawers_pause(CLOCK.now())
        guardian = Guardian(options["alive_file"])
        while not _told_within(told, guardian.tick()):
            pass
        let_go()
        left = guardian.leave(LEAVE_SECONDS)
        logger.info("guardian stopped")
        if left:
            logger.warning("in the middle of a call, which whoever comes next looks up: accounts %s", ", ".join(left))
            logging.shutdown()
            os._exit(0)  # Python would wait for the threads


def _told_within(told: queue.SimpleQueue[int], seconds: float) -> bool:
    with suppress(queue.Empty):
        told.get(timeout=seconds)
        return True
    return False


class Guardian:
    """Finds who needs it. Everything it must know is in the database; a second guardian does no harm."""

    def __init__(self, alive_file: Path | None = None) -> None:
        self._alive_file = alive_file
        self._crews: dict[str, Crew] = {}
        self._first = True
        self._turn = 0
        self._beat_at = float("-inf")
        self._teller = Teller("guardian")

    def tick(self) -> float:
        """Hand on every account that needs it; the seconds until the next time. Outlives a dead database."""
        began = time.monotonic()
        try:
            for account in self._in_turn(self._due()):
                self._crew_of(account.provider).take(account)
            self._first = False
            self._heartbeat()
        except (DatabaseError, InterfaceError) as exc:
            logger.error("no database, trying again: %s", exc)
            close_old_connections()
        except Exception:  # outlives one look for accounts: the next one is a second away
            logger.exception("could not look for accounts, trying again")
            close_old_connections()
        return max(TICK_SECONDS - (time.monotonic() - began), 0.001)

    def leave(self, seconds: float) -> list[str]:
        """Begin nothing more and wait for what was begun; the accounts that were not finished in time."""
        for crew in self._crews.values():
            crew.dismiss()
        deadline = time.monotonic() + seconds
        while (left := self._at_work()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return left

    def _at_work(self) -> list[str]:
        return sorted(name for crew in self._crews.values() for name in crew.at_work())

    def _due(self) -> list[Account]:
        if self._first:
            return list(Account.objects.exclude(state=AccountState.STOPPED))
        return list(accounts_due(CLOCK))

    def _in_turn(self, accounts: list[Account]) -> list[Account]:
        """Another one first every time: where calls are few, the first to come takes them."""
        self._turn += 1
        first = self._turn % len(accounts) if accounts else 0
        return accounts[first:] + accounts[:first]

    def _crew_of(self, exchange: str) -> Crew:
        if exchange not in self._crews:
            self._crews[exchange] = Crew(exchange)
        return self._crews[exchange]

    def _heartbeat(self) -> None:
        """A sign of life of every thread or of none: one that hangs must show."""
        if time.monotonic() - self._beat_at < HEARTBEAT_SECONDS:
            return
        if stuck := [name for crew in self._crews.values() for name in crew.stuck()]:
            logger.error("no sign of life: a thread hangs at the accounts %s. Restart the guardian.", ", ".join(stuck))
            return
        told = {"at": CLOCK.now(), "detail": sign_of_life()}
        Heartbeat.objects.update_or_create(name="guardian", defaults=told)
        if self._alive_file is not None:
            self._alive_file.touch()
        self._beat_at = time.monotonic()
        self._teller.tell_if_due()


@dataclass(slots=True)
class _Trouble:
    """How often in a row looking after an account failed unexpectedly, and until when it is left alone."""

    failures: int = 0
    rests_until: float = float("-inf")


class Crew:
    """The threads that look after the accounts of one exchange."""

    def __init__(self, exchange: str) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix=exchange)
        self._quotes = SharedQuotes(Quotes(CLOCK))
        self._taken: set[int] = set()  # waiting for a thread, or in its hands
        self._at_work: dict[int, tuple[str, float]] = {}  # in its hands: the account's name, and when it last moved
        self._turn = Turn()
        self._troubles: defaultdict[int, _Trouble] = defaultdict(_Trouble)

    def take(self, account: Account) -> None:
        """Look after an account as soon as a thread is free, if none does already."""
        trouble = self._troubles.get(account.pk)
        if account.pk in self._taken or (trouble and time.monotonic() < trouble.rests_until):
            return
        self._taken.add(account.pk)
        self._pool.submit(self._look_after, account)

    def dismiss(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def at_work(self) -> list[str]:
        """The accounts that are being looked after at this moment."""
        return [name for name, _ in list(self._at_work.values())]

    def stuck(self) -> list[str]:
        """Those at which nothing has moved for long."""
        limit = time.monotonic() - STUCK_SECONDS
        return [name for name, moved_at in list(self._at_work.values()) if moved_at < limit]

    def _look_after(self, account: Account) -> None:
        self._note_move(account)
        try:
            is_new = account.name not in self._turn.had  # since this process began
            look_after(account, self._client_of, CLOCK, quotes=self._quotes, reconcile_now=is_new, turn=self._turn)
        except LetGo as exc:
            logger.info("%s", exc)
        except Exception as exc:  # outlives one account: the others are still to be looked after
            if isinstance(exc, Fenced) or is_lost(exc):
                # No database, or another worker took the account: a refused row is different, one account's trouble.
                logger.error("account=%s was let go in the middle, next look in a second: %s", account.name, exc)
                close_old_connections()
            else:
                logger.exception("account=%s failed", account.name)
                self._note_failure(account, exc)
        else:
            self._troubles.pop(account.pk, None)
        finally:
            self._at_work.pop(account.pk, None)
            self._taken.discard(account.pk)

    def _client_of(self, account: Account) -> ExchangeProvider:
        return cast(ExchangeProvider, Beating(account_provider(account), partial(self._note_move, account)))

    def _note_move(self, account: Account) -> None:
        self._at_work[account.pk] = account.name, time.monotonic()

    def _note_failure(self, account: Account, error: Exception) -> None:
        trouble = self._troubles[account.pk]
        trouble.failures += 1
        if trouble.failures >= POISON_FAILURES:
            trouble.rests_until = time.monotonic() + POISON_SECONDS
        if trouble.failures == POISON_FAILURES:
            _alarm(account, error)


def _alarm(account: Account, error: Exception) -> None:
    logger.error(
        "account=%s failed %d times in a row. What rests at the exchange stays there; its positions are looked at only "
        "every %d s until that succeeds. The log says where it fails.",
        *(account.name, POISON_FAILURES, POISON_SECONDS),
    )
    payload = {"account": account.name, "failures": POISON_FAILURES, "error": type(error).__name__}
    try:
        event_record(EventKind.ACCOUNT_FAILING, payload, at=CLOCK.now(), account=account)
    except DatabaseError as exc:
        logger.error("account=%s: nobody could be told: %s", account.name, exc)


class SharedQuotes:
    """Quotes for several threads: whoever asks for a price that is being read takes what comes of that."""

    def __init__(self, quotes: Quotes) -> None:
        self._quotes = quotes
        self._turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._read: dict[str, tuple[float, Quote | None]] = {}

    def expect(self, provider: ExchangeProvider, symbols: Collection[str]) -> None:
        self._quotes.expect(provider, symbols)

    def quote(self, provider: ExchangeProvider, symbol: str) -> Quote | None:
        asked_at = time.monotonic()
        with self._turns[symbol]:
            read_at, quote = self._read.get(symbol, (float("-inf"), None))
            if read_at < asked_at:
                quote = self._quotes.quote(provider, symbol)
                self._read[symbol] = time.monotonic(), quote
            return quote

    def with_last(self, provider: ExchangeProvider, symbol: str, quote: Quote) -> Quote:
        with self._turns[symbol]:
            return self._quotes.with_last(provider, symbol, quote)
