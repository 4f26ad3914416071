"""Deals, orders, fills and signals: what happened, to be looked at."""

from __future__ import annotations

from decimal import Context
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.timezone import localtime
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display

from algo.admin.accounts import PROTECTION
from algo.admin.base import NOTHING, LedgerAdmin, LedgerInline, amount_text, badge, two_lines
from algo.models import CloseReason, Deal, DealStatus, Fill, Order, OrderEvent, Signal
from algo.selectors.story import deal_events, deal_fills
from providers.types import ProtectionMode

EIGHT_DIGITS = Context(prec=8)
CLOSED_BY = {
    CloseReason.TAKE_PROFIT: "success",
    CloseReason.TRAILING_STOP: "success",
    CloseReason.STOP_LOSS: "warning",
    CloseReason.EMERGENCY: "danger",
    CloseReason.KILL_SWITCH: "danger",
}


def deal_status_badge(deal: Deal) -> str:
    """For a closed deal, why it closed."""
    if deal.close_reason:
        return badge(deal.get_close_reason_display(), CLOSED_BY.get(CloseReason(deal.close_reason), "info"))
    return badge("Canceled" if deal.status == DealStatus.CANCELED else deal.get_status_display())


def deal_profit_badge(deal: Deal) -> str:
    """To eight digits; the deal's page has all of them."""
    if deal.profit is None:
        return NOTHING
    text = f"{amount_text(deal.profit.normalize(EIGHT_DIGITS))} {deal.market.quote}"
    return badge(text, "success" if deal.profit > 0 else "danger")


class OrderInline(LedgerInline):
    model = Order
    fields = (
        "link",
        "side",
        "type",
        "status",
        "quantity",
        "filled_quantity",
        "price",
        "stop_price",
        "average_price",
        "reason",
        "created_at",
    )
    ordering = ("created_at", "id")

    @display(description="order")
    def link(self, order: Order) -> str:
        address = reverse("admin:algo_order_change", args=[order.pk])
        return format_html('<a class="text-link" href="{}">{}</a>', address, order.get_role_display())


class OrderEventInline(LedgerInline):
    model = OrderEvent
    fields = ("at", "from_status", "to_status", "reason", "raw")


class FillInline(LedgerInline):
    model = Fill
    fields = ("executed_at", "price", "quantity", "fee", "fee_asset", "trade_id")


@admin.register(Deal)
class DealAdmin(LedgerAdmin):
    list_display = (
        "id",
        "created_at",
        "where",
        "side_badge",
        "status_badge",
        "entry_price",
        "stop_and_target",
        "profit_badge",
        "protection_badge",
        "unprotected",
    )
    list_select_related = ("market", "config", "account", "signal")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("side", ChoicesDropdownFilter),
        ("close_reason", ChoicesDropdownFilter),
        ("config", RelatedDropdownFilter),
        ("account", RelatedDropdownFilter),
    )
    search_fields = ("=id", "market__symbol", "config__name", "=orders__client_order_id")
    search_help_text = "Number of the deal, symbol, strategy, or the client id of one of its orders"
    date_hierarchy = "created_at"
    ordering = ("-created_at",)
    inlines = (OrderInline,)
    change_form_outer_after_template = "algo/admin/deal_story.html"
    sections = {
        "": ("market", "config", "account", "signal", "side_badge", "status_badge", "note"),
        "Result": (
            "profit",
            "fees_quote",
            "entry_price",
            "entry_quantity",
            "exit_price",
            "exit_quantity",
            "dust_quantity",
            "close_reason",
        ),
        "Protection": (
            "protection_badge",
            "unprotected",
            "stop_price",
            "initial_stop_price",
            "target_price",
            "best_price",
            "protected_at",
            "swapped_at",
            "trailed_at",
            "exit_reason",
        ),
        "Plan": ("planned_quantity", "planned_price", "bar_open_at", "rules"),
        "Times": ("created_at", "opened_at", "closed_at"),
    }

    def told(self, request: HttpRequest, row: Deal) -> dict[str, Any]:
        return {"fills_table": _fills_table(row), "events_table": _events_table(row)}

    @display(description="side", ordering="side")
    def side_badge(self, deal: Deal) -> str:
        return badge(deal.side.capitalize())

    @display(description="status", ordering="status")
    def status_badge(self, deal: Deal) -> str:
        return deal_status_badge(deal)

    @display(description="market and strategy", ordering="market__symbol")
    def where(self, deal: Deal) -> str:
        return two_lines(str(deal.market), deal.config.name)

    @display(description="stop / target", ordering="stop_price")
    def stop_and_target(self, deal: Deal) -> str:
        return two_lines(amount_text(deal.stop_price), amount_text(deal.target_price))

    @display(description="profit", ordering="profit")
    def profit_badge(self, deal: Deal) -> str:
        return deal_profit_badge(deal)

    @display(description="protection", ordering="protection_mode")
    def protection_badge(self, deal: Deal) -> str:
        return badge(*PROTECTION[ProtectionMode(deal.protection_mode)])

    @display(description="unprotected", ordering="unprotected_seconds")
    def unprotected(self, deal: Deal) -> str:
        """Seconds without a live stop or exit; red while it is so."""
        seconds = f"{amount_text(deal.unprotected_seconds)} s"
        return badge(f"{seconds}, and NOW", "danger") if deal.unprotected_since else seconds


@admin.register(Order)
class OrderAdmin(LedgerAdmin):
    list_display = (
        "id",
        "deal_link",
        "market",
        "role",
        "side_badge",
        "type",
        "status_badge",
        "quantity",
        "filled_quantity",
        "price",
        "stop_price",
        "average_price",
        "created_at",
    )
    list_select_related = ("market", "account", "deal", "deal__market", "pair")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("role", ChoicesDropdownFilter),
        ("type", ChoicesDropdownFilter),
        ("account", RelatedDropdownFilter),
    )
    search_fields = ("=id", "=client_order_id", "=exchange_order_id", "market__symbol")
    search_help_text = "Number, client id or exchange id of the order, or a symbol"
    date_hierarchy = "created_at"
    inlines = (FillInline, OrderEventInline)
    sections = {
        "": ("deal_link", "account", "market", "role", "leg", "side_badge", "type", "status_badge", "reason"),
        "Amounts": (
            "quantity",
            "filled_quantity",
            "price",
            "stop_price",
            "average_price",
            "fee",
            "fee_asset",
        ),
        "At the exchange": (
            "client_order_id",
            "exchange_order_id",
            "pair",
            "attempts",
            "unknown_since",
            "negative_at",
            "cancel_requested_at",
            "raw",
        ),
        "Times": ("created_at", "submitted_at", "accepted_at", "checked_at", "closed_at"),
    }

    @display(description="deal", ordering="deal")
    def deal_link(self, order: Order) -> str:
        address = reverse("admin:algo_deal_change", args=[order.deal_id])
        return format_html('<a class="text-link" href="{}">Deal {}</a>', address, order.deal_id)

    @display(description="side", ordering="side")
    def side_badge(self, order: Order) -> str:
        return badge(order.side.capitalize())

    @display(description="status", ordering="status")
    def status_badge(self, order: Order) -> str:
        return (
            badge(f"{order.get_status_display()} ?", "danger")
            if order.unknown_since
            else badge(order.get_status_display())
        )


@admin.register(Fill)
class FillAdmin(LedgerAdmin):
    list_display = ("id", "order", "market", "price", "quantity", "fee", "fee_asset", "executed_at")
    list_select_related = ("order", "order__market", "account")
    list_filter = (("account", RelatedDropdownFilter), "fee_asset")
    search_fields = ("=trade_id", "=order__client_order_id", "order__market__symbol")
    date_hierarchy = "executed_at"

    @display(description="market", ordering="order__market__symbol")
    def market(self, fill: Fill) -> str:
        return str(fill.order.market)


@admin.register(Signal)
class SignalAdmin(LedgerAdmin):
    list_display = (
        "id",
        "config",
        "side_badge",
        "reason",
        "confidence",
        "price",
        "result",
        "denial_message",
        "bar_open_at",
    )
    list_select_related = ("config", "deal")
    list_filter = (
        ("side", ChoicesDropdownFilter),
        "reason",
        "denial_code",
        ("config", RelatedDropdownFilter),
    )
    search_fields = ("config__name", "denial_code", "denial_message")
    date_hierarchy = "created_at"
    sections = {
        "": ("config", "bar_open_at", "created_at", "side_badge", "reason", "confidence", "price"),
        "What became of it": ("result", "denial_message", "warnings"),
        "Indicators": ("indicators",),
    }

    @display(description="side", ordering="side")
    def side_badge(self, signal: Signal) -> str:
        return badge(signal.side.capitalize())

    @display(description="result", ordering="denial_code")
    def result(self, signal: Signal) -> str:
        if signal.denial_code:
            return badge(signal.denial_code, "warning")
        deal = getattr(signal, "deal", None)
        if deal is None:
            return NOTHING
        address = reverse("admin:algo_deal_change", args=[deal.pk])
        return format_html('<a class="text-link" href="{}">Deal {}</a>', address, deal.pk)


def _fills_table(deal: Deal) -> dict[str, Any]:
    rows = [
        [
            _time(fill.executed_at),
            fill.order.role.capitalize(),
            amount_text(fill.price),
            amount_text(fill.quantity),
            f"{amount_text(fill.fee)} {fill.fee_asset}",
            fill.trade_id,
        ]
        for fill in deal_fills(deal)
    ]
    return {"headers": ["Executed at", "Order", "Price", "Quantity", "Fee", "Trade id"], "rows": rows}


def _events_table(deal: Deal) -> dict[str, Any]:
    rows = [
        [
            _time(event.at),
            f"{event.order.role.capitalize()} {event.order.client_order_id}",
            event.from_status or NOTHING,
            event.to_status,
            event.reason or NOTHING,
        ]
        for event in deal_events(deal)
    ]
    return {"headers": ["At", "Order", "From", "To", "Why"], "rows": rows}


def _time(value: Any) -> str:
    return str(localize(localtime(value)))
