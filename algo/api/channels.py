"""Notification channels: one's own ways to be told what happens. Addresses go in and never come out."""

from __future__ import annotations

from typing import Any, ClassVar

import django_filters as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.access import actor
from algo.api.acts import CONFLICT, KnownFields, refusals
from algo.api.deliveries import DeliveryDetailSerializer, own_scope
from algo.api.rows import RowsViewSet
from algo.models import (
    Account,
    ChannelType,
    Language,
    NotificationChannel,
    QuietRule,
    Severity,
    StrategyConfig,
)
from algo.models.event_kinds import CHOOSABLE
from algo.notifications.channels import channel_create, channel_delete, channel_secret_renew, channel_update
from algo.selectors import visible
from algo.services.deliveries import channel_test
from providers.clock import clock_from_env

SEVERITIES = [each.name.lower() for each in Severity]


class SeverityField(serializers.ChoiceField):
    """How much an event matters, by its name."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["choices"] = SEVERITIES
        super().__init__(**kwargs)

    def to_representation(self, value: Any) -> str:
        return Severity(value).name.lower()

    def to_internal_value(self, data: Any) -> Any:
        return Severity[super().to_internal_value(data).upper()]


class ChannelSerializer(serializers.ModelSerializer[NotificationChannel]):
    owner = serializers.CharField(
        source="owner.username", default=None, allow_null=True, read_only=True, help_text="null: the operator's."
    )
    kinds = serializers.ListField(child=serializers.CharField(), read_only=True, help_text="Empty: all events.")
    minimum_severity = SeverityField(read_only=True)
    is_failing = serializers.SerializerMethodField(help_text="Whether its receiver took nothing at the last try.")

    class Meta:
        model = NotificationChannel
        fields: tuple[str, ...] = (
            "id",
            "owner",
            "name",
            "type",
            "target_hint",
            "is_enabled",
            "kinds",
            "accounts",
            "strategies",
            "minimum_severity",
            "quiet_from",
            "quiet_to",
            "quiet_rule",
            "time_zone",
            "language",
            "groups",
            "most_per_minute",
            "daily_summary",
            "summary_at",
            "created_at",
            "is_failing",
            "retry_at",
        )
        read_only_fields = fields

    def get_is_failing(self, channel: NotificationChannel) -> bool:
        return channel.failures > 0


class GivenChannelSerializer(ChannelSerializer):
    """A channel as it was made, this once with the secret that signs it."""

    secret = serializers.SerializerMethodField(help_text="Signs a webhook; shown once. Empty for others.")

    class Meta(ChannelSerializer.Meta):
        fields = (*ChannelSerializer.Meta.fields, "secret")

    def get_secret(self, channel: NotificationChannel) -> str:
        return str(self.context["secret"])


class ChannelChangeSerializer(KnownFields):
    name = serializers.CharField(max_length=64, required=False)
    target = serializers.CharField(
        max_length=2000,
        required=False,
        write_only=True,
        help_text="https:// for a webhook, an e-mail address, or a chat's address as tgram://<token>/<chat id>/. Never "
        "shown again.",
    )
    is_enabled = serializers.BooleanField(required=False)
    kinds = serializers.ListField(
        child=serializers.ChoiceField(choices=CHOOSABLE), required=False, max_length=50, help_text="Empty: all events."
    )
    accounts = serializers.PrimaryKeyRelatedField(
        queryset=Account.objects.none(), many=True, required=False, help_text="Empty: all its owner may see."
    )
    strategies = serializers.PrimaryKeyRelatedField(
        queryset=StrategyConfig.objects.none(), many=True, required=False, help_text="Empty: all its owner may see."
    )
    minimum_severity = SeverityField(required=False)
    quiet_from = serializers.TimeField(required=False, allow_null=True, help_text="Of the clock in its zone.")
    quiet_to = serializers.TimeField(required=False, allow_null=True)
    quiet_rule = serializers.ChoiceField(choices=QuietRule.choices, required=False)
    time_zone = serializers.CharField(max_length=64, required=False, help_text="As Asia/Tehran.")
    language = serializers.ChoiceField(choices=Language.choices, required=False)
    groups = serializers.BooleanField(required=False, help_text="Many events at once become one message.")
    most_per_minute = serializers.IntegerField(min_value=1, max_value=600, required=False)
    daily_summary = serializers.BooleanField(required=False)
    summary_at = serializers.TimeField(required=False, allow_null=True, help_text="Of the clock in its zone.")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if user := self.context.get("user"):
            for name, seen in (("accounts", visible.accounts_visible), ("strategies", visible.strategies_visible)):
                self.fields[name].child_relation.queryset = seen(user)  # type: ignore[attr-defined]


class ChannelCreateSerializer(ChannelChangeSerializer):
    type = serializers.ChoiceField(choices=ChannelType.choices)

    def get_fields(self) -> Any:
        fields = super().get_fields()
        for name in ("name", "target"):
            fields[name].required = True
        return fields


class ChannelFilter(filters.FilterSet):
    type = filters.ChoiceFilter(choices=ChannelType.choices)

    class Meta:
        model = NotificationChannel
        fields: list[str] = []


class ChannelSecretSerializer(serializers.Serializer[Any]):
    secret = serializers.CharField(help_text="Shown once; the one before signs nothing any more.")


class ChannelViewSet(RowsViewSet):
    """Ways to be told what happens: webhooks, e-mail, chats. Everybody's own; an Admin sees everybody's, without
    addresses and secrets."""

    queryset = NotificationChannel.objects.none()
    rows: ClassVar[Any] = visible.channels_visible
    serializer_class = ChannelSerializer
    filterset_class = ChannelFilter
    scope_needed: ClassVar[Any] = staticmethod(own_scope)
    idempotent = False  # an answer that holds a secret is kept nowhere

    def get_queryset(self) -> Any:
        return super().get_queryset().prefetch_related("accounts", "strategies")

    @extend_schema(request=ChannelCreateSerializer, responses={201: GivenChannelSerializer, 409: CONFLICT})
    def create(self, request: Request) -> Response:
        """Make one of one's own. The secret of a webhook is told this once."""
        values = self._values(ChannelCreateSerializer, request)
        kind, target = values.pop("type"), values.pop("target")
        with refusals():
            channel, secret = channel_create(kind, target, values, owner=request.user, by=actor(request), at=_now())
        data = GivenChannelSerializer(channel, context={"secret": secret}).data
        return Response(data, status=status.HTTP_201_CREATED)

    @extend_schema(request=ChannelChangeSerializer, responses={200: ChannelSerializer, 409: CONFLICT})
    def partial_update(self, request: Request, pk: str | None = None) -> Response:
        """Change what is sent; a new address takes the place of the one before."""
        channel, values = self.get_object(), self._values(ChannelChangeSerializer, request)
        target = values.pop("target", "")
        with refusals():
            channel_update(channel, values, target=target, by=actor(request), at=_now())
        return Response(ChannelSerializer(self.get_object()).data)

    @extend_schema(responses={204: None, 409: CONFLICT})
    def destroy(self, request: Request, pk: str | None = None) -> Response:
        """Delete it, with what waits for it."""
        with refusals():
            channel_delete(self.get_object(), by=actor(request), at=_now())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses={202: DeliveryDetailSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"], idempotent=True)
    def test(self, request: Request, pk: str | None = None) -> Response:
        """Send a test, on the way of all events, within seconds: look at what became of it at `/deliveries`."""
        clock = clock_from_env()
        with refusals():
            delivery = channel_test(self.get_object(), by=actor(request), at=clock.now(), speed=clock.speed)
        return Response(DeliveryDetailSerializer(delivery).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(request=None, responses={200: ChannelSecretSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def secret(self, request: Request, pk: str | None = None) -> Response:
        """Give a webhook another secret."""
        with refusals():
            secret = channel_secret_renew(self.get_object(), by=actor(request), at=_now())
        return Response({"secret": secret})

    def _values(self, serializer: type[ChannelChangeSerializer], request: Request) -> dict[str, Any]:
        given = serializer(data=request.data, context={"user": request.user})
        given.is_valid(raise_exception=True)
        return dict(given.validated_data)


def _now() -> Any:
    return clock_from_env().now()
