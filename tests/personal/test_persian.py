"""Whole pages in Persian: from right to left, and without an English sentence of ours."""

from __future__ import annotations

import html
import re

import pytest
from django.contrib import admin
from django.urls import reverse

from algo.localised import moment, reading
from algo.models import Deal, KillSwitch
from algo.selectors.preferences import reader_of_language
from tests import factories as make

pytestmark = pytest.mark.django_db
MODELS = sorted(
    (model for model in admin.site._registry if model._meta.app_label == "algo"), key=lambda model: model._meta.label
)
WORDS = re.compile(r"[A-Za-z]*[a-z]{2,}[ ’'][A-Za-z]*[a-z]{2,}")  # two English words beside each other; no codes
# What people named, what the exchange said, and names that stay as they are.
MEANT = {
    "the exchange accepted it",
    "The exchange holds an order that is not ours.",
    "Material Symbols",
    "uy alert-",
}
LEFT_ALONE = re.compile(
    r"<(script|style|pre|code|bdi)\b.*?</\1>|<datalist.*?</datalist>|<option.*?</option>|<!--.*?-->"
    r"|<[^>]*material-symbols[^>]*>.*?</span>",
    re.DOTALL,
)


def english_of(response) -> list[str]:
    """Texts of a page in which two English words stand beside each other."""
    assert response.status_code == 200, response
    body = LEFT_ALONE.sub(" ", response.content.decode())
    texts = [" ".join(html.unescape(text).split()) for text in re.findall(r">([^<]+)<", body)]
    isolated = re.compile("\u2068[^\u2068\u2069]*\u2069")  # a symbol, a name or a command
    return [text for text in texts if WORDS.search(isolated.sub("", text)) and not any(each in text for each in MEANT)]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_list_and_a_page_have_no_english_sentence(reader, model):
    name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
    found = english_of(reader.get(reverse(f"{name}_changelist"), follow=True))
    for row in model.objects.all()[:1]:
        found += english_of(reader.get(reverse(f"{name}_change", args=[row.pk])))
    assert found == []


@pytest.mark.parametrize(
    "address",
    [
        "/admin/",
        "/preferences/",
        "/admin/algo/strategyconfig/add/",
        "/admin/algo/account/add/",
        "/admin/algo/backtestrun/start/",
    ],
)
def test_a_page_has_no_english_sentence(reader, address):
    page = reader.get(address, follow=True)
    assert english_of(page) == []
    tag = re.search(r"<html[^>]*>", page.content.decode()).group()
    assert 'lang="fa"' in tag
    assert 'dir="rtl"' in tag


def test_the_page_to_sign_in_is_persian_for_who_asks_for_it(client):
    page = client.get("/admin/login/", headers={"Accept-Language": "fa"})
    assert english_of(page) == []
    assert "ورود" in page.content.decode()


def test_numbers_and_times_of_a_list_are_those_of_the_reader(reader):
    text = reader.get(reverse("admin:algo_deal_changelist")).content.decode()
    assert "۵۰٬۰۰۰" in text  # the entry price, 50000
    with reading(reader_of_language("fa")):
        assert moment(Deal.objects.get().created_at) in text
    assert re.search(r"۱۴۰\d/\d\d/\d\d \d\d:\d\d:\d\d", text)


def test_an_act_refused_is_told_in_persian_and_changes_nothing(reader, config):
    deal = make.make_closed_deal(config)
    address = reverse("admin:algo_deal_act", args=[deal.pk, "close"])
    page = reader.post(address, {"reason": "چون"}).content.decode()
    assert f"معاملهٔ {deal.pk} پایان یافته است" in page
    assert "چیزی تغییر نکرد" in page


def test_a_strategy_that_is_wrong_is_told_in_persian_beside_its_field(reader, config):
    address = reverse("admin:algo_strategyconfig_change", args=[config.pk])
    form = reader.get(address).context["adminform"].form
    data = {bound.html_name: bound.value() for bound in form if bound.value() not in (None, False)}
    page = reader.post(address, {**data, "parameter_stop_loss_percent": "99"})
    assert "باید حداکثر ۵۰ باشد" in page.content.decode()


def test_what_a_person_does_in_persian_is_stored_as_in_english(reader, config, admin_user):
    from algo.models import AuditRecord, SystemControl

    address = reverse("admin:algo_systemcontrol_kill_switch", args=[1])
    data = {"level": KillSwitch.NO_ENTRIES.value, "reason": "why", "seen_version": SystemControl.load().version}
    assert reader.post(address, data).status_code == 302
    record = AuditRecord.objects.filter(act__startswith="kill_switch").latest("pk")
    assert not re.search("[\u0600-\u06ff]", f"{record.act} {record.subject_name} {record.details}")


def test_a_problem_of_the_api_is_persian_for_who_asks_for_it(reader):
    answer = reader.get("/api/v1/deals/999999", headers={"Accept-Language": "fa"}).json()
    assert answer["detail"] == "چیزی این‌جا نیست، یا اجازهٔ دیدنش را ندارید."
    assert answer["title"] == "پیدا نشد"
    assert answer["code"] == "not_found"
    assert answer["errors"] == [{"code": "not_found", "detail": answer["detail"], "attr": None}]
