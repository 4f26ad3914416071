"""The risk gate: an intent in, a size or a coded denial out."""

from __future__ import annotations

from collections.abc import Callable

from algo.risk import limits
from algo.risk.costs import target_pays_fees
from algo.risk.sizing import Size, size_entry
from algo.risk.stops import initial_stop, target_price
from algo.risk.values import Approval, Denial, EntryIntent, RiskContext
from providers.types import ProtectionMode

# Asked in this order; the first denial is the answer.
LIMITS: tuple[Callable[[EntryIntent, RiskContext], Denial | None], ...] = (
    limits.kill_switch,
    limits.account_paused,
    limits.key_expiring,
    limits.market_blocked,
    limits.strategy_not_ordering,
    limits.side_not_allowed,
    limits.stale_data,
    limits.spread_too_wide,
    limits.basis_too_wide,
    limits.open_deal_exists,
    limits.max_open_deals,
    limits.max_exposure,
    limits.cooldown,
    limits.daily_trades,
    limits.daily_loss,
    limits.runaway,
)
SIZE_LIMITS: tuple[Callable[[EntryIntent, RiskContext, Size], Denial | None], ...] = (
    limits.below_minimum,
    limits.insufficient_balance,
    limits.thin_book,
    limits.stop_not_placeable,
)


def check_entry(intent: EntryIntent, context: RiskContext) -> Approval | Denial:
    """May this entry be made, and how large? Pure: the same intent and context always get the same answer."""
    for limit in LIMITS:
        if denial := limit(intent, context):
            return denial
    size = size_entry(intent, context)
    for size_limit in SIZE_LIMITS:
        if denial := size_limit(intent, context, size):
            return denial
    return _approval(intent, context, size)


def _approval(intent: EntryIntent, context: RiskContext, size: Size) -> Approval:
    price, parameters, rules = size.expected_price, context.parameters, context.rules
    return Approval(
        quantity=size.quantity,
        expected_price=price,
        notional=size.notional,
        stop_price=initial_stop(price, intent.side, parameters.stop_loss_percent, rules),
        target_price=target_price(price, intent.side, parameters.take_profit_percent, rules),
        fraction=size.fraction,
        warnings=_warnings(intent, context, size),
    )


def _warnings(intent: EntryIntent, context: RiskContext, size: Size) -> tuple[str, ...]:
    found = [target_pays_fees(context.parameters, context.rules)]
    target = target_price(size.expected_price, intent.side, context.parameters.take_profit_percent, context.rules)
    last = context.reference_price or size.expected_price
    if limits.outside_band(target, last, context.rules.price_band):
        found.append(f"the target {target} is outside the exchange's price band: it can rest only when price is nearer")
    if context.capabilities.protection_mode is ProtectionMode.NO_STOPS:
        found.append("this account cannot place stops: only the guardian watches the stop")
    return tuple(text for text in found if text)
