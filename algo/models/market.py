"""Markets and their rules, as the exchanges last stated them."""

from __future__ import annotations

from django.db import models

from algo.models.fields import AmountField
from providers.types import MarketRules


class Provider(models.TextChoices):
    WALLEX = "wallex", "Wallex"
    NOBITEX = "nobitex", "Nobitex"


class Market(models.Model):
    """One spot market of one exchange. `pair` is equal for the same pair on every exchange; prices are in toman
    where the quote is the Iranian currency."""

    provider = models.CharField(max_length=16, choices=Provider.choices)
    symbol = models.CharField(max_length=32, help_text="As the exchange spells it: BTCTMN, BTCIRT.")
    base = models.CharField(max_length=24)
    quote = models.CharField(max_length=24)
    pair = models.CharField(max_length=48, db_index=True)
    tick_size = AmountField()
    step_size = AmountField()
    min_quantity = AmountField(default=0)
    min_notional = AmountField(default=0)
    maker_fee_rate = AmountField()
    taker_fee_rate = AmountField()
    market_band = AmountField(help_text="A market order moves the price by at most this fraction.")
    price_band = AmountField(null=True, blank=True)
    is_open = models.BooleanField(default=True)
    allows_market_orders = models.BooleanField(default=True)
    refreshed_at = models.DateTimeField()

    class Meta:
        ordering = ("provider", "symbol")
        constraints = [
            models.UniqueConstraint(fields=("provider", "symbol"), name="market_once_per_provider"),
            models.CheckConstraint(
                name="market_grids_positive", condition=models.Q(tick_size__gt=0) & models.Q(step_size__gt=0)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.symbol} @ {self.get_provider_display()}"

    @property
    def rules(self) -> MarketRules:
        """The exchange's rules as values, for the pure rooms."""
        return MarketRules(**{name: getattr(self, name) for name in MarketRules.__dataclass_fields__})
