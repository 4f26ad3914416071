"""What a trader does, from the first password to a proof of flat, in a real browser on the real platform.

tara trades on an account of her own, vera may only look, admin keeps the house. Prices move when a test says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tests.browser.platform import Platform
from tests.browser.visitor import Visitor

pytestmark = [pytest.mark.long, pytest.mark.e2e]
PAIR = "BTC/USDT"
TRADES_BREAKOUTS = {
    "breakout_period": "3",
    "ema_fast_period": "2",
    "ema_slow_period": "5",
    "volume_threshold": "0",
    "rsi_overbought": "100",
    "order_book_imbalance": "100",  # the book never objects
    "momentum_atr": "20",  # breakouts only
    "stop_loss_percent": "5",
    "take_profit_percent": "5",
    "max_position_size_percent": "20",
    "max_spread_percent": "5",
    "max_basis_percent": "5",
    "trade_cooldown_minutes": "0",
    "max_daily_trades": "1000",
}
OPEN_DEALS = "/admin/algo/deal/?status__exact=OPEN"
NEXT_CANDLE_SECONDS = 200  # a breakout in two of them at most, and what is slow on a busy machine
CARRIED_OUT_SECONDS = 60


def test_a_wrong_password_lets_nobody_in_and_the_right_one_does(visitor):
    somebody = visitor()
    somebody.logs_in("tara", "not her password")
    somebody.sees("Please enter the correct username and password")
    assert "/login/" in somebody.page.url
    somebody.logs_in("tara")
    somebody.sees("At a glance")


def test_a_wrong_parameter_is_told_beside_its_field_and_nothing_is_saved(visitor, picture):
    tara = visitor("tara")
    tara.writes_strategy("Too bold", "tara's", "BTCUSDT", stop_loss_percent="80", ema_fast_period="13")
    tara.saves()
    assert "at most 50" in tara.error_beside("parameter_stop_loss_percent")
    tara.shows(".field-parameter_stop_loss_percent")
    picture(tara, "admin-strategy-error")

    tara.writes_parameters(stop_loss_percent="2")
    tara.saves()
    assert "Must be smaller than ema_slow_period (13)" in tara.error_beside("parameter_ema_fast_period")

    tara.opens("/admin/algo/strategyconfig/?q=Too+bold")
    assert tara.rows().count() == 0


def test_what_is_typed_is_previewed_saved_changed_and_rolled_back(visitor, picture):
    tara = visitor("tara")
    fetches_a_day_of_candles(tara, picture)
    tara.writes_strategy("Careful", "tara's", "BTCUSDT", **TRADES_BREAKOUTS | {"stop_loss_percent": "80"})
    previews(tara)
    assert "at most 50" in tara.error_beside("parameter_stop_loss_percent")

    tara.writes_parameters(stop_loss_percent="2", take_profit_percent="0.5")
    previews(tara)
    tara.sees("Preview: the last 30 days. Nothing was saved.")
    tara.sees("The target does not pay the fees")
    tara.sees("3 · locking stops")
    tara.sees("Net profit")
    picture(tara, "admin-strategy-preview")

    tara.saves()
    tara.sees("was added successfully")
    tara.opens("/admin/algo/strategyconfig/?q=Careful")
    tara.follows("Careful", tara.rows())
    tara.writes_parameters(stop_loss_percent="3")
    tara.saves()
    tara.follows("Careful", tara.rows())
    tara.page.get_by_role("link", name="History").first.click()
    tara.sees("stop loss percent: 2 → 3")
    tara.sees("tara, in the admin")
    picture(tara, "admin-strategy-history")
    tara.follows("Roll back")
    tara.sees("3 → 2")
    tara.presses("Roll back")
    tara.sees("Careful was rolled back: parameters.")
    assert tara.page.locator("#id_parameter_stop_loss_percent").input_value() == "2"


def fetches_a_day_of_candles(tara: Visitor, picture: Callable[[Visitor, str], None]) -> None:
    tara.opens("/admin/algo/market/?q=BTCUSDT&provider__exact=nobitex")
    tara.opens_first_row()
    tara.follows("Coverage and gaps")
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    tara.page.locator("[name=start]").first.fill(yesterday.isoformat())
    with tara.page.expect_navigation():
        tara.presses("Show")
    with tara.page.expect_navigation():
        tara.presses("Fetch what is missing")
    tara.sees("Workers fetch them")
    newest = tara.page.locator("table").last.locator("tbody tr").first
    tara.waits_for("the candles", lambda: "done" in newest.inner_text().lower(), CARRIED_OUT_SECONDS)
    picture(tara, "admin-candles")


def previews(tara: Visitor) -> None:
    with tara.page.expect_navigation():
        tara.presses("Preview")


def test_a_deal_opens_under_a_stop_closes_at_its_target_and_the_next_one_by_hand(visitor, platform, picture):
    tara = visitor("tara")
    starts_a_strategy(tara, "Breakouts")
    tara.follows("Breakouts", tara.rows())
    picture(tara, "admin-strategy")

    sees_a_deal_open(tara, platform)
    first = tara.page.url
    assert tara.acts_offered() == ["Close deal", "Move stop", "Re-protect"]
    moves_its_stop(tara, platform)
    assert tara.page.locator("#chart polygon.entry").count() >= 1
    picture(tara, "admin-deal-open")
    platform.move_price(PAIR, "+7")  # beyond the target at 5 %
    tara.waits_to_read("Closed: take profit", CARRIED_OUT_SECONDS)
    told = dict.fromkeys(tara.timeline())  # in parts or at once
    wanted = ["Buy signal: BREAKOUT", "Entry filled", "Stop order open", "Target filled", "Closed: Take profit"]
    assert [each for each in told if each in wanted] == wanted
    assert tara.acts_offered() == []
    assert tara.page.locator("#chart polygon.exit").count() >= 1

    sees_a_deal_open(tara, platform)
    assert tara.page.url != first
    closes_it_by_hand(tara, picture)
    tara.waits_to_read("Closed: by hand", CARRIED_OUT_SECONDS)
    assert "Enough for today." in tara.text
    tara.shows("text=What happened")
    picture(tara, "admin-deal")
    tara.does_to_strategy("Breakouts", "stop")
    tara.sees("Stopped: Breakouts.")


def starts_a_strategy(tara: Visitor, name: str) -> None:
    tara.writes_strategy(name, "tara's", "BTCUSDT", **TRADES_BREAKOUTS)
    tara.saves()
    tara.sees("was added successfully")
    tara.does_to_strategy(name, "start")
    tara.sees(f"{name} runs.")


def sees_a_deal_open(tara: Visitor, platform: Platform) -> None:
    """The price climbs until a candle closes above those before it; ends on the page of the deal."""

    def there() -> bool:
        if tara.rows().count():
            return True
        platform.move_price(PAIR, "+0.15")
        return False

    tara.opens(OPEN_DEALS)
    tara.waits_for("an open deal", there, NEXT_CANDLE_SECONDS)
    tara.opens_first_row()
    tara.waits_to_read("Stop order open", CARRIED_OUT_SECONDS)


def moves_its_stop(tara: Visitor, platform: Platform) -> None:
    """Nearer to the price, first without a reason, then with one; it rests at the exchange afterwards."""
    wanted = (platform.last_price(PAIR) * Decimal("0.97")).quantize(Decimal("0.01"))
    tara.follows("Move stop")
    tara.page.locator("[name=stop_price]").fill(str(wanted))
    tara.presses("Move stop")
    tara.sees("Say why. Nothing was changed.")
    tara.page.locator("[name=reason]").fill("It has run far enough.")
    tara.presses("Move stop")
    tara.sees("The stop is being moved.")
    tara.waits_for(
        "a second stop at the exchange", lambda: tara.timeline().count("Stop order open") == 2, CARRIED_OUT_SECONDS
    )
    assert "Stop moved" in tara.timeline()
    assert f"{wanted.normalize():,f}" in tara.page.locator("#chart figcaption").inner_text()


def closes_it_by_hand(tara: Visitor, picture: Callable[[Visitor, str], None]) -> None:
    tara.follows("Close deal")
    tara.sees("This cannot be undone.")
    tara.presses("Close deal")
    tara.sees("Say why. Nothing was changed.")
    tara.page.go_back()
    tara.page.locator("[name=reason]").fill("Enough for today.")
    picture(tara, "admin-deal-close")
    tara.presses("Close deal")
    tara.sees("The deal is being closed.")


def test_why_no_trade_is_answered_in_two_clicks(visitor, picture):
    admin = visitor("admin")
    admin.opens("/admin/algo/decision/?outcome__exact=denied")
    admin.waits_for("a denial", lambda: admin.rows().count() > 0, NEXT_CANDLE_SECONDS)
    name = admin.column("config")[0]

    admin.opens("/admin/algo/strategyconfig/")
    admin.follows("Why no trade?", admin.rows().filter(has_text=name))  # the first click says it already
    admin.sees("Candles of the last 24 hours")
    assert set(admin.column("config")) == {name}
    assert all(": " in why for why in admin.column("why"))
    picture(admin, "admin-why")
    admin.opens_first_row()  # the second shows every number
    admin.sees("Journal")


def test_a_trader_sees_nothing_of_other_accounts(visitor):
    admin, tara = visitor("admin"), visitor("tara")
    admin.opens("/admin/algo/deal/?q=Demo")
    admin.waits_for("a deal of the demo", lambda: admin.rows().count() > 0, NEXT_CANDLE_SECONDS)
    admin.opens_first_row()
    foreign = admin.page.url

    tara.opens("/admin/algo/account/")
    assert tara.column("name") == ["tara's"]
    for kind in ("deal", "order", "fill", "signal", "decision", "strategyconfig"):
        tara.opens(f"/admin/algo/{kind}/")
        assert "Demo" not in tara.text, kind
    tara.opens(foreign)
    assert tara.page.url.endswith("/admin/")
    tara.sees("Perhaps it was deleted?")


def test_a_viewer_looks_at_everything_and_finds_no_button(visitor):
    vera = visitor("vera")
    vera.opens("/admin/algo/deal/")
    vera.waits_for("a deal of the demo", lambda: vera.rows().count() > 0, NEXT_CANDLE_SECONDS)
    vera.opens_first_row()
    vera.sees("What happened")
    assert vera.acts_offered() == []
    assert vera.buttons() == []
    for kind in ("order", "strategyconfig", "account"):
        vera.opens(f"/admin/algo/{kind}/")
        assert vera.page.locator("select[name=action]").count() == 0
        vera.opens_first_row()
        assert vera.buttons() == [], kind
    vera.opens("/admin/algo/systemcontrol/")
    vera.sees("Kill switch of the whole system")
    assert vera.buttons() == []


@pytest.fixture
def kill_switch_left(platform: Platform) -> Iterator[None]:
    yield
    platform.manage("kill_switch", "set", "off", "--reason", "the test is over", "--unproven")


@pytest.mark.usefixtures("kill_switch_left")
def test_the_kill_switch_closes_a_deal_proves_everything_flat_and_is_left(visitor, platform, picture):
    admin, tara = visitor("admin"), visitor("tara")
    starts_a_strategy(tara, "Until the news")
    sees_a_deal_open(tara, platform)

    admin.opens("/admin/algo/systemcontrol/")
    admin.turns_kill_switch("no_entries", "")
    admin.sees("Say why. Nothing was changed.")
    admin.turns_kill_switch("no_entries", "The news are bad.")
    admin.sees("Kill switch of the whole system: off → no_entries. The news are bad.")

    admin.turns_kill_switch("flatten", "They are worse.")
    admin.sees("Confirm that every open position is to be closed. Nothing was changed.")
    admin.turns_kill_switch("flatten", "They are worse.", confirm=True)
    admin.waits_for("a proof that tara's account and all others are flat", lambda: all_flat(admin.proofs()), 120)
    picture(admin, "admin-kill-switch")
    tara.waits_to_read("Closed: kill switch", CARRIED_OUT_SECONDS)
    admin.opens(OPEN_DEALS)
    assert admin.rows().count() == 0

    admin.opens("/admin/algo/systemcontrol/")
    admin.turns_kill_switch("off", "It was a rumour.")
    admin.sees("Kill switch of the whole system: flatten → off. It was a rumour.")
    admin.opens("/admin/algo/auditrecord/?act=kill_switch.turn")
    assert admin.column("reason")[:3] == ["It was a rumour.", "They are worse.", "The news are bad."]


def all_flat(proofs: dict[str, str]) -> bool:
    """Accounts that never had a deal are not among them."""
    return "tara's" in proofs and set(proofs.values()) == {"Proved"}
