"""What a person may choose about reading."""

from __future__ import annotations

from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from algo.models import UserPreference
from algo.models.preference import ReadingCalendar, ReadingDigits, ReadingLanguage, Theme

LISTED = "time-zones"


class ZoneWidget(UnfoldAdminTextInputWidget):
    """A text field that completes: six hundred zones are too many for a list to scroll through."""

    template_name = "algo/personal/zone_widget.html"

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        attrs = {**(attrs or {}), "list": LISTED, "dir": "ltr", "autocomplete": "off", "spellcheck": "false"}
        zones = sorted(
            zone for zone in available_timezones() if "/" in zone and not zone.startswith(("Etc/", "posix/"))
        )
        return {**super().get_context(name, value, attrs), "listed": LISTED, "zones": ["UTC", *zones]}


class PreferenceForm(forms.ModelForm):
    class Meta:
        model = UserPreference
        fields = ("language", "calendar", "digits", "time_zone", "theme")
        widgets = {
            **{name: UnfoldAdminSelectWidget() for name in ("language", "calendar", "digits", "theme")},
            "time_zone": ZoneWidget(),
        }
        labels = {
            "language": _("Language"),
            "calendar": _("Calendar"),
            "digits": _("Digits"),
            "time_zone": _("Time zone"),
            "theme": _("Light or dark"),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, offered in (
            ("language", ReadingLanguage),
            ("calendar", ReadingCalendar),
            ("digits", ReadingDigits),
            ("theme", Theme),
        ):
            self.fields[name].choices = offered.choices  # type: ignore[attr-defined]
