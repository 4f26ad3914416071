"""The audit log: one record for every act that could cost money, in the transaction of the act."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model
from django.utils import translation
from django.utils.translation import gettext

from algo.models import Account, AuditRecord, Door
from algo.selectors.rights import may_administer, may_trade
from algo.selectors.visible import account_of

__all__ = ["PLATFORM", "SHELL", "Actor", "Door", "audit_record"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and through which door. Without a user it is a shell on the host, or the platform itself: both may do
    everything, for who has the host has the database."""

    user: Any  # a user, or None
    door: Door

    def __post_init__(self) -> None:
        if self.user is None and self.door not in (Door.SHELL, Door.PLATFORM):
            raise ValueError(f"nobody acts through the door {self.door}: name the user")

    @property
    def name(self) -> str:
        if self.user is not None:
            return str(self.user.get_username())
        return "the platform" if self.door == Door.PLATFORM else "the shell"

    @property
    def user_id(self) -> int | None:
        return None if self.user is None else self.user.pk

    def may_trade(self, account: Account) -> bool:
        return self.user is None or may_trade(self.user, account)

    def may_administer(self) -> bool:
        return self.user is None or may_administer(self.user)

    def must_trade(self, account: Account) -> None:
        """Raises PermissionDenied, which every door answers with 403."""
        if not self.may_trade(account):
            raise PermissionDenied(
                gettext(
                    "Only a Trader who owns the account %(account)s, or an Admin, may do this. Nothing was changed."
                )
                % {"account": account.name}
            )

    def must_administer(self) -> None:
        if not self.may_administer():
            raise PermissionDenied(gettext("Only an Admin may do this. Nothing was changed."))


SHELL = Actor(None, Door.SHELL)
PLATFORM = Actor(None, Door.PLATFORM)


def audit_record(
    act: str,
    *,
    by: Actor,
    subject: Model | None,
    at: datetime,
    account: Account | None = None,
    reason: str = "",
    details: Mapping[str, Any] | None = None,
) -> AuditRecord:
    """Write down that `by` did `act` to `subject` (None: the whole system). Call it inside the transaction of the act:
    both are there, or neither. Without `account`, it is that of the subject. `details` never hold a secret."""
    account = account or (account_of(subject) if subject is not None else None)
    return AuditRecord.objects.create(
        at=at,
        user_id=by.user_id,
        username="" if by.user is None else by.name,
        door=by.door,
        act=act,
        subject_kind="" if subject is None else str(subject._meta.model_name),
        subject_id="" if subject is None else str(subject.pk),
        subject_name="" if subject is None else _name(subject)[:200],
        account=account,
        reason=reason[:400],
        details=json.loads(json.dumps(dict(details or {}), cls=DjangoJSONEncoder)),
    )


def _name(subject: Model) -> str:
    """The same in every language: it is kept."""
    with translation.override("en"):
        return str(subject)
