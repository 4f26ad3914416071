"""Deals that stand open, protected, as two days of trading leave them. Uses Django.

What rests at the exchange is placed there for real, order by order, by the clients of the platform; the rows beside it
are written at once, for to enter five thousand deals takes as long as to trade them. Their entries are two days old, so
what they bought was the account's from the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection

from algo.exchanges import CLOCK, base_url, public_provider
from algo.execution.identity import client_order_id
from algo.execution.ledger_rows import intent_key
from algo.models import Account, Deal, DealStatus, Fill, Market, Order, Role, StrategyConfig, StrategyStatus
from algo.services.accounts import balances_note
from algo.strategies.schemas import BreakoutStrategySchema
from benchmarks.live.platform import Platform
from benchmarks.live.world import PLENTY, open_account
from providers.budgets import Priority
from providers.interface import ExchangeProvider
from providers.provider_factory import create_provider
from providers.types import (
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    ProtectionMode,
    Side,
)

OPENED = timedelta(days=2)  # ago: longer than anything is compared with the exchange's history
STOP_AT, TARGET_AT = Decimal("0.8"), Decimal("1.4")  # of the price: far enough to rest
WORTH = 20  # times the least that a market takes
TRAILING = {
    "trailing_stop_percent": "30",
    "trailing_step_percent": "5",
}  # behind the stop: only the best price is noted


class NoBudget:
    """As many calls as are made, while nobody is measured."""

    def acquire(self, name: str, priority: Priority, calls: int = 1) -> None: ...

    def ready(self, name: str, priority: Priority, calls: int = 1) -> bool:
        return True

    def refused(self, name: str, stated_seconds: float | None) -> float:
        return stated_seconds or 1.0

    def observed(self, name: str, remaining: int) -> None: ...


@contextmanager
def uncounted(platform: Platform) -> Iterator[None]:
    """The exchange counts no calls meanwhile."""
    words = list(platform.server("paper").argv)
    platform.restart("paper", [*words, "--no-rate-limits"])
    try:
        yield
    finally:
        platform.restart("paper", words)


def open_deals(
    platform: Platform, pairs: Sequence[str], accounts: int, *, mode: ProtectionMode, trailing: int = 0
) -> list[Account]:
    """So many accounts at Wallex, each with a deal on every pair. `mode` says what rests: a stop (LOCKING_STOPS), or
    stop and target (FREE_STOPS). The deals of the first `trailing` accounts have a stop that trails."""
    markets = list(Market.objects.filter(provider="wallex", pair__in=pairs))
    books = public_provider("wallex").order_books({market.symbol for market in markets})
    prices = {market.symbol: books[market.symbol].bids[0].price for market in markets}
    opened = []
    with uncounted(platform):
        if mode is ProtectionMode.FREE_STOPS:
            platform.control("POST", "/switches", json={"venue": "wallex", "name": "stops_lock", "value": False})
        for number in range(accounts):
            holds = PLENTY | {market.base: "1000000" for market in markets if market.base != "USDT"}
            account = open_account(platform, f"holder{number}", balances=holds)
            free = mode is ProtectionMode.FREE_STOPS
            account.capabilities = {**account.capabilities, "stops_lock_balance": not free}
            account.save()
            rules = TRAILING if number < trailing else {}
            _Holder(account, markets, prices, mode, rules).open()
            opened.append(account)
    return opened


class _Holder:
    """One account, and what is opened for it."""

    def __init__(
        self,
        account: Account,
        markets: Sequence[Market],
        prices: dict[str, Decimal],
        mode: ProtectionMode,
        rules: dict[str, str],
    ) -> None:
        self.account, self.markets, self.prices, self.mode = account, markets, prices, mode
        self.rules = {"stop_loss_percent": "20", "take_profit_percent": "40", **rules}
        self.now: datetime = CLOCK.now()
        self.client: ExchangeProvider = create_provider(
            "wallex", base_url=base_url("wallex"), api_key=account.api_key(), clock=CLOCK, budget=NoBudget()
        )

    def open(self) -> None:
        with as_they_are():
            deals = Deal.objects.bulk_create([self._deal(config) for config in self._configs()])
            entries = [self._entry(deal) for deal in deals]
            resting = [order for deal in deals for order in self._resting(deal)]
            Order.objects.bulk_create([*entries, *resting])
            Fill.objects.bulk_create([self._fill(entry) for entry in entries])
        balances_note(self.account, self.client.balances(), read_at=self.now)
        seen = {market.symbol: self.now.isoformat() for market in self.markets}
        Account.objects.filter(pk=self.account.pk).update(trades_seen=seen)

    def _configs(self) -> list[StrategyConfig]:
        parameters = BreakoutStrategySchema().model_dump(mode="json")
        return StrategyConfig.objects.bulk_create(
            StrategyConfig(
                name=f"{self.account.name} {market.symbol}",
                strategy="BreakoutStrategy",
                parameters=parameters,
                account=self.account,
                market=market,
                data_market=market,
                status=StrategyStatus.STOPPED,
            )
            for market in self.markets
        )

    def _deal(self, config: StrategyConfig) -> Deal:
        rules, price = config.market.rules, self.prices[config.market.symbol]
        quantity = rules.round_quantity(rules.min_notional * WORTH / price)
        opened = self.now - OPENED
        stop = rules.round_stop(price * STOP_AT, Side.SELL)
        return Deal(
            config=config,
            account=self.account,
            market=config.market,
            bar_open_at=opened - timedelta(minutes=1),
            side=Side.BUY,
            status=DealStatus.OPEN,
            rules=self.rules,
            protection_mode=self.mode,
            planned_quantity=quantity,
            planned_price=price,
            initial_stop_price=stop,
            stop_price=stop,
            target_price=rules.round_limit(price * TARGET_AT, Side.SELL),
            best_price=price,
            entry_price=price,
            entry_quantity=quantity,
            created_at=opened,
            opened_at=opened,
            protected_at=opened,
        )

    def _order(self, deal: Deal, role: Role, side: Side, kind: OrderType, quantity: Decimal, **more: Any) -> Order:
        name = client_order_id(self.account.environment, self.account.public_id, *intent_key(deal), role, 1)
        return Order(
            deal=deal,
            account=self.account,
            market=deal.market,
            role=role,
            leg=1,
            client_order_id=name,
            side=side,
            type=kind,
            quantity=quantity,
            attempts=1,
            **more,
        )

    def _entry(self, deal: Deal) -> Order:
        """Filled two days ago, without a fee."""
        at = deal.created_at
        times = dict.fromkeys(("created_at", "submitted_at", "accepted_at", "checked_at", "closed_at"), at)
        order = self._order(deal, Role.ENTRY, Side.BUY, OrderType.MARKET, deal.planned_quantity, **times)
        order.status, order.filled_quantity, order.average_price = OrderStatus.FILLED, order.quantity, deal.entry_price
        order.exchange_order_id, order.fee_asset = order.client_order_id, deal.market.base
        return order

    def _fill(self, entry: Order) -> Fill:
        return Fill(
            account=self.account,
            order=entry,
            trade_id=entry.client_order_id,
            price=entry.average_price,
            quantity=entry.quantity,
            fee_asset=entry.fee_asset,
            executed_at=entry.created_at,
            booked_at=entry.created_at,
        )

    def _resting(self, deal: Deal) -> Iterator[Order]:
        quantity = deal.planned_quantity
        stop = {"stop_price": deal.stop_price}
        yield self._placed(self._order(deal, Role.STOP, Side.SELL, OrderType.STOP_MARKET, quantity, **stop))
        if self.mode is ProtectionMode.FREE_STOPS:
            target = {"price": deal.target_price}
            yield self._placed(self._order(deal, Role.TARGET, Side.SELL, OrderType.LIMIT, quantity, **target))

    def _placed(self, order: Order) -> Order:
        """The order as the exchange took it, and as it was read back."""
        report: OrderReport = self.client.create_order(
            OrderRequest(
                order.client_order_id,
                order.market.symbol,
                Side(order.side),
                OrderType(order.type),
                order.quantity,
                order.price,
                order.stop_price,
            )
        )
        for name in ("created_at", "submitted_at", "accepted_at", "checked_at"):
            setattr(order, name, CLOCK.now())
        order.status, order.exchange_order_id, order.raw = OrderStatus.OPEN, report.exchange_order_id, dict(report.raw)
        # What the account held when the stop was planned: as much as one of stop and target would take.
        order.balance_asset, order.balance_before, order.locked_before = order.market.base, order.quantity, Decimal(0)
        order.balance_read_at = CLOCK.now()
        return order


@contextmanager
def as_they_are() -> Iterator[None]:
    """Rows as two days of trading leave them: no trigger asks how they came about."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield
        finally:
            cursor.execute("SET session_replication_role = DEFAULT")
