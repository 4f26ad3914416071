"""Risk: an intent in, a quantity or a coded denial out. Decimal throughout, no side effects."""

from algo.risk.codes import DenialCode
from algo.risk.costs import round_trip_fee_percent, target_pays_fees
from algo.risk.gate import check_entry
from algo.risk.sizing import position_fraction, size_entry
from algo.risk.stops import initial_stop, stop_crossed, target_price, target_reached, trailing_stop
from algo.risk.values import Approval, Denial, EntryIntent, RiskContext

__all__ = [
    "Approval",
    "Denial",
    "DenialCode",
    "EntryIntent",
    "RiskContext",
    "check_entry",
    "initial_stop",
    "position_fraction",
    "round_trip_fee_percent",
    "size_entry",
    "stop_crossed",
    "target_pays_fees",
    "target_price",
    "target_reached",
    "trailing_stop",
]
