"""Strategies that trade at the paper exchange, and what the exchange says became of their orders: what the measurements
of reaction and protection share.

All times are the exchange's own, on the clock of this machine, which is the platform's too: a fill is visible from the
moment it was made, an order is accepted when the answer to its request was complete.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from algo.exchanges import CLOCK, public_provider
from algo.execution.entry_judge import EntryEvidence, decide_entry
from algo.execution.entry_ledger import EntryRequest
from algo.execution.entry_ledger_orm import OrmEntryLedger
from algo.models import AllowedSides, Order, Outcome, StrategyConfig
from algo.queues import advance_hint
from algo.risk.values import EntryIntent
from algo.strategies.external import ExternalSignalsSchema
from algo.strategies.strategy_factory import create_strategy
from benchmarks.live import world
from benchmarks.live.measure import SECONDS, Figure, latency, quantile
from benchmarks.live.platform import Platform
from launcher.supervisor import Service
from providers.types import Balance, Resolution, Side

RULES: Mapping[str, Any] = {
    "stop_loss_percent": "1",
    "take_profit_percent": "20",
    "max_position_size_percent": "1",
    "trade_cooldown_minutes": 0,
    "max_daily_trades": 1000,
    "max_daily_loss_percent": "0",
    "max_open_deals": 100,
    "max_spread_percent": "5",
    "max_basis_percent": "20",
}
# Without candles an order book decides alone, and one side of it is always the heavier: a signal at every close.
ALWAYS: Mapping[str, Any] = {**RULES, "need_historical_data": False, "order_book_imbalance": "1.0001"}
# A deal is worth some 60 USDT: more than the least that the exchanges take, less than rests on the best level.
MONEY = {"USDT": "10000", "IRT": "1100000000"}
BELOW, ABOVE = Decimal("0.97"), Decimal("1.03")  # beyond every stop, and short of every target


def traders(platform: Platform, provider: str, pairs: Sequence[str], *, accounts: int) -> list[StrategyConfig]:
    """One strategy for each pair that signals at every close, dealt out over so many accounts with money and coins."""
    prices = platform.control("GET", "/prices")["last"][provider]
    coins = {pair.partition("/")[0]: str(Decimal(10_000) / Decimal(prices[pair])) for pair in pairs}
    opened = [
        world.open_account(platform, f"{provider}-{number}", provider, MONEY | coins) for number in range(accounts)
    ]
    found = world.strategies(len(pairs), opened, pairs, [ALWAYS], name=f"trader {provider}")
    rows = StrategyConfig.objects.filter(pk__in=[each.pk for each in found])
    rows.update(allowed_sides=AllowedSides.BOTH)
    return list(rows.select_related("account", "market", "data_market").order_by("pk"))


def take_signals(configs: Sequence[StrategyConfig], **rules: Any) -> list[StrategyConfig]:
    """Let these say nothing by themselves: they are for `enter`."""
    parameters = ExternalSignalsSchema.model_validate({**RULES, **rules}).model_dump(mode="json")
    rows = StrategyConfig.objects.filter(pk__in=[each.pk for each in configs])
    rows.update(strategy="ExternalSignals", parameters=parameters)
    return list(rows.select_related("account", "market", "data_market").order_by("pk"))


def enter(config: StrategyConfig, side: Side) -> None:
    """Plan an entry of a strategy as a decision does, through the risk gate, and send the hint that follows one. The
    balances are told, not asked for: what an exchange allows of those calls is not what is measured here."""
    now = CLOCK.now()
    strategy = create_strategy(config.strategy, config.parameters)
    capabilities = config.account.known_capabilities(public_provider(config.market.provider).capabilities())
    book = public_provider(config.market.provider).order_book(config.market.symbol)
    bar = now.replace(second=0, microsecond=0) - timedelta(minutes=1)
    price = book.mid_price or Decimal(0)
    purse = {name: Decimal(value) for name, value in MONEY.items()} | {config.market.base: Decimal(10_000) / price}
    request = EntryRequest(
        account_id=config.account_id,
        config_id=config.pk,
        market_id=config.market_id,
        bar_open_at=bar,
        intent=EntryIntent(side=side, confidence=Decimal("0.6"), reason="BENCHMARK", bar_open_at=bar),
        price=price,
        rules=config.market.rules,
        parameters=strategy.parameters,
        capabilities=capabilities,
    )
    evidence = EntryEvidence(
        book=book,
        resolution=Resolution.M1,
        balances={asset: Balance(asset, amount, Decimal(0)) for asset, amount in purse.items()},
        read_at=now,
        environment=config.account.environment,
        time_zone="UTC",
        max_position_size_percent=Decimal(50),
    )
    decided = decide_entry(OrmEntryLedger(), request, evidence, CLOCK)
    if decided is None or decided.outcome is not Outcome.ENTERED:
        raise RuntimeError(f"{config.name} was not let in: {decided}")
    advance_hint(config.account_id)


def leave_by_stops(platform: Platform, pairs: Iterable[str]) -> None:
    """Move the markets of these pairs through the stops below and above, and back: every deal ends by the order that
    rests for it, and none of ours is spent on closing it."""
    last = platform.control("GET", "/prices")["last"]["wallex"]
    for factor in (BELOW, ABOVE, Decimal(1)):
        for pair in pairs:
            places = Decimal(last[pair]).as_tuple().exponent
            price = (Decimal(last[pair]) * factor).quantize(Decimal((0, (1,), int(places))))
            platform.control("POST", "/prices", json={"pair": pair, "price": str(price)})
        time.sleep(2.5)


def processes(platform: Platform, *, streams: Sequence[str]) -> tuple[Service, ...]:
    """What `./run` runs beside the servers, as it runs it, without the web and what computes backtests; streams only of
    these exchanges."""
    names = ("worker-orders", "worker", "worker-notify", "beat", "guardian", *(f"stream_{name}" for name in streams))
    return tuple(platform.service(name, needs=()) for name in names)


def answered(platform: Platform) -> dict[str, datetime]:
    """When the exchange had answered the request of each order that was sent, by its client id."""
    found = {}
    for row in platform.requests_since(0):
        if row["method"] == "POST" and row["client_order_id"] and row["status"] in (200, 201):
            took = timedelta(milliseconds=row["duration_ms"])
            found.setdefault(row["client_order_id"], datetime.fromisoformat(row["arrived_at"]) + took)
    return found


def accepted(order: Order, times: Mapping[str, datetime]) -> datetime | None:
    """When the exchange took an order; the legs of an OCO have one request, under the name of the first."""
    if order.accepted_at is None:
        return None
    named = times.get(order.client_order_id)
    return named if named is not None or order.pair is None else times.get(order.pair.client_order_id)


def figures(
    name: str, what: str, rounds: Sequence[Sequence[float]], *, target: float, floor: str, detail: Mapping[str, Any]
) -> list[Figure]:
    """The waits by round, and the 99 % quantile of all of them together: a round is too small to have one."""
    every = [each for one in rounds for each in one]
    pooled = quantile(every, 0.99)
    by_round = latency(name, what, rounds, target=target, floor=floor)
    by_round.detail.update(detail)
    together = Figure(
        f"{name}.all", f"{what}; 99 of 100 of all {len(every)}", SECONDS, (pooled,), target, floor=floor,
        p50=quantile(every, 0.5), p99=pooled,
    )  # fmt: skip
    return [by_round, together]
