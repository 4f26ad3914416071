"""The process `live` as a page meets it: real PostgreSQL, real Redis, a real connection."""

from __future__ import annotations

import http.client
import json
import signal
import socket
from datetime import timedelta
from decimal import Decimal

import pytest
from django.conf import settings
from django.utils import timezone
from knox.models import AuthToken

from algo.live.market_feed import key
from algo.live.redis_link import connect
from algo.live.updates.relay import STREAM
from algo.models import DealStatus, Fill, LiveChange, Role, TokenGrant
from algo.selectors import rights
from benchmarks.live_updates import resident_mb
from tests.execution.processes import GUARDIAN, environment, planned, said, started, wait_for
from tests.factories import (
    make_account,
    make_config,
    make_deal,
    make_fill,
    make_market,
    make_order,
    make_signal,
    make_trader,
    make_user,
)
from tests.live.updates.listening import PAGE, cookie_of, live_process
from tests.paper.world import running

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _no_stream():
    connect(settings.REDIS_URL, 1.0).delete(STREAM)


@pytest.fixture
def trader():
    return make_trader("trader")


@pytest.fixture
def config(trader):
    return make_config(account=make_account(owner=trader))


@pytest.fixture
def live(tmp_path):
    with live_process(tmp_path) as live:
        yield live
    assert "Traceback" not in said(tmp_path)


def test_a_browser_which_accepts_an_event_stream_alone_is_let_in(live, trader):
    page = live.listen(trader, Accept="text/event-stream", Cache_Control="no-cache")
    page.wait(lambda page: page.of("hello"))


def test_a_page_is_told_of_what_happens_to_its_accounts_as_the_lists_show_it(live, trader, config, client):
    page = live.listen(trader)
    page.wait(lambda page: page.of("hello"))
    deal = make_deal(config)
    order = make_order(deal, status="FILLED", filled_quantity=deal.planned_quantity)
    make_fill(order)
    page.wait(lambda page: page.of("deal") and page.of("fill") and page.of("order"))
    client.force_login(trader)
    for kind, address in (("deal", "deals"), ("order", "orders"), ("fill", "fills")):
        (row,) = client.get(f"/api/v1/{address}").json()["results"]
        assert page.of(kind)[-1] == row
    wait_for(lambda: not LiveChange.objects.exists(), 15, "told changes are removed")


def test_what_belongs_to_others_is_not_told(live, trader, config):
    page, boss = live.listen(trader), live.listen(make_user(role=rights.Role.ADMIN))
    page.wait(lambda page: page.of("hello"))
    boss.wait(lambda page: page.of("hello"))
    other, own = make_signal(make_config()), make_signal(config)
    page.wait(lambda page: page.of("signal"))
    boss.wait(lambda page: len(page.of("signal")) == 2)
    assert [row["id"] for row in page.of("signal")] == [own.pk]
    assert [row["id"] for row in boss.of("signal")] == [other.pk, own.pk]


def test_who_comes_back_catches_up_from_where_it_was(live, trader, config):
    page = live.listen(trader)
    page.wait(lambda page: page.of("hello"))
    first = make_deal(config)
    page.wait(lambda page: page.of("deal"))
    page.close()
    missed = make_deal(make_config(account=make_account(owner=trader)))
    type(first).objects.filter(pk=first.pk).update(status=DealStatus.CANCELED)
    wait_for(lambda: not LiveChange.objects.exists(), 15, "the relay told them")
    again = live.listen(trader, Last_Event_ID=page.last_id)
    again.wait(lambda page: len(page.of("deal")) == 2)
    assert [(row["id"], row["status"]) for row in again.of("deal")] == [(missed.pk, "PLANNED"), (first.pk, "CANCELED")]
    assert again.of("reset") == []
    by_address = live.listen(trader, path=f"/live/events?last_event_id={again.last_id}")
    by_address.wait(lambda page: page.last_id)
    assert (by_address.of("deal"), by_address.of("reset")) == ([], [])


@pytest.mark.parametrize("place", ["5-0", "nonsense", "99999999999999-0"])
def test_a_place_that_the_stream_does_not_know_is_answered_with_reset(live, trader, place):
    page = live.listen(trader, Last_Event_ID=place)
    page.wait(lambda page: page.of("reset"))
    assert page.last_id not in ("", place)


def test_nobody_comes_in_without_a_login(live):
    page = live.listen()
    assert (page.answer.status, page.answer.headers["content-type"]) == (401, "application/problem+json")
    assert page.problem["code"] == "not_authenticated"


def test_a_token_that_may_read_is_let_in_and_an_expired_one_is_told_so(live, trader):
    token, text = AuthToken.objects.create(user=trader)
    TokenGrant.objects.create(token=token, scope="read")
    assert live.listen(Authorization=f"Token {text}").answer.status == 200
    token.expiry = timezone.now() - timedelta(days=1)
    token.save()
    refused = live.listen(Authorization=f"Token {text}")
    assert (refused.answer.status, "expired" in refused.problem["detail"]) == (401, True)


def test_only_the_pages_own_origin_may_read_along(live, trader):
    ours = live.listen(trader, Origin=PAGE)
    assert ours.answer.headers["access-control-allow-origin"] == PAGE
    assert (ours.answer.headers["access-control-allow-credentials"], ours.answer.headers["vary"]) == ("true", "Origin")
    foreign = live.listen(trader, Origin="http://127.0.0.1:9999")
    assert (foreign.answer.status, foreign.answer.headers["access-control-allow-origin"]) == (403, None)


def test_it_stops_at_once_and_every_stream_ends(live, trader):
    pages = [live.listen(trader) for _ in range(5)]
    for page in pages:
        page.wait(lambda page: page.of("hello"))
    live.process.send_signal(signal.SIGTERM)
    assert all(page.ended.wait(2) for page in pages)
    assert live.process.wait(10) == 0


def test_too_many_connections_are_told_so(tmp_path, trader):
    with live_process(tmp_path, LIVE_CONNECTIONS_OF_USER="2", LIVE_CONNECTIONS="3") as live:
        for _ in range(2):
            live.listen(trader)
        third = live.listen(trader)
        assert (third.answer.status, third.problem["code"]) == (429, "too_many_connections")
        live.listen(make_user())
        full = live.listen(make_user())
        assert (full.answer.status, full.problem["code"], full.answer.headers["retry-after"]) == (503, "full", "30")


def test_prices_go_to_those_who_look_and_of_many_only_the_newest(live, trader):
    market, other = make_market("XRPUSDT"), make_market("SOLUSDT")
    server = connect(settings.REDIS_URL, 1.0)
    looks = live.listen(trader, path=f"/live/events?markets={market.pk}")
    elsewhere = live.listen(trader, path=f"/live/events?markets={other.pk}")
    for page in (looks, elsewhere):
        page.wait(lambda page: page.of("hello"))

    def publish(bid: int, symbol: str) -> None:
        told = {"type": "quote", "bid": f"{bid}", "ask": "1001", "last": None, "imbalance": "1.25", "at": 1764469200000}
        server.publish(key("wallex", symbol), json.dumps(told))

    for bid in range(1, 201):
        publish(bid, "XRPUSDT")
    candle = [1764469200000, "1.0", "2.0", "0.5", "1.5", "10"]
    told = {"type": "candle", "resolution": "1", "candle": candle, "closed": True}
    server.publish(key("wallex", "XRPUSDT"), json.dumps(told))
    publish(7, "SOLUSDT")
    looks.wait(lambda page: page.of("quote") and page.of("quote")[-1]["bid"] == "200" and page.of("candle"))
    assert len(looks.of("quote")) < 50  # at most two a second
    assert looks.of("quote")[-1] == {
        "market": market.pk,
        "provider": "wallex",
        "symbol": "XRPUSDT",
        "bid": "200",
        "ask": "1001",
        "last": None,
        "imbalance": "1.25",
        "at": "2025-11-30T02:20:00Z",
    }
    assert looks.of("candle")[-1] == {
        "market": market.pk,
        "resolution": "1",
        "time": "2025-11-30T02:20:00Z",
        "open": "1.0",
        "high": "2.0",
        "low": "0.5",
        "close": "1.5",
        "volume": "10",
        "closed": True,
    }
    elsewhere.wait(lambda page: page.of("quote"))
    assert {row["symbol"] for row in elsewhere.of("quote")} == {"SOLUSDT"}
    later = live.listen(trader, path=f"/live/events?markets={market.pk}")
    later.wait(lambda page: page.of("quote"))
    assert later.of("quote")[0]["bid"] == "200"  # what stands, though nothing changed since


def test_only_get_and_only_these_two_addresses(live, trader):
    assert live.listen(trader, path="/live/other").answer.status == 404
    assert live.health()["clients"] >= 0
    posted = http.client.HTTPConnection("127.0.0.1", live.port, timeout=10)
    posted.request("POST", "/live/events", body=b"{}")
    answer = posted.getresponse()
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


def test_a_fill_on_the_paper_exchange_is_told(tmp_path, live):
    """How soon, the benchmark measures; here: that it comes, as it was booked."""
    with running(tmp_path, "--seed", "4", "--no-rate-limits") as server:
        deal = planned(server)
        page = live.listen(deal.account.owner)
        page.wait(lambda page: page.of("hello"))
        with started(tmp_path, *GUARDIAN, env=environment(server), log_file=tmp_path / "guardian.log"):
            page.wait(lambda page: page.of("fill"), 60, "the fill of the entry")
            page.wait(lambda page: [row["status"] for row in page.of("deal")][-1:] == ["OPEN"], 30, "the deal is open")
    told = page.of("fill")[0]
    booked = Fill.objects.get(pk=told["id"])
    assert (booked.order.role, told["deal"]) == (Role.ENTRY, deal.pk)
    assert Decimal(told["price"]) == booked.price


@pytest.mark.long
def test_a_page_that_reads_nothing_takes_little_memory_and_is_sent_away(live, trader, config):
    """More is told than the kernel keeps for it: 6,000 fills of about 300 bytes each, three times over."""
    order = make_order(make_deal(config), quantity="1000000")
    asleep = socket.create_connection(("127.0.0.1", live.port))
    cookie = cookie_of(trader)["Cookie"]
    asleep.sendall(f"GET /live/events HTTP/1.1\r\nHost: 127.0.0.1:{live.port}\r\nCookie: {cookie}\r\n\r\n".encode())
    wait_for(lambda: live.health()["clients"] == 1, 10, "it listens")
    page = live.listen(trader)
    before = resident_mb(live.process.pid)
    for turn in range(3):
        fills = [
            Fill(
                account=order.account,
                order=order,
                trade_id=f"{turn}-{number}",
                price=1,
                quantity=1,
                executed_at=order.created_at,
            )
            for number in range(6_000)
        ]
        Fill.objects.bulk_create(fills, batch_size=500)
        page.wait(lambda page, told=6_000 * (turn + 1): len(page.of("fill")) >= told, 90, "who reads is told all")
    wait_for(lambda: live.health()["clients"] == 1, 90, "the other one is sent away")
    assert resident_mb(live.process.pid) - before < 30  # and all that was told is 5 MB
    asleep.close()
