"""Wallex wire <-> vocabulary. Pure. Toman markets are quoted in toman on this wire: no conversion."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from providers.errors import BadPayload, RejectReason
from providers.types import (
    ZERO,
    Balance,
    BookLevel,
    Candle,
    Fill,
    MarketRules,
    OrderBook,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderType,
    Resolution,
    Side,
)
from providers.wallex.results import ActiveMarket, Currency, CurrencyStats, MarketStats, PublicTrade
from providers.wallex.schemas import (
    AccountTradeSchema,
    ActiveMarketSchema,
    BalanceSchema,
    CreateOrderRequestSchema,
    CurrencyStatsSchema,
    DepthLevelSchema,
    DepthSchema,
    FeeSchema,
    FillSchema,
    MarketSchema,
    MarketStatsSchema,
    OrderSchema,
    TradeSchema,
    WallexStatus,
)
from providers.wire import as_list, as_mapping, average, jsonable, to_amount, wire_text

# Without a key: the rates in the contract's own order sample (wallex 5.3); the taker rate is also in a live capture.
DOCUMENTED_FEES = FeeSchema(makerFeeRate=Decimal("0.002"), takerFeeRate=Decimal("0.003"))
# A MARKET order is cancelled where it would move the price this far from the last trade (contract: wallex 6, rule 6).
MARKET_BAND = Decimal("0.02")
QUOTES = ("USDT", "TMN")

# Resolutions that tell the truth (contract: wallex 3.6), and what is built from each.
NATIVE = {Resolution.M1: "1", Resolution.H1: "60", Resolution.D1: "1D"}
_DAY = 86400

_ENDED = {
    WallexStatus.FILLED,
    WallexStatus.DONE,
    WallexStatus.FINISHED,
    WallexStatus.CLOSED,
    WallexStatus.CANCELED,
    WallexStatus.CANCELLED,
    WallexStatus.REJECTED,
    WallexStatus.EXPIRED,
}
_ENDED_UNFILLED = {WallexStatus.REJECTED: OrderStatus.REJECTED, WallexStatus.EXPIRED: OrderStatus.EXPIRED}

_REASONS = {"1003": RejectReason.BELOW_MINIMUM, "1006": RejectReason.INSUFFICIENT_BALANCE, "422": RejectReason.INVALID}


def to_rules(market: MarketSchema, fees: FeeSchema) -> MarketRules:
    """`stepSize` and `tickSize` are numbers of decimals on the wire, grids here."""
    step = Decimal(1).scaleb(-market.stepSize)
    return MarketRules(
        provider="wallex",
        symbol=market.symbol,
        base=market.baseAsset,
        quote=market.quoteAsset,
        tick_size=Decimal(1).scaleb(-market.tickSize),
        step_size=step,
        min_quantity=market.minQty if market.minQty and market.minQty > 0 else step,
        min_notional=market.minNotional,
        maker_fee_rate=fees.makerFeeRate,
        taker_fee_rate=fees.takerFeeRate,
        market_band=MARKET_BAND,
        allows_market_orders=market.isMarketTypeEnable is not False,
    )


def to_market_stats(market: MarketStatsSchema) -> MarketStats:
    stats = market.stats
    share = stats.direction.get("BUY") if isinstance(stats.direction, dict) else None
    return MarketStats(
        symbol=market.symbol,
        best_bid=stats.bidPrice or None,
        best_ask=stats.askPrice or None,
        last_price=stats.lastPrice or None,
        high_24h=stats.high_24h or None,
        low_24h=stats.low_24h or None,
        volume_24h=stats.volume_24h,
        quote_volume_24h=stats.quote_volume_24h,
        change_24h_percent=stats.change_24h,
        last_side=Side(stats.lastTradeSide) if stats.lastTradeSide in ("BUY", "SELL") else None,
        buy_share_percent=_amount_or_none(share),
    )


def to_active_market(market: ActiveMarketSchema) -> ActiveMarket:
    """The precisions are numbers of decimals on the wire, grids here."""
    return ActiveMarket(
        symbol=market.symbol,
        base=market.base_asset,
        quote=market.quote_asset,
        tick_size=Decimal(1).scaleb(-market.price_precision),
        step_size=Decimal(1).scaleb(-market.amount_precision),
        is_spot=market.is_spot,
        allows_market_orders=market.is_market_type_enable is not False,
        price=market.price or None,
        volume_24h=market.volume_24h,
        quote_volume_24h=market.quote_volume_24h,
        change_24h_percent=market.change_24h,
    )


def to_public_trade(symbol: str, trade: TradeSchema) -> PublicTrade:
    side = None if trade.isBuyOrder is None else Side.BUY if trade.isBuyOrder else Side.SELL
    return PublicTrade(symbol, trade.price, trade.quantity, side, trade.timestamp)


def to_currency(name: str, row: object) -> Currency:
    """`name` is the asset where the answer is a map; in a list, the row names it."""
    raw = as_mapping(row, "currency")
    stated = next((raw[key] for key in ("key", "asset", "symbol") if isinstance(raw.get(key), str)), name)
    networks = raw.get("networks") or []
    listed = list(networks.values()) if isinstance(networks, dict) else as_list(networks, "networks")
    found = tuple(jsonable(as_mapping(network, "network")) for network in listed)
    return Currency(stated.upper(), found, jsonable(raw))


def to_stats(stats: CurrencyStatsSchema) -> CurrencyStats:
    others = {name: _amount_or_none(value) for name, value in (stats.model_extra or {}).items()}
    return CurrencyStats(
        asset=stats.key,
        name=stats.name_en or stats.key,
        rank=stats.rank,
        price_usd=stats.price,
        market_cap_usd=stats.market_cap,
        volume_24h_usd=stats.volume_24h,
        updated_at=stats.updated_at,
        figures={name: value for name, value in others.items() if value is not None},
    )


def to_price(value: object) -> Decimal:
    """Raises BadPayload for what is no price."""
    price = _amount_or_none(value)
    if price is None or price <= 0:
        raise BadPayload("not a price")
    return price


def _amount_or_none(value: object) -> Decimal | None:
    try:
        return to_amount(value)
    except ValueError:
        return None


def to_book(symbol: str, depth: DepthSchema, received_at: datetime) -> OrderBook:
    """The wire has no time of its own: `as_of` is the time of receipt."""
    return OrderBook(symbol, _levels(depth.bid, best=-1), _levels(depth.ask, best=1), received_at)


def _levels(levels: Iterable[DepthLevelSchema], best: int) -> tuple[BookLevel, ...]:
    ordered = sorted((level for level in levels if level.quantity > 0), key=lambda level: best * level.price)
    return tuple(BookLevel(level.price, level.quantity) for level in ordered)


def to_balance(balance: BalanceSchema) -> Balance:
    return Balance(balance.asset, balance.value, balance.locked)


def to_wire_order(request: OrderRequest) -> dict[str, str]:
    """The body of POST orders. Raises pydantic's ValidationError for a request that makes no sense."""
    return CreateOrderRequestSchema(
        symbol=request.symbol,
        side=request.side,
        type=request.type,
        quantity=request.quantity,
        price=request.price,
        stopPrice=request.stop_price,
        client_id=request.client_order_id,
    ).to_wire()


def to_status(order: OrderSchema) -> OrderStatus:
    """Numbers first, `active` next, the label last (contract: wallex 6). A STOP_* that is not `active` may only be
    waiting for its trigger: it has ended when the label says so."""
    if order.executedQty == order.origQty:
        return OrderStatus.FILLED
    waiting_stop = order.type.startswith("STOP_") and order.status not in _ENDED
    if order.active or waiting_stop:
        return OrderStatus.PARTIALLY_FILLED if order.executedQty else OrderStatus.OPEN
    if order.executedQty:
        return OrderStatus.CANCELED
    return _ENDED_UNFILLED.get(order.status, OrderStatus.CANCELED)


def to_report(order: OrderSchema, raw: Mapping[str, Any], client_order_id: str | None = None) -> OrderReport:
    """`client_order_id` is ours, where the exchange may have made one of its own."""
    fills = to_fills(order, client_order_id or order.clientOrderId)
    return OrderReport(
        symbol=order.symbol,
        side=order.side,
        status=to_status(order),
        quantity=order.origQty,
        filled_quantity=order.executedQty,
        client_order_id=client_order_id or order.clientOrderId,
        exchange_order_id=order.clientOrderId,
        type=OrderType(order.type) if order.type in OrderType.__members__ else None,
        price=order.price or None,
        stop_price=order.stopPrice or None,
        average_price=_average_price(order),
        fee=order.fee,
        created_at=order.created_at,
        fills=fills,
        fills_complete=sum((fill.quantity for fill in fills), ZERO) == order.executedQty,
        raw=jsonable(raw),
    )


def _average_price(order: OrderSchema) -> Decimal | None:
    """`executedPrice` is junk on an untouched order (contract: wallex 5.2)."""
    if not order.executedQty:
        return None
    return average(order.executedSum, order.executedQty) if order.executedSum else order.executedPrice


def to_fills(order: OrderSchema, client_order_id: str) -> tuple[Fill, ...]:
    """The order's fills in time order. Wallex numbers nothing, so an id is made from the content: a place in the list
    would change when a fill of the same second, or one that was booked late, comes in before it, and the ledger would
    take one fill twice and the other never. Rows that say more than the order executed are no fills of it: the order's
    own number counts (contract: wallex 6.1)."""
    wire = _without_repeats(list(order.fills or []), order.executedQty)
    if sum((fill.quantity for fill in wire), ZERO) > order.executedQty:
        return ()
    if wire and wire[0].timestamp > wire[-1].timestamp:  # newest first: turn round, so that ties keep their order
        wire.reverse()
    wire.sort(key=lambda fill: fill.timestamp)
    # whole seconds: the wire sends times with or without the rest (contract: wallex 2)
    contents = ("|".join(map(str, (int(f.timestamp.timestamp()), f.price, f.quantity))) for f in wire)
    return tuple(
        Fill(
            trade_id=f"{client_order_id}:{trade_id}",
            symbol=order.symbol,
            side=order.side,
            price=fill.price,
            quantity=fill.quantity,
            fee=fill.fee,
            fee_asset=fee_asset(order.symbol, order.side, fill.feeAsset),
            executed_at=fill.timestamp,
            exchange_order_id=order.clientOrderId,
            client_order_id=client_order_id,
        )
        for fill, trade_id in zip(wire, _content_ids(contents), strict=True)
    )


def _content_ids(contents: Iterable[str]) -> Iterator[str]:
    """An id for each content, the same from one call to the next; equal contents are told apart by their count."""
    seen: Counter[str] = Counter()
    for content in contents:
        seen[content] += 1
        yield hashlib.blake2s(f"{content}|{seen[content]}".encode(), digest_size=12).hexdigest()


def _without_repeats(rows: list[FillSchema], executed: Decimal) -> list[FillSchema]:
    """Equal rows may be two equal fills, or one that is listed twice: repeats go only as far as there is too much."""
    too_much = sum((row.quantity for row in rows), ZERO) - executed
    kept: list[FillSchema] = []
    for row in rows:
        if row in kept and row.quantity <= too_much:
            too_much -= row.quantity
        else:
            kept.append(row)
    return kept


def fee_asset(symbol: str, side: Side, named: object) -> str:
    """The named asset, else what the side receives: BUY the base, SELL the quote (contract: wallex 5.3)."""
    if isinstance(named, str) and named:
        return named.upper()
    for quote in QUOTES:
        if symbol.endswith(quote):
            return symbol.removesuffix(quote) if side is Side.BUY else quote
    raise BadPayload(f"a fill on {symbol} names no fee asset")


def to_account_fills(trades: Sequence[AccountTradeSchema]) -> list[Fill]:
    """Own trades, oldest first. The wire names neither trade nor order, so the id is made from the content: stable from
    one call to the next, but *not* the id the same execution has among its order's fills."""
    ordered = sorted(trades, key=lambda trade: trade.timestamp)
    return [
        Fill(
            trade_id=f"t:{trade_id}",
            symbol=trade.symbol,
            side=_side_of(trade),
            price=trade.price,
            quantity=trade.quantity,
            fee=trade.fee,
            fee_asset=fee_asset(trade.symbol, _side_of(trade), trade.feeAsset),
            executed_at=trade.timestamp,
        )
        for trade, trade_id in zip(ordered, _content_ids(map(_trade_content, ordered)), strict=True)
    ]


def _side_of(trade: AccountTradeSchema) -> Side:
    return Side.BUY if trade.isBuyer else Side.SELL


def _trade_content(trade: AccountTradeSchema) -> str:
    when, price, quantity = str(trade.timestamp), wire_text(trade.price), wire_text(trade.quantity)
    return "|".join((trade.symbol, _side_of(trade), when, price, quantity))


def source_of(resolution: Resolution) -> Resolution:
    """The native resolution from which `resolution` is built."""
    if resolution.seconds % _DAY == 0:
        return Resolution.D1
    return Resolution.H1 if resolution.seconds % 3600 == 0 else Resolution.M1


def aggregate(candles: Sequence[Candle], resolution: Resolution) -> list[Candle]:
    """Finer candles gathered on the UTC grid of `resolution`; days keep the hour at which the exchange opens them. What
    is missing stays missing: a bucket holds what there was."""
    buckets: dict[datetime, list[Candle]] = {}
    for candle in candles:
        buckets.setdefault(_bucket(candle.open_time, resolution), []).append(candle)
    return [_merge(open_time, parts) for open_time, parts in buckets.items()]


def bucket_start(moment: datetime, resolution: Resolution) -> datetime:
    """The latest UTC grid time at or before `moment`."""
    seconds = int(moment.timestamp()) // resolution.seconds * resolution.seconds
    return datetime.fromtimestamp(seconds, UTC)


def _bucket(open_time: datetime, resolution: Resolution) -> datetime:
    if resolution.seconds % _DAY:
        return bucket_start(open_time, resolution)
    phase = timedelta(seconds=int(open_time.timestamp()) % _DAY)
    return bucket_start(open_time - phase, resolution) + phase


def _merge(open_time: datetime, parts: Sequence[Candle]) -> Candle:
    high, low = max(part.high for part in parts), min(part.low for part in parts)
    volume = sum((part.volume for part in parts), ZERO)
    return Candle(open_time, parts[0].open, high, low, parts[-1].close, volume)


def error_codes(payload: Mapping[str, Any]) -> list[str]:
    """The specific codes first, then the general one (contract: wallex 1.3)."""
    result = payload.get("result")
    specific = result.get("error_code") if isinstance(result, dict) else None
    codes = [*(specific if isinstance(specific, list) else [specific]), payload.get("code")]
    return [str(code)[:20] for code in codes if isinstance(code, int | str) and not isinstance(code, bool)]


def error_fields(payload: Mapping[str, Any]) -> list[str]:
    """Names of the request's fields that were complained about."""
    result = payload.get("result")
    return [str(name)[:30] for name in result if name != "error_code"] if isinstance(result, dict) else []


def reject_reason(codes: Sequence[str]) -> RejectReason:
    return next((_REASONS[code] for code in codes if code in _REASONS), RejectReason.OTHER)
