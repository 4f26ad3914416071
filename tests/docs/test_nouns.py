"""The pages of the nouns name every table, and every status as the code has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.apps import apps

from algo.models import (
    AccountState,
    CloseReason,
    DealStatus,
    KillSwitch,
    Outcome,
    Role,
    RunStatus,
    TicketAnswer,
    TicketKind,
    TokenScope,
)
from algo.models.notification import DeliveryState
from providers.types import OrderStatus

NOUNS = Path(__file__).resolve().parents[2] / "docs" / "nouns"
PAGES = sorted(path for path in NOUNS.glob("*.md") if path.name != "README.md")


def test_every_table_of_the_platform_belongs_to_one_noun():
    told = [name for page in PAGES for name in re.findall(r"`(\w+)`", page.read_text().rpartition("Stored as")[2])]
    assert sorted(told) == sorted(model.__name__ for model in apps.get_app_config("algo").get_models())


def test_the_first_page_leads_to_every_other():
    assert set(re.findall(r"\]\((\S+\.md)\)", (NOUNS / "README.md").read_text())) == {page.name for page in PAGES}


@pytest.mark.parametrize(
    ("page", "values"),
    [
        ("account", AccountState),
        ("signal", Outcome),
        ("deal", DealStatus),
        ("deal", CloseReason),
        ("order", OrderStatus),
        ("order", Role),
        ("ticket", TicketKind),
        ("ticket", TicketAnswer),
        ("kill-switch", KillSwitch),
        ("event", DeliveryState),
        ("user", TokenScope),
        ("backtest", RunStatus),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_value_is_explained_where_its_noun_is(page, values):
    text = (NOUNS / f"{page}.md").read_text()
    assert [each.value for each in values if f"`{each.value}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_page_says_where_its_noun_is_found(page):
    assert "| code | " in page.read_text()
    assert page.read_text().startswith("# ")
