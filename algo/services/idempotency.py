"""A POST that names a key acts once: claim, act, keep the answer. Who repeats it is given that answer.

The claim is a committed row before anything is done, under a unique constraint: of two requests at once, one acts.
Times are wall time.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.utils.translation import gettext

from algo.models import KeptAnswer

logger = logging.getLogger("algo.idempotency")

KEPT = timedelta(hours=24)
# Far longer than any request runs. A process that died between its claim and its answer holds the key no longer.
ABANDONED = timedelta(minutes=5)


class KeyReused(ValueError):
    """The key was used for another request. Nothing was done."""


class StillRunning(Exception):
    """The request that claimed the key has no answer yet: it runs, or its process died. `free_at` is when the key is
    given to whoever asks next."""

    def __init__(self, free_at: datetime) -> None:
        super().__init__(
            gettext("A request with this key is running, or was cut off, and has no answer yet (%(free_at)s).")
            % {"free_at": free_at}
        )
        self.free_at = free_at


def answer_claim(user: Any, key: str, fingerprint: str, now: datetime) -> KeptAnswer:
    """The row of this user's key. With a `status`, it has been answered: give that answer again. Without one, it is
    claimed for the caller, who acts and then calls `answer_keep` or `answer_release`. Raises KeyReused, StillRunning.
    """
    mine = KeptAnswer(user=user, key=key, fingerprint=fingerprint, claim=uuid4(), claimed_at=now)
    KeptAnswer.objects.bulk_create([mine], ignore_conflicts=True)
    found = KeptAnswer.objects.filter(user=user, key=key).first()
    if found is None:  # released between the two: its caller may try again at once
        raise StillRunning(now)
    if found.claim == mine.claim:
        return found
    if found.claimed_at <= now - KEPT:
        return _taken_over(found, mine)
    if found.fingerprint != fingerprint:
        raise KeyReused(gettext("The key %(key)s was used for another request.") % {"key": key})
    if found.status is not None:
        return found
    if found.claimed_at <= now - ABANDONED:
        logger.warning("key taken over from a request without an answer user=%s key=%s", user.pk, key)
        return _taken_over(found, mine)
    raise StillRunning(found.claimed_at + ABANDONED)


def answer_keep(claimed: KeptAnswer, *, status: int, body: str) -> None:
    """The answer from now on. Where somebody else took the key over meanwhile, theirs stays."""
    rows = KeptAnswer.objects.filter(pk=claimed.pk, claim=claimed.claim, status=None)
    rows.update(status=status, body=body)


def answer_release(claimed: KeptAnswer) -> None:
    """Nothing definite came of it: whoever repeats it acts."""
    KeptAnswer.objects.filter(pk=claimed.pk, claim=claimed.claim, status=None).delete()


def answers_prune(now: datetime) -> int:
    """Forget answers after a day. Returns how many."""
    return KeptAnswer.objects.filter(claimed_at__lte=now - KEPT).delete()[0]


def _taken_over(found: KeptAnswer, mine: KeptAnswer) -> KeptAnswer:
    """Of several who see an abandoned claim, one gets it. Raises StillRunning for the others."""
    words: dict[str, Any] = {"claim": mine.claim, "claimed_at": mine.claimed_at, "fingerprint": mine.fingerprint}
    won = KeptAnswer.objects.filter(pk=found.pk, claim=found.claim).update(**words, status=None, body="")
    if not won:
        raise StillRunning(mine.claimed_at + ABANDONED)
    return KeptAnswer.objects.get(pk=found.pk)
