"""The API's side of live updates: who may listen, by the API's own logins, and rows as its lists show them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from operator import attrgetter
from typing import Any, ClassVar, cast
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.db import Error as DatabaseTrouble
from django.db import close_old_connections
from django.http import HttpResponse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_otp.middleware import OTPMiddleware
from rest_framework.exceptions import ValidationError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from algo.api.base import ApiView
from algo.api.problems import problem_response
from algo.api.serializers import (
    DealSerializer,
    FillSerializer,
    OrderSerializer,
    SignalSerializer,
    StrategySerializer,
)
from algo.api.tickets import TicketSerializer
from algo.live.redis_link import connect, connect_async
from algo.live.updates.events import ADMINS, EVERYBODY, Event, Visitor, as_json, reset
from algo.live.updates.follower import BLOCK_SECONDS, Follower
from algo.live.updates.hub import Hub
from algo.live.updates.prices import Prices
from algo.live.updates.relay import Relay
from algo.live.updates.server import Admitted, Answer, Headers, Live, Scope
from algo.localised import Reader, reading
from algo.models import Halt, LiveChange, Market, OutboxEvent, Severity, SystemControl
from algo.models.event_kinds import OF_EVERYBODY
from algo.notifications.texts import event_text
from algo.selectors import visible
from algo.selectors.halts import level_of, scope_name, target_field
from algo.selectors.rights import accounts_of, sees_all
from algo.services.live_changes import RESET

MOST_MARKETS = 50
NO_DATABASE = gettext_lazy(
    "The database does not answer, so nobody can be let in. Trading goes on by itself. Try again."
)
ANSWER_SECONDS = 1.0
BLOCKED_SECONDS = BLOCK_SECONDS + ANSWER_SECONDS


def live_updates() -> Live:
    """All of it, put together: an ASGI application that begins with `start` and ends with `stop`."""
    calls = connect_async(settings.REDIS_URL, ANSWER_SECONDS, ANSWER_SECONDS)
    waits = connect_async(settings.REDIS_URL, BLOCKED_SECONDS, ANSWER_SECONDS)
    hub = Hub(most=settings.LIVE_CONNECTIONS, most_of_user=settings.LIVE_CONNECTIONS_OF_USER)
    relay = Relay(connect(settings.REDIS_URL, ANSWER_SECONDS), events_of)
    web = urlsplit(settings.WEB_URL)
    return Live(
        hub,
        Follower(waits, calls, hub),
        Prices(calls, hub),
        relay,
        ApiDoor(),
        web_origin=f"{web.scheme}://{web.netloc}" if web.netloc else "",
    )


# --- who may listen ---------------------------------------------------------------------------------------------------


class _WhateverIsAccepted(DefaultContentNegotiation):
    """A browser accepts nothing but `text/event-stream`: who is let in gets that, a refusal is JSON all the same."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> tuple[Any, str]:
        return renderers[0], renderers[0].media_type


class ListenView(ApiView):
    """Who asks, by session or token, within the limits of the API; answered by the stream itself."""

    content_negotiation_class = _WhateverIsAccepted
    query_parameters: ClassVar[list[str]] = ["markets", "last_event_id"]

    def get(self, request: Request) -> Response:
        return Response(_visitor(request.user))


class _AgainView(ListenView):
    """The same, uncounted: nobody asked."""

    throttle_classes = ()


def _visitor(user: Any) -> Visitor:
    accounts = frozenset(accounts_of(user).values_list("pk", flat=True))
    return Visitor(user.pk, sees_all(user), accounts)


class ApiDoor:
    """Lets in whom the API lets read."""

    def __init__(self) -> None:
        self._enter, self._again = _signed_in(ListenView), _signed_in(_AgainView)

    def enter(self, scope: Scope) -> Admitted | Answer:
        close_old_connections()
        try:
            with translation.override(_language(scope)):
                return self._let_in(scope)
        except DatabaseTrouble:
            return self.refuse(scope, 503, "unavailable", NO_DATABASE, [(b"retry-after", b"5")])
        finally:
            close_old_connections()

    def _let_in(self, scope: Scope) -> Admitted | Answer:
        try:
            answer = self._enter(scope)
            if answer.status_code != 200:
                return _answer(answer)
            return Admitted(cast(Any, answer).data, _markets(scope))
        except ValidationError as exc:
            detail = str(cast(Any, exc.detail)["markets"][0])
            return _answer(problem_response(400, code="invalid", detail=detail, attr="markets"))

    def still(self, scope: Scope) -> Visitor | None:
        close_old_connections()
        try:
            answer = self._again(scope)
            return cast(Any, answer).data if answer.status_code == 200 else None
        finally:
            close_old_connections()

    def refuse(self, scope: Scope, status: int, code: str, detail: Any, headers: Headers, **named: object) -> Answer:
        with translation.override(_language(scope)):
            answer = _answer(problem_response(status, code=code, detail=str(detail) % named if named else str(detail)))
        return Answer(answer.status, [*answer.headers, *headers], answer.body)


def _request(scope: Scope) -> ASGIRequest:
    return ASGIRequest(dict(scope), BytesIO())


def _language(scope: Scope) -> str:
    return translation.get_language_from_request(_request(scope))


def _signed_in(view: type[ListenView]) -> Callable[[Scope], HttpResponse]:
    """The view behind the middleware that knows sessions."""
    inside = SessionMiddleware(AuthenticationMiddleware(OTPMiddleware(cast(Any, view.as_view()))))

    def answer(scope: Scope) -> HttpResponse:
        request = _request(scope)
        try:
            request.get_host()
        except DisallowedHost:
            return problem_response(400, code="parse_error", detail=_("This host name is not served here."))
        return cast(HttpResponse, inside(request))

    return answer


def _answer(response: HttpResponse) -> Answer:
    if hasattr(response, "render"):
        response.render()
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
    kept = [(name, value) for name, value in headers if name not in (b"vary", b"content-length")]
    return Answer(response.status_code, [*kept, (b"cache-control", b"no-store")], response.content)


def _markets(scope: Scope) -> Mapping[tuple[str, str], int]:
    """Raises ValidationError."""
    given = ",".join(parse_qs(scope["query_string"].decode("latin-1")).get("markets", [])).split(",")
    asked = {word.strip() for word in given} - {""}
    if not all(word.isascii() and word.isdigit() and len(word) <= 18 for word in asked) or len(asked) > MOST_MARKETS:
        words = _("Name markets by their ids, with commas: 1,2; %(most_markets)s at most.") % {
            "most_markets": MOST_MARKETS
        }
        raise ValidationError({"markets": [words]})
    rows = Market.objects.filter(pk__in=[int(word) for word in asked])
    return {(provider, symbol): pk for pk, provider, symbol in rows.values_list("pk", "provider", "symbol")}


# --- what is told -----------------------------------------------------------------------------------------------------


class _Everybody:
    """Who sees all rows: whose they are is told with each, and who may hear it is decided where it is told."""

    pk = None
    is_active = is_authenticated = is_superuser = True


Told = tuple[str, Any]  # to whom, and what


def _rows(kind: str, rows: Any, serializer: type[Any]) -> Callable[[Sequence[int]], Mapping[int, Told]]:
    """Rows as their list in the API shows them."""

    def read(ids: Sequence[int]) -> Mapping[int, Told]:
        found = rows(_Everybody()).filter(pk__in=ids)
        account_id = attrgetter(visible.ACCOUNT_OF[found.model].replace("__", ".") + "_id")
        shown = serializer(found, many=True).data
        return {row.pk: (str(account_id(row)), told) for row, told in zip(found, shown, strict=True)}

    return read


def _switches(ids: Sequence[int]) -> Mapping[int, Told]:
    rows = Halt.objects.filter(pk__in=ids).select_related("account", "config__account", "market")
    return {row.pk: (_audience_of(row), _switch(row)) for row in rows}


def _system(ids: Sequence[int]) -> Mapping[int, Told]:
    return {row.pk: (EVERYBODY, _switch(row)) for row in SystemControl.objects.filter(pk__in=ids)}


def _audience_of(row: Halt) -> str:
    """A market's switch stops everybody."""
    if row.account_id is not None:
        return str(row.account_id)
    return EVERYBODY if row.config is None else str(row.config.account_id)


SWITCH_SCOPES = {"account": "account", "config": "strategy", "market": "market"}


def _switch(row: SystemControl | Halt) -> dict[str, Any]:
    target = row.target if isinstance(row, Halt) else None
    return {
        "what": "kill_switch",
        "scope": "system" if target is None else SWITCH_SCOPES[target_field(target)],
        "id": None if target is None else target.pk,
        "name": scope_name(target),
        "level": level_of(row).value,
        "reason": row.reason,
        "at": row.changed_at,
    }


def _alarms(ids: Sequence[int]) -> Mapping[int, Told]:
    """Events that ask for somebody's attention, to those who may see them."""
    rows = OutboxEvent.objects.filter(pk__in=ids, severity__gte=Severity.WARNING, channel=None)
    with reading(Reader()):  # in English: who reads it is not known here
        return {row.pk: (_audience_of_event(row), _alarm(row)) for row in rows}


def _audience_of_event(row: OutboxEvent) -> str:
    if row.account_id is not None:
        return str(row.account_id)
    return EVERYBODY if row.kind in OF_EVERYBODY else ADMINS


def _alarm(row: OutboxEvent) -> dict[str, Any]:
    return {
        "id": row.pk,
        "kind": row.kind,
        "text": event_text(row).title,
        "severity": Severity(row.severity).name.lower(),
        "account": row.account_id,
        "strategy": row.config_id,
        "deal": row.deal_id,
        "about": row.payload,
        "at": row.created_at,
    }


_READ: dict[str, tuple[str, Callable[[Sequence[int]], Mapping[int, Told]]]] = {
    "deal": ("deal", _rows("deal", visible.deals_visible, DealSerializer)),
    "order": ("order", _rows("order", visible.orders_visible, OrderSerializer)),
    "fill": ("fill", _rows("fill", visible.fills_visible, FillSerializer)),
    "signal": ("signal", _rows("signal", visible.signals_visible, SignalSerializer)),
    "strategy": ("strategy", _rows("strategy", visible.strategies_visible, StrategySerializer)),
    "ticket": ("ticket", _rows("ticket", visible.tickets_visible, TicketSerializer)),
    "control": ("system", _system),
    "halt": ("system", _switches),
    "alarm": ("alarm", _alarms),
}


def events_of(changes: Sequence[LiveChange]) -> list[Event]:
    """What the changes come to: of a row that changed several times, the one state in which it is now, told where its
    first change stands. One query for each kind."""
    of_row: dict[tuple[str, int], list[LiveChange]] = {}
    for change in changes:
        of_row.setdefault((change.kind, change.row_id), []).append(change)
    kinds = {kind for kind, _ in of_row} & _READ.keys()
    found = {kind: _READ[kind][1]([pk for of, pk in of_row if of == kind]) for kind in kinds}
    told = (_event(kind, pk, these, found.get(kind, {}).get(pk)) for (kind, pk), these in of_row.items())
    return [event for event in told if event is not None]


def _event(kind: str, pk: int, changes: Sequence[LiveChange], told: Told | None) -> Event | None:
    """None where there is nothing to tell."""
    keys = tuple(change.key for change in changes)
    if kind == RESET:
        return reset("nobody told changes for long", keys)
    if told is not None:
        return Event(_READ[kind][0], JSONRenderer().render(told[1]).decode(), told[0], keys)
    account = next((change.account_id for change in changes if change.account_id is not None), None)
    return None if account is None else Event(kind, as_json({"id": pk, "removed": True}), str(account), keys)
