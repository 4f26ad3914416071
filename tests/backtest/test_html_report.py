"""The HTML report: whole, escaped, without a word to the network; and what it draws, kept small."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects as go
import pytest

from algo.backtest import charts_of, run, run_both, side_by_side
from algo.backtest.charts import BARS, DEALS_KEPT, bars_of, curve_points, deals_of, drawdown_percent, returns_of
from algo.backtest.html_page import Section, chart, page, table, text
from algo.backtest.html_report import html_report
from algo.backtest.metrics import max_drawdown
from algo.strategies import BreakoutStrategy
from providers.types import Side
from tests.backtest.worlds import D, calm, market, said, settings
from tests.backtest.worlds import table as candle_table
from tests.strategies.tables import random_candles

FLAT, WON, LOST = (100.0, 100.5, 99.5, 100.0), (100.0, 103.0, 99.5, 100.0), (100.0, 100.0, 98.0, 100.0)
ADDRESS = re.compile(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?!data:)[a-z]*:?//|@import|url\(""", re.IGNORECASE)


class Document(HTMLParser):
    """Tags and attributes outside of scripts, the texts in between, and the figures of the charts."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.figures: list[dict] = []
        self.texts: list[str] = []
        self.feed(document)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.tags[-1] == ("script", {"type": "application/json"}) and self.open[-1] == "script":
            self.figures.append(json.loads(data))
        elif self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def told(results, **more):
    """A report as the service makes it, through JSON and back, as a stored run has it."""
    report = side_by_side(results)
    report["data"] = {"source": "database", "missing_candles": 0, "fingerprint": "ab" * 32}
    report["toman"] = None
    report |= more
    kept = [json.dumps(each, allow_nan=False, sort_keys=True) for each in (report, charts_of(results))]
    return json.loads(kept[0]), json.loads(kept[1])  # PostgreSQL keeps no order of names


@pytest.fixture(scope="module")
def results():
    strategy = BreakoutStrategy({"take_profit_percent": "1"})
    both = settings(starting_base=D(10), allowed_sides=frozenset(Side))
    return run_both(random_candles(5000, 3), strategy, None, market(taker_fee_rate=D("0.001")), both)


@pytest.fixture(scope="module")
def document(results):
    return html_report(*told(results))


# --- the document -----------------------------------------------------------------------------------------------------


def test_the_report_holds_every_part(document, results):
    found = Document(document)
    assert found.open == []
    for words in (
        "Equity and drawdown",
        "Price, entries and exits",
        "Figures by fill model",
        "Distribution of returns",
        "Growth by month",
        "When, and why deals closed",
        "Trades (conservative)",
        "What was tested",
        "Order-book signals and vetoes were off",
    ):
        assert words in found.text
    rows = sum(1 for tag, attrs in found.tags if tag == "tr")
    assert rows > next(iter(results.values())).deal_count


def test_the_order_is_that_of_people_and_not_of_names(results):
    freqtrade_first = dict(reversed(results.items()))
    for models in (results, freqtrade_first):
        report, charts = told(models)
        own, other = map(str, models)
        days = ("Friday", "Monday", "Sunday")
        report["metrics"]["by_weekday"] = {day: {"deals": 1, "win_rate_percent": 0.0, "profit": -1.0} for day in days}
        found = Document(html_report(report, charts))
        assert [trace["name"] for trace in found.figures[0]["data"]] == [own, own, other, other, "buy and hold"]
        assert [trace["name"] for trace in found.figures[2]["data"]] == [own, other]
        places = [found.text.index(day) for day in ("Monday", "Friday", "Sunday")]
        assert places == sorted(places)
        assert found.text.index(f"{own} {other} Net profit") > 0


def test_every_chart_is_one_that_plotly_itself_takes(document):
    figures = Document(document).figures
    assert len(figures) == 4
    for figure in figures:
        go.Figure(figure)  # raises for a property that does not exist
    assert {trace["type"] for figure in figures for trace in figure["data"]} == {"scatter", "candlestick", "bar"}


def test_nothing_is_fetched(document):
    found = Document(document)
    policy = next(attrs["content"] for _, attrs in found.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    for tag, attrs in found.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "form", "base", "a")
        assert not {"src", "href", "srcset", "onload", "onerror"} & set(attrs)
    ours = re.sub(r"<script>/\*\*\n\* plotly\.js.*?</script>", "", document, count=1, flags=re.DOTALL)
    assert len(ours) < 400_000  # plotly was cut away
    assert not ADDRESS.search(ours)
    assert "://" not in ours


def test_no_button_uploads_the_chart(document):
    ours = document[document.rindex("<script>") :]
    assert "showSendToCloud:false" in ours
    assert "plotlyServerURL:''" in ours


def test_hostile_text_is_text(results):
    evil = '</script><script>alert(1)</script><img src=x onerror=alert(2)>&"'
    report, charts = told(results)
    report |= {"symbol": evil, "strategy": evil, "quote": evil, "provider": evil, "warnings": [evil]}
    report["parameters"] = {evil: evil}
    report["refused"] = {evil: 1}
    report["metrics"]["by_weekday"] = {evil: {"deals": 1, "win_rate_percent": 1.0, "profit": 1.0}}
    charts["deals"]["reason"] = [evil for _ in charts["deals"]["reason"]]
    document = html_report(report, charts)
    found = Document(document)
    assert "alert(1)</script>" not in document
    assert "<img" not in document[: document.index("* plotly.js")]
    assert {tag for tag, _ in found.tags} <= {
        "html", "head", "meta", "title", "style", "body", "main", "header", "h1", "h2", "p", "section", "div", "span",
        "strong", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "script",
    }  # fmt: skip
    assert evil in found.text
    assert any(evil in trace.get("text", [""])[0] for figure in found.figures for trace in figure["data"])


def test_the_profit_in_toman_stands_with_its_price_and_date(results):
    price = {"price": "98000", "as_of": "2026-11-02T10:00:00+00:00", "source": "bid of USDTIRT @ Nobitex"}
    worth = {"conservative": 1_234_567.0, "freqtrade": -5.0}
    text = Document(html_report(*told(results, toman={**price, "net_profit": worth}))).text
    assert "1 USDT = 98,000 toman, bid of USDTIRT @ Nobitex, 2026-11-02 10:00 UTC" in text
    assert "1,234,567" in text
    assert "not known" in Document(html_report(*told(results))).text


def test_a_run_without_deals_has_a_report_all_the_same():
    quiet = run_both(candle_table(FLAT, FLAT, FLAT), said(3), calm(), market(), settings())
    assert "There was no deal." in Document(html_report(*told(quiet))).text


def test_a_page_without_a_chart_carries_no_plotly():
    small = page("Small", [Section("One", [text("a < b"), table(["x"], [["<b>"]])])], subtitle="two\nlines")
    assert len(small) < 10_000
    assert "a &lt; b" in small
    assert "<b>" not in small
    assert len(page("Big", [Section("One", [chart([], {}, label="none")])])) > 1_000_000


# --- what it draws ----------------------------------------------------------------------------------------------------


def test_a_long_curve_keeps_its_extremes_in_few_points():
    candles = random_candles(30_000, 5)
    result = run(candles, BreakoutStrategy(), None, market(), settings())
    points = curve_points(result)
    assert points.size <= 1002
    assert (points[0], points[-1]) == (result.first, len(candles) - 1)
    equity = result.equity[result.first :]
    assert {equity.min(), equity.max()} <= set(result.equity[points])
    deepest = -drawdown_percent(equity)[points - result.first].min()
    assert deepest == pytest.approx(max_drawdown(equity).percent)


def test_bars_join_candles_and_leave_out_those_without_a_price():
    rows = [(10.0, 12.0, 9.0, 11.0), (11.0, 11.5, 8.0, 9.0), (np.nan,) * 4, (9.0, 9.5, 8.5, 9.25)]
    result = run(candle_table(*rows), said(4), calm(), market(), settings())
    bars = bars_of(result)
    assert (bars["open"], bars["close"]) == ([10.0, 11.0, 9.0], [11.0, 9.0, 9.25])
    many = run(candle_table(*([rows[0], rows[1]] * BARS)), said(2 * BARS), calm(), market(), settings())
    joined = bars_of(many)
    assert len(joined["time"]) == BARS
    assert (joined["open"][0], joined["high"][0], joined["low"][0], joined["close"][0]) == (10.0, 12.0, 8.0, 9.0)


def test_returns_fall_into_common_bins_and_none_is_lost():
    candles = candle_table(FLAT, WON, LOST, LOST, FLAT)
    both = run_both(candles, said(5, c0=1, c1=1, c2=1), calm(), market(), settings())
    told = returns_of(both)
    assert (told["edges"][0], told["edges"][-1]) == (pytest.approx(-1), pytest.approx(2))
    assert {model: sum(counts) for model, counts in told["counts"].items()} == {"conservative": 3, "freqtrade": 3}


def test_deals_that_all_return_the_same_have_a_chart_too():
    for rows in ((FLAT, WON, FLAT), (FLAT, WON, WON, FLAT)):
        signals = said(len(rows), **{f"c{i}": 1 for i in range(len(rows) - 2)})
        told = returns_of(run_both(candle_table(*rows), signals, calm(), market(), settings()))
        assert told["edges"][0] < 2 < told["edges"][-1]
        assert {sum(counts) for counts in told["counts"].values()} == {len(rows) - 2}


def test_the_newest_deals_are_kept_and_the_others_counted(monkeypatch, results):
    result = next(iter(results.values()))
    assert result.deal_count > 5
    assert result.deal_count < DEALS_KEPT
    monkeypatch.setattr("algo.backtest.charts.DEALS_KEPT", 5)
    kept = charts_of(results)
    assert kept["deals_left_out"] == result.deal_count - 5
    assert kept["deals"]["profit"] == pytest.approx(result.deals["profit"][-5:].tolist())
    assert {len(column) for column in deals_of(result).values()} == {5}
