"""What changed and waits to be told: read by the one relay, removed once it is told."""

from __future__ import annotations

from collections.abc import Collection

from django.db import connection, transaction

from algo.models import LiveChange

KEPT = 100_000  # about ten megabytes
RESET = "reset"  # the kind of a change that says: some were dropped


def changes_waiting(limit: int) -> list[LiveChange]:
    """The oldest, in the order in which they were noted. A transaction that commits late adds one before others."""
    return list(LiveChange.objects.order_by("id")[:limit])


def changes_told(ids: Collection[int]) -> None:
    LiveChange.objects.filter(pk__in=ids).delete()


@transaction.atomic
def live_changes_prune(keep: int = KEPT) -> int:
    """Where nobody has told anything for long, drop the oldest beyond `keep`, and note that some were dropped: whoever
    watches then reads everything anew. Returns how many were dropped."""
    newest = list(LiveChange.objects.order_by("-id").values_list("pk", flat=True)[keep : keep + 1])
    if not newest:
        return 0
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM algo_livechange WHERE id <= %s", [newest[0]])
        dropped: int = cursor.rowcount
    LiveChange.objects.create(kind=RESET, row_id=0)
    return dropped
