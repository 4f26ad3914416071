"""Backtests that were asked for: what became of them, and what they would have earned."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext

from algo.models.fields import choices
from algo.models.market import Market
from algo.models.strategy import StrategyConfig
from providers.types import Resolution


class RunStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


UNFINISHED_RUNS = (RunStatus.QUEUED, RunStatus.RUNNING)


class BacktestRun(models.Model):
    """One backtest: what was asked, how far it is, over which data and code it ran, and what it would have earned.

    `summary` is the report as text and figures, `charts` what its page draws; both empty until it is done.
    """

    config = models.ForeignKey(
        StrategyConfig, on_delete=models.SET_NULL, null=True, blank=True, related_name="backtests"
    )
    strategy = models.CharField(max_length=64)
    parameters = models.JSONField(default=dict)
    market = models.ForeignKey(
        Market, on_delete=models.PROTECT, related_name="backtests", help_text="Whose candles it reads."
    )
    resolution = models.CharField(max_length=4, choices=choices(Resolution))
    asked = models.JSONField(default=dict, help_text="Period, costs, balances and sides, as they were asked for.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)

    status = models.CharField(max_length=9, choices=RunStatus.choices, default=RunStatus.QUEUED)
    progress = models.PositiveSmallIntegerField(default=0, validators=[MaxValueValidator(100)], help_text="Percent.")
    error = models.TextField(default="", blank=True, help_text="Why it failed, in a sentence.")
    created_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True, blank=True)
    heartbeat_at = models.DateTimeField(null=True, blank=True, help_text="The worker's last sign of life.")
    finished_at = models.DateTimeField(null=True, blank=True)

    data_from = models.DateTimeField(null=True, blank=True)
    data_to = models.DateTimeField(null=True, blank=True)
    candles = models.PositiveIntegerField(default=0)
    data_fingerprint = models.CharField(max_length=64, default="", blank=True)
    code_version = models.CharField(max_length=64, default="", blank=True)
    strategy_fingerprint = models.CharField(
        max_length=64, default="", blank=True, help_text="SHA-256 of the strategy's source."
    )

    summary = models.JSONField(default=dict, blank=True)
    charts = models.JSONField(default=dict, blank=True)
    # Figures that lists show and sort by; NULL where a figure has no meaning. Statistics, not amounts.
    net_profit_percent = models.FloatField(null=True, blank=True)
    sharpe = models.FloatField(null=True, blank=True)
    max_drawdown_percent = models.FloatField(null=True, blank=True)
    win_rate_percent = models.FloatField(null=True, blank=True)
    deals = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at", "-id")
        indexes = [
            models.Index(fields=("-created_at", "-id"), name="backtest_newest"),
            # what the sweep looks for
            models.Index(fields=("status",), condition=Q(status__in=UNFINISHED_RUNS), name="backtest_unfinished"),
        ]
        constraints = [
            models.CheckConstraint(name="backtest_progress_is_a_percent", condition=Q(progress__lte=100)),
            models.CheckConstraint(
                name="backtest_finished_has_its_time",
                condition=Q(status__in=UNFINISHED_RUNS, finished_at=None)
                | (~Q(status__in=UNFINISHED_RUNS) & Q(finished_at__isnull=False)),
            ),
            models.CheckConstraint(
                name="backtest_running_was_started",
                condition=~Q(status=RunStatus.RUNNING) | Q(started_at__isnull=False, heartbeat_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return gettext("Backtest %(run)s: %(strategy)s on %(market)s") % {
            "run": self.pk,
            "strategy": self.strategy,
            "market": self.market,
        }
