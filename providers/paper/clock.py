"""The exchange's own clock: the environment's, which a tester can stop and set forward."""

from __future__ import annotations

from datetime import datetime, timedelta

from providers.clock import Clock

LONGEST_ADVANCE = timedelta(days=30)  # every second of it is lived through


class AdjustableClock:
    """`base`, shifted by `offset`. Never goes back: a pause ends where it began, and only the future can be reached."""

    def __init__(self, base: Clock, offset: timedelta = timedelta(0)) -> None:
        self._base = base
        self._offset = offset
        self._stands_at: datetime | None = None

    @property
    def speed(self) -> float:
        return self._base.speed

    @property
    def is_paused(self) -> bool:
        return self._stands_at is not None

    @property
    def offset(self) -> timedelta:
        """Ours minus the environment's, now."""
        return self._offset if self._stands_at is None else self._stands_at - self._base.now()

    def now(self) -> datetime:
        return self._stands_at if self._stands_at is not None else self._base.now() + self._offset

    def wall(self, seconds: float) -> timedelta:
        return self._base.wall(seconds)

    def monotonic(self) -> float:
        return self._base.monotonic()

    def pause(self) -> None:
        """Time stands still until `resume`; `advance` still moves it."""
        self._stands_at = self.now()

    def resume(self) -> None:
        """Go on from where time stands."""
        self._offset, self._stands_at = self.offset, None

    def advance(self, by: timedelta) -> None:
        """Set forward. Raises `ValueError` for a step back or one too long."""
        if not timedelta(0) < by <= LONGEST_ADVANCE:
            raise ValueError(f"time can be set forward by more than nothing and at most {LONGEST_ADVANCE.days} days")
        if self._stands_at is not None:
            self._stands_at += by
        else:
            self._offset += by
