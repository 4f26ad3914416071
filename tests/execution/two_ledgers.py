"""The same books twice: in PostgreSQL and in memory, driven by the same calls and compared row by row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction

from algo.execution.entry_ledger import EntryCounts, EntryRequest, EntryWindows
from algo.execution.entry_ledger_memory import MemoryEntryLedger
from algo.execution.entry_ledger_orm import OrmEntryLedger
from algo.execution.ledger import Ledger, Located
from algo.execution.ledger_memory import MemoryLedger
from algo.execution.ledger_orm import OrmLedger
from algo.execution.ledger_rows import order_plan
from algo.execution.memory_store import ControlRow, MemoryStore
from algo.execution.views import Control, DealView, LiveDeal, OrderView
from algo.models import (
    Account,
    AccountLock,
    Deal,
    DealEvent,
    Fill,
    Halt,
    KillSwitch,
    Order,
    OrderEvent,
    OutboxEvent,
    Role,
    SystemControl,
    Ticket,
)
from algo.risk.values import Approval, Denial, EntryIntent
from algo.strategies.schemas import BreakoutStrategySchema
from providers.types import Capabilities, OrderType, Side
from tests.factories import make_account, make_config, make_market

_DEAL_NUMBER = re.compile(r"\b[Dd]eal (\d+)")


@dataclass(frozen=True, slots=True)
class Two:
    """One thing as each ledger knows it."""

    orm: Any
    memory: Any


class TwoLedgers:
    """`accounts` accounts at one exchange, a strategy of each on every market, and both ledgers of each account."""

    def __init__(self, capabilities: Capabilities, *, accounts: int = 2, symbols: tuple[str, ...]) -> None:
        self.capabilities = capabilities
        self.store = MemoryStore()
        self.markets = [make_market(symbol) for symbol in symbols]
        for market in self.markets:
            self.store.add_market(market.rules, pk=market.pk)
        self.accounts: list[Account] = []
        self.configs: list[Any] = []
        for _ in range(accounts):
            self._add_account()
        self.ledgers: list[Two] = [Two(None, None)] * accounts
        for index in range(accounts):
            self.open_ledger(index)
        self.compared = 0
        self.deals: list[Two] = []  # their row numbers, in the order in which they were planned

    def _add_account(self) -> None:
        account = make_account()
        self.accounts.append(account)
        row = self.store.add_account(account.name, account.provider, public_id=str(account.public_id), pk=account.pk)
        for market in self.markets:
            config = make_config(account=account, market=market, allowed_sides="BOTH")
            self.configs.append(config)
            self.store.add_config(config.name, row, self.store.markets[market.pk], pk=config.pk)

    def open_ledger(self, index: int, epoch: int | None = None) -> None:
        account = self.accounts[index]
        account.refresh_from_db()
        self.ledgers[index] = Two(
            OrmLedger(account, self.capabilities, epoch),
            MemoryLedger(self.store, account.pk, self.capabilities, epoch),
        )

    # --- doing the same to both -------------------------------------------------------------------------------------

    def _both(self, orm: Callable[[], Any], memory: Callable[[], Any], *, in_transaction: bool) -> Two:
        """What both answer, which is the same, an exception among the answers; nothing is left of a call that raised
        one."""
        answer = Two(self._told(orm, in_transaction=in_transaction), self._told(memory, in_transaction=False))
        first, second = self.plain(answer.orm, is_orm=True), self.plain(answer.memory, is_orm=False)
        assert first == second, f"PostgreSQL answers {first!r}, memory {second!r}"
        return answer

    def _told(self, call: Callable[[], Any], *, in_transaction: bool) -> Any:
        try:
            if not in_transaction:
                return call()
            with transaction.atomic():
                return call()
        except Exception as exc:  # noqa: BLE001 - compared by its kind
            return exc

    def call(self, account: int, method: str, *args: Any, in_transaction: bool = True, **kwargs: Any) -> Two:
        """One method of both ledgers; a Two among the arguments is what each of them knows."""

        def on(ledger: Ledger, side: str) -> Callable[[], Any]:
            def mine(value: Any) -> Any:
                return getattr(value, side) if isinstance(value, Two) else value

            arguments, named = [mine(each) for each in args], {name: mine(each) for name, each in kwargs.items()}
            return lambda: getattr(ledger, method)(*arguments, **named)

        two = self.ledgers[account]
        return self._both(on(two.orm, "orm"), on(two.memory, "memory"), in_transaction=in_transaction)

    def read(self, account: int, method: str, *args: Any, **kwargs: Any) -> Two:
        """`call` of what only looks, and therefore needs no transaction to be undone."""
        return self.call(account, method, *args, in_transaction=False, **kwargs)

    def plan(self, config: Any, *, side: Side, bar_open_at: datetime, now: datetime, **values: Any) -> None:
        """A deal with its entry, as a decision leaves it."""
        deal = {"side": side, "bar_open_at": bar_open_at, "created_at": now, **values}
        entry = {
            "role": Role.ENTRY,
            "side": side,
            "kind": OrderType.MARKET,
            "quantity": values["planned_quantity"],
            "price": None,
            "stop_price": None,
            "reason": "breakout",
            "now": now,
        }

        def in_postgres() -> int:
            row = Deal.objects.create(config=config, account=config.account, market=config.market, **deal)
            order_plan(row, leg=1, **entry)
            return row.pk

        def in_memory() -> int:
            with self.store.atomic():
                row = self.store.add_deal(self.store.configs[config.pk], **deal)
                self.store.add_order(row, **entry)
            return row.pk

        before = len(self.store.deals)
        numbers = Two(self._told(in_postgres, in_transaction=True), self._told(in_memory, in_transaction=False))
        if isinstance(numbers.orm, int) and isinstance(numbers.memory, int):
            self.deals.append(numbers)
        else:
            assert type(numbers.orm) is type(numbers.memory), numbers
            assert len(self.store.deals) == before

    def decide(
        self, config: Any, answer: Approval | Denial, *, side: Side, bar_open_at: datetime, now: datetime, **rules: Any
    ) -> None:
        """A decision that is answered so, and what it was counted against."""
        request = EntryRequest(
            account_id=config.account.pk,
            config_id=config.pk,
            market_id=config.market.pk,
            bar_open_at=bar_open_at,
            intent=EntryIntent(side, Decimal(1), "breakout", bar_open_at),
            price=Decimal(100),
            rules=config.market.rules,
            parameters=BreakoutStrategySchema(**rules),
            capabilities=self.capabilities,
        )
        windows = EntryWindows(
            day_start=now - timedelta(minutes=5),
            quarantine_since=now - timedelta(seconds=150),
            recent_since=now - timedelta(seconds=60),
            quotes_since=now - timedelta(seconds=10),
        )
        counted: list[Any] = []

        def judge(counts: EntryCounts) -> Approval | Denial:
            counted.append(replace(counts, live=tuple(sorted(counts.live, key=repr)), kill_switch_reason=""))
            return answer

        first = OrmEntryLedger().decide(request, judge, windows=windows, now=now)
        second = MemoryEntryLedger(self.store).decide(request, judge, windows=windows, now=now)
        assert counted[1:] == counted[:1], counted
        assert (first and (first.outcome, first.answer)) == (second and (second.outcome, second.answer))
        if first and second and first.deal_id:
            self.deals.append(Two(first.deal_id, second.deal_id))

    # --- switches ---------------------------------------------------------------------------------------------------

    def turn(self, scope: str, target: Any, level: KillSwitch, reason: str) -> None:
        if scope == "system":
            control = SystemControl.load()
            control.kill_switch, control.reason = level, reason
            control.save()
            self.store.system = ControlRow(level, reason)
        else:
            Halt.objects.update_or_create(**{scope: target}, defaults={"level": level, "reason": reason})
            self.store.halts[scope, target.pk] = ControlRow(level, reason)

    def change_by_hand(self, deal: Two, changes: Callable[[Any], Mapping[str, Any]]) -> None:
        """What a person does on a page: columns of a deal (numbers), refused by both or by neither."""
        self._by_hand(Deal.objects.filter(pk=deal.orm), self.store.deals[deal.memory], changes)

    def cancel_by_hand(self, order: Two, now: datetime) -> None:
        rows = Order.objects.filter(pk=order.orm.id)
        self._by_hand(rows, self.store.orders[order.memory.id], lambda _: {"cancel_asked_at": now})

    def _by_hand(self, rows: Any, kept: Any, changes: Callable[[Any], Mapping[str, Any]]) -> None:
        def in_postgres() -> None:
            rows.update(**changes(rows.get()))

        def in_memory() -> None:
            with self.store.atomic():
                self.store.touch(kept)
                for name, value in changes(kept).items():
                    if name == "status":
                        self.store.set_deal_status(kept, value)
                    else:
                        setattr(kept, name, value)

        self._both(in_postgres, in_memory, in_transaction=True)

    def set_account(self, index: int, **values: Any) -> None:
        """What a person or another process changes on an account."""
        Account.objects.filter(pk=self.accounts[index].pk).update(**values)
        for name, value in values.items():
            setattr(self.store.accounts[self.accounts[index].pk], name, value)

    def next_epoch(self, index: int) -> int:
        lock, _ = AccountLock.objects.get_or_create(account=self.accounts[index])
        lock.epoch += 1
        lock.save()
        assert self.store.next_epoch(self.accounts[index].pk) == lock.epoch
        return lock.epoch

    # --- looking at both --------------------------------------------------------------------------------------------

    def account_of(self, deal: Two) -> int:
        owner = self.store.deals[deal.memory].account.pk
        return next(index for index, account in enumerate(self.accounts) if account.pk == owner)

    def view(self, deal: Two) -> Two:
        return self.read(self.account_of(deal), "deal", deal)

    def plain(self, value: Any, *, is_orm: bool) -> Any:
        """An answer without row numbers, which are each ledger's own."""
        if isinstance(value, Exception):
            return type(value)
        if isinstance(value, Located):
            deal, symbol, order = value.deal_id, value.symbol, self._plain_order(value.order, is_orm)
            return self._number(deal, is_orm), symbol, order
        if isinstance(value, DealView):
            return self._plain_view(value, is_orm)
        if isinstance(value, LiveDeal):
            return self._plain_view(value.deal, is_orm), self._plain_control(value.control)
        if isinstance(value, list | tuple):
            return [
                self._number(each, is_orm) if type(each) is int else self.plain(each, is_orm=is_orm) for each in value
            ]
        return value

    def _plain_view(self, view: DealView, is_orm: bool) -> Any:
        orders = [self._plain_order(order, is_orm) for order in view.orders]
        return replace(view, id=self._number(view.id, is_orm), orders=()), orders

    def _plain_order(self, order: OrderView, is_orm: bool) -> Any:
        return replace(order, id=0, pair_id=None), self._names(is_orm)[order.pair_id] if order.pair_id else None

    def _names(self, is_orm: bool) -> dict[int, str]:
        if is_orm:
            return dict(Order.objects.values_list("pk", "client_order_id"))
        return {row.pk: row.client_order_id for row in self.store.orders.values()}

    def _number(self, deal_id: int, is_orm: bool) -> int:
        ids = [deal.orm if is_orm else deal.memory for deal in self.deals]
        return ids.index(deal_id)

    def _text(self, text: str, is_orm: bool) -> str:
        return _DEAL_NUMBER.sub(lambda found: f"deal #{self._number(int(found[1]), is_orm)}", text)

    def compare(self) -> None:
        """Every table; and what one account, in turns, and one deal of it answer about themselves."""
        for name in ("deals", "orders", "fills", "order_events", "deal_events", "tickets", "events", "accounts_of"):
            first, second = getattr(self, f"_orm_{name}")(), getattr(self, f"_memory_{name}")()
            assert first == second, f"{name}: {_difference(first, second)}"
        self.compared += 1
        for method in ("is_stopped", "live_deals", "working", "reconcile_times", "balances_read_at"):
            self.read(self.compared % len(self.accounts), method)
        self._compare_live(self.compared % len(self.accounts))
        if self.deals:
            deal = self.deals[self.compared % len(self.deals)]
            self.view(deal)
            self._compare_control(deal)

    def _compare_control(self, deal: Two) -> None:
        ledger = self.ledgers[self.account_of(deal)]
        first, second = ledger.orm.control(deal.orm), ledger.memory.control(deal.memory)
        assert self._plain_control(first) == self._plain_control(second)

    def _plain_control(self, control: Control) -> Control:
        """Of two switches that are equally strict, either gives its reason."""
        switches = [self.store.system, *self.store.halts.values()]
        return (
            replace(control, reason="") if sum(each.kill_switch != KillSwitch.OFF for each in switches) > 1 else control
        )

    def _compare_live(self, account: int) -> None:
        """What is read of all live deals at once is what each of them says by itself."""
        views = self.read(account, "live_views")
        for name in ("orm", "memory"):
            ledger, seen = getattr(self.ledgers[account], name), getattr(views, name)
            assert [each.deal for each in seen] == [ledger.deal(deal_id) for deal_id in ledger.live_deals()]
            controls = [self._plain_control(ledger.control(each.deal.id)) for each in seen]
            assert [self._plain_control(each.control) for each in seen] == controls

    def _orm_deals(self) -> list[Any]:
        rows = Deal.objects.order_by("pk")
        return [{name: getattr(row, name) for name in _DEAL} for row in rows]

    def _memory_deals(self) -> list[Any]:
        return [{name: getattr(row, name) for name in _DEAL} for row in self.store.deals.values()]

    def _orm_orders(self) -> list[Any]:
        rows = list(Order.objects.order_by("pk"))
        names = {row.pk: row.client_order_id for row in rows}
        return [_order(row, names, self._number(row.deal_id, True)) for row in rows]

    def _memory_orders(self) -> list[Any]:
        names = self._names(is_orm=False)
        return [_order(row, names, self._number(row.deal_id, False)) for row in self.store.orders.values()]

    def _orm_fills(self) -> list[Any]:
        rows = Fill.objects.order_by("pk").select_related("order")
        return [_fill(row) for row in rows]

    def _memory_fills(self) -> list[Any]:
        return [_fill(row) for row in self.store.fills]

    def _orm_order_events(self) -> list[Any]:
        rows = list(OrderEvent.objects.order_by("pk").select_related("order"))
        return _by_order({row.order_id: row.order.client_order_id for row in rows}, rows)

    def _memory_order_events(self) -> list[Any]:
        return _by_order(self._names(is_orm=False), self.store.order_events)

    def _orm_deal_events(self) -> list[Any]:
        return [_deal_event(row, self._number(row.deal_id, True)) for row in DealEvent.objects.order_by("pk")]

    def _memory_deal_events(self) -> list[Any]:
        return [_deal_event(row, self._number(row.deal_id, False)) for row in self.store.deal_events]

    def _orm_tickets(self) -> list[Any]:
        rows = Ticket.objects.order_by("pk").select_related("account", "market")
        return [self._ticket(row, True) for row in rows]

    def _memory_tickets(self) -> list[Any]:
        return [self._ticket(row, False) for row in self.store.tickets]

    def _ticket(self, row: Any, is_orm: bool) -> Any:
        market = row.market.symbol if row.market else None
        words = [self._text(text, is_orm) for text in (row.reference, row.summary)]
        return row.account.pk, market, row.kind, *words, row.details, row.created_at, row.resolved_at

    def _orm_events(self) -> list[Any]:
        return [self._event(row, True) for row in OutboxEvent.objects.order_by("pk")]

    def _memory_events(self) -> list[Any]:
        return [self._event(row, False) for row in self.store.events]

    def _event(self, row: Any, is_orm: bool) -> Any:
        payload = {name: value for name, value in row.payload.items() if name != "deal_id"}
        for name in ("reference", "summary"):
            if name in payload:
                payload[name] = self._text(payload[name], is_orm)
        number = self._number(row.payload["deal_id"], is_orm) if "deal_id" in row.payload else None
        return row.kind, row.created_at, number, payload

    def _orm_accounts_of(self) -> list[Any]:
        rows = Account.objects.order_by("pk")
        return [[getattr(row, name) for name in _ACCOUNT] for row in rows if row.pk in self.store.accounts]

    def _memory_accounts_of(self) -> list[Any]:
        return [[getattr(row, name) for name in _ACCOUNT] for row in self.store.accounts.values()]


_ACCOUNT = (
    "pk",
    "state",
    "state_reason",
    "last_error",
    "reconciled_at",
    "advanced_at",
    "balances_read_at",
    "reconcile_tried_at",
)
_DEAL = """
    config_id market_id bar_open_at side status protection_mode planned_quantity planned_price initial_stop_price
    stop_price target_price best_price entry_price entry_quantity exit_price exit_quantity fees_quote profit
    dust_quantity exit_reason close_reason note reopened stop_loosened look_asked_at
    unprotected_since unprotected_seconds protected_at
    swapped_at crossed_at trailed_at created_at opened_at closed_at
""".split()  # noqa: SIM905
_ORDER = """
    role leg client_order_id exchange_order_id side type quantity price stop_price status filled_quantity average_price
    fee fee_asset reason raw attempts adoptions epoch balance_asset balance_before locked_before balance_read_at
    cancel_asked_at cancel_requested_at
    unknown_since negative_at created_at submitted_at accepted_at checked_at closed_at
""".split()  # noqa: SIM905


def _order(row: Any, names: dict[int, str], deal: int) -> Any:
    return {name: getattr(row, name) for name in _ORDER} | {"pair": names.get(row.pair_id), "deal": deal}


def _fill(row: Any) -> Any:
    values = (row.price, row.quantity, row.fee, row.fee_asset, row.executed_at)
    return row.account.pk, row.order.client_order_id, row.trade_id, *values


def _by_order(names: dict[int, str], rows: Any) -> list[Any]:
    """The log of each order; which of two orders of one call is logged first is nobody's concern."""
    log = [(names[row.order_id], row.at, row.from_status, row.to_status, row.reason, row.raw) for row in rows]
    return sorted(log, key=lambda each: each[0])


def _deal_event(row: Any, deal: int) -> Any:
    return deal, row.at, row.kind, row.from_status, row.to_status, row.detail


def _difference(first: list[Any], second: list[Any]) -> str:
    if len(first) != len(second):
        return f"{len(first)} rows in PostgreSQL, {len(second)} in memory; last {first[-1:]} and {second[-1:]}"
    for one, other in zip(first, second, strict=True):
        if isinstance(one, dict) and one != other:
            return str({name: (one[name], other[name]) for name in one if one[name] != other[name]})
        if one != other:
            return f"{one} and {other}"
    return ""
