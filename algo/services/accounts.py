"""Writes of accounts: their keys, their states, and what is known of their balances."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Q

from algo.models import Account, AccountState, BalanceReading, Environment, EventKind
from algo.services.audit import PLATFORM, Actor, audit_record
from algo.services.outbox import event_record
from algo.services.refused import Refused
from providers.clock import CLOCKS_DIFFER
from providers.interface import ExchangeProvider
from providers.types import Balance

if TYPE_CHECKING:
    from django.contrib.auth.models import User

logger = logging.getLogger("algo.accounts")

KEY_WARNINGS = (14, 7, 1, 0)  # days before a key's expiry at which people are told, each once; 0 is the expiry itself


def account_create(
    *,
    name: str,
    owner: User,
    environment: Environment,
    provider: ExchangeProvider,
    api_key: str,
    by: Actor,
    at: datetime,
    key_expires_at: datetime | None = None,
) -> tuple[Account, Mapping[str, Balance]]:
    """Store an account whose key the exchange accepts, and the balances that proved it.

    The exchange is asked first: raises `ProviderError` (AuthFailed for a wrong key) with nothing stored, Refused for a
    live key that may withdraw, and IntegrityError for a name that is taken.
    """
    balances = provider.balances()
    account = Account(name=name, owner=owner, provider=provider.name, environment=environment)
    account_set_key(account, api_key, expires_at=key_expires_at)
    scopes = provider.key_details().scopes if environment == Environment.LIVE else None
    account.key_scopes = None if scopes is None else sorted(scopes)
    if may_withdraw(account):
        raise Refused(f"The account was not stored: {MAY_WITHDRAW}.")
    with transaction.atomic():
        account.save()
        account_note(account, "account.create", by=by, at=at)
    return account, balances


def account_note(
    account: Account, act: str, *, by: Actor, at: datetime, reason: str = "", details: Mapping[str, Any] | None = None
) -> None:
    """Record what was done to an account, in the transaction of the act. Of a key, only its last characters."""
    named = {"provider": account.provider, "environment": account.environment, "key": account.api_key_hint}
    audit_record(act, by=by, subject=account, at=at, reason=reason, details={**named, **(details or {})})


WITHDRAW = "withdraw"
MAY_WITHDRAW = (
    "its key may withdraw, and whoever steals it takes everything. Make one at the exchange that may read and trade "
    "only, enter it on the account's page, delete this one there, then activate the account"
)


# --- keys -----------------------------------------------------------------------------------------------------------

KEY_FIELDS = frozenset({"api_key_sealed", "api_key_hint", "key_expires_at", "key_warned_days", "key_scopes"})


def account_set_key(account: Account, api_key: str, *, expires_at: datetime | None) -> None:
    """Put another key into the row (KEY_FIELDS, not saved): what was known of the old one's goes with it."""
    account.set_api_key(api_key)
    account.key_expires_at, account.key_warned_days, account.key_scopes = expires_at, None, None


def key_note_expiry(account: Account, expires_at: datetime | None) -> None:
    """Keep what the exchange tells about the key's end; silence changes nothing."""
    if expires_at is None or expires_at == account.key_expires_at:
        return
    rows = Account.objects.filter(pk=account.pk, api_key_sealed=account.api_key_sealed)
    if rows.update(key_expires_at=expires_at):
        account.key_expires_at = expires_at


def key_note_scopes(account: Account, scopes: Collection[str] | None) -> None:
    """Keep what the exchange tells about what the key may do; silence changes nothing."""
    told = None if scopes is None else sorted(scopes)
    if told is None or told == account.key_scopes:
        return
    if Account.objects.filter(pk=account.pk, api_key_sealed=account.api_key_sealed).update(key_scopes=told):
        account.key_scopes = told


def may_withdraw(account: Account) -> bool:
    """Whether real money could leave with the account's key, by what its exchange last told."""
    return account.environment == Environment.LIVE and WITHDRAW in (account.key_scopes or ())


def withdrawers_pause(at: datetime) -> list[Account]:
    """No live account opens a position with a key that may withdraw: it is paused, and people are told. What is open
    stays protected. Returns those that were paused."""
    active = Account.objects.filter(state=AccountState.ACTIVE, environment=Environment.LIVE)
    paused = [
        each for each in active if may_withdraw(each) and account_pause(each, by=PLATFORM, at=at, reason=MAY_WITHDRAW)
    ]
    for account in paused:
        logger.error("account=%s key=%s paused: %s", account.name, account.api_key_hint, MAY_WITHDRAW)
    return paused


def keys_watch(now: datetime) -> int:
    """Warn once at each of KEY_WARNINGS about every key that ends, and pause who may withdraw. Returns how many
    warnings were given."""
    withdrawers_pause(now)
    dated = Account.objects.filter(Q(key_expires_at__isnull=False) | Q(key_warned_days__isnull=False))
    return sum(_watch(pk, now) for pk in dated.values_list("pk", flat=True))


@transaction.atomic
def _watch(pk: int, now: datetime) -> bool:
    account = Account.objects.select_for_update(no_key=True).get(pk=pk)
    due, warned = key_warning_due(account.key_expires_at, now), account.key_warned_days
    if due == warned:
        return False
    Account.objects.filter(pk=pk).update(key_warned_days=due)
    if due is None or (warned is not None and due > warned) or account.key_expires_at is None:
        return False  # a later date became known
    payload = _about(account) | {"expires_at": account.key_expires_at, "days": due, "advice": _KEY_ADVICE}
    event_record(EventKind.KEY_EXPIRING if due else EventKind.KEY_EXPIRED, payload, at=now, account=account)
    level = logging.WARNING if due > 1 else logging.ERROR
    what = f"expires at {account.key_expires_at:%Y-%m-%d %H:%M} UTC" if due else "has expired"
    logger.log(level, "account=%s key=%s %s. %s", account.name, account.api_key_hint, what, _KEY_ADVICE)
    return True


_KEY_ADVICE = (
    "Make a new key at the exchange and enter it on the account's page. In the last day before the expiry no new "
    "positions are opened; after it, nothing can be done at the exchange with this key, exits included."
)


def key_warning_due(expires_at: datetime | None, now: datetime) -> int | None:
    """The warning that applies now: the smallest of KEY_WARNINGS that has been reached, None where none has."""
    if expires_at is None:
        return None
    return min((days for days in KEY_WARNINGS if now >= expires_at - timedelta(days=days)), default=None)


# --- states ---------------------------------------------------------------------------------------------------------


@transaction.atomic
def account_stop(account: Account, reason: str, *, at: datetime) -> bool:
    """The exchange refused the key of `account`: from here on no worker calls with it, and people are told once.

    False, and nothing changed, where the account was stopped before, or where another key has been entered since
    `account` was read: then it was the old one that was refused. Resting stops stay where they are.
    """
    row = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    if row.state == AccountState.STOPPED or row.api_key_sealed != account.api_key_sealed:
        return False
    sentence = refused_key(reason)[:400]
    row.state, row.state_reason, row.last_error = AccountState.STOPPED, sentence, sentence
    row.save(update_fields=["state", "state_reason", "last_error"])
    event_record(EventKind.ACCOUNT_STOPPED, _about(row) | {"reason": row.state_reason}, at=at, account=row)
    account_note(row, "account.stop", by=PLATFORM, at=at, reason=row.state_reason)
    logger.error("account=%s stopped: %s", row.name, reason)
    return True


def refused_key(reason: str) -> str:
    reason = reason if reason.endswith(".") else f"{reason}."
    return (
        f"The exchange refused the key: {reason} Resting stops stay where they are. Enter a valid key, then activate "
        "the account: that asks the exchange first."
    )


def account_is_stopped(account: Account) -> bool:
    """Whether the account is stopped now, whatever the row in hand says. Ask before a key is used."""
    return Account.objects.filter(pk=account.pk, state=AccountState.STOPPED).exists()


@transaction.atomic
def account_pause(account: Account, *, by: Actor, at: datetime, reason: str = "") -> bool:
    """No new positions; open ones stay protected. False where it was not active. PermissionDenied for who may not
    trade with it."""
    by.must_trade(account)
    sentence = f"paused by {by.name}: {reason}" if reason else f"paused by {by.name}"
    rows = Account.objects.filter(pk=account.pk, state=AccountState.ACTIVE)
    if not rows.update(state=AccountState.PAUSED, state_reason=sentence[:400]):
        return False
    event_record(EventKind.ACCOUNT_PAUSED, _about(account) | {"by": by.name, "reason": reason}, at=at, account=account)
    account_note(account, "account.pause", by=by, at=at, reason=reason)
    return True


@transaction.atomic
def account_resume(account: Account, *, by: Actor, at: datetime, reason: str = "") -> bool:
    """From paused, or from stopped where the caller has just seen the exchange accept the key of `account`, to
    active. False where it is active, or where another key was entered meanwhile."""
    by.must_trade(account)
    rows = Account.objects.filter(pk=account.pk, api_key_sealed=account.api_key_sealed)
    stood = rows.exclude(state=AccountState.ACTIVE)
    if not stood.update(state=AccountState.ACTIVE, state_reason="", last_error=""):
        return False
    event_record(EventKind.ACCOUNT_ACTIVATED, _about(account) | {"by": by.name}, at=at, account=account)
    account_note(account, "account.activate", by=by, at=at, reason=reason)
    return True


def _about(account: Account) -> dict[str, Any]:
    return {"account": account.name, "provider": account.provider, "environment": account.environment}


# --- balances -------------------------------------------------------------------------------------------------------


def balances_note(account: Account, balances: Mapping[str, Balance], *, read_at: datetime) -> None:
    """Keep what was just read, as the baseline of orders that are sent soon. `read_at` is before the call. What was
    read later stays, unless its stamp lies so far ahead that the clock was wrong: else it stood for as long as that.
    The first reading of each day stays for the export of the ledger."""
    is_older = Q(balances_read_at=None) | Q(balances_read_at__lte=read_at)
    was_ahead = Q(balances_read_at__gt=read_at + CLOCKS_DIFFER)
    Account.objects.filter(is_older | was_ahead, pk=account.pk).update(
        balances={asset: [format(each.total, "f"), format(each.locked, "f")] for asset, each in balances.items()},
        balances_read_at=read_at,
    )
    totals = {asset: format(each.total, "f") for asset, each in balances.items()}
    reading = BalanceReading(account=account, day=read_at.astimezone(UTC).date(), read_at=read_at, totals=totals)
    BalanceReading.objects.bulk_create([reading], ignore_conflicts=True)
