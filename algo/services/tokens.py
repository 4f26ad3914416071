"""Tokens of the API: given, used, revoked. A token is told once, to who asked for it; only its hash is kept.

Their times are wall time, as knox has them: `now` here is the wall's, `at` is the platform's, for the audit log.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils.translation import gettext
from knox.models import AuthToken
from knox.settings import knox_settings

from algo.localised import moment, zone_name
from algo.models import TokenGrant, TokenScope
from algo.selectors.rights import role_of, scope_allowed, scope_covers, scope_narrower
from algo.services.audit import Actor, audit_record
from algo.services.refused import Refused

EXPIRED_KEPT = timedelta(days=30)  # so that its user is told that it has expired, and sees it in the list
USE_NOTED = timedelta(minutes=1)  # a token in use costs one write a minute


class TokenRefused(Refused):
    """No token was given. `field` is what stands in the way."""


@transaction.atomic
def token_give(
    user: Any,
    *,
    by: Actor,
    now: datetime,
    at: datetime,
    scope: TokenScope | None = None,
    expiry: datetime | None = None,
    label: str = "",
    within: TokenGrant | None = None,
) -> tuple[TokenGrant, str]:
    """A new token for `user`: its grant, and the token itself, which nobody can be told again.

    Without `scope`, what the user's role allows up to `trade`: `admin` only when asked for. Without `expiry`, as long
    as tokens may live. Asked for with another token (`within`), it is no wider and lives no longer than that one.
    Raises TokenRefused.
    """
    widest = _widest(user, within)
    chosen = scope_narrower(widest, TokenScope.TRADE) if scope is None else TokenScope(scope)
    if not scope_covers(widest, chosen):
        raise TokenRefused(_too_wide(user, chosen, within), "scope")
    ends = _end(expiry, now, within)
    token, text = AuthToken.objects.create(user=user)
    token.expiry = ends
    token.save(update_fields=["expiry"])
    grant = TokenGrant.objects.create(token=token, scope=chosen, label=label, created_by_id=by.user_id)
    asked_with = {} if within is None else {"asked_with": within.token.token_key}
    audit_record("token.give", by=by, subject=user, at=at, details=token_details(grant) | asked_with)
    return grant, text


@transaction.atomic
def token_revoke(grant: TokenGrant, *, by: Actor, held: TokenScope, at: datetime) -> None:
    """It opens nothing from now on. One's own with a scope (`held`) as wide, those of others as an Admin with the scope
    admin. Raises PermissionDenied."""
    owner, needed = grant.token.user, TokenScope.ADMIN
    if by.user_id == owner.pk:
        needed = scope_narrower(scope_allowed(owner), TokenScope(grant.scope))
    else:
        by.must_administer()
    if not scope_covers(held, needed):
        raise PermissionDenied(
            gettext("Revoking this token needs the scope %(needed)s. It is still valid.") % {"needed": needed}
        )
    audit_record("token.revoke", by=by, subject=owner, at=at, details=token_details(grant))
    grant.token.delete()


def token_used(grant: TokenGrant, now: datetime) -> None:
    """Note that it was used, once a minute at most."""
    if grant.last_used_at is None or now - grant.last_used_at >= USE_NOTED:
        TokenGrant.objects.filter(pk=grant.pk).update(last_used_at=now)


def tokens_prune(now: datetime) -> int:
    """Forget tokens that expired a month ago. Returns how many."""
    return AuthToken.objects.filter(expiry__lt=now - EXPIRED_KEPT).delete()[1].get("knox.AuthToken", 0)


def token_details(grant: TokenGrant) -> dict[str, Any]:
    """What the audit log tells of a token: the beginning by which knox finds it, never more of it."""
    token = grant.token
    return {"token": token.token_key, "scope": grant.scope, "label": grant.label, "expiry": token.expiry}


def _widest(user: Any, within: TokenGrant | None) -> TokenScope:
    allowed = scope_allowed(user)
    return allowed if within is None else scope_narrower(allowed, TokenScope(within.scope))


def _too_wide(user: Any, asked: TokenScope, within: TokenGrant | None) -> str:
    allowed = scope_allowed(user)
    if not scope_covers(allowed, asked):
        role = role_of(user)
        who = gettext("the role %(role)s") % {"role": role} if role else gettext("a user without a role")
        return gettext(
            "The scope %(asked)s is more than %(who)s may have: %(allowed)s at most. No token was given."
        ) % {"asked": asked, "who": who, "allowed": allowed}
    held = TokenScope(within.scope) if within else allowed
    return gettext("A token of scope %(held)s gives none of scope %(asked)s: log in for it. No token was given.") % {
        "held": held,
        "asked": asked,
    }


def _end(expiry: datetime | None, now: datetime, within: TokenGrant | None) -> datetime:
    longest = now + knox_settings.TOKEN_TTL
    if within is not None and within.token.expiry is not None:
        longest = min(longest, within.token.expiry)
    if expiry is None:
        return longest
    if not now < expiry <= longest:
        latest = gettext("%(longest)s %(zone)s") % {"zone": zone_name(), "longest": moment(longest)}
        raise TokenRefused(
            gettext("It must lie after now and not after %(latest)s. No token was given.") % {"latest": latest},
            "expiry",
        )
    return expiry
