"""What the API shows. Fields are listed one by one: nothing new is published by accident."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.db import models
from rest_framework import serializers

from algo.models import Account, Deal, Fill, Market, Order, Signal, StrategyConfig
from algo.models.fields import AmountField, plain
from providers.types import ProtectionMode


class AmountText(serializers.DecimalField):
    """An exact amount as text in plain notation: "50000", "0.00000123", never "5E+4"."""

    def to_representation(self, value: Any) -> str:
        return format(plain(Decimal(value)), "f")


class ProtectionModeName(serializers.ChoiceField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=[mode.name for mode in ProtectionMode], **kwargs)

    def to_representation(self, value: Any) -> str:
        return ProtectionMode(value).name


class _Serializer(serializers.ModelSerializer[Any]):
    serializer_field_mapping = serializers.ModelSerializer.serializer_field_mapping | {
        AmountField: AmountText,
        models.DecimalField: AmountText,
    }


class MarketSerializer(_Serializer):
    class Meta:
        model = Market
        fields = ("id", "provider", "symbol", "pair", "base", "quote")


class AccountNameSerializer(_Serializer):
    """Which account, and nothing else about it."""

    class Meta:
        model = Account
        fields = ("id", "name", "provider", "environment")


class StrategySerializer(_Serializer):
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


class SignalSerializer(_Serializer):
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


class DealSerializer(_Serializer):
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


class OrderSerializer(_Serializer):
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


class FillSerializer(_Serializer):
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


class LoginSerializer(serializers.Serializer[Any]):
    username = serializers.CharField(max_length=150, write_only=True)
    password = serializers.CharField(
        max_length=4096, write_only=True, trim_whitespace=False, style={"input_type": "password"}
    )


class TokenSerializer(serializers.Serializer[Any]):
    token = serializers.CharField(help_text="Shown once; only its hash is kept. Send `Authorization: Token <token>`.")
    expiry = serializers.DateTimeField()


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
    heartbeats = HeartbeatSerializer(many=True)
    streams = StreamSerializer(many=True)
    accounts = AccountsHealthSerializer(required=False)
