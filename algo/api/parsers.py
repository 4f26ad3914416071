"""Bodies: JSON in UTF-8, and nothing in it that neither a number nor a text of the database can hold."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from django.http.request import parse_header_parameters  # type: ignore[attr-defined]
from django.utils.translation import gettext
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

DEEPEST = 32
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # the database has no NUL, UTF-8 no half of a pair


class StrictJSONParser(JSONParser):
    """ParseError for what is not JSON in UTF-8, for NaN and numbers beyond a float, for NUL characters and halves
    of surrogate pairs, and for what is nested more than 32 deep."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        _refuse_other_charsets(media_type)
        try:
            data = json.loads(stream.read().decode("utf-8"), parse_constant=_no_number, parse_float=_finite)
        except RecursionError as exc:
            raise ParseError(
                gettext("The document is nested more than %(deepest)s deep.") % {"deepest": DEEPEST}
            ) from exc
        except ValueError as exc:  # not UTF-8 and not JSON are ValueErrors both
            raise ParseError(gettext("The body is not JSON in UTF-8: %(why)s") % {"why": exc}) from exc
        _refuse_unstorable(data)
        return data


def _refuse_other_charsets(media_type: str | None) -> None:
    charset = parse_header_parameters(media_type or "")[1].get("charset", "utf-8")
    if charset.lower() not in ("utf-8", "utf8"):
        raise ParseError(gettext("Only UTF-8 is read."))


def _refuse_unstorable(data: Any) -> None:
    level, depth = [data], 0
    while level:
        if depth > DEEPEST:
            raise ParseError(gettext("The document is nested more than %(deepest)s deep.") % {"deepest": DEEPEST})
        for text in (each for each in level if isinstance(each, str)):
            if UNSTORABLE.search(text):
                raise ParseError(gettext("A text holds a NUL character or half of a surrogate pair."))
        level = [inner for each in level for inner in _inside(each)]
        depth += 1


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    return value if isinstance(value, list) else []


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value
