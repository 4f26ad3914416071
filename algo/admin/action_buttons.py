"""What a list offers for many rows, as buttons on the page of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from algo.queues import events_hint


class ActionButtons(ModelAdmin):
    """Adds a button for each of `buttons_for` to a row's page, for who may change the row. Each does what the action of
    that name does in the list, and comes back to the page."""

    change_form_outer_before_template = "algo/admin/action_buttons.html"

    def buttons_for(self, row: Any) -> Mapping[str, str]:
        """Names of actions that fit `row` now, with what stands on their buttons."""
        return {}

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.do_view))
        return [path("<path:object_id>/do/", view, name=self._do_address()), *super().get_urls()]

    def _do_address(self) -> str:
        return f"algo_{self.model._meta.model_name}_do"

    def do_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        name = request.POST.get("act", "")
        function = self.get_actions(request).get(name, (None,))[0]
        if function is None or name not in (self.actions or ()) or not self.has_change_permission(request, row):
            raise PermissionDenied
        answer = function(self, request, self.get_queryset(request).filter(pk=row.pk))
        events_hint()
        page = reverse(f"admin:algo_{self.model._meta.model_name}_change", args=[row.pk])
        return answer or HttpResponseRedirect(page)

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        row, more = self.get_object(request, object_id), dict(extra_context or {})
        if row is not None and self.has_change_permission(request, row):
            allowed = self.get_actions(request)
            more["buttons"] = [each for each in self.buttons_for(row).items() if each[0] in allowed]
            more["buttons_address"] = reverse(f"admin:{self._do_address()}", args=[row.pk])
        return super().change_view(request, object_id, form_url, more)
