"""Stored candles: the one source for live decisions, charts and backtests."""

from __future__ import annotations

from django.db import models

from algo.models.fields import AmountField, choices
from algo.models.market import Market
from providers.types import Resolution


class Candle(models.Model):
    """One closed candle. Unfinished candles are never stored; a gap stays a gap."""

    market = models.ForeignKey(Market, on_delete=models.CASCADE, related_name="candles")
    resolution = models.CharField(max_length=4, choices=choices(Resolution))
    open_time = models.DateTimeField()
    open = AmountField()
    high = AmountField()
    low = AmountField()
    close = AmountField()
    volume = AmountField()

    class Meta:
        ordering = ("market", "resolution", "open_time")
        constraints = [
            # also the index of every window query
            models.UniqueConstraint(fields=("market", "resolution", "open_time"), name="candle_stored_once"),
            models.CheckConstraint(
                name="candle_is_a_candle",
                condition=models.Q(low__gt=0)
                & models.Q(volume__gte=0)
                & models.Q(high__gte=models.F("open"))
                & models.Q(high__gte=models.F("close"))
                & models.Q(low__lte=models.F("open"))
                & models.Q(low__lte=models.F("close")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.market_id} {self.resolution} {self.open_time:%Y-%m-%d %H:%M}"
