"""What the work at hand belongs to: the request it began with, the account, the deal, the order. Log lines say it, and
messages to workers carry it on, so that one id leads through every process."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

REQUEST_ID = "request_id"
CARRIED = (REQUEST_ID, "account", "deal", "order")  # to whom work is handed on; the rest is each process's own
_SANE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_trail: ContextVar[Mapping[str, Any]] = ContextVar("trail", default=_NOTHING)


def current() -> Mapping[str, Any]:
    """Ids by name, of the work of this thread."""
    return _trail.get()


def carried() -> dict[str, Any]:
    """Those of them that go with a message to a worker."""
    return {name: value for name, value in _trail.get().items() if name in CARRIED}


@contextmanager
def trail(**ids: Any) -> Iterator[None]:
    """What is done inside belongs to `ids` too."""
    token = _trail.set({**_trail.get(), **ids})
    try:
        yield
    finally:
        _trail.reset(token)


def begin(**ids: Any) -> None:
    """From now on this thread works for `ids` alone; without any, for nothing in particular."""
    _trail.set(ids)


def sane_id(told: Any) -> str:
    """The id that a caller gave a request, where it is one (8 to 64 letters, digits, `.`, `_`, `-`); else a new one:
    what goes into log lines and headers is never free text of strangers."""
    return told if isinstance(told, str) and _SANE.fullmatch(told) else uuid.uuid4().hex
