"""The stream samples of the exchanges' documents, read by the real schemas and the real functions."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from providers.nobitex import stream as nobitex
from providers.nobitex.centrifugo import TolerantCodec, loads, payload
from providers.nobitex.stream_schemas import OrderEventSchema
from providers.stream_link import Drops, Link, StreamTiming
from providers.types import Side
from providers.wallex import stream as wallex
from providers.wire import parse

RECEIVED = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def samples(shared: Path) -> Path:
    return shared / "data" / "documented"


@pytest.fixture
def codec() -> TolerantCodec:
    link = Link("x", None, StreamTiming(), on_up=lambda: None, on_down=lambda reason: None)  # type: ignore[arg-type]
    return TolerantCodec(link, Drops("x"), None)


def load(path: Path) -> Any:
    return loads(path.read_text())


def pushed(codec: TolerantCodec, path: Path) -> tuple[str, Any]:
    """(channel, data) of a recorded push, on one line as it is on the wire."""
    (reply,) = codec.decode_replies(json.dumps(json.loads(path.read_text())))
    return reply["push"]["channel"], reply["push"]["pub"]["data"]


@pytest.mark.parametrize("raw", [True, False])
def test_nobitex_book(samples: Path, codec: TolerantCodec, raw: bool) -> None:
    name = samples / "nobitex" / ("ws_orderbook_push_raw.json" if raw else "ws_orderbook_data.json")
    channel, data = pushed(codec, name) if raw else ("public:orderbook-BTCIRT", load(name))
    book = nobitex._book(channel.removeprefix("public:orderbook-"), data)
    assert (book.best_bid, book.best_ask) == (3502008008, 3507790999)  # toman
    assert book.asks[0].quantity == Decimal("0.009433")
    assert book.last_price == 3507790999
    assert book.as_of == datetime(2024, 9, 17, 14, 3, 49, 816000, tzinfo=UTC)
    assert book.is_usable


@pytest.mark.parametrize("raw", [True, False])
def test_nobitex_candle(samples: Path, codec: TolerantCodec, raw: bool) -> None:
    name = samples / "nobitex" / ("ws_candle_push_raw.json" if raw else "ws_candle_data.json")
    candle = nobitex._candle(pushed(codec, name)[1] if raw else load(name))
    assert candle.open_time == datetime(2024, 11, 17, 14, 15, tzinfo=UTC)
    assert (candle.open, candle.high, candle.low) == (6240000001, 6250000000, 6238000000)
    assert (candle.close, candle.volume) == (6238031033, Decimal("1.26"))


def test_nobitex_public_trade(samples: Path) -> None:
    trade = nobitex._trade("BTCIRT", load(samples / "nobitex/ws_public_trades_data.json"), RECEIVED)
    assert (trade.price, trade.quantity, trade.side) == (12000000000, Decimal("0.000003"), Side.SELL)
    assert trade.executed_at == datetime(2025, 11, 10, 13, 26, 4, 192000, tzinfo=UTC)


def test_nobitex_hints(samples: Path, codec: TolerantCodec) -> None:
    order = parse(OrderEventSchema, load(samples / "nobitex/ws_private_orders_data.json"))
    assert (nobitex._market(order), order.orderId, order.clientOrderId) == ("BTCIRT", 278339, None)
    channel, data = pushed(codec, samples / "nobitex/ws_private_trades_push_raw.json")
    fill = parse(OrderEventSchema, payload(data))
    assert channel.startswith("private:trades#")
    assert fill == parse(OrderEventSchema, load(samples / "nobitex/ws_private_trades_data.json"))
    assert (nobitex._market(fill), fill.orderId) == ("BTCIRT", 520305923)


def test_nobitex_subscriptions_are_spelled_as_the_documents_spell_them(samples: Path) -> None:
    stream = nobitex.NobitexMarketStream("https://apiv2.nobitex.ir", rest=None)  # type: ignore[arg-type]
    channels = stream.channels("BTCIRT", [nobitex.Resolution.M15])
    for name in ("orderbook", "candle"):
        asked = load(samples / f"nobitex/ws_subscribe_{name}_request.json")["subscribe"]["channel"]
        assert asked in channels


@pytest.mark.parametrize(("stated", "renewed_after"), [(1200, 1080), (600, 540), (90000, 1080), (None, 1080)])
def test_a_token_is_renewed_when_a_tenth_of_its_life_is_left(stated: int | None, renewed_after: float) -> None:
    link = Link("x", None, StreamTiming(), on_up=lambda: None, on_down=lambda reason: None)  # type: ignore[arg-type]
    codec = TolerantCodec(link, Drops("x"), StreamTiming().token_life)
    body = {"client": "c"} if stated is None else {"client": "c", "expires": True, "ttl": stated}
    for name in ("connect", "refresh"):
        (reply,) = codec.decode_replies(json.dumps({"id": 1, name: body}))
        assert (reply[name]["expires"], reply[name]["ttl"]) == (True, renewed_after)


def test_wallex_old_shape_of_a_side(samples: Path) -> None:
    """Its prices are not in order in the sample; here the best is first."""
    levels = wallex._levels("USDTTMN", "@sellDepth", load(samples / "wallex/ws_sellDepth.json"))
    assert [(level.price, level.quantity) for level in levels] == [
        (31669, Decimal("331.55")),
        (31695, Decimal("214.86")),
    ]


def test_wallex_trade(samples: Path) -> None:
    trade = wallex._trade("USDTTMN", load(samples / "wallex/ws_trade.json"), RECEIVED)
    assert (trade.price, trade.quantity, trade.side) == (31704, 705, Side.SELL)
    assert trade.executed_at == datetime(2022, 6, 26, 11, 14, 9, tzinfo=UTC)


def test_every_stream_sample_has_a_reader_here_or_is_not_subscribed_to(samples: Path) -> None:
    here = Path(__file__).read_text()
    unused = {"ws_market_stats_all_data.json", "ws_marketCap.json"}  # statistics: neither is asked for
    requests = {path.name for path in samples.glob("*/ws_*request.json")}
    for path in samples.glob("*/ws_*.json"):
        assert path.name in here or path.name in unused | requests
