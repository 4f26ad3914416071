"""Why an entry was not made, as a code that is kept on the signal."""

from __future__ import annotations

from enum import StrEnum


class DenialCode(StrEnum):
    """In the order in which the gate asks: the first that speaks is the answer."""

    KILL_SWITCH = "kill_switch"
    ACCOUNT_PAUSED = "account_paused"
    KEY_EXPIRING = "key_expiring"
    MARKET_BLOCKED = "market_blocked"  # closed at the exchange, a ticket is open, or an order's fate is unknown
    STRATEGY_NOT_ORDERING = "strategy_not_ordering"
    SIDE_NOT_ALLOWED = "side_not_allowed"
    STALE_DATA = "stale_data"
    SPREAD_TOO_WIDE = "spread_too_wide"
    BASIS_TOO_WIDE = "basis_too_wide"
    OPEN_DEAL_EXISTS = "open_deal_exists"
    MAX_OPEN_DEALS = "max_open_deals"
    MAX_EXPOSURE = "max_exposure"
    COOLDOWN = "cooldown"
    DAILY_TRADES = "daily_trades"
    DAILY_LOSS = "daily_loss"
    RUNAWAY = "runaway"
    BELOW_MINIMUM = "below_minimum"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    THIN_BOOK = "thin_book"
    STOP_NOT_PLACEABLE = "stop_not_placeable"
