"""The admin's front page: is it trading, is everything protected, is everybody alive?"""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html

from algo.admin.base import amount_text, badge
from algo.admin.ledger import deal_profit_badge, deal_status_badge
from algo.models import Deal, KillSwitch
from algo.selectors.home import Glance, glance, recent_deals
from providers.clock import clock_from_env

TEMPLATE = "algo/admin/home.html"
STALE_SECONDS = 120.0


def home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Adds the cards and the last deals for those who may see deals."""
    if not request.user.has_perm("algo.view_deal"):
        return context
    clock = clock_from_env()
    now = clock.now()
    midnight = now.astimezone(ZoneInfo(settings.TRADING_DAY_TIME_ZONE)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    state = glance(now, day_start=midnight, speed=clock.speed)
    return {**context, "cards": _cards(state), "heartbeats": _heartbeats(state), "deals_table": _deals_table()}


def _cards(state: Glance) -> list[dict[str, Any]]:
    stopped, ending = state.accounts.stopped, state.accounts.keys_ending
    trading = state.kill_switch == KillSwitch.OFF.label
    return [
        _card("Strategies running", f"{state.running_strategies} of {state.strategies}", "strategyconfig"),
        _card("Open deals", str(state.open_deals), "deal", "?status__exact=OPEN"),
        _card("Unprotected right now", str(state.unprotected_deals), "deal", alarm=state.unprotected_deals > 0),
        _card("Deals closed today", str(state.closed_today), "deal", "?status__exact=CLOSED"),
        _card("Open tickets", str(state.open_tickets), "ticket", alarm=state.open_tickets > 0),
        _card("Accounts stopped", str(stopped), "account", "?state__exact=stopped", alarm=stopped > 0),
        _card("Keys that expire soon", str(ending), "account", alarm=ending > 0),
        _card("Kill switch", "Off" if trading else state.kill_switch, "systemcontrol", alarm=not trading),
    ]


def _card(title: str, value: str, model: str, query: str = "", *, alarm: bool = False) -> dict[str, Any]:
    return {
        "title": title,
        "value": value,
        "link": reverse(f"admin:algo_{model}_changelist") + query,
        "class": "text-red-600 dark:text-red-500" if alarm else "",
    }


def _heartbeats(state: Glance) -> list[str]:
    """One label for each process, red where it has been silent for too long, yellow for a stream without connection."""
    return [_heartbeat(name, age, connected=name not in state.silent_streams) for name, age in state.heartbeats.items()]


def _heartbeat(name: str, age: float, *, connected: bool) -> str:
    colour = "danger" if age >= STALE_SECONDS else "success" if connected else "warning"
    return badge(f"{name} · {age:.0f} s ago{'' if connected else ' · no connection, prices by REST'}", colour)


def _deals_table() -> dict[str, Any]:
    return {
        "headers": ["Deal", "Market", "Strategy", "Side", "Status", "Entry", "Profit"],
        "rows": [_deal_row(deal) for deal in recent_deals()],
    }


def _deal_row(deal: Deal) -> list[str]:
    address = reverse("admin:algo_deal_change", args=[deal.pk])
    return [
        format_html('<a class="text-link" href="{}">Deal {}</a>', address, deal.pk),
        str(deal.market),
        deal.config.name,
        badge(deal.side.capitalize()),
        deal_status_badge(deal),
        amount_text(deal.entry_price),
        deal_profit_badge(deal),
    ]
