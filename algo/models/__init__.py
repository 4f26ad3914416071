"""Facts, and the constraints that guard them."""

from algo.models.account import Account, AccountState, Environment
from algo.models.backtest import UNFINISHED_RUNS, BacktestRun, RunStatus
from algo.models.candle import Candle
from algo.models.control import (
    AccountLock,
    FlatProof,
    Halt,
    Heartbeat,
    KillSwitch,
    SystemControl,
    Ticket,
    TicketAnswer,
    TicketKind,
)
from algo.models.deal import FINISHED_DEALS, CloseReason, Deal, DealStatus
from algo.models.market import Market, Provider
from algo.models.notification import OutboxEvent
from algo.models.optimisation import OptimisationChunk, OptimisationRun, OptimisationStatus, SearchMethod
from algo.models.order import DealEvent, Fill, Order, OrderEvent, Role
from algo.models.parity import ParityReport
from algo.models.probe import ProbeOrder, ProbeOutcome
from algo.models.quote import MarketQuote
from algo.models.signal import Decision, Outcome, Signal
from algo.models.strategy import AllowedSides, StrategyConfig, StrategyStatus
from algo.models.strategy_check import StrategyCheck

__all__ = [
    "FINISHED_DEALS",
    "UNFINISHED_RUNS",
    "Account",
    "AccountLock",
    "AccountState",
    "AllowedSides",
    "BacktestRun",
    "Candle",
    "CloseReason",
    "Deal",
    "DealEvent",
    "DealStatus",
    "Decision",
    "Environment",
    "Fill",
    "FlatProof",
    "Halt",
    "Heartbeat",
    "KillSwitch",
    "Market",
    "MarketQuote",
    "OptimisationChunk",
    "OptimisationRun",
    "OptimisationStatus",
    "Order",
    "OrderEvent",
    "OutboxEvent",
    "Outcome",
    "ParityReport",
    "ProbeOrder",
    "ProbeOutcome",
    "Provider",
    "Role",
    "RunStatus",
    "SearchMethod",
    "Signal",
    "StrategyCheck",
    "StrategyConfig",
    "StrategyStatus",
    "SystemControl",
    "Ticket",
    "TicketAnswer",
    "TicketKind",
]
