"""The rows of the in-memory ledger, with the constraints that the database puts on its own.

What a constraint refuses raises IntegrityError and leaves nothing behind, as a transaction would. Nothing here depends
on a clock, on hashes or on chance: the same calls make the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import ROUND_HALF_UP, Context, Decimal
from functools import partial
from operator import attrgetter
from typing import Any

from django.db import IntegrityError

from algo.execution.identity import client_order_id
from algo.execution.ledger_rows import intent_key
from algo.execution.lifecycle import ADOPTIONS, DEAL_TRANSITIONS, ORDER_TRANSITIONS
from algo.execution.views import DealView, OrderView
from algo.models import (
    FINISHED_DEALS,
    AccountState,
    CloseReason,
    Deal,
    DealStatus,
    Environment,
    KillSwitch,
    Order,
    Role,
    TicketAnswer,
    TicketKind,
)
from algo.models.fields import plain
from algo.selectors.halts import Standing, standing_of
from algo.services.accounts import refused_key
from providers.types import ZERO, MarketRules, OrderStatus, OrderType, ProtectionMode, Side

_PLANNED_AMOUNTS = ("planned_quantity", "planned_price", "initial_stop_price", "stop_price", "target_price")
_PLACES = Decimal("1e-18")
_AS_STORED = Context(prec=60, rounding=ROUND_HALF_UP)  # NUMERIC(38, 18) rounds half away from zero


def stored(value: Decimal) -> Decimal:
    """An amount as it comes back from a NUMERIC(38, 18) column."""
    return plain(value.quantize(_PLACES, context=_AS_STORED))


def stored_or_none(value: Decimal | None) -> Decimal | None:
    return None if value is None else stored(value)


@dataclass(slots=True, eq=False)
class MarketRow:
    pk: int
    provider: str
    symbol: str
    base: str
    quote: str
    rules: MarketRules


@dataclass(slots=True, eq=False)
class AccountRow:
    pk: int
    name: str
    provider: str
    public_id: str
    environment: Environment = Environment.PAPER
    state: AccountState = AccountState.ACTIVE
    state_reason: str = ""
    last_error: str = ""
    api_key_sealed: str = ""  # any text: another one is another key
    key_expires_at: datetime | None = None
    balances: Mapping[str, tuple[Decimal, Decimal]] = field(default_factory=dict)
    balances_read_at: datetime | None = None
    trades_seen: dict[str, datetime] = field(default_factory=dict)
    reconciled_at: datetime | None = None
    reconcile_tried_at: datetime | None = None
    advanced_at: datetime | None = None
    epoch: int = 0  # of its lock


@dataclass(slots=True, eq=False)
class ConfigRow:
    pk: int
    name: str
    account: AccountRow
    market: MarketRow


@dataclass(slots=True, eq=False)
class DealRow:
    pk: int
    config: ConfigRow
    account: AccountRow
    market: MarketRow
    bar_open_at: datetime
    side: Side
    rules: Mapping[str, Any]
    protection_mode: ProtectionMode
    planned_quantity: Decimal
    planned_price: Decimal
    initial_stop_price: Decimal
    stop_price: Decimal
    target_price: Decimal
    created_at: datetime
    status: DealStatus = DealStatus.PLANNED
    best_price: Decimal | None = None
    entry_price: Decimal | None = None
    entry_quantity: Decimal = ZERO
    exit_price: Decimal | None = None
    exit_quantity: Decimal = ZERO
    fees_quote: Decimal = ZERO
    profit: Decimal | None = None
    dust_quantity: Decimal = ZERO
    exit_reason: CloseReason | str = ""
    close_reason: CloseReason | str = ""
    note: str = ""
    reopened: int = 0
    stop_loosened: int = 0
    look_asked_at: datetime | None = None
    unprotected_since: datetime | None = None
    unprotected_seconds: Decimal = ZERO
    protected_at: datetime | None = None
    swapped_at: datetime | None = None
    crossed_at: datetime | None = None
    trailed_at: datetime | None = None
    opened_at: datetime | None = None
    closed_at: datetime | None = None
    orders: list[OrderRow] = field(default_factory=list)
    view: DealView | None = field(default=None, repr=False)  # kept until the deal or one of its orders changes

    @property
    def config_id(self) -> int:
        return self.config.pk

    @property
    def market_id(self) -> int:
        return self.market.pk

    @property
    def fills(self) -> list[FillRow]:
        return [fill for order in self.orders for fill in order.fills]

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED_DEALS


@dataclass(slots=True, eq=False)
class OrderRow:
    pk: int
    deal: DealRow
    account: AccountRow
    market: MarketRow
    role: Role
    leg: int
    client_order_id: str
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    reason: str
    created_at: datetime
    status: OrderStatus = OrderStatus.PENDING
    exchange_order_id: str | None = None
    pair_id: int | None = None
    filled_quantity: Decimal = ZERO
    average_price: Decimal | None = None
    fee: Decimal = ZERO
    fee_asset: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)
    attempts: int = 0
    adoptions: int = 0
    epoch: int | None = None
    balance_asset: str = ""
    balance_before: Decimal | None = None
    locked_before: Decimal | None = None
    balance_read_at: datetime | None = None
    cancel_asked_at: datetime | None = None
    cancel_requested_at: datetime | None = None
    unknown_since: datetime | None = None
    negative_at: datetime | None = None
    submitted_at: datetime | None = None
    accepted_at: datetime | None = None
    checked_at: datetime | None = None
    closed_at: datetime | None = None
    booked: Decimal = ZERO
    booked_fee_base: Decimal = ZERO
    fills: list[FillRow] = field(default_factory=list)
    view: OrderView | None = field(default=None, repr=False)

    @property
    def deal_id(self) -> int:
        return self.deal.pk

    @property
    def market_id(self) -> int:
        return self.market.pk


@dataclass(slots=True, eq=False)
class FillRow:
    pk: int
    account: AccountRow
    order: OrderRow
    trade_id: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    executed_at: datetime
    booked_at: datetime


@dataclass(slots=True, eq=False)
class OrderEventRow:
    order_id: int
    at: datetime
    from_status: str
    to_status: str
    reason: str
    raw: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class DealEventRow:
    deal_id: int
    at: datetime
    kind: str
    from_status: str
    to_status: str
    detail: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class TicketRow:
    pk: int
    account: AccountRow
    market: MarketRow | None
    kind: TicketKind
    reference: str
    summary: str
    details: Mapping[str, Any]
    created_at: datetime
    answer: TicketAnswer | str = ""
    outcome: str = ""
    resolved_at: datetime | None = None


@dataclass(slots=True, eq=False)
class OutboxRow:
    kind: str
    payload: Mapping[str, Any]
    created_at: datetime


@dataclass(slots=True, eq=False)
class ControlRow:
    """A switch: of everything, or of one account, strategy or market."""

    kill_switch: KillSwitch = KillSwitch.OFF
    reason: str = ""


def _columns(row: type) -> tuple[str, ...]:
    """What an undone change gives back: everything but lists, which undo themselves, and cached views."""
    return tuple(each.name for each in fields(row) if each.name not in ("pk", "orders", "fills", "view"))


_COLUMNS = {row: _columns(row) for row in (AccountRow, DealRow, OrderRow, TicketRow, ControlRow)}
_VALUES = {row: attrgetter(*names) for row, names in _COLUMNS.items()}


_NO_SWITCH = Standing()


class MemoryStore:
    """Everything that the database would hold, in the order in which it was written."""

    def __init__(self) -> None:
        self.markets: dict[int, MarketRow] = {}
        self.accounts: dict[int, AccountRow] = {}
        self.configs: dict[int, ConfigRow] = {}
        self.deals: dict[int, DealRow] = {}
        self.orders: dict[int, OrderRow] = {}
        self.fills: list[FillRow] = []
        self.order_events: list[OrderEventRow] = []
        self.deal_events: list[DealEventRow] = []
        self.tickets: list[TicketRow] = []
        self.events: list[OutboxRow] = []
        self.system = ControlRow()
        self.halts: dict[tuple[str, int], ControlRow] = {}  # ("account" | "config" | "market", its id)
        self.heartbeats: dict[str, datetime] = {}
        self._by_symbol: dict[tuple[str, str], MarketRow] = {}
        self._live: dict[int, dict[int, DealRow]] = {}  # account to its live deals
        self._unended: dict[int, dict[int, OrderRow]] = {}  # account to its orders that have not ended
        self._doubted: dict[int, dict[int, OrderRow]] = {}  # account to its orders that were looked for in vain
        self._by_exchange_id: dict[tuple[int, str], OrderRow] = {}
        self._by_client_id: dict[str, OrderRow] = {}
        self._by_trade: dict[tuple[int, str], FillRow] = {}
        self._decided: dict[tuple[int, int, datetime, Side], DealRow] = {}
        self._by_reference: dict[tuple[int, str, str], TicketRow] = {}
        self._last_bars: dict[int, datetime] = {}  # strategy to the newest candle it decided over
        self._undo: list[Callable[[], Any]] = []
        self._changed: list[tuple[Any, tuple[Any, ...]]] = []
        self._depth = 0

    # --- transactions -----------------------------------------------------------------------------------------------

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """All of the changes inside, or none of them."""
        mark = self.begin()
        try:
            yield
            self.check()
        except BaseException:
            self.roll_back(mark)
            raise
        self.commit()

    def begin(self) -> int:
        """Where a transaction begins: inside of another one, it is a part of that."""
        self._depth += 1
        return len(self._undo)

    def check(self) -> None:
        """Refuse what a trigger would: changes that no row may go through, whoever makes them."""
        for row, before in self._changed:
            if type(row) is OrderRow:
                check_order_change(before, row)
            else:
                check_deal_change(before, row)
        self._changed.clear()

    def roll_back(self, mark: int) -> None:
        self._depth -= 1
        self._changed.clear()
        while len(self._undo) > mark:
            self._undo.pop()()

    def commit(self) -> None:
        self._depth -= 1
        if not self._depth:
            self._undo.clear()

    def touch(self, row: Any) -> None:
        """Call before any change of a row: it can then be undone, and no view of it is served any more."""
        kind = type(row)
        self._undo.append(partial(_restore, row, _COLUMNS[kind], _VALUES[kind](row)))
        if kind is OrderRow:
            row.view = row.deal.view = None
            self._changed.append((row, _order_guarded(row)))
        elif kind is DealRow:
            row.view = None
            self._changed.append((row, _deal_guarded(row)))

    def _append(self, rows: list[Any], row: Any) -> None:
        rows.append(row)
        self._undo.append(rows.pop)

    def _put(self, rows: dict[Any, Any], key: Any, row: Any) -> None:
        rows[key] = row
        self._undo.append(partial(rows.pop, key, None))

    def _drop(self, rows: dict[Any, Any], key: Any) -> None:
        if key in rows:
            self._undo.append(partial(rows.__setitem__, key, rows.pop(key)))

    # --- what a person or the platform enters -----------------------------------------------------------------------

    def add_market(self, rules: MarketRules, *, pk: int | None = None) -> MarketRow:
        pk = pk or len(self.markets) + 1
        row = self.markets[pk] = MarketRow(pk, rules.provider, rules.symbol, rules.base, rules.quote, rules)
        self._by_symbol[rules.provider, rules.symbol] = row
        return row

    def market_of(self, provider: str, symbol: str) -> MarketRow | None:
        return self._by_symbol.get((provider, symbol))

    def set_rules(self, market: MarketRow, rules: MarketRules) -> None:
        market.rules = rules
        for deal in self.deals.values():
            if deal.market is market:
                deal.view = None
                for order in deal.orders:
                    order.view = None

    def add_account(
        self, name: str, provider: str, *, public_id: str | None = None, pk: int | None = None, **values: Any
    ) -> AccountRow:
        pk = pk or len(self.accounts) + 1
        row = AccountRow(pk, name, provider, public_id or f"account-{pk}", **values)
        self._live[pk], self._unended[pk], self._doubted[pk] = {}, {}, {}
        self.accounts[pk] = row
        return row

    def add_config(self, name: str, account: AccountRow, market: MarketRow, *, pk: int | None = None) -> ConfigRow:
        pk = pk or len(self.configs) + 1
        row = self.configs[pk] = ConfigRow(pk, name, account, market)
        return row

    def next_epoch(self, account_id: int) -> int:
        """The account's lock changes hands."""
        account = self.accounts[account_id]
        account.epoch += 1
        return account.epoch

    # --- switches and states ----------------------------------------------------------------------------------------

    def standing(self, config: ConfigRow, market: MarketRow, account: AccountRow) -> Standing:
        """The strictest of the switches over an account, a strategy and a market."""
        switches = [
            (self.system, None, None, None),
            (self.halts.get(("account", account.pk)), account.name, None, None),
            (self.halts.get(("config", config.pk)), None, config.name, None),
            (self.halts.get(("market", market.pk)), None, None, market),
        ]
        standing = [
            standing_of(
                of,
                strategy,
                where.symbol if where else None,
                where.provider if where else None,
                row.kill_switch,
                row.reason,
            )
            for row, of, strategy, where in switches
            if row is not None and row.kill_switch != KillSwitch.OFF
        ]
        return max(standing, key=lambda each: each.level.severity, default=_NO_SWITCH)

    def stop_account(self, account: AccountRow, key: str, reason: str, now: datetime) -> None:
        """Its exchange refused `key`: nothing happens where it is stopped, or has another key now."""
        if account.state == AccountState.STOPPED or account.api_key_sealed != key:
            return
        self.touch(account)
        account.state = AccountState.STOPPED
        account.state_reason = account.last_error = refused_key(reason)[:400]
        self.note_event("account.stopped", _about(account) | {"reason": account.state_reason}, now)

    def pause_account(self, account: AccountRow, reason: str, now: datetime) -> None:
        """By the platform itself; nothing happens where it is not active."""
        if account.state != AccountState.ACTIVE:
            return
        self.touch(account)
        account.state, account.state_reason = AccountState.PAUSED, f"paused by the platform: {reason}"[:400]
        self.note_event("account.paused", _about(account) | {"by": "the platform", "reason": reason}, now)

    # --- deals ------------------------------------------------------------------------------------------------------

    def add_deal(self, config: ConfigRow, *, pk: int | None = None, **values: Any) -> DealRow:
        """A PLANNED deal of a strategy, on its account and market."""
        with self.atomic():
            return self._add_deal(DealRow(pk or len(self.deals) + 1, config, config.account, config.market, **values))

    def _add_deal(self, row: DealRow) -> DealRow:
        if row.planned_quantity <= 0:
            raise IntegrityError("deal_quantity_positive")
        key = (row.config.pk, row.market.pk, row.bar_open_at, row.side)
        if key in self._decided:
            raise IntegrityError("deal_once_per_signal")
        self._enter(row)
        self._put(self._decided, key, row)
        self._put(self.deals, row.pk, row)
        for name in _PLANNED_AMOUNTS:
            setattr(row, name, stored(getattr(row, name)))
        return row

    def _enter(self, row: DealRow) -> None:
        live = self._live[row.account.pk]
        if any(other.market is row.market and other is not row for other in live.values()):
            raise IntegrityError("deal_one_live_per_market")
        self._put(live, row.pk, row)

    def set_deal_status(self, row: DealRow, status: DealStatus) -> None:
        """The row has been touched. The transition has been checked by the caller."""
        if row.status in FINISHED_DEALS and status not in FINISHED_DEALS:
            self._enter(row)
        elif status in FINISHED_DEALS:
            self._drop(self._live[row.account.pk], row.pk)
        row.status = status

    def last_bar_at(self, config: ConfigRow) -> datetime | None:
        """The newest candle that a strategy decided over."""
        return self._last_bars.get(config.pk)

    def note_decision(self, config: ConfigRow, bar_open_at: datetime) -> None:
        before = self._last_bars.get(config.pk)
        if before is None:
            self._put(self._last_bars, config.pk, bar_open_at)
            return
        self._undo.append(partial(self._last_bars.__setitem__, config.pk, before))
        self._last_bars[config.pk] = bar_open_at

    def live_deals(self, account_id: int) -> list[DealRow]:
        return list(self._live[account_id].values())

    def find_deal(self, deal_id: int) -> DealRow:
        row = self.deals.get(deal_id)
        if row is None:
            raise Deal.DoesNotExist(f"There is no deal {deal_id}.")
        return row

    # --- orders -----------------------------------------------------------------------------------------------------

    def add_order(
        self,
        deal: DealRow,
        *,
        role: Role,
        side: Side,
        kind: OrderType,
        quantity: Decimal,
        price: Decimal | None,
        stop_price: Decimal | None,
        reason: str,
        now: datetime,
    ) -> OrderRow:
        """The intent row, named after the deal's intent, its role and its number."""
        leg = sum(order.role == role for order in deal.orders) + 1
        account = deal.account
        name = client_order_id(account.environment, account.public_id, *intent_key(deal), role, leg)
        row = OrderRow(
            len(self.orders) + 1,
            deal,
            account,
            deal.market,
            role,
            leg,
            name,
            side,
            kind,
            quantity,
            price,
            stop_price,
            reason[:200],
            now,
        )
        if quantity <= 0:
            raise IntegrityError("order_quantity_positive")
        if role == Role.ENTRY and leg > 1:
            raise IntegrityError("order_one_entry_per_deal")
        if name in self._by_client_id:
            raise IntegrityError("algo_order_client_order_id_key")
        row.quantity, row.price, row.stop_price = stored(quantity), stored_or_none(price), stored_or_none(stop_price)
        deal.view = None
        self._put(self._by_client_id, name, row)
        self._put(self.orders, row.pk, row)
        self._append(deal.orders, row)
        self.save_order(row)
        self.note_order(row, "", OrderStatus.PENDING, now, reason)
        return row

    def save_order(self, row: OrderRow) -> None:
        """Check what the database checks when a changed order is written, and keep the indexes right."""
        self.check()
        if not ZERO <= row.filled_quantity <= row.quantity:
            raise IntegrityError("order_fill_within_quantity")
        if row.role == Role.ENTRY and row.attempts > 1:
            raise IntegrityError("order_entry_sent_once")
        if row.exchange_order_id is not None:
            key = (row.account.pk, row.exchange_order_id)
            other = self._by_exchange_id.get(key)
            if other is None:
                self._put(self._by_exchange_id, key, row)
            elif other is not row:
                raise IntegrityError("order_exchange_id_once")
        unended = self._unended[row.account.pk]
        if row.status.is_final:
            self._drop(unended, row.pk)
        elif row.pk not in unended:
            self._check_alone(row)
            self._put(unended, row.pk, row)

    def _check_alone(self, row: OrderRow) -> None:
        """One live exit, and of those that were not adopted, one live stop and one live target."""
        beside = [o for o in row.deal.orders if o is not row and o.role == row.role and not o.status.is_final]
        if row.role == Role.EXIT and beside:
            raise IntegrityError("order_one_live_exit_per_deal")
        if row.role in (Role.STOP, Role.TARGET) and not row.adoptions and not all(o.adoptions for o in beside):
            raise IntegrityError("order_one_live_stop_and_target")

    def find_order(self, order_id: int) -> OrderRow:
        row = self.orders.get(order_id)
        if row is None:
            raise Order.DoesNotExist(f"There is no order {order_id}.")
        return row

    def order_at_exchange(self, account_id: int, exchange_order_id: str) -> OrderRow | None:
        return self._by_exchange_id.get((account_id, exchange_order_id))

    def order_named(self, name: str) -> OrderRow | None:
        return self._by_client_id.get(name)

    def unended_orders(self, account_id: int) -> list[OrderRow]:
        return list(self._unended[account_id].values())

    def note_negative(self, row: OrderRow, now: datetime) -> None:
        """The row has been touched."""
        row.negative_at = row.checked_at = now
        doubted = self._doubted[row.account.pk]
        if row.pk not in doubted:
            self._put(doubted, row.pk, row)

    def doubted_orders(self, account_id: int) -> list[OrderRow]:
        """Orders that were ever looked for in vain."""
        return list(self._doubted[account_id].values())

    # --- fills ------------------------------------------------------------------------------------------------------

    def add_fill(
        self,
        order: OrderRow,
        *,
        trade_id: str,
        price: Decimal,
        quantity: Decimal,
        fee: Decimal,
        fee_asset: str,
        executed_at: datetime,
        booked_at: datetime,
    ) -> bool:
        """Book a trade of an order that has been touched; False where it has been booked before."""
        if quantity <= 0 or price <= 0:
            raise IntegrityError("fill_positive")
        key = (order.account.pk, trade_id)
        if key in self._by_trade:
            return False
        amounts = (stored(price), stored(quantity), stored(fee))
        times = (executed_at, booked_at)
        row = FillRow(len(self.fills) + 1, order.account, order, trade_id, *amounts, fee_asset, *times)
        self._put(self._by_trade, key, row)
        self._append(self.fills, row)
        self._append(order.fills, row)
        order.booked += row.quantity
        if fee_asset == order.market.base:
            order.booked_fee_base += row.fee
        return True

    def is_booked(self, account_id: int, trade_id: str) -> bool:
        return (account_id, trade_id) in self._by_trade

    # --- logs -------------------------------------------------------------------------------------------------------

    def note_order(
        self, row: OrderRow, old: str, new: str, now: datetime, reason: str = "", raw: Mapping[str, Any] | None = None
    ) -> None:
        self._append(self.order_events, OrderEventRow(row.pk, now, old, new, reason[:400], raw or {}))

    def note_deal(self, row: DealRow, kind: str, old: str, now: datetime, detail: Mapping[str, Any]) -> None:
        self._append(self.deal_events, DealEventRow(row.pk, now, kind, old, row.status, detail))

    def note_event(self, kind: str, payload: Mapping[str, Any], now: datetime) -> None:
        self._append(self.events, OutboxRow(kind, payload, now))

    def is_ticketed(self, account: AccountRow, kind: TicketKind, reference: str) -> bool:
        return (account.pk, kind, reference) in self._by_reference

    def add_ticket(
        self,
        account: AccountRow,
        kind: TicketKind,
        reference: str,
        *,
        market: MarketRow | None,
        summary: str,
        details: Mapping[str, Any],
        now: datetime,
    ) -> TicketRow | None:
        """None where there is one about this already."""
        key = (account.pk, kind, reference)
        if key in self._by_reference:
            return None
        row = TicketRow(len(self.tickets) + 1, account, market, kind, reference, summary[:400], details, now)
        self._put(self._by_reference, key, row)
        self._append(self.tickets, row)
        return row


def _about(account: AccountRow) -> dict[str, Any]:
    return {"account": account.name, "provider": account.provider, "environment": account.environment}


def _restore(row: Any, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
    for name, value in zip(names, values, strict=True):
        setattr(row, name, value)
    if isinstance(row, OrderRow):
        row.view = row.deal.view = None
    elif isinstance(row, DealRow):
        row.view = None


# --- what the triggers refuse ---------------------------------------------------------------------------------------
# Only what the ledger's port can come to: that plans and names never change is not among it.

_order_guarded = attrgetter(
    "status", "attempts", "adoptions", "epoch", "filled_quantity", "exchange_order_id", "unknown_since"
)
_deal_guarded = attrgetter(
    "status",
    "opened_at",
    "reopened",
    "initial_stop_price",
    "target_price",
    "stop_price",
    "unprotected_seconds",
    "stop_loosened",
)


def check_order_change(before: tuple[Any, ...], row: OrderRow) -> None:
    old, attempts, adoptions, epoch, filled, name, unknown = before
    sent = old == OrderStatus.PENDING and row.status == OrderStatus.SUBMITTED
    released = old == OrderStatus.SUBMITTED and row.status == OrderStatus.PENDING
    if name is not None and row.exchange_order_id != name:
        raise IntegrityError("order_exchange_id_kept")
    if row.filled_quantity < filled:
        raise IntegrityError("order_fill_kept")
    if row.adoptions not in (adoptions, adoptions + 1):
        raise IntegrityError("order_adoptions_counted")
    if row.status != old and not _may_become(old, row.status, adopted=row.adoptions > adoptions):
        raise IntegrityError("order_transition")
    if sent != (row.attempts > attempts) or (row.attempts < attempts and not released):
        raise IntegrityError("order_sends_counted")
    if sent and _is_fenced(row.epoch, row):
        raise IntegrityError("order_sent_under_the_lock")
    if released and (row.exchange_order_id is not None or row.accepted_at is not None or row.filled_quantity):
        raise IntegrityError("order_release_unsent")
    if row.role == Role.ENTRY and old == OrderStatus.SUBMITTED:
        _check_entry_sent(row, epoch, unknown, released=released)


def _may_become(old: OrderStatus, new: OrderStatus, *, adopted: bool) -> bool:
    if adopted and new in ADOPTIONS.get(old, ()):
        return True
    return old != OrderStatus.REJECTED and new in ORDER_TRANSITIONS[old]


def _check_entry_sent(row: OrderRow, epoch: int | None, unknown: datetime | None, *, released: bool) -> None:
    """An entry goes back only by its own sender, and its doubt ends only with an answer."""
    if released and (unknown is not None or _is_fenced(epoch, row)):
        raise IntegrityError("order_entry_release_undoubted")
    if row.status == OrderStatus.SUBMITTED and unknown is not None and row.unknown_since is None:
        raise IntegrityError("order_doubt_kept")


def _is_fenced(epoch: int | None, row: OrderRow) -> bool:
    return epoch is not None and row.account.epoch > epoch


def check_deal_change(before: tuple[Any, ...], row: DealRow) -> None:
    old, opened_at, reopened, first_stop, target, stop, unprotected, loosened = before
    opening = opened_at is None and row.opened_at is not None and row.status == DealStatus.OPEN
    reopening = old in FINISHED_DEALS and row.status == DealStatus.OPEN
    if opened_at is not None and row.opened_at != opened_at:
        raise IntegrityError("deal_opened_once")
    if row.reopened != reopened + reopening:
        raise IntegrityError("deal_reopened_counted")
    if row.status != old and row.status not in DEAL_TRANSITIONS[old]:
        raise IntegrityError("deal_transition")
    if not opening:
        if (row.initial_stop_price, row.target_price) != (first_stop, target):
            raise IntegrityError("deal_prices_set_at_opening")
        if row.stop_price != stop and not _moves_on(old, stop, row, is_loosened=row.stop_loosened == loosened + 1):
            raise IntegrityError("deal_stop_never_moves_back")
    if row.stop_loosened != loosened and (opening or not _is_counted(loosened, stop, row)):
        raise IntegrityError("deal_loosening_counted")
    if row.unprotected_seconds < unprotected:
        raise IntegrityError("deal_unprotected_time_kept")


def _moves_on(old: DealStatus, stop: Decimal, row: DealRow, *, is_loosened: bool) -> bool:
    return old == row.status == DealStatus.OPEN and (is_loosened or not _moves_back(stop, row))


def _moves_back(stop: Decimal, row: DealRow) -> bool:
    return row.stop_price < stop if row.side == Side.BUY else row.stop_price > stop


def _is_counted(loosened: int, stop: Decimal, row: DealRow) -> bool:
    return row.stop_loosened == loosened + 1 and _moves_back(stop, row)
