"""What a token of the API may be used for."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q


class TokenScope(models.TextChoices):
    """From the least to the most; each includes those before it. Never more than the role of the token's user."""

    READ = "read", "Read"
    TRADE = "trade", "Read and trade"
    ADMIN = "admin", "Everything an Admin may do"


class TokenGrant(models.Model):
    """Beside knox's row of a token, which holds its hash, its user and its end. A token without one may read only.
    Times are wall time, as those of knox are."""

    token = models.OneToOneField("knox.AuthToken", on_delete=models.CASCADE, related_name="grant")
    scope = models.CharField(max_length=8, choices=TokenScope.choices)
    label = models.CharField(max_length=80, blank=True, help_text="What uses it.")
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    last_used_at = models.DateTimeField(null=True, blank=True, help_text="To the minute.")

    class Meta:
        constraints = [
            models.CheckConstraint(name="token_scope_known", condition=Q(scope__in=["read", "trade", "admin"]))
        ]

    def __str__(self) -> str:
        return self.label or f"token {self.pk}"
