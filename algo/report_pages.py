"""Reports served to a browser. They run scripts, so they get an origin of their own: no cookie, no storage, no network
and no page of ours can be reached from within one, whatever stands in it."""

from __future__ import annotations

from django.http import HttpResponse

from algo.backtest.html_page import NOTHING_FETCHED
from algo.models import BacktestRun
from algo.selectors.backtests import report_page

# `sandbox` without `allow-same-origin`: the document is nobody's. Downloads are plotly's button for a picture.
SANDBOX = f"sandbox allow-scripts allow-downloads; {NOTHING_FETCHED}; frame-ancestors 'none'; form-action 'none'"


def html_report_response(run: BacktestRun) -> HttpResponse:
    """The HTML report of a run that has one."""
    name = f"backtest-{run.pk}-{run.market.symbol}.html"
    return HttpResponse(
        report_page(run),
        headers={
            "Content-Security-Policy": SANDBOX,
            "Content-Disposition": f'inline; filename="{"".join(c for c in name if c.isalnum() or c in "-.")}"',
            "Cache-Control": "private, no-store",
        },
    )
