"""Delivery of recorded events: at least once, each by one worker at a time, with back-off, for about a day."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from algo.models import OutboxEvent
from algo.services.outbox import event_record

__all__ = ["DeliveryFailed", "Sender", "event_record", "outbox_deliver"]

logger = logging.getLogger(__name__)

FIRST_RETRY = timedelta(seconds=20)  # also the lease of an attempt: longer than a delivery may take
LONGEST_RETRY = timedelta(hours=1)
MAX_ATTEMPTS = 30  # 20 s doubling to an hour, then hourly: a little more than a day
BATCH = 100


class DeliveryFailed(Exception):
    """The receiver did not take the event. The text holds no secret; the event is tried again later."""


Sender = Callable[[OutboxEvent], None]


def outbox_deliver(now: datetime, sender: Sender, *, speed: float = 1.0, limit: int = BATCH) -> int:
    """Give due events to `sender`, oldest first; returns how many were delivered.

    An event is claimed by moving its next attempt into the future, so the network is used outside any transaction and
    a worker that dies leaves the event for the next one. `speed` is platform seconds per wall second: receivers live
    in wall time. After MAX_ATTEMPTS an event has no next attempt and stays as it is.
    """
    delivered = 0
    for _ in range(limit):
        event = _claim(now, speed)
        if event is None:
            break
        delivered += _deliver(event, sender, now)
    return delivered


def retry_after(attempts: int) -> timedelta:
    """How long after attempt number `attempts` the next one is due, in wall time."""
    doublings = min(attempts - 1, 20)
    return min(FIRST_RETRY * 2**doublings, LONGEST_RETRY)


@transaction.atomic
def _claim(now: datetime, speed: float) -> OutboxEvent | None:
    due = Q(next_attempt_at__lte=now) | Q(next_attempt_at=None, attempts=0)
    waiting = OutboxEvent.objects.filter(due, delivered_at=None).order_by("id")
    event = waiting.select_for_update(skip_locked=True).first()
    if event is None:
        return None
    event.attempts += 1
    last = event.attempts >= MAX_ATTEMPTS
    event.next_attempt_at = None if last else now + retry_after(event.attempts) * speed
    event.save(update_fields=["attempts", "next_attempt_at"])
    return event


def _deliver(event: OutboxEvent, sender: Sender, now: datetime) -> bool:
    try:
        sender(event)
    except DeliveryFailed as exc:
        logger.warning("event not delivered id=%s kind=%s attempt=%d: %s", event.pk, event.kind, event.attempts, exc)
        _note(event, str(exc))
        return False
    except Exception as exc:  # one event that cannot be sent must not hold up those after it
        logger.exception("event failed id=%s kind=%s attempt=%d", event.pk, event.kind, event.attempts)
        _note(event, f"{type(exc).__name__}, see the log")
        return False
    OutboxEvent.objects.filter(pk=event.pk, delivered_at=None).update(delivered_at=now, last_error="")
    return True


def _note(event: OutboxEvent, error: str) -> None:
    OutboxEvent.objects.filter(pk=event.pk).update(last_error=error[:400])
