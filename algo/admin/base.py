"""What our admin pages share: exact amounts, ledgers that cannot be written, saves that touch only what changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from django.contrib import messages
from django.db.models import DecimalField, Field, JSONField, Model
from django.http import HttpRequest, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display

from algo.models.fields import plain
from algo.services.deletion import deletion_refusal

NOTHING = "–"

# How much a word asks for attention, in the theme's words; every other word is neutral.
KINDS = {
    "Planned": "info",
    "Entering": "info",
    "Exiting": "warning",
    "Closed": "success",
    "Pending": "info",
    "Submitted": "info",
    "Open": "primary",
    "Partially filled": "primary",
    "Canceling": "warning",
    "Filled": "success",
    "Rejected": "danger",
    "Active": "success",
    "Paused": "warning",
    "Running": "success",
    "Buy": "success",
    "Sell": "danger",
}


def badge(text: str, kind: str | None = None) -> str:
    """`text` as a coloured label, escaped."""
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": kind or KINDS.get(text, "")})


def two_lines(upper: str, lower: str) -> str:
    return format_html('<span class="whitespace-nowrap">{}<br>{}</span>', upper, lower)


def in_pairs(names: Sequence[Any]) -> list[Any]:
    """Fields for two columns."""
    return [tuple(names[i : i + 2]) for i in range(0, len(names), 2)]


def amount_text(value: Decimal | None) -> str:
    """1234567.5000 as `1,234,567.5`: grouped, exact, without trailing zeros."""
    return NOTHING if value is None else f"{plain(value):,f}"


@cache
def amount(model: type[Model], name: str) -> Callable[[Any], str]:
    """A column or read-only field that shows the exact amount `name`; Django would pad it to 18 decimals."""

    def show(row: Any) -> str:
        return amount_text(getattr(row, name))

    show.__name__ = name
    column = model._meta.get_field(name)
    return display(description=str(getattr(column, "verbose_name", name)), ordering=name)(show)


@cache
def document(model: type[Model], name: str) -> Callable[[Any], str]:
    """A read-only field that shows the JSON `name` as it is, Persian text included."""

    def show(row: Any) -> str:
        text = json.dumps(getattr(row, name), ensure_ascii=False, indent=2)
        return format_html('<pre class="text-xs whitespace-pre-wrap break-words">{}</pre>', text)

    show.__name__ = name
    return display(description=str(getattr(model._meta.get_field(name), "verbose_name", name)))(show)


_SHOWN_BY: dict[type[Field[Any, Any]], Callable[[type[Model], str], Callable[[Any], str]]] = {
    DecimalField: amount,
    JSONField: document,
}


class _ExactAmounts:
    """Shows every amount that is not edited through `amount`, every JSON through `document`."""

    model: type[Model]

    def _exact(self, names: Iterable[Any]) -> list[Any]:
        columns = {column.name: column for column in self.model._meta.fields}
        return [self._shown(columns.get(name), name) for name in names]

    def _shown(self, column: Any, name: Any) -> Any:
        makers = (maker for kind, maker in _SHOWN_BY.items() if isinstance(column, kind))
        return next((maker(self.model, name) for maker in makers), name)

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return self._exact(super().get_list_display(request))  # type: ignore[misc]


class _NeverWritten(_ExactAmounts):
    """Neither added, changed nor deleted by hand: written by services alone."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        declared = getattr(self, "fields", None)
        return self._exact(declared or [field.name for field in self.model._meta.fields])

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        return self.get_fields(request, obj)


class LedgerAdmin(_NeverWritten, ModelAdmin):
    """A read-only list and page. `fieldsets` are given by `sections`: title to field names."""

    sections: dict[str, tuple[str, ...]] = {}
    actions: Any = None
    list_per_page = 50
    show_full_result_count = False  # counting millions of rows only to say "of millions"
    list_filter_submit = True
    compressed_fields = True
    list_select_related: Any = True

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        if not self.sections:
            return super().get_fields(request, obj)
        return self._exact(name for names in self.sections.values() for name in names)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[tuple[str | None, dict[str, Any]]]:
        if not self.sections:
            return [(None, {"fields": self.get_fields(request, obj)})]
        return [(title or None, {"fields": self._rows(names)}) for title, names in self.sections.items()]

    def _rows(self, names: tuple[str, ...]) -> list[Any]:
        """Two fields beside each other; JSON has a row of its own."""
        wide = {column.name for column in self.model._meta.fields if isinstance(column, JSONField)}
        narrow = self._exact(name for name in names if name not in wide)
        return [*in_pairs(narrow), *self._exact(name for name in names if name in wide)]

    def told(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """What the page of `row` tells beside its fields: for its templates."""
        return {}

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> Any:
        more = {} if obj is None else self.told(request, obj)
        return super().render_change_form(request, context | more, *args, obj=obj, **kwargs)

    def get_queryset(self, request: HttpRequest) -> Any:
        rows = super().get_queryset(request)
        return rows.select_related(*self.list_select_related) if isinstance(self.list_select_related, tuple) else rows


class LedgerInline(_NeverWritten, TabularInline):
    extra = 0
    can_delete = False
    hide_title = True

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> list[tuple[None, dict[str, Any]]]:
        return [(None, {"fields": self.get_fields(request, obj)})]


class KeptRowsAdmin(ModelAdmin):
    """Says in a sentence why a row cannot be deleted, instead of listing all that hangs on it."""

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        row = self.get_object(request, object_id)
        if row is None or not self.has_delete_permission(request, row) or not (why := deletion_refusal(row)):
            return super().delete_view(request, object_id, extra_context)
        messages.error(request, why)
        return HttpResponseRedirect(
            reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=[row.pk])
        )

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        """For the action on many rows: what is kept stands where the page lists what stands in the way."""
        if kept := [why for row in objs if (why := deletion_refusal(row))]:
            return [], {}, set(), kept
        return super().get_deleted_objects(objs, request)


class SettingsAdmin(_ExactAmounts, KeptRowsAdmin):
    """For rows that people edit while processes write other columns of them."""

    list_per_page = 50
    list_filter_submit = True
    compressed_fields = True
    warn_unsaved_form = True

    def written_fields(self, form: Any) -> set[str]:
        """Columns that this form changed."""
        columns = {field.name for field in self.model._meta.concrete_fields}
        return columns & set(form.changed_data)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Saving the whole row would undo what a worker wrote since the page was opened."""
        if not change:
            obj.save()
        elif fields := self.written_fields(form):
            obj.save(update_fields=fields)
