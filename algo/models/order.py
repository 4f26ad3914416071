"""Orders, what became of them, and their fills. The row is there before the first byte is sent."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from algo.models.account import Account
from algo.models.deal import Deal
from algo.models.fields import AmountField, choices
from algo.models.market import Market
from providers.types import FINAL_STATUSES, OrderStatus, OrderType, Side


class Role(models.TextChoices):
    """What an order is for within its deal."""

    ENTRY = "ENTRY", "Entry"
    STOP = "STOP", "Stop"
    TARGET = "TARGET", "Target"
    EXIT = "EXIT", "Exit"


class Order(models.Model):
    """One instruction to one exchange. `unknown_since` is set while nobody can say whether it arrived."""

    deal = models.ForeignKey(Deal, on_delete=models.PROTECT, related_name="orders")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="orders")
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="orders")
    role = models.CharField(max_length=8, choices=Role.choices)
    leg = models.PositiveSmallIntegerField(help_text="Counts the orders of one role within the deal; never reused.")
    client_order_id = models.CharField(max_length=32, unique=True)
    exchange_order_id = models.CharField(max_length=64, null=True, blank=True)
    pair = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="legs")
    side = models.CharField(max_length=4, choices=choices(Side))
    type = models.CharField(max_length=12, choices=choices(OrderType))
    quantity = AmountField()
    price = AmountField(null=True)
    stop_price = AmountField(null=True)
    status = models.CharField(max_length=16, choices=choices(OrderStatus), default=OrderStatus.PENDING)
    filled_quantity = AmountField(default=0)
    average_price = AmountField(null=True)
    fee = AmountField(default=0)
    fee_asset = models.CharField(max_length=24, blank=True)
    reason = models.CharField(max_length=200, blank=True, help_text="Why it was placed, refused or given up.")
    raw = models.JSONField(default=dict, help_text="The exchange's last word, unparsed.")
    attempts = models.PositiveSmallIntegerField(default=0)
    adoptions = models.PositiveSmallIntegerField(
        default=0, help_text="How often it was found alive at the exchange after its end here."
    )
    epoch = models.BigIntegerField(null=True, help_text="Of the account's lock, when it was last sent.")
    balance_asset = models.CharField(max_length=24, blank=True, help_text="The asset it spends.")
    balance_before = AmountField(null=True, help_text="Total of that asset shortly before the order was sent.")
    locked_before = AmountField(null=True)
    balance_read_at = models.DateTimeField(null=True)
    cancel_asked_at = models.DateTimeField(null=True, help_text="When a person asked to cancel it.")
    cancel_requested_at = models.DateTimeField(null=True, help_text="When its exchange was last asked to cancel it.")
    unknown_since = models.DateTimeField(null=True)
    negative_at = models.DateTimeField(null=True, help_text="When every look-up last agreed that it never arrived.")
    created_at = models.DateTimeField()
    submitted_at = models.DateTimeField(null=True)
    accepted_at = models.DateTimeField(null=True, help_text="When the exchange first confirmed it.")
    checked_at = models.DateTimeField(null=True, help_text="When the exchange was last asked about it.")
    closed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = [
            models.UniqueConstraint(fields=("deal", "role", "leg"), name="order_leg_once"),
            models.UniqueConstraint(
                fields=("account", "exchange_order_id"),
                condition=Q(exchange_order_id__isnull=False),
                name="order_exchange_id_once",
            ),
            models.UniqueConstraint(
                fields=("deal",),
                condition=Q(role=Role.EXIT) & ~Q(status__in=sorted(FINAL_STATUSES)),
                name="order_one_live_exit_per_deal",
            ),
            models.CheckConstraint(name="order_quantity_positive", condition=Q(quantity__gt=0)),
            models.CheckConstraint(
                name="order_fill_within_quantity",
                condition=Q(filled_quantity__gte=0) & Q(filled_quantity__lte=models.F("quantity")),
            ),
            models.CheckConstraint(name="order_entry_sent_once", condition=~Q(role=Role.ENTRY) | Q(attempts__lte=1)),
            # An order that was adopted is at the exchange already: refusing its row would only hide it.
            models.CheckConstraint(
                name="order_one_entry_per_deal", condition=~Q(role=Role.ENTRY) | Q(leg=1) | Q(adoptions__gte=1)
            ),
            models.UniqueConstraint(
                fields=("deal", "role"),
                condition=Q(adoptions=0, role__in=(Role.STOP, Role.TARGET)) & ~Q(status__in=sorted(FINAL_STATUSES)),
                name="order_one_live_stop_and_target",
            ),
        ]
        indexes = [
            models.Index(fields=("account", "status"), name="order_live_by_account"),
            # of all that ever was, the few that are asked for every second: what has not ended, and what may be lost
            models.Index(
                fields=("account", "market"), condition=~Q(status__in=sorted(FINAL_STATUSES)), name="order_unended"
            ),
            models.Index(
                fields=("account", "market"),
                condition=Q(unknown_since__isnull=False) | Q(negative_at__isnull=False),
                name="order_in_doubt",
            ),
            models.Index(fields=("-created_at", "-id"), name="order_newest"),  # the lists of API and admin
            models.Index(fields=("status", "-created_at", "-id"), name="order_newest_of_status"),  # ?status=
            models.Index(fields=("account", "-created_at", "-id"), name="order_newest_of_account"),  # ?account=
            models.Index(fields=("-closed_at", "-id"), name="order_by_end"),  # ?ordering=closed_at and -closed_at
        ]

    def __str__(self) -> str:
        return f"{self.role} {self.side} {self.type} {self.client_order_id}"


class OrderEvent(models.Model):
    """Append-only: every change of an order, with the raw answer that caused it."""

    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="events")
    at = models.DateTimeField()
    from_status = models.CharField(max_length=16, blank=True)
    to_status = models.CharField(max_length=16)
    reason = models.CharField(max_length=400, blank=True)
    raw = models.JSONField(default=dict)
    hash = models.CharField(
        max_length=64, editable=False, default="", help_text="Of this row and of the one before it; by the database."
    )

    class Meta:
        ordering = ("at", "id")

    def __str__(self) -> str:
        return f"{self.from_status} → {self.to_status}"


class DealEvent(models.Model):
    """Append-only: every change of a deal's status, of its stop and of its protection."""

    deal = models.ForeignKey(Deal, on_delete=models.PROTECT, related_name="events")
    at = models.DateTimeField()
    kind = models.CharField(
        max_length=24, help_text="status, stop_moved, exit, swap, protected, unprotected, reopened, look_asked."
    )
    from_status = models.CharField(max_length=16, blank=True)
    to_status = models.CharField(max_length=16)
    detail = models.JSONField(default=dict)
    hash = models.CharField(max_length=64, editable=False, default="")

    class Meta:
        ordering = ("at", "id")

    def __str__(self) -> str:
        return f"{self.kind}: {self.from_status} → {self.to_status}"


class Fill(models.Model):
    """One execution of part of an order, booked exactly once."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="fills")
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="fills")
    trade_id = models.CharField(max_length=80)
    price = AmountField()
    quantity = AmountField()
    fee = AmountField(default=0)
    fee_asset = models.CharField(max_length=24, blank=True)
    executed_at = models.DateTimeField(help_text="By the exchange's clock.")
    booked_at = models.DateTimeField(null=True, help_text="By ours; empty where it was booked before this was kept.")

    class Meta:
        ordering = ("-executed_at", "-id")
        constraints = [
            models.UniqueConstraint(fields=("account", "trade_id"), name="fill_booked_once"),
            models.CheckConstraint(name="fill_positive", condition=Q(quantity__gt=0) & Q(price__gt=0)),
        ]
        indexes = [models.Index(fields=("-executed_at", "-id"), name="fill_newest")]  # the lists of API and admin

    def __str__(self) -> str:
        return f"{self.quantity} @ {self.price}"
