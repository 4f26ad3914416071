"""Stored candles: what is there, what is missing, and a button that has workers fetch it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import ChoicesDropdownFilter, RelatedDropdownFilter
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget

from algo.admin.backtest_form import DateBox
from algo.admin.base import NOTHING, RUN_KINDS, LedgerAdmin, actor, badge
from algo.admin.strategy_form import resolution_label
from algo.localised import digits, minute, number, zone_name
from algo.models import CandleFetch, Market, RunStatus
from algo.selectors.candles import Coverage, Gap, candles_coverage, candles_stored
from algo.selectors.rights import may_fetch_candles
from algo.services.candle_fetches import FetchRefused, candle_fetch_request
from providers.clock import clock_from_env
from providers.types import Resolution

DAYS = 30  # unless asked for another period
MOST_COVERED = 1_000_000  # candles that a look at the gaps reads
GAPS_SHOWN, FETCHES_SHOWN = 50, 10
TEMPLATE = "algo/admin/candles.html"


class PeriodForm(forms.Form):
    """Which candles: of the last 30 days, unless asked."""

    resolution = forms.ChoiceField(
        label=_("Candles"),
        choices=[(each.value, resolution_label(each)) for each in Resolution],
        widget=UnfoldAdminSelectWidget,
    )
    start = forms.DateField(label=_("From (UTC)"), widget=DateBox)
    end = forms.DateField(label=_("To (UTC)"), required=False, widget=DateBox, help_text=_("Not included. Empty: now."))

    def __init__(self, *args: Any, now: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._now = now

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors:
            start, end = self.period
            if start >= end:
                self.add_error("start", gettext("It must lie before the end of the period and in the past."))
            elif (end - start) / self.length.duration > MOST_COVERED:
                self.add_error(
                    "start",
                    gettext("That is more than %(most_covered)s candles. Choose a shorter period or longer candles.")
                    % {"most_covered": digits(f"{MOST_COVERED:,}")},
                )
        return data

    @property
    def length(self) -> Resolution:
        return Resolution(self.cleaned_data["resolution"])

    @property
    def period(self) -> tuple[datetime, datetime]:
        start, end = self.cleaned_data["start"], self.cleaned_data["end"]
        return _midnight(start), min(_midnight(end), self._now) if end else self._now


class CandlesPage(ModelAdmin):
    """Adds a page of stored candles to each market."""

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.candles_view)
        return [path("<path:object_id>/candles/", view, name="algo_market_candles"), *super().get_urls()]

    def candles_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        market = self.get_object(request, object_id)
        if market is None or not self.has_view_permission(request, market):
            raise Http404
        now = clock_from_env().now()
        series = candles_stored(market)
        form = PeriodForm(_asked(request, series, now), now=now)
        covered = candles_coverage(market, form.length, *form.period) if form.is_valid() else None
        if request.method == "POST" and covered is not None and self._fetched(request, market, form):
            return HttpResponseRedirect(f"{request.path}?{_query(form)}")
        context = {
            **self.admin_site.each_context(request),
            "title": gettext("Candles of %(market)s") % {"market": market},
            "opts": self.opts,
            "form": form,
            "coverage": _in_words(covered) if covered else "",
            "may_fetch": may_fetch_candles(request.user) and covered is not None and covered.missing > 0,
            "series_table": {
                "headers": [
                    gettext("Candles"),
                    gettext("Stored"),
                    gettext("First (%(zone)s)") % {"zone": zone_name()},
                    gettext("Last (%(zone)s)") % {"zone": zone_name()},
                ],
                "rows": [
                    [resolution_label(each.resolution), f"{each.stored:,}", _moment(each.first), _moment(each.last)]
                    for each in series
                ],
            },
            "gaps_table": _gaps_table(covered),
            "gaps_left": max(len(covered.gaps) - GAPS_SHOWN, 0) if covered else 0,
            "fetches_table": _fetches_table(market),
            "back": reverse("admin:algo_market_change", args=[market.pk]),
        }
        return TemplateResponse(request, TEMPLATE, context)

    def _fetched(self, request: HttpRequest, market: Market, form: PeriodForm) -> bool:
        if not may_fetch_candles(request.user):
            raise PermissionDenied
        start, end = form.period
        try:
            candle_fetch_request(
                market, form.length, start=start, end=end, by=actor(request), at=clock_from_env().now()
            )
        except FetchRefused as exc:
            form.add_error("start" if exc.field else None, str(exc))
            return False
        messages.success(
            request,
            gettext(
                "Workers fetch them, a few pages at a time, so that running strategies keep their calls. "
                "Look again in a while: how far they are stands below."
            ),
        )
        return True


@admin.register(CandleFetch)
class CandleFetchAdmin(LedgerAdmin):
    """What people asked workers to fetch; asked for on the page of a market."""

    list_display = (
        "id",
        "market",
        "length",
        "start",
        "end",
        "status_badge",
        "progress",
        "new",
        "missing",
        "created_at",
    )
    list_select_related = ("market", "requested_by")
    list_filter = (("status", ChoicesDropdownFilter), ("market", RelatedDropdownFilter))
    search_fields = ("=id", "market__symbol")
    sections = {
        "": ("market", "length", "start", "end", "status_badge", "progress", "new", "missing", "tries", "error"),
        "Times": ("created_at", "due_at", "finished_at", "requested_by"),
    }

    @display(description=_("candles"), ordering="resolution")
    def length(self, fetch: CandleFetch) -> str:
        return resolution_label(Resolution(fetch.resolution))

    @display(description=_("status"), ordering="status")
    def status_badge(self, fetch: CandleFetch) -> str:
        return _status(fetch)

    @display(description=_("asked up to"))
    def progress(self, fetch: CandleFetch) -> str:
        return _progress(fetch)


def candles_link(market: Market) -> str:
    address = reverse("admin:algo_market_candles", args=[market.pk])
    return format_html('<a class="text-link" href="{}">{}</a>', address, gettext("Coverage and gaps"))


def _asked(request: HttpRequest, series: list[Any], now: datetime) -> dict[str, Any]:
    """What was typed; where nothing was, the candles of which most are stored, over the last days."""
    given = request.POST if request.method == "POST" else request.GET
    most = max(series, key=lambda each: each.stored).resolution if series else Resolution.M1
    usual = {"resolution": most.value, "start": (now - timedelta(days=DAYS)).date().isoformat(), "end": ""}
    return {name: given.get(name, value) for name, value in usual.items()}


def _query(form: PeriodForm) -> str:
    told = form.cleaned_data
    end = f"&end={told['end']:%Y-%m-%d}" if told["end"] else ""
    return f"resolution={form.length.value}&start={told['start']:%Y-%m-%d}{end}"


def _in_words(covered: Coverage) -> str:
    gaps = (
        ngettext(" in %(gaps)s gap", " in %(gaps)s gaps", len(covered.gaps)) % {"gaps": number(len(covered.gaps))}
        if covered.gaps
        else ""
    )
    return gettext("%(stored)s candles of this period are stored, %(missing)s are missing%(gaps)s.") % {
        "stored": digits(f"{covered.stored:,}"),
        "missing": digits(f"{covered.missing:,}"),
        "gaps": gaps,
    }


def _gaps_table(covered: Coverage | None) -> dict[str, Any]:
    gaps: tuple[Gap, ...] = covered.gaps[:GAPS_SHOWN] if covered else ()
    rows = [[_moment(gap.start), _moment(gap.end), f"{gap.bars:,}"] for gap in gaps]
    return {
        "headers": [
            gettext("Missing from (%(zone)s)") % {"zone": zone_name()},
            gettext("Up to (%(zone)s)") % {"zone": zone_name()},
            gettext("Candles"),
        ],
        "rows": rows,
    }


def _fetches_table(market: Market) -> dict[str, Any]:
    rows = CandleFetch.objects.filter(market=market).order_by("-created_at", "-id")[:FETCHES_SHOWN]
    return {
        "headers": [
            gettext("Asked for"),
            gettext("Candles"),
            gettext("Period (%(zone)s)") % {"zone": zone_name()},
            gettext("Status"),
            gettext("Asked up to"),
            gettext("New"),
            gettext("Not at the exchange"),
        ],
        "rows": [
            [
                _moment(each.created_at),
                resolution_label(Resolution(each.resolution)),
                gettext("%(moment)s to %(moment_2)s") % {"moment": _moment(each.start), "moment_2": _moment(each.end)},
                format_html("{} {}", _status(each), each.error),
                _progress(each),
                f"{each.new:,}",
                NOTHING if each.missing is None else f"{each.missing:,}",
            ]
            for each in rows
        ],
    }


def _status(fetch: CandleFetch) -> str:
    status = RunStatus(fetch.status)
    return badge(status.label, RUN_KINDS[status])


def _progress(fetch: CandleFetch) -> str:
    share = (fetch.reached - fetch.start) / max(fetch.end - fetch.start, timedelta(seconds=1))
    return f"{min(max(share, 0.0), 1.0):.0%}"


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _moment(at: datetime) -> str:
    return minute(at)
