from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.contrib.admin import site
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client

from algo.models import FlatProof, Halt, KillSwitch, OutboxEvent, SystemControl
from algo.selectors.halts import halt_for
from algo.services.audit import PLATFORM
from algo.services.control import ControlRefused, kill_switch_set
from providers.clock import clock_from_env
from tests import factories as make
from tests.admin.pages import said, shown
from tests.factories import NOW, by

pytestmark = pytest.mark.django_db

PAGE = "/admin/algo/systemcontrol/1/change/"


def turn_on(browser, page, **fields):
    """Fills in the switch of a page and sends it."""
    asked = browser.get(page).context["switch_form"]
    sent = {name: asked.initial[name] for name in ("level", "seen_version")} | fields
    return browser.post(page.replace("/change/", "/kill-switch/"), sent, follow=True)


def errors(page):
    return {name: list(messages) for name, messages in page.context["switch_form"].errors.items()}


@pytest.fixture
def switch(browser):
    SystemControl.load()
    return lambda **fields: turn_on(browser, PAGE, **fields)


def proved(account, *, is_flat=True, age=0, **details):
    at = clock_from_env().now() - timedelta(seconds=age)
    FlatProof.objects.create(
        account=account, is_flat=is_flat, summary="as the exchange says", details=details, checked_at=at
    )


# --- the system's page ----------------------------------------------------------------------------------------------


def test_list_leads_to_the_one_row(browser):
    assert browser.get("/admin/algo/systemcontrol/")["Location"] == PAGE
    assert SystemControl.objects.count() == 1


def test_turned_with_a_reason_by_somebody(switch, admin_user):
    switch(level="no_entries", reason="exchange acts up")
    control = SystemControl.load()
    assert (control.kill_switch, control.reason, control.changed_by, control.version) == (
        KillSwitch.NO_ENTRIES,
        "exchange acts up",
        admin_user,
        1,
    )
    [event] = OutboxEvent.objects.all()
    assert event.kind == "kill_switch.changed"
    assert event.payload == {
        "scope": "the whole system",
        "from": "off",
        "to": "no_entries",
        "reason": "exchange acts up",
        "by": "admin",
        "not_proved_flat": [],
    }


def test_every_turn_leaves_an_entry_in_the_log(switch, admin_user):
    switch(level="cancel", reason="exchange acts up")
    [entry] = LogEntry.objects.all()
    assert entry.user == admin_user
    assert "the whole system: off → cancel. exchange acts up" in entry.change_message


def test_not_turned_without_a_reason(switch):
    assert "reason" in errors(switch(level="no_entries"))
    assert SystemControl.load().kill_switch == KillSwitch.OFF
    assert not OutboxEvent.objects.exists()


def test_old_reason_does_not_count_for_a_new_change(switch):
    switch(level="no_entries", reason="first")
    assert "reason" in errors(switch(level="off"))


def test_flatten_asks_first(switch):
    assert "confirm_flatten" in errors(switch(level="flatten", reason="get out"))
    assert SystemControl.load().kill_switch == KillSwitch.OFF
    switch(level="flatten", reason="get out", confirm_flatten="on")
    assert SystemControl.load().kill_switch == KillSwitch.FLATTEN


def test_page_that_is_out_of_date_releases_nothing(browser, switch, admin_user):
    switch(level="cancel", reason="first")
    old = browser.get(PAGE).context["switch_form"].initial
    kill_switch_set("flatten", reason="emergency", by=by(admin_user))
    page = browser.post(PAGE.replace("change", "kill-switch"), old | {"level": "no_entries", "reason": "calm down"})
    assert "somebody else meanwhile" in errors(page)["__all__"][0]
    assert SystemControl.load().kill_switch == KillSwitch.FLATTEN


def test_page_that_is_out_of_date_may_still_make_it_stricter(browser, switch, admin_user):
    old = browser.get(PAGE).context["switch_form"].initial if SystemControl.load() else None
    kill_switch_set("no_entries", reason="first", by=by(admin_user))
    fields = {"level": "flatten", "reason": "emergency", "confirm_flatten": "on"}
    browser.post(PAGE.replace("change", "kill-switch"), old | fields)
    assert SystemControl.load().kill_switch == KillSwitch.FLATTEN


def test_double_click_counts_once(browser, switch):
    old = browser.get(PAGE).context["switch_form"].initial
    for _ in range(2):
        page = browser.post(
            PAGE.replace("change", "kill-switch"), old | {"level": "cancel", "reason": "enough"}, follow=True
        )
    assert any("nothing was changed" in text for text in said(page))
    assert SystemControl.load().version == 1
    assert OutboxEvent.objects.count() == 1


def test_row_is_neither_added_nor_deleted(browser, switch):
    assert browser.post("/admin/algo/systemcontrol/add/", {}).status_code == 403
    assert browser.post("/admin/algo/systemcontrol/1/delete/", {"post": "yes"}).status_code == 403


def test_sidebar_shows_that_a_switch_is_on(browser, admin_user, account):
    def alarm():
        return shown(browser.get("/admin/")).partition("Kill switch")[2][:9]

    assert " on " not in alarm()
    kill_switch_set("no_entries", reason="x", by=by(admin_user), target=account)
    assert alarm().startswith(" in part ")
    kill_switch_set("no_entries", reason="x", by=by(admin_user))
    assert alarm().startswith(" on ")


def test_who_may_only_look_cannot_turn_it(account):
    viewer = make.make_trader("viewer", is_staff=True)
    account.viewers.add(viewer)
    SystemControl.load()
    looking = Client()
    looking.force_login(viewer)
    for page in (PAGE, f"/admin/algo/account/{account.pk}/change/"):
        assert "switch_form" not in looking.get(page).context
        answer = looking.post(page.replace("/change/", "/kill-switch/"), {"level": "flatten", "reason": "x"})
        assert answer.status_code == 403
    assert SystemControl.load().version == 0


def test_a_get_turns_nothing(browser):
    SystemControl.load()
    assert browser.get(PAGE.replace("change", "kill-switch")).status_code == 405


# --- an account's, a strategy's, a market's -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["account", "strategyconfig", "market"])
def test_each_has_a_switch_on_its_own_page(browser, config, kind):
    target = {"account": config.account, "strategyconfig": config, "market": config.market}[kind]
    page = f"/admin/algo/{kind}/{target.pk}/change/"
    answer = turn_on(browser, page, level="cancel", reason="odd prices")
    assert "odd prices" in shown(answer)
    [halt] = Halt.objects.all()
    assert (halt.target, halt.level, halt.version) == (target, KillSwitch.CANCEL, 1)
    assert SystemControl.load().kill_switch == KillSwitch.OFF
    listed = shown(browser.get(PAGE))
    assert "odd prices" in listed
    assert LogEntry.objects.get().get_edited_object() == target
    turn_on(browser, page, level="off", reason="all well")
    assert Halt.objects.get().level == KillSwitch.OFF
    assert "odd prices" not in shown(browser.get(PAGE))


def test_page_shows_who_is_proved_flat_and_who_is_not(browser, config, admin_user):
    make.make_closed_deal(config)
    kill_switch_set("flatten", reason="get out", by=by(admin_user))
    assert "it was never checked" in shown(browser.get(PAGE))
    proved(config.account)
    text = shown(browser.get(PAGE))
    assert "Proved" in text
    assert "as the exchange says" in text


# --- the service ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["", "   "])
def test_service_refuses_without_a_reason(reason):
    with pytest.raises(ControlRefused, match="say why"):
        kill_switch_set("flatten", reason=reason, by=PLATFORM, at=NOW)


def test_service_refuses_a_level_that_does_not_exist():
    with pytest.raises(ValueError, match="half"):
        kill_switch_set("half", reason="x", by=PLATFORM, at=NOW)


def test_turning_to_where_it_stands_changes_nothing(admin_user):
    kill_switch_set("flatten", reason="first", by=by(admin_user), at=NOW)
    control = kill_switch_set("flatten", reason="second", by=PLATFORM, at=NOW, seen_version=0)
    assert (control.reason, control.version) == ("first", 1)
    assert OutboxEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_at_once_are_two_versions():
    def turn(level):
        kill_switch_set(level, reason="x", by=PLATFORM, at=NOW)
        connection.close()

    threads = [threading.Thread(target=turn, args=[level]) for level in ("no_entries", "cancel")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert SystemControl.load().version == 2


@pytest.mark.parametrize("scope", ["account", "config", "market"])
def test_a_switch_reaches_its_own_scope_and_no_other(scope, admin_user):
    ours, theirs = make.make_config(), make.make_config(market=make.make_market("ETHUSDT"))
    target = {"account": ours.account, "config": ours, "market": ours.market}[scope]
    kill_switch_set("flatten", reason="odd", by=by(admin_user), target=target)
    mine = halt_for(ours.account_id, ours.pk, ours.market_id)
    assert mine.level == KillSwitch.FLATTEN
    assert mine.reason.startswith("kill switch of the ")
    assert mine.reason.endswith(": odd")
    assert halt_for(theirs.account_id, theirs.pk, theirs.market_id).level == KillSwitch.OFF


def test_the_strictest_that_applies_counts(admin_user):
    config = make.make_config()
    for level, target in (("no_entries", None), ("flatten", config.market), ("cancel", config.account)):
        kill_switch_set(level, reason=f"why {level}", by=by(admin_user), target=target)
    standing = halt_for(config.account_id, config.pk, config.market_id)
    assert standing.level == KillSwitch.FLATTEN
    assert standing.reason == f"kill switch of the market {config.market.symbol} at wallex: why flatten"
    assert halt_for(config.account_id, None, None).level == KillSwitch.CANCEL


# --- leaving FLATTEN ------------------------------------------------------------------------------------------------


@pytest.fixture
def flattened(config, admin_user):
    """A traded account under FLATTEN since a minute."""
    make.make_closed_deal(config)
    at = clock_from_env().now() - timedelta(seconds=60)
    return kill_switch_set("flatten", reason="get out", by=by(admin_user), at=at)


def refusal(level="off", **more):
    with pytest.raises(ControlRefused) as refused:
        kill_switch_set(level, reason="all clear", by=PLATFORM, **more)
    assert SystemControl.load().kill_switch == KillSwitch.FLATTEN
    return str(refused.value)


@pytest.mark.parametrize("level", ["off", "no_entries", "cancel"])
def test_flatten_is_not_left_without_a_proof(flattened, level):
    assert "main: it was never checked" in refusal(level)


def test_flatten_is_not_left_with_a_proof_of_the_opposite(flattened, account):
    proved(account, is_flat=False)
    assert "main: as the exchange says" in refusal()


def test_flatten_is_not_left_with_a_proof_from_before_it(flattened, account):
    proved(account, age=61)
    assert "not checked since the switch was turned" in refusal()


def test_flatten_is_not_left_with_an_old_proof(flattened, account):
    SystemControl.objects.update(changed_at=NOW - timedelta(days=1))
    proved(account, age=301)
    assert "too old" in refusal()


def test_flatten_is_left_with_a_proof(flattened, account):
    proved(account)
    assert kill_switch_set("off", reason="all clear", by=PLATFORM).kill_switch == KillSwitch.OFF
    assert OutboxEvent.objects.latest("id").payload["not_proved_flat"] == []


def test_flatten_is_left_without_a_proof_only_by_who_says_so_and_that_is_recorded(flattened, admin_user):
    kill_switch_set("off", reason="all clear", by=by(admin_user), unproven_ok=True)
    assert OutboxEvent.objects.latest("id").payload["not_proved_flat"] == ["main: it was never checked"]


def test_page_asks_for_the_confirmation(browser, flattened):
    page = turn_on(browser, PAGE, level="off", reason="all clear")
    assert "not everything is proved flat" in errors(page)["__all__"][0]
    turn_on(browser, PAGE, level="off", reason="all clear", unproven_ok="on")
    assert SystemControl.load().kill_switch == KillSwitch.OFF


def test_flatten_of_a_market_is_left_when_nothing_lives_or_rests_there(config, admin_user):
    deal = make.make_closed_deal(config)
    at = clock_from_env().now() - timedelta(seconds=60)
    kill_switch_set("flatten", reason="odd", by=by(admin_user), at=at, target=config.market)
    proved(config.account, is_flat=False, open_orders=[{"order": "P1X", "symbol": deal.market.symbol}])
    with pytest.raises(ControlRefused, match="order P1X is open on BTCUSDT"):
        kill_switch_set("off", reason="all clear", by=PLATFORM, target=config.market)
    FlatProof.objects.update(details={"open_orders": [{"order": "P1X", "symbol": "ETHUSDT"}]})
    kill_switch_set("off", reason="all clear", by=PLATFORM, target=config.market)
    assert halt_for(config.account_id, config.pk, config.market_id).level == KillSwitch.OFF


def test_flatten_of_an_account_does_not_wait_for_another(config, admin_user):
    other = make.make_config(market=make.make_market("ETHUSDT"))
    make.make_closed_deal(config)
    make.make_closed_deal(other)
    at = clock_from_env().now() - timedelta(seconds=60)
    kill_switch_set("flatten", reason="odd", by=by(admin_user), at=at, target=config.account)
    proved(config.account)
    kill_switch_set("off", reason="all clear", by=PLATFORM, target=config.account)


def test_the_sidebar_marks_the_page_one_is_on_and_no_other(admin_user, rf):
    request = rf.get("/admin/algo/deal/1/change/")
    request.user = admin_user
    items = [item for group in site.get_sidebar_list(request) for item in group["items"]]
    assert [str(item["title"]) for item in items if item["active"]] == ["Deals"]
