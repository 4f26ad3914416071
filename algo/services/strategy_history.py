"""Who changes a strategy, told to its history: `algo.models.strategy` keeps a row for every change people make."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from algo.models import StrategyConfig
from algo.services.audit import Actor


@contextmanager
def told_by(config: StrategyConfig, by: Actor, *, at: datetime, why: str = "") -> Iterator[None]:
    """What is saved or deleted of `config` meanwhile is kept as done by `by` at `at`, for the reason `why`."""
    words: dict[str, Any] = {
        "_history_user": by.user,
        "_history_username": "" if by.user is None else by.name,
        "_history_door": by.door,
        "_history_date": at,
        "_change_reason": why[:400],
    }
    vars(config).update(words)
    try:
        yield
    finally:
        for word in words:
            vars(config).pop(word, None)
