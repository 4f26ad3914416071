"""What a search may try: for each parameter the values it may take, out of words or out of the schema's own bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from pydantic.fields import FieldInfo

from algo.strategies.interface import StrategyInterface
from algo.strategies.schemas import InvalidParameters, StrategySchema, validate_parameters

Value = int | float | bool | str  # as JSON keeps it; a Decimal is text
Choice = Mapping[str, Value]

STEPS = 50  # of a range of fractions that was given without a step
DEFAULT_STEPS = 20  # of a range nobody asked for
POINTS = 5  # of such a range in a grid
MOST_VALUES = 10_000  # of one parameter
ALWAYS_SEARCHED = ("stop_loss_percent", "take_profit_percent")
SIZED, BOOKS = "_confidence", "order_book_"  # scale the position; are off in a backtest
_SAMPLED = 200


class SpaceRefused(ValueError):
    """A search space that cannot be; the message says which word is wrong and how to write it."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """The values one parameter may take. `ordered`: from low to high; `stated`: each of them was asked for."""

    name: str
    values: tuple[Value, ...]
    ordered: bool = True
    stated: bool = False

    def thinned(self, points: int) -> Dimension:
        """At most `points` of the values, evenly spread, ends included; all of them where they were stated."""
        if self.stated or len(self.values) <= points:
            return self
        index = np.unique(np.linspace(0, len(self.values) - 1, points).round().astype(int))
        return Dimension(self.name, tuple(self.values[i] for i in index), self.ordered, stated=True)

    def is_border(self, value: Value) -> bool:
        """Whether better values may lie beyond: at either end of an ordered range."""
        return self.ordered and len(self.values) > 2 and value in (self.values[0], self.values[-1])


@dataclass(frozen=True, slots=True)
class Space:
    """All combinations of the values of its dimensions, numbered as an odometer counts: the last turns fastest."""

    dimensions: tuple[Dimension, ...]

    @property
    def size(self) -> int:
        return math.prod(len(each.values) for each in self.dimensions)

    def thinned(self, points: int) -> Space:
        return Space(tuple(each.thinned(points) for each in self.dimensions))

    def at(self, number: int) -> dict[str, Value]:
        """The combination of that number, from 0."""
        choice: dict[str, Value] = {}
        for each in reversed(self.dimensions):
            number, index = divmod(number, len(each.values))
            choice[each.name] = each.values[index]
        return {each.name: choice[each.name] for each in self.dimensions}

    def draw(self, count: int, seed: int) -> list[dict[str, Value]]:
        """`count` different combinations chosen blindly, or all of them in order where there are no more."""
        if self.size <= count:
            return [self.at(number) for number in range(self.size)]
        rng = np.random.default_rng(seed)
        lengths = [len(each.values) for each in self.dimensions]
        found: dict[tuple[int, ...], dict[str, Value]] = {}
        while len(found) < count:
            index = tuple(int(rng.integers(length)) for length in lengths)
            found[index] = {each.name: each.values[i] for each, i in zip(self.dimensions, index, strict=True)}
        return list(found.values())

    def border(self, choice: Choice) -> list[str]:
        """Parameters whose value is the first or last of its range."""
        return [each.name for each in self.dimensions if each.is_border(choice[each.name])]

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {"name": each.name, "values": list(each.values), "ordered": each.ordered, "stated": each.stated}
            for each in self.dimensions
        ]

    @classmethod
    def from_json(cls, rows: Sequence[Mapping[str, Any]]) -> Space:
        return cls(tuple(Dimension(row["name"], tuple(row["values"]), row["ordered"], row["stated"]) for row in rows))


def space_of(schema: type[StrategySchema], texts: Sequence[str], *, fixed: Sequence[str] = ()) -> Space:
    """The space of words like `breakout_period=10:40:5` or `volume_threshold=1,1.5,2`; without any, of the schema.

    `fixed` names parameters that were given a value: a default space leaves them alone. SpaceRefused for words that
    mean nothing.
    """
    dimensions = [_parsed(schema, text) for text in texts] or default_dimensions(schema, fixed)
    names = [each.name for each in dimensions]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SpaceRefused(f"{', '.join(twice)} stands in --space more than once; give all of its values in one")
    if both := sorted(set(names) & set(fixed) if texts else ()):
        raise SpaceRefused(f"{', '.join(both)} stands in --space and in --param; leave one of them out")
    if not names:
        raise SpaceRefused("nothing is left to search; name parameters with --space, as breakout_period=10:40:5")
    return Space(tuple(dimensions))


def default_dimensions(schema: type[StrategySchema], fixed: Sequence[str] = ()) -> list[Dimension]:
    """Half to double the default, within the bounds: the strategy's own numbers, its stop and its target."""
    own = [name for name in schema.model_fields if name not in StrategySchema.model_fields]
    names = [name for name in (*own, *ALWAYS_SEARCHED) if not name.endswith(SIZED) and not name.startswith(BOOKS)]
    return [
        _around_default(name, schema.model_fields[name])
        for name in names
        if name not in fixed and _is_number(schema.model_fields[name]) and schema.model_fields[name].default
    ]


def validated(schema: type[StrategySchema], base: Mapping[str, Any], choice: Choice) -> StrategySchema | None:
    """The parameters of a combination; None where the schema refuses it."""
    try:
        return validate_parameters(schema, base, **choice)
    except InvalidParameters:
        return None


def longest_warmup(strategy: type[StrategyInterface], base: Mapping[str, Any], space: Space) -> int:
    """The most candles of warm-up that a combination asks for: of the corners of the space and of 200 draws, which is
    all of them where warm-up grows or shrinks with each parameter. SpaceRefused where the schema refuses every one."""
    found = [
        strategy(parameters).warmup_bars
        for choice in (*_corners(space), *space.draw(_SAMPLED, 0))
        if (parameters := validated(strategy.schema, base, choice)) is not None
    ]
    if not found:
        raise SpaceRefused(f"the strategy refuses every set of this space: {_why_refused(strategy, base, space)}")
    return max(1, *found)


def _corners(space: Space) -> Iterator[dict[str, Value]]:
    low = {each.name: each.values[0] for each in space.dimensions}
    high = {each.name: each.values[-1] for each in space.dimensions}
    yield from (low, high)
    for each in space.dimensions:
        yield {**low, each.name: each.values[-1]}
        yield {**high, each.name: each.values[0]}


def _why_refused(strategy: type[StrategyInterface], base: Mapping[str, Any], space: Space) -> str:
    try:
        validate_parameters(strategy.schema, base, **space.at(0))
    except InvalidParameters as exc:
        return str(exc)
    return "no set of those looked at is valid"


# --- words ----------------------------------------------------------------------------------------------------------


def _parsed(schema: type[StrategySchema], text: str) -> Dimension:
    name, equals, words = text.partition("=")
    if not equals or not words:
        raise SpaceRefused(f"--space {text!r} is no NAME=LOW:HIGH, NAME=LOW:HIGH:STEP or NAME=A,B,C")
    if name not in schema.model_fields:
        raise SpaceRefused(f"there is no parameter {name!r}; known are: {', '.join(sorted(schema.model_fields))}")
    field = schema.model_fields[name]
    if ":" not in words:
        values = tuple(dict.fromkeys(_value(field, name, word) for word in words.split(",")))
        ordered = _is_number(field)
        return Dimension(name, tuple(sorted(values, key=float)) if ordered else values, ordered, stated=True)
    if not _is_number(field):
        raise SpaceRefused(f"{name} is no number: name its values, as {name}=true,false")
    return _range(field, name, words)


def _range(field: FieldInfo, name: str, words: str) -> Dimension:
    parts = [_decimal(name, word) for word in words.split(":")]
    if len(parts) not in (2, 3) or parts[0] >= parts[1] or (len(parts) == 3 and parts[2] <= 0):
        raise SpaceRefused(
            f"--space {name}={words} is no LOW:HIGH or LOW:HIGH:STEP with LOW below HIGH and STEP above 0"
        )
    low, high = parts[:2]
    whole = field.annotation is int
    step = parts[2] if len(parts) == 3 else Decimal(1) if whole else (high - low) / STEPS
    if whole and any(part != part.to_integral_value() for part in (low, high, step)):
        raise SpaceRefused(f"{name} takes whole numbers only; --space {name}={words} has others")
    if (high - low) / step >= MOST_VALUES:
        raise SpaceRefused(f"--space {name}={words} has more than {MOST_VALUES:,} values; give a larger STEP")
    return Dimension(name, _steps(field, low, high, step), ordered=True, stated=len(parts) == 3)


def _steps(field: FieldInfo, low: Decimal, high: Decimal, step: Decimal) -> tuple[Value, ...]:
    return tuple(_as_json(field, low + i * step) for i in range(int((high - low) / step) + 1))


def _value(field: FieldInfo, name: str, word: str) -> Value:
    if field.annotation is bool:
        if word.lower() not in ("true", "false"):
            raise SpaceRefused(f"{name} is true or false, not {word!r}")
        return word.lower() == "true"
    if not _is_number(field):
        return word
    number = _decimal(name, word)
    if field.annotation is int and number != number.to_integral_value():
        raise SpaceRefused(f"{name} takes whole numbers only; {word} is none")
    return _as_json(field, number)


def _decimal(name: str, word: str) -> Decimal:
    try:
        number = Decimal(word)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise SpaceRefused(f"--space {name}: {word!r} is no number")
    return number


def _as_json(field: FieldInfo, number: Decimal) -> Value:
    if field.annotation is int:
        return int(number)
    return float(number) if field.annotation is float else format(number.normalize(), "f")


def _is_number(field: FieldInfo) -> bool:
    return field.annotation in (int, float, Decimal)


# --- the schema's own bounds ----------------------------------------------------------------------------------------


def _around_default(name: str, field: FieldInfo) -> Dimension:
    default = Decimal(str(field.default))
    least, most = _bound(field, "ge", "gt"), _bound(field, "le", "lt")
    low = default / 2 if least is None else max(default / 2, least)
    high = default * 2 if most is None else min(default * 2, most)
    step = Decimal(1) if field.annotation is int else _round_step((high - low) / DEFAULT_STEPS)
    first = math.ceil(low / step) + (least == math.ceil(low / step) * step and _excludes(field, "gt"))
    last = math.floor(high / step) - (most == math.floor(high / step) * step and _excludes(field, "lt"))
    return Dimension(name, _steps(field, first * step, last * step, step))


def _bound(field: FieldInfo, *names: str) -> Decimal | None:
    for each in field.metadata:
        for name in names:
            if getattr(each, name, None) is not None:
                return Decimal(str(getattr(each, name)))
    return None


def _excludes(field: FieldInfo, name: str) -> bool:
    return any(getattr(each, name, None) is not None for each in field.metadata)


def _round_step(step: Decimal) -> Decimal:
    """The largest of 1, 2 and 5 times a power of ten that is not above `step`."""
    power = Decimal(1).scaleb(step.adjusted())
    return max(each * power for each in (1, 2, 5) if each * power <= step)
