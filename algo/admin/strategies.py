"""Strategy configs: parameters as fields, problems beside them, and the switches that start and stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.decorators import action, display

from algo.admin.backtests import backtest_last_days
from algo.admin.base import SettingsAdmin, badge, in_pairs
from algo.admin.kill_switch import SwitchPage
from algo.admin.parity import recent_reports
from algo.admin.strategy_checks import ChecksPage
from algo.admin.strategy_form import StrategyConfigForm, candle_length, form_for, parameter_sections
from algo.models import StrategyConfig
from algo.services.control import ControlRefused, strategy_ordering_set, strategy_start, strategy_stop
from algo.services.strategy_configs import config_warnings
from algo.strategies.strategy_factory import strategy_names

CHECKS = "Bias checks"  # long lines: a section of one column


@admin.register(StrategyConfig)
class StrategyConfigAdmin(ChecksPage, SwitchPage, SettingsAdmin):
    form = StrategyConfigForm
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
    )
    list_select_related = ("market", "data_market", "account")
    list_filter = ("status", "ordering_enabled", "strategy", ("account", RelatedDropdownFilter))
    search_fields = ("name", "market__symbol", "account__name")
    autocomplete_fields = ("account", "market", "data_market")
    actions = ("start", "stop", "pause_ordering", "resume_ordering", "backtest", "check_now")
    readonly_fields = ("status_badge", "last_bar_at", "check_badge", "check_found", "live_against_backtest")

    class Media:
        js = ("algo/admin/strategy.js",)

    def get_readonly_fields(self, request: HttpRequest, obj: StrategyConfig | None = None) -> tuple[str, ...]:
        """Another strategy is another config: deals and signals tell which one spoke."""
        return (*self.readonly_fields, "strategy") if obj else self.readonly_fields

    def get_fieldsets(self, request: HttpRequest, obj: StrategyConfig | None = None) -> list[Any]:
        strategy = self._edited_strategy(request, obj)
        sections: list[tuple[str | None, Sequence[Any]]] = [
            (None, ("name", "strategy", "account", "data_market", "market", "resolution")),
            ("Orders", ("allowed_sides", "ordering_enabled", *(("status_badge", "last_bar_at") if obj else ()))),
        ]
        sections += [(CHECKS, ("check_badge", "check_found"))] if obj else []
        sections += parameter_sections(strategy).items() if strategy else [("Parameters", ("parameters",))]
        sections += [("Live against backtest", ("live_against_backtest",))] if obj else []
        hidden = ["shown_parameters"] if strategy else []
        sections[0] = (None, [*sections[0][1], *hidden])
        return [(title, {"fields": list(names) if title == CHECKS else in_pairs(names)}) for title, names in sections]

    def get_form(self, request: HttpRequest, obj: StrategyConfig | None = None, **kwargs: Any) -> Any:
        strategy = self._edited_strategy(request, obj)
        if strategy is None:
            return super().get_form(request, obj, **kwargs)
        form = super().get_form(request, obj, form=form_for(strategy), **kwargs)
        form.base_fields["market"].error_messages["required"] = "Choose the market the orders go to."
        form.base_fields["data_market"].error_messages["required"] = "Choose the market the candles come from."
        return form

    def save_model(self, request: HttpRequest, obj: StrategyConfig, form: Any, change: bool) -> None:
        """The checks of what is saved follow in `changeform_view`."""
        super().save_model(request, obj, form, change)
        if gone := form.stored.keys() - obj.parameters.keys():
            messages.warning(request, f"{obj.strategy} does not know these stored parameters, removed: {sorted(gone)}")
        self.to_check(request, obj)
        self._warn(request, obj)

    def written_fields(self, form: Any) -> set[str]:
        parameters = {"parameters"} if form.instance.parameters != form.stored else set()
        return super().written_fields(form) | parameters | {"updated_at"}

    @action(description="Start: decide from the next closed candle on", permissions=["change"])
    def start(self, request: HttpRequest, rows: Any) -> None:
        for config in rows.select_related("account", "market", "data_market"):
            try:
                started = strategy_start(config)
            except ControlRefused as exc:
                messages.error(request, str(exc))
                continue
            messages.success(request, f"{config.name} {'runs' if started else 'was running already'}.")
            self._warn(request, config)

    @action(description="Stop: no more decisions, open deals stay protected", permissions=["change"])
    def stop(self, request: HttpRequest, rows: Any) -> None:
        self._tell(request, "stopped", [config.name for config in rows if strategy_stop(config)])

    @action(description="Pause ordering: signals are recorded, nothing is ordered", permissions=["change"])
    def pause_ordering(self, request: HttpRequest, rows: Any) -> None:
        self._tell(request, "ordering paused", [c.name for c in rows if strategy_ordering_set(c, enabled=False)])

    @action(description="Resume ordering", permissions=["change"])
    def resume_ordering(self, request: HttpRequest, rows: Any) -> None:
        self._tell(request, "ordering resumed", [c.name for c in rows if strategy_ordering_set(c, enabled=True)])

    def has_backtest_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("algo.add_backtestrun")

    @action(description="Backtest the last 30 days", permissions=["backtest"])
    def backtest(self, request: HttpRequest, rows: Any) -> None:
        backtest_last_days(request, rows)

    @display(description="status", ordering="status")
    def status_badge(self, config: StrategyConfig) -> str:
        return badge(config.get_status_display())

    @display(description="last days")
    def live_against_backtest(self, config: StrategyConfig) -> str:
        return recent_reports(config)

    @display(description="ordering", ordering="ordering_enabled")
    def ordering_badge(self, config: StrategyConfig) -> str:
        return badge("On", "success") if config.ordering_enabled else badge("Paused")

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

    def _warn(self, request: HttpRequest, config: StrategyConfig) -> None:
        for warning in config_warnings(config):
            messages.warning(request, warning)

    def _tell(self, request: HttpRequest, what: str, names: list[str]) -> None:
        messages.success(request, f"{what.capitalize()}: {', '.join(names) or 'none, they were so already'}.")
