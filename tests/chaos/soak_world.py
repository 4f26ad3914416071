"""Who trades in the soak, and what the database says of how it went. Uses Django: import it once the environment of a
running platform is set."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import F, Min, Q

from algo.exchanges import CLOCK
from algo.management.commands.seed_demo import ADMIN, demo_account
from algo.models import (
    Account,
    Candle,
    Deal,
    DealStatus,
    Decision,
    Fill,
    Market,
    Order,
    Role,
    Signal,
    StrategyConfig,
    StrategyStatus,
)
from algo.services.audit import SHELL
from algo.services.control import strategy_start
from algo.services.strategy_acts import strategy_create
from providers.types import Resolution
from tests.chaos.flat import Readings
from tests.chaos.world import account_opened

BALANCES = {"USDT": "100000", "BTC": "1", "ETH": "20", "DOGE": "400000", "IRT": "50000000000"}
VENUES = ("wallex", "nobitex")
# A candle of one minute closes every second at speed 60, one of a quarter of an hour every fifteen.
LENGTHS = (Resolution.M1, Resolution.M5, Resolution.M1, Resolution.M5, Resolution.M15)
FINISHED = (DealStatus.CLOSED, DealStatus.CANCELED)


def parameters_of(number: int) -> dict[str, Any]:
    """Those of strategy `number`, each another set. Short periods, for a recording begins with 500 minutes of history;
    distances that a quarter of an hour to some hours of the market reach; a pause after every entry."""
    stop, target = (3 + number % 4) / 10, (4 + number % 7) / 10
    trailing = {"trailing_stop_percent": f"{stop:.1f}", "trailing_step_percent": "0.1"} if number % 3 == 0 else {}
    return trailing | {
        "ema_fast_period": 2 + number % 3,
        "ema_slow_period": 6 + number % 5,
        "rsi_period": 3 + number % 3,
        "atr_period": 3 + number % 2,
        "volume_period": 8 + number % 9,
        "breakout_period": 6 + number % 11,
        "volume_threshold": 0.8 + (number % 5) / 10,
        "stop_loss_percent": f"{stop:.1f}",
        "take_profit_percent": f"{target:.1f}",
        "max_position_size_percent": f"{2 + number % 4}",
        "trade_cooldown_minutes": 20 + 10 * (number % 4),
        "max_daily_trades": 1000,
        "max_daily_loss_percent": "0",
        "exit_on_opposite_signal": number % 4 == 1,
    }


def populate(
    control: Callable[..., Any], pair: str, *, strategies: int, accounts: int
) -> tuple[dict[str, str], dict[str, str]]:
    """Add `accounts` at each exchange and so many strategies over all of them that with the demo's there are
    `strategies` at work. (wallet at the exchange by account, keys by what they are called)."""
    owner = get_user_model().objects.get(username=ADMIN)
    mine, keys = [], {}
    for number in range(1, accounts + 1):
        for venue in VENUES:
            account, keys[f"key of {venue} {number}"] = account_opened(
                control, owner, f"soak-{venue}-{number}", venue, BALANCES
            )
            mine.append(account)
    running = StrategyConfig.objects.filter(status=StrategyStatus.RUNNING).count()
    for number in range(strategies - running):
        _start(mine[number % len(mine)], pair, number)
    wallets = {account.name: account.name for account in mine}
    demo = Account.objects.filter(name__in=[demo_account(venue) for venue in VENUES])
    return wallets | {account.name: "demo" for account in demo}, keys


def _start(account: Account, pair: str, number: int) -> None:
    """Created and started as a person would: with its bias checks, before the first decision."""
    now, resolution = CLOCK.now(), LENGTHS[number % len(LENGTHS)]
    config = StrategyConfig(
        name=f"soak {number + 1:02}",
        strategy="BreakoutStrategy",
        parameters=parameters_of(number),
        account=account,
        data_market=Market.objects.get(provider="nobitex", pair=pair),
        market=Market.objects.get(provider=account.provider, pair=pair),
        resolution=resolution,
        allowed_sides="BOTH",
    )
    strategy_start(strategy_create(config, by=SHELL, at=now), by=SHELL, at=CLOCK.now())


def running() -> int:
    return StrategyConfig.objects.filter(status=StrategyStatus.RUNNING).count()


def is_settled() -> bool:
    """No deal is open, and no order of unknown fate."""
    return (
        not Deal.objects.exclude(status__in=FINISHED).exists()
        and not Order.objects.filter(unknown_since__isnull=False).exists()
    )


def counts() -> dict[str, int]:
    """For a line of progress."""
    return {
        "deals": Deal.objects.count(),
        "open": Deal.objects.exclude(status__in=FINISHED).count(),
        "orders": Order.objects.count(),
        "fills": Fill.objects.count(),
        "decisions": Decision.objects.count(),
    }


def database_bytes() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        return int(cursor.fetchone()[0])


def largest_tables(count: int = 8) -> dict[str, dict[str, float]]:
    """Megabytes with indexes, rows that live and rows that wait to be cleared away."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, pg_total_relation_size(relid), n_live_tup, n_dead_tup FROM pg_stat_user_tables"
            " ORDER BY 2 DESC LIMIT %s",
            [count],
        )
        rows = cursor.fetchall()
    return {name: {"mb": round(size / 2**20, 1), "rows": live, "dead": dead} for name, size, live, dead in rows}


# --- how long things took --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wall:
    """Platform time to unix seconds of the wall, and between."""

    anchor_real: float
    anchor: float
    speed: float

    def of(self, moment: datetime) -> float:
        return self.anchor_real + (moment.timestamp() - self.anchor) / self.speed

    def platform(self, seconds: float) -> datetime:
        return datetime.fromtimestamp(self.anchor + (seconds - self.anchor_real) * self.speed, UTC)

    def between(self, begin: datetime, end: datetime) -> float:
        return (end - begin).total_seconds() / self.speed


def decision_delays(wall: Wall, begin: datetime, end: datetime) -> dict[str, Readings]:
    """By length of the candle, as "decision 5": (when decided, wall seconds since a candle that was read ended)."""
    rows = (
        Decision.objects.filter(decided_at__gte=begin, decided_at__lt=end)
        .exclude(outcome__in=("stale_data", "error"))
        .order_by("decided_at")
        .values_list("config__resolution", "bar_open_at", "decided_at")
    )
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for resolution, opened, decided in rows.iterator():
        ended = opened + Resolution(resolution).duration
        found[f"decision {resolution}"].append((wall.of(decided), wall.between(ended, decided)))
    return dict(found)


def candles_decided(begin: datetime, end: datetime) -> dict[str, dict[str, int]]:
    """By length: candles stored of the time, those times the strategies that read them, and the decisions over them."""
    told = {}
    for resolution in sorted(set(StrategyConfig.objects.values_list("resolution", flat=True))):
        configs = StrategyConfig.objects.filter(resolution=resolution)
        between = {"open_time__gte": begin, "open_time__lt": end - Resolution(resolution).duration}
        markets = Counter(configs.values_list("data_market", flat=True))
        stored = {
            market: Candle.objects.filter(market=market, resolution=resolution, **between).count() for market in markets
        }
        decided = Decision.objects.filter(
            config__in=configs,
            bar_open_at__gte=begin,
            bar_open_at__lt=end - Resolution(resolution).duration,
        ).exclude(outcome="stale_data")
        told[str(resolution)] = {
            "candles": sum(stored.values()),
            "to_decide": sum(stored[market] * many for market, many in markets.items()),
            "decided": decided.count(),
        }
    return told


def outcomes(begin: datetime, end: datetime) -> dict[str, int]:
    rows = Decision.objects.filter(decided_at__gte=begin, decided_at__lt=end).order_by()
    return dict(Counter(rows.values_list("outcome", flat=True)))


def entry_delays(wall: Wall, begin: datetime, end: datetime) -> Readings:
    """(when planned, wall seconds from the plan until the exchange confirmed the entry)."""
    rows = Order.objects.filter(
        role=Role.ENTRY, accepted_at__isnull=False, created_at__gte=begin, created_at__lt=end
    ).order_by("created_at")
    told = rows.values_list("created_at", "accepted_at")
    return [(wall.of(made), wall.between(made, accepted)) for made, accepted in told]


def stop_delays(wall: Wall, begin: datetime, end: datetime) -> Readings:
    """(when filled, wall seconds from the first fill of an entry until the exchange confirmed the first stop)."""
    rows = (
        Deal.objects.filter(opened_at__isnull=False, created_at__gte=begin, created_at__lt=end)
        .annotate(
            filled=Min("orders__fills__executed_at", filter=Q(orders__role=Role.ENTRY)),
            covered=Min("orders__accepted_at", filter=Q(orders__role=Role.STOP)),
        )
        .filter(filled__isnull=False, covered__isnull=False)
        .order_by("filled")
    )
    told = rows.values_list("filled", "covered")
    return [(wall.of(filled), wall.between(filled, covered)) for filled, covered in told]


def deals_told() -> dict[str, dict[str, int]]:
    """How many deals stand where, and why the closed ones closed."""
    rows = list(Deal.objects.values_list("status", "close_reason", "account__provider"))
    return {
        "status": _counted(status for status, _, _ in rows),
        "closed_by": _counted(reason for status, reason, _ in rows if status == DealStatus.CLOSED),
        "exchange": _counted(provider for _, _, provider in rows),
        "notes": _counted(Deal.objects.exclude(note="").values_list("note", flat=True)),
    }


def denial_messages() -> dict[str, int]:
    """What the risk gate said, numbers left out."""
    rows = Signal.objects.exclude(denial_code="").values_list("denial_code", "denial_message")
    return _counted(f"{code}: {re.sub(r'[0-9][0-9.:-]*', 'N', message)[:120]}" for code, message in rows.iterator())


def never_covered() -> int:
    """Deals that were open, and of which neither a stop nor an exit was ever confirmed: where the price is through the
    stop before there is one, an exit goes out in its place."""
    opened = Deal.objects.filter(opened_at__isnull=False).exclude(entry_quantity__lte=F("dust_quantity"))
    return opened.exclude(orders__role__in=(Role.STOP, Role.EXIT), orders__accepted_at__isnull=False).count()


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(map(str, values)).most_common(12))


def wallets_of(told: Mapping[str, str]) -> list[str]:
    return sorted(set(told.values()))
