"""A strategy as it is typed, played over the last 30 days before it is saved. Nothing is saved by it."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin

from algo import exchanges
from algo.admin.accounts import protection_badge
from algo.admin.strategy_form import PREVIEW, StrategyConfigForm, resolution_label
from algo.backtest.words import figure_rows, models_of
from algo.localised import digits
from algo.models import StrategyConfig
from algo.phrases import told
from algo.sentences import sentence
from algo.services.strategy_configs import config_warnings
from algo.services.strategy_preview import Preview, strategy_played
from providers.clock import clock_from_env
from providers.types import Resolution

SHOWN = (
    "Net profit",
    "Buy and hold",
    "Max drawdown",
    "Deals",
    "Win rate",
    "Profit factor",
    "Average hold",
    "Fees paid",
)
BUTTON = {"action_name": PREVIEW, "description": _("Preview"), "attrs": {}}


class PreviewPage(ModelAdmin):
    """Adds a button beside Save, and what it finds above the form. Errors stand beside their fields, as for Save."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Played after the transaction of the page has ended: it takes seconds."""
        response = super().changeform_view(request, *args, **kwargs)
        if request.method == "POST" and PREVIEW in request.POST and isinstance(response, TemplateResponse):
            context: Any = response.context_data
            form: StrategyConfigForm = context["adminform"].form
            if not form.errors:
                context["preview"] = preview_context(form.instance)
        return response

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> Any:
        may = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        if may:
            context["actions_submit_line"] = [BUTTON]
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)


def preview_context(config: StrategyConfig) -> dict[str, Any]:
    """What the page says of a config as it was typed."""
    found = strategy_played(config, exchanges.public_provider, now=clock_from_env().now())
    period = gettext("%(candles)s candles of %(resolution_label)s from %(data_market)s") % {
        "candles": digits(f"{found.candles:,}"),
        "resolution_label": resolution_label(Resolution(config.resolution)),
        "data_market": config.data_market,
    }
    return {
        "warnings": [*map(told, config_warnings(config)), *_report_warnings(found)],
        "protection": protection_badge(config.account),
        "account": config.account.name,
        "why_not": told(found.why_not),
        "period": period
        + (
            gettext("; %(missing)s are missing, nothing is invented in their place")
            % {"missing": digits(f"{found.missing:,}")}
            * bool(found.missing)
        ),
        "table": _table(found) if found.report else None,
    }


def _report_warnings(found: Preview) -> list[str]:
    warnings = found.report["warnings"] if found.report else []
    return [
        told(sentence(each)) for each in warnings if "pay the fees" not in each
    ]  # said by the config's own warnings


def _table(found: Preview) -> dict[str, Any]:
    report: Any = found.report
    models = models_of(report)
    rows = [
        [told(label), *(words(name, model["metrics"]) for name, model in models.items())]
        for label, words in figure_rows(report)
        if label.startswith(SHOWN) and "toman)" not in label
    ]
    return {"headers": [gettext("Figure"), *(format_html("{}", told(name)) for name in models)], "rows": rows}
