"""The lives of an order and of a deal, as tables. What is not in them does not happen."""

from __future__ import annotations

from algo.models import DealStatus
from providers.types import OrderStatus as S


class IllegalTransition(Exception):
    """Somebody asked for a change that the tables do not have: a defect, never to be forced."""


_AT_EXCHANGE = frozenset({S.OPEN, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.EXPIRED})

ORDER_TRANSITIONS: dict[S, frozenset[S]] = {
    S.PENDING: frozenset({S.SUBMITTED, S.CANCELED}),
    S.SUBMITTED: _AT_EXCHANGE | {S.PENDING, S.REJECTED},  # back to PENDING: it provably never left
    S.OPEN: frozenset({S.PARTIALLY_FILLED, S.CANCELING, S.FILLED, S.CANCELED, S.REJECTED, S.EXPIRED}),
    S.PARTIALLY_FILLED: frozenset({S.CANCELING, S.FILLED, S.CANCELED, S.EXPIRED}),
    S.CANCELING: frozenset({S.OPEN, S.PARTIALLY_FILLED, S.FILLED, S.CANCELED, S.REJECTED, S.EXPIRED}),
    S.FILLED: frozenset(),
    S.CANCELED: frozenset({S.FILLED}),  # a fill can outrun a cancel
    S.REJECTED: _AT_EXCHANGE,  # given up as never arrived, then found at the exchange: adopted
    S.EXPIRED: frozenset({S.FILLED}),
}
# An order that was given up as lost and is found alive is adopted from any end.
ADOPTIONS: dict[S, frozenset[S]] = {S.CANCELED: _AT_EXCHANGE, S.REJECTED: _AT_EXCHANGE, S.EXPIRED: _AT_EXCHANGE}

DEAL_TRANSITIONS: dict[DealStatus, frozenset[DealStatus]] = {
    DealStatus.PLANNED: frozenset({DealStatus.ENTERING, DealStatus.CANCELED}),
    DealStatus.ENTERING: frozenset({DealStatus.OPEN, DealStatus.CANCELED, DealStatus.PLANNED}),
    DealStatus.OPEN: frozenset({DealStatus.EXITING, DealStatus.CLOSED}),
    DealStatus.EXITING: frozenset({DealStatus.CLOSED}),
    DealStatus.CLOSED: frozenset({DealStatus.OPEN}),  # reopened: an order of ours was adopted after the end
    DealStatus.CANCELED: frozenset({DealStatus.OPEN}),
}


def check_order(old: S, new: S, *, adopting: bool = False) -> None:
    """Raise IllegalTransition unless an order may go from `old` to `new`."""
    allowed = ORDER_TRANSITIONS[old] | (ADOPTIONS.get(old, frozenset()) if adopting else frozenset())
    if new not in allowed:
        raise IllegalTransition(f"An order cannot go from {old} to {new}.")


def check_deal(old: DealStatus, new: DealStatus) -> None:
    """Raise IllegalTransition unless a deal may go from `old` to `new`."""
    if new not in DEAL_TRANSITIONS[old]:
        raise IllegalTransition(f"A deal cannot go from {old} to {new}.")
