"""Webhooks over REST, for Admins: whether there is a receiver, what waits for it, and delivering once more."""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.conf import settings
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.access import actor
from algo.api.acts import CONFLICT, refusals
from algo.api.base import ApiView
from algo.api.deliveries import DeliveryDetailSerializer, DeliveryViewSet
from algo.models import Delivery, NotificationChannel, TokenScope
from algo.selectors import visible
from algo.selectors.deliveries import deliveries_state
from algo.services.channels import NO_RECEIVER, ChannelRefused, operators_channel
from algo.services.deliveries import channel_test
from providers.clock import clock_from_env


class WebhooksSerializer(serializers.Serializer[Any]):
    configured = serializers.BooleanField(help_text="Whether WEBHOOK_URL is set.")
    host = serializers.CharField(allow_null=True, help_text="Of the receiver; its path may be a secret.")
    waiting = serializers.IntegerField()
    failing = serializers.IntegerField(help_text="Of those that wait, how many have failed at their last try.")
    given_up = serializers.IntegerField(help_text="After a day of tries.")
    oldest_waiting_at = serializers.DateTimeField(allow_null=True)
    delivered = serializers.IntegerField(help_text="In the last 24 hours.")


def operators_deliveries(user: Any) -> QuerySet[Delivery]:
    """Those of WEBHOOK_URL; empty for who is no Admin."""
    return visible.deliveries_visible(user).filter(channel__owner=None)


def _receiver() -> NotificationChannel:
    channel = operators_channel()
    if channel is None or not channel.is_enabled:
        raise ChannelRefused(str(NO_RECEIVER))
    return channel


class WebhooksView(ApiView):
    """The one receiver that the operator set (WEBHOOK_URL)."""

    scope_needed = TokenScope.ADMIN

    @extend_schema(responses=WebhooksSerializer, operation_id="webhooks")
    def get(self, request: Request) -> Response:
        """Whether there is one, and how its events fare. For Admins."""
        state = deliveries_state(operators_deliveries(request.user), clock_from_env().now())
        told = {
            "configured": bool(settings.WEBHOOK_URL),
            "host": urlsplit(settings.WEBHOOK_URL).hostname,
            **{name: getattr(state, name) for name in type(state).__dataclass_fields__},
        }
        return Response(WebhooksSerializer(told).data)


class WebhookTestView(ApiView):
    """A test of the receiver."""

    scope_needed = TokenScope.ADMIN

    @extend_schema(request=None, responses={202: DeliveryDetailSerializer, 409: CONFLICT}, operation_id="webhook_test")
    def post(self, request: Request) -> Response:
        """Send an event `webhook.test` on the way of all others, within seconds: look at what became of it by its id.
        For Admins."""
        clock = clock_from_env()
        with refusals():
            delivery = channel_test(_receiver(), by=actor(request), at=clock.now(), speed=clock.speed)
        return Response(DeliveryDetailSerializer(delivery).data, status=status.HTTP_202_ACCEPTED)


class OperatorsDeliveryViewSet(DeliveryViewSet):
    """What was sent to WEBHOOK_URL, or is to be, newest first. For Admins. All channels: `/deliveries`."""

    rows: ClassVar[Any] = operators_deliveries
    scope_needed: ClassVar[Any] = TokenScope.ADMIN

    def before_redelivery(self) -> None:
        _receiver()
