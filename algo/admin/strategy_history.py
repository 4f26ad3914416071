"""The history of a strategy on a page, and the way back to any version of it."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminTextInputWidget

from algo.admin.act_pages import ACT_PAGE
from algo.admin.base import NOTHING, actor, may_act
from algo.localised import digits, listed, moment, number, zone_name
from algo.models import Door, StrategyConfig
from algo.phrases import told
from algo.selectors.strategy_changes import NEWEST, ConfigChange, FieldChange, config_changes, roll_back_difference
from algo.selectors.visible import accounts_visible
from algo.services.strategy_acts import StrategyRefused, strategy_roll_back
from providers.clock import clock_from_env

TEMPLATE = "algo/admin/strategy_history.html"
DOORS = {
    Door.ADMIN: _("in the admin"),
    Door.API: _("over the API"),
    Door.SHELL: _("in a shell"),
    Door.PLATFORM: _("by itself"),
}
ROLL_BACK = {
    "title": _("Roll back"),
    "text": _(
        "The strategy is set to what it was in that version, as below. Whether it runs and "
        "whether it orders stays as it is. Open deals keep the rules they were opened with. The "
        "new version is checked for bias before it decides."
    ),
}


class RollBackForm(forms.Form):
    reason = forms.CharField(
        label=_("Reason"),
        max_length=200,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("Kept in the history and in the audit log."),
    )


class HistoryPages(ModelAdmin):
    """Replaces Django's list of changes by ours, which tells each field before and after."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.roll_back_view)
        address = "<path:object_id>/history/<int:history_id>/roll-back/"
        return [path(address, view, name="algo_strategyconfig_roll_back"), *super().get_urls()]

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        config = self._seen(request, object_id)
        changes, mine = (
            config_changes(config, seen=accounts_visible(request.user)),
            self._may_roll_back(request, config),
        )
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("History of %(config)s") % {"config": config.name},
            "opts": self.opts,
            "object": config,
            "history_table": {
                "headers": [
                    gettext("Version"),
                    gettext("When (%(zone)s)") % {"zone": zone_name()},
                    gettext("Who"),
                    gettext("What"),
                    gettext("Difference"),
                    "",
                ],
                "rows": [_row(config, each, back=mine and number > 0) for number, each in enumerate(changes)],
            },
            "history_bound": NEWEST if changes and changes[-1].version > 1 else 0,
            "back": reverse("admin:algo_strategyconfig_change", args=[config.pk]),
            "audit": f"{reverse('admin:algo_auditrecord_changelist')}?{urlencode({'q': config.name})}",
            **(extra_context or {}),
        }
        return TemplateResponse(request, TEMPLATE, context)

    def roll_back_view(self, request: HttpRequest, object_id: str, history_id: int) -> HttpResponse:
        config = self._seen(request, object_id)
        difference = roll_back_difference(config, history_id, seen=accounts_visible(request.user))
        if difference is None:
            raise Http404
        if not self._may_roll_back(request, config):
            raise PermissionDenied
        form = RollBackForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid() and self._rolled_back(request, config, history_id, form):
            return HttpResponseRedirect(reverse("admin:algo_strategyconfig_change", args=[config.pk]))
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Roll back: %(config)s") % {"config": config},
            "opts": self.opts,
            "act": ROLL_BACK,
            "form": form,
            "facts": [(label_of(each), f"{_text(each.before)} → {_text(each.after)}") for each in difference]
            or [(gettext("Difference"), gettext("none: it is so already"))],
            "back": reverse("admin:algo_strategyconfig_history", args=[config.pk]),
        }
        return TemplateResponse(request, ACT_PAGE, context)

    def rolled_back(self, request: HttpRequest, config: StrategyConfig) -> None:
        """What the page does once another version is saved."""

    def _rolled_back(self, request: HttpRequest, config: StrategyConfig, history_id: int, form: RollBackForm) -> bool:
        who: dict[str, Any] = {"by": actor(request), "at": clock_from_env().now()}
        try:
            changed = strategy_roll_back(config, history_id, reason=form.cleaned_data["reason"], **who)
        except StrategyRefused as exc:
            form.add_error(None, str(exc))
            return False
        if not changed:
            messages.info(
                request, gettext("%(config)s is what it was then: nothing was changed.") % {"config": config.name}
            )
            return True
        messages.success(
            request,
            gettext("%(config)s was rolled back: %(changed)s.") % {"config": config.name, "changed": listed(changed)},
        )
        self.rolled_back(request, config)
        return True

    def _seen(self, request: HttpRequest, object_id: str) -> StrategyConfig:
        config = self.get_object(request, object_id)
        if config is None or not self.has_view_permission(request, config):
            raise Http404
        return cast(StrategyConfig, config)

    def _may_roll_back(self, request: HttpRequest, config: StrategyConfig) -> bool:
        return self.has_change_permission(request, config) and may_act(request, config)


def label_of(change: FieldChange) -> str:
    return gettext(change.field.removeprefix("parameters.").replace("_", " "))


def _row(config: StrategyConfig, change: ConfigChange, *, back: bool) -> list[str]:
    difference = format_html_join(
        "", "<li>{}: {} → {}</li>", ((label_of(each), _text(each.before), _text(each.after)) for each in change.changes)
    )
    address = reverse("admin:algo_strategyconfig_roll_back", args=[config.pk, change.id])
    return [
        number(change.version),
        moment(change.at),
        f"{change.who}, {DOORS[change.door]}" if change.who else change.by,
        f"{told(change.kind.capitalize())}{': ' + change.why if change.why else ''}",
        format_html('<ul class="list-none">{}</ul>', difference) if difference else NOTHING,
        format_html('<a class="text-link" href="{}">{}</a>', address, gettext("Roll back")) if back else "",
    ]


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    return (gettext("on") if value else gettext("off")) if isinstance(value, bool) else digits(value)
