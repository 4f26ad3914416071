"""Delivery: at least once, in the order of each deal, by one worker per channel at a time, for about a day.

A channel is claimed by a row (`claimed_until`), a message by moving its next attempt into the future; both are
committed before the network is used, so a worker that dies leaves everything for the next one. A channel that does not
answer waits alone: every channel is a task of its own.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from algo.models import Delivery, DeliveryState, NotificationChannel, QuietRule, Severity
from algo.models.fields import SecretUnreadable
from algo.notifications.message import DeliveryFailed, Message, Sender
from algo.services.quiet_hours import quiet_until

logger = logging.getLogger("algo.notifications")

FIRST_RETRY = timedelta(seconds=20)  # longer than a sender may take: it is also the lease of one message
LONGEST_RETRY = timedelta(hours=1)  # of a message that was refused
LONGEST_SILENCE = timedelta(minutes=10)  # of a receiver that is away: the next message is its next chance
SLICE_SECONDS = 20.0  # of work for one channel in one go
LEASE = timedelta(seconds=60)  # of a channel: longer than a slice and one message more
MINUTE = timedelta(minutes=1)
GROUP_ABOVE = 5  # more than so many in a minute are one message
MOST_IN_GROUP = 1000


def channels_due(now: datetime) -> list[int]:
    """Channels with something to send now, those that answer before those that did not."""
    waiting = Delivery.objects.filter(channel=OuterRef("pk"), state=DeliveryState.WAITING, next_attempt_at__lte=now)
    rows = _open_channels(now).filter(Exists(waiting)).order_by("failures", "pk")
    return list(rows.values_list("pk", flat=True))


def channel_deliver(channel_id: int, now: datetime, senders: Mapping[str, Sender], *, speed: float = 1.0) -> int:
    """Send what is due on one channel, oldest first, until it fails, nothing is left or the time is up. Returns how
    many events were delivered; 0 where another worker is at it. `speed` is platform seconds per wall second: receivers
    live in wall time."""
    delivered = 0
    with _claimed(channel_id, now, speed) as claim:
        deadline = time.monotonic() + SLICE_SECONDS
        if claim is not None:
            _give_up(channel_id, now, Q(attempts__gt=0))
        while claim is not None and time.monotonic() < deadline:
            taken = _take(channel_id, claim, now, speed)
            if taken is None:
                break
            went_out, go_on = _send(*taken, senders, now, speed)
            delivered += went_out
            if not go_on:
                break
    return delivered


def retry_after(failures: int, longest: timedelta = LONGEST_RETRY) -> timedelta:
    """How long after failure number `failures` the next try is due, in wall time."""
    return min(FIRST_RETRY * 2 ** min(failures - 1, 20), longest)


# --- the claim of a channel -----------------------------------------------------------------------------------------


def _open_channels(now: datetime) -> QuerySet[NotificationChannel]:
    rows = NotificationChannel.objects.filter(Q(owner=None) | Q(owner__is_active=True), is_enabled=True)
    rested = Q(retry_at=None) | Q(retry_at__lte=now)
    return rows.filter(rested).filter(Q(claimed_until=None) | Q(claimed_until__lte=now))


@contextmanager
def _claimed(channel_id: int, now: datetime, speed: float) -> Iterator[uuid.UUID | None]:
    """The claim, None where it was not to be had. Who dies with it is followed after LEASE."""
    mine = uuid.uuid4()
    with transaction.atomic():
        row = _open_channels(now).filter(pk=channel_id).select_for_update(of=("self",), skip_locked=True).first()
        if row is not None:
            NotificationChannel.objects.filter(pk=row.pk).update(claim=mine, claimed_until=now + LEASE * speed)
    try:
        yield None if row is None else mine
    finally:
        NotificationChannel.objects.filter(pk=channel_id, claim=mine).update(claim=None, claimed_until=None)


# --- what comes next ------------------------------------------------------------------------------------------------


@transaction.atomic
def _take(
    channel_id: int, claim: uuid.UUID, now: datetime, speed: float
) -> tuple[NotificationChannel, list[Delivery]] | None:
    """The next message's deliveries, claimed for one try; None where nothing is to be sent now."""
    rows = NotificationChannel.objects.filter(pk=channel_id, claim=claim, is_enabled=True)
    channel = rows.select_for_update().first()
    if channel is None or not _has_room(channel, now, speed):
        return None
    chosen = _choose(channel, now, speed)
    if not chosen:
        return None
    key = chosen[0].group_key or (f"group_{uuid.uuid4().hex}" if len(chosen) > 1 else "")
    tried = chosen[0].attempts + 1
    pks = [row.pk for row in chosen]
    Delivery.objects.filter(pk__in=pks).update(
        attempts=F("attempts") + 1, next_attempt_at=now + retry_after(tried) * speed, group_key=key
    )
    channel.sent_in_minute += 1
    channel.save(update_fields=["minute_began_at", "sent_in_minute"])
    return channel, list(Delivery.objects.filter(pk__in=pks).select_related("event").order_by("event_id"))


def _has_room(channel: NotificationChannel, now: datetime, speed: float) -> bool:
    """Whether one more message may go out in this minute; a new minute begins with its first message."""
    if channel.minute_began_at is None or now - channel.minute_began_at >= MINUTE * speed:
        channel.minute_began_at, channel.sent_in_minute = now, 0
    return channel.sent_in_minute < channel.most_per_minute


def _choose(channel: NotificationChannel, now: datetime, speed: float) -> list[Delivery]:
    due = _due(channel, now)
    if not channel.groups:
        first = due.first()
        return [] if first is None else _as_it_was(first)
    again = due.exclude(group_key="").first()
    if again is not None:
        return _as_it_was(again)
    urgent = list(due.filter(_is_urgent(channel))[:MOST_IN_GROUP])
    if urgent:
        return urgent if len(urgent) > GROUP_ABOVE else urgent[:1]
    rows = list(due[:MOST_IN_GROUP])
    if not rows:
        return []
    if len(rows) + channel.sent_in_minute <= GROUP_ABOVE:
        return rows[:1]
    return rows if rows[0].created_at <= now - MINUTE * speed else []  # the storm may still be growing


def _as_it_was(row: Delivery) -> list[Delivery]:
    """The message that `row` is part of: a group that failed goes out again whole, under its id."""
    if not row.group_key:
        return [row]
    return list(Delivery.objects.filter(channel=row.channel_id, group_key=row.group_key, state=DeliveryState.WAITING))


def _due(channel: NotificationChannel, now: datetime) -> QuerySet[Delivery]:
    """What may be sent now, in order: nothing of a deal of which something is to be tried again later."""
    waiting = Delivery.objects.filter(channel=channel, state=DeliveryState.WAITING)
    held_up = waiting.filter(next_attempt_at__gt=now, deal__isnull=False).values("deal")
    rows = waiting.filter(next_attempt_at__lte=now).exclude(deal__in=held_up).order_by("event_id")
    if quiet_until(now, channel.quiet_from, channel.quiet_to, channel.time_zone) is None:
        return rows
    return rows.none() if channel.quiet_rule == QuietRule.HOLD_ALL else rows.filter(_is_urgent(channel))


def _is_urgent(channel: NotificationChannel) -> Q:
    """Critical, or with something critical behind it in its deal: the order of a deal is kept at all times."""
    critical = Delivery.objects.filter(channel=channel, state=DeliveryState.WAITING, severity=Severity.CRITICAL)
    behind = critical.filter(deal=OuterRef("deal"), event__gt=OuterRef("event_id"))
    return Q(severity=Severity.CRITICAL) | (Q(deal__in=critical.values("deal")) & Q(Exists(behind)))


# --- one message ----------------------------------------------------------------------------------------------------


def _send(
    channel: NotificationChannel,
    rows: Sequence[Delivery],
    senders: Mapping[str, Sender],
    now: datetime,
    speed: float,
) -> tuple[int, bool]:
    """How many events went out, and whether to go on with this channel."""
    message = Message(rows[0].message_id, channel, tuple(row.event for row in rows), now)
    try:
        status = senders[channel.type](message)
    except (DeliveryFailed, SecretUnreadable) as exc:
        failed = exc if isinstance(exc, DeliveryFailed) else DeliveryFailed(str(exc))
    except Exception as exc:  # one message that cannot be sent must not hold up those after it
        logger.exception("message failed id=%s channel=%s", message.id, channel.pk)
        failed = DeliveryFailed(f"{type(exc).__name__}, see the log", of_receiver=False)
    else:
        _note_delivered(channel, rows, status, now)
        return len(rows), True
    logger.warning(
        *("message not delivered id=%s channel=%s attempt=%d: %s", message.id, channel.pk, rows[0].attempts, failed)
    )
    _note_failed(channel, rows, failed, now, speed)
    return 0, not failed.of_receiver


@transaction.atomic
def _note_delivered(channel: NotificationChannel, rows: Sequence[Delivery], status: int | None, now: datetime) -> None:
    taken = Delivery.objects.filter(pk__in=[row.pk for row in rows])
    taken.update(state=DeliveryState.DELIVERED, delivered_at=now, last_error="", status_code=status)
    NotificationChannel.objects.filter(pk=channel.pk).exclude(failures=0).update(failures=0, retry_at=None)


@transaction.atomic
def _note_failed(
    channel: NotificationChannel, rows: Sequence[Delivery], failed: DeliveryFailed, now: datetime, speed: float
) -> None:
    taken = Delivery.objects.filter(pk__in=[row.pk for row in rows])
    taken.update(last_error=str(failed)[:400], status_code=failed.status)
    over = Q(pk__in=[row.pk for row in rows])
    if failed.of_receiver:
        failures = channel.failures + 1
        waits = max(retry_after(failures, LONGEST_SILENCE), timedelta(seconds=failed.retry_seconds or 0))
        again = now + waits * speed
        NotificationChannel.objects.filter(pk=channel.pk).update(failures=failures, retry_at=again)
        taken.update(next_attempt_at=again)
        waiting = Delivery.objects.filter(channel=channel, state=DeliveryState.WAITING, last_error="")
        waiting.filter(expires_at__lte=now).update(last_error=str(failed)[:400])
        over = Q()
    _give_up(channel.pk, now, over)


def _give_up(channel_id: int, now: datetime, which: Q) -> None:
    """End what was tried for a day. The next of its deal may go then."""
    rows = Delivery.objects.filter(which, channel=channel_id, state=DeliveryState.WAITING, expires_at__lte=now)
    rows.update(state=DeliveryState.GIVEN_UP)
