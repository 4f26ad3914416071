"""Accounts at the exchanges: whose keys, which environment, what they can do."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models

from algo.models.fields import seal, unseal
from algo.models.market import Provider
from providers.types import Capabilities, ProtectionMode


class AccountState(models.TextChoices):
    ACTIVE = "active", "Active"
    PAUSED = "paused", "Paused: no new positions, open ones stay protected"
    STOPPED = "stopped", "Stopped: the exchange refused the key"


class Environment(models.TextChoices):
    PAPER = "paper", "Paper"
    LIVE = "live", "Live"


class Account(models.Model):
    """One key at one exchange. The key is stored encrypted and bound to this row; it is write-only everywhere."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=64, unique=True)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="accounts")
    viewers = models.ManyToManyField(
        settings.AUTH_USER_MODEL,
        blank=True,
        related_name="accounts_viewed",
        help_text="Who may look at it beside its owner. They see all of it but the key, and change nothing.",
    )
    provider = models.CharField(max_length=16, choices=Provider.choices)
    environment = models.CharField(
        max_length=8,
        choices=Environment.choices,
        default=Environment.PAPER,
        help_text="Must agree with EXCHANGE_ENVIRONMENT: a paper account never trades at a real exchange.",
    )
    state = models.CharField(max_length=8, choices=AccountState.choices, default=AccountState.ACTIVE)
    state_reason = models.CharField(max_length=400, blank=True)
    api_key_sealed = models.TextField(blank=True, editable=False)
    api_key_hint = models.CharField(max_length=8, blank=True, editable=False)
    key_expires_at = models.DateTimeField(null=True, blank=True, help_text="Wallex keys live at most 90 days.")
    key_warned_days = models.PositiveSmallIntegerField(
        null=True, editable=False, help_text="The last warning before the expiry that was given: 14, 7, 1 or 0 days."
    )
    key_scopes = models.JSONField(
        null=True, editable=False, help_text="What its exchange last said the key may do: read, trade, withdraw."
    )
    capabilities = models.JSONField(default=dict, blank=True, help_text="What it can really do; set by a probe.")
    capabilities_probed_at = models.DateTimeField(null=True, blank=True, editable=False)
    balances = models.JSONField(default=dict, editable=False, help_text="As last read: asset to [total, locked].")
    balances_read_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    trades_seen = models.JSONField(
        default=dict, editable=False, help_text="Symbol to the time of the last own trade that was compared."
    )
    reconciled_at = models.DateTimeField(null=True, blank=True, editable=False)
    reconcile_tried_at = models.DateTimeField(null=True, blank=True, editable=False)
    advanced_at = models.DateTimeField(null=True, blank=True, editable=False)
    last_error = models.CharField(max_length=400, blank=True, editable=False)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    def set_api_key(self, secret: str) -> None:
        """Seal the key into this row (not saved)."""
        self.api_key_sealed = seal(secret, owner=str(self.public_id))
        self.api_key_hint = f"…{secret[-4:]}"

    def api_key(self) -> str | None:
        """The key in clear, None where none was entered. Raises SecretUnreadable."""
        return unseal(self.api_key_sealed, owner=str(self.public_id)) if self.api_key_sealed else None

    def known_capabilities(self, documented: Capabilities) -> Capabilities:
        """What a probe found; what the exchange documents where none ran."""
        found: dict[str, Any] = self.capabilities or {}
        names = Capabilities.__dataclass_fields__
        return Capabilities(**{name: found.get(name, getattr(documented, name)) for name in names})

    @property
    def protection(self) -> ProtectionMode | None:
        """The mode of the last probe; None before the first."""
        return self.known_capabilities(Capabilities()).protection_mode if self.capabilities else None


class BalanceReading(models.Model):
    """The first reading of an account's balances on each day (UTC), kept for ever: between two of them, what our fills
    do not explain came from outside the platform."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="balance_readings", db_index=False)
    day = models.DateField()
    read_at = models.DateTimeField(help_text="Before the call.")
    totals = models.JSONField(help_text="Asset to the total that the exchange said, locked parts included.")

    class Meta:
        ordering = ("account", "day")
        constraints = [models.UniqueConstraint(fields=("account", "day"), name="balance_reading_once_a_day")]

    def __str__(self) -> str:
        return f"{self.account_id} {self.day}"
