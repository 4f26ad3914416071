"""Safety rules taken away, one at a time. A world that does not notice is blind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """`what` says which rule is missing; `apply` takes it away for as long as its context lasts."""

    what: str
    apply: Callable[[], AbstractContextManager[None]]


MUTANTS: dict[str, Mutant] = {}


@contextmanager
def applied(name: str | None) -> Iterator[None]:
    """Live without a rule; with all of them where no name is given."""
    if name is None:
        yield
        return
    with MUTANTS[name].apply():
        yield
