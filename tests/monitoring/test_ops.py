"""The dashboard and the alert rules ask for nothing that the platform does not tell."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from algo.models import Decision
from algo.monitoring import metrics
from algo.monitoring.health import PARTS
from algo.monitoring.redis_facts import queue_depths
from algo.services.tallies import Teller
from providers.clock import clock_from_env
from providers.tally import Tally
from tests.factories import make_account, make_config, make_deal, make_order, make_signal
from tests.monitoring.test_health import everybody_alive

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "ops/grafana/algo_trade.json").read_text())
RULES = yaml.safe_load((ROOT / "ops/prometheus/alerts.yml").read_text())
DOCUMENT = (ROOT / "docs" / "observability.md").read_text()
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]
PANELS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
OF_A_SERIES = re.compile(r"algo_[a-z0-9_]+")
LABELS_IN_BRACES = re.compile(r"(algo_[a-z0-9_]+)\{([^}]*)\}")


@pytest.fixture
def told(transactional_db) -> dict[str, set[str]]:
    """Every sample name of a house in which something happens, and the labels it has."""
    now = datetime.now(UTC)
    beats = {"budgets": {"wallex": {"orders": 0.5}}, "exchanges": {"wallex": {"open": False, "answered_at": None}}}
    stream = {"up": True, "alive_at": now.isoformat()}
    known = {"wallex": {"open": False, "answered_at": now.isoformat()}}
    everybody_alive(now, guardian=beats | {"exchanges": known}, **{"stream:wallex": stream})
    account = make_account(
        balances={"USDT": ["1", "0"]}, balances_read_at=now, key_expires_at=now + timedelta(days=100)
    )
    make_config(account=account, last_bar_at=now)
    deal = make_deal(status="OPEN", unprotected_since=now)
    make_order(deal, status="OPEN", created_at=now, submitted_at=now, accepted_at=now)
    make_deal(status="CLOSED", close_reason="manual", closed_at=now, profit=1)
    make_signal(created_at=now, denial_code="cooldown")
    Decision.objects.create(config=make_config(), bar_open_at=now, decided_at=now, outcome="no_signal")
    tally = Tally()
    tally.add(metrics.CALLS, exchange="wallex", endpoint="orders", outcome="ok")
    tally.observe(metrics.CALL_SECONDS, 0.1, (1.0,), exchange="wallex")
    tally.add(metrics.TASKS, task="run_strategies", state="success")
    tally.observe(metrics.TASK_SECONDS, 0.1, (1.0,), task="run_strategies")
    Teller("worker", tally).tell()
    metrics._remembered._known = metrics._money_remembered._known = None
    families = metrics._families()
    assert queue_depths().keys()
    found: dict[str, set[str]] = {}
    for family in families:
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    assert clock_from_env()
    return found


def test_every_series_asked_for_is_told_with_its_labels(told):
    asked = [*PANELS, *(rule["expr"] for rule in ALERTS)]
    names = {name for expression in asked for name in OF_A_SERIES.findall(expression)} - {"algo_trade"}
    assert len(names) >= 30
    assert names - told.keys() == set()
    for expression in asked:
        for name, inside in LABELS_IN_BRACES.findall(expression):
            labels = set(re.findall(r"(\w+)\s*[=!]~?", inside))
            assert labels <= told[name], expression
        for labels in re.findall(r"by \(([^)]*)\)", expression):
            name = OF_A_SERIES.findall(expression)[0]
            assert set(labels.replace(" ", "").split(",")) <= told[name], expression


def test_every_series_that_is_told_is_explained_and_no_other(told):
    explained = set(re.findall(r"^\| `(algo_[a-z0-9_]+)`", DOCUMENT, re.MULTILINE))
    base = {re.sub(r"_(bucket|sum|count|created)$", "", name) if "seconds_" in name else name for name in told}
    base = {name for name in base if not name.endswith("_created")}
    assert explained == base


def test_every_alert_says_what_it_is_how_bad_and_what_to_do():
    names = [rule["alert"] for rule in ALERTS]
    assert len(names) == len(set(names)) >= 15
    for rule in ALERTS:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("page", "warn"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "action"}, rule["alert"]
        assert rule["expr"].count("(") == rule["expr"].count(")"), rule["alert"]
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "1m")), rule["alert"]
        assert f"`{rule['alert']}`" in DOCUMENT, rule["alert"]


def test_prometheus_is_told_where_to_look_and_with_which_token():
    config = yaml.safe_load((ROOT / "ops/prometheus/prometheus.yml").read_text())
    [job] = config["scrape_configs"]
    assert (job["metrics_path"], job["authorization"]["type"]) == ("/metrics", "Bearer")
    assert all((ROOT / "ops/prometheus" / file).exists() for file in config["rule_files"])


def test_panels_have_numbers_of_their_own_and_do_not_overlap():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    cells = set()
    for place in (panel["gridPos"] for panel in DASHBOARD["panels"]):
        mine = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & mine
        assert max(x for x, _ in mine) < 24
        cells |= mine


def test_the_document_names_every_part_of_readiness():
    assert [part for part in PARTS if f"| `{part}`" not in DOCUMENT] == []
