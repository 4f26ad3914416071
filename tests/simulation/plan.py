"""What goes wrong in one world, and when: everything that chance decides about faults, drawn from the seed at once.

A plan is data, so that a failing world can be replayed with a part of it: the shrinker drops events until no more can
be dropped. Chance that is left (latencies, prices) comes from streams of its own, which do not change with the plan.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from providers.paper.faults import KINDS, FaultKind

FAULTY = 110.0  # seconds during which things go wrong
CALM = 90.0  # seconds after that in which everything has to come right
STEPS = 900  # crash points are drawn from the first so many passes

# Which moments of a request a wire fault may hit, and how it is drawn. Streams are faults of the world's own stream.
_WIRE = (
    FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER, FaultKind.DELAY, FaultKind.HTTP_ERROR, FaultKind.MALFORMED_JSON,
    FaultKind.WRONG_TYPES, FaultKind.SUCCESS_FALSE_200, FaultKind.RATE_LIMITED, FaultKind.MAINTENANCE,
    FaultKind.DUPLICATE_FILL, FaultKind.CLOCK_SKEW, FaultKind.SLOW_TRICKLE,
)  # fmt: skip
_VENUE = (
    FaultKind.READ_LAG, FaultKind.REJECT_AFTER_ACCEPT, FaultKind.ACCEPT_DELAYED, FaultKind.PARTIAL_THEN_CANCEL,
    FaultKind.CANCEL_LOSES_TO_FILL, FaultKind.STOP_NEVER_TRIGGERS, FaultKind.TRIGGERED_STOP_BAND_CANCEL,
    FaultKind.STALE_BOOK, FaultKind.EMPTY_BOOK, FaultKind.CROSSED_BOOK,
)  # fmt: skip
_STREAM = tuple(kind for kind in FaultKind if KINDS[kind].moments == ("WS",))
_OWN = (
    "outage", "late", "lost_request", "database_down", "database_blip", "kill", "stall", "crash_point", "stall_point",
    "duplicate_task", "lost_task", "skew", "gap", "kill_switch", "config_edit", "stop_canceled_by_hand",
    "order_by_hand",
)  # fmt: skip
ALL_KINDS = (*(kind.value for kind in FaultKind), *_OWN)
ACTS = ("act_by_hand",)  # no faults: what people do on the pages of the platform
PROFILES = ("calm", "wire", "late", "kills", "stalls", "switch", "gaps", "everything", "everything", "everything")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at `at` (seconds) and lasts for `seconds`. For crash points `at` is the number of the
    pass."""

    kind: str
    at: float
    seconds: float = 0.0
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = " ".join(f"{name}={value}" for name, value in self.params.items())
        return f"{self.at:g} {self.kind} for {self.seconds:.1f} {told}".rstrip()


@dataclass(frozen=True, slots=True)
class Setting:
    """What kind of world it is: the dimensions in which real exchanges differ, and our own."""

    seed: int
    profile: str
    venue: str
    switches: Mapping[str, Any]
    mode: str  # oco, free, locking, none
    stop_limit_only: bool
    side: str
    trailing: bool
    accounts: int
    configs: int
    volatility: float
    bar_every: float
    stop_percent: str
    target_percent: str


@dataclass(frozen=True, slots=True)
class Plan:
    setting: Setting
    events: tuple[Event, ...]

    def keeping(self, events: tuple[Event, ...]) -> Plan:
        return replace(self, events=events)


def plan_of(seed: int) -> Plan:
    dice = random.Random(f"plan {seed}")
    setting = _setting(seed, dice)
    events = sorted([*_events(setting, dice), *_acts(seed)], key=lambda event: (event.at, event.kind))
    return Plan(setting, tuple(events))


def _acts(seed: int) -> list[Event]:
    """What a person does on the pages of the platform, in every third world; of dice of its own, so that the rest of a
    plan is the same with it and without."""
    dice = random.Random(f"hands {seed}")
    if dice.random() > 0.34:
        return []
    return [
        Event("act_by_hand", _seconds(dice, 8.0, FAULTY - 10.0), 0.0, _OWN_DRAWS["act_by_hand"](dice)[1])
        for _ in range(dice.choice((1, 2, 4)))
    ]


def _setting(seed: int, dice: random.Random) -> Setting:
    venue = dice.choice(("wallex", "nobitex"))
    modes = ("locking", "locking", "free", "none") if venue == "wallex" else ("oco", "oco", "locking", "free", "none")
    mode = dice.choice(modes)
    switches: dict[str, Any] = {"stops_lock": mode in ("locking", "oco")}
    if venue == "nobitex":
        switches["client_id_finds_closed"] = dice.random() < 0.4
    return Setting(
        seed=seed,
        profile=PROFILES[seed % len(PROFILES)],
        venue=venue,
        switches=switches,
        mode=mode,
        stop_limit_only=mode in ("locking", "free") and dice.random() < 0.25,
        side="SELL" if dice.random() < 0.25 else "BUY",
        trailing=dice.random() < 0.4,
        accounts=2 if dice.random() < 0.2 else 1,
        configs=dice.choice((1, 2, 2, 3)),
        volatility=dice.choice((0.0004, 0.0008, 0.0015, 0.003)),
        bar_every=dice.choice((8.0, 12.0, 20.0)),
        stop_percent=dice.choice(("0.4", "0.8", "1.5")),
        target_percent=dice.choice(("0.5", "1.0", "2.0")),
    )


def _events(setting: Setting, dice: random.Random) -> list[Event]:
    """Swarm: each class of fault is there or not, so that rare pairs meet."""
    on = _classes(setting.profile, dice)
    events: list[Event] = []
    for kind in on:
        for _ in range(dice.choice((1, 1, 2, 3))):
            events.append(_event(kind, dice))
    if setting.mode == "free":
        # With a dead key nobody can take back the target once the stop has filled: said in docs/reliability.md.
        events = [event for event in events if event.kind != "key_revoked"]
    return events


def _classes(profile: str, dice: random.Random) -> list[str]:
    wire, venue, stream = ([kind.value for kind in kinds] for kinds in (_WIRE, _VENUE, _STREAM))
    groups: dict[str, list[str]] = {
        "calm": [],
        "wire": [*wire, "outage", *stream],
        "late": ["late", "late", "lost_request", "read_lag", "accept_delayed", "drop_after"],
        "kills": ["kill", "kill", "crash_point", "crash_point", "crash_point", "database_blip", "duplicate_task"],
        "stalls": ["stall", "stall", "stall_point", "stall_point", "database_down", "skew", "delay"],
        "switch": ["kill_switch", "kill_switch", "config_edit", "drop_after", "late", "crash_point"],
        "gaps": ["gap", "gap", *venue, "price_gap", "stop_canceled_by_hand", "order_by_hand"],
        "everything": [*wire, *venue, *stream, "price_gap", *_OWN, "key_revoked"],
    }
    pool = groups[profile]
    share = dice.choice((0.15, 0.3, 0.5)) if profile == "everything" else dice.choice((0.5, 1.0))
    return [kind for kind in pool if dice.random() < share]


def _event(kind: str, dice: random.Random) -> Event:
    at = round(dice.uniform(4.0, FAULTY - 10.0), 3)
    if kind in ("crash_point", "stall_point", "database_blip"):
        seconds = round(dice.uniform(2.5, 40.0), 3) if kind == "stall_point" else 0.0
        return Event(kind, dice.randrange(20, STEPS), seconds, {"after": dice.random() < 0.5})
    if kind in _OWN_DRAWS:
        seconds, params = _OWN_DRAWS[kind](dice)
        return Event(kind, at, seconds, params)
    return Event(kind, at, *_rule(FaultKind(kind), dice))


def _seconds(dice: random.Random, least: float, most: float) -> float:
    return round(dice.uniform(least, most), 3)


def _late(dice: random.Random) -> tuple[float, Mapping[str, Any]]:
    """Requests arrive while they are looked for, or long after they were given up; or orders alone do, about when a
    stop that was not found is sent again."""
    if dice.random() < 0.25:
        return _seconds(dice, 3, 25), {"delay": _seconds(dice, 11, 15), "share": 0.7, "orders_alone": True}
    delay = _seconds(dice, 45, 95) if dice.random() < 0.4 else _seconds(dice, 5.5, 25)
    return _seconds(dice, 3, 25), {"delay": delay, "share": 0.7, "orders_alone": False}


_OWN_DRAWS: Mapping[str, Any] = {
    "outage": lambda dice: (_seconds(dice, 3, 30), {"refused": dice.random() < 0.5}),
    "late": _late,
    "lost_request": lambda dice: (_seconds(dice, 3, 15), {"share": 0.6}),
    "database_down": lambda dice: (_seconds(dice, 1, 8), {}),
    "kill": lambda dice: (_seconds(dice, 0.3, 3), {"who": dice.choice(("guardian-1", "guardian-2", "any", "all"))}),
    "stall": lambda dice: (_seconds(dice, 2.5, 60), {"who": dice.choice(("guardian-1", "guardian-2", "any"))}),
    "duplicate_task": lambda dice: (_seconds(dice, 10, 60), {}),
    "lost_task": lambda dice: (_seconds(dice, 10, 60), {}),
    "skew": lambda dice: (_seconds(dice, 5, 40), {"by": dice.choice((-3600.0, -5.0, 5.0, 3600.0))}),
    "gap": lambda dice: (0.0, {"factor": dice.choice(("0.97", "0.985", "1.02", "1.035"))}),
    "kill_switch": lambda dice: (
        _seconds(dice, 5, 50),
        {"level": dice.choice(("no_entries", "cancel", "flatten", "flatten")),
         "scope": dice.choice(("global", "account", "config", "market"))},
    ),
    "config_edit": lambda dice: (0.0, {}),
    "stop_canceled_by_hand": lambda dice: (0.0, {}),
    "order_by_hand": lambda dice: (0.0, {}),
    "act_by_hand": lambda dice: (
        0.0,
        {"act": dice.choice(("close", "stop", "stop", "stop", "look", "cancel")),
         "percent": dice.choice(("0.1", "0.2", "0.4", "1", "2"))},
    ),
}  # fmt: skip


def _of(*choices: Any) -> Any:
    return lambda dice: dice.choice(choices)


def _between(least: float, most: float) -> Any:
    return lambda dice: _seconds(dice, least, most)


_JUMPS = _of("0.97", "0.985", "1.02", "1.035")
_CUTS = {"fraction": _of("0", "0.3", "0.7", "0.98")}
_WHEN = _of("before", "after")
_LAGS = {"seconds": _between(0.3, 6)}
_LOOKS = {"seconds": _between(1, 8)}

# How the parameters of a kind are drawn, in this order.
_PARAMS: Mapping[FaultKind, Mapping[str, Any]] = {
    FaultKind.DELAY: {"seconds": _between(0.5, 12), "when": _WHEN},
    FaultKind.HTTP_ERROR: {"status": _of(500, 502, 503, 504), "body": _of("html", "json"), "when": _WHEN},
    FaultKind.SUCCESS_FALSE_200: {"when": _of("before")},
    FaultKind.RATE_LIMITED: {"seconds": _of(*map(float, range(1, 9))), "told_in": _of("header", "body", "both")},
    FaultKind.MAINTENANCE: {"seconds": _between(3, 20)},
    FaultKind.CLOCK_SKEW: {"seconds": _of(-5.0, -1.5, 1.5, 5.0)},
    FaultKind.READ_LAG: _LAGS,
    FaultKind.ACCEPT_DELAYED: _LAGS,
    FaultKind.PARTIAL_THEN_CANCEL: _CUTS,
    FaultKind.CANCEL_LOSES_TO_FILL: _CUTS,
    FaultKind.TRIGGERED_STOP_BAND_CANCEL: _CUTS,
    FaultKind.STALE_BOOK: _LOOKS,
    FaultKind.CROSSED_BOOK: _LOOKS,
    FaultKind.EMPTY_BOOK: {"seconds": _between(1, 5), "side": _of("both", "bids", "asks")},
    FaultKind.PRICE_GAP: {"factor": _JUMPS},
    FaultKind.SLOW_TRICKLE: {"bytes_per_second": _of(20.0, 200.0)},
    FaultKind.STREAM_SILENT: {"seconds": _between(3, 30)},
}
_ONCE = (FaultKind.MAINTENANCE, FaultKind.PRICE_GAP, FaultKind.KEY_REVOKED)


def _rule(kind: FaultKind, dice: random.Random) -> tuple[float, Mapping[str, Any]]:
    """How long a rule of the paper exchange is in force, and the rule."""
    seconds = _seconds(dice, 2, 6) if kind is FaultKind.KEY_REVOKED else _seconds(dice, 5, 30)
    often = {"probability": dice.choice((0.15, 0.4, 0.8)), "seed": dice.randrange(10**6)}
    params = {name: draw(dice) for name, draw in _PARAMS.get(kind, {}).items()}
    return seconds, {"rule": {"nth": 1} if kind in _ONCE else often, "params": params}
