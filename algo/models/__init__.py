"""Facts, and the constraints that guard them."""

from algo.models.account import Account, AccountState, BalanceReading, Environment
from algo.models.audit import AuditRecord, Door
from algo.models.backtest import UNFINISHED_RUNS, BacktestRun, RunStatus
from algo.models.candle import Candle, CandleFetch
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
from algo.models.event_kinds import EventKind, Severity
from algo.models.idempotency import KeptAnswer
from algo.models.inbound import AlertAction, AlertState, InboundAlert, InboundKey
from algo.models.live import LiveChange
from algo.models.market import Market, Provider
from algo.models.notification import (
    ChannelType,
    Delivery,
    DeliveryState,
    Language,
    NotificationChannel,
    OutboxEvent,
    QuietRule,
)
from algo.models.optimisation import OptimisationChunk, OptimisationRun, OptimisationStatus, SearchMethod
from algo.models.order import DealEvent, Fill, Order, OrderEvent, Role
from algo.models.parity import ParityReport
from algo.models.performance import DealDay
from algo.models.preference import ReadingCalendar, ReadingDigits, ReadingLanguage, Theme, UserPreference
from algo.models.probe import ProbeOrder, ProbeOutcome
from algo.models.quote import MarketQuote
from algo.models.second_factor import RecoveryCode, SecondFactor
from algo.models.signal import Decision, Outcome, Signal
from algo.models.strategy import AllowedSides, StrategyConfig, StrategyStatus
from algo.models.strategy_check import StrategyCheck
from algo.models.tally import TalliedSum
from algo.models.token import TokenGrant, TokenScope
from algo.translated import models_translate

models_translate()

__all__ = [
    "FINISHED_DEALS",
    "UNFINISHED_RUNS",
    "Account",
    "AccountLock",
    "AccountState",
    "AlertAction",
    "AlertState",
    "AllowedSides",
    "AuditRecord",
    "BacktestRun",
    "BalanceReading",
    "Candle",
    "CandleFetch",
    "ChannelType",
    "CloseReason",
    "Deal",
    "DealDay",
    "DealEvent",
    "DealStatus",
    "Decision",
    "Delivery",
    "DeliveryState",
    "Door",
    "Environment",
    "EventKind",
    "Fill",
    "FlatProof",
    "Halt",
    "Heartbeat",
    "InboundAlert",
    "InboundKey",
    "KeptAnswer",
    "KillSwitch",
    "Language",
    "LiveChange",
    "Market",
    "MarketQuote",
    "NotificationChannel",
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
    "QuietRule",
    "ReadingCalendar",
    "ReadingDigits",
    "ReadingLanguage",
    "RecoveryCode",
    "Role",
    "RunStatus",
    "SearchMethod",
    "SecondFactor",
    "Severity",
    "Signal",
    "StrategyCheck",
    "StrategyConfig",
    "StrategyStatus",
    "SystemControl",
    "TalliedSum",
    "Theme",
    "Ticket",
    "TicketAnswer",
    "TicketKind",
    "TokenGrant",
    "TokenScope",
    "UserPreference",
]
