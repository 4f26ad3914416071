"""Orders that a probe of an account sent to find out what the account can do."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from algo.models.account import Account
from algo.models.fields import AmountField, choices
from providers.types import OrderType, Side


class ProbeOutcome(models.TextChoices):
    OPEN = "open", "Sent, or about to be: it may rest at the exchange"
    REMOVED = "removed", "Taken down again, unfilled"
    REFUSED = "refused", "Refused by the exchange"
    ABSENT = "absent", "It never arrived"
    FILLED = "filled", "EXECUTED, at least in part"


class ProbeOrder(models.Model):
    """A tiny far-away order outside of any deal. Committed before the first byte is sent, like every order; what is
    still `open` is cleared away by the next probe or reconciliation."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="probe_orders")
    symbol = models.CharField(max_length=32)
    client_order_id = models.CharField(max_length=32, unique=True)
    exchange_order_id = models.CharField(max_length=64, null=True, blank=True)
    side = models.CharField(max_length=4, choices=choices(Side))
    type = models.CharField(max_length=12, choices=choices(OrderType))
    quantity = AmountField()
    price = AmountField(null=True)
    stop_price = AmountField()
    outcome = models.CharField(max_length=8, choices=ProbeOutcome.choices, default=ProbeOutcome.OPEN)
    filled_quantity = AmountField(default=0)
    note = models.CharField(max_length=400, blank=True)
    raw = models.JSONField(default=dict, help_text="The exchange's last word, unparsed.")
    created_at = models.DateTimeField()
    negative_at = models.DateTimeField(null=True, help_text="When every look-up last agreed that it never arrived.")
    closed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = [
            models.CheckConstraint(name="probe_quantity_positive", condition=Q(quantity__gt=0)),
            models.CheckConstraint(
                name="probe_open_until_closed",
                condition=Q(outcome=ProbeOutcome.OPEN, closed_at__isnull=True)
                | (~Q(outcome=ProbeOutcome.OPEN) & Q(closed_at__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.side} {self.type} {self.client_order_id}"
