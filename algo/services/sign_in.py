"""Wrong passwords are counted, and slowed down. Counted in the database: the door neither opens nor closes with Redis.

By user and address together: who guesses at a name locks nobody out but the guesser. By address alone, much later: who
guesses at many names.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_failure_limit
from axes.models import AccessAttempt
from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import Max, Sum
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext
from rest_framework.throttling import BaseThrottle

from algo.localised import duration
from algo.models import EventKind
from algo.services.audit import PLATFORM, audit_record
from algo.services.outbox import event_record
from providers.clock import clock_from_env

logger = logging.getLogger("algo.sign_in")

LIMIT: int = settings.AXES_FAILURE_LIMIT  # wrong passwords or codes for one name from one address
MOST_OF_ADDRESS = 50  # for all names together; an office shares one
# After the last one that was counted; what is tried meanwhile makes it no longer.
LOCKED: timedelta = settings.AXES_COOLOFF_TIME


def client_address(request: Any) -> str | None:
    """Where a request comes from, as the limits of the API see it: behind TLS, what our proxy says (NUM_PROXIES)."""
    told = str(BaseThrottle().get_ident(request) or "")
    try:
        return str(ip_address(told))
    except ValueError:
        return None


class SignInHandler(AxesDatabaseHandler):
    def is_locked(self, request: Any, credentials: dict[str, Any] | None = None) -> bool:
        return bool(super().is_locked(request, credentials)) or _is_hot(request.axes_ip_address)


def is_locked_out(request: Any) -> bool:
    """Whether the sign-in that was just tried was refused for those before it, or was one too many."""
    return bool(getattr(request, "axes_locked_out", False))


def locked_seconds(request: Any, username: str) -> int:
    """How long it stays so."""
    address = client_address(request)
    rows = AccessAttempt.objects.filter(ip_address=address)
    last = (rows if _is_hot(address) else rows.filter(username=username)).aggregate(Max("attempt_time"))
    since: datetime = last["attempt_time__max"] or timezone.now()
    return max(1, round((since + LOCKED - timezone.now()).total_seconds()))


def locked_words(seconds: int) -> str:
    return gettext(
        "Too many wrong passwords or codes from this address. Nobody was let in. Try again in %(length)s."
    ) % {"length": duration(seconds)}


def attempts_prune(now: datetime) -> int:
    """Forget what counts no more. Returns how many rows."""
    return AccessAttempt.objects.filter(attempt_time__lt=now - LOCKED).delete()[0]


def as_too_many(request: HttpRequest, response: HttpResponseBase, credentials: Any) -> HttpResponseBase:
    """The answer stays what the page or the API made of it; its status says why."""
    response.status_code = 429
    return response


@receiver(user_locked_out)
def lock_note(request: Any, username: str | None, ip_address: str | None, **_: Any) -> None:
    """Once for each lock, and for users that there are: what somebody typed into the wrong field is kept nowhere."""
    if request.axes_failures_since_start != get_failure_limit(request, None):
        return
    logger.warning("sign-in locked after %s failures from=%s", LIMIT, ip_address)
    user = get_user_model().objects.filter(username=username).first()
    if user is None:
        return
    told = {"address": ip_address, "failures": LIMIT, "minutes": round(LOCKED.total_seconds() / 60)}
    at = clock_from_env().now()
    with transaction.atomic():
        audit_record("sign_in.lock", by=PLATFORM, subject=user, at=at, details=told)
        event_record(EventKind.SIGN_IN_LOCKED, told | {"user": user.get_username()}, at=at)


def _is_hot(address: str | None) -> bool:
    counted = AccessAttempt.objects.filter(ip_address=address, attempt_time__gt=timezone.now() - LOCKED)
    return int(counted.aggregate(all=Sum("failures_since_start"))["all"] or 0) >= MOST_OF_ADDRESS
