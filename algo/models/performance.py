"""What closed deals came to, day by day: kept by the database, read by `selectors/performance.py`."""

from __future__ import annotations

from django.db import models

from algo.models.account import Account
from algo.models.deal import CloseReason
from algo.models.fields import AmountField
from algo.models.market import Market
from algo.models.strategy import StrategyConfig


class DealDay(models.Model):
    """Sums over the closed deals of one strategy on one market, closed on one trading day for one reason.

    A trigger on the deals writes it in the deal's own transaction, also when a deal reopens; nothing else does. Its
    key holds the account, so only writers who already wait for that account's lock meet at a row. Amounts are in quote.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="+")
    config = models.ForeignKey(StrategyConfig, on_delete=models.CASCADE, related_name="+")
    market = models.ForeignKey(Market, on_delete=models.CASCADE, related_name="+")
    day = models.DateField(help_text="Trading day of the end, in the zone that `algo_trading_day_zone()` states.")
    close_reason = models.CharField(max_length=16, choices=CloseReason.choices)
    deals = models.BigIntegerField()
    wins = models.BigIntegerField()
    losses = models.BigIntegerField()
    profit = AmountField()
    won = AmountField(help_text="Profits of the winners.")
    lost = AmountField(help_text="Losses of the losers, as a positive amount.")
    fees = AmountField()
    notional = AmountField(help_text="Entry price x entry quantity.")
    hold_seconds = AmountField()
    unprotected_seconds = AmountField()
    r_sum = AmountField(help_text="Profits in multiples of what the first stop risked.")
    r_deals = models.BigIntegerField(help_text="Deals that have such a multiple.")

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=("account", "config", "market", "day", "close_reason"), name="deal_day_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.close_reason}"
