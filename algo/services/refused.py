"""What a service says instead of doing it, and a name that only one row may have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet


class Refused(ValueError):
    """Nothing was changed. The text says why and what to do; `field` what to correct, empty where it is none."""

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


@contextmanager
def name_once(rows: QuerySet[Any], name: str, taken: Exception) -> Iterator[None]:
    """Two people may choose a name at once: then the database decides, and `taken` is raised."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError as exc:
        if not rows.filter(name=name).exists():
            raise
        raise taken from exc
