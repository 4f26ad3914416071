"""Tickets: what cannot be explained, and what a person decides about it.

An open ticket blocks new entries on its market only. An answer is a row: whoever next looks after the account carries
it out at the exchange. Only "ignore" needs no exchange and ends the ticket at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext

from algo.localised import minute, zone_name
from algo.models import (
    FINISHED_DEALS,
    Account,
    Deal,
    EventKind,
    Market,
    Order,
    StrategyConfig,
    Ticket,
    TicketAnswer,
    TicketKind,
)
from algo.services.audit import Actor, audit_record
from algo.services.outbox import event_record
from algo.services.refused import Refused
from algo.services.strategy_configs import config_problems
from providers.clock import clock_from_env

logger = logging.getLogger("algo.tickets")

NO_REFERENCE = "unknown"  # the reference of an order that its exchange gave no name


class TicketRefused(Refused):
    """The answer does not fit."""

    def __init__(self, text: str, field: str = "answer") -> None:
        super().__init__(text, field)


@transaction.atomic
def ticket_open(
    account: Account,
    kind: TicketKind,
    reference: str,
    summary: str,
    *,
    market: Market | None,
    at: datetime,
    details: Mapping[str, Any] | None = None,
) -> bool:
    """Ask a person, once per account, kind and reference, for ever: what was explained is not asked again."""
    _, created = Ticket.objects.get_or_create(
        account=account,
        kind=kind,
        reference=reference[:80],
        defaults={"market": market, "summary": summary[:400], "details": dict(details or {}), "created_at": at},
    )
    if created:
        logger.error("ticket kind=%s about=%s account=%s market=%s", kind, reference, account.name, market)
        payload = ticket_payload(account, kind, reference, summary, market)
        event_record(EventKind.TICKET_OPENED, payload, at=at, account=account)
    return created


def ticket_payload(account: Any, kind: str, reference: str, summary: str, market: Any) -> dict[str, Any]:
    """What the world is told of a new one; the same from both ledgers."""
    return {
        "account": account.name,
        "kind": kind,
        "reference": reference,
        "market": market.symbol if market is not None else None,
        "summary": summary[:400],
    }


def ticket_answers(ticket: Ticket) -> tuple[TicketAnswer, ...]:
    """The answers that fit, as far as our books know; none where it is resolved."""
    if ticket.resolved_at is not None:
        return ()
    if not names_order(ticket):
        return (TicketAnswer.IGNORE,)
    return tuple(TicketAnswer) if not _adoption_problem(ticket) else (TicketAnswer.IGNORE, TicketAnswer.CLOSE)


def names_order(ticket: Ticket) -> bool:
    """Whether it is about an order that can be asked for at its exchange."""
    is_order = ticket.kind == TicketKind.UNKNOWN_ORDER and ticket.reference != NO_REFERENCE
    return is_order and ticket.market_id is not None


def ticket_live_deal(ticket: Ticket) -> Deal | None:
    """The live deal on the ticket's account and market. There is one at most."""
    deals = Deal.objects.filter(account=ticket.account_id, market=ticket.market_id)
    return deals.exclude(status__in=FINISHED_DEALS).first()


def ticket_configs(ticket: Ticket) -> list[StrategyConfig]:
    """Strategies under whose rules its order could be adopted; empty while a live deal decides that."""
    if not names_order(ticket) or ticket_live_deal(ticket) is not None:
        return []
    return list(StrategyConfig.objects.filter(account=ticket.account_id, market=ticket.market_id).order_by("name"))


@transaction.atomic
def ticket_answer(
    ticket: Ticket,
    answer: TicketAnswer | str,
    *,
    note: str,
    by: Actor,
    at: datetime | None = None,
    config: StrategyConfig | None = None,
) -> bool:
    """Record what a person decides. False where it was decided so before: twice is once. Raises TicketRefused,
    and PermissionDenied for who may not trade with the account.

    An answer that waits to be carried out may be replaced by another one. `config` is the strategy under whose rules
    an adopted order is looked after; needed where no live deal stands on the market.
    """
    answer, note, at = TicketAnswer(answer), note.strip(), at or clock_from_env().now()
    row = Ticket.objects.select_for_update(of=("self",)).select_related("market", "account").get(pk=ticket.pk)
    by.must_trade(row.account)
    if answer is not TicketAnswer.ADOPT or ticket_live_deal(row) is not None:
        config = None  # the rules are those of the deal that is there
    if row.answer == answer and row.adopt_config_id == (config.pk if config else None):
        return False
    if row.resolved_at is not None:
        raise TicketRefused(
            gettext("This ticket was resolved on %(resolved_at)s %(zone)s; nothing was changed.")
            % {"zone": zone_name(), "resolved_at": minute(row.resolved_at)}
        )
    _check_answer(row, answer, note, config)
    row.answer, row.answer_note, row.answered_at = answer, note[:400], at
    row.adopt_config, row.resolved_by_id, row.outcome = config, by.user_id, ""
    row.save(update_fields=["answer", "answer_note", "answered_at", "adopt_config", "resolved_by", "outcome"])
    payload = _payload(row) | {"note": note, "by": by.name}
    event_record(EventKind.TICKET_ANSWERED, payload, at=at, account=row.account)
    details = {"answer": answer, "reference": row.reference, "strategy": config.name if config else None}
    audit_record("ticket.answer", by=by, subject=row, at=at, reason=note, details=details)
    if answer is TicketAnswer.IGNORE:
        ticket_resolve(row, "Explained by a person; nothing was done at the exchange.", at=at)
    return True


@transaction.atomic
def ticket_resolve(ticket: Ticket, outcome: str, *, at: datetime) -> bool:
    """Its answer is carried out: the market takes entries again where no other ticket is open. False where it was
    resolved before, or answered anew meanwhile."""
    rows = Ticket.objects.filter(pk=ticket.pk, resolved_at=None, answer=ticket.answer, answered_at=ticket.answered_at)
    if not rows.update(resolved_at=at, outcome=outcome[:400]):
        return False
    logger.info("ticket=%s answer=%s resolved: %s", ticket.pk, ticket.answer, outcome)
    event_record(
        EventKind.TICKET_RESOLVED, _payload(ticket) | {"outcome": outcome[:400]}, at=at, account=ticket.account
    )
    return True


@transaction.atomic
def ticket_reopen(ticket: Ticket, why: str, *, at: datetime) -> None:
    """The answer cannot be carried out, and would not be later: another one is needed."""
    rows = Ticket.objects.filter(pk=ticket.pk, resolved_at=None, answer=ticket.answer, answered_at=ticket.answered_at)
    if rows.update(answer="", answered_at=None, adopt_config=None, resolved_by=None, outcome=why[:400]):
        logger.warning("ticket=%s answer=%s refused: %s", ticket.pk, ticket.answer, why)
        event_record(EventKind.TICKET_REFUSED, _payload(ticket) | {"outcome": why[:400]}, at=at, account=ticket.account)


def ticket_hint(ticket: Ticket, why: str) -> None:
    """Why its answer is not carried out yet; it is tried again."""
    if ticket.outcome != why[:400]:
        Ticket.objects.filter(pk=ticket.pk, resolved_at=None, answered_at=ticket.answered_at).update(outcome=why[:400])


def _check_answer(ticket: Ticket, answer: TicketAnswer, note: str, config: StrategyConfig | None) -> None:
    if not names_order(ticket):
        if answer is not TicketAnswer.IGNORE:
            raise TicketRefused(
                gettext(
                    "This ticket is about no order that could be adopted or closed. Settle it at the "
                    "exchange where that is needed, then ignore it and say in the note how it is explained."
                )
            )
        if not note:
            raise TicketRefused(gettext("Say in the note how it is explained, for those who read it later."), "note")
    if answer is TicketAnswer.ADOPT:
        _check_adoption(ticket, config)


def _check_adoption(ticket: Ticket, config: StrategyConfig | None) -> None:
    if problem := _adoption_problem(ticket):
        raise TicketRefused(problem)
    if ticket_live_deal(ticket) is not None or _known_order(ticket) is not None:
        return
    if config is None:
        raise TicketRefused(
            gettext(
                "No deal is open on this market: choose the strategy under whose rules the order is to be looked after."
            ),
            "config",
        )
    if (config.account_id, config.market_id) != (ticket.account_id, ticket.market_id):
        raise TicketRefused(
            gettext(
                "The strategy %(config)s trades on another account or market. Choose one of %(name)s on %(market)s."
            )
            % {"config": config.name, "name": ticket.account.name, "market": ticket.market},
            "config",
        )
    problems = config_problems(config)
    if problems:
        sentences = "; ".join(f"{name}: {', '.join(told)}" for name, told in problems.items())
        raise TicketRefused(
            gettext("The strategy %(config)s cannot work as it is. Correct it first: %(sentences)s")
            % {"config": config.name, "sentences": sentences},
            "config",
        )


def _adoption_problem(ticket: Ticket) -> str:
    order, deal = _known_order(ticket), ticket_live_deal(ticket)
    if order is None or deal is None or order.deal_id == deal.pk:
        return ""
    return gettext(
        "This order belongs to deal %(deal_id)s, which has ended, and deal %(deal)s is open on "
        "the same market: two deals cannot share one position. Close the order, or wait until "
        "deal %(deal)s has ended."
    ) % {"deal_id": order.deal_id, "deal": deal.pk}


def _known_order(ticket: Ticket) -> Order | None:
    """The order in our books that bears the exchange's id."""
    return Order.objects.filter(account=ticket.account_id, exchange_order_id=ticket.reference).first()


def _payload(ticket: Ticket) -> dict[str, Any]:
    return {
        "ticket": ticket.pk,
        "account": ticket.account.name,
        "kind": ticket.kind,
        "reference": ticket.reference,
        "answer": ticket.answer,
    }
