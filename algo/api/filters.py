from __future__ import annotations

import django_filters as filters
from django.db.models import QuerySet

from algo.models import Deal, DealStatus, Fill, Order, Role, Signal, StrategyConfig
from algo.models.fields import choices
from providers.types import OrderStatus, Side

SIDES, ORDER_STATUSES = choices(Side), choices(OrderStatus)


def _after(field: str, label: str) -> filters.IsoDateTimeFilter:
    return filters.IsoDateTimeFilter(field_name=field, lookup_expr="gte", label=f"{label} at or after")


def _before(field: str, label: str) -> filters.IsoDateTimeFilter:
    return filters.IsoDateTimeFilter(field_name=field, lookup_expr="lt", label=f"{label} before")


def _symbol(path: str) -> filters.CharFilter:
    return filters.CharFilter(field_name=path, lookup_expr="iexact", label="Symbol as the exchange spells it")


class DealFilter(filters.FilterSet):
    config = filters.NumberFilter(field_name="config_id", label="Id of the strategy")
    market = _symbol("market__symbol")
    status = filters.MultipleChoiceFilter(choices=DealStatus.choices)
    side = filters.ChoiceFilter(choices=SIDES)
    opened_after, opened_before = _after("opened_at", "Opened"), _before("opened_at", "Opened")
    closed_after, closed_before = _after("closed_at", "Closed"), _before("closed_at", "Closed")

    class Meta:
        model = Deal
        fields: list[str] = []


class OrderFilter(filters.FilterSet):
    deal = filters.NumberFilter(field_name="deal_id", label="Id of the deal")
    market = _symbol("market__symbol")
    status = filters.MultipleChoiceFilter(choices=ORDER_STATUSES)
    role = filters.ChoiceFilter(choices=Role.choices)

    class Meta:
        model = Order
        fields: list[str] = []


class FillFilter(filters.FilterSet):
    deal = filters.NumberFilter(field_name="order__deal_id", label="Id of the deal")
    order = filters.NumberFilter(field_name="order_id", label="Id of the order")
    executed_after = _after("executed_at", "Executed")
    executed_before = _before("executed_at", "Executed")

    class Meta:
        model = Fill
        fields: list[str] = []


class SignalFilter(filters.FilterSet):
    config = filters.NumberFilter(field_name="config_id", label="Id of the strategy")
    side = filters.ChoiceFilter(choices=SIDES)
    denial_code = filters.CharFilter(label="Code of the denial, as `cooldown`; empty for signals that became deals")
    denied = filters.BooleanFilter(method="by_denial", label="Denied, or not")

    class Meta:
        model = Signal
        fields: list[str] = []

    def by_denial(self, rows: QuerySet[Signal], _: str, denied: bool) -> QuerySet[Signal]:
        return rows.exclude(denial_code="") if denied else rows.filter(denial_code="")


class StrategyFilter(filters.FilterSet):
    market = _symbol("market__symbol")

    class Meta:
        model = StrategyConfig
        fields = ["status", "strategy", "ordering_enabled"]
