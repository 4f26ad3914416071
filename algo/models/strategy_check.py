"""What the bias checks said of one version of a strategy."""

from __future__ import annotations

from django.db import models

from algo.models.strategy import StrategyConfig


class StrategyCheck(models.Model):
    """One run of the checks. A version is the strategy's name, its code and its parameters, in one fingerprint: when
    any of them changes, what was found before says nothing any more."""

    config = models.ForeignKey(StrategyConfig, on_delete=models.CASCADE, related_name="checks")
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of name, code and parameters.")
    passed = models.BooleanField()
    summary = models.CharField(max_length=600)
    findings = models.JSONField(default=dict, help_text="Every check with its verdict and its first differences.")
    candles = models.PositiveIntegerField()
    source = models.CharField(max_length=200, help_text="Which candles the checks ran over.")
    checked_at = models.DateTimeField()
    seconds = models.FloatField(help_text="How long the checks took.")

    class Meta:
        ordering = ("-checked_at", "-id")
        indexes = [models.Index(fields=("config", "-checked_at", "-id"), name="check_newest_of_config")]

    def __str__(self) -> str:
        return f"{self.config_id} {'passed' if self.passed else 'failed'} {self.checked_at:%Y-%m-%d %H:%M}"
