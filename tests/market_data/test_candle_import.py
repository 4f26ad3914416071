"""Candles of a file: exact, once, closed, in one unit, and all of them or none."""

from __future__ import annotations

import gzip
import random
from decimal import Decimal

import numpy as np
import pytest

from algo.models import Candle as StoredCandle
from algo.selectors.candles import Gap, candles_range
from algo.services import candle_import
from algo.services.candle_checks import UnitJump
from algo.services.candle_import import candles_import
from algo.services.candles import candles_fetch_range
from providers.recorded import RecordedDataError
from providers.types import Resolution
from tests.factories import make_market
from tests.market_data.exchange import FakeExchange, at, candles

M1 = Resolution.M1
HEADER = "time,open,high,low,close,volume\n"


@pytest.fixture
def market(db):
    return make_market(provider="nobitex")


def unix(minute):
    return int(at(minute).timestamp())


def row(minute, close="100", **fields):
    values = {"open": close, "high": close, "low": close, "close": close, "volume": "1"} | fields
    return ",".join([str(unix(minute)), *values.values()])


@pytest.fixture
def load(market, tmp_path):
    def _load(*rows, header=HEADER, now=10_000, resolution=M1, packed=False, **options):
        path = tmp_path / "candles.csv"
        text = (header + "\n".join(rows) + "\n").encode()
        path.write_bytes(gzip.compress(text) if packed else text)
        return candles_import(market, resolution, str(path), now=at(now), **options)

    return _load


def stored():
    return list(StoredCandle.objects.order_by("open_time"))


@pytest.mark.parametrize("packed", [False, True])
def test_every_digit_of_the_file_is_stored(load, packed):
    exact = row(0, "19566408391.1234567890123456", volume="0.000000940000000001")
    assert load(exact, packed=packed).new == 1
    assert (stored()[0].close, stored()[0].volume) == (
        Decimal("19566408391.1234567890123456"),
        Decimal("0.000000940000000001"),
    )


def test_a_second_import_finds_everything_known(load):
    rows = [row(n, str(100 + n)) for n in range(20)]
    assert (load(*rows).new, load(*rows).known, load(*rows).new) == (20, 20, 0)


def test_what_is_new_is_added_and_what_is_stored_keeps_its_first_version(load, caplog):
    load(row(1, "101"), row(3, "103"))
    done = load(*[row(n, str(100 + n)) for n in (0, 1, 2)], row(3, "104"), row(4, "104"))
    assert (done.new, done.known, done.revised) == (3, 2, 1)
    assert [each.close for each in stored()] == [100, 101, 102, 103, 104]
    assert "the first version is kept" in caplog.text


def test_gaps_of_the_file_are_reported_and_not_filled(load):
    done = load(row(0), row(1), row(5))
    assert done.gaps == (Gap(at(2), at(5), 3),)
    assert (done.missing, len(stored())) == (3, 3)


def test_a_candle_that_is_still_running_is_not_stored(load):
    done = load(row(0), row(1), row(2), now=2)
    assert (done.new, done.refused) == (2, {})


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([row(0), row(1), row(2.5), row(4)], "unaligned"),
        ([row(0), row(1), row(2, "1e20")], "impossible"),
        ([row(0), row(1), row(2, "1e-19")], "impossible"),
    ],
)
def test_what_cannot_be_a_candle_is_refused_and_counted(load, rows, reason):
    done = load(*rows, accept_unit_jump=True)
    assert done.refused == {reason: 1}
    assert done.new == len(rows) - 1


def test_candles_that_overlap_are_refused(load):
    day = 1440
    done = load(row(0), row(day), row(day + 60), row(3 * day), row(4 * day), resolution=Resolution.D1)
    assert (done.new, done.refused) == (4, {"overlapping": 1})


def test_what_the_reader_leaves_out_is_told(load):
    done = load(row(0), row(1, high="99"), row(2), row(2), row(3, close=""))
    assert done.new == 2
    assert len(done.notes) == 3


@pytest.mark.parametrize("volume", ["", "nan", "inf"])
def test_a_volume_that_is_no_number_is_zero(load, volume):
    load(row(0, volume=volume), row(1))
    assert [each.volume for each in stored()] == [0, 1]


def test_columns_may_stand_in_any_order_among_others_and_be_quoted(load):
    header = "name,volume,close,low,high,open,time\n"
    load(f'"a,b","2","101",99,102,100,{unix(0)}', f"c, 3 ,101,99,102,100,{unix(1)}", header=header)
    first = stored()[0]
    assert (first.open, first.high, first.low, first.close, first.volume) == (100, 102, 99, 101, 2)
    assert stored()[1].volume == 3


def test_rows_out_of_order_keep_their_own_digits(load):
    order = list(range(50))
    random.Random(3).shuffle(order)
    load(*[row(n, f"100.{n:018}") for n in order])
    assert [each.close for each in stored()] == [Decimal(f"100.{n:018}") for n in range(50)]


def test_the_resolution_is_the_files_own_where_none_is_stated(load):
    assert load(row(0), row(60), row(120), resolution=None).resolution is Resolution.H1


@pytest.mark.parametrize("stated", [Resolution.M5, Resolution.H1])
def test_finer_candles_than_stated_are_refused_whole(load, stated):
    with pytest.raises(RecordedDataError, match="another length"):
        load(*[row(n) for n in range(0, 120)], resolution=stated)
    assert not stored()


def test_longer_candles_than_stated_are_refused_whole(load):
    with pytest.raises(RecordedDataError, match="another length"):
        load(*[row(n) for n in range(0, 600, 60)])


@pytest.mark.parametrize(("first", "rest"), [("100", "1000"), ("1000", "100")])
def test_a_file_in_another_unit_than_what_is_stored_is_refused_whole(load, market, first, rest):
    load(row(0, first), row(1, first))
    with pytest.raises(UnitJump):
        load(*[row(n, rest) for n in range(2, 10)])
    assert len(stored()) == 2
    assert load(*[row(n, rest) for n in range(2, 10)], accept_unit_jump=True).new == 8


def test_a_file_that_changes_its_unit_is_refused_whole(load):
    with pytest.raises(UnitJump):
        load(*[row(n, "100") for n in range(10)], *[row(n, "1000") for n in range(10, 20)])
    assert not stored()


def test_a_flash_in_a_file_is_stored_and_logged(load, caplog):
    assert load(row(0), row(1, "1000"), row(2), row(3)).new == 4
    assert "off by about ten" in caplog.text


def test_nothing_is_stored_where_the_database_refuses_one_candle(load):
    # equal as doubles, so that only the database sees it: the high is below the close in the last digit
    bad = row(700, "100.00000000000000001", high="100")
    with pytest.raises(RecordedDataError, match="refuses"):
        load(*[row(n) for n in range(600)], bad)
    assert not stored()


def test_long_files_go_in_chunks_that_join(load, market, monkeypatch):
    monkeypatch.setattr(candle_import, "CHUNK", 7)
    candles_fetch_range(market, M1, FakeExchange(candles(range(10, 13))), start=at(10), end=at(13), now=at(13))
    told = []
    done = load(*[row(n, str(100 + n)) for n in range(40)], progress=lambda done, total: told.append((done, total)))
    assert (done.new, done.known, done.revised) == (37, 3, 0)
    assert told == [(7, 40), (14, 40), (21, 40), (28, 40), (35, 40), (40, 40)]


def test_a_candle_that_another_worker_stores_meanwhile_is_left_as_it_is(load, market, monkeypatch):
    copy_in = candle_import._Chunk.copy_in

    def late(self, lines):
        copy_in(self, lines)
        monkeypatch.setattr(StoredCandle.objects, "filter", lambda **names: StoredCandle.objects.none())
        candles_fetch_range(market, M1, FakeExchange(candles([1])), start=at(1), end=at(2), now=at(2))

    monkeypatch.setattr(candle_import._Chunk, "copy_in", late)
    done = load(row(0, "100"), row(1, "101.5"), row(2, "102"))
    monkeypatch.undo()
    assert (done.new, done.known) == (2, 1)
    assert [each.close for each in stored()] == [100, 101, 102]


def test_arrays_hold_what_was_imported(load, market):
    load(*[row(n, f"{100 + n}.5", volume=f"0.{n + 1}") for n in range(9)])
    arrays = candles_range(market, M1, at(0), at(9))
    assert arrays.close.tolist() == [100.5 + n for n in range(9)]
    assert arrays.volume.tolist() == [float(f"0.{n + 1}") for n in range(9)]
    assert arrays.open_time.dtype == np.int64


@pytest.mark.parametrize(
    ("name", "stored_of", "resolution"),
    [
        ("wallex_USDTTMN_1m_20220907_20220909", 997, "1"),
        ("binance_XRPETH_1m_20191011_20191013", 2469, "1"),
        ("tgju_USDIRR_1d_20111126_20221231", 2902, "D"),  # of 2906, four that cannot be; no volume at all
        ("freqtrade_ETHBTC_5m_20180110_20180130", 5760, "5"),
    ],
)
def test_recorded_files_of_real_markets(shared, market, name, stored_of, resolution):
    path = shared / "data" / "ohlcv" / f"{name}.csv.gz"
    done = candles_import(market, None, str(path), now=at(0))
    assert (done.new, done.resolution.value) == (stored_of, resolution)
    first = stored()[0]
    header, row_, *_ = gzip.decompress(path.read_bytes()).decode().splitlines()
    written = dict(zip(header.split(","), row_.split(","), strict=True))
    assert first.close == Decimal(written["close"])
    assert first.volume == Decimal(written["volume"] or 0)
