"""Backtests that were run, so that they can be compared."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from algo.models.fields import choices
from algo.models.market import Market
from providers.types import Resolution


class BacktestRun(models.Model):
    """One backtest: what was run over which data, and what it would have earned."""

    strategy = models.CharField(max_length=64)
    parameters = models.JSONField(default=dict)
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="backtests")
    resolution = models.CharField(max_length=4, choices=choices(Resolution))
    started_at = models.DateTimeField()
    data_from = models.DateTimeField()
    data_to = models.DateTimeField()
    candles = models.PositiveIntegerField()
    data_fingerprint = models.CharField(max_length=64)
    summary = models.JSONField(default=dict)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)

    class Meta:
        ordering = ("-started_at",)

    def __str__(self) -> str:
        return f"{self.strategy} on {self.market} {self.started_at:%Y-%m-%d %H:%M}"
