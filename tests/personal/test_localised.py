"""What a person reads: worked by hand, and round trips."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from algo import localised
from algo.localised import Calendar, Digits, Reader, reading
from algo.selectors.preferences import reader_of_language

ENGLISH, PERSIAN = reader_of_language("en"), reader_of_language("fa")
LRM = "\u200e"


@pytest.mark.parametrize(
    ("gregorian", "jalali"),
    [
        (date(2026, 3, 21), "۱۴۰۵/۰۱/۰۱"),
        (date(2026, 3, 20), "۱۴۰۴/۱۲/۲۹"),  # 1404 is a common year
        (date(2025, 3, 20), "۱۴۰۳/۱۲/۳۰"),  # 1403 is a leap year
        (date(2025, 3, 21), "۱۴۰۴/۰۱/۰۱"),
        (date(2021, 3, 20), "۱۳۹۹/۱۲/۳۰"),  # and so is 1399,
        (date(2030, 3, 20), "۱۴۰۸/۱۲/۳۰"),  # and 1408, five years after 1403
        (date(2026, 9, 22), "۱۴۰۵/۰۶/۳۱"),  # the first six months have 31 days
        (date(2026, 9, 23), "۱۴۰۵/۰۷/۰۱"),
        (date(1979, 2, 11), "۱۳۵۷/۱۱/۲۲"),
    ],
)
def test_a_day_in_the_jalali_calendar(gregorian, jalali):
    with reading(PERSIAN):
        assert localised.day(gregorian) == jalali
    assert localised.jalali_date(jalali) == gregorian


def test_a_day_that_the_jalali_calendar_does_not_have_is_refused():
    with pytest.raises(ValueError, match=r"."):
        localised.jalali_date("1404/12/30")


@given(st.dates(date(1925, 3, 21), date(2100, 1, 1)))
def test_every_day_comes_back_from_the_jalali_calendar(day):
    with reading(PERSIAN):
        assert localised.jalali_date(localised.day(day)) == day


@pytest.mark.parametrize(
    ("at", "english", "persian"),
    [
        (datetime(2026, 3, 20, 20, 30, tzinfo=UTC), "2026-03-20 20:30:00", "۱۴۰۵/۰۱/۰۱ ۰۰:۰۰:۰۰"),
        (datetime(2026, 3, 20, 20, 29, 59, tzinfo=UTC), "2026-03-20 20:29:59", "۱۴۰۴/۱۲/۲۹ ۲۳:۵۹:۵۹"),
        # Iran had summer time until 2022 (UTC+4:30) and has had none since: UTC+3:30 in July too
        (datetime(2022, 7, 1, 12, 0, tzinfo=UTC), "2022-07-01 12:00:00", "۱۴۰۱/۰۴/۱۰ ۱۶:۳۰:۰۰"),
        (datetime(2023, 7, 1, 12, 0, tzinfo=UTC), "2023-07-01 12:00:00", "۱۴۰۲/۰۴/۱۰ ۱۵:۳۰:۰۰"),
    ],
)
def test_a_moment_in_the_time_and_calendar_of_its_reader(at, english, persian):
    with reading(ENGLISH):
        assert localised.moment(at) == english
    with reading(PERSIAN):
        assert localised.moment(at) == persian


def test_calendar_digits_and_zone_are_chosen_one_by_one():
    at = datetime(2026, 3, 20, 20, 30, tzinfo=UTC)
    with reading(Reader("en", Calendar.JALALI, Digits.LATIN, ZoneInfo("Asia/Tehran"))):
        assert localised.moment(at) == "1405/01/01 00:00:00"
    with reading(Reader("fa", Calendar.GREGORIAN, Digits.PERSIAN, UTC)):
        assert localised.moment(at) == "۲۰۲۶-۰۳-۲۰ ۲۰:۳۰:۰۰"


@pytest.mark.parametrize(
    ("value", "english", "persian"),
    [
        (Decimal("1234567.5000"), "1,234,567.5", "۱٬۲۳۴٬۵۶۷٫۵"),
        (Decimal("0.00000001"), "0.00000001", "۰٫۰۰۰۰۰۰۰۱"),
        (Decimal("5E+4"), "50,000", "۵۰٬۰۰۰"),
        (Decimal("-12.5"), "-12.5", f"{LRM}−۱۲٫۵"),
        (1234, "1,234", "۱٬۲۳۴"),
        (0, "0", "۰"),
        (None, "–", "–"),
    ],
)
def test_a_number_is_grouped_and_exact(value, english, persian):
    with reading(ENGLISH):
        assert localised.number(value) == english
    with reading(PERSIAN):
        assert localised.number(value) == persian


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**18), max_value=10**18, places=8))
def test_a_number_written_for_people_reads_back_as_itself(value):
    with reading(PERSIAN):
        shown = localised.number(value)
    assert Decimal(localised.latin_digits(shown.removeprefix(LRM)).replace(",", "")) == value


@given(st.floats(0, 1e9), st.integers(0, 6))
def test_both_languages_write_the_same_figures(value, places):
    with reading(ENGLISH):
        english = localised.number(value, places)
    with reading(PERSIAN):
        persian = localised.number(value, places)
    assert localised.latin_digits(persian) == english
    assert math.isclose(float(english.replace(",", "")), value, abs_tol=0.51 * 10**-places, rel_tol=1e-9)


def test_money_has_its_unit_and_toman_is_one_thing_at_both_exchanges():
    with reading(ENGLISH):
        assert localised.money(Decimal("1500000"), "IRT") == "1,500,000 IRT"
        assert localised.money(Decimal("12.34"), "USDT") == "12.34 USDT"
        assert localised.money(None, "USDT") == "–"
    with reading(PERSIAN):
        assert localised.money(Decimal("1500000"), "IRT") == "۱٬۵۰۰٬۰۰۰ تومان"
        assert localised.money(Decimal("1500000"), "TMN") == "۱٬۵۰۰٬۰۰۰ تومان"
        assert localised.money(Decimal("12.34"), "USDT") == "۱۲٫۳۴ USDT"


def test_a_percentage_keeps_its_sign_beside_it():
    with reading(ENGLISH):
        assert localised.percent(Decimal("0.30")) == "0.3 %"
    with reading(PERSIAN):
        assert localised.percent(Decimal("0.30")) == "۰٫۳٪"
        assert localised.percent(Decimal("-1.5"), 2) == f"{LRM}−۱٫۵۰٪"


@pytest.mark.parametrize(
    ("length", "english", "persian"),
    [
        (0.4, "0 s", "۰ ثانیه"),
        (5, "5 s", "۵ ثانیه"),
        (60, "1 min", "۱ دقیقه"),
        (123, "2 min 3 s", "۲ دقیقه و ۳ ثانیه"),
        (timedelta(hours=4, minutes=5, seconds=59), "4 h 5 min", "۴ ساعت و ۵ دقیقه"),
        (timedelta(days=3, hours=4), "3 d 4 h", "۳ روز و ۴ ساعت"),
        (timedelta(days=3, minutes=4), "3 d", "۳ روز"),
    ],
)
def test_a_duration_in_its_two_largest_units(length, english, persian):
    with reading(ENGLISH):
        assert localised.duration(length) == english
    with reading(PERSIAN):
        assert localised.duration(length) == persian


def test_a_symbol_is_isolated_where_text_runs_from_right_to_left_only():
    with reading(ENGLISH):
        assert localised.isolated("BTC/IRT") == "BTC/IRT"
    with reading(PERSIAN):
        assert localised.isolated("BTC/IRT") == "\u2068BTC/IRT\u2069"


def test_what_is_typed_with_persian_or_arabic_digits_is_a_number():
    assert localised.latin_digits("۱٬۲۳۴٫۵") == "1,234.5"
    assert localised.latin_digits("٤٥٦") == "456"
    assert localised.latin_digits("BTC") == "BTC"


def test_nobody_reads_after_the_page_is_written():
    with pytest.raises(RuntimeError), reading(PERSIAN):
        raise RuntimeError
    assert localised.reader() == Reader()
    assert localised.number(Decimal("1.5")) == "1.5"
