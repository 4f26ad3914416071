"""Who has a second factor, and who must."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from django.conf import settings

from algo.models import SecondFactor
from algo.selectors.rights import Role, role_of


class Policy(StrEnum):
    """TWO_FACTOR: who may do nothing without one."""

    OPTIONAL = "optional"
    ADMINS = "admins"
    STAFF = "staff"


class Standing(StrEnum):
    """How the sign-in of a session stands."""

    ENOUGH = "enough"
    TO_SET_UP = "to_set_up"  # the user must have a second factor, and has none
    NOT_PROVED = "not_proved"  # the user has one, and this session began without it


def factor_of(user: Any) -> SecondFactor | None:
    """The one that counts."""
    factor: SecondFactor | None = SecondFactor.objects.filter(user=user.pk, confirmed=True).first()
    return factor


def factor_demanded(user: Any) -> bool:
    """Whether this user may act with a second factor only."""
    policy = Policy(settings.TWO_FACTOR)
    if policy is Policy.OPTIONAL:
        return False
    return role_of(user) is Role.ADMIN or (policy is Policy.STAFF and bool(user.is_staff))


def standing_of(user: Any) -> Standing:
    """Of the session of a signed-in user; `user.otp_device` is what the session was proved with."""
    if getattr(user, "otp_device", None) is not None:
        return Standing.ENOUGH
    if factor_of(user) is not None:
        return Standing.NOT_PROVED
    return Standing.TO_SET_UP if factor_demanded(user) else Standing.ENOUGH
