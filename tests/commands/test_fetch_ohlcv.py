"""`fetch_ohlcv` and `refresh_markets`: what is stored, what is said."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise

import pytest
from django.core.management.base import CommandError

from algo.models import Candle as StoredCandle
from algo.models import Market
from providers.errors import AuthFailed, BadPayload, RateLimited, Unavailable
from tests.factories import make_market
from tests.market_data.exchange import at, candles, rules


@pytest.fixture
def market(db):
    return make_market(provider="nobitex")


def fail_with(error):
    def fail(number):
        raise error

    return fail


def test_candles_are_stored_and_gaps_are_reported(run, market, venue, clock):
    venue.held, clock.at = candles([*range(100), *range(110, 1440)]), at(1440)
    text = run("fetch_ohlcv", "--symbol", "BTCUSDT", "--days", "1")
    assert "1430 new candles" in text
    assert "10 candles are missing in 1 gaps" in text
    assert "2026-11-02 11:40 to 2026-11-02 11:50  10" in text
    assert StoredCandle.objects.count() == 1430


def test_a_second_run_has_nothing_new(run, market, venue, clock):
    venue.held, clock.at = candles(range(1440)), at(1440)
    run("fetch_ohlcv", "--symbol", "BTCUSDT", "--days", "1")
    text = run("fetch_ohlcv", "--symbol", "BTCUSDT", "--days", "1")
    assert "0 new candles" in text
    assert "No gaps." in text


def test_an_interrupted_download_says_that_it_kept_what_it_had_and_goes_on(run, market, venue, clock):
    venue.held, clock.at = candles(range(1440)), at(1440)

    def interrupt(number):
        if number == 1:
            raise KeyboardInterrupt

    venue.before = interrupt
    with pytest.raises(CommandError, match="downloaded so far are kept") as caught:
        run("fetch_ohlcv", "--symbol", "BTCUSDT", "--days", "1")
    assert caught.value.returncode == 130
    assert StoredCandle.objects.count() == 500
    venue.before = lambda number: None
    assert "940 new candles" in run("fetch_ohlcv", "--symbol", "BTCUSDT", "--days", "1")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--symbol", "BTCUSDX"], "Did you mean BTCUSDT"),
        (["--symbol", "BTCUSDT", "--resolution", "fast"], "no resolution"),
        (["--symbol", "BTCUSDT", "--days", "99999"], "whole number from 1 to 3650"),
    ],
)
def test_a_wrong_input_is_one_sentence(run, market, venue, args, says):
    with pytest.raises(CommandError, match=says):
        run("fetch_ohlcv", *args)
    assert not StoredCandle.objects.exists()


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (Unavailable("nobitex chart: no answer"), r"Check the network .*NOBITEX_BASE_URL is http"),
        (RateLimited("nobitex: called too often", retry_after=500), "Wait a few minutes"),
        (BadPayload("nobitex chart: unusable answer"), "Check the address"),
        (AuthFailed("nobitex chart: HTTP 401"), "Make a new key"),
    ],
)
def test_each_failure_of_the_exchange_says_what_to_do(run, market, venue, error, advice):
    venue.before = fail_with(error)
    with pytest.raises(CommandError, match=advice):
        run("fetch_ohlcv", "--symbol", "BTCUSDT", "--days", "1")


def test_markets_are_refreshed(run, venue):
    venue.listed = [rules("BTCUSDT"), rules("BTCIRT", quote="IRT")]
    assert run("refresh_markets", "--provider", "nobitex") == "nobitex: 2 markets\n"
    assert Market.objects.get(symbol="BTCIRT").pair == "BTC/IRT"


def test_one_exchange_out_of_reach_does_not_keep_the_other_from_being_refreshed(run, monkeypatch, venue, capsys):
    from algo import exchanges

    venue.listed = [rules("BTCUSDT")]

    def provider(name):
        if name == "wallex":
            raise Unavailable("wallex markets: no answer")
        return venue

    monkeypatch.setattr(exchanges, "public_provider", provider)
    with pytest.raises(CommandError, match="wallex: Wallex markets: no answer"):
        run("refresh_markets")
    assert Market.objects.filter(provider="nobitex").count() == 1


def test_everything_over_real_sockets(run, paper_exchange):
    assert "nobitex: " in run("refresh_markets")
    assert {market.provider for market in Market.objects.all()} == {"nobitex", "wallex"}
    text = run("fetch_ohlcv", "--provider", "wallex", "--symbol", "BTCUSDT", "--days", "1")
    assert StoredCandle.objects.count() > 1000
    assert f"{StoredCandle.objects.count()} new candles" in text


@pytest.mark.parametrize("provider", ["nobitex", "wallex"])
def test_every_resolution_over_real_sockets_gathered_where_the_exchange_has_none(run, paper_exchange, provider):
    """Nobitex has all of ours; Wallex' 15 answers minutes and its 240 hours, as the real one was seen to do."""
    make_market(provider=provider)
    for resolution, length in [("1", 60), ("15", 900), ("240", 14400)]:
        args = ["--provider", provider, "--symbol", "BTCUSDT", "--resolution", resolution, "--days", "2"]
        text = run("fetch_ohlcv", *args)
        rows = StoredCandle.objects.filter(market__provider=provider, resolution=resolution).order_by("open_time")
        times = [int(row.open_time.timestamp()) for row in rows]
        assert f"{len(times)} new candles" in text
        assert len(times) >= 2 * 86400 // length - 2, "no page is missing"
        assert {later - earlier for earlier, later in pairwise(times)} == {length}
        assert "0 new candles" in run("fetch_ohlcv", *args) or resolution == "1"  # a minute may have ended meanwhile


def test_gathered_candles_are_those_of_the_minutes(run, paper_exchange):
    make_market(provider="wallex")
    common = ["--provider", "wallex", "--symbol", "BTCUSDT", "--days", "1"]
    run("fetch_ohlcv", *common, "--resolution", "1")
    run("fetch_ohlcv", *common, "--resolution", "15")
    quarter = StoredCandle.objects.filter(resolution="15").order_by("-open_time")[3]
    end = quarter.open_time + timedelta(minutes=15)
    minutes = list(
        StoredCandle.objects.filter(resolution="1", open_time__gte=quarter.open_time, open_time__lt=end).order_by(
            "open_time"
        )
    )
    assert len(minutes) == 15
    assert (quarter.open, quarter.close) == (minutes[0].open, minutes[-1].close)
    assert quarter.high == max(minute.high for minute in minutes)
    assert quarter.low == min(minute.low for minute in minutes)
    assert quarter.volume == sum(minute.volume for minute in minutes)


def test_an_address_where_nobody_listens(run, db):
    with pytest.raises(CommandError, match=r"Nobitex options: .*NOBITEX_BASE_URL is http://127.0.0.1:9") as caught:
        run("fetch_ohlcv", "--symbol", "BTCUSDT")
    assert "\n" not in str(caught.value)
