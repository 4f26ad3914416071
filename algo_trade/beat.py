"""Celery beat, of which any number may run: one sends, the others wait to take over.

The schedule is the database's, as before (admin → Periodic tasks). Who sends is decided by a lock of PostgreSQL that a
dead process lets go at once; one that hangs is ended by who waits.
"""

from __future__ import annotations

import logging
from typing import Any, cast

from celery.schedules import schedule
from django_celery_beat.schedulers import DatabaseScheduler, ModelEntry

from algo.exchanges import CLOCK
from algo.services.alone import Lead
from algo_trade.candle_ticks import CandleTicks

logger = logging.getLogger("algo.beat")

WAIT_SECONDS = 1.0  # between two tries to take over
_BEAT = 0x4245
LOOKS_FOR_CANDLES = "algo.tasks.run_strategies"


class Entry(ModelEntry):
    """A row of the admin's periodic tasks. What looks for closed candles keeps to the minute."""

    def __init__(self, model: Any, app: Any = None) -> None:
        super().__init__(model, app)
        told = cast(Any, self).schedule
        if self.task == LOOKS_FOR_CANDLES and type(told) is schedule:
            self.schedule = CandleTicks(told.run_every.total_seconds(), CLOCK, app=self.app)


class LeadingScheduler(DatabaseScheduler):
    """The scheduler of django-celery-beat, which sends only while this process leads."""

    Entry = Entry

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lead = Lead(_BEAT)
        super().__init__(*args, **kwargs)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, if this process leads; the seconds until the next look. Whether it still does is asked
        before every task that is sent, so that nothing is sent twice for longer than one task."""
        led = self._lead.is_had
        if not self._lead.take():
            if led:
                logger.warning("beat leads no longer: its session is gone, another one may send")
                self._dirty.clear()  # whoever sends now notes what was sent when
            return WAIT_SECONDS
        if not led:
            logger.info("beat leads")
            self._begin_anew()
        return float(super().tick(*args, **kwargs))

    def _begin_anew(self) -> None:
        """By what the one before noted: not by what this process read when it started."""
        self._initial_read, self._heap = True, None

    def close(self) -> None:
        super().close()
        self._lead.let_go()
