"""How somebody wants to read: kept for each user, asked by pages and by messages to him."""

from __future__ import annotations

from zoneinfo import available_timezones

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


def zone_known(name: str) -> None:
    """ValidationError where the time-zone database has no `name`."""
    if name not in available_timezones():
        raise ValidationError(_("There is no time zone %(name)s."), code="invalid", params={"name": name})


class ReadingLanguage(models.TextChoices):
    AUTOMATIC = "", "As the browser asks for"
    ENGLISH = "en", "English"
    PERSIAN = "fa", "فارسی"


class ReadingCalendar(models.TextChoices):
    AUTOMATIC = "", "As the language does"
    GREGORIAN = "gregorian", "Gregorian"
    JALALI = "jalali", "Jalali (Solar Hijri)"


class ReadingDigits(models.TextChoices):
    AUTOMATIC = "", "As the language does"
    LATIN = "latin", "Latin: 0123456789"
    PERSIAN = "persian", "Persian: ۰۱۲۳۴۵۶۷۸۹"


class Theme(models.TextChoices):
    AUTO = "auto", "As the system does"
    LIGHT = "light", "Light"
    DARK = "dark", "Dark"


class UserPreference(models.Model):
    """Of one user. Empty: what belongs to the language."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="preference")
    language = models.CharField(max_length=8, choices=ReadingLanguage.choices, blank=True)
    calendar = models.CharField(max_length=12, choices=ReadingCalendar.choices, blank=True)
    digits = models.CharField(max_length=8, choices=ReadingDigits.choices, blank=True)
    time_zone = models.CharField(
        max_length=64,
        blank=True,
        validators=[zone_known],
        help_text="For example Asia/Tehran. Empty: Asia/Tehran in Persian, UTC in English.",
    )
    theme = models.CharField(max_length=8, choices=Theme.choices, default=Theme.AUTO)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="preference_known",
                condition=Q(language__in=["", "en", "fa"])
                & Q(calendar__in=["", "gregorian", "jalali"])
                & Q(digits__in=["", "latin", "persian"])
                & Q(theme__in=["auto", "light", "dark"]),
            )
        ]

    def __str__(self) -> str:
        return str(self.user)
