"""What changed and has not been told to those who watch."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class LiveChange(models.Model):
    """One row that changed, written by triggers in the transaction of the change itself, removed once it is told.

    A table and not NOTIFY: every transaction that notifies holds one lock of the whole database while it commits, and
    fails where it waits too long for another one's, or where a forgotten listener has filled the queue. Money must not
    wait for a page. What nobody reads is bounded by `live_changes_prune`.
    """

    kind = models.CharField(max_length=12, help_text="Which trigger noted it: deal, order, fill, …")
    row_id = models.BigIntegerField()
    # Of a row that is gone; of all others the row itself says it.
    account_id = models.BigIntegerField(null=True)
    at = models.DateTimeField(db_default=Now(), help_text="By the database's clock.")

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.kind} {self.row_id}"

    @property
    def key(self) -> str:
        """Names it for good: numbers alone begin anew where a database is restored from a copy."""
        return f"{self.pk}@{self.at.timestamp():.6f}"
