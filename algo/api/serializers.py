"""What the API shows. Fields are listed one by one: nothing new is published by accident."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, cached_property
from operator import attrgetter
from typing import Any, TypeVar, cast

from django.db import models
from rest_framework import serializers

from algo.models import Account, Deal, Fill, Market, Order, Signal, StrategyConfig
from algo.models.fields import AmountField, plain
from providers.types import ProtectionMode

Row = TypeVar("Row", bound=models.Model)
Readers = list[tuple[str, Callable[[Any], Any], Callable[[Any], Any]]]  # name, how it is read of a row, how it is said


class AmountText(serializers.DecimalField):
    """An exact amount as text in plain notation: "50000", "0.00000123", never "5E+4"."""

    def to_representation(self, value: Any) -> str:
        return format(plain(Decimal(value)), "f")


class UtcTime(serializers.DateTimeField):
    """ISO 8601 in UTC, without asking for the time zone of the request in every field of every row."""

    def to_representation(self, value: datetime) -> str:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


class ProtectionModeName(serializers.ChoiceField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=[mode.name for mode in ProtectionMode], **kwargs)

    def to_representation(self, value: Any) -> str:
        return ProtectionMode(value).name


def _as_it_is(value: Any) -> Any:
    return value


@cache
def one_of(serializer: Any) -> Any:
    """One of a class to look at: making its fields costs more than reading ten rows."""
    return serializer()


@cache
def _readers_of(serializer: Any) -> Readers | None:
    """Those that serve every serializer of the class; None where one of its own methods says a field."""
    one = one_of(serializer)
    methods = any(isinstance(field, serializers.SerializerMethodField) for field in one.fields.values())
    if methods and not serializer.methods_know_the_row_alone:
        return None
    made: Readers = one.readers_made()
    return made


class SaidAlike:
    """Before a serializer's class: how each field is read is found out once, and not for every row. For serializers
    whose fields know nothing of the request; one whose own methods do not either says so, and is read once for good."""

    fields: Any
    methods_know_the_row_alone = False

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """As the framework does."""
        told: dict[str, Any] = {}
        for name, read, say in self._readers:
            try:
                value = read(instance)
            except serializers.SkipField:
                continue
            told[name] = None if value is None else say(value)
        return told

    @cached_property
    def _readers(self) -> Readers:
        """Those of the class, unless fields were taken away from this one."""
        known = None if "fields" in self.__dict__ else _readers_of(cast(Any, type(self)))
        return self.readers_made() if known is None else known

    def readers_made(self) -> Readers:
        return [(name, *self._reader(field)) for name, field in self.fields.items() if not field.write_only]

    def _reader(self, field: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """How it is read of a row, and how it is said."""
        return field.get_attribute, field.to_representation


class ModelText(SaidAlike, serializers.ModelSerializer[Row]):
    """A row whose amounts are exact text, and times UTC."""

    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {
        AmountField: AmountText,
        models.DecimalField: AmountText,
        models.DateTimeField: UtcTime,
    }

    def _reader(self, field: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
        """Columns of the row itself are read without asking around."""
        model: Any = self.Meta.model
        columns = {column.name: column for column in model._meta.concrete_fields}
        column = columns.get(field.source)
        if column is None or isinstance(field, serializers.BaseSerializer):
            return super()._reader(field)
        if isinstance(field, serializers.PrimaryKeyRelatedField):
            return attrgetter(column.attname), _as_it_is
        return attrgetter(column.name), field.to_representation


class MarketSerializer(ModelText[Any]):
    class Meta:
        model = Market
        fields = ("id", "provider", "symbol", "pair", "base", "quote")


class AccountNameSerializer(ModelText[Any]):
    """Which account, and nothing else about it."""

    class Meta:
        model = Account
        fields = ("id", "name", "provider", "environment")


class StrategySerializer(ModelText[Any]):
    account = AccountNameSerializer()
    market = MarketSerializer()
    data_market = MarketSerializer()

    class Meta:
        model = StrategyConfig
        fields = (
            "id",
            "name",
            "strategy",
            "parameters",
            "account",
            "data_market",
            "market",
            "resolution",
            "status",
            "ordering_enabled",
            "allowed_sides",
            "last_bar_at",
            "created_at",
            "updated_at",
        )


class SignalSerializer(ModelText[Any]):
    config_name = serializers.CharField(source="config.name")
    deal = serializers.IntegerField(source="deal_id_of_signal", allow_null=True, help_text="The deal it led to.")

    class Meta:
        model = Signal
        fields = (
            "id",
            "config",
            "config_name",
            "bar_open_at",
            "created_at",
            "side",
            "reason",
            "confidence",
            "price",
            "indicators",
            "denial_code",
            "denial_message",
            "warnings",
            "deal",
        )


class DealSerializer(ModelText[Any]):
    config_name = serializers.CharField(source="config.name")
    market = MarketSerializer()
    protection_mode = ProtectionModeName(help_text="How its position is protected, best first.")

    class Meta:
        model = Deal
        fields = (
            "id",
            "config",
            "config_name",
            "account",
            "market",
            "signal",
            "side",
            "status",
            "protection_mode",
            "bar_open_at",
            "planned_quantity",
            "planned_price",
            "initial_stop_price",
            "stop_price",
            "target_price",
            "best_price",
            "entry_price",
            "entry_quantity",
            "exit_price",
            "exit_quantity",
            "fees_quote",
            "profit",
            "dust_quantity",
            "exit_reason",
            "close_reason",
            "note",
            "unprotected_since",
            "unprotected_seconds",
            "protected_at",
            "created_at",
            "opened_at",
            "closed_at",
        )


class OrderSerializer(ModelText[Any]):
    market = MarketSerializer()

    class Meta:
        model = Order
        fields = (
            "id",
            "deal",
            "account",
            "market",
            "role",
            "leg",
            "client_order_id",
            "exchange_order_id",
            "side",
            "type",
            "quantity",
            "price",
            "stop_price",
            "status",
            "filled_quantity",
            "average_price",
            "fee",
            "fee_asset",
            "reason",
            "unknown_since",
            "created_at",
            "submitted_at",
            "accepted_at",
            "closed_at",
        )


class FillSerializer(ModelText[Any]):
    deal = serializers.IntegerField(source="order.deal_id")
    side = serializers.CharField(source="order.side")

    class Meta:
        model = Fill
        fields = (
            "id",
            "order",
            "deal",
            "account",
            "trade_id",
            "side",
            "price",
            "quantity",
            "fee",
            "fee_asset",
            "executed_at",
        )


class HeartbeatSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    age_seconds = serializers.FloatField(help_text="Wall seconds since its last sign of life.")


class StreamSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(help_text="The exchange.")
    is_up = serializers.BooleanField()
    message_age_seconds = serializers.FloatField(allow_null=True, help_text="Wall seconds since its last message.")
    reconnects = serializers.IntegerField(help_text="Since its process started.")


class AccountsHealthSerializer(serializers.Serializer[Any]):
    stopped = serializers.IntegerField(help_text="Accounts whose key the exchange refused: nothing is sent for them.")
    keys_ending = serializers.IntegerField(help_text="Keys that have expired or will within 14 days.")


class HealthSerializer(serializers.Serializer[Any]):
    status = serializers.ChoiceField(choices=["ok", "unavailable"])
    database = serializers.BooleanField()
    redis = serializers.BooleanField(
        required=False, help_text="Without it nothing new is begun by workers; open positions stay protected."
    )
    heartbeats = HeartbeatSerializer(many=True)
    streams = StreamSerializer(many=True)
    accounts = AccountsHealthSerializer(required=False)
