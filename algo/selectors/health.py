"""Is the house alive?"""

from __future__ import annotations

from datetime import datetime

from algo.models import Heartbeat


def heartbeat_ages(now: datetime, *, speed: float = 1.0) -> dict[str, float]:
    """Wall seconds since the last sign of life of each process; `speed` is platform seconds per wall second."""
    rows = Heartbeat.objects.order_by("name").values_list("name", "at")
    return {name: max((now - at).total_seconds() / speed, 0.0) for name, at in rows}
