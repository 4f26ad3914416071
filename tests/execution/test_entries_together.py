"""Strategies of one group: read together, judged once where they are alike, and written down together."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from algo.backtest.synthetic import synthetic_market
from algo.execution import entries
from algo.execution.entries import due_groups
from algo.models import Decision, Outcome, StrategyCheck, StrategyConfig
from algo.services import strategy_checks
from algo.services.decisions import Noted, as_json, decisions_record
from algo.strategies.breakout import BreakoutStrategy
from algo.strategies.interface import MarketData, StrategyInterface
from algo.strategies.strategy_factory import STRATEGIES
from providers.errors import Unavailable
from tests.execution.deciding import DECIDES, decide
from tests.factories import make_account, make_config, make_market
from tests.market_data.exchange import FakeExchange, at, candles

pytestmark = pytest.mark.django_db


class Venue(FakeExchange):
    """Candles, and no book to be had."""

    def order_book(self, symbol: str) -> Any:
        raise Unavailable("no book today")


class Counts(StrategyInterface):
    """Says nothing, and remembers by which parameters it was asked."""

    asked: list[str] = []
    told: Any = "nothing"

    @property
    def warmup_bars(self) -> int:
        return 3

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        self.asked.append(str(self.parameters.stop_loss_percent))
        return None

    def explain(self, market_data: Any) -> dict[str, Any]:
        return {"word": self.told if self.parameters.stop_loss_percent == 7 else "fine"}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(STRATEGIES, "Counts", Counts)
    monkeypatch.setattr(Counts, "asked", [])
    monkeypatch.setattr(entries, "version_refusal", lambda config, strategy, *, now: "")


def config(stop: str = "1", **fields: Any) -> StrategyConfig:
    return make_config(strategy="Counts", parameters={"stop_loss_percent": stop}, **fields)


def evaluate(*configs: StrategyConfig) -> list[Outcome]:
    return decide(Venue(candles(range(10))), *configs)


def test_strategies_that_are_alike_judge_once_and_each_has_its_own_decision():
    rows = [config(stop) for stop in ("1", "2", "1", "1", "2")]
    assert evaluate(*rows) == [Outcome.NO_SIGNAL] * 5
    assert sorted(Counts.asked) == ["1", "2"]
    assert set(Decision.objects.values_list("config", flat=True)) == {row.pk for row in rows}


def test_those_that_trade_on_different_markets_see_different_books_and_judge_by_themselves():
    data = make_market(provider="nobitex")
    evaluate(config(), config(market=make_market("ETHUSDT"), data_market=data))
    assert Counts.asked == ["1", "1"]


def test_as_many_queries_for_forty_strategies_as_for_four():
    """Of a process that has just started, so that each version is looked up as well."""
    data, accounts = make_market(provider="nobitex"), [make_account(), make_account()]

    def queries(count: int) -> int:
        rows = [config(str(1 + n % 3), account=accounts[n % 2], data_market=data) for n in range(count)]
        strategy_checks._passed.clear()
        for row in rows:
            strategy_checks.strategy_check_current(row, now=DECIDES)
        strategy_checks._passed.clear()
        with CaptureQueriesContext(connection) as asked:
            assert evaluate(*rows) == [Outcome.NO_SIGNAL] * count
        return len(asked)

    evaluate(config())  # stores the candles
    assert queries(4) == queries(40)


def test_a_version_that_failed_its_newest_check_is_not_taken_for_one_that_passed():
    row = config()
    strategy = Counts(row.parameters)
    passed = strategy_checks.strategy_check_current(row, now=DECIDES)
    StrategyCheck.objects.create(
        config=row, fingerprint=passed.fingerprint, passed=False, summary="", findings={}, candles=3, source="",
        checked_at=DECIDES + timedelta(seconds=1), seconds=0,
    )  # fmt: skip
    strategy_checks._passed.clear()
    strategy_checks.versions_recall([(row, strategy)])
    assert not strategy_checks._passed


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (float("nan"), "ValueError"),
        (object(), "TypeError"),
        ("a zero \x00 byte", "its journal cannot be kept"),
    ],
    ids=["NaN", "an object", "what PostgreSQL refuses"],
)
def test_a_journal_that_cannot_be_kept_costs_nobody_else_theirs(monkeypatch, told, kept):
    monkeypatch.setattr(Counts, "told", told)
    rows = [config("1"), config("7"), config("2")]
    evaluate(*rows)
    found = {row.config_id: row for row in Decision.objects.all()}
    assert [found[row.pk].outcome for row in rows] == ["no_signal", "error", "no_signal"]
    assert kept in found[rows[1].pk].journal["error"]
    assert due_groups(DECIDES) == []


def test_a_strategy_edited_since_it_was_handed_out_does_not_read_its_old_market():
    row, other = config(), make_market("ETHUSDT", provider="nobitex")
    StrategyConfig.objects.filter(pk=row.pk).update(data_market=other)
    assert evaluate(row) == []
    assert not Decision.objects.exists()


def test_what_was_decided_before_stays_and_a_strategy_that_is_gone_is_left_out():
    row = config()
    first, later = at(3), at(4)
    decisions_record([Noted(row.pk, later, Outcome.ENTERED, as_json({"n": 1}))], now=DECIDES)
    decisions_record(
        [
            Noted(row.pk, first, Outcome.NO_SIGNAL, as_json({"n": 2})),
            Noted(row.pk, later, Outcome.NO_SIGNAL, as_json({"n": 3})),
            Noted(row.pk + 1000, later, Outcome.NO_SIGNAL, as_json({"n": 4})),
        ],
        now=DECIDES,
    )
    kept = {each.bar_open_at: (each.outcome, each.journal) for each in Decision.objects.all()}
    assert kept == {first: ("no_signal", {"n": 2}), later: ("entered", {"n": 1})}
    row.refresh_from_db()
    assert row.last_bar_at == later


def test_a_breakout_judges_as_it_executes_and_explains():
    strategy = BreakoutStrategy()
    market = synthetic_market(2000, seconds=60, price=100.0)
    said = 0
    for end in range(strategy.warmup_bars, 2000, 7):
        data = MarketData(market.between(end - strategy.warmup_bars, end))
        decision, journal = strategy.judge(data)
        assert (decision, json.dumps(journal)) == (strategy.execute(data), json.dumps(strategy.explain(data)))
        said += decision is not None
    assert said > 5
