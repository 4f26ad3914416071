"""What our admin pages share: exact amounts, ledgers that cannot be written, saves that touch only what changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache, cached_property, lru_cache
from typing import Any, TypeVar, cast

from django.contrib import messages
from django.contrib.admin import RelatedFieldListFilter
from django.contrib.admin.utils import get_fields_from_path
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import CharField, DateTimeField, DecimalField, Field, JSONField, Model, QuerySet, TextField
from django.http import HttpRequest, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.html import format_html
from django.utils.timezone import make_aware
from django.utils.translation import gettext
from unfold.admin import ModelAdmin, TabularInline
from unfold.contrib.filters.admin import AutocompleteSelectFilter, RangeDateTimeFilter
from unfold.decorators import display
from unfold.utils import parse_datetime_str
from unfold.views import ChangeList

from algo.localised import digits, moment, number
from algo.models import Account, Door, RunStatus
from algo.phrases import told
from algo.selectors.rights import accounts_tradable, may_administer, may_trade
from algo.selectors.visible import account_of, row_seen, rows_seen
from algo.services.audit import Actor, audit_record
from algo.services.deletion import deletion_refusal
from algo.typed import typed_number
from providers.clock import clock_from_env

Row = TypeVar("Row", bound=Model)
NOTHING = "–"

# How much a state asks for attention, in the theme's words; every other is neutral.
KINDS = {
    "PLANNED": "info",
    "ENTERING": "info",
    "EXITING": "warning",
    "CLOSED": "success",
    "PENDING": "info",
    "SUBMITTED": "info",
    "OPEN": "primary",
    "PARTIALLY_FILLED": "primary",
    "CANCELING": "warning",
    "FILLED": "success",
    "REJECTED": "danger",
    "active": "success",
    "paused": "warning",
    "running": "success",
    "BUY": "success",
    "SELL": "danger",
}
RUN_KINDS = {
    RunStatus.QUEUED: "info",
    RunStatus.RUNNING: "primary",
    RunStatus.DONE: "success",
    RunStatus.FAILED: "danger",
    RunStatus.CANCELLED: "warning",
}


def actor(request: HttpRequest) -> Actor:
    """Who acts through a page of the admin: services take it as `by`."""
    return Actor(request.user, Door.ADMIN)


def badge(text: object, kind: str | None = None) -> str:
    """`text` as a coloured label, escaped."""
    return _badge(str(text), kind or "")


@lru_cache(maxsize=4096)  # a list shows the same few hundreds of times, and a template costs 0.2 ms
def _badge(text: str, kind: str) -> str:
    return render_to_string("unfold/helpers/label.html", {"text": text, "type": kind})


def choice_badge(row: Model, name: str) -> str:
    """The choice that `row` has in the column `name`, in the reader's words, in the colour of what is stored."""
    return badge(choice_label(row, name), KINDS.get(getattr(row, name)))


def choice_label(row: Model, name: str) -> str:
    """What `get_…_display` says, which would look through all choices in every row of a list."""
    value = getattr(row, name)
    return str(_labels(type(row), name).get(value, value))


@cache
def _labels(model: type[Model], name: str) -> dict[Any, Any]:
    column: Any = model._meta.get_field(name)
    return dict(column.flatchoices)


def two_lines(upper: str, lower: str) -> str:
    return format_html('<span class="whitespace-nowrap">{}<br>{}</span>', upper, lower)


class _NoTable:
    rows: tuple[()] = ()
    collapsible = False


class TableRow(list[Any]):
    """Cells of a row of the theme's table. The theme asks each row for these names, once and again for every cell; of a
    plain list it finds none, which takes longer than all else that it does with the cell."""

    attrs = None
    table = _NoTable

    @property
    def cols(self) -> TableRow:
        return self


def table(headers: Sequence[str], rows: Iterable[Iterable[Any]]) -> dict[str, Any]:
    """As the theme's `table.html` takes it."""
    return {"headers": headers, "rows": [TableRow(row) for row in rows], "collapsible": False}


def in_pairs(names: Sequence[Any]) -> list[Any]:
    """Fields for two columns."""
    return [tuple(names[i : i + 2]) for i in range(0, len(names), 2)]


def amount_text(value: Decimal | None) -> str:
    """1234567.5000 as `1,234,567.5`: grouped, exact, without trailing zeros; as its reader reads numbers."""
    return number(value)


@cache
def amount(model: type[Model], name: str) -> Callable[[Any], str]:
    """A column or read-only field that shows the exact amount `name`; Django would pad it to 18 decimals."""

    def show(row: Any) -> str:
        return amount_text(getattr(row, name))

    show.__name__ = name
    column = model._meta.get_field(name)
    return display(description=getattr(column, "verbose_name", name), ordering=name)(show)


@cache
def document(model: type[Model], name: str) -> Callable[[Any], str]:
    """A read-only field that shows the JSON `name` as it is, Persian text included."""

    def show(row: Any) -> str:
        text = json.dumps(getattr(row, name), ensure_ascii=False, indent=2)
        return format_html('<pre class="text-xs">{}</pre>', text)

    show.__name__ = name
    return display(description=getattr(model._meta.get_field(name), "verbose_name", name))(show)


@cache
def when(model: type[Model], name: str) -> Callable[[Any], str]:
    """A column or read-only field that shows the moment `name` in its reader's time and calendar."""

    def show(row: Any) -> str:
        return moment(getattr(row, name))

    show.__name__ = name
    return display(description=getattr(model._meta.get_field(name), "verbose_name", name), ordering=name)(show)


@cache
def words(model: type[Model], name: str) -> Callable[[Any], str]:
    """A column or read-only field of sentences that were stored, told in the reader's language."""

    def show(row: Any) -> str:
        return told(getattr(row, name)) or "-"

    show.__name__ = name
    return display(description=getattr(model._meta.get_field(name), "verbose_name", name), ordering=name)(show)


SENTENCES = {"summary", "denial_message", "state_reason", "outcome", "reason", "error", "exit_reason", "note"}
_SHOWN_BY: dict[type[Field[Any, Any]], Callable[[type[Model], str], Callable[[Any], str]]] = {
    DateTimeField: when,
    DecimalField: amount,
    JSONField: document,
}


class SeenRelatedFilter(AutocompleteSelectFilter):
    """Offers only what the person may see, and finds it while one types: a page with a thousand strategies in a select
    takes longer to make than all the rest of it."""

    def has_output(self) -> bool:
        return len(self._seen()[:2]) > 1

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        for choice in super().choices(changelist):
            choice["form"].fields[self.lookup_kwarg].queryset = self._seen()
            yield choice

    def _seen(self) -> QuerySet[Any]:
        return rows_seen(self.request.user, self.field.remote_field.model._default_manager.all())


class TimeRangeFilter(RangeDateTimeFilter):
    """From one moment to another, typed with the digits of any keyboard."""

    def __init__(
        self, field: Any, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any, field_path: str
    ) -> None:
        for name in set(params) & {f"{field_path}_{side}_{part}" for side in ("from", "to") for part in (0, 1)}:
            params[name] = [typed_number(each) for each in params[name]]
        super().__init__(field, request, params, model, model_admin, field_path)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The theme compares with a moment of no zone; what is typed is meant in the reader's."""
        for side, lookup in (("from", "gte"), ("to", "lte")):
            day, hour = (self.used_parameters.get(f"{self.parameter_name}_{side}_{part}") for part in (0, 1))
            if day and hour and (at := parse_datetime_str(f"{day} {hour}")):
                queryset = queryset.filter(**{f"{self.parameter_name}__{lookup}": make_aware(at)})
        return queryset


class OwnRows:
    """What one may not see is not there: not in lists, pages, searches and filters, nor as a choice in a form. What
    one may only look at is never written. Every page of ours has it, before Django's class."""

    model: type[Model]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return rows_seen(request.user, super().get_queryset(request))  # type: ignore[misc]

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return [self._filter_of_seen(each) for each in super().get_list_filter(request)]  # type: ignore[misc]

    def _filter_of_seen(self, entry: Any) -> Any:
        name, kind = entry if isinstance(entry, tuple) else (entry, None)
        if not isinstance(name, str) or not (kind is None or issubclass(kind, RelatedFieldListFilter)):
            return entry
        field = get_fields_from_path(self.model, name)[-1]
        return (name, SeenRelatedFilter) if field.is_relation else entry

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", self._choices(db_field.remote_field.model, request))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)  # type: ignore[misc]

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs.setdefault("queryset", self._choices(db_field.remote_field.model, request))
        return super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[misc]

    def _choices(self, model: type[Model], request: HttpRequest) -> QuerySet[Any]:
        """In a form one chooses an account to act on it: one that may be acted on."""
        if model is Account:
            return accounts_tradable(request.user)
        return rows_seen(request.user, model._default_manager.all())

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed: bool = super().has_view_permission(request, obj)  # type: ignore[misc]
        return allowed and (obj is None or row_seen(request.user, obj))

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)  # type: ignore[misc]
        return allowed and may_act(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed: bool = super().has_delete_permission(request, obj)  # type: ignore[misc]
        return allowed and may_act(request, obj)


class AdminsOnly:
    """Pages for Admins: who is none sees neither them nor their links."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_administer(request.user) and super().has_module_permission(request)  # type: ignore[misc]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_administer(request.user) and super().has_view_permission(request, obj)  # type: ignore[misc]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return may_administer(request.user) and super().has_add_permission(request)  # type: ignore[misc]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_administer(request.user) and super().has_change_permission(request, obj)  # type: ignore[misc]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return may_administer(request.user) and super().has_delete_permission(request, obj)  # type: ignore[misc]


class Audited:
    """Whatever is added, changed or deleted on its pages is in the audit log, in the same transaction: which fields,
    and what `audit_details` tells. Never a value that was typed. What a service does that keeps its own record is named
    in `recorded_by_services` (create, change, delete)."""

    recorded_by_services: frozenset[str] = frozenset()

    def audit_act(self, what: str, fields: Sequence[str]) -> str:
        """`what` is create, change or delete."""
        return f"{self.model._meta.model_name}.{what}"  # type: ignore[attr-defined]

    def audit_subject(self, row: Any) -> Model:
        return cast(Model, row)

    def audit_details(self, row: Any) -> dict[str, Any]:
        return {}

    def _audit(self, request: HttpRequest, what: str, row: Any, message: Any = ()) -> None:
        if isinstance(message, str) or what in self.recorded_by_services:
            return  # said by an act that keeps its own record
        parts = [part for each in message for part in each.values()]
        fields = [name for part in parts for name in part.get("fields", ())]
        act, details = self.audit_act(what, fields), self.audit_details(row) | ({"fields": fields} if fields else {})
        audit_record(
            act, by=actor(request), subject=self.audit_subject(row), at=clock_from_env().now(), details=details
        )

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._audit(request, "create", obj, message)
        return super().log_addition(request, obj, message)  # type: ignore[misc]

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self._audit(request, "change", obj, message)
        return super().log_change(request, obj, message)  # type: ignore[misc]

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            self._audit(request, "delete", obj)
            super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        with transaction.atomic():
            for row in queryset:
                self._audit(request, "delete", row)
            super().delete_queryset(request, queryset)  # type: ignore[misc]


def may_act(request: HttpRequest, row: Model | None) -> bool:
    """Whether one may act on `row`: on its account, where it belongs to one. True where no row is meant yet."""
    account = account_of(row) if row is not None and row.pk is not None else None
    return account is None or may_trade(request.user, account)


def rows_to_act_on(request: HttpRequest, rows: Iterable[Row]) -> list[Row]:
    """Of the rows chosen for an action, those one may act on; it is said where some are not."""
    chosen = list(rows)
    mine = [row for row in chosen if may_act(request, row)]
    if len(mine) < len(chosen):
        messages.error(
            request,
            gettext("%(count)s of them may only be looked at: they were left as they are.")
            % {"count": digits(len(chosen) - len(mine))},
        )
    return mine


class _ExactAmounts:
    """Shows every amount that is not edited through `amount`, every JSON through `document`."""

    model: type[Model]

    def _exact(self, names: Iterable[Any]) -> list[Any]:
        columns = {column.name: column for column in self.model._meta.fields}
        return [self._shown(columns.get(name), name) for name in names]

    def _shown(self, column: Any, name: Any) -> Any:
        if isinstance(column, CharField | TextField) and not column.choices and name in SENTENCES:
            return words(self.model, name)
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


class BoundedPaginator(Paginator):
    """Counts no further than `MOST_COUNTED` rows, and pages no deeper: older rows are found by filters and searches."""

    MOST_COUNTED = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.MOST_COUNTED].count())


class QuickChangeList(ChangeList):
    """Knows its links once they were made: the theme asks for those of all columns again in every row."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._links: dict[str, str] = {}
        super().__init__(*args, **kwargs)

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        asked = f"{new_params}{remove}"
        if asked not in self._links:
            self._links[asked] = super().get_query_string(new_params, remove)
        return self._links[asked]


class _QuickLists:
    list_sections: Sequence[Any] = ()  # the theme asks for it in every row, and looks long for a name that is missing

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return QuickChangeList


class LedgerAdmin(_NeverWritten, OwnRows, _QuickLists, ModelAdmin):
    """A read-only list and page. `fieldsets` are given by `sections`: title to field names."""

    sections: dict[str, tuple[str, ...]] = {}
    actions: Any = None
    list_per_page = 25
    paginator = BoundedPaginator
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
        return [
            (gettext(title) if title else None, {"fields": self._rows(names)}) for title, names in self.sections.items()
        ]

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


class LedgerInline(_NeverWritten, OwnRows, TabularInline):
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


class SettingsAdmin(_ExactAmounts, OwnRows, _QuickLists, KeptRowsAdmin):
    """For rows that people edit while processes write other columns of them."""

    list_per_page = 25
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
