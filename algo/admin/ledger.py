"""Deals, orders, fills and signals: what happened, to be looked at."""

from __future__ import annotations

import re
from decimal import Context
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    FieldTextFilter,
    RelatedDropdownFilter,
)
from unfold.decorators import display

from algo.admin.accounts import PROTECTION
from algo.admin.act_pages import DEAL_ACTS, ORDER_ACTS, ActPages
from algo.admin.base import (
    NOTHING,
    LedgerAdmin,
    LedgerInline,
    TimeRangeFilter,
    amount_text,
    badge,
    choice_badge,
    choice_label,
    table,
    two_lines,
)
from algo.admin.deal_chart import chart_context
from algo.localised import digits, duration, moment, money, reader, written
from algo.models import CloseReason, Deal, DealStatus, Fill, Order, OrderEvent, Signal
from algo.phrases import told
from algo.selectors.story import StoryLine, deal_fills, deal_story, held_time, risk_multiple
from providers.clock import clock_from_env
from providers.types import ProtectionMode

EIGHT_DIGITS = Context(prec=8)
CLOSED_BY = {
    CloseReason.TAKE_PROFIT: "success",
    CloseReason.TRAILING_STOP: "success",
    CloseReason.STOP_LOSS: "warning",
    CloseReason.EMERGENCY: "danger",
    CloseReason.KILL_SWITCH: "danger",
}


STORY_KINDS = {
    "signal": "info",
    "planned": "info",
    "denial": "warning",
    "unprotected": "danger",
    "protected": "success",
    "fill": "success",
    "stop_moved": "primary",
    "exit": "warning",
    "reopened": "danger",
    "ended": "success",
}
_SAID = {"order", "why", "note", "by", "from", "to"}  # said beside it already


def deal_status_badge(deal: Deal) -> str:
    """For a closed deal, why it closed."""
    if deal.close_reason:
        return badge(choice_label(deal, "close_reason"), CLOSED_BY.get(CloseReason(deal.close_reason), "info"))
    return badge(gettext("Canceled")) if deal.status == DealStatus.CANCELED else choice_badge(deal, "status")


def deal_profit_badge(deal: Deal) -> str:
    """To eight digits; the deal's page has all of them."""
    if deal.profit is None:
        return NOTHING
    text = money(deal.profit.normalize(EIGHT_DIGITS), deal.market.quote)
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

    @display(description=_("order"))
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
class DealAdmin(ActPages, LedgerAdmin):
    acts = DEAL_ACTS
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
    list_select_related = ("market", "config__data_market", "account", "signal")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        ("side", ChoicesDropdownFilter),
        ("close_reason", ChoicesDropdownFilter),
        ("config", RelatedDropdownFilter),
        ("account", RelatedDropdownFilter),
        ("created_at", TimeRangeFilter),
    )
    search_fields = ("=id", "market__symbol", "config__name", "=orders__client_order_id")
    search_help_text = _("Number of the deal, symbol, strategy, or the client id of one of its orders")
    ordering = ("-created_at",)
    inlines = (OrderInline,)
    change_form_outer_before_template = "algo/admin/act_links.html"
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
        return {
            "act_links": self.act_links(request, row),
            "numbers": self._numbers(row),
            "chart": chart_context(row, clock_from_env().now()),
            "story_table": _story_table(row),
            "fills_table": _fills_table(row),
        }

    def _numbers(self, deal: Deal) -> list[tuple[str, str]]:
        """What stands at the top of its page."""
        multiple, held = risk_multiple(deal), held_time(deal, clock_from_env().now())
        return [
            (gettext("Profit after fees"), deal_profit_badge(deal)),
            (gettext("R multiple"), NOTHING if multiple is None else f"{written(f'{multiple:,}')} R"),
            (gettext("Held"), NOTHING if held is None else duration(held) if reader().right_to_left else str(held)),
            (gettext("Unprotected"), self.unprotected(deal)),
            (gettext("Protection"), self.protection_badge(deal)),
        ]

    @display(description=_("side"), ordering="side")
    def side_badge(self, deal: Deal) -> str:
        return choice_badge(deal, "side")

    @display(description=_("status"), ordering="status")
    def status_badge(self, deal: Deal) -> str:
        return deal_status_badge(deal)

    @display(description=_("market and strategy"), ordering="market__symbol")
    def where(self, deal: Deal) -> str:
        return two_lines(str(deal.market), deal.config.name)

    @display(description=_("stop / target"), ordering="stop_price")
    def stop_and_target(self, deal: Deal) -> str:
        return two_lines(amount_text(deal.stop_price), amount_text(deal.target_price))

    @display(description=_("profit"), ordering="profit")
    def profit_badge(self, deal: Deal) -> str:
        return deal_profit_badge(deal)

    @display(description=_("protection"), ordering="protection_mode")
    def protection_badge(self, deal: Deal) -> str:
        return badge(*PROTECTION[ProtectionMode(deal.protection_mode)])

    @display(description=_("unprotected"), ordering="unprotected_seconds")
    def unprotected(self, deal: Deal) -> str:
        """Seconds without a live stop or exit; red while it is so."""
        seconds = gettext("%(seconds)s s") % {"seconds": amount_text(deal.unprotected_seconds)}
        return (
            badge(gettext("%(seconds)s, and NOW") % {"seconds": seconds}, "danger")
            if deal.unprotected_since
            else seconds
        )


@admin.register(Order)
class OrderAdmin(ActPages, LedgerAdmin):
    acts = ORDER_ACTS
    change_form_outer_before_template = "algo/admin/act_links.html"
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
        ("created_at", TimeRangeFilter),
    )
    search_fields = ("=id", "=client_order_id", "=exchange_order_id", "market__symbol")
    search_help_text = _("Number, client id or exchange id of the order, or a symbol")
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

    def told(self, request: HttpRequest, row: Order) -> dict[str, Any]:
        return {"act_links": self.act_links(request, row)}

    @display(description=_("deal"), ordering="deal")
    def deal_link(self, order: Order) -> str:
        address = reverse("admin:algo_deal_change", args=[order.deal_id])
        return format_html('<a class="text-link" href="{}">Deal {}</a>', address, order.deal_id)

    @display(description=_("side"), ordering="side")
    def side_badge(self, order: Order) -> str:
        return choice_badge(order, "side")

    @display(description=_("status"), ordering="status")
    def status_badge(self, order: Order) -> str:
        return (
            badge(f"{order.get_status_display()} ?", "danger") if order.unknown_since else choice_badge(order, "status")
        )


@admin.register(Fill)
class FillAdmin(LedgerAdmin):
    list_display = ("id", "order", "market", "price", "quantity", "fee", "fee_asset", "executed_at")
    list_select_related = ("order", "order__market", "account")
    list_filter = (
        ("account", RelatedDropdownFilter),
        ("fee_asset", FieldTextFilter),
        ("executed_at", TimeRangeFilter),
    )
    search_fields = ("=trade_id", "=order__client_order_id", "order__market__symbol")

    @display(description=_("market"), ordering="order__market__symbol")
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
        ("reason", FieldTextFilter),
        ("denial_code", FieldTextFilter),
        ("config", RelatedDropdownFilter),
        ("created_at", TimeRangeFilter),
    )
    search_fields = ("config__name", "denial_code", "denial_message")
    sections = {
        "": ("config", "bar_open_at", "created_at", "side_badge", "reason", "confidence", "price"),
        "What became of it": ("result", "denial_message", "warnings"),
        "Indicators": ("indicators",),
    }

    @display(description=_("side"), ordering="side")
    def side_badge(self, signal: Signal) -> str:
        return choice_badge(signal, "side")

    @display(description=_("result"), ordering="denial_code")
    def result(self, signal: Signal) -> str:
        if signal.denial_code:
            return badge(signal.denial_code, "warning")
        deal = getattr(signal, "deal", None)
        if deal is None:
            return NOTHING
        address = reverse("admin:algo_deal_change", args=[deal.pk])
        return format_html(
            '<a class="text-link" href="{}">{}</a>', address, gettext("Deal %(deal)s") % {"deal": digits(deal.pk)}
        )


def _fills_table(deal: Deal) -> dict[str, Any]:
    rows = [
        [
            _time(fill.executed_at),
            fill.order.get_role_display(),
            amount_text(fill.price),
            amount_text(fill.quantity),
            money(fill.fee, fill.fee_asset),
            fill.trade_id,
        ]
        for fill in deal_fills(deal)
    ]
    return {
        "headers": [
            gettext("Executed at"),
            gettext("Order"),
            gettext("Price"),
            gettext("Quantity"),
            gettext("Fee"),
            gettext("Trade id"),
        ],
        "rows": rows,
    }


def _story_table(deal: Deal) -> dict[str, Any]:
    rows = [
        [_time(line.at), badge(line.title, STORY_KINDS.get(line.kind)), told(line.text) or NOTHING, _told_details(line)]
        for line in deal_story(deal)
    ]
    return table([gettext("At"), gettext("What"), gettext("In words"), gettext("Numbers")], rows)


def _told_details(line: StoryLine) -> str:
    """Name and value of each; a link to the order where it is about one."""
    words = [
        f"{_told_name(name)}: {_told_value(value)}"
        for name, value in line.details.items()
        if name not in _SAID and value not in ("", {})
    ]
    text = format_html('<span class="break-words">{}</span>', " · ".join(words))
    if "order" not in line.details:
        return text
    order = line.details["order"]
    name = gettext("Order %(order)s") % {"order": digits(order)}
    return format_html(
        '<a class="text-link" href="{}">{}</a> {}', reverse("admin:algo_order_change", args=[order]), name, text
    )


def _told_name(name: str) -> str:
    """A column by its title, in a language that has one for it."""
    title = gettext(name.replace("_", " "))
    return name if title == name.replace("_", " ") else title


def _told_value(value: Any) -> str:
    return digits(value) if re.fullmatch(r"-?[\d.]+", str(value)) else told(str(value))


def _time(value: Any) -> str:
    return format_html('<span class="whitespace-nowrap">{}</span>', moment(value))
