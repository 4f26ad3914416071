"""Stored candles: the one source for live decisions, charts and backtests."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models.functions import Cast

from algo.models.backtest import UNFINISHED_RUNS, RunStatus
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


class CandleFetch(models.Model):
    """Candles of a period that somebody asked for. The row is the queue: workers fetch a few pages at a time, and
    whoever moves `due_at` on takes the next ones."""

    market = models.ForeignKey(Market, on_delete=models.CASCADE, related_name="candle_fetches")
    resolution = models.CharField(max_length=4, choices=choices(Resolution))
    start = models.DateTimeField(help_text="Open time of the first candle wanted.")
    end = models.DateTimeField(help_text="Candles that open before.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    status = models.CharField(max_length=9, choices=RunStatus.choices, default=RunStatus.QUEUED)
    reached = models.DateTimeField(help_text="What opened before it has been asked for.")
    new = models.PositiveIntegerField(default=0, help_text="Candles that were not stored before.")
    missing = models.PositiveIntegerField(
        null=True, help_text="When it is done: candles of the period that the exchange does not have."
    )
    tries = models.PositiveSmallIntegerField(default=0, help_text="Failures since the last page that came.")
    error = models.CharField(max_length=400, blank=True)
    due_at = models.DateTimeField(help_text="When its next pages are due; a worker that takes them moves it on.")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = [
            # the workers' look, every few seconds
            models.Index(fields=("due_at",), condition=models.Q(status__in=UNFINISHED_RUNS), name="candle_fetch_due")
        ]

    def __str__(self) -> str:
        return f"{self.market_id} {self.resolution} {self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M}"
