"""The risk gate: each limit alone, their order, and what an approval promises."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo.risk import Approval, Denial, DenialCode, check_entry
from algo.risk.limits import outside_band
from algo.risk.sizing import BAND_MARGIN, buy_reserve_price, walk_book
from providers.types import BookLevel, Capabilities, Side
from tests.risk.worlds import BAR, NOW, D, book_of, context_of, intent_of, levels, parameters_of, rules_of


def denied(intent=None, **change):
    answer = check_entry(intent or intent_of(), context_of(**change))
    return answer.code if isinstance(answer, Denial) else None


def test_an_entry_is_sized_by_confidence_and_priced_by_the_book():
    answer = check_entry(intent_of(), context_of())
    # 0.8 x 50 % of 10,000 is 4,000; at 100,000 that is 0.04
    assert answer == Approval(
        quantity=D("0.04"),
        expected_price=D("100000"),
        notional=D("4000"),
        stop_price=D("99700"),
        target_price=D("100600"),
        fraction=D("0.4"),
        warnings=answer.warnings,
    )
    assert [text.split(":")[0] for text in answer.warnings] == ["the target does not pay the fees"]


def test_a_sell_is_sized_by_the_base_that_is_held():
    answer = check_entry(intent_of(Side.SELL), context_of(parameters=parameters_of(take_profit_percent=1)))
    assert (answer.quantity, answer.expected_price) == (D("0.4"), D("99999.99"))
    # 99999.99 x 1.003 = 100299.98997, a stop that buys back rounds down; 99999.99 x 0.99 = 98999.9901 rounds down
    assert (answer.stop_price, answer.target_price) == (D("100299.98"), D("98999.99"))
    assert answer.warnings == ()


OLD_CANDLE = NOW - timedelta(minutes=2, seconds=1)
CASES = [
    (DenialCode.KILL_SWITCH, {"kill_switch": True}),
    (DenialCode.ACCOUNT_PAUSED, {"account_paused": True}),
    (DenialCode.KEY_EXPIRING, {"key_expires_at": NOW + timedelta(hours=23)}),
    (DenialCode.MARKET_BLOCKED, {"market_blocked": "a reconciliation ticket is open for this market"}),
    (DenialCode.STRATEGY_NOT_ORDERING, {"ordering_enabled": False}),
    (DenialCode.SIDE_NOT_ALLOWED, {"allowed_sides": frozenset({Side.SELL})}),
    (DenialCode.STALE_DATA, {"candles_closed_at": OLD_CANDLE}),
    (DenialCode.SPREAD_TOO_WIDE, {"book": book_of(bids=levels(("99400", "9")))}),
    (DenialCode.BASIS_TOO_WIDE, {"book": book_of(levels(("101100", "9")), levels(("101110", "9")), last="101100")}),
    (DenialCode.OPEN_DEAL_EXISTS, {"open_deal_on_market": True}),
    (DenialCode.MAX_OPEN_DEALS, {"open_deals": 5}),
    (DenialCode.MAX_EXPOSURE, {"exposure": D(107_000)}),
    (DenialCode.COOLDOWN, {"last_entry_bar_at": BAR - timedelta(minutes=29)}),
    (DenialCode.DAILY_TRADES, {"trades_today": 10}),
    (DenialCode.DAILY_LOSS, {"loss_today": D(500)}),
    (DenialCode.RUNAWAY, {"entries_recently": 30}),
    (DenialCode.BELOW_MINIMUM, {"available_quote": D(14)}),
    (DenialCode.INSUFFICIENT_BALANCE, {"available_quote": D(5)}),
    (DenialCode.THIN_BOOK, {"book": book_of(asks=levels(("100000", "0.01"), ("101700", "9")))}),
    (DenialCode.STOP_NOT_PLACEABLE, {"rules": rules_of(tick_size=D(500))}),
]


@pytest.mark.parametrize(("code", "change"), CASES, ids=[str(code) for code, _ in CASES])
def test_each_limit_denies_with_its_code_and_a_sentence(code, change):
    answer = check_entry(intent_of(), context_of(**change))
    assert isinstance(answer, Denial)
    assert answer.code is code
    assert len(answer.message) > 20


def test_the_codes_stand_in_the_order_of_the_gate():
    assert [code for code, _ in CASES] == list(DenialCode)


def test_a_closed_market_is_blocked_before_anything_is_asked_about_the_strategy_or_the_data():
    answer = check_entry(intent_of(), context_of(rules=rules_of(is_open=False), ordering_enabled=False, book=None))
    assert isinstance(answer, Denial)
    assert answer.code is DenialCode.MARKET_BLOCKED
    assert "closed at the exchange" in answer.message
    assert denied(rules=rules_of(is_open=False), kill_switch=True) is DenialCode.KILL_SWITCH


@pytest.mark.parametrize("position", range(16))
def test_the_earlier_limit_answers_when_two_would_deny(position):
    code, change = CASES[position]
    later = {name: value for _, more in CASES[position + 1 : 16] for name, value in more.items()}
    assert denied(**{**later, **change}) is code


@pytest.mark.parametrize(
    ("left", "code", "says"),
    [
        (timedelta(days=1, seconds=1), None, ""),
        (timedelta(days=1), DenialCode.KEY_EXPIRING, "expires in less than a day, at 2025-01-02 12:00 UTC"),
        (timedelta(seconds=1), DenialCode.KEY_EXPIRING, "expires in less than a day"),
        (timedelta(0), DenialCode.KEY_EXPIRING, "has expired at 2025-01-01 12:00 UTC"),
        (-timedelta(days=30), DenialCode.KEY_EXPIRING, "has expired"),
    ],
)
def test_a_key_opens_nothing_in_its_last_day(left, code, says):
    answer = check_entry(intent_of(), context_of(key_expires_at=NOW + left))
    assert (answer.code if isinstance(answer, Denial) else None) is code
    assert not says or (isinstance(answer, Denial) and says in answer.message and "make a new key" in answer.message)


# Data


@pytest.mark.parametrize(
    "change",
    [
        {"candles_closed_at": None},
        {"candles_closed_at": NOW + timedelta(seconds=1)},
        {"book": None},
        {"book": book_of(age=5.1)},
        {"book": book_of(age=-5.1)},
        {"book": book_of(bids=())},
        {"book": book_of(asks=())},
        {"book": book_of(bids=levels(("100001", "1")))},
    ],
    ids=[
        "no candle",
        "unfinished candle",
        "no book",
        "old book",
        "book of the future",
        "no bids",
        "no asks",
        "crossed",
    ],
)
def test_no_decision_on_data_that_cannot_be_believed(change):
    assert denied(**change) is DenialCode.STALE_DATA


def test_data_at_its_greatest_age_is_still_good():
    assert denied(candles_closed_at=NOW - timedelta(minutes=2), book=book_of(age=5)) is None


def test_a_strategy_of_the_book_alone_needs_no_candles():
    parameters = parameters_of(need_historical_data=False)
    assert denied(intent_of(close=None), parameters=parameters, candles_closed_at=None) is None
    assert denied(parameters=parameters, candles_closed_at=OLD_CANDLE) is DenialCode.STALE_DATA


def test_the_spread_may_be_as_wide_as_the_limit():
    # 2 over 399 is 0.501 %, 2 over 401 is 0.4988 %
    assert denied(intent_of(close="199.5"), book=_scaled("198.5", "200.5")) is DenialCode.SPREAD_TOO_WIDE
    assert denied(intent_of(close="400"), book=_scaled("399", "401")) is None


def _scaled(bid, ask):
    return book_of(levels((bid, "1000")), levels((ask, "1000")), last=ask)


@pytest.mark.parametrize("close", ["10000", "1000000", "1020000"])
def test_rial_taken_for_toman_is_named(close):
    answer = check_entry(intent_of(close=close), context_of())
    assert answer.code is DenialCode.BASIS_TOO_WIDE
    assert "rial" in answer.message
    assert "toman" in answer.message


def test_a_basis_that_is_a_market_move_is_not_called_a_unit():
    answer = check_entry(intent_of(close="97000"), context_of())
    assert answer.code is DenialCode.BASIS_TOO_WIDE
    assert "rial" not in answer.message
    assert "3.000 %" in answer.message


@pytest.mark.parametrize("close", ["0", "-1"])
def test_a_close_that_is_no_price_is_denied(close):
    assert denied(intent_of(close=close)) is DenialCode.BASIS_TOO_WIDE


# Counts


def test_limits_let_pass_what_stands_just_before_them():
    assert (
        denied(
            open_deals=4,
            trades_today=9,
            last_entry_bar_at=BAR - timedelta(minutes=30),
            loss_today=D("499.99"),
        )
        is None
    )


def test_daily_loss_zero_is_off_and_a_gain_never_denies():
    assert denied(parameters=parameters_of(max_daily_loss_percent=0), loss_today=D(9000)) is None
    assert denied(loss_today=D(-100), equity_at_day_start=None) is None


def test_a_loss_against_an_unknown_equity_denies():
    assert denied(loss_today=D("0.01"), equity_at_day_start=None) is DenialCode.DAILY_LOSS


# Size


def test_the_exit_must_clear_the_minimum_with_a_margin():
    # entry 6.4, above the minimum of 5; the exit at the stop: 0.00006 x 99700 x 0.997 is about 5.96, below 6
    assert denied(available_quote=D(16)) is DenialCode.BELOW_MINIMUM
    # 7.2 gives 0.00007 and an exit of about 5.96 too, once the fee took a step; 8.4 gives 0.00008 and 0.00007 left
    assert denied(available_quote=D(21)) is None


def test_below_the_minimum_is_never_enlarged():
    answer = check_entry(intent_of(), context_of(available_quote=D(12)))
    assert answer.code is DenialCode.BELOW_MINIMUM
    assert "40.00 %" in answer.message


@pytest.mark.parametrize("side", list(Side))
def test_nothing_available_is_no_minimum_but_no_balance(side):
    change = {"available_quote": D(0), "available_base": D(0)}
    assert denied(intent_of(side), **change) is DenialCode.INSUFFICIENT_BALANCE


def test_the_setting_for_everybody_caps_the_strategy():
    answer = check_entry(intent_of(confidence="1"), context_of(max_position_size_percent=D(10)))
    assert (answer.fraction, answer.quantity) == (D("0.1"), D("0.01"))


def test_a_buy_pays_the_levels_it_takes():
    book = book_of(asks=levels(("100000", "0.02"), ("100200", "1")))
    answer = check_entry(intent_of(), context_of(book=book))
    # 2,000 buys 0.02; the other 2,000 buy 0.01996: together 3999.992 for 0.03996, on average 100099.8998..
    assert answer.quantity == D("0.03996")
    assert answer.expected_price == D("100099.90")
    assert answer.notional <= 4000


def test_a_book_that_ends_too_early_is_thin():
    answer = check_entry(intent_of(), context_of(book=book_of(asks=levels(("100000", "0.01")))))
    assert answer.code is DenialCode.THIN_BOOK
    assert "does not hold" in answer.message


@pytest.mark.parametrize(("price", "expected"), [("101600", None), ("101600.01", DenialCode.THIN_BOOK)])
def test_the_band_is_approached_only_to_its_margin(price, expected):
    # 2 % x 0.8 of the last price 100,000
    parameters = parameters_of(stop_loss_percent=5)
    assert denied(parameters=parameters, book=book_of(asks=levels(("100000", "0.01"), (price, "9")))) is expected


def test_without_a_last_price_the_middle_of_the_book_is_the_reference():
    assert denied(book=book_of(last=None)) is None
    far = book_of(asks=levels(("100000", "0.01"), ("101700", "9")), last=None)
    assert denied(book=far) is DenialCode.THIN_BOOK


# Stop


def test_a_stop_that_the_last_price_already_crossed_is_not_placeable():
    answer = check_entry(intent_of(), context_of(book=book_of(last="99700")))
    assert answer.code is DenialCode.STOP_NOT_PLACEABLE
    assert "crossed" in answer.message


def test_a_stop_above_the_last_price_after_a_costly_walk_is_not_placeable():
    # the size is filled at 101,200 on average: its stop at 100,896 lies above the last trade
    book = book_of(asks=levels(("100000", "0.01"), ("101600", "9")))
    assert denied(book=book) is DenialCode.STOP_NOT_PLACEABLE


def test_a_stop_outside_the_price_band_is_not_placeable_unless_nothing_rests():
    change = {"rules": rules_of(price_band=D("0.3")), "parameters": parameters_of(stop_loss_percent=31)}
    assert denied(**change) is DenialCode.STOP_NOT_PLACEABLE
    assert denied(**change, capabilities=Capabilities()) is None


def test_a_target_outside_the_band_matters_where_it_is_one_order_with_the_stop():
    change = {"rules": rules_of(price_band=D("0.3")), "parameters": parameters_of(take_profit_percent=31)}
    assert denied(**change, capabilities=Capabilities(oco=True)) is DenialCode.STOP_NOT_PLACEABLE
    answer = check_entry(intent_of(), context_of(**change))
    assert any("price band" in text for text in answer.warnings)


def test_a_target_at_or_below_zero_is_not_placeable():
    parameters = parameters_of(take_profit_percent=100)
    assert denied(intent_of(Side.SELL), parameters=parameters) is not None


def test_an_account_without_stops_is_warned_about():
    answer = check_entry(intent_of(), context_of(capabilities=Capabilities()))
    assert any("guardian" in text for text in answer.warnings)


@pytest.mark.parametrize("confidence", ["0", "1.01", "-1", "NaN"])
def test_a_confidence_is_a_share(confidence):
    with pytest.raises((ValueError, ArithmeticError)):
        intent_of(confidence=confidence)


def test_a_confidence_is_no_float():
    with pytest.raises(ValueError, match="Decimal"):
        replace(intent_of(), confidence=0.5)


# Properties


def decimals(low: str, high: str, places: int = 2):
    return st.decimals(Decimal(low), Decimal(high), places=places, allow_nan=False, allow_infinity=False)


@st.composite
def worlds(draw):
    tick, step = (D(draw(st.sampled_from(choices))) for choices in (["0.01", "0.5", "1"], ["0.00001", "0.01", "1"]))
    rules = rules_of(
        tick_size=tick,
        step_size=step,
        min_quantity=step,
        min_notional=draw(decimals("0", "50")),
        taker_fee_rate=draw(decimals("0", "0.01", 4)),
        market_band=draw(st.sampled_from([D("0.01"), D("0.02")])),
        price_band=draw(st.sampled_from([None, D("0.3")])),
    )
    mid = draw(st.integers(100, 100_000)) * tick
    quantities = st.lists(decimals("0.01", "500"), min_size=1, max_size=6)
    bids = [BookLevel(mid - (i + 1) * tick, q) for i, q in enumerate(draw(quantities)) if mid - (i + 1) * tick > 0]
    asks = [BookLevel(mid + (i + 1) * tick, q) for i, q in enumerate(draw(quantities))]
    context = context_of(
        rules=rules,
        book=replace(book_of(bids, asks, last=None)),
        available_base=draw(decimals("0", "1000")),
        available_quote=draw(decimals("0", "1000000")),
        max_position_size_percent=draw(decimals("1", "100", 0)),
        parameters=parameters_of(
            max_spread_percent=20,
            max_position_size_percent=draw(decimals("1", "100", 0)),
            stop_loss_percent=draw(decimals("0.1", "40")),
            take_profit_percent=draw(decimals("0.1", "40")),
        ),
        capabilities=draw(st.sampled_from([Capabilities(), Capabilities(stop_market=True), Capabilities(oco=True)])),
    )
    return intent_of(draw(st.sampled_from(list(Side))), str(draw(decimals("0.01", "1"))), close=None), context


@given(worlds())
def test_what_is_approved_can_be_paid_filled_and_protected(world):
    intent, context = world
    answer = check_entry(intent, context)
    assert answer == check_entry(intent, context)
    if isinstance(answer, Denial):
        return
    rules, buying = context.rules, intent.side is Side.BUY
    assert answer.quantity % rules.step_size == 0
    assert answer.quantity >= rules.min_quantity
    assert answer.notional >= rules.min_notional
    assert answer.notional == answer.quantity * answer.expected_price
    assert answer.fraction <= min(context.parameters.max_position_size_percent, context.max_position_size_percent) / 100
    taken = context.levels_to_take(intent.side)
    walk = walk_book(taken, answer.quantity)
    assert walk.found == answer.quantity
    assert abs(walk.worst_price / context.book.mid_price - 1) <= rules.market_band * BAND_MARGIN
    if buying:
        assert answer.notional <= answer.fraction * context.available_quote
        assert answer.quantity * buy_reserve_price(taken[0].price, rules) <= context.available_quote
        assert answer.stop_price < answer.expected_price < answer.target_price
    else:
        assert answer.quantity <= answer.fraction * context.available_base
        assert answer.target_price < answer.expected_price < answer.stop_price
    for price in (answer.stop_price, answer.target_price, answer.expected_price):
        assert price % rules.tick_size == 0
    held = rules.round_quantity(answer.quantity * (1 - rules.taker_fee_rate)) if buying else answer.quantity
    exit_notional = held * min(answer.stop_price, answer.target_price) * (1 - rules.taker_fee_rate)
    assert exit_notional >= D("1.2") * rules.min_notional
    if context.capabilities.stop_market:
        assert not outside_band(answer.stop_price, context.reference_price, rules.price_band)


@given(worlds(), st.sampled_from(["kill_switch", "account_paused", "open_deal_on_market"]))
def test_a_switch_denies_whatever_the_rest_says(world, switch):
    intent, context = world
    assert isinstance(check_entry(intent, replace(context, **{switch: True})), Denial)
