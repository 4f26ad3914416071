"""The in-memory ledger refuses what the database refuses, and leaves nothing behind where it does."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError

from algo.execution.decide import CloseDeal, OpenDeal, Place, PlacePair, StartExit
from algo.execution.ledger import DealStands, Fenced
from algo.execution.ledger_memory import MemoryLedger
from algo.execution.lifecycle import IllegalTransition
from algo.execution.memory_store import MemoryStore, stored
from algo.models import CloseReason, Role
from providers.types import Fill, MarketRules, OrderReport, OrderStatus, OrderType, ProtectionMode, Side
from tests.factories import NOW, WALLEX_LIKE

D = Decimal
S = OrderStatus
RULES = MarketRules(
    "wallex", "BTCUSDT", "BTC", "USDT", D("0.01"), D("0.001"), D("0.001"), D(5), D("0.0025"), D("0.003"), D("0.02")
)


class Books:
    """Two strategies of one account on one market, and a planned deal of the first."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.market = self.store.add_market(RULES)
        self.account = self.store.add_account("main", "wallex")
        self.configs = [self.store.add_config(name, self.account, self.market) for name in ("one", "two")]
        self.ledger = MemoryLedger(self.store, self.account.pk, WALLEX_LIKE)
        self.plan()

    def plan(self, config: int = 0, bar: int = 0, **values: Any) -> int:
        planned = {
            "side": Side.BUY,
            "rules": {"stop_loss_percent": "1", "take_profit_percent": "2"},
            "protection_mode": ProtectionMode.LOCKING_STOPS,
            "planned_quantity": D(1),
            "planned_price": D(100),
            "initial_stop_price": D(99),
            "stop_price": D(99),
            "target_price": D(102),
        }
        with self.store.atomic():
            at = NOW + timedelta(minutes=bar)
            deal = self.store.add_deal(self.configs[config], bar_open_at=at, created_at=at, **planned | values)
            self.store.add_order(
                deal,
                role=Role.ENTRY,
                side=deal.side,
                kind=OrderType.MARKET,
                quantity=deal.planned_quantity,
                price=None,
                stop_price=None,
                reason="breakout",
                now=at,
            )
        return deal.pk

    @property
    def deal(self):
        return self.ledger.deal(1)

    @property
    def last(self):
        return self.deal.orders[-1]

    def place(self, role: Role, kind: OrderType = OrderType.MARKET, stop: str | None = None) -> None:
        stop_price = D(stop) if stop else None
        self.ledger.plan_order(self.deal, Place(role, kind, D("0.5"), None, stop_price, "wanted"), now=NOW)

    def report(self, status: S, filled: str = "0", name: str = "", trade: str = "t1", *, quantity: str = "") -> None:
        order, total = self.last, D(filled)
        fill = Fill(trade, "BTCUSDT", order.side, D(100), D(quantity or filled), D(0), "BTC", NOW)
        report = OrderReport(
            "BTCUSDT", order.side, status, order.quantity, total, exchange_order_id=name or f"x{order.id}"
        )
        self.ledger.apply_report(order, report, [fill] if total else [], now=NOW)

    def open(self) -> None:
        assert self.ledger.claim_send(self.last, now=NOW)
        self.report(S.FILLED, "1")
        self.ledger.open_deal(self.deal, OpenDeal(D(100), D(1), D(99), D(102), NOW), now=NOW)

    def state(self) -> Any:
        """Everything there is, to see that nothing was left."""
        store = self.store
        rows = (*store.deals.values(), *store.orders.values())
        logs = (store.fills, store.order_events, store.deal_events, store.tickets, store.events)
        return [repr(row) for row in rows], [list(log) for log in logs], self.ledger.live_deals()


@pytest.fixture
def books() -> Books:
    return Books()


def refused(books: Books, error: type[Exception], match: str, call: Any) -> None:
    before = books.state()
    with pytest.raises(error, match=match):
        call()
    assert books.state() == before


def test_an_amount_is_kept_as_a_column_of_18_places_keeps_it():
    assert str(stored(D("1.50"))) == "1.5"
    assert str(stored(D("5E+4"))) == "50000"
    assert stored(D("0.0000000000000000005")) == D("1e-18")  # half away from zero, as PostgreSQL rounds
    assert stored(D("-0.0000000000000000025")) == D("-3e-18")


def test_a_strategy_enters_once_for_a_candle(books):
    books.ledger.cancel_deal(books.deal, "not filled", now=NOW)
    refused(books, IntegrityError, "deal_once_per_signal", books.plan)


def test_a_market_holds_one_live_deal_of_an_account(books):
    refused(books, IntegrityError, "deal_one_live_per_market", lambda: books.plan(config=1))
    books.ledger.cancel_deal(books.deal, "not filled", now=NOW)
    assert books.ledger.live_deals() == []
    assert books.plan(config=1) == 2
    assert books.ledger.live_deals() == [2]


def test_a_deal_needs_a_quantity(books):
    books.ledger.cancel_deal(books.deal, "not filled", now=NOW)
    refused(books, IntegrityError, "deal_quantity_positive", lambda: books.plan(bar=1, planned_quantity=D(0)))


def test_a_finished_deal_is_not_reopened_beside_another(books):
    books.ledger.cancel_deal(books.deal, "not filled", now=NOW)
    books.plan(config=1)
    refused(books, DealStands, "another deal is open", lambda: books.ledger.reopen_deal(1, now=NOW))


def test_an_entry_is_sent_once(books):
    entry = books.last
    assert books.ledger.claim_send(entry, now=NOW)
    assert not books.ledger.claim_send(entry, now=NOW)
    books.ledger.release_send(entry, reason="never left", now=NOW)
    assert books.ledger.claim_send(books.last, now=NOW)
    books.ledger.note_unknown(books.last, reason="no answer", now=NOW)
    again = books.last
    refused(
        books,
        IntegrityError,
        "order_entry_release_undoubted",
        lambda: books.ledger.release_send(again, reason="?", now=NOW),
    )


def test_a_caller_whose_lock_went_to_another_sends_nothing(books):
    mine = MemoryLedger(books.store, 1, WALLEX_LIKE, books.store.next_epoch(1))
    books.store.next_epoch(1)
    refused(books, Fenced, "another process", lambda: mine.claim_send(books.last, now=NOW))


def test_one_exit_lives_at_a_time(books):
    books.open()
    books.place(Role.EXIT)
    refused(books, IntegrityError, "order_one_live_exit_per_deal", lambda: books.place(Role.EXIT))
    books.ledger.end_order(books.last, S.CANCELED, reason="no longer wanted", now=NOW)
    books.place(Role.EXIT)
    assert [order.leg for order in books.deal.orders] == [1, 1, 2]


def test_one_stop_lives_at_a_time_also_in_a_pair(books):
    books.open()
    books.place(Role.STOP, OrderType.STOP_MARKET, "99")
    pair = PlacePair(D("0.5"), D(102), D(99), D(96))
    refused(
        books,
        IntegrityError,
        "order_one_live_stop_and_target",
        lambda: books.ledger.plan_pair(books.deal, pair, now=NOW),
    )


def test_two_orders_never_bear_one_name_of_the_exchange(books):
    books.open()
    books.place(Role.EXIT)
    books.ledger.claim_send(books.last, now=NOW)
    refused(books, IntegrityError, "order_exchange_id_once", lambda: books.report(S.OPEN, name="x1"))


def test_a_trade_is_booked_once(books):
    assert books.ledger.claim_send(books.last, now=NOW)
    books.report(S.PARTIALLY_FILLED, "0.4")
    books.report(S.PARTIALLY_FILLED, "0.4")
    assert books.last.booked == D("0.4")
    assert len(books.store.fills) == 1
    refused(books, IntegrityError, "fill_positive", lambda: books.report(S.FILLED, "1", trade="t2", quantity="-1"))


def test_what_was_filled_never_goes_down(books):
    books.ledger.claim_send(books.last, now=NOW)
    books.report(S.PARTIALLY_FILLED, "0.4")
    books.report(S.OPEN, "0.1")
    assert (books.last.filled, books.last.status) == (D("0.4"), S.PARTIALLY_FILLED)


def test_an_illegal_end_leaves_the_order_and_its_log_alone(books):
    refused(
        books,
        IllegalTransition,
        "PENDING to REJECTED",
        lambda: books.ledger.end_order(books.last, S.REJECTED, reason="refused", now=NOW),
    )


def test_a_stop_never_moves_back(books):
    books.open()
    books.ledger.move_stop(books.deal, D(100), D(101), now=NOW)
    refused(
        books, ValueError, "never moves back", lambda: books.ledger.move_stop(books.deal, D("99.5"), D(101), now=NOW)
    )


def test_a_closed_deal_adds_up_and_says_so_once(books):
    books.open()
    books.ledger.start_exit(books.deal, StartExit(CloseReason.MANUAL, "by hand"), now=NOW)
    books.place(Role.EXIT)
    books.ledger.claim_send(books.last, now=NOW)
    books.report(S.FILLED, "0.5", trade="t2")
    books.ledger.close_deal(books.deal, CloseDeal(CloseReason.MANUAL, D("0.5")), now=NOW + timedelta(seconds=3))
    deal = books.store.deals[1]
    assert (deal.status, deal.dust_quantity, deal.unprotected_seconds) == ("CLOSED", D("0.5"), 3)
    assert deal.profit == 0  # bought and sold at 100, no fee; the rest is valued at that
    assert [event.kind for event in books.store.events] == ["deal.opened", "deal.closed"]


def test_a_view_is_served_again_until_its_deal_changes(books):
    before = books.deal
    assert books.deal is before
    books.ledger.note_best(before, D(101))
    assert books.deal is not before
    assert (before.best_price, books.deal.best_price) == (None, 101)
    books.store.set_rules(books.market, replace(RULES, min_notional=D(7)))
    assert books.deal.rules.min_notional == 7


def test_what_a_failed_transaction_did_is_undone(books):
    before = books.state()
    with pytest.raises(KeyError), books.store.atomic():
        books.ledger.cancel_deal(books.deal, "not filled", now=NOW)
        books.plan(config=1)
        raise KeyError
    assert books.state() == before
