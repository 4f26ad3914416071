"""What the streams last told about prices, for those who read no Redis."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from algo.models.fields import AmountField
from algo.models.market import Market


class MarketQuote(models.Model):
    """Where one market stands, by its exchange's stream. Never a fact of the ledger: written over every second, worth
    nothing when it is old, and safe to delete at any time.

    `as_of` is until when bid and ask are proven to have stood; `received_at` is the last word on the market itself.
    """

    market = models.OneToOneField(Market, on_delete=models.CASCADE, primary_key=True, related_name="streamed_quote")
    bid = AmountField()
    ask = AmountField()
    last = AmountField(null=True)
    as_of = models.DateTimeField()
    received_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(name="quote_not_crossed", condition=Q(bid__gt=0) & Q(bid__lt=F("ask"))),
        ]

    def __str__(self) -> str:
        return f"{self.market_id} {self.bid} / {self.ask}"
