"""Bias checks on the pages of strategy configs: the verdict, what was found in words, and the switch to check again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.decorators import action, display

from algo.admin.base import badge, rows_to_act_on
from algo.localised import digits, moment, number, zone_name
from algo.models import StrategyCheck, StrategyConfig
from algo.phrases import told
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

    @display(description=_("bias checks"))
    def check_badge(self, config: StrategyConfig) -> str:
        check = last_check(config)
        if check is None or check.fingerprint != config_fingerprint(config):
            return badge(gettext("Not yet"))
        return badge(gettext("Passed"), "success") if check.passed else badge(gettext("Failed"), "danger")

    @display(description=_("what was found"))
    def check_found(self, config: StrategyConfig) -> str:
        check = last_check(config)
        if check is None:
            return gettext("This config was never checked. It is checked when it is saved, and before it starts.")
        other = (
            ""
            if check.fingerprint == config_fingerprint(config)
            else gettext(" It was another version of the strategy.")
        )
        return format_html(
            '<p class="mb-2">{}{}</p>{}{}',
            gettext(
                "Checked %(at)s %(zone)s in %(seconds)s s over %(candles)s candles (%(source)s), %(signals)s signals."
            )
            % {
                "at": moment(check.checked_at),
                "zone": zone_name(),
                "seconds": digits(check.seconds),
                "candles": number(check.candles),
                "source": told(check.source),
                "signals": digits(check.findings.get("signals", 0)),
            },
            other,
            _list(check),
            format_html_join(
                "",
                '<p class="mt-2">{}</p>',
                ((gettext("Note: %(note)s.") % {"note": told(note)},) for note in check.findings.get("notes", ())),
            ),
        )

    @action(description=_("Check now: look-ahead, warm-up, memory"), permissions=["change"])
    def check_now(self, request: HttpRequest, rows: Any) -> None:
        for config in rows_to_act_on(request, rows.select_related("account", "market", "data_market")):
            if config_problems(config):
                messages.error(
                    request,
                    gettext("%(config)s was not checked: correct its parameters first.") % {"config": config.name},
                )
                continue
            self._tell_check(request, config, strategy_check(config, now=clock_from_env().now()), saved=False)

    def _check_saved(self, request: HttpRequest, config: StrategyConfig) -> None:
        """Check the version that was saved, where it is a new one. The config stays saved, whatever is found."""
        check = strategy_check_current(config, now=clock_from_env().now())
        if not check.passed:
            self._tell_check(request, config, check, saved=True)

    def _tell_check(self, request: HttpRequest, config: StrategyConfig, check: StrategyCheck, *, saved: bool) -> None:
        if check.passed:
            notes = "".join(gettext(" Note: %(note)s.") % {"note": told(note)} for note in check.findings["notes"])
            messages.success(
                request,
                gettext("%(config)s passed every bias check.%(notes)s") % {"config": config.name, "notes": notes},
            )
            return
        messages.error(
            request,
            (
                gettext(
                    "%(config)s was saved. It will not run: its bias checks %(summary)s. Open deals stay protected. "
                    "The page of the strategy lists what was found; correct the strategy or its parameters, then "
                    "check it again."
                )
                if saved
                else gettext(
                    "%(config)s will not run: its bias checks %(summary)s. Open deals stay protected. The page of the "
                    "strategy lists what was found; correct the strategy or its parameters, then check it again."
                )
            )
            % {"config": config.name, "summary": told(check.summary)},
        )


def _list(check: StrategyCheck) -> str:
    rows = ((_row(result),) for result in check.findings.get("results", ()))
    return format_html('<ul class="list-none">{}</ul>', format_html_join("", '<li class="mb-1">{}</li>', rows))


def _finding(each: Mapping[str, Any]) -> str:
    what = f"{told(each['what'])} ({each['at']})" if each["at"] else told(each["what"])
    return gettext("%(what)s: expected %(expected)s, found %(found)s") % {
        "what": what,
        "expected": each["expected"],
        "found": each["found"],
    }


def _row(result: Mapping[str, Any]) -> str:
    facts = gettext("; ").join(told(part) for part in (result["scope"], result["note"]) if part)
    found = format_html_join(
        "",
        "<li>{}</li>",
        ((_finding(each),) for each in result["findings"]),
    )
    more = result["differences"] - len(result["findings"])
    return format_html(
        '{} {} <span class="text-subtle">{}</span>{}',
        badge(told(result["verdict"].capitalize()), BADGES.get(result["verdict"], "")),
        told(result["title"]),
        facts,
        format_html(
            '<ul class="list-disc ml-8">{}{}</ul><p class="ml-8">{}</p>',
            found,
            format_html("<li>{}</li>", gettext("and %(count)s more") % {"count": digits(more)}) if more > 0 else "",
            told(result["hint"]),
        )
        if found
        else "",
    )
