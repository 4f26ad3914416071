"""Ask what may hang, and be back in time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class Unanswered(Exception):
    """It is still not back: this time, or since an earlier time."""


class Bounded:
    """Asks in a thread of its own, one question at a time. A server that is stopped in the middle of an answer holds
    this one thread, however often it is asked; the process may end all the same."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy = threading.Lock()

    def begin(self, question: Callable[[], T]) -> Future[T]:
        """The answer to come; `future.result(timeout)` raises what the question raised, TimeoutError where it is late,
        and Unanswered where an earlier one still hangs."""
        future: Future[T] = Future()
        if not self._busy.acquire(blocking=False):
            future.set_exception(Unanswered(f"{self._name} still owes the answer to an earlier question"))
            return future

        def work() -> None:
            try:
                answer = question()
            except Exception as exc:  # noqa: BLE001 - handed to who asked
                self._busy.release()
                future.set_exception(exc)
            else:
                self._busy.release()
                future.set_result(answer)

        threading.Thread(target=work, name=f"ask {self._name}", daemon=True).start()
        return future

    def ask(self, question: Callable[[], T], seconds: float) -> T:
        return self.begin(question).result(timeout=seconds)


class Remembered(Generic[T]):
    """An answer that several may share: asked for once in `seconds`, whoever asks."""

    def __init__(self, question: Callable[[], T], seconds: float, monotonic: Callable[[], float]) -> None:
        self._question, self._seconds, self._monotonic = question, seconds, monotonic
        self._turn = threading.Lock()
        self._known: tuple[float, T] | None = None

    def get(self) -> T:
        with self._turn:
            now = self._monotonic()
            if self._known is None or now - self._known[0] >= self._seconds:
                self._known = now, self._question()
            return self._known[1]
