"""The reconciliation inbox: what people answered to tickets is carried out at the exchange, under the account's lock.

An answer is tried until the exchange has answered. Whatever a process dies after, the next one asks the exchange again
and does what is left: a cancel is asked for until the order has ended, and an adopted order comes into the books in the
transaction that resolves its ticket. From there on it is an order like any other: its fills are read and its deal is
protected by the pass that adopted it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import IntegrityError, transaction

from algo.execution.decide import StartExit
from algo.execution.identity import client_order_id
from algo.execution.ledger import Fenced, Ledger, Located
from algo.execution.ledger_rows import log_deal, log_order, record_deal_event, record_event, take_amounts
from algo.execution.submit import order_cancel
from algo.execution.views import DealView
from algo.models import Account, CloseReason, Deal, DealStatus, Order, Role, StrategyConfig, Ticket, TicketAnswer
from algo.models.fields import plain
from algo.risk.stops import initial_stop, target_price
from algo.selectors.sessions import is_lost
from algo.services.strategy_configs import parameters_clean, parameters_to_store
from algo.services.tickets import ticket_hint, ticket_live_deal, ticket_reopen, ticket_resolve
from algo.strategies.schemas import InvalidParameters
from algo.strategies.strategy_factory import UnknownStrategy
from providers.clock import Clock
from providers.errors import AuthFailed, OrderNotFound, OrderRejected, OutcomeUnknown, ProviderError, Unavailable
from providers.interface import ExchangeProvider
from providers.types import OrderRef, OrderReport, OrderStatus, OrderType, ProtectionMode, Side

logger = logging.getLogger("algo.tickets")

BEFORE = timedelta(hours=1)  # how long before its ticket an order is looked for in the exchange's history
GONE_AFTER = 10.0  # wall seconds of looking in vain after which the exchange is believed not to know an order


class Refused(Exception):
    """The answer cannot be carried out, now or later: another one is needed. Nothing was changed."""


class NotYet(Exception):
    """It cannot be carried out now: it is tried again at the next pass."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What is needed to carry out one answer."""

    ticket: Ticket
    account: Account
    ledger: Ledger
    provider: ExchangeProvider
    clock: Clock

    @property
    def ref(self) -> OrderRef:
        return OrderRef(self.symbol, exchange_order_id=self.ticket.reference)

    @property
    def symbol(self) -> str:
        return self.ticket.market.symbol if self.ticket.market else ""


def answer_tickets(account: Account, ledger: Ledger, provider: ExchangeProvider, clock: Clock) -> str:
    """Carry out what was answered for `account`; returns the exchange's last failure, empty where there was none. For
    the holder of the account's lock. Raises AuthFailed."""
    error = ""
    waiting = Ticket.objects.filter(account=account, resolved_at=None).exclude(answer="").order_by("answered_at")
    for ticket in waiting.select_related("account", "market", "adopt_config"):
        try:
            _carry_out(Desk(ticket, account, ledger, provider, clock))
        except (AuthFailed, Fenced):
            raise
        except Refused as exc:
            ticket_reopen(ticket, str(exc), at=clock.now())
        except (NotYet, IntegrityError) as exc:
            busy = "the books changed meanwhile"
            ticket_hint(ticket, f"Not yet: {exc if isinstance(exc, NotYet) else busy}. It is tried again.")
        except ProviderError as exc:
            error = str(exc)
            ticket_hint(ticket, f"The exchange did not do it yet ({exc}). It is tried again.")
            if isinstance(exc, Unavailable):
                break  # open positions must not wait while every other ticket hears the same
        except Exception as exc:  # outlives one ticket: positions are still to be protected
            if is_lost(exc):
                raise
            logger.exception("ticket=%s could not be carried out", ticket.pk)
            ticket_hint(ticket, "It failed unexpectedly; see the log. It is tried again.")
    return error


def _carry_out(desk: Desk) -> None:
    report = _look_up(desk)
    known = _in_books(desk, report)
    if desk.ticket.answer == TicketAnswer.CLOSE:
        _close(desk, report, known)
    else:
        _adopt(desk, report, known)


def _look_up(desk: Desk) -> OrderReport:
    """What the exchange says about the order. An absence is believed only after a while of asking."""
    try:
        return desk.provider.fetch_order(desk.ref)
    except OrderNotFound:
        pass
    for report in desk.provider.orders_since(desk.symbol, desk.ticket.created_at - BEFORE):
        if report.exchange_order_id == desk.ticket.reference:
            return report
    answered = desk.ticket.answered_at or desk.ticket.created_at
    if desk.clock.now() - answered < desk.clock.wall(GONE_AFTER):
        raise NotYet("the exchange does not know this order just now")
    raise Refused(
        "The exchange does not know this order any more, neither by its id nor in its history: there is nothing to "
        "adopt or to cancel. Compare the balance at the exchange, then answer ignore."
    )


def _in_books(desk: Desk, report: OrderReport) -> Located | None:
    """The order of ours that it is; not one that only bears the same name."""
    found = desk.ledger.find(desk.ticket.reference, report.client_order_id)
    return found if found and found.order.exchange_order_id in (None, desk.ticket.reference) else None


def _resolve(desk: Desk, outcome: str) -> None:
    """Raises NotYet where somebody answered anew meanwhile: inside a transaction, it takes everything back."""
    if not ticket_resolve(desk.ticket, outcome, at=desk.clock.now()):
        raise NotYet("it was answered anew meanwhile")


# --- close ----------------------------------------------------------------------------------------------------------


def _close(desk: Desk, report: OrderReport, known: Located | None) -> None:
    if known and not known.order.is_final:
        _resolve(desk, f"It is an order of deal {known.deal_id} by now, which looks after it: it was not cancelled.")
        return
    worked = not report.status.is_final
    if worked:
        report = _cancel(desk)
    if not report.status.is_final:
        raise NotYet("the cancel was asked for, and the exchange still shows the order working")
    _resolve(desk, f"{'Cancelled' if worked else 'It had ended already'}: {_left_behind(report, desk)}")


def _cancel(desk: Desk) -> OrderReport:
    """Whatever is answered to a cancel, the order itself is read afterwards: it may have been filled."""
    try:
        desk.provider.cancel_order(desk.ref)
    except (OrderNotFound, OrderRejected, OutcomeUnknown) as exc:
        logger.info("cancel for ticket=%s gave no answer (%s); reading the order", desk.ticket.pk, exc)
    return _look_up(desk)


def _left_behind(report: OrderReport, desk: Desk) -> str:
    base = desk.ticket.market.base if desk.ticket.market else ""
    if report.filled_quantity <= 0:
        return "nothing of it was filled."
    bought = report.side is Side.BUY
    price = f" at {_text(report.average_price)}" if report.average_price else ""
    return (
        f"{_text(report.filled_quantity)} of {_text(report.quantity)} {base} had been {'bought' if bought else 'sold'}"
        f"{price}. The account holds that much {'more' if bought else 'less'}, and no deal counts it."
    )


# --- adopt ----------------------------------------------------------------------------------------------------------


def _adopt(desk: Desk, report: OrderReport, known: Located | None) -> None:
    deal = ticket_live_deal(desk.ticket)
    if known:
        _adopt_known(desk, report, known, deal)
    elif report.status.is_final and report.filled_quantity <= 0:
        _resolve(desk, "It had ended without being filled: there is nothing to look after.")
    elif report.pair_id is not None and not report.status.is_final:
        raise Refused(
            "It is one half of a pair (OCO), which can only be adopted whole. Answer close: that cancels both."
        )
    elif deal is None:
        _adopt_entry(desk, report)
    else:
        _adopt_exit(desk, report, desk.ledger.deal(deal.pk))


def _adopt_known(desk: Desk, report: OrderReport, known: Located, live: Deal | None) -> None:
    """Reconciliation takes orders that bear our name back by itself, as soon as their deal can be open again."""
    order = known.order
    if not order.is_final or (report.status.is_final and order.filled >= report.filled_quantity):
        _resolve(desk, f"It is in the books: an order of deal {known.deal_id}.")
    elif live is not None and live.pk != known.deal_id:
        raise Refused(
            f"It belongs to deal {known.deal_id}, which has ended, and deal {live.pk} is open on the same market: two "
            f"deals cannot share one position. Answer close, or adopt it when deal {live.pk} has ended."
        )
    else:
        raise NotYet(f"the next reconciliation takes it back into deal {known.deal_id}")


def _adopt_entry(desk: Desk, report: OrderReport) -> None:
    """A deal of its own. What of the order is filled is protected; a limit order that is not filled yet goes on
    resting."""
    config = desk.ticket.adopt_config
    if config is None:
        raise Refused(
            "No deal is open on this market any more. Adopt it under a strategy, whose rules then protect what is "
            "filled of it, or answer close or ignore."
        )
    if report.side not in config.sides:
        raise Refused(f"The strategy {config.name} does not take {report.side} positions. Choose another, or close it.")
    if not report.status.is_final and _type_of(report).is_stop:
        raise Refused("It is a stop order, and no deal is open that it could close. Answer close or ignore.")
    price = report.average_price or report.price
    if price is None:
        raise NotYet("neither its price nor what it was filled at is known")
    with transaction.atomic():
        row = _new_deal(desk, report, config, price)
        _new_order(desk, report, row, Role.ENTRY)
        _resolve(desk, f"Adopted as the entry of deal {row.pk}, under the rules of {config.name}.")


def _new_deal(desk: Desk, report: OrderReport, config: StrategyConfig, price: Decimal) -> Deal:
    try:
        parameters = parameters_clean(config.strategy, config.parameters)
    except (UnknownStrategy, InvalidParameters) as exc:
        raise Refused(f"The strategy {config.name} cannot work as it is: {exc}") from exc
    rules, now = config.market.rules, desk.clock.now()
    stop = initial_stop(price, report.side, Decimal(str(parameters.stop_loss_percent)), rules)
    mode = desk.account.known_capabilities(desk.provider.capabilities()).protection_mode
    row = Deal.objects.create(
        config=config,
        account=desk.account,
        market=config.market,
        bar_open_at=_free_bar(config, report, now),
        side=report.side,
        status=DealStatus.ENTERING,
        rules=parameters_to_store(parameters),
        protection_mode=mode,
        planned_quantity=report.quantity,
        planned_price=price,
        initial_stop_price=stop,
        stop_price=stop,
        target_price=target_price(price, report.side, Decimal(str(parameters.take_profit_percent)), rules),
        note=f"adopted by ticket {desk.ticket.pk}",
        created_at=now,
    )
    record_deal_event(row, "status", "", now, why=row.note)
    log_deal(row, f"adopted ticket={desk.ticket.pk} order={desk.ticket.reference}")
    return row


def _free_bar(config: StrategyConfig, report: OrderReport, now: datetime) -> datetime:
    """When the order was made; a moment later where the strategy has a deal of that very moment already."""
    at = report.created_at or now
    taken = Deal.objects.filter(config=config, market=config.market, side=report.side)
    while taken.filter(bar_open_at=at).exists():
        at += timedelta(microseconds=1)
    return at


def _adopt_exit(desk: Desk, report: OrderReport, deal: DealView) -> None:
    """An order of the live deal. Ours that it stands in for are cancelled first: the two may never both be filled."""
    _check_exit(report, deal)
    role = _role_of(report)
    if role is Role.STOP:
        _check_stop(report, deal)
    elif role is Role.TARGET:
        _check_target(report, deal)
    elif not report.status.is_final and deal.live(Role.EXIT):
        raise NotYet(f"deal {deal.id} is being closed by an order of its own")
    if role is not Role.EXIT:
        _make_way(desk, deal, role)
    with transaction.atomic():
        row = Deal.objects.select_for_update(of=("self",)).select_related("account", "market").get(pk=deal.id)
        _new_order(desk, report, row, role)
        _follow(desk, report, deal, role)
        _resolve(desk, f"Adopted as the {role.lower()} of deal {row.pk}.")


def _check_exit(report: OrderReport, deal: DealView) -> None:
    wanted = report.filled_quantity if report.status.is_final else report.quantity
    if report.side is not deal.exit_side:
        raise Refused(
            f"Deal {deal.id} is open on this market, and this {report.side} order would add to it: positions are not "
            "enlarged. Answer close or ignore, or adopt it under a strategy when that deal has ended."
        )
    if deal.status not in (DealStatus.OPEN, DealStatus.EXITING) or any(order.is_unknown for order in deal.orders):
        raise NotYet(f"deal {deal.id} is still entering, or the fate of one of its orders is not known")
    if report.created_at is not None and report.created_at < deal.created_at:
        raise Refused(f"It is older than deal {deal.id}, so it does not close it. Answer close or ignore.")
    if wanted > deal.position:
        raise Refused(
            f"It is for {_text(wanted)} {deal.rules.base}, and deal {deal.id} has {_text(deal.position)} open: a deal "
            "never closes more than it has. Answer close or ignore."
        )


def _role_of(report: OrderReport) -> Role:
    if report.status.is_final:
        return Role.EXIT
    kind = _type_of(report)
    if kind.is_stop:
        return Role.STOP
    return Role.TARGET if kind is OrderType.LIMIT else Role.EXIT


def _check_stop(report: OrderReport, deal: DealView) -> None:
    if deal.exit_reason is not None:
        raise Refused(f"Deal {deal.id} is being closed: it needs no stop. Answer close.")
    stop = report.stop_price
    covers = report.quantity - report.filled_quantity >= deal.closable * Decimal("0.995")
    if stop is None or not covers or (stop - deal.stop_price) * deal.side.sign < 0:
        raise Refused(
            f"It protects deal {deal.id} less than its own stop at {_text(deal.stop_price)} for "
            f"{_text(deal.closable)} {deal.rules.base}. Answer close: then the deal's own stop rests alone."
        )


def _check_target(report: OrderReport, deal: DealView) -> None:
    """Where stop and target may not rest side by side, what was filled of it still counts, and the rest is taken down
    by the rules of the deal."""
    may_rest = deal.mode is ProtectionMode.NO_STOPS or (deal.mode is ProtectionMode.FREE_STOPS and not deal.swaps)
    if report.filled_quantity <= 0 and not may_rest:
        raise Refused(
            f"On this account no limit order may rest beside the protection of deal {deal.id}: both could be filled. "
            "Answer close; the deal's own target stays as it is."
        )


def _make_way(desk: Desk, deal: DealView, role: Role) -> None:
    for order in deal.live(role):
        if order.status is OrderStatus.PENDING:
            desk.ledger.end_order(order, OrderStatus.CANCELED, reason="an adopted order", now=desk.clock.now())
            continue
        order_cancel(
            deal, order, "an adopted order takes its place",
            ledger=desk.ledger, provider=desk.provider, clock=desk.clock,
        )  # fmt: skip
    left = desk.ledger.deal(deal.id)
    if left.live(role):
        raise NotYet(f"deal {deal.id}'s own {role.lower()} has not ended yet")
    if left.position < deal.position:
        raise NotYet(f"deal {deal.id} was closed in part meanwhile")


def _follow(desk: Desk, report: OrderReport, deal: DealView, role: Role) -> None:
    """What the deal makes of its new order: a tighter stop is where its stop belongs, and an exit for all of it is the
    end by hand."""
    now = desk.clock.now()
    if role is Role.STOP and report.stop_price is not None and report.stop_price != deal.stop_price:
        best = deal.best_price or deal.entry_price or deal.planned_price
        desk.ledger.move_stop(deal, report.stop_price, best, now=now)
    if role is not Role.EXIT or deal.exit_reason is not None:
        return
    closes = report.filled_quantity if report.status.is_final else report.quantity
    price = report.average_price or deal.entry_price or deal.planned_price
    if replace(deal, held=deal.position - closes).is_dust(price):
        why = f"closed by hand: ticket {desk.ticket.pk}"
        desk.ledger.start_exit(deal, StartExit(CloseReason.MANUAL, why), now=now)


def _new_order(desk: Desk, report: OrderReport, deal: Deal, role: Role) -> Order:
    """The row, with what the exchange said. Its fills are booked when it is read back, which is due at once."""
    now = desk.clock.now()
    made_at = report.created_at or now
    row = Order(
        deal=deal,
        account=desk.account,
        market_id=deal.market_id,
        role=role,
        leg=Order.objects.filter(deal=deal, role=role).count() + 1,
        client_order_id=_free_name(desk, report),
        exchange_order_id=desk.ticket.reference,
        side=report.side,
        type=_type_of(report),
        quantity=report.quantity,
        price=report.price,
        stop_price=report.stop_price,
        status=report.status,
        reason=f"adopted by ticket {desk.ticket.pk}",
        raw=dict(report.raw),
        adoptions=1,
        created_at=now,
        submitted_at=made_at,
        accepted_at=made_at,
        closed_at=now if report.status.is_final else None,
    )
    take_amounts(row, report)
    row.save()
    record_event(row.pk, "", row.status, now, row.reason, dict(report.raw))
    log_order(row)
    return row


def _free_name(desk: Desk, report: OrderReport) -> str:
    """The name that the order bears at the exchange, or one of ours where that is missing, too long, or taken by an
    order that was sent twice."""
    name = report.client_order_id
    if name and len(name) <= 32 and not Order.objects.filter(client_order_id=name).exists():
        return name
    return client_order_id(desk.account.environment, desk.account.public_id, "ticket", desk.ticket.reference)


def _type_of(report: OrderReport) -> OrderType:
    if report.type is not None:
        return report.type
    if report.stop_price is not None:
        return OrderType.STOP_LIMIT if report.price is not None else OrderType.STOP_MARKET
    return OrderType.LIMIT if report.price is not None else OrderType.MARKET


def _text(value: Decimal) -> str:
    return f"{plain(value):f}"
