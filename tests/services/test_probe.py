"""A look that changes nothing: what is an error, what a warning, and what nobody can say."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from algo.models import Account, OutboxEvent
from algo.services.probe import Patient, account_probe
from providers.errors import AuthFailed, RateLimited, Unavailable
from providers.types import Balance, Capabilities, KeyDetails, ProtectionMode
from tests.factories import NOW, make_account
from tests.risk.worlds import rules_of

pytestmark = pytest.mark.django_db
CLOCK: Any = SimpleNamespace(now=lambda: NOW)
FREE = frozenset({"read", "trade"})
DAY = timedelta(days=1)


class Venue:
    name = "wallex"

    def __init__(
        self,
        scopes: frozenset[str] | None = FREE,
        expires_at: Any = NOW + 60 * DAY,
        clock: float | None = 0.4,
        **failures: Exception,
    ) -> None:
        self.key = KeyDetails(scopes, expires_at)
        self.clock_difference = None if clock is None else timedelta(seconds=clock)
        self.failures, self.asked = failures, []

    def _answer(self, name: str, value: Any) -> Any:
        self.asked.append(name)
        if name in self.failures:
            raise self.failures[name]
        return value

    def key_details(self) -> KeyDetails:
        return self._answer("key_details", self.key)

    def balances(self) -> dict[str, Balance]:
        return self._answer("balances", {"USDT": Balance("USDT", Decimal(5), Decimal(1))})

    def markets(self) -> Any:
        return self._answer("markets", [rules_of(), rules_of(symbol="ETHUSDT"), rules_of(taker_fee_rate=Decimal(0))])

    def capabilities(self) -> Capabilities:
        return Capabilities(stop_market=True)


def look(venue: Venue, **fields: Any) -> Any:
    fields = {"capabilities_probed_at": NOW, **fields}
    return account_probe(make_account(**fields), venue, clock=CLOCK)  # type: ignore[arg-type]


def test_nothing_is_wrong_with_a_good_account():
    found = look(Venue())
    assert (found.errors, found.warnings) == ((), ())
    assert found.unknown == ("whether a stop that is reached triggers: no probe can show that",)
    assert found.capabilities.protection_mode is ProtectionMode.LOCKING_STOPS
    assert [(fee.quote, fee.taker, fee.markets) for fee in found.fees] == [
        ("USDT", Decimal("0.003"), 2),
        ("USDT", Decimal(0), 1),
    ]
    account = Account.objects.get()
    assert account.key_expires_at == NOW + 60 * DAY
    assert account.balances == {"USDT": ["5", "1"]}


@pytest.mark.parametrize(
    ("seconds", "kind", "says"),
    [
        (5, "", ""),
        (-5, "", ""),
        (6, "warnings", "6 s behind the exchange's"),
        (-25, "warnings", "25 s ahead of the exchange's"),
        (26, "errors", "26 s behind the exchange's. Nobitex refuses API keys beyond 30 s"),
        (-40, "errors", "40 s ahead of the exchange's"),
    ],
)
def test_clocks_apart(seconds, kind, says):
    found = look(Venue(clock=seconds))
    assert {name: len(getattr(found, name)) for name in ("warnings", "errors")} == {
        "warnings": int(kind == "warnings"),
        "errors": int(kind == "errors"),
    }
    assert not kind or says in getattr(found, kind)[0]


def test_a_key_that_may_not_trade_is_an_error_and_one_that_may_withdraw_a_warning():
    assert "may not trade" in look(Venue(scopes=frozenset({"read"}))).errors[0]
    assert "may withdraw" in look(Venue(scopes=FREE | {"withdraw"})).warnings[0]  # on paper


@pytest.mark.parametrize(
    ("left", "kind", "says"),
    [
        (15 * DAY, "", ""),
        (13 * DAY, "warnings", "no new positions in its last day"),
        (DAY / 2, "warnings", "opens no new positions any more"),
        (-DAY, "errors", "expired on"),
    ],
)
def test_a_key_near_its_end(left, kind, says):
    found = look(Venue(expires_at=NOW + left))
    assert bool(found.errors) == (kind == "errors")
    assert bool(found.warnings) == (kind == "warnings")
    assert not kind or says in getattr(found, kind)[0]


def test_what_nobody_can_say_is_listed():
    found = look(Venue(scopes=None, expires_at=None, clock=None), capabilities={}, capabilities_probed_at=None)
    assert [sentence.split()[0] for sentence in found.unknown] == ["what", "when", "how", "whether"]


@pytest.mark.parametrize("call", ["key_details", "balances", "markets"])
def test_a_refused_key_stops_the_account_and_ends_the_look(call):
    venue = Venue(**{call: AuthFailed("HTTP 401")})
    with pytest.raises(AuthFailed):
        look(venue)
    assert venue.asked[-1] == call
    assert Account.objects.get().state == "stopped"
    assert OutboxEvent.objects.get().kind == "account.stopped"


def test_a_probe_waits_for_its_turn_and_not_for_ever():
    busy: list[RateLimited] = [RateLimited("later", retry_after=7), RateLimited("later", retry_after=8)]
    waits: list[float] = []

    def ask() -> str:
        if busy:
            raise busy.pop(0)
        return "answer"

    patient = Patient(SimpleNamespace(ask=ask, name="wallex"), waits.append)  # type: ignore[arg-type]
    assert (patient.name, patient.ask(), waits) == ("wallex", "answer", [7, 8])
    busy[:] = [RateLimited("blocked", retry_after=600)]
    with pytest.raises(RateLimited):
        patient.ask()
    busy[:] = [RateLimited("later", retry_after=1) for _ in range(9)]
    with pytest.raises(RateLimited):
        patient.ask()
    assert len(waits) == 2 + 5


def test_an_exchange_that_is_away_stops_nothing():
    with pytest.raises(Unavailable):
        look(Venue(balances=Unavailable("no answer")))
    assert Account.objects.get().state == "active"
