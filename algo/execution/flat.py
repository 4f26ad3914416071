"""Flat, said only with proof: the exchange's open orders and balances agree with books in which nothing is open.

An account under FLATTEN is checked until it is flat, and again every minute while the switch stands. What cannot be
read, or does not agree, is "not proven" with the reason; no other answer is ever made of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Q

from algo.execution.identity import is_ours
from algo.execution.ledger_rows import control_of, effect_on
from algo.execution.reconcile import QUARANTINE
from algo.models import (
    FINISHED_DEALS,
    Account,
    Deal,
    DealStatus,
    EventKind,
    Fill,
    FlatProof,
    Market,
    Order,
    Ticket,
    TicketKind,
)
from algo.selectors.halts import flattening_over, open_tickets, unexplained
from algo.services.outbox import event_record
from providers.budgets import Priority, budget_priority
from providers.clock import CLOCKS_DIFFER, Clock
from providers.errors import AuthFailed, ProviderError
from providers.interface import ExchangeProvider
from providers.types import FINAL_STATUSES, ZERO, Balance, OrderReport

logger = logging.getLogger("algo.control")


@dataclass(frozen=True, slots=True)
class Compared:
    """One asset: what the books make of it, and what the exchange says."""

    asset: str
    expected: Decimal
    found: Decimal
    tolerance: Decimal

    @property
    def agrees(self) -> bool:
        return abs(self.found - self.expected) <= self.tolerance


def prove_flat(account: Account, provider: ExchangeProvider, clock: Clock) -> FlatProof:
    """Ask the exchange whether `account` is flat, and keep the answer. Call it with the account's lock held.

    Flat: no deal of ours lives, no order of ours is open or unknown, the exchange shows none open under our name and
    none that nobody has explained, no ticket is open, and each asset of the deals that stood when the switch was turned
    has the total that the last balance before and the fills since make of it, to one step of its market (one tick for a
    quote). Raises AuthFailed, after noting it.
    """
    turned = max((turned for _, turned in flattening_over(account)), default=clock.now())
    proof = _Proof(account, turned, _baseline(account, turned))
    refused: AuthFailed | None = None
    proof.look_at_books(clock)
    if not proof.still_closing:  # the exits need the calls more than we do
        try:
            with budget_priority(Priority.NORMAL):
                proof.look_at_orders(provider.open_orders())
                proof.look_at_balances(provider.balances(), clock)
        except AuthFailed as exc:
            refused = exc
        except ProviderError as exc:
            proof.gaps.append(f"the exchange could not be asked: {exc}")
    row = _record(proof, refused, clock.now())
    if refused:
        raise refused
    return row


def _baseline(account: Account, turned: datetime) -> dict[str, Any]:
    """The balances last known when the switch was turned: what was read later would hide what happened between."""
    known = FlatProof.objects.filter(account=account).values_list("details", flat=True).first() or {}
    if known.get("turned_at") == turned.isoformat():
        return dict(known["baseline"])
    row = Account.objects.only("balances", "balances_read_at").get(pk=account.pk)
    read_at = row.balances_read_at.isoformat() if row.balances_read_at else None
    return {"read_at": read_at, "balances": row.balances}


class _Proof:
    """What was found so far; every gap is a reason why the account does not count as flat."""

    def __init__(self, account: Account, turned: datetime, baseline: dict[str, Any]) -> None:
        self.account, self.turned, self.baseline = account, turned, baseline
        self.gaps: list[str] = []
        self.still_closing = False
        self.ours_open: list[dict[str, str | None]] | None = None
        self.foreign: list[dict[str, str | None]] = []
        self.unasked: list[dict[str, str | None]] = []  # of these, those that no ticket is about yet
        self.compared: list[Compared] = []

    @property
    def stood(self) -> Iterable[Deal]:
        """The deals that the switch met."""
        met = Q(closed_at=None) | Q(closed_at__gte=self.turned)
        return Deal.objects.filter(met, account=self.account).select_related("market").order_by("pk")

    def look_at_books(self, clock: Clock) -> None:
        live = list(Deal.objects.filter(account=self.account).exclude(status__in=FINISHED_DEALS).order_by("pk"))
        self.gaps += [f"deal {deal.pk} is {DealStatus(deal.status).label.lower()}" for deal in live]
        self.still_closing = any(control_of(d.account_id, d.config_id, d.market_id).flatten for d in live)
        orders = Order.objects.filter(account=self.account).order_by("pk")
        unsure = orders.exclude(status__in=FINAL_STATUSES).exclude(deal__in=live)
        self.gaps += [f"order {order.client_order_id} is {order.status.lower()} by our books" for order in unsure]
        young = orders.filter(negative_at__gte=clock.now() - clock.wall(QUARANTINE), status__in=FINAL_STATUSES)
        self.gaps += [f"order {order.client_order_id} was given up just now and may still turn up" for order in young]
        self.gaps += open_tickets(self.account)

    def look_at_orders(self, listed: Sequence[OrderReport]) -> None:
        known = _our_ids(self.account, listed)
        told = [
            (_told(report), is_ours(report.client_order_id) or report.exchange_order_id in known) for report in listed
        ]
        self.ours_open = [each for each, ours in told if ours]
        self.foreign = [each for each, ours in told if not ours]
        self.gaps += [f"order {each['order']} is open on {each['symbol']}" for each in self.ours_open]
        about = Ticket.objects.filter(account=self.account, kind=TicketKind.UNKNOWN_ORDER)
        asked = set(about.values_list("reference", flat=True))  # explained, or among the gaps already
        self.unasked = [each for each in self.foreign if asked.isdisjoint((each["exchange_order_id"], each["order"]))]
        self.gaps += map(unexplained, self.unasked)

    def look_at_balances(self, balances: Mapping[str, Balance], clock: Clock) -> None:
        stood = list(self.stood)
        steps = _steps(deal.market for deal in stood)
        if not stood:
            return
        if self.baseline["read_at"] is None:
            self.gaps.append("no balance was known before the switch was turned: there is nothing to compare with")
            return
        self.compared = self._best_comparison(balances, steps, clock)
        self.gaps += [
            f"{_text(each.found)} {each.asset} are there, our books say {_text(each.expected)}"
            for each in self.compared
            if not each.agrees
        ]
        if not self.foreign:
            held = (balances[asset] for asset in steps if asset in balances)
            self.gaps += [
                f"{_text(each.locked)} {each.asset} are locked and no open order is listed"
                for each in held
                if each.locked > steps[each.asset]
            ]

    def _best_comparison(
        self, balances: Mapping[str, Balance], steps: Mapping[str, Decimal], clock: Clock
    ) -> list[Compared]:
        """A reading of balances saw the fills up to some moment near its own: the one that agrees best is taken."""
        read_at, around = datetime.fromisoformat(self.baseline["read_at"]), clock.wall(CLOCKS_DIFFER.total_seconds())
        fills = Fill.objects.filter(account=self.account, executed_at__gte=read_at - around)
        later = list(fills.select_related("order__market").order_by("executed_at", "pk"))
        unclear = sum(1 for fill in later if fill.executed_at < read_at + around)
        tried = (self._compare(balances, steps, later[seen:]) for seen in range(unclear + 1))
        return min(tried, key=lambda compared: sum(not each.agrees for each in compared))

    def _compare(
        self, balances: Mapping[str, Balance], steps: Mapping[str, Decimal], fills: Sequence[Fill]
    ) -> list[Compared]:
        before = self.baseline["balances"]
        return [
            Compared(
                asset,
                expected=Decimal(before.get(asset, ("0", "0"))[0]) + sum((effect_on(asset, f) for f in fills), ZERO),
                found=balances[asset].total if asset in balances else ZERO,
                tolerance=step,
            )
            for asset, step in sorted(steps.items())
        ]

    def details(self) -> dict[str, Any]:
        return {
            "turned_at": self.turned.isoformat(),
            "baseline": self.baseline,
            "gaps": self.gaps,
            "open_orders": self.ours_open,
            "orders_of_others": self.foreign,
            "unexplained_orders": self.unasked,
            "assets": [
                {
                    "asset": each.asset,
                    "expected": _text(each.expected),
                    "found": _text(each.found),
                    "tolerance": _text(each.tolerance),
                    "agrees": each.agrees,
                }
                for each in self.compared
            ],
            "dust": [
                {"deal": deal.pk, "asset": deal.market.base, "quantity": _text(deal.dust_quantity)}
                for deal in self.stood
                if deal.dust_quantity
            ],
        }

    def summary(self) -> str:
        if self.gaps:
            return f"Not proven flat: {'; '.join(self.gaps)}."
        said = ["no deal lives", "no order of ours is open"]
        if self.compared:
            said.append(f"{', '.join(each.asset for each in self.compared)} are what our books say")
        others = f" {len(self.foreign)} open orders of others were left alone." if self.foreign else ""
        return f"Flat by the exchange's own lists: {', '.join(said)}.{others}"


def _our_ids(account: Account, listed: Sequence[OrderReport]) -> set[str | None]:
    """Which of the listed orders our books know by the exchange's name for them."""
    names = [report.exchange_order_id for report in listed if report.exchange_order_id]
    found = Order.objects.filter(account=account, exchange_order_id__in=names)
    return set(found.values_list("exchange_order_id", flat=True))


def _told(report: OrderReport) -> dict[str, str | None]:
    return {
        "order": report.client_order_id or report.exchange_order_id,
        "exchange_order_id": report.exchange_order_id,
        "symbol": report.symbol,
        "side": report.side.value,
        "remaining": _text(report.quantity - report.filled_quantity),
    }


def _steps(markets: Iterable[Market]) -> dict[str, Decimal]:
    """Each asset of the markets, and how much of it may be missing: one step of a base, one tick of a quote."""
    steps: dict[str, Decimal] = {}
    for market in markets:
        for asset, step in ((market.base, market.step_size), (market.quote, market.tick_size)):
            steps[asset] = max(step, steps.get(asset, ZERO))
    return steps


def _text(value: Decimal) -> str:
    return format(value.normalize(), "f")


@transaction.atomic
def _record(proof: _Proof, refused: AuthFailed | None, now: datetime) -> FlatProof:
    if refused:
        proof.gaps.append(f"the exchange refused the key: {refused}")
    account = proof.account
    before = FlatProof.objects.filter(account=account, checked_at__gte=proof.turned).first()
    is_flat, summary = not proof.gaps, proof.summary()[:400]
    row, _ = FlatProof.objects.update_or_create(
        account=account,
        defaults={"is_flat": is_flat, "summary": summary, "details": proof.details(), "checked_at": now},
    )
    if is_flat != (before is not None and before.is_flat):
        kind = EventKind.ACCOUNT_FLAT if is_flat else EventKind.ACCOUNT_NOT_FLAT
        event_record(kind, {"account": account.name, "proof": summary}, at=now, account=account)
        logger.warning("account=%s %s", account.name, summary)
    return row
