from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import django_filters as filters
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django_filters.fields import IsoDateTimeField
from drf_spectacular.drainage import set_override

from algo.models import Deal, DealStatus, Fill, Order, Role, Signal, StrategyConfig, StrategyStatus
from algo.models.fields import choices
from providers.types import OrderStatus, Side

SIDES, ORDER_STATUSES = choices(Side), choices(OrderStatus)
LARGEST_ID = 2**63 - 1
END = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)  # of what can be counted on from
AMOUNT = r"^-?[0-9]{1,20}(\.[0-9]{1,18})?$"


ID = {"type": "integer", "format": "int64", "minimum": 1, "maximum": LARGEST_ID}


def id_of(text: str) -> int | None:
    """The id that a text spells, as the database can hold it; None where it spells none."""
    return int(text) if re.fullmatch("[0-9]{1,19}", text) and 1 <= int(text) <= LARGEST_ID else None


class IdField(forms.CharField):
    """An id as the database can hold it."""

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        if not text:
            return None
        if (found := id_of(text)) is not None:
            return found
        raise ValidationError(gettext("Must be an id: a whole number from 1."), code="invalid")


class AmountField(forms.RegexField):
    """An exact amount in plain notation."""

    default_error_messages = {"invalid": _("Must be an amount as 12 or -0.05: no exponent, at most 18 decimals.")}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(regex=AMOUNT, **kwargs)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        return Decimal(text) if text else None


class MomentField(IsoDateTimeField):
    """A time in UTC, whatever its offset: the database knows fewer offsets than there are."""

    def clean(self, value: Any) -> Any:
        moment = super().clean(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError as exc:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from exc


class YesNoField(forms.TypedChoiceField):
    default_error_messages = {"invalid_choice": _("Must be true or false.")}

    def __init__(self, **kwargs: Any) -> None:
        kwargs.pop("null_label", None)
        words = [("true", "true"), ("false", "false")]
        super().__init__(choices=words, coerce="true".__eq__, empty_value=None, **kwargs)

    def to_python(self, value: Any) -> Any:
        return super().to_python(value).lower()  # Python spells it True


class _Documented(filters.Filter):
    """A filter whose schema is its own."""

    schema: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_override(self, "field", {**self.schema, "description": kwargs.get("label", "")})


class IdFilter(_Documented):
    field_class = IdField
    schema = ID


class AmountFilter(_Documented):
    field_class = AmountField
    schema = {"type": "string", "format": "decimal", "pattern": AMOUNT}


class MomentFilter(filters.IsoDateTimeFilter):
    field_class = MomentField


class YesNoFilter(_Documented):
    field_class = YesNoField
    schema = {"type": "boolean"}


def after(field: str, label: str) -> MomentFilter:
    return MomentFilter(field_name=field, lookup_expr="gte", label=f"{label} at or after")


def before(field: str, label: str) -> MomentFilter:
    return MomentFilter(field_name=field, lookup_expr="lt", label=f"{label} before")


class AnyOfFilter(filters.MultipleChoiceFilter):
    """`?status=OPEN&status=CLOSED`: rows that have one of these, in a column of their own. A row is found once, so
    nothing has to be made distinct: that would sort all of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, distinct=False, **kwargs)


def _symbol(path: str) -> filters.CharFilter:
    return filters.CharFilter(field_name=path, lookup_expr="iexact", label="Symbol as the exchange spells it")


class _BeforeOfDealFilter(MomentFilter):
    """What happened to a deal before a moment happened to a deal that was planned before it: said as well, so that a
    list of old deals begins at them and not at the newest. A day more, for the exchange's clock."""

    def filter(self, qs: Any, value: Any) -> Any:
        found = super().filter(qs, value)
        return found if value is None or value > END else found.filter(created_at__lt=value + timedelta(days=1))


def _before_of_deal(field: str, label: str) -> MomentFilter:
    return _BeforeOfDealFilter(field_name=field, lookup_expr="lt", label=f"{label} before")


class DealFilter(filters.FilterSet):
    config = IdFilter(field_name="config_id", label="Id of the strategy")
    account = IdFilter(field_name="account_id", label="Id of the account")
    market = _symbol("market__symbol")
    status = AnyOfFilter(choices=DealStatus.choices)
    side = filters.ChoiceFilter(choices=SIDES)
    created_after, created_before = after("created_at", "Planned"), before("created_at", "Planned")
    opened_after, opened_before = after("opened_at", "Opened"), _before_of_deal("opened_at", "Opened")
    closed_after, closed_before = after("closed_at", "Closed"), _before_of_deal("closed_at", "Closed")
    profit_min = AmountFilter(field_name="profit", lookup_expr="gte", label="Profit at least, in quote")
    profit_max = AmountFilter(field_name="profit", lookup_expr="lte", label="Profit at most, in quote")

    class Meta:
        model = Deal
        fields: list[str] = []


class OrderFilter(filters.FilterSet):
    account = IdFilter(field_name="account_id", label="Id of the account")
    deal = IdFilter(field_name="deal_id", label="Id of the deal")
    market = _symbol("market__symbol")
    status = AnyOfFilter(choices=ORDER_STATUSES)
    role = filters.ChoiceFilter(choices=Role.choices)

    class Meta:
        model = Order
        fields: list[str] = []


class FillFilter(filters.FilterSet):
    deal = IdFilter(field_name="order__deal_id", label="Id of the deal")
    order = IdFilter(field_name="order_id", label="Id of the order")
    executed_after = after("executed_at", "Executed")
    executed_before = before("executed_at", "Executed")

    class Meta:
        model = Fill
        fields: list[str] = []


class SignalFilter(filters.FilterSet):
    config = IdFilter(field_name="config_id", label="Id of the strategy")
    side = filters.ChoiceFilter(choices=SIDES)
    denial_code = filters.CharFilter(label="Code of the denial, as `cooldown`")
    created_after, created_before = after("created_at", "Given"), before("created_at", "Given")
    denied = YesNoFilter(method="by_denial", label="Denied, or not")

    class Meta:
        model = Signal
        fields: list[str] = []

    def by_denial(self, rows: QuerySet[Signal], _: str, denied: bool) -> QuerySet[Signal]:
        return rows.exclude(denial_code="") if denied else rows.filter(denial_code="")


class StrategyFilter(filters.FilterSet):
    account = IdFilter(field_name="account_id", label="Id of the account")
    name = filters.CharFilter(lookup_expr="icontains", label="Part of its name")
    market = _symbol("market__symbol")
    status = filters.ChoiceFilter(choices=StrategyStatus.choices)
    strategy = filters.CharFilter(label="Its class")
    ordering_enabled = YesNoFilter(label="Whether it may order")

    class Meta:
        model = StrategyConfig
        fields: list[str] = []
