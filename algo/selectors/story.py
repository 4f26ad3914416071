"""What happened to one deal, in the order of time."""

from __future__ import annotations

from django.db.models import QuerySet

from algo.models import Deal, Fill, OrderEvent


def deal_fills(deal: Deal) -> QuerySet[Fill]:
    return Fill.objects.filter(order__deal=deal).select_related("order").order_by("executed_at", "id")


def deal_events(deal: Deal) -> QuerySet[OrderEvent]:
    """Changes of its orders, without the raw answers, which may be long."""
    return OrderEvent.objects.filter(order__deal=deal).select_related("order").defer("raw").order_by("at", "id")
