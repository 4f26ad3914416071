"""The clients of this process: who listens, what waits for each, and how little memory a slow one may take."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Hashable, Iterable

from algo.live.updates.events import (
    BEGIN,
    NOWHERE,
    RESET,
    SYSTEM,
    Event,
    Place,
    Visitor,
    alive,
    as_json,
    frame,
    place_of,
    reset,
)

MOST_WAITING = 1_000  # events of one client; who is that slow reads everything anew


class Client:
    """One connection. What happened waits in order, and none of it may be left out; of prices only the newest waits."""

    def __init__(self, visitor: Visitor, markets: frozenset[int], *, most_waiting: int = MOST_WAITING) -> None:
        self.visitor, self.markets, self._most = visitor, markets, most_waiting
        self._facts: deque[bytes] = deque()
        self._prices: dict[Hashable, bytes] = {}
        self._news = asyncio.Event()
        self.is_ending = False

    def tell(self, audience: str, place: Place, told: bytes) -> None:
        """An event that stands at `place`, as all clients are told it: one piece of memory for them together."""
        if self.is_ending or not self.visitor.may_hear(audience):
            return
        if len(self._facts) >= self._most:
            self._give_up(place)
        else:
            self._facts.append(told)
        self._news.set()

    def _give_up(self, place: Place) -> None:
        """It reads more slowly than things happen: it is sent away, and begins anew from here."""
        self._facts.clear()
        self._prices.clear()
        self._facts.append(frame(RESET, reset("this connection was too slow").data, place))
        self.is_ending = True

    def tell_now(self, told: bytes) -> None:
        """What has no place in the stream."""
        if not self.is_ending and len(self._facts) < self._most:
            self._facts.append(told)
            self._news.set()

    def tell_price(self, key: Hashable, told: bytes) -> None:
        if not self.is_ending:
            self._prices[key] = told
            self._news.set()

    def end(self) -> None:
        """Nothing more is told; what waits still goes out."""
        self.is_ending = True
        self._news.set()

    async def next(self, seconds: float) -> bytes:
        """What waits, as one piece; nothing where nothing came for so long, or the end."""
        if not (self._facts or self._prices or self.is_ending):
            try:
                await asyncio.wait_for(self._news.wait(), seconds)
            except TimeoutError:
                return b""
        self._news.clear()
        told = b"".join((*self._facts, *self._prices.values()))
        self._facts.clear()
        self._prices.clear()
        return told


class Full(Exception):
    """No further connection. `whose`: everybody's together, or those of this user."""

    def __init__(self, whose: str, most: int) -> None:
        super().__init__(f"{most} connections are open")
        self.whose, self.most = whose, most


class Hub:
    """Tells every client what it may hear. Lives in one event loop."""

    def __init__(self, *, most: int, most_of_user: int) -> None:
        self._most, self._most_of_user = most, most_of_user
        self._clients: set[Client] = set()
        self._by_user: Counter[int] = Counter()
        self._looked_at: Counter[int] = Counter()
        self.place = NOWHERE  # the last event that was told
        self.is_flowing = False  # whether events of the ledger arrive

    @property
    def clients(self) -> Collection[Client]:
        return self._clients

    @property
    def markets(self) -> Collection[int]:
        """Those that somebody looks at."""
        return self._looked_at.keys()

    def make_room(self, user_id: int) -> None:
        """Raises Full."""
        if len(self._clients) >= self._most:
            raise Full("everybody", self._most)
        if self._by_user[user_id] >= self._most_of_user:
            raise Full("user", self._most_of_user)

    def add(self, client: Client) -> None:
        """Raises Full."""
        self.make_room(client.visitor.user_id)
        self._clients.add(client)
        self._by_user[client.visitor.user_id] += 1
        self._looked_at.update(client.markets)

    def remove(self, client: Client) -> None:
        self._clients.discard(client)
        self._by_user = +(self._by_user - Counter([client.visitor.user_id]))
        self._looked_at = +(self._looked_at - Counter(client.markets))

    def tell(self, events: Iterable[tuple[str, Event]]) -> None:
        """Events of the stream, with their ids there. Its beginning is a place, and no news."""
        for text, event in events:
            self.place = place_of(text) or self.place
            if event.kind != BEGIN:
                self._tell_all(event)

    def _tell_all(self, event: Event) -> None:
        told = frame(event.kind, event.data, self.place)
        for client in self._clients:
            client.tell(event.audience, self.place, told)

    def flowing(self, is_flowing: bool) -> None:
        """Say to all when events begin or cease to arrive."""
        if is_flowing != self.is_flowing:
            self.is_flowing = is_flowing
            for client in self._clients:
                client.tell_now(self.state())

    def state(self) -> bytes:
        return frame(SYSTEM, as_json({"what": "updates", "flowing": self.is_flowing}))

    def begin_anew(self, why: str) -> None:
        """Something may have been missed by all."""
        self._tell_all(reset(why))

    def tell_price(self, market: int, key: Hashable, told: bytes) -> None:
        for client in self._clients:
            if market in client.markets:
                client.tell_price(key, told)

    def alive(self) -> bytes:
        return alive(self.place)

    def end(self) -> None:
        for client in self._clients:
            client.end()
