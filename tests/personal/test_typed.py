"""Numbers, days and hours that are typed with the digits of Persian and Arabic keyboards."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django import forms
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminSplitDateTimeWidget

from algo.localised import Digits, Reader, reading
from algo.typed import typed_digits_read, typed_number
from tests import factories as make
from tests.admin.pages import errors, form_data, shown

# ۱۲۳ and ٫ as a Persian keyboard has them, ١٢٣ as an Arabic one.


@pytest.mark.parametrize(
    ("typed", "read"),
    [("۱۲۳", "123"), ("١٢٣", "123"), ("۰٫۳", "0.3"), ("۱٬۲۳۴٫۵", "1234.5"), ("−۷", "-7"), (" ۵ ", "5"), ("1,5", "1,5")],
)
def test_a_number_is_read_as_programs_write_it(typed, read):
    assert typed_number(typed) == read


class Form(forms.Form):
    amount = forms.DecimalField(widget=UnfoldAdminDecimalFieldWidget)
    count = forms.IntegerField()
    day = forms.DateField()
    at = forms.SplitDateTimeField(widget=UnfoldAdminSplitDateTimeWidget)
    name = forms.CharField()


TYPED = {
    "amount": "۱٬۲۳۴٫۵", "count": "١٢", "day": "۲۰۲۶-۱۱-۰۲", "at_0": "۲۰۲۶-۱۱-۰۲", "at_1": "۱۰:۳۰:۰۰", "name": "ربات ۷",
}  # fmt: skip


def test_fields_for_numbers_and_times_read_any_digits_and_text_keeps_its_own():
    typed_digits_read()  # a second time changes nothing
    form = Form(TYPED)
    assert form.is_valid(), form.errors
    assert form.cleaned_data == {
        "amount": Decimal("1234.5"),
        "count": 12,
        "day": date(2026, 11, 2),
        "at": datetime(2026, 11, 2, 10, 30, tzinfo=UTC),
        "name": "ربات ۷",
    }


def test_a_number_that_is_none_is_refused_as_before():
    assert "amount" in Form({**TYPED, "amount": "۱۲الف"}).errors
    assert "amount" in Form({**TYPED, "amount": "1,234.5"}).errors


def test_who_reads_persian_digits_can_type_them_into_a_number():
    """A browser's own field for numbers takes none but Latin ones."""
    with reading(Reader(language="fa", digits=Digits.PERSIAN)):
        assert 'type="text"' in str(Form()["amount"])
        assert 'inputmode="decimal"' in str(Form()["amount"])
    assert 'type="number"' in str(Form()["amount"])


@pytest.mark.django_db
def test_a_strategy_takes_the_numbers_of_a_persian_keyboard(reader, config):
    address = f"/admin/algo/strategyconfig/{config.pk}/change/"
    data = form_data(reader.get(address)) | {"parameter_rsi_period": "۲۱", "parameter_stop_loss_percent": "۱٫۲۵"}
    answer = reader.post(address, data)
    assert answer.status_code == 302, errors(answer)
    config.refresh_from_db()
    assert (config.parameters["rsi_period"], str(config.parameters["stop_loss_percent"])) == (21, "1.25")


@pytest.mark.django_db
def test_a_filter_takes_the_times_of_a_persian_keyboard(browser):
    for day in (1, 20):
        make.make_open_deal(created_at=datetime(2026, 11, day, tzinfo=UTC))
    asked = {
        "created_at_from_0": "۲۰۲۶-۱۱-۱۰", "created_at_from_1": "۰۰:۰۰:۰۰",
        "created_at_to_0": "٢٠٢٦-١١-٣٠", "created_at_to_1": "00:00:00",
    }  # fmt: skip
    page = browser.get("/admin/algo/deal/", asked)
    assert [deal.created_at.day for deal in page.context["cl"].result_list] == [20], shown(page)
