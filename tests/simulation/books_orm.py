"""The books of a world in PostgreSQL, through the same models and services as the platform's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import F

from algo.execution.entry_ledger import EntryLedger
from algo.execution.entry_ledger_orm import OrmEntryLedger
from algo.execution.ledger import Ledger
from algo.execution.ledger_orm import OrmLedger
from algo.models import (
    Account,
    AccountLock,
    AccountState,
    AllowedSides,
    Deal,
    DealEvent,
    Environment,
    Fill,
    KillSwitch,
    Market,
    Order,
    OrderEvent,
    StrategyConfig,
    StrategyStatus,
    Ticket,
)
from algo.selectors.halts import Target
from algo.services.control import kill_switch_set
from providers.types import Capabilities, MarketRules
from tests.simulation.books import public_id_of

_SCOPES: Mapping[str, type[Target]] = {"account": Account, "config": StrategyConfig, "market": Market}


class OrmBooks:
    """Over the ledger in PostgreSQL. A new one begins with empty tables, its rows numbered from 1."""

    def __init__(self) -> None:
        tables = ", ".join(
            connection.ops.quote_name(model._meta.db_table) for model in apps.get_app_config("algo").get_models()
        )
        users = connection.ops.quote_name(get_user_model()._meta.db_table)
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {tables}, {users} RESTART IDENTITY CASCADE")
        self._owner = get_user_model().objects.create_user("trader")

    def add_account(self, name: str, provider: str) -> int:
        account = Account.objects.create(
            name=name,
            public_id=UUID(public_id_of(name)),
            provider=provider,
            owner=self._owner,
            environment=Environment.PAPER,
        )
        AccountLock.objects.create(account=account)
        return account.pk

    def add_markets(self, rules: Iterable[MarketRules], *, now: datetime) -> Mapping[str, int]:
        names = MarketRules.__dataclass_fields__
        rows = Market.objects.bulk_create(
            Market(**{name: getattr(each, name) for name in names}, pair=each.pair, refreshed_at=now) for each in rules
        )
        return {row.symbol: row.pk for row in rows}

    def add_config(self, name: str, account_id: int, market_id: int, parameters: Mapping[str, Any]) -> int:
        return StrategyConfig.objects.create(
            name=name,
            strategy="BreakoutStrategy",
            parameters=dict(parameters),
            account_id=account_id,
            data_market_id=market_id,
            market_id=market_id,
            status=StrategyStatus.RUNNING,
            allowed_sides=AllowedSides.BOTH,
        ).pk

    def ledger(self, account_id: int, capabilities: Capabilities, epoch: int | None) -> Ledger:
        return OrmLedger(Account.objects.get(pk=account_id), capabilities, epoch)

    def entry_ledger(self) -> EntryLedger:
        return OrmEntryLedger()

    def next_epoch(self, account_id: int) -> int:
        AccountLock.objects.filter(pk=account_id).update(epoch=F("epoch") + 1)
        return AccountLock.objects.values_list("epoch", flat=True).get(pk=account_id)

    def set_switch(self, scope: str, target: int, level: KillSwitch, reason: str) -> None:
        of = _SCOPES[scope].objects.get(pk=target) if scope in _SCOPES else None
        kill_switch_set(level, reason=reason, user=None, target=of, unproven_ok=True)

    def edit_config(self, config_id: int, parameters: Mapping[str, Any]) -> None:
        StrategyConfig.objects.filter(pk=config_id).update(parameters=dict(parameters))

    def resume_account(self, account_id: int) -> None:
        Account.objects.filter(pk=account_id).update(state=AccountState.ACTIVE, state_reason="")

    def order_named(self, client_order_id: str) -> Any | None:
        return Order.objects.select_related("deal", "account").filter(client_order_id=client_order_id).first()

    def orders(self) -> Sequence[Any]:
        return list(Order.objects.select_related("deal", "account").order_by("pk"))

    def deals(self) -> Sequence[Any]:
        return list(Deal.objects.select_related("account").order_by("pk"))

    def fills(self) -> Sequence[Any]:
        return list(Fill.objects.select_related("order__account").order_by("pk"))

    def order_events(self) -> Sequence[Any]:
        return list(OrderEvent.objects.order_by("pk"))

    def deal_events(self) -> Sequence[Any]:
        return list(DealEvent.objects.order_by("pk"))

    def tickets(self) -> Sequence[Any]:
        return list(Ticket.objects.order_by("pk"))
