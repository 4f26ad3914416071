"""Rows for the tests of every room: sensible defaults, all overridable; related rows are made where none is given."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection

from algo.models import (
    Account,
    BacktestRun,
    ChannelType,
    Deal,
    Decision,
    Delivery,
    Door,
    EventKind,
    Fill,
    InboundAlert,
    InboundKey,
    Market,
    NotificationChannel,
    OptimisationRun,
    Order,
    OrderEvent,
    OutboxEvent,
    Outcome,
    ParityReport,
    ProbeOrder,
    Role,
    RunStatus,
    Signal,
    StrategyConfig,
    Ticket,
    TicketKind,
)
from algo.models.event_kinds import severity_of
from algo.selectors import rights
from algo.services.audit import PLATFORM, Actor
from providers.types import Capabilities, OrderStatus, OrderType, ProtectionMode, Side, canonical_asset

NOW = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
WALLEX_LIKE = Capabilities(stop_market=True, stop_limit=True, stops_lock_balance=True)
NOBITEX_LIKE = Capabilities(oco=True, stop_market=True, stop_limit=True, finds_closed_by_client_id=True)
_numbers = itertools.count(1)


@contextmanager
def unguarded() -> Iterator[None]:
    """Rows as somebody with all rights over the database could leave them: no trigger fires, no foreign key is
    checked."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        yield
        cursor.execute("SET session_replication_role = DEFAULT")


def make_user(
    username: str = "", *, password: str | None = None, role: rights.Role | None = None, **fields: Any
) -> Any:
    """An ordinary user, in the group of `role` where one is given, without a password unless one is given (hashing it
    takes its time); `is_staff=True, is_superuser=True` for the admin."""
    user = get_user_model().objects.create_user(username or f"user{next(_numbers)}", password=password, **fields)
    if role is not None:
        user.groups.add(Group.objects.get(name=role.value))
    return user


def make_trader(username: str = "", **fields: Any) -> Any:
    """Who may act on the accounts they own."""
    return make_user(username, role=rights.Role.TRADER, **fields)


def by(user: Any = None, door: Door = Door.ADMIN) -> Actor:
    """Who acts: `user` in the admin; without one, the platform itself."""
    return PLATFORM if user is None else Actor(user, door)


def make_account(*, api_key: str = "", **fields: Any) -> Account:
    """A paper account at Wallex, probed: its stops lock the balance (mode 3)."""
    fields.setdefault("name", f"account {next(_numbers)}")
    fields.setdefault("provider", "wallex")
    fields.setdefault("capabilities", asdict(NOBITEX_LIKE if fields["provider"] == "nobitex" else WALLEX_LIKE))
    if "owner" not in fields:
        fields["owner"] = make_trader()
    account = Account(**fields)
    if api_key:
        account.set_api_key(api_key)
    account.save()
    return account


def make_market(symbol: str = "BTCUSDT", *, provider: str = "wallex", **fields: Any) -> Market:
    """The market `symbol` of `provider` (made once per test); a fresh one where any field is given."""
    base, quote = next((symbol[: -len(end)], end) for end in ("USDT", "TMN", "IRT", "BTC") if symbol.endswith(end))
    defaults: dict[str, Any] = {
        "base": base,
        "quote": quote,
        "pair": f"{base}/{canonical_asset(quote)}",
        "tick_size": Decimal("0.01"),
        "step_size": Decimal("0.000001"),
        "min_quantity": Decimal("0.000001"),
        "min_notional": Decimal("5"),
        "maker_fee_rate": Decimal("0.0025"),
        "taker_fee_rate": Decimal("0.003"),
        "market_band": Decimal("0.02"),
        "refreshed_at": NOW,
    }
    if fields:
        return Market.objects.create(provider=provider, symbol=symbol, **(defaults | fields))
    return Market.objects.get_or_create(provider=provider, symbol=symbol, defaults=defaults)[0]


def make_config(**fields: Any) -> StrategyConfig:
    """A running BreakoutStrategy with default parameters: Nobitex candles, Wallex orders, BTCUSDT."""
    fields.setdefault("name", f"strategy {next(_numbers)}")
    fields.setdefault("strategy", "BreakoutStrategy")
    fields.setdefault("status", "running")
    if "account" not in fields:
        fields["account"] = make_account(provider=fields["market"].provider) if "market" in fields else make_account()
    fields.setdefault("market", None)
    if fields["market"] is None:
        fields["market"] = make_market(provider=fields["account"].provider)
    if "data_market" not in fields:
        fields["data_market"] = make_market(fields["market"].symbol, provider="nobitex")
    return StrategyConfig.objects.create(**fields)


def make_signal(config: StrategyConfig | None = None, **fields: Any) -> Signal:
    """A breakout BUY on a bar of its own."""
    config = config or make_config()
    bar = fields.setdefault("bar_open_at", NOW - timedelta(minutes=next(_numbers)))
    defaults: dict[str, Any] = {
        "created_at": bar + timedelta(minutes=1, seconds=1),
        "side": Side.BUY,
        "reason": "breakout",
        "confidence": Decimal("0.8"),
        "price": Decimal("50000"),
        "indicators": {"rsi": "61.2", "volume_ratio": "1.7"},
    }
    return Signal.objects.create(config=config, **(defaults | fields))


def make_decision(config: StrategyConfig | None = None, **fields: Any) -> Decision:
    config = config or make_config()
    bar = fields.setdefault("bar_open_at", NOW - timedelta(minutes=next(_numbers)))
    defaults: dict[str, Any] = {"decided_at": bar + timedelta(minutes=1, seconds=1), "outcome": Outcome.NO_SIGNAL}
    return Decision.objects.create(config=config, **(defaults | fields))


def make_parity_report(config: StrategyConfig | None = None, **fields: Any) -> ParityReport:
    """A day on which one signal of live and the engine differ, and nobody knows why."""
    config = config or make_config()
    said = "live decided on this candle, and it is not stored"
    difference = {"kind": "signal", "cause": "unexplained", "at": NOW.isoformat(), "text": said}
    sides = {f"{what}_{of}": 1 for what in ("signals", "deals") for of in ("live", "engine", "compared", "equal")}
    profits = {f"{what}_{of}": "0" for what in ("profit", "profit_same_deals") for of in ("live", "engine")}
    counts = {"slippage_percent": None, "decided": 1, "candles": 1, "differences": 1, "unexplained": 1, "notes": []}
    defaults: dict[str, Any] = {
        "day": NOW.date(),
        "computed_at": NOW,
        "unexplained": 1,
        "summary": {**sides, **profits, **counts, "quote": config.market.quote},
        "differences": [{**difference, "live": "nothing", "engine": "BUY", "deal": None}],
    }
    return ParityReport.objects.create(config=config, **(defaults | fields))


def make_deal(config: StrategyConfig | None = None, **fields: Any) -> Deal:
    """A planned BUY of 0.01 BTC at 50,000 with stop 49,850 and target 50,300; `status` and times as you give them."""
    config = config or make_config()
    side = fields.setdefault("side", Side.BUY)
    bar = fields.setdefault("bar_open_at", NOW - timedelta(minutes=next(_numbers)))
    sign = Side(side).sign
    defaults: dict[str, Any] = {
        "config": config,
        "account": config.account,
        "market": config.market,
        "rules": dict(config.parameters),
        "protection_mode": config.account.protection or ProtectionMode.NO_STOPS,
        "planned_quantity": Decimal("0.01"),
        "planned_price": Decimal("50000"),
        "initial_stop_price": Decimal("50000") - 150 * sign,
        "stop_price": Decimal("50000") - 150 * sign,
        "target_price": Decimal("50000") + 300 * sign,
        "created_at": bar + timedelta(minutes=1, seconds=1),
    }
    return Deal.objects.create(**(defaults | fields))


def make_open_deal(config: StrategyConfig | None = None, **fields: Any) -> Deal:
    """A deal whose entry of 0.01 at 50,000 has filled."""
    defaults: dict[str, Any] = {
        "status": "OPEN",
        "entry_price": Decimal("50000"),
        "entry_quantity": Decimal("0.01"),
        "best_price": Decimal("50000"),
        "opened_at": NOW,
    }
    return make_deal(config, **(defaults | fields))


def make_closed_deal(config: StrategyConfig | None = None, **fields: Any) -> Deal:
    """A deal that earned: entered at 50,000, left at 50,300 by its target."""
    defaults: dict[str, Any] = {
        "status": "CLOSED",
        "entry_price": Decimal("50000"),
        "entry_quantity": Decimal("0.01"),
        "exit_price": Decimal("50300"),
        "exit_quantity": Decimal("0.01"),
        "fees_quote": Decimal("2.4"),
        "profit": Decimal("0.6"),
        "close_reason": "take_profit",
        "opened_at": NOW,
        "closed_at": NOW + timedelta(minutes=20),
        "unprotected_seconds": Decimal("0.4"),
    }
    return make_deal(config, **(defaults | fields))


def make_order(deal: Deal | None = None, **fields: Any) -> Order:
    """The entry of `deal`, PENDING; other roles and statuses as you give them. The database lets an order begin as a
    plan only: one with another status goes there as a real one does, sent once."""
    deal = deal or make_deal()
    number = next(_numbers)
    role = fields.setdefault("role", Role.ENTRY)
    side = Side(deal.side)
    defaults: dict[str, Any] = {
        "deal": deal,
        "account": deal.account,
        "market": deal.market,
        "leg": 1 if role == Role.ENTRY else number,
        "client_order_id": f"T{number:08d}",
        "side": side if role == Role.ENTRY else side.opposite,
        "type": {Role.STOP: OrderType.STOP_MARKET, Role.TARGET: OrderType.LIMIT}.get(role, OrderType.MARKET),
        "quantity": deal.planned_quantity,
        "created_at": deal.created_at,
    }
    if role == Role.STOP:
        defaults["stop_price"] = deal.stop_price
    elif role == Role.TARGET:
        defaults["price"] = deal.target_price
    status = OrderStatus(fields.pop("status", OrderStatus.PENDING))
    if status is OrderStatus.PENDING:
        return Order.objects.create(**(defaults | fields))
    at_exchange = {name: fields.pop(name) for name in ("filled_quantity", "exchange_order_id") if name in fields}
    attempts = fields.pop("attempts", 1)
    order = Order.objects.create(**(defaults | fields))
    _move(order, OrderStatus.SUBMITTED, attempts=attempts)
    if status is OrderStatus.CANCELING:
        _move(order, OrderStatus.OPEN)
    _move(order, status, **at_exchange)
    return order


def _move(order: Order, status: OrderStatus, **fields: Any) -> None:
    for name, value in {"status": status, **fields}.items():
        setattr(order, name, value)
    order.save(update_fields=["status", *fields])


def make_order_event(order: Order | None = None, **fields: Any) -> OrderEvent:
    order = order or make_order()
    defaults: dict[str, Any] = {"at": order.created_at, "to_status": order.status, "from_status": ""}
    return OrderEvent.objects.create(order=order, **(defaults | fields))


def make_fill(order: Order | None = None, **fields: Any) -> Fill:
    order = order or make_order()
    defaults: dict[str, Any] = {
        "account": order.account,
        "trade_id": f"trade-{next(_numbers)}",
        "price": Decimal("50000"),
        "quantity": order.quantity,
        "fee": Decimal("0.00003"),
        "fee_asset": order.market.base,
        "executed_at": order.created_at + timedelta(seconds=1),
    }
    return Fill.objects.create(order=order, **(defaults | fields))


def make_ticket(account: Account | None = None, **fields: Any) -> Ticket:
    account = account or make_account()
    defaults: dict[str, Any] = {
        "market": make_market(provider=account.provider),
        "kind": TicketKind.UNKNOWN_ORDER,
        "reference": f"reference-{next(_numbers)}",
        "summary": "The exchange holds an order that is not ours.",
        "created_at": NOW,
    }
    return Ticket.objects.create(account=account, **(defaults | fields))


def make_probe_order(account: Account | None = None, **fields: Any) -> ProbeOrder:
    """A probe order that was taken down again."""
    account = account or make_account()
    defaults: dict[str, Any] = {
        "symbol": "BTCUSDT",
        "client_order_id": f"P1PROBE{next(_numbers)}",
        "side": Side.SELL,
        "type": OrderType.STOP_MARKET,
        "quantity": Decimal("0.0001"),
        "stop_price": Decimal(40_000),
        "outcome": "removed",
        "created_at": NOW,
        "closed_at": NOW,
    }
    return ProbeOrder.objects.create(account=account, **(defaults | fields))


def make_optimisation(**fields: Any) -> OptimisationRun:
    """A search that is under way: 40 of 200 sets, nothing found yet."""
    defaults: dict[str, Any] = {
        "name": f"search {next(_numbers)}",
        "strategy": "BreakoutStrategy",
        "market": make_market(),
        "source": "database",
        "resolution": "1",
        "data_from": NOW,
        "data_to": NOW,
        "candles": 5000,
        "data_fingerprint": "f",
        "space": [{"name": "rsi_period", "values": [10, 20, 30], "ordered": True, "stated": True}],
        "method": "tpe",
        "objectives": ["sharpe"],
        "plan": {
            "rules": {"symbol": "BTCUSDT", "provider": "wallex", "quote": "USDT"},
            "warmup": 400,
            "split": 3620,
            "min_deals": 30,
        },
        "trials_wanted": 200,
        "trials_done": 40,
        "status": "searching",
        "created_at": NOW,
        "worked_at": NOW,
    }
    return OptimisationRun.objects.create(**(defaults | fields))


def make_inbound_key(config: StrategyConfig | None = None, *, secret: str = "whsec_QUFBQUFBQUE=", **fields: Any) -> Any:
    """A key that is switched on."""
    config = config or make_config(strategy="ExternalSignals")
    fields.setdefault("made_by", config.account.owner)
    key = InboundKey(config=config, **({"is_on": True, "made_at": NOW, "label": "TradingView"} | fields))
    key.set_secret(secret)
    key.save()
    return key


def make_alert(key: InboundKey | None = None, **fields: Any) -> InboundAlert:
    """A buy that was sent and waits."""
    key = key or make_inbound_key()
    defaults: dict[str, Any] = {
        "alert_id": f"alert-{next(_numbers)}",
        "action": "buy",
        "asked": {"action": "buy", "market": "BTCUSDT"},
        "alert_at": NOW,
        "received_at": NOW,
    }
    return InboundAlert.objects.create(key=key, config=key.config, **(defaults | fields))


def make_outbox_event(kind: str = "deal.closed", **fields: Any) -> OutboxEvent:
    defaults = {"payload": {"deal": 1}, "created_at": NOW, "severity": severity_of(EventKind(kind))}
    return OutboxEvent.objects.create(kind=kind, **(defaults | fields))


def make_channel(owner: Any = None, **fields: Any) -> NotificationChannel:
    """A webhook of a user's own, or the operator's (no owner), that gets each event alone. `target` and `secret` are
    sealed."""
    target, secret = fields.pop("target", ""), fields.pop("secret", "")
    defaults: dict[str, Any] = {
        "name": f"channel {next(_numbers)}",
        "type": ChannelType.WEBHOOK,
        "groups": False,
        "most_per_minute": 600,
    }
    channel = NotificationChannel(owner=owner, **(defaults | fields))
    if target:
        channel.set_target(target, hint="a hint")
    if secret:
        channel.set_secret(secret)
    channel.save()
    return channel


def make_delivery(kind: str = "deal.closed", **fields: Any) -> Delivery:
    """Of an event with the payload `{"deal": 1}`, waiting on the operator's channel."""
    if "channel" not in fields:
        fields["channel"] = NotificationChannel.objects.filter(owner=None).first() or make_channel()
    at = fields.setdefault("created_at", NOW)
    if "event" not in fields:
        about = {name: fields.pop(name) for name in ("payload", "deal") if name in fields}
        fields["event"] = make_outbox_event(kind, created_at=at, **about)
    event = fields["event"]
    defaults = {"next_attempt_at": at, "expires_at": at + timedelta(days=1), "severity": event.severity}
    defaults["deal"] = event.deal
    return Delivery.objects.create(**(defaults | fields))


def make_backtest(**fields: Any) -> BacktestRun:
    """A backtest that is done and was asked for by nobody, without charts; other states have no result."""
    status = fields.setdefault("status", RunStatus.DONE)
    fields.setdefault("market", None)
    if fields["market"] is None:
        fields["market"] = make_market(provider="nobitex")
    day = timedelta(days=1)
    asked = {"from": (NOW - day).isoformat(), "to": NOW.isoformat(), "sides": "BUY", "fill_model": "conservative"}
    defaults: dict[str, Any] = {
        "strategy": "BreakoutStrategy",
        "resolution": "1",
        "asked": {**asked, "rules_of": fields["market"].pk},
        "created_at": NOW,
    }
    if status != RunStatus.QUEUED:
        defaults |= {"started_at": NOW, "heartbeat_at": NOW}
    if status not in (RunStatus.QUEUED, RunStatus.RUNNING):
        defaults |= {"finished_at": NOW}
    if status == RunStatus.DONE:
        defaults |= {"progress": 100, "data_from": NOW - day, "data_to": NOW, "candles": 1440}
        defaults |= {"net_profit_percent": -1.5, "sharpe": -2.25, "max_drawdown_percent": 3.5, "deals": 12}
        defaults |= {"win_rate_percent": 25.0, "data_fingerprint": "f" * 64}
    return BacktestRun.objects.create(**(defaults | fields))
