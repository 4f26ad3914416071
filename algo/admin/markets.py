from __future__ import annotations

from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from algo.admin.base import LedgerAdmin
from algo.admin.candles import CandlesPage, candles_link
from algo.admin.kill_switch import SwitchPage
from algo.models import Market


@admin.register(Market)
class MarketAdmin(CandlesPage, SwitchPage, LedgerAdmin):
    """Facts of the exchanges; `manage.py refresh_markets` fetches them anew."""

    list_display = (
        "symbol",
        "provider",
        "pair",
        "is_open",
        "tick_size",
        "step_size",
        "min_notional",
        "taker_fee_rate",
        "candles",
        "refreshed_at",
    )
    list_filter = (("provider", ChoicesDropdownFilter), "is_open", "quote")
    search_fields = ("symbol", "pair", "base")
    sections = {
        "": (
            "provider",
            "symbol",
            "pair",
            "base",
            "quote",
            "is_open",
            "allows_market_orders",
            "candles",
            "refreshed_at",
        ),
        "Grids and minimums": ("tick_size", "step_size", "min_quantity", "min_notional"),
        "Fees and bands (fractions)": ("maker_fee_rate", "taker_fee_rate", "market_band", "price_band"),
    }

    @display(description=_("candles"))
    def candles(self, market: Market) -> str:
        return candles_link(market)
