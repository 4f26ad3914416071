"""Who may do what. A role is a group; an account has one owner, and people who may look at it.

Two questions, asked in every door alike: may one see it (`may_see`), and may one act on it (`may_trade`). Whether
somebody may sign in to the admin (`is_staff`) answers neither.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.db.models import Q, QuerySet

from algo.models import Account, BacktestRun, Market, OptimisationRun, StrategyConfig, TokenScope


class Role(StrEnum):
    """The groups of the platform, from the least to the most. Their permissions are set by `roles_ensure`."""

    VIEWER = "Viewer"
    TRADER = "Trader"
    ADMIN = "Admin"


_LADDER = list(Role)
_SCOPES = list(TokenScope)
_ALLOWED = {Role.TRADER: TokenScope.TRADE, Role.ADMIN: TokenScope.ADMIN}
_KEPT = "_algo_role"  # on the user's object, which lives as long as a request: like Django's own permissions


def role_of(user: Any) -> Role | None:
    """The highest of the user's roles; a superuser is an Admin. None for who has none, is inactive or not signed in."""
    if not getattr(user, "is_active", False) or not user.is_authenticated:
        return None
    if user.is_superuser:
        return Role.ADMIN
    if not hasattr(user, _KEPT):
        names = user.groups.filter(name__in=[role.value for role in Role]).values_list("name", flat=True)
        setattr(user, _KEPT, max((Role(name) for name in names), key=_LADDER.index, default=None))
    kept: Role | None = getattr(user, _KEPT)
    return kept


def scope_allowed(user: Any) -> TokenScope:
    """The widest scope that the user's role allows a token of theirs."""
    role = role_of(user)
    return TokenScope.READ if role is None else _ALLOWED.get(role, TokenScope.READ)


def scope_covers(held: TokenScope, needed: TokenScope) -> bool:
    return _SCOPES.index(held) >= _SCOPES.index(needed)


def scope_narrower(one: TokenScope, other: TokenScope) -> TokenScope:
    """The narrower of two scopes."""
    return min(one, other, key=_SCOPES.index)


def sees_all(user: Any) -> bool:
    return role_of(user) is Role.ADMIN


def may_administer(user: Any) -> bool:
    """Users, roles, tokens of others, schedules, the kill switch of the whole system."""
    return role_of(user) is Role.ADMIN


def may_see(user: Any, account: Account) -> bool:
    return sees_all(user) or accounts_of(user).filter(pk=account.pk).exists()


def may_trade(user: Any, account: Account) -> bool:
    """An Admin, or the account's owner who is a Trader. Who may only look at an account never acts on it."""
    role = role_of(user)
    return role is Role.ADMIN or (role is Role.TRADER and account.owner_id == user.pk)


def may_switch(user: Any, target: Account | StrategyConfig | Market | None) -> bool:
    """Whether one may turn the kill switch of `target`. A market's and the whole system's (None) stop everybody."""
    if target is None or isinstance(target, Market):
        return bool(user.has_perm("algo.change_systemcontrol"))
    return may_trade(user, target.account if isinstance(target, StrategyConfig) else target)


def may_open_accounts(user: Any) -> bool:
    return role_of(user) in (Role.TRADER, Role.ADMIN)


def may_fetch_candles(user: Any) -> bool:
    """Whether one may have workers call an exchange for candles: it spends calls that everybody shares."""
    return role_of(user) in (Role.TRADER, Role.ADMIN)


def may_act_on_run(user: Any, run: BacktestRun | OptimisationRun) -> bool:
    """Whether one may cancel a backtest or stop a search: one's own, or a backtest of a strategy one may act on."""
    if may_administer(user) or (run.requested_by_id is not None and run.requested_by_id == user.pk):
        return True
    config = run.config if isinstance(run, BacktestRun) else None
    return config is not None and may_trade(user, config.account)


def accounts_of(user: Any) -> QuerySet[Account]:
    """The accounts one owns or may look at, each once: a subquery, so that no join counts a row twice."""
    if not getattr(user, "is_active", False) or user.pk is None:
        return Account.objects.none()
    looked_at = Account.viewers.through.objects.filter(user=user.pk).values("account")
    return Account.objects.filter(Q(owner=user.pk) | Q(pk__in=looked_at))


def accounts_tradable(user: Any) -> QuerySet[Account]:
    """The accounts that `may_trade` allows."""
    role = role_of(user)
    if role is Role.ADMIN:
        return Account.objects.all()
    return Account.objects.filter(owner=user.pk) if role is Role.TRADER else Account.objects.none()
