"""Searches for parameters over REST: look, begin, stop."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar, cast

import django_filters as filters
from django.conf import settings
from django.contrib.auth.models import User
from django.utils.translation import gettext
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.access import actor
from algo.api.acts import NO_WORKERS, KnownFields, WorkersAway
from algo.api.filters import AnyOfFilter
from algo.api.rows import RowsViewSet
from algo.api.serializers import MarketSerializer
from algo.backtest import BacktestSettings
from algo.backtest.search import Objective
from algo.backtest.space import SpaceRefused, space_of
from algo.models import Market, OptimisationRun, OptimisationStatus, SearchMethod
from algo.models.fields import choices
from algo.queues import NoBroker, search_hand_out
from algo.selectors import visible
from algo.selectors.candles import candles_range
from algo.selectors.rights import may_act_on_run
from algo.services.optimisation_evidence import optimisation_report
from algo.services.optimisations import (
    GRID,
    TPE,
    OptimisationRefused,
    Wanted,
    optimisation_create,
    optimisation_hand_over,
    optimisation_stop,
    warmup_of,
)
from algo.strategies import InvalidParameters, schema_for, strategy_names
from algo.strategies.schemas import validate_parameters
from providers.clock import clock_from_env
from providers.types import Resolution, Side

WORKERS = 2  # messages for each search
LONGEST = timedelta(days=3650)


class OptimisationFilter(filters.FilterSet):
    market = filters.CharFilter(field_name="market__symbol", lookup_expr="iexact", label="Symbol")
    status = AnyOfFilter(choices=OptimisationStatus.choices)

    class Meta:
        model = OptimisationRun
        fields = ["strategy"]


class OptimisationSerializer(serializers.ModelSerializer[OptimisationRun]):
    market = MarketSerializer(allow_null=True)
    progress_percent = serializers.FloatField(help_text="Of the search, without the tests that follow it.")
    verdict = serializers.CharField(
        source="verdict.verdict", default=None, allow_null=True, help_text="holds, doubtful, luck or nothing."
    )
    sentence = serializers.CharField(source="verdict.sentence", default=None, allow_null=True)

    class Meta:
        model = OptimisationRun
        fields: tuple[str, ...] = (
            *("id", "name", "strategy", "market", "resolution", "data_from", "data_to", "method", "objectives", "seed"),
            *("status", "progress_percent", "trials_wanted", "trials_done", "trials_refused", "best", "note"),
            *("verdict", "sentence", "created_at", "worked_at", "finished_at"),
        )


class OptimisationDetailSerializer(OptimisationSerializer):
    report = serializers.SerializerMethodField(help_text="Everything found so far, as the command's --json prints it.")

    class Meta(OptimisationSerializer.Meta):
        fields = (*OptimisationSerializer.Meta.fields, "report")

    def get_report(self, run: OptimisationRun) -> dict[str, Any]:
        return optimisation_report(run)


class OptimisationBeginSerializer(KnownFields):
    name = serializers.CharField(max_length=120, help_text="To find it again; free.")
    strategy = serializers.ChoiceField(choices=strategy_names())
    market = serializers.PrimaryKeyRelatedField(queryset=Market.objects.all())
    resolution = serializers.ChoiceField(choices=choices(Resolution), default=Resolution.M1.value)
    start = serializers.DateTimeField(help_text="First candle that is judged. Candles must be stored already.")
    end = serializers.DateTimeField(help_text="Not included.")
    parameters = serializers.DictField(required=False, default=dict, help_text="Those that are not searched.")
    space = serializers.ListField(
        child=serializers.CharField(max_length=400),
        required=False,
        default=list,
        help_text="As --space: breakout_period=10:40:5, volume_threshold=1,1.5,2.",
    )
    method = serializers.ChoiceField(choices=SearchMethod.choices, default=TPE)
    objectives = serializers.ListField(
        child=serializers.ChoiceField(choices=[*map(str, Objective)]), default=["sharpe"], min_length=1
    )
    trials = serializers.IntegerField(default=200, min_value=1, max_value=10_000)
    min_deals = serializers.IntegerField(default=30, min_value=1)
    test_percent = serializers.IntegerField(default=30, min_value=0, max_value=80)
    walk_forward = serializers.IntegerField(default=0, min_value=0, max_value=100)
    seed = serializers.IntegerField(default=0, min_value=0, max_value=2**31 - 1)
    balance = serializers.DecimalField(
        max_digits=38,
        decimal_places=18,
        min_value=Decimal("0.00000001"),
        default=Decimal(10_000),
        help_text="In quote.",
    )
    sides = serializers.ChoiceField(choices=["BUY", "SELL", "BOTH"], default="BUY")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs["start"] < attrs["end"] <= attrs["start"] + LONGEST:
            raise ValidationError({"end": [gettext("must lie after start, at most ten years")]})
        return attrs


class OptimisationViewSet(RowsViewSet):
    """Searches for parameters: what was asked, how far each is, what was found and what it is worth."""

    queryset = OptimisationRun.objects.none()
    rows: ClassVar[Any] = visible.optimisations_visible
    serializer_class = OptimisationSerializer
    filterset_class = OptimisationFilter
    ordering = ("-created_at", "-id")
    ordering_fields = ("id", "created_at", "finished_at")

    def get_serializer_class(self) -> type[OptimisationSerializer]:
        return OptimisationSerializer if self.action == "list" else OptimisationDetailSerializer

    @extend_schema(request=OptimisationBeginSerializer, responses={201: OptimisationDetailSerializer, 503: NO_WORKERS})
    @action(detail=False, methods=["post"])
    def begin(self, request: Request) -> Response:
        """Begin a search on stored candles, by the workers. Needs the permission `algo.add_optimisationrun`."""
        user = cast(User, request.user)
        if not user.has_perm("algo.add_optimisationrun"):
            raise PermissionDenied(gettext("Searches need the permission to add an optimisation. Nothing was begun."))
        given = OptimisationBeginSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        now = clock_from_env().now()
        try:
            run = optimisation_create(_wanted(given.validated_data), now=now, requested_by=user)
        except SpaceRefused as exc:
            raise ValidationError({"space": [str(exc)]}) from exc
        except InvalidParameters as exc:
            raise ValidationError({"parameters": [str(exc)]}) from exc
        except OptimisationRefused as exc:
            raise ValidationError(str(exc)) from exc
        optimisation_hand_over(run, now=now)
        try:
            search_hand_out(run.pk, jobs=WORKERS)
        except NoBroker as exc:
            optimisation_stop(run, by=actor(request), at=now)
            raise WorkersAway(
                gettext("%(why)s. The search is kept, stopped; nothing was searched.") % {"why": exc}
            ) from exc
        return Response(OptimisationDetailSerializer(run).data, status=201)

    @extend_schema(request=None, responses=OptimisationDetailSerializer)
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str | None = None) -> Response:
        """Stop a search; what was found is kept. One's own, or as an Admin anybody's."""
        run: OptimisationRun = self.get_object()
        user = cast(User, request.user)
        if not may_act_on_run(user, run):
            raise PermissionDenied(gettext("Only who began a search, or an Admin, can stop it."))
        optimisation_stop(run, by=actor(request), at=clock_from_env().now())
        return Response(OptimisationDetailSerializer(self.get_queryset().get(pk=run.pk)).data)


def _wanted(asked: dict[str, Any]) -> Wanted:
    """With the candles the widest set needs to warm up. SpaceRefused, InvalidParameters, OptimisationRefused."""
    schema, market = schema_for(asked["strategy"]), asked["market"]
    parameters = validate_parameters(schema, asked["parameters"]).model_dump(mode="json")
    space = space_of(schema, asked["space"], fixed=list(asked["parameters"]))
    space = space.thinned(5) if asked["method"] == GRID else space
    resolution = Resolution(asked["resolution"])
    before = warmup_of(asked["strategy"], parameters, space) * resolution.duration
    candles = candles_range(market, resolution, asked["start"] - before, asked["end"])
    both = frozenset(Side)
    return Wanted(
        name=asked["name"],
        strategy=asked["strategy"],
        parameters=parameters,
        candles=candles,
        market=market,
        rules=market.rules,
        settings=BacktestSettings(
            resolution=resolution,
            starting_quote=asked["balance"],
            allowed_sides=both if asked["sides"] == "BOTH" else frozenset({Side(asked["sides"])}),
            max_position_size_percent=settings.MAX_POSITION_SIZE_PERCENT,
            time_zone=settings.TRADING_DAY_TIME_ZONE,
        ),
        space=space,
        objectives=[Objective(each) for each in dict.fromkeys(asked["objectives"])],
        **{name: asked[name] for name in ("method", "trials", "min_deals", "test_percent", "walk_forward", "seed")},
    )
