"""REST: lists and rows to read. They come from selectors that know who may see them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

from django.contrib.auth import authenticate
from django.contrib.auth.signals import user_logged_in
from django.db import DatabaseError
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from knox.models import AuthToken
from knox.views import LogoutView as KnoxLogoutView
from rest_framework import permissions, viewsets
from rest_framework.exceptions import AuthenticationFailed, NotFound
from rest_framework.filters import OrderingFilter
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from algo.api import filters, serializers
from algo.api.throttling import HealthThrottle, LoginThrottle
from algo.models import Deal, Fill, Order, Signal, StrategyConfig
from algo.selectors import visible
from algo.selectors.health import accounts_health, heartbeat_ages, stream_health
from providers.clock import clock_from_env

logger = logging.getLogger(__name__)


class RowsViewSet(viewsets.ReadOnlyModelViewSet[Any]):
    """A list and its rows, as far as the user may see them; what one may not see does not exist (404)."""

    filter_backends = (DjangoFilterBackend, OrderingFilter)
    rows: ClassVar[Callable[[Any], QuerySet[Any]]]
    ordering: Sequence[str] = ("-id",)

    def get_queryset(self) -> QuerySet[Any]:
        return type(self).rows(self.request.user)


class DealViewSet(RowsViewSet):
    """Deals: one decision each, from entry to exit."""

    queryset = Deal.objects.none()
    rows = visible.deals_visible
    serializer_class = serializers.DealSerializer
    filterset_class = filters.DealFilter
    ordering = ("-created_at", "-id")
    ordering_fields = ("id", "created_at", "opened_at", "closed_at", "profit", "unprotected_seconds")


class OrderViewSet(RowsViewSet):
    """Orders: one instruction to an exchange each."""

    queryset = Order.objects.none()
    rows = visible.orders_visible
    serializer_class = serializers.OrderSerializer
    filterset_class = filters.OrderFilter
    ordering = ("-created_at", "-id")
    ordering_fields = ("id", "created_at", "closed_at")


class FillViewSet(RowsViewSet):
    """Fills: executions of orders, as the exchange reported them."""

    queryset = Fill.objects.none()
    rows = visible.fills_visible
    serializer_class = serializers.FillSerializer
    filterset_class = filters.FillFilter
    ordering = ("-executed_at", "-id")
    ordering_fields = ("id", "executed_at")


class SignalViewSet(RowsViewSet):
    """Signals: what the strategies said, and why nothing was ordered where nothing was."""

    queryset = Signal.objects.none()
    rows = visible.signals_visible
    serializer_class = serializers.SignalSerializer
    filterset_class = filters.SignalFilter
    ordering = ("-created_at", "-id")
    ordering_fields = ("id", "created_at", "bar_open_at", "confidence")


class StrategyViewSet(RowsViewSet):
    """Strategies at work: rules, market, state."""

    queryset = StrategyConfig.objects.none()
    rows = visible.strategies_visible
    serializer_class = serializers.StrategySerializer
    filterset_class = filters.StrategyFilter
    ordering = ("name",)
    ordering_fields = ("id", "name", "updated_at")


class LoginView(APIView):
    """Username and password for a token. Five tries a minute for each address."""

    authentication_classes = ()
    permission_classes = (permissions.AllowAny,)
    throttle_classes = (LoginThrottle,)

    @extend_schema(request=serializers.LoginSerializer, responses=serializers.TokenSerializer, auth=[])
    def post(self, request: Request) -> Response:
        given = serializers.LoginSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        user = authenticate(request, **given.validated_data)
        if user is None:
            raise AuthenticationFailed("Unable to log in with these credentials.")
        row, token = AuthToken.objects.create(user=user)
        user_logged_in.send(sender=type(user), request=request, user=user)
        return Response(serializers.TokenSerializer({"token": token, "expiry": row.expiry}).data)

    def get_authenticate_header(self, request: Request) -> str:
        return "Token"


class LogoutView(KnoxLogoutView):
    """The token that is sent becomes worthless."""

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request, format: str | None = None) -> Response:
        return super().post(request, format)


class HealthView(APIView):
    """Is the database there, and how old is each process's last sign of life? 503 where the database is not."""

    authentication_classes = ()
    permission_classes = (permissions.AllowAny,)
    throttle_classes = (HealthThrottle,)

    @extend_schema(
        responses={200: serializers.HealthSerializer, 503: serializers.HealthSerializer}, auth=[], operation_id="health"
    )
    def get(self, request: Request) -> Response:
        clock = clock_from_env()
        try:
            ages = heartbeat_ages(clock.now(), speed=clock.speed)
            streams = stream_health(clock.now(), speed=clock.speed)
            accounts = asdict(accounts_health(clock.now()))
        except DatabaseError:
            logger.exception("health: the database does not answer")
            return Response({"status": "unavailable", "database": False, "heartbeats": [], "streams": []}, status=503)
        beats = [{"name": name, "age_seconds": round(age, 1)} for name, age in ages.items()]
        told = [
            {
                "name": stream.name,
                "is_up": stream.is_up,
                "message_age_seconds": None if stream.message_age is None else round(stream.message_age, 1),
                "reconnects": stream.reconnects,
            }
            for stream in streams
        ]
        return Response({"status": "ok", "database": True, "heartbeats": beats, "streams": told, "accounts": accounts})


@extend_schema(exclude=True)
class UnknownAddressView(APIView):
    """Errors below /api/v1/ have one shape, also for addresses that do not exist."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound("There is nothing at this address. See /api/ for what there is.")
