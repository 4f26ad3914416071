"""The books of a world in PostgreSQL, through the same models and services as the platform's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Model

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
    MarketQuote,
    Order,
    OrderEvent,
    Role,
    StrategyConfig,
    StrategyStatus,
    Ticket,
)
from algo.selectors.halts import Target
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set
from algo.services.deal_acts import ActRefused, deal_close, deal_reprotect, deal_stop_move, order_cancel
from providers.types import Capabilities, MarketRules
from tests.simulation.books import public_id_of

_writes: Counter[str] = Counter()  # by table


def _note_write(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
    if sql.startswith(("INSERT", "UPDATE", "DELETE")):
        _writes[sql.split('"', 2)[1]] += 1
    return execute(sql, params, many, context)


_SCOPES: Mapping[str, type[Target]] = {"account": Account, "config": StrategyConfig, "market": Market}


class OrmBooks:
    """Over the ledger in PostgreSQL. A new one begins with empty tables, its rows numbered from 1."""

    def __init__(self) -> None:
        if _note_write not in connection.execute_wrappers:
            connection.execute_wrappers.append(_note_write)
        models = (get_user_model(), *apps.get_app_config("algo").get_models())
        tables = ", ".join(connection.ops.quote_name(model._meta.db_table) for model in models)
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")
        self._owner = get_user_model().objects.create_user("trader")
        self._accounts: dict[int, Account] = {}  # nothing of the rows in hand ever changes but what is asked for anew
        self._epochs: Counter[int] = Counter()
        self._kept: dict[type[Model], tuple[list[int], list[Any]]] = {}

    def add_account(self, name: str, provider: str) -> int:
        account = Account.objects.create(
            name=name,
            public_id=UUID(public_id_of(name)),
            provider=provider,
            owner=self._owner,
            environment=Environment.PAPER,
        )
        AccountLock.objects.create(account=account)
        self._accounts[account.pk] = account
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
        return OrmLedger(self._accounts[account_id], capabilities, epoch)

    def entry_ledger(self) -> EntryLedger:
        return OrmEntryLedger()

    def next_epoch(self, account_id: int) -> int:
        self._epochs[account_id] += 1
        AccountLock.objects.filter(pk=account_id).update(epoch=self._epochs[account_id])
        return self._epochs[account_id]

    def set_switch(self, scope: str, target: int, level: KillSwitch, reason: str) -> None:
        of = _SCOPES[scope].objects.get(pk=target) if scope in _SCOPES else None
        kill_switch_set(level, reason=reason, by=PLATFORM, target=of, unproven_ok=True)

    def edit_config(self, config_id: int, parameters: Mapping[str, Any]) -> None:
        StrategyConfig.objects.filter(pk=config_id).update(parameters=dict(parameters))

    def resume_account(self, account_id: int) -> None:
        Account.objects.filter(pk=account_id).update(state=AccountState.ACTIVE, state_reason="")

    def close_by_hand(self, deal_id: int, *, now: datetime) -> bool:
        return self._act(deal_close, Deal.objects.get(pk=deal_id), now)

    def move_stop_by_hand(self, deal_id: int, stop: Decimal, last: Decimal, *, now: datetime) -> bool:
        deal = Deal.objects.get(pk=deal_id)
        told = {"bid": last / 2, "ask": last * 2, "last": last, "as_of": now, "received_at": now}
        quote = MarketQuote.objects.create(market_id=deal.market_id, **told)  # only while this person looks at it
        try:
            return self._act(deal_stop_move, deal, now, stop_price=stop, looser_ok=True)
        finally:
            quote.delete()

    def look_by_hand(self, deal_id: int, *, now: datetime) -> bool:
        return self._act(deal_reprotect, Deal.objects.get(pk=deal_id), now)

    def cancel_by_hand(self, deal_id: int, *, now: datetime) -> bool:
        entry = Order.objects.filter(deal=deal_id, role=Role.ENTRY).order_by("created_at", "pk").first()
        return entry is not None and self._act(order_cancel, entry, now)

    def _act(self, act: Callable[..., bool], row: Any, now: datetime, **more: Any) -> bool:
        try:
            return act(row, by=PLATFORM, at=now, **more)
        except ActRefused:
            return False

    def order_named(self, client_order_id: str) -> Any | None:
        return Order.objects.select_related("deal", "account").filter(client_order_id=client_order_id).first()

    def orders(self) -> Sequence[Any]:
        return self._rows(Order, "deal", "account")

    def deals(self) -> Sequence[Any]:
        return self._rows(Deal, "account")

    def fills(self) -> Sequence[Any]:
        return self._rows(Fill, "order__account")

    def order_events(self) -> Sequence[Any]:
        return self._rows(OrderEvent)

    def deal_events(self) -> Sequence[Any]:
        return self._rows(DealEvent)

    def tickets(self) -> Sequence[Any]:
        return self._rows(Ticket)

    def _rows(self, model: type[Model], *related: str) -> list[Any]:
        """All rows in the order of their numbers, read anew where anything of orders or deals was written since."""
        state = [_writes[each._meta.db_table] for each in (model, Deal, Order)]
        if model not in self._kept or self._kept[model][0] != state:
            rows = model._default_manager.select_related(*related) if related else model._default_manager.all()
            self._kept[model] = (state, list(rows.order_by("pk")))
        return self._kept[model][1]
