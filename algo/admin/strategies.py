"""Strategy configs: parameters as fields, problems beside them, and the switches that start and stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext_lazy as _
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import action, display

from algo.admin.action_buttons import ActionButtons
from algo.admin.backtests import backtest_last_days
from algo.admin.base import Audited, SettingsAdmin, actor, badge, choice_badge, in_pairs, rows_to_act_on
from algo.admin.journal import why_link
from algo.admin.kill_switch import SwitchPage
from algo.admin.parity import recent_reports
from algo.admin.strategy_checks import ChecksPage
from algo.admin.strategy_form import (
    StrategyConfigForm,
    candle_length,
    form_for,
    parameter_sections,
    parameter_title,
)
from algo.admin.strategy_history import HistoryPages
from algo.admin.strategy_preview import PreviewPage
from algo.localised import listed
from algo.models import StrategyConfig, StrategyStatus
from algo.queues import NoBroker, evaluate_hint
from algo.services.control import ControlRefused, strategy_ordering_set, strategy_start, strategy_stop
from algo.services.strategy_acts import (
    StrategyRefused,
    strategy_clone,
    strategy_create,
    strategy_delete,
    strategy_run_now,
    strategy_update,
)
from algo.services.strategy_configs import config_warnings
from algo.strategies.strategy_factory import schema_for, strategy_names
from providers.clock import clock_from_env

CHECKS, PARAMETERS = _("Bias checks"), _("Parameters")  # long lines: sections of one column


@admin.register(StrategyConfig)
class StrategyConfigAdmin(Audited, ChecksPage, PreviewPage, HistoryPages, ActionButtons, SwitchPage, SettingsAdmin):
    form = StrategyConfigForm
    change_form_outer_before_template = "algo/admin/strategy_page.html"
    list_display = (
        "name",
        "strategy",
        "market",
        "data_market",
        candle_length,
        "account",
        "status_badge",
        "check_badge",
        "ordering_badge",
        "last_bar_at",
        "why",
    )
    list_select_related = ("market", "data_market", "account")
    list_filter = ("status", "ordering_enabled", "strategy", ("account", RelatedDropdownFilter))
    search_fields = ("name", "market__symbol", "account__name")
    autocomplete_fields = ("account", "market", "data_market")
    recorded_by_services = frozenset({"create", "change", "delete"})
    actions = ("start", "stop", "pause_ordering", "resume_ordering", "run_now", "clone", "backtest", "check_now")
    readonly_fields = (
        "status_badge",
        "last_bar_at",
        "why",
        "check_badge",
        "check_found",
        "live_against_backtest",
        candle_length,
        "parameters_in_words",
    )

    class Media:
        js = ("algo/admin/strategy.js",)

    def get_readonly_fields(self, request: HttpRequest, obj: StrategyConfig | None = None) -> tuple[Any, ...]:
        """Another strategy is another config: deals and signals tell which one spoke."""
        return (*self.readonly_fields, "strategy") if obj else self.readonly_fields

    def get_fieldsets(self, request: HttpRequest, obj: StrategyConfig | None = None) -> list[Any]:
        strategy = self._edited_strategy(request, obj)
        length = "resolution" if strategy else candle_length
        sections: list[tuple[Any, Sequence[Any]]] = [
            (None, ("name", "strategy", "account", "data_market", "market", length)),
            (
                gettext("Orders"),
                ("allowed_sides", "ordering_enabled", *(("status_badge", "last_bar_at", "why") if obj else ())),
            ),
        ]
        sections += [(CHECKS, ("check_badge", "check_found"))] if obj else []
        sections += parameter_sections(strategy).items() if strategy else [(PARAMETERS, ("parameters_in_words",))]
        sections += [(gettext("Live against backtest"), ("live_against_backtest",))] if obj else []
        hidden = ["shown_parameters", "seen_version"] if strategy else []
        sections[0] = (None, [*sections[0][1], *hidden])
        return [
            (title, {"fields": list(names) if title in (CHECKS, PARAMETERS) else in_pairs(names)})
            for title, names in sections
        ]

    def get_form(self, request: HttpRequest, obj: StrategyConfig | None = None, **kwargs: Any) -> Any:
        strategy = self._edited_strategy(request, obj)
        if strategy is None:
            return super().get_form(request, obj, **kwargs)
        form = super().get_form(request, obj, form=form_for(strategy), **kwargs)
        form.base_fields["market"].error_messages["required"] = gettext("Choose the market the orders go to.")
        form.base_fields["data_market"].error_messages["required"] = gettext("Choose the market the candles come from.")
        return form

    def save_model(self, request: HttpRequest, obj: StrategyConfig, form: Any, change: bool) -> None:
        """The checks of what is saved follow in `changeform_view`."""
        if not change:
            strategy_create(obj, **self._by(request))
        elif fields := self.written_fields(form):
            strategy_update(obj, {name: getattr(obj, name) for name in fields}, **self._by(request))
        if gone := form.stored.keys() - obj.parameters.keys():
            messages.warning(
                request,
                gettext("%(strategy)s does not know these stored parameters, removed: %(gone)s")
                % {"strategy": obj.strategy, "gone": sorted(gone)},
            )
        self.to_check(request, obj)
        self._warn(request, obj)

    def written_fields(self, form: Any) -> set[str]:
        parameters = {"parameters"} if form.instance.parameters != form.stored else set()
        return super().written_fields(form) | parameters

    def delete_model(self, request: HttpRequest, obj: StrategyConfig) -> None:
        strategy_delete(obj, **self._by(request))

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        for config in queryset.select_related("account"):
            strategy_delete(config, **self._by(request))

    @action(description=_("Start: decide from the next closed candle on"), permissions=["change"])
    def start(self, request: HttpRequest, rows: Any) -> None:
        for config in rows_to_act_on(request, rows.select_related("account", "market", "data_market")):
            try:
                started = strategy_start(config, **self._by(request))
            except ControlRefused as exc:
                messages.error(request, str(exc))
                continue
            said = gettext("%(config)s runs.") if started else gettext("%(config)s was running already.")
            messages.success(request, said % {"config": config.name})
            self._warn(request, config)

    @action(description=_("Stop: no more decisions, open deals stay protected"), permissions=["change"])
    def stop(self, request: HttpRequest, rows: Any) -> None:
        by = self._by(request)
        self._tell(
            request,
            gettext("Stopped: %(names)s."),
            [config.name for config in rows_to_act_on(request, rows) if strategy_stop(config, **by)],
        )

    @action(description=_("Pause ordering: signals are recorded, nothing is ordered"), permissions=["change"])
    def pause_ordering(self, request: HttpRequest, rows: Any) -> None:
        self._set_ordering(request, rows, enabled=False)

    @action(description=_("Resume ordering"), permissions=["change"])
    def resume_ordering(self, request: HttpRequest, rows: Any) -> None:
        self._set_ordering(request, rows, enabled=True)

    def _set_ordering(self, request: HttpRequest, rows: Any, *, enabled: bool) -> None:
        by, mine = self._by(request), rows_to_act_on(request, rows)
        names = [config.name for config in mine if strategy_ordering_set(config, enabled=enabled, **by)]
        self._tell(
            request,
            gettext("Ordering resumed: %(names)s.") if enabled else gettext("Ordering paused: %(names)s."),
            names,
        )

    @action(description=_("Run now: decide over the newest closed candle"), permissions=["change"])
    def run_now(self, request: HttpRequest, rows: Any) -> None:
        for config in rows_to_act_on(request, rows.select_related("account")):
            try:
                asked = strategy_run_now(config, **self._by(request))
            except StrategyRefused as exc:
                messages.error(request, str(exc))
                continue
            if not asked:
                messages.info(
                    request,
                    gettext("%(config)s has decided about its newest closed candle: see its journal.")
                    % {"config": config.name},
                )
                continue
            self._hand_on(request, config)

    def _hand_on(self, request: HttpRequest, config: StrategyConfig) -> None:
        try:
            evaluate_hint(config)
        except NoBroker as exc:
            messages.warning(
                request,
                gettext("%(why)s: %(config)s decides by itself once it is back.") % {"why": exc, "config": config.name},
            )
        else:
            messages.success(
                request, gettext("%(config)s decides now: its journal tells what it said.") % {"config": config.name}
            )

    @action(description=_("Clone: the same once more, stopped"), permissions=["change"])
    def clone(self, request: HttpRequest, rows: Any) -> None:
        for config in rows_to_act_on(request, rows.select_related("account", "market", "data_market")):
            try:
                copy = strategy_clone(config, **self._by(request))
            except StrategyRefused as exc:
                messages.error(
                    request, gettext("%(config)s was not cloned. %(why)s") % {"config": config.name, "why": exc}
                )
                continue
            address = reverse("admin:algo_strategyconfig_change", args=[copy.pk])
            text = '{} was cloned as <a class="underline" href="{}">{}</a>, which is stopped.'
            messages.success(request, format_html(text, config.name, address, copy.name))

    def rolled_back(self, request: HttpRequest, config: StrategyConfig) -> None:
        self._check_saved(request, config)
        self._warn(request, config)

    def buttons_for(self, row: StrategyConfig) -> dict[str, str]:
        running, ordering = row.status == StrategyStatus.RUNNING, row.ordering_enabled
        return {
            "stop" if running else "start": pgettext("a strategy", "Stop") if running else gettext("Start"),
            "pause_ordering" if ordering else "resume_ordering": gettext("Pause ordering")
            if ordering
            else gettext("Resume ordering"),
            **({"run_now": gettext("Run now")} if running else {}),
            "clone": gettext("Clone"),
            "backtest": gettext("Backtest 30 days"),
            "check_now": gettext("Check for bias"),
        }

    def has_backtest_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("algo.add_backtestrun")

    @action(description=_("Backtest the last 30 days"), permissions=["backtest"])
    def backtest(self, request: HttpRequest, rows: Any) -> None:
        backtest_last_days(request, rows)

    @display(description=_("status"), ordering="status")
    def status_badge(self, config: StrategyConfig) -> str:
        return choice_badge(config, "status")

    @display(description=_("as they are stored"))
    def parameters_in_words(self, config: StrategyConfig) -> str:
        """For who only reads: by the titles of the form, where its strategy still has one."""
        known = schema_for(config.strategy).model_fields if config.strategy in strategy_names() else {}
        names = [
            *(name for name in known if name in config.parameters),
            *sorted(config.parameters.keys() - known.keys()),
        ]
        rows = ((parameter_title(name, known.get(name)), str(config.parameters[name])) for name in names)
        return format_html('<ul class="list-none">{}</ul>', format_html_join("", "<li>{}: {}</li>", rows))

    @display(description=_("journal"))
    def why(self, config: StrategyConfig) -> str:
        return why_link(config.pk)

    @display(description=_("last days"))
    def live_against_backtest(self, config: StrategyConfig) -> str:
        return recent_reports(config)

    @display(description=_("ordering"), ordering="ordering_enabled")
    def ordering_badge(self, config: StrategyConfig) -> str:
        return badge(gettext("On"), "success") if config.ordering_enabled else badge(gettext("Paused"))

    def has_change_permission(self, request: HttpRequest, obj: StrategyConfig | None = None) -> bool:
        """A config whose strategy is not registered any more can be looked at and deleted."""
        return super().has_change_permission(request, obj) and (obj is None or obj.strategy in strategy_names())

    def _edited_strategy(self, request: HttpRequest, obj: StrategyConfig | None) -> str | None:
        """Whose parameters are form fields on this page; None where the page is only read."""
        names = strategy_names()
        if not (self.has_change_permission(request, obj) if obj else self.has_add_permission(request)):
            return None
        wanted = obj.strategy if obj else request.POST.get("strategy") or request.GET.get("strategy")
        return wanted if wanted in names else names[0]

    def _by(self, request: HttpRequest) -> dict[str, Any]:
        """Who acts, and when."""
        return {"by": actor(request), "at": clock_from_env().now()}

    def _warn(self, request: HttpRequest, config: StrategyConfig) -> None:
        for warning in config_warnings(config):
            messages.warning(request, warning)

    def _tell(self, request: HttpRequest, said: str, names: list[str]) -> None:
        messages.success(request, said % {"names": listed(names) or gettext("none, they were so already")})
