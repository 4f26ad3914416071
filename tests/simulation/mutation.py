"""Functions of the platform with other lines in them, for as long as a context lasts."""

from __future__ import annotations
import __future__

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from types import CodeType, FunctionType
from typing import Any


class Stale(Exception):
    """The function does not have the lines (any more) that were to be changed: the mutant has to be written anew."""


@dataclass(frozen=True, slots=True)
class Edit:
    """`old`, which stands exactly once in the source of `of`, becomes `new`."""

    of: Any
    old: str
    new: str


@contextmanager
def edited(*edits: Edit) -> Iterator[None]:
    """Live with changed lines. The code of the real function is exchanged, not the name by which it is found: whoever
    imported it calls the changed one."""
    by_function: dict[FunctionType, list[Edit]] = {}
    for edit in edits:
        by_function.setdefault(_function(edit.of), []).append(edit)
    changed = {function: _compiled(function, tuple(of_it)) for function, of_it in by_function.items()}
    before = {function: function.__code__ for function in changed}
    try:
        for function, code in changed.items():
            function.__code__ = code
        yield
    finally:
        for function, code in before.items():
            function.__code__ = code


def _function(of: Any) -> FunctionType:
    """What is behind a property, a method, or a decorator that keeps what it wraps."""
    plain = of.func if isinstance(of, cached_property) else of.fget if isinstance(of, property) else of
    plain = getattr(plain, "__func__", plain)
    function = inspect.unwrap(plain)
    if not isinstance(function, FunctionType):
        raise TypeError(f"{of!r} is no function")
    return function


_sources: dict[FunctionType, str] = {}
_codes: dict[tuple[FunctionType, tuple[Edit, ...]], CodeType] = {}


def _compiled(function: FunctionType, edits: tuple[Edit, ...]) -> CodeType:
    key = (function, edits)
    if key not in _codes:
        source = _sources.setdefault(function, textwrap.dedent(inspect.getsource(function)))
        for edit in edits:
            if source.count(edit.old) != 1:
                raise Stale(f"{function.__qualname__} has {source.count(edit.old)} times: {edit.old}")
            source = source.replace(edit.old, edit.new)
        flags = __future__.annotations.compiler_flag
        module = compile(source, f"<mutant of {function.__qualname__}>", "exec", flags=flags, dont_inherit=True)
        _codes[key] = next(
            each for each in module.co_consts if isinstance(each, CodeType) and each.co_name == function.__name__
        )
    return _codes[key]
