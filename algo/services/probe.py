"""A look at an account without touching it: what the key may do and until when, what is there, how far off the clocks
are, and what the platform can therefore do for it. Nothing is ordered."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from algo.localised import digits, minute, zone_name
from algo.models import Account, Environment
from algo.services.accounts import (
    WITHDRAW,
    account_stop,
    balances_note,
    key_note_expiry,
    key_note_scopes,
    key_warning_due,
    withdrawers_pause,
)
from providers.clock import Clock
from providers.errors import AuthFailed, RateLimited
from providers.interface import ExchangeProvider
from providers.types import Balance, Capabilities, KeyDetails, MarketRules, ProtectionMode

MOST_WAITS, LONGEST_WAIT = 5, 60.0  # wall seconds that one call of a probe may wait for its turn, and how often
CLOCK_WARNING = timedelta(seconds=5)
CLOCK_ERROR = timedelta(seconds=25)  # Nobitex refuses API keys beyond 30 s (contract: nobitex 3.2)

PROTECTION = {
    ProtectionMode.NATIVE_OCO: _("stop and target rest at the exchange as one pair (native OCO)"),
    ProtectionMode.FREE_STOPS: _("stop and target both rest at the exchange; the fill of one cancels the other"),
    ProtectionMode.LOCKING_STOPS: _("the stop rests at the exchange and makes way for the target when it is reached"),
    ProtectionMode.NO_STOPS: _("NO STOPS: nothing rests at the exchange, only the running platform watches the price"),
}


@dataclass(frozen=True, slots=True)
class FeeLine:
    """One pair of rates (fractions) and how many markets of a quote currency have it."""

    quote: str
    maker: Decimal
    taker: Decimal
    markets: int


@dataclass(frozen=True, slots=True)
class Findings:
    """What a probe without orders found. `clock_difference` is theirs minus ours; `latency_seconds` that of one read.

    `errors` keep the account from working, `warnings` will one day, `unknown` nobody can say.
    """

    key: KeyDetails
    expires_at: datetime | None
    balances: Mapping[str, Balance]
    fees: tuple[FeeLine, ...]
    clock_difference: timedelta | None
    latency_seconds: float
    capabilities: Capabilities
    probed_at: datetime | None
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class Patient:
    """A client whose calls wait for their turn instead of giving up: a probe makes many, and is in no hurry. Safe for
    writes too, because what was limited was not accepted."""

    def __init__(self, inside: ExchangeProvider, sleep: Callable[[float], None] = time.sleep) -> None:
        self._inside, self._sleep = inside, sleep

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inside, name)
        if not callable(value):
            return value

        def call(*args: Any, **kwargs: Any) -> Any:
            for _unused in range(MOST_WAITS):
                try:
                    return value(*args, **kwargs)
                except RateLimited as exc:
                    if exc.retry_after > LONGEST_WAIT:
                        raise
                    self._sleep(exc.retry_after)
            return value(*args, **kwargs)

        return call


def account_probe(
    account: Account, provider: ExchangeProvider, *, clock: Clock, sleep: Callable[[float], None] = time.sleep
) -> Findings:
    """Ask the exchange everything that costs nothing. Keeps what it was told of the key and the balances.

    Raises `ProviderError`; a refused key (`AuthFailed`) stops the account first, and nothing more is asked with it.
    """
    provider = cast(ExchangeProvider, Patient(provider, sleep))
    try:
        key = provider.key_details()
        read_at, started = clock.now(), time.perf_counter()
        balances = provider.balances()
        latency = time.perf_counter() - started
        markets = provider.markets()
    except AuthFailed as exc:
        account_stop(account, str(exc), at=clock.now())
        raise
    key_note_expiry(account, key.expires_at)
    key_note_scopes(account, key.scopes)
    withdrawers_pause(clock.now())
    balances_note(account, balances, read_at=read_at)
    difference, now = provider.clock_difference, clock.now()
    return Findings(
        key=key,
        expires_at=account.key_expires_at,
        balances=balances,
        fees=fee_lines(markets),
        clock_difference=difference,
        latency_seconds=latency,
        capabilities=account.known_capabilities(provider.capabilities()),
        probed_at=account.capabilities_probed_at,
        errors=tuple(_errors(account, key, difference, now)),
        warnings=tuple(_warnings(account, key, difference, now)),
        unknown=tuple(unknown_of(account, key, difference)),
    )


def fee_lines(markets: Iterable[MarketRules]) -> tuple[FeeLine, ...]:
    """The account's fees, gathered: most markets of one quote currency share theirs."""
    counts: dict[tuple[str, Decimal, Decimal], int] = {}
    for rules in markets:
        key = (rules.quote, rules.maker_fee_rate, rules.taker_fee_rate)
        counts[key] = counts.get(key, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (item[0][0], -item[1]))
    return tuple(FeeLine(*key, count) for key, count in ordered)


def _errors(account: Account, key: KeyDetails, difference: timedelta | None, now: datetime) -> Iterable[str]:
    if key.scopes is not None and "trade" not in key.scopes:
        yield gettext(
            "The key may not trade: nothing can be ordered or cancelled with it. Make one with the trade permission."
        )
    if account.environment == Environment.LIVE and WITHDRAW in (key.scopes or ()):
        yield gettext(
            "The key may withdraw: no live account trades with it. Make one that may read and trade only, enter it, "
            "and delete this one at the exchange."
        )
    expires_at = account.key_expires_at
    if expires_at is not None and now >= expires_at:
        yield gettext("The key expired on %(expires_at)s %(zone)s by what is stored here. Enter a new one.") % {
            "zone": zone_name(),
            "expires_at": minute(expires_at),
        }
    if difference is not None and abs(difference) > CLOCK_ERROR:
        yield (
            gettext(
                "The clock of this machine is %(off)s. Nobitex refuses API keys beyond 30 s, and prices "
                "look older or newer than they are. Set this machine's clock (NTP) before trading."
            )
            % {"off": _off(difference)}
        )


def _warnings(account: Account, key: KeyDetails, difference: timedelta | None, now: datetime) -> Iterable[str]:
    if account.environment != Environment.LIVE and WITHDRAW in (key.scopes or ()):
        yield gettext(
            "The key may withdraw. The platform never does: make a key without that permission and delete this one."
        )
    due = key_warning_due(account.key_expires_at, now)
    if due and account.key_expires_at is not None:
        opens = (
            gettext("it opens no new positions any more") if due <= 1 else gettext("no new positions in its last day")
        )
        yield gettext("The key expires on %(key_expires_at)s %(zone)s: %(opens)s. Make a new one in time.") % {
            "zone": zone_name(),
            "key_expires_at": minute(account.key_expires_at),
            "opens": opens,
        }
    if difference is not None and CLOCK_WARNING < abs(difference) <= CLOCK_ERROR:
        yield gettext("The clock of this machine is %(off)s. Set it (NTP) before it grows beyond what keys allow.") % {
            "off": _off(difference)
        }


def _off(difference: timedelta) -> str:
    """`difference` is the exchange's clock minus ours."""
    seconds = difference.total_seconds()
    words = gettext("%(abs)s s behind the exchange's") if seconds > 0 else gettext("%(abs)s s ahead of the exchange's")
    return words % {"abs": digits(f"{abs(seconds):.0f}")}


def unknown_of(account: Account, key: KeyDetails, difference: timedelta | None) -> Iterable[str]:
    """What nobody has shown about this account so far."""
    if key.scopes is None:
        yield gettext("what the key may do (the exchange does not tell): look at it in the exchange's panel")
    if account.key_expires_at is None:
        yield gettext("when the key expires (the exchange does not tell): enter the date on the account's page")
    if difference is None:
        yield gettext("how far the exchange's clock is from ours: it sends no time")
    if account.capabilities_probed_at is None:
        yield gettext("whether stops work and lock the balance: only documented so far; --orders finds out")
    else:
        yield gettext("whether a stop that is reached triggers: no probe can show that")
