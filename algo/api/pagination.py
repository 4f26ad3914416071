"""Pages by position instead of by number: the next one begins after the last row of this one, however many came since.

No row is counted, none is lost or repeated while others are added, and the thousandth page costs what the first does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import reduce
from typing import Any, cast

from django.core import signing
from django.db.models import Field, Model, Q, QuerySet
from django.db.models.expressions import OrderBy
from django.utils.translation import gettext
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

SALT = "algo.api.cursor"
NOTHING = Q(pk__in=[])


@dataclass(frozen=True)
class Key:
    """One column of the order. A null counts as the largest value, as PostgreSQL sorts: last, or first descending."""

    path: str
    descending: bool
    field: Field[Any, Any]
    nullable: bool

    @property
    def term(self) -> str:
        return f"-{self.path}" if self.descending else self.path

    def turned(self) -> Key:
        return Key(self.path, not self.descending, self.field, self.nullable)

    def of(self, row: Any) -> Any:
        for name in self.path.split("__"):
            row = getattr(row, name, None)
        return row

    def same(self, value: Any) -> Q:
        return Q(**{f"{self.path}__isnull": True}) if value is None else Q(**{self.path: value})

    def after(self, value: Any) -> Q:
        null, known = Q(**{f"{self.path}__isnull": True}), Q(**{f"{self.path}__isnull": False})
        if value is None:
            return known if self.descending else NOTHING
        if self.descending:
            return Q(**{f"{self.path}__lt": value})
        beyond = Q(**{f"{self.path}__gt": value})
        return beyond | null if self.nullable else beyond

    def not_before(self, value: Any) -> Q:
        """Implied by what follows from the other keys; said once more, for the index."""
        return Q(**{f"{self.path}__{'lte' if self.descending else 'gte'}": value})


class Keyset(BasePagination):
    """`?limit=` and `?cursor=`: `{next, previous, results}`, with addresses of the neighbours or null."""

    default_limit, largest_limit = 25, 200

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        self.request = request
        self.keys = keys_of(queryset)
        limit = self._limit()
        backwards, values = self._cursor()
        keys = [key.turned() for key in self.keys] if backwards else self.keys
        ordered = queryset.order_by(*(key.term for key in keys))
        rows: list[Any] = []
        for part in [Q()] if values is None else parts_after(keys, values):
            if len(rows) <= limit:
                rows += ordered.filter(part)[: limit + 1 - len(rows)]
        more, rows = len(rows) > limit, rows[:limit]
        self.rows = rows[::-1] if backwards else rows
        self.has_next = backwards or more
        self.has_previous = more if backwards else values is not None
        return self.rows

    def get_paginated_response(self, data: Any) -> Response:
        rows = self.rows
        answer = {
            "next": self._address(rows[-1], backwards=False) if rows and self.has_next else None,
            "previous": self._address(rows[0], backwards=True) if rows and self.has_previous else None,
            "results": data,
        }
        if not rows and (self.has_next or self.has_previous):  # the rows at the cursor are gone: begin anew
            answer["previous"] = remove_query_param(self.request.build_absolute_uri(), "cursor")
        return Response(answer)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        address = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {
                "next": {**address, "description": "The page after this one; null on the last."},
                "previous": {**address, "description": "The page before this one; null on the first."},
                "results": {**schema, "maxItems": self.largest_limit},
            },
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        whole = {
            "type": "integer",
            "minimum": 1,
            "maximum": self.largest_limit,
            "default": self.default_limit,
        }
        return [
            {
                "name": "limit",
                "in": "query",
                "required": False,
                "description": "How many rows a page has.",
                "schema": whole,
            },
            {
                "name": "cursor",
                "in": "query",
                "required": False,
                "description": "Where the page begins, as `next` and `previous` have it. It belongs to its `ordering`.",
                "schema": {"type": "string", "maxLength": 2000},
            },
        ]

    def _limit(self) -> int:
        text = self.request.query_params.get("limit")
        if text is None:
            return self.default_limit
        if text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= self.largest_limit:
            return int(text)
        raise ValidationError(
            {
                "limit": [
                    gettext("Must be a whole number from 1 to %(largest_limit)s.")
                    % {"largest_limit": self.largest_limit}
                ]
            }
        )

    def _cursor(self) -> tuple[bool, list[Any] | None]:
        """Whether it leads back, and the values of the row at it; None for the first page."""
        text = self.request.query_params.get("cursor")
        if text is None:
            return False, None
        try:
            order, backwards, values = signing.Signer(salt=SALT).unsign_object(text)
        except (signing.BadSignature, ValueError) as exc:
            raise ValidationError(
                {"cursor": [gettext("Not a cursor of ours: take it from `next` or `previous`.")]}
            ) from exc
        if order != self._order():
            raise ValidationError(
                {"cursor": [gettext("It belongs to another ordering: ask for the first page of this one.")]}
            )
        return backwards, [key.field.to_python(value) for key, value in zip(self.keys, values, strict=True)]

    def _order(self) -> str:
        return ",".join(key.term for key in self.keys)

    def _address(self, row: Any, *, backwards: bool) -> str:
        values = [_text(key.of(row)) for key in self.keys]
        cursor = signing.Signer(salt=SALT).sign_object([self._order(), backwards, values])
        return replace_query_param(self.request.build_absolute_uri(), "cursor", cursor)


def keys_of(queryset: QuerySet[Any]) -> list[Key]:
    """The columns that the rows are ordered by, ending with the id where nothing before it is unique."""
    model = queryset.model
    keys: list[Key] = []
    for term in queryset.query.order_by or model._meta.ordering or ("-pk",):
        if isinstance(term, OrderBy) or not isinstance(term, str):
            raise TypeError(f"Pages are ordered by names of columns, not by {term!r}")
        keys.append(_key(model, term.lstrip("-"), descending=term.startswith("-")))
        if keys[-1].field.unique and not keys[-1].nullable and "__" not in keys[-1].path:
            return keys
    return [*keys, _key(model, "pk", descending=keys[-1].descending)]


def parts_after(keys: Sequence[Key], values: Sequence[Any]) -> list[Q]:
    """The rows after those with `values`, in one or two parts that follow each other: where the first column may be
    null, rows with and without it are looked for one after the other, so that an index finds both."""
    first, value = keys[0], values[0]
    rest = _after(keys, values)
    if value is None:
        null = Q(**{f"{first.path}__isnull": True})
        then = [Q(**{f"{first.path}__isnull": False})] if first.descending else []
        return [null & _after(keys[1:], values[1:]), *then]
    if not first.nullable or first.descending:
        return [first.not_before(value) & rest]
    return [first.not_before(value) & rest, Q(**{f"{first.path}__isnull": True})]


def _after(keys: Sequence[Key], values: Sequence[Any]) -> Q:
    pairs = list(zip(keys, values, strict=True))
    return reduce(lambda later, pair: pair[0].after(pair[1]) | (pair[0].same(pair[1]) & later), pairs[::-1], NOTHING)


def _key(model: type[Model], path: str, *, descending: bool) -> Key:
    nullable, field = False, cast(Any, None)
    names = [model._meta.pk.name if name == "pk" else name for name in path.split("__")]
    for name in names:
        field = model._meta.get_field(name)
        nullable = nullable or bool(field.null)
        model = field.related_model or model
    return Key("__".join(names), descending, field, nullable)


def _text(value: Any) -> Any:
    """As JSON keeps it to the last digit."""
    if isinstance(value, date):
        return value.isoformat()
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
