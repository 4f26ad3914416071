"""The reconciliation inbox: what cannot be explained at an exchange, and what a person decides about it."""

from __future__ import annotations

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import F
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminRadioSelectWidget, UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from algo.admin.base import LedgerAdmin, actor, badge, may_act
from algo.models import StrategyConfig, Ticket, TicketAnswer
from algo.services.tickets import (
    TicketRefused,
    names_order,
    ticket_answer,
    ticket_answers,
    ticket_configs,
    ticket_live_deal,
)
from providers.clock import clock_from_env

NEWEST_OPEN_FIRST = (F("resolved_at").desc(nulls_first=True), "-created_at", "-pk")
CARRIED_OUT = _(
    "It is carried out when the account is looked after next, within a minute; what came of it is shown here."
)


class TicketAnswerForm(forms.Form):
    """The answers that fit this ticket. The service has the last word."""

    answer = forms.ChoiceField(label=_("Answer"), widget=UnfoldAdminRadioSelectWidget)
    config = forms.ModelChoiceField(
        StrategyConfig.objects.none(),
        label=_("Strategy"),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text=_(
            "Needed to adopt: no deal is open on this market, so the order becomes a deal of its own "
            "under the rules of this strategy. What is filled of it is protected at once, and sold "
            "at once where the price is through its stop already."
        ),
    )
    note = forms.CharField(
        label=_("Note"),
        required=False,
        max_length=400,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text=_("Why."),
    )

    def __init__(self, ticket: Ticket, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fitting = ticket_answers(ticket)
        cast(forms.ChoiceField, self.fields["answer"]).choices = [(each.value, each.label) for each in fitting]
        self.fields["note"].required = not names_order(ticket)
        configs = ticket_configs(ticket) if TicketAnswer.ADOPT in fitting else []
        if not configs:
            del self.fields["config"]
            return
        choice = cast("forms.ModelChoiceField[StrategyConfig]", self.fields["config"])
        choice.queryset = StrategyConfig.objects.filter(pk__in=[config.pk for config in configs])


@admin.register(Ticket)
class TicketAdmin(LedgerAdmin):
    list_display = ("id", "state", "kind", "account", "market", "summary", "reference", "created_at", "resolved_by")
    list_select_related = ("account", "market", "resolved_by")
    list_filter = (
        ("resolved_at", admin.EmptyFieldListFilter),
        ("kind", ChoicesDropdownFilter),
        ("account", RelatedDropdownFilter),
    )
    search_fields = ("reference", "summary", "market__symbol")
    date_hierarchy = "created_at"
    ordering = NEWEST_OPEN_FIRST
    change_form_outer_after_template = "algo/admin/ticket_answer.html"
    sections = {
        "": ("state", "kind", "account", "market", "reference", "created_at"),
        "What happened": ("summary",),
        "The answer": (
            "answer",
            "answer_note",
            "answered_at",
            "resolved_by",
            "adopt_config",
            "resolved_at",
            "outcome",
        ),
        "What the exchange said": ("details",),
    }

    def get_urls(self) -> list[URLPattern]:
        answer = self.admin_site.admin_view(require_POST(self.answer_view))
        return [path("<path:object_id>/answer/", answer, name="algo_ticket_answer"), *super().get_urls()]

    def has_answer_permission(self, request: HttpRequest, ticket: Ticket | None = None) -> bool:
        return request.user.has_perm("algo.change_ticket") and may_act(request, ticket)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        ticket = self.get_object(request, object_id)
        more: dict[str, Any] = dict(extra_context or {})
        if ticket and ticket.resolved_at is None and self.has_answer_permission(request, ticket):
            more.setdefault("answer_form", TicketAnswerForm(ticket))
            more |= {"ticket": ticket, "live_deal": ticket_live_deal(ticket) if names_order(ticket) else None}
        return super().change_view(request, object_id, form_url, more)

    def answer_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.has_answer_permission(request):
            raise PermissionDenied
        ticket = self.get_object(request, object_id)
        if ticket is None:
            raise Http404
        if not self.has_answer_permission(request, ticket):
            raise PermissionDenied
        form = TicketAnswerForm(ticket, request.POST)
        if form.is_valid() and self._answer(request, ticket, form):
            return HttpResponseRedirect(reverse("admin:algo_ticket_change", args=[ticket.pk]))
        if ticket.resolved_at is not None:
            messages.warning(request, gettext("It was resolved by somebody else meanwhile. Nothing was changed."))
            return HttpResponseRedirect(reverse("admin:algo_ticket_change", args=[ticket.pk]))
        request.method = "GET"  # the same page again, with what was typed and what is wrong with it
        return cast(HttpResponse, self.change_view(request, object_id, extra_context={"answer_form": form}))

    def _answer(self, request: HttpRequest, ticket: Ticket, form: TicketAnswerForm) -> bool:
        answer = TicketAnswer(form.cleaned_data["answer"])
        try:
            recorded = ticket_answer(
                ticket,
                answer,
                note=form.cleaned_data["note"],
                by=actor(request),
                at=clock_from_env().now(),
                config=form.cleaned_data.get("config"),
            )
        except TicketRefused as exc:
            form.add_error(exc.field if exc.field in form.fields else None, str(exc))
            return False
        if not recorded:
            messages.info(request, gettext("It was answered so before: nothing was changed."))
        elif answer is TicketAnswer.IGNORE:
            messages.success(
                request, gettext("Resolved: its market takes entries again where no other ticket is open.")
            )
        else:
            messages.success(
                request,
                gettext("Answered: %(answer)s. %(carried_out)s")
                % {"answer": str(answer.label).partition(":")[0].lower(), "carried_out": CARRIED_OUT},
            )
        return True

    @display(description=_("state"), ordering="resolved_at")
    def state(self, ticket: Ticket) -> str:
        if ticket.resolved_at:
            return badge(gettext("Resolved"), "success")
        if ticket.answer:
            return badge(gettext("Answered, being carried out: blocks entries"), "warning")
        return badge(gettext("Open: blocks entries"), "danger")
