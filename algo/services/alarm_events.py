"""Events of what nobody does, and somebody has to notice: protection that is missing for too long, an exchange that
does not answer, a strategy that is denied again and again.

A task of its own looks for them in what the ledger says; whoever looks after money does not wait for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import transaction
from django.db.models import Count, QuerySet

from algo.models import (
    FINISHED_DEALS,
    Deal,
    DealEvent,
    EventKind,
    OutboxEvent,
    Severity,
    Signal,
    StrategyConfig,
)
from algo.risk.values import DenialCode
from algo.selectors.health import AWAY_SECONDS, house_health
from algo.selectors.parity import day_bounds, trading_day
from algo.services.alone import alone
from algo.services.deal_events import deal_payload
from algo.services.outbox import event_record

BARE_SECONDS = 5.0  # wall: a stop that is moved leaves less
LOOKED_BACK = timedelta(minutes=2)  # wall, for what began and ended between two looks
OFTEN, OFTEN_WITHIN = 10, timedelta(hours=1)
LIMITS = (DenialCode.DAILY_TRADES, DenialCode.DAILY_LOSS)
_PROTECTION = (EventKind.PROTECTION_LOST, EventKind.PROTECTION_RESTORED)
_EXCHANGE = (EventKind.EXCHANGE_DOWN, EventKind.EXCHANGE_UP)
_LOOKING = 7142  # advisory lock: one process looks at a time


def alarms_watch(now: datetime, *, speed: float = 1.0) -> int:
    """Record what is new since the last look; returns how many events. 0 where another process is at it. `speed` is
    platform seconds per wall second."""
    with alone(_LOOKING, 0) as is_mine:
        if not is_mine:
            return 0
        made = [*_protection(now, speed), *_denied_often(now), *_limits(now, speed), *_exchanges(now, speed)]
    return len(made)


# --- protection -----------------------------------------------------------------------------------------------------


def _protection(now: datetime, speed: float) -> Iterator[OutboxEvent]:
    bound = timedelta(seconds=BARE_SECONDS * speed)
    live = Deal.objects.exclude(status__in=FINISHED_DEALS).filter(opened_at__isnull=False)
    last = OutboxEvent.objects.filter(deal__in=live, kind__in=_PROTECTION).order_by("deal_id", "-id")
    told = {event.deal_id: event for event in last.distinct("deal_id")}
    for deal in live.order_by("pk"):
        since, said = deal.unprotected_since, told.get(deal.pk)
        lost_at = said.created_at if said is not None and said.kind == EventKind.PROTECTION_LOST else None
        if since is None:
            if lost_at is not None:
                yield from _tell(deal, EventKind.PROTECTION_RESTORED, now, until=now)
        elif now - since >= bound and (lost_at is None or lost_at < since):
            yield from _tell(deal, EventKind.PROTECTION_LOST, now, since=since)
    yield from _spells_between_two_looks(live, now, bound, speed)


def _spells_between_two_looks(
    live: QuerySet[Deal], now: datetime, bound: timedelta, speed: float
) -> Iterator[OutboxEvent]:
    """What was bare for too long, and is protected again before anybody looked."""
    ended = DealEvent.objects.filter(deal__in=live, kind="protected", at__gte=now - LOOKED_BACK * speed)
    for each in ended.select_related("deal"):
        lasted = timedelta(seconds=float(Decimal(each.detail.get("seconds") or 0)))
        since = each.at - lasted
        known = OutboxEvent.objects.filter(deal=each.deal_id, kind=EventKind.PROTECTION_LOST, created_at__gte=since)
        if lasted >= bound and not known.exists():
            yield from _tell(each.deal, EventKind.PROTECTION_LOST, now, since=since, until=each.at)
            if each.deal.unprotected_since is None:
                yield from _tell(each.deal, EventKind.PROTECTION_RESTORED, now, until=each.at)


@transaction.atomic
def _tell(
    deal: Deal, kind: EventKind, now: datetime, *, since: datetime | None = None, until: datetime | None = None
) -> list[OutboxEvent]:
    """Under the deal's lock, so that its events stand in order; nothing where somebody acts on it now: the next look is
    soon. The spell from `since`, and to `until` where it has ended."""
    rows = Deal.objects.select_for_update(of=("self",), skip_locked=True)
    row = rows.select_related("config", "account", "market").filter(pk=deal.pk).first()
    if row is None or row.status in FINISHED_DEALS:
        return []
    spell = {name: moment for name, moment in (("since", since), ("until", until)) if moment is not None}
    is_over = until is not None and kind == EventKind.PROTECTION_LOST  # nobody has to be woken for it
    severity = Severity.WARNING if is_over else None
    return [event_record(kind, deal_payload(row) | spell, at=now, deal=row, severity=severity)]


# --- strategies -----------------------------------------------------------------------------------------------------


def _denied_often(now: datetime) -> Iterator[OutboxEvent]:
    """Once within the window, however many denials follow."""
    begin = now - OFTEN_WITHIN
    told = OutboxEvent.objects.filter(kind=EventKind.DENIED_OFTEN, created_at__gt=begin).values("config")
    denied = Signal.objects.exclude(denial_code="").filter(created_at__gt=begin, created_at__lte=now)
    counted = denied.exclude(config__in=told).values("config").annotate(times=Count("pk")).filter(times__gte=OFTEN)
    for config_id, times in counted.order_by("config").values_list("config", "times"):
        config = StrategyConfig.objects.select_related("account").get(pk=config_id)
        why = denied.filter(config=config).order_by().values("denial_code").annotate(times=Count("pk"))
        codes = dict(why.order_by("-times", "denial_code").values_list("denial_code", "times"))
        payload = _about(config) | {"times": times, "minutes": int(OFTEN_WITHIN.total_seconds() // 60), "codes": codes}
        yield event_record(EventKind.DENIED_OFTEN, payload, at=now, config=config)


def _limits(now: datetime, speed: float) -> Iterator[OutboxEvent]:
    """Each limit of a strategy once in a trading day. A limit that is reached denies until the day ends, so the newest
    denials are enough to look at."""
    day = trading_day(now)
    begin = day_bounds(day)[0]
    told = OutboxEvent.objects.filter(kind=EventKind.LIMIT_REACHED, created_at__gte=begin)
    known = set(told.values_list("config", "payload__limit"))
    recent = Signal.objects.filter(created_at__gte=max(begin, now - LOOKED_BACK * speed), created_at__lte=now)
    hit = recent.exclude(denial_code="").filter(denial_code__in=LIMITS).select_related("config__account")
    for signal in hit.order_by("created_at", "pk"):
        key = (signal.config_id, signal.denial_code)
        if key not in known:
            known.add(key)
            said = {"limit": signal.denial_code, "message": signal.denial_message, "day": day}
            yield event_record(EventKind.LIMIT_REACHED, _about(signal.config) | said, at=now, config=signal.config)


def _about(config: StrategyConfig) -> dict[str, str]:
    return {"strategy": config.name, "account": config.account.name}


# --- exchanges ------------------------------------------------------------------------------------------------------


def _exchanges(now: datetime, speed: float) -> Iterator[OutboxEvent]:
    """By what the guardian and the workers last said. Where none of them spoke, nobody knows, and nothing is told."""
    for exchange in house_health(now, speed=speed)[1]:
        last = OutboxEvent.objects.filter(kind__in=_EXCHANGE, payload__exchange=exchange.name).order_by("-id").first()
        is_told = last is not None and last.kind == EventKind.EXCHANGE_DOWN
        if exchange.is_away and not is_told:
            since = None if exchange.answered is None else now - timedelta(seconds=exchange.answered * speed)
            payload = {"exchange": exchange.name, "since": since, "asked_by": list(exchange.open_at)}
            yield event_record(EventKind.EXCHANGE_DOWN, payload, at=now)
        elif is_told and exchange.answered is not None and exchange.answered <= AWAY_SECONDS and not exchange.is_away:
            yield event_record(EventKind.EXCHANGE_UP, {"exchange": exchange.name}, at=now)
