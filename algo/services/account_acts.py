"""What people do with accounts, in the admin and over the API alike: open, change, activate, ask the exchange."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils.translation import gettext

from algo.models import Account, AccountState
from algo.models.fields import SecretUnreadable
from algo.selectors.rights import may_open_accounts
from algo.services.accounts import (
    KEY_FIELDS,
    account_is_stopped,
    account_note,
    account_resume,
    account_set_key,
    account_stop,
    balances_note,
)
from algo.services.audit import Actor
from algo.services.deletion import deletion_refusal
from algo.services.probe import Findings, account_probe
from algo.services.refused import Refused, name_once
from providers.budgets import no_waiting
from providers.clock import Clock
from providers.errors import AuthFailed
from providers.interface import ExchangeProvider

if TYPE_CHECKING:
    from django.contrib.auth.models import User

ClientOf = Callable[[Account], ExchangeProvider]  # raises SecretUnreadable, AuthFailed
LONGEST_KEY_LIFE = timedelta(days=3653)
_EXPIRY = "key_expires_at"
_KEY = re.compile(r"[\x21-\x7e]{8,4096}")


class AccountRefused(Refused):
    """The account is as it was."""


def key_problem(api_key: str) -> str:
    """Why this cannot be an API key; empty where it can be one."""
    if _KEY.fullmatch(api_key):
        return ""
    return gettext(
        "This is not an API key: it must be 8 or more Latin letters, digits and signs without "
        "spaces. Nothing was stored. Copy it again from the exchange."
    )


# --- opening and changing --------------------------------------------------------------------------------------------


def account_open(
    *,
    name: str,
    provider: str,
    environment: str,
    owner: User,
    api_key: str,
    by: Actor,
    at: datetime,
    key_expires_at: datetime | None = None,
    viewers: Collection[User] = (),
) -> Account:
    """Store an account; its exchange is asked when it is first reconciled. Raises AccountRefused, and PermissionDenied
    for who is no Trader. For oneself; an Admin for anybody. Only an Admin may leave the key to the environment."""
    if by.user is not None and not may_open_accounts(by.user):
        raise PermissionDenied(gettext("Only a Trader or an Admin may open an account. Nothing was stored."))
    if not by.may_administer() and (owner.pk != by.user_id or viewers):
        raise PermissionDenied(
            gettext("Only an Admin decides whose an account is and who may look at it. Nothing was stored.")
        )
    if not api_key and not by.may_administer():
        raise AccountRefused(gettext("Enter the key of your account at the exchange. Nothing was stored."), "api_key")
    _must_be_ahead(key_expires_at, at)
    account = Account(name=name, provider=provider, environment=environment, owner=owner)
    _put_key(account, api_key, key_expires_at)
    with name_once(Account.objects.all(), name, _taken(name)):
        account.save(force_insert=True)
        account.viewers.set(viewers)
        account_note(account, "account.create", by=by, at=at, details=_people(account))
    return account


@transaction.atomic
def account_change(account: Account, changes: Mapping[str, Any], *, by: Actor, at: datetime) -> bool:
    """Write what differs of `changes`: name, api_key, key_expires_at, and for Admins owner and viewers. A new key's
    expiry is not known unless it is among them. False where nothing differed. Raises AccountRefused."""
    by.must_trade(account)
    if changes.keys() & {"owner", "viewers"} and not by.may_administer():
        raise PermissionDenied(
            gettext("Only an Admin decides whose an account is and who may look at it. Nothing was changed.")
        )
    _must_be_ahead(changes.get("key_expires_at"), at)
    account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
    changed = [name for name in ("name", "owner", "key_expires_at") if name in changes]
    changed = [name for name in changed if getattr(account, name) != changes[name]]
    for name in changed:
        setattr(account, name, changes[name])
    fields = set(changed)
    if api_key := changes.get("api_key"):
        _put_key(account, api_key, changes.get("key_expires_at"))
        changed, fields = [*changed, "api_key"], fields | KEY_FIELDS
    if "viewers" in changes and set(account.viewers.all()) != set(changes["viewers"]):
        account.viewers.set(changes["viewers"])
        changed.append("viewers")
    if not changed:
        return False
    with name_once(Account.objects.all(), account.name, _taken(account.name)):
        account.save(update_fields=fields)
    act = "account.key" if "api_key" in changed else "account.change"
    account_note(account, act, by=by, at=at, details=_people(account) | {"fields": changed})
    return True


@transaction.atomic
def account_delete(account: Account, *, by: Actor, at: datetime) -> None:
    """Remove an account that nothing was ever done with. Raises AccountRefused with what to do instead, and
    PermissionDenied for who is no Admin."""
    by.must_administer()
    if why := deletion_refusal(account):
        raise AccountRefused(why)
    account_note(account, "account.delete", by=by, at=at, details=_people(account))
    account.delete()


def _must_be_ahead(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and not now < expires_at <= now + LONGEST_KEY_LIFE:
        raise AccountRefused(
            gettext("It must lie ahead, by ten years at most. Leave it out where it is not known."), _EXPIRY
        )


def _put_key(account: Account, api_key: str, expires_at: datetime | None) -> None:
    if not api_key:
        account.key_expires_at = expires_at
        return
    if problem := key_problem(api_key):
        raise AccountRefused(problem, "api_key")
    account_set_key(account, api_key, expires_at=expires_at)


def _taken(name: str) -> AccountRefused:
    return AccountRefused(
        gettext("There is an account %(name)s already. Choose another name. Nothing was stored.")
        % {"name": repr(name)},
        "name",
    )


def _people(account: Account) -> dict[str, Any]:
    viewers = sorted(account.viewers.values_list("username", flat=True))
    return {"owner": account.owner.get_username(), "viewers": viewers}


# --- asking the exchange ---------------------------------------------------------------------------------------------


def account_look(account: Account, client_of: ClientOf, *, by: Actor, clock: Clock) -> Findings:
    """What `account_probe` finds, without waiting for a turn: a page must answer. Raises AccountRefused, and
    `ProviderError` where the exchange does not answer; a refused key stops the account."""
    by.must_trade(account)
    return account_probe(account, _client(account, client_of, clock), clock=clock, sleep=no_waiting)


def account_activate(
    account: Account, client_of: ClientOf, *, by: Actor, clock: Clock, reason: str = ""
) -> tuple[bool, Findings]:
    """Let it trade again, after the exchange has accepted the key that is stored now. False where it was active
    already, or got another key meanwhile. Raises AccountRefused, and `ProviderError` where the exchange cannot say."""
    findings = account_look(account, client_of, by=by, clock=clock)
    if findings.errors:
        raise AccountRefused(
            gettext("%(account)s was not activated: %(errors)s")
            % {"account": account.name, "errors": " ".join(findings.errors)}
        )
    return account_resume(account, by=by, at=clock.now(), reason=reason), findings


def account_balances(
    account: Account, client_of: ClientOf, *, max_age: float, clock: Clock
) -> tuple[dict[str, tuple[Decimal, Decimal]], datetime]:
    """Total and locked amount of each asset, and as of when. What is known is given where it is at most `max_age` wall
    seconds old; else the exchange is asked, once. Raises AccountRefused, and `ProviderError`."""
    read_at = account.balances_read_at
    if read_at is None or read_at < clock.now() - clock.wall(max_age):
        if account.state == AccountState.STOPPED:
            raise AccountRefused(
                gettext("%(account)s is stopped: its key is not used. %(state_reason)s")
                % {"account": account.name, "state_reason": account.state_reason}
            )
        read_at = clock.now()
        try:
            balances_note(account, _client(account, client_of, clock).balances(), read_at=read_at)
        except AuthFailed as exc:
            account_stop(account, str(exc), at=clock.now())
            raise
        account.refresh_from_db(fields=["balances", "balances_read_at"])
    known = {asset: (Decimal(total), Decimal(locked)) for asset, (total, locked) in account.balances.items()}
    return known, account.balances_read_at or read_at


def _client(account: Account, client_of: ClientOf, clock: Clock) -> ExchangeProvider:
    """With the key that is stored. What cannot be a key at all stops the account, as one that is refused."""
    if account.environment != settings.EXCHANGE_ENVIRONMENT:
        raise AccountRefused(
            gettext(
                "%(account)s is a %(environment)s account, but the platform runs with "
                "EXCHANGE_ENVIRONMENT=%(EXCHANGE_ENVIRONMENT)s: its key was not sent anywhere."
            )
            % {
                "account": account.name,
                "environment": account.get_environment_display().lower(),
                "EXCHANGE_ENVIRONMENT": settings.EXCHANGE_ENVIRONMENT,
            }
        )
    try:
        return client_of(account)
    except SecretUnreadable as exc:
        raise AccountRefused(str(exc)) from exc
    except AuthFailed as exc:
        if not account_is_stopped(account):
            account_stop(account, str(exc), at=clock.now())
        raise
