"""The inbox: who may answer, what fits, and what is said about it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from algo.models import OutboxEvent, Ticket, TicketAnswer
from algo.selectors.rights import Role
from algo.services.tickets import TicketRefused, ticket_answer, ticket_answers, ticket_open
from tests import factories as make
from tests.admin.pages import said, shown
from tests.factories import NOW, by

pytestmark = pytest.mark.django_db

ADOPT, IGNORE, CLOSE = TicketAnswer.ADOPT, TicketAnswer.IGNORE, TicketAnswer.CLOSE


def page(ticket):
    return f"/admin/algo/ticket/{ticket.pk}/change/"


@pytest.fixture
def ticket(config):
    """An unknown order on the market of `config`, without a deal there."""
    return make.make_ticket(config.account, market=config.market, details={"clientOrderId": "HAND1", "خرید": "0.3"})


@pytest.fixture
def answer(browser):
    def send(ticket, **fields):
        return browser.post(f"/admin/algo/ticket/{ticket.pk}/answer/", fields, follow=True)

    return send


# --- the service ----------------------------------------------------------------------------------------------------


def test_ignoring_resolves_at_once_and_is_told(ticket, admin_user):
    assert ticket_answer(ticket, IGNORE, note="my own", by=by(admin_user), at=NOW)
    ticket.refresh_from_db()
    assert (ticket.resolved_at, ticket.resolved_by, ticket.answer_note) == (NOW, admin_user, "my own")
    answered, resolved = OutboxEvent.objects.order_by("id")
    assert (answered.kind, answered.payload["note"], answered.payload["by"]) == ("ticket.answered", "my own", "admin")
    assert (resolved.kind, resolved.payload["ticket"]) == ("ticket.resolved", ticket.pk)


@pytest.mark.parametrize("choice", [IGNORE, CLOSE])
def test_a_double_click_counts_once(ticket, admin_user, choice):
    assert ticket_answer(ticket, choice, note="", by=by(admin_user), at=NOW)
    events = OutboxEvent.objects.count()
    later = NOW + timedelta(seconds=1)
    assert not ticket_answer(ticket, choice, note="", by=by(make.make_user("boss", is_superuser=True)), at=later)
    ticket.refresh_from_db()
    assert (ticket.answered_at, ticket.resolved_by, OutboxEvent.objects.count()) == (NOW, admin_user, events)


@pytest.mark.django_db(transaction=True)
def test_two_people_at_once_are_one_answer(ticket, admin_user):
    answered = []

    def click():
        answered.append(ticket_answer(ticket, IGNORE, note="", by=by(admin_user), at=NOW))
        connection.close()

    threads = [threading.Thread(target=click) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answered) == [False, True]
    assert OutboxEvent.objects.filter(kind="ticket.resolved").count() == 1


def test_what_is_to_be_carried_out_waits_as_a_row(ticket, config, admin_user):
    assert ticket_answer(ticket, ADOPT, note="", by=by(admin_user), at=NOW, config=config)
    ticket.refresh_from_db()
    assert (ticket.answer, ticket.adopt_config, ticket.resolved_at) == (ADOPT, config, None)


def test_an_answer_that_waits_may_be_replaced_a_resolved_ticket_not(ticket, admin_user):
    ticket_answer(ticket, CLOSE, note="", by=by(admin_user), at=NOW)
    assert ticket_answer(ticket, IGNORE, note="", by=by(admin_user), at=NOW)
    with pytest.raises(TicketRefused, match="was resolved on 2026-11-02 10:00"):
        ticket_answer(ticket, CLOSE, note="", by=by(admin_user), at=NOW)


@pytest.mark.parametrize("kind", ["unknown_trade", "balance_moved", "order_missing"])
def test_what_is_no_order_can_only_be_explained_in_words(kind, admin_user):
    ticket = make.make_ticket(kind=kind)
    assert ticket_answers(ticket) == (IGNORE,)
    for choice in (ADOPT, CLOSE):
        with pytest.raises(TicketRefused, match="no order that could be"):
            ticket_answer(ticket, choice, note="x", by=by(admin_user), at=NOW)
    with pytest.raises(TicketRefused, match="how it is explained") as refused:
        ticket_answer(ticket, IGNORE, note="  ", by=by(admin_user), at=NOW)
    assert refused.value.field == "note"
    assert ticket_answer(ticket, IGNORE, note="a withdrawal", by=by(admin_user), at=NOW)


def test_an_order_on_a_market_that_is_not_known_here_can_only_be_explained(admin_user):
    assert ticket_answers(make.make_ticket(market=None)) == (IGNORE,)


def test_adopting_without_a_deal_needs_a_strategy_of_that_account_and_market(ticket, config, admin_user):
    def adopt(config):
        ticket_answer(ticket, ADOPT, note="", by=by(admin_user), at=NOW, config=config)

    elsewhere = make.make_config(account=config.account, market=make.make_market("ETHUSDT"))
    broken = make.make_config(account=config.account, market=config.market, parameters={"rsi_period": -1})
    for wrong, why in ((None, "choose the strategy"), (elsewhere, "another account or market"), (broken, "rsi_period")):
        with pytest.raises(TicketRefused, match=why) as refused:
            adopt(wrong)
        assert refused.value.field == "config"
    ticket.refresh_from_db()
    assert ticket.answer == ""
    adopt(config)


def test_adopting_beside_an_open_deal_takes_the_rules_of_that_deal(ticket, config, admin_user):
    make.make_open_deal(config)
    assert ticket_answer(ticket, ADOPT, note="", by=by(admin_user), at=NOW)


def test_an_order_of_an_ended_deal_is_not_adopted_while_another_deal_is_open(ticket, config, admin_user):
    ended = make.make_closed_deal(config)
    make.make_order(ended, status="REJECTED", exchange_order_id=ticket.reference)
    live = make.make_open_deal(config)
    with pytest.raises(TicketRefused, match=f"deal {live.pk} is open on the same market"):
        ticket_answer(ticket, ADOPT, note="", by=by(admin_user), at=NOW)
    assert ticket_answers(ticket) == (IGNORE, CLOSE)
    assert ticket_answer(ticket, CLOSE, note="", by=by(admin_user), at=NOW)


def test_what_was_explained_is_never_asked_again(ticket, admin_user):
    ticket_answer(ticket, IGNORE, note="", by=by(admin_user), at=NOW)
    again = (ticket.account, ticket.kind, ticket.reference, "an order")
    assert not ticket_open(*again, market=ticket.market, at=NOW)
    assert Ticket.objects.get().resolved_at == NOW


# --- the pages ------------------------------------------------------------------------------------------------------


def test_the_list_shows_the_newest_open_ticket_first(browser, account, admin_user):
    at = [NOW + timedelta(minutes=minute) for minute in range(3)]
    old, new, done = (make.make_ticket(account, created_at=when) for when in at)
    ticket_answer(done, IGNORE, note="", by=by(admin_user), at=NOW + timedelta(hours=1))
    answer = browser.get("/admin/algo/ticket/")
    assert [row.pk for row in answer.context["cl"].result_list] == [new.pk, old.pk, done.pk]
    text = shown(answer)
    assert "Open: blocks entries" in text
    assert "Resolved" in text


def test_the_page_shows_the_raw_answer_and_the_answers_that_fit(browser, ticket, config):
    text = shown(browser.get(page(ticket)))
    assert '"clientOrderId": "HAND1"' in text
    assert '"خرید": "0.3"' in text
    for word in ("Adopt: ", "Ignore: ", "Close: ", "Strategy", config.name):
        assert word in text


def test_the_page_of_a_trade_offers_to_explain_it_only(browser):
    text = shown(browser.get(page(make.make_ticket(kind="unknown_trade"))))
    assert "Ignore: " in text
    assert "Adopt: " not in text
    assert "Close: cancel" not in text


def test_answered_with_a_strategy_on_its_page(browser, answer, ticket, config, admin_user):
    done = answer(ticket, answer="adopt", config=config.pk, note="bought by phone")
    assert any("carried out when the account is looked after next" in text for text in said(done))
    ticket.refresh_from_db()
    assert (ticket.answer, ticket.adopt_config, ticket.answer_note) == ("adopt", config, "bought by phone")
    assert "Answered, being carried out" in shown(browser.get("/admin/algo/ticket/"))
    assert any("nothing was changed" in text for text in said(answer(ticket, answer="adopt", config=config.pk)))


def test_ignored_on_its_page(answer, browser, ticket):
    assert any("takes entries again" in text for text in said(answer(ticket, answer="ignore")))
    assert "Your answer" not in shown(browser.get(page(ticket)))
    late = answer(ticket, answer="close")
    assert any("resolved by somebody else meanwhile" in text for text in said(late))


def test_what_is_wrong_is_said_beside_what_was_typed(answer, ticket):
    text = shown(answer(ticket, answer="adopt", note="typed with care"))
    assert "choose the strategy" in text
    assert "typed with care" in text
    ticket.refresh_from_db()
    assert ticket.answer == ""


def test_a_note_is_demanded_where_words_are_all_there_is(answer):
    ticket = make.make_ticket(kind="balance_moved")
    assert "This field is required" in shown(answer(ticket, answer="ignore"))
    ticket.refresh_from_db()
    assert ticket.resolved_at is None


def test_who_may_only_look_at_the_account_may_not_answer(ticket):
    def staff(role):
        user, client = make.make_user(is_staff=True, role=role), Client()
        ticket.account.viewers.add(user)
        client.force_login(user)
        return client

    reader, editor = staff(Role.TRADER), staff(Role.ADMIN)
    assert "Your answer" not in shown(reader.get(page(ticket)))
    address = f"/admin/algo/ticket/{ticket.pk}/answer/"
    assert reader.post(address, {"answer": "ignore"}).status_code == 403
    ticket.refresh_from_db()
    assert ticket.resolved_at is None
    assert editor.get(address).status_code == 405
    assert editor.post("/admin/algo/ticket/999999/answer/", {"answer": "ignore"}).status_code == 404
    assert editor.post(address, {"answer": "ignore"}).status_code == 302
    ticket.refresh_from_db()
    assert ticket.resolved_at is not None
