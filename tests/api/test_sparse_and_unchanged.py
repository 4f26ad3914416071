"""Less over the wire: only the fields that are asked for, and nothing where nothing changed."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests import factories as make

pytestmark = pytest.mark.django_db


def test_only_the_fields_that_are_asked_for_are_there(api, config):
    deal = make.make_closed_deal(config)
    assert api.get("/api/v1/deals?fields=status,id").json()["results"] == [{"id": deal.pk, "status": "CLOSED"}]
    assert api.get("/api/v1/deals?fields=id&fields=status").json()["results"] == [{"id": deal.pk, "status": "CLOSED"}]
    assert api.get(f"/api/v1/deals/{deal.pk}?fields=id,stop_price").json() == {"id": deal.pk, "stop_price": "49850"}
    row = api.get(f"/api/v1/deals/{deal.pk}?fields=market,held_seconds").json()
    assert list(row) == ["market", "held_seconds"]
    assert row["market"]["symbol"] == "BTCUSDT"


def test_what_is_left_out_is_neither_read_nor_computed(api, config):
    for _ in range(3):
        make.make_order(make.make_closed_deal(config))
    with CaptureQueriesContext(connection) as asked:
        page = api.get("/api/v1/orders?fields=id,market,average_price").json()
    assert [list(row) for row in page["results"]] == [["id", "market", "average_price"]] * 3
    (rows,) = [each["sql"] for each in asked if 'FROM "algo_order"' in each["sql"]]
    assert '"symbol"' in rows
    assert '"raw"' not in rows
    assert '"client_order_id"' not in rows
    with CaptureQueriesContext(connection) as asked:
        assert api.get("/api/v1/deals?fields=id,config_name").json()["results"][0]["config_name"]
    (rows,) = [each["sql"] for each in asked if 'FROM "algo_deal"' in each["sql"]]
    assert '"parameters"' not in rows
    assert "algo_market" not in rows


@pytest.mark.parametrize("address", ["deals", "deals/{pk}"])
@pytest.mark.parametrize("fields", ["secret", "id,", ",", "ID", "id;status", "account__api_key_sealed"])
def test_fields_there_are_not_are_refused_and_the_others_named(api, config, address, fields):
    pk = make.make_closed_deal(config).pk
    answer = api.get(f"/api/v1/{address.format(pk=pk)}", {"fields": fields})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "fields")
    assert "There are id, config, config_name, account" in answer.json()["detail"]


@pytest.mark.parametrize(
    "address", ["deals", "deals/{pk}", "deals?fields=id", "performance/days", "system/kill-switch"]
)
def test_what_did_not_change_is_not_sent_again(api, config, address):
    deal = make.make_closed_deal(config)
    address = "/api/v1/" + address.format(pk=deal.pk)
    first = api.get(address)
    assert first["ETag"].startswith('W/"')
    assert first["Cache-Control"] == "private, no-cache"
    assert {"Accept", "Authorization", "Cookie"} <= {*first["Vary"].split(", ")}
    again = api.get(address, HTTP_IF_NONE_MATCH=f'"other", {first["ETag"]}')
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", first["ETag"])
    assert again["Cache-Control"] == "private, no-cache"
    assert api.get(address, HTTP_IF_NONE_MATCH='W/"other"').status_code == 200


def test_what_changed_is_sent(api, config):
    deal = make.make_open_deal(config)
    before = api.get("/api/v1/deals")
    type(deal).objects.filter(pk=deal.pk).update(note="moved")
    after = api.get("/api/v1/deals", HTTP_IF_NONE_MATCH=before["ETag"])
    assert (after.status_code, after.json()["results"][0]["note"]) == (200, "moved")
    assert after["ETag"] != before["ETag"]


def test_errors_and_what_was_written_have_no_tag(api, config):
    assert "ETag" not in api.get("/api/v1/deals/1")
    written = api.post("/api/v1/deals/1/close", {})
    assert "ETag" not in written
    assert written["Cache-Control"] == "no-store"
    assert "ETag" not in api.get("/admin/login/")
