"""Markets and their candles over REST: rules, the last quote, stored candles, what is missing of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import django_filters as filters
from django.utils.translation import gettext
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.access import actor
from algo.api.acts import KnownFields, refusals
from algo.api.filters import AnyOfFilter, IdFilter, YesNoFilter
from algo.api.rows import RowsViewSet
from algo.api.serializers import AmountText, MarketSerializer, ModelText
from algo.localised import day, digits
from algo.models import CandleFetch, Market, MarketQuote, RunStatus
from algo.models.fields import choices
from algo.models.market import Provider
from algo.selectors import visible
from algo.selectors.candles import CandlePage, candles_coverage, candles_page
from algo.services.candle_fetches import FetchRefused, candle_fetch_request
from providers.clock import clock_from_env
from providers.types import Resolution

MOST_CANDLES = 5000  # of one answer
USUAL_CANDLES = 500
COVERED = timedelta(days=30)  # unless asked for another period
MOST_COVERED = 1_000_000  # candles that a look at the gaps reads
MOST_GAPS = 1000
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
COLUMNS = ("open_time", "open", "high", "low", "close", "volume")


class MarketFilter(filters.FilterSet):
    provider = filters.ChoiceFilter(choices=Provider.choices)
    symbol = filters.CharFilter(lookup_expr="iexact", label="As the exchange spells it")
    pair = filters.CharFilter(lookup_expr="iexact", label="The same on every exchange, as `BTC/USDT`")
    base = filters.CharFilter(lookup_expr="iexact")
    quote = filters.CharFilter(lookup_expr="iexact")
    is_open = YesNoFilter(label="Listed and open at the exchange")

    class Meta:
        model = Market
        fields: list[str] = []


class QuoteSerializer(ModelText[MarketQuote]):
    class Meta:
        model = MarketQuote
        fields = ("bid", "ask", "last", "as_of", "received_at")


class MarketRowSerializer(ModelText[Market]):
    """A market with the rules that its exchange states. Rates and bands are fractions: 0.003 is 0.3 %."""

    last_quote = QuoteSerializer(
        source="streamed_quote", allow_null=True, default=None, help_text="As its stream told it last; may be old."
    )

    class Meta:
        model = Market
        fields = (
            "id",
            "provider",
            "symbol",
            "pair",
            "base",
            "quote",
            "is_open",
            "allows_market_orders",
            "tick_size",
            "step_size",
            "min_quantity",
            "min_notional",
            "maker_fee_rate",
            "taker_fee_rate",
            "market_band",
            "price_band",
            "refreshed_at",
            "last_quote",
        )


class PeriodSerializer(serializers.Serializer[Any]):
    """Of which candles, and of when. Times without an offset are UTC."""

    resolution = serializers.ChoiceField(choices=choices(Resolution), help_text="Minutes, or days with a D.")

    def get_fields(self) -> dict[str, Any]:
        """`from` is no name in Python."""
        words = {"from": "Open time of the first candle.", "to": "Candles that open before."}
        return super().get_fields() | {
            name: serializers.DateTimeField(required=False, help_text=text) for name, text in words.items()
        }

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if early := [name for name in ("from", "to") if name in attrs and attrs[name] < EARLIEST]:
            words = gettext("No exchange is as old: %(earliest)s at the earliest.") % {"earliest": day(EARLIEST)}
            raise serializers.ValidationError(dict.fromkeys(early, words))
        if "from" in attrs and "to" in attrs and attrs["from"] >= attrs["to"]:
            raise serializers.ValidationError({"to": gettext("It must lie after `from`.")})
        return attrs


class CandlesAskedSerializer(PeriodSerializer):
    limit = serializers.IntegerField(default=USUAL_CANDLES, min_value=1, max_value=MOST_CANDLES)
    format = serializers.ChoiceField(choices=["json", "csv"], required=False, help_text="Before what `Accept` says.")


class CandleSerializer(serializers.Serializer[Any]):
    open_time = serializers.DateTimeField()
    open = AmountText(38, 18)
    high = AmountText(38, 18)
    low = AmountText(38, 18)
    close = AmountText(38, 18)
    volume = AmountText(38, 18, help_text="In base.")


class CandlesSerializer(serializers.Serializer[Any]):
    market = serializers.IntegerField(help_text="Its id.")
    resolution = serializers.CharField()
    next = serializers.DateTimeField(
        allow_null=True, help_text="Ask again with it as `from`; null where that was all, and without a `from`."
    )
    candles = CandleSerializer(many=True, help_text="Closed ones, oldest first. A gap stays a gap.")


class GapSerializer(serializers.Serializer[Any]):
    start = serializers.DateTimeField(help_text="Open time of the first missing candle.")
    end = serializers.DateTimeField(help_text="Not included.")
    bars = serializers.IntegerField()


class CoverageSerializer(serializers.Serializer[Any]):
    market = serializers.IntegerField(help_text="Its id.")
    resolution = serializers.CharField()
    stored = serializers.IntegerField()
    missing = serializers.IntegerField()
    first = serializers.DateTimeField(allow_null=True, help_text="Open time of the first stored candle of the period.")
    last = serializers.DateTimeField(allow_null=True)
    gap_count = serializers.IntegerField()
    gaps = GapSerializer(many=True, help_text=f"Oldest first, at most {MOST_GAPS}.")

    def get_fields(self) -> dict[str, Any]:
        return super().get_fields() | {name: serializers.DateTimeField() for name in ("from", "to")}


class CandleFetchSerializer(serializers.ModelSerializer[CandleFetch]):
    """Candles that were asked for, and how far workers are with them."""

    market = MarketSerializer()

    class Meta:
        model = CandleFetch
        fields = (
            "id",
            "market",
            "resolution",
            "start",
            "end",
            "status",
            "reached",
            "new",
            "missing",
            "error",
            "created_at",
            "finished_at",
        )


class CandleFetchFilter(filters.FilterSet):
    market = IdFilter(field_name="market_id", label="Id of the market")
    status = AnyOfFilter(choices=RunStatus.choices)

    class Meta:
        model = CandleFetch
        fields: list[str] = []


class FetchAskedSerializer(KnownFields, PeriodSerializer):
    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        fields["from"] = serializers.DateTimeField(help_text="Open time of the first candle.")
        fields["to"].help_text = "Candles that open before; now where it is left out."
        return fields


class CandlesJSON(JSONRenderer):
    """Puts in the candles as the database said them."""

    def render(self, data: Any, *args: Any, **kwargs: Any) -> bytes:
        page = data.get("candles")
        if not isinstance(page, CandlePage):
            return bytes(super().render(data, *args, **kwargs))
        around = super().render({**data, "candles": []}, *args, **kwargs)
        return bytes(around.replace(b'"candles":[]', b'"candles":[' + ",".join(page.lines).encode() + b"]"))


class CandleCSV(BaseRenderer):
    """A header and a line for each candle. `X-Next-From` is the `next` of the JSON."""

    media_type = "text/csv"
    format = "csv"

    def render(self, data: Any, *_: Any) -> bytes:
        return "".join(f"{line}\r\n" for line in (",".join(COLUMNS), *data["candles"].lines)).encode()


class MarketViewSet(RowsViewSet):
    """Markets of both exchanges: their rules as last stated, and their candles."""

    queryset = Market.objects.none()
    rows: ClassVar[Any] = visible.markets_visible
    serializer_class = MarketRowSerializer
    filterset_class = MarketFilter
    ordering = ("provider", "symbol")
    ordering_fields = ("id", "provider", "symbol", "base", "quote", "refreshed_at")

    @extend_schema(
        parameters=[CandlesAskedSerializer],
        responses={
            (200, "application/json"): CandlesSerializer,
            (200, "text/csv"): OpenApiResponse(OpenApiTypes.STR, description="A header and a line for each candle."),
        },
        filters=False,
    )
    @action(
        detail=True,
        methods=["get"],
        pagination_class=None,
        filterset_class=None,
        renderer_classes=(CandlesJSON, CandleCSV),
        query_parameters=["resolution", "from", "to", "limit", "format"],
    )
    def candles(self, request: Request, pk: str | None = None, **_: Any) -> Response:
        """Stored candles, as JSON or CSV (`format=csv`, or `Accept: text/csv`). With `from`, onward from there; without
        it the newest ones. Amounts are exact text, prices in quote, toman markets in toman."""
        asked = _asked(CandlesAskedSerializer, request)
        resolution = Resolution(asked["resolution"])
        if "format" in asked:
            request.accepted_renderer = CandleCSV() if asked["format"] == "csv" else CandlesJSON()
        market = self.get_object()
        page = candles_page(
            market,
            resolution,
            limit=asked["limit"],
            start=asked.get("from"),
            end=asked.get("to"),
            as_csv=isinstance(request.accepted_renderer, CandleCSV),
        )
        told = {"market": market.pk, "resolution": resolution.value, "next": page.next, "candles": page}
        return Response(told, headers={"X-Next-From": page.next or ""})

    @extend_schema(parameters=[PeriodSerializer], responses=CoverageSerializer, filters=False)
    @action(
        detail=True,
        methods=["get"],
        url_path="candles/coverage",
        pagination_class=None,
        filterset_class=None,
        query_parameters=["resolution", "from", "to"],
    )
    def coverage(self, request: Request, pk: str | None = None) -> Response:
        """How much of a period is stored and where candles are missing; of the last 30 days, unless asked. A candle
        that still runs is not missing."""
        asked = _asked(PeriodSerializer, request)
        market, resolution, now = self.get_object(), Resolution(asked["resolution"]), clock_from_env().now()
        end = min(asked.get("to", now), now)
        start = asked.get("from") or end - COVERED
        if (end - start) / resolution.duration > MOST_COVERED:
            raise serializers.ValidationError(
                {
                    "from": gettext(
                        "That is more than %(most_covered)s candles. Choose a shorter period or longer candles."
                    )
                    % {"most_covered": digits(f"{MOST_COVERED:,}")}
                }
            )
        found = candles_coverage(market, resolution, start, max(start, end))
        told = {
            "market": market.pk,
            "resolution": resolution.value,
            "from": start,
            "to": end,
            "stored": found.stored,
            "missing": found.missing,
            "first": found.first,
            "last": found.last,
            "gap_count": len(found.gaps),
            "gaps": found.gaps[:MOST_GAPS],
        }
        return Response(CoverageSerializer(told).data)

    @extend_schema(request=FetchAskedSerializer, responses={202: CandleFetchSerializer})
    @action(detail=True, methods=["post"], url_path="candles/fetch")
    def fetch(self, request: Request, pk: str | None = None) -> Response:
        """Have workers fetch the candles of a period that are not stored yet: at most 100,000, a few pages every five
        seconds, so that running strategies keep their calls. Ask `/candle-fetches/ID` how far it is. The same request
        twice is once. For Traders and Admins."""
        market, now = self.get_object(), clock_from_env().now()
        given = FetchAskedSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        with refusals():
            try:
                fetch = candle_fetch_request(
                    market,
                    Resolution(asked["resolution"]),
                    start=asked["from"],
                    end=asked.get("to", now),
                    by=actor(request),
                    at=now,
                )
            except FetchRefused as exc:
                raise serializers.ValidationError({exc.field: [str(exc)]} if exc.field else str(exc)) from exc
        return Response(CandleFetchSerializer(fetch).data, status=status.HTTP_202_ACCEPTED)


class CandleFetchViewSet(RowsViewSet):
    """Candles that people asked for, and what became of it."""

    queryset = CandleFetch.objects.none()
    rows: ClassVar[Any] = visible.candle_fetches_visible
    serializer_class = CandleFetchSerializer
    filterset_class = CandleFetchFilter
    ordering = ("-created_at", "-id")
    ordering_fields = ("id", "created_at", "finished_at")


def _asked(kind: type[PeriodSerializer], request: Request) -> dict[str, Any]:
    """What was asked for. Raises ValidationError."""
    given = kind(data=request.query_params)
    given.is_valid(raise_exception=True)
    return dict(given.validated_data)
