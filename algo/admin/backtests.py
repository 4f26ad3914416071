"""Backtests: started from a form, watched while they run, read and compared; written by the services alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import action, display

from algo.admin.backtest_form import DEFAULT_DAYS, BacktestForm, backtest_form
from algo.admin.base import NOTHING, RUN_KINDS, LedgerAdmin, actor, badge, two_lines
from algo.admin.strategy_form import candle_length, resolution_label
from algo.backtest.words import amount_in, figure_rows, models_of, number, percent, tally_of, toman_line
from algo.models import UNFINISHED_RUNS, BacktestRun, RunStatus, StrategyConfig
from algo.phrases import told
from algo.queues import backtest_enqueue
from algo.report_pages import html_report_response
from algo.selectors.backtests import FEWEST, MOST, backtests_compare, has_report
from algo.selectors.rights import may_act_on_run
from algo.selectors.visible import backtests_visible, strategies_visible
from algo.sentences import sentence
from algo.services.backtests import BacktestAsked, BacktestRefused, backtest_cancel, backtest_request
from algo.strategies.strategy_factory import strategy_names
from providers.clock import clock_from_env
from providers.types import Resolution

TALLIES = ((_("Exit"), "by_exit_reason"), (_("Weekday"), "by_weekday"), (_("Hour"), "by_hour"))


@admin.register(BacktestRun)
class BacktestRunAdmin(LedgerAdmin):
    """A list of what a trader compares, and a page for each run."""

    list_display = (
        "id",
        "what",
        "period",
        "status_badge",
        "profit",
        "sharpe_text",
        "drawdown",
        "deals",
        "win_rate",
        "created_at",
    )
    list_select_related = ("market", "config", "requested_by")
    list_filter = (
        ("status", ChoicesDropdownFilter),
        "strategy",
        ("config", RelatedDropdownFilter),
        ("market", RelatedDropdownFilter),
    )
    search_fields = ("=id", "strategy", "market__symbol", "config__name")
    date_hierarchy = "created_at"
    actions = ("compare",)
    actions_list = ("start",)
    change_form_outer_before_template = "algo/admin/backtest_run.html"
    sections = {
        "": ("status_badge", "requested_by", "strategy", "config", "market", candle_length),
        "Times": ("created_at", "started_at", "heartbeat_at", "finished_at"),
        "What it ran on": (
            "data_from",
            "data_to",
            "candles",
            "code_version",
            "fingerprint_of_candles",
            "fingerprint_of_strategy",
        ),
        "What was asked": ("parameters", "asked"),
    }

    def get_urls(self) -> list[URLPattern]:
        def protected(view: Any) -> Any:
            return self.admin_site.admin_view(view)

        return [
            path("compare/", protected(self.compare_view), name="algo_backtestrun_compare"),
            path("<path:object_id>/report/", protected(self.report_view), name="algo_backtestrun_report"),
            path("<path:object_id>/cancel/", protected(require_POST(self.cancel_view)), name="algo_backtestrun_cancel"),
            *super().get_urls(),
        ]

    def get_queryset(self, request: HttpRequest) -> Any:
        """Lists leave out what only a page shows."""
        rows = super().get_queryset(request)
        one = request.resolver_match and request.resolver_match.kwargs.get("object_id")
        return rows if one else rows.defer("summary", "charts")

    # --- starting ----------------------------------------------------------------------------------------------------

    def has_start_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("algo.add_backtestrun")

    @action(description=_("Run a backtest"), url_path="start", permissions=["start"])
    def start(self, request: HttpRequest) -> HttpResponse:
        now = clock_from_env().now()
        kind = backtest_form(_shown_strategy(request))
        form = kind(request.POST or None, initial=_initial(request), today=now.date(), user=request.user)
        if request.method == "POST" and form.is_valid() and (run := self._request(request, form)):
            return HttpResponseRedirect(reverse("admin:algo_backtestrun_change", args=[run.pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Run a backtest"),
            "form": form,
            "opts": self.opts,
        }
        return TemplateResponse(request, "algo/admin/backtest_start.html", context)

    def _request(self, request: HttpRequest, form: BacktestForm) -> BacktestRun | None:
        now = clock_from_env().now()
        try:
            run = backtest_request(form.asked(now), user=cast(User, request.user), now=now)
        except BacktestRefused as exc:
            form.add_refusal(exc)
            return None
        backtest_enqueue(run.pk)
        return run

    # --- one run -----------------------------------------------------------------------------------------------------

    def told(self, request: HttpRequest, row: BacktestRun) -> dict[str, Any]:
        return {
            "run": row,
            "run_waits": row.status in UNFINISHED_RUNS,
            "has_report": has_report(row),
            "may_cancel": self._may_cancel(request, row),
            "run_percent": f"{row.progress} %",
            "report_address": reverse("admin:algo_backtestrun_report", args=[row.pk]),
            **(_report_context(row.summary) if row.summary else {}),
        }

    def report_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self._run(request, object_id)
        if not has_report(run):
            raise Http404(gettext("There is no report: the backtest is not done, or an earlier version stored it."))
        return html_report_response(run)

    def cancel_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        run = self._run(request, object_id)
        if not self._may_cancel(request, run):
            raise PermissionDenied
        if backtest_cancel(run, clock_from_env().now(), by=actor(request)):
            messages.success(request, gettext("Backtest %(run)s was cancelled.") % {"run": run.pk})
        else:
            messages.info(
                request, gettext("Backtest %(run)s had ended already: nothing was changed.") % {"run": run.pk}
            )
        return HttpResponseRedirect(reverse("admin:algo_backtestrun_change", args=[run.pk]))

    def _run(self, request: HttpRequest, object_id: str) -> BacktestRun:
        run = self.get_object(request, object_id)
        if run is None:
            raise Http404
        if not self.has_view_permission(request, run):
            raise PermissionDenied
        return cast(BacktestRun, run)

    def _may_cancel(self, request: HttpRequest, run: BacktestRun) -> bool:
        return may_act_on_run(request.user, run)

    # --- several -----------------------------------------------------------------------------------------------------

    @admin.action(description=_("Compare: two to six that are done, side by side"), permissions=["view"])
    def compare(self, request: HttpRequest, rows: Any) -> HttpResponse | None:
        ids = list(rows.filter(status=RunStatus.DONE).order_by("pk").values_list("pk", flat=True))
        if not FEWEST <= len(ids) <= MOST:
            messages.error(
                request,
                gettext("Choose %(fewest)s to %(most)s backtests that are done. %(ids)s of these are.")
                % {"fewest": FEWEST, "most": MOST, "ids": len(ids)},
            )
            return None
        wanted = ",".join(map(str, ids))
        return HttpResponseRedirect(f"{reverse('admin:algo_backtestrun_compare')}?ids={wanted}")

    def compare_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        ids = [int(each) for each in request.GET.get("ids", "").split(",") if each.isdecimal() and len(each) < 19]
        runs = list(backtests_visible(request.user).filter(pk__in=ids, status=RunStatus.DONE))
        if not FEWEST <= len(runs) <= MOST:
            messages.error(
                request,
                gettext("Choose %(fewest)s to %(most)s backtests that are done.") % {"fewest": FEWEST, "most": MOST},
            )
            return HttpResponseRedirect(reverse("admin:algo_backtestrun_changelist"))
        runs.sort(key=lambda run: ids.index(run.pk))
        told = backtests_compare(runs)
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Backtests side by side"),
            "opts": self.opts,
            "figures_table": _compared(runs, told["figures"]),
            "differences_table": _compared(runs, told["differences"]),
        }
        return TemplateResponse(request, "algo/admin/backtest_compare.html", context)

    # --- columns -----------------------------------------------------------------------------------------------------

    @display(description=_("what"), ordering="strategy")
    def what(self, run: BacktestRun) -> str:
        return two_lines(
            run.config.name if run.config else run.strategy,
            f"{run.market}, {resolution_label(Resolution(run.resolution))}",
        )

    @display(description=_("candles"), ordering="data_from")
    def period(self, run: BacktestRun) -> str:
        first, last = run.asked.get("from") or run.data_from, run.asked.get("to") or run.data_to
        return two_lines(str(first or NOTHING)[:10], str(last or NOTHING)[:10])

    @display(description=_("fingerprint of the candles"))
    def fingerprint_of_candles(self, run: BacktestRun) -> str:
        return _breakable(run.data_fingerprint)

    @display(description=_("fingerprint of the strategy's source"))
    def fingerprint_of_strategy(self, run: BacktestRun) -> str:
        return _breakable(run.strategy_fingerprint)

    @display(description=_("status"), ordering="status")
    def status_badge(self, run: BacktestRun) -> str:
        status = RunStatus(run.status)
        progress = f" · {run.progress} %" if status == RunStatus.RUNNING else ""
        return badge(f"{status.label}{progress}", RUN_KINDS[status])

    @display(description=_("net profit"), ordering="net_profit_percent")
    def profit(self, run: BacktestRun) -> str:
        value = run.net_profit_percent
        if value is None:
            return NOTHING
        return badge(percent(value), "success" if value > 0 else "danger" if value < 0 else "")

    @display(description=_("Sharpe"), ordering="sharpe")
    def sharpe_text(self, run: BacktestRun) -> str:
        return NOTHING if run.sharpe is None else number(run.sharpe)

    @display(description=_("drawdown"), ordering="max_drawdown_percent")
    def drawdown(self, run: BacktestRun) -> str:
        return NOTHING if run.max_drawdown_percent is None else percent(run.max_drawdown_percent)

    @display(description=_("win rate"), ordering="win_rate_percent")
    def win_rate(self, run: BacktestRun) -> str:
        return NOTHING if run.win_rate_percent is None else percent(run.win_rate_percent)


def backtest_last_days(request: HttpRequest, configs: Iterable[StrategyConfig]) -> None:
    """Start a backtest of each config over the last days, and say where they are, or why not."""
    now = clock_from_env().now()
    for config in configs:
        asked = BacktestAsked(config=config, start=now - timedelta(days=DEFAULT_DAYS), end=now)
        try:
            run = backtest_request(asked, user=cast(User, request.user), now=now)
        except BacktestRefused as exc:
            messages.error(request, gettext("%(config)s was not tested: %(why)s") % {"config": config.name, "why": exc})
            continue
        backtest_enqueue(run.pk)
        address = reverse("admin:algo_backtestrun_change", args=[run.pk])
        messages.success(
            request,
            format_html(
                '<a class="underline" href="{}">{}</a>', address, gettext("%(run)s was queued.") % {"run": run}
            ),
        )


# --- what a page shows -----------------------------------------------------------------------------------------------


def _shown_strategy(request: HttpRequest) -> str:
    """Whose parameters the form shows: the chosen strategy's, else the chosen config's, else the first."""
    known = strategy_names()
    wanted = request.POST.get("strategy") or request.GET.get("strategy")
    if not wanted and (config := _config(request)):
        wanted = config.strategy
    return wanted if wanted in known else known[0]


def _initial(request: HttpRequest) -> dict[str, Any]:
    return {**request.GET.dict(), "strategy": _shown_strategy(request)}


def _config(request: HttpRequest) -> StrategyConfig | None:
    wanted = request.GET.get("config", "")
    if not wanted.isdecimal() or len(wanted) >= 19:
        return None
    return strategies_visible(request.user).filter(pk=int(wanted)).first()


def _report_context(report: Mapping[str, Any]) -> dict[str, Any]:
    models = models_of(report)
    metrics, amount = report["metrics"], amount_in(report["quote"])
    figures = [
        [told(label), *(words(name, model["metrics"]) for name, model in models.items())]
        for label, words in figure_rows(report)
    ]
    return {
        "figures_table": {"headers": [gettext("Figure"), *map(told, models)], "rows": figures},
        "tally_tables": {
            what: _tally_table(what, rows, amount) for what, name in TALLIES if (rows := tally_of(metrics, name))
        },
        "run_warnings": [told(sentence(each)) for each in report["warnings"]],
        "toman_line": toman_line(report),
    }


def _breakable(fingerprint: str) -> str:
    """A line may break after every 16 characters."""
    parts = ((fingerprint[i : i + 16],) for i in range(0, len(fingerprint), 16))
    return format_html_join(mark_safe("<wbr>"), "{}", parts) if fingerprint else NOTHING


def _tally_table(what: Any, rows: Mapping[str, Mapping[str, float]], amount: Any) -> dict[str, Any]:
    return {
        "headers": [what, gettext("Deals"), gettext("Won"), gettext("Profit")],
        "rows": [
            [
                told(name.replace("_", " ")),
                number(row["deals"]),
                percent(row["win_rate_percent"]),
                amount(row["profit"]),
            ]
            for name, row in rows.items()
        ],
    }


def _compared(runs: list[BacktestRun], rows: list[dict[str, Any]]) -> dict[str, Any]:
    names = [f"{run.pk}: {run.config.name if run.config else run.strategy}" for run in runs]
    return {"headers": ["", *names], "rows": [[row["name"], *row["values"]] for row in rows]}
