"""The three roles and what Django lets each do. What a role may do to one row, `selectors.rights` says."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.models import Q

from algo.selectors.rights import Role

# Nobody's account leads to these: an Admin alone sees and writes them.
_ADMINS_ONLY = ("outboxevent", "tokengrant", "keptanswer", "secondfactor", "recoverycode")
# One's own, whatever the role.
_EVERYBODY_WRITES = ("add_notificationchannel", "change_notificationchannel", "delete_notificationchannel")
_TRADERS_WRITE = (
    "add_inboundkey",
    "change_inboundkey",
    "add_account",
    "change_account",
    "add_strategyconfig",
    "change_strategyconfig",
    "delete_strategyconfig",
    "add_backtestrun",
    "change_backtestrun",
    "add_optimisationrun",
    "change_optimisationrun",
    "change_deal",
    "change_order",
    "change_halt",
    "change_ticket",
)
_OF_PEOPLE = (("auth", "user"), ("auth", "group"), ("knox", "authtoken"))


def roles_ensure(**_: Any) -> None:
    """Make the three groups and give each exactly its permissions, as far as their tables exist yet. Safe to repeat; it
    runs after every `migrate`."""
    for role, permissions in (
        (Role.VIEWER, _viewer()),
        (Role.TRADER, _viewer() | _of_algo(Q(codename__in=_TRADERS_WRITE))),
        (Role.ADMIN, Permission.objects.filter(_all_of_admin())),
    ):
        group = Group.objects.get_or_create(name=role.value)[0]
        _give(group, permissions)


def _give(group: Group, permissions: Iterable[Permission]) -> None:
    """Writes what differs only: two processes that migrate at once do not undo each other's work."""
    group.permissions.set({permission.pk for permission in permissions})


def _of_algo(which: Q) -> Any:
    return Permission.objects.filter(Q(content_type__app_label="algo") & which)


def _viewer() -> Any:
    seen = Q(codename__startswith="view_") & ~Q(content_type__model__in=_ADMINS_ONLY)
    return _of_algo(seen | Q(codename__in=_EVERYBODY_WRITES))


def _all_of_admin() -> Q:
    people = Q()
    for app, model in _OF_PEOPLE:
        people |= Q(content_type__app_label=app, content_type__model=model)
    return Q(content_type__app_label__in=("algo", "django_celery_beat")) | people
