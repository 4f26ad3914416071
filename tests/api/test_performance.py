from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from tests import factories as make

pytestmark = pytest.mark.django_db
PAGES = ["strategies", "markets", "days", "equity", "risk"]


@pytest.mark.parametrize("page", PAGES)
def test_one_sees_the_deals_of_own_accounts_alone(api, config, page):
    make.make_closed_deal(make.make_config())
    nothing = {"time_zone": "Asia/Tehran", "results": []} | ({"next": None} if page == "days" else {})
    assert api.get(f"/api/v1/performance/{page}").json() == nothing
    make.make_closed_deal(config)
    (row,) = api.get(f"/api/v1/performance/{page}").json()["results"]
    assert (row.get("figures") or row)["profit"] == "0.6"


@pytest.mark.parametrize("page", PAGES)
def test_query_count_does_not_grow_with_deals(staff_api, django_assert_max_num_queries, page):
    for _ in range(6):
        make.make_closed_deal(make.make_config())
    with django_assert_max_num_queries(6):
        assert staff_api.get(f"/api/v1/performance/{page}").status_code == 200


@pytest.mark.parametrize(
    ("asked", "attr"),
    [
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-11-03", "to": "2026-11-02"}, "to"),
        ({"account": "x"}, "account"),
        ({"strategy": str(2**63)}, "strategy"),
    ],
)
@pytest.mark.parametrize("page", PAGES)
def test_wrong_filters_are_named(api, page, asked, attr):
    answer = api.get(f"/api/v1/performance/{page}", asked)
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, attr)


def test_amounts_are_text_and_ratios_numbers(api, config):
    make.make_closed_deal(config, profit=Decimal("-1.50"))
    (row,) = api.get("/api/v1/performance/strategies", {"from": "2026-11-02", "to": "2026-11-02"}).json()["results"]
    figures = row["figures"]
    assert (row["id"], row["name"]) == (config.pk, config.name)
    assert (figures["profit"], figures["average_loss"], figures["average_win"]) == ("-1.5", "1.5", None)
    assert (figures["win_rate_percent"], figures["profit_factor"], figures["average_r"]) == (0.0, 0.0, -1.0)


def test_a_curve_has_the_period_asked_for(api, config):
    make.make_closed_deal(config)
    (point,) = api.get("/api/v1/performance/equity", {"period": "month"}).json()["results"]
    assert point == {"quote": "USDT", "start": "2026-11-01", "deals": 1, "profit": "0.6", "equity": "0.6"}
    assert api.get("/api/v1/performance/equity", {"period": "hour"}).status_code == 400


def test_days_lead_to_the_days_before_them(api, config):
    for day in range(3):
        make.make_closed_deal(config, closed_at=make.NOW + timedelta(days=day))
    first = api.get("/api/v1/performance/days", {"limit": 2, "from": "2026-11-01"}).json()
    second = api.get(first["next"]).json()
    assert [day["name"] for day in first["results"]] == ["2026-11-04", "2026-11-03"]
    assert ([day["name"] for day in second["results"]], second["next"]) == (["2026-11-02"], None)
    assert api.get("/api/v1/performance/days", {"limit": 0}).status_code == 400
