"""The process as a whole: restarts lose nothing, limits hold, refusals to start are sentences."""

from __future__ import annotations

import subprocess
import sys
import time
from decimal import Decimal

import pytest
import requests

from tests.paper.world import ROOT, Server, running


def truth(server: Server, venue: str) -> dict[str, object]:
    body = server.control("GET", "/accounts/demo").json()
    assert body["conservation"] == "ok"
    return body["venues"][venue]


def last(server: Server) -> Decimal:
    return Decimal(server.nobitex("GET", "/v3/orderbook/BTCUSDT").json()["lastTradePrice"])


def wait_for(check, seconds: float = 6):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def candles(server: Server, path: str) -> dict[int, tuple[object, ...]]:
    """The rows of a chart by open time."""
    answer = server.nobitex("GET", path).json()
    return dict(zip(answer["t"], zip(*(answer[name] for name in "ohlcv"), strict=True), strict=True))


def stop_order(server: Server, name: str, factor: str) -> None:
    stop = str((last(server) * Decimal(factor)).quantize(Decimal("0.01")))
    asked = {"symbol": "BTCUSDT", "type": "STOP_MARKET", "side": "SELL", "quantity": "0.01", "stop_Price": stop}
    assert server.wallex("POST", "/v1/account/orders", json=asked | {"client_id": name}).status_code == 201


def test_a_killed_exchange_goes_on_where_it_was(tmp_path):
    with running(tmp_path, "--seed", "9") as server:
        buy = {"symbol": "BTCUSDT", "type": "MARKET", "side": "BUY", "quantity": "0.01", "client_id": "BUY1"}
        assert server.wallex("POST", "/v1/account/orders", json=buy).status_code == 201
        stop_order(server, "STOP1", "0.8")
        before = truth(server, "wallex")
        server.kill()
        server.start()
        after = truth(server, "wallex")
        assert after == before
        # The resting stop is alive: it triggers when the market goes through it.
        server.move_price("BTC/USDT", str((last(server) * Decimal("0.7")).quantize(Decimal("0.01"))))
        wait_for(lambda: not server.wallex("GET", "/v1/account/orders/STOP1").json()["result"]["active"])
        order = server.wallex("GET", "/v1/account/orders/STOP1").json()["result"]
        assert (order["status"], order["executedQty"]) == ("FILLED", "0.0100000000000000")


def test_the_moved_price_survives_a_restart_and_what_happened_meanwhile_is_caught_up(tmp_path):
    with running(tmp_path, "--seed", "9") as server:
        target = (last(server) * Decimal("0.7")).quantize(Decimal("0.01"))
        stop_order(server, "STOP1", "0.8")
        server.move_price("BTC/USDT", str(target))  # takes effect with the next second
        server.kill()
        time.sleep(1.2)
        server.start()
        order = wait_for(lambda: server.wallex("GET", "/v1/account/orders/STOP1").json()["result"])
        assert (order["status"], order["active"]) == ("FILLED", False)
        assert abs(last(server) / target - 1) < Decimal("0.02")


def test_another_seed_for_the_same_data_is_refused(tmp_path):
    with running(tmp_path, "--seed", "9") as server:
        server.kill()
        result = start("--data-dir", str(tmp_path / "data"), "--seed", "10")
    assert (result.returncode, "begun with seed 9" in result.stderr) == (2, True)


def test_twenty_five_coins_are_fifty_one_markets_on_both_exchanges_and_stay_after_a_restart(tmp_path):
    with running(tmp_path, "--coins", "25") as server:
        server.kill()
        server.extra = ()
        server.start()
        markets = server.wallex("GET", "/v1/markets").json()["result"]["symbols"]
        steps = server.nobitex("GET", "/v2/options").json()["nobitex"]["amountPrecisions"]
        names = {symbol.replace("TMN", "IRT") for symbol in markets}
        assert (len(markets), names) == (51, set(steps))
        chart = server.nobitex(
            "GET", f"/market/udf/history?symbol=PAOUSDT&resolution=1&to={int(time.time())}&countback=3"
        ).json()
        assert (chart["s"], len(chart["t"])) == ("ok", 3)
        account = {"name": "eve", "balances": {"wallex": {"PAO": "5"}}}
        assert server.control("POST", "/accounts", json=account).status_code == 200
        unlisted = {"name": "joe", "balances": {"wallex": {"PAP": "5"}}}
        assert "PAP is not an asset" in server.control("POST", "/accounts", json=unlisted).json()["error"]


def test_a_data_directory_keeps_its_coins(tmp_path):
    with running(tmp_path, "--coins", "12") as server:
        server.kill()
        result = start("--data-dir", str(tmp_path / "data"), "--coins", "11")
    assert (result.returncode, "has 12 coins" in result.stderr) == (2, True)


@pytest.mark.parametrize("words", [("--coins", "9"), ("--coins", "81"), ("--coins", "20", "--feed", "mirror")])
def test_a_number_of_coins_that_cannot_be_is_refused_with_a_sentence(tmp_path, words):
    result = start("--data-dir", str(tmp_path / "data"), *words)
    assert (result.returncode, "coins" in result.stderr) == (2, True)


def test_the_data_of_one_feed_is_not_played_on_by_another(tmp_path):
    with running(tmp_path) as server:
        server.kill()
    path = tmp_path / "one.csv"
    path.write_text("time,open,high,low,close,volume\n1747699200,1,1,1,1,1\n")
    result = start("--data-dir", str(tmp_path / "data"), "--feed", "replay", "--replay-file", str(path))
    assert (result.returncode, "begun with the feed 'synthetic'" in result.stderr) == (2, True)


def test_two_processes_cannot_share_a_data_directory(tmp_path):
    with running(tmp_path):
        result = start("--data-dir", str(tmp_path / "data"))
    assert (result.returncode, "Is another paper exchange using it?" in result.stderr) == (2, True)


def test_it_stops_within_two_seconds_of_a_signal(tmp_path):
    with running(tmp_path) as server:
        session = requests.Session()  # a connection kept open must not hold it up
        session.get(f"{server.url}/paper/health", timeout=5)
        assert server.stop() < 2


def test_order_posts_are_limited_to_twenty_in_ten_seconds(tmp_path):
    with running(tmp_path) as server:
        answers = [server.wallex("POST", "/v1/account/orders", json={}) for _ in range(21)]
        assert [answer.status_code for answer in answers] == [422] * 20 + [429]
        assert (answers[-1].headers["X-RateLimit-Limit"], answers[-1].json()["success"]) == ("20", False)
        many = [server.nobitex("GET", "/market/stats") for _ in range(21)]
        assert [answer.status_code for answer in many] == [200] * 20 + [429]
        body = many[-1].json()
        assert (body["code"], body["limit"], 0 < body["backOff"] <= 61) == ("TooManyRequests", 20, True)


def test_a_replay_at_sixty_fold_speed_triggers_stops_inside_the_candles(tmp_path):
    start_s = 1747699200
    # Flat at 100 for ten minutes, then one candle dips to 96 and closes at 100: only its inside crosses the stop.
    rows = [f"{start_s + 60 * n},100,100,100,100,5" for n in range(10)]
    rows += [
        f"{start_s + 600},100,100.5,96,100,5",
        *(f"{start_s + 660 + 60 * n},100,100,100,100,5" for n in range(500)),
    ]
    path = tmp_path / "dip.csv"
    path.write_text("time,open,high,low,close,volume\n" + "\n".join(rows) + "\n")
    now = time.time()
    clock = {"CLOCK_ANCHOR_REAL": str(now), "CLOCK_ANCHOR": str(start_s + 300.0), "CLOCK_SPEED": "60"}
    with running(tmp_path, "--feed", "replay", "--replay-file", str(path), env=clock) as server:
        health = requests.get(f"{server.url}/paper/health", timeout=5).json()
        assert (health["feed"], health["replay_ends_at"][:10]) == ("replay", "2025-05-20")
        asked = {"symbol": "BTCUSDT", "type": "STOP_MARKET", "side": "SELL", "quantity": "0.5", "stop_Price": "97"}
        made = server.wallex("POST", "/v1/account/orders", json=asked | {"client_id": "S"})
        assert made.status_code == 201
        order = wait_for(
            lambda: (o := server.wallex("GET", "/v1/account/orders/S").json()["result"])["active"] is False and o, 15
        )
        assert order["status"] == "FILLED"
        assert Decimal("95") < Decimal(order["executedPrice"]) < Decimal("97")
        record = next(row for row in truth(server, "wallex")["orders"] if row["client_order_id"] == "S")
        assert record["triggered_at"].startswith("2025-05-20T00:10:")


def test_the_control_door_needs_its_token(tmp_path):
    with running(tmp_path) as server:
        assert requests.get(f"{server.url}/paper/accounts/demo", timeout=5).status_code == 401
        assert server.control("GET", "/accounts/nobody").status_code == 404
        made = server.control("POST", "/accounts", json={"name": "eve", "balances": {"nobitex": {"USDT": "50"}}}).json()
        wallets = server.nobitex("GET", "/v2/wallets", token=made["nobitex_token"]).json()["wallets"]
        assert wallets["USDT"]["balance"] == "50"
        assert server.wallex("GET", "/v1/account/profile", key=made["wallex_key"]).status_code == 200
        assert server.control("POST", "/accounts", json={"name": "eve"}).status_code == 400
        bad = server.control("POST", "/accounts", json={"name": "x", "balances": {"nobitex": {"USDT": "-1"}}})
        assert bad.status_code == 400
        database = (tmp_path / "data" / "paper.sqlite3").read_bytes()
        assert made["nobitex_token"].encode() not in database


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "providers.paper", "--port", "0", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--host", "0.0.0.0"), "not a loopback address"),
        (("--feed", "replay"), "needs --replay-file"),
        (("--feed", "replay", "--replay-file", "/nowhere.csv"), "cannot be read"),
        (("--feed", "mirror"), "needs --mirror-nobitex-url"),
        (("--feed", "mirror", "--mirror-wallex-url", "http://127.0.0.1:9"), "does not answer"),
        (("--accounts", "/nowhere.json"), "/nowhere.json"),
    ],
)
def test_what_cannot_start_says_why_in_one_sentence(tmp_path, arguments, sentence):
    result = start("--data-dir", str(tmp_path / "d"), *arguments)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_a_mirror_shows_and_trades_the_prices_of_another_exchange(tmp_path):
    for name in ("upstream", "mirror"):
        (tmp_path / name).mkdir()
    with running(tmp_path / "upstream", "--seed", "9") as upstream:
        urls = ("--mirror-nobitex-url", f"{upstream.url}/nobitex", "--mirror-wallex-url", f"{upstream.url}/wallex")
        with running(tmp_path / "mirror", "--feed", "mirror", *urls) as mirror:
            assert abs(last(mirror) / last(upstream) - 1) < Decimal("0.02")
            now = int(time.time()) // 60 * 60
            path = f"/market/udf/history?symbol=BTCUSDT&resolution=1&from={now - 3600}&to={now - 60}"
            final = candles(upstream, path)
            assert len(final) == 60

            def is_heard() -> bool:
                shown = candles(mirror, path)
                # A candle may come a poll after its end, never with other figures than the final ones.
                assert shown.items() <= final.items()
                return shown == final

            wait_for(is_heard, 15)
            assert mirror.nobitex("GET", path).json() == upstream.nobitex("GET", path).json()
            buy = {"symbol": "BTCUSDT", "type": "MARKET", "side": "BUY", "quantity": "0.01", "client_id": "B"}
            order = mirror.wallex("POST", "/v1/account/orders", json=buy).json()["result"]
            assert order["status"] == "FILLED"
            assert abs(Decimal(order["executedPrice"]) / last(upstream) - 1) < Decimal("0.03")
            before = last(mirror)
            upstream.move_price("BTC/USDT", str((before * Decimal("0.9")).quantize(Decimal("0.01"))))
            wait_for(lambda: last(mirror) < before * Decimal("0.95"), 15)
