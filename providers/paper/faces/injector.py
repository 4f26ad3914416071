"""What goes wrong with requests, without waiting for anything and without a wire: whoever carries the requests does
that, on the wall (seam.py) or in virtual time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import lru_cache

from providers.paper.engine import Exchange
from providers.paper.faces import wire_faults as wire
from providers.paper.faces.wire_faults import Answer
from providers.paper.faults import Fault, FaultKind


@dataclass(slots=True)
class Call:
    """One request on its way."""

    venue: str
    method: str
    path: str
    account: str | None
    faults: list[Fault]
    in_maintenance: bool
    skew: float = 0.0
    hit_by: list[int] = field(default_factory=list)

    @property
    def is_untouched(self) -> bool:
        return not self.faults and not self.in_maintenance

    @property
    def bytes_per_second(self) -> float | None:
        """How slowly the body of the answer dribbles; None: all at once."""
        slow = next((fault for fault in self.faults if fault.kind is FaultKind.SLOW_TRICKLE), None)
        return None if slow is None else float(slow.params["bytes_per_second"])


@dataclass(frozen=True, slots=True)
class Step:
    """What comes next, in `delay` seconds: the connection drops, or there is this answer, or (neither) the exchange
    is asked."""

    delay: float = 0.0
    drop: Fault | None = None
    answer: Answer | None = None


class FaultInjector:
    """Faults are decided by the exchange's plan; `wall` dates the answers."""

    def __init__(self, exchange: Exchange, *, wall: Callable[[], float] = time.time) -> None:
        self._exchange = exchange
        self._wall = wall
        self._maintenance: dict[str, tuple[Fault, datetime]] = {}

    def arrived(self, venue: str, method: str, path: str, headers: Mapping[str, str]) -> Call:
        """A request to `path` below the venue's address; every call counts in the plan."""
        account = self._account(venue, headers)
        faults = self._exchange.faults.decide(venue, method, path, account)
        call = Call(venue, method, path, account, faults, False, hit_by=[fault.rule_id for fault in faults])
        call.in_maintenance = self._is_closed_for(call)
        return call

    def _account(self, venue: str, headers: Mapping[str, str]) -> str | None:
        """Whose key the request carries, whether it is still good or not."""
        exchange = self._exchange
        if venue == "wallex":
            account = exchange.account_for_wallex(headers.get("x-api-key", ""))
        else:
            account = exchange.account_for_nobitex(headers.get("authorization", "").removeprefix("Token "))
        key = exchange.keys.get("nobitex", headers.get("nobitex-key", "")) if venue == "nobitex" else None
        return key.account if key is not None else account.name if account is not None else None

    def _is_closed_for(self, call: Call) -> bool:
        """Whether the exchange is in maintenance; begins one where the plan says so."""
        for fault in call.faults:
            if fault.kind is FaultKind.MAINTENANCE:
                until = self._exchange.clock.now() + timedelta(seconds=fault.params["seconds"])
                self._maintenance[call.venue] = fault, until
        if call.venue not in self._maintenance:
            return False
        running, until = self._maintenance[call.venue]
        if self._exchange.clock.now() >= until or not self._exchange.faults.has(running.rule_id):
            del self._maintenance[call.venue]
            return False
        if running not in call.faults:
            call.hit_by.insert(0, running.rule_id)
        return True

    def before(self, call: Call) -> Step:
        """What happens before the exchange is asked, if it is."""
        if call.in_maintenance:
            return Step(answer=wire.page(503, "503 under maintenance"))
        delay = 0.0
        for fault in call.faults:
            if fault.kind is FaultKind.DROP_BEFORE:
                return Step(delay, drop=fault)
            delay += _delay(fault, "before")
            answer = _instead(call, fault, "before")
            if answer is not None:
                return Step(delay, answer=answer)
        return Step(delay)

    def after(self, call: Call, answer: Answer) -> Step:
        """What becomes of an answer, whoever gave it."""
        delay = 0.0
        for fault in call.faults:
            if fault.kind is FaultKind.DROP_AFTER:
                return Step(delay, drop=fault)
            delay += _delay(fault, "after")
            if fault.kind is FaultKind.CLOCK_SKEW:
                call.skew += fault.params["seconds"]
            answer = _instead(call, fault, "after") or wire.distorted(fault, answer)
        return Step(delay, answer=answer)

    def date(self, call: Call) -> str:
        """The Date header: the wall clock's time, or what a skewed clock says."""
        return _date(int(self._wall() + call.skew))


@lru_cache(maxsize=16)  # many answers leave in one second
def _date(second: int) -> str:
    return format_datetime(datetime.fromtimestamp(second, UTC), usegmt=True)


def _delay(fault: Fault, when: str) -> float:
    return float(fault.params["seconds"]) if fault.kind is FaultKind.DELAY and fault.params["when"] == when else 0.0


def _instead(call: Call, fault: Fault, when: str) -> Answer | None:
    """The answer a fault gives instead of the exchange, if it does so at this time."""
    if fault.params.get("when", "before") != when:
        return None
    match fault.kind:
        case FaultKind.HTTP_ERROR:
            return wire.error(call.venue, fault)
        case FaultKind.SUCCESS_FALSE_200:
            return wire.refused(call.venue, fault)
        case FaultKind.RATE_LIMITED:
            return wire.rate_limited(call.venue, fault)
        case FaultKind.KEY_REVOKED:
            return wire.revoked(call.venue)
    return None
