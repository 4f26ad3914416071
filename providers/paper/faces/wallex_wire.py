"""Wallex' payloads: platform values to JSON, spelled as the contract spells them (contract: wallex 2 to 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from providers.paper.coins import ALL as MADE_UP
from providers.paper.faces.charts import DayFigures
from providers.paper.faces.common import places, plain
from providers.paper.orders import Book, Order, State, Trade
from providers.paper.profiles import MarketProfile, VenueProfile
from providers.types import ZERO, Balance, BookLevel, OrderType, Side

NAMES = {
    "BTC": ("بیت کوین", "Bitcoin"),
    "ETH": ("اتریوم", "Ethereum"),
    "DOGE": ("دوج کوین", "Dogecoin"),
    "XRP": ("ریپل", "Ripple"),
    "SOL": ("سولانا", "Solana"),
    "ADA": ("کاردانو", "Cardano"),
    "BNB": ("بایننس کوین", "BNB"),
    "TRX": ("ترون", "TRON"),
    "LTC": ("لایت کوین", "Litecoin"),
    "TON": ("تون کوین", "Toncoin"),
    "USDT": ("تتر", "Tether"),
    "TMN": ("تومان", "Toman"),
    **{coin.code: (f"کوین {coin.code}", f"Paper {coin.code}") for coin in MADE_UP},
}
_STATUS = {
    State.NEW: "NEW",
    State.INACTIVE: "NEW",
    State.OPEN: "NEW",
    State.FILLED: "FILLED",
    State.CANCELED: "CANCELED",
}


@dataclass(frozen=True, slots=True)
class Style:
    """The quirks of the payloads that are switched on."""

    last_quantity_is_price: bool = True
    partial_status: str = "NEW"
    executed_price_before_fills: bool = True

    @classmethod
    def of(cls, profile: VenueProfile) -> Style:
        return cls(**{name: profile.switch(name) for name in cls.__slots__})


_PLAIN = Style()


def asset_name(asset: str) -> str:
    """Ours to theirs: toman is TMN."""
    return "TMN" if asset == "IRT" else asset


def symbol_of(pair: str) -> str:
    base, quote = pair.split("/")
    return base + asset_name(quote)


def iso(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")[:26] + "Z"


def short_iso(at: datetime) -> str:
    """Without the microseconds, as some times come (2)."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def order_row(order: Order, market: MarketProfile, style: Style = _PLAIN) -> dict[str, Any]:
    """The order object (5.2). `price` of a MARKET order is its execution price."""
    is_market = order.type in (OrderType.MARKET, OrderType.STOP_MARKET)
    average = order.average_price
    price = (average or order.stop_price or ZERO) if is_market else (order.price or ZERO)
    value = None if is_market or order.price is None else places(order.price * order.quantity)
    percent = order.filled / order.quantity * 100
    untouched = order.price or ZERO if style.executed_price_before_fills else ZERO
    is_partial = order.state is State.OPEN and bool(order.filled)
    row: dict[str, Any] = {
        "symbol": symbol_of(order.pair),
        "type": order.type.value,
        "side": order.side.value,
        "clientOrderId": order.client_id,
        "price": places(price),
        "origQty": places(order.quantity),
        "origSum": value,
        "executedSum": places(order.filled_quote),
        "executedQty": places(order.filled),
        "executedPrice": places(average if average is not None else untouched),
        "sum": value,
        "fee": places(order.fee),
        "executedPercent": int(percent) if percent == int(percent) else float(round(percent, 2)),
        "status": style.partial_status if is_partial else _STATUS[order.state],
        "active": order.state.is_working,
        "fills": [fill_row(trade, market) for trade in order.trades],
        "transactTime": int(order.updated_at.timestamp()),
        "created_at": iso(order.created_at),
        "updated_at": iso(order.updated_at),
    }
    if order.stop_price is not None:
        row |= {"stopPrice": places(order.stop_price), "stopPriceCondition": order.trigger}
    return row


def fill_row(trade: Trade, market: MarketProfile) -> dict[str, Any]:
    """One element of `fills` (5.3): no trade id on this exchange."""
    return {
        "price": places(trade.price),
        "quantity": places(trade.quantity),
        "fee": places(trade.fee),
        "feeCoefficient": places(trade.fee_rate),
        "feeAsset": asset_name(trade.fee_asset),
        "timestamp": iso(trade.executed_at),
        "symbol": symbol_of(trade.pair),
        "sum": places(trade.total),
        "makerFeeCoefficient": places(market.maker_fee_rate),
        "takerFeeCoefficient": places(market.taker_fee_rate),
        "isBuyer": trade.side is Side.BUY,
    }


def trade_row(trade: Trade) -> dict[str, Any]:
    """One of `AccountLatestTrades` (5.4): neither trade id nor order id."""
    return {
        "symbol": symbol_of(trade.pair),
        "quantity": places(trade.quantity),
        "price": places(trade.price),
        "sum": places(trade.total),
        "fee": places(trade.fee),
        "feeCoefficient": places(trade.fee_rate),
        "feeAsset": asset_name(trade.fee_asset),
        "isBuyer": trade.side is Side.BUY,
        "timestamp": iso(trade.executed_at),
    }


def balance_row(asset: str, balance: Balance | None) -> dict[str, Any]:
    """`value` is the total, `locked` a part of it (4.1)."""
    name = asset_name(asset)
    return {
        "asset": name,
        "faName": NAMES[name][0],
        "fiat": name == "TMN",
        "value": plain(balance.total) if balance else "0",
        "locked": plain(balance.locked) if balance else "0",
    }


def fee_row(market: MarketProfile) -> dict[str, Any]:
    rates = {"makerFeeRate": market.maker_fee_rate, "takerFeeRate": market.taker_fee_rate}
    return {name: places(rate, 8) for name, rate in rates.items()} | {"recent_days_sum": 0}


def market_row(
    market: MarketProfile,
    book: Book,
    day: DayFigures | None,
    created: datetime,
    *,
    style: Style = _PLAIN,
    has_direction: bool = True,
    takes_market_orders: bool = True,
    toman: Decimal = ZERO,
) -> dict[str, Any]:
    """One of `symbols` (3.1). Sizes are numbers of decimals here, not grids. `toman` is the price of the quote."""
    base, quote = market.base, asset_name(market.quote)
    return {
        "symbol": symbol_of(market.pair),
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 0 if quote == "TMN" else 8,
        "faName": f"{NAMES[base][0]} - {NAMES[quote][0]}",
        "enName": f"{NAMES[base][1]} - {NAMES[quote][1]}",
        "faBaseAsset": NAMES[base][0],
        "enBaseAsset": NAMES[base][1],
        "faQuoteAsset": NAMES[quote][0],
        "enQuoteAsset": NAMES[quote][1],
        "stepSize": decimals(market.step_size),
        "tickSize": decimals(market.tick_size),
        "minQty": float(market.min_quantity),
        "minNotional": float(market.min_notional),
        "stats": _stats(book, day, style, toman=toman, has_direction=has_direction),
        "createdAt": short_iso(created),
        "isNew": False,
        "isZeroFee": False,
        "isMarketTypeEnable": takes_market_orders,
    }


def decimals(grid: Decimal) -> int:
    """A grid as its number of decimals: 0.01 is 2, 1 is 0."""
    return max(-int(grid.normalize().as_tuple().exponent), 0)


def _stats(book: Book, day: DayFigures | None, style: Style, *, toman: Decimal, has_direction: bool) -> dict[str, Any]:
    """With its known defects: `lastQty` carries the last price; no trades give "-" and `[]`."""
    best_bid = book.bids[0] if book.bids else BookLevel(ZERO, ZERO)
    best_ask = book.asks[0] if book.asks else BookLevel(ZERO, ZERO)
    row: dict[str, Any] = {
        "bidPrice": places(best_bid.price),
        "askPrice": places(best_ask.price),
        "bidVolume": places(best_bid.quantity),
        "askVolume": places(best_ask.quantity),
        "bidCount": min(len(book.bids), 50),
        "askCount": min(len(book.asks), 50),
        "7d_ch": "-",
        "7d_volume": "-",
    }
    if day is None:
        missing = ("24h_ch", "24h_volume", "24h_quoteVolume", "24h_highPrice", "24h_lowPrice", "24h_tmnVolume")
        return row | dict.fromkeys((*missing, "lastPrice", "lastQty"), "-") | {"direction": []}
    return row | {
        "24h_ch": float(round(day.change_percent, 2)),
        "24h_volume": places(day.volume),
        "24h_quoteVolume": places(day.quote_volume),
        "24h_highPrice": places(day.high),
        "24h_lowPrice": places(day.low),
        "24h_tmnVolume": places(day.quote_volume * toman),
        "lastPrice": places(day.last),
        "lastQty": places(day.last if style.last_quantity_is_price else best_bid.quantity),
        "lastTradeSide": "BUY" if day.last >= day.open else "SELL",
        "direction": _direction(book) if has_direction else [],
    }


def _direction(book: Book) -> dict[str, int] | list[int]:
    """Shares of sellers and buyers in the book, 100 in all."""
    buying, selling = (sum((level.quantity for level in side), ZERO) for side in (book.bids, book.asks))
    if not buying + selling:
        return []
    share = int(buying / (buying + selling) * 100)
    return {"SELL": 100 - share, "BUY": share}


def hector_row(
    market: MarketProfile, day: DayFigures | None, created: datetime, *, takes_market_orders: bool = True
) -> dict[str, Any]:
    """One of hector's `markets` (3.2): snake case, no minimum."""
    base, quote = market.base, asset_name(market.quote)
    return {
        "symbol": symbol_of(market.pair),
        "base_asset": base,
        "quote_asset": quote,
        "fa_base_asset": NAMES[base][0],
        "fa_quote_asset": NAMES[quote][0],
        "en_base_asset": NAMES[base][1],
        "en_quote_asset": NAMES[quote][1],
        "categories": [],
        "amount_precision": decimals(market.step_size),
        "price_precision": decimals(market.tick_size),
        "price": plain(day.last) if day else "0",
        "volume_24h": plain(day.volume) if day else "0",
        "quote_volume_24h": plain(day.quote_volume) if day else "0",
        "change_24h": float(round(day.change_percent, 2)) if day else 0,
        "change_7D": 0,
        "is_spot": True,
        "is_otc": False,
        "is_margin": False,
        "is_tmn_based": quote == "TMN",
        "is_usdt_based": quote == "USDT",
        "is_zero_fee": False,
        "is_new": False,
        "spot_is_new": False,
        "otc_is_new": False,
        "is_market_type_enable": takes_market_orders,
        "leverage_step": 0,
        "max_leverage": 0,
        "fair_price": {"ask": "0", "bid": "0", "threshold": "0"},
        "created_at": iso(created),
        "flags": [],
    }


def depth_rows(levels: tuple[BookLevel, ...], *, price_as_number: bool) -> list[dict[str, Any]]:
    """One side of the book (3.3): the quantity is a JSON number, the price a string or (switch) a number."""
    return [
        {
            "price": float(level.price) if price_as_number else places(level.price),
            "quantity": float(level.quantity),
            "sum": places(level.price * level.quantity),
        }
        for level in levels
    ]


def otc_row(market: MarketProfile, day: DayFigures | None, created: datetime) -> dict[str, Any]:
    """One market of instant trade (8), for reading only."""
    figures = {"lastPrice": day.last, "24h_highPrice": day.high, "24h_lowPrice": day.low} if day else {}
    return {
        "symbol": symbol_of(market.pair),
        "baseAsset": market.base,
        "quoteAsset": asset_name(market.quote),
        "stepSize": decimals(market.step_size),
        "tickSize": decimals(market.tick_size),
        "minQty": float(market.min_quantity),
        "minNotional": float(market.min_notional),
        "maxNotional": float(market.min_notional * 10_000),
        "stats": {name: float(value) for name, value in figures.items()}
        | {"24h_ch": float(round(day.change_percent, 2)) if day else 0},
        "buyStatus": "ENABLE",
        "sellStatus": "ENABLE",
        "exchangeStatus": "ENABLE",
        "createdAt": short_iso(created),
    }


def currency_row(asset: str, rank: int, day: DayFigures | None, now: datetime) -> dict[str, Any]:
    """One of `currencies/stats` (3.7): figures of the world in dollars, half of them null. Not to be traded on."""
    name = NAMES[asset]
    unknown = ("dominance", "market_cap", "ath", "ath_change_percentage", "ath_date", "weekly_high_price",
               "weekly_low_price", "max_supply", "total_supply", "circulating_supply")  # fmt: skip
    changes = [f"percent_change_{span}" for span in ("1h", "7d", "14d", "30d", "60d", "200d", "1y")]
    changes += [f"price_change_{span}" for span in ("24h", "7d", "14d", "30d", "60d", "200d", "1y")]
    row: dict[str, Any] = {"key": asset, "name": name[0], "name_en": name[1], "rank": rank}
    row |= dict.fromkeys((*unknown, *changes))
    row |= {
        "price": float(day.last) if day else None,
        "daily_high_price": float(day.high) if day else None,
        "daily_low_price": float(day.low) if day else None,
        "volume_24h": float(day.quote_volume) if day else None,
        "percent_change_24h": float(round(day.change_percent, 6)) if day else None,
    }
    return row | {"created_at": "2024-01-01T00:00:00.000000Z", "updated_at": iso(now)}
