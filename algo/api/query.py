"""What may be asked in an address: only parameters that are known, an order, and fewer fields."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, cast
from urllib.parse import unquote_to_bytes

from django.core.exceptions import FieldDoesNotExist
from django.db.models import QuerySet
from django.utils.translation import gettext
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.filters import OrderingFilter
from rest_framework.request import Request
from rest_framework.serializers import ModelSerializer

ORDERING, FIELDS = "ordering", "fields"


class KnownQuery:
    """For views: a query parameter they do not know is an error, for a misspelt filter would show every row. So is one
    without a value, and one that is given twice and has one value. Views name theirs in `query_parameters`, each of
    which their schema has; those of filters, pages and fields are added."""

    # without OPTIONS, which would tell what the schema tells
    http_method_names: Sequence[str] = ("get", "head", "post", "put", "patch", "delete")
    query_parameters: ClassVar[Iterable[str]] = ()

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        request.encoding = "utf-8"  # of the address, whatever the type of the body says
        return cast(Request, cast(Any, super()).initialize_request(request, *args, **kwargs))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        cast(Any, super()).initial(request, *args, **kwargs)
        if hasattr(self, str(request.method).lower()):  # else it is no method of this address
            query_check(request, self.known_parameters(), several=self.several_parameters())

    def known_parameters(self) -> list[str]:
        return [*self.query_parameters]

    def several_parameters(self) -> set[str]:
        """Those that may be given more than once."""
        return set()


def query_check(request: Request, known: Iterable[str], *, several: Collection[str] = ()) -> None:
    """Raises ValidationError by parameter, ParseError for what is no text."""
    try:
        text = unquote_to_bytes(request.META.get("QUERY_STRING", "")).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ParseError(gettext("The address is not UTF-8.")) from exc
    if "\x00" in text:
        raise ParseError(gettext("The address holds a NUL character."))
    names = sorted(known)
    wrong: dict[str, ErrorDetail] = {}
    for name, values in request.query_params.lists():
        if name not in names:
            words = (
                gettext("There are %(names)s.") % {"names": ", ".join(names)}
                if names
                else gettext("This address takes none.")
            )
            wrong[name] = ErrorDetail(
                gettext("There is no such parameter. %(words)s") % {"words": words}, "unknown_parameter"
            )
        elif "" in values:
            wrong[name] = ErrorDetail(gettext("It has no value: leave it out."), "blank")
        elif len(values) > 1 and name not in several:
            wrong[name] = ErrorDetail(gettext("It is given more than once."), "repeated")
    if wrong:
        raise ValidationError({name: [detail] for name, detail in wrong.items()})


class Ordering(OrderingFilter):
    """`?ordering=-closed_at,id`: the columns a view names in `ordering_fields`, a minus before those that fall."""

    ordering_param = ORDERING

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> Any:
        terms = words_asked(request, ORDERING)
        return self.get_default_ordering(view) if terms is None else self._known(terms, view)

    def _known(self, terms: Iterable[str], view: Any) -> list[str]:
        chosen: dict[str, str] = {}
        for term in terms:
            name = term.removeprefix("-")
            if name not in view.ordering_fields:
                known = ", ".join(view.ordering_fields)
                raise ValidationError(
                    {
                        ORDERING: [
                            gettext("Rows cannot be ordered by %(term)s, only by %(known)s.")
                            % {"term": repr(term), "known": known}
                        ]
                    }
                )
            chosen.setdefault(name, term)
        return [*chosen.values()]

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        terms = [sign + name for name in view.ordering_fields for sign in ("", "-")]
        words = (
            "Columns to order by, separated by commas, a minus before those that fall. Null counts as the largest. "
            f"`{','.join(view.ordering)}` unless asked."
        )
        return [list_parameter(ORDERING, terms, words)]


def list_parameter(name: str, items: list[str], description: str) -> dict[str, Any]:
    """Of the schema: some of `items`, separated by commas."""
    schema = {"type": "array", "items": {"type": "string", "enum": items}, "minItems": 1}
    return {
        "name": name,
        "in": "query",
        "required": False,
        "description": description,
        "schema": schema,
        "style": "form",
        "explode": False,
    }


def words_asked(request: Request, name: str) -> list[str] | None:
    """The words of a parameter that takes a list: separated by commas, or given several times, as programs made from a
    schema do. None where it is not given."""
    values = request.query_params.getlist(name)
    return [word.strip() for word in ",".join(values).split(",")] if values else None


def fields_asked(request: Request, known: Iterable[str]) -> list[str] | None:
    """The names in `?fields=`; None where all are wanted. Raises ValidationError."""
    names, all_names = words_asked(request, FIELDS), list(known)
    if names is None:
        return None
    if unknown := [name for name in names if name not in all_names]:
        words = gettext("There is no field %(names)s. There are %(all_names)s.") % {
            "names": ", ".join(map(repr, unknown)),
            "all_names": ", ".join(all_names),
        }
        raise ValidationError({FIELDS: [words]})
    return names


def rows_narrowed(rows: QuerySet[Any], serializer: Any, names: Iterable[str], *, also: Iterable[str]) -> QuerySet[Any]:
    """Only the columns that those fields of the serializer read, and the columns `also`; all where a field is computed
    from more than columns."""
    model = cast(Any, rows.model)
    columns = _columns(model, frozenset(rows.query.annotations), cast(Any, type(serializer)), tuple(names))
    if columns is None:
        return rows
    paths = {column.rpartition("__")[0] for column in columns if "__" in column}
    return rows.select_related(None).select_related(*paths).only(*columns, *also)


@lru_cache(maxsize=512)  # bounded: clients choose the names
def _columns(model: Any, computed: frozenset[str], serializer: Any, names: tuple[str, ...]) -> list[str] | None:
    """The columns of `model` that those fields of the class `serializer` read; `computed`: annotations, which are none.
    None where a field is computed from more."""
    found = [model._meta.pk.name]
    fields = serializer().fields
    for name in names:
        field = fields[name]
        path = field.source.replace(".", "__")
        if path in computed:
            continue
        if isinstance(field, ModelSerializer):
            related = _field(model, path)
            inner = related and _columns(related.related_model, frozenset(), type(field), tuple(field.fields))
            if not inner:
                return None
            found += [f"{path}__{each}" for each in inner]
        elif _field(model, path) is None:
            return None
        else:
            found.append(path)
    return found


def _field(model: Any, path: str) -> Any:
    """The column that a path of names leads to; None where it does not lead to one."""
    field = None
    for name in path.split("__"):
        try:
            field = model._meta.get_field(name)
        except (FieldDoesNotExist, AttributeError):
            return None
        if not field.concrete or field.many_to_many:
            return None
        model = field.related_model
    return field
