"""What happens when: the same seed gives the same actions, to the millisecond. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

WARM_UP_SECONDS = 8.0  # deals are open before anything goes wrong
TAIL_SECONDS = 4.0  # the last actions still meet a platform that trades
MINUTE = 60.0

WORKERS = ("worker-orders", "worker")
GUARDIANS = ("guardian", "guardian-2")
STREAMS = ("stream_nobitex", "stream_wallex")
KILLED = (*WORKERS, "beat", *GUARDIANS, *STREAMS)
VENUES = ("wallex", "nobitex")
PAIRS = ("BTC/USDT", "ETH/USDT", "DOGE/USDT", "SOL/USDT")  # few: candles are read once for all who trade one
ORDERS = {"wallex": "/v1/account/orders*", "nobitex": "/market/orders/*"}


@dataclass(frozen=True, slots=True)
class Action:
    """One thing done to the platform at `at` seconds. `seconds`: how long it lasts, or until a killed process starts
    again. `details`: the rule of a fault."""

    at: float
    kind: str
    target: str
    seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        more = " ".join(f"{name}={value}" for name, value in self.details.items())
        return f"{self.at:7.3f}  {self.kind:<18} {self.target:<15} {self.seconds:5.2f} s  {more}".rstrip()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of wall time (unix seconds) during which something was wrong."""

    begin: float
    end: float
    what: str
    venue: str = "*"


# --- faults of the exchange ------------------------------------------------------------------------------------------

Params = Callable[[random.Random], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of trouble. `of_orders`: only calls about orders; `params` may hold `…_wall`: wall seconds, told to the
    exchange in its own time; `times`: at most so often; `lasts`: between so many seconds."""

    kind: str
    params: Params = lambda rng: {}
    of_orders: bool = False
    probability: float = 1.0
    times: int | None = None
    lasts: tuple[float, float] = (2, 5)
    pairs: tuple[str, ...] = ()  # for what happens to a pair, at both exchanges


RARE = (8, 16)  # what waits for an order at a certain moment waits longer

FAULTS = (
    Fault("drop_before", lambda rng: {"reset": rng.random() < 0.5}, of_orders=True, probability=0.5),
    Fault("drop_after", lambda rng: {"reset": rng.random() < 0.5}, of_orders=True, probability=0.5),
    Fault("delay", lambda rng: {"seconds": _between(rng, 1, 7), "when": _when(rng)}, probability=0.4),
    Fault("http_error", lambda rng: {"status": rng.choice([500, 502, 504]), "when": _when(rng)}, probability=0.5),
    Fault("malformed_json", lambda rng: {"how": rng.choice(["truncated", "garbage"])}, probability=0.4),
    Fault("wrong_types", probability=0.3),
    Fault("success_false_200", lambda rng: {"when": _when(rng)}, probability=0.3),
    Fault("rate_limited", lambda rng: {"seconds": _between(rng, 1, 2.5)}, probability=0.3, times=3),
    Fault("maintenance", lambda rng: {"seconds_wall": _between(rng, 2, 4)}),
    Fault("slow_trickle", lambda rng: {"bytes_per_second": 200}, of_orders=True, probability=0.4),
    Fault("duplicate_fill", probability=0.5),
    Fault("read_lag", lambda rng: {"seconds_wall": _between(rng, 0.5, 3)}, lasts=(4, 8)),
    Fault("reject_after_accept", lambda rng: {"seconds_wall": _between(rng, 0, 1)}, lasts=RARE),
    Fault("accept_delayed", lambda rng: {"seconds_wall": _between(rng, 0.5, 3)}, lasts=RARE),
    Fault("partial_then_cancel", lambda rng: {"fraction": rng.choice([0, 0.3, 0.7])}, lasts=RARE),
    Fault("cancel_loses_to_fill", lambda rng: {"fraction": rng.choice([0.4, 1])}, lasts=RARE),
    Fault("stop_never_triggers", lasts=RARE),
    Fault("triggered_stop_band_cancel", lambda rng: {"fraction": rng.choice([0, 0.5])}, lasts=RARE),
    Fault("stale_book", lambda rng: {"seconds_wall": _between(rng, 2, 5)}),
    Fault("empty_book", lambda rng: {"seconds_wall": _between(rng, 1, 3)}),
    Fault("crossed_book", lambda rng: {"seconds_wall": _between(rng, 1, 3)}),
    Fault("price_gap", lambda rng: {"factor": rng.choice([0.985, 0.993, 1.007, 1.015])}, times=1, pairs=PAIRS),
    Fault("stream_silent", lambda rng: {"seconds": _between(rng, 2, 6)}),
    Fault("stream_disconnect", probability=0.3),
    Fault("stream_duplicate", probability=0.5),
    Fault("stream_out_of_order", probability=0.5),
    Fault("stream_gap", probability=0.5),
)


def _between(rng: random.Random, low: float, high: float) -> float:
    return round(rng.uniform(low, high), 2)


def _when(rng: random.Random) -> str:
    return rng.choice(["before", "after"])


def _trouble(fault: Fault, rng: random.Random) -> Action:
    rule = _rule(fault, rng)
    return Action(0, "fault", rule["venue"], _between(rng, *fault.lasts), rule)


def _rule(fault: Fault, rng: random.Random) -> dict[str, Any]:
    venue = "*" if fault.pairs else rng.choice(VENUES)
    rule: dict[str, Any] = {"kind": fault.kind, "venue": venue, "params": fault.params(rng)}
    if fault.of_orders:
        rule |= {"method": "POST", "path": ORDERS[venue]}
    if fault.pairs:
        rule["path"] = rng.choice(fault.pairs)
    if fault.probability < 1:
        rule |= {"probability": fault.probability, "seed": rng.randrange(1 << 30)}
    return rule | ({"times": fault.times} if fault.times else {})


# --- the deck --------------------------------------------------------------------------------------------------------


def _deck(rng: random.Random, minute: int, faults: list[Fault]) -> list[Action]:
    """One minute's actions, without their moments."""
    killed = [Action(0, "kill", name, _between(rng, 0.5, 3)) for name in KILLED]
    stopped = [Action(0, "stop", name, _between(rng, 3, 20)) for name in _stopped(rng)]
    servers = [
        Action(0, ("postgres_immediate", "postgres_fast")[minute % 2], "postgres"),
        Action(0, "valkey_restart", "valkey", _between(rng, 0.5, 3)),
        Action(0, rng.choice(["valkey_flush", "valkey_lose_files"]), "valkey", _between(rng, 0.5, 3)),
    ]
    if minute % 2 == 0:
        servers.append(Action(0, "exchange_kill", "paper", _between(rng, 0.5, 2)))
    kinds = [faults[(minute * PER_MINUTE + each) % len(faults)] for each in range(PER_MINUTE)]
    trouble = [_trouble(fault, rng) for fault in kinds]
    deck = [*killed, *stopped, *servers, *trouble]
    rng.shuffle(deck)
    return deck


PER_MINUTE = 14  # faults: all kinds in two minutes


def _stopped(rng: random.Random) -> list[str]:
    return [rng.choice(GUARDIANS), rng.choice(WORKERS), rng.choice([*STREAMS, "beat"])]


def make_plan(seed: int, minutes: float) -> list[Action]:
    """All actions in the order of time. Every minute holds one of nearly everything; each has a slot of its own, and
    comes at a random moment of it."""
    rng = random.Random(seed)
    faults = list(FAULTS)
    rng.shuffle(faults)
    plan: list[Action] = []
    end = minutes * MINUTE - TAIL_SECONDS
    for minute in range(int(-(-minutes // 1))):
        begin = max(minute * MINUTE, WARM_UP_SECONDS)
        length = min((minute + 1) * MINUTE, end) - begin
        deck = _deck(rng, minute, faults)
        slot = length / len(deck)
        for number, action in enumerate(deck):
            at = round(begin + slot * (number + rng.random()), 3)
            plan.append(Action(at, action.kind, action.target, action.seconds, action.details))
    return sorted(plan, key=lambda action: action.at)
