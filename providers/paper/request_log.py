"""Every request that reached the exchange: a ring of the newest, each written when it is over."""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass
from itertools import count, islice
from typing import Any

CAPACITY = 10_000  # about five megabytes, and one answer of the control port


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request. `monotonic` and `duration_ms` are wall time; `status` is None where the connection closed without
    an answer; `faults` are the ids of the rules that hit it."""

    id: int
    monotonic: float  # seconds, when it arrived; only differences mean something
    arrived_at: str  # the wall clock, UTC
    exchange_time: str  # the exchange's own clock
    venue: str
    method: str
    path: str
    query: str
    account: str | None
    client_order_id: str | None  # what a body named
    status: int | None
    duration_ms: float
    faults: tuple[int, ...]


class RequestLog:
    """Ids begin at 1 and grow by 1 in the order requests ended."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._entries: deque[LoggedRequest] = deque(maxlen=capacity)
        self._ids = count(1)

    def add(self, **facts: Any) -> None:
        self._entries.append(LoggedRequest(next(self._ids), **facts))

    def clear(self) -> int:
        """Forget all; how many there were. Ids go on."""
        gone = len(self._entries)
        self._entries.clear()
        return gone

    def since(self, number: int, limit: int, **wanted: str) -> list[LoggedRequest]:
        """The first `limit` entries with ids above `number`, oldest first, whose fields equal `wanted`."""
        first = self._entries[0].id if self._entries else 1
        later = islice(self._entries, max(number + 1 - first, 0), None)
        chosen = (entry for entry in later if all(getattr(entry, name) == value for name, value in wanted.items()))
        return list(islice(chosen, limit))

    def newest(self, limit: int, **wanted: str) -> list[LoggedRequest]:
        """The last `limit` entries whose fields equal `wanted`, oldest first."""
        entries = reversed(self._entries)
        chosen = (entry for entry in entries if all(getattr(entry, name) == value for name, value in wanted.items()))
        return list(islice(chosen, limit))[::-1]

    def __len__(self) -> int:
        return len(self._entries)


def as_json(entry: LoggedRequest) -> dict[str, Any]:
    return asdict(entry)
