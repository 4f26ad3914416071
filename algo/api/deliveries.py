"""What was sent to channels, or is to be: every event with each channel that hears of it, and one more try."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import django_filters as filters
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.access import actor
from algo.api.acts import CONFLICT, refusals
from algo.api.filters import IdFilter, after, before
from algo.api.rows import RowsViewSet
from algo.models import Delivery, DeliveryState, TokenScope
from algo.selectors import visible
from algo.services.deliveries import delivery_redeliver
from providers.clock import clock_from_env


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    kind = serializers.CharField(help_text="As `deal.closed`.")
    state = serializers.ChoiceField(
        choices=DeliveryState.choices,
        help_text="given_up: nobody took it for a day; redeliver it then.",
    )

    channel_name = serializers.CharField(source="channel.name", read_only=True)

    class Meta:
        model = Delivery
        fields: tuple[str, ...] = (
            "id",
            "channel",
            "channel_name",
            "kind",
            "state",
            "created_at",
            "attempts",
            "next_attempt_at",
            "status_code",
            "last_error",
            "delivered_at",
        )


class DeliveryDetailSerializer(DeliverySerializer):
    payload = serializers.DictField(help_text="What is sent as `data`.")

    class Meta(DeliverySerializer.Meta):
        fields = (*DeliverySerializer.Meta.fields, "payload")


class DeliveryFilter(filters.FilterSet):
    channel = IdFilter(field_name="channel_id", label="Id of the channel")
    kind = filters.CharFilter("event__kind", label="As `deal.closed`")
    state = filters.ChoiceFilter(choices=DeliveryState.choices)
    created_after, created_before = after("created_at", "Happened"), before("created_at", "Happened")

    class Meta:
        model = Delivery
        fields: list[str] = []


class RedeliverSerializer(serializers.Serializer[Any]):
    done = serializers.BooleanField(help_text="False where it is due already.")
    delivery = DeliveryDetailSerializer()


def own_scope(request: Request) -> TokenScope:
    """A channel outlives the token it was made with: one that may only read makes and sends nothing. Who is signed in
    does, whatever their role."""
    reads = request.method in SAFE_METHODS or request.auth is None
    return TokenScope.READ if reads else TokenScope.TRADE


class DeliveryViewSet(RowsViewSet):
    """What was sent to channels of one's own, or is to be, newest first; an Admin sees all of it."""

    queryset = Delivery.objects.none()
    rows: ClassVar[Any] = visible.deliveries_visible
    serializer_class = DeliverySerializer
    filterset_class = DeliveryFilter
    ordering = ("-id",)
    ordering_fields = ("id",)
    scope_needed: ClassVar[Any] = staticmethod(own_scope)

    def get_serializer_class(self) -> Any:
        return DeliverySerializer if self.action == "list" else DeliveryDetailSerializer

    def before_redelivery(self) -> None:
        """Raises Refused where nothing can be sent now."""

    @extend_schema(request=None, responses={200: RedeliverSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def redeliver(self, request: Request, pk: str | None = None) -> Response:
        """Deliver it once more, with all its tries, under the same id."""
        delivery, clock = self.get_object(), clock_from_env()
        with refusals():
            self.before_redelivery()
            done = delivery_redeliver(delivery, by=actor(request), at=clock.now(), speed=clock.speed)
        delivery.refresh_from_db()
        return Response(RedeliverSerializer(cast(Any, {"done": done, "delivery": delivery})).data)
