"""What people do to a strategy: each act is one row of its history and one record of the audit log, or nothing."""

from __future__ import annotations

import importlib
from datetime import timedelta

import pytest
from django.apps import apps
from django.core.exceptions import PermissionDenied

from algo.models import Account, AuditRecord, Door, StrategyConfig
from algo.selectors.rights import Role
from algo.selectors.strategy_changes import FieldChange, config_changes
from algo.services import strategy_acts
from algo.services.control import strategy_ordering_set, strategy_stop
from algo.services.strategy_acts import (
    StrategyRefused,
    strategy_clone,
    strategy_create,
    strategy_delete,
    strategy_roll_back,
    strategy_run_now,
    strategy_update,
)
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


@pytest.fixture
def sara(db):
    return make.make_trader("sara")


@pytest.fixture
def by(sara):
    return make.by(sara, Door.API)


@pytest.fixture
def config(sara, by):
    """Created by sara at NOW, with an account of hers."""
    account = make.make_account(owner=sara, name="main")
    row = StrategyConfig(
        name="demo",
        strategy="BreakoutStrategy",
        parameters={"breakout_period": 30},
        account=account,
        market=make.make_market(),
        data_market=make.make_market(provider="nobitex"),
        status="running",
    )
    return strategy_create(row, by=by, at=NOW)


def acts():
    return list(AuditRecord.objects.order_by("id").values_list("act", "username", "door"))


def told(config):
    """The newest difference: field, before, after."""
    return [
        (each.field, each.before, each.after) for each in config_changes(config, seen=Account.objects.all())[0].changes
    ]


def test_a_created_strategy_is_stopped_complete_and_in_history_and_audit_log_once(config):
    config.refresh_from_db()
    assert (config.status, config.parameters["breakout_period"], config.parameters["rsi_period"]) == ("stopped", 30, 14)
    (only,) = config_changes(config, seen=Account.objects.all())
    assert (only.version, only.kind, only.at, only.who, only.door, only.changes) == (
        1, "created", NOW, "sara", Door.API, (),
    )  # fmt: skip
    assert acts() == [("strategyconfig.create", "sara", "api")]


def test_a_change_tells_who_when_and_each_field_before_and_after(config, by):
    other = make.make_market("XBTUSDT", provider="nobitex", pair="BTC/USDT")
    values = {
        "name": "new",
        "data_market": other,
        "parameters": {**config.parameters, "breakout_period": 40},
        "resolution": "1",  # as it is
    }
    assert strategy_update(config, values, by=by, at=NOW + MINUTE, why="wider") == ["name", "parameters", "data_market"]
    newest = config_changes(config, seen=Account.objects.all())[0]
    assert (newest.version, newest.kind, newest.at, newest.by, newest.why) == (
        2, "changed", NOW + MINUTE, "sara", "wider",
    )  # fmt: skip
    assert newest.changes == (
        FieldChange("name", "demo", "new"),
        FieldChange("data_market", "BTCUSDT @ Nobitex", "XBTUSDT @ Nobitex"),
        FieldChange("parameters.breakout_period", 30, 40),
    )
    assert acts()[1:] == [("strategyconfig.change", "sara", "api")]
    assert (config.name, config.data_market) == ("new", other)  # the caller's object follows


def test_saving_what_stood_so_already_leaves_no_trace(config, by):
    assert strategy_update(config, {"name": "demo", "parameters": {"breakout_period": 30}}, by=by, at=NOW) == []
    assert (len(config_changes(config, seen=Account.objects.all())), len(acts())) == (1, 1)


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"parameters": {"breakout_period": -1}}, "breakout_period", "at least 2"),
        ({"parameters": {"moon_phase": 3}}, "moon_phase", ""),
        ({"name": "taken"}, "name", "Another strategy is called taken"),
    ],
)
def test_what_cannot_work_is_refused_by_field_and_nothing_is_changed(config, by, values, field, words):
    make.make_config(name="taken")
    with pytest.raises(StrategyRefused) as refused:
        strategy_update(config, {"resolution": "5", **values}, by=by, at=NOW)
    assert words in refused.value.errors[field][0]
    assert StrategyConfig.objects.get(pk=config.pk).resolution == "1"
    assert (len(config_changes(config, seen=Account.objects.all())), len(acts())) == (1, 1)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.TRADER])
def test_who_may_only_look_at_the_account_changes_nothing(config, role):
    looker = make.make_user("looker", role=role)
    config.account.viewers.add(looker)
    who = {"by": make.by(looker), "at": NOW}
    version = config_changes(config, seen=Account.objects.all())[0].id
    for act in (
        lambda: strategy_update(config, {"name": "mine"}, **who),
        lambda: strategy_clone(config, **who),
        lambda: strategy_roll_back(config, version, **who),
        lambda: strategy_run_now(config, **who),
        lambda: strategy_delete(config, **who),
    ):
        with pytest.raises(PermissionDenied):
            act()
    assert len(acts()) == 1
    assert StrategyConfig.objects.get().name == "demo"


def test_a_strategy_is_not_moved_to_an_account_of_somebody_else(config, by):
    with pytest.raises(PermissionDenied):
        strategy_update(config, {"account": make.make_account()}, by=by, at=NOW)
    assert StrategyConfig.objects.get(pk=config.pk).account.name == "main"


def test_workers_leave_no_row_and_people_who_pause_ordering_do(config, by):
    StrategyConfig.objects.filter(pk=config.pk).update(last_bar_at=NOW, status="running")
    config.refresh_from_db()
    config.save(update_fields=["last_bar_at", "status"])
    strategy_stop(config, by=by, at=NOW)
    assert len(config_changes(config, seen=Account.objects.all())) == 1
    assert strategy_ordering_set(config, enabled=False, by=by, at=NOW + MINUTE, reason="news")
    assert told(config) == [("ordering_enabled", True, False)]
    assert config_changes(config, seen=Account.objects.all())[0].why == "news"
    assert not strategy_ordering_set(config, enabled=False, by=by, at=NOW + MINUTE)
    assert [act for act, _, _ in acts()[1:]] == ["strategy.stop", "strategy.ordering_pause"]


def test_a_clone_is_stopped_and_says_where_it_comes_from(config, by):
    copy, second = strategy_clone(config, by=by, at=NOW), strategy_clone(config, by=by, at=NOW)
    assert (copy.name, second.name, copy.status) == ("demo (copy)", "demo (copy 2)", "stopped")
    assert (copy.parameters, copy.account, copy.market) == (config.parameters, config.account, config.market)
    assert config_changes(copy, seen=Account.objects.all())[0].why == "Cloned from demo."
    assert strategy_clone(config, by=by, at=NOW, name="x" * 80).name == "x" * 80
    assert len(strategy_clone(StrategyConfig.objects.get(name="x" * 80), by=by, at=NOW).name) == 80


def test_rolling_back_sets_all_but_ordering_and_is_a_change_of_its_own(config, by):
    first = config_changes(config, seen=Account.objects.all())[0].id
    parameters = {**config.parameters, "breakout_period": 50}
    strategy_update(config, {"parameters": parameters, "resolution": "15"}, by=by, at=NOW + MINUTE)
    strategy_ordering_set(config, enabled=False, by=by, at=NOW + MINUTE)
    config.refresh_from_db()
    assert strategy_roll_back(config, first, by=by, at=NOW + 2 * MINUTE) == ["parameters", "resolution"]
    assert (config.parameters["breakout_period"], config.resolution, config.ordering_enabled) == (30, "1", False)
    assert (
        config_changes(config, seen=Account.objects.all())[0].why
        == "Rolled back to what it was at 2026-11-02 10:00:00 UTC."
    )
    assert strategy_roll_back(config, first, by=by, at=NOW + 2 * MINUTE) == []


def test_a_version_that_cannot_work_any_more_is_refused(config, by, monkeypatch):
    first = config_changes(config, seen=Account.objects.all())[0].id
    strategy_update(config, {"name": "new"}, by=by, at=NOW)
    make.make_config(name="demo")
    with pytest.raises(StrategyRefused, match="Another strategy is called demo"):
        strategy_roll_back(config, first, by=by, at=NOW)
    with pytest.raises(StrategyRefused, match="has no version 987654"):
        strategy_roll_back(config, 987654, by=by, at=NOW)
    elsewhere = config_changes(StrategyConfig.objects.get(name="demo"), seen=Account.objects.all())[0].id
    with pytest.raises(StrategyRefused, match="has no version"):
        strategy_roll_back(config, elsewhere, by=by, at=NOW)


def test_run_now_is_recorded_where_a_candle_waits_to_be_decided_about(config, by):
    with pytest.raises(StrategyRefused, match="demo is stopped: start it"):
        strategy_run_now(config, by=by, at=NOW)
    StrategyConfig.objects.filter(pk=config.pk).update(status="running", last_bar_at=NOW)
    assert not strategy_run_now(config, by=by, at=NOW + 2 * MINUTE - timedelta(seconds=1))
    assert len(acts()) == 1
    assert strategy_run_now(config, by=by, at=NOW + 2 * MINUTE)
    assert acts()[1:] == [("strategy.run", "sara", "api")]


def test_a_strategy_with_history_of_deals_is_kept_and_one_without_leaves_its_own_history(config, by):
    traded = make.make_closed_deal(make.make_config(account=config.account)).config
    with pytest.raises(StrategyRefused, match="history that is kept"):
        strategy_delete(traded, by=by, at=NOW)
    pk = config.pk
    strategy_delete(config, by=by, at=NOW + MINUTE)
    newest = config_changes(StrategyConfig(pk=pk), seen=Account.objects.all())[0]
    assert (newest.kind, newest.who, newest.at) == ("deleted", "sara", NOW + MINUTE)
    assert [act for act, _, _ in acts()] == ["strategyconfig.create", "strategyconfig.delete"]


def test_strategies_that_were_there_before_begin_their_history_as_they_stand(config):
    StrategyConfig.history.all().delete()
    importlib.import_module("algo.migrations.0018_history_of_strategies").begin(apps, None)
    (only,) = config_changes(config, seen=Account.objects.all())
    assert (only.kind, only.by, only.at) == ("created", "the platform", config.updated_at)
    assert only.values["parameters.breakout_period"] == 30
    assert only.values["account"] == "main"


def test_two_who_choose_a_name_at_once_are_told_apart_by_the_database(config, by):
    """The look before the save saw no other: as if both had looked at the same moment."""
    twin = StrategyConfig(name=config.name, strategy=config.strategy, account=config.account, market=config.market,
                          data_market=config.data_market, parameters=config.parameters)  # fmt: skip
    with pytest.raises(StrategyRefused, match="choose another name"):
        strategy_acts._insert(twin, by, NOW, "")
    assert StrategyConfig.objects.count() == 1
