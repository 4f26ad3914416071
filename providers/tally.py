"""What this process has counted and not yet told anybody: sums by name and labels, safe for threads and forks.

Whoever counts knows no store: clients of exchanges and workers add here, and something else (the platform's processes:
`algo.services.tallies`) takes the sums away now and then and adds them to those of all processes together.
"""

from __future__ import annotations

import os
import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence

Series = tuple[str, tuple[tuple[str, str], ...]]  # name, and (label, value) in the order of the labels
CALL_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds
CALLS, CALL_SECONDS = "algo_exchange_calls", "algo_exchange_call_seconds"
BUCKET, SUM = ":bucket", ":sum"  # what a histogram's series are called beside its name; `le` is the bucket's bound


class Tally:
    """Sums since they were last taken. Label values come from bounded sets, never from what a stranger sends."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin at nothing, with a lock of its own: also what a forked child does with what its parent counted."""
        self._lock = threading.Lock()
        self._sums: dict[Series, float] = {}

    def add(self, name: str, amount: float = 1.0, **labels: str) -> None:
        self._add({series(name, labels): amount})

    def observe(self, name: str, value: float, bounds: Sequence[float], **labels: str) -> None:
        """Count `value` in the bucket whose upper bound is the first not below it. Buckets are kept apart, not added up
        as Prometheus shows them: one observation touches two sums."""
        at = bisect_left(bounds, value)
        bound = f"{bounds[at]:g}" if at < len(bounds) else "+Inf"
        self._add({series(name + BUCKET, {**labels, "le": bound}): 1.0, series(name + SUM, labels): value})

    def take(self) -> dict[Series, float]:
        """The sums, which begin at nothing again."""
        with self._lock:
            taken, self._sums = self._sums, {}
        return taken

    def put_back(self, sums: Mapping[Series, float]) -> None:
        """What was taken and could not be told."""
        self._add(sums)

    def _add(self, sums: Mapping[Series, float]) -> None:
        with self._lock:
            for key, amount in sums.items():
                self._sums[key] = self._sums.get(key, 0.0) + amount


def series(name: str, labels: Mapping[str, str]) -> Series:
    return name, tuple(sorted(labels.items()))


TALLY = Tally()  # of this process
os.register_at_fork(after_in_child=TALLY.forget)
