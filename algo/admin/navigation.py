"""The sidebar, and the label that says whether money is real."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from algo.models import KillSwitch, Ticket
from algo.selectors.halts import switches_at_a_glance


def environment(request: HttpRequest) -> list[str]:
    return ["LIVE", "danger"] if settings.EXCHANGE_ENVIRONMENT == "live" else ["Paper", "info"]


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Groups of links to what this user may see."""
    return [
        {"title": "Trading", "items": _allowed(request, _TRADING)},
        {"title": "Control", "separator": True, "items": _with_alarms(_allowed(request, _CONTROL))},
        {"title": "Set up", "separator": True, "items": _allowed(request, _SET_UP)},
        {"title": "Backtesting", "separator": True, "items": _allowed(request, _BACKTESTING)},
        {"title": "Journal", "separator": True, "collapsible": True, "items": _allowed(request, _JOURNAL)},
        {"title": "People", "separator": True, "collapsible": True, "items": _allowed(request, _PEOPLE)},
        {"title": "Elsewhere", "separator": True, "items": _elsewhere()},
    ]


# title, icon, model
_TRADING = (
    ("Deals", "handshake", "algo.deal"),
    ("Orders", "receipt_long", "algo.order"),
    ("Fills", "done_all", "algo.fill"),
    ("Signals", "bolt", "algo.signal"),
)
_CONTROL = (
    ("Kill switch", "emergency_home", "algo.systemcontrol"),
    ("Tickets", "confirmation_number", "algo.ticket"),
    ("Heartbeats", "ecg_heart", "algo.heartbeat"),
    ("Schedules", "schedule", "django_celery_beat.periodictask"),
)
_SET_UP = (
    ("Strategies", "strategy", "algo.strategyconfig"),
    ("Accounts", "key", "algo.account"),
    ("Markets", "storefront", "algo.market"),
)
_BACKTESTING = (
    ("Backtests", "science", "algo.backtestrun"),
    ("Optimisations", "tune", "algo.optimisationrun"),
    ("Live against backtest", "compare_arrows", "algo.parityreport"),
)
_JOURNAL = (
    ("Decisions", "menu_book", "algo.decision"),
    ("Outbox", "outbox", "algo.outboxevent"),
    ("Probe orders", "troubleshoot", "algo.probeorder"),
)
_PEOPLE = (
    ("Users", "person", "auth.user"),
    ("Groups", "groups", "auth.group"),
    ("API tokens", "password", "knox.authtoken"),
)


def _allowed(request: HttpRequest, entries: tuple[tuple[str, str, str], ...]) -> list[dict[str, Any]]:
    return [
        {"title": title, "icon": icon, "link": reverse(f"admin:{label.replace('.', '_')}_changelist"), "model": label}
        for title, icon, label in entries
        if request.user.has_perm(label.replace(".", ".view_"))
    ]


def _with_alarms(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    alarms = {"algo.ticket": _open_tickets, "algo.systemcontrol": _kill_switch_on}
    for item in items:
        if alarm := alarms.get(item["model"], lambda: "")():
            item |= {"badge": alarm, "badge_variant": "danger", "badge_style": "solid"}
    return items


def _open_tickets() -> str:
    return str(Ticket.objects.filter(resolved_at=None).count() or "")


def _kill_switch_on() -> str:
    level, in_part = switches_at_a_glance()
    return "on" if level != KillSwitch.OFF else "in part" if in_part else ""


def _elsewhere() -> list[dict[str, Any]]:
    return [
        {"title": "Task monitor (Flower)", "icon": "local_florist", "link": settings.FLOWER_URL},
        {"title": "API", "icon": "api", "link": reverse("api-docs")},
    ]
