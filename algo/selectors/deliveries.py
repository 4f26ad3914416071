"""What waits to be told to people, and what nobody took."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Count, Min, Q, QuerySet

from algo.models import Delivery, DeliveryState

COUNTED = timedelta(hours=24)
WAITING = Q(state=DeliveryState.WAITING)


@dataclass(frozen=True, slots=True)
class DeliveriesState:
    """`failing` are those of the waiting whose last try failed; `delivered` counts the last 24 hours."""

    waiting: int
    failing: int
    given_up: int
    oldest_waiting_at: datetime | None
    delivered: int


def deliveries_state(rows: QuerySet[Delivery], now: datetime) -> DeliveriesState:
    """Of `rows`, such as those of one channel. Two queries."""
    left = rows.exclude(state=DeliveryState.DELIVERED).aggregate(
        waiting=Count("id", filter=WAITING),
        failing=Count("id", filter=WAITING & ~Q(last_error="")),
        given_up=Count("id", filter=Q(state=DeliveryState.GIVEN_UP)),
        oldest_waiting_at=Min("created_at", filter=WAITING),
    )
    return DeliveriesState(**left, delivered=rows.filter(delivered_at__gte=now - COUNTED).count())
