"""Whose rows a user may see: an Admin all, everybody else those of accounts they own or may look at. Each with what
its lists show. Admin pages and the API both read through these."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import F, Model, Q, QuerySet

from algo.models import (
    Account,
    AccountLock,
    AuditRecord,
    BacktestRun,
    Candle,
    CandleFetch,
    Deal,
    DealDay,
    DealEvent,
    Decision,
    Delivery,
    Fill,
    FlatProof,
    Halt,
    Heartbeat,
    InboundAlert,
    InboundKey,
    Market,
    MarketQuote,
    NotificationChannel,
    OptimisationRun,
    Order,
    OrderEvent,
    OutboxEvent,
    ParityReport,
    ProbeOrder,
    Signal,
    StrategyCheck,
    StrategyConfig,
    SystemControl,
    Ticket,
    TokenGrant,
    event_kinds,
)
from algo.selectors.rights import accounts_of, sees_all

Row = TypeVar("Row", bound=Model)

# How each kind of row leads to its account. What stands in neither table, an Admin alone may see.
ACCOUNT_OF: dict[type[Model], str] = {
    Account: "pk",
    AccountLock: "account",
    AuditRecord: "account",
    BacktestRun: "config__account",
    Deal: "account",
    DealDay: "account",
    DealEvent: "deal__account",
    Decision: "config__account",
    Fill: "account",
    FlatProof: "account",
    InboundAlert: "config__account",
    InboundKey: "config__account",
    Order: "account",
    OrderEvent: "order__account",
    ParityReport: "config__account",
    ProbeOrder: "account",
    Signal: "config__account",
    StrategyCheck: "config__account",
    StrategyConfig: "account",
    Ticket: "account",
}
OF_EVERYBODY: frozenset[type[Model]] = frozenset({Candle, CandleFetch, Heartbeat, Market, MarketQuote, SystemControl})
_BY = {  # also those one asked for, and one's own
    AuditRecord: "user",
    BacktestRun: "requested_by",
    Delivery: "channel__owner",
    NotificationChannel: "owner",
    OptimisationRun: "requested_by",
    TokenGrant: "token__user",
}


def rows_seen(user: Any, rows: QuerySet[Row]) -> QuerySet[Row]:
    """Of `rows`, those that `user` may see."""
    if sees_all(user) or rows.model in OF_EVERYBODY:
        return rows
    if rows.model is Halt:
        return rows.filter(_halts_seen(user))
    if rows.model is OutboxEvent:
        return rows.filter(_events_seen(user))
    path, by = ACCOUNT_OF.get(rows.model), _BY.get(rows.model)
    if not path and not by:
        return rows.none()
    seen = Q()
    if path:
        seen |= Q(**{f"{path}__in": accounts_of(user).values("pk")})
    if by:
        seen |= Q(**{by: user.pk})
    return rows.filter(seen)


def row_seen(user: Any, row: Model) -> bool:
    """Whether `user` may see this one row."""
    return sees_all(user) or rows_seen(user, type(row)._default_manager.filter(pk=row.pk)).exists()


def account_of(row: Model) -> Account | None:
    """The account whose owner decides about `row`; None where it belongs to none."""
    found: Any = row
    if isinstance(row, Halt):
        target = row.target
        return account_of(target) if target is not None else None
    path = ACCOUNT_OF.get(type(row), "")
    for name in path.split("__") if path and path != "pk" else ():
        found = getattr(found, name, None)
    return found if isinstance(found, Account) else None


def _halts_seen(user: Any) -> Q:
    """A market's switch stops everybody who trades there."""
    mine = accounts_of(user).values("pk")
    return Q(account__in=mine) | Q(config__account__in=mine) | Q(market__isnull=False)


def _events_seen(user: Any) -> Q:
    """Those of one's accounts, those of everybody, and what was said to a channel of one's own."""
    of_everybody = Q(account=None, channel=None, kind__in=event_kinds.OF_EVERYBODY)
    mine = Q(account__in=accounts_of(user).values("pk"), channel=None)
    return of_everybody | mine | Q(channel__owner=user.pk)


def accounts_visible(user: Any) -> QuerySet[Account]:
    return rows_seen(user, Account.objects.select_related("owner"))


def markets_visible(user: Any) -> QuerySet[Market]:
    """With the last quote of its stream, where there is one."""
    return rows_seen(user, Market.objects.select_related("streamed_quote"))


def candle_fetches_visible(user: Any) -> QuerySet[CandleFetch]:
    return rows_seen(user, CandleFetch.objects.select_related("market"))


def deals_visible(user: Any) -> QuerySet[Deal]:
    return rows_seen(user, Deal.objects.select_related("config", "market"))


def orders_visible(user: Any) -> QuerySet[Order]:
    return rows_seen(user, Order.objects.select_related("market"))


def fills_visible(user: Any) -> QuerySet[Fill]:
    return rows_seen(user, Fill.objects.select_related("order"))


def signals_visible(user: Any) -> QuerySet[Any]:
    """With `deal_id_of_signal`: the deal it led to, None where it was denied."""
    return rows_seen(user, Signal.objects.select_related("config").annotate(deal_id_of_signal=F("deal__id")))


def decisions_visible(user: Any) -> QuerySet[Decision]:
    return rows_seen(user, Decision.objects.select_related("config"))


def strategies_visible(user: Any) -> QuerySet[StrategyConfig]:
    return rows_seen(user, StrategyConfig.objects.select_related("account", "market", "data_market"))


def inbound_keys_visible(user: Any) -> QuerySet[InboundKey]:
    """Of strategies one sees: what their address is, and never the secret."""
    return rows_seen(user, InboundKey.objects.select_related("config", "made_by"))


def inbound_alerts_visible(user: Any) -> QuerySet[InboundAlert]:
    return rows_seen(user, InboundAlert.objects.select_related("config", "signal"))


def optimisations_visible(user: Any) -> QuerySet[OptimisationRun]:
    """Those one began."""
    return rows_seen(user, OptimisationRun.objects.select_related("market"))


def tickets_visible(user: Any) -> QuerySet[Ticket]:
    return rows_seen(user, Ticket.objects.select_related("account", "market", "resolved_by"))


def backtests_visible(user: Any) -> QuerySet[BacktestRun]:
    """Those one asked for, and those of strategies of one's accounts; an Admin also those run in a shell."""
    return rows_seen(user, BacktestRun.objects.select_related("market", "config", "requested_by"))


def audit_visible(user: Any) -> QuerySet[AuditRecord]:
    """What one did oneself, and what was done to one's accounts."""
    return rows_seen(user, AuditRecord.objects.all())


def tokens_visible(user: Any) -> QuerySet[TokenGrant]:
    """One's own; an Admin everybody's. Expired ones are there for a month."""
    return rows_seen(user, TokenGrant.objects.select_related("token__user", "created_by"))


def outbox_visible(user: Any) -> QuerySet[OutboxEvent]:
    """What happened on the accounts one may see, and what concerns everybody."""
    return rows_seen(user, OutboxEvent.objects.all())


def channels_visible(user: Any) -> QuerySet[NotificationChannel]:
    """One's own; an Admin everybody's, and the operator's. Their addresses are sealed."""
    return rows_seen(user, NotificationChannel.objects.select_related("owner"))


def deliveries_visible(user: Any) -> QuerySet[Delivery]:
    """What was sent, or is to be sent, to channels of one's own; an Admin sees all of them."""
    return rows_seen(user, Delivery.objects.select_related("event", "channel"))
