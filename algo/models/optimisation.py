"""Searches for parameters: what was asked, how far each is, and what was found."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from algo.models.fields import choices
from algo.models.market import Market
from providers.types import Resolution


class OptimisationStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    SEARCHING = "searching", "Searching"
    JUDGING = "judging", "Judging"
    DONE = "done", "Done"
    STOPPED = "stopped", "Stopped"  # can be resumed
    FAILED = "failed", "Failed"


class SearchMethod(models.TextChoices):
    TPE = "tpe", "TPE"
    GRID = "grid", "Grid"


class OptimisationRun(models.Model):
    """One search. Whatever process goes on with it finds all it needs in this row and in the stored candles."""

    name = models.CharField(max_length=120, unique=True)
    strategy = models.CharField(max_length=64)
    parameters = models.JSONField(default=dict, blank=True, help_text="Those that are not searched.")
    market = models.ForeignKey(
        Market, on_delete=models.PROTECT, null=True, blank=True, related_name="optimisations"
    )  # None: recorded candles of a market that is not known here
    source = models.CharField(max_length=400, help_text="Where the candles are: the database, or a file.")
    resolution = models.CharField(max_length=4, choices=choices(Resolution))
    data_from = models.DateTimeField()
    data_to = models.DateTimeField(help_text="Open time of the last candle.")
    candles = models.PositiveIntegerField()
    data_fingerprint = models.CharField(max_length=64)
    space = models.JSONField(default=list)
    method = models.CharField(max_length=8, choices=SearchMethod.choices)
    objectives = models.JSONField(default=list)
    plan = models.JSONField(
        default=dict, help_text="Money, market rules, windows and tests, as they were at the start."
    )
    study = models.CharField(max_length=64, blank=True, help_text="Its name in the sampler's own storage.")
    seed = models.PositiveIntegerField(default=0)
    trials_wanted = models.PositiveIntegerField()
    trials_done = models.PositiveIntegerField(default=0)
    trials_refused = models.PositiveIntegerField(default=0)
    status = models.CharField(max_length=10, choices=OptimisationStatus.choices, default=OptimisationStatus.QUEUED)
    stop_requested = models.BooleanField(default=False)
    best = models.JSONField(null=True, blank=True, help_text="The best set so far, by the train window.")
    evidence = models.JSONField(default=dict, blank=True, help_text="What each test of the best set found.")
    summary = models.JSONField(default=dict, blank=True)
    note = models.TextField(blank=True, help_text="Why it failed or stopped.")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)
    created_at = models.DateTimeField()
    worked_at = models.DateTimeField(null=True, blank=True, help_text="Last progress.")
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "optimisation"
        constraints = [
            models.CheckConstraint(
                name="optimisation_finished_has_time",
                condition=~Q(status__in=("done", "failed")) | Q(finished_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def progress_percent(self) -> float:
        """Of the search; the tests after it are told by the status."""
        return min(100.0, 100.0 * self.trials_done / self.trials_wanted) if self.trials_wanted else 0.0

    @property
    def verdict(self) -> dict[str, Any]:
        """`verdict`, `sentence` and `warnings`; empty until it is done."""
        found: dict[str, Any] = self.summary.get("judgement", {})
        return found


class OptimisationChunk(models.Model):
    """Part of a grid. The row is the claim: who makes it judges these sets; `rows` None until that is done."""

    run = models.ForeignKey(OptimisationRun, on_delete=models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    claimed_at = models.DateTimeField()
    rows = models.JSONField(null=True, help_text="Figures of each set, in the order of the grid; null: refused.")

    class Meta:
        ordering = ("number",)
        constraints = [models.UniqueConstraint(name="optimisation_chunk_once", fields=("run", "number"))]
