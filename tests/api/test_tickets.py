from __future__ import annotations

from datetime import timedelta

import pytest
from rest_framework.test import APIClient

from algo.models import Ticket
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db

LIST = "/api/v1/tickets"


def address(ticket, more=""):
    return f"{LIST}/{ticket.pk}{more}"


def errors(response):
    assert response.status_code == 400, response.content
    return {error["attr"]: error["detail"] for error in response.json()["errors"]}


@pytest.fixture
def ticket(config):
    return make.make_ticket(config.account, market=config.market, reference="HAND1", details={"price": "90.00"})


def test_the_owner_sees_the_ticket_with_its_raw_answer_and_a_stranger_does_not(api, ticket):
    foreign = make.make_ticket()
    [row] = api.get(LIST).json()["results"]
    assert (row["id"], row["market"]["symbol"], row["details"]) == (ticket.pk, "BTCUSDT", {"price": "90.00"})
    shown = api.get(address(ticket)).json()
    assert shown["answers"] == ["adopt", "ignore", "close"]
    assert shown["resolved_by"] is None
    assert api.get(address(foreign)).status_code == 404
    assert api.post(address(foreign, "/answer/"), {"answer": "ignore"}).status_code == 404


def test_the_newest_open_ticket_comes_first_and_lists_are_filtered(staff_api, ticket):
    late = make.make_ticket(kind="balance_moved", created_at=NOW + timedelta(hours=1))
    done = make.make_ticket(created_at=NOW + timedelta(hours=2), resolved_at=NOW + timedelta(hours=3))

    def ids(**filters):
        return [row["id"] for row in staff_api.get(LIST, filters).json()["results"]]

    assert ids() == [late.pk, ticket.pk, done.pk]
    assert ids(open=True) == [late.pk, ticket.pk]
    assert ids(open=False) == [done.pk]
    assert ids(kind="balance_moved") == [late.pk]
    assert ids(account=ticket.account_id, market="btcusdt") == [ticket.pk]


def test_the_number_of_queries_does_not_grow_with_the_list(staff_api, django_assert_max_num_queries):
    for _ in range(8):
        make.make_ticket()
    with django_assert_max_num_queries(4):
        assert len(staff_api.get(LIST).json()["results"]) == 8


def test_the_owner_ignores_it_and_its_market_is_free(api, trader, ticket):
    answer = api.post(address(ticket, "/answer/"), {"answer": "ignore", "note": "my own"}, format="json")
    assert answer.status_code == 200
    body = answer.json()
    assert (body["answer"], body["answer_note"], body["resolved_by"]) == ("ignore", "my own", "trader")
    assert body["resolved_at"] is not None
    assert body["answers"] == []
    assert api.post(address(ticket, "/answer/"), {"answer": "ignore"}, format="json").status_code == 200
    refused = errors(api.post(address(ticket, "/answer/"), {"answer": "close"}, format="json"))
    assert "was resolved" in refused["answer"]


def test_adopting_takes_a_strategy_of_the_owner_only(api, config, ticket):
    foreign = make.make_config()
    post = address(ticket, "/answer/")
    assert "choose the strategy" in errors(api.post(post, {"answer": "adopt"}, format="json"))["config"]
    assert (
        "object does not exist"
        in errors(api.post(post, {"answer": "adopt", "config": foreign.pk}, format="json"))["config"]
    )
    assert Ticket.objects.get().answer == ""
    body = api.post(post, {"answer": "adopt", "config": config.pk}, format="json").json()
    assert (body["adopt_config"], body["resolved_at"]) == (config.pk, None)


def test_what_does_not_fit_is_refused_by_field(api, config, ticket):
    words_only = make.make_ticket(config.account, kind="unknown_trade")
    assert "answer" in errors(api.post(address(ticket, "/answer/"), {"answer": "sell"}, format="json"))
    assert "answer" in errors(api.post(address(ticket, "/answer/"), {}, format="json"))
    assert "note" in errors(api.post(address(words_only, "/answer/"), {"answer": "ignore"}, format="json"))
    assert "answer" in errors(api.post(address(words_only, "/answer/"), {"answer": "close"}, format="json"))
    assert not Ticket.objects.exclude(answer="").exists()


def test_who_may_only_look_at_the_account_does_not_answer_and_an_admin_does(staff_api, ticket):
    post, looker = address(ticket, "/answer/"), make.make_trader()
    ticket.account.viewers.add(looker)
    client = APIClient()
    client.force_authenticate(looker)
    assert client.get(address(ticket)).status_code == 200
    assert client.post(post, {"answer": "ignore"}, format="json").status_code == 403
    assert Ticket.objects.get().resolved_at is None
    assert staff_api.post(post, {"answer": "ignore"}, format="json").status_code == 200
    assert Ticket.objects.get().resolved_by.username == "boss"


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_a_ticket_is_answered_never_written(staff_api, ticket, method):
    assert getattr(staff_api, method)(address(ticket), {"summary": "x"}).status_code == 405


def test_without_a_login_there_is_nothing(ticket):
    assert APIClient().get(LIST).status_code == 401
    assert APIClient().post(address(ticket, "/answer/"), {"answer": "ignore"}).status_code == 401
