"""What a part of the benchmark gives back: figures with their rounds, their targets and what they are compared with."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

ROUNDS = 5  # at least so many; `--quick` contents itself with fewer
SECONDS, PER_SECOND = "s", "1/s"


class Skipped(Exception):
    """A part cannot run on this machine; the message says why and what would help."""


@dataclass(frozen=True, slots=True)
class Options:
    """How thoroughly to measure. `quick` is for trying out: fewer rounds, smaller loads, targets not to be believed."""

    quick: bool = False

    @property
    def rounds(self) -> int:
        return 2 if self.quick else ROUNDS

    def size(self, whole: int, quick: int) -> int:
        """A load: `whole`, or `quick` where it is only tried out."""
        return quick if self.quick else whole


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing. Its value is the median of `rounds`.

    `unit` is `s`, `1/s`, or any other word. `floor` names what the same machine needs for a bare step (see
    `floors.py`): figures in `s` and `1/s` are also told as a multiple of it, of which more is worse. `p50` and `p99`
    are given of a latency, whose `rounds` are the 99 % quantiles. `detail` is kept in the JSON and compared with
    nothing.
    """

    name: str
    what: str
    unit: str
    rounds: tuple[float, ...]
    target: float | None = None
    at_least: bool = False
    floor: str = ""
    p50: float | None = None
    p99: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        return statistics.median(self.rounds)

    @property
    def holds(self) -> bool:
        if self.target is None:
            return True
        return self.value >= self.target if self.at_least else self.value <= self.target

    def ratio(self, floors: dict[str, float]) -> float | None:
        """How many bare steps one unit costs; None for figures that are not compared with one."""
        if not self.floor or self.unit not in (SECONDS, PER_SECOND) or not self.value:
            return None
        cost = self.value if self.unit == SECONDS else 1 / self.value
        return cost / floors[self.floor]

    def told(self, floors: dict[str, float]) -> dict[str, Any]:
        """For JSON."""
        return {
            "what": self.what,
            "unit": self.unit,
            "value": self.value,
            "rounds": list(self.rounds),
            "p50": self.p50,
            "p99": self.p99,
            "target": self.target,
            "at_least": self.at_least,
            "holds": self.holds,
            "floor": self.floor or None,
            "ratio": self.ratio(floors),
            "detail": self.detail,
        }


def latency(
    name: str, what: str, rounds: Sequence[Sequence[float]], *, target: float | None = None, floor: str = ""
) -> Figure:
    """A figure of single waits in seconds, by round; `target` is for the 99 % quantile. p50, p99 and the value are
    medians over the rounds; the longest wait of all stands in the detail."""
    each_p99 = tuple(quantile(waits, 0.99) for waits in rounds)
    detail = {"samples": sum(map(len, rounds)), "longest": max(map(max, rounds))}
    middle = statistics.median(quantile(waits, 0.5) for waits in rounds)
    return Figure(
        name, what, SECONDS, each_p99, target, floor=floor, p50=middle, p99=statistics.median(each_p99), detail=detail
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; ValueError for none."""
    if not values:
        raise ValueError("nothing was measured")
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
