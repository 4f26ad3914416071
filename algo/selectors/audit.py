"""Does the exchange's ledger equal ours, asked of the paper exchange, which tells the whole truth of an account? And
does our own history hold together?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django.db import connection

from algo.models import Account, DealStatus, Fill, Order, ProbeOrder
from algo.selectors.statement import changes_of
from providers.types import ZERO, canonical_asset


def ledger_difference(account: Account, truth: Mapping[str, Any]) -> Decimal:
    """Sum of everything that differs between `truth` (one venue of the paper exchange's account) and the database.

    Balances must be deposits plus our booked fills to the last digit; each order of the exchange must be ours with the
    same filled quantity; an order unknown to either side counts as 1. Zero means that the books agree.
    """
    return _balance_difference(account, truth) + _order_difference(account, truth["orders"])


def _balance_difference(account: Account, truth: Mapping[str, Any]) -> Decimal:
    expected = {asset: Decimal(amount) for asset, amount in truth["deposits"].items()}
    for fill in Fill.objects.filter(account=account).select_related("order__market"):
        for _, asset, change in changes_of(fill):
            name = canonical_asset(asset)
            expected[name] = expected.get(name, ZERO) + change
    totals = {asset: Decimal(balance["total"]) for asset, balance in truth["balances"].items()}
    assets = expected.keys() | totals.keys()
    return sum((abs(expected.get(asset, ZERO) - totals.get(asset, ZERO)) for asset in assets), ZERO)


def _order_difference(account: Account, listed: list[Mapping[str, Any]]) -> Decimal:
    ours = {
        order.exchange_order_id: order.filled_quantity
        for order in Order.objects.filter(account=account, exchange_order_id__isnull=False)
    }
    probes = ProbeOrder.objects.filter(account=account, exchange_order_id__isnull=False)
    ours |= dict(probes.values_list("exchange_order_id", "filled_quantity"))
    theirs = {order["exchange_order_id"]: Decimal(order["filled_quantity"]) for order in listed}
    unknown = len(ours.keys() ^ theirs.keys())
    return sum((abs(ours[key] - theirs[key]) for key in ours.keys() & theirs.keys()), Decimal(unknown))


@dataclass(frozen=True, slots=True)
class BrokenHistory:
    """Where the history of one order or deal does not hold together. `event_id` is None where the end is missing."""

    subject: str  # "order" or "deal"
    subject_id: int
    event_id: int | None
    what: str


def broken_histories() -> list[BrokenHistory]:
    """Every order's and deal's history, checked from its first row to its last by the database: each row's hash is that
    of the row and of the one before it, each goes on from where the one before it ended, and the last one ends where
    the order or the deal stands. Empty where nothing was changed, removed or left out."""
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(_BROKEN.format(subject=name, begins=at) for name, at in _BEGINS.items()))
        return [BrokenHistory(*row) for row in cursor.fetchall()]


# An order's history begins with its plan; a deal's with what first happened to its plan.
_BEGINS = {"order": "", "deal": DealStatus.PLANNED.value}
# A row removed from the end leaves the chain whole: only the order or the deal itself still knows of it.
_BROKEN = """
(WITH history AS (
    SELECT event, (event).*,
        lag((event).hash, 1, '') OVER story AS previous,
        lag((event).to_status) OVER story AS came_from,
        lead((event).id) OVER story IS NULL AS is_last
    FROM algo_{subject}event AS event
    WINDOW story AS (PARTITION BY (event).{subject}_id ORDER BY (event).id)
), checked AS (
    SELECT {subject}_id, id, CASE
        WHEN hash <> algo_{subject}event_hash(previous, event) THEN 'the hash does not fit this row and the one before'
        WHEN came_from IS NULL AND from_status NOT IN ('', '{begins}') THEN 'its beginning is missing'
        WHEN from_status <> came_from THEN 'goes on from ' || from_status || ', where the one before left ' || came_from
    END AS what
    FROM history
)
SELECT '{subject}', {subject}_id, id, what FROM checked WHERE what IS NOT NULL
UNION ALL
SELECT '{subject}', subject.id, NULL, 'its history ends at ' || COALESCE(story.to_status, 'nothing')
    || ', it stands at ' || subject.status
FROM algo_{subject} AS subject LEFT JOIN history AS story ON story.{subject}_id = subject.id AND story.is_last
WHERE COALESCE(story.to_status, '{begins}') <> subject.status
ORDER BY 2, 3)
"""
