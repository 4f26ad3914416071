"""Whose rows a user may see: staff all, everybody else those of accounts they own. Each with what its lists show."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import F, Model, Q, QuerySet

from algo.models import (
    Account,
    BacktestRun,
    Deal,
    Fill,
    OptimisationRun,
    Order,
    Signal,
    StrategyConfig,
    Ticket,
)

Row = TypeVar("Row", bound=Model)


def _of(user: Any, rows: QuerySet[Row], owner: str) -> QuerySet[Row]:
    return rows if user.is_staff else rows.filter(**{owner: user.pk})


def accounts_visible(user: Any) -> QuerySet[Account]:
    return _of(user, Account.objects.all(), "owner")


def deals_visible(user: Any) -> QuerySet[Deal]:
    return _of(user, Deal.objects.select_related("config", "market"), "account__owner")


def orders_visible(user: Any) -> QuerySet[Order]:
    return _of(user, Order.objects.select_related("market"), "account__owner")


def fills_visible(user: Any) -> QuerySet[Fill]:
    return _of(user, Fill.objects.select_related("order"), "account__owner")


def signals_visible(user: Any) -> QuerySet[Any]:
    """With `deal_id_of_signal`: the deal it led to, None where it was denied."""
    rows = Signal.objects.select_related("config").annotate(deal_id_of_signal=F("deal__id"))
    return _of(user, rows, "config__account__owner")


def strategies_visible(user: Any) -> QuerySet[StrategyConfig]:
    return _of(user, StrategyConfig.objects.select_related("account", "market", "data_market"), "account__owner")


def optimisations_visible(user: Any) -> QuerySet[OptimisationRun]:
    """Staff all, others those they began."""
    return _of(user, OptimisationRun.objects.select_related("market"), "requested_by")


def tickets_visible(user: Any) -> QuerySet[Ticket]:
    return _of(user, Ticket.objects.select_related("account", "market", "resolved_by"), "account__owner")


def backtests_visible(user: Any) -> QuerySet[BacktestRun]:
    """Those one asked for, and those of strategies of one's accounts; staff also see what was run in a shell."""
    rows = BacktestRun.objects.select_related("market", "config", "requested_by")
    return rows if user.is_staff else rows.filter(Q(requested_by=user.pk) | Q(config__account__owner=user.pk))
