"""What a person does to a deal or an order, each on a page of its own that says what will happen and asks why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminTextInputWidget, UnfoldBooleanWidget

from algo.admin.base import actor, may_act
from algo.localised import digits, money
from algo.models import Deal, DealStatus, MarketQuote, Order, Role
from algo.queues import advance_hint
from algo.services.deal_acts import (
    ActRefused,
    LooserStop,
    deal_close,
    deal_reprotect,
    deal_stop_move,
    order_cancel,
)
from providers.clock import clock_from_env
from providers.types import OrderStatus

ACT_PAGE = "algo/admin/act.html"
ASKED = _("{} It is carried out within seconds; the page of the deal tells what came of it.")
ALREADY = _("It was asked for before, or stands so already: nothing was changed.")


class ActForm(forms.Form):
    """Why. The service has the last word."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("Kept in the deal's history and in the audit log."),
        error_messages={"required": _("Say why. Nothing was changed.")},
    )


class StopForm(ActForm):
    field_order = ("stop_price", "looser_ok", "reason")
    stop_price = forms.DecimalField(
        max_digits=38, decimal_places=18, label=_("New stop price"), widget=UnfoldAdminDecimalFieldWidget
    )
    looser_ok = forms.BooleanField(
        required=False,
        label=_("Farther from the price is meant: I accept that more can be lost"),
        widget=UnfoldBooleanWidget,
    )


@dataclass(frozen=True, slots=True)
class Act:
    """One act on a row: its page, and the service that does it. `fits` says whether its button is shown."""

    name: str
    title: Any  # words, in the language of whoever reads
    text: Any
    done: Any
    fits: Callable[[Any], bool]
    do: Callable[..., bool]
    form: type[ActForm] = ActForm


def _is_open(deal: Deal) -> bool:
    return deal.status == DealStatus.OPEN and not deal.exit_reason


def _is_working_entry(order: Order) -> bool:
    return order.role == Role.ENTRY and not OrderStatus(order.status).is_final


DEAL_ACTS = (
    Act(
        "close",
        _("Close deal"),
        _(
            "All that it holds is sold (bought back, for a sell) at the market, now, at whatever the "
            "market gives. An entry that still works is cancelled first. This cannot be undone."
        ),
        _("The deal is being closed."),
        lambda deal: not deal.is_finished and not deal.exit_reason,
        deal_close,
    ),
    Act(
        "move-stop",
        _("Move stop"),
        _(
            "The resting stop is cancelled, that is confirmed, and the new one is placed; the moment "
            "between counts as unprotected. A trailing stop goes on from there."
        ),
        _("The stop is being moved."),
        _is_open,
        deal_stop_move,
        StopForm,
    ),
    Act(
        "re-protect",
        _("Re-protect"),
        _("Its orders are compared with the exchange at once, and a stop that is missing is placed. Safe to repeat."),
        _("Its protection is being looked at."),
        _is_open,
        deal_reprotect,
    ),
)
ORDER_ACTS = (
    Act(
        "cancel",
        _("Cancel order"),
        _("The entry is cancelled at the exchange. What was filled of it becomes a protected deal."),
        _("The order is being cancelled."),
        _is_working_entry,
        order_cancel,
    ),
)


class ActPages(ModelAdmin):
    """Adds the buttons of `acts` to a row's page, for those who may act on its account, and a page for each."""

    acts: tuple[Act, ...] = ()

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.act_view)
        return [path("<path:object_id>/act/<slug:name>/", view, name=self._act_address()), *super().get_urls()]

    def _act_address(self) -> str:
        return f"algo_{self.model._meta.model_name}_act"

    def act_links(self, request: HttpRequest, row: Any) -> list[dict[str, str]]:
        """The acts that fit `row` now; none for who may only look."""
        fitting = [act for act in self.acts if act.fits(row)]
        if not fitting or not may_act(request, row):
            return []
        name = f"admin:{self._act_address()}"
        return [{"title": act.title, "link": reverse(name, args=[row.pk, act.name])} for act in fitting]

    def act_view(self, request: HttpRequest, object_id: str, name: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        act = next((act for act in self.acts if act.name == name), None)
        if row is None or act is None or not self.has_view_permission(request, row):
            raise Http404
        if not may_act(request, row):
            raise PermissionDenied
        form = act.form(request.POST or None)
        back = reverse(f"admin:algo_{self.model._meta.model_name}_change", args=[row.pk])
        if request.method == "POST" and form.is_valid() and _did(request, act, row, form):
            return HttpResponseRedirect(back)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{act.title}: {row}",
            "act": act,
            "form": form,
            "facts": _facts(row),
            "back": back,
            "opts": self.opts,
        }
        return TemplateResponse(request, ACT_PAGE, context)


def _did(request: HttpRequest, act: Act, row: Any, form: ActForm) -> bool:
    """False where the service refused: why stands on the form."""
    try:
        changed = act.do(row, by=actor(request), at=clock_from_env().now(), **form.cleaned_data)
    except LooserStop as exc:
        form.add_error("looser_ok", str(exc))
        return False
    except ActRefused as exc:
        form.add_error(None, str(exc))
        return False
    if changed:
        advance_hint(row.account_id)
        messages.success(request, ASKED.format(act.done))
    else:
        messages.info(request, ALREADY)
    return True


def _facts(row: Deal | Order) -> list[tuple[str, str]]:
    """What one should have before one's eyes when deciding."""
    deal = row if isinstance(row, Deal) else row.deal
    quote = deal.market.quote
    streamed = MarketQuote.objects.filter(market=deal.market_id).first()
    price = None if streamed is None else streamed.last
    held = max(deal.entry_quantity - deal.exit_quantity, Decimal(0))
    facts = [
        (gettext("Market"), str(deal.market)),
        (gettext("Side"), deal.get_side_display()),
        (gettext("Held"), money(held, deal.market.base)),
        (gettext("Entry"), money(deal.entry_price, quote)),
        (gettext("Stop now"), money(deal.stop_price, quote)),
        (gettext("Target"), money(deal.target_price, quote)),
    ]
    if streamed is None or price is None:
        facts.append((gettext("Last price streamed"), gettext("none")))
    else:
        age = max(clock_from_env().now() - streamed.as_of, timedelta())
        facts.append(
            (
                gettext("Last price streamed"),
                gettext("%(price)s, %(age)s s ago")
                % {"price": money(price, quote), "age": digits(f"{age.total_seconds():.0f}")},
            )
        )
        percent = abs(price - deal.stop_price) / price * 100
        facts.append(
            (
                gettext("Distance of the stop"),
                gettext("%(percent)s %% of the price") % {"percent": digits(f"{percent:.3f}")},
            )
        )
    return facts
