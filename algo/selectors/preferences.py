"""Who reads: the stored preferences of a user, and what a language brings along."""

from __future__ import annotations

from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

from algo.localised import ENGLISH, PERSIAN, Calendar, Digits, Reader
from algo.models import UserPreference

TEHRAN = "Asia/Tehran"
_OF_A_LANGUAGE = {
    ENGLISH: Reader(),
    PERSIAN: Reader(PERSIAN, Calendar.JALALI, Digits.PERSIAN, ZoneInfo(TEHRAN)),
}


def preference_of(user: Any) -> UserPreference:
    """The stored one, or an empty one that is not stored."""
    if not user.is_authenticated:
        return UserPreference()
    return UserPreference.objects.filter(user=user).first() or UserPreference(user=user)


def reader_of_language(language: str) -> Reader:
    """What belongs to `language`: Jalali dates, Persian digits and Tehran to Persian; the rest is read in UTC."""
    return _OF_A_LANGUAGE.get(language, _OF_A_LANGUAGE[ENGLISH])


def reader_of(user: Any, language: str = ENGLISH) -> Reader:
    """`language` is used where the user has chosen none."""
    return reader_from(preference_of(user), language)


def reader_from(chosen: UserPreference, language: str) -> Reader:
    usual = reader_of_language(chosen.language or language)
    return Reader(
        usual.language,
        Calendar(chosen.calendar) if chosen.calendar else usual.calendar,
        Digits(chosen.digits) if chosen.digits else usual.digits,
        (UTC if chosen.time_zone == "UTC" else ZoneInfo(chosen.time_zone)) if chosen.time_zone else usual.zone,
    )
