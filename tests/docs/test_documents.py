"""What the documents say is there, is there."""

from __future__ import annotations

import re
from pathlib import Path
from textwrap import dedent

import pytest
from django.conf import settings

from algo.strategies import BreakoutStrategySchema
from algo_trade.env import Env
from tests.api.routes import routes

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "README.fa.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
README = (ROOT / "README.md").read_text()
README_FA = (ROOT / "README.fa.md").read_text()
EVERYTHING = "\n".join(path.read_text() for path in DOCUMENTS)
# What only the compose files read, beside the variables of algo_trade/env.py.
COMPOSE_ONLY = {
    "SITE_HOST",
    "CADDY_OPTIONS",
    "BACKUP_EVERY",
    "BACKUP_KEEP",
    "PYTHON_IMAGE",
    "POSTGRES_IMAGE",
    "REDIS_IMAGE",
    "CADDY_IMAGE",
    "DEBIAN_IMAGE",
    "PIP_INDEX_URL",
}


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(path: Path) -> list[str]:
    return re.findall(r"\]\(([^)\s]+)\)", without_code(path.read_text()))


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as the code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def example_names() -> list[str]:
    return re.findall(r"^#? ?([A-Z][A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_the_example_environment_lists_every_variable_once_and_no_other():
    names = example_names()
    assert sorted(names) == sorted(set(names))
    assert set(names) == set(Env.model_fields) | COMPOSE_ONLY


def test_the_example_environment_sets_nothing_until_somebody_edits_it():
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_the_example_environment_shows_the_real_defaults():
    shown = dict(re.findall(r"^# ([A-Z][A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    examples = {"DATABASE_URL", "REDIS_URL"}  # without a default in env.py
    for name, field in Env.model_fields.items():
        if name in examples:
            continue
        default = getattr(field.default, "get_secret_value", lambda value=field.default: value)()
        assert shown[name] == (str(default).lower() if isinstance(default, bool) else str(default)), name


def test_every_variable_has_a_comment_above_it():
    lines = (ROOT / ".env.example").read_text().splitlines()
    is_variable = [bool(re.match(r"# [A-Z][A-Z_]+=", line)) for line in lines]
    for at, variable in enumerate(is_variable):
        if variable:
            first = at
            while is_variable[first - 1]:
                first -= 1
            assert re.match(r"# [A-Za-z]", lines[first - 1]), lines[at]


def test_the_readme_explains_every_variable():
    table = [line.split("|")[1] for line in README.splitlines() if line.startswith("| `")]
    explained = {name for cell in table for name in re.findall(r"`([A-Z][A-Z_]+)`", cell)}
    assert set(Env.model_fields) == explained


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_linked_file_and_heading_exists(path):
    for link in links(path):
        if link.startswith("http"):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(file), link


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_named_in_the_text_exists(path):
    made_by_the_reader = {"algo/strategies/pullback.py", "providers/NAME/"}
    named = set(re.findall(r"`((?:algo|algo_trade|providers|tests|docs|docker|launcher)/[\w./-]+)`", path.read_text()))
    assert [name for name in sorted(named - made_by_the_reader) if not (ROOT / name).exists()] == []


def test_the_pictures_are_small_and_all_of_them_are_shown():
    pictures = {path.name: path.stat().st_size for path in (ROOT / "docs" / "images").glob("*.png")}
    assert len(pictures) >= 6
    assert all(size < 200_000 for size in pictures.values())
    assert all(f"docs/images/{name}" in README for name in pictures)
    assert all(f"docs/images/{name}" in README_FA for name in pictures)


def blocks(text: str) -> list[str]:
    return [dedent(block) for block in re.findall(r"^ *```.*?^ *```$", text, flags=re.DOTALL | re.MULTILINE)]


def test_both_readmes_show_the_same_commands_and_variables():
    assert blocks(README_FA) == blocks(README)
    variables = r"^\| `([A-Z_]+)`"
    assert re.findall(variables, README_FA, re.MULTILINE) == re.findall(variables, README, re.MULTILINE)
    assert "README.fa.md" in README
    assert "README.md" in README_FA


def test_the_readme_tells_the_real_defaults_of_breakout_strategy():
    told = dict(re.findall(r"`([a-z_]+)` (\d+(?:\.\d+)?)", README.partition("Parameters of `BreakoutStrategy`")[2]))
    assert len(told) >= 12
    for name, value in told.items():
        assert float(BreakoutStrategySchema.model_fields[name].default) == float(value), name


def test_the_log_prefixes_are_those_of_the_settings():
    told = dict(re.findall(r"`([A-Z_]+_LOG_PREFIX)` \| `([^`]+)`", EVERYTHING))
    assert told == {name: getattr(settings, name) for name in dir(settings) if name.endswith("_LOG_PREFIX")}


@pytest.mark.parametrize(
    "name",
    [
        "./run",
        "./test",
        "./run --check",
        "./run --replay FILE --speed N",
        "./run --live-data",
        "./run --setup-only",
        "manage.py backtest_strategy --strategy BreakoutStrategy --symbol BTCUSDT --days 30",
        "manage.py test",
        "manage.py test algo.tests.StrategyTests",
        "docker-compose up -d",
        "docker-compose -f docker-compose.prod.yml up -d",
        "/admin/",
        "/api/",
        "127.0.0.1:5555",
        "127.0.0.1:8000",
        "django_app",
        "celery_worker",
        "celery_beat",
        "flower",
        "postgres",
        "redis",
        "DEFAULT_STOP_LOSS_PERCENT",
        "DEFAULT_TAKE_PROFIT_PERCENT",
        "MAX_POSITION_SIZE_PERCENT",
        "CELERY_BROKER_URL",
        "CELERY_RESULT_BACKEND",
        "StrategyInterface",
        "BreakoutStrategy",
        "strategy_factory.py",
        "schemas.py",
        "initialize() -> bool",
        "execute(market_data) -> dict or None",
        "CreateOrderRequestSchema(symbol, side, type, quantity, price, stopPrice)",
        "update_trailing_stop(deal, current_price)",
        "send_webhook_notification(deal_data)",
        "calculate_custom_indicator(df) -> Series",
    ],
)
def test_what_users_were_promised_stands_where_they_look(name):
    assert name in EVERYTHING


def test_every_option_of_run_in_the_documents_is_one_it_takes():
    from launcher.__main__ import parse

    for line in set(re.findall(r"\./run ((?:--[a-z-]+ ?(?:[A-Z]+ ?)?)+)", EVERYTHING)):
        words = line.replace("FILE", "candles.csv").replace(" N", " 60").split()
        parse(words)


def test_every_management_command_in_the_documents_exists():
    from django.core.management import get_commands

    named = set(re.findall(r"manage\.py ([a-z_]+)", EVERYTHING))
    assert named <= set(get_commands()), named - set(get_commands())
    assert {"backtest_strategy", "create_account", "demo_status", "refresh_markets", "test"} <= named


def test_the_document_of_the_api_names_every_address_and_act():
    """As `POST /api/v1/deals/1/close`, or by its last word beside others of the same row."""
    text = (ROOT / "docs" / "api.md").read_text()
    for route in routes():
        path = re.sub(r"\{\w+\}", "1", route.path.replace("{version}", "3"))
        row = rf"^\|[^|\n]*/api/v1/{re.escape(path.rpartition('/')[0])}[^|\n]*\b{re.escape(path.rpartition('/')[2])}`"
        whole = rf"/api/v1/{re.escape(re.sub(r'/1$', '', path))}(/1)?[`?]"
        assert re.search(whole, text) or re.search(row, text, re.MULTILINE), f"{route} is not in docs/api.md"
