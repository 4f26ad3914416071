"""What the strategies said, and why they mostly said nothing."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext

from algo.models.fields import AmountField, choices
from algo.models.strategy import StrategyConfig
from providers.types import Side


class Outcome(models.TextChoices):
    NO_SIGNAL = "no_signal", "No signal"
    STALE_DATA = "stale_data", "No fresh candles"
    SHORT_HISTORY = "short_history", "Not enough candles yet"
    ERROR = "error", "The strategy failed"
    DENIED = "denied", "Signal denied by the risk gate"
    EXIT = "exit", "Signal closes the open deal"
    ENTERED = "entered", "Deal planned"


class Decision(models.Model):
    """The journal: one row for every run of a strategy over a closed candle, whatever came of it."""

    config = models.ForeignKey(StrategyConfig, on_delete=models.CASCADE, related_name="decisions")
    bar_open_at = models.DateTimeField()
    decided_at = models.DateTimeField()
    outcome = models.CharField(max_length=16, choices=Outcome.choices)
    journal = models.JSONField(default=dict, help_text="Indicator values and every condition with its answer.")

    class Meta:
        ordering = ("-bar_open_at", "-id")
        constraints = [models.UniqueConstraint(fields=("config", "bar_open_at"), name="decision_once_per_bar")]
        indexes = [
            models.Index(fields=("-bar_open_at", "-id"), name="decision_newest"),  # the journal
            models.Index(fields=("outcome", "-bar_open_at", "-id"), name="decision_newest_of_outcome"),  # ?outcome=
        ]

    def __str__(self) -> str:
        return f"{self.config_id} {self.bar_open_at:%Y-%m-%d %H:%M} {self.outcome}"


class Signal(models.Model):
    """A strategy had something to say. `denial_code` says why nothing was ordered; empty when a deal was planned."""

    config = models.ForeignKey(StrategyConfig, on_delete=models.PROTECT, related_name="signals")
    bar_open_at = models.DateTimeField()
    created_at = models.DateTimeField()
    side = models.CharField(max_length=4, choices=choices(Side))
    reason = models.CharField(max_length=24)
    confidence = AmountField()
    price = AmountField(null=True)
    indicators = models.JSONField(default=dict)
    denial_code = models.CharField(max_length=32, blank=True, db_index=True)
    denial_message = models.CharField(max_length=400, blank=True)
    warnings = models.JSONField(default=list)

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = [models.UniqueConstraint(fields=("config", "bar_open_at", "side"), name="signal_once_per_bar")]
        indexes = [
            models.Index(fields=("-created_at", "-id"), name="signal_newest"),  # the lists of API and admin
            models.Index(fields=("config", "-created_at", "-id"), name="signal_newest_of_config"),  # ?config=
            models.Index(fields=("-created_at", "-id"), condition=~Q(denial_code=""), name="signal_newest_denied"),
        ]

    def __str__(self) -> str:
        return f"{gettext(self.side)} {gettext(self.reason) if self.reason else ''} {self.bar_open_at:%Y-%m-%d %H:%M}"
