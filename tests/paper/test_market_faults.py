"""Faults inside the market, worked by hand through the core: last price 100, book as in world.BOOK."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import rule

from providers.paper.engine import Exchange
from providers.paper.faults import KINDS, FaultKind, FaultRule
from providers.paper.feeds.synthetic import SyntheticFeed
from providers.paper.orders import Instruction, NotCancelable, OcoInstruction, State, UnknownOrder
from providers.paper.store import Store
from providers.types import OrderType, Side
from tests.paper.test_conservation import TRADERS, Conservation
from tests.paper.test_engine import ManualClock
from tests.paper.world import BOOK, PAIR, T0, D, nobitex, wallex


class TestAcceptance:
    def test_rejected_after_it_was_accepted(self):
        world = nobitex()
        world.fault("reject_after_accept", nth=1)
        order = world.order("BUY", "MARKET", "1")
        assert (order.state, order.filled) == (State.NEW, 0)
        world.settle(0.4)
        assert order.state is State.NEW
        world.settle(0.2)
        assert (order.state, order.filled, order.reason) == (State.CANCELED, 0, "rejected after it was accepted")
        assert world.total("USDT") == world.available("USDT") == D(10_000)

    def test_only_stops_where_the_path_says_so(self):
        world = nobitex()
        world.fault("reject_after_accept", path="*/SELL/STOP_*")
        assert world.order("SELL", "LIMIT", "1", price="105").state is State.OPEN
        assert world.order("SELL", "STOP_MARKET", "1", stop_price="95").state is State.NEW

    def test_an_order_accepted_late_holds_its_balance_but_meets_the_market_later(self):
        world = wallex()
        world.fault("accept_delayed", nth=1, params={"seconds": 3})
        order = world.order("BUY", "LIMIT", "1", price="101")
        assert (order.state, world.available("USDT")) == (State.NEW, D(9899))
        world.tick("99")
        assert order.filled == 0
        world.settle(2)
        # 1 at 100.10, from the book
        assert (order.state, order.filled_quote) == (State.FILLED, D("100.10"))

    def test_a_stop_accepted_late_sleeps_first_and_triggers_then(self):
        world = wallex()
        world.fault("accept_delayed", nth=1, params={"seconds": 1})
        stop = world.order("SELL", "STOP_MARKET", "1", stop_price="95")
        world.settle(1)
        assert stop.state is State.INACTIVE
        world.tick("94")
        assert stop.triggered_at is not None

    def test_an_order_still_new_can_be_cancelled(self):
        world = wallex()
        world.fault("accept_delayed", nth=1)
        order = world.order("BUY", "LIMIT", "1", price="101")
        world.venue.cancel("ann", order.id, world.later())
        world.settle(10)
        assert (order.state, order.filled, world.available("USDT")) == (State.CANCELED, 0, D(10_000))

    def test_an_accepted_order_is_not_found_for_a_while(self):
        world = wallex()
        world.fault("read_lag", nth=1, params={"seconds": 2})
        order = world.order("BUY", "MARKET", "1", client_id="A1")
        venue = world.venue
        for look in (lambda: venue.order("ann", order.id), lambda: venue.order_by_client_id("ann", "A1")):
            with pytest.raises(UnknownOrder):
                look()
        assert (list(venue.orders("ann")), list(venue.trades("ann"))) == ([], [])
        assert world.total("BTC") == D("10.997")  # what it did is done: 1 less 0.3 %
        world.settle(2)
        assert venue.order_by_client_id("ann", "A1") is order
        assert len(venue.trades("ann")) == 1


class TestFills:
    def test_a_market_order_fills_partly_and_the_system_cancels_the_rest(self):
        world = wallex()
        world.fault("partial_then_cancel", nth=1, params={"fraction": "0.3"})
        order = world.order("BUY", "MARKET", "1")
        assert (order.state, order.filled, order.filled_quote) == (State.CANCELED, D("0.3"), D("30.03"))
        assert world.order("BUY", "MARKET", "0.5").state is State.FILLED  # only the first

    def test_a_resting_limit_fills_partly_at_its_price_and_is_cancelled(self):
        world = wallex()
        world.fault("partial_then_cancel", nth=1)
        order = world.order("SELL", "LIMIT", "2", price="105")
        assert (order.state, order.filled, order.filled_quote) == (State.CANCELED, 1, D(105))
        assert world.available("BTC") == world.total("BTC") == 9

    def test_a_cancel_comes_after_the_fill(self):
        world = wallex()
        world.fault("cancel_loses_to_fill", nth=1)
        order = world.order("SELL", "LIMIT", "1", price="105")
        with pytest.raises(NotCancelable):
            world.venue.cancel("ann", order.id, world.later())
        assert (order.state, order.filled_quote) == (State.FILLED, D(105))

    def test_a_cancel_comes_after_part_of_the_fill(self):
        world = wallex()
        world.fault("cancel_loses_to_fill", nth=1, params={"fraction": "0.25"})
        order = world.order("SELL", "LIMIT", "1", price="105")
        world.venue.cancel("ann", order.id, world.later())
        assert (order.state, order.filled, order.reason) == (State.CANCELED, D("0.25"), "user")
        assert world.available("BTC") == D("9.75")

    def test_a_cancel_of_a_stop_comes_after_its_trigger(self):
        world = wallex()
        world.fault("cancel_loses_to_fill", nth=1, params={"fraction": "0.5"})
        stop = world.order("SELL", "STOP_MARKET", "1", stop_price="95")
        world.venue.cancel("ann", stop.id, world.later())
        assert (stop.state, stop.filled, stop.filled_quote) == (State.CANCELED, D("0.5"), D("49.95"))
        assert stop.triggered_at is not None

    def test_the_target_of_an_oco_fills_before_its_cancel_and_ends_the_stop(self):
        world = nobitex()
        world.fault("cancel_loses_to_fill", nth=1)
        asked = OcoInstruction(PAIR, Side.SELL, D(1), D(105), D(95), D(94))
        limit, stop = world.venue.submit_oco("ann", asked, world.later())
        with pytest.raises(NotCancelable):
            world.venue.cancel("ann", limit.id, world.later())
        assert (limit.state, stop.state, stop.filled) == (State.FILLED, State.CANCELED, 0)


class TestStops:
    def test_a_deaf_stop_sleeps_until_its_rule_is_gone(self):
        world = wallex()
        rule = world.fault("stop_never_triggers", nth=1)
        deaf = world.order("SELL", "STOP_MARKET", "1", stop_price="95")
        other = world.order("SELL", "STOP_MARKET", "2", stop_price="95")
        for price in ("94", "93"):
            world.tick(price)
        assert (deaf.state, other.state.is_working) == (State.INACTIVE, False)
        assert world.faults.rules()[0]["matched"] == 2  # asked of each stop once
        world.faults.remove(rule)
        world.tick("96")
        assert deaf.state is State.INACTIVE
        world.tick("95")
        assert deaf.triggered_at is not None

    @pytest.mark.parametrize(("fraction", "filled"), [("0", "0"), ("0.7", "0.7")])
    def test_a_triggered_stop_is_cancelled_by_the_band(self, fraction, filled):
        world = wallex()
        world.fault("triggered_stop_band_cancel", nth=1, params={"fraction": fraction})
        stop = world.order("SELL", "STOP_MARKET", "1", stop_price="99.95")
        world.tick("99.9")
        assert (stop.state, stop.filled, stop.reason) == (State.CANCELED, D(filled), "market band or balance")
        assert stop.triggered_at is not None


class TestBooks:
    def test_a_stale_book_is_what_was_shown_before_with_its_time(self):
        world = wallex()
        before = world.venue.look(PAIR, world.later())
        world.fault("stale_book", nth=1)
        world.book = type(BOOK)(BOOK.bids[1:], BOOK.asks[1:], version=1)
        assert world.venue.look(PAIR, world.later()) == before
        book, at = world.venue.look(PAIR, world.later())
        assert (book, at) == (world.book, world.now)

    def test_a_stale_book_lasts_as_long_as_asked_and_orders_meet_the_true_one(self):
        world = wallex()
        world.fault("stale_book", nth=1, params={"seconds": 10})
        assert world.venue.depth(PAIR, world.later()) == BOOK
        world.book = type(BOOK)(BOOK.bids, BOOK.asks[1:], version=1)
        assert world.venue.depth(PAIR, world.later(9)) == BOOK
        assert world.order("BUY", "MARKET", "1").filled_quote == D("100.50")
        assert world.venue.depth(PAIR, world.later(10)).asks[0].price == D("100.50")

    def test_an_empty_book_or_side(self):
        world = wallex()
        world.fault("empty_book", nth=1)
        world.fault("empty_book", nth=2, params={"side": "asks"})
        assert world.venue.depth(PAIR, world.later()) == type(BOOK)((), ())
        assert world.venue.depth(PAIR, world.later()) == type(BOOK)(BOOK.bids, ())
        assert world.venue.depth(PAIR, world.later()) == BOOK

    def test_a_book_that_is_empty_for_orders_too(self):
        world = wallex()
        rule = world.fault("empty_book", nth=1, params={"seconds": 60, "matching": True})
        world.venue.depth(PAIR, world.later())
        order = world.order("BUY", "MARKET", "1")
        assert (order.state, order.filled) == (State.CANCELED, 0)
        world.faults.remove(rule)
        assert world.order("BUY", "MARKET", "1").state is State.FILLED

    def test_a_crossed_book(self):
        world = wallex()
        world.fault("crossed_book", nth=1)
        book = world.venue.depth(PAIR, world.later())
        assert (book.bids[0].price, book.asks[0].price) == (D("100.10"), D("99.90"))


class TestExchange:
    @pytest.fixture
    def lived(self, tmp_path):
        clock = ManualClock(T0)

        def build() -> Exchange:
            exchange = Exchange(SyntheticFeed(3), clock, Store(tmp_path / "p.sqlite3"))
            if "ann" not in exchange.accounts:
                held = {"BTC": D(10), "USDT": D(100_000)}
                exchange.open_account("ann", wallex_key="1|a", nobitex_token="ab" * 20, balances={"wallex": held})
            return exchange

        return build, clock

    def test_the_price_jumps_by_the_factor_on_both_exchanges(self, lived):
        build, clock = lived
        exchange = build()
        before = exchange.venues["wallex"].last[PAIR]
        exchange.add_fault(FaultRule(FaultKind.PRICE_GAP, path=PAIR, params={"factor": "0.9"}))
        for _ in range(3):
            clock.at += timedelta(seconds=1)
            exchange.advance()
        for venue in exchange.venues.values():
            assert abs(venue.last[PAIR] / before - D("0.9")) < D("0.01")

    def test_an_order_put_off_enters_at_its_moment_however_long_nobody_looked(self, lived):
        build, clock = lived
        exchange = build()
        exchange.add_fault(FaultRule(FaultKind.ACCEPT_DELAYED, params={"seconds": 5}))
        with exchange.operation() as now:
            order = exchange.venues["wallex"].submit(
                "ann", Instruction(PAIR, Side.BUY, OrderType.MARKET, D("0.1")), now
            )
        clock.at += timedelta(hours=1)
        exchange.advance()
        assert (order.state, order.closed_at) == (State.FILLED, now + timedelta(seconds=5))

    def test_a_restart_forgets_the_fault_and_lets_the_order_in(self, lived):
        build, clock = lived
        exchange = build()
        exchange.add_fault(FaultRule(FaultKind.REJECT_AFTER_ACCEPT, params={"seconds": 60}))
        with exchange.operation() as now:
            order = exchange.venues["wallex"].submit(
                "ann", Instruction(PAIR, Side.BUY, OrderType.MARKET, D("0.1")), now
            )
        assert order.state is State.NEW
        exchange._store.close()
        clock.at += timedelta(seconds=1)
        again = build()
        assert again.venues["wallex"].order("ann", order.id).state is State.FILLED
        assert again.conservation() == "ok"


INSIDE = [kind.value for kind, spec in KINDS.items()
          if spec.moments[0] in ("SUBMIT", "MATCH", "CANCEL", "TRIGGER", "TRIGGERED", "BOOK")]  # fmt: skip


class FaultyConservation(Conservation):
    """The same traders and the same invariants, while anything may go wrong."""

    @rule(kind=st.sampled_from(INSIDE), probability=st.sampled_from([0.3, 1.0]), seed=st.integers(0, 9),
          fraction=st.sampled_from(["0", "0.33", "1"]), matching=st.booleans())  # fmt: skip
    def break_something(self, kind, probability, seed, fraction, matching):
        has = KINDS[FaultKind(kind)].params
        params: dict[str, object] = {"fraction": fraction} if "fraction" in has else {}
        if "seconds" in has:
            params["seconds"] = 3
        if "matching" in has:
            params["matching"] = matching
        row = {"kind": kind, "probability": probability, "seed": seed, "params": params, "times": 3}
        self.plan.add(FaultRule.from_json(row))

    @rule()
    def mend_everything(self):
        self.plan.clear()

    @rule(seconds=st.sampled_from([1, 4]))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.venue.settle(self.now)
        self.venue.depth(PAIR, self.now)

    @rule(data=st.data(), name=TRADERS)
    def cancel(self, data, name):
        working = self.venue.records.working(account=name)
        if working:
            order = data.draw(st.sampled_from(working))
            self.now += timedelta(seconds=1)
            with contextlib.suppress(NotCancelable):  # a fill may come first
                self.venue.cancel(name, order.id, self.now)

    def cost_of(self, name, order):
        """An order that is still New holds what it will hold, except a MARKET BUY, whose price nobody knows."""
        if order.state is State.NEW and order.type.is_stop and not self.venue.profile.stops_lock:
            return 0
        if order.state is State.NEW and order.type is OrderType.STOP_LIMIT and order.pair_id is not None:
            return 0
        if order.type is OrderType.MARKET:
            return order.remaining if order.side is Side.SELL else 0
        return super().cost_of(name, order)

    @property
    def plan(self):
        return self.venue.faults.plan


TestConservationUnderFaults = FaultyConservation.TestCase
TestConservationUnderFaults.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
