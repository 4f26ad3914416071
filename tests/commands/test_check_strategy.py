"""`check_strategy`: every check with its verdict, what differs with its time and both values, and exit code 1."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from algo.models import StrategyCheck, StrategyConfig
from algo.strategies import Candles
from algo.strategies.strategy_factory import STRATEGIES
from tests.backtest import cheats
from tests.factories import make_config, make_market
from tests.market_data.exchange import at, candles
from tests.strategies.tables import random_candles

TITLES = (
    "It runs without an error",
    "Its answers are sound",
    "It leaves the candles as they are",
    "Asked again, it answers the same",
    "The future changes no signal of the past",
    "A live window decides as the whole history does",
    "`execute` is the last element of `signals`",
)


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    for kind in (cheats.NextClose, cheats.LongAverage, cheats.CandleTime):
        monkeypatch.setitem(STRATEGIES, kind.__name__, kind)


@pytest.fixture
def recorded(tmp_path) -> str:
    """A file of 900 candles."""
    path, series = tmp_path / "recorded.csv", random_candles(900, seed=4)
    names = tuple(name for name in Candles.__dataclass_fields__ if name != "open_time")
    rows = [
        f"{int(moment)},{','.join(str(getattr(series, name)[i]) for name in names)}\n"
        for i, moment in enumerate(series.open_time)
    ]
    path.write_text("time,open,high,low,close,volume\n" + "".join(rows))
    return str(path)


def refused(*args: str) -> tuple[str, str]:
    """(stdout, the sentence) of a run that must fail."""
    out = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command("check_strategy", *args, stdout=out)
    assert caught.value.returncode == 1
    return out.getvalue(), str(caught.value)


def test_a_sound_strategy_passes_every_check_on_a_simulated_market(run):
    text = run("check_strategy", "--strategy", "BreakoutStrategy")
    assert text.count("passed") == len(TITLES)
    for title in TITLES:
        assert title in text
    assert "simulated market" in text and "3,000 candles" in text
    assert not StrategyCheck.objects.exists()


def test_a_strategy_that_fails_shows_times_both_values_and_a_hint(db):
    text, sentence = refused("--strategy", "NextClose")
    assert "failed" in text
    assert "The future changes no signal of the past: no." in text
    assert "expected nothing\n    found    BUY, confidence 0.5, reason TEST" in text
    assert "+00:00  The signal changes when the candles after 2025-" in text
    assert "look for shift(-1)" in text
    assert sentence.startswith("NextClose failed: look_ahead")


def test_json_is_one_object_also_when_it_fails(run, db):
    passed = json.loads(run("check_strategy", "--strategy", "CandleTime", "--json"))
    assert (passed["strategy"], passed["passed"], passed["source"]) == ("CandleTime", True, "simulated market")
    report = json.loads(refused("--strategy", "LongAverage", "--json")[0])
    assert {row["check"]: row["verdict"] for row in report["results"] if row["verdict"] != "passed"} == {
        "warm_up": "failed"
    }


def test_parameters_and_resolution_are_taken_from_the_command_line(run):
    args = ("--strategy", "BreakoutStrategy", "--param", "breakout_period=30", "--resolution", "60", "--json")
    report = json.loads(run("check_strategy", *args))
    assert report["parameters"]["breakout_period"] == 30
    assert report["last_at"] > "2025-05"  # 3,000 hours after the first of January


def test_a_file_is_checked_without_a_database_of_candles(run, recorded):
    report = json.loads(run("check_strategy", "--csv", recorded, "--strategy", "CandleTime", "--json"))
    assert (report["candles"], report["passed"]) == (900, True)
    assert report["source"] == f"file {recorded} (BTCUSDT)"


def test_stored_candles_of_a_symbol_are_checked(run, venue, clock):
    make_market(provider="nobitex")
    clock.at = at(2000)
    venue.held = candles(range(2000))
    args = ("--strategy", "CandleTime", "--symbol", "BTCUSDT", "--from", "2026-11-02T12:00", "--json")
    report = json.loads(run("check_strategy", *args))
    assert report["source"] == "database (BTCUSDT)"
    assert report["candles"] == 2000 - 120 + 60  # from 12:00 on, and the warm-up before it


def test_what_is_found_of_a_config_is_kept_and_stops_it(db, venue, clock, recorded):
    config = make_config(strategy="NextClose")
    text, _ = refused("--config", config.name, "--csv", recorded)
    check = StrategyCheck.objects.get()
    assert (check.config, check.passed, check.candles) == (config, False, 900)
    assert f"Kept for the config {config.name}." in text
    assert StrategyConfig.objects.get().status == "stopped"


def test_other_parameters_than_the_configs_say_nothing_about_it(run, venue, recorded):
    config = make_config()
    text = run("check_strategy", "--config", config.name, "--csv", recorded, "--param", "breakout_period=9")
    assert "Kept" not in text
    assert not StrategyCheck.objects.exists()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--strategy", "NoSuchStrategy"), "There is no strategy 'NoSuchStrategy'"),
        (("--param", "breakout_period=0"), "The parameters are not valid; breakout_period"),
        (("--param", "moon=1"), "There is no parameter 'moon'"),
        (("--config", "nobody"), "There is no strategy config 'nobody'"),
        (("--resolution", "7"), "There is no resolution '7'"),
    ],
)
def test_what_cannot_be_checked_is_one_sentence(db, args, sentence):
    assert refused(*args)[1].startswith(sentence)
