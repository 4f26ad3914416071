"""manage.py stream_market_data as a process of its own, against the paper exchange's own streams."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.conf import settings

from algo import exchanges
from algo.live.market_feed import READ_TIMEOUT, FeedReader
from algo.live.redis_link import connect
from algo.live.streamed import StreamedProvider
from algo.models import Candle as StoredCandle
from algo.models import Heartbeat, Market, MarketQuote
from algo.services.candles import candles_update
from algo.services.markets import markets_refresh
from providers.nobitex.client import NobitexClient
from providers.types import Candle, OrderRequest, OrderType, Resolution, Side
from tests.execution.processes import environment, restarted, said, seconds_to_stop, started, wait_for
from tests.factories import make_account, make_config, make_open_deal
from tests.live.streams import HandClock
from tests.paper.world import TOKEN, running

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]

COMMAND = ("manage.py", "stream_market_data", "--provider")
DEAD_REDIS = "redis://127.0.0.1:1/0"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(tmp_path_factory.mktemp("exchange"), "--seed", "4", "--no-rate-limits") as server:
        yield server


@pytest.fixture
def reader() -> FeedReader:
    server = connect(settings.REDIS_URL, READ_TIMEOUT)
    for name in server.scan_iter("algo:feed:1:*"):
        server.delete(name)
    return FeedReader(server, exchanges.CLOCK)


@pytest.fixture
def market(server) -> Market:
    """BTCUSDT at Nobitex, with a strategy that reads and trades it."""
    markets_refresh(NobitexClient(f"{server.url}/nobitex"), now=datetime.now(UTC))
    market = Market.objects.get(symbol="BTCUSDT", provider="nobitex")
    make_config(account=make_account(provider="nobitex"), market=market, data_market=market)
    return market


def age(reader: FeedReader, symbol: str = "BTCUSDT") -> float:
    found = reader.book("nobitex", symbol)
    return (exchanges.CLOCK.now() - found.book.as_of).total_seconds() if found else 1e9


def quote_age() -> float:
    quote = MarketQuote.objects.filter(market__symbol="BTCUSDT").first()
    return (datetime.now(UTC) - quote.as_of).total_seconds() if quote else 1e9


def test_it_feeds_redis_and_the_guardian_and_stops_at_once(server, market, reader, tmp_path):
    with started(tmp_path, *COMMAND, "nobitex", env=environment(server)) as process:
        wait_for(lambda: age(reader) < 2, 15, "a fresh book in Redis", folder=tmp_path)
        wait_for(lambda: quote_age() < 2, 5, "a fresh quote in PostgreSQL", folder=tmp_path)
        wait_for(_is_up, 8, "a heartbeat", folder=tmp_path)
        book = reader.book("nobitex", "BTCUSDT").book
        quote = MarketQuote.objects.get(market=market)
        assert abs(quote.bid / book.best_bid - 1) < Decimal("0.05")
        running = lambda: reader.running_candle("nobitex", "BTCUSDT", Resolution.M1)  # noqa: E731 - told every 10 s
        wait_for(lambda: running() is not None, 15, "a running candle", folder=tmp_path)
        assert seconds_to_stop(process) < 2.5
    assert "Traceback" not in said(tmp_path)
    assert reader.health("nobitex").is_up is False


def _is_up() -> bool:
    beat = Heartbeat.objects.filter(name="stream:nobitex").first()
    return bool(beat and beat.detail["up"])


def test_strategies_read_closed_candles_without_a_request_to_the_exchange(server, market, reader, tmp_path):
    moment = HandClock()  # what was complete at one moment is complete for that moment
    then = FeedReader(connect(settings.REDIS_URL, READ_TIMEOUT), moment)

    def newest_two() -> tuple[datetime, datetime]:
        return moment.at - timedelta(minutes=2), moment.at

    def is_told() -> bool:
        # A minute may end while the stream begins: which candles are the newest is settled when they are there.
        moment.at = datetime.now(UTC).replace(second=0, microsecond=0)
        return then.candles("nobitex", "BTCUSDT", Resolution.M1, *newest_two()) is not None

    with started(tmp_path, *COMMAND, "nobitex", env=environment(server)) as process:
        wait_for(is_told, 20, "closed candles in Redis", folder=tmp_path)
        seconds_to_stop(process)
    inside = NobitexClient(f"{server.url}/nobitex")
    provider = StreamedProvider(inside, then, moment)
    server.control("DELETE", "/requests")
    assert candles_update(market, Resolution.M1, provider, now=moment.at, bars=2) == 2  # type: ignore[arg-type]
    assert server.control("GET", "/requests").json()["requests"] == []
    truth = inside.candles("BTCUSDT", Resolution.M1, *newest_two())
    assert server.control("GET", "/requests").json()["requests"] != []  # that one was counted
    stored = StoredCandle.objects.filter(market=market).order_by("open_time")
    told = [Candle(row.open_time, row.open, row.high, row.low, row.close, row.volume) for row in stored]
    assert (told, len(told)) == (list(truth), 2)


def test_an_accounts_own_orders_become_hints_to_the_workers(server, market, tmp_path):
    broker = connect(settings.REDIS_URL, 1.0)
    broker.delete("orders")
    account = make_account(provider="nobitex", api_key=TOKEN, environment="paper")
    make_open_deal(make_config(account=account, market=market, data_market=market))
    client = NobitexClient(f"{server.url}/nobitex", api_key=TOKEN)
    with started(tmp_path, *COMMAND, "nobitex", env=environment(server)):
        wait_for(lambda: f"account={account.name} up=True" in said(tmp_path), 20, "its order stream", folder=tmp_path)
        wait_for(lambda: broker.llen("orders"), 5, "a look at what happened before", folder=tmp_path)
        time.sleep(1)
        broker.delete("orders")
        request = OrderRequest("HINT0001", "BTCUSDT", Side.BUY, OrderType.MARKET, Decimal("0.001"))
        client.create_order(request)
        wait_for(lambda: broker.llen("orders"), 8, "a hint", folder=tmp_path)
        tasks = {json.loads(message)["headers"]["task"] for message in broker.lrange("orders", 0, -1)}
        assert tasks == {"algo.tasks.advance_account"}
        assert TOKEN not in said(tmp_path)
    broker.delete("orders")


def test_it_outlives_a_dead_redis_and_a_restart_of_the_exchange(server, market, tmp_path):
    env = environment(server, REDIS_URL=DEAD_REDIS)
    with started(tmp_path, *COMMAND, "nobitex", env=env) as process:
        wait_for(lambda: quote_age() < 2, 15, "a fresh quote without Redis", folder=tmp_path)
        restarted(server)
        wait_for(lambda: quote_age() < 2, 30, "a fresh quote after the restart", folder=tmp_path)
        assert process.poll() is None, said(tmp_path)
        assert seconds_to_stop(process) < 2.5
    assert "Traceback" not in said(tmp_path)


def test_it_waits_for_a_database_that_is_not_there(server, tmp_path):
    url = "postgres://nobody:hunter2@127.0.0.1:9/none"
    with started(tmp_path, *COMMAND, "nobitex", "wallex", env=environment(server, DATABASE_URL=url)) as process:
        wait_for(lambda: "no database" in said(tmp_path), 15, "its complaint", folder=tmp_path)
        assert process.poll() is None
        assert seconds_to_stop(process) < 2.5
    assert "hunter2" not in said(tmp_path)
