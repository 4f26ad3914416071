"""The matching core, worked by hand: last price 100, book as in world.BOOK, Wallex fees 0.2 % maker, 0.3 % taker."""

from __future__ import annotations

from datetime import timedelta

import pytest

from providers.paper.orders import NotCancelable, OcoInstruction, OrderRefused, Refusal, State, UnknownOrder
from providers.types import Side
from tests.paper.world import BOOK, PAIR, D, World, nobitex, wallex


def refusal_of(world: World, *args: str, **more: object) -> Refusal:
    with pytest.raises(OrderRefused) as caught:
        world.order(*args, **more)
    return caught.value.refusal


class TestMarketOrders:
    def test_a_buy_walks_the_asks_and_pays_the_taker_fee_in_base(self):
        world = wallex()
        order = world.order("BUY", "MARKET", "1.5")
        # 1 at 100.10 and 0.5 at 100.50
        assert (order.state, order.filled, order.filled_quote) == (State.FILLED, D("1.5"), D("150.35"))
        assert (order.fee, order.fee_asset) == (D("0.0045"), "BTC")
        assert world.total("USDT") == D("9849.65")
        assert world.total("BTC") == D("11.4955")

    def test_a_sell_pays_the_taker_fee_in_quote(self):
        world = wallex()
        order = world.order("SELL", "MARKET", "1")
        assert (order.filled_quote, order.fee, order.fee_asset) == (D("99.90"), D("0.29970"), "USDT")
        assert world.total("USDT") == D("10099.6003")

    def test_fills_up_to_two_percent_on_wallex_and_cancels_the_rest(self):
        world = wallex()
        order = world.order("BUY", "MARKET", "9")
        # 1 + 2 + 5 lie within 102; the next ask, 103, does not
        assert (order.state, order.filled) == (State.CANCELED, D(8))

    def test_fills_up_to_one_percent_on_nobitex(self):
        order = nobitex().order("SELL", "MARKET", "4")
        # 1 at 99.90 and 2 at 99.50; the next bid, 98.50, is below 99
        assert (order.state, order.filled) == (State.CANCELED, D(3))

    def test_the_band_goes_around_the_callers_estimate_where_one_is_given(self):
        order = nobitex().order("BUY", "MARKET", "9", price="101")
        assert order.filled == D(8)  # up to 102.01

    def test_an_estimate_far_from_the_market_is_refused(self):
        assert refusal_of(nobitex(), "BUY", "MARKET", "1", price="106") is Refusal.UNEXPECTED_MARKET_PRICE

    def test_the_whole_order_is_cancelled_when_the_venue_is_switched_so(self):
        order = wallex(band_cancels_all=True).order("BUY", "MARKET", "9")
        assert (order.state, order.filled) == (State.CANCELED, D(0))

    def test_what_was_taken_is_gone_until_the_book_is_refreshed(self):
        world = wallex()
        world.order("BUY", "MARKET", "1")
        assert world.order("BUY", "MARKET", "1").filled_quote == D("100.50")
        assert world.venue.depth(PAIR, world.now).asks[0].price == D("100.50")

    def test_needs_the_money_for_all_of_it(self):
        world = wallex()
        world.order("BUY", "LIMIT", "99", price="100")  # locks 9900
        assert refusal_of(world, "BUY", "MARKET", "1") is Refusal.INSUFFICIENT_BALANCE


class TestLimitOrders:
    def test_a_resting_buy_locks_price_times_quantity(self):
        world = wallex()
        world.order("BUY", "LIMIT", "2", price="99")
        assert world.available("USDT") == D(9802)
        assert world.total("USDT") == D(10_000)

    def test_a_resting_sell_locks_the_quantity(self):
        world = wallex()
        world.order("SELL", "LIMIT", "2", price="101")
        assert world.available("BTC") == D(8)

    def test_fills_whole_at_its_price_as_maker_when_a_trade_goes_through_it(self):
        world = wallex()
        order = world.order("BUY", "LIMIT", "2", price="99")
        world.tick("98.99", "0.001")
        assert (order.state, order.average_price, order.fee) == (State.FILLED, D(99), D("0.004"))
        assert world.available("USDT") == world.total("USDT") == D(9802)

    def test_a_trade_at_its_price_fills_no_more_than_was_traded(self):
        world = wallex()
        order = world.order("SELL", "LIMIT", "2", price="101")
        world.tick("101", "0.5")
        assert (order.state, order.filled) == (State.OPEN, D("0.5"))
        assert world.venue.locked("ann", "BTC") == D("1.5")

    def test_two_orders_at_one_price_share_what_was_traded_oldest_first(self):
        world = wallex()
        first = world.order("SELL", "LIMIT", "1", price="101")
        second = world.order("SELL", "LIMIT", "1", price="101")
        world.tick("101", "1.25")
        assert (first.filled, second.filled) == (D(1), D("0.25"))

    def test_a_marketable_limit_takes_up_to_its_price_and_rests_with_the_remainder(self):
        world = wallex()
        order = world.order("BUY", "LIMIT", "5", price="100.50")
        assert (order.state, order.filled, order.filled_quote) == (State.OPEN, D(3), D("301.10"))
        assert world.venue.locked("ann", "USDT") == D(201)

    def test_cancelling_releases_the_balance_and_keeps_what_was_filled(self):
        world = wallex()
        order = world.order("SELL", "LIMIT", "2", price="101")
        world.tick("101", "0.5")
        world.venue.cancel("ann", order.id, world.later())
        assert (order.state, order.filled, world.available("BTC")) == (State.CANCELED, D("0.5"), D("9.5"))
        with pytest.raises(NotCancelable):
            world.venue.cancel("ann", order.id, world.later())

    def test_nobody_sees_or_cancels_the_orders_of_others(self):
        world = wallex()
        order = world.order("BUY", "LIMIT", "2", price="99")
        with pytest.raises(UnknownOrder):
            world.venue.cancel("bob", order.id, world.now)


class TestStops:
    def test_a_sell_stop_sells_at_market_once_the_last_price_is_at_or_below_it(self):
        world = wallex()
        order = world.order("SELL", "STOP_MARKET", "1", stop_price="99.95")
        world.tick("99.96")
        assert order.state is State.INACTIVE
        world.tick("99.95")
        assert (order.state, order.average_price, order.triggered_at) == (State.FILLED, D("99.90"), world.now)

    def test_wallex_infers_the_direction_from_the_last_price(self):
        order = wallex().order("SELL", "STOP_MARKET", "1", stop_price="105")
        assert order.trigger == ">="

    def test_nobitex_refuses_a_stop_that_is_crossed_already(self):
        assert refusal_of(nobitex(), "SELL", "STOP_MARKET", "1", stop_price="100.01") is Refusal.STOP_ALREADY_CROSSED
        assert refusal_of(nobitex(), "BUY", "STOP_MARKET", "1", stop_price="99.99") is Refusal.STOP_ALREADY_CROSSED

    def test_a_stop_at_the_last_price_is_refused(self):
        assert refusal_of(wallex(), "SELL", "STOP_MARKET", "1", stop_price="100") is Refusal.STOP_EQUALS_LAST
        assert refusal_of(nobitex(), "SELL", "STOP_MARKET", "1", stop_price="100") is Refusal.STOP_ALREADY_CROSSED

    def test_a_pending_stop_locks_its_balance(self):
        world = wallex()
        world.order("SELL", "STOP_MARKET", "8", stop_price="99")
        assert refusal_of(world, "SELL", "LIMIT", "8", price="101") is Refusal.INSUFFICIENT_BALANCE

    def test_a_free_stop_does_not_lock_and_is_cut_to_what_is_left_when_it_triggers(self):
        world = wallex(stops_lock=False)
        stop = world.order("SELL", "STOP_MARKET", "10", stop_price="99.50")
        world.order("SELL", "LIMIT", "9", price="100.20")
        world.tick("100.21")
        world.tick("99.50")
        assert (stop.state, stop.filled, world.total("BTC")) == (State.CANCELED, D(1), D(0))

    def test_a_triggered_stop_limit_rests_when_the_market_is_past_it(self):
        world = wallex()
        order = world.order("SELL", "STOP_LIMIT", "1", price="99.95", stop_price="99.98")
        world.tick("99.97")
        assert (order.state, order.filled) == (State.OPEN, D(0))  # best bid 99.90
        world.tick("99.96")
        assert order.filled == D(1)

    def test_a_triggered_stop_market_is_cancelled_beyond_the_band(self):
        world = wallex()
        order = world.order("SELL", "STOP_MARKET", "9", stop_price="99")
        world.tick("99")  # band: 97.02
        assert (order.state, order.filled, world.available("BTC")) == (State.CANCELED, D(8), D(2))

    def test_nobitex_refuses_a_limit_better_than_its_stop(self):
        assert refusal_of(nobitex(), "SELL", "STOP_LIMIT", "1", price="99.5", stop_price="99") is (
            Refusal.LIMIT_BETTER_THAN_STOP
        )


class TestOco:
    def oco(self, world: World, **more: str) -> tuple[object, object]:
        asked = {"price": "105", "stop_price": "98", "stop_limit_price": "97"} | more
        texts = {name: D(value) for name, value in asked.items()}
        return world.venue.submit_oco(
            "ann", OcoInstruction(PAIR, Side.SELL, D(6), **texts, client_id="x"), world.later()
        )

    def test_the_balance_is_held_once(self):
        world = nobitex()
        self.oco(world)
        assert world.available("BTC") == D(4)

    def test_the_legs_know_each_other_and_only_the_limit_leg_has_the_client_id(self):
        limit, stop = self.oco(nobitex())
        assert (limit.pair_id, stop.pair_id) == (stop.id, limit.id)
        assert (limit.client_id, stop.client_id) == ("x", None)

    def test_the_first_fill_of_the_target_cancels_the_stop(self):
        world = nobitex()
        limit, stop = self.oco(world)
        world.tick("105", "0.5")
        assert (limit.state, limit.filled, stop.state) == (State.OPEN, D("0.5"), State.CANCELED)
        assert world.venue.locked("ann", "BTC") == D("5.5")

    def test_the_trigger_of_the_stop_cancels_the_target_and_takes_over_the_balance(self):
        world = nobitex()
        limit, stop = self.oco(world)
        world.tick("98")
        assert limit.state is State.CANCELED
        assert (stop.state, stop.filled) == (State.FILLED, D(6))  # 1 + 2 + 3 at bids of 97 or better
        assert world.available("BTC") == world.total("BTC") == D(4)

    def test_a_buy_holds_the_larger_leg(self):
        world = nobitex()
        asked = OcoInstruction(PAIR, Side.BUY, D(1), D(95), D(102), D(103))
        limit, stop = world.venue.submit_oco("ann", asked, world.later())
        assert world.available("USDT") == D(10_000 - 103)
        world.tick("102")
        assert (limit.state, stop.state, stop.filled_quote) == (State.CANCELED, State.FILLED, D("100.10"))
        assert world.available("USDT") == D("9899.90")

    @pytest.mark.parametrize("cancelled", [0, 1])
    def test_cancelling_either_leg_cancels_both(self, cancelled: int):
        world = nobitex()
        legs = self.oco(world)
        world.venue.cancel("ann", legs[cancelled].id, world.later())
        assert [leg.state for leg in legs] == [State.CANCELED, State.CANCELED]
        assert world.available("BTC") == D(10)

    def test_target_and_stop_must_lie_on_both_sides_of_the_market(self):
        with pytest.raises(OrderRefused) as caught:
            self.oco(nobitex(), stop_price="101")
        assert caught.value.refusal is Refusal.OCO_CONDITION

    def test_wallex_has_none(self):
        with pytest.raises(OrderRefused) as caught:
            self.oco(wallex())
        assert caught.value.refusal is Refusal.OCO_UNAVAILABLE


class TestRefusals:
    @pytest.mark.parametrize(
        ("args", "more", "refusal"),
        [
            (("BUY", "LIMIT", "1"), {}, Refusal.PRICE_MISSING),
            (("BUY", "STOP_MARKET", "1"), {}, Refusal.STOP_MISSING),
            (("BUY", "LIMIT", "1"), {"price": "99", "stop_price": "98"}, Refusal.STOP_UNEXPECTED),
            (("BUY", "LIMIT", "1"), {"price": "99.001"}, Refusal.PRICE_PRECISION),
            (("BUY", "LIMIT", "0.000000001"), {"price": "99"}, Refusal.QUANTITY_PRECISION),
            (("BUY", "LIMIT", "0"), {"price": "99"}, Refusal.BELOW_MIN_QUANTITY),
            (("BUY", "LIMIT", "0.01"), {"price": "99"}, Refusal.BELOW_MIN_NOTIONAL),
            (("BUY", "MARKET", "0.009"), {}, Refusal.BELOW_MIN_NOTIONAL),
            (("BUY", "LIMIT", "102"), {"price": "99"}, Refusal.INSUFFICIENT_BALANCE),
            (("SELL", "LIMIT", "10.1"), {"price": "101"}, Refusal.INSUFFICIENT_BALANCE),
        ],
    )
    def test_wallex_says_what_is_wrong_and_books_nothing(self, args, more, refusal):
        world = wallex()
        assert refusal_of(world, *args, **more) is refusal
        assert (world.venue.orders("ann"), world.available("USDT")) == ((), D(10_000))

    def test_nobitex_rounds_quantities_down_and_prices_half_even(self):
        order = nobitex().order("BUY", "LIMIT", "1.0000019", price="99.125")
        assert (order.quantity, order.price) == (D("1.000001"), D("99.12"))

    def test_nobitex_wants_more_than_its_minimum_not_as_much(self):
        assert refusal_of(nobitex(), "BUY", "LIMIT", "0.11", price="100") is Refusal.BELOW_MIN_NOTIONAL

    def test_nobitex_refuses_prices_thirty_percent_away(self):
        assert refusal_of(nobitex(), "BUY", "LIMIT", "1", price="69.99") is Refusal.OUTSIDE_PRICE_BAND
        assert nobitex().order("BUY", "LIMIT", "1", price="70").state is State.OPEN

    def test_the_minimum_can_be_waived_for_market_orders(self):
        assert wallex(min_notional_on_market=False).order("BUY", "MARKET", "0.009").state is State.FILLED


class TestDuplicates:
    def test_a_wallex_client_id_is_used_up_for_ever(self):
        world = wallex()
        world.order("BUY", "MARKET", "1", client_id="a")
        assert refusal_of(world, "BUY", "MARKET", "1", client_id="a") is Refusal.DUPLICATE_CLIENT_ID

    def test_a_nobitex_client_id_is_free_again_once_its_order_is_closed(self):
        world = nobitex()
        world.order("SELL", "LIMIT", "1", price="105", client_id="a")
        assert refusal_of(world, "SELL", "LIMIT", "2", price="105", client_id="a") is Refusal.DUPLICATE_CLIENT_ID
        world.venue.cancel("ann", 1, world.later())
        assert world.order("SELL", "LIMIT", "2", price="105", client_id="a").state is State.OPEN

    def test_nobitex_refuses_the_same_order_within_ten_seconds(self):
        world = nobitex()
        world.order("BUY", "MARKET", "1", client_id="a")
        world.later(8)
        assert refusal_of(world, "BUY", "MARKET", "1", client_id="b") is Refusal.DUPLICATE_ORDER
        assert world.order("BUY", "MARKET", "1", bypass_duplicate_guard=True).state is State.FILLED

    def test_and_takes_it_after_that(self):
        world = nobitex()
        world.order("BUY", "LIMIT", "1", price="90")
        world.now += timedelta(seconds=9)
        assert world.order("BUY", "LIMIT", "1", price="90").state is State.OPEN

    def test_a_refused_order_does_not_arm_the_guard(self):
        world = nobitex()
        refusal_of(world, "SELL", "LIMIT", "11", price="105")
        assert refusal_of(world, "SELL", "LIMIT", "11", price="105") is Refusal.INSUFFICIENT_BALANCE


def test_a_pair_without_a_price_takes_no_orders():
    world = World(book=BOOK)
    del world.venue.last[PAIR]
    assert refusal_of(world, "BUY", "MARKET", "1") is Refusal.NO_PRICE_YET
