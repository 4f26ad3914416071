"""Lists and their rows, as far as the user may see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from django.db.models import QuerySet
from django_filters import MultipleChoiceFilter
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import viewsets

from algo.api.base import Common
from algo.api.query import FIELDS, ORDERING, Ordering, fields_asked, rows_narrowed
from algo.api.serializers import one_of

READING = ("list", "retrieve")


class Filters(DjangoFilterBackend):
    """Of a list that is asked for without a filter, none is made: that costs as much as ten rows."""

    def filter_queryset(self, request: Any, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        filters = view.filterset_class
        if filters is None or request.query_params.keys().isdisjoint(filters.base_filters):
            return queryset
        return super().filter_queryset(request, queryset, view)


class RowsViewSet(Common, viewsets.ReadOnlyModelViewSet[Any]):
    """A list and its rows; what one may not see does not exist (404)."""

    filter_backends = (Filters, Ordering)
    lookup_value_regex = "[0-9]+"
    filterset_class: ClassVar[Any]
    rows: ClassVar[Callable[[Any], QuerySet[Any]]]
    scope_needed: ClassVar[Any] = None  # see algo.api.access; actions may say it too
    ordering: Sequence[str] = ("-id",)
    ordering_fields: Sequence[str] = ("id",)

    @property
    def reads_rows(self) -> bool:
        """Whether `?fields=` may be asked for."""
        return self.action in READING

    def get_queryset(self) -> QuerySet[Any]:
        return type(self).rows(self.request.user)

    def filter_queryset(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Of the columns that are shown only."""
        rows = super().filter_queryset(queryset)
        if not self.reads_rows:
            return rows
        shown = one_of(cast(Any, self.get_serializer_class()))
        names = fields_asked(self.request, shown.fields)
        if names is None and self.action != "list":
            return rows
        columns = {term.lstrip("-") for term in (*self.ordering, *self.ordering_fields)}
        return rows_narrowed(rows, shown, shown.fields if names is None else names, also=columns)

    def get_serializer(self, *args: Any, **kwargs: Any) -> Any:
        serializer: Any = super().get_serializer(*args, **kwargs)
        one = getattr(serializer, "child", serializer)
        names = fields_asked(self.request, one_of(cast(Any, type(one))).fields) if self.reads_rows else None
        if names is not None:
            for name in {*one.fields} - {*names}:
                one.fields.pop(name)
        return serializer

    def known_parameters(self) -> list[str]:
        found = super().known_parameters()
        if self.reads_rows:
            found.append(FIELDS)
        if self.action == "list":
            found += [ORDERING, "limit", "cursor", *self.filterset_class.base_filters]
        return found

    def several_parameters(self) -> set[str]:
        filters = self.filterset_class.base_filters if self.action == "list" else {}
        found = {name for name, filter_ in filters.items() if isinstance(filter_, MultipleChoiceFilter)}
        return found | {FIELDS, ORDERING}
