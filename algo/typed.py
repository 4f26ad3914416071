"""What people type into fields for numbers, days and hours, with the digits of whichever keyboard they have.

Done once, for all of Django's widgets of these kinds: those of our forms, of the theme, and of other people's admin
pages. Fields for text are left alone: a name may have Persian digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from django.forms.widgets import DateTimeBaseInput, NumberInput

from algo.localised import Digits, latin_digits, reader

_THOUSANDS = "٬"


def typed_number(text: str) -> str:
    """`۱٬۲۳۴٫۵` as `1234.5`; days and hours likewise. A Latin comma stays: it may group or divide."""
    return latin_digits(text.replace(_THOUSANDS, "").strip())


def typed_digits_read() -> None:
    """From now on; safe to repeat. For who reads Persian digits a number's field takes them: a browser's own field for
    numbers drops all but Latin ones as they are typed."""
    numbers: Any = NumberInput
    times: Any = DateTimeBaseInput
    if hasattr(numbers, "_reads_digits"):
        return
    numbers._reads_digits = True
    for widget in (numbers, times):
        widget.value_from_datadict = _latin(widget.value_from_datadict)
    numbers.get_context = _as_text(numbers.get_context)


def _latin(before: Callable[..., Any]) -> Callable[..., Any]:
    def value_from_datadict(self: Any, data: Mapping[str, Any], files: Any, name: str) -> Any:
        value = before(self, data, files, name)
        return typed_number(value) if isinstance(value, str) else value

    return value_from_datadict


def _as_text(before: Callable[..., Any]) -> Callable[..., Any]:
    def get_context(self: Any, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = before(self, name, value, attrs)
        if reader().digits == Digits.PERSIAN and context["widget"]["type"] == "number":
            context["widget"]["type"] = "text"
            context["widget"]["attrs"] |= {"inputmode": "decimal", "autocomplete": "off"}
        return context

    return get_context
