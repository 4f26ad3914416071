"""REST: lists and rows to read. They come from selectors that know who may see them."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from django.db import DatabaseError
from django.utils.translation import gettext
from drf_spectacular.utils import extend_schema
from rest_framework import permissions
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from algo.api import filters, serializers
from algo.api.base import ApiView
from algo.api.query import KnownQuery
from algo.api.rows import RowsViewSet
from algo.api.throttling import HealthThrottle
from algo.live.redis_link import TROUBLE
from algo.models import Fill, TokenScope
from algo.monitoring import redis_facts
from algo.selectors import visible
from algo.selectors.health import accounts_health, heartbeat_ages, stream_health
from providers.clock import clock_from_env

logger = logging.getLogger(__name__)


class FillViewSet(RowsViewSet):
    """Fills: executions of orders, as the exchange reported them."""

    queryset = Fill.objects.none()
    rows = visible.fills_visible
    serializer_class = serializers.FillSerializer
    filterset_class = filters.FillFilter
    ordering = ("-executed_at", "-id")
    ordering_fields = ("id", "executed_at")


class HealthView(KnownQuery, APIView):
    """Are database and Redis there, and how old is each process's last sign of life? 503 where the database is not."""

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
        return Response(
            {
                "status": "ok",
                "database": True,
                "redis": _redis_answers(),
                "heartbeats": beats,
                "streams": told,
                "accounts": accounts,
            }
        )


def _redis_answers() -> bool:
    """Within a second."""
    try:
        redis_facts.ping()
    except TROUBLE:
        return False
    return True


@extend_schema(exclude=True)
class UnknownAddressView(ApiView):
    """Errors below /api/v1/ have one shape, also for addresses that do not exist."""

    scope_needed = TokenScope.READ  # whatever is sent there: not found

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound(gettext("There is nothing at this address. See /api/ for what there is."))
