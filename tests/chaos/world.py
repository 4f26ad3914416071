"""Who trades, and what the database says of it. Uses Django: import it once the stack has set the environment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from django.contrib.auth import get_user_model

from algo.exchanges import CLOCK, account_provider, public_provider
from algo.models import (
    Account,
    Deal,
    Environment,
    Fill,
    FlatProof,
    Market,
    Order,
    Signal,
    StrategyConfig,
    StrategyStatus,
    Ticket,
)
from algo.selectors.audit import ledger_difference
from algo.services.markets import markets_refresh
from algo.strategies.schemas import BreakoutStrategySchema
from providers.types import Resolution
from tests.chaos.judge import OurDeal, OurFill, OurOrder, OurTicket
from tests.chaos.plan import PAIRS, VENUES
from tests.chaos.stack import Stack

BALANCES = {"USDT": "100000", "BTC": "1", "ETH": "20", "DOGE": "400000", "SOL": "500"}
# Name to exchange and pairs. No more than the platform's own call budgets serve: all accounts of an exchange share one,
# and the guardian alone (while the workers are down) has three tenths of it.
TRADERS = {
    "ada": ("wallex", PAIRS[:3]),
    "bob": ("wallex", PAIRS[1:]),
    "eve": ("nobitex", PAIRS[:2]),
    "joe": ("nobitex", PAIRS[2:]),
}
# By the book alone, to either side: there is something to say at nearly every candle.
LIVELY: dict[str, Any] = {
    "need_historical_data": False,
    "order_book_imbalance": "1.01",
    "ema_fast_period": 2,
    "ema_slow_period": 5,
    "breakout_period": 3,
    "volume_threshold": 0,
    "max_position_size_percent": "5",
    "max_spread_percent": "5",
    "max_basis_percent": "10",
    "trade_cooldown_minutes": 0,
    "max_daily_trades": 1000,
    "max_daily_loss_percent": "0",
    "max_open_deals": 20,
    "max_data_age_bars": 5,
}
# Short distances end by stop, target and trailing; the last one stays open longer, and closes when its signal turns.
TEMPERS: tuple[dict[str, Any], ...] = (
    {"stop_loss_percent": "0.25", "take_profit_percent": "0.35"},
    {
        "stop_loss_percent": "0.4",
        "take_profit_percent": "1",
        "trailing_stop_percent": "0.3",
        "trailing_step_percent": "0.1",
    },
    {"stop_loss_percent": "0.5", "take_profit_percent": "0.5", "exit_on_opposite_signal": True},
)


def populate(stack: Stack) -> None:
    """Markets, accounts with money at the exchange, and a strategy on each of their markets."""
    for name in VENUES:
        markets_refresh(public_provider(name), now=CLOCK.now())
    owner = get_user_model().objects.create_superuser("chaos")
    for turn, (name, (provider, pairs)) in enumerate(TRADERS.items()):
        account, stack.secrets[f"key of {name}"] = account_opened(stack.control, owner, name, provider, BALANCES)
        for number, pair in enumerate(pairs):
            _strategy(account, pair, LIVELY | TEMPERS[(number + turn) % len(TEMPERS)])


def account_opened(
    control: Callable[..., Any], owner: Any, name: str, provider: str, balances: dict[str, str]
) -> tuple[Account, str]:
    """An account with money at the paper exchange and with us, and its key. `control` calls the control port."""
    told = control("POST", "/accounts", json={"name": name, "balances": {provider: balances}})
    key = told["wallex_key" if provider == "wallex" else "nobitex_token"]
    account = Account(name=name, owner=owner, provider=provider, environment=Environment.PAPER)
    account.set_api_key(key)
    account.capabilities = asdict(account_provider(account).capabilities())
    account.save()
    return account, key


def _strategy(account: Account, pair: str, parameters: dict[str, Any]) -> None:
    StrategyConfig.objects.create(
        name=f"{account.name} {pair}",
        strategy="BreakoutStrategy",
        parameters=BreakoutStrategySchema.model_validate(parameters).model_dump(mode="json"),
        account=account,
        data_market=Market.objects.get(provider="nobitex", pair=pair),
        market=Market.objects.get(provider=account.provider, pair=pair),
        resolution=Resolution.M1,
        status=StrategyStatus.RUNNING,
        allowed_sides="BOTH",
    )


# --- what our books say ----------------------------------------------------------------------------------------------


def our_orders() -> list[OurOrder]:
    rows = Order.objects.select_related("account", "deal__config").order_by("pk")
    return [
        OurOrder(
            account=row.account.name,
            deal=row.deal_id,
            strategy=row.deal.config.name,
            bar=row.deal.bar_open_at,
            role=row.role,
            client_order_id=row.client_order_id,
            exchange_order_id=row.exchange_order_id,
            status=row.status,
            quantity=row.quantity,
            filled=row.filled_quantity,
            is_unknown=row.unknown_since is not None,
        )
        for row in rows
    ]


def our_fills() -> list[OurFill]:
    return [
        OurFill(
            row.account.name, row.order.exchange_order_id, row.price, row.quantity, row.fee, row.fee_asset
        )
        for row in Fill.objects.select_related("account", "order")
    ]  # fmt: skip


def our_deals(speed: float) -> list[OurDeal]:
    return [
        OurDeal(
            id=row.pk,
            account=row.account.name,
            venue=row.account.provider,
            side=row.side,
            base=row.market.base,
            status=row.status,
            least_quantity=row.market.min_quantity,
            least_notional=row.market.min_notional,
            unprotected_seconds=float(row.unprotected_seconds) / speed,
        )
        for row in Deal.objects.select_related("account", "market").order_by("pk")
    ]


def open_tickets() -> list[OurTicket]:
    rows = Ticket.objects.filter(resolved_at=None).select_related("account")
    return [OurTicket(row.account.name, row.kind, row.summary) for row in rows]


def flat_proofs() -> dict[str, str]:
    """What the platform says of each account once it was told to flatten."""
    return {row.account.name: row.summary for row in FlatProof.objects.select_related("account") if row.is_flat}


def denials() -> dict[str, int]:
    """Why signals did not become deals."""
    codes = Signal.objects.values_list("config__account__provider", "denial_code")
    return dict(Counter(f"{provider} {code or 'entered'}" for provider, code in codes))


def ledger_differences(truths: dict[str, Any]) -> dict[str, str]:
    """By account, where the audit finds any: the sum of everything that differs."""
    found = {}
    for name, truth in truths.items():
        account = Account.objects.get(name=name)
        difference = ledger_difference(account, truth["venues"][account.provider])
        if difference:
            found[name] = format(difference, "f")
    return found
