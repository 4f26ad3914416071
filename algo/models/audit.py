"""Who did what that could cost money, and through which door. Append-only: the database refuses anything else."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from algo.models.account import Account


class Door(models.TextChoices):
    """Where an act came in."""

    ADMIN = "admin", "Admin"
    API = "api", "API"
    INBOUND = "inbound", "A signal from outside"
    SHELL = "shell", "Shell"
    PLATFORM = "platform", "The platform itself"


class AuditRecord(models.Model):
    """One dangerous act that was carried out or ordered. It outlives whom and what it names: users and accounts are
    kept by number and by name, so that removing one changes nothing here."""

    at = models.DateTimeField(help_text="Platform time.")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="+"
    )
    username = models.CharField(max_length=150, blank=True, help_text="Empty for the shell and the platform itself.")
    door = models.CharField(max_length=8, choices=Door.choices)
    act = models.CharField(max_length=48, help_text="Dotted: deal.close, kill_switch.turn, strategy.start …")
    subject_kind = models.CharField(
        max_length=48, blank=True, help_text="Kind of the row it was done to; empty: whole system."
    )
    subject_id = models.CharField(max_length=64, blank=True)
    subject_name = models.CharField(max_length=200, blank=True)
    account = models.ForeignKey(Account, on_delete=models.DO_NOTHING, db_constraint=False, null=True, related_name="+")
    reason = models.CharField(max_length=400, blank=True)
    details = models.JSONField(default=dict, help_text="What changed, from what to what. Never a secret.")

    class Meta:
        ordering = ("-at", "-id")
        indexes = [
            models.Index(fields=("-at", "-id"), name="audit_newest"),
            models.Index(fields=("account", "-at"), name="audit_by_account"),
            models.Index(fields=("subject_kind", "subject_id", "-at"), name="audit_by_subject"),
        ]

    def __str__(self) -> str:
        return f"{self.act}: {self.subject_name or 'the whole system'}"
