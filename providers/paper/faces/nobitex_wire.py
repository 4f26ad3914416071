"""Nobitex' payloads: platform values to JSON. Toman becomes rial here (x 10), except in candles (nobitex 4.5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from providers.paper.coins import ALL as MADE_UP
from providers.paper.faces.charts import Chart, DayFigures
from providers.paper.faces.common import plain
from providers.paper.keys import ApiKey
from providers.paper.orders import Book, Order, State, Trade
from providers.paper.profiles import MarketProfile, VenueProfile
from providers.types import ZERO, Balance, BookLevel, OrderType

RIALS = 10
_GROUP = 100  # ticks in one level of v2/depth
# The order is that of the wallet numbers: append, never insert.
NAMES = {
    "BTC": "Bitcoin", "ETH": "Ethereum", "DOGE": "Dogecoin", "USDT": "Tether", "IRT": "﷼", "XRP": "Ripple",
    "SOL": "Solana", "ADA": "Cardano", "BNB": "Binance Coin", "TRX": "TRON", "LTC": "Litecoin", "TON": "Toncoin",
    **{coin.code: f"Paper {coin.code}" for coin in MADE_UP},
}  # fmt: skip
_PLACES = {asset: place for place, asset in enumerate(NAMES)}
STATUS = {
    State.NEW: "New",
    State.INACTIVE: "Inactive",
    State.OPEN: "Active",
    State.FILLED: "Done",
    State.CANCELED: "Canceled",
}
EXECUTIONS = {
    "limit": OrderType.LIMIT,
    "market": OrderType.MARKET,
    "stop_limit": OrderType.STOP_LIMIT,
    "stop_market": OrderType.STOP_MARKET,
}
LABELS = {
    OrderType.LIMIT: "Limit",
    OrderType.MARKET: "Market",
    OrderType.STOP_LIMIT: "StopLimit",
    OrderType.STOP_MARKET: "StopMarket",
}


UNKNOWN_FIELD = "simUndocumented"  # what no document names and a client has to overlook (nobitex 11)


@dataclass(frozen=True, slots=True)
class Style:
    """The awkward shapes that are switched on."""

    numeric_zeros: bool = True
    exponent_zeros: bool = True
    rial_name_varies: bool = True
    extra_unknown_fields: bool = True

    @classmethod
    def of(cls, profile: VenueProfile) -> Style:
        return cls(**{name: profile.switch(name) for name in cls.__slots__})

    def dressed(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {UNKNOWN_FIELD: {"note": "a client overlooks this"}} if self.extra_unknown_fields else row

    def name(self, asset: str, number: int) -> str:
        """The display name; rial has two."""
        return "ریال" if asset == "IRT" and self.rial_name_varies and number % 2 else NAMES[asset]

    def zero(self) -> int | str:
        return 0 if self.numeric_zeros else "0"


def code_of(asset: str) -> str:
    """Ours to theirs, as in requests: `btc`, `rls`."""
    return "rls" if asset == "IRT" else asset.lower()


def symbol_of(pair: str) -> str:
    return pair.replace("/", "")


def market_of(pair: str) -> str:
    """`BTC-RLS`, as in order objects."""
    base, quote = pair.split("/")
    return f"{base}-{code_of(quote).upper()}"


def stats_key(pair: str) -> str:
    base, quote = pair.split("/")
    return f"{code_of(base)}-{code_of(quote)}"


def unit(asset: str) -> int:
    """How many of theirs make one of ours."""
    return RIALS if asset == "IRT" else 1


def money(value: Decimal, asset: str) -> str:
    return plain(value * unit(asset))


def iso(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")[:26] + "+00:00"


def order_row(order: Order, style: Style) -> dict[str, Any]:
    """The full superset of the order object (6.2), with its awkward shapes: `"market"` and a numeric 0 fee."""
    base, quote = order.pair.split("/")
    is_market = order.type in (OrderType.MARKET, OrderType.STOP_MARKET)
    reference = order.price or order.stop_price or order.average_price or ZERO
    average = order.average_price
    row: dict[str, Any] = {
        "id": order.id,
        "type": order.side.value.lower(),
        "execution": LABELS[order.type],
        "tradeType": "Spot",
        "market": market_of(order.pair),
        "srcCurrency": NAMES[base],
        "dstCurrency": style.name(quote, order.id),
        "price": "market" if is_market or order.price is None else money(order.price, quote),
        "amount": plain(order.quantity),
        "matchedAmount": plain(order.filled) if order.filled else style.zero(),
        "unmatchedAmount": plain(order.remaining),
        "totalOrderPrice": money(reference * order.quantity, quote),
        "totalPrice": money(order.filled_quote, quote),
        "averagePrice": "0" if average is None else plain(round(average * unit(quote), 10)),
        "fee": money(order.fee, order.fee_asset) if order.fee else style.zero(),
        "status": STATUS[order.state],
        "partial": bool(order.filled) and bool(order.remaining),
        "created_at": iso(order.created_at),
        "clientOrderId": order.client_id,
    }
    if order.stop_price is not None:
        row["param1"] = money(order.stop_price, quote)
    if order.pair_id is not None:
        row["pairId"] = order.pair_id
    return style.dressed(row)


_SHORT = ("type", "execution", "tradeType", "srcCurrency", "dstCurrency", "price", "param1", "amount", "matchedAmount")


def short_row(order: Order, style: Style) -> dict[str, Any]:
    """`details=1`: no id, no status (6.2)."""
    return {name: value for name, value in order_row(order, style).items() if name in _SHORT}


def trade_row(trade: Trade, style: Style) -> dict[str, Any]:
    """One of `trades/list` (6.10)."""
    base, quote = trade.pair.split("/")
    row = {
        "id": trade.id,
        "orderId": trade.order_id,
        "srcCurrency": NAMES[base],
        "dstCurrency": style.name(quote, trade.id),
        "market": market_of(trade.pair),
        "timestamp": iso(trade.executed_at),
        "type": trade.side.value.lower(),
        "price": money(trade.price, quote),
        "amount": plain(trade.quantity),
        "total": money(trade.total, quote),
        "fee": money(trade.fee, trade.fee_asset),
    }
    return style.dressed(row)


def key_row(key: ApiKey) -> dict[str, Any]:
    """An API key as `apikeys/*` shows it (3.2): never its private half."""
    return {
        "key": key.id,
        "name": key.name,
        "description": key.description,
        "permissions": ",".join(sorted(key.permissions)),
        "ipAddressesWhitelist": list(key.addresses),
        "expirationDate": iso(key.expires_at) if key.expires_at else None,
        "createdAt": iso(key.created_at),
        "updatedAt": iso(key.updated_at),
    }


def wallet_number(account: int, asset: str) -> int:
    return account * 100 + _PLACES[asset]


def wallet_row(number: int, balance: Balance, rial_price: Decimal) -> dict[str, Any]:
    """One of `users/wallets/list` (5.2); `rialBalance` is a number."""
    rials = int(balance.total * rial_price)
    return {
        "depositAddress": None,
        "depositTag": None,
        "depositInfo": {},
        "id": number,
        "currency": code_of(balance.asset),
        "balance": money(balance.total, balance.asset),
        "blockedBalance": money(balance.locked, balance.asset),
        "activeBalance": money(balance.available, balance.asset),
        "rialBalance": rials,
        "rialBalanceSell": rials,
    }


def short_wallet(number: int, balance: Balance, style: Style) -> dict[str, Any]:
    """One of `v2/wallets`; zero is spelled as the exchange spells it."""
    total = money(balance.total, balance.asset) if balance.total or not style.exponent_zeros else "0E-10"
    return {"id": number, "balance": total, "blocked": money(balance.locked, balance.asset)}


def book_row(book: Book, last: Decimal | None, quote: str, at_ms: int) -> dict[str, Any]:
    """Depth (4.1): asks ascending, bids descending, `[price, amount]`."""
    return {
        "lastUpdate": at_ms,
        "lastTradePrice": money(last, quote) if last is not None else "0",
        "asks": [_level(level, quote) for level in book.asks],
        "bids": [_level(level, quote) for level in book.bids],
    }


def depth_row(book: Book, last: Decimal | None, quote: str, tick: Decimal, at_ms: int) -> dict[str, Any]:
    """`v2/depth` (4.2): a text for a time, grouped prices, amounts that add up from the market outwards, and bids that
    run upwards."""
    asks = _grouped(book.asks, tick * _GROUP, ROUND_CEILING)
    bids = _grouped(book.bids, tick * _GROUP, ROUND_FLOOR)
    return {
        "lastUpdate": str(at_ms),
        "lastTradePrice": money(last, quote) if last is not None else "0",
        "asks": [_level(level, quote) for level in asks],
        "bids": [_level(level, quote) for level in reversed(bids)],
    }


def _grouped(levels: tuple[BookLevel, ...], grid: Decimal, rounding: str) -> list[BookLevel]:
    sums: dict[Decimal, Decimal] = {}
    total = ZERO
    for level in levels:
        total += level.quantity
        sums[(level.price / grid).to_integral_value(rounding) * grid] = total
    return [BookLevel(price, amount) for price, amount in sums.items()]


def _level(level: BookLevel, quote: str) -> list[str]:
    return [money(level.price, quote), plain(level.quantity)]


def stats_row(book: Book, day: DayFigures | None, quote: str) -> dict[str, Any]:
    """One market of `market/stats` (4.4)."""
    if day is None or not book.asks or not book.bids:
        return {"isClosed": True}
    prices = {
        "bestSell": book.asks[0].price,
        "bestBuy": book.bids[0].price,
        "volumeDst": day.quote_volume,
        "latest": day.last,
        "mark": day.last,
        "dayLow": day.low,
        "dayHigh": day.high,
        "dayOpen": day.open,
        "dayClose": day.last,
    }
    texts = {name: money(value, quote) for name, value in prices.items()}
    change = format(day.change_percent, ".2f")
    return {"isClosed": False, "volumeSrc": plain(day.volume), **texts, "dayChange": change}


def chart_row(chart: Chart) -> dict[str, Any]:
    """Candles (4.5): JSON numbers, in toman for IRT symbols."""
    columns = {"o": chart.open, "h": chart.high, "l": chart.low, "c": chart.close, "v": chart.volume}
    return {"s": "ok", "t": chart.times} | {name: [number(v) for v in column] for name, column in columns.items()}


def number(value: Decimal) -> int | float:
    """A JSON number: whole numbers without a point."""
    return int(value) if value == value.to_integral_value() else float(value)


def options_row(markets: list[MarketProfile]) -> dict[str, Any]:
    """`v2/options` (4.7): steps and ticks as grids, ticks in rial."""
    assets = sorted({asset for market in markets for asset in (market.base, market.quote)})
    codes = [code_of(asset) for asset in assets]
    coins = [
        {"coin": code_of(a), "name": NAMES[a], "stdName": NAMES[a], "defaultNetwork": a, "displayPrecision": "0.01",
         "networkList": {}}
        for a in assets
    ]  # fmt: skip
    return {
        "status": "ok",
        "features": {"fcmEnabled": False, "chat": "", "walletsToNet": False, "autoKYC": False,
                     "enabledFeatures": ["StopLoss", "OCO"], "betaFeatures": []},
        "coins": coins,
        "nobitex": {
            "allCurrencies": codes,
            "activeCurrencies": codes,
            "topCurrencies": codes,
            "xchangeCurrencies": [],
            "testingCurrencies": [],
            "minOrders": _minimums(markets),
            "amountPrecisions": {symbol_of(m.pair): plain(m.step_size) for m in markets},
            "pricePrecisions": {symbol_of(m.pair): money(m.tick_size, m.quote) for m in markets},
        },
    }  # fmt: skip


def _minimums(markets: list[MarketProfile]) -> dict[str, str]:
    """By quote, and again under the exchange's internal ids (2 is rls, 13 is usdt)."""
    values = {code_of(market.quote): money(market.min_notional, market.quote) for market in markets}
    ids = {"rls": "2", "usdt": "13"}
    return values | {ids[code]: value for code, value in values.items()}
