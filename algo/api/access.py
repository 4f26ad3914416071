"""Who asks, and what they may do. The one permission of the whole API stands here: a role, and the scope of a token.

Views say `scope_needed` where it is not the default: reading needs `read`, writing `trade`. What a role may do to one
row, services and selectors decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from hmac import compare_digest
from typing import Any, cast

from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from drf_spectacular.authentication import SessionScheme
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication
from knox.crypto import hash_token
from knox.models import AuthToken
from knox.settings import CONSTANTS
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from algo.localised import moment
from algo.models import Door, TokenGrant, TokenScope
from algo.selectors.rights import Role, role_of, scope_allowed, scope_covers, scope_narrower
from algo.selectors.second_factor import Standing, standing_of
from algo.services.audit import Actor
from algo.services.tokens import token_used

ROLES = {TokenScope.TRADE: "Trader or Admin", TokenScope.ADMIN: "Admin"}
UNCHANGED = _("Nothing was changed.")
MUST_SET_UP = _("You may act with a second factor only, and have none: sign in to the pages and set one up.")


def actor(request: Request) -> Actor:
    """Who acts through the API: services take it as `by`."""
    return Actor(request.user, Door.API)


class ScopedTokenAuthentication(TokenAuthentication):
    """`Authorization: Token …`, as knox has it; an expired token is told apart from one that never was."""

    def authenticate_credentials(self, token: bytes) -> tuple[Any, Any]:
        text, now = token.decode(errors="replace"), timezone.now()
        if not text.isascii() or not text.isprintable():
            raise AuthenticationFailed(gettext("Invalid token."))
        same_beginning = AuthToken.objects.filter(token_key=text[: CONSTANTS.TOKEN_KEY_LENGTH])
        digest = hash_token(text)
        for row in same_beginning.select_related("user", "grant"):
            if not compare_digest(row.digest, digest):
                continue
            if row.expiry is not None and row.expiry <= now:
                when = gettext("%(expiry)s UTC") % {"expiry": moment(row.expiry)}
                raise AuthenticationFailed(
                    gettext("This token expired at %(when)s. Log in again for another.") % {"when": when}
                )
            if (grant := _grant_of(row)) is not None:
                token_used(grant, now)
            return cast(tuple[Any, Any], self.validate_user(row))
        raise AuthenticationFailed(gettext("Invalid token."))


class ProvedSessionAuthentication(SessionAuthentication):
    """The session of a page. Where its user has a second factor it began with it; where the user must have one and has
    none, it opens nothing but the page that sets one up."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        found: tuple[Any, None] | None = super().authenticate(request)
        if found is None:
            return None
        match standing_of(found[0]):
            case Standing.NOT_PROVED:
                return None
            case Standing.TO_SET_UP:
                raise PermissionDenied(f"{MUST_SET_UP} {UNCHANGED}", code="second_factor_missing")
        return found


class ProvedSessionScheme(SessionScheme):
    target_class = "algo.api.access.ProvedSessionAuthentication"
    priority = 0


class ScopedTokenScheme(KnoxTokenScheme):
    target_class = "algo.api.access.ScopedTokenAuthentication"


def _grant_of(token: Any) -> TokenGrant | None:
    grant: TokenGrant | None = getattr(token, "grant", None)
    return grant


def grant_held(request: Request) -> TokenGrant | None:
    """The grant of the token that is sent; None for a session. A token that was given none may read."""
    token = request.auth
    return None if token is None else _grant_of(token) or TokenGrant(token=token, scope=TokenScope.READ)


def scope_held(request: Request) -> TokenScope:
    """What a request may do: what the user's role allows, and no more than its token was given."""
    allowed, grant = scope_allowed(request.user), grant_held(request)
    return allowed if grant is None else scope_narrower(allowed, TokenScope(grant.scope))


def scope_needed(request: Request, view: Any) -> TokenScope:
    """What the view says it needs: a scope, one by method, or a function of the request; else by what the method
    does."""
    said, method = getattr(view, "scope_needed", None), str(request.method)
    if isinstance(said, Mapping):
        said = said.get(method)
    elif callable(said):
        said = said(request)
    return said or (TokenScope.READ if method in SAFE_METHODS else TokenScope.TRADE)


def scope_demand(request: Request, needed: TokenScope) -> None:
    """Raises PermissionDenied, which says whether the role or the token is too little."""
    if scope_covers(scope_held(request), needed):
        return
    if not scope_covers(scope_allowed(request.user), needed):
        raise PermissionDenied(
            gettext("Only the role %(role)s may do this; %(yours)s.")
            % {"role": gettext(ROLES[needed]), "yours": _whose_role(request.user)}
            + f" {UNCHANGED}"
        )
    raise PermissionDenied(
        gettext("This needs a token of scope %(needed)s; yours has %(scope_held)s. Log in and ask for it.")
        % {"needed": needed, "scope_held": scope_held(request)}
        + f" {UNCHANGED}"
    )


def _whose_role(user: Any) -> str:
    role = role_of(user)
    return (
        gettext("you have no role")
        if role is None
        else (gettext("you are an %(role)s") if role is Role.ADMIN else gettext("you are a %(role)s"))
        % {"role": gettext(role)}
    )


class InScope(BasePermission):
    """The permission of the whole API: a login, and a role and a token that are enough for what the method does."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user or not request.user.is_authenticated:
            return False  # 401
        if getattr(view, str(request.method).lower(), None) is not None:  # else 405
            scope_demand(request, scope_needed(request, view))
        return True
