from __future__ import annotations

import threading

import pytest
from django.db import connection

from algo.models import KillSwitch, OutboxEvent, SystemControl
from algo.services.control import ControlRefused, kill_switch_set
from tests.admin.pages import errors, form_data, said, shown
from tests.factories import NOW

pytestmark = pytest.mark.django_db

PAGE = "/admin/algo/systemcontrol/1/change/"


@pytest.fixture
def switch(browser):
    """Fills in the page and saves it."""
    SystemControl.load()

    def turn(**fields):
        return browser.post(PAGE, form_data(browser.get(PAGE)) | fields, follow=True)

    return turn


def test_list_leads_to_the_one_row(browser):
    assert browser.get("/admin/algo/systemcontrol/")["Location"] == PAGE
    assert SystemControl.objects.count() == 1


def test_turned_with_a_reason_by_somebody(switch, admin_user):
    switch(kill_switch="no_entries", new_reason="exchange acts up")
    control = SystemControl.load()
    assert (control.kill_switch, control.reason, control.changed_by, control.version) == (
        KillSwitch.NO_ENTRIES,
        "exchange acts up",
        admin_user,
        1,
    )
    [event] = OutboxEvent.objects.all()
    assert event.kind == "kill_switch.changed"
    assert event.payload == {"from": "off", "to": "no_entries", "reason": "exchange acts up", "by": "admin"}


def test_not_turned_without_a_reason(switch):
    assert "new_reason" in errors(switch(kill_switch="no_entries"))
    assert SystemControl.load().kill_switch == KillSwitch.OFF
    assert not OutboxEvent.objects.exists()


def test_old_reason_does_not_count_for_a_new_change(switch):
    switch(kill_switch="no_entries", new_reason="first")
    assert "new_reason" in errors(switch(kill_switch="off"))


def test_flatten_asks_first(switch):
    assert "confirm_flatten" in errors(switch(kill_switch="flatten", new_reason="get out"))
    assert SystemControl.load().kill_switch == KillSwitch.OFF
    switch(kill_switch="flatten", new_reason="get out", confirm_flatten="on")
    assert SystemControl.load().kill_switch == KillSwitch.FLATTEN


def test_page_that_is_out_of_date_changes_nothing(browser, switch, admin_user):
    old = form_data(browser.get(PAGE))
    kill_switch_set("flatten", reason="emergency", user=admin_user, at=NOW)
    page = browser.post(PAGE, old | {"kill_switch": "no_entries", "new_reason": "calm down"})
    assert "somebody else meanwhile" in errors(page)["__all__"][0]
    assert SystemControl.load().kill_switch == KillSwitch.FLATTEN


def test_saved_without_a_change_it_stays_as_it_is(switch):
    assert any("nothing was changed" in text for text in said(switch()))
    assert SystemControl.load().version == 0


def test_row_is_neither_added_nor_deleted(browser, switch):
    assert browser.post("/admin/algo/systemcontrol/add/", {}).status_code == 403
    assert browser.post("/admin/algo/systemcontrol/1/delete/", {"post": "yes"}).status_code == 403


def test_sidebar_shows_that_the_switch_is_on(browser, admin_user):
    assert " on " not in shown(browser.get("/admin/")).partition("Kill switch")[2][:6]
    kill_switch_set("no_entries", reason="x", user=admin_user, at=NOW)
    assert shown(browser.get("/admin/")).partition("Kill switch")[2].startswith(" on ")


@pytest.mark.parametrize("reason", ["", "   "])
def test_service_refuses_without_a_reason(reason):
    with pytest.raises(ControlRefused, match="say why"):
        kill_switch_set("flatten", reason=reason, user=None, at=NOW)


def test_service_refuses_a_level_that_does_not_exist():
    with pytest.raises(ValueError, match="half"):
        kill_switch_set("half", reason="x", user=None, at=NOW)


def test_turning_to_where_it_stands_changes_nothing(admin_user):
    kill_switch_set("flatten", reason="first", user=admin_user, at=NOW)
    control = kill_switch_set("flatten", reason="second", user=None, at=NOW)
    assert (control.reason, control.version) == ("first", 1)
    assert OutboxEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_at_once_are_two_versions():
    def turn(level):
        kill_switch_set(level, reason="x", user=None, at=NOW)
        connection.close()

    threads = [threading.Thread(target=turn, args=[level]) for level in ("no_entries", "flatten")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert SystemControl.load().version == 2
    first, second = OutboxEvent.objects.order_by("id")
    assert (first.payload["from"], second.payload["from"]) == ("off", first.payload["to"])
