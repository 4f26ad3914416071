"""The switches of the whole system, its open questions, and who is alive."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from algo.models.account import Account
from algo.models.market import Market
from algo.models.strategy import StrategyConfig
from algo.phrases import told


class KillSwitch(models.TextChoices):
    """In order of severity. No level ever stops protection."""

    OFF = "off", "Off: trading normally"
    NO_ENTRIES = "no_entries", "No new positions; open ones stay protected"
    CANCEL = "cancel", "No new positions; entries still working are cancelled; open positions stay protected"
    FLATTEN = "flatten", "No new positions; every open one is closed at the market"

    @property
    def severity(self) -> int:
        return list(KillSwitch).index(self)


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


class Halt(models.Model):
    """The kill switch of one account, one strategy or one market. The strictest of all that apply counts."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="halt")
    config = models.OneToOneField(StrategyConfig, on_delete=models.CASCADE, null=True, blank=True, related_name="halt")
    market = models.OneToOneField(Market, on_delete=models.CASCADE, null=True, blank=True, related_name="halt")
    level = models.CharField(max_length=12, choices=KillSwitch.choices, default=KillSwitch.OFF)
    reason = models.CharField(max_length=400, blank=True)
    version = models.PositiveIntegerField(default=0)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)
    changed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="halt_has_one_target",
                condition=Q(account__isnull=False, config__isnull=True, market__isnull=True)
                | Q(account__isnull=True, config__isnull=False, market__isnull=True)
                | Q(account__isnull=True, config__isnull=True, market__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.target}: {self.get_level_display()}"

    @property
    def target(self) -> Account | StrategyConfig | Market | None:
        return self.account or self.config or self.market


class FlatProof(models.Model):
    """What the exchange said when an account was last asked whether it is flat. Flat: no order of ours is open there
    and every balance is what our books make of it, with no position left."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, related_name="flat_proof")
    is_flat = models.BooleanField()
    summary = models.CharField(max_length=400)
    details = models.JSONField(default=dict)
    checked_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.summary


class AccountLock(models.Model):
    """Who looks after an account now. The lock itself is the database session's; this row says whose session it is,
    when it last moved, and how often the lock changed hands (`epoch`)."""

    account = models.OneToOneField(Account, on_delete=models.CASCADE, primary_key=True, related_name="lock")
    holder = models.CharField(max_length=80, blank=True)
    backend_pid = models.IntegerField(null=True)
    epoch = models.BigIntegerField(default=0)
    heartbeat_at = models.DateTimeField(null=True, help_text="By the database's own clock.")

    def __str__(self) -> str:
        return f"{self.account_id}: {self.holder} ({self.epoch})"


class TicketKind(models.TextChoices):
    UNKNOWN_ORDER = "unknown_order", "An order at the exchange that is not ours"
    UNKNOWN_TRADE = "unknown_trade", "A trade at the exchange that no order of ours explains"
    BALANCE_MOVED = "balance_moved", "A balance moved as by an order that the exchange does not show"
    ORDER_MISSING = "order_missing", "An order of ours that the exchange does not know any more"


class TicketAnswer(models.TextChoices):
    """What a person decides about a ticket."""

    ADOPT = "adopt", "Adopt: take the order into our books and look after it"
    IGNORE = "ignore", "Ignore: explained, leave it alone"
    CLOSE = "close", "Close: cancel the order at the exchange"


class Ticket(models.Model):
    """Something at the exchange that the ledger cannot explain. While open it blocks new entries on that market."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="tickets")
    market = models.ForeignKey(Market, on_delete=models.PROTECT, null=True, blank=True)
    kind = models.CharField(max_length=16, choices=TicketKind.choices)
    reference = models.CharField(max_length=80, help_text="The exchange's id of what cannot be explained.")
    summary = models.CharField(max_length=400)
    details = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    answer = models.CharField(max_length=8, choices=TicketAnswer.choices, blank=True)
    answer_note = models.CharField(max_length=400, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)
    adopt_config = models.ForeignKey(
        StrategyConfig,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        help_text="Under whose rules an adopted order is looked after, where it belongs to no open deal.",
    )
    outcome = models.CharField(max_length=400, blank=True, help_text="What came of the answer, or why it failed.")
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            models.UniqueConstraint(fields=("account", "kind", "reference"), name="ticket_once_per_reference")
        ]

    def __str__(self) -> str:
        return told(self.summary)


class Heartbeat(models.Model):
    """Last sign of life of a process or a loop."""

    name = models.CharField(max_length=64, primary_key=True)
    at = models.DateTimeField()
    detail = models.JSONField(default=dict)

    def __str__(self) -> str:
        return self.name
