"""Nobitex wire <-> vocabulary. Pure. The only place where rial becomes toman (contract: nobitex 0, fact 1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from providers.errors import BadPayload, RejectReason
from providers.nobitex.results import DepthChart, Limitations, MarketStats, PublicTrade, Transaction, Usage, Wallet
from providers.nobitex.schemas import (
    CoinSchema,
    DayStatsSchema,
    Level,
    LimitationsSchema,
    ListedWalletSchema,
    MarketStatsSchema,
    NobitexStatus,
    OptionsSchema,
    OrderBookSchema,
    OrderSchema,
    OwnTradeSchema,
    ProfileOptionsSchema,
    TradeSchema,
    TransactionSchema,
    WalletSchema,
)
from providers.types import (
    ZERO,
    Balance,
    BookLevel,
    Fill,
    MarketRules,
    OcoRequest,
    OrderBook,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    Side,
)
from providers.wire import EXACT, from_milliseconds, jsonable, plain, wire_text

# Without a key: the percentages of the contract's profile sample (nobitex 5.1), the dearest it names.
DOCUMENTED_FEES = ProfileOptionsSchema(fee=Decimal("0.35"), feeUsdt=Decimal("0.2"))
MARKET_BAND = Decimal("0.01")  # contract: nobitex 0, fact 4
PRICE_BAND = Decimal("0.3")  # contract: nobitex 6.1

EXECUTIONS = {
    OrderType.MARKET: "market",
    OrderType.LIMIT: "limit",
    OrderType.STOP_MARKET: "stop_market",
    OrderType.STOP_LIMIT: "stop_limit",
}
_TYPES = {"Market": OrderType.MARKET, "Limit": OrderType.LIMIT}
_TYPES |= {"StopMarket": OrderType.STOP_MARKET, "StopLimit": OrderType.STOP_LIMIT}
_FINAL = {
    NobitexStatus.DONE: OrderStatus.FILLED,
    NobitexStatus.CANCELED: OrderStatus.CANCELED,
    NobitexStatus.REJECTED: OrderStatus.REJECTED,
}
_RIAL_NAMES = {"rls", "irt", "irr", "rial", "﷼", "ریال"}

DUPLICATES = {"DuplicateOrder", "DuplicateClientOrderId"}
# Codes that prove that no order was placed (contract: nobitex 6.4).
REASONS = {
    "InvalidOrderPrice": RejectReason.INVALID,
    "BadPrice": RejectReason.PRICE_OUT_OF_BAND,
    "PriceConditionFailed": RejectReason.STOP_ALREADY_CROSSED,
    "OverValueOrder": RejectReason.INSUFFICIENT_BALANCE,
    "InsufficientBalance": RejectReason.INSUFFICIENT_BALANCE,
    "SmallOrder": RejectReason.BELOW_MINIMUM,
    "InvalidMarketPair": RejectReason.INVALID,
    "MarketClosed": RejectReason.MARKET_CLOSED,
    "TradingUnavailable": RejectReason.OTHER,
    "FeatureUnavailable": RejectReason.OTHER,
    "ParseError": RejectReason.INVALID,
    "TradeLimitation": RejectReason.OTHER,
    "UnexpectedMarketPrice": RejectReason.PRICE_OUT_OF_BAND,
    "InvalidExecutionType": RejectReason.INVALID,
    "InvalidOrderType": RejectReason.INVALID,
}


@dataclass(frozen=True, slots=True)
class Pair:
    """A market's two assets, as we name them. `IRT` stands for toman here and for rial on the wire."""

    base: str
    quote: str

    @property
    def symbol(self) -> str:
        return self.base + self.quote

    @property
    def codes(self) -> dict[str, str]:
        """How requests name them: lower case, and `rls` for the rial."""
        return {"srcCurrency": self.base.lower(), "dstCurrency": "rls" if self.is_rial else self.quote.lower()}

    @property
    def is_rial(self) -> bool:
        return self.quote == "IRT"

    def from_wire(self, price: Decimal) -> Decimal:
        """A price, value or quote fee of this market as we count it: toman where the wire says rial."""
        return rial_to_toman(price) if self.is_rial else price

    def to_wire(self, price: Decimal) -> str:
        return wire_text(toman_to_rial(price) if self.is_rial else price)


def rial_to_toman(rial: Decimal) -> Decimal:
    return plain(EXACT.scaleb(rial, -1))


def toman_to_rial(toman: Decimal) -> Decimal:
    return plain(EXACT.scaleb(toman, 1))


def split_symbol(symbol: str) -> Pair:
    """`BTCIRT` is BTC in IRT. USDT is tried first, for USDTIRT is the only market that ends otherwise than it is
    quoted. Raises BadPayload for what is no market here."""
    for quote in ("USDT", "IRT"):
        if symbol.endswith(quote) and len(symbol) > len(quote):
            return Pair(symbol.removesuffix(quote), quote)
    raise BadPayload(f"{symbol[:40]!r} is not a Nobitex market: those end in IRT or USDT")


class Currencies:
    """Display names of order objects (`Bitcoin`, `﷼`) back to codes (contract: nobitex 4.7)."""

    def __init__(self, coins: Iterable[CoinSchema] = ()) -> None:
        self._codes = {"tether": "USDT"} | {name: "IRT" for name in _RIAL_NAMES}
        for coin in coins:
            for name in (coin.coin, coin.name, coin.stdName):
                if name:
                    self._codes.setdefault(name.lower(), coin.coin.upper())

    def code(self, name: str) -> str:
        """The code; a name nobody told us stays as it is, so that its order is not hidden."""
        return self._codes.get(name.lower(), name.upper())


def pair_of(order: OrderSchema | OwnTradeSchema, currencies: Currencies) -> Pair:
    """The market of an order: from `market` (`BTC-RLS`) where it is sent, else from the display names."""
    if order.market and "-" in order.market:
        base, _, quote = order.market.partition("-")
        return Pair(base.upper(), currencies.code(quote))
    if order.srcCurrency and order.dstCurrency:
        return Pair(currencies.code(order.srcCurrency), currencies.code(order.dstCurrency))
    raise BadPayload("an order or trade without a market")


def pair_of_stats(key: str) -> Pair:
    """The market of a key of the statistics, `btc-rls`. Raises BadPayload for what is none."""
    base, _, quote = key.partition("-")
    if not base or (quote not in _RIAL_NAMES and quote != "usdt"):
        raise BadPayload("statistics of no market")
    return Pair(base.upper(), "USDT" if quote == "usdt" else "IRT")


def asset_of(code: str) -> str:
    """`rls`, `RLS` or `﷼` is our `IRT`; every other code is itself in upper case."""
    return "IRT" if code.lower() in _RIAL_NAMES else code.upper()


def from_wire_amount(code: str, amount: Decimal) -> Decimal:
    """An amount of the currency `code`: toman where it is rial."""
    return rial_to_toman(amount) if code.lower() in _RIAL_NAMES else amount


def wire_code(asset: str) -> str:
    """How requests name an asset."""
    return "rls" if asset == "IRT" else asset.lower()


def to_rules(
    options: OptionsSchema, stats: Mapping[str, MarketStatsSchema], fees: ProfileOptionsSchema
) -> list[MarketRules]:
    """Every market with a positive grid in both tables and a minimum for its quote."""
    nobitex, rules = options.nobitex, []
    for symbol, step in nobitex.amountPrecisions.items():
        tick = nobitex.pricePrecisions.get(symbol, ZERO)
        if step <= 0 or tick <= 0 or not symbol.endswith(("USDT", "IRT")) or symbol in ("USDT", "IRT"):
            continue
        pair = split_symbol(symbol)
        minimum = nobitex.minOrders.get(pair.codes["dstCurrency"])
        if minimum is not None:
            is_open = pair.base.lower() not in nobitex.testingCurrencies and not _closed(pair, stats)
            tick, minimum = pair.from_wire(tick), pair.from_wire(minimum)
            rules.append(_market_rules(pair, tick=tick, step=step, minimum=minimum, fees=fees, is_open=is_open))
    return rules


def _market_rules(
    pair: Pair, *, tick: Decimal, step: Decimal, minimum: Decimal, fees: ProfileOptionsSchema, is_open: bool
) -> MarketRules:
    """One rate for makers and takers: the wire does not tell them apart (contract: nobitex 5.1)."""
    fee_rate = fee_rates(fees)[pair.quote]
    return MarketRules(
        provider="nobitex",
        symbol=pair.symbol,
        base=pair.base,
        quote=pair.quote,
        tick_size=tick,
        step_size=step,
        min_quantity=step,
        min_notional=minimum,
        maker_fee_rate=fee_rate,
        taker_fee_rate=fee_rate,
        market_band=MARKET_BAND,
        price_band=PRICE_BAND,
        is_open=is_open,
    )


def fee_rates(fees: ProfileOptionsSchema) -> dict[str, Decimal]:
    """Fractions by quote, from percent."""
    percent = {"IRT": fees.fee, "USDT": fees.feeUsdt}
    documented = {"IRT": DOCUMENTED_FEES.fee, "USDT": DOCUMENTED_FEES.feeUsdt}
    return {quote: plain((documented[quote] if p is None else p) or ZERO) / 100 for quote, p in percent.items()}


def _closed(pair: Pair, stats: Mapping[str, MarketStatsSchema]) -> bool:
    """`isClosed` is the only sign of a closed market; a rial market was seen under the key `usdt-irr` as well."""
    quotes = ("rls", "irt", "irr") if pair.is_rial else (pair.quote.lower(),)
    found = [stats[key] for quote in quotes if (key := f"{pair.base.lower()}-{quote}") in stats]
    return any(entry.isClosed for entry in found)


def to_book(symbol: str, book: OrderBookSchema) -> OrderBook:
    pair = split_symbol(symbol)
    return OrderBook(
        symbol=symbol,
        bids=_levels(pair, book.bids, best=-1),
        asks=_levels(pair, book.asks, best=1),
        as_of=from_milliseconds(book.lastUpdate),
        last_price=pair.from_wire(book.lastTradePrice) if book.lastTradePrice else None,
    )


def to_depth(symbol: str, depth: OrderBookSchema) -> DepthChart:
    book = to_book(symbol, depth)
    return DepthChart(symbol, book.bids, book.asks, book.as_of, book.last_price)


def to_public_trade(symbol: str, trade: TradeSchema) -> PublicTrade:
    side = (trade.type or "").upper()
    return PublicTrade(
        symbol=symbol,
        price=split_symbol(symbol).from_wire(trade.price),
        quantity=trade.volume,
        side=Side(side) if side in Side.__members__ else None,
        executed_at=from_milliseconds(trade.time),
    )


def to_stats(pair: Pair, day: DayStatsSchema) -> MarketStats:
    def price(value: Decimal | None) -> Decimal | None:
        return pair.from_wire(value) if value and value > 0 else None

    return MarketStats(
        symbol=pair.symbol,
        is_closed=day.isClosed,
        best_ask=price(day.bestSell),
        best_bid=price(day.bestBuy),
        last_price=price(day.latest),
        mark_price=price(day.mark),
        open=price(day.dayOpen),
        high=price(day.dayHigh),
        low=price(day.dayLow),
        close=price(day.dayClose),
        volume=day.volumeSrc,
        quote_volume=None if day.volumeDst is None else pair.from_wire(day.volumeDst),
        change_rate=None if day.dayChange is None or not price(day.dayClose) else day.dayChange / 100,
    )


def _levels(pair: Pair, levels: Iterable[Level], best: int) -> tuple[BookLevel, ...]:
    ordered = sorted((level for level in levels if level[1] > 0), key=lambda level: best * level[0])
    return tuple(BookLevel(pair.from_wire(price), quantity) for price, quantity in ordered)


def to_balance(code: str, wallet: WalletSchema) -> Balance:
    """The rial wallet is the asset `IRT`, in toman."""
    balance, blocked = (from_wire_amount(code, amount) for amount in (wallet.balance, wallet.blocked))
    return Balance(asset_of(code), balance, blocked)


def to_wallet(wallet: ListedWalletSchema) -> Wallet:
    amounts = WalletSchema(balance=wallet.balance, blocked=wallet.blockedBalance)
    value = None if wallet.rialBalance is None else rial_to_toman(wallet.rialBalance)
    return Wallet(wallet.id, to_balance(wallet.currency, amounts), value)


def to_transaction(row: TransactionSchema) -> Transaction:
    fee, balance = (
        None if amount is None else from_wire_amount(row.currency, amount)
        for amount in (row.calculatedFee, row.balance)
    )
    return Transaction(
        transaction_id=row.id,
        asset=asset_of(row.currency),
        amount=from_wire_amount(row.currency, row.amount),
        created_at=row.created_at,
        description=row.description or "",
        fee=fee,
        kind=row.tp,
        balance=balance,
    )


def to_limitations(wire: LimitationsSchema) -> Limitations:
    limits = {name: Usage(rial_to_toman(use.used), rial_to_toman(use.limit)) for name, use in wire.limits.items()}
    return Limitations(wire.userLevel, wire.features, limits)


_PRO = {"pro": "yes"}  # switches off the guard against identical orders within 10 s, and nothing else that is known


def to_wire_order(request: OrderRequest) -> dict[str, str]:
    """The body of orders/add (contract: nobitex 6.1). The price of a MARKET order bounds its fill; a STOP_MARKET takes
    none."""
    pair = split_symbol(request.symbol)
    price = None if request.type is OrderType.STOP_MARKET else request.price
    prices = {"price": price, "stopPrice": request.stop_price}
    return {
        "type": request.side.value.lower(),
        "execution": EXECUTIONS[request.type],
        **pair.codes,
        "amount": wire_text(request.quantity),
        **{name: pair.to_wire(value) for name, value in prices.items() if value is not None},
        "clientOrderId": request.client_order_id,
        **(_PRO if request.may_repeat else {}),
    }


def to_wire_oco(request: OcoRequest) -> dict[str, str]:
    """`execution` is not sent with an OCO (contract: nobitex 6.1)."""
    pair = split_symbol(request.symbol)
    return {
        "type": request.side.value.lower(),
        "mode": "oco",
        **pair.codes,
        "amount": wire_text(request.quantity),
        "price": pair.to_wire(request.price),
        "stopPrice": pair.to_wire(request.stop_price),
        "stopLimitPrice": pair.to_wire(request.stop_limit_price),
        "clientOrderId": request.client_order_id,
        **(_PRO if request.may_repeat else {}),
    }


def to_report(order: OrderSchema, raw: Mapping[str, Any], pair: Pair) -> OrderReport:
    """Raises BadPayload for an order without side, amount or a knowable filled quantity."""
    if order.amount is None or order.type is None or order.type.upper() not in Side.__members__:
        raise BadPayload("an order without side or amount")
    side, filled = Side(order.type.upper()), filled_quantity(order, order.amount)
    fee_in_base = side is Side.BUY
    return OrderReport(
        symbol=pair.symbol,
        side=side,
        status=to_status(order.status, filled),
        quantity=order.amount,
        filled_quantity=filled,
        client_order_id=order.clientOrderId,
        exchange_order_id=None if order.id is None else str(order.id),
        type=_TYPES.get(order.execution or ""),
        price=pair.from_wire(order.price) if order.price else None,
        stop_price=pair.from_wire(order.param1) if order.param1 else None,
        average_price=pair.from_wire(order.averagePrice) if order.averagePrice else None,
        fee=order.fee if order.fee is None or fee_in_base else pair.from_wire(order.fee),
        created_at=order.created_at,
        pair_id=None if order.pairId is None else str(order.pairId),
        fills_complete=filled == 0,
        raw=jsonable(raw),
    )


def filled_quantity(order: OrderSchema, amount: Decimal) -> Decimal:
    """`matchedAmount`; where it is not sent, what the rest or the status tells."""
    if order.matchedAmount is not None:
        return order.matchedAmount
    if order.unmatchedAmount is not None and order.unmatchedAmount <= amount:
        return amount - order.unmatchedAmount
    if order.status in (NobitexStatus.NEW, NobitexStatus.INACTIVE):
        return ZERO
    if order.status is NobitexStatus.DONE:
        return amount
    raise BadPayload("an order that does not tell how much of it is filled")


def to_status(status: NobitexStatus, filled: Decimal) -> OrderStatus:
    """Partly filled orders stay `Active` on the wire (contract: nobitex 6.3)."""
    if status in _FINAL:
        return _FINAL[status]
    return OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.OPEN


def to_fill(trade: OwnTradeSchema, pair: Pair) -> Fill:
    """The fee is in what was received: base on buys, quote on sells (contract: nobitex 6.10)."""
    side = Side(trade.type.upper())
    return Fill(
        trade_id=str(trade.id),
        symbol=pair.symbol,
        side=side,
        price=pair.from_wire(trade.price),
        quantity=trade.amount,
        fee=trade.fee if side is Side.BUY else pair.from_wire(trade.fee),
        fee_asset=pair.base if side is Side.BUY else pair.quote,
        executed_at=trade.timestamp,
        exchange_order_id=str(trade.orderId),
    )


def oco_legs(reports: Sequence[OrderReport]) -> tuple[OrderReport, OrderReport]:
    """(limit leg, stop leg), told apart by the trigger. Raises BadPayload unless they are one of each, and a pair."""
    stops = [report for report in reports if report.stop_price is not None or report.type is OrderType.STOP_LIMIT]
    limits = [report for report in reports if report not in stops]
    if len(limits) != 1 or len(stops) != 1:
        raise BadPayload("an OCO answer without one limit and one stop leg")
    limit, stop = limits[0], stops[0]
    if limit.pair_id not in (None, stop.exchange_order_id) or stop.pair_id not in (None, limit.exchange_order_id):
        raise BadPayload("the two orders of an OCO answer are not a pair")
    return limit, stop
