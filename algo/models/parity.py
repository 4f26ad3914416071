"""What a day of live trading and the engine over the same candles do not agree about."""

from __future__ import annotations

from django.db import models

from algo.models.strategy import StrategyConfig


class ParityReport(models.Model):
    """One trading day of one strategy, replayed. Made anew as often as it is asked for: the newest stands."""

    config = models.ForeignKey(StrategyConfig, on_delete=models.CASCADE, related_name="parity_reports", db_index=False)
    day = models.DateField(help_text="In the trading day's time zone.")
    computed_at = models.DateTimeField()
    unexplained = models.PositiveIntegerField(help_text="Differences without a known reason: the figure to watch.")
    summary = models.JSONField(default=dict)
    differences = models.JSONField(default=list, help_text="The first of them, oldest first.")

    class Meta:
        ordering = ("-day", "config")
        verbose_name = "live day against backtest"
        verbose_name_plural = "live days against backtest"
        constraints = [models.UniqueConstraint(fields=("config", "day"), name="parity_once_per_day")]

    def __str__(self) -> str:
        return f"{self.config} {self.day:%Y-%m-%d}"
