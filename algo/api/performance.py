"""What deals earned, over REST: by strategy, by market, by day, as a curve, and at what risk."""

from __future__ import annotations

from typing import Any, ClassVar

from django.utils.translation import gettext
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from algo.api.base import ApiView
from algo.api.fields import DayField
from algo.api.filters import LARGEST_ID
from algo.api.serializers import AmountText, SaidAlike
from algo.models import CloseReason
from algo.selectors import performance
from algo.selectors.performance import Chosen, Period
from providers.clock import clock_from_env

DAYS, MOST_DAYS = 31, 500


def _amount(**more: Any) -> AmountText:
    return AmountText(max_digits=None, decimal_places=18, **more)


class ChosenSerializer(serializers.Serializer[Any]):
    account = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID, help_text="Id of an account.")
    strategy = serializers.IntegerField(
        required=False, min_value=1, max_value=LARGEST_ID, help_text="Id of a strategy."
    )
    market = serializers.IntegerField(required=False, min_value=1, max_value=LARGEST_ID, help_text="Id of a market.")

    def get_fields(self) -> dict[str, Any]:
        """`from` is no name in Python."""
        words = {"from": "First trading day of their end, as 2026-11-02.", "to": "Last one, included."}
        dates = {name: DayField(required=False, help_text=text) for name, text in words.items()}
        return super().get_fields() | dates

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "from" in attrs and "to" in attrs and attrs["from"] > attrs["to"]:
            raise serializers.ValidationError({"to": gettext("It is before `from`.")})
        return attrs


class CurveChosenSerializer(ChosenSerializer):
    period = serializers.ChoiceField(choices=[each.value for each in Period], default=Period.DAY.value)


class DaysChosenSerializer(ChosenSerializer):
    limit = serializers.IntegerField(
        default=DAYS, min_value=1, max_value=MOST_DAYS, help_text="How many trading days, from the newest on."
    )


class FiguresSerializer(SaidAlike, serializers.Serializer[Any]):
    """Of closed deals in one quote currency; amounts in it. Toman of both exchanges is `IRT`."""

    quote = serializers.CharField()
    deals = serializers.IntegerField()
    wins = serializers.IntegerField()
    losses = serializers.IntegerField()
    profit = _amount(help_text="Realised, after fees.")
    fees = _amount()
    notional = _amount(help_text="Entry price x entry quantity.")
    win_rate_percent = serializers.FloatField(allow_null=True)
    profit_factor = serializers.FloatField(allow_null=True, help_text="Won over lost; null without a loss.")
    expectancy = _amount(allow_null=True, help_text="Profit of a deal on average.")
    average_win = _amount(allow_null=True)
    average_loss = _amount(allow_null=True, help_text="As a positive amount.")
    average_r = serializers.FloatField(allow_null=True, help_text="Profit in multiples of what the first stop risked.")
    average_hold_seconds = serializers.FloatField(allow_null=True)
    unprotected_seconds = _amount()


class PartSerializer(SaidAlike, serializers.Serializer[Any]):
    id = serializers.IntegerField(allow_null=True, help_text="Of the strategy or market; null for a day.")
    name = serializers.CharField(help_text="Of the strategy, of the market, or the trading day.")
    figures = FiguresSerializer()


class PartsSerializer(serializers.Serializer[Any]):
    time_zone = serializers.CharField(help_text="Of the trading day.")
    results = PartSerializer(many=True)


class DaysSerializer(PartsSerializer):
    next = serializers.URLField(allow_null=True, help_text="Where the days before these are; null at the first day.")


class ReasonSerializer(serializers.Serializer[Any]):
    reason = serializers.ChoiceField(choices=CloseReason.choices)
    deals = serializers.IntegerField()
    share_percent = serializers.FloatField()
    profit = _amount()
    average_r = serializers.FloatField(allow_null=True)


class FallSerializer(serializers.Serializer[Any]):
    """Deepest fall of the realised curve, at the ends of trading days."""

    amount = _amount()
    peak = serializers.DateField(allow_null=True)
    trough = serializers.DateField(allow_null=True)
    recovered = serializers.DateField(allow_null=True)


class ExposureSerializer(serializers.Serializer[Any]):
    held_percent = serializers.FloatField(
        allow_null=True, help_text="Time in the market, of the accounts' markets that were traded."
    )
    average_deals = serializers.FloatField(allow_null=True, help_text="Held at once, on average.")
    most_deals = serializers.IntegerField(allow_null=True, help_text="Held at once; null beyond 50,000 deals.")


class RiskSerializer(serializers.Serializer[Any]):
    figures = FiguresSerializer()
    reasons = ReasonSerializer(many=True)
    drawdown = FallSerializer()
    exposure = ExposureSerializer()


class RisksSerializer(serializers.Serializer[Any]):
    time_zone = serializers.CharField()
    results = RiskSerializer(many=True, help_text="One for each quote currency.")


class PointSerializer(SaidAlike, serializers.Serializer[Any]):
    quote = serializers.CharField()
    start = serializers.DateField(help_text="First trading day of the period.")
    deals = serializers.IntegerField()
    profit = _amount()
    equity = _amount(help_text="All profits up to the end of the period.")


class CurveSerializer(serializers.Serializer[Any]):
    time_zone = serializers.CharField()
    results = PointSerializer(many=True)


class PerformanceView(ApiView):
    """Closed deals one may see, added up exactly. Currencies are never added to one another."""

    answer: ClassVar[type[serializers.Serializer[Any]]] = PartsSerializer
    asked: ClassVar[type[ChosenSerializer]] = ChosenSerializer

    def known_parameters(self) -> list[str]:
        return [*self.asked().fields]

    def results(self, user: Any, chosen: Chosen, given: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def answered(self, request: Request) -> Response:
        asked = self.asked(data=request.query_params)
        asked.is_valid(raise_exception=True)
        given = asked.validated_data
        chosen = Chosen(
            given.get("account"), given.get("strategy"), given.get("market"), given.get("from"), given.get("to")
        )
        told: Any = {"time_zone": performance.zone_of_days(), **self.results(request.user, chosen, given)}
        return Response(self.answer(told).data)


class ByStrategyView(PerformanceView):
    @extend_schema(parameters=[ChosenSerializer], responses=PartsSerializer, operation_id="performance_strategies")
    def get(self, request: Request) -> Response:
        """By strategy, and by quote where one traded in two."""
        return self.answered(request)

    def results(self, user: Any, chosen: Chosen, given: dict[str, Any]) -> dict[str, Any]:
        return {"results": performance.performance_by_strategy(user, chosen)}


class ByMarketView(PerformanceView):
    @extend_schema(parameters=[ChosenSerializer], responses=PartsSerializer, operation_id="performance_markets")
    def get(self, request: Request) -> Response:
        """By market."""
        return self.answered(request)

    def results(self, user: Any, chosen: Chosen, given: dict[str, Any]) -> dict[str, Any]:
        return {"results": performance.performance_by_market(user, chosen)}


class ByDayView(PerformanceView):
    answer = DaysSerializer
    asked = DaysChosenSerializer

    @extend_schema(parameters=[DaysChosenSerializer], responses=DaysSerializer, operation_id="performance_days")
    def get(self, request: Request) -> Response:
        """By trading day on which deals ended, newest first."""
        return self.answered(request)

    def results(self, user: Any, chosen: Chosen, given: dict[str, Any]) -> dict[str, Any]:
        parts, older = performance.performance_by_day(user, chosen, given["limit"])
        here = self.request.build_absolute_uri()
        return {"results": parts, "next": None if older is None else replace_query_param(here, "to", older.isoformat())}


class EquityView(PerformanceView):
    answer = CurveSerializer
    asked = CurveChosenSerializer

    @extend_schema(parameters=[CurveChosenSerializer], responses=CurveSerializer, operation_id="performance_equity")
    def get(self, request: Request) -> Response:
        """Realised profit added up from 0; weeks begin on Monday, periods without a deal are left out."""
        return self.answered(request)

    def results(self, user: Any, chosen: Chosen, given: dict[str, Any]) -> dict[str, Any]:
        return {"results": performance.equity_curve(user, chosen, Period(given["period"]))}


class RiskView(PerformanceView):
    answer = RisksSerializer

    @extend_schema(parameters=[ChosenSerializer], responses=RisksSerializer, operation_id="performance_risk")
    def get(self, request: Request) -> Response:
        """All figures, how deals closed, drawdown, exposure."""
        return self.answered(request)

    def results(self, user: Any, chosen: Chosen, given: dict[str, Any]) -> dict[str, Any]:
        return {"results": performance.performance_risk(user, chosen, clock_from_env().now())}
