"""The sidebar, and the label that says whether money is real."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from algo.localised import digits, isolated, zone_name
from algo.models import KillSwitch, Theme, Ticket
from algo.selectors.halts import switches_at_a_glance
from algo.selectors.visible import rows_seen


def environment(request: HttpRequest) -> list[str]:
    return [gettext("LIVE"), "danger"] if settings.EXCHANGE_ENVIRONMENT == "live" else [gettext("Paper"), "info"]


def subheader(request: HttpRequest) -> str:
    """What the pages are about, and in whose time they are written."""
    return gettext("Nobitex and Wallex · %(zone)s") % {"zone": isolated(zone_name())}


def theme(request: HttpRequest) -> str | None:
    """What the user chose for good; None leaves it to the switch of the page."""
    chosen = getattr(request, "theme", Theme.AUTO)
    return None if chosen == Theme.AUTO else str(chosen)


def account_links(request: HttpRequest) -> list[dict[str, str]]:
    """In the user's menu."""
    return [
        {"title": gettext("Preferences"), "link": reverse("preferences")},
        {"title": gettext("Change password"), "link": reverse("admin:password_change")},
        {"title": gettext("Second factor"), "link": reverse("second-factor")},
    ]


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """Groups of links to what this user may see, without those that would be empty."""
    groups = ({**_GROUP, **group} for group in _groups(request))
    return [{**group, "items": [{**_ITEM, **item} for item in group["items"]]} for group in groups if group["items"]]


# The theme asks for each of these, and looks long for a name that is missing.
_ITEM = {"badge": "", "link_callback": None}
_GROUP = {"title": "", "badge": "", "separator": False, "collapsible": False}


def _groups(request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {"items": [{"title": gettext("Dashboard"), "icon": "monitoring", "link": reverse("home"), "active": False}]},
        {"title": gettext("Trading"), "items": _allowed(request, _TRADING)},
        {"title": gettext("Control"), "separator": True, "items": _with_alarms(request, _allowed(request, _CONTROL))},
        {"title": gettext("Set up"), "separator": True, "items": _allowed(request, _SET_UP)},
        {"title": gettext("Notifications"), "separator": True, "items": _allowed(request, _NOTIFICATIONS)},
        {"title": gettext("Backtesting"), "separator": True, "items": _allowed(request, _BACKTESTING)},
        {"title": gettext("Journal"), "separator": True, "collapsible": True, "items": _allowed(request, _JOURNAL)},
        {"title": gettext("People"), "separator": True, "collapsible": True, "items": _allowed(request, _PEOPLE)},
        {"title": gettext("Elsewhere"), "separator": True, "items": _elsewhere()},
    ]


# title, icon, model
_TRADING = (
    (_("Deals"), "handshake", "algo.deal"),
    (_("Orders"), "receipt_long", "algo.order"),
    (_("Fills"), "done_all", "algo.fill"),
    (_("Signals"), "bolt", "algo.signal"),
)
_CONTROL = (
    (_("Kill switch"), "emergency_home", "algo.systemcontrol"),
    (_("Reconciliation inbox"), "confirmation_number", "algo.ticket"),
    (_("Heartbeats"), "ecg_heart", "algo.heartbeat"),
    (_("Schedules"), "schedule", "django_celery_beat.periodictask"),
)
_SET_UP = (
    (_("Strategies"), "strategy", "algo.strategyconfig"),
    (_("Accounts"), "key", "algo.account"),
    (_("Markets"), "storefront", "algo.market"),
    (_("Candle fetches"), "candlestick_chart", "algo.candlefetch"),
)
_NOTIFICATIONS = (
    (_("Channels"), "notifications", "algo.notificationchannel"),
    (_("Delivery log"), "outgoing_mail", "algo.delivery"),
    (_("Inbound keys"), "vpn_key", "algo.inboundkey"),
    (_("Inbound signals"), "move_to_inbox", "algo.inboundalert"),
)
_BACKTESTING = (
    (_("Backtests"), "science", "algo.backtestrun"),
    (_("Optimisations"), "tune", "algo.optimisationrun"),
    (_("Live against backtest"), "compare_arrows", "algo.parityreport"),
)
_JOURNAL = (
    (_("Decisions"), "menu_book", "algo.decision"),
    (_("Audit log"), "policy", "algo.auditrecord"),
    (_("Outbox"), "outbox", "algo.outboxevent"),
    (_("Probe orders"), "troubleshoot", "algo.probeorder"),
)
_PEOPLE = (
    (_("Users"), "person", "auth.user"),
    (_("Groups"), "groups", "auth.group"),
    (_("API tokens"), "password", "knox.authtoken"),
)


def _allowed(request: HttpRequest, entries: tuple[tuple[Any, str, str], ...]) -> list[dict[str, Any]]:
    return [
        {"title": title, "icon": icon, "link": reverse(f"admin:{label.replace('.', '_')}_changelist"), "model": label}
        for title, icon, label in entries
        if request.user.has_perm(label.replace(".", ".view_"))
    ]


def _with_alarms(request: HttpRequest, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    alarms = {"algo.ticket": _open_tickets, "algo.systemcontrol": _kill_switch_on}
    for item in items:
        if alarm := alarms.get(item["model"], lambda _: "")(request):
            item |= {"badge": alarm, "badge_variant": "danger", "badge_style": "solid"}
    return items


def _open_tickets(request: HttpRequest) -> str:
    return digits(rows_seen(request.user, Ticket.objects.all()).filter(resolved_at=None).count() or "")


def _kill_switch_on(request: HttpRequest) -> str:
    level, in_part = switches_at_a_glance()
    return gettext("on") if level != KillSwitch.OFF else gettext("in part") if in_part else ""


def _elsewhere() -> list[dict[str, Any]]:
    return [
        {"title": gettext("Task monitor (Flower)"), "icon": "local_florist", "link": settings.FLOWER_URL},
        {"title": gettext("API"), "icon": "api", "link": reverse("api-docs")},
    ]
