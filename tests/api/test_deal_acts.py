from __future__ import annotations

from decimal import Decimal

import pytest

from algo.api import deals
from algo.models import AuditRecord, Deal, MarketQuote, Order
from providers.clock import clock_from_env
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db


@pytest.fixture
def hints(monkeypatch):
    told: list[int] = []
    monkeypatch.setattr(deals, "advance_hint", told.append)
    return told


@pytest.fixture
def deal(config):
    return make.make_open_deal(config)


def post(client, address, **data):
    return client.post(f"/api/v1/{address}", data, format="json")


def test_the_owner_closes_a_deal_and_twice_is_once(api, deal, hints):
    answer = post(api, f"deals/{deal.pk}/close", reason="news")
    assert answer.status_code == 200, answer.content
    body = answer.json()
    assert (body["done"], body["deal"]["status"], body["deal"]["exit_reason"]) == (True, "EXITING", "manual")
    assert post(api, f"deals/{deal.pk}/close").json()["done"] is False
    assert hints == [deal.account_id]
    record = AuditRecord.objects.get(act="deal.close")
    assert (record.username, record.door, record.reason) == ("trader", "api", "news")


@pytest.mark.parametrize("act", ["close", "stop", "reprotect"])
def test_who_may_only_look_is_refused_and_a_stranger_finds_nothing(looker, deal, hints, act):
    foreign = make.make_open_deal()
    assert looker.get(f"/api/v1/deals/{deal.pk}").status_code == 200
    sent = {"stop_price": "1"} if act == "stop" else {}
    assert post(looker, f"deals/{deal.pk}/{act}", **sent).status_code == 403
    assert post(looker, f"deals/{foreign.pk}/{act}", **sent).status_code == 404
    assert (Deal.objects.filter(exit_reason="").count(), hints) == (2, [])


def test_a_looser_stop_needs_to_be_meant(api, deal, hints):
    now = clock_from_env().now()
    bid, ask = deal.entry_price, deal.entry_price + 1
    MarketQuote.objects.create(market=deal.market, bid=bid, ask=ask, last=bid, as_of=now, received_at=now)
    looser = deal.stop_price - 1
    refused = post(api, f"deals/{deal.pk}/stop", stop_price=str(looser))
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (409, "looser_stop")
    moved = post(api, f"deals/{deal.pk}/stop", stop_price=str(looser), looser_ok=True, reason="room")
    assert moved.status_code == 200, moved.content
    assert Decimal(moved.json()["deal"]["stop_price"]) == looser


def test_an_ended_deal_is_told_to_have_ended(api, config, hints):
    ended = make.make_closed_deal(config)
    answer = post(api, f"deals/{ended.pk}/close")
    assert answer.status_code == 409
    assert "has ended" in answer.json()["errors"][0]["detail"]
    assert hints == []


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("deals/{deal}/close", "reson"),
        ("deals/{deal}/stop", "loser_ok"),
        ("backtests", "slipage_percent"),
        ("optimisations/begin", "trails"),
        ("tickets/{ticket}/answer", "nots"),
        ("auth/tokens", "scopes"),
        ("strategies/validate", "parameter"),
        ("accounts", "apikey"),
        ("markets/{market}/candles/fetch", "form"),
    ],
)
def test_a_misspelt_field_is_refused_and_nothing_is_done(api, deal, path, field):
    ticket = make.make_ticket(account=deal.account)
    address = path.format(deal=deal.pk, ticket=ticket.pk, market=deal.market_id)
    answer = post(api, address, **{field: "1"})
    error = answer.json()["errors"][0]
    assert (answer.status_code, error["attr"], error["code"]) == (400, field, "unknown_field")
    deal.refresh_from_db()
    assert deal.exit_reason == ""


def test_a_stop_that_is_no_price_is_named_by_its_field(api, deal):
    answer = post(api, f"deals/{deal.pk}/stop", stop_price="low")
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "stop_price")


def test_a_deal_tells_its_story(api, config):
    deal = make.make_closed_deal(config, signal=make.make_signal(config))
    make.make_fill(make.make_order(deal))
    told = api.get(f"/api/v1/deals/{deal.pk}").json()
    kinds = [line["kind"] for line in told["story"]]
    assert {"signal", "planned", "fill", "ended"} <= set(kinds)
    assert told["unprotected_now_seconds"] == 0
    assert isinstance(told["risk_multiple"], str)


def test_an_entry_is_cancelled_and_a_stop_is_not(api, config, hints):
    deal = make.make_deal(config, status="ENTERING")
    entry = make.make_order(deal, role="ENTRY", status="OPEN")
    answer = post(api, f"orders/{entry.pk}/cancel", reason="late")
    assert answer.status_code == 200, answer.content
    assert (answer.json()["done"], hints) == (True, [deal.account_id])
    assert Order.objects.get(pk=entry.pk).cancel_asked_at is not None
    other = make.make_account(owner=config.account.owner)
    stop = make.make_order(
        make.make_open_deal(make.make_config(account=other)), role="STOP", status="OPEN", side="SELL"
    )
    assert post(api, f"orders/{stop.pk}/cancel").status_code == 409


def test_deals_are_filtered_by_account_and_profit(staff_api, config):
    low = make.make_closed_deal(config, profit=Decimal("-2"))
    high = make.make_closed_deal(profit=Decimal("3.5"))

    def ids(**given):
        return [row["id"] for row in staff_api.get("/api/v1/deals", given).json()["results"]]

    assert ids(account=low.account_id) == [low.pk]
    assert ids(profit_min="0") == [high.pk]
    assert ids(profit_max="0") == [low.pk]


def test_the_journal_says_why_a_candle_led_to_nothing(api, config):
    make.make_decision()
    denied = make.make_decision(
        config, outcome="denied", journal={"denial": {"code": "cooldown", "message": "Too soon after the last."}}
    )
    quiet = make.make_decision(config, bar_open_at=NOW)
    rows = api.get("/api/v1/decisions").json()["results"]
    assert [row["id"] for row in rows] == [quiet.pk, denied.pk]
    assert (rows[1]["code"], rows[1]["why"]) == ("cooldown", "Too soon after the last.")
    assert [row["id"] for row in api.get("/api/v1/decisions?code=cooldown").json()["results"]] == [denied.pk]
    assert api.get(f"/api/v1/decisions/{denied.pk}").json()["journal"]["denial"]["code"] == "cooldown"
    assert api.get("/api/v1/decisions/counts?config=x").status_code == 400
    assert api.get(f"/api/v1/decisions/counts?config={config.pk}").status_code == 200
