"""`backtest_strategy`: candles in, a table or JSON out, and one sentence for everything that cannot be."""

from __future__ import annotations

import csv
import json
import math
from decimal import Decimal
from pathlib import Path

import pytest
from django.core.management.base import CommandError

from algo.models import BacktestRun
from algo.models import Candle as StoredCandle
from providers.errors import Unavailable
from tests.factories import make_config, make_market
from tests.market_data.exchange import at, candle, rules

HEADER = "time,open,high,low,close,volume\n"
WARMUP = 328  # of BreakoutStrategy with its defaults


def wave(minute: int) -> float:
    """A price that swings by 2 % in four hours, on which a breakout strategy finds something to do."""
    return 100 + 2 * math.sin(2 * math.pi * minute / 240) + 0.05 * math.sin(minute)


def wave_candles(minutes):
    for minute in minutes:
        before, now = wave(minute - 1), wave(minute)
        high, low = max(before, now) + 0.02, min(before, now) - 0.02
        prices = {"open": f"{before:.4f}", "high": f"{high:.4f}", "low": f"{low:.4f}", "volume": str(1 + minute % 7)}
        yield candle(minute, f"{now:.4f}", **prices)


@pytest.fixture
def waves(tmp_path):
    """A hand-made file of two days."""
    path = tmp_path / "waves.csv"
    columns = ("open", "high", "low", "close", "volume")
    rows = (
        f"{int(each.open_time.timestamp())},{','.join(str(getattr(each, name)) for name in columns)}\n"
        for each in wave_candles(range(2880))
    )
    path.write_text(HEADER + "".join(rows))
    return str(path)


@pytest.fixture
def market(db):
    return make_market(provider="nobitex", taker_fee_rate=Decimal("0.001"))


def report(run, *args):
    return json.loads(run("backtest_strategy", "--json", *args))


# --- recorded candles -----------------------------------------------------------------------------------------------


def test_a_file_is_tested_without_network_or_stored_candles(run, waves):
    result = report(run, "--csv", waves)
    assert (result["strategy"], result["resolution"], result["candles"]) == ("BreakoutStrategy", "1", 2880 - WARMUP)
    assert set(result["models"]) == {"conservative", "freqtrade"}
    assert result["metrics"]["deals"] > 0
    assert result["data"]["missing_candles"] == 0
    assert not StoredCandle.objects.exists()


def test_the_table_shows_both_fill_models_and_the_warning_that_the_target_does_not_pay(run, waves):
    text = run("backtest_strategy", "--csv", waves)
    for words in ("conservative", "freqtrade", "Net profit (USDT)", "Max drawdown", "Win rate", "Exits by reason"):
        assert words in text
    assert "does not pay the fees" in text


def test_a_fee_on_the_command_line_is_a_percent_and_moves_the_result(run, waves):
    dear, free = (report(run, "--csv", waves, "--fee", fee) for fee in ("0.3", "0"))
    assert dear["costs"]["taker_fee_rate"] == "0.003"
    assert free["metrics"]["fees_paid"] == 0
    assert free["metrics"]["net_profit"] > dear["metrics"]["net_profit"]
    assert not any("does not pay" in text for text in free["warnings"])


def test_parameters_are_taken_from_the_command_line(run, waves):
    result = report(run, "--csv", waves, "--param", "take_profit_percent=1.5", "--param", "max_daily_trades=1")
    assert result["parameters"]["take_profit_percent"] == "1.5"
    assert result["refused"]["daily_trades"] > 0


def test_only_buy_deals_unless_asked_for_and_sell_deals_need_base(run, waves):
    assert report(run, "--csv", waves)["refused"]["side_not_allowed"] > 0
    both = report(run, "--csv", waves, "--sides", "BOTH", "--base-balance", "50")
    assert "side_not_allowed" not in both["refused"]


def test_the_days_of_a_file_count_back_from_its_end(run, waves):
    assert report(run, "--csv", waves, "--days", "1")["candles"] == 1440
    window = report(run, "--csv", waves, "--from", "2026-11-03T00:00", "--to", "2026-11-03T01:00")
    assert (window["from"], window["candles"]) == ("2026-11-03T00:00:00+00:00", 60)


def test_the_deals_are_written_to_a_file(run, waves, tmp_path):
    target = tmp_path / "deals.csv"
    result = report(run, "--csv", waves, "--trades", str(target))
    rows = list(csv.DictReader(target.open()))
    assert len(rows) == result["metrics"]["deals"]
    assert {row["side"] for row in rows} == {"BUY"}
    assert sum(float(row["profit"]) for row in rows) == pytest.approx(result["metrics"]["net_profit"])
    assert {path.name for path in tmp_path.iterdir()} == {"deals.csv", "waves.csv"}


def test_the_report_is_one_file_that_appears_whole(run, waves, tmp_path):
    target = tmp_path / "report.html"
    result = report(run, "--csv", waves, "--html", str(target))
    text = target.read_text()
    assert text.startswith("<!doctype html>")
    assert "BreakoutStrategy on BTCUSDT" in text
    assert f"<strong>{result['metrics']['deals']}</strong>" in text
    assert {path.name for path in tmp_path.iterdir()} == {"report.html", "waves.csv"}


def test_hours_and_weekdays_are_those_of_the_trading_day(run, waves):
    text = run("backtest_strategy", "--csv", waves)
    assert "By hour (conservative, Asia/Tehran)" in text
    assert "By weekday (conservative, Asia/Tehran)" in text


def test_the_profit_in_toman_is_told_where_a_price_is_stored_and_never_invented(run, waves):
    unknown = report(run, "--csv", waves)
    assert unknown["toman"] is None
    assert any("no price of USDT in toman" in text for text in unknown["warnings"])
    make_market("USDTIRT", provider="nobitex")
    market = make_market("USDTTMN")
    prices = dict.fromkeys(("open", "high", "low", "close"), Decimal(98_000))
    StoredCandle.objects.create(market=market, resolution="60", open_time=at(0), volume=1, **prices)
    known = report(run, "--csv", waves)
    profit = {model: figures["metrics"]["net_profit"] for model, figures in known["models"].items()}
    assert known["toman"]["net_profit"] == {model: pytest.approx(98_000 * each) for model, each in profit.items()}
    text = run("backtest_strategy", "--csv", waves)
    assert "Net profit (toman)" in text
    assert "1 USDT = 98,000 toman, close of USDTTMN @ Wallex" in text


def test_dates_of_the_fall_have_a_year_where_the_period_has_two():
    from algo.backtest.words import figure_rows

    fall = {"max_drawdown_peak_at": "2025-12-30T10:00:00+00:00", "max_drawdown_trough_at": "2026-01-02T11:30:00+00:00"}
    metrics = {**fall, "max_drawdown_percent": 5.0, "max_drawdown_recovered_at": None}
    both = {"quote": "USDT", "from": "2025-12-01T00:00:00+00:00", "to": "2026-02-01T00:00:00+00:00"}
    told = dict(figure_rows(both))["  from peak to trough"]
    assert told("conservative", metrics) == "2025-12-30 10:00 to 2026-01-02 11:30"
    one = dict(figure_rows({**both, "from": "2026-01-01T00:00:00+00:00"}))
    assert one["  from peak to trough"]("conservative", metrics) == "2025-12-30 10:00 to 01-02 11:30"
    assert one["  recovered"]("conservative", metrics) == "not yet"


def test_a_file_of_an_unknown_market_is_not_kept_and_of_a_known_one_is(run, waves, db):
    assert report(run, "--csv", waves)["run_id"] is None
    make_market(provider="nobitex")
    kept = BacktestRun.objects.get(pk=report(run, "--csv", waves)["run_id"])
    assert (kept.strategy, kept.candles, kept.market.symbol) == ("BreakoutStrategy", 2880, "BTCUSDT")


def test_the_same_candles_have_the_same_fingerprint(run, waves):
    first, second = (report(run, "--csv", waves)["data"]["fingerprint"] for _ in range(2))
    assert first == second
    assert len(first) == 64


def test_gaps_in_a_file_are_counted(run, waves):
    lines = Path(waves).read_text().splitlines(keepends=True)
    Path(waves).write_text("".join(lines[:1500] + lines[1510:]))
    assert report(run, "--csv", waves)["data"]["missing_candles"] == 10


# --- stored and downloaded candles ----------------------------------------------------------------------------------


def test_missing_candles_are_downloaded_with_warm_up_stored_and_the_run_is_kept(run, market, venue, clock):
    venue.held, clock.at = list(wave_candles(range(3000))), at(3000)
    result = report(run, "--symbol", "BTCUSDT", "--days", "1")
    assert result["candles"] == 1440
    assert StoredCandle.objects.count() == 1440 + WARMUP
    assert BacktestRun.objects.get(pk=result["run_id"]).summary["metrics"] == result["metrics"]
    assert result["costs"]["target_pays"] == "maker"  # this exchange has OCO
    venue.asked.clear()
    assert report(run, "--symbol", "btcusdt", "--days", "1")["metrics"] == result["metrics"]
    assert venue.asked == []


def test_an_unknown_market_is_asked_for_first(run, venue, clock):
    venue.held, venue.listed, clock.at = list(wave_candles(range(1000))), [rules("BTCUSDT")], at(1000)
    assert report(run, "--symbol", "BTCUSDT", "--days", "1")["symbol"] == "BTCUSDT"


def test_what_the_exchange_does_not_have_is_said(run, market, venue, clock):
    venue.held, clock.at = list(wave_candles(range(2000, 3000))), at(3000)
    result = report(run, "--symbol", "BTCUSDT", "--days", "1")
    assert result["data"]["missing_candles"] == 1440 + WARMUP - 1000
    assert any("missing" in text for text in result["warnings"])


def test_without_download_no_exchange_is_asked(run, market, venue, clock):
    venue.held, clock.at = list(wave_candles(range(3000))), at(3000)
    with pytest.raises(CommandError, match="no candles"):
        run("backtest_strategy", "--symbol", "BTCUSDT", "--no-download")
    assert venue.asked == []


def test_a_config_brings_its_rules_its_markets_and_its_length(run, venue, clock):
    config = make_config(name="mine", resolution="5", parameters={"max_daily_trades": 3}, allowed_sides="BOTH")
    venue.held = [c for c in wave_candles(range(4000)) if not int(c.open_time.timestamp()) % 300]
    clock.at = at(4000)
    result = report(run, "--config", "mine", "--days", "1")
    assert result["parameters"]["max_daily_trades"] == 3
    assert (result["resolution"], result["provider"]) == ("5", "wallex")
    assert BacktestRun.objects.get().market == config.data_market
    assert "side_not_allowed" not in result["refused"]
    assert report(run, "--config", str(config.pk), "--days", "1")["parameters"] == result["parameters"]


# --- what cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--strategy", "Nope"], "no strategy 'Nope'; known are: BreakoutStrategy"),
        ([], "--symbol BTCUSDT"),
        (["--symbol", "BTCUSD"], "Did you mean BTCUSDT"),
        (["--symbol", "BTCUSDT", "--days", "0"], "whole number from 1"),
        (["--symbol", "BTCUSDT", "--days", "many"], "whole number from 1"),
        (["--symbol", "BTCUSDT", "--from", "yesterday"], "is no date"),
        (["--symbol", "BTCUSDT", "--from", "2026-11-01", "--to", "2026-10-01"], "begins"),
        (["--symbol", "BTCUSDT", "--to", "2027-01-01"], "in the future"),
        (["--symbol", "BTCUSDT", "--from", "2026-10-01", "--to", "2026-10-02", "--days", "3"], "at most two"),
        (["--symbol", "BTCUSDT", "--resolution", "7"], "no resolution '7'"),
        (["--symbol", "BTCUSDT", "--param", "ema_fast_period=50"], "must be smaller than ema_slow_period"),
        (["--symbol", "BTCUSDT", "--param", "ema_fast_period=many"], "ema_fast_period"),
        (["--symbol", "BTCUSDT", "--param", "colour=red"], "no parameter 'colour'"),
        (["--symbol", "BTCUSDT", "--param", "colour"], "no NAME=VALUE"),
        (["--symbol", "BTCUSDT", "--fee", "-1"], "--fee must be a number"),
        (["--symbol", "BTCUSDT", "--fee", "free"], "--fee must be a number"),
        (["--symbol", "BTCUSDT", "--balance", "nan"], "--balance must be a number"),
        (["--config", "theirs"], "no strategy config 'theirs'"),
        (["--symbol", "BTCUSDT", "--days", "1"], "no candles"),
        (["--csv", "/nowhere/candles.csv"], "does not exist"),
        (["--csv", __file__], "header line"),
        (["--symbol", "BTCUSDT", "--trades", "/nowhere/deals.csv"], "folder does not exist"),
        (["--symbol", "BTCUSDT", "--html", "/nowhere/report.html"], "folder does not exist"),
    ],
)
def test_a_wrong_input_is_one_sentence_and_changes_nothing(run, market, venue, args, says):
    with pytest.raises(CommandError, match=says) as caught:
        run("backtest_strategy", *args)
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)
    assert not BacktestRun.objects.exists()
    assert not StoredCandle.objects.exists()


def test_an_unreachable_exchange_is_one_sentence_that_names_its_address(run, market, venue, settings):
    def fail(number):
        raise Unavailable("nobitex chart: could not connect; safe to try again: ConnectionError: HTTPPool(...)")

    venue.before = fail
    with pytest.raises(CommandError) as caught:
        run("backtest_strategy", "--symbol", "BTCUSDT")
    assert str(caught.value) == (
        "Nobitex chart: could not connect; safe to try again. Candles downloaded so far are kept. Check the network "
        f"and the address of the exchange (NOBITEX_BASE_URL is {settings.NOBITEX_BASE_URL}), and run it again."
    )


def test_a_file_of_another_length_than_asked_for_is_refused(run, waves):
    with pytest.raises(CommandError, match="holds candles of resolution 1, not 5"):
        run("backtest_strategy", "--csv", waves, "--resolution", "5")


def test_a_strategy_that_cannot_start_says_so(run, waves, monkeypatch):
    monkeypatch.setattr("algo.strategies.BreakoutStrategy.initialize", lambda self: False)
    with pytest.raises(CommandError, match="cannot run with these parameters"):
        run("backtest_strategy", "--csv", waves)


# --- from outside ---------------------------------------------------------------------------------------------------


def test_candles_of_the_paper_exchange_over_real_sockets(run, paper_exchange):
    result = report(run, "--symbol", "BTCUSDT", "--days", "1")
    assert result["candles"] > 1000
    assert result["provider"] == "nobitex"


def test_thirty_days_of_recorded_bitcoin(run, shared):
    source = shared / "data" / "ohlcv" / "binance_BTCUSDT_1m_20250520_20250818.csv.gz"
    result = report(run, "--csv", str(source), "--days", "30")
    assert result["candles"] == 30 * 1440
    assert result["metrics"]["buy_and_hold_percent"] == pytest.approx(-1.6162, abs=0.001)
    assert result["metrics"]["deals"] > 100
    profit = result["metrics"]["final_equity"] - result["metrics"]["starting_equity"]
    assert profit == pytest.approx(result["metrics"]["net_profit"])
