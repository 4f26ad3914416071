"""What both exchanges' wires have in common: amounts and times as they are really sent, and the chart's form.

Amounts come as text, as JSON numbers, with exponents (`0E-10`), sixteen padded places, U+2212 for minus or underscores;
they become plain Decimals without trailing zeros. What cannot be owed (NaN, 1e400, a boolean) is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from providers.errors import BadPayload
from providers.types import Candle, Resolution

# Unit conversion and averages must not lose a digit to the thread's context of 28.
EXACT = Context(prec=80, traps=[InvalidOperation])
AVERAGE_PLACES = Decimal("1e-16")  # as many places as the exchanges print

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_LONGEST = 60  # characters; the longest seen on either wire is 32
_LARGEST = 30  # powers of ten, up or down

Schema = TypeVar("Schema", bound="WireModel")


class WireModel(BaseModel):
    """A payload spelled as the exchange spells it. Fields we do not know pass unseen."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)


def to_amount(value: object) -> Decimal:
    """The exact Decimal of a wire amount. Raises ValueError for anything that is not a finite, sensible number."""
    if isinstance(value, str):
        text = value
    else:
        text = str(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else ""
    return _amount_of(text if len(text) <= _LONGEST else text.strip()[: 2 * _LONGEST])


@lru_cache(maxsize=4096)  # the same few prices and quantities come again and again
def _amount_of(text: str) -> Decimal:
    text = text.strip().replace("−", "-").replace("_", "")
    if len(text) > _LONGEST or not _NUMBER.fullmatch(text):
        raise ValueError("not an amount")
    number = Decimal(text)
    if number and abs(number.adjusted()) > _LARGEST:
        raise ValueError("amount out of range")
    return plain(number)


def plain(number: Decimal) -> Decimal:
    """The same value without exponent and without trailing zeros; minus zero is zero."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return Decimal(text) if number else Decimal(0)


def wire_text(number: Decimal) -> str:
    """Plain decimal notation, never an exponent, as both exchanges want amounts sent."""
    return format(plain(number), "f")


def average(total: Decimal, quantity: Decimal) -> Decimal:
    """`total / quantity` to sixteen places."""
    return plain(EXACT.quantize(EXACT.divide(total, quantity), AVERAGE_PLACES))


def to_time(value: object) -> datetime:
    """Aware UTC of an ISO-8601 text with a zone. Raises ValueError for anything else."""
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError("not a time")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    try:
        return moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("time out of range") from exc


def from_seconds(seconds: Decimal | int) -> datetime:
    """Aware UTC of unix seconds. Raises BadPayload outside the years 2000 to 2100."""
    if not 946_684_800 <= seconds < 4_102_444_800:
        raise BadPayload(f"{str(seconds)[:40]} is not a plausible unix time in seconds")
    whole = int(seconds)
    return datetime.fromtimestamp(whole, UTC).replace(microsecond=int((seconds - whole) * 1_000_000))


def from_milliseconds(milliseconds: int) -> datetime:
    return from_seconds(Decimal(milliseconds) / 1000)


def _whole(value: object) -> int:
    number = to_amount(value)
    if number != number.to_integral_value():
        raise ValueError("not a whole number")
    return int(number)


def _list_or_empty(value: object) -> object:
    return [] if value is None else value


Amount = Annotated[Decimal, BeforeValidator(to_amount)]
# A bound stands before the validator that makes the Decimal: pydantic then checks it without calling Python.
PositiveAmount = Annotated[Decimal, Field(gt=0), BeforeValidator(to_amount)]
NonNegativeAmount = Annotated[Decimal, Field(ge=0), BeforeValidator(to_amount)]
Whole = Annotated[int, BeforeValidator(_whole)]
WireTime = Annotated[datetime, BeforeValidator(to_time)]
Upper = Annotated[str, BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value)]


def parse(schema: type[Schema], payload: object) -> Schema:
    """`payload` as `schema`. Raises BadPayload that names the fields, never their values."""
    try:
        return schema.model_validate(payload)
    except ValidationError as exc:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in exc.errors()[:3])
        raise BadPayload(f"{schema.__name__}: {wrong}") from None


def as_mapping(value: object, what: str) -> Mapping[str, Any]:
    """`value` if it is an object; an empty list passes as an empty object (a PHP habit)."""
    if value == [] and isinstance(value, list):
        return {}
    if not isinstance(value, dict):
        raise BadPayload(f"{what} is not an object")
    return value


def as_list(value: object, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadPayload(f"{what} is not a list")
    return value


def jsonable(value: Any) -> Any:
    """A copy that JSON and PostgreSQL accept: amounts as text, no NUL, no lone surrogate."""
    if isinstance(value, str):
        return _clean(value)
    if value is None or isinstance(value, int | float):
        return value
    if isinstance(value, Mapping):
        return {_clean(str(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, Decimal):
        return wire_text(value) if value.is_finite() and abs(value.adjusted()) <= _LARGEST else str(value)
    return value


def _clean(text: str) -> str:
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "�").encode("utf-8", "replace").decode("utf-8")


class UdfHistory(WireModel):
    """Chart answer of both exchanges (contract: wallex 3.6, nobitex 4.5): arrays of equal length, times ascending."""

    s: str
    errmsg: str | None = None
    t: Annotated[list[Whole], BeforeValidator(_list_or_empty)] = []
    o: Annotated[list[PositiveAmount], BeforeValidator(_list_or_empty)] = []
    h: Annotated[list[PositiveAmount], BeforeValidator(_list_or_empty)] = []
    l: Annotated[list[PositiveAmount], BeforeValidator(_list_or_empty)] = []  # noqa: E741 - the wire's name
    c: Annotated[list[PositiveAmount], BeforeValidator(_list_or_empty)] = []
    v: Annotated[list[NonNegativeAmount], BeforeValidator(_list_or_empty)] = []


def to_candles(history: UdfHistory) -> list[Candle]:
    """The candles of an `ok` answer, oldest first, prices as sent. Raises BadPayload when they cannot be candles."""
    if len({len(history.t), len(history.o), len(history.h), len(history.l), len(history.c), len(history.v)}) != 1:
        raise BadPayload("candle arrays differ in length")
    if any(later <= earlier for earlier, later in pairwise(history.t)):
        raise BadPayload("candle times do not ascend")
    if any(low > high for low, high in zip(history.l, history.h, strict=True)):
        raise BadPayload("a candle's low is above its high")
    times = [from_seconds(t) for t in history.t]
    return list(map(Candle, times, history.o, history.h, history.l, history.c, history.v))


def within(candles: Iterable[Candle], start: datetime, end: datetime) -> list[Candle]:
    """Candles with `start <= open_time < end`, oldest first, each time once."""
    return [candle for time, candle in sorted({c.open_time: c for c in candles}.items()) if start <= time < end]


def check_spacing(candles: list[Candle], resolution: Resolution) -> None:
    """Raises BadPayload when neighbours are closer than `resolution`: the exchange answered another question.
    Days may be an hour short, for a zone that changed its clock."""
    least = resolution.seconds - (3600 if resolution.seconds % 86400 == 0 else 0)
    for earlier, later in pairwise(candles):
        if (later.open_time - earlier.open_time).total_seconds() < least:
            raise BadPayload(f"candles closer together than resolution {resolution}")
