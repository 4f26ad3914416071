"""The database's part of a stream process, in a thread of its own: quotes out, signs of life out, what to watch in."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.db import DatabaseError, close_old_connections, connection
from django.db.backends.signals import connection_created

from algo.live.board import Board
from algo.models import Account, Heartbeat
from algo.selectors.health import STREAM
from algo.selectors.streams import Watched, accounts_to_listen_to, watched_markets
from algo.services.quotes import QuoteRow, quotes_record
from algo.services.tallies import Teller
from providers.clock import Clock

logger = logging.getLogger("algo.feed")

QUOTES_SECONDS = 1.0
LOOK_SECONDS = 3.0
BEAT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one exchange's streams are to listen to now."""

    watched: Watched
    accounts: tuple[Account, ...]


class Recorder:
    """Every second the quotes that changed, in one statement; every few seconds a heartbeat and a look at what is to be
    watched, which goes to `on_wanted(provider, wanted)` (called in this thread). Outlives a dead database."""

    def __init__(self, boards: Mapping[str, Board], clock: Clock, on_wanted: Callable[[str, Wanted], None]) -> None:
        self._boards, self._clock, self._on_wanted = boards, clock, on_wanted
        self._watched: dict[str, Watched] = {}
        self._look_at = self._beat_at = 0.0
        self._is_down = False
        self._teller = Teller("stream")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        connection_created.connect(_not_worth_waiting_for, dispatch_uid="streams")
        self._thread.start()

    def stop(self) -> None:
        """Not waited for: a database that hangs must not hold up the end."""
        self._stopping.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            self.tick()
            self._stopping.wait(max(QUOTES_SECONDS - (time.monotonic() - began), 0.05))

    def tick(self) -> None:
        """Whatever is due now."""
        try:
            close_old_connections()
            self._record_quotes()
            if time.monotonic() >= self._look_at:
                self._look()
                self._look_at = time.monotonic() + LOOK_SECONDS
            if time.monotonic() >= self._beat_at:
                self._beat()
                self._teller.tell_if_due()
                self._beat_at = time.monotonic() + BEAT_SECONDS
        except DatabaseError as exc:
            self._note(exc)
            for board in self._boards.values():
                board.unwritten()
            connection.close()
        except Exception:  # outlives one tick: prices must go on
            logger.exception("streams: a tick of the recorder failed")
        else:
            self._note(None)

    def _note(self, exc: Exception | None) -> None:
        if exc is not None and not self._is_down:
            logger.error("no database, trying again: %s", exc)
        elif exc is None and self._is_down:
            logger.info("the database is back")
        self._is_down = exc is not None

    def _record_quotes(self) -> None:
        rows = []
        for provider, board in self._boards.items():
            ids = self._watched.get(provider, Watched()).markets
            rows += [
                QuoteRow(ids[quote.symbol], quote.bid, quote.ask, quote.last, quote.as_of, quote.received_at)
                for quote in board.quotes()
                if quote.symbol in ids
            ]
        quotes_record(rows)

    def _look(self) -> None:
        for provider in self._boards:
            watched = self._watched[provider] = watched_markets(provider)
            self._on_wanted(provider, Wanted(watched, tuple(accounts_to_listen_to(provider))))

    def _beat(self) -> None:
        for provider, board in self._boards.items():
            link = board.connection
            detail = {
                "up": link.is_up,
                "since": link.since.isoformat() if link.since else None,
                "alive_at": link.alive_at.isoformat() if link.alive_at else None,
                "reason": link.reason,
                "reconnects": link.reconnects,
                "markets": len(self._watched.get(provider, Watched()).markets),
                "counts": board.counts,
            }
            Heartbeat.objects.update_or_create(
                name=f"{STREAM}{provider}", defaults={"at": self._clock.now(), "detail": detail}
            )


def _not_worth_waiting_for(connection: object, **_: object) -> None:
    """A quote lost in a crash of the database is told again in a second: no commit waits for the disk."""
    with connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("SET synchronous_commit TO off")
