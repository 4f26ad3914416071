"""Which files of candles are played, and the sentence for those that are not."""

import gzip

import pytest

from launcher.console import LauncherError
from launcher.plan import EXCHANGE_URLS, Mode, make_plan
from launcher.replay import read_recording

HEADER = "time,open,high,low,close,volume\n"


def candles(count: int, *, start: int = 1_700_000_040) -> str:
    return "".join(f"{start + 60 * number},10,12,9,11,1.5\n" for number in range(count))


@pytest.fixture
def written(tmp_path):
    def write(text: str | bytes, name: str = "BTCUSDT.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.mark.parametrize("pack", [str.encode, lambda text: gzip.compress(text.encode())])
def test_text_and_gzip_are_read_alike(written, pack):
    recording = read_recording(written(pack(HEADER + candles(3000))))
    assert (recording.candles, recording.first, recording.last) == (3000, 1_700_000_040, 1_700_000_040 + 60 * 2999)


def test_a_replay_starts_after_500_candles_of_history(written):
    assert read_recording(written(HEADER + candles(3000))).anchor == 1_700_000_040 + 60 * 500


def test_a_short_file_starts_after_a_fifth_of_it(written):
    assert read_recording(written(HEADER + candles(100))).anchor == 1_700_000_040 + 60 * 20


def test_the_line_of_a_candle_in_the_file_is_told_with_its_duration(written):
    recording = read_recording(written(HEADER + candles(3000)))
    # 2499 minutes are left; at 60 minutes a minute that is 41.65 minutes
    assert "0.7 h at speed 60" in recording.describe(60)


@pytest.mark.parametrize(
    ("name", "pair"),
    [
        ("binance_BTCUSDT_1m.csv.gz", "BTC/USDT"),
        ("eth-usdt.csv", "ETH/USDT"),
        ("wallex_USDTTMN_1m.csv", "USDT/IRT"),
        ("prices.csv", "BTC/USDT"),
    ],
)
def test_the_market_is_taken_from_the_name(written, name, pair):
    assert read_recording(written(HEADER + candles(60), name)).pair == pair


GOOD = candles(60)
AFTER = 1_700_000_040 + 60 * 60


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it holds 0 candles"),
        (HEADER, "it holds 0 candles"),
        (HEADER + candles(49), "it holds 49 candles"),
        ("date,open,high,low,close,volume\n" + GOOD, "its first line must be exactly time,open,high,low,close,volume"),
        ("time,open,high,low,close\n" + GOOD, "its first line must be exactly"),
        (HEADER + GOOD + f"{AFTER},10,12,9,11\n", "line 62 has 5 columns instead of 6"),
        (HEADER + GOOD + f"{AFTER},10,twelve,9,11,1\n", "line 62 holds something that is not a number"),
        (HEADER + GOOD + "2023-11-14,10,12,9,11,1\n", "line 62 holds something that is not a number"),
        (HEADER + GOOD + f"{AFTER},10,inf,9,11,1\n", "line 62 holds a number that is not finite"),
        (HEADER + GOOD + f"{AFTER},10,nan,9,11,1\n", "line 62 holds a number that is not finite"),
        (HEADER + GOOD + f"{AFTER},10,9,12,11,1\n", "line 62 is no candle"),
        (HEADER + GOOD + f"{AFTER},10,12,9,11,-1\n", "line 62 is no candle"),
        (HEADER + GOOD + f"{AFTER},0,12,0,11,1\n", "line 62 is no candle"),
        (HEADER + GOOD + f"{AFTER - 60},10,12,9,11,1\n", "line 62 is not later than the line before it"),
        (HEADER + GOOD + f"{AFTER * 1000},10,12,9,11,1\n", "unix seconds are expected"),
        (b"\x00\xff\xfe\x80 not text", "it is neither text nor gzip"),
        (gzip.compress((HEADER + GOOD).encode(), mtime=0)[:-20], "it cannot be read"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_with_its_reason(written, text, reason):
    path = written(text)
    with pytest.raises(LauncherError) as refused:
        read_recording(path)
    assert reason in str(refused.value)
    assert str(path) in str(refused.value)
    assert str(refused.value).endswith("Nothing was started and nothing was written.")


def test_every_process_of_a_replay_is_told_its_clock_and_how_many_calls_a_minute_are(written, tmp_path, monkeypatch):
    for name in ("DATABASE_URL", "REDIS_URL", *EXCHANGE_URLS):
        monkeypatch.delenv(name, raising=False)
    recording = read_recording(written(HEADER + candles(100)))
    env = make_plan(Mode.REPLAY, recording=recording, speed=60, state_dir=tmp_path / "state").env
    assert (env["CLOCK_SPEED"], env["CLOCK_CALLS"]) == ("60", "60")
    assert float(env["CLOCK_ANCHOR"]) == recording.anchor
    slow = make_plan(Mode.REPLAY, recording=recording, speed=0.5, state_dir=tmp_path / "state").env
    assert (slow["CLOCK_SPEED"], slow["CLOCK_CALLS"]) == ("0.5", "1")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(LauncherError, match="Is a directory"):
        read_recording(tmp_path)
