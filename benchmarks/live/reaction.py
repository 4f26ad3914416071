"""From the close of a candle to an order that the exchange has taken, idle and while 1,000 strategies decide.

Five strategies of five accounts, two at Wallex and three at Nobitex, signal at the close of every one-minute candle
(the order book alone decides for them, in the product's own strategy); the workers, beat, the guardian and the streams
are those of `./run`. Time runs at speed 1. A wait begins when the candle closed, at the whole minute, and ends when the
exchange had answered the request of the entry. Between two closes the market is moved through the stops, so that every
deal ends by the order that rests for it and the call budgets are left to entries and stops. More entries at one close
than the budgets allow would wait for them and not for us: Wallex takes 20 orders in ten seconds from one address, of
which the workers let through two entries with their stops at once; a third one goes by the guardian's share, a second
later.

Busy: 1,000 more strategies over 50 markets decide at the same closes, by the same workers, and order nothing.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from algo.models import Deal, Order, Role, Signal, StrategyConfig
from benchmarks.live import trading, world
from benchmarks.live.decision import PARAMETER_SETS
from benchmarks.live.floors import CELERY, Floors
from benchmarks.live.measure import Figure, Options
from benchmarks.live.platform import Platform, wait_for
from providers.types import Resolution

NAME = "reaction"
TARGET = 1.5
MARKETS = {"wallex": 2, "nobitex": 3}  # each with an account of its own
CLOSES = 4  # of a round
MINUTE = timedelta(minutes=1)
ENDS_AFTER = 20.0  # seconds after a close, when its deals are ended
PAIRS_OF_OTHERS = 50


def run(platform: Platform, floors: Floors, options: Options) -> list[Figure]:
    found = _measured(platform, options, "reaction.idle", "candle close to accepted entry, idle", others=0)
    platform.fresh()
    others = options.size(1000, 200)
    return found + _measured(
        platform, options, "reaction.busy", f"the same while {others} strategies decide", others=others
    )


def _measured(platform: Platform, options: Options, name: str, what: str, *, others: int) -> list[Figure]:
    pairs = world.markets()
    chosen = pairs[: max(MARKETS.values())]
    entering = [
        config
        for provider, count in MARKETS.items()
        for config in trading.traders(platform, provider, pairs[:count], accounts=count)
    ]
    _crowd(platform, others, pairs[:PAIRS_OF_OTHERS])
    with platform.processes(*trading.processes(platform, streams=("nobitex", "wallex"))):
        _warm_up()
        _one_close(platform, chosen)  # what was opened meanwhile ends
        closes = [_one_close(platform, chosen) for _ in range(options.rounds * options.size(CLOSES, 1))]
    times = trading.answered(platform)
    waits = {close: _waits(close, times) for close in closes}
    size = options.size(CLOSES, 1)
    rounds = [[wait for close in closes[at : at + size] for wait in waits[close]] for at in range(0, len(closes), size)]
    detail = {
        "expected": len(closes) * len(entering),
        "denied": _denied(entering, closes),
        "stages_p50": _stages(closes, times),
        "strategies": StrategyConfig.objects.count(),
    }
    return trading.figures(name, what, rounds, target=TARGET, floor=CELERY, detail=detail)


def _crowd(platform: Platform, count: int, pairs: Sequence[str]) -> None:
    """Strategies that decide and do not order."""
    if count:
        account = world.open_account(platform, "crowd")
        made = world.strategies(count, [account], pairs, PARAMETER_SETS, name="crowd")
        world.candles(pairs, Resolution.M1)
        StrategyConfig.objects.filter(pk__in=[each.pk for each in made]).update(ordering_enabled=False)


def _warm_up() -> None:
    """Until every strategy has decided over one and the same candle, and within one minute: histories are read, code is
    compiled, connections are open."""

    def all_together() -> bool:
        newest = datetime.now().astimezone().replace(second=0, microsecond=0) - MINUTE
        return not StrategyConfig.objects.exclude(last_bar_at=newest).exists()

    wait_for("every strategy decides in the minute of its candle", all_together, seconds=420, every=0.5)


def _one_close(platform: Platform, pairs: Sequence[str]) -> datetime:
    """Wait for the end of this minute, let what follows happen, end the deals; returns when the candle closed."""
    close = datetime.now().astimezone().replace(second=0, microsecond=0) + MINUTE
    _sleep_until(close + timedelta(seconds=ENDS_AFTER))
    trading.leave_by_stops(platform, pairs)
    platform.check()
    return close


def _sleep_until(moment: datetime) -> None:
    time.sleep(max(moment.timestamp() - time.time(), 0.0))


def _entries(close: datetime) -> Sequence[Order]:
    return list(Order.objects.filter(role=Role.ENTRY, deal__bar_open_at=close - MINUTE).select_related("pair", "deal"))


def _waits(close: datetime, times: Mapping[str, datetime]) -> list[float]:
    """Of every entry that the candle led to and the exchange took."""
    taken = (trading.accepted(order, times) for order in _entries(close))
    return [(at - close).total_seconds() for at in taken if at is not None]


def _denied(configs: Sequence[StrategyConfig], closes: Sequence[datetime]) -> dict[str, int]:
    """Signals that the risk gate let not through, by its code, and entries that the exchange did not take."""
    bars = [close - MINUTE for close in closes]
    of_these = Signal.objects.filter(config__in=configs, bar_open_at__in=bars)
    codes = Counter(of_these.exclude(denial_code="").values_list("denial_code", flat=True))
    untaken = Deal.objects.filter(bar_open_at__in=bars, orders__role=Role.ENTRY, orders__accepted_at=None)
    return {**codes, "not taken by the exchange": untaken.count()}


def _stages(closes: Sequence[datetime], times: Mapping[str, datetime]) -> dict[str, Any]:
    """Where the time goes: medians of the seconds since the close."""
    seconds: dict[str, list[float]] = {"planned": [], "sent": [], "accepted": []}
    for close in closes:
        for order in _entries(close):
            reached = {
                "planned": order.created_at,
                "sent": order.submitted_at,
                "accepted": trading.accepted(order, times),
            }
            for stage, at in reached.items():
                if at is not None:
                    seconds[stage].append((at - close).total_seconds())
    return {stage: round(statistics.median(values), 4) for stage, values in seconds.items() if values}
