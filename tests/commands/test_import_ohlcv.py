"""`import_ohlcv`, and what both commands say about a change of unit."""

from __future__ import annotations

import pytest
from django.core.management.base import CommandError

from algo.models import Candle as StoredCandle
from tests.factories import make_market
from tests.market_data.exchange import START, at, candle

HEADER = "time,open,high,low,close,volume\n"


@pytest.fixture
def market(db):
    return make_market(provider="nobitex")


@pytest.fixture
def file(tmp_path):
    def write(closes):
        first = int(START.timestamp())
        rows = [f"{first + 60 * n},{close},{close},{close},{close},1" for n, close in enumerate(closes) if close]
        path = tmp_path / "candles.csv"
        path.write_text(HEADER + "\n".join(rows))
        return str(path)

    return write


def test_a_file_is_stored_and_told_about(run, market, clock, file):
    clock.at = at(100)
    text = run("import_ohlcv", file([100, 101, 102, None, 104]), "--symbol", "BTCUSDT", "--resolution", "1")
    assert "BTCUSDT at nobitex, resolution 1: 4 new candles, 0 known, 0 refused" in text
    assert "1 candles are missing in 1 gaps: the file has none." in text
    assert "2026-11-02 10:03 to 2026-11-02 10:04  1" in text
    assert StoredCandle.objects.count() == 4


def test_a_second_import_and_a_revision_are_told(run, market, clock, file):
    clock.at = at(100)
    run("import_ohlcv", file([100, 101, 102]), "--symbol", "BTCUSDT")
    text = run("import_ohlcv", file([100, 101, 103, 104]), "--symbol", "BTCUSDT")
    assert "1 new candles, 3 known, 0 refused" in text
    assert "1 known candles have other values in the file; the stored ones stay." in text
    assert "No gaps." in text


def test_a_file_in_another_unit_says_what_happened_what_is_safe_and_what_to_do(run, market, clock, file):
    clock.at = at(100)
    path = file([100] * 5 + [1000] * 5)
    with pytest.raises(CommandError) as caught:
        run("import_ohlcv", path, "--symbol", "BTCUSDT")
    said = str(caught.value)
    assert said.startswith("Candles of BTCUSDT, resolution 1: from 2026-11-02 10:05 the prices differ by a factor")
    assert "Nothing was stored." in said
    assert "--accept-unit-jump" in said
    assert not StoredCandle.objects.exists()
    assert "10 new candles" in run("import_ohlcv", path, "--symbol", "BTCUSDT", "--accept-unit-jump")


def test_a_download_in_another_unit_says_so_too(run, market, venue, clock):
    venue.held, clock.at = [candle(n, "100" if n < 700 else "1000") for n in range(1440)], at(1440)
    with pytest.raises(CommandError) as caught:
        run("fetch_ohlcv", "--symbol", "BTCUSDT", "--days", "1")
    said = str(caught.value)
    assert said.startswith("Nobitex candles of BTCUSDT, resolution 1: from 2026-11-02 21:40")
    assert "Candles downloaded so far are kept." in said
    assert "--accept-unit-jump" in said
    assert StoredCandle.objects.count() == 500
    assert "940 new candles" in run("fetch_ohlcv", "--symbol", "BTCUSDT", "--days", "1", "--accept-unit-jump")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["/nowhere/at/all.csv", "--symbol", "BTCUSDT"], "does not exist"),
        (["FILE", "--symbol", "BTCUSDX"], "Did you mean BTCUSDT"),
        (["FILE", "--symbol", "BTCUSDT", "--resolution", "fast"], "no resolution"),
        (["FILE", "--symbol", "BTCUSDT", "--resolution", "60"], "another length"),
    ],
)
def test_a_wrong_input_is_one_sentence(run, market, venue, clock, file, args, says):
    clock.at = at(1000)
    path = file([100] * 60)
    with pytest.raises(CommandError, match=says) as caught:
        run("import_ohlcv", *[path if arg == "FILE" else arg for arg in args])
    assert "\n" not in str(caught.value)
    assert not StoredCandle.objects.exists()
