"""Signals from outside: the address that takes them, keys for who may send, and what was sent."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

import django_filters as filters
from django.utils import timezone
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import permissions, serializers, status
from rest_framework.decorators import action
from rest_framework.exceptions import ErrorDetail, NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from algo.api.access import actor
from algo.api.acts import CONFLICT, Conflict, KnownFields, refusals
from algo.api.filters import IdFilter, after, before
from algo.api.problems import NOTHING_HERE, TooLarge
from algo.api.query import KnownQuery
from algo.api.rows import RowsViewSet
from algo.api.schema import told
from algo.api.throttling import InboundSumThrottle, InboundThrottle
from algo.models import AlertAction, AlertState, InboundAlert, InboundKey, StrategyConfig
from algo.queues import advance_hint, signals_hint
from algo.selectors import visible
from algo.services.inbound import (
    AlertRefused,
    BodyInvalid,
    NotProven,
    alert_receive,
    inbound_key_make,
    inbound_key_revoke,
    inbound_key_switch,
)
from algo.services.inbound_body import MOST_BYTES, AlertBody
from algo.standard_webhooks import ID, SIGNATURE, TIMESTAMP
from providers.clock import clock_from_env


class AlertSerializer(serializers.ModelSerializer[InboundAlert]):
    id = serializers.CharField(source="alert_id", read_only=True)
    outcome = serializers.CharField(read_only=True, help_text="Of the decision, once there is one.")
    denial_code = serializers.CharField(
        source="signal.denial_code", default="", read_only=True, help_text="Of the risk gate, where it denied."
    )

    class Meta:
        model = InboundAlert
        fields: tuple[str, ...] = ("id", "action", "state", "outcome", "denial_code", "note")


class AlertTakenSerializer(AlertSerializer):
    """What became of a signal so far."""

    is_new = serializers.SerializerMethodField(help_text="False: it had come before, and nothing was done.")
    closed = serializers.SerializerMethodField(help_text="How many deals are being closed by it.")

    class Meta(AlertSerializer.Meta):
        fields = (*AlertSerializer.Meta.fields, "is_new", "closed")

    def get_is_new(self, alert: InboundAlert) -> bool:
        return bool(self.context["is_new"])

    def get_closed(self, alert: InboundAlert) -> int:
        return int(self.context["closed"])


_AMOUNT = {"oneOf": [{"type": "number"}, {"type": "string"}]}
_TYPES: dict[str, dict[str, Any]] = {
    "id": {"type": "string", "pattern": "^[!-~]{1,64}$", "example": "ema-cross-2026-11-02T10:00:00Z"},
    "time": {"type": "string", "format": "date-time", "example": "2026-11-02T10:00:00Z"},
    "action": {"type": "string", "enum": AlertAction.values, "example": "buy"},
    "market": {"type": "string", "pattern": "^[0-9A-Za-z/_-]{1,32}$", "example": "BTCUSDT"},
    "secret": {"type": "string", "maxLength": 200, "example": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},
    "confidence": {**_AMOUNT, "example": "0.8"},
    "stop_loss_percent": {**_AMOUNT, "example": "1.5"},
    "take_profit_percent": {**_AMOUNT, "example": "3"},
    "price": {**_AMOUNT, "example": 50000},
}
BODY = {
    "type": "object",
    "additionalProperties": False,
    "required": [name for name, field in AlertBody.model_fields.items() if field.is_required()],
    "properties": {
        name: {**_TYPES[name], "description": field.description} for name, field in AlertBody.model_fields.items()
    },
}
EXAMPLE = {name: each["example"] for name, each in _TYPES.items()}
HEADERS = [
    OpenApiParameter(name, str, OpenApiParameter.HEADER, description=words)
    for name, words in (
        (ID, "The signal's id, where it is signed."),
        (TIMESTAMP, "Unix seconds of the signature."),
        (SIGNATURE, "`v1,` and the base64 HMAC-SHA256 over `id.timestamp.body`, as of our own webhooks."),
    )
]


class InboundView(KnownQuery, APIView):
    """Where signals from outside arrive. No login: each proves itself."""

    authentication_classes = ()
    permission_classes = (permissions.AllowAny,)
    throttle_classes = (InboundThrottle, InboundSumThrottle)

    @extend_schema(
        operation_id="inbound",
        parameters=[OpenApiParameter("id", OpenApiTypes.UUID, OpenApiParameter.PATH), *HEADERS],
        request={"application/json": BODY},
        responses={
            200: AlertTakenSerializer,
            202: AlertTakenSerializer,
            404: told(
                404,
                "No such address, a wrong proof, a revoked key, or signals are off: all the same.",
                code="not_found",
                detail=str(NOTHING_HERE),
            ),
            409: told(
                409,
                "Proven, and not taken: `stale`, `id_reused`, `ids_differ`, `switched_off`, `not_allowed`, "
                "`strategy_stopped` or `strategy_unfit`. Nothing was done.",
                code="switched_off",
                detail="This key is switched off. Nothing was done.",
            ),
        },
        auth=[],
    )
    def post(self, request: Request, id: str) -> Response:
        """Send one signal to the strategy of this address. 202: kept, and a worker decides at once, through the risk
        gate; 200: done, or come before. At most 4096 bytes."""
        body = _body(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        clock = clock_from_env()
        try:
            taken = alert_receive(_public_id(id), body, headers, wall_now=timezone.now(), clock=clock)
        except NotProven as exc:
            raise NotFound(NOTHING_HERE) from exc
        except BodyInvalid as exc:
            raise serializers.ValidationError(exc.errors) from exc
        except AlertRefused as exc:
            if exc.field:
                raise serializers.ValidationError({exc.field: [ErrorDetail(str(exc), exc.code)]}) from exc
            raise Conflict(str(exc), code=exc.code) from exc
        if taken.closed:
            advance_hint(taken.alert.config.account_id)
        waits = taken.alert.state == AlertState.WAITING
        if waits:
            signals_hint()
        context = {"is_new": taken.is_new, "closed": taken.closed}
        return Response(
            AlertTakenSerializer(taken.alert, context=context).data,
            status=status.HTTP_202_ACCEPTED if waits else status.HTTP_200_OK,
        )


def _body(request: Request) -> bytes:
    """As it was sent, for it is what is signed. Raises TooLarge, ParseError, UnsupportedMediaType."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > MOST_BYTES:
        raise TooLarge
    body = bytes(request.body)
    _ = request.data  # JSON, or refused here
    return body


def _public_id(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError as exc:
        raise NotFound(NOTHING_HERE) from exc


# --- for people -----------------------------------------------------------------------------------------------------


class InboundKeySerializer(serializers.ModelSerializer[InboundKey]):
    config_name = serializers.CharField(source="config.name", read_only=True)
    address = serializers.SerializerMethodField(help_text="Where the signals are sent.")
    made_by = serializers.CharField(source="made_by.username", read_only=True)

    class Meta:
        model = InboundKey
        fields: tuple[str, ...] = (
            "id",
            "config",
            "config_name",
            "label",
            "address",
            "secret_hint",
            "is_on",
            "made_by",
            "made_at",
            "revoked_at",
            "last_used_at",
        )
        read_only_fields = fields

    def get_address(self, key: InboundKey) -> str:
        request = self.context.get("request")
        path = inbound_path(key)
        return str(request.build_absolute_uri(path)) if request else path


class GivenInboundKeySerializer(InboundKeySerializer):
    """A key, this once with its secret."""

    secret = serializers.SerializerMethodField(help_text="Shown once. Keep it as you keep a password.")

    class Meta(InboundKeySerializer.Meta):
        fields = (*InboundKeySerializer.Meta.fields, "secret")

    def get_secret(self, key: InboundKey) -> str:
        return str(self.context["secret"])


def inbound_path(key: InboundKey) -> str:
    return f"/api/v1/inbound/{key.public_id}/"


class InboundKeyAskedSerializer(KnownFields):
    config = serializers.PrimaryKeyRelatedField(
        queryset=StrategyConfig.objects.none(), help_text="A strategy of the kind ExternalSignals."
    )
    label = serializers.CharField(  # type: ignore[assignment]
        max_length=80, required=False, default="", allow_blank=True, help_text="What sends the signals."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if user := self.context.get("user"):
            self.fields["config"].queryset = visible.strategies_visible(user)  # type: ignore[attr-defined]


class InboundKeyActSerializer(serializers.Serializer[Any]):
    done = serializers.BooleanField(help_text="False where it stood so already.")
    key = InboundKeySerializer()


class InboundKeyFilter(filters.FilterSet):
    config = IdFilter(field_name="config_id", label="Id of the strategy")

    class Meta:
        model = InboundKey
        fields: list[str] = []


class InboundKeyViewSet(RowsViewSet):
    """Keys for signals from outside, each for one strategy. A new one is off, acts as the person who made it, and
    takes the place of the one before."""

    queryset = InboundKey.objects.none()
    rows: ClassVar[Any] = visible.inbound_keys_visible
    serializer_class = InboundKeySerializer
    filterset_class = InboundKeyFilter
    idempotent = False  # an answer that holds a secret is kept nowhere

    @extend_schema(request=InboundKeyAskedSerializer, responses={201: GivenInboundKeySerializer, 409: CONFLICT})
    def create(self, request: Request) -> Response:
        """Make a key. Its secret is told this once."""
        given = InboundKeyAskedSerializer(data=request.data, context={"user": request.user})
        given.is_valid(raise_exception=True)
        with refusals():
            key, secret = inbound_key_make(**given.validated_data, by=actor(request), at=_now())
        context = {"request": request, "secret": secret}
        return Response(GivenInboundKeySerializer(key, context=context).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses={204: None, 409: CONFLICT})
    def destroy(self, request: Request, pk: str | None = None) -> Response:
        """Revoke it: it proves nothing from now on. It stays in the list."""
        with refusals():
            inbound_key_revoke(self.get_object(), by=actor(request), at=_now())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses={200: InboundKeyActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"], idempotent=True)
    def on(self, request: Request, pk: str | None = None) -> Response:
        """Take what is sent with it."""
        return self._switch(request, is_on=True)

    @extend_schema(request=None, responses={200: InboundKeyActSerializer, 409: CONFLICT})
    @action(detail=True, methods=["post"], idempotent=True)
    def off(self, request: Request, pk: str | None = None) -> Response:
        """Refuse what is sent with it."""
        return self._switch(request, is_on=False)

    def _switch(self, request: Request, *, is_on: bool) -> Response:
        key = self.get_object()
        with refusals():
            done = inbound_key_switch(key, is_on=is_on, by=actor(request), at=_now())
        told_of = {"done": done, "key": key}
        return Response(InboundKeyActSerializer(told_of, context={"request": request}).data)


class InboundAlertRowSerializer(serializers.ModelSerializer[InboundAlert]):
    config_name = serializers.CharField(source="config.name", read_only=True)
    outcome = serializers.CharField(read_only=True, help_text="Of the decision, once there is one.")
    denial_code = serializers.CharField(source="signal.denial_code", default="", read_only=True)
    asked = serializers.DictField(read_only=True, help_text="As it was sent, without the secret.")

    class Meta:
        model = InboundAlert
        fields: tuple[str, ...] = (
            "id",
            "config",
            "config_name",
            "alert_id",
            "action",
            "alert_at",
            "received_at",
            "state",
            "outcome",
            "denial_code",
            "note",
            "signal",
            "asked",
            "done_at",
        )
        read_only_fields = fields


class InboundAlertFilter(filters.FilterSet):
    config = IdFilter(field_name="config_id", label="Id of the strategy")
    state = filters.ChoiceFilter(choices=AlertState.choices)
    created_after, created_before = after("received_at", "Received"), before("received_at", "Received")

    class Meta:
        model = InboundAlert
        fields: list[str] = []


class InboundAlertViewSet(RowsViewSet):
    """Signals that were sent with a valid proof and taken in, and what came of each, newest first."""

    queryset = InboundAlert.objects.none()
    rows: ClassVar[Any] = visible.inbound_alerts_visible
    serializer_class = InboundAlertRowSerializer
    filterset_class = InboundAlertFilter


def _now() -> Any:
    return clock_from_env().now()
