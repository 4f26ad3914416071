"""The OpenAPI document is complete, and names what the addresses really take."""

from __future__ import annotations

import re

import pytest
from django_filters import BooleanFilter, DateFilter, DateTimeFilter, IsoDateTimeFilter, NumberFilter
from drf_spectacular.generators import SchemaGenerator
from rest_framework.test import APIClient

from algo.api.filters import MomentFilter
from algo.selectors.rights import Role
from tests import factories as make
from tests.api.test_pages import lists
from tests.api.test_schema_holds import a_world

pytestmark = pytest.mark.django_db

ALWAYS = {"406", "429", "500"}
PUBLIC = {"/api/v1/auth/login/", "/api/v1/system/health/", "/api/v1/inbound/{id}/"}


@pytest.fixture(scope="module")
def document():
    return SchemaGenerator().get_schema(public=True)


@pytest.fixture(scope="module")
def operations(document):
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_every_operation_says_what_it_does_and_how_it_can_fail(operations):
    assert len(operations) > 70
    for (method, path), operation in operations.items():
        answers = {*operation["responses"]}
        assert operation["summary"], path
        assert operation["description"], path
        assert answers >= ALWAYS, path
        assert path in PUBLIC or answers >= {"401", "403"}, path
        assert "{id}" not in path or "404" in answers, path
        assert method in ("GET", "DELETE") or answers >= {"400", "413", "415"}, path
        assert method != "GET" or "304" in answers, path
        assert any(status.startswith("2") for status in answers), path


def test_every_error_has_one_schema_and_an_example(document, operations):
    shared = document["components"]["responses"]
    assert {*shared} >= {"Problem401", "Problem403", "Problem404", "Problem429", "Problem500"}
    for (_, path), operation in operations.items():
        for status, answer in operation["responses"].items():
            if status < "400" or (status, path) == ("503", "/api/v1/system/health/"):
                continue
            told = shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
            ((kind, content),) = told["content"].items()
            assert (kind, content["schema"]["$ref"]) == ("application/problem+json", "#/components/schemas/Problem")
            (example,) = content["examples"].values()
            assert str(example["value"]["status"]) == status, path
            assert told["description"], path


def test_names_of_operations_are_for_clients(operations):
    names = [operation["operationId"] for operation in operations.values()]
    assert len(names) == len(set(names))
    assert all(re.fullmatch("[a-z_]+", name) for name in names)
    # clients call them: a change here is a change of the API
    assert {"deals_list", "deals_retrieve", "deals_close", "deals_stop", "orders_cancel", "auth_login"} <= {*names}
    assert {"strategies_create", "strategies_partial_update", "strategies_destroy", "backtests_create"} <= {*names}
    assert {"kill_switches", "kill_switch_turn", "performance_days", "health", "tickets_answer"} <= {*names}


def test_addresses_take_the_parameters_that_the_schema_names_and_no_other(operations):
    boss = make.make_user(role=Role.ADMIN)
    world = a_world(boss)
    api = APIClient()
    api.force_authenticate(boss)
    for (method, path), operation in operations.items():
        kind = path.removeprefix("/api/v1/").partition("/{id}")[0]
        address = path.replace("{id}", str(world.get(kind))).replace("{version}", "1")
        answer = getattr(api, method.lower())(f"{address}?nonsense=1", {} if method != "GET" else None)
        assert answer.status_code == 400, (method, path, answer.content)
        (error,) = answer.json()["errors"]
        assert (error["attr"], error["code"]) == ("nonsense", "unknown_parameter"), (method, path)
        named = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        told = re.search("There are (.*)[.]$", error["detail"])
        assert ({*told[1].split(", ")} if told else set()) == named, (method, path)


def test_rows_may_lack_every_field_where_fields_may_be_left_out(document):
    schemas = document["components"]["schemas"]
    assert "required" not in schemas["Deal"]
    assert "required" not in schemas["DealDetail"]
    assert schemas["Problem"]["required"] == ["code", "detail", "errors", "status", "title", "type"]


def test_filters_are_as_strict_as_the_schema_says():
    """The library's own take 1e999 for an id, NaN for an amount, and show everything for `denied=maybe`."""
    loose = (NumberFilter, BooleanFilter, DateTimeFilter, IsoDateTimeFilter, DateFilter)
    for view in lists():
        for name, each in view.filterset_class.base_filters.items():
            assert isinstance(each, MomentFilter) or not isinstance(each, loose), (view, name)
