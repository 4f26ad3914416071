"""The language switch, and the page of one's own preferences."""

from __future__ import annotations

from decimal import Decimal

from django.contrib import admin, messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import check_for_language, gettext
from django.views.decorators.http import require_http_methods, require_POST
from django.views.i18n import set_language

from algo.localised import reading
from algo.personal.forms import PreferenceForm
from algo.selectors.preferences import preference_of, reader_of
from algo.services.preferences import language_choose
from providers.clock import clock_from_env


@require_POST
def language(request: HttpRequest) -> HttpResponseBase:
    """`language`, and `next` to come back to. The choice is kept in a cookie; with the user where one is signed in."""
    chosen = request.POST.get("language", "")
    if request.user.is_authenticated and check_for_language(chosen):
        language_choose(request.user, chosen)
    return set_language(request)


@login_required
@require_http_methods(["GET", "POST"])
def preferences(request: HttpRequest) -> HttpResponse:
    form = PreferenceForm(request.POST or None, instance=preference_of(request.user))
    if request.method == "POST" and form.is_valid():
        form.save()
        with reading(reader_of(request.user)):
            messages.success(request, gettext("Your preferences are kept."))
        return redirect("preferences")
    context = {
        **admin.site.each_context(request),
        "title": gettext("Preferences"),
        "form": form,
        "now": clock_from_env().now(),
        "example": Decimal("1234567.89"),
    }
    return render(request, "algo/personal/preferences.html", context)
