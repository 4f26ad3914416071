"""The chart of a deal as an inline SVG: no script, nothing to fetch, in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils.translation import gettext

from algo.admin.base import amount_text
from algo.localised import digits, minute, zone_name
from algo.models import Deal
from algo.selectors.deal_chart import DealChart, Step, deal_chart

WIDTH, HEIGHT, EDGE = 720.0, 260.0, 10.0
MARK = 7.0  # half the width of a triangle


def chart_context(deal: Deal, now: datetime) -> dict[str, Any] | None:
    """What the template draws; None where there is nothing to see."""
    chart = deal_chart(deal, now)
    if not chart.bars and not chart.entries:
        return None
    paper = _Paper(chart)
    quote = deal.market.quote
    return {
        "width": f"{WIDTH:.0f}",
        "height": f"{HEIGHT:.0f}",
        "bars": [paper.bar(number) for number in range(len(chart.bars))],
        "stop": paper.staircase(),
        "target": paper.level(chart.target),
        "entries": [paper.mark(step, up=deal.side == "BUY") for step in chart.entries],
        "exits": [paper.mark(step, up=deal.side != "BUY") for step in chart.exits],
        "legend": _legend(chart),
        "high": f"{amount_text(paper.shown(paper.top))} {quote}",
        "low": f"{amount_text(paper.shown(paper.bottom))} {quote}",
        "start": minute(chart.start),
        "end": gettext("%(end)s %(zone)s") % {"zone": zone_name(), "end": minute(chart.end)},
        "source": _source(chart),
        "words": gettext("Deal %(deal)s, %(side)s on %(market)s. Prices in %(quote)s. ")
        % {"deal": deal.pk, "side": deal.side.lower(), "market": deal.market, "quote": quote}
        + ". ".join(f"{name}: {text}" for name, _, text in _legend(chart)),
    }


class _Paper:
    """Where a moment and a price lie on the drawing."""

    def __init__(self, chart: DealChart) -> None:
        steps = [*chart.entries, *chart.exits, *chart.stops]
        prices = [float(step.price) for step in steps] + ([float(chart.target)] if chart.target else [])
        prices += [price for bar in chart.bars for price in (bar.high, bar.low)]
        self.chart, self.top, self.bottom = chart, max(prices), min(prices)
        self.most_digits = max((_digits(step.price) for step in steps), default=2)

    def shown(self, price: float) -> Decimal:
        """As exact as the deal's own prices are."""
        return Decimal(f"{price:.{self.most_digits}f}")

    def x(self, at: datetime) -> float:
        share = (at - self.chart.start) / max(self.chart.end - self.chart.start, timedelta(seconds=1))
        return EDGE + min(max(share, 0.0), 1.0) * (WIDTH - 2 * EDGE)

    def y(self, price: float | Decimal) -> float:
        height = self.top - self.bottom
        share = (self.top - float(price)) / height if height else 0.5
        return EDGE + share * (HEIGHT - 2 * EDGE)

    def bar(self, number: int) -> dict[str, str]:
        bar = self.chart.bars[number]
        left, right = self.x(bar.at), self.x(bar.at + bar.length)
        upper, lower = self.y(max(bar.open, bar.close)), self.y(min(bar.open, bar.close))
        return {
            "kind": "rose" if bar.close >= bar.open else "fell",
            "middle": f"{(left + right) / 2:.1f}",
            "high": f"{self.y(bar.high):.1f}",
            "low": f"{self.y(bar.low):.1f}",
            "left": f"{left + (right - left) * 0.15:.1f}",
            "width": f"{max((right - left) * 0.7, 1):.1f}",
            "top": f"{upper:.1f}",
            "height": f"{max(lower - upper, 1):.1f}",
        }

    def level(self, price: Decimal | None) -> dict[str, str] | None:
        if price is None:
            return None
        since = self.chart.stops[0].at
        return {
            "from": f"{self.x(since):.1f}",
            "to": f"{self.x(self.chart.stop_until):.1f}",
            "y": f"{self.y(price):.1f}",
        }

    def staircase(self) -> str:
        """The points of the stop's line: level until it was moved, then up or down."""
        points: list[str] = []
        ends = [*(step.at for step in self.chart.stops[1:]), self.chart.stop_until]
        for step, until in zip(self.chart.stops, ends, strict=True):
            points += [f"{self.x(at):.1f},{self.y(step.price):.1f}" for at in (step.at, until)]
        return " ".join(points)

    def mark(self, step: Step, *, up: bool) -> str:
        """A triangle whose tip is at the fill: from below for what was bought, from above for what was sold."""
        x, y = self.x(step.at), self.y(step.price)
        base = y + MARK * 1.6 if up else y - MARK * 1.6
        return f"{x:.1f},{y:.1f} {x - MARK:.1f},{base:.1f} {x + MARK:.1f},{base:.1f}"


def _legend(chart: DealChart) -> list[tuple[str, str, str]]:
    """Name, class of its colour, and price of everything that is drawn."""
    stops = [amount_text(step.price) for step in chart.stops]
    told = [
        stops[0],
        *([gettext("%(value)s more") % {"value": len(stops) - 2}] if len(stops) > 2 else []),
        *stops[1:][-1:],
    ]
    rows = [
        (gettext("Entry"), "entry", _filled(chart.entries)),
        (gettext("Exit"), "exit", _filled(chart.exits)),
        (gettext("Stop"), "stop", " → ".join(told)),
        (gettext("Target"), "target", amount_text(chart.target) if chart.target is not None else ""),
    ]
    return [row for row in rows if row[2]]


def _filled(steps: Sequence[Step]) -> str:
    """One price, or the span of several fills."""
    prices = sorted({step.price for step in steps})
    return gettext(" to ").join(
        amount_text(price) for price in ([prices[0], prices[-1]] if len(prices) > 1 else prices)
    )


def _source(chart: DealChart) -> str:
    if not chart.bars:
        return gettext("No candles of %(source)s from that time are stored.") % {"source": chart.source}
    minutes = chart.bars[0].length / timedelta(minutes=1)
    return (
        gettext("Candles of %(source)s, %(minutes)s minutes each.")
        % {"source": chart.source, "minutes": digits(f"{minutes:g}")}
        if minutes != 1
        else gettext("Candles of %(source)s, 1 minute each.") % {"source": chart.source}
    )


def _digits(price: Decimal) -> int:
    exponent = price.normalize().as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
