"""`/metrics`: what is true now, read when somebody asks. Facts come from the database and Redis, counters from the sums
that every process adds to; no process keeps files, and it does not matter which of them answers.

docs/observability.md lists every name with its meaning.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import redis
from django.contrib.auth import get_user_model
from django.db import DatabaseError, InterfaceError, connection, transaction
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from algo.models import Heartbeat
from algo.monitoring import redis_facts
from algo.monitoring.bounded import Bounded, Remembered, Unanswered
from algo.monitoring.tasks import TASK_SECONDS, TASKS
from algo.selectors import metrics as facts
from algo.selectors.health import candles_health, heartbeat_ages, house_health, stream_health
from algo.selectors.parity import day_bounds, trading_day
from algo.selectors.performance import Chosen
from algo.selectors.worth import worth
from algo.version import VERSION
from providers.clock import Clock, clock_from_env
from providers.tally import BUCKET, CALL_SECONDS, CALLS, SUM

logger = logging.getLogger("algo.metrics")

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
WINDOW_SECONDS = 900.0  # wall: what "recent" means
DATABASE_SECONDS, REDIS_SECONDS = 8.0, 1.5  # Prometheus gives up after ten
REMEMBERED_SECONDS = 1.0
MONEY_SECONDS = 60.0  # equity and drawdown are read once in so many
DRAWDOWN_DAYS = 30
COUNTERS = {
    CALLS: "Calls to exchanges by what came of them: ok, or what kept them from it.",
    TASKS: "Tasks that workers finished, by state.",
}
HISTOGRAMS = {
    CALL_SECONDS: "How long exchanges took to answer, where something was sent.",
    TASK_SECONDS: "How long tasks took.",
}


def exposition() -> bytes:
    """Everything, in Prometheus' text format. Without the database or Redis: what is known without."""
    return _remembered.get()


def _read() -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(_families()))
    return generate_latest(registry)


class _Once(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _families() -> list[Metric]:
    of_database = _database.begin(_from_database)
    of_redis = _redis.begin(redis_facts.queue_depths)
    up = GaugeMetricFamily("algo_up", "Whether a server that the platform needs answers.", labels=["part"])
    families: list[Metric] = [up, _gauge("algo_info", "The version that answers.", {(VERSION,): 1}, "version")]
    try:
        families += of_database.result(timeout=DATABASE_SECONDS)
        up.add_metric(["database"], 1)
    except (TimeoutError, Unanswered, DatabaseError, InterfaceError) as exc:
        logger.warning("metrics without the database: %s", type(exc).__name__)
        up.add_metric(["database"], 0)
    try:
        depths = of_redis.result(timeout=REDIS_SECONDS)
        up.add_metric(["redis"], 1)
        told = {(queue,): depth for queue, depth in depths.items()}
        families.append(_gauge("algo_queue_depth", "Messages that wait for a worker.", told, "queue"))
    except (TimeoutError, Unanswered, redis.RedisError, OSError) as exc:
        logger.warning("metrics without Redis: %s", type(exc).__name__)
        up.add_metric(["redis"], 0)
    return families


def _from_database() -> list[Metric]:
    clock = clock_from_env()
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # a scrape that is given up must not go on for long
            cursor.execute("SET LOCAL statement_timeout = %s", [int(DATABASE_SECONDS * 1000)])
            return [family for part in _PARTS for family in part(clock)]
    finally:
        connection.close()


# --- the parts: each a few queries ------------------------------------------------------------------------------------


def _processes(clock: Clock) -> Iterator[Metric]:
    now = clock.now()
    ages = {(name,): age for name, age in heartbeat_ages(now, speed=clock.speed).items()}
    yield _gauge("algo_heartbeat_age_seconds", "Since the last sign of life of a process.", ages, "process")
    _, exchanges = house_health(now, speed=clock.speed)
    away = {(each.name,): int(each.is_away) for each in exchanges}
    yield _gauge("algo_exchange_away", "1 where an exchange answers nobody.", away, "exchange")
    answered = {(each.name,): each.answered for each in exchanges if each.answered is not None}
    yield _gauge("algo_exchange_answered_age_seconds", "Since an exchange last answered.", answered, "exchange")
    streams = stream_health(now, speed=clock.speed)
    up = {(each.name,): int(each.is_up) for each in streams}
    yield _gauge("algo_stream_up", "Whether an exchange's stream has a connection.", up, "exchange")
    ages = {(each.name,): each.message_age for each in streams if each.message_age is not None}
    yield _gauge("algo_stream_age_seconds", "Since an exchange's stream was last heard.", ages, "exchange")
    again = {(each.name,): each.reconnects for each in streams}
    yield _gauge("algo_stream_reconnects", "Of a stream, since its process began.", again, "exchange")
    yield _budgets(now - clock.wall(WINDOW_SECONDS))


def _budgets(since: datetime) -> Metric:
    """By the newest sign of life that tells of it: the guardian's own share, and what all others share."""
    left: dict[tuple[str, ...], float] = {}
    beats = Heartbeat.objects.filter(at__gte=since).order_by("at").values_list("name", "detail")
    for name, detail in beats:
        who = "guardian" if name.startswith("guardian") else "shared"
        for exchange, budgets in (detail.get("budgets") or {}).items():
            left |= {(exchange, budget, who): share for budget, share in budgets.items()}
    about = "Share of a call budget's burst that is there (0: nobody may call)."
    return _gauge("algo_rate_budget_left_ratio", about, left, "exchange", "budget", "share")


def _orders(clock: Clock) -> Iterator[Metric]:
    since = clock.now() - clock.wall(WINDOW_SECONDS)
    live = facts.live_orders()
    yield _gauge("algo_orders_live", "Orders that are not at their end.", _by(live.by_status), "status")
    yield _gauge("algo_orders_unknown", "Live orders of which nobody knows whether they arrived.", {(): live.unknown})
    placed = _by(facts.orders_placed(since))
    yield _gauge("algo_orders_recent", "Orders made in the last 15 minutes, by their state now.", placed, "status")
    seconds = {
        (stage, f"{quantile:g}"): told / clock.speed for (stage, quantile), told in facts.order_seconds(since).items()
    }
    about = "Of orders made in the last 15 minutes: submit, accept, fill."
    yield _gauge("algo_order_latency_seconds", about, seconds, "stage", "quantile")


def _deals(clock: Clock) -> Iterator[Metric]:
    now = clock.now()
    live = facts.live_deals()
    yield _gauge("algo_deals_live", "Deals that are not at their end.", _by(live.by_status), "status")
    yield _gauge("algo_deals_unprotected", "Live deals of which something is unprotected now.", {(): live.unprotected})
    longest = (now - live.unprotected_since).total_seconds() / clock.speed if live.unprotected_since else 0.0
    about = "How long the one that has been unprotected longest is so, without a break."
    yield _gauge("algo_unprotected_longest_seconds", about, {(): max(longest, 0.0)})
    day, _ = day_bounds(trading_day(now))
    about = "Measured over the deals that live and those closed this trading day."
    yield _gauge("algo_unprotected_seconds_today", about, {(): float(facts.unprotected_seconds(day)) / clock.speed})
    closed = _by(facts.deals_closed(now - clock.wall(WINDOW_SECONDS)))
    yield _gauge("algo_deals_closed_recent", "Deals closed in the last 15 minutes, by why.", closed, "reason")


def _signals(clock: Clock) -> Iterator[Metric]:
    since = clock.now() - clock.wall(WINDOW_SECONDS)
    yield _gauge("algo_signals_recent", "Signals of the last 15 minutes.", _by(facts.signals_given(since)), "side")
    denied = _by(facts.denials(since))
    yield _gauge("algo_denials_recent", "Signals denied in the last 15 minutes, by code.", denied, "code")
    about = "Runs over candles of the last 15 minutes, by what came of them."
    yield _gauge("algo_decisions_recent", about, _by(facts.decisions(since)), "outcome")
    candles = candles_health(clock.now(), speed=clock.speed)
    ages = {(each.resolution,): each.age for each in candles if each.age is not None}
    about = "Since the close of the newest candle, of the running strategy that is furthest behind."
    yield _gauge("algo_candle_age_seconds", about, ages, "resolution")
    late = {(each.resolution,): int(each.is_late) for each in candles}
    yield _gauge("algo_candle_late", "1 where a further candle should be there.", late, "resolution")


def _standing(clock: Clock) -> Iterator[Metric]:
    now, what = clock.now(), facts.standing()
    yield _gauge("algo_accounts", "Accounts by state.", _by(what.accounts), "state")
    yield _gauge("algo_strategies", "Strategies by status.", _by(what.strategies), "status")
    yield _gauge("algo_tickets_open", "Tickets that nobody has answered to the end.", {(): what.open_tickets})
    yield _gauge("algo_kill_switch", "Of everything: 0 off, 1 no entries, 2 cancel, 3 flatten.", {(): what.switch})
    yield _gauge("algo_halts", "Switches of single accounts, strategies or markets that are not off.", {(): what.halts})
    if what.first_key_ends is not None:
        ends = (what.first_key_ends - now).total_seconds()
        yield _gauge("algo_key_expiry_seconds", "Until the first API key ends (below 0: it has).", {(): ends})
    yield _gauge("algo_deliveries_waiting", "Notifications that wait for their receiver.", {(): what.deliveries})
    waits = (now - what.oldest_delivery).total_seconds() / clock.speed if what.oldest_delivery else 0.0
    yield _gauge("algo_delivery_oldest_seconds", "How long the oldest of them has waited.", {(): max(waits, 0.0)})
    yield _gauge("algo_backtests_unfinished", "Backtests that wait or run.", _by(what.backtests), "status")


def _money(clock: Clock) -> Iterable[Metric]:
    return _money_remembered.get()


def _read_money() -> list[Metric]:
    clock = clock_from_env()
    everything = get_user_model()(is_superuser=True)
    now = clock.now()
    held = worth(everything, now)
    equity = {
        (currency,): float(amount)
        for currency, amount in (("usdt", held.usdt), ("toman", held.toman))
        if amount is not None
    }
    first = trading_day(now) - timedelta(days=DRAWDOWN_DAYS - 1)
    falls = facts.drawdowns(everything, Chosen(first=first))
    return [
        _gauge("algo_equity", "What all accounts hold, at the newest streamed prices.", equity, "currency"),
        _gauge("algo_equity_unpriced_assets", "Assets held that have no price.", {(): len(held.unpriced)}),
        _gauge(
            "algo_profit_30d",
            "Realised profit of the last 30 trading days, after fees, in the quote.",
            {(each.quote,): float(each.profit) for each in falls},
            "quote",
        ),
        _gauge(
            "algo_drawdown",
            "How far that profit is below its highest point, in the quote.",
            {(each.quote,): float(each.drawdown) for each in falls},
            "quote",
        ),
    ]


def _counted(clock: Clock) -> Iterator[Metric]:
    counters: dict[str, dict[tuple[str, ...], float]] = {name: {} for name in COUNTERS}
    histograms: dict[str, _Histogram] = {name: _Histogram() for name in HISTOGRAMS}
    names: dict[str, tuple[str, ...]] = {}
    for name, labels, value in facts.tallied():
        base, _, part = name.partition(":")
        if base in counters:
            names[base] = tuple(labels)
            counters[base][tuple(labels.values())] = value
        elif base in histograms:
            histograms[base].take(labels, f":{part}", value)
    for name, about in COUNTERS.items():
        family = CounterMetricFamily(name, about, labels=names.get(name, ()))
        for values, value in counters[name].items():
            family.add_metric(values, value)
        yield family
    for name, about in HISTOGRAMS.items():
        yield histograms[name].family(name, about)


class _Histogram:
    """One histogram, out of the sums of its buckets."""

    def __init__(self) -> None:
        self._buckets: dict[tuple[tuple[str, str], ...], dict[str, float]] = defaultdict(dict)
        self._sums: dict[tuple[tuple[str, str], ...], float] = {}

    def take(self, labels: Mapping[str, str], part: str, value: float) -> None:
        key = tuple((name, text) for name, text in labels.items() if name != "le")
        if part == BUCKET:
            self._buckets[key][labels["le"]] = value
        elif part == SUM:
            self._sums[key] = value

    def family(self, name: str, about: str) -> HistogramMetricFamily:
        labels = [each for each, _ in next(iter(self._buckets), ())]
        bounds = sorted({bound for told in self._buckets.values() for bound in told} | {"+Inf"}, key=float)
        family = HistogramMetricFamily(name, about, labels=labels)
        for key, told in self._buckets.items():
            total, buckets = 0.0, []
            for bound in bounds:
                total += told.get(bound, 0.0)
                buckets.append((bound, total))
            family.add_metric([text for _, text in key], buckets, sum_value=self._sums.get(key, 0.0))
        return family


def _by(counts: Mapping[str, float]) -> dict[tuple[str, ...], float]:
    return {(name,): count for name, count in counts.items()}


def _gauge(name: str, about: str, values: Mapping[Any, float], *labels: str) -> GaugeMetricFamily:
    """`values` by the texts of `labels`; by the empty tuple where there are none."""
    family = GaugeMetricFamily(name, about, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


_PARTS: tuple[Callable[[Clock], Iterable[Metric]], ...] = (
    _processes,
    _orders,
    _deals,
    _signals,
    _standing,
    _money,
    _counted,
)
_database, _redis = Bounded("database"), Bounded("redis")
_remembered: Remembered[bytes] = Remembered(_read, REMEMBERED_SECONDS, time.monotonic)
_money_remembered: Remembered[list[Metric]] = Remembered(_read_money, MONEY_SECONDS, time.monotonic)
