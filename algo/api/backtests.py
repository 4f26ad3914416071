"""Backtests over REST: start one, watch it, cancel it, read its report, compare several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import django_filters as filters
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils.translation import gettext
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.throttling import BaseThrottle

from algo.api.access import actor
from algo.api.acts import KnownFields
from algo.api.filters import AnyOfFilter, IdFilter, id_of
from algo.api.rows import RowsViewSet
from algo.api.serializers import MarketSerializer
from algo.api.throttling import BacktestThrottle
from algo.backtest import FillModel
from algo.models import AllowedSides, BacktestRun, Market, RunStatus, StrategyConfig
from algo.models.fields import choices
from algo.queues import backtest_enqueue
from algo.report_pages import html_report_response
from algo.selectors import visible
from algo.selectors.backtests import FEWEST, MOST, backtests_compare, has_report
from algo.selectors.rights import may_act_on_run
from algo.services.backtest_money import Money
from algo.services.backtests import BacktestAsked, BacktestRefused, backtest_cancel, backtest_request
from providers.clock import clock_from_env
from providers.types import Resolution


class BacktestFilter(filters.FilterSet):
    status = AnyOfFilter(choices=RunStatus.choices)
    config = IdFilter(field_name="config_id", label="Id of the strategy")
    market = filters.CharFilter(
        field_name="market__symbol", lookup_expr="iexact", label="Symbol as the exchange spells it"
    )

    class Meta:
        model = BacktestRun
        fields = ["strategy", "resolution"]


class BacktestSerializer(serializers.ModelSerializer[BacktestRun]):
    """A run as lists show it. The figures are those of its own fill model."""

    config_name = serializers.CharField(source="config.name", default=None, allow_null=True)
    market = MarketSerializer()
    requested_by = serializers.CharField(source="requested_by.username", default=None, allow_null=True)

    class Meta:
        model = BacktestRun
        fields: tuple[str, ...] = (
            "id",
            "config",
            "config_name",
            "strategy",
            "parameters",
            "market",
            "resolution",
            "asked",
            "requested_by",
            "status",
            "progress",
            "error",
            "net_profit_percent",
            "sharpe",
            "max_drawdown_percent",
            "win_rate_percent",
            "deals",
            "data_from",
            "data_to",
            "candles",
            "data_fingerprint",
            "code_version",
            "strategy_fingerprint",
            "created_at",
            "started_at",
            "finished_at",
        )


class BacktestDetailSerializer(BacktestSerializer):
    summary = serializers.DictField(
        help_text="The report, as `backtest_strategy --json` prints it; empty until it is done.", read_only=True
    )
    has_html = serializers.SerializerMethodField(help_text="Whether `html` has a report to give.")

    class Meta(BacktestSerializer.Meta):
        fields = (*BacktestSerializer.Meta.fields, "summary", "has_html")

    def get_has_html(self, run: BacktestRun) -> bool:
        return has_report(run)


class BacktestStartSerializer(KnownFields):
    """A config brings strategy, parameters, market, length of candles and sides; the rest overrules it."""

    config = serializers.PrimaryKeyRelatedField(
        queryset=StrategyConfig.objects.none(), required=False, allow_null=True, help_text="Id of a strategy."
    )
    strategy = serializers.CharField(required=False, max_length=64, help_text="Without a config: its class.")
    parameters = serializers.DictField(required=False, help_text="Those that are not the config's or the default.")
    market = serializers.PrimaryKeyRelatedField(
        queryset=Market.objects.all(), required=False, allow_null=True, help_text="Id of the market of the candles."
    )
    resolution = serializers.ChoiceField(choices=choices(Resolution), required=False)
    start = serializers.DateTimeField()
    end = serializers.DateTimeField(required=False, help_text="Not included; now where it is left out.")
    fee_percent = serializers.DecimalField(38, 18, required=False, allow_null=True)
    slippage_percent = serializers.DecimalField(38, 18, required=False, allow_null=True)
    balance = serializers.DecimalField(38, 18, required=False, allow_null=True, help_text="In quote.")
    base_balance = serializers.DecimalField(38, 18, required=False, allow_null=True)
    sides = serializers.ChoiceField(choices=AllowedSides.choices, required=False)
    fill_model = serializers.ChoiceField(choices=choices(FillModel), default=FillModel.CONSERVATIVE.value)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if request := self.context.get("request"):
            cast(Any, self.fields["config"]).queryset = visible.strategies_visible(request.user)


class ComparedRowSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    values = serializers.ListField(child=serializers.CharField(), help_text="One for each run, in their order.")


class BacktestComparisonSerializer(serializers.Serializer[Any]):
    runs = BacktestSerializer(many=True)
    differences = ComparedRowSerializer(many=True, help_text="What the runs do not have in common.")
    figures = ComparedRowSerializer(many=True)


MONEY = ("fee_percent", "slippage_percent", "balance", "base_balance", "sides")


class BacktestViewSet(RowsViewSet):
    """Backtests: what a strategy would have earned, run by a worker. Newest first."""

    queryset = BacktestRun.objects.none()
    rows: ClassVar[Any] = visible.backtests_visible
    serializer_class = BacktestSerializer
    filterset_class = BacktestFilter
    ordering = ("-created_at", "-id")
    ordering_fields = ("id", "created_at", "net_profit_percent", "sharpe", "max_drawdown_percent", "deals")

    def get_queryset(self) -> QuerySet[BacktestRun]:
        rows = super().get_queryset()
        return rows.defer("summary", "charts") if self.action == "list" else rows

    def get_serializer_class(self) -> type[BacktestSerializer]:
        return BacktestSerializer if self.action == "list" else BacktestDetailSerializer

    def get_throttles(self) -> list[BaseThrottle]:
        more: list[BaseThrottle] = [BacktestThrottle()] if self.action == "create" else []
        return [*super().get_throttles(), *more]

    @extend_schema(request=BacktestStartSerializer, responses={201: BacktestDetailSerializer})
    def create(self, request: Request) -> Response:
        """Start one. It is queued, and a worker downloads what candles are missing: ask for it again and look at
        `status` and `progress`. Twelve a minute; twenty of one user may wait. For Traders and Admins."""
        if not cast(User, request.user).has_perm("algo.add_backtestrun"):
            raise PermissionDenied(gettext("Only a Trader or an Admin may start a backtest. Nothing was started."))
        given = BacktestStartSerializer(data=request.data, context=self.get_serializer_context())
        given.is_valid(raise_exception=True)
        now = clock_from_env().now()
        try:
            run = backtest_request(_asked(given.validated_data, now), user=cast(User, request.user), now=now)
        except BacktestRefused as exc:
            raise ValidationError(_by_field(exc.errors)) from exc
        backtest_enqueue(run.pk)
        return Response(BacktestDetailSerializer(run).data, status=201)

    @extend_schema(request=None, responses=BacktestDetailSerializer)
    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, pk: str | None = None) -> Response:
        """Cancel one that waits or runs; its worker stops at its next step. One that has ended stays as it is. One's
        own, and those of strategies on accounts one may act on."""
        run = self.get_object()
        if not may_act_on_run(request.user, run):
            raise PermissionDenied(gettext("It was started by somebody else, on an account you may only look at."))
        backtest_cancel(run, clock_from_env().now(), by=actor(request))
        return Response(BacktestDetailSerializer(self.get_queryset().get(pk=run.pk)).data)

    @extend_schema(
        responses={(200, "text/html"): OpenApiResponse(OpenApiTypes.STR, description="One self-contained document.")}
    )
    @action(detail=True, methods=["get"])
    def html(self, request: Request, pk: str | None = None) -> HttpResponse:
        """Its report with charts: one file that opens without a network."""
        run = self.get_object()
        if not has_report(run):
            raise NotFound("There is no report: the backtest is not done, or an earlier version stored it.")
        return html_report_response(run)

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "ids",
                {"type": "string", "pattern": "^[0-9]{1,19}(,[0-9]{1,19}){1,5}$"},
                required=True,
                description="Two to six ids: `1,2`.",
            )
        ],
        responses=BacktestComparisonSerializer,
        filters=False,
    )
    @action(detail=False, methods=["get"], pagination_class=None, filterset_class=None, query_parameters=["ids"])
    def compare(self, request: Request) -> Response:
        """Two to six that are done, side by side."""
        wanted = _ids(request.query_params.get("ids", ""))
        found = {run.pk: run for run in self.get_queryset().filter(pk__in=wanted, status=RunStatus.DONE)}
        if missing := [str(pk) for pk in wanted if pk not in found]:
            raise ValidationError({"ids": [f"There is no backtest that is done with the id {', '.join(missing)}."]})
        runs = [found[pk] for pk in wanted]
        told = {"runs": runs, **backtests_compare(runs)}
        return Response(BacktestComparisonSerializer(cast(Any, told)).data)


def _asked(given: Mapping[str, Any], now: Any) -> BacktestAsked:
    return BacktestAsked(
        config=given.get("config"),
        strategy=given.get("strategy", ""),
        parameters=given.get("parameters", {}),
        market=given.get("market"),
        resolution=given.get("resolution", ""),
        start=given["start"],
        end=given.get("end", now),
        money=Money(**{name: given.get(name) for name in MONEY}, fill_model=FillModel(given["fill_model"])),
    )


def _by_field(errors: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """What belongs to no field where the framework keeps such errors."""
    return {"non_field_errors" if at == "__all__" else at: texts for at, texts in errors.items()}


def _ids(text: str) -> list[int]:
    parts = [id_of(part) for part in text.split(",")]
    ids = list(dict.fromkeys(part for part in parts if part is not None))
    if len(ids) != len(parts) or not FEWEST <= len(ids) <= MOST:
        raise ValidationError({"ids": [f"Name {FEWEST} to {MOST} different backtests by their ids: ids=1,2"]})
    return ids
