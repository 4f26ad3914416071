"""Signals from outside: who may send them to which strategy, and what was sent."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from algo.models.fields import seal, unseal
from algo.models.signal import Outcome, Signal
from algo.models.strategy import StrategyConfig


class InboundKey(models.Model):
    """A secret, and the address at which whoever has it may send signals to one strategy. It acts as the person who
    made it: no longer than that person may trade with the strategy's account."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    config = models.ForeignKey(StrategyConfig, on_delete=models.CASCADE, related_name="inbound_keys")
    label = models.CharField(max_length=80, blank=True, help_text=_("What sends the signals."))
    secret_sealed = models.TextField(editable=False)
    secret_hint = models.CharField(max_length=8, editable=False)
    is_on = models.BooleanField(
        _("taken"), default=False, help_text=_("Off: what is sent with this key is refused. A new key is off.")
    )
    made_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="inbound_keys")
    made_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name, verbose_name_plural = _("inbound key"), _("inbound keys")
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=("config",), condition=Q(revoked_at=None), name="inbound_key_one_per_strategy"
            )
        ]

    def __str__(self) -> str:
        return f"{self.config.name} {self.secret_hint}"

    def set_secret(self, secret: str) -> None:
        """Seal the secret into this row (not saved)."""
        self.secret_sealed = seal(secret, owner=str(self.public_id))
        self.secret_hint = f"…{secret[-4:]}"

    def secret(self) -> str:
        """The secret in clear: a signature cannot be checked with a hash of it. Raises SecretUnreadable."""
        return unseal(self.secret_sealed, owner=str(self.public_id))


class AlertAction(models.TextChoices):
    BUY = "buy", _("Buy")
    SELL = "sell", _("Sell")
    CLOSE = "close", _("Close")


class AlertState(models.TextChoices):
    WAITING = "waiting", _("Waiting for a worker")
    DECIDED = "decided", _("Decided")
    CLOSED = "closed", _("Closed what was open")
    REFUSED = "refused", _("Refused")


class InboundAlert(models.Model):
    """What was sent to a strategy with a valid proof, and what came of it. Its id counts once, for ever."""

    config = models.ForeignKey(StrategyConfig, on_delete=models.CASCADE, related_name="alerts")
    key = models.ForeignKey(InboundKey, on_delete=models.SET_NULL, null=True, related_name="alerts")
    alert_id = models.CharField(max_length=64)
    action = models.CharField(max_length=5, choices=AlertAction.choices)
    asked = models.JSONField(default=dict, help_text=_("As it was sent, without the secret."))
    fingerprint = models.CharField(max_length=64, editable=False)
    alert_at = models.DateTimeField(help_text=_("When it was given, in platform time."))
    received_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=AlertState.choices, default=AlertState.WAITING)
    outcome = models.CharField(max_length=16, choices=Outcome.choices, blank=True)
    note = models.CharField(max_length=400, blank=True)
    signal = models.OneToOneField(Signal, on_delete=models.PROTECT, null=True, related_name="alert")
    done_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name, verbose_name_plural = _("inbound signal"), _("inbound signals")
        ordering = ("-id",)
        constraints = [models.UniqueConstraint(fields=("config", "alert_id"), name="inbound_alert_once")]
        indexes = [
            models.Index(fields=("id",), condition=Q(state="waiting"), name="inbound_alert_waiting"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.alert_id}"

    @property
    def body(self) -> dict[str, Any]:
        return dict(self.asked)
