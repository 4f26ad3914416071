"""Which fault happens when: rules, decided in order, by count or by a seeded coin. Pure: no clock, no wire, no market.

A rule waits for questions of one kind of moment. Requests over HTTP are asked about with their method and path, frames
of a stream with `WS` and their channel; moments inside the exchange have the names of `MOMENTS`. The same rules and the
same sequence of questions give the same faults, in any process. What a fault then does is done elsewhere: on the wire
in `faces/seam.py`, in the market in `market_faults.py`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

VENUES = ("wallex", "nobitex")
HTTP_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


class FaultKind(StrEnum):
    """Everything that can be made to go wrong."""

    DROP_BEFORE = "drop_before"
    DROP_AFTER = "drop_after"
    DELAY = "delay"
    HTTP_ERROR = "http_error"
    MALFORMED_JSON = "malformed_json"
    WRONG_TYPES = "wrong_types"
    SUCCESS_FALSE_200 = "success_false_200"
    RATE_LIMITED = "rate_limited"
    MAINTENANCE = "maintenance"
    KEY_REVOKED = "key_revoked"
    DUPLICATE_FILL = "duplicate_fill"
    CLOCK_SKEW = "clock_skew"
    SLOW_TRICKLE = "slow_trickle"

    READ_LAG = "read_lag"
    REJECT_AFTER_ACCEPT = "reject_after_accept"
    ACCEPT_DELAYED = "accept_delayed"
    PARTIAL_THEN_CANCEL = "partial_then_cancel"
    CANCEL_LOSES_TO_FILL = "cancel_loses_to_fill"
    STOP_NEVER_TRIGGERS = "stop_never_triggers"
    TRIGGERED_STOP_BAND_CANCEL = "triggered_stop_band_cancel"
    STALE_BOOK = "stale_book"
    EMPTY_BOOK = "empty_book"
    CROSSED_BOOK = "crossed_book"
    PRICE_GAP = "price_gap"

    STREAM_SILENT = "stream_silent"
    STREAM_DISCONNECT = "stream_disconnect"
    STREAM_DUPLICATE = "stream_duplicate"
    STREAM_OUT_OF_ORDER = "stream_out_of_order"
    STREAM_GAP = "stream_gap"
    STREAM_NO_PING = "stream_no_ping"


# Moments inside the exchange, and what the path is there.
_ORDER_PATH = "PAIR/SIDE/TYPE, as BTC/USDT/SELL/STOP_MARKET"
MOMENTS = {
    "SUBMIT": f"an order passed all checks ({_ORDER_PATH})",
    "MATCH": f"a MARKET or LIMIT order is about to be matched on arrival ({_ORDER_PATH})",
    "CANCEL": f"a cancel of a working order arrived ({_ORDER_PATH})",
    "TRIGGER": f"the price reached a stop for the first time ({_ORDER_PATH})",
    "TRIGGERED": f"a STOP_MARKET triggered and is about to be matched ({_ORDER_PATH})",
    "BOOK": "somebody looks at a book (PAIR, as BTC/USDT)",
    "MARKET": "time moved on (PAIR, as BTC/USDT)",
    "WS": "a frame is about to be sent (the channel)",
}


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a kind: its default (None: off), how a value is read, and what it means."""

    default: Any
    read: Callable[[Any], Any]
    meaning: str


@dataclass(frozen=True, slots=True)
class Spec:
    """What a kind does, when its rules are asked, and what can be set."""

    does: str
    moments: tuple[str, ...]
    params: Mapping[str, Param] = field(default_factory=dict)
    once: bool = False  # a rule that says neither when nor how often happens once
    needs_key: bool = False  # asked only of requests that carry a key


def _seconds(value: Any) -> float:
    number = _number(value)
    if not 0 <= number <= 86_400:
        raise ValueError("must be between 0 and 86400 seconds")
    return float(number)


def _signed_seconds(value: Any) -> float:
    number = _number(value)
    if abs(number) > 86_400:
        raise ValueError("must be between -86400 and 86400 seconds")
    return float(number)


def _fraction(value: Any) -> Decimal:
    number = _number(value)
    if not 0 <= number <= 1:
        raise ValueError("must be between 0 and 1")
    return number


def _factor(value: Any) -> Decimal:
    number = _number(value)
    if not Decimal("0.01") <= number <= 100 or number == 1:
        raise ValueError("must be between 0.01 and 100, and not 1")
    return number


def _rate(value: Any) -> float:
    number = _number(value)
    if not 0 < number <= 1_000_000:
        raise ValueError("must be above 0 and at most 1000000 bytes per second")
    return float(number)


def _number(value: Any) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        number = Decimal("NaN")
    if isinstance(value, bool) or not number.is_finite():
        raise ValueError("must be a number")
    return number


def _status(value: Any) -> int:
    number = _number(value)
    if number != int(number) or not 400 <= number <= 599:
        raise ValueError("must be a status from 400 to 599")
    return int(number)


def _flag(value: Any) -> bool:
    if str(value).lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return str(value).lower() == "true"


def _choice(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 64:
        raise ValueError("must be a text of 1 to 64 characters")
    return value


_WHEN = Param("before", _choice("before", "after"), "`before` or `after` the exchange acted on the request")
_AFTER = Param("after", _WHEN.read, _WHEN.meaning)
_RESET = Param(False, _flag, "true: the connection is reset (RST) instead of closed (FIN)")
_CUT = Param(Decimal("0.5"), _fraction, "how much of the order is filled, 0 to 1, rounded down to the step")

KINDS: Mapping[FaultKind, Spec] = {
    FaultKind.DROP_BEFORE: Spec("the connection closes without an answer; nothing was done", HTTP_METHODS,
                                {"reset": _RESET}),
    FaultKind.DROP_AFTER: Spec("it is done, then the connection closes without an answer", HTTP_METHODS,
                               {"reset": _RESET}),
    FaultKind.DELAY: Spec("the request, or its answer, is held back", HTTP_METHODS,
                          {"seconds": Param(10.0, _seconds, "of wall time"), "when": _WHEN}),
    FaultKind.HTTP_ERROR: Spec("an error status in the exchange's JSON, or as a gateway's HTML page", HTTP_METHODS,
                               {"status": Param(502, _status, "400 to 599"),
                                "body": Param("html", _choice("html", "json"), "`html` or `json`"),
                                "when": _WHEN}),
    FaultKind.MALFORMED_JSON: Spec("it is done; the answer is not JSON", HTTP_METHODS,
                                   {"how": Param("truncated", _choice("truncated", "garbage"),
                                                 "`truncated` in the middle, or `garbage`")}),
    FaultKind.WRONG_TYPES: Spec("it is done; in the answer numbers become objects, strings lists, booleans strings",
                                HTTP_METHODS),
    FaultKind.SUCCESS_FALSE_200: Spec("status 200 that says the call failed", HTTP_METHODS,
                                      {"when": _WHEN,
                                       "code": Param("SimFault", _text, "the code told (Wallex: a number, or 9999)")}),
    FaultKind.RATE_LIMITED: Spec("429, nothing done", HTTP_METHODS,
                                 {"seconds": Param(5.0, _seconds, "the waiting time told"),
                                  "told_in": Param("both", _choice("header", "body", "both", "nowhere"),
                                                   "where it is told: `header` (Retry-After, X-RateLimit-*), `body`"
                                                   " (backOff), `both` or `nowhere`")}),
    FaultKind.MAINTENANCE: Spec("503 as an HTML page for every request to the exchange, from this one on", HTTP_METHODS,
                                {"seconds": Param(60.0, _seconds, "of the exchange's clock")}, once=True),
    FaultKind.KEY_REVOKED: Spec("401 to requests that carry a key", HTTP_METHODS, needs_key=True),
    FaultKind.DUPLICATE_FILL: Spec("the first fill of every list of fills in the answer stands there twice",
                                   HTTP_METHODS),
    FaultKind.CLOCK_SKEW: Spec("the Date header and all times of orders, trades and books in the answer are shifted",
                               HTTP_METHODS, {"seconds": Param(30.0, _signed_seconds, "added; may be negative")}),
    FaultKind.SLOW_TRICKLE: Spec("it is done; the body of the answer dribbles", HTTP_METHODS,
                                 {"bytes_per_second": Param(20.0, _rate, "of wall time")}),
    FaultKind.READ_LAG: Spec("an accepted order, and its fills, are invisible to every list and look-up for a while",
                             ("SUBMIT",), {"seconds": Param(2.0, _seconds, "of the exchange's clock")}),
    FaultKind.REJECT_AFTER_ACCEPT: Spec("the order is accepted (status New), then cancelled with nothing filled",
                                        ("SUBMIT",), {"seconds": Param(0.5, _seconds, "of the exchange's clock")}),
    FaultKind.ACCEPT_DELAYED: Spec("the order stays New; it enters the market only later", ("SUBMIT",),
                                   {"seconds": Param(2.0, _seconds, "of the exchange's clock")}),
    FaultKind.PARTIAL_THEN_CANCEL: Spec("a MARKET or LIMIT order fills partly at once, the system cancels the rest",
                                        ("MATCH",), {"fraction": _CUT}),
    FaultKind.CANCEL_LOSES_TO_FILL: Spec("before the cancel arrives the order fills (a stop triggers); what is left is"
                                         " cancelled, or nothing is left to cancel", ("CANCEL",),
                                         {"fraction": Param(Decimal(1), _fraction, _CUT.meaning)}),
    FaultKind.STOP_NEVER_TRIGGERS: Spec("the stop stays where it is, whatever the price does, while the rule exists",
                                        ("TRIGGER",)),
    FaultKind.TRIGGERED_STOP_BAND_CANCEL: Spec("a triggered STOP_MARKET is cancelled by the market band, wholly or"
                                               " partly", ("TRIGGERED",),
                                               {"fraction": Param(Decimal(0), _fraction, _CUT.meaning)}),
    FaultKind.STALE_BOOK: Spec("the book that was last shown, with its old time; orders meet the real one", ("BOOK",),
                               {"seconds": Param(None, _seconds, "shown that long, of the exchange's clock; without it"
                                                 " only at this look")}),
    FaultKind.EMPTY_BOOK: Spec("no bids and no asks are shown", ("BOOK",),
                               {"seconds": Param(None, _seconds, "that long; without it only at this look"),
                                "side": Param("both", _choice("both", "bids", "asks"), "`bids`, `asks` or `both`"),
                                "matching": Param(False, _flag, "true: orders find nothing either (needs `seconds`)")}),
    FaultKind.CROSSED_BOOK: Spec("the best bid is shown above the best ask; orders meet the real book", ("BOOK",),
                                 {"seconds": Param(None, _seconds, "that long; without it only at this look")}),
    FaultKind.PRICE_GAP: Spec("the price jumps by a factor, on both exchanges, from the next second on", ("MARKET",),
                              {"factor": Param(Decimal("0.95"), _factor, "0.01 to 100")}, once=True),
    FaultKind.STREAM_SILENT: Spec("the frame is not sent; nor are the following ones for a while", ("WS",),
                                  {"seconds": Param(30.0, _seconds, "of wall time")}),
    FaultKind.STREAM_DISCONNECT: Spec("the connection closes instead of sending the frame", ("WS",)),
    FaultKind.STREAM_DUPLICATE: Spec("the frame is sent twice", ("WS",)),
    FaultKind.STREAM_OUT_OF_ORDER: Spec("the frame is sent after the next one of its channel", ("WS",)),
    FaultKind.STREAM_GAP: Spec("the frame is lost; the following ones come", ("WS",)),
    FaultKind.STREAM_NO_PING: Spec("the exchange stops sending pings on this connection", ("WS",)),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FaultRule:
    """When a fault happens.

    `venue`, `method` and `path` (globs, `*` crosses slashes) say which questions count; `account` narrows them to one
    trader. With `nth` the n-th of these is hit, and the following ones up to `times` in all (default 1). With
    `probability` each is hit by a coin of the rule's own `seed`. With neither, every one is. `times` is how often at
    most, None for ever.
    """

    kind: FaultKind
    venue: str = "*"
    method: str = "*"
    path: str = "*"
    account: str | None = None
    nth: int | None = None
    probability: float | None = None
    seed: int = 0
    times: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> FaultRule:
        """Raises `ValueError` for a field or a kind that does not exist."""
        known = set(cls.__dataclass_fields__)
        if unknown := set(row) - known:
            raise ValueError(
                f"a fault rule has no field {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}"
            )
        try:
            kind = FaultKind(str(row.get("kind")))
        except ValueError:
            raise ValueError(f"{row.get('kind')!r} is no kind of fault; known are {', '.join(FaultKind)}") from None
        return cls(**{**row, "kind": kind})

    def as_json(self) -> dict[str, Any]:
        row = {name: getattr(self, name) for name in self.__dataclass_fields__}
        params = {name: str(value) if isinstance(value, Decimal) else value for name, value in self.params.items()}
        probability = None if self.probability is None else float(self.probability)  # a Decimal when it came as JSON
        return {**row, "kind": self.kind.value, "probability": probability, "params": params}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault that happens now. `params` holds every parameter of its kind."""

    rule_id: int
    kind: FaultKind
    params: Mapping[str, Any]


@dataclass(slots=True)
class _Watched:
    """A rule with its counters and its coin."""

    rule: FaultRule
    coin: random.Random
    matched: int = 0
    injected: int = 0

    def decide(self) -> bool:
        """Count a question that matches; whether it is hit. The coin is thrown for each, spent or not."""
        self.matched += 1
        rule = self.rule
        hit = True
        if rule.probability is not None:
            hit = self.coin.random() < rule.probability
        elif rule.nth is not None:
            hit = self.matched >= rule.nth
        if not hit or (rule.times is not None and self.injected >= rule.times):
            return False
        self.injected += 1
        return True


class FaultPlan:
    """The rules in force. Ids grow and are never given twice."""

    def __init__(self) -> None:
        self._rules: dict[int, _Watched] = {}
        self._asked_at: dict[str, dict[int, _Watched]] = {}  # by moment, those that can be asked then
        self._next_id = 1
        self._injected: dict[FaultKind, int] = {}

    def add(self, rule: FaultRule) -> int:
        """Put a rule in force. Raises `ValueError`, with a sentence, for one that could never mean anything."""
        rule = _checked(rule)
        number, self._next_id = self._next_id, self._next_id + 1
        watched = self._rules[number] = _Watched(rule, random.Random(rule.seed))  # noqa: S311 - replayable on purpose
        for moment in KINDS[rule.kind].moments:
            if rule.method in ("*", moment):
                self._asked_at.setdefault(moment, {})[number] = watched
        return number

    def remove(self, rule_id: int) -> None:
        """Take a rule out of force, and whatever it still does with it. Raises `LookupError`."""
        if self._rules.pop(rule_id, None) is None:
            raise LookupError(f"there is no fault rule {rule_id}")
        for asked in self._asked_at.values():
            asked.pop(rule_id, None)

    def clear(self) -> None:
        """No faults any more; the counts by kind stay."""
        self._rules.clear()
        self._asked_at.clear()

    def has(self, rule_id: int) -> bool:
        """Whether the rule is in force: what a fault does for a while ends with its rule."""
        return rule_id in self._rules

    def rules(self) -> list[dict[str, Any]]:
        """Every rule in force with its id and its counters, oldest first; plain values."""
        return [
            {"id": number, **watched.rule.as_json(), "matched": watched.matched, "injected": watched.injected}
            for number, watched in self._rules.items()
        ]

    @property
    def injected(self) -> dict[str, int]:
        """How many faults of each kind happened since the start, also by rules that are gone."""
        return {kind.value: count for kind, count in sorted(self._injected.items())}

    def decide(self, venue: str, method: str, path: str, account: str | None = None) -> list[Fault]:
        """The faults of this moment, in the order their rules were added. Every call counts."""
        faults: list[Fault] = []
        if not self._rules:
            return faults
        for number, watched in self._asked_at.get(method, {}).items():
            if _matches(watched.rule, venue, path, account) and watched.decide():
                kind = watched.rule.kind
                self._injected[kind] = self._injected.get(kind, 0) + 1
                faults.append(Fault(number, kind, watched.rule.params))
        return faults


def _matches(rule: FaultRule, venue: str, path: str, account: str | None) -> bool:
    return (
        rule.venue in ("*", venue)
        and (rule.account is None or rule.account == account)
        and not (KINDS[rule.kind].needs_key and account is None)
        and (rule.path == "*" or fnmatchcase(path, rule.path))
    )


def _checked(rule: FaultRule) -> FaultRule:
    """The rule with every parameter of its kind, read and defaulted."""
    kind = FaultKind(rule.kind)
    spec = KINDS[kind]
    _check_scope(rule, spec)
    _check_frequency(rule)
    if not isinstance(rule.params, Mapping):
        raise ValueError("params must be an object")  # noqa: TRY004 - what a caller sent, not how we were called
    if unknown := set(rule.params) - set(spec.params):
        has = ", ".join(spec.params) or "none"
        raise ValueError(f"{rule.kind} has no parameter {', '.join(sorted(unknown))}; it has: {has}")
    params = {name: _read(kind, name, param, rule.params) for name, param in spec.params.items()}
    if params.get("matching") and params.get("seconds") is None:
        raise ValueError("empty_book: matching needs seconds, for orders do not come at the moment of a look")
    unsaid = rule.times is None and (rule.nth is not None or (spec.once and rule.probability is None))
    return FaultRule(
        kind, rule.venue, rule.method, rule.path, rule.account, rule.nth, rule.probability, rule.seed,
        1 if unsaid else rule.times, params,
    )  # fmt: skip


def _check_scope(rule: FaultRule, spec: Spec) -> None:
    if rule.venue not in ("*", *VENUES):
        raise ValueError(f"{rule.venue!r} is no exchange; write wallex, nobitex or * for both")
    if rule.kind is FaultKind.PRICE_GAP and rule.venue != "*":
        raise ValueError("price_gap moves the price both exchanges share: leave venue out")
    if rule.kind is FaultKind.PRICE_GAP and rule.path == "*":
        raise ValueError("price_gap needs the pair as its path, such as BTC/USDT")
    if rule.method != "*" and rule.method not in spec.moments:
        raise ValueError(
            f"{rule.kind} is decided at {', '.join(spec.moments)}, not at {rule.method!r}: leave method out"
        )
    if not isinstance(rule.path, str) or not rule.path:
        raise ValueError("path must be a glob such as /v1/account/orders* or BTC/USDT/SELL/*; * stands for all")
    if rule.account is not None and (not isinstance(rule.account, str) or not rule.account):
        raise ValueError("account must be the name of an account")
    if rule.account is not None and spec.moments in (("BOOK",), ("MARKET",)):
        raise ValueError(f"{rule.kind} happens to everybody: leave account out")


def _check_frequency(rule: FaultRule) -> None:
    if rule.nth is not None and rule.probability is not None:
        raise ValueError("a rule has nth or probability, not both")
    for name, least in (("nth", 1), ("times", 1), ("seed", None)):
        value = getattr(rule, name)
        if value is None and name != "seed":
            continue
        if not isinstance(value, int) or isinstance(value, bool) or (least is not None and value < least):
            raise ValueError(f"{name} must be a whole number" + (f" of at least {least}" if least else ""))
    chance = rule.probability
    if chance is not None and (
        isinstance(chance, bool) or not isinstance(chance, int | float | Decimal) or not 0 < chance <= 1
    ):
        raise ValueError("probability must be above 0 and at most 1")


def _read(kind: FaultKind, name: str, param: Param, given: Mapping[str, Any]) -> Any:
    if given.get(name) is None:
        return param.default
    try:
        return param.read(given[name])
    except ValueError as exc:
        raise ValueError(f"{kind}: {name} {exc}") from None
