"""From events to deliveries: which channels hear of an event. One row per event and channel, whoever dies when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q

from algo.models import Delivery, DeliveryState, NotificationChannel, OutboxEvent
from algo.models.event_kinds import OF_EVERYBODY
from algo.selectors.rights import accounts_of, sees_all
from algo.services.channels import operators_channel
from algo.services.quiet_hours import quiet_until

RETRIED_FOR = timedelta(days=1)  # wall time, from the end of quiet hours
KEPT = timedelta(days=30)
BATCH = 500
_FANNING_OUT = 7141  # advisory lock: one process at a time, so that no event overtakes another on its way to a channel


def fan_out(now: datetime, *, speed: float = 1.0) -> int:
    """Make the deliveries of all events that have none yet; returns how many. Nothing where another process is at it.

    An event is marked in the transaction that makes its deliveries. `speed` is platform seconds per wall second.
    """
    made, is_more = 0, True
    while is_more:
        of_batch, is_more = _batch(now, speed)
        made += of_batch
    return made


@transaction.atomic
def _batch(now: datetime, speed: float) -> tuple[int, bool]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s, 0)", [_FANNING_OUT])
        if not cursor.fetchone()[0]:
            return 0, False
    events = list(OutboxEvent.objects.filter(fanned_out_at=None).order_by("id")[:BATCH])
    if not events:
        return 0, False
    routes = _routes()
    taken = ((event, route.channel) for event in events for route in routes if route.takes(event))
    rows = [delivery_of(event, channel, now, speed=speed) for event, channel in taken]
    Delivery.objects.bulk_create(rows, ignore_conflicts=True)  # a test made its own at once
    OutboxEvent.objects.filter(pk__in=[event.pk for event in events]).update(fanned_out_at=now)
    return len(rows), len(events) == BATCH


def delivery_of(event: OutboxEvent, channel: NotificationChannel, now: datetime, *, speed: float = 1.0) -> Delivery:
    """The delivery of `event` to `channel`, not saved."""
    begins = quiet_until(now, channel.quiet_from, channel.quiet_to, channel.time_zone) or now
    return Delivery(
        event=event,
        channel=channel,
        deal_id=event.deal_id,
        severity=event.severity,
        created_at=now,
        next_attempt_at=now,
        expires_at=begins + RETRIED_FOR * speed,
    )


@dataclass(frozen=True, slots=True)
class Route:
    """What a channel takes. `seen` are the accounts its owner may see, None where these are all."""

    channel: NotificationChannel
    seen: frozenset[int] | None
    accounts: frozenset[int]  # empty: all
    strategies: frozenset[int]  # empty: all
    accounts_of_strategies: frozenset[int]

    def takes(self, event: OutboxEvent) -> bool:
        if event.channel_id is not None:
            return bool(event.channel_id == self.channel.pk)
        return self._matters(event) and self._may_hear(event) and self._is_chosen(event)

    def _matters(self, event: OutboxEvent) -> bool:
        kinds = self.channel.kinds
        return event.severity >= self.channel.minimum_severity and (not kinds or event.kind in kinds)

    def _may_hear(self, event: OutboxEvent) -> bool:
        if self.seen is None:
            return True
        return event.kind in OF_EVERYBODY if event.account_id is None else event.account_id in self.seen

    def _is_chosen(self, event: OutboxEvent) -> bool:
        """What belongs to no account concerns every chosen one; what belongs to an account, all strategies on it."""
        if event.account_id is None:
            return True
        if self.accounts and event.account_id not in self.accounts:
            return False
        if not self.strategies:
            return True
        if event.config_id is None:
            return event.account_id in self.accounts_of_strategies
        return event.config_id in self.strategies


def _routes() -> list[Route]:
    operators_channel()
    of_people = Q(owner=None) | Q(owner__is_active=True)
    channels = NotificationChannel.objects.filter(of_people, is_enabled=True).select_related("owner")
    return [_route(channel) for channel in channels.prefetch_related("accounts", "strategies")]


def _route(channel: NotificationChannel) -> Route:
    strategies = list(channel.strategies.all())
    return Route(
        channel,
        _seen(channel.owner),
        frozenset(account.pk for account in channel.accounts.all()),
        frozenset(config.pk for config in strategies),
        frozenset(config.account_id for config in strategies),
    )


def _seen(owner: Any) -> frozenset[int] | None:
    if owner is None or sees_all(owner):
        return None
    return frozenset(accounts_of(owner).values_list("pk", flat=True))


def outbox_prune(now: datetime) -> int:
    """Forget events, and what became of them, after a month. What still waits stays. Returns how many events."""
    waiting = Delivery.objects.filter(event=OuterRef("pk"), state=DeliveryState.WAITING)
    old = OutboxEvent.objects.filter(created_at__lt=now - KEPT, fanned_out_at__isnull=False).exclude(Exists(waiting))
    return old.delete()[1].get("algo.OutboxEvent", 0)
