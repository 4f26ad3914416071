"""What is to be told to the world, kept until it has been told."""

from __future__ import annotations

from django.db import models


class OutboxEvent(models.Model):
    """Written in the transaction of the fact it reports; delivered afterwards, at least once."""

    kind = models.CharField(max_length=32)
    payload = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    delivered_at = models.DateTimeField(null=True, db_index=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=400, blank=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"
