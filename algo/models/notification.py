"""What is to be told to people, through which channels, and what became of it."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from algo.models.account import Account
from algo.models.deal import Deal
from algo.models.event_kinds import EventKind, Severity
from algo.models.fields import seal, unseal
from algo.models.strategy import StrategyConfig


class ChannelType(models.TextChoices):
    WEBHOOK = "webhook", _("Webhook")
    EMAIL = "email", _("E-mail")
    CHAT = "chat", _("Chat")


class QuietRule(models.TextChoices):
    """What quiet hours do. What they hold back is sent when they end; nothing is dropped."""

    CRITICAL_THROUGH = "critical_through", _("Hold everything but critical events")
    HOLD_ALL = "hold_all", _("Hold everything")


class Language(models.TextChoices):
    ENGLISH = "en", "English"
    PERSIAN = "fa", "فارسی"


class NotificationChannel(models.Model):
    """One way to one person: an address, which events go there, and when. Only its owner's view of the accounts counts:
    it never tells of an account that the owner may not see. The one without an owner is the operator's (WEBHOOK_URL)
    and tells everything."""

    public_id = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="notification_channels",
    )
    name = models.CharField(_("name"), max_length=64)
    type = models.CharField(_("type"), max_length=8, choices=ChannelType.choices)
    target_sealed = models.TextField(blank=True, editable=False)
    target_hint = models.CharField(
        _("target"), max_length=120, blank=True, editable=False, help_text="What may be shown of the address."
    )
    secret_sealed = models.TextField(blank=True, editable=False)
    is_enabled = models.BooleanField(_("enabled"), default=True)
    kinds = models.JSONField(_("events"), default=list, blank=True, help_text=_("None chosen: all of them."))
    accounts = models.ManyToManyField(
        Account, verbose_name=_("accounts"), blank=True, related_name="+", help_text=_("None chosen: all you may see.")
    )
    strategies = models.ManyToManyField(
        StrategyConfig,
        verbose_name=_("strategies"),
        blank=True,
        related_name="+",
        help_text=_("None chosen: all you may see."),
    )
    minimum_severity = models.PositiveSmallIntegerField(
        _("how much it must matter"), choices=Severity.choices, default=Severity.INFO
    )
    quiet_from = models.TimeField(_("quiet hours from"), null=True, blank=True)
    quiet_to = models.TimeField(_("quiet hours to"), null=True, blank=True)
    quiet_rule = models.CharField(
        _("in quiet hours"), max_length=16, choices=QuietRule.choices, default=QuietRule.CRITICAL_THROUGH
    )
    time_zone = models.CharField(_("time zone"), max_length=64, default="Asia/Tehran")
    language = models.CharField(_("language"), max_length=2, choices=Language.choices, default=Language.ENGLISH)
    groups = models.BooleanField(
        _("group"),
        default=True,
        help_text=_("Many events at once become one message that counts them. Webhooks for machines want each alone."),
    )
    most_per_minute = models.PositiveSmallIntegerField(
        _("messages a minute at most"), default=20, validators=[MinValueValidator(1), MaxValueValidator(600)]
    )
    daily_summary = models.BooleanField(_("daily summary"), default=False)
    summary_at = models.TimeField(_("daily summary at"), null=True, blank=True)
    summary_told_on = models.DateField(null=True, editable=False, help_text="The local day of the last summary.")
    created_at = models.DateTimeField(auto_now_add=True)

    # How it fares. Only who holds the claim writes these.
    claimed_until = models.DateTimeField(null=True, editable=False, help_text="One worker at a time sends to it.")
    claim = models.UUIDField(null=True, editable=False)
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="In a row, of the receiver as a whole.")
    retry_at = models.DateTimeField(null=True, editable=False, help_text="It is left alone until then.")
    minute_began_at = models.DateTimeField(null=True, editable=False)
    sent_in_minute = models.PositiveIntegerField(default=0, editable=False)

    class Meta:
        verbose_name, verbose_name_plural = _("notification channel"), _("notification channels")
        ordering = ("owner_id", "name")
        constraints = [
            models.UniqueConstraint(fields=("owner", "name"), name="channel_name_once_per_owner"),
            models.UniqueConstraint(fields=("type",), condition=Q(owner=None), name="channel_one_of_the_operator"),
            models.CheckConstraint(
                name="channel_quiet_hours_have_both_ends",
                condition=Q(quiet_from=None, quiet_to=None) | (Q(quiet_from__isnull=False, quiet_to__isnull=False)),
            ),
            models.CheckConstraint(
                name="channel_summary_has_a_time", condition=Q(daily_summary=False) | Q(summary_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def set_target(self, target: str, *, hint: str) -> None:
        """Seal the address into this row (not saved). Addresses of chat services hold tokens: only `hint` is shown."""
        self.target_sealed, self.target_hint = seal(target, owner=str(self.public_id)), hint[:120]

    def target(self) -> str:
        """The address in clear; the operator's stands in the environment. Raises SecretUnreadable."""
        if self.owner_id is None:
            return str(settings.WEBHOOK_URL)
        return unseal(self.target_sealed, owner=str(self.public_id)) if self.target_sealed else ""

    def set_secret(self, secret: str) -> None:
        """Seal the key that signs a webhook into this row (not saved)."""
        self.secret_sealed = seal(secret, owner=str(self.public_id))

    def secret(self) -> str:
        """The key that signs, in clear. Raises SecretUnreadable."""
        if self.owner_id is None:
            return str(settings.WEBHOOK_SECRET)
        return unseal(self.secret_sealed, owner=str(self.public_id)) if self.secret_sealed else ""

    @property
    def is_operators(self) -> bool:
        return self.owner_id is None


class OutboxEvent(models.Model):
    """Written in the transaction of the fact it reports. Afterwards, each channel that may hear of it gets a Delivery:
    see `algo/notifications`."""

    kind = models.CharField(max_length=32)
    payload = models.JSONField(default=dict)
    severity = models.PositiveSmallIntegerField(choices=Severity.choices, default=Severity.INFO)
    created_at = models.DateTimeField()
    # None: it belongs to no account, and the kind says who may see it.
    account = models.ForeignKey(Account, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    config = models.ForeignKey(StrategyConfig, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    deal = models.ForeignKey(Deal, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    channel = models.ForeignKey(
        NotificationChannel,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        help_text="Said to this channel alone.",
    )
    fanned_out_at = models.DateTimeField(null=True, help_text="When its deliveries were made.")

    class Meta:
        ordering = ("id",)
        indexes = [
            # the fan-out's question, and what is pruned by age
            models.Index(fields=["id"], condition=Q(fanned_out_at=None), name="outbox_to_fan_out"),
            models.Index(fields=["created_at"], name="outbox_by_age"),
            models.Index(fields=["kind", "-id"], name="outbox_by_kind"),  # what was told last
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"

    @property
    def title(self) -> Any:
        """The kind in words, translated when shown."""
        return EventKind(self.kind).label if self.kind in EventKind.values else self.kind


class DeliveryState(models.TextChoices):
    WAITING = "waiting", _("Waiting")
    DELIVERED = "delivered", _("Delivered")
    GIVEN_UP = "given_up", _("Given up: nobody took it for a day")


class Delivery(models.Model):
    """One event for one channel, and what became of it. Delivered at least once: its id tells a repetition."""

    event = models.ForeignKey(OutboxEvent, on_delete=models.CASCADE, related_name="deliveries")
    channel = models.ForeignKey(NotificationChannel, on_delete=models.CASCADE, related_name="deliveries")
    # Of the event, here once more: what waits for what is asked for every message.
    deal = models.ForeignKey(Deal, on_delete=models.SET_NULL, null=True, blank=True, related_name="+")
    severity = models.PositiveSmallIntegerField(choices=Severity.choices, default=Severity.INFO)
    state = models.CharField(max_length=9, choices=DeliveryState.choices, default=DeliveryState.WAITING)
    created_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="When it is given up.")
    status_code = models.PositiveSmallIntegerField(null=True, help_text="The receiver's last answer, where it has any.")
    last_error = models.CharField(max_length=400, blank=True)
    delivered_at = models.DateTimeField(null=True)
    group_key = models.CharField(
        max_length=40, blank=True, help_text="The message it is part of, where several events made one."
    )

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(fields=("event", "channel"), name="delivery_once_per_event_and_channel"),
            models.CheckConstraint(
                name="delivery_is_delivered_at_a_time",
                condition=Q(state=DeliveryState.DELIVERED, delivered_at__isnull=False)
                | (~Q(state=DeliveryState.DELIVERED) & Q(delivered_at=None)),
            ),
        ]
        indexes = [
            # the engine's questions: what waits for a channel, and what of the same deal came before
            models.Index(fields=["channel", "event"], condition=Q(state="waiting"), name="delivery_waiting"),
            models.Index(fields=["channel", "deal", "event"], condition=Q(state="waiting"), name="delivery_of_deal"),
            models.Index(fields=["delivered_at"], name="delivery_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.event} → {self.channel}"

    @property
    def kind(self) -> str:
        return self.event.kind

    @property
    def payload(self) -> dict[str, Any]:
        found: dict[str, Any] = self.event.payload
        return found

    @property
    def message_id(self) -> str:
        """The same at every try: what a receiver recognises a repetition by."""
        return self.group_key or f"event_{self.event_id}"
