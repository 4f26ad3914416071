"""Fields of what is sent, as strict as the schema says they are."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

FIRST_DAY, LAST_DAY = date(2000, 1, 1), date(2099, 12, 31)  # far enough from both ends to count on from them


class FiniteField(serializers.FloatField):
    """A number, and neither NaN nor infinite."""

    def to_internal_value(self, data: Any) -> float:
        value = super().to_internal_value(data)
        if not math.isfinite(value):
            self.fail("invalid")
        return value


class DayField(serializers.DateField):
    """A day of this century."""

    default_error_messages = {"of_this_century": _("Must be a day from {first} to {last}.")}

    def to_internal_value(self, value: Any) -> date:
        day = super().to_internal_value(value)
        if not FIRST_DAY <= day <= LAST_DAY:
            self.fail("of_this_century", first=FIRST_DAY, last=LAST_DAY)
        return day
