"""Many worlds: one after the other, on several processes, and what they add up to."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.simulation.plan import ALL_KINDS, Event, Plan, plan_of


@dataclass(slots=True)
class Result:
    """One world's end. Plain values: it travels between processes."""

    seed: int
    violations: list[str]
    trace: str  # the hash of everything that happened
    faults: dict[str, int]
    points: dict[str, int]
    transitions: dict[str, int]
    figures: dict[str, Any]
    calls: int
    seconds: float


def live(plan: Plan, books: Any, *, tell: Callable[[str], None] | None = None) -> Result:
    """One world from its first second to its last."""
    from tests.simulation.invariants import Invariants
    from tests.simulation.world import World

    began = time.perf_counter()
    world = World(plan, books, trace=tell)
    judge = Invariants(world)
    world.run()
    faults = world.faults.copy()
    for kind, count in world.exchange.faults.injected.items():
        faults[kind] = max(faults[kind], count)
    figures = {name: getattr(judge.figures, name) for name in judge.figures.__dataclass_fields__}
    figures.pop("transitions")
    return Result(
        plan.setting.seed, judge.violations, world.trace, dict(faults), dict(world.points),
        dict(judge.figures.transitions), figures, world.calls, time.perf_counter() - began,
    )  # fmt: skip


def live_seed(seed: int, ledger: str = "memory") -> Result:
    return live(plan_of(seed), new_books(ledger))


def new_books(ledger: str) -> Any:
    if ledger == "orm":
        from tests.simulation.books_orm import OrmBooks

        return OrmBooks()
    from tests.simulation.books import MemoryBooks

    return MemoryBooks()


@dataclass(slots=True)
class Total:
    """What many worlds add up to."""

    seeds: int = 0
    wall: float = 0.0
    calls: int = 0
    violations: dict[int, list[str]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    transitions: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    bare_raw: list[float] = field(default_factory=list)
    bare_calm: list[float] = field(default_factory=list)
    bare_reachable: list[float] = field(default_factory=list)
    traces: dict[int, str] = field(default_factory=dict)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.calls += result.calls
        if result.violations:
            self.violations[result.seed] = result.violations
        self.faults.update(result.faults)
        self.points.update(result.points)
        self.transitions.update(result.transitions)
        for name, value in result.figures.items():
            if isinstance(value, int):
                self.sums[name] += value
        self.bare_raw += result.figures["bare_raw"]
        self.bare_calm += result.figures["bare_calm"]
        self.bare_reachable += result.figures["bare_reachable"]
        self.traces[result.seed] = result.trace

    @property
    def trace(self) -> str:
        """One hash for all of them."""
        text = "".join(self.traces[seed] for seed in sorted(self.traces))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def never_seen(self) -> list[str]:
        """Changes that the tables allow and that no world made."""
        from algo.execution.lifecycle import DEAL_TRANSITIONS, ORDER_TRANSITIONS

        allowed = [f"order {old} → {new}" for old, ends in ORDER_TRANSITIONS.items() for new in ends]
        allowed += [f"deal {old} → {new}" for old, ends in DEAL_TRANSITIONS.items() for new in ends]
        return sorted(each for each in allowed if not self.transitions[each])

    @property
    def never_injected(self) -> list[str]:
        return [kind for kind in ALL_KINDS if not self.faults[kind]]


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else 0.0


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """The plan with as few events as still fail: halves first, then smaller and smaller parts."""
    events: tuple[Event, ...] = plan.events
    size = max(len(events) // 2, 1)
    while events:
        kept = _without_a_part(plan, events, size, fails)
        if kept is not None:
            events = kept
            continue
        if size == 1:
            break
        size = max(size // 2, 1)
    return plan.keeping(events)


def _without_a_part(
    plan: Plan, events: tuple[Event, ...], size: int, fails: Callable[[Plan], bool]
) -> tuple[Event, ...] | None:
    for start in range(0, len(events), size):
        fewer = events[:start] + events[start + size :]
        if fails(plan.keeping(fewer)):
            return fewer
    return None


def chunks(seeds: Iterable[int], size: int) -> Iterable[list[int]]:
    part: list[int] = []
    for seed in seeds:
        part.append(seed)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
