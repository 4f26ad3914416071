from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db

LISTS = ["deals", "orders", "fills", "signals", "strategies"]


def ids(response):
    assert response.status_code == 200, response.content
    return [row["id"] for row in response.json()["results"]]


def one_of_each(config):
    deal = make.make_closed_deal(config, signal=make.make_signal(config))
    order = make.make_order(deal)
    fill = make.make_fill(order)
    return {
        "deals": deal.pk,
        "orders": order.pk,
        "fills": fill.pk,
        "signals": deal.signal_id,
        "strategies": config.pk,
    }


@pytest.mark.parametrize("name", LISTS)
def test_owner_sees_the_row_and_a_stranger_does_not(api, config, name):
    own = one_of_each(config)
    foreign = one_of_each(make.make_config())
    assert ids(api.get(f"/api/v1/{name}")) == [own[name]]
    assert api.get(f"/api/v1/{name}/{own[name]}").status_code == 200
    hidden = api.get(f"/api/v1/{name}/{foreign[name]}")
    assert hidden.status_code == 404
    assert hidden.json()["errors"][0]["code"] == "not_found"


@pytest.mark.parametrize("name", LISTS)
def test_staff_sees_every_row(staff_api, config, name):
    rows = {one_of_each(config)[name], one_of_each(make.make_config())[name]}
    assert set(ids(staff_api.get(f"/api/v1/{name}"))) == rows


def test_filters_do_not_reach_foreign_rows(api, config):
    foreign = one_of_each(make.make_config())
    assert ids(api.get("/api/v1/orders", {"deal": foreign["deals"]})) == []
    assert ids(api.get("/api/v1/deals", {"config": foreign["strategies"]})) == []


@pytest.mark.parametrize("name", [name for name in LISTS if name != "strategies"])
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_is_written_over_rest(staff_api, config, name, method):
    pk = one_of_each(config)[name]
    assert getattr(staff_api, method)(f"/api/v1/{name}", {}).status_code == 405
    assert getattr(staff_api, method)(f"/api/v1/{name}/{pk}", {}).status_code == 405


@pytest.mark.parametrize("name", LISTS)
def test_no_answer_holds_the_exchange_key(staff_api, config, name):
    pk = one_of_each(config)[name]
    for address in (f"/api/v1/{name}", f"/api/v1/{name}/{pk}"):
        body = staff_api.get(address).content.decode()
        assert "CANARY" not in body
        assert config.account.api_key_sealed not in body
        assert "zq7X" not in body  # nor the hint


@pytest.mark.parametrize("name", LISTS)
def test_query_count_does_not_grow_with_rows(staff_api, django_assert_max_num_queries, name):
    for _ in range(6):
        one_of_each(make.make_config())
    with django_assert_max_num_queries(3):  # the user's role, count and rows
        assert len(ids(staff_api.get(f"/api/v1/{name}"))) == 6


def test_amounts_are_plain_text_without_trailing_zeros(api, config):
    deal = make.make_closed_deal(config, planned_quantity=Decimal("0.00000010"), profit=Decimal("-1.50"))
    row = api.get(f"/api/v1/deals/{deal.pk}").json()
    assert (row["planned_quantity"], row["profit"], row["entry_price"]) == ("0.0000001", "-1.5", "50000")
    assert api.get(f"/api/v1/deals/{make.make_deal(config).pk}").json()["profit"] is None


def test_protection_mode_is_named(api, config):
    assert api.get(f"/api/v1/deals/{make.make_deal(config).pk}").json()["protection_mode"] == "LOCKING_STOPS"


def test_times_are_utc(api, config):
    assert api.get(f"/api/v1/deals/{make.make_closed_deal(config).pk}").json()["opened_at"] == "2026-11-02T10:00:00Z"


def test_deals_are_filtered_by_status_side_market_and_strategy(api, trader, config):
    closed = make.make_closed_deal(config)
    other = make.make_config(account=make.make_account(owner=trader), market=make.make_market("ETHUSDT"))
    opened = make.make_open_deal(other, side="SELL")
    get = lambda **query: ids(api.get("/api/v1/deals", query))  # noqa: E731
    assert get(status="CLOSED") == [closed.pk]
    assert set(get(status=["CLOSED", "OPEN"])) == {closed.pk, opened.pk}
    assert get(side="SELL") == [opened.pk]
    assert get(market="ethusdt") == [opened.pk]
    assert get(config=config.pk) == [closed.pk]


def test_deals_are_filtered_by_times_from_inclusive_to_exclusive(api, config):
    deal = make.make_closed_deal(config)
    before, after = (NOW - timedelta(seconds=1)).isoformat(), (NOW + timedelta(seconds=1)).isoformat()
    get = lambda **query: ids(api.get("/api/v1/deals", query))  # noqa: E731
    assert get(opened_after=NOW.isoformat()) == [deal.pk]
    assert get(opened_after=after) == []
    assert get(opened_before=NOW.isoformat()) == []
    assert get(opened_before=after) == [deal.pk]
    assert get(closed_after=before, closed_before=(NOW + timedelta(hours=1)).isoformat()) == [deal.pk]
    assert get(closed_before=after) == []


def test_deals_are_ordered_as_asked(api, config):
    poor = make.make_closed_deal(config, profit=Decimal("-1"))
    rich = make.make_closed_deal(config, profit=Decimal("2"))
    assert ids(api.get("/api/v1/deals", {"ordering": "profit"})) == [poor.pk, rich.pk]
    assert ids(api.get("/api/v1/deals", {"ordering": "-profit"})) == [rich.pk, poor.pk]


def test_orders_are_filtered_by_deal_status_role_and_market(api, config):
    deal = make.make_closed_deal(config)
    entry = make.make_order(deal, status="FILLED", filled_quantity=Decimal("0.01"))
    stop = make.make_order(deal, role="STOP", status="CANCELED")
    make.make_order(make.make_closed_deal(config), role="EXIT", status="FILLED", filled_quantity=Decimal("0.01"))
    get = lambda **query: ids(api.get("/api/v1/orders", query))  # noqa: E731
    assert set(get(deal=deal.pk)) == {entry.pk, stop.pk}
    assert get(deal=deal.pk, status="FILLED") == [entry.pk]
    assert get(role="STOP") == [stop.pk]
    assert len(get(market="BTCUSDT")) == 3
    assert get(market="ETHUSDT") == []


def test_signals_are_filtered_by_denial_side_and_strategy(api, config):
    passed = make.make_signal(config)
    deal = make.make_deal(config, signal=passed)
    denied = make.make_signal(config, denial_code="cooldown", side="SELL")
    get = lambda **query: ids(api.get("/api/v1/signals", query))  # noqa: E731
    assert get(denial_code="cooldown") == get(side="SELL") == get(denied="true") == [denied.pk]
    assert get(denied="false") == [passed.pk]
    assert len(get(config=config.pk)) == 2
    assert api.get(f"/api/v1/signals/{passed.pk}").json()["deal"] == deal.pk
    assert api.get(f"/api/v1/signals/{denied.pk}").json()["deal"] is None


def test_a_signal_brings_the_journal_of_its_candle(api, config):
    signal = make.make_signal(config, denial_code="cooldown", denial_message="Too soon.")
    address = f"/api/v1/signals/{signal.pk}"
    assert api.get(address).json()["decision"] is None
    journal = {"denial": {"code": "cooldown", "message": "Too soon."}, "indicators": {"rsi": 61.25}}
    decision = make.make_decision(config, bar_open_at=signal.bar_open_at, outcome="denied", journal=journal)
    told = api.get(address).json()
    assert (told["indicators"]["rsi"], told["denial_code"], told["decision"]["id"]) == ("61.2", "cooldown", decision.pk)
    assert (told["decision"]["why"], told["decision"]["journal"]) == ("Too soon.", journal)


def test_fills_are_filtered_by_deal(api, config):
    fill = make.make_fill(make.make_order(make.make_deal(config)))
    assert ids(api.get("/api/v1/fills", {"deal": fill.order.deal_id})) == [fill.pk]
    assert ids(api.get("/api/v1/fills", {"deal": fill.order.deal_id + 1})) == []


@pytest.mark.parametrize("query", [{"status": "LOST"}, {"opened_after": "yesterday"}, {"config": "x"}, {"side": "buy"}])
def test_wrong_filter_is_an_error_and_not_an_empty_list(api, query):
    answer = api.get("/api/v1/deals", query)
    assert answer.status_code == 400
    assert answer.json()["code"] == "validation_error"
    assert answer.json()["errors"][0]["attr"] == next(iter(query))


def test_absurd_numbers_are_refused_and_absurd_ids_are_nobody(api, config):
    make.make_deal(config)
    assert api.get("/api/v1/deals", {"config": "9" * 30}).status_code == 400
    assert api.get(f"/api/v1/deals/{'9' * 30}").status_code == 404
