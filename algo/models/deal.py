"""One decision, from entry to exit."""

from __future__ import annotations

from decimal import Decimal

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext

from algo.models.account import Account
from algo.models.fields import AmountField, choices
from algo.models.market import Market
from algo.models.signal import Signal
from algo.models.strategy import StrategyConfig
from providers.types import ProtectionMode, Side


class DealStatus(models.TextChoices):
    PLANNED = "PLANNED", "Planned"
    ENTERING = "ENTERING", "Entering"
    OPEN = "OPEN", "Open"
    EXITING = "EXITING", "Exiting"
    CLOSED = "CLOSED", "Closed"
    CANCELED = "CANCELED", "Canceled, nothing was filled"


class CloseReason(models.TextChoices):
    STOP_LOSS = "stop_loss", "Stop loss"
    TAKE_PROFIT = "take_profit", "Take profit"
    TRAILING_STOP = "trailing_stop", "Trailing stop"
    SIGNAL = "signal", "Opposite signal"
    MANUAL = "manual", "By hand"
    KILL_SWITCH = "kill_switch", "Kill switch"
    EMERGENCY = "emergency", "Emergency exit"


FINISHED_DEALS = (DealStatus.CLOSED, DealStatus.CANCELED)

# What a decision planned has its stop behind the price and its target ahead of it. Once it is open, both are of the
# real entry, and to protect it comes before judging it. What a person adopted (no signal) is taken as it is.
_SOUND_PLAN = (
    Q(signal=None)
    | Q(opened_at__isnull=False)
    | Q(
        side=Side.BUY,
        initial_stop_price__gt=0,
        planned_price__gt=F("initial_stop_price"),
        target_price__gt=F("planned_price"),
    )
    | Q(
        side=Side.SELL,
        target_price__gt=0,
        planned_price__gt=F("target_price"),
        initial_stop_price__gt=F("planned_price"),
    )
)
# NUMERIC(38, 18) holds nothing as large as this but NaN, which is greater than everything.
_NAN = Decimal("1E+20")
_NUMBERS = Q(planned_price__gt=0) & Q(
    planned_quantity__lt=_NAN,
    planned_price__lt=_NAN,
    initial_stop_price__lt=_NAN,
    stop_price__lt=_NAN,
    target_price__lt=_NAN,
)


class Deal(models.Model):
    """Governed by `rules`, its own copy of the strategy's parameters, from planning to its end.

    Quantities are in base, prices and profit in quote. `unprotected_seconds` is platform time during which some filled
    quantity was under no live stop and no active exit; `unprotected_since` says that it is so right now.
    """

    config = models.ForeignKey(StrategyConfig, on_delete=models.PROTECT, related_name="deals")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="deals")
    market = models.ForeignKey(Market, on_delete=models.PROTECT, related_name="deals")
    signal = models.OneToOneField(Signal, on_delete=models.PROTECT, related_name="deal", null=True)
    bar_open_at = models.DateTimeField()
    side = models.CharField(max_length=4, choices=choices(Side))
    status = models.CharField(max_length=10, choices=DealStatus.choices, default=DealStatus.PLANNED)
    rules = models.JSONField(default=dict)
    protection_mode = models.PositiveSmallIntegerField(
        choices=[(mode.value, mode.name.replace("_", " ").capitalize()) for mode in ProtectionMode]
    )

    planned_quantity = AmountField()
    planned_price = AmountField()
    initial_stop_price = AmountField()
    stop_price = AmountField(help_text="Where the stop belongs now; the trailing stop moves it.")
    target_price = AmountField()
    best_price = AmountField(null=True, help_text="The best price seen since the entry, for the trailing stop.")

    entry_price = AmountField(null=True)
    entry_quantity = AmountField(default=0)
    exit_price = AmountField(null=True)
    exit_quantity = AmountField(default=0)
    fees_quote = AmountField(default=0, help_text="All fees, those in base valued at their own fill's price.")
    profit = AmountField(null=True, help_text="Realised, after fees, in quote.")
    dust_quantity = AmountField(default=0)

    exit_reason = models.CharField(max_length=16, choices=CloseReason.choices, blank=True)
    close_reason = models.CharField(max_length=16, choices=CloseReason.choices, blank=True)
    note = models.CharField(max_length=400, blank=True)
    reopened = models.PositiveSmallIntegerField(
        default=0, help_text="How often an order of it was found executed after its end."
    )
    stop_loosened = models.PositiveSmallIntegerField(
        default=0, help_text="How often a person moved its stop away from the price; nothing else ever does."
    )
    look_asked_at = models.DateTimeField(null=True, help_text="When a person last asked to look at its protection.")
    unprotected_since = models.DateTimeField(null=True)
    unprotected_seconds = AmountField(default=0)
    protected_at = models.DateTimeField(null=True, help_text="First time all of it was under a live stop or exit.")
    swapped_at = models.DateTimeField(null=True, help_text="When the stop last made way for the target.")
    crossed_at = models.DateTimeField(null=True, help_text="Since when the price has been through the stop.")
    trailed_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    opened_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at", "-id")
        constraints = [
            models.UniqueConstraint(fields=("config", "market", "bar_open_at", "side"), name="deal_once_per_signal"),
            models.UniqueConstraint(
                fields=("account", "market"), condition=~Q(status__in=FINISHED_DEALS), name="deal_one_live_per_market"
            ),
            models.CheckConstraint(name="deal_quantity_positive", condition=Q(planned_quantity__gt=0)),
            models.CheckConstraint(name="deal_plan_is_sound", condition=_SOUND_PLAN),
            models.CheckConstraint(name="deal_amounts_are_numbers", condition=_NUMBERS),
            models.CheckConstraint(
                name="deal_closed_has_reason", condition=~Q(status=DealStatus.CLOSED) | ~Q(close_reason="")
            ),
        ]
        indexes = [
            models.Index(fields=("account", "status"), name="deal_live_by_account"),
            models.Index(fields=("config", "-created_at"), name="deal_by_config"),
            models.Index(fields=("config", "-bar_open_at"), name="deal_by_bar"),  # the newest entry of a strategy
            # the lists of API and admin, newest first; a symbol's or an owner's are picked out on the way
            models.Index(fields=("-created_at", "-id"), name="deal_newest"),
            models.Index(fields=("market", "-created_at", "-id"), name="deal_newest_of_market"),
            models.Index(fields=("account", "-created_at", "-id"), name="deal_newest_of_account"),  # ?account=
            models.Index(fields=("-profit", "-id"), name="deal_by_profit"),  # ?ordering=profit and -profit
            models.Index(fields=("-opened_at", "-id"), name="deal_by_begin"),
            models.Index(fields=("-closed_at", "-id"), name="deal_by_end"),
            models.Index(fields=("-unprotected_seconds", "-id"), name="deal_by_unprotected"),
        ]

    def __str__(self) -> str:
        return gettext("Deal %(deal)s %(side)s %(symbol)s") % {
            "deal": self.pk,
            "side": gettext(self.side),
            "symbol": self.market.symbol,
        }

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED_DEALS

    @property
    def trailing_stop_distance(self) -> Decimal:
        """Percent of price between the best price and the trailing stop; 0 when the deal does not trail."""
        return Decimal(str(self.rules.get("trailing_stop_percent", "0")))
