"""Stored candles: the one source for live decisions, charts and backtests."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Cast

from algo.models.fields import AmountField, choices
from algo.models.market import Market
from providers.types import Resolution


def _as_float(name: str) -> models.GeneratedField:
    """The exact amount as PostgreSQL rounds it to a double, made once when it is written: half a million candles are
    read into arrays in a third of a second, where converting them each time took more than a second."""
    return models.GeneratedField(
        expression=Cast(name, models.FloatField()), output_field=models.FloatField(), db_persist=True
    )


class Candle(models.Model):
    """One closed candle. Unfinished candles are never stored; a gap stays a gap."""

    # No index of its own: the unique constraint's begins with it, and every index costs each candle.
    market = models.ForeignKey(Market, on_delete=models.CASCADE, related_name="candles", db_index=False)
    resolution = models.CharField(max_length=4, choices=choices(Resolution))
    open_time = models.DateTimeField()
    open = AmountField()
    high = AmountField()
    low = AmountField()
    close = AmountField()
    volume = AmountField()
    # what arrays are read from; money is never reckoned with these
    open_float = _as_float("open")
    high_float = _as_float("high")
    low_float = _as_float("low")
    close_float = _as_float("close")
    volume_float = _as_float("volume")

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
