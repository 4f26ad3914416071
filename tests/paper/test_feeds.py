"""Price feeds: exact candles, the same path every time, and sentences for files that cannot be played."""

from __future__ import annotations

import gzip
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from providers.paper.coins import MOST, REAL, made_up
from providers.paper.feeds.base import FeedError, bars_from_ticks
from providers.paper.feeds.replay import ReplayFeed
from providers.paper.feeds.synthetic import DAY, SPECS, SyntheticFeed
from tests.paper.world import D

MIDNIGHT = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
NOON_MS = (MIDNIGHT + DAY // 2 + 30) * 1000
FIRST_SIX = {
    "BTC/USDT": 9611960,
    "ETH/USDT": 429483,
    "DOGE/USDT": 19900,
    "USDT/IRT": 110541,
    "BTC/IRT": 10625156704,
    "ETH/IRT": 474754803,
}  # in ticks, seed 4
USDT_PRICES = {
    "BTC/USDT": "100000", "ETH/USDT": "4000", "DOGE/USDT": "0.2", "XRP/USDT": "2.2", "SOL/USDT": "150",
    "ADA/USDT": "0.6", "BNB/USDT": "800", "TRX/USDT": "0.28", "LTC/USDT": "90", "TON/USDT": "2.5",
}  # fmt: skip
SMALL = """time,open,high,low,close,volume
1747699200,100.00,101.50,99.25,101.00,1.20000001
1747699260,101.00,101.00,98.10,99.00,0.5
1747699440,99.00,99.00,99.00,99.00,0
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.csv"
    path.write_text(SMALL)
    return path


class TestSynthetic:
    def test_two_feeds_of_one_seed_agree_whatever_was_asked_before(self):
        one, other = SyntheticFeed(7), SyntheticFeed(7)
        other.ticks("x", "ETH/USDT", NOON_MS - 3 * DAY * 1000, NOON_MS)
        for pair in SPECS:
            a, b = (feed.ticks("x", pair, NOON_MS - 7_200_000, NOON_MS) for feed in (one, other))
            assert (a.prices == b.prices).all()
            assert (a.volumes == b.volumes).all()
            assert (a.buys == b.buys).all()
        assert one.book("x", "BTC/USDT", NOON_MS) == other.book("x", "BTC/USDT", NOON_MS)

    def test_another_seed_is_another_market(self):
        a, b = (SyntheticFeed(seed).ticks("x", "BTC/USDT", NOON_MS - 60_000, NOON_MS) for seed in (1, 2))
        assert (a.prices != b.prices).any()

    def test_there_is_one_trade_every_second_across_midnight(self):
        ticks = SyntheticFeed(7).ticks("x", "BTC/USDT", (MIDNIGHT - 10) * 1000, (MIDNIGHT + 10) * 1000)
        assert list(ticks.times // 1000) == list(range(MIDNIGHT - 9, MIDNIGHT + 11))
        steps = np.abs(np.diff(np.log(ticks.prices.astype(float))))
        assert steps.max() < 0.003  # no jump where days, hours or swings meet

    @pytest.mark.parametrize("pair", list(SPECS))
    def test_candles_are_the_ticks_they_span(self, pair):
        feed = SyntheticFeed(3)
        start = NOON_MS // 1000 // 60 * 60 - 600
        bars = feed.bars("x", pair, start, start + 660, NOON_MS)
        ticks = feed.ticks("x", pair, start * 1000 - 1, NOON_MS)
        rebuilt = bars_from_ticks(ticks, 60)
        assert len(bars) == 11  # the last one still running
        for name in ("times", "open", "high", "low", "close", "volume"):
            assert (getattr(bars, name) == getattr(rebuilt, name)).all(), name

    def test_a_running_candle_knows_nothing_of_the_future(self):
        feed = SyntheticFeed(3)
        minute = NOON_MS // 60_000 * 60
        early = feed.bars("x", "BTC/USDT", minute, minute + 60, minute * 1000 + 5_999)
        assert (len(early), early.volume[0]) == (
            1,
            feed.ticks("x", "BTC/USDT", minute * 1000 - 1, minute * 1000 + 5_999).volumes.sum(),
        )
        assert early.close[0] == feed.last_tick("x", "BTC/USDT", minute * 1000 + 5_999).prices[0]

    def test_toman_prices_are_the_dollar_price_times_the_toman_price(self):
        feed = SyntheticFeed(5)
        btc, usdt, cross = (
            SPECS[pair].price(int(feed.last_tick("x", pair, NOON_MS).prices[0]))
            for pair in ("BTC/USDT", "USDT/IRT", "BTC/IRT")
        )
        assert abs(btc * usdt - cross) <= 1

    def test_thirty_five_days_of_minutes_come_fast_and_stay_sane(self):
        feed = SyntheticFeed(11)
        began = time.process_time()
        bars = feed.bars("x", "BTC/USDT", MIDNIGHT - 35 * DAY, MIDNIGHT, MIDNIGHT * 1000)
        assert time.process_time() - began < 5
        assert len(bars) == 35 * 1440
        closes = bars.close / 100
        assert 60_000 < closes.min() < closes.max() < 170_000

    def test_a_nudge_moves_the_market_from_the_next_second_on_and_stays(self):
        feed, untouched = SyntheticFeed(5), SyntheticFeed(5)
        feed.nudge("BTC/IRT", D("5000000000"), NOON_MS)
        before, after = NOON_MS, NOON_MS + 1000
        assert (
            feed.last_tick("x", "BTC/USDT", before).prices[0] == untouched.last_tick("x", "BTC/USDT", before).prices[0]
        )
        moved = SPECS["BTC/IRT"].price(int(feed.last_tick("x", "BTC/IRT", after).prices[0]))
        assert abs(moved / D("5000000000") - 1) < D("0.005")
        again = SyntheticFeed(5, feed.nudges)
        later = NOON_MS + 3_600_000
        assert again.last_tick("x", "BTC/USDT", later).prices[0] == feed.last_tick("x", "BTC/USDT", later).prices[0]

    def test_books_are_sorted_on_the_grid_and_a_few_basis_points_wide(self):
        feed = SyntheticFeed(5)
        for pair, spec in SPECS.items():
            for second in range(0, 600, 97):
                book = feed.book("x", pair, NOON_MS + second * 1000)
                bids, asks = [level.price for level in book.bids], [level.price for level in book.asks]
                assert len(bids) == len(asks) == 24
                assert bids == sorted(bids, reverse=True) and asks == sorted(asks)
                assert 0 < (asks[0] - bids[0]) / bids[0] < D("0.001")
                assert all(price % spec.tick == 0 for price in (*bids, *asks))
                assert all(level.quantity > 0 for level in (*book.bids, *book.asks))

    def test_the_depth_leans_both_ways_often_enough_for_signals(self):
        feed = SyntheticFeed(5)
        ratios = []
        for second in range(0, 3600, 13):
            book = feed.book("x", "BTC/USDT", NOON_MS + second * 1000)
            bids, asks = (sum(level.quantity for level in side[:5]) for side in (book.bids, book.asks))
            ratios.append(bids / asks)
        assert sum(ratio >= D("1.5") for ratio in ratios) > 20
        assert sum(ratio <= 1 / D("1.5") for ratio in ratios) > 20


class TestReplay:
    def test_candles_made_from_the_trades_are_the_recorded_ones(self, small):
        feed = ReplayFeed(small)
        bars = feed.bars("x", "BTC/USDT", 1747699200, 1747699500, 1747699500_000)
        spec = feed.specs["BTC/USDT"]
        rows = [
            (int(t), *(spec.price(v) for v in row), spec.volume(vol))
            for t, *row, vol in zip(bars.times, bars.open, bars.high, bars.low, bars.close, bars.volume, strict=True)
        ]
        assert rows == [
            (1747699200, D("100.00"), D("101.50"), D("99.25"), D("101.00"), D("1.20000001")),
            (1747699260, D("101.00"), D("101.00"), D("98.10"), D("99.00"), D("0.5")),
            (1747699440, D("99.00"), D("99.00"), D("99.00"), D("99.00"), D("0")),
        ]

    def test_a_rising_candle_goes_to_its_low_first_and_a_falling_one_to_its_high(self, small):
        feed = ReplayFeed(small)
        rising = feed.ticks("x", "BTC/USDT", 1747699199_999, 1747699259_999)
        assert len(rising) == 12
        assert rising.prices.argmin() < rising.prices.argmax()
        falling = feed.ticks("x", "BTC/USDT", 1747699259_999, 1747699319_999)
        assert falling.prices.argmax() < falling.prices.argmin()

    def test_a_gap_stays_a_gap_and_the_last_price_stays(self, small):
        feed = ReplayFeed(small)
        assert len(feed.ticks("x", "BTC/USDT", 1747699315_000, 1747699439_999)) == 0
        assert feed.last_tick("x", "BTC/USDT", 1747699430_000).prices[0] == 9900
        assert list(feed.bars("x", "BTC/USDT", 1747699200, 1747699500, 1747699500_000).times) == [
            1747699200, 1747699260, 1747699440,
        ]  # fmt: skip

    def test_gzip_is_allowed_and_the_end_is_known(self, tmp_path):
        path = tmp_path / "small.csv.gz"
        path.write_bytes(gzip.compress(SMALL.encode()))
        assert ReplayFeed(path).ends_at == 1747699495.0

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ("a,b\n1,2\n", "does not begin with the line"),
            ("time,open,high,low,close,volume\n", "holds no candle"),
            ("time,open,high,low,close,volume\n1,2,3\n", "line 2: 3 fields"),
            ("time,open,high,low,close,volume\nyesterday,1,1,1,1,1\n", "unix seconds"),
            ("time,open,high,low,close,volume\n1747699200000,1,1,1,1,1\n", "milliseconds"),
            ("time,open,high,low,close,volume\n60,1,1,1,x,1\n", "not a number"),
            ("time,open,high,low,close,volume\n60,1,1,1,nan,1\n", "not finite"),
            ("time,open,high,low,close,volume\n120,1,1,1,1,1\n60,1,1,1,1,1\n", "line 3: time does not increase"),
            ("time,open,high,low,close,volume\n60,5,4,3,4,1\n", "impossible"),
            ("time,open,high,low,close,volume\n60,0,1,0,1,1\n", "impossible"),
        ],
    )
    def test_a_file_that_cannot_be_played_says_why(self, tmp_path, text, sentence):
        path = tmp_path / "bad.csv"
        path.write_text(text)
        with pytest.raises(FeedError, match=sentence):
            ReplayFeed(path)

    def test_neither_a_missing_nor_a_binary_file_is_a_traceback(self, tmp_path):
        with pytest.raises(FeedError, match="cannot be read"):
            ReplayFeed(tmp_path / "none.csv")
        (tmp_path / "broken.gz").write_bytes(b"\x1f\x8bgarbage")
        with pytest.raises(FeedError, match="neither text nor gzip"):
            ReplayFeed(tmp_path / "broken.gz")

    def test_a_recording_cannot_be_moved(self, small):
        with pytest.raises(FeedError, match="recorded"):
            ReplayFeed(small).nudge("BTC/USDT", D(1), 0)

    def test_three_months_of_real_minutes_load_fast_and_come_back_equal(self, shared):
        path = shared / "data" / "ohlcv" / "binance_BTCUSDT_1m_20250520_20250818.csv.gz"
        began = time.process_time()
        feed = ReplayFeed(path)
        assert time.process_time() - began < 4  # alone it takes about one second
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()[1:]
        bars = feed.bars("x", "BTC/USDT", 0, 2**40, 2**50)
        spec = feed.specs["BTC/USDT"]
        assert len(bars) == len(lines) == 130_708
        for index in [*range(0, len(lines), 997), len(lines) - 1]:
            t, *row, volume = lines[index].split(",")
            columns = (bars.open, bars.high, bars.low, bars.close)
            assert int(t) == bars.times[index]
            assert [D(text) for text in row] == [spec.price(column[index]) for column in columns]
            assert D(volume) == spec.volume(bars.volume[index])


class TestMadeUpCoins:
    def test_more_coins_leave_the_paths_of_the_first_as_they_are(self):
        feed = SyntheticFeed(4, coins=30)
        assert {pair: int(feed.last_tick("x", pair, NOON_MS).prices[0]) for pair in FIRST_SIX} == FIRST_SIX
        assert len(feed.specs) == 61

    def test_they_are_priced_within_a_factor_of_two_of_their_own_price(self):
        feed = SyntheticFeed(5, coins=14)
        for coin in made_up(14):
            dollars, toman = (feed.specs[pair].price(int(feed.last_tick("x", pair, NOON_MS).prices[0]))
                              for pair in coin.pairs)  # fmt: skip
            assert 0.5 < float(dollars) / coin.price < 2
            assert 0.9 < float(toman / dollars) / 110_000 < 1.1

    def test_their_names_and_prices_are_all_different(self):
        assert len({coin.code for coin in made_up(MOST)}) == len({coin.price for coin in made_up(MOST)}) == MOST - REAL


class TestStillness:
    def test_nothing_is_traded_between_two_looks_in_one_second(self):
        feed = SyntheticFeed(5)
        for after, until in ((NOON_MS + 1, NOON_MS + 999), (NOON_MS, NOON_MS + 999)):
            assert feed.is_still(after, until)
            assert not len(feed.ticks("x", "BTC/USDT", after, until))

    def test_the_next_whole_second_brings_a_trade(self):
        feed = SyntheticFeed(5)
        assert not feed.is_still(NOON_MS + 999, NOON_MS + 1000)
        assert len(feed.ticks("x", "BTC/USDT", NOON_MS + 999, NOON_MS + 1000)) == 1


class TestTwentyOnePairs:
    def test_the_first_six_paths_of_a_seed_are_what_they_always_were(self):
        feed = SyntheticFeed(4)
        prices = {pair: int(feed.last_tick("x", pair, NOON_MS).prices[0]) for pair in FIRST_SIX}
        assert prices == FIRST_SIX

    def test_every_pair_is_priced_within_a_factor_of_two_of_its_coin(self):
        feed = SyntheticFeed(5)
        for pair, worth in USDT_PRICES.items():
            price = SPECS[pair].price(int(feed.last_tick("x", pair, NOON_MS).prices[0]))
            assert D(worth) / 2 < price < D(worth) * 2
        for coin in (pair.split("/")[0] for pair in USDT_PRICES):
            legs = [SPECS[pair].price(int(feed.last_tick("x", pair, NOON_MS).prices[0])) for pair in (
                f"{coin}/USDT", "USDT/IRT", f"{coin}/IRT")]  # fmt: skip
            assert abs(legs[0] * legs[1] - legs[2]) <= 1

    def test_old_days_are_forgotten_and_the_running_ones_are_not(self):
        feed = SyntheticFeed(5)
        for pair in SPECS:
            feed.last_tick("x", pair, NOON_MS)
        feed.bars("x", "BTC/IRT", MIDNIGHT - 60 * DAY, MIDNIGHT, NOON_MS)
        assert all((pair, MIDNIGHT // DAY) in feed._ticks for pair in SPECS)
        assert len(feed._ticks) < 3 * len(SPECS)

    def test_a_nudge_touches_only_its_coin(self):
        feed = SyntheticFeed(5)
        before = feed._day("ETH/IRT", MIDNIGHT // DAY)
        feed.nudge("BTC/USDT", D("50000"), NOON_MS)
        assert feed._day("ETH/IRT", MIDNIGHT // DAY) is before
