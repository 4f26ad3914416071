"""What will end says so, in its answers and in the schema. The views are the test's own: nothing has ended yet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.viewsets import ViewSet

from algo.api.base import ApiView, Common
from algo.api.deprecation import deprecated
from tests import factories as make

SINCE, SUNSET = datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 7, 1, 12, tzinfo=UTC)
OLD = extend_schema(parameters=[OpenApiParameter("old", str), OpenApiParameter("new", str)], responses={200: dict})


@deprecated(since=SINCE, sunset=SUNSET, link="/api/#instead")
class EndingView(ApiView):
    @extend_schema(responses={200: dict})
    def get(self, request: Request) -> Response:
        return Response({"a": 1}, headers={"Link": '</x>; rel="next"'})

    @extend_schema(request=None, responses={200: dict})
    def post(self, request: Request) -> Response:
        return Response({"a": 2})


class HalfEndingView(Common, ViewSet):
    query_parameters = ("old", "new")

    @OLD
    @deprecated(since=SINCE, parameters=("old",))
    def list(self, request: Request) -> Response:
        return Response({})

    @extend_schema(request=None, responses={200: dict})
    @deprecated(since=SINCE)
    @action(detail=False, methods=["post"])
    def gone(self, request: Request) -> Response:
        return Response({})


urlpatterns = [
    path("api/v1/ending", EndingView.as_view()),
    path("api/v1/half", HalfEndingView.as_view({"get": "list"})),
    path("api/v1/half/gone", HalfEndingView.as_view({"post": "gone"})),
]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture
def client() -> APIClient:
    client = APIClient()
    client.force_authenticate(make.make_trader())
    return client


def told(answer: Any) -> tuple[str | None, str | None, str | None]:
    return answer.get("Deprecation"), answer.get("Sunset"), answer.get("Link")


def test_every_answer_of_what_ends_says_when_and_where_to_read(client):
    link = '</api/#instead>; rel="deprecation"; type="text/html"'
    ends = ("@1798761600", "Thu, 01 Jul 2027 12:00:00 GMT")
    assert told(client.get("/api/v1/ending")) == (*ends, f'</x>; rel="next", {link}')
    assert told(client.post("/api/v1/ending", HTTP_IDEMPOTENCY_KEY="k")) == (*ends, link)
    assert told(APIClient().get("/api/v1/ending")) == (*ends, link)  # 401 too


def test_a_parameter_that_ends_is_told_to_who_sends_it(client):
    assert told(client.get("/api/v1/half", {"old": "1"}))[0] == "@1798761600"
    assert told(client.get("/api/v1/half", {"new": "1"})) == (None, None, None)


def test_an_action_that_ends_without_a_day_has_no_sunset(client):
    assert told(client.post("/api/v1/half/gone")) == (
        "@1798761600", None, '</api/>; rel="deprecation"; type="text/html"'
    )  # fmt: skip


def test_the_schema_marks_it():
    paths = SchemaGenerator(patterns=urlpatterns).get_schema(request=None, public=True)["paths"]
    assert paths["/api/v1/ending"]["get"]["deprecated"] is True
    assert paths["/api/v1/half/gone"]["post"]["deprecated"] is True
    half = paths["/api/v1/half"]["get"]
    assert "deprecated" not in half
    asked = [each for each in half["parameters"] if each["in"] == "query"]
    assert {each["name"]: each.get("deprecated", False) for each in asked} == {"old": True, "new": False}


@pytest.mark.parametrize("wrong", [{"since": datetime(2027, 1, 1)}, {"since": SUNSET, "sunset": SINCE}])
def test_a_mark_that_cannot_be_meant_is_refused_at_once(wrong):
    with pytest.raises(ValueError, match=r"time zone|before"):
        deprecated(**wrong)
