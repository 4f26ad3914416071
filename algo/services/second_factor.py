"""The second factor of a sign-in: set up, asked for, taken away.

Its codes live in wall time, as authenticator apps do: `now` here is the wall's, `at` is the platform's, for the audit
log.
"""

from __future__ import annotations

import logging
import secrets
from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils.translation import gettext

from algo.localised import duration, latin_digits
from algo.models import RecoveryCode, SecondFactor
from algo.models.fields import SecretUnreadable
from algo.selectors.second_factor import factor_of
from algo.services.audit import Actor, audit_record
from algo.services.refused import Refused

logger = logging.getLogger("algo.second_factor")

SECRET_BYTES = 20
CODES = 10
ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"  # without those that look alike
GROUPS, LETTERS = 4, 4  # 16 of 31 letters: 79 bits


class CodeRefused(Refused):
    """The code does not open. `reason`: required, wrong or throttled."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(text, "code")
        self.reason = reason


def factor_begin(user: Any) -> SecondFactor:
    """A secret for the user's app, which counts once a code of it was given. Asked for again it is the same one; of
    who has a second factor already, Refused."""
    if factor_of(user) is not None:
        raise Refused(gettext("You have a second factor already. Remove it first. Nothing was changed."))
    fresh = SecondFactor(user=user, name="app", confirmed=False)
    fresh.set_secret(secrets.token_bytes(SECRET_BYTES))
    SecondFactor.objects.bulk_create([fresh], ignore_conflicts=True)  # two pages may be opened at once
    begun: SecondFactor = SecondFactor.objects.get(user=user)
    return begun


def factor_confirm(user: Any, code: str, *, by: Actor, now: datetime, at: datetime) -> tuple[SecondFactor, list[str]]:
    """From now on it is asked for at every sign-in. Returns it with recovery codes, told this once. Raises CodeRefused,
    and Refused where none was begun."""
    factor = SecondFactor.objects.filter(user=user, confirmed=False).first()
    if factor is None:
        raise Refused(gettext("No second factor is being set up. Open the page again. Nothing was changed."))
    _open(factor, code, now)
    with transaction.atomic():
        SecondFactor.objects.filter(pk=factor.pk).update(confirmed=True, confirmed_at=now)
        codes = _fresh_codes(factor)
        audit_record("second_factor.set_up", by=by, subject=user, at=at)
    factor.refresh_from_db()
    return factor, codes


def factor_check(user: Any, code: str, *, now: datetime) -> SecondFactor | None:
    """The second factor that `code` proves; None where the user has none and needs no code. A recovery code counts
    once. Raises CodeRefused."""
    factor = factor_of(user)
    if factor is None:
        return None
    if not code.strip():
        raise CodeRefused(
            gettext("Enter the code that your authenticator app shows, or a recovery code."), reason="required"
        )
    _open(factor, code, now)
    return factor


def factor_remove(user: Any, code: str, *, by: Actor, now: datetime, at: datetime) -> None:
    """With a code of it. Raises CodeRefused."""
    if (factor := factor_check(user, code, now=now)) is not None:
        _take_away(factor, "second_factor.remove", user, by, at)


def factor_reset(user: Any, *, by: Actor, at: datetime) -> bool:
    """Without a code, for who lost app and recovery codes. False where there is none. Its sessions end."""
    factor = SecondFactor.objects.filter(user=user).first()
    if factor is None:
        return False
    _take_away(factor, "second_factor.reset", user, by, at)
    return True


def recovery_codes_renew(user: Any, code: str, *, by: Actor, now: datetime, at: datetime) -> list[str]:
    """New ones, told this once; the old ones open nothing any more. Raises CodeRefused."""
    factor = factor_check(user, code, now=now)
    if factor is None:
        raise Refused(gettext("You have no second factor. Nothing was changed."))
    with transaction.atomic():
        codes = _fresh_codes(factor)
        audit_record("second_factor.codes", by=by, subject=user, at=at)
    return codes


def _open(factor: SecondFactor, code: str, now: datetime) -> None:
    """Counts a wrong code for good: that is why nothing is raised inside the transaction."""
    with transaction.atomic():
        row: SecondFactor = SecondFactor.objects.select_for_update(no_key=True).get(pk=factor.pk)
        allowed, why_not = row.verify_is_allowed()
        if is_open := bool(allowed and (_by_app(row, code, now) or _by_recovery_code(row, code, now))):
            row.throttle_reset(commit=False)
        elif allowed:
            row.throttle_increment(commit=False)
        row.save(update_fields=["last_step", "throttling_failure_timestamp", "throttling_failure_count"])
    if not allowed:
        seconds = max(1.0, (why_not["locked_until"] - now).total_seconds())
        text = gettext("Too many wrong codes. Try again in %(length)s.") % {"length": duration(round(seconds))}
        raise CodeRefused(text, reason="throttled")
    if not is_open:
        text = gettext("This code is not right, or was used before. Enter the one that the app shows now.")
        raise CodeRefused(text, reason="wrong")


def _by_app(row: SecondFactor, code: str, now: datetime) -> bool:
    try:
        step = row.step_of(latin_digits(code).replace(" ", ""), now)
    except SecretUnreadable as exc:  # recovery codes need no key
        logger.error("second factor unreadable user=%s: %s", row.user_id, exc)
        return False
    if step is None:
        return False
    row.last_step = step
    return True


def _by_recovery_code(row: SecondFactor, code: str, now: datetime) -> bool:
    plain = latin_digits(code).lower().replace("-", "").replace(" ", "")
    unused = row.recovery_codes.filter(digest=RecoveryCode.digest_of(plain), used_at=None)
    return bool(unused.update(used_at=now))


def _fresh_codes(factor: SecondFactor) -> list[str]:
    codes = ["".join(secrets.choice(ALPHABET) for _ in range(GROUPS * LETTERS)) for _ in range(CODES)]
    factor.recovery_codes.all().delete()
    RecoveryCode.objects.bulk_create(RecoveryCode(factor=factor, digest=RecoveryCode.digest_of(code)) for code in codes)
    return ["-".join(code[at : at + LETTERS] for at in range(0, len(code), LETTERS)) for code in codes]


@transaction.atomic
def _take_away(factor: SecondFactor, act: str, user: Any, by: Actor, at: datetime) -> None:
    factor.delete()
    audit_record(act, by=by, subject=user, at=at)
