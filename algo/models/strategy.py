"""A strategy at work: which rules, on which market, with whose money."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import models
from django.dispatch import receiver
from simple_history.models import HistoricalRecords
from simple_history.signals import pre_create_historical_record

from algo.models.account import Account
from algo.models.audit import Door
from algo.models.fields import choices
from algo.models.market import Market
from providers.types import Resolution, Side


class StrategyStatus(models.TextChoices):
    RUNNING = "running", "Running"
    STOPPED = "stopped", "Stopped"


class AllowedSides(models.TextChoices):
    BUY = "BUY", "Buy only (long)"
    SELL = "SELL", "Sell only (sells base that is held, buys it back)"
    BOTH = "BOTH", "Both"


class ToldBy(models.Model):
    """What every row of a history also says: who, kept by name, and through which door."""

    username = models.CharField(max_length=150, blank=True, help_text="Empty for the shell and the platform itself.")
    door = models.CharField(max_length=8, choices=Door.choices, default=Door.PLATFORM)

    class Meta:
        abstract = True


class _Changes(HistoricalRecords):
    """One row for every save that could change what people set; what workers write leaves none."""

    def post_save(
        self,
        instance: Any,
        created: bool,
        using: str | None = None,
        update_fields: Collection[str] | None = None,
        **kwargs: Any,
    ) -> None:
        set_by_people = {field.name for field in self.fields_included(instance)}
        if created or update_fields is None or set_by_people & set(update_fields):
            super().post_save(instance, created, using=using, **kwargs)


class StrategyConfig(models.Model):
    """Editing it never changes a deal that is open: a deal carries its own copy of the rules."""

    name = models.CharField(max_length=80, unique=True)
    strategy = models.CharField(max_length=64, help_text="A name registered in strategy_factory.py.")
    parameters = models.JSONField(default=dict, blank=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="strategies")
    data_market = models.ForeignKey(
        Market, on_delete=models.PROTECT, related_name="read_by", help_text="Where the candles come from."
    )
    market = models.ForeignKey(
        Market, on_delete=models.PROTECT, related_name="traded_by", help_text="Where the orders go."
    )
    resolution = models.CharField(max_length=4, choices=choices(Resolution), default=Resolution.M1)
    status = models.CharField(max_length=8, choices=StrategyStatus.choices, default=StrategyStatus.STOPPED)
    ordering_enabled = models.BooleanField(default=True, help_text="Off: signals are recorded, nothing is ordered.")
    allowed_sides = models.CharField(max_length=4, choices=AllowedSides.choices, default=AllowedSides.BUY)
    last_bar_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    history = _Changes(
        bases=(ToldBy,),
        excluded_fields=["status", "last_bar_at", "created_at", "updated_at"],
        history_id_field=models.BigAutoField(),
        history_change_reason_field=models.CharField(max_length=400, null=True),
    )

    class Meta:
        ordering = ("name",)
        indexes = [models.Index(fields=("status", "data_market", "resolution"), name="strategy_due")]

    def __str__(self) -> str:
        return self.name

    @property
    def sides(self) -> frozenset[Side]:
        return frozenset(Side) if self.allowed_sides == AllowedSides.BOTH else frozenset({Side(self.allowed_sides)})


@receiver(pre_create_historical_record, sender=StrategyConfig.history.model)
def _note_who(instance: StrategyConfig, history_instance: Any, **_: Any) -> None:
    """`strategy_acts` puts on the instance who saves it; without a word it is the platform itself."""
    history_instance.username = getattr(instance, "_history_username", "")
    history_instance.door = getattr(instance, "_history_door", Door.PLATFORM)
