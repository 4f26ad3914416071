"""The running exchange: two venues on one price feed, driven by the clock, kept by the store."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np

from providers.clock import Clock
from providers.paper.clock import AdjustableClock
from providers.paper.core import Venue
from providers.paper.faults import Fault, FaultKind, FaultPlan, FaultRule
from providers.paper.feeds.base import Feed, FeedError, PairSpec, Ticks
from providers.paper.feeds.synthetic import SyntheticFeed
from providers.paper.keys import NOBITEX, NOBITEX_TOKEN, WALLEX, ApiKey, KeyRing
from providers.paper.ledger import Entry, LedgerError, trader
from providers.paper.orders import Book
from providers.paper.profiles import VenueProfile, venue_profiles
from providers.paper.records import Changes
from providers.paper.store import AnyStore

logger = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CURSOR_SAVE_MS = 5_000
_BEYOND = 2**62  # ticks: a price that no market sees
_CLOCK_SLACK_MS = 60_000  # how far a corrected clock may be behind what was lived already
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


Listener = Callable[[Mapping[str, Changes]], None]


@dataclass(slots=True)
class Account:
    """One trader, known to both venues. Keys are kept as digests only."""

    name: str
    number: int
    wallex_key: str | None
    nobitex_token: str | None
    opened_at: datetime

    def row(self) -> tuple[str, int, str | None, str | None, str]:
        return self.name, self.number, self.wallex_key, self.nobitex_token, self.opened_at.isoformat()


@dataclass(frozen=True, slots=True)
class Rights:
    """What an account's keys may do (contracts: wallex 1, nobitex 3.2). Ends: None is never; addresses: none is any."""

    wallex_scopes: frozenset[str] = frozenset({"READ", "TRADE"})
    wallex_addresses: tuple[str, ...] = ()
    wallex_expires_at: datetime | None = None
    nobitex_api_key: str | None = None  # the public half
    nobitex_permissions: frozenset[str] = frozenset({"READ", "TRADE"})
    nobitex_addresses: tuple[str, ...] = ()
    nobitex_expires_at: datetime | None = None


class Exchange:
    """All state behind the wire faces. Every public method leaves the store up to date when it returns."""

    def __init__(
        self,
        feed: Feed,
        clock: Clock,
        store: AnyStore,
        profiles: tuple[VenueProfile, ...] | None = None,
        faults: FaultPlan | None = None,
    ) -> None:
        self.feed = feed
        self.clock = AdjustableClock(clock, timedelta(microseconds=int(store.meta().get("clock_offset_us", "0"))))
        self.faults = faults or FaultPlan()
        self._store = store
        chosen = profiles or venue_profiles(tuple(feed.specs))
        self.venues = {profile.name: Venue(profile, self._books_for(profile.name), self.faults) for profile in chosen}
        for venue in self.venues.values():
            store.load(venue)
        self.accounts = {row[0]: Account(*row[:4], datetime.fromisoformat(row[4])) for row in store.accounts()}
        self.keys = KeyRing(store)
        self._by_key = {digest: account for account in self.accounts.values() for digest in _digests(account)}
        self.is_sound = True
        self.listeners: list[Listener] = []  # told what changed, once it is in the store
        self._cursor = int(store.meta().get("cursor_ms", to_ms(self.clock.now())))
        if to_ms(self.clock.now()) < self._cursor - _CLOCK_SLACK_MS:
            raise FeedError(
                f"This data directory has lived until {from_ms(self._cursor):%Y-%m-%d %H:%M:%S} UTC, later than the"
                f" clock ({self.clock.now():%Y-%m-%d %H:%M:%S}). Start with another --data-dir, or empty this one."
            )
        self._saved_cursor = self._cursor
        self._jobs: list[tuple[datetime, Callable[[datetime], None]]] = []
        self._is_stale = False  # something beside orders and the cursor has to be kept
        self._price_until_cursor()
        self.advance()

    # -- time ----------------------------------------------------------------------------------------------------

    def advance(self) -> datetime:
        """Play every trade up to now through the venues, in order; returns now. Called before every request."""
        with self.operation() as now:
            return now

    def _advance(self) -> datetime:
        """Trades in their order, and what faults have put off each at its own moment."""
        now = self.clock.now()
        now_ms = to_ms(now)
        has_moved = now_ms > self._cursor
        while (moment := self._next_moment(now)) is not None:
            self._play_until(to_ms(moment))
            for venue in self.venues.values():
                venue.settle(moment)
        self._play_until(now_ms)
        for venue in self.venues.values():
            venue.settle(now)
        if self._jobs:
            self._do_what_is_due(now)
        if has_moved:
            self._gap(now_ms)
        return now

    def later(self, at: datetime, job: Callable[[datetime], None]) -> None:
        """Do this once the exchange's clock has reached `at`. Forgotten when the process ends."""
        self._jobs.append((at, job))

    def _do_what_is_due(self, now: datetime) -> None:
        due = [job for at, job in self._jobs if at <= now]
        self._jobs = [(at, job) for at, job in self._jobs if at > now]
        for job in due:
            job(now)

    def _next_moment(self, now: datetime) -> datetime | None:
        moments = [at for venue in self.venues.values() if (at := venue.faults.next_due()) is not None and at <= now]
        return min(moments, default=None)

    def _play_until(self, until: int) -> None:
        if until <= self._cursor:
            return
        is_still = self.feed.is_still(self._cursor, until)
        for venue in self.venues.values() if not is_still else ():
            for pair, spec in self.feed.specs.items():
                ticks = self.feed.ticks(venue.profile.name, pair, self._cursor, until)
                if len(ticks):
                    _play(venue, pair, spec, ticks)
        self._cursor = until

    @contextmanager
    def operation(self) -> Iterator[datetime]:
        """Bring the market up to now, do something, keep it: on leaving, all of it is in the store. What does not
        balance is not kept, nor anything after it: a restart finds the last good state."""
        if not self.is_sound:
            raise LedgerError("the books did not balance before; restart the exchange and report this")
        try:
            yield self._advance()
        except LedgerError:
            self.is_sound = False
            raise
        finally:
            self._save(always=self._is_stale or self._cursor - self._saved_cursor >= _CURSOR_SAVE_MS)

    def _price_until_cursor(self) -> None:
        for name, venue in self.venues.items():
            for pair, spec in self.feed.specs.items():
                tick = self.feed.last_tick(name, pair, self._cursor)
                if len(tick):
                    venue.last[pair] = spec.price(tick.prices[-1])

    def _books_for(self, venue: str) -> Callable[[str, datetime], Book]:
        return lambda pair, at: self.feed.book(venue, pair, to_ms(at))

    # -- accounts ------------------------------------------------------------------------------------------------

    def open_account(
        self,
        name: str,
        *,
        wallex_key: str,
        nobitex_token: str,
        balances: dict[str, dict[str, Decimal]],
        rights: Rights | None = None,
    ) -> Account:
        """Open an account, or give an existing one these keys (its balances stay). Raises `ValueError`."""
        if not _NAME.fullmatch(name):
            raise ValueError("an account name has 1 to 64 letters, digits, dots, dashes or underscores")
        unknown = set(balances) - set(self.venues)
        if unknown:
            raise ValueError(f"unknown exchange {', '.join(sorted(unknown))}; known are {', '.join(self.venues)}")
        rights = rights or Rights()
        keys = digest(wallex_key), digest(nobitex_token)
        others = [self._by_key.get(key) for key in keys]
        if any(other not in (None, self.accounts.get(name)) for other in others):
            raise ValueError("this key belongs to another account")
        api_key = self.keys.get(NOBITEX, rights.nobitex_api_key or "")
        if api_key is not None and api_key.account != name:
            raise ValueError("this key belongs to another account")
        with self.operation() as now:
            account = self.accounts.get(name)
            if account is None:
                account = Account(name, len(self.accounts) + 1, *keys, now)
                for venue_name, venue in self.venues.items():
                    venue.deposit(name, balances.get(venue_name, {}), now)
            self._adopt(account, *keys)
            self._grant(name, keys, rights, now)
        return account

    def _adopt(self, account: Account, wallex_key: str | None, nobitex_token: str | None) -> None:
        for old in _digests(account):
            self._by_key.pop(old, None)
        account.wallex_key, account.nobitex_token = wallex_key, nobitex_token
        self.accounts[account.name] = account
        self._by_key.update(dict.fromkeys(_digests(account), account))
        self._save(always=True, accounts=[account])

    def _grant(self, name: str, keys: tuple[str, str], rights: Rights, now: datetime) -> None:
        """What the keys may do; a key given again starts a new life."""
        wallex, token = keys
        self.keys.put(
            ApiKey(
                WALLEX, wallex, name, rights.wallex_scopes, now, now,
                addresses=rights.wallex_addresses, expires_at=rights.wallex_expires_at,
            )
        )  # fmt: skip
        self.keys.put(ApiKey(NOBITEX_TOKEN, token, name, frozenset(), now, now))
        if rights.nobitex_api_key is not None:
            self.keys.put(
                ApiKey(
                    NOBITEX, rights.nobitex_api_key, name, rights.nobitex_permissions, now, now,
                    name="paper", expires_at=rights.nobitex_expires_at, addresses=rights.nobitex_addresses,
                )
            )  # fmt: skip

    def log_out(self, account: Account) -> None:
        """The Nobitex token dies (nobitex 3.1)."""
        self._adopt(account, account.wallex_key, None)

    def entries(self, venue: str, account: str) -> list[Entry]:
        """What was booked for an account, oldest first."""
        owner = trader(account)
        return [each for each in self._store.entries(venue) if any(p.account == owner for p in each.postings)]

    def all_entries(self, venue: str) -> list[Entry]:
        """Everything that was ever booked at a venue, oldest first."""
        return list(self._store.entries(venue))

    def account_for_wallex(self, key: str) -> Account | None:
        kept = digest(key)
        account = self._by_key.get(kept)
        return account if account is not None and account.wallex_key == kept else None

    def account_for_nobitex(self, token: str) -> Account | None:
        kept = digest(token)
        account = self._by_key.get(kept)
        return account if account is not None and account.nobitex_token == kept else None

    # -- the tester's hands --------------------------------------------------------------------------------------

    def pause(self, *, is_paused: bool) -> None:
        """Let time stand still, or go on from where it stands."""
        self.advance()
        self.clock.pause() if is_paused else self.clock.resume()
        self._save(always=True)

    def set_forward(self, by: timedelta) -> datetime:
        """Live through the next `by` at once; returns now. Raises `ValueError`."""
        if self.feed.name == "mirror":
            raise FeedError("Mirrored prices happen when they happen; time cannot be set forward.")
        self.clock.advance(by)
        now = self.advance()
        self._save(always=True)
        return now

    def add_fault(self, rule: FaultRule) -> int:
        """Put a rule in force. Raises `ValueError` for one that means nothing here."""
        if rule.kind is FaultKind.PRICE_GAP and not isinstance(self.feed, SyntheticFeed):
            raise FeedError("Only the synthetic market's price can be moved.")
        return self.faults.add(rule)

    def _gap(self, now_ms: int) -> None:
        for pair in self.feed.specs:
            for fault in self.faults.decide("*", "MARKET", pair):
                self._jump(pair, fault, now_ms)

    def _jump(self, pair: str, fault: Fault, now_ms: int) -> None:
        spec = self.feed.specs[pair]
        tick = self.feed.last_tick("", pair, now_ms)
        ticks = max(int(Decimal(int(tick.prices[-1])) * fault.params["factor"]), 1)
        self.feed.nudge(pair, spec.price(ticks), now_ms)
        self._is_stale = True

    def nudge(self, pair: str, price: Decimal) -> None:
        """Move the synthetic market to `price` from the next second on. Raises `FeedError`."""
        if price <= 0:
            raise FeedError("the price must be above zero")
        now = self.advance()
        self.feed.nudge(pair, price, to_ms(now))
        self._save(always=True)

    # -- safe keeping --------------------------------------------------------------------------------------------

    def _save(self, *, always: bool, accounts: list[Account] | None = None) -> None:
        if not self.is_sound:
            return
        changes = {name: venue.records.take_changes() for name, venue in self.venues.items() if venue.records.changes}
        if not changes and not always:
            return
        meta = {
            "cursor_ms": str(self._cursor),
            "clock_offset_us": str(self.clock.offset // timedelta(microseconds=1)),
        }
        if isinstance(self.feed, SyntheticFeed):
            meta["nudges"] = json.dumps(self.feed.nudges)
        self._store.save(changes, meta, [account.row() for account in accounts or []])
        self._saved_cursor = self._cursor
        self._is_stale = False
        for tell in self.listeners if changes else ():
            try:
                tell(changes)
            except Exception:  # whoever listens must not undo what happened
                logger.exception("a listener failed; what happened is kept")

    def close(self) -> None:
        self.feed.close()
        self._save(always=True)
        self._store.close()

    def conservation(self) -> str:
        """`ok`, or what is wrong with the books."""
        try:
            for venue in self.venues.values():
                venue.ledger.check_conservation()
        except LedgerError as exc:
            return str(exc)
        return "ok"


def _play(venue: Venue, pair: str, spec: PairSpec, ticks: Ticks) -> None:
    """All trades in order; those that can touch no order only move the last price."""
    start = 0
    while (event := _next_event(venue, pair, spec, ticks, start)) is not None:
        at = from_ms(int(ticks.times[event]))
        venue.on_tick(pair, spec.price(ticks.prices[event]), spec.volume(ticks.volumes[event]), at)
        start = event + 1
    venue.last[pair] = spec.price(ticks.prices[-1])


def _next_event(venue: Venue, pair: str, spec: PairSpec, ticks: Ticks, start: int) -> int | None:
    """Index of the first tick from `start` that can move an order of this venue; None when there is none."""
    low, high = venue.watch(pair)
    if low is None and high is None:
        return None
    prices = ticks.prices[start:]
    floor = int(low // spec.tick) if low is not None else -1
    ceiling = int(-(-high // spec.tick)) if high is not None else _BEYOND
    if len(prices) == 1:  # a market that is looked at every second has no more
        return start if not floor < prices[0] < ceiling else None
    hits = np.flatnonzero((prices <= floor) | (prices >= ceiling))
    return start + int(hits[0]) if len(hits) else None


def digest(secret: str) -> str:
    """What is kept instead of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _digests(account: Account) -> list[str]:
    return [key for key in (account.wallex_key, account.nobitex_token) if key is not None]


def to_ms(at: datetime) -> int:
    since = at - _EPOCH
    return since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000


def from_ms(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=ms)
