"""A strategy at work: which rules, on which market, with whose money."""

from __future__ import annotations

from django.db import models

from algo.models.account import Account
from algo.models.fields import choices
from algo.models.market import Market
from providers.types import Resolution, Side


class StrategyStatus(models.TextChoices):
    RUNNING = "running", "Running"
    STOPPED = "stopped", "Stopped"


class AllowedSides(models.TextChoices):
    BUY = "BUY", "Buy only (long)"
    SELL = "SELL", "Sell only (sells base that is held, buys it back)"
    BOTH = "BOTH", "Both"


class StrategyConfig(models.Model):
    """Editing it never changes a deal that is open: a deal carries its own copy of the rules."""

    name = models.CharField(max_length=80, unique=True)
    strategy = models.CharField(max_length=64, help_text="A name registered in strategy_factory.py.")
    parameters = models.JSONField(default=dict, blank=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="strategies")
    data_market = models.ForeignKey(
        Market, on_delete=models.PROTECT, related_name="read_by", help_text="Where the candles come from."
    )
    market = models.ForeignKey(
        Market, on_delete=models.PROTECT, related_name="traded_by", help_text="Where the orders go."
    )
    resolution = models.CharField(max_length=4, choices=choices(Resolution), default=Resolution.M1)
    status = models.CharField(max_length=8, choices=StrategyStatus.choices, default=StrategyStatus.STOPPED)
    ordering_enabled = models.BooleanField(default=True, help_text="Off: signals are recorded, nothing is ordered.")
    allowed_sides = models.CharField(max_length=4, choices=AllowedSides.choices, default=AllowedSides.BUY)
    last_bar_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        indexes = [models.Index(fields=("status", "data_market", "resolution"), name="strategy_due")]

    def __str__(self) -> str:
        return self.name

    @property
    def sides(self) -> frozenset[Side]:
        return frozenset(Side) if self.allowed_sides == AllowedSides.BOTH else frozenset({Side(self.allowed_sides)})
