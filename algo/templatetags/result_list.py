"""The rows of a change list as the theme writes them: `quick_result_list` instead of its `unfold_result_list`.

The theme finds out for every cell what all cells of its column share: headers with sort links, classes, the label. Here
it is found out once for a column. tests/admin/test_result_list.py holds both to the same HTML.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, time
from typing import Any, cast

from django.contrib.admin.templatetags.admin_list import result_hidden_fields
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.contrib.admin.templatetags.base import InclusionAdminNode
from django.contrib.admin.utils import lookup_field
from django.core.exceptions import ObjectDoesNotExist
from django.db.models import DateField, ForeignKey, ManyToOneRel, Model, TimeField
from django.template import Library
from django.template.base import Node, Parser, Token
from django.urls import NoReverseMatch
from django.utils.html import conditional_escape
from django.utils.safestring import mark_safe
from django.utils.translation import gettext
from unfold.templatetags import unfold_list as theme
from unfold.utils import (
    display_for_dropdown,
    display_for_field,
    display_for_header,
    display_for_label,
    display_for_value,
)

register = Library()

_LINK = " ".join(theme.LINK_CLASSES)


@dataclass(frozen=True, slots=True)
class Column:
    """`links`: its cells lead to the page of their row, the first of such columns is the head of the row."""

    name: Any
    tag: str
    classes: str
    label: str
    links: bool


def columns_of(cl: Any, headers: list[dict[str, Any]]) -> Iterator[Column]:
    links = cl.list_display_links
    head = True
    for index, (name, header) in enumerate(zip(cl.list_display, headers, strict=True)):
        linked = links is not None and (name in links if links else index == 0)
        classes = theme.CHECKBOX_CLASSES if name == "action_checkbox" else theme.ROW_CLASSES
        own = [] if name == "action_checkbox" else [f"field-{theme._coerce_field_name(name, index)}"]
        label = header["text"] if index or linked else gettext("Select record")
        tag = "th" if linked and head else "td"
        head = head and not linked
        yield Column(name, tag, " ".join([*own, *classes]), conditional_escape(label), linked)


def rows_of(cl: Any, headers: list[dict[str, Any]]) -> Iterator[Any]:
    """Each with one item, all of its cells."""
    columns = list(columns_of(cl, headers))
    empty = cl.model_admin.get_empty_value_display()
    for row in cl.result_list:
        cells = "".join(_cell(cl, column, row, empty) for column in columns)
        yield theme.UnfoldResultList(row, None, [mark_safe(cells)])  # noqa: S308 - every cell is escaped


def _cell(cl: Any, column: Column, row: Model, empty: str) -> str:
    shown, in_one_line = _shown(cl, column.name, row, empty)
    text: str = conditional_escape(shown)
    if column.links and (address := _address(cl, row)):
        text = f'<a href="{conditional_escape(address)}" class="{_LINK}" >{text}</a>'
    classes = f"{column.classes} nowrap" if in_one_line else column.classes
    return f'<{column.tag} class="{classes}" data-label="{column.label}">{text}</{column.tag}>'


def _shown(cl: Any, name: Any, row: Any, empty: str) -> tuple[Any, bool]:
    """What stands in a cell, and whether it may not be broken into lines."""
    try:
        field, source, value = lookup_field(name, row, cl.model_admin)
    except ObjectDoesNotExist:
        return empty, False
    empty = getattr(source, "empty_value_display", empty)
    if field is None or field.auto_created:
        return _told(row, name, source, value, empty), isinstance(value, date | time)
    in_one_line = isinstance(field, DateField | TimeField | ForeignKey)
    if isinstance(field.remote_field, ManyToOneRel):
        related = getattr(row, field.name)
        return (empty if related is None else related), in_one_line
    return display_for_field(value, field, empty), in_one_line


def _told(row: Any, name: Any, source: Any, value: Any, empty: str) -> Any:
    """Of a column that is a function or a property, which may say how it is shown."""
    if label := getattr(source, "label", False):
        return display_for_label(value, empty, label)
    if getattr(source, "dropdown", False):
        return display_for_dropdown(row, name, value, empty)
    if getattr(source, "header", False):
        return display_for_header(value, empty)
    return display_for_value(value, empty, getattr(source, "boolean", False))


def _address(cl: Any, row: Model) -> str | None:
    try:
        address: str = cl.url_for_result(row)
    except NoReverseMatch:
        return None
    if not cl.preserved_filters:
        return address
    return str(add_preserved_filters({"preserved_filters": cl.preserved_filters, "opts": cl.opts}, address))


def result_list(context: Any, cl: Any) -> dict[str, Any]:
    if cl.formset or cl.is_popup or cl.model_admin.ordering_field:  # none of our own lists
        told: dict[str, Any] = theme.result_list(context, cl)
        return told
    headers = list(theme.result_headers(cl))
    return {
        "cl": cl,
        "result_hidden_fields": list(result_hidden_fields(cl)),
        "result_headers": headers,
        "num_sorted_fields": sum(bool(header["sortable"] and header["sorted"]) for header in headers),
        "results": list(rows_of(cl, headers)),
        "actions_row": context.get("actions_row"),
        "has_add_permission": cl.model_admin.has_add_permission(context["request"]),
    }


@register.tag(name="quick_result_list")
def result_list_tag(parser: Parser, token: Token) -> Node:
    node: Any = InclusionAdminNode
    return cast(Node, node(parser, token, func=result_list, template_name="change_list_results.html"))
