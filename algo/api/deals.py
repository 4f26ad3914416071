"""Deals and orders over REST: look, read a deal's story, and act by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api import filters
from algo.api.access import actor
from algo.api.acts import CONFLICT, ReasonSerializer, reason_of, refusals
from algo.api.rows import RowsViewSet
from algo.api.serializers import AmountText, DealSerializer, OrderSerializer, SaidAlike, UtcTime
from algo.models import Deal, Order
from algo.queues import advance_hint
from algo.selectors import visible
from algo.selectors.story import bare_seconds_now, deal_story, held_time, risk_multiple
from algo.services.deal_acts import deal_close, deal_reprotect, deal_stop_move, order_cancel
from providers.clock import clock_from_env


class StoryLineSerializer(SaidAlike, serializers.Serializer[Any]):
    at = UtcTime()
    kind = serializers.CharField(help_text="signal, planned, denial, order, fill, ended, or a change of the deal.")
    title = serializers.CharField()
    text = serializers.CharField(allow_blank=True)
    details = serializers.DictField(help_text="Amounts are exact text, prices in quote.")


class DealDetailSerializer(DealSerializer):
    methods_know_the_row_alone = True

    risk_multiple = serializers.SerializerMethodField(help_text="Profit in units of what the first stop risked (R).")
    held_seconds = serializers.SerializerMethodField(help_text="From its first fill to its end, or until now.")
    unprotected_now_seconds = serializers.SerializerMethodField(help_text="Without a break until now; 0: protected.")
    story = serializers.SerializerMethodField(help_text="Everything that happened to it, oldest first.")

    class Meta(DealSerializer.Meta):
        fields = (  # type: ignore[assignment]
            *DealSerializer.Meta.fields,
            "risk_multiple",
            "held_seconds",
            "unprotected_now_seconds",
            "story",
        )

    @extend_schema_field(AmountText(38, 2, allow_null=True))
    def get_risk_multiple(self, deal: Deal) -> str | None:
        found = risk_multiple(deal)
        return None if found is None else format(found, "f")

    def get_held_seconds(self, deal: Deal) -> int | None:
        held = held_time(deal, clock_from_env().now())
        return None if held is None else held // timedelta(seconds=1)

    def get_unprotected_now_seconds(self, deal: Deal) -> float:
        return round(bare_seconds_now(deal, clock_from_env().now()), 1)

    @extend_schema_field(StoryLineSerializer(many=True))
    def get_story(self, deal: Deal) -> Any:
        return StoryLineSerializer(cast(Any, deal_story(deal)), many=True).data


class StopMoveSerializer(ReasonSerializer):
    stop_price = AmountText(38, 18, help_text="In quote, on the market's tick.")
    looser_ok = serializers.BooleanField(default=False, help_text="Though more can be lost then. It is counted.")


class DealActSerializer(serializers.Serializer[Any]):
    done = serializers.BooleanField(help_text="False where it was asked for before, or stands so already.")
    deal = DealDetailSerializer()


class OrderActSerializer(serializers.Serializer[Any]):
    done = serializers.BooleanField(help_text="False where it is being cancelled already.")
    order = OrderSerializer()


class DealViewSet(RowsViewSet):
    """Deals: one decision each, from entry to exit. Acts are written down and carried out within a second, with the
    queue alive or dead: look again. For the Trader who owns the account, and Admins."""

    queryset = Deal.objects.none()
    rows = visible.deals_visible
    serializer_class = DealSerializer
    filterset_class = filters.DealFilter
    ordering = ("-created_at", "-id")
    ordering_fields = ("id", "created_at", "opened_at", "closed_at", "profit", "unprotected_seconds")

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        return rows if self.action == "list" else rows.select_related("signal", "account")

    def get_serializer_class(self) -> Any:
        return DealSerializer if self.action == "list" else DealDetailSerializer

    @extend_schema(request=ReasonSerializer, responses={200: DealActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def close(self, request: Request, pk: str | None = None) -> Response:
        """Close it at the market, now. Twice is once."""
        return self._act(request, deal_close, reason=reason_of(request.data))

    @extend_schema(request=StopMoveSerializer, responses={200: DealActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str | None = None) -> Response:
        """Move its stop. Farther from the price only with `looser_ok` (else 409 `looser_stop`); never to where the
        price has been already."""
        given = StopMoveSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return self._act(request, deal_stop_move, **given.validated_data)

    @extend_schema(request=ReasonSerializer, responses={200: DealActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def reprotect(self, request: Request, pk: str | None = None) -> Response:
        """Have its protection compared with the exchange now, and what is missing placed. Safe to repeat."""
        return self._act(request, deal_reprotect, reason=reason_of(request.data))

    def _act(self, request: Request, act: Callable[..., bool], **given: Any) -> Response:
        deal = self.get_object()
        with refusals():
            done = act(deal, by=actor(request), at=clock_from_env().now(), **given)
        if done:
            advance_hint(deal.account_id)
        fresh = get_object_or_404(self.get_queryset(), pk=deal.pk)
        return Response(DealActSerializer({"done": done, "deal": fresh}).data)


class OrderViewSet(RowsViewSet):
    """Orders: one instruction to an exchange each."""

    queryset = Order.objects.none()
    rows = visible.orders_visible
    serializer_class = OrderSerializer
    filterset_class = filters.OrderFilter
    ordering = ("-created_at", "-id")
    ordering_fields = ("id", "created_at", "closed_at")

    @extend_schema(request=ReasonSerializer, responses={200: OrderActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str | None = None) -> Response:
        """Cancel an entry that still works; what was filled of it becomes a protected deal. Orders that a position
        depends on are refused: close the deal instead."""
        order = self.get_object()
        reason = reason_of(request.data)
        with refusals():
            done = order_cancel(order, by=actor(request), at=clock_from_env().now(), reason=reason)
        if done:
            advance_hint(order.account_id)
        fresh = get_object_or_404(self.get_queryset(), pk=order.pk)
        return Response(OrderActSerializer({"done": done, "order": fresh}).data)
