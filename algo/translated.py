"""What models say of themselves, in the reader's language: names of models and columns, help texts, choices.

Done once, at the end of `algo.models`, and for all of them: a model is written in plain English and is translated
wherever it is shown. What is stored does not change, nor does any migration: Django compares and keeps the English.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.db.models import Choices, Field, Model
from django.utils.translation import gettext_lazy, override

OURS = "algo"
_WORD = re.compile("[A-Za-z]{2}")  # not the 15 or D of a candle


def models_translate() -> None:
    """Those of our app that are loaded; safe to repeat."""
    for model in apps.all_models[OURS].values():
        _model_translate(model)
    for choices in _our_choices():
        for each in choices:
            each._label_ = _lazily(each._label_)


def model_words() -> Iterator[tuple[str, str]]:
    """Every English text that people read of models, with where it stands."""
    with override(None):
        for model in apps.all_models[OURS].values():
            where, options = model.__name__, model._meta
            if options.auto_created or where.startswith("Historical"):
                continue  # tables between two others, and copies of rows: nobody reads their names
            yield from ((str(text), where) for text in (options.verbose_name, options.verbose_name_plural))
            for column in (*options.local_fields, *options.local_many_to_many):
                yield from ((str(text), f"{where}.{column.name}") for text in _texts(column) if _WORD.search(str(text)))
        for choices in _our_choices():
            yield from ((str(each._label_), choices.__name__) for each in choices)


def _model_translate(model: type[Model]) -> None:
    options = model._meta
    options.verbose_name = _lazily(options.verbose_name)
    options.verbose_name_plural = _lazily(options.verbose_name_plural)
    for column in (*options.local_fields, *options.local_many_to_many):
        column.verbose_name = _lazily(column.verbose_name)
        column.help_text = _lazily(column.help_text)
        if column.choices:
            column.choices = [(value, _lazily(label)) for value, label in column.choices]


def _texts(column: Field[Any, Any]) -> list[Any]:
    return [column.verbose_name, column.help_text, *(label for _, label in column.choices or ())]


def _our_choices() -> list[type[Choices]]:
    """Loaded with the models."""
    known: list[type[Choices]] = []
    waiting = list(Choices.__subclasses__())
    while waiting:
        each = waiting.pop()
        waiting += each.__subclasses__()
        if each.__module__.startswith(f"{OURS}."):
            known.append(each)
    return sorted(known, key=lambda each: each.__name__)


def _lazily(text: Any) -> Any:
    """Of a text that is lazy already (Django makes plurals so) the English counts."""
    with override(None):
        return gettext_lazy(str(text)) if text else text
