"""A backtest as a job: asked for, claimed once, watched, cancelled, given up; never running for ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import IntegrityError

import algo.tasks
from algo import queues, version
from algo.backtest import FillModel
from algo.models import BacktestRun, Candle, RunStatus
from algo.selectors.backtests import backtests_compare, has_report, report_page
from algo.services import backtests as service
from algo.services.backtest_money import Money, backtest_settings
from algo.services.backtests import (
    BacktestAsked,
    BacktestRefused,
    backtest_cancel,
    backtest_fail,
    backtest_request,
    backtest_run,
    backtests_sweep,
)
from algo.strategies import BreakoutStrategy, StrategyInterface, strategy_factory
from providers.errors import Unavailable
from providers.types import Side
from tests import factories as make
from tests.commands.conftest import FakeVenue, StoppedClock
from tests.commands.test_backtest_strategy import WARMUP, wave_candles
from tests.market_data.exchange import at

pytestmark = pytest.mark.django_db

NOW = at(3000)


class FailsStrategy(StrategyInterface):
    warmup_bars = 5

    def execute(self, market_data):
        raise ZeroDivisionError


class SlowStrategy(StrategyInterface):
    warmup_bars = 5

    def execute(self, market_data):
        return None


@pytest.fixture(autouse=True)
def _strategies(monkeypatch):
    for kind in (FailsStrategy, SlowStrategy):
        monkeypatch.setitem(strategy_factory.STRATEGIES, kind.__name__, kind)


class TickingClock(StoppedClock):
    """Every look at it is ten seconds later, so that every step is worth a sign of life."""

    def now(self):
        self.at += timedelta(seconds=10)
        return self.at

    def monotonic(self):
        return self.now().timestamp()


@pytest.fixture
def clock():
    return TickingClock(NOW)


@pytest.fixture
def venue():
    return FakeVenue(held=wave_candles(range(3000)))


@pytest.fixture
def market():
    return make.make_market(provider="nobitex")


@pytest.fixture
def asked(market):
    return BacktestAsked(strategy="BreakoutStrategy", market=market, start=NOW - timedelta(days=1), end=NOW)


def ask(asked, user=None, **change):
    return backtest_request(replace(asked, **change), user=user, now=NOW)


def refused(asked, **change):
    with pytest.raises(BacktestRefused) as caught:
        ask(asked, **change)
    assert not BacktestRun.objects.exists()
    return caught.value.errors


def run(row, venue, clock):
    status = backtest_run(row.pk, provider_of=lambda name: venue, clock=clock)
    row.refresh_from_db()
    assert row.status == status
    return row


# --- asking ----------------------------------------------------------------------------------------------------------


def test_what_is_asked_is_stored_whole_and_waits(asked):
    user = make.make_user()
    money = Money(fee_percent=Decimal("0.25"), balance=Decimal(500), sides="BOTH", fill_model=FillModel.FREQTRADE)
    row = ask(asked, user, parameters={"take_profit_percent": "1.5"}, money=money)
    assert (row.status, row.progress, row.requested_by, row.resolution) == ("queued", 0, user, "1")
    assert row.parameters["take_profit_percent"] == "1.5"
    assert row.parameters["ema_fast_period"] == 5  # the defaults too: a later change of one changes no run
    assert Money.from_json(row.asked) == money


def test_a_config_brings_its_rules_markets_length_and_sides():
    config = make.make_config(parameters={"max_daily_trades": 3}, resolution="5", allowed_sides="BOTH")
    asked = BacktestAsked(config=config, start=NOW - timedelta(days=1), end=NOW)
    row = ask(asked)
    assert (row.config, row.strategy, row.market, row.resolution) == (config, config.strategy, config.data_market, "5")
    assert row.parameters["max_daily_trades"] == 3
    assert (row.asked["rules_of"], row.asked["sides"]) == (config.market_id, "BOTH")
    other = ask(asked, parameters={"max_daily_trades": 7}, resolution="15", money=Money(sides="SELL"))
    assert (other.parameters["max_daily_trades"], other.resolution, other.asked["sides"]) == (7, "15", "SELL")


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"strategy": "Nope"}, "strategy", "Choose a strategy out of: BreakoutStrategy"),
        ({"strategy": ""}, "strategy", "Choose a strategy"),
        ({"market": None}, "market", "Choose the market"),
        ({"resolution": "7"}, "resolution", "There is no resolution '7'"),
        ({"parameters": {"ema_fast_period": "many"}}, "parameters.ema_fast_period", "a whole number"),
        ({"parameters": {"colour": "red"}}, "parameters.colour", "not a parameter"),
        ({"start": NOW}, "start", "before the end"),
        ({"end": NOW + timedelta(minutes=1)}, "end", "lies in the future"),
        ({"start": NOW - timedelta(days=3651)}, "start", "at most 3650 days"),
        ({"start": NOW - timedelta(days=2100)}, "start", "more than 3,000,000 candles"),
        ({"money": Money(fee_percent=Decimal(100))}, "fee_percent", "from 0 to below 100"),
        ({"money": Money(slippage_percent=Decimal("-0.1"))}, "slippage_percent", "from 0 to below 100"),
        ({"money": Money(balance=Decimal(-1))}, "balance", "at least 0"),
        ({"money": Money(balance=Decimal(0))}, "balance", "something to trade with"),
        ({"money": Money(sides="SHORT")}, "sides", "Choose one of: BUY, SELL, BOTH"),
    ],
)
def test_what_cannot_be_tested_is_refused_beside_its_field(asked, change, field, says):
    errors = refused(asked, **change)
    assert list(errors) == [field]
    assert says in errors[field][0]


def test_another_strategy_than_the_configs_is_refused(asked):
    assert "runs BreakoutStrategy" in refused(asked, config=make.make_config(), strategy="SlowStrategy")["strategy"][0]


def test_a_user_has_only_so_many_that_wait(asked, monkeypatch):
    monkeypatch.setattr(service, "MOST_UNFINISHED", 2)
    user = make.make_user()
    ask(asked, user)
    cancelled = ask(asked, user)
    with pytest.raises(BacktestRefused, match="2 of your backtests still wait"):
        ask(asked, user)
    backtest_cancel(cancelled, NOW, by=make.by())
    ask(asked, user)
    ask(asked, make.make_user())


def test_defaults_of_money_are_those_of_the_quote_and_the_exchange(market, venue):
    plain = backtest_settings(Money(), market.rules, "1", None, venue)
    assert (plain.starting_quote, plain.starting_base, plain.allowed_sides) == (10_000, 0, {Side.BUY})
    assert plain.target_is_maker  # this exchange has OCO
    toman = backtest_settings(Money(), make.make_market("BTCIRT", provider="nobitex").rules, "1", None, venue)
    assert toman.starting_quote == 1_000_000_000
    none = backtest_settings(Money(balance=Decimal(0), base_balance=Decimal(1)), market.rules, "1", None, venue)
    assert (none.starting_quote, none.starting_base) == (0, 1)


# --- running ---------------------------------------------------------------------------------------------------------


def test_a_run_downloads_what_is_missing_and_keeps_report_charts_and_what_it_ran_on(asked, venue, clock):
    row = run(ask(asked), venue, clock)
    assert (row.status, row.progress, row.error) == ("done", 100, "")
    assert Candle.objects.count() == row.candles == 1440 + WARMUP
    assert row.created_at < row.started_at < row.finished_at
    metrics = row.summary["metrics"]
    assert row.deals == metrics["deals"] > 0
    assert (row.sharpe, row.net_profit_percent) == (metrics["sharpe"], metrics["net_profit_percent"])
    assert row.summary["toman"] is None
    assert any("no price of USDT in toman" in text for text in row.summary["warnings"])
    assert row.data_fingerprint == row.summary["data"]["fingerprint"]
    assert row.code_version == version.code_version()
    assert row.strategy_fingerprint == version.source_fingerprint(BreakoutStrategy)
    assert has_report(row)
    assert "Equity and drawdown" in report_page(row)
    assert len(row.charts["curves"]["conservative"]["equity"]) <= 1002


def test_a_run_gives_the_figures_of_the_command(asked, venue, clock, monkeypatch):
    import io
    import json

    from django.core.management import call_command

    from algo import exchanges

    row = run(ask(asked, parameters={"take_profit_percent": "1"}), venue, clock)
    monkeypatch.setattr(exchanges, "CLOCK", StoppedClock(NOW))
    monkeypatch.setattr(exchanges, "public_provider", lambda name: venue)
    out = io.StringIO()
    words = ["--symbol", "BTCUSDT", "--days", "1", "--param", "take_profit_percent=1", "--json"]
    call_command("backtest_strategy", *words, stdout=out)
    told = json.loads(out.getvalue())
    assert row.summary["models"] == told["models"]
    kept = BacktestRun.objects.get(pk=told["run_id"])
    assert (kept.status, kept.charts, kept.sharpe) == ("done", row.charts, row.sharpe)


def test_a_second_message_for_the_same_run_does_nothing(asked, venue, clock):
    row = run(ask(asked), venue, clock)
    finished, calls = row.finished_at, len(venue.asked)
    assert run(row, venue, clock).finished_at == finished
    assert len(venue.asked) == calls


def test_a_run_that_is_running_is_not_started_again(asked, venue, clock):
    row = ask(asked)
    BacktestRun.objects.filter(pk=row.pk).update(status="running", started_at=NOW, heartbeat_at=NOW)
    assert run(row, venue, clock).status == "running"
    assert venue.asked == []


def test_progress_grows_while_it_runs_and_every_word_is_a_sign_of_life(asked, venue, clock, monkeypatch):
    monkeypatch.setattr("algo.backtest.watched.STEP", 200)
    row, seen = ask(asked, strategy="SlowStrategy"), []
    original = service._watch

    def watched(run, clock):
        watch = original(run, clock)

        def look(percent):
            watch(percent)
            seen.append(BacktestRun.objects.values_list("progress", "heartbeat_at").get(pk=run.pk))

        return look

    monkeypatch.setattr(service, "_watch", watched)
    assert run(row, venue, clock).status == "done"
    assert [progress for progress, _ in seen] == sorted(progress for progress, _ in seen)
    assert {60, 99} <= {progress for progress, _ in seen}
    assert len({beat for _, beat in seen}) == len(seen)


def test_a_run_cancelled_while_it_downloads_stops_and_keeps_its_candles(asked, venue, clock):
    row = ask(asked)

    def cancel(number):
        if number == 1:
            backtest_cancel(row, NOW, by=make.by())

    venue.before = cancel
    start = NOW - timedelta(minutes=2900)
    BacktestRun.objects.filter(pk=row.pk).update(asked={**row.asked, "from": start.isoformat()})
    assert run(row, venue, clock).status == "cancelled"
    assert 0 < Candle.objects.count() <= 2000
    assert (row.summary, row.deals) == ({}, None)


def test_a_run_cancelled_while_its_strategy_computes_stops(asked, venue, clock, monkeypatch):
    row, asked_at = ask(asked, strategy="SlowStrategy"), []
    monkeypatch.setattr("algo.backtest.watched.STEP", 100)

    def execute(self, market_data):
        asked_at.append(len(asked_at))
        if len(asked_at) == 150:
            backtest_cancel(row, NOW, by=make.by())

    monkeypatch.setattr(SlowStrategy, "execute", execute)
    assert run(row, venue, clock).status == "cancelled"
    assert len(asked_at) < 300


def test_one_that_waits_is_cancelled_at_once_and_one_that_ended_is_not(asked, venue, clock):
    row = ask(asked)
    assert backtest_cancel(row, NOW, by=make.by())
    assert run(row, venue, clock).status == "cancelled"
    assert venue.asked == []
    assert not backtest_cancel(row, NOW, by=make.by())
    assert not backtest_fail(row.pk, "no", NOW)


def test_an_exchange_that_does_not_answer_is_the_reason_in_a_sentence(asked, venue, clock):
    def fail(number):
        raise Unavailable("nobitex chart: could not connect")

    venue.before = fail
    row = run(ask(asked), venue, clock)
    assert row.status == "failed"
    assert row.error == "Nobitex chart: could not connect. Candles downloaded so far are kept. Try again later."


def test_a_period_without_candles_fails_with_a_reason(asked, venue, clock):
    venue.held = []
    row = run(ask(asked), venue, clock)
    assert (row.status, row.error[:38]) == ("failed", "The exchange has no candles of BTCUSDT")


# --- the task --------------------------------------------------------------------------------------------------------


@pytest.fixture
def task(monkeypatch, venue, clock):
    monkeypatch.setattr(algo.tasks, "public_provider", lambda name: venue)
    monkeypatch.setattr(algo.tasks, "CLOCK", clock)
    return algo.tasks.run_backtest


def test_the_task_runs_a_backtest(task, asked):
    assert task(ask(asked).pk) == "done"


def test_a_strategy_that_breaks_fails_its_run_and_is_told_to_the_log(task, asked):
    row = ask(asked, strategy="FailsStrategy")
    with pytest.raises(ZeroDivisionError):
        task(row.pk)
    row.refresh_from_db()
    assert row.status == "failed"
    assert "ZeroDivisionError" in row.error


def test_a_run_that_takes_too_long_says_so(task, asked, monkeypatch):
    def execute(self, market_data):
        raise SoftTimeLimitExceeded

    monkeypatch.setattr(SlowStrategy, "execute", execute)
    row = ask(asked, strategy="SlowStrategy")
    assert task(row.pk) == "failed"
    row.refresh_from_db()
    assert "longer than 30 minutes" in row.error


def test_a_run_whose_worker_died_is_given_up_and_those_that_wait_are_announced_again(asked, monkeypatch, clock):
    dead, alive = make.make_backtest(status=RunStatus.RUNNING), make.make_backtest(status=RunStatus.RUNNING)
    late = make.NOW + timedelta(seconds=301)
    BacktestRun.objects.filter(pk=alive.pk).update(heartbeat_at=make.NOW + timedelta(seconds=2))
    first, second = make.make_backtest(status=RunStatus.QUEUED), make.make_backtest(status=RunStatus.QUEUED)
    assert backtests_sweep(late, silent=timedelta(seconds=300)) == [first.pk, second.pk]
    dead.refresh_from_db()
    alive.refresh_from_db()
    assert (dead.status, alive.status, dead.finished_at) == ("failed", "running", late)
    assert "has not been heard of for 5 minutes" in dead.error
    announced = []
    monkeypatch.setattr(algo.tasks, "backtest_enqueue", announced.append)
    monkeypatch.setattr(algo.tasks, "CLOCK", clock)
    assert algo.tasks.sweep_backtests() == 2
    assert announced == [first.pk, second.pk]


def test_a_message_goes_to_the_queue_of_backtests_after_the_commit(monkeypatch, django_capture_on_commit_callbacks):
    sent = []
    monkeypatch.setattr(
        queues.current_app, "send_task", lambda name, args, **options: sent.append((name, args, options))
    )
    with django_capture_on_commit_callbacks(execute=True):
        queues.backtest_enqueue(7)
        assert sent == []
    ((name, args, options),) = sent
    assert (name, args, options["queue"]) == ("algo.tasks.run_backtest", [7], "backtests")


def test_without_a_broker_the_run_waits_for_the_sweep(monkeypatch, caplog, django_capture_on_commit_callbacks):
    def broken(*args, **options):
        raise queues.BrokerError("refused")

    monkeypatch.setattr(queues.current_app, "send_task", broken)
    with django_capture_on_commit_callbacks(execute=True):
        queues.backtest_enqueue(7)
    assert "run=7" in caplog.text


# --- the row, and several of them ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "queued", "finished_at": NOW},
        {"status": "done", "finished_at": None},
        {"status": "running", "heartbeat_at": None},
        {"progress": 101},
    ],
)
def test_the_database_refuses_a_run_that_cannot_be(fields):
    with pytest.raises(IntegrityError):
        make.make_backtest(**fields)


def test_only_what_differs_is_listed_and_every_figure(asked, venue, clock):
    one = run(ask(asked), venue, clock)
    two = run(ask(asked, parameters={"take_profit_percent": "1"}, money=Money(fee_percent=Decimal(0))), venue, clock)
    told = backtests_compare([one, two])
    differences = {row["name"]: row["values"] for row in told["differences"]}
    assert differences["take_profit_percent"] == ["0.6", "1"]
    assert differences["Taker fee"] == ["0.30 %", "0.00 %"]
    assert not {"Strategy", "Market", "ema_fast_period", "Code", "Candles read"} & set(differences)
    figures = {row["name"]: row["values"] for row in told["figures"]}
    assert figures["Deals"] == [str(one.deals), str(two.deals)]
    assert figures["Fees paid (quote)"][1] == "0.00"


# --- which code it was -----------------------------------------------------------------------------------------------


def test_the_version_is_that_of_the_project():
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(version.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert project["version"] == version.VERSION


def test_the_commit_is_read_from_gits_own_files(tmp_path):
    commit = "0123456789abcdef" * 2 + "01234567"
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "packed-refs").write_text(f"# pack-refs\n{'f' * 40} refs/heads/other\n{commit} refs/heads/main\n")
    assert version._commit(tmp_path) == commit
    (tmp_path / "refs/heads").mkdir(parents=True)
    (tmp_path / "refs/heads/main").write_text("a" * 40 + "\n")
    assert version._commit(tmp_path) == "a" * 40
    (tmp_path / "HEAD").write_text("b" * 40 + "\n")
    assert version._commit(tmp_path) == "b" * 40
    assert version._commit(tmp_path / "nowhere") == ""


def test_another_source_is_another_fingerprint():
    assert version.source_fingerprint(BreakoutStrategy) != version.source_fingerprint(SlowStrategy)
    assert version.source_fingerprint(BreakoutStrategy) == version.source_fingerprint(BreakoutStrategy)
