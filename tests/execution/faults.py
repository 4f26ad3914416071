"""Trouble at the seam between the platform and an exchange."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from providers.errors import OutcomeUnknown

Fault = Callable[[Callable[[], Any]], Any]

WRITES = ("create_order", "create_oco", "cancel_order")


def lost_answer(call: Callable[[], Any]) -> Any:
    """The exchange did it, and nobody heard."""
    call()
    raise OutcomeUnknown("no answer; the request was sent and may have been carried out")


def lost_request(call: Callable[[], Any]) -> Any:
    """The exchange never saw it, and nobody knows."""
    raise OutcomeUnknown("no answer; the request was sent and may have been carried out")


def delayed(late: list[Callable[[], Any]]) -> Fault:
    """A request that is on its way for so long that nobody waits for it any more; `late` delivers it."""

    def on_its_way(call: Callable[[], Any]) -> Any:
        late.append(call)
        return lost_request(call)

    return on_its_way


def raising(error: Exception) -> Fault:
    def fault(call: Callable[[], Any]) -> Any:
        raise error

    return fault


def untouched(call: Callable[[], Any]) -> Any:
    return call()


class Wrapped:
    """A provider of which every call goes through `called(name, call)`."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.name = inner.name

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.inner, name)
        if not callable(value):
            return value
        return lambda *args, **kwargs: self.called(name, lambda: value(*args, **kwargs))

    def called(self, name: str, call: Callable[[], Any]) -> Any:
        return call()


class Counting(Wrapped):
    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.calls: dict[str, int] = {}

    def called(self, name: str, call: Callable[[], Any]) -> Any:
        self.calls[name] = self.calls.get(name, 0) + 1
        return call()


class Faulty(Counting):
    """Faults by the name of the call: the first call of that name meets the first fault, and so on; `always` stays."""

    def __init__(self, inner: Any, always: dict[str, Fault] | None = None, **faults: list[Fault]) -> None:
        super().__init__(inner)
        self.faults = faults
        self.always = always or {}

    def called(self, name: str, call: Callable[[], Any]) -> Any:
        waiting = self.faults.get(name)
        fault = waiting.pop(0) if waiting else self.always.get(name, untouched)
        return super().called(name, lambda: fault(call))
