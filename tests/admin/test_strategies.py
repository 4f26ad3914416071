from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any, Literal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pydantic import Field

from algo.admin import strategy_checks
from algo.admin.strategy_form import form_field
from algo.models import StrategyConfig
from algo.selectors.rights import Role
from algo.services.strategy_checks import strategy_check_current
from algo.strategies import StrategyInterface, StrategySchema, strategy_factory
from tests import factories as make
from tests.admin.pages import errors, form_data, said, shown
from tests.backtest import cheats
from tests.factories import NOW

pytestmark = pytest.mark.django_db

ADD = "/admin/algo/strategyconfig/add/"


class PulseSchema(StrategySchema):
    speed: int = Field(7, ge=1, title="Speed of the pulse", description="Beats per candle.")
    mood: Literal["calm", "wild"] = Field("calm")
    cap: Decimal | None = Field(None, description="No cap where empty.")


class PulseStrategy(StrategyInterface):
    schema = PulseSchema

    def execute(self, market_data: Any) -> None:
        return None


@pytest.fixture
def pulse(monkeypatch):
    monkeypatch.setitem(strategy_factory.STRATEGIES, "PulseStrategy", PulseStrategy)


def change(config):
    return f"/admin/algo/strategyconfig/{config.pk}/change/"


@pytest.fixture
def fields(account):
    """What a person fills in on the add form; the parameters stand at their defaults."""
    return {
        "name": "new",
        "account": account.pk,
        "market": make.make_market().pk,
        "data_market": make.make_market(provider="nobitex").pk,
    }


def add(browser, fields, query="", **more):
    page = browser.get(ADD + query)
    return browser.post(ADD + query, form_data(page) | fields | more, follow=True)


def test_every_parameter_is_a_field_with_title_help_bounds_and_default(browser):
    page = browser.get(ADD)
    text = shown(page)
    for piece in (
        "Fast EMA",
        "must be below the slow one",
        "(≥ 2, ≤ 100, default 5)",
        "Stop loss (%)",
        "(> 0, ≤ 50, default 0.3)",
        "Rules of BreakoutStrategy",
        "Risk and protection",
    ):
        assert piece in text
    data = form_data(page)
    assert data["parameter_take_profit_percent"] == "0.6"
    assert data["parameter_need_historical_data"] == "on"
    assert "parameter_exit_on_opposite_signal" not in data  # a switch that is off
    names = {name.removeprefix("parameter_") for name in page.context["adminform"].form.fields}
    assert set(strategy_factory.schema_for("BreakoutStrategy").model_fields) <= names


def test_parameters_are_stored_complete_and_without_loss(browser, fields):
    add(
        browser,
        fields,
        parameter_stop_loss_percent="0.35",
        parameter_ema_fast_period="6",
        parameter_rsi_overbought="80",
    )
    parameters = StrategyConfig.objects.get(name="new").parameters
    assert parameters["stop_loss_percent"] == "0.35"
    assert parameters["ema_fast_period"] == 6
    assert parameters["rsi_overbought"] == 80.0
    assert parameters["max_daily_trades"] == 10
    assert parameters["need_historical_data"] is True


def test_empty_parameter_takes_its_default(browser, fields):
    add(browser, fields, parameter_breakout_period="")
    assert StrategyConfig.objects.get(name="new").parameters["breakout_period"] == 20


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stop_loss_percent", "-1", "greater than 0"),
        ("stop_loss_percent", "99", "at most 50"),
        ("ema_fast_period", "2.5", "a whole number"),
        ("ema_fast_period", "five", "a whole number"),
        ("rsi_overbought", "nan", ""),
        ("volume_threshold", "inf", "finite"),
        ("take_profit_percent", "0,6", "a number"),
        ("ema_fast_period", "13", "Must be smaller than ema_slow_period (13)"),
        ("trailing_stop_percent", "0.05", ""),
    ],
)
def test_schema_judges_and_its_words_stand_beside_the_field(browser, fields, name, value, message):
    page = add(browser, fields, **{f"parameter_{name}": value})
    found = errors(page)
    beside = "trailing_step_percent" if name == "trailing_stop_percent" else name
    assert set(found) == {f"parameter_{beside}"}
    assert message in found[f"parameter_{beside}"][0]
    assert found[f"parameter_{beside}"][0] in shown(page)
    assert not StrategyConfig.objects.exists()


def test_unknown_parameter_is_refused(browser, fields):
    page = add(browser, fields, parameter_moon_phase="3")
    assert "no parameter moon_phase" in errors(page)["__all__"][0]
    assert not StrategyConfig.objects.exists()


def test_config_without_a_market_is_a_form_error(browser, fields):
    del fields["market"]
    assert errors(add(browser, fields)) == {"market": ["Choose the market the orders go to."]}


def test_market_of_another_exchange_than_the_account_is_a_form_error(browser, fields):
    page = add(browser, fields, market=make.make_market(provider="nobitex").pk)
    assert "is at Wallex" in errors(page)["market"][0]


def test_candles_of_another_pair_are_a_form_error(browser, fields):
    page = add(browser, fields, data_market=make.make_market("ETHUSDT", provider="nobitex").pk)
    assert "ETH/USDT" in errors(page)["data_market"][0]


def test_toman_markets_of_both_exchanges_are_one_pair(browser, fields):
    wallex, nobitex = make.make_market("BTCTMN"), make.make_market("BTCIRT", provider="nobitex")
    add(browser, fields, market=wallex.pk, data_market=nobitex.pk)
    assert StrategyConfig.objects.get(name="new").data_market == nobitex


def test_target_that_does_not_pay_the_fees_is_warned_about(browser, fields):
    assert any("does not pay the fees" in text for text in said(add(browser, fields)))
    paying = add(browser, fields, name="rich", parameter_take_profit_percent="2")
    assert not any("fees" in text for text in said(paying))


def test_account_without_stops_is_warned_about(browser, fields, account):
    account.capabilities = {"stop_market": False}
    account.save()
    assert any("only the running guardian" in text for text in said(add(browser, fields)))


def test_other_strategy_shows_its_own_fields(browser, pulse):
    page = browser.get(f"{ADD}?strategy=PulseStrategy&name=kept")
    text = shown(page)
    assert "Speed of the pulse" in text
    assert "Fast EMA" not in text
    assert form_data(page)["name"] == "kept"
    assert form_data(page)["strategy"] == "PulseStrategy"


def test_other_strategy_is_stored_with_its_own_parameters(browser, pulse, fields):
    add(browser, fields, query="?strategy=PulseStrategy", parameter_speed="9", parameter_mood="wild")
    config = StrategyConfig.objects.get(name="new")
    assert config.strategy == "PulseStrategy"
    assert (config.parameters["speed"], config.parameters["mood"], config.parameters["cap"]) == (9, "wild", None)


def test_strategy_switched_without_javascript_shows_its_fields_before_anything_is_saved(browser, pulse, fields):
    page = add(browser, fields, strategy="PulseStrategy")
    assert "are now those of PulseStrategy" in errors(page)["__all__"][0]
    assert "Speed of the pulse" in shown(page)
    assert not StrategyConfig.objects.exists()
    data = {name: value for name, value in form_data(page).items() if name.startswith("parameter_")}
    browser.post(ADD, {**fields, **data, "strategy": "PulseStrategy", "resolution": "1", "allowed_sides": "BUY"})
    assert StrategyConfig.objects.get().parameters["speed"] == 7


@pytest.mark.parametrize("name", ["NoSuchStrategy", ""])
def test_strategy_that_does_not_exist_is_refused(browser, fields, name):
    assert browser.get(f"{ADD}?strategy={name}").status_code == 200
    assert "strategy" in errors(add(browser, fields, strategy=name))


def test_change_form_shows_the_stored_values_and_keeps_them(browser, config):
    config.parameters = {"stop_loss_percent": "0.45", "need_historical_data": False}
    config.save()
    data = form_data(browser.get(change(config)))
    assert data["parameter_stop_loss_percent"] == "0.45"
    assert "parameter_need_historical_data" not in data
    browser.post(change(config), data | {"parameter_max_daily_trades": "3"})
    config.refresh_from_db()
    assert config.parameters["stop_loss_percent"] == "0.45"
    assert config.parameters["need_historical_data"] is False
    assert config.parameters["max_daily_trades"] == 3


def test_stored_parameter_that_the_schema_does_not_know_is_removed_aloud(browser, config):
    StrategyConfig.objects.filter(pk=config.pk).update(parameters={"moon_phase": 3})
    page = browser.post(change(config), form_data(browser.get(change(config))), follow=True)
    assert any("moon_phase" in text for text in said(page))
    config.refresh_from_db()
    assert "moon_phase" not in config.parameters


def test_strategy_of_a_config_never_changes(browser, config, pulse):
    browser.post(change(config), form_data(browser.get(change(config))) | {"strategy": "PulseStrategy"})
    config.refresh_from_db()
    assert config.strategy == "BreakoutStrategy"


def test_save_leaves_what_a_worker_wrote_meanwhile(browser, config):
    data = form_data(browser.get(change(config)))
    StrategyConfig.objects.filter(pk=config.pk).update(last_bar_at=NOW)
    browser.post(change(config), data | {"name": "renamed"})
    config.refresh_from_db()
    assert (config.name, config.last_bar_at) == ("renamed", NOW)


def test_an_old_page_does_not_undo_what_somebody_else_saved(browser, config):
    data = form_data(browser.get(change(config)))
    browser.post(change(config), data | {"parameter_stop_loss_percent": "0.9"})
    late = browser.post(change(config), data | {"parameter_max_daily_trades": "3"})
    assert "changed by somebody else since this page was opened" in errors(late)["__all__"][0]
    config.refresh_from_db()
    assert (config.parameters["stop_loss_percent"], config.parameters["max_daily_trades"]) == ("0.9", 10)


def test_config_of_a_strategy_that_is_gone_is_read_only(browser, config):
    StrategyConfig.objects.filter(pk=config.pk).update(strategy="GoneStrategy", parameters={"speed": 7})
    text = shown(browser.get(change(config)))
    assert "GoneStrategy" in text
    assert "Speed: 7" in text
    assert browser.post(change(config), {"name": "x"}).status_code == 403


def test_actions_start_stop_pause_and_resume(browser, config):
    def act(name):
        page = browser.post(
            "/admin/algo/strategyconfig/", {"action": name, "_selected_action": [config.pk]}, follow=True
        )
        config.refresh_from_db()
        return said(page)

    assert act("stop") == ["Stopped: demo."]
    assert config.status == "stopped"
    assert "demo runs." in act("start")
    assert config.status == "running"
    assert act("pause_ordering") == ["Ordering paused: demo."]
    assert config.ordering_enabled is False
    assert act("resume_ordering") == ["Ordering resumed: demo."]
    assert config.ordering_enabled is True


def test_broken_config_is_not_started_and_the_reason_is_told(browser, config):
    StrategyConfig.objects.filter(pk=config.pk).update(status="stopped", parameters={"stop_loss_percent": "-1"})
    page = browser.post(
        "/admin/algo/strategyconfig/", {"action": "start", "_selected_action": [config.pk]}, follow=True
    )
    assert any("demo was not started" in text and "stop_loss_percent" in text for text in said(page))
    config.refresh_from_db()
    assert config.status == "stopped"


# --- bias checks ----------------------------------------------------------------------------------------------------


@pytest.fixture
def cheat(monkeypatch):
    monkeypatch.setitem(strategy_factory.STRATEGIES, "NextClose", cheats.NextClose)


def act(browser, config, name):
    page = browser.post("/admin/algo/strategyconfig/", {"action": name, "_selected_action": [config.pk]}, follow=True)
    config.refresh_from_db()
    return said(page)


def test_a_saved_version_is_checked_and_page_and_list_show_that_it_passed(browser, fields):
    add(browser, fields)
    config = StrategyConfig.objects.get(name="new")
    assert config.checks.get().passed
    page = shown(browser.get(change(config)))
    for title in ("The future changes no signal of the past", "A live window decides as the whole history does"):
        assert f"Passed {title}" in page
    assert "simulated market: only 0 candles" in page
    assert "Passed" in shown(browser.get("/admin/algo/strategyconfig/"))


def test_a_saved_version_is_checked_after_the_commit(browser, fields, monkeypatch):
    inside = []

    def checked(config, now):
        inside.append(bool(connection.savepoint_ids))
        return strategy_check_current(config, now=now)

    monkeypatch.setattr(strategy_checks, "strategy_check_current", checked)
    add(browser, fields)
    assert inside == [False]


def test_saving_a_version_that_fails_keeps_it_and_says_what_was_found(browser, cheat, fields):
    page = add(browser, fields, query="?strategy=NextClose")
    config = StrategyConfig.objects.get(name="new")
    assert config.strategy == "NextClose"
    (told,) = [text for text in said(page) if "bias checks" in text]
    assert "new was saved. It will not run: its bias checks failed: look_ahead" in told
    text = shown(browser.get(change(config)))
    assert "Failed The future changes no signal of the past" in text
    assert "expected nothing, found BUY, confidence 0.5, reason TEST" in text
    assert "look for shift(-1)" in text
    assert "Failed" in shown(browser.get("/admin/algo/strategyconfig/"))
    assert any("was not started: this version of it failed" in each for each in act(browser, config, "start"))
    assert config.status == "stopped"


def test_a_running_config_saved_with_a_version_that_fails_is_stopped(browser, cheat, config):
    StrategyConfig.objects.filter(pk=config.pk).update(strategy="NextClose", parameters={})
    browser.post(change(config), form_data(browser.get(change(config))) | {"parameter_stop_loss_percent": "1"})
    config.refresh_from_db()
    assert config.parameters["stop_loss_percent"] == "1"
    assert config.status == "stopped"


def test_a_version_edited_since_its_check_is_shown_as_not_checked(browser, config):
    assert "Not yet" in shown(browser.get(change(config)))
    assert act(browser, config, "check_now")[0].startswith("demo passed every bias check.")
    assert "Not yet" not in shown(browser.get("/admin/algo/strategyconfig/"))
    StrategyConfig.objects.filter(pk=config.pk).update(parameters={"stop_loss_percent": "0.7"})
    assert "Not yet" in shown(browser.get("/admin/algo/strategyconfig/"))
    assert "It was another version of the strategy." in shown(browser.get(change(config)))


def test_check_now_checks_again_and_tells_both_verdicts(browser, cheat, config):
    StrategyConfig.objects.filter(pk=config.pk).update(strategy="NextClose", parameters={})
    for count in (1, 2):
        (told,) = act(browser, config, "check_now")
        assert told.startswith("demo will not run: its bias checks failed: look_ahead")
        assert config.checks.count() == count
    StrategyConfig.objects.filter(pk=config.pk).update(strategy="GoneStrategy")
    assert act(browser, config, "check_now") == ["demo was not checked: correct its parameters first."]


def test_what_was_found_is_escaped(browser, monkeypatch, config):
    class Script(PulseStrategy):
        def execute(self, market_data: Any) -> None:
            raise ValueError("<script>alert(1)</script>")

    monkeypatch.setitem(strategy_factory.STRATEGIES, "Script", Script)
    StrategyConfig.objects.filter(pk=config.pk).update(strategy="Script", parameters={})
    act(browser, config, "check_now")
    body = browser.get(change(config)).content.decode()
    assert "ValueError: &lt;script&gt;alert(1)" in body
    assert "<script>alert(1)" not in body


def test_the_list_asks_the_database_once_for_all_checks(browser, config):
    act(browser, config, "check_now")
    for _ in range(5):
        make.make_config(account=config.account)
    browser.get("/admin/algo/strategyconfig/")
    with CaptureQueriesContext(connection) as queries:
        browser.get("/admin/algo/strategyconfig/")
    assert sum("algo_strategycheck" in query["sql"] for query in queries) == 1


def test_viewer_reads_a_config_and_changes_nothing(config):
    from django.test import Client

    viewer = make.make_user(is_staff=True, role=Role.VIEWER)
    config.account.viewers.add(viewer)
    client = Client()
    client.force_login(viewer)
    assert "demo" in shown(client.get(change(config)))
    assert client.post(change(config), {"name": "x"}).status_code == 403
    client.post("/admin/algo/strategyconfig/", {"action": "stop", "_selected_action": [config.pk]})
    config.refresh_from_db()
    assert (config.name, config.status) == ("demo", "running")


def test_fields_of_all_types():
    class Colour(StrEnum):
        RED = "red"

    class Many(StrategySchema):
        flag: bool = True
        count: int = Field(3, ge=1)
        name: str = "x"
        colour: Colour = Colour.RED
        must: Decimal

    made = {name: form_field(name, info) for name, info in Many.model_fields.items()}
    assert type(made["flag"]).__name__ == "BooleanField"
    assert made["count"].widget.attrs["step"] == "1"
    assert made["colour"].choices == [("red", "red")]
    assert (made["name"].initial, made["colour"].initial, made["must"].initial) == ("x", "red", None)
