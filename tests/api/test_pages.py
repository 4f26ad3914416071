"""Pages by position: whatever they are ordered by, each row stands on exactly one of them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
from django.urls import get_resolver
from knox.models import AuthToken

from algo.api import (
    accounts,
    backtests,
    channels,
    deals,
    deliveries,
    inbound,
    journal,
    markets,
    optimisations,
    strategies,
    system,
    tickets,
    tokens,
    views,
    webhooks,
)
from algo.models import AuditRecord, CandleFetch, TokenGrant
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db

EARLY, LATE = NOW + timedelta(microseconds=1), NOW + timedelta(microseconds=2)  # a cursor keeps the last digit


def closed(**fields):
    return make.make_closed_deal(make.make_config(), **fields)


def an_order(closed_at=None, **fields):
    status = {"status": "CANCELED", "closed_at": closed_at} if closed_at else {}
    return make.make_order(make.make_deal(make.make_config()), **status, **fields)


def a_token(used_at):
    row, _ = AuthToken.objects.create(make.make_user())
    return TokenGrant.objects.create(token=row, scope="read", last_used_at=used_at)


def an_audit_record(at):
    return AuditRecord.objects.create(at=at, door="api", act="deal.close", subject_kind="deal", subject_id="1")


# Of each list, rows with values that are the same, that differ in the last digit, and that are null.
ROWS = {
    deals.DealViewSet: lambda: (
        [closed(profit=Decimal(profit), closed_at=at) for profit in ("-1", "0.6") for at in (EARLY, LATE, LATE)]
        + [make.make_open_deal(make.make_config()) for _ in range(2)]
        + [make.make_deal(make.make_config(), status="PENDING", created_at=NOW) for _ in range(2)]
    ),
    deals.OrderViewSet: lambda: [an_order(at) for at in (None, LATE, EARLY, LATE, None, EARLY, None)],
    views.FillViewSet: lambda: [
        make.make_fill(an_order(), executed_at=at) for at in (LATE, EARLY, LATE, EARLY, NOW, LATE)
    ],
    journal.SignalViewSet: lambda: [
        make.make_signal(make.make_config(), bar_open_at=at, confidence=Decimal(confidence))
        for at in (NOW, NOW - timedelta(hours=1))
        for confidence in ("0.5", "0.5", "0.7")
    ],
    accounts.AccountViewSet: lambda: [
        make.make_account(key_expires_at=at, reconciled_at=at) for at in (None, LATE, EARLY, None, LATE)
    ],
    markets.MarketViewSet: lambda: [
        make.make_market(f"{base}{quote}", provider=provider, refreshed_at=NOW)
        for provider in ("wallex", "nobitex")
        for base, quote in (("BTC", "USDT"), ("ETH", "USDT"), ("BTC", "IRT"))
    ],
    markets.CandleFetchViewSet: lambda: [
        CandleFetch.objects.create(
            market=make.make_market(),
            resolution="60",
            reached=NOW,
            due_at=NOW,
            start=NOW,
            end=LATE,
            created_at=NOW,
            status="queued" if at is None else "done",
            finished_at=at,
        )
        for at in (None, LATE, EARLY, None, LATE)
    ],
    channels.ChannelViewSet: lambda: [make.make_channel(make.make_trader()) for _ in range(3)],
    deliveries.DeliveryViewSet: lambda: [make.make_delivery() for _ in range(3)],
    inbound.InboundKeyViewSet: lambda: [make.make_inbound_key() for _ in range(3)],
    inbound.InboundAlertViewSet: lambda: [make.make_alert() for _ in range(3)],
    tokens.TokenViewSet: lambda: [a_token(at) for at in (None, LATE, EARLY, None, LATE)],
    system.AuditViewSet: lambda: [an_audit_record(at) for at in (LATE, EARLY, LATE, NOW)],
    webhooks.OperatorsDeliveryViewSet: lambda: [make.make_delivery() for _ in range(3)],
    strategies.StrategyViewSet: lambda: [make.make_config() for _ in range(5)],
    journal.DecisionViewSet: lambda: [
        make.make_decision(make.make_config(), bar_open_at=at) for at in (NOW, EARLY, NOW, EARLY, NOW)
    ],
    tickets.TicketViewSet: lambda: [
        make.make_ticket(make.make_account(), resolved_at=at) for at in (None, LATE, EARLY, None, LATE, None)
    ],
    backtests.BacktestViewSet: lambda: [
        make.make_backtest(sharpe=sharpe, net_profit_percent=sharpe, max_drawdown_percent=None, deals=number)
        for sharpe, number in ((None, 1), (0.1 + 0.2, None), (0.3, 1), (0.3, 1), (None, 7), (-2.5, None))
    ],
    optimisations.OptimisationViewSet: lambda: [
        make.make_optimisation(finished_at=at) for at in (None, LATE, EARLY, None, LATE)
    ],
}


def lists():
    """The lists of the API by their view."""
    (api,) = [part for part in get_resolver().url_patterns if str(part.pattern) == "api/"]
    (v1,) = [part for part in api.url_patterns if str(part.pattern) == "v1/"]
    found = {}
    for pattern in v1.url_patterns:
        actions = getattr(pattern.callback, "actions", None) or {}
        if actions.get("get") == "list":
            found[pattern.callback.cls] = "/api/v1/" + str(pattern.pattern).lstrip("^").removesuffix("/?$")
    return found


def page_of(api, address, **asked):
    answer = api.get(address, asked)
    assert answer.status_code == 200, answer.content
    return answer.json()


def walked(api, address, way="next", **asked):
    """The pages from one on, page by page."""
    pages = [page_of(api, address, **asked)]
    while pages[-1][way]:
        pages.append(page_of(api, pages[-1][way]))
    return pages


def ids_of(*pages):
    return [row["id"] for page in pages for row in page["results"]]


def expected(rows, term):
    """Null is the largest; rows that are equal are ordered by their ids, in the same direction."""
    name = term.removeprefix("-")
    value = lambda row: getattr(row, name)  # noqa: E731
    key = lambda row: (value(row) is None, row.pk if value(row) is None else value(row), row.pk)  # noqa: E731
    return [row.pk for row in sorted(rows, key=key, reverse=term.startswith("-"))]


def test_every_list_is_here():
    assert lists().keys() == ROWS.keys()


@pytest.mark.parametrize("view", ROWS, ids=lambda view: view.__name__)
def test_pages_hold_every_row_once_forwards_and_backwards(staff_api, view):
    address = lists()[view]
    rows = ROWS[view]()
    for row in rows:
        row.refresh_from_db()
    for name in view.ordering_fields:
        for term in (name, f"-{name}"):
            pages = walked(staff_api, address, ordering=term, limit=2)
            assert ids_of(*pages) == expected(rows, term), term
            assert {len(page["results"]) for page in pages[:-1]} == {2}, term
            back = walked(staff_api, pages[-1]["previous"], "previous")
            assert ids_of(*back[::-1]) == ids_of(*pages[:-1]), term


def test_orders_of_several_columns_fall_and_rise_each_for_itself(staff_api):
    rows = ROWS[deals.DealViewSet]()
    for row in rows:
        row.refresh_from_db()
    found = ids_of(*walked(staff_api, "/api/v1/deals", ordering="-profit,closed_at,id", limit=1))
    null = [row for row in rows if row.profit is None]
    known = [row for row in rows if row.profit is not None]
    assert found == [row.pk for row in sorted(null, key=lambda row: row.pk)] + [
        row.pk for row in sorted(known, key=lambda row: (-row.profit, row.closed_at, row.pk))
    ]


def test_rows_that_come_meanwhile_move_no_other(staff_api):
    first = [make.make_signal(make.make_config()).pk for _ in range(4)]
    page = page_of(staff_api, "/api/v1/signals", limit=2, ordering="-id")
    make.make_signal(make.make_config())
    rest = page_of(staff_api, page["next"])
    assert ids_of(page, rest) == first[::-1]
    assert rest["next"] is None
    assert ids_of(page_of(staff_api, rest["previous"])) == first[:1:-1]


def test_filters_stay_in_the_addresses_of_the_neighbours(staff_api):
    config = make.make_config()
    own = [make.make_signal(config).pk for _ in range(3)]
    make.make_signal(make.make_config())
    pages = walked(staff_api, "/api/v1/signals", config=config.pk, limit=1, ordering="-id")
    assert [ids_of(page) for page in pages] == [[pk] for pk in own[::-1]]


def test_pages_hold_25_rows_unless_asked_and_200_at_most(api, config):
    for _ in range(26):
        make.make_signal(config)
    page = page_of(api, "/api/v1/signals")
    assert list(page) == ["next", "previous", "results"]
    assert (len(page["results"]), page["previous"]) == (25, None)
    assert len(page_of(api, page["next"])["results"]) == 1
    assert len(page_of(api, "/api/v1/signals", limit=200)["results"]) == 26


@pytest.mark.parametrize("limit", ["0", "201", "-1", "x", "1.0", "9" * 40, "", "١"])
def test_limits_that_make_no_sense_are_refused(api, limit):
    answer = api.get("/api/v1/deals", {"limit": limit})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "limit")


def test_cursors_are_ours_and_of_this_order(staff_api):
    for _ in range(2):
        make.make_signal(make.make_config())
    cursor = parse_qs(urlsplit(page_of(staff_api, "/api/v1/signals", limit=1)["next"]).query)["cursor"][0]
    middle = len(cursor) // 2
    for wrong in (cursor[:-1], f"{cursor[:middle]}AA{cursor[middle:]}", "x", "é", "a" * 5000, cursor + ":"):
        answer = staff_api.get("/api/v1/signals", {"cursor": wrong})
        assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "cursor"), wrong
    other = staff_api.get("/api/v1/signals", {"cursor": cursor, "ordering": "id"})
    assert "another ordering" in other.json()["detail"]
    assert staff_api.get("/api/v1/signals", {"cursor": cursor}).status_code == 200


@pytest.mark.parametrize("asked", ["secret", "-", "--id", "id,name", "?", "config__account"])
def test_columns_one_cannot_order_by_are_refused_and_the_others_named(api, asked):
    answer = api.get("/api/v1/deals", {"ordering": asked})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "ordering")
    assert "only by id, created_at, opened_at, closed_at, profit" in answer.json()["detail"]


def test_no_page_takes_more_than_two_queries_for_its_rows(staff_api, django_assert_max_num_queries):
    ROWS[deals.DealViewSet]()
    page = page_of(staff_api, "/api/v1/deals", ordering="profit", limit=5)
    with django_assert_max_num_queries(4):  # whose token, the user's role, rows with a profit and without one
        assert len(page_of(staff_api, page["next"])["results"]) == 5
