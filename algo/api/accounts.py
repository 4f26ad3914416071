"""Accounts over REST: what they can do, their balances, and acts of their owners. A key goes in and never comes out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar, cast

import django_filters as filters
from django.conf import settings
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from algo import exchanges
from algo.api.access import actor
from algo.api.acts import (
    CONFLICT,
    EXCHANGE_AWAY,
    KnownFields,
    ReasonSerializer,
    exchange_answers,
    reason_of,
    refusals,
)
from algo.api.fields import FiniteField
from algo.api.filters import AnyOfFilter
from algo.api.rows import RowsViewSet
from algo.api.serializers import AmountText, ProtectionModeName
from algo.api.throttling import ExchangeThrottle
from algo.models import Account, AccountState, Environment, Provider, TokenScope
from algo.selectors import visible
from algo.selectors.rights import may_administer
from algo.services.account_acts import (
    account_activate,
    account_balances,
    account_change,
    account_delete,
    account_look,
    account_open,
)
from algo.services.accounts import account_pause
from algo.services.probe import PROTECTION, Findings
from providers.types import Capabilities

USUAL_AGE, LEAST_AGE = 60.0, 15.0  # seconds
_ASKING_LIMITS = (*RowsViewSet.throttle_classes, ExchangeThrottle)


class AccountFilter(filters.FilterSet):
    provider = filters.ChoiceFilter(choices=Provider.choices)
    environment = filters.ChoiceFilter(choices=Environment.choices)
    state = AnyOfFilter(choices=AccountState.choices)

    class Meta:
        model = Account
        fields: list[str] = []


class CapabilitiesSerializer(serializers.Serializer[Capabilities]):
    """What was seen to work; false where it was not seen."""

    oco = serializers.BooleanField(help_text="Stop and target rest as one pair.")
    stop_market = serializers.BooleanField()
    stop_limit = serializers.BooleanField()
    stops_lock_balance = serializers.BooleanField(help_text="A resting stop holds the balance it would sell.")
    finds_closed_by_client_id = serializers.BooleanField()
    market_takes_price = serializers.BooleanField(help_text="A MARKET order accepts a bounding price.")


class AccountSerializer(serializers.ModelSerializer[Account]):
    """Of the key, its last characters and its expiry; never more."""

    owner = serializers.CharField(source="owner.username")
    viewers: Any = serializers.SlugRelatedField("username", many=True, read_only=True)
    key_hint = serializers.CharField(source="api_key_hint", help_text="Its last characters; empty: no key is stored.")
    key_scopes = serializers.ListField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="read, trade, withdraw, as last told; null: not known.",
    )
    protection_mode = serializers.SerializerMethodField(
        help_text="How positions are protected, best first; null: not probed."
    )
    capabilities = serializers.SerializerMethodField(help_text="Null: not probed.")

    class Meta:
        model = Account
        fields = (
            "id",
            "name",
            "owner",
            "viewers",
            "provider",
            "environment",
            "state",
            "state_reason",
            "last_error",
            "key_hint",
            "key_expires_at",
            "key_scopes",
            "protection_mode",
            "capabilities",
            "capabilities_probed_at",
            "balances_read_at",
            "reconciled_at",
            "advanced_at",
            "created_at",
        )

    @extend_schema_field(ProtectionModeName(allow_null=True))
    def get_protection_mode(self, account: Account) -> str | None:
        mode = account.protection
        return None if mode is None else mode.name

    @extend_schema_field(CapabilitiesSerializer(allow_null=True))
    def get_capabilities(self, account: Account) -> Any:
        if not account.capabilities:
            return None
        return CapabilitiesSerializer(account.known_capabilities(Capabilities())).data


class AccountChangeSerializer(KnownFields):
    name = serializers.CharField(max_length=64, required=False)
    api_key = serializers.CharField(
        write_only=True,
        required=False,
        max_length=4096,
        trim_whitespace=False,
        style={"input_type": "password"},
        help_text="Stored encrypted, never shown again. One that may read and trade, and may not withdraw.",
    )
    key_expires_at = serializers.DateTimeField(required=False, allow_null=True, help_text="Where you know it.")
    owner = serializers.SlugRelatedField(
        "username", queryset=User.objects.none(), required=False, help_text="For Admins: whose it is."
    )
    viewers = serializers.SlugRelatedField(
        "username", many=True, queryset=User.objects.none(), required=False, help_text="For Admins: who may look at it."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Who is no Admin finds nobody else: the answers must not tell which names exist."""
        super().__init__(*args, **kwargs)
        if user := self.context.get("user"):
            people = User.objects.all() if may_administer(user) else User.objects.filter(pk=user.pk)
            cast(Any, self.fields["owner"]).queryset = people
            cast(Any, self.fields["viewers"]).child_relation.queryset = people


class AccountOpenSerializer(AccountChangeSerializer):
    name = serializers.CharField(max_length=64)
    provider = serializers.ChoiceField(choices=Provider.choices)
    environment = serializers.ChoiceField(
        choices=Environment.choices, required=False, help_text="That of the platform, unless told."
    )


class AccountActSerializer(serializers.Serializer[Any]):
    done = serializers.BooleanField(help_text="False where it stood so already.")
    warnings = serializers.ListField(child=serializers.CharField())
    account = AccountSerializer()


class FeeLineSerializer(serializers.Serializer[Any]):
    quote = serializers.CharField()
    maker = AmountText(38, 18, help_text="A fraction: 0.003 is 0.3 %.")
    taker = AmountText(38, 18)
    markets = serializers.IntegerField(help_text="How many markets of this quote currency have these rates.")


class FindingsSerializer(serializers.Serializer[Findings]):
    """`errors` keep the account from working, `warnings` will one day, `unknown` nobody can say."""

    key_scopes = serializers.SerializerMethodField(help_text="read, trade, withdraw; null: the exchange does not tell.")
    key_expires_at = serializers.DateTimeField(source="expires_at", allow_null=True)
    latency_seconds = serializers.FloatField()
    clock_difference_seconds = serializers.SerializerMethodField(help_text="Theirs minus ours; null: not known.")
    fees = FeeLineSerializer(many=True)
    protection_mode = ProtectionModeName(source="capabilities.protection_mode")
    protection = serializers.SerializerMethodField(help_text="The same in words.")
    capabilities = CapabilitiesSerializer()
    probed_at = serializers.DateTimeField(allow_null=True, help_text="When stop orders were tried; null: never.")
    errors = serializers.ListField(child=serializers.CharField())  # type: ignore[assignment]
    warnings = serializers.ListField(child=serializers.CharField())
    unknown = serializers.ListField(child=serializers.CharField())

    @extend_schema_field(serializers.ListField(child=serializers.CharField(), allow_null=True))
    def get_key_scopes(self, found: Findings) -> list[str] | None:
        return None if found.key.scopes is None else sorted(found.key.scopes)

    def get_clock_difference_seconds(self, found: Findings) -> float | None:
        return None if found.clock_difference is None else found.clock_difference / timedelta(seconds=1)

    def get_protection(self, found: Findings) -> str:
        return str(PROTECTION[found.capabilities.protection_mode])


class BalanceSerializer(serializers.Serializer[Any]):
    asset = serializers.CharField(help_text="As the exchange names it; TMN and IRT are toman.")
    total = AmountText(38, 18)
    locked = AmountText(38, 18, help_text="Held by open orders.")
    available = AmountText(38, 18)


class BalancesSerializer(serializers.Serializer[Any]):
    account = serializers.IntegerField(help_text="Its id.")
    as_of = serializers.DateTimeField(help_text="When the exchange was asked.")
    balances = BalanceSerializer(many=True)


class BalancesAskedSerializer(serializers.Serializer[Any]):
    max_age = FiniteField(
        default=USUAL_AGE,
        min_value=LEAST_AGE,
        max_value=86_400,
        help_text="Seconds: what was read since then will do. Orders need the exchange's calls more than looks do.",
    )


class AccountViewSet(RowsViewSet):
    """Accounts at the exchanges: state, key, what they can do. For their owners, those who may look at them, and
    Admins; acts are for the Trader who owns the account, and Admins."""

    queryset = Account.objects.none()
    rows: ClassVar[Any] = visible.accounts_visible
    serializer_class = AccountSerializer
    filterset_class = AccountFilter
    scope_needed: ClassVar[Any] = {"DELETE": TokenScope.ADMIN}
    ordering = ("name", "id")
    ordering_fields = ("id", "name", "created_at", "reconciled_at", "key_expires_at")

    def get_queryset(self) -> QuerySet[Account]:
        return super().get_queryset().prefetch_related("viewers")

    @extend_schema(request=AccountOpenSerializer, responses={201: AccountSerializer})
    def create(self, request: Request) -> Response:
        """Open one with its key, which is never shown again. Its exchange is asked within a minute: look at `state`.
        For Traders, who then own it, and Admins."""
        given = AccountOpenSerializer(data=request.data, context={"user": request.user})
        given.is_valid(raise_exception=True)
        defaults = {"owner": request.user, "environment": settings.EXCHANGE_ENVIRONMENT, "api_key": ""}
        with refusals():
            account = account_open(**defaults | given.validated_data, by=actor(request), at=exchanges.CLOCK.now())
        return Response(self._told(account.pk), status=status.HTTP_201_CREATED)

    @extend_schema(request=AccountChangeSerializer, responses=AccountSerializer)
    def partial_update(self, request: Request, pk: str | None = None) -> Response:
        """Rename it, or enter another key. A new key does not wake a stopped account: activate it then. Its exchange
        and environment never change."""
        account = self.get_object()
        given = AccountChangeSerializer(data=request.data, partial=True, context={"user": request.user})
        given.is_valid(raise_exception=True)
        with refusals():
            account_change(account, given.validated_data, by=actor(request), at=exchanges.CLOCK.now())
        return Response(self._told(account.pk))

    @extend_schema(responses={204: None, 409: CONFLICT})
    def destroy(self, request: Request, pk: str | None = None) -> Response:
        """Remove one that nothing was ever done with; one with strategies, deals or orders is refused: pause it. For
        Admins."""
        account = self.get_object()
        with refusals():
            account_delete(account, by=actor(request), at=exchanges.CLOCK.now())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=ReasonSerializer, responses={200: AccountActSerializer})
    @action(detail=True, methods=["post"])
    def pause(self, request: Request, pk: str | None = None) -> Response:
        """No new positions; open ones stay protected."""
        account = self.get_object()
        reason = reason_of(request.data)
        with refusals():
            done = account_pause(account, by=actor(request), at=exchanges.CLOCK.now(), reason=reason)
        return Response({"done": done, "warnings": [], "account": self._told(account.pk)})

    @extend_schema(request=ReasonSerializer, responses={200: AccountActSerializer, 409: CONFLICT, 503: EXCHANGE_AWAY})
    @action(detail=True, methods=["post"], throttle_classes=_ASKING_LIMITS)
    def activate(self, request: Request, pk: str | None = None) -> Response:
        """Ask the exchange whether the key works, then let it trade again. 409 where it does not."""
        account = self.get_object()
        reason = reason_of(request.data)
        with refusals(), exchange_answers():
            done, found = account_activate(
                account, exchanges.account_provider, by=actor(request), clock=exchanges.CLOCK, reason=reason
            )
        return Response({"done": done, "warnings": found.warnings, "account": self._told(account.pk)})

    @extend_schema(request=None, responses={200: FindingsSerializer, 409: CONFLICT, 503: EXCHANGE_AWAY})
    @action(detail=True, methods=["post"], throttle_classes=_ASKING_LIMITS)
    def probe(self, request: Request, pk: str | None = None) -> Response:
        """Ask the exchange what the key may do and until when, fees, and its clock. Orders nothing."""
        account = self.get_object()
        with refusals(), exchange_answers():
            found = account_look(account, exchanges.account_provider, by=actor(request), clock=exchanges.CLOCK)
        return Response(FindingsSerializer(found).data)

    @extend_schema(
        parameters=[BalancesAskedSerializer],
        responses={200: BalancesSerializer, 409: CONFLICT, 503: EXCHANGE_AWAY},
        filters=False,
    )
    @action(detail=True, methods=["get"], pagination_class=None, filterset_class=None, query_parameters=["max_age"])
    def balances(self, request: Request, pk: str | None = None) -> Response:
        """What it holds. What was read within `max_age` seconds will do; else the exchange is asked, and where it does
        not answer the answer is 503."""
        given = BalancesAskedSerializer(data=request.query_params)
        given.is_valid(raise_exception=True)
        account = self.get_object()
        with refusals(), exchange_answers():
            held, as_of = account_balances(
                account, exchanges.account_provider, max_age=given.validated_data["max_age"], clock=exchanges.CLOCK
            )
        rows = [
            {"asset": asset, "total": total, "locked": locked, "available": total - locked}
            for asset, (total, locked) in sorted(held.items())
        ]
        return Response(BalancesSerializer({"account": account.pk, "as_of": as_of, "balances": rows}).data)

    def _told(self, pk: int) -> Any:
        return AccountSerializer(get_object_or_404(self.get_queryset(), pk=pk)).data
