"""The journal over REST: what came of every closed candle, and why a strategy did not trade."""

from __future__ import annotations

from typing import Any

import django_filters
from django.utils.translation import gettext
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.filters import ID, AnyOfFilter, IdFilter, MomentFilter, SignalFilter, id_of
from algo.api.rows import RowsViewSet
from algo.api.serializers import ModelText, SignalSerializer
from algo.models import Decision, Outcome, Signal
from algo.selectors import visible
from algo.selectors.why_not import decision_why, signal_decision, why_counts
from providers.clock import clock_from_env


class DecisionFilter(django_filters.FilterSet):
    config = IdFilter(field_name="config_id", label="Id of the strategy")
    outcome = AnyOfFilter(choices=Outcome.choices)
    code = django_filters.CharFilter(
        field_name="journal__denial__code", label="Code of the risk gate's denial, as `cooldown`"
    )
    after = MomentFilter(field_name="bar_open_at", lookup_expr="gte", label="Candles opened at or after")
    before = MomentFilter(field_name="bar_open_at", lookup_expr="lt", label="Candles opened before")

    class Meta:
        model = Decision
        fields: list[str] = []


class DecisionSerializer(ModelText[Decision]):
    methods_know_the_row_alone = True

    config_name = serializers.CharField(source="config.name")
    code = serializers.SerializerMethodField(help_text="The outcome, or the risk gate's code where it denied.")
    why = serializers.SerializerMethodField(help_text="The same in a sentence.")
    numbers = serializers.SerializerMethodField(help_text="Indicators that were known.")

    class Meta:
        model = Decision
        fields: tuple[str, ...] = (
            "id",
            "config",
            "config_name",
            "bar_open_at",
            "decided_at",
            "outcome",
            "code",
            "why",
            "numbers",
        )

    def to_representation(self, instance: Decision) -> dict[str, Any]:
        instance.why = decision_why(instance)  # type: ignore[attr-defined] # for the three fields that tell of it
        return super().to_representation(instance)

    def get_code(self, row: Any) -> str:
        return str(row.why.code)

    def get_why(self, row: Any) -> str:
        return str(row.why.sentence)

    def get_numbers(self, row: Any) -> dict[str, str]:
        return dict(row.why.numbers)


class DecisionDetailSerializer(DecisionSerializer):
    journal = serializers.DictField(help_text="Indicator values and every condition with its answer.")

    class Meta(DecisionSerializer.Meta):
        fields = (*DecisionSerializer.Meta.fields, "journal")


class WhyCountSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    outcome = serializers.CharField()
    count = serializers.IntegerField()


class SignalDetailSerializer(SignalSerializer):
    methods_know_the_row_alone = True

    decision = serializers.SerializerMethodField(
        help_text="The journal of its candle: every condition with its answer; null where it is not kept."
    )

    class Meta(SignalSerializer.Meta):
        fields = (*SignalSerializer.Meta.fields, "decision")  # type: ignore[assignment]

    @extend_schema_field(DecisionDetailSerializer(allow_null=True))
    def get_decision(self, signal: Signal) -> Any:
        found = signal_decision(signal)
        return None if found is None else DecisionDetailSerializer(found).data


class SignalViewSet(RowsViewSet):
    """Signals: what the strategies said, and why nothing was ordered where nothing was."""

    queryset = Signal.objects.none()
    rows = visible.signals_visible
    serializer_class = SignalSerializer
    filterset_class = SignalFilter
    ordering = ("-created_at", "-id")
    ordering_fields = ("id", "created_at")

    def get_serializer_class(self) -> Any:
        return SignalSerializer if self.action == "list" else SignalDetailSerializer


class DecisionViewSet(RowsViewSet):
    """The journal: one row for every closed candle a strategy decided over, whatever came of it. Rows that said
    nothing are kept for a month."""

    queryset = Decision.objects.none()
    rows = visible.decisions_visible
    serializer_class = DecisionSerializer
    filterset_class = DecisionFilter
    ordering = ("-bar_open_at", "-id")
    ordering_fields = ("id", "bar_open_at")

    def get_serializer_class(self) -> Any:
        return DecisionSerializer if self.action == "list" else DecisionDetailSerializer

    @extend_schema(
        parameters=[OpenApiParameter("config", ID, description="Id of a strategy; all one may see without it.")],
        responses=WhyCountSerializer(many=True),
        filters=False,
    )
    @action(detail=False, methods=["get"], pagination_class=None, filterset_class=None, query_parameters=["config"])
    def counts(self, request: Request) -> Response:
        """How often each answer came for candles of the last 24 hours, the most frequent first."""
        configs = visible.strategies_visible(request.user)
        if wanted := request.query_params.get("config"):
            if (pk := id_of(wanted)) is None:
                raise ValidationError({"config": [gettext("Name a strategy by its id.")]})
            configs = configs.filter(pk=pk)
        return Response(WhyCountSerializer(why_counts(configs, clock_from_env().now()), many=True).data)
