"""A version that failed its bias checks does not trade, whoever asks; what is open stays protected."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from algo.backtest import bias
from algo.execution import entries
from algo.models import (
    CloseReason,
    Deal,
    Decision,
    OutboxEvent,
    Outcome,
    StrategyCheck,
    StrategyConfig,
    StrategyStatus,
)
from algo.services import strategy_checks, strategy_versions
from algo.services.audit import PLATFORM
from algo.services.control import ControlRefused, strategy_start
from algo.services.decisions import Noted
from algo.services.strategy_checks import strategy_check, strategy_check_current
from algo.services.strategy_versions import config_fingerprint, strategy_files
from algo.strategies import BreakoutStrategy, create_strategy
from algo.strategies.strategy_factory import STRATEGIES
from providers.types import Resolution
from tests.backtest import cheats
from tests.execution.bench import World, closed, opened
from tests.execution.deciding import decide
from tests.factories import NOW, make_config, make_market
from tests.market_data.exchange import START, FakeExchange, at, candles

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def registered(monkeypatch) -> Iterator[None]:
    for kind in (cheats.NextClose, cheats.LongAverage, cheats.Silent, cheats.CandleTime):
        monkeypatch.setitem(STRATEGIES, kind.__name__, kind)
    strategy_checks._passed.clear()
    strategy_checks._found.clear()
    yield
    strategy_checks._passed.clear()
    strategy_checks._found.clear()


def evaluate(*configs: StrategyConfig, minutes: int = 10) -> list[Outcome]:
    return decide(FakeExchange(candles(range(minutes))), *configs)


# --- the live path --------------------------------------------------------------------------------------------------


def test_a_version_that_was_never_checked_is_checked_before_it_decides(db):
    config = make_config(strategy="Silent")
    evaluate(config)
    check = StrategyCheck.objects.get()
    assert (check.config, check.passed, check.fingerprint) == (config, True, config_fingerprint(config))
    assert check.source.startswith("simulated market: only 0 candles of")
    assert "no signals in the candles checked" in check.summary
    config.refresh_from_db()
    assert config.status == StrategyStatus.RUNNING


def test_a_version_that_fails_is_stopped_and_the_journal_says_why(db, caplog):
    cheat, honest = make_config(strategy="NextClose"), make_config(strategy="Silent", market=make_market())
    with caplog.at_level(logging.ERROR, "algo.strategies"):
        outcomes = evaluate(cheat, honest)
    assert outcomes == [Outcome.SHORT_HISTORY]  # of the honest one, which needs 60 candles
    for config, status in ((cheat, StrategyStatus.STOPPED), (honest, StrategyStatus.RUNNING)):
        config.refresh_from_db()
        assert config.status == status
    decision = Decision.objects.get(config=cheat)
    assert (decision.outcome, decision.bar_open_at) == (Outcome.ERROR, at(9))
    for said in (decision.journal["error"], caplog.text):
        assert "failed its bias checks" in said and "look_ahead" in said
    assert "Open deals stay protected" in decision.journal["error"]
    event = OutboxEvent.objects.get(kind="strategy.stopped")
    assert event.payload["strategy"] == cheat.name
    assert not Deal.objects.exists()


def test_a_config_that_somebody_set_running_past_the_switch_is_stopped_by_what_was_found_before(db, monkeypatch):
    config = make_config(strategy="NextClose", status="stopped")
    strategy_check(config, now=NOW)
    StrategyConfig.objects.filter(pk=config.pk).update(status="running")
    monkeypatch.setattr(strategy_checks, "check_strategy", lambda *args: pytest.fail("it was checked already"))
    assert evaluate(config) == []
    config.refresh_from_db()
    assert config.status == StrategyStatus.STOPPED


def test_a_version_that_passed_costs_no_query_at_the_next_candle(db):
    config = make_config(strategy="Silent")
    strategy = create_strategy("Silent")
    assert strategy_checks.version_refusal(config, strategy, now=NOW) == ""
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert strategy_checks.version_refusal(config, strategy, now=NOW) == ""
    assert len(queries) == 0


def test_code_edited_since_the_last_check_is_checked_again(db, monkeypatch):
    config = make_config(strategy="Silent")
    evaluate(config)
    before = StrategyCheck.objects.get()
    monkeypatch.setattr(strategy_versions, "_code", lambda kind: "another")  # as a process that loaded other code
    strategy_checks._passed.clear()
    StrategyConfig.objects.update(last_bar_at=None)
    evaluate(config)
    newest = StrategyCheck.objects.first()
    assert StrategyCheck.objects.count() == 2
    assert newest.fingerprint != before.fingerprint


def test_edited_parameters_are_checked_again_without_a_new_process(db):
    config = make_config(strategy="Silent")
    evaluate(config)
    StrategyConfig.objects.filter(pk=config.pk).update(parameters={"stop_loss_percent": "0.7"}, last_bar_at=None)
    evaluate(config)
    assert StrategyCheck.objects.filter(config=config).values("fingerprint").distinct().count() == 2


def test_a_version_that_was_never_checked_keeps_nobody_waiting_who_passed(db, monkeypatch):
    order: list[str] = []
    fresh = make_config(strategy="Silent", name="fresh", parameters={"stop_loss_percent": "0.7"})
    known = make_config(strategy="Silent", name="known", market=make_market(), data_market=fresh.data_market)
    strategy_check_current(known, now=NOW)
    check, record = strategy_checks.check_strategy, entries.decisions_record

    def checks(*args: Any) -> Any:
        order.append("checked")
        return check(*args)

    def records(notes: Sequence[Noted], **more: Any) -> Any:
        order.extend(f"{StrategyConfig.objects.get(pk=note.config_id).name} decided" for note in notes)
        return record(notes, **more)

    monkeypatch.setattr(strategy_checks, "check_strategy", checks)
    monkeypatch.setattr(entries, "decisions_record", records)
    assert evaluate(fresh, known) == [Outcome.SHORT_HISTORY] * 2
    assert order == ["known decided", "checked", "fresh decided"]


def test_one_turn_checks_for_seconds_only_and_the_next_goes_on(db, monkeypatch):
    data = make_market(provider="nobitex")
    configs = [make_config(strategy="Silent", market=make_market(f"A{i}USDT"), data_market=data) for i in range(3)]
    monkeypatch.setattr(entries, "CHECKING_SECONDS", 0.0)
    for done in (1, 2, 3):
        evaluate(*configs)
        assert StrategyCheck.objects.count() == done
        assert Decision.objects.count() == done  # whoever was not checked yet said nothing, and stays due
    assert set(StrategyConfig.objects.values_list("status", flat=True)) == {StrategyStatus.RUNNING}


def test_a_version_that_another_process_is_checking_is_left_to_it(db, monkeypatch):
    @contextmanager
    def taken(config: StrategyConfig) -> Iterator[bool]:
        yield False

    config = make_config(strategy="Silent")
    monkeypatch.setattr(entries, "checking_alone", taken)
    assert evaluate(config) == []
    assert not StrategyCheck.objects.exists()


@pytest.mark.parametrize("wrong", ["check_strategy", "strategy_fingerprint"])
def test_a_check_that_breaks_stops_nobody_and_the_others_decide(db, monkeypatch, wrong):
    broken = make_config(strategy="CandleTime")
    honest = make_config(strategy="Silent", market=make_market(), data_market=broken.data_market)
    assert evaluate(honest) == [Outcome.SHORT_HISTORY]
    StrategyConfig.objects.update(last_bar_at=None)

    def breaks(*args: Any) -> Any:
        raise RuntimeError("no check today \x00")

    monkeypatch.setattr(strategy_checks, wrong, breaks)
    assert evaluate(broken, honest) == [Outcome.SHORT_HISTORY]
    broken.refresh_from_db()
    assert (broken.status, broken.last_bar_at) == (StrategyStatus.RUNNING, None)  # due again
    assert "could not be run: RuntimeError" in Decision.objects.get(config=broken).journal["error"]


def test_an_open_deal_of_a_version_that_fails_runs_to_its_stop(world: World, monkeypatch):
    trader = opened(world.trader())
    StrategyConfig.objects.filter(pk=trader.config.pk).update(strategy="NextClose")
    trader.config.refresh_from_db()
    assert not strategy_check(trader.config, now=world.clock.now()).passed
    trader.config.refresh_from_db()
    assert trader.config.status == StrategyStatus.STOPPED
    trader.wait(2)
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)


# --- the start switch -------------------------------------------------------------------------------------------------


def test_a_version_that_fails_is_not_started_and_the_sentence_says_why(db):
    config = make_config(strategy="NextClose", status="stopped")
    with pytest.raises(
        ControlRefused, match=r"was not started: this version of it failed its bias checks .*look_ahead"
    ):
        strategy_start(config, by=PLATFORM, at=NOW)
    config.refresh_from_db()
    assert config.status == StrategyStatus.STOPPED
    assert StrategyCheck.objects.get().passed is False


def test_a_strategy_that_says_nothing_is_started(db):
    config = make_config(strategy="Silent", status="stopped")
    assert strategy_start(config, by=PLATFORM, at=NOW)
    assert StrategyCheck.objects.get().findings["notes"] == ["no signals in the candles checked"]


def test_the_newest_check_of_the_version_counts(db, monkeypatch):
    config = make_config(strategy="LongAverage", status="stopped")
    assert not strategy_check(config, now=NOW).passed
    monkeypatch.setattr(cheats.LongAverage, "bars", 600)  # mended
    with pytest.raises(ControlRefused):
        strategy_start(config, by=PLATFORM, at=NOW)  # the fingerprint knows files, and the file is the same
    assert strategy_check(config, now=NOW + timedelta(seconds=1)).passed
    assert strategy_start(config, by=PLATFORM, at=NOW)


# --- over which candles -----------------------------------------------------------------------------------------------


def stored(market: Any, count: int) -> None:
    from algo.services.candles import candles_fetch_range

    rows = FakeExchange(candles(range(count)))
    end = at(count)
    candles_fetch_range(market, Resolution.M1, rows, start=START, end=end, now=end + timedelta(minutes=1))


def test_the_newest_stored_candles_are_taken_where_there_are_enough(db):
    config = make_config(strategy="CandleTime", status="stopped")
    stored(config.data_market, 700)
    check = strategy_check(config, now=at(701))
    assert check.source == f"the 700 newest stored candles of {config.data_market}"
    assert (check.candles, check.passed) == (700, True)


def test_too_few_stored_candles_are_not_used(db):
    config = make_config(strategy="CandleTime", status="stopped")
    stored(config.data_market, 300)
    check = strategy_check(config, now=at(301))
    assert check.source.startswith("simulated market: only 300 candles of")
    assert check.candles == 3000


def test_where_the_strategy_is_silent_on_stored_candles_the_simulated_market_is_added(db):
    config = make_config(strategy="Silent", status="stopped")
    stored(config.data_market, 700)
    check = strategy_check(config, now=at(701))
    assert check.source == "simulated market: the strategy says nothing on the 700 newest stored candles"


def test_alike_configs_over_the_same_candles_are_checked_once(db, monkeypatch):
    rows = [make_config(strategy="Silent") for _ in range(3)]
    asked = []
    monkeypatch.setattr(strategy_checks, "check_strategy", lambda *args: asked.append(1) or bias.check_strategy(*args))
    for row in rows:
        strategy_check_current(row, now=NOW)
    assert len(asked) == 1
    assert StrategyCheck.objects.count() == 3
    strategy_check(rows[0], now=NOW)  # "check now" means now
    assert len(asked) == 2


# --- versions -------------------------------------------------------------------------------------------------------


def test_a_fingerprint_is_of_name_code_and_all_parameters(db):
    config = make_config()
    before = config_fingerprint(config)
    config.parameters = {"stop_loss_percent": "0.30"}  # the default, spelled out
    assert config_fingerprint(config) != ""
    config.parameters = {"stop_loss_percent": "0.3"}
    assert config_fingerprint(config) == before
    config.parameters = {"stop_loss_percent": "0.4"}
    assert config_fingerprint(config) != before
    config.parameters, config.strategy = {}, "Silent"
    assert config_fingerprint(config) != before
    config.strategy = "NoSuchStrategy"
    assert config_fingerprint(config) == ""
    config.strategy, config.parameters = "BreakoutStrategy", {"stop_loss_percent": "-1"}
    assert config_fingerprint(config) == ""


def test_a_version_is_made_of_the_strategy_its_bases_its_schema_and_the_indicators_it_uses():
    names = {file.name for file in strategy_files(BreakoutStrategy)}
    assert {"breakout.py", "interface.py", "schemas.py", "averages.py", "oscillators.py", "windows.py"} <= names
    assert not names & {"main.py", "numeric.py", "types.py", "strategy_factory.py"}
    assert "cheats.py" in {file.name for file in strategy_files(cheats.ZScore)}


def test_another_indicator_makes_another_version(tmp_path, monkeypatch):
    files = []
    for number, text in enumerate(("a = 1\n", "a = 2\n")):
        file = tmp_path / f"indicator{number}.py"
        file.write_text(text)
        files.append({file})
    codes = set()
    for each in (*files, files[0]):
        monkeypatch.setattr(strategy_versions, "strategy_files", lambda kind, each=each: each)
        codes.add(strategy_versions._code.__wrapped__(BreakoutStrategy))
    assert len(codes) == 2
