"""The kill switch over REST: how the switches stand, what is proved flat, and turning them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django.contrib.auth.models import User
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from algo.models import Account, KillSwitch, Market, StrategyConfig
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
from algo.services.control import ControlRefused, kill_switch_set
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


class SwitchTurnSerializer(serializers.Serializer[Any]):
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
            raise ValidationError("Name one account, one strategy or one market; none of them is the whole system.")
        return attrs


class KillSwitchView(APIView):
    """The kill switches: of the whole system, and of single accounts, strategies and markets."""

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
        account under it is flat, or `unproven_ok`. Needs the permission `algo.change_systemcontrol` for the whole
        system and `algo.change_halt` for the others; the owner of an account may always turn its switches."""
        user = cast(User, request.user)
        given = SwitchTurnSerializer(data=request.data, context={"user": user})
        given.is_valid(raise_exception=True)
        asked = given.validated_data
        target = next((asked[name] for name in SCOPES.values() if asked.get(name)), None)
        if not _may_turn(user, target):
            raise PermissionDenied(f"You may not turn the kill switch of {scope_name(target)}. Nothing was changed.")
        clock = clock_from_env()
        try:
            row = kill_switch_set(
                asked["level"],
                reason=asked["reason"],
                user=user,
                at=clock.now(),
                target=target,
                seen_version=asked.get("seen_version", -1),  # a turn to something milder by who did not look: refused
                unproven_ok=asked["unproven_ok"],
            )
        except ControlRefused as exc:
            raise ValidationError(str(exc)) from exc
        return Response(SwitchSerializer(_seen_by(user, switch_state(target, row, clock))).data)


def _owns(user: User, target: Target | None) -> bool:
    account = target.account if isinstance(target, StrategyConfig) else target
    return isinstance(account, Account) and account.owner_id == user.pk


def _may_turn(user: User, target: Target | None) -> bool:
    return user.has_perm("algo.change_systemcontrol" if target is None else "algo.change_halt") or _owns(user, target)


def _may_see(user: User, target: Target | None) -> bool:
    return user.is_staff or target is None or isinstance(target, Market) or _owns(user, target)


def _seen_by(user: User, state: SwitchState) -> SwitchState:
    """Without the accounts of others; who turned it and why is for everybody whom it stops."""
    accounts: Sequence[AccountFlat] = [
        each for each in state.accounts if user.is_staff or each.account.owner_id == user.pk
    ]
    return SwitchState(state.target, state.row, accounts)
