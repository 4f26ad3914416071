"""Answers kept so that a request sent twice acts once."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class KeptAnswer(models.Model):
    """A POST that named a key: claimed before it acts, answered after. Without a `status` it is still running, or its
    process died. Times are wall time."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    key = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of method, address and body.")
    claim = models.UUIDField(help_text="Whose it is: who runs the request now.")
    claimed_at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True, help_text="Of the answer; empty while there is none.")
    body = models.TextField(blank=True, help_text="The answer, as JSON; empty where it has none.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=("user", "key"), name="one_answer_per_key")]
        indexes = [models.Index(fields=("claimed_at",), name="kept_answers_by_age")]  # to prune them

    def __str__(self) -> str:
        return self.key
