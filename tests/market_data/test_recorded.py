"""Files of recorded candles: what is read, what is left out and said, what is refused with a sentence."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from providers.recorded import RecordedDataError, read_candles_csv, resolution_of
from providers.types import Resolution

HEADER = "time,open,high,low,close,volume\n"
TWO = HEADER + "60,100,101.5,99,101,2\n120,101,102,100.25,102,0.5\n"


@pytest.fixture
def write(tmp_path):
    def _write(text: str | bytes, name: str = "candles.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return _write


def test_reads_every_column_as_written(write):
    candles = read_candles_csv(write(TWO))
    assert candles.open_time.dtype == np.int64
    assert candles.open_time.tolist() == [60, 120]
    assert [candles.open.tolist(), candles.high.tolist(), candles.low.tolist()] == [
        [100, 101],
        [101.5, 102],
        [99, 100.25],
    ]
    assert [candles.close.tolist(), candles.volume.tolist()] == [[101, 102], [2, 0.5]]
    assert candles.notes == ()


@pytest.mark.parametrize("name", ["candles.csv.gz", "candles.csv"])
def test_gzip_is_recognised_by_its_content_not_its_name(write, name):
    assert len(read_candles_csv(write(gzip.compress(TWO.encode()), name))) == 2


def test_columns_are_found_by_name_whatever_their_order_and_whoever_stands_beside_them(write):
    candles = read_candles_csv(write("Symbol,volume,close,low,high,open,time\r\nBTCUSDT,3,101,99,102,100,60\r\n"))
    assert (candles.open[0], candles.high[0], candles.low[0], candles.close[0], candles.volume[0]) == (
        100,
        102,
        99,
        101,
        3,
    )


def test_a_gap_stays_a_gap(write):
    assert read_candles_csv(write(HEADER + "60,1,1,1,1,1\n600,1,1,1,1,1\n")).open_time.tolist() == [60, 600]


def test_a_row_without_a_price_is_left_out_and_said(write):
    candles = read_candles_csv(write(HEADER + "60,1,1,1,,1\n120,1,1,1,1,\n"))
    assert candles.open_time.tolist() == [120]
    assert candles.volume.tolist() == [0]
    assert candles.notes == ("1 rows without a price were left out",)


@pytest.mark.parametrize("row", ["60,5,4,3,4,1", "60,5,6,5.5,5,1", "60,0,1,0,1,1", "60,5,6,4,5,-1"])
def test_a_candle_that_cannot_be_is_left_out_and_said(write, row):
    candles = read_candles_csv(write(f"{HEADER}{row}\n120,1,1,1,1,1\n"))
    assert candles.open_time.tolist() == [120]
    assert "cannot be" in candles.notes[0]


def test_repeated_and_unordered_rows_are_put_right_and_said(write):
    candles = read_candles_csv(write(HEADER + "120,2,2,2,2,1\n60,1,1,1,1,1\n120,2,2,2,2,1\n"))
    assert candles.open_time.tolist() == [60, 120]
    assert candles.notes == ("rows out of order were sorted", "1 rows that repeat another were left out")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column time, open"),
        ("hello\nworld\n", "no column time, open"),
        (HEADER, "no candles"),
        (HEADER + "60,1,1,1,one,1\n", "line 2"),
        (HEADER + "60,1,1,1,1,1\n120,1,1\n", "line 3"),
        (HEADER + "1747699200000,1,1,1,1,1\n", "milliseconds"),
        (HEADER + "60.5,1,1,1,1,1\n", "whole unix seconds"),
        (HEADER + "60,2,1,1,1,1\n", "no usable candle"),
        (HEADER + "60,1,1,1,1,1\n60,2,2,2,2,1\n", "two different candles at 60"),
        (b"\x00\xff\xfe\xfa PNG", "not a text file"),
        (
            gzip.compress(TWO.encode(), mtime=0)[:40],
            "damaged gzip",
        ),  # the time would stand in the test's name, another in each process
    ],
)
def test_a_file_that_is_no_candle_file_is_refused_with_a_sentence(write, text, says):
    with pytest.raises(RecordedDataError, match=says):
        read_candles_csv(write(text))


def test_a_missing_file_and_a_folder_are_refused_with_a_sentence(tmp_path):
    with pytest.raises(RecordedDataError, match="does not exist"):
        read_candles_csv(tmp_path / "none.csv")
    with pytest.raises(RecordedDataError, match="cannot be read"):
        read_candles_csv(tmp_path)


def test_the_resolution_is_the_most_frequent_spacing():
    assert resolution_of(np.array([0, 300, 600, 3000, 3300])) is Resolution.M5


@pytest.mark.parametrize("times", [[60], [0, 7, 14]])
def test_a_spacing_that_is_no_resolution_is_refused(times):
    with pytest.raises(RecordedDataError, match=r"State the resolution|Resample"):
        resolution_of(np.array(times))
