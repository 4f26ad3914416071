"""The system over REST: the kill switches and what is proved flat, versions, and the audit log."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any, ClassVar, cast

import django
import django_filters as filters
from django.contrib.auth.models import User
from django.db import connection
from django.utils.translation import gettext
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.access import actor
from algo.api.acts import KnownFields
from algo.api.base import ApiView
from algo.api.filters import AnyOfFilter, IdFilter, after, before
from algo.api.rows import RowsViewSet
from algo.models import Account, AuditRecord, Door, KillSwitch, Market, StrategyConfig, TokenScope
from algo.phrases import told
from algo.queues import events_hint
from algo.selectors import visible
from algo.selectors.halts import (
    AccountFlat,
    SwitchState,
    Target,
    level_of,
    scope_name,
    switch_state,
    switch_states,
    target_field,
)
from algo.selectors.rights import may_administer, may_switch
from algo.selectors.visible import row_seen
from algo.services.control import ControlRefused, kill_switch_set
from algo.version import VERSION
from providers.clock import clock_from_env

SCOPES = {"account": "account", "config": "strategy", "market": "market"}


class FlatSerializer(serializers.Serializer[AccountFlat]):
    account = serializers.CharField(source="account.name")
    is_flat = serializers.BooleanField(help_text="Proved by the exchange's own lists since the switch was turned.")
    why = serializers.CharField()
    checked_at = serializers.DateTimeField(allow_null=True)


class SwitchSerializer(serializers.Serializer[SwitchState]):
    scope = serializers.SerializerMethodField(help_text="system, account, strategy or market.")
    id = serializers.IntegerField(source="target.pk", default=None, allow_null=True, help_text="Of what it switches.")
    name = serializers.SerializerMethodField()
    level = serializers.SerializerMethodField()
    reason = serializers.CharField(source="row.reason")
    version = serializers.IntegerField(source="row.version", help_text="Send it back as `seen_version`.")
    changed_by = serializers.CharField(source="row.changed_by.username", default=None, allow_null=True)
    changed_at = serializers.DateTimeField(source="row.changed_at", allow_null=True)
    accounts = FlatSerializer(many=True, help_text="At `flatten`: every account under it.")

    def get_scope(self, state: SwitchState) -> str:
        return "system" if state.target is None else SCOPES[target_field(state.target)]

    def get_name(self, state: SwitchState) -> str:
        return scope_name(state.target)

    def get_level(self, state: SwitchState) -> str:
        return level_of(state.row).value


class SwitchTurnSerializer(KnownFields):
    level = serializers.ChoiceField(choices=KillSwitch.choices)
    reason = serializers.CharField(max_length=400, help_text="For those who find the switch turned.")
    account = serializers.PrimaryKeyRelatedField(queryset=Account.objects.none(), required=False)
    strategy = serializers.PrimaryKeyRelatedField(queryset=StrategyConfig.objects.none(), required=False)
    market = serializers.PrimaryKeyRelatedField(queryset=Market.objects.all(), required=False)
    seen_version = serializers.IntegerField(
        required=False, help_text="Needed to make it milder: the version that was looked at."
    )
    unproven_ok = serializers.BooleanField(
        default=False, help_text="Leave `flatten` though not everything is proved flat. It is recorded."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if user := self.context.get("user"):
            cast(Any, self.fields["account"]).queryset = visible.accounts_visible(user)
            cast(Any, self.fields["strategy"]).queryset = visible.strategies_visible(user)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if len([name for name in SCOPES.values() if attrs.get(name)]) > 1:
            raise ValidationError(
                gettext("Name one account, one strategy or one market; none of them is the whole system.")
            )
        return attrs


def _switch_scope(request: Request) -> TokenScope | None:
    """Switches that stop everybody need `admin`."""
    if request.method != "POST":
        return None
    of_somebody = isinstance(request.data, Mapping) and {"account", "strategy"} & set(request.data)
    return TokenScope.TRADE if of_somebody else TokenScope.ADMIN


class KillSwitchView(ApiView):
    """The kill switches: of the whole system, and of single accounts, strategies and markets."""

    scope_needed = staticmethod(_switch_scope)

    @extend_schema(responses=SwitchSerializer(many=True), operation_id="kill_switches")
    def get(self, request: Request) -> Response:
        """The system's switch and every other one that is not off, as far as one may see them. The strictest that
        applies counts. None of them ever stops the protection of open positions."""
        user = cast(User, request.user)
        states = [_seen_by(user, state) for state in switch_states(clock_from_env()) if _may_see(user, state.target)]
        return Response(SwitchSerializer(cast(Any, states), many=True).data)

    @extend_schema(request=SwitchTurnSerializer, responses=SwitchSerializer, operation_id="kill_switch_turn")
    def post(self, request: Request) -> Response:
        """Turn one. Stricter is taken at once. Milder needs `seen_version`, and from `flatten` a proof that every
        account under it is flat, or `unproven_ok`. The whole system's and a market's are for Admins, with a token of
        scope `admin`; an account's and its strategies' also for the Trader who owns the account."""
        user = cast(User, request.user)
        given = SwitchTurnSerializer(data=request.data, context={"user": user})
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        target = next((asked[name] for name in SCOPES.values() if asked.get(name)), None)
        if not may_switch(user, target):
            raise PermissionDenied(
                gettext("You may not turn the kill switch of %(scope)s. Nothing was changed.")
                % {"scope": told(scope_name(target))}
            )
        clock = clock_from_env()
        try:
            row = kill_switch_set(
                asked["level"],
                reason=asked["reason"],
                by=actor(request),
                at=clock.now(),
                target=target,
                seen_version=asked.get("seen_version", -1),  # a turn to something milder by who did not look: refused
                unproven_ok=asked["unproven_ok"],
            )
        except ControlRefused as exc:
            raise ValidationError(str(exc)) from exc
        events_hint()
        return Response(SwitchSerializer(_seen_by(user, switch_state(target, row, clock))).data)


def _may_see(user: User, target: Target | None) -> bool:
    return target is None or row_seen(user, target)


def _seen_by(user: User, state: SwitchState) -> SwitchState:
    """Without the accounts of others; who turned it and why is for everybody whom it stops."""
    mine = set(visible.accounts_visible(user).values_list("pk", flat=True)) if state.accounts else set()
    return SwitchState(state.target, state.row, [each for each in state.accounts if each.account.pk in mine])


# --- versions ---------------------------------------------------------------------------------------------------------


class VersionSerializer(serializers.Serializer[Any]):
    version = serializers.CharField(help_text="Of the platform.")
    api = serializers.CharField()
    python = serializers.CharField(allow_null=True, help_text="This and what follows: for Admins, else null.")
    django = serializers.CharField(allow_null=True)
    database = serializers.CharField(allow_null=True)


class VersionView(ApiView):
    """Which version runs."""

    @extend_schema(responses=VersionSerializer, operation_id="version")
    def get(self, request: Request) -> Response:
        """Of the platform, and for Admins of what it stands on."""
        told: dict[str, Any] = {"version": VERSION, "api": "1", "python": None, "django": None, "database": None}
        if may_administer(request.user):
            major, minor = divmod(int(cast(Any, connection).pg_version), 10_000)
            database = f"PostgreSQL {major}.{minor}"
            told |= {"python": platform.python_version(), "django": django.get_version(), "database": database}
        return Response(VersionSerializer(told).data)


# --- the audit log ----------------------------------------------------------------------------------------------------


class AuditFilter(filters.FilterSet):
    act = filters.CharFilter(lookup_expr="startswith", label="How it begins: `deal.close`, or `deal.` for all of deals")
    username = filters.CharFilter(label="Who; the shell and the platform have none")
    door = AnyOfFilter(choices=Door.choices)
    account = IdFilter(field_name="account_id", label="Id of the account")
    subject_kind = filters.CharFilter(label="As `deal` or `strategyconfig`")
    subject_id = filters.CharFilter(label="Together with `subject_kind`")
    after, before = after("at", "Done"), before("at", "Done")

    class Meta:
        model = AuditRecord
        fields: list[str] = []


class AuditSerializer(serializers.ModelSerializer[AuditRecord]):
    account = serializers.IntegerField(source="account_id", allow_null=True, help_text="Its id, also once it is gone.")
    details = serializers.DictField(help_text="What changed, from what to what. Never a secret.")

    class Meta:
        model = AuditRecord
        fields = (
            "id",
            "at",
            "username",
            "door",
            "act",
            "subject_kind",
            "subject_id",
            "subject_name",
            "account",
            "reason",
            "details",
        )


class AuditViewSet(RowsViewSet):
    """Who did what that could cost money, when, through which door and why. One sees what one did oneself and what was
    done to one's accounts; an Admin all."""

    queryset = AuditRecord.objects.none()
    rows: ClassVar[Any] = visible.audit_visible
    serializer_class = AuditSerializer
    filterset_class = AuditFilter
    ordering = ("-at", "-id")
    ordering_fields = ("id", "at")
