"""Searches for parameters: how far each is, what it found and what that is worth."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import action, display

from algo.admin.base import NOTHING, LedgerAdmin, actor, badge
from algo.admin.strategy_form import candle_length
from algo.backtest.optimise_words import (
    FOLD_HEADS,
    OBJECTIVES,
    PARAMETER_HEADS,
    WINDOW_HEADS,
    best_line,
    fold_rows,
    parameter_rows,
    walk_line,
    window_rows,
)
from algo.localised import digits, listed
from algo.models import OptimisationRun, OptimisationStatus
from algo.phrases import told
from algo.sentences import sentence
from algo.services.optimisation_evidence import optimisation_report
from algo.services.optimisations import optimisation_stop, optimisation_trials
from providers.clock import clock_from_env

STATES = {
    OptimisationStatus.QUEUED: "info",
    OptimisationStatus.SEARCHING: "primary",
    OptimisationStatus.JUDGING: "primary",
    OptimisationStatus.DONE: "success",
    OptimisationStatus.STOPPED: "warning",
    OptimisationStatus.FAILED: "danger",
}
VERDICTS = {"holds": "success", "doubtful": "warning", "luck": "danger", "nothing": "warning"}
MESSAGES = {"": "info", **VERDICTS, "luck": "error"}  # templates of the theme


@admin.register(OptimisationRun)
class OptimisationRunAdmin(LedgerAdmin):
    """Begun by `manage.py optimise_strategy` or over the API; looked at, and stopped, here."""

    list_display = ("id", "name", "strategy", "market", candle_length, "state", "progress", "worth", "created_at")
    list_select_related = ("market", "requested_by")
    list_filter = (("status", ChoicesDropdownFilter), "strategy", "method", ("market", RelatedDropdownFilter))
    search_fields = ("name", "strategy", "market__symbol")
    date_hierarchy = "created_at"
    actions = ("stop",)
    change_form_outer_before_template = "algo/admin/optimisation_run.html"
    sections = {
        "": ("name", "state", "progress", "worth", "report", "note"),
        "What was asked": (
            *("strategy", "market", candle_length, "goals", "method", "seed", "trials_wanted", "requested_by"),
            *("data_from", "data_to", "source"),
        ),
        "What was found": ("trials_done", "trials_refused", "created_at", "worked_at", "finished_at"),
        "As it was kept": ("parameters", "plan"),
    }

    def told(self, request: HttpRequest, row: OptimisationRun) -> dict[str, Any]:
        return _told(row)

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.report_view)
        name = "algo_optimisationrun_report"
        return [path("<path:object_id>/report/", view, name=name), *super().get_urls()]

    def report_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The report with charts, as `--html` writes it."""
        from algo.backtest.optimise_report import optimisation_html  # noqa: PLC0415 - read by few, megabytes of charts

        run = self.get_object(request, object_id)
        if run is None or not self.has_view_permission(request, run):
            raise Http404
        return HttpResponse(optimisation_html(optimisation_report(run), run.evidence, optimisation_trials(run)))

    @action(description=_("Stop: what was found is kept"), permissions=["stop"])
    def stop(self, request: HttpRequest, rows: Any) -> None:
        for run in rows:
            if optimisation_stop(run, by=actor(request), at=clock_from_env().now()):
                self.log_change(request, run, gettext("Stopped."))
                messages.success(
                    request,
                    gettext("%(run)s is stopped: manage.py optimise_strategy --resume %(run)s") % {"run": run.name},
                )
            else:
                messages.info(request, gettext("%(run)s was over already: nothing was changed.") % {"run": run.name})

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("algo.change_optimisationrun"))

    @display(description=_("state"), ordering="status")
    def state(self, run: OptimisationRun) -> str:
        return badge(run.get_status_display(), STATES[OptimisationStatus(run.status)])

    @display(description=_("progress"))
    def progress(self, run: OptimisationRun) -> str:
        return gettext("%(progress_percent)s %% of %(trials_wanted)s") % {
            "progress_percent": digits(f"{run.progress_percent:.0f}"),
            "trials_wanted": run.trials_wanted,
        }

    @display(description=_("worth"))
    def worth(self, run: OptimisationRun) -> str:
        verdict = run.verdict.get("verdict")
        return badge(str(verdict).capitalize(), VERDICTS[verdict]) if verdict else NOTHING

    @display(description=_("objectives"))
    def goals(self, run: OptimisationRun) -> str:
        return listed(told(OBJECTIVES[name]) for name in run.objectives)

    @display(description=_("report"))
    def report(self, run: OptimisationRun) -> str:
        if not run.evidence.get("best"):
            return NOTHING
        address = reverse("admin:algo_optimisationrun_report", args=[run.pk])
        return format_html(
            '<a class="text-link" href="{}" target="_blank">{}</a>', address, gettext("Report with charts")
        )


def _told(run: OptimisationRun) -> dict[str, Any]:
    """The judgement, the best set and what became of it, as the command prints them."""
    report = optimisation_report(run)
    judgement, walk, windows = report["judgement"] or {}, report["walk_forward"], window_rows(report)
    judged = judgement.get("sentence") or sentence(best_line(run.best, run.objectives))
    return {
        "judgement": told(judged),
        "judgement_template": f"unfold/helpers/messages/{MESSAGES[judgement.get('verdict', '')]}.html",
        "judgement_notes": [sentence(told(note)) for note in judgement.get("warnings", ())],
        "parameters_table": _table(PARAMETER_HEADS, parameter_rows(report)),
        "windows_table": _table(WINDOW_HEADS, windows) if windows else None,
        "walk_table": _table(FOLD_HEADS, fold_rows(walk)) if walk else None,
        "walk_line": told(walk_line(walk)) if walk else "",
    }


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> dict[str, Any]:
    return {"headers": [told(each) for each in heads], "rows": [[told(cell) for cell in row] for row in rows]}
