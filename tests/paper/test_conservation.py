"""Whatever traders and the market do: no money is made, nothing is oversold, locks are exactly the working orders."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from providers.paper.core import Venue
from providers.paper.ledger import FEES, HOUSE, OUTSIDE, Ledger, LedgerError, Posting
from providers.paper.orders import Book, Instruction, NotCancelable, OcoInstruction, OrderRefused, State, UnknownOrder
from providers.paper.profiles import NOBITEX, WALLEX
from providers.types import BookLevel, OrderType, Side
from tests.paper.world import PAIR, T0, D

PRICES = st.integers(8_500, 11_500).map(lambda cents: Decimal(cents) / 100)
QUANTITIES = st.integers(1, 4_000).map(lambda thousandths: Decimal(thousandths) / 1000)
SIDES = st.sampled_from(list(Side))
TRADERS = st.sampled_from(["ann", "bob"])


def book_around(price: Decimal, at: object) -> Book:
    bids = tuple(BookLevel(price - D("0.07") * n, D(n) / 3) for n in range(1, 12))
    asks = tuple(BookLevel(price + D("0.07") * n, D(n) / 3) for n in range(1, 12))
    return Book(bids, asks, version=hash((price, at)))


class Conservation(RuleBasedStateMachine):
    """Random traders on a venue with Nobitex' habits or Wallex', with locking stops or free ones."""

    @initialize(profile=st.sampled_from([WALLEX, NOBITEX]), stops_lock=st.booleans())
    def open(self, profile, stops_lock):
        self.price, self.now = D(100), T0
        self.venue = Venue(
            profile.with_switches(stops_lock=stops_lock), lambda pair, at: book_around(self.price, self.now)
        )
        self.venue.on_tick(PAIR, self.price, D(1), self.now)
        for name in ("ann", "bob"):
            self.venue.deposit(name, {"USDT": D(1000), "BTC": D(5)}, self.now)

    @rule(
        trader=TRADERS,
        side=SIDES,
        kind=st.sampled_from(list(OrderType)),
        quantity=QUANTITIES,
        price=PRICES,
        stop=PRICES,
    )
    def submit(self, trader, side, kind, quantity, price, stop):
        self.now += timedelta(seconds=11)
        asked = Instruction(
            PAIR, side, kind, quantity,
            price=price if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None,
            stop_price=stop if kind.is_stop else None,
        )  # fmt: skip
        with contextlib.suppress(OrderRefused):
            self.venue.submit(trader, asked, self.now)

    @rule(trader=TRADERS, side=SIDES, quantity=QUANTITIES, goal=PRICES, stop=PRICES)
    def submit_oco(self, trader, side, quantity, goal, stop):
        self.now += timedelta(seconds=11)
        with contextlib.suppress(OrderRefused):
            self.venue.submit_oco(trader, OcoInstruction(PAIR, side, quantity, goal, stop, stop), self.now)

    @rule(price=PRICES, volume=QUANTITIES)
    def trade(self, price, volume):
        self.now += timedelta(seconds=1)
        self.price = price
        self.venue.on_tick(PAIR, price, volume, self.now)

    @precondition(lambda self: self.venue.working_orders("ann"))
    @rule(data=st.data())
    def cancel(self, data):
        order = data.draw(st.sampled_from(self.venue.working_orders("ann")))
        self.now += timedelta(seconds=1)
        try:
            self.venue.cancel("ann", order.id, self.now)
        except (NotCancelable, UnknownOrder) as exc:
            raise AssertionError("a working order could not be cancelled") from exc

    @invariant()
    def every_asset_sums_to_zero(self):
        owners = (OUTSIDE, HOUSE, FEES, "trader:ann", "trader:bob")
        for asset in ("BTC", "USDT"):
            assert sum(self.venue.ledger.balance(owner, asset) for owner in owners) == 0

    @invariant()
    def nothing_is_oversold_and_locks_are_covered(self):
        for name in ("ann", "bob"):
            for balance in self.venue.balances(name).values():
                assert balance.total >= 0
                if self.venue.profile.stops_lock:
                    assert balance.locked <= balance.total

    @invariant()
    def locks_are_what_working_orders_may_still_cost(self):
        for name in ("ann", "bob"):
            expected = dict.fromkeys(("BTC", "USDT"), Decimal(0))
            for order in self.venue.records.working(account=name):
                asset = "BTC" if order.side is Side.SELL else "USDT"
                expected[asset] += self.cost_of(name, order)
            assert {asset: self.venue.locked(name, asset) for asset in expected} == expected

    def cost_of(self, name, order):
        """Worked out anew: an OCO counts once, at its limit leg, with the dearer of its two prices."""
        prices = [order.price or order.stop_price]
        if order.pair_id is not None:
            if order.type is OrderType.STOP_LIMIT and order.state is State.INACTIVE:
                return 0
            prices += [self.venue.records.get(name, order.pair_id).price] if order.type is OrderType.LIMIT else []
        elif order.state is State.INACTIVE and not self.venue.profile.stops_lock:
            return 0
        return order.remaining * (1 if order.side is Side.SELL else max(prices))

    @invariant()
    def balances_are_deposits_and_trades_and_nothing_else(self):
        for name in ("ann", "bob"):
            expected = {"USDT": D(1000), "BTC": D(5)}
            for trade in self.venue.records.trades(name):
                expected["BTC"] += trade.quantity * trade.side.sign
                expected["USDT"] -= trade.price * trade.quantity * trade.side.sign
                expected[trade.fee_asset] -= trade.fee
            assert {asset: b.total for asset, b in self.venue.balances(name).items()} == expected

    @invariant()
    def orders_add_up_from_their_trades(self):
        for name in ("ann", "bob"):
            for order in self.venue.records.of(name):
                assert order.filled == sum(trade.quantity for trade in order.trades) <= order.quantity
                assert (order.filled == order.quantity) == (order.state is State.FILLED)
                assert order.state.is_working == (order.closed_at is None)

    @invariant()
    def no_oco_executes_both_ways(self):
        for name in ("ann", "bob"):
            for order in self.venue.records.of(name):
                if order.pair_id is not None:
                    partner = self.venue.records.get(name, order.pair_id)
                    assert not (order.filled and partner.filled)
                    assert not (order.filled and partner.state.is_working)


TestConservation = Conservation.TestCase
TestConservation.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def test_an_unbalanced_entry_is_refused_and_not_booked():
    ledger = Ledger()
    with pytest.raises(LedgerError):
        ledger.post("trade", T0, [Posting("a", "BTC", D(1)), Posting("b", "BTC", D("-0.99999999"))])
    assert ledger.balance("a", "BTC") == 0


def test_an_entry_may_not_balance_one_asset_with_another():
    with pytest.raises(LedgerError):
        Ledger().post("trade", T0, [Posting("a", "BTC", D(1)), Posting("b", "USDT", D(-1))])


def test_tampered_balances_are_found():
    ledger = Ledger()
    ledger.post("deposit", T0, [Posting("a", "BTC", D(1)), Posting(OUTSIDE, "BTC", D(-1))])
    ledger._balances["a", "BTC"] += D("1e-18")
    with pytest.raises(LedgerError, match="made or lost"):
        ledger.check_conservation()


def test_amounts_of_toman_and_of_eighteen_places_are_exact():
    ledger = Ledger()
    huge, tiny = D("123456789012345678"), D("0.000000000000000001")
    for amount in (huge, tiny):
        ledger.post("deposit", T0, [Posting("a", "IRT", amount), Posting(OUTSIDE, "IRT", -amount)])
    assert ledger.balance("a", "IRT") == D("123456789012345678.000000000000000001")
