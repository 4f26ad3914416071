"""The admin's front page: is it trading, is everything protected, is everybody alive?"""

from __future__ import annotations

from datetime import datetime
from decimal import Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from algo.admin.base import amount_text, badge, choice_badge, table
from algo.admin.journal import why_link
from algo.admin.ledger import deal_profit_badge, deal_status_badge
from algo.admin.strategy_form import resolution_label
from algo.localised import digits, money, number, percent
from algo.models import Deal, KillSwitch, Provider, StrategyConfig
from algo.selectors.alarms import Alarm, alarms, candle_age, candle_is_late
from algo.selectors.halts import halts_seen
from algo.selectors.health import STREAM, ExchangeHealth, Life, ProcessHealth
from algo.selectors.home import (
    SHOWN,
    Glance,
    entries_today,
    glance,
    recent_deals,
    rule_of,
    running_series,
    unprotected_deals,
)
from algo.selectors.story import bare_seconds_now
from algo.selectors.today import Today, today
from providers.clock import clock_from_env
from providers.types import Resolution

TEMPLATE = "algo/admin/home.html"
EIGHT_DIGITS = Context(prec=8)


def home(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Adds the cards and the last deals for those who may see deals."""
    if not request.user.has_perm("algo.view_deal"):
        return context
    clock = clock_from_env()
    now = clock.now()
    midnight = now.astimezone(ZoneInfo(settings.TRADING_DAY_TIME_ZONE)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    state = glance(request.user, now, day_start=midnight, speed=clock.speed)
    made, configs = today(request.user, midnight), list(running_series(request.user))
    return {
        **context,
        "alarms": [_linked(alarm) for alarm in alarms(state, made, configs, halts_seen(request.user, SHOWN), now)],
        "cards": _cards(state),
        "heartbeats": [_process(each) for each in state.processes],
        "exchanges": [_exchange(each) for each in state.exchanges],
        "front_tables": {
            gettext("Unprotected right now"): _unprotected_table(request, now),
            gettext("Today"): _today_table(made),
            gettext("Running strategies"): _series_table(configs, now, midnight),
        },
        "deals_table": _deals_table(request),
    }


def _cards(state: Glance) -> list[dict[str, Any]]:
    stopped, ending = state.accounts.stopped, state.accounts.keys_ending
    trading = state.kill_switch == KillSwitch.OFF.label
    return [
        _card(
            gettext("Strategies running"),
            gettext("%(running_strategies)s of %(strategies)s")
            % {"running_strategies": number(state.running_strategies), "strategies": number(state.strategies)},
            "strategyconfig",
        ),
        _card(gettext("Open deals"), number(state.open_deals), "deal", "?status__exact=OPEN"),
        _card(
            gettext("Unprotected right now"), number(state.unprotected_deals), "deal", alarm=state.unprotected_deals > 0
        ),
        _card(gettext("Deals closed today"), number(state.closed_today), "deal", "?status__exact=CLOSED"),
        _card(gettext("Open tickets"), number(state.open_tickets), "ticket", alarm=state.open_tickets > 0),
        _card(gettext("Accounts stopped"), number(stopped), "account", "?state__exact=stopped", alarm=stopped > 0),
        _card(gettext("Keys that expire soon"), number(ending), "account", alarm=ending > 0),
        _card(gettext("Kill switch"), gettext("Off") if trading else gettext("On"), "systemcontrol", alarm=not trading),
    ]


def _linked(alarm: Alarm) -> dict[str, str]:
    place = f"admin:algo_{alarm.model}"
    link = reverse(f"{place}_changelist") if alarm.pk is None else reverse(f"{place}_change", args=[alarm.pk])
    return {"text": alarm.text, "link": link}


def _card(title: str, value: str, model: str, query: str = "", *, alarm: bool = False) -> dict[str, Any]:
    return {
        "title": title,
        "value": value,
        "link": reverse(f"admin:algo_{model}_changelist") + query,
        "class": "text-red-600 dark:text-red-500" if alarm else "",
    }


LIVES = {
    Life.ALIVE: ("success", ""),
    Life.ALONE: ("warning", _(" · no connection, prices by REST")),
    Life.BUSY: ("warning", _(" · busy with backtests")),
    Life.SILENT: ("danger", _(" · SILENT")),
}


def _process(process: ProcessHealth) -> str:
    """Green, yellow for what the house can do without for a while, red for what must be looked at."""
    if process.age is None:
        stream = process.name.startswith(STREAM)
        return badge(
            gettext("%(process)s · never reported") % {"process": process.name}, "warning" if stream else "danger"
        )
    kind, words = LIVES[process.life]
    return badge(
        gettext("%(process)s · %(age)s s ago%(words)s")
        % {"process": process.name, "age": digits(f"{process.age:.0f}"), "words": words},
        kind,
    )


def _exchange(exchange: ExchangeHealth) -> str:
    name = Provider(exchange.name).label
    if not exchange.known:
        return badge(gettext("%(name)s · not known: nobody who calls it has reported") % {"name": name}, "warning")
    if exchange.is_away:
        return badge(
            gettext("%(name)s · DOES NOT ANSWER %(open_at)s") % {"name": name, "open_at": ", ".join(exchange.open_at)},
            "danger",
        )
    if exchange.answered is None:
        return badge(gettext("%(name)s · not asked yet") % {"name": name})
    failed = (
        gettext(", but lately not %(open_at)s") % {"open_at": ", ".join(exchange.open_at)} if exchange.open_at else ""
    )
    return badge(
        gettext("%(name)s · answered %(answered)s s ago%(failed)s")
        % {"name": name, "answered": digits(f"{exchange.answered:.0f}"), "failed": failed},
        "warning" if failed else "success",
    )


def _unprotected_table(request: HttpRequest, now: datetime) -> dict[str, Any]:
    rows = [
        [
            _deal_link(deal),
            str(deal.market),
            deal.config.name,
            badge(
                gettext("unprotected for %(bare_seconds_now)s s")
                % {"bare_seconds_now": digits(f"{bare_seconds_now(deal, now):.0f}")},
                "danger",
            ),
        ]
        for deal in unprotected_deals(request.user)
    ]
    return table([gettext("Deal"), gettext("Market"), gettext("Strategy"), gettext("Since")], rows)


def _today_table(made: list[Today]) -> dict[str, Any]:
    rows = [
        [
            _link("account", row.account_id, row.account),
            badge(_money(row.profit, row), _sign(row.profit)),
            badge(_money(row.open_profit, row), _sign(row.open_profit)),
            _against_limit(row),
            str(row.closed),
        ]
        for row in made[:SHOWN]
    ]
    heads = [
        gettext("Account"),
        gettext("Closed today, after fees"),
        gettext("Open now, before fees"),
        gettext("Loss against its limit"),
        gettext("Deals closed"),
    ]
    return table(heads, rows)


def _money(amount: Decimal, row: Today) -> str:
    return money(amount.normalize(EIGHT_DIGITS), row.quote)


def _sign(amount: Decimal) -> str:
    return "success" if amount > 0 else "danger" if amount < 0 else ""


def _against_limit(row: Today) -> str:
    """Yellow from half of it on, red where it is reached: its strategies enter nothing more today."""
    if row.limit_percent is None:
        return badge(gettext("no limit"))
    share = percent(row.limit_percent)
    if row.limit is None:
        return badge(
            gettext("%(lost)s of %(share)s, balances not read yet") % {"lost": _money(row.lost, row), "share": share},
            "warning",
        )
    kind = "danger" if row.is_reached else "warning" if 2 * row.lost >= row.limit > 0 else "success"
    return badge(
        gettext("%(lost)s of %(limit)s (%(share)s)")
        % {"lost": _money(row.lost, row), "limit": _money(row.limit, row), "share": share},
        kind,
    )


def _series_table(configs: list[StrategyConfig], now: datetime, day_start: datetime) -> dict[str, Any]:
    entries = entries_today(configs, day_start)
    rows = [
        [
            _link("strategyconfig", config.pk, config.name),
            f"{config.market} · {resolution_label(Resolution(config.resolution))}",
            _candle_age(config, now),
            f"{entries.get(config.pk, 0)} of {rule_of(config, 'max_daily_trades')}",
            f"{rule_of(config, 'max_daily_loss_percent')} %",
            why_link(config.pk),
        ]
        for config in configs
    ]
    heads = [
        gettext("Strategy"),
        gettext("Market"),
        gettext("Last candle closed"),
        gettext("Entries today"),
        gettext("Daily loss limit"),
        gettext("Journal"),
    ]
    return table(heads, rows)


def _candle_age(config: StrategyConfig, now: datetime) -> str:
    if config.last_bar_at is None:
        return badge(gettext("none yet"), "warning")
    return badge(
        f"{candle_age(config, now).total_seconds():.0f} s ago", "danger" if candle_is_late(config, now) else "success"
    )


def _link(model: str, pk: int, text: str) -> str:
    return format_html('<a class="text-link" href="{}">{}</a>', reverse(f"admin:algo_{model}_change", args=[pk]), text)


def _deal_link(deal: Deal) -> str:
    return _link("deal", deal.pk, gettext("Deal %(deal)s") % {"deal": digits(deal.pk)})


def _deals_table(request: HttpRequest) -> dict[str, Any]:
    heads = [
        gettext("Deal"),
        gettext("Market"),
        gettext("Strategy"),
        gettext("Side"),
        gettext("Status"),
        gettext("Entry"),
        gettext("Profit"),
    ]
    return table(heads, [_deal_row(deal) for deal in recent_deals(request.user)])


def _deal_row(deal: Deal) -> list[str]:
    return [
        _deal_link(deal),
        str(deal.market),
        deal.config.name,
        choice_badge(deal, "side"),
        deal_status_badge(deal),
        amount_text(deal.entry_price),
        deal_profit_badge(deal),
    ]
