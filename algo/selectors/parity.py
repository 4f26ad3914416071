"""A day of live trading as the values that `algo.backtest.parity` compares."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.db.models import Max, Min, Q, QuerySet

from algo.backtest.parity import LiveDay, LiveDeal, LiveDecision, OtherDeal
from algo.models import Deal, DealStatus, Decision, Fill, Order, ParityReport, Role, Signal, StrategyConfig
from algo.strategies.schemas import InvalidParameters, StrategySchema, validate_parameters
from algo.strategies.strategy_factory import external_names, schema_for
from providers.types import Resolution, Side

REPORTS_SHOWN = 7


def trading_day(moment: datetime) -> date:
    """The trading day that `moment` falls into."""
    return moment.astimezone(ZoneInfo(settings.TRADING_DAY_TIME_ZONE)).date()


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """From the day's first moment to the next day's, as UTC."""
    zone = ZoneInfo(settings.TRADING_DAY_TIME_ZONE)
    start, end = (datetime(each.year, each.month, each.day, tzinfo=zone) for each in (day, day + timedelta(days=1)))
    return start.astimezone(UTC), end.astimezone(UTC)


def configs_that_decided(start: datetime, end: datetime) -> QuerySet[StrategyConfig]:
    """Strategy configs with something in the journal or the ledger of [start, end)."""
    decided = Decision.objects.filter(decided_at__gte=start, decided_at__lt=end)
    deals = Deal.objects.filter(Q(closed_at=None) | Q(closed_at__gte=start), created_at__lt=end)
    ids = {*decided.values_list("config_id", flat=True).distinct(), *deals.values_list("config_id", flat=True)}
    rows = StrategyConfig.objects.filter(pk__in=ids).exclude(strategy__in=external_names())  # no candle tells of them
    return rows.select_related("account", "market", "data_market").order_by("name")


def latest_reports(config: StrategyConfig) -> list[ParityReport]:
    """The newest reports of a strategy, newest first."""
    return list(config.parity_reports.order_by("-day")[:REPORTS_SHOWN])


def live_day(config: StrategyConfig, start: datetime, end: datetime) -> LiveDay:
    """What `config` decided and did in [start, end), with what it still had open or had to cool down from."""
    resolution = Resolution(config.resolution)
    first, stop = start - resolution.duration, end - resolution.duration  # candles that close in the period
    signals = {row.bar_open_at: row for row in Signal.objects.filter(_opened(first, stop), config=config)}
    rows = Decision.objects.filter(_opened(first, stop), config=config).order_by("bar_open_at")
    own, others = _deals(config, first, stop)
    return LiveDay(
        start=start,
        end=end,
        resolution=resolution,
        decisions=tuple(_decision(row, signals.get(row.bar_open_at)) for row in rows),
        deals=tuple(own),
        others=tuple(others),
        rules_saved_at=config.updated_at,
        same_market=config.market_id == config.data_market_id,
    )


def _opened(first: datetime, stop: datetime) -> Q:
    return Q(bar_open_at__gte=first, bar_open_at__lt=stop)


# --- decisions ------------------------------------------------------------------------------------------------------


def _decision(row: Decision, signal: Signal | None) -> LiveDecision:
    journal: Mapping[str, Any] = row.journal or {}
    said: dict[str, Any] = {}
    if signal is not None:
        said = {
            "side": Side(signal.side),
            "reason": signal.reason,
            "confidence": float(signal.confidence),
            "denial_code": signal.denial_code,
            "denial_message": signal.denial_message,
        }
    return LiveDecision(
        bar=_unix(row.bar_open_at),
        decided_at=row.decided_at,
        outcome=row.outcome,
        indicators=journal.get("indicators") or {},
        book_side=_weighing(journal),
        note=_note(journal),
        **said,
    )


def _weighing(journal: Mapping[str, Any]) -> Side | None:
    """The side that the order book weighed on, as the journal has it."""
    book = (journal.get("conditions") or {}).get("order_book") or {}
    return Side.BUY if book.get("buy") else Side.SELL if book.get("sell") else None


def _note(journal: Mapping[str, Any]) -> str:
    if "error" in journal:
        return str(journal["error"])
    if "newest_candle" in journal:
        return f"the newest candle was that of {journal['newest_candle'] or 'no time at all'}"
    return f"{journal['candles']} of {journal['needed']} candles" if "needed" in journal else ""


# --- deals ----------------------------------------------------------------------------------------------------------


def _deals(config: StrategyConfig, first: datetime, stop: datetime) -> tuple[list[LiveDeal], list[OtherDeal]]:
    """The strategy's own deals, and those of the account that stand beside them."""
    cooldown = timedelta(minutes=int(config.parameters.get("trade_cooldown_minutes", 0) or 0))
    matters = Q(closed_at=None) | Q(closed_at__gte=first) | Q(bar_open_at__gte=first - cooldown)
    rows = Deal.objects.filter(matters, account=config.account_id, bar_open_at__lt=stop).order_by("bar_open_at", "id")
    rows = rows.filter(market__quote=config.market.quote).select_related("signal")
    mine: list[Deal] = []
    others: list[Deal] = []
    for row in rows:
        is_own = row.config_id == config.pk and row.market_id == config.market_id and row.signal is not None
        (mine if is_own else others).append(row)
    facts = _Fills(mine)
    schema = schema_for(config.strategy)
    return [facts.deal(row, _rules(schema, row)) for row in mine], [_other(row, config) for row in others]


def _rules(schema: type[StrategySchema], row: Deal) -> StrategySchema | None:
    try:
        return validate_parameters(schema, row.rules)
    except InvalidParameters:  # a parameter that was renamed since: the deal ran by rules that do not exist any more
        return None


def _other(row: Deal, config: StrategyConfig) -> OtherDeal:
    return OtherDeal(since=row.created_at, until=row.closed_at, on_market=row.market_id == config.market_id)


class _Fills:
    """When and at which balance deals were filled, read for all of them at once."""

    def __init__(self, deals: list[Deal]) -> None:
        ids = [deal.pk for deal in deals]
        fills = Fill.objects.filter(order__deal__in=ids)
        entry = Q(order__role=Role.ENTRY)
        rows = fills.values("order__deal").annotate(
            entered=Min("executed_at", filter=entry), left=Max("executed_at", filter=~entry)
        )
        self._times = {row["order__deal"]: (row["entered"], row["left"]) for row in rows}
        entries = Order.objects.filter(deal__in=ids, role=Role.ENTRY, leg=1)
        self._entries = {order.deal_id: order for order in entries}

    def deal(self, row: Deal, rules: StrategySchema | None) -> LiveDeal:
        entered, left = self._times.get(row.pk, (None, None))
        is_closed = row.status == DealStatus.CLOSED
        signal = row.signal
        return LiveDeal(
            id=row.pk,
            bar=_unix(row.bar_open_at),
            side=Side(row.side),
            created_at=row.created_at,
            parameters=rules,
            confidence=float(signal.confidence) if signal else 1.0,
            reason=signal.reason if signal else "",
            planned_quantity=row.planned_quantity,
            planned_price=row.planned_price,
            available=self._available(row.pk),
            entry_at=entered or row.opened_at,
            entry_price=row.entry_price,
            entry_quantity=row.entry_quantity,
            exit_at=(left or row.closed_at) if is_closed else None,
            exit_price=row.exit_price,
            close_reason=row.close_reason,
            stop_price=row.stop_price,
            fees=row.fees_quote,
            profit=row.profit or Decimal(0),
            note=row.note or self._reason(row.pk),
        )

    def _available(self, deal: int) -> Decimal | None:
        order = self._entries.get(deal)
        if order is None or order.balance_before is None:
            return None
        locked: Decimal = order.locked_before or Decimal(0)
        return order.balance_before - locked

    def _reason(self, deal: int) -> str:
        """Why an entry came to nothing, where its order says so."""
        order = self._entries.get(deal)
        return order.reason if order is not None and not order.filled_quantity and order.closed_at else ""


def _unix(moment: datetime) -> int:
    return int(moment.timestamp())
