"""Tokens over REST: log in for one, look at them, give another, revoke."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import django_filters as filters
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema
from rest_framework import permissions, serializers
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied, Throttled
from rest_framework.parsers import FormParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from algo.api.access import MUST_SET_UP, ScopedTokenAuthentication, actor, grant_held, scope_held
from algo.api.acts import KnownFields, refusals
from algo.api.base import ApiView
from algo.api.filters import AnyOfFilter
from algo.api.parsers import StrictJSONParser
from algo.api.query import KnownQuery
from algo.api.rows import RowsViewSet
from algo.api.schema import told
from algo.api.throttling import LoginThrottle
from algo.models import Door, TokenGrant, TokenScope
from algo.selectors import visible
from algo.selectors.second_factor import factor_demanded
from algo.services.audit import Actor
from algo.services.second_factor import CodeRefused, factor_check
from algo.services.sign_in import is_locked_out, locked_seconds, locked_words
from algo.services.tokens import token_give, token_revoke
from providers.clock import clock_from_env

NO_TOKEN = _("No token was given.")


class TokenAskedSerializer(KnownFields):
    scope = serializers.ChoiceField(
        choices=TokenScope.choices,
        required=False,
        help_text="Without it: what the role allows, up to `trade`. Never more than the role allows.",
    )
    expiry = serializers.DateTimeField(
        required=False, help_text="In the future; without it, as long as a token may live (90 days)."
    )
    label = serializers.CharField(  # type: ignore[assignment]
        max_length=80, required=False, allow_blank=True, help_text="What uses it: seen in lists and in the audit log."
    )


class LoginSerializer(TokenAskedSerializer):
    username = serializers.CharField(max_length=150, write_only=True)
    password = serializers.CharField(
        max_length=4096, write_only=True, trim_whitespace=False, style={"input_type": "password"}
    )
    code = serializers.CharField(
        max_length=32,
        required=False,
        allow_blank=True,
        write_only=True,
        help_text="Of the user's second factor: what the authenticator app shows, or a recovery code. Needed where one "
        "is set up.",
    )


class TokenSerializer(serializers.ModelSerializer[TokenGrant]):
    user = serializers.CharField(source="token.user.username", read_only=True)
    created_by = serializers.CharField(source="created_by.username", default=None, allow_null=True, read_only=True)
    created = serializers.DateTimeField(source="token.created", read_only=True)
    expiry = serializers.DateTimeField(source="token.expiry", allow_null=True, read_only=True)
    is_current = serializers.SerializerMethodField(help_text="The one this was asked with.")

    class Meta:
        model = TokenGrant
        fields: tuple[str, ...] = (
            "id", "user", "label", "scope", "created_by", "created", "expiry", "last_used_at", "is_current"
        )  # fmt: skip

    def get_is_current(self, grant: TokenGrant) -> bool:
        token = getattr(self.context.get("request"), "auth", None)
        return token is not None and token.pk == grant.token_id


class GivenTokenSerializer(serializers.ModelSerializer[TokenGrant]):
    """A token, this once."""

    token = serializers.SerializerMethodField(
        help_text="Shown once; only its hash is kept. Send `Authorization: Token <token>`."
    )
    expiry = serializers.DateTimeField(source="token.expiry")

    class Meta:
        model = TokenGrant
        fields: tuple[str, ...] = ("id", "token", "scope", "label", "expiry")

    def get_token(self, grant: TokenGrant) -> str:
        return str(self.context["text"])


class TokenFilter(filters.FilterSet):
    user = filters.CharFilter(field_name="token__user__username", label="Username")
    scope = AnyOfFilter(choices=TokenScope.choices)

    class Meta:
        model = TokenGrant
        fields: list[str] = []


def _give(user: Any, given: dict[str, Any], by: Actor, within: TokenGrant | None = None) -> dict[str, Any]:
    asked = {name: given[name] for name in ("scope", "expiry", "label") if name in given}
    with refusals():
        grant, text = token_give(user, by=by, now=timezone.now(), at=clock_from_env().now(), within=within, **asked)
    return dict(GivenTokenSerializer(grant, context={"text": text}).data)


WRONG_PASSWORD = told(
    401,
    "There is no such user, or the password is another (`authentication_failed`); or a code of the second factor is "
    "needed (`second_factor_required`), is wrong (`second_factor_wrong`), or came too soon after a wrong one "
    "(`second_factor_throttled`).",
    code="authentication_failed",
    detail="Unable to log in with these credentials.",
)


NO_SECOND_FACTOR = told(
    403,
    "The user may act with a second factor only (`TWO_FACTOR`), and has set up none.",
    code="second_factor_missing",
    detail=f"{MUST_SET_UP} {NO_TOKEN}",
)


class LoginView(KnownQuery, APIView):
    """Username and password, and the code of a second factor where the user has one, for a token. Five tries a minute
    for each address; five wrong ones for a user from one address close this door to it for 15 minutes."""

    authentication_classes = ()
    permission_classes = (permissions.AllowAny,)
    throttle_classes = (LoginThrottle,)
    parser_classes = (StrictJSONParser, FormParser)

    @extend_schema(
        request=LoginSerializer,
        responses={200: GivenTokenSerializer, 401: WRONG_PASSWORD, 403: NO_SECOND_FACTOR},
        auth=[],
    )
    def post(self, request: Request) -> Response:
        given = LoginSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        words = given.validated_data
        plain: Any = request._request
        user = authenticate(plain, username=words["username"], password=words["password"])
        if user is None:
            _refuse_if_locked(plain, words["username"])
            raise AuthenticationFailed(gettext("Unable to log in with these credentials."))
        _prove(plain, user, words.get("code", ""))
        told = _give(user, words, Actor(user, Door.API))
        user_logged_in.send(sender=type(user), request=plain, user=user)
        return Response(told)

    def get_authenticate_header(self, request: Request) -> str:
        return "Token"


def _prove(request: Any, user: Any, code: str) -> None:
    """Raises where the user's second factor is not proved by `code`, or where the user needs one and has none."""
    try:
        factor = factor_check(user, code, now=timezone.now())
    except CodeRefused as exc:
        if exc.reason == "wrong":  # a code is guessed at like a password, and counts like one
            user_login_failed.send(sender=__name__, credentials={"username": user.get_username()}, request=request)
        _refuse_if_locked(request, user.get_username())
        raise AuthenticationFailed(str(exc), code=f"second_factor_{exc.reason}") from exc
    if factor is None and factor_demanded(user):
        raise PermissionDenied(f"{MUST_SET_UP} {NO_TOKEN}", code="second_factor_missing")


def _refuse_if_locked(request: Any, username: str) -> None:
    if is_locked_out(request):
        seconds = locked_seconds(request, username)
        raise Throttled(seconds, detail=locked_words(seconds))


class LogoutView(ApiView):
    """The token that is sent becomes worthless."""

    authentication_classes = (ScopedTokenAuthentication,)
    scope_needed = TokenScope.READ

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request) -> Response:
        grant = cast(TokenGrant, grant_held(request))
        token_revoke(grant, by=actor(request), held=TokenScope(grant.scope), at=clock_from_env().now())
        user_logged_out.send(sender=type(request.user), request=request, user=cast(User, request.user))
        return Response(status=204)


class TokenViewSet(RowsViewSet):
    """Tokens of the API: one's own; an Admin sees everybody's. Of a token only its hash is kept: nobody can read it
    again. A token gives and revokes tokens that are no wider than itself."""

    queryset = TokenGrant.objects.none()
    rows: ClassVar[Any] = visible.tokens_visible
    serializer_class = TokenSerializer
    filterset_class = TokenFilter
    ordering_fields = ("id", "last_used_at")
    scope_needed: ClassVar[Any] = TokenScope.READ  # a Viewer has tokens too
    idempotent = False  # an answer that holds a token is kept nowhere

    @extend_schema(request=TokenAskedSerializer, responses={201: GivenTokenSerializer})
    def create(self, request: Request) -> Response:
        """Give oneself a token: no wider and no longer than the one this is asked with, nor than one's role."""
        given = TokenAskedSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response(_give(request.user, given.validated_data, actor(request), grant_held(request)), status=201)

    @extend_schema(responses={204: None})
    def destroy(self, request: Request, pk: str | None = None) -> Response:
        """Revoke one: it opens nothing from now on. One's own; those of others as an Admin, with the scope `admin`."""
        grant: TokenGrant = self.get_object()
        with refusals():
            token_revoke(grant, by=actor(request), held=scope_held(request), at=clock_from_env().now())
        return Response(status=204)
