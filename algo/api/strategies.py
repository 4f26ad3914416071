"""Strategies over REST: look, check, write, start and stop, and lead back to what was."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar, cast

from django.shortcuts import get_object_or_404
from django.utils.translation import gettext
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from algo import exchanges
from algo.api import filters
from algo.api.access import actor
from algo.api.acts import CONFLICT, NO_WORKERS, Conflict, KnownFields, ReasonSerializer, reason_of, refusals
from algo.api.rows import RowsViewSet
from algo.api.serializers import ProtectionModeName, StrategySerializer
from algo.api.throttling import BacktestThrottle
from algo.models import Account, AllowedSides, Door, Market, StrategyConfig, TokenScope
from algo.models.fields import choices
from algo.queues import evaluate_hint
from algo.selectors import visible
from algo.selectors.strategy_changes import config_changes, version_count, version_id
from algo.selectors.strategy_checks import newest_check
from algo.sentences import capitalised
from algo.services.control import strategy_ordering_set, strategy_start, strategy_stop
from algo.services.strategy_acts import (
    PEOPLE_SET,
    WHOLE,
    ChangedMeanwhile,
    StrategyRefused,
    strategy_clone,
    strategy_create,
    strategy_delete,
    strategy_problems,
    strategy_roll_back,
    strategy_run_now,
    strategy_update,
)
from algo.services.strategy_configs import Problems, config_warnings, parameters_clean, parameters_to_store
from algo.services.strategy_preview import strategy_played
from algo.services.strategy_versions import config_fingerprint
from algo.strategies.strategy_factory import schema_for, strategy_class, strategy_names
from providers.clock import clock_from_env
from providers.types import Resolution

_PREVIEW_LIMITS = (*RowsViewSet.throttle_classes, BacktestThrottle)
SHOWN_VERSIONS, MOST_VERSIONS = 20, 100


class CheckSerializer(serializers.Serializer[Any]):
    passed = serializers.BooleanField()
    summary = serializers.CharField()
    source = serializers.CharField(help_text="Over which candles.")  # type: ignore[assignment]
    checked_at = serializers.DateTimeField()


class StrategyDetailSerializer(StrategySerializer):
    version = serializers.SerializerMethodField(help_text="Of its newest change. Send it back as `seen_version`.")
    protection_mode = serializers.SerializerMethodField(help_text="That of its account; null: not probed.")
    problems = serializers.SerializerMethodField(help_text="What keeps it from running.")
    warnings = serializers.SerializerMethodField(help_text="For example that its target does not pay the fees.")
    check = serializers.SerializerMethodField(
        help_text="The last bias check of this version; null: never checked, starting it does."
    )

    class Meta(StrategySerializer.Meta):
        fields = (  # type: ignore[assignment]
            *StrategySerializer.Meta.fields,
            "version",
            "protection_mode",
            "problems",
            "warnings",
            "check",
        )

    def to_representation(self, config: StrategyConfig) -> Any:
        self._problems = strategy_problems(config)
        return super().to_representation(config)

    def get_version(self, config: StrategyConfig) -> int:
        return version_count(config)

    @extend_schema_field(ProtectionModeName(allow_null=True))
    def get_protection_mode(self, config: StrategyConfig) -> str | None:
        mode = config.account.protection
        return None if mode is None else mode.name

    def get_problems(self, config: StrategyConfig) -> list[str]:
        return [f"{attr}: {text}" for attr, text in _listed(self._problems)]

    def get_warnings(self, config: StrategyConfig) -> list[str]:
        return [] if self._problems else config_warnings(config)

    @extend_schema_field(CheckSerializer(allow_null=True))
    def get_check(self, config: StrategyConfig) -> Any:
        found = newest_check(config, config_fingerprint(config))
        return None if found is None else CheckSerializer(found).data


class StrategyChangeSerializer(KnownFields):
    """What people set. Parameters that are not named stay as they are."""

    name = serializers.CharField(max_length=80, required=False)
    parameters = serializers.DictField(
        required=False, help_text="By name; `/strategies/schemas` tells types, bounds and defaults."
    )
    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.none(), required=False)
    data_market = serializers.PrimaryKeyRelatedField(
        queryset=Market.objects.all(), required=False, help_text="Where the candles come from."
    )
    market = serializers.PrimaryKeyRelatedField(
        queryset=Market.objects.all(), required=False, help_text="Where the orders go."
    )
    resolution = serializers.ChoiceField(choices=choices(Resolution), required=False)
    allowed_sides = serializers.ChoiceField(choices=AllowedSides.choices, required=False)
    ordering_enabled = serializers.BooleanField(
        required=False, help_text="Off: signals are recorded, nothing is ordered."
    )
    reason = serializers.CharField(
        max_length=400, required=False, allow_blank=True, help_text="Why: kept in the history and the audit log."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if user := self.context.get("user"):
            cast(Any, self.fields["account"]).queryset = visible.accounts_visible(user)


class StrategyPatchSerializer(StrategyChangeSerializer):
    seen_version = serializers.IntegerField(
        required=False,
        min_value=0,
        help_text="The `version` that was looked at: 409 `changed_meanwhile` where it is not the newest any more.",
    )


class StrategyCreateSerializer(StrategyChangeSerializer):
    """Stopped until it is started. Parameters that are not named get their defaults."""

    name = serializers.CharField(max_length=80)
    strategy = serializers.CharField(max_length=64, help_text="Its class; `/strategies/schemas` lists them.")

    def get_fields(self) -> dict[str, Any]:
        fields = super().get_fields()
        for name in ("account", "data_market", "market"):
            fields[name].required = True
        return fields


class ProblemLineSerializer(serializers.Serializer[Any]):
    attr = serializers.CharField(help_text="As in errors: `market`, `parameters.rsi_period`.")
    detail = serializers.CharField()


class StrategyVerdictSerializer(serializers.Serializer[Any]):
    valid = serializers.BooleanField()
    problems = ProblemLineSerializer(many=True, help_text="What would keep it from being saved.")
    warnings = serializers.ListField(child=serializers.CharField(), help_text="Of a valid one.")
    parameters = serializers.DictField(help_text="All of them, defaults filled in; empty where they are not valid.")
    protection_mode = ProtectionModeName(allow_null=True, help_text="Of the account; null: not probed.")


class PreviewSerializer(serializers.Serializer[Any]):
    candles = serializers.IntegerField(help_text="Of the last 30 days, stored.")
    missing = serializers.IntegerField(help_text="Of the last 30 days, not stored.")
    why_not = serializers.CharField(allow_blank=True, help_text="Why there is no report; empty where there is one.")
    warnings = serializers.ListField(child=serializers.CharField())
    report = serializers.DictField(
        allow_null=True, help_text="As the `summary` of a backtest: figures of both fill models."
    )


class StrategySchemaSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    parameters = serializers.DictField(help_text="JSON Schema: types, bounds, defaults, titles, help.")


class StrategyActSerializer(serializers.Serializer[Any]):
    done = serializers.BooleanField(help_text="False where it stood so already.")
    strategy = StrategyDetailSerializer()


class CloneSerializer(KnownFields):
    name = serializers.CharField(
        max_length=80, required=False, default="", help_text="“… (copy)” where it is left out."
    )


class FieldChangeSerializer(serializers.Serializer[Any]):
    field = serializers.CharField(help_text="`market`, `parameters.rsi_period` …")
    before = serializers.JSONField(help_text="Null where there was nothing.")
    after = serializers.JSONField()


class StrategyVersionSerializer(serializers.Serializer[Any]):
    version = serializers.IntegerField(help_text="Counts from 1, the oldest.")
    at = serializers.DateTimeField()
    who = serializers.CharField(allow_blank=True, help_text="A user's name; empty: the door did it.")
    door = serializers.ChoiceField(choices=Door.choices)
    kind = serializers.ChoiceField(choices=["created", "changed", "deleted"])
    why = serializers.CharField(allow_blank=True)
    changes = FieldChangeSerializer(many=True)
    values = serializers.DictField(help_text="Everything as it was then.")


class StrategyVersionsSerializer(serializers.Serializer[Any]):
    count = serializers.IntegerField()
    results = StrategyVersionSerializer(many=True, help_text="Newest first.")


class VersionsAskedSerializer(serializers.Serializer[Any]):
    newest = serializers.IntegerField(default=SHOWN_VERSIONS, min_value=1, max_value=MOST_VERSIONS)


VERSION = OpenApiParameter("version", OpenApiTypes.INT, OpenApiParameter.PATH, description="As the list tells it.")


class StrategyViewSet(RowsViewSet):
    """Strategies at work: rules, markets, account, state. Acts are for the Trader who owns the account, and Admins. No
    change touches a deal that is open."""

    queryset = StrategyConfig.objects.none()
    rows: ClassVar[Any] = visible.strategies_visible
    serializer_class = StrategySerializer
    filterset_class = filters.StrategyFilter
    ordering = ("name", "id")
    ordering_fields = ("id", "name", "updated_at")

    def get_serializer_class(self) -> Any:
        return StrategySerializer if self.action == "list" else StrategyDetailSerializer

    # --- writing ---

    @extend_schema(request=StrategyCreateSerializer, responses={201: StrategyDetailSerializer})
    def create(self, request: Request) -> Response:
        """Save a new one, stopped. Wrong parameters are named as `parameters.NAME`."""
        given = StrategyCreateSerializer(data=request.data, context={"user": request.user})
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        why = values.pop("reason", "")
        with _wrong_fields(), refusals():
            config = strategy_create(StrategyConfig(**values), by=actor(request), at=_now(), why=why)
        return Response(self._told(config.pk), status=status.HTTP_201_CREATED)

    @extend_schema(request=StrategyPatchSerializer, responses={200: StrategyDetailSerializer, 409: CONFLICT})
    def partial_update(self, request: Request, pk: str | None = None) -> Response:
        """Change what is named, and nothing else. Counts from the next deal on."""
        config = self.get_object()
        given = StrategyPatchSerializer(data=request.data, partial=True, context={"user": request.user})
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        more = {"why": values.pop("reason", ""), "seen_version": values.pop("seen_version", None)}
        more["some_parameters"] = values.pop("parameters", None)
        with _wrong_fields(), refusals():
            strategy_update(config, values, by=actor(request), at=_now(), **more)
        return Response(self._told(config.pk))

    @extend_schema(responses={204: None, 409: CONFLICT})
    def destroy(self, request: Request, pk: str | None = None) -> Response:
        """Remove one that never traded; its history stays. One with deals or signals is refused: stop it."""
        config = self.get_object()
        with _conflicts(), refusals():
            strategy_delete(config, by=actor(request), at=_now())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=StrategyCreateSerializer, responses=StrategyVerdictSerializer, filters=False)
    @action(
        detail=False,
        methods=["post"],
        pagination_class=None,
        filterset_class=None,
        scope_needed=TokenScope.READ,
        idempotent=False,
    )
    def validate(self, request: Request) -> Response:
        """Whether it could be saved, and what it should be warned about. Nothing is saved."""
        config = self._typed(request)
        found = strategy_problems(config)
        mode = config.account.protection
        verdict = {
            "valid": not found,
            "problems": [{"attr": attr, "detail": text} for attr, text in _listed(found)],
            "warnings": [] if found else config_warnings(config),
            "parameters": {} if found else parameters_to_store(parameters_clean(config.strategy, config.parameters)),
            "protection_mode": mode,
        }
        return Response(StrategyVerdictSerializer(cast(Any, verdict)).data)

    @extend_schema(request=StrategyCreateSerializer, responses=PreviewSerializer, filters=False)
    @action(
        detail=False, methods=["post"], pagination_class=None, filterset_class=None, throttle_classes=_PREVIEW_LIMITS
    )
    def preview(self, request: Request) -> Response:
        """What it would have done on the last 30 days, from stored candles, within five seconds. Nothing is saved or
        downloaded. As often as backtests may be started."""
        config = self._typed(request)
        if found := strategy_problems(config):
            raise ValidationError(_by_field(found))
        played = strategy_played(config, exchanges.public_provider, now=_now())
        told = {**asdict(played), "warnings": config_warnings(config)}
        return Response(PreviewSerializer(told).data)

    def _typed(self, request: Request) -> StrategyConfig:
        """What was sent, as a config that is not saved. Raises ValidationError."""
        given = StrategyCreateSerializer(data=request.data, context={"user": request.user})
        given.is_valid(raise_exception=True)
        return StrategyConfig(**{name: value for name, value in given.validated_data.items() if name != "reason"})

    @extend_schema(responses=StrategySchemaSerializer(many=True), filters=False)
    @action(detail=False, methods=["get"], pagination_class=None, filterset_class=None)
    def schemas(self, request: Request) -> Response:
        """The strategies there are, and the JSON Schema of their parameters."""
        rows = [
            {
                "name": name,
                "description": inspect.getdoc(strategy_class(name)) or "",
                "parameters": schema_for(name).model_json_schema(),
            }
            for name in strategy_names()
        ]
        return Response(StrategySchemaSerializer(rows, many=True).data)

    @extend_schema(request=CloneSerializer, responses={201: StrategyDetailSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def clone(self, request: Request, pk: str | None = None) -> Response:
        """The same once more, stopped, under another name."""
        config = self.get_object()
        given = CloneSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        with _wrong_fields(), refusals():
            copy = strategy_clone(config, by=actor(request), at=_now(), name=given.validated_data["name"])
        return Response(self._told(copy.pk), status=status.HTTP_201_CREATED)

    # --- switches ---

    @extend_schema(request=ReasonSerializer, responses={200: StrategyActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def start(self, request: Request, pk: str | None = None) -> Response:
        """Let it decide from the next closed candle on. A version never checked for bias is checked first, for some
        seconds; one that fails is refused."""
        return self._switch(request, strategy_start)

    @extend_schema(request=ReasonSerializer, responses={200: StrategyActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def stop(self, request: Request, pk: str | None = None) -> Response:
        """No more decisions; an open deal stays protected and runs to its stop or target."""
        return self._switch(request, strategy_stop)

    @extend_schema(request=ReasonSerializer, responses={200: StrategyActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str | None = None) -> Response:
        """Pause ordering: signals are recorded, nothing is ordered."""
        return self._switch(request, strategy_ordering_set, enabled=False)

    @extend_schema(request=ReasonSerializer, responses={200: StrategyActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"])
    def resume(self, request: Request, pk: str | None = None) -> Response:
        """Resume ordering."""
        return self._switch(request, strategy_ordering_set, enabled=True)

    @extend_schema(request=None, responses={200: StrategyActSerializer, 409: CONFLICT, 503: NO_WORKERS})
    @action(detail=True, methods=["post"])
    def run(self, request: Request, pk: str | None = None) -> Response:
        """Let it decide over its newest closed candle at once, by a worker; look at `/decisions`. Not done where it has
        decided about that candle: each is decided about once."""
        config = self.get_object()
        with _conflicts(), refusals():
            done = strategy_run_now(config, by=actor(request), at=_now())
            if done:
                evaluate_hint(config)
        return Response({"done": done, "strategy": self._told(config.pk)})

    # --- history ---

    @extend_schema(parameters=[VersionsAskedSerializer], responses=StrategyVersionsSerializer, filters=False)
    @action(detail=True, methods=["get"], pagination_class=None, filterset_class=None, query_parameters=["newest"])
    def versions(self, request: Request, pk: str | None = None) -> Response:
        """What people changed: who, when, why, and each field before and after."""
        given = VersionsAskedSerializer(data=request.query_params)
        given.is_valid(raise_exception=True)
        config = self.get_object()
        seen = visible.accounts_visible(request.user)
        found = config_changes(config, seen=seen, newest=given.validated_data["newest"])
        told = {"count": version_count(config), "results": found}
        return Response(StrategyVersionsSerializer(cast(Any, told)).data)

    @extend_schema(
        request=ReasonSerializer, parameters=[VERSION], responses={200: StrategyActSerializer, 409: CONFLICT}
    )
    @action(detail=True, methods=["post"], url_path="versions/(?P<version>[0-9]{1,9})/restore")
    def restore(self, request: Request, pk: str | None = None, version: str = "0") -> Response:
        """Set everything back to what it was in that version, as a new version; running and ordering stay as they are.
        409 where it cannot work any more."""
        config = self.get_object()
        reason = reason_of(request.data)
        wanted = version_id(config, int(version))
        if wanted is None:
            raise NotFound(
                gettext("%(config)s has no version %(version)s.") % {"config": config.name, "version": version}
            )
        with _conflicts(), refusals():
            changed = strategy_roll_back(config, wanted, by=actor(request), at=_now(), reason=reason)
        return Response({"done": bool(changed), "strategy": self._told(config.pk)})

    def _switch(self, request: Request, act: Callable[..., bool], **more: Any) -> Response:
        config = self.get_object()
        reason = reason_of(request.data)
        with refusals():
            done = act(config, by=actor(request), at=_now(), reason=reason, **more)
        return Response({"done": done, "strategy": self._told(config.pk)})

    def _told(self, pk: int) -> Any:
        return StrategyDetailSerializer(get_object_or_404(self.get_queryset(), pk=pk)).data


def _now() -> Any:
    return clock_from_env().now()


def _attr(name: str) -> str:
    """The field of the API that a problem belongs to."""
    if name == WHOLE:
        return "parameters"
    return name if name in PEOPLE_SET or name == "strategy" else f"parameters.{name}"


def _listed(found: Problems) -> Iterator[tuple[str, str]]:
    return ((_attr(name), capitalised(text)) for name, texts in found.items() for text in texts)


@contextmanager
def _wrong_fields() -> Iterator[None]:
    """What a service refuses of the request, beside its fields (400); 409 where somebody else was faster."""
    try:
        yield
    except ChangedMeanwhile as exc:
        raise Conflict(str(exc), code="changed_meanwhile") from exc
    except StrategyRefused as exc:
        raise ValidationError(_by_field(exc.errors)) from exc


@contextmanager
def _conflicts() -> Iterator[None]:
    """What a service refuses because of how things stand (409)."""
    try:
        yield
    except StrategyRefused as exc:
        raise Conflict(str(exc)) from exc


def _by_field(errors: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """In sentences, by the field of the API: `parameters.NAME` for a parameter."""
    found: dict[str, list[str]] = {}
    for name, texts in errors.items():
        found.setdefault(_attr(name), []).extend(capitalised(text) for text in texts)
    return found
