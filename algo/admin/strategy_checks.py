"""Bias checks on the pages of strategy configs: the verdict, what was found in words, and the switch to check again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from algo.admin.base import badge
from algo.models import StrategyCheck, StrategyConfig
from algo.selectors.strategy_checks import last_check, with_newest_check
from algo.services.strategy_checks import strategy_check, strategy_check_current
from algo.services.strategy_configs import config_problems
from algo.services.strategy_versions import config_fingerprint
from providers.clock import clock_from_env

BADGES = {"passed": "success", "failed": "danger"}
SAVED = "strategy_config_saved"


class ChecksPage(ModelAdmin):
    """Adds the columns, the fields and the action; `to_check` belongs into `save_model`."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """The checks come after the commit: they take seconds, and an idle transaction is ended, locks and all."""
        response = super().changeform_view(request, *args, **kwargs)
        if saved := getattr(request, SAVED, None):
            self._check_saved(request, saved)
        return response

    def to_check(self, request: HttpRequest, config: StrategyConfig) -> None:
        """Check this version once it is saved."""
        setattr(request, SAVED, config)

    def get_queryset(self, request: HttpRequest) -> QuerySet[StrategyConfig]:
        return with_newest_check(super().get_queryset(request))

    @display(description="bias checks")
    def check_badge(self, config: StrategyConfig) -> str:
        check = last_check(config)
        if check is None or check.fingerprint != config_fingerprint(config):
            return badge("Not yet")
        word = "Passed" if check.passed else "Failed"
        return badge(word, BADGES[word.lower()])

    @display(description="what was found")
    def check_found(self, config: StrategyConfig) -> str:
        check = last_check(config)
        if check is None:
            return "This config was never checked. It is checked when it is saved, and before it starts."
        other = "" if check.fingerprint == config_fingerprint(config) else " It was another version of the strategy."
        return format_html(
            '<p class="mb-2">Checked {} UTC in {} s over {} candles ({}), {} signals.{}</p>{}{}',
            f"{check.checked_at:%Y-%m-%d %H:%M:%S}",
            check.seconds,
            f"{check.candles:,}",
            check.source,
            check.findings.get("signals", 0),
            other,
            _list(check),
            format_html_join(
                "", '<p class="mt-2">Note: {}.</p>', ((note,) for note in check.findings.get("notes", ()))
            ),
        )

    @action(description="Check now: look-ahead, warm-up, memory", permissions=["change"])
    def check_now(self, request: HttpRequest, rows: Any) -> None:
        for config in rows.select_related("account", "market", "data_market"):
            if config_problems(config):
                messages.error(request, f"{config.name} was not checked: correct its parameters first.")
                continue
            self._tell_check(request, config, strategy_check(config, now=clock_from_env().now()), told_before="")

    def _check_saved(self, request: HttpRequest, config: StrategyConfig) -> None:
        """Check the version that was saved, where it is a new one. The config stays saved, whatever is found."""
        check = strategy_check_current(config, now=clock_from_env().now())
        if not check.passed:
            self._tell_check(request, config, check, told_before="was saved. It ")

    def _tell_check(
        self, request: HttpRequest, config: StrategyConfig, check: StrategyCheck, *, told_before: str
    ) -> None:
        if check.passed:
            notes = "".join(f" Note: {note}." for note in check.findings["notes"])
            messages.success(request, f"{config.name} passed every bias check.{notes}")
            return
        messages.error(
            request,
            f"{config.name} {told_before}will not run: its bias checks {check.summary}. Open deals stay protected. The "
            "page of the strategy lists what was found; correct the strategy or its parameters, then check it again.",
        )


def _list(check: StrategyCheck) -> str:
    rows = ((_row(result),) for result in check.findings.get("results", ()))
    return format_html('<ul class="list-none">{}</ul>', format_html_join("", '<li class="mb-1">{}</li>', rows))


def _row(result: Mapping[str, Any]) -> str:
    facts = "; ".join(part for part in (result["scope"], result["note"]) if part)
    found = format_html_join(
        "",
        "<li>{}{}: expected {}, found {}</li>",
        (
            (each["what"], f" ({each['at']})" if each["at"] else "", each["expected"], each["found"])
            for each in result["findings"]
        ),
    )
    more = result["differences"] - len(result["findings"])
    return format_html(
        '{} {} <span class="text-subtle">{}</span>{}',
        badge(result["verdict"].capitalize(), BADGES.get(result["verdict"], "")),
        result["title"],
        facts,
        format_html(
            '<ul class="list-disc ml-8">{}{}</ul><p class="ml-8">{}</p>',
            found,
            format_html("<li>and {} more</li>", more) if more > 0 else "",
            result["hint"],
        )
        if found
        else "",
    )
