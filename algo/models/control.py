"""The switches of the whole system, its open questions, and who is alive."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from algo.models.account import Account
from algo.models.market import Market


class KillSwitch(models.TextChoices):
    OFF = "off", "Off: trading normally"
    NO_ENTRIES = "no_entries", "No new positions; open ones stay protected"
    FLATTEN = "flatten", "No new positions; every open one is closed at the market"


class SystemControl(models.Model):
    """One row. Protection and reconciliation never stop, whatever it says."""

    kill_switch = models.CharField(max_length=12, choices=KillSwitch.choices, default=KillSwitch.OFF)
    reason = models.CharField(max_length=400, blank=True)
    version = models.PositiveIntegerField(default=0)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = verbose_name_plural = "system control"
        constraints = [models.CheckConstraint(name="control_is_one_row", condition=Q(pk=1))]

    def __str__(self) -> str:
        return self.get_kill_switch_display()

    @classmethod
    def load(cls) -> SystemControl:
        return cls.objects.get_or_create(pk=1)[0]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.pk = 1
        super().save(*args, **kwargs)


class TicketKind(models.TextChoices):
    UNKNOWN_ORDER = "unknown_order", "An order at the exchange that is not ours"
    UNKNOWN_TRADE = "unknown_trade", "A trade at the exchange that no order of ours explains"
    BALANCE_MOVED = "balance_moved", "A balance moved as by an order that the exchange does not show"
    ORDER_MISSING = "order_missing", "An order of ours that the exchange does not know any more"


class Ticket(models.Model):
    """Something at the exchange that the ledger cannot explain. While open it blocks new entries on that market."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="tickets")
    market = models.ForeignKey(Market, on_delete=models.PROTECT, null=True, blank=True)
    kind = models.CharField(max_length=16, choices=TicketKind.choices)
    reference = models.CharField(max_length=80, help_text="The exchange's id of what cannot be explained.")
    summary = models.CharField(max_length=400)
    details = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            models.UniqueConstraint(fields=("account", "kind", "reference"), name="ticket_once_per_reference")
        ]

    def __str__(self) -> str:
        return self.summary


class Heartbeat(models.Model):
    """Last sign of life of a process or a loop."""

    name = models.CharField(max_length=64, primary_key=True)
    at = models.DateTimeField()
    detail = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name
