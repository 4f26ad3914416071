"""Tickets over REST: look, and answer."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import django_filters as filters
from django.contrib.auth.models import User
from django.utils.translation import gettext
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.access import actor
from algo.api.acts import KnownFields, refusals
from algo.api.filters import AnyOfFilter, IdFilter, YesNoFilter
from algo.api.rows import RowsViewSet
from algo.api.serializers import MarketSerializer
from algo.models import StrategyConfig, Ticket, TicketAnswer, TicketKind
from algo.selectors import visible
from algo.selectors.rights import may_trade
from algo.services.tickets import ticket_answer, ticket_answers
from providers.clock import clock_from_env


class TicketFilter(filters.FilterSet):
    account = IdFilter(field_name="account_id", label="Id of the account")
    market = filters.CharFilter(
        field_name="market__symbol", lookup_expr="iexact", label="Symbol as the exchange spells it"
    )
    kind = AnyOfFilter(choices=TicketKind.choices)
    open = YesNoFilter(field_name="resolved_at", lookup_expr="isnull", label="Not resolved: entries on its market wait")

    class Meta:
        model = Ticket
        fields: list[str] = []


class TicketSerializer(serializers.ModelSerializer[Ticket]):
    market = MarketSerializer(allow_null=True)
    resolved_by = serializers.CharField(
        source="resolved_by.username", default=None, allow_null=True, help_text="Who answered it."
    )

    class Meta:
        model = Ticket
        fields: tuple[str, ...] = (
            "id",
            "account",
            "market",
            "kind",
            "reference",
            "summary",
            "details",
            "created_at",
            "answer",
            "answer_note",
            "answered_at",
            "adopt_config",
            "outcome",
            "resolved_at",
            "resolved_by",
        )


class TicketDetailSerializer(TicketSerializer):
    answers = serializers.SerializerMethodField(help_text="What may be answered now; empty when it is resolved.")

    class Meta(TicketSerializer.Meta):
        fields = (*TicketSerializer.Meta.fields, "answers")

    def get_answers(self, ticket: Ticket) -> list[str]:
        return list(ticket_answers(ticket))


class TicketAnswerSerializer(KnownFields):
    answer = serializers.ChoiceField(choices=TicketAnswer.choices)
    note = serializers.CharField(required=False, default="", allow_blank=True, max_length=400)
    config = serializers.PrimaryKeyRelatedField(
        queryset=StrategyConfig.objects.none(),
        required=False,
        default=None,
        allow_null=True,
        help_text="To adopt where no deal is open on the market: the strategy under whose rules it is looked after.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if request := self.context.get("request"):
            cast(Any, self.fields["config"]).queryset = visible.strategies_visible(request.user)


class TicketViewSet(RowsViewSet):
    """Tickets: what an exchange shows and the platform cannot explain, newest open first. An open one blocks new
    entries on its market."""

    queryset = Ticket.objects.none()
    rows: ClassVar[Any] = visible.tickets_visible
    serializer_class = TicketSerializer
    filterset_class = TicketFilter
    ordering = ("-resolved_at", "-created_at", "-id")  # those without an end first
    ordering_fields = ("id", "created_at", "resolved_at")

    def get_serializer_class(self) -> type[TicketSerializer]:
        return TicketSerializer if self.action == "list" else TicketDetailSerializer

    @extend_schema(request=TicketAnswerSerializer, responses=TicketDetailSerializer)
    @action(detail=True, methods=["post"])
    def answer(self, request: Request, pk: str | None = None) -> Response:
        """Decide about a ticket of one's own account. Adopting and
        closing are carried out within a minute: look at `outcome` and `resolved_at`. The same answer twice is once."""
        ticket: Ticket = self.get_object()
        user = cast(User, request.user)
        if not may_trade(user, ticket.account):
            raise PermissionDenied(gettext("Only a Trader who owns the account, or an Admin, can answer this ticket."))
        given = TicketAnswerSerializer(data=request.data, context=self.get_serializer_context())
        given.is_valid(raise_exception=True)
        with refusals():
            ticket_answer(ticket, **given.validated_data, by=actor(request), at=clock_from_env().now())
        return Response(TicketDetailSerializer(self.get_queryset().get(pk=ticket.pk)).data)
