"""What a person reads: times, numbers, money and durations in his language, calendar, digits and time zone.

Values in, text out. Never for machines: the API's JSON, CSV, logs and what is stored keep their own forms. Who reads
is the active `Reader`: set for a page by `algo.personal.middleware`, for a message by `reading`; else a reader of
English in UTC.

Numbers are isolated from the text around them only where they begin with a sign: digits keep their order in Persian
text by themselves. Names, symbols and ids do not: `isolated`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import StrEnum

from django.utils import timezone, translation
from django.utils.translation import gettext, ngettext
from persiantools.jdatetime import JalaliDate

from algo.models.fields import plain

ENGLISH, PERSIAN = "en", "fa"
NOTHING = "–"
_LATIN = "0123456789"
_PERSIAN = "۰۱۲۳۴۵۶۷۸۹"
_TO_PERSIAN = str.maketrans(_LATIN, _PERSIAN)
# Digits of Persian and of Arabic keyboards, and the separators people type with them.
_TO_LATIN = str.maketrans(_PERSIAN + "٠١٢٣٤٥٦٧٨٩" + "٫٬−", _LATIN + _LATIN + ".,-")
_SEPARATORS = str.maketrans(",.", "٬٫")
LEFT_TO_RIGHT_MARK = "\u200e"
_ISOLATE, _END_OF_ISOLATE = "\u2068", "\u2069"


class Calendar(StrEnum):
    GREGORIAN = "gregorian"
    JALALI = "jalali"


class Digits(StrEnum):
    LATIN = "latin"
    PERSIAN = "persian"


@dataclass(frozen=True, slots=True)
class Reader:
    """How somebody reads. `language` is a code of LANGUAGES."""

    language: str = ENGLISH
    calendar: Calendar = Calendar.GREGORIAN
    digits: Digits = Digits.LATIN
    zone: tzinfo = field(default=UTC)

    @property
    def right_to_left(self) -> bool:
        return self.language == PERSIAN


_reader: ContextVar[Reader] = ContextVar("reader", default=Reader())  # noqa: B039 - frozen


def reader() -> Reader:
    """Who reads what is written now."""
    return _reader.get()


@contextmanager
def reading(who: Reader) -> Iterator[Reader]:
    """Inside, words are in the language of `who`, and numbers and times are written for him. Django's own zone follows,
    so that its forms and filters mean the same hour."""
    token = _reader.set(who)
    try:
        with translation.override(who.language), timezone.override(who.zone):
            yield who
    finally:
        _reader.reset(token)


def digits(text: object) -> str:
    """`text` with the reader's digits; nothing else of it changes."""
    return str(text).translate(_TO_PERSIAN) if reader().digits == Digits.PERSIAN else str(text)


def latin_digits(text: str) -> str:
    """What somebody typed, as numbers are read by programs: ۱٬۲۳۴٫۵ is 1,234.5."""
    return text.translate(_TO_LATIN)


def isolated(text: object) -> str:
    """A symbol, name or id inside a sentence that may run from right to left, so that neither disorders the other.
    Text for left-to-right readers is returned as it is."""
    return f"{_ISOLATE}{text}{_END_OF_ISOLATE}" if reader().right_to_left else str(text)


def number(value: Decimal | float | None, places: int | None = None) -> str:
    """1234567.5 as `1,234,567.5` or `۱٬۲۳۴٬۵۶۷٫۵`: grouped and exact, or to `places`. None is a dash."""
    if value is None:
        return NOTHING
    if places is not None:
        return written(f"{value:,.{places}f}")
    return written(f"{plain(value):,f}" if isinstance(value, Decimal) else f"{value:,}")


def written(figures: str) -> str:
    """A number that is already formed, as `-1,234.5`, for the reader. A sign stays before its number."""
    if reader().digits != Digits.PERSIAN:
        return LEFT_TO_RIGHT_MARK + figures if reader().right_to_left and figures[:1] in ("-", "+") else figures
    shown = figures.translate(_SEPARATORS).translate(_TO_PERSIAN)
    return LEFT_TO_RIGHT_MARK + shown.replace("-", "−", 1) if shown[:1] in ("-", "+") else shown


def unit(asset: str) -> str:
    """What `asset` is called beside an amount: TMN, IRT and toman are one thing to a reader of Persian."""
    return gettext("toman") if reader().right_to_left and asset in ("TMN", "IRT") else asset


def money(amount: Decimal | None, asset: str, places: int | None = None) -> str:
    """`1,234,567 USDT`, `۱٬۲۳۴٬۵۶۷ تومان`."""
    return NOTHING if amount is None else f"{number(amount, places)} {unit(asset)}"


def percent(value: Decimal | float | None, places: int | None = None) -> str:
    """`value` is in percent: 0.3 is `0.3 %` or `۰٫۳٪`."""
    if value is None:
        return NOTHING
    sign = "٪" if reader().digits == Digits.PERSIAN else "%" if reader().right_to_left else " %"
    return number(value, places) + sign


def listed(items: Iterable[object]) -> str:
    """`a, b, c`, with the comma of the language."""
    return gettext(", ").join(map(str, items))


def day(at: date | None) -> str:
    """`2026-03-21` or `۱۴۰۵/۰۱/۰۱`. Of a moment: the day it is in the reader's zone."""
    if at is None:
        return NOTHING
    there = at.astimezone(reader().zone).date() if isinstance(at, datetime) else at
    if reader().calendar != Calendar.JALALI:
        return digits(there.isoformat())
    shamsi = JalaliDate(there)
    return digits(f"{shamsi.year:04}/{shamsi.month:02}/{shamsi.day:02}")


def hour(at: datetime | None) -> str:
    """`14:05:09`, in the reader's zone."""
    return NOTHING if at is None else digits(at.astimezone(reader().zone).strftime("%H:%M:%S"))


def moment(at: datetime | None) -> str:
    """`2026-03-21 14:05:09` or `۱۴۰۵/۰۱/۰۱ ۱۷:۳۵:۰۹`. In Persian text a date and an hour are two numbers: isolated as
    one, they would change places."""
    return NOTHING if at is None else f"{day(at)} {hour(at)}"


def minute(at: datetime | None) -> str:
    """`moment` without seconds."""
    return NOTHING if at is None else moment(at)[:-3]


def zone_name() -> str:
    """In whose time a page is written: `UTC`, `Asia/Tehran`."""
    name = str(reader().zone)
    return gettext("Tehran time") if reader().right_to_left and name == "Asia/Tehran" else name


def jalali_date(text: str) -> date:
    """The day that a Jalali date as `1405/01/01` (or ۱۴۰۵-۱-۱) is. ValueError where there is no such day."""
    year, month, of_month = (int(part) for part in latin_digits(text).replace("-", "/").split("/"))
    there: date = JalaliDate(year, month, of_month).to_gregorian()
    return there


def duration(length: timedelta | float) -> str:
    """In its two largest units: `5 s`, `2 min 3 s`, `4 h 5 min`, `3 d 4 h`; less than a second counts as none."""
    seconds = int(length.total_seconds() if isinstance(length, timedelta) else length)
    for size, next_size, names in _UNITS:
        if seconds >= size:
            first, rest = _length(seconds // size, names[0]), seconds % size // next_size
            if not rest:
                return first
            return gettext("%(first)s %(second)s") % {"first": first, "second": _length(rest, names[1])}
    return _length(max(seconds, 0), "second")


_UNITS = (
    (86_400, 3_600, ("day", "hour")),
    (3_600, 60, ("hour", "minute")),
    (60, 1, ("minute", "second")),
)


def _length(count: int, name: str) -> str:
    shown = number(count)
    match name:
        case "day":
            return ngettext("%(count)s d", "%(count)s d", count) % {"count": shown}
        case "hour":
            return ngettext("%(count)s h", "%(count)s h", count) % {"count": shown}
        case "minute":
            return ngettext("%(count)s min", "%(count)s min", count) % {"count": shown}
        case _:
            return ngettext("%(count)s s", "%(count)s s", count) % {"count": shown}
