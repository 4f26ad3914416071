"""What the processes have counted, added up for all of them."""

from __future__ import annotations

from django.db import models


class TalliedSum(models.Model):
    """One series of a counter that only grows: `manage.py` and every process that stays up add to it. Statistics, not
    amounts; safe to delete at any time, for Prometheus takes a counter that begins again for what it is."""

    name = models.CharField(max_length=80)
    labels = models.CharField(max_length=240, help_text="As JSON, in the order of the labels.")
    value = models.FloatField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=("name", "labels"), name="tallied_sum_once")]

    def __str__(self) -> str:
        return f"{self.name} {self.labels} {self.value:g}"
