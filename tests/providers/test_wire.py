"""Amounts, times and charts as they are really sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import BadPayload
from providers.types import Candle, Resolution
from providers.wire import (
    UdfHistory,
    average,
    check_spacing,
    from_milliseconds,
    from_seconds,
    jsonable,
    parse,
    to_amount,
    to_candles,
    to_time,
    wire_text,
    within,
)


@pytest.mark.parametrize(
    ("wire", "amount"),
    [
        ("0.0000009400000000", "0.00000094"),
        ("0E-10", "0"),
        (0, "0"),
        ("-0.0", "0"),
        ("1e-06", "0.000001"),
        (Decimal("1e-8"), "0.00000001"),
        ("60", "60"),
        ("3.0000000000", "3"),
        ("4_000_0.00000000", "40000"),
        ("−12.5", "-12.5"),
        ("25500000.00000000000000000000", "25500000"),
        ("18392423887540.0123456789012345", "18392423887540.0123456789012345"),
    ],
)
def test_amounts_come_in_many_spellings(wire: object, amount: str) -> None:
    assert str(to_amount(wire)) == str(Decimal(amount))


@pytest.mark.parametrize(
    "wire",
    [None, True, 0.1, "", "-", "market", "NaN", "Infinity", "1e400", "1e31", 10**100, "1,5", "۱۲", "0x1", [], "1" * 61],
)
def test_what_is_no_amount_is_refused(wire: object) -> None:
    with pytest.raises(ValueError, match="amount"):
        to_amount(wire)


@given(st.decimals(min_value=Decimal("1e-15"), max_value=10**14, places=15))
def test_an_amount_survives_the_wire_unchanged(amount: Decimal) -> None:
    text = wire_text(amount)
    assert "E" not in text
    assert to_amount(text) == amount


def test_an_average_has_the_places_the_exchanges_print() -> None:
    assert average(Decimal(10), Decimal(3)) == Decimal("3.3333333333333333")
    assert average(Decimal("915600"), Decimal(4)) == Decimal(228900)


def test_times_need_a_zone() -> None:
    expected = datetime(2022, 6, 17, 11, 53, 2, tzinfo=UTC)
    assert to_time("2022-06-17T11:53:02Z") == to_time("2022-06-17T15:23:02.000000+03:30") == expected
    for wrong in ("2022-06-17T11:53:02", "yesterday", 1655466782, None):
        with pytest.raises(ValueError):
            to_time(wrong)


def test_milliseconds_are_not_taken_for_seconds() -> None:
    assert from_milliseconds(1731706156828) == from_seconds(1731706156) + timedelta(milliseconds=828)
    with pytest.raises(BadPayload):
        from_seconds(1731706156828)


def test_raw_payloads_fit_into_json_and_postgresql() -> None:
    raw = {"price": Decimal("1E-8"), "name": "a\x00b\ud800", "deep": [{"n": 1, "flag": True, "none": None}]}
    assert json.loads(json.dumps(jsonable(raw))) == {
        "price": "0.00000001",
        "name": "a�b?",
        "deep": [{"n": 1, "flag": True, "none": None}],
    }


def chart(times: list[int], **columns: object) -> UdfHistory:
    flat = {name: ["1"] * len(times) for name in "ohlcv"}
    return parse(UdfHistory, {"s": "ok", "t": times, **flat, **columns})


def test_a_chart_becomes_candles_oldest_first() -> None:
    candles = to_candles(chart([1654351200, 1654354800], o=["9.5", "9"], h=["9.9", "9.6"], l=["9", "9"], v=["0", "2"]))
    assert candles[0] == Candle(datetime(2022, 6, 4, 14, tzinfo=UTC), *map(Decimal, ("9.5", "9.9", "9", "1", "0")))


@pytest.mark.parametrize(
    "broken", [{"o": ["1"]}, {"l": ["2", "2"]}, {"t": [1654354800, 1654351200]}, {"t": [1654351200, 1654351200]}]
)
def test_a_chart_that_contradicts_itself_is_no_answer(broken: dict[str, object]) -> None:
    with pytest.raises(BadPayload):
        to_candles(chart([1654351200, 1654354800], **broken))


@pytest.mark.parametrize("column", [{"c": ["0"]}, {"c": ["-1"]}, {"v": ["-1"]}, {"o": [None]}, {"t": ["x"]}])
def test_impossible_values_in_a_chart_are_no_answer(column: dict[str, object]) -> None:
    with pytest.raises(BadPayload):
        chart([1654351200], **column)


def test_candles_closer_than_asked_for_are_the_answer_to_another_question() -> None:
    minutes = to_candles(chart([1654351200, 1654351260]))
    check_spacing(minutes, Resolution.M1)
    with pytest.raises(BadPayload):
        check_spacing(minutes, Resolution.H1)
    check_spacing(to_candles(chart([1654351200, 1654358400])), Resolution.H1)  # a gap is a gap


def test_the_range_has_its_start_and_not_its_end() -> None:
    candles = to_candles(chart([1654351200, 1654351260, 1654351320]))
    start = candles[0].open_time
    assert within([*candles, *candles], start, start + timedelta(seconds=120)) == candles[:2]
