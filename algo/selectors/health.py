"""Is the house alive?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from django.conf import settings
from django.db.models import Count, Min, Q, QuerySet

from algo.models import (
    Account,
    AccountState,
    BacktestRun,
    Heartbeat,
    Provider,
    RunStatus,
    StrategyConfig,
    StrategyStatus,
)
from algo.strategies.strategy_factory import external_names
from providers.types import Resolution

STREAM, WORKER = "stream:", "worker:"  # how the names of such heartbeats begin
SILENT_SECONDS = 120.0  # wall: from then on something is wrong
AWAY_SECONDS = 60.0  # wall, without an answer to anybody
CANDLE_LATE_SECONDS = 60.0  # wall: a candle that should have closed may take so long to be fetched
KEY_WORTH_A_LOOK = timedelta(days=14)  # before its expiry


def heartbeat_ages(now: datetime, *, speed: float = 1.0) -> dict[str, float]:
    """Wall seconds since the last sign of life of each process; `speed` is platform seconds per wall second."""
    rows = Heartbeat.objects.order_by("name").values_list("name", "at")
    return {name: _age(at, now, speed) for name, at in rows}


def _age(at: datetime, now: datetime, speed: float) -> float:
    """Wall seconds from `at` to `now`, both platform time."""
    return max((now - at).total_seconds() / speed, 0.0)


class Life(StrEnum):
    """How a process is."""

    ALIVE = "alive"
    SILENT = "silent"  # for too long
    NEVER = "never"  # it belongs to the house and has not reported since the database was made
    BUSY = "busy"  # silent, for its hands are full of backtests
    ALONE = "alone"  # a stream that has no connection: prices come by REST


@dataclass(frozen=True, slots=True)
class ProcessHealth:
    """One process, or the workers of one queue. `age` in wall seconds; None where it has never reported."""

    name: str
    life: Life
    age: float | None


@dataclass(frozen=True, slots=True)
class ExchangeHealth:
    """One exchange as those processes know it that reported lately. `open_at` names those whose circuit is open;
    `answered` is the age of its newest answer to any of them, in wall seconds, None where there was none; `known` is
    False where nobody reported lately who calls it."""

    name: str
    known: bool
    open_at: tuple[str, ...]
    answered: float | None

    @property
    def is_away(self) -> bool:
        """Whether it answers nobody. A circuit stays open until its process asks again, which a quiet one may not do
        for long: while others are answered, that alone says nothing."""
        return bool(self.open_at) and (self.answered is None or self.answered > AWAY_SECONDS)


def house_health(now: datetime, *, speed: float = 1.0) -> tuple[list[ProcessHealth], list[ExchangeHealth]]:
    """Every process that belongs to the house, and every exchange, in two queries. Nothing here asks Redis: with it
    dead the workers fall silent, and what the guardian knows is told."""
    beats = {beat.name: beat for beat in Heartbeat.objects.all()}
    ages = {name: _age(beat.at, now, speed) for name, beat in beats.items()}
    is_testing = BacktestRun.objects.filter(
        status=RunStatus.RUNNING, heartbeat_at__gte=now - timedelta(seconds=SILENT_SECONDS * speed)
    ).exists()
    names = sorted({*beats, *belonging()}, key=lambda name: (name.startswith((WORKER, STREAM)), name))
    processes = [_process(name, ages.get(name), beats.get(name), is_testing) for name in names]
    fresh = [beat for name, beat in beats.items() if ages[name] < SILENT_SECONDS]
    return processes, [_exchange(name, fresh, now, speed) for name in Provider.values]


def belonging() -> list[str]:
    """Heartbeats that a whole house has."""
    workers = [f"{WORKER}{queue}" for queue in settings.QUEUES]
    return ["beat", "guardian", *workers, *(f"{STREAM}{name}" for name in Provider.values)]


def _process(name: str, age: float | None, beat: Heartbeat | None, is_testing: bool) -> ProcessHealth:
    if age is None:
        return ProcessHealth(name, Life.NEVER, None)
    if age >= SILENT_SECONDS:
        busy = is_testing and name == f"{WORKER}backtests"
        return ProcessHealth(name, Life.BUSY if busy else Life.SILENT, age)
    alone = name.startswith(STREAM) and beat is not None and not beat.detail.get("up")
    return ProcessHealth(name, Life.ALONE if alone else Life.ALIVE, age)


def _exchange(name: str, fresh: list[Heartbeat], now: datetime, speed: float) -> ExchangeHealth:
    told = {beat.name: said for beat in fresh if (said := (beat.detail.get("exchanges") or {}).get(name))}
    moments = [datetime.fromisoformat(said["answered_at"]) for said in told.values() if said.get("answered_at")]
    answered = _age(max(moments), now, speed) if moments else None
    return ExchangeHealth(name, bool(told), tuple(sorted(who for who, said in told.items() if said["open"])), answered)


@dataclass(frozen=True, slots=True)
class AccountsHealth:
    """How many accounts are stopped because the exchange refused a key, and how many keys end within 14 days."""

    stopped: int
    keys_ending: int


def accounts_health(now: datetime, accounts: QuerySet[Account] | None = None) -> AccountsHealth:
    """Of all accounts, or of those given."""
    rows = Account.objects.all() if accounts is None else accounts
    return AccountsHealth(
        **rows.aggregate(
            stopped=Count("id", filter=Q(state=AccountState.STOPPED)),
            keys_ending=Count("id", filter=Q(key_expires_at__lte=now + KEY_WORTH_A_LOOK)),
        )
    )


@dataclass(frozen=True, slots=True)
class StreamHealth:
    """One exchange's stream. Ages are wall seconds; None where it has not heard anything yet."""

    name: str
    is_up: bool
    message_age: float | None
    reconnects: int


def stream_health(now: datetime, *, speed: float = 1.0) -> list[StreamHealth]:
    """What each stream process last said about itself."""
    return [_health(beat, now, speed) for beat in Heartbeat.objects.filter(name__startswith=STREAM).order_by("name")]


def _health(beat: Heartbeat, now: datetime, speed: float) -> StreamHealth:
    told = beat.detail
    alive_at = datetime.fromisoformat(told["alive_at"]) if told.get("alive_at") else None
    age = _age(alive_at, now, speed) if alive_at else None
    return StreamHealth(beat.name.removeprefix(STREAM), bool(told.get("up")), age, int(told.get("reconnects", 0)))


@dataclass(frozen=True, slots=True)
class CandlesHealth:
    """The candles of one length that running strategies decide by. `age`: wall seconds since the close of the newest
    one that the strategy furthest behind decided on, None where none has decided yet; `is_late`: a whole further one
    should be there."""

    resolution: str
    strategies: int
    age: float | None
    is_late: bool


def candles_health(now: datetime, *, speed: float = 1.0) -> list[CandlesHealth]:
    """By candle length; empty where no strategy waits for candles. One query."""
    running = StrategyConfig.objects.filter(status=StrategyStatus.RUNNING).exclude(strategy__in=external_names())
    rows = running.values("resolution").annotate(oldest=Min("last_bar_at"), count=Count("id")).order_by("resolution")
    return [_candles(row["resolution"], row["count"], row["oldest"], now, speed) for row in rows]


def _candles(resolution: str, count: int, oldest: datetime | None, now: datetime, speed: float) -> CandlesHealth:
    if oldest is None:
        return CandlesHealth(resolution, count, None, False)
    length = Resolution(resolution).duration
    age = _age(oldest + length, now, speed)
    return CandlesHealth(resolution, count, age, age > length.total_seconds() / speed + CANDLE_LATE_SECONDS)


def exchanges_used() -> set[str]:
    """Those that running strategies read or trade at, and those with an account in use. One query each."""
    accounts = Account.objects.filter(environment=settings.EXCHANGE_ENVIRONMENT).exclude(state=AccountState.STOPPED)
    running = StrategyConfig.objects.filter(status=StrategyStatus.RUNNING)
    read = running.values_list("data_market__provider", "market__provider").distinct()
    return {*accounts.values_list("provider", flat=True).distinct(), *(name for pair in read for name in pair)}
