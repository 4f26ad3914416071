"""What the page is told once: addresses, words, and which strategies can be drawn."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from algo.localised import ENGLISH, PERSIAN, reader, unit
from algo.models import DealStatus, Provider, Theme
from algo.risk.codes import DenialCode
from algo.selectors.equity import CURRENCIES, Span
from algo.selectors.visible import strategies_visible
from algo.version import VERSION
from providers.clock import Clock

DRAWN = 50  # strategies to choose from
SIGNALS = 30  # rows of the list
DEALS = 100  # live ones that are shown


def page_context(request: HttpRequest, clock: Clock) -> dict[str, Any]:
    """One query, for the strategies."""
    chosen = getattr(request, "theme", Theme.AUTO)
    drawn = strategies_visible(request.user).order_by("status", "name")[:DRAWN]
    who = reader()
    other = PERSIAN if who.language == ENGLISH else ENGLISH
    return {
        "version": VERSION,
        "reader": who,
        "other": {"code": other, "name": dict(settings.LANGUAGES)[other]},
        "theme": "" if chosen == Theme.AUTO else chosen,
        "is_live": settings.EXCHANGE_ENVIRONMENT == "live",
        "spans": [
            (Span.DAY.value, _("Day")),
            (Span.WEEK.value, _("Week")),
            (Span.MONTH.value, _("Month")),
            (Span.ALL.value, _("All")),
        ],
        "currencies": [(CURRENCIES[0], _("USDT")), (CURRENCIES[1], _("Toman"))],
        "drawn": drawn,
        "told": {
            "urls": _addresses(),
            "words": words(),
            "limits": {"deals": DEALS, "signals": SIGNALS},
            "zone": str(who.zone),
            "clock": {"now": clock.now().timestamp() * 1000, "speed": clock.speed},
        },
    }


def _addresses() -> dict[str, str]:
    live = [f"status={status}" for status in LIVE_DEALS]
    return {
        "live": f"{settings.LIVE_URL}/live/events",
        "state": reverse("dashboard-state"),
        "equity": reverse("dashboard-equity"),
        "quotes": reverse("dashboard-quotes"),
        "chart": reverse("dashboard-chart", args=[0]),
        "deals": f"{reverse('v1:deal-list')}?limit={DEALS}&{'&'.join(live)}",
        "signals": f"{reverse('v1:signal-list')}?limit={SIGNALS}",
        "deal": reverse("admin:algo_deal_change", args=[0]),
        "signal": reverse("admin:algo_signal_change", args=[0]),
    }


LIVE_DEALS = (DealStatus.PLANNED, DealStatus.ENTERING, DealStatus.OPEN, DealStatus.EXITING)


def words() -> dict[str, Any]:
    """Everything that the scripts say."""
    return {
        "connection": {
            "connecting": _("Connecting …"),
            "live": pgettext("connection", "Live"),
            "lost": _("Connection lost, trying again …"),
            "polling": _("Not live: looking every 15 seconds"),
            "waiting": _("Updates wait: the queue of events does not answer"),
        },
        "units": {asset: unit(asset) for asset in ("TMN", "IRT")},
        "providers": {provider.value: str(provider.label) for provider in Provider},
        "sides": {"BUY": _("Buy"), "SELL": _("Sell")},
        "statuses": {
            DealStatus.PLANNED.value: _("Planned"),
            DealStatus.ENTERING.value: _("Entering"),
            DealStatus.OPEN.value: _("Open"),
            DealStatus.EXITING.value: _("Exiting"),
        },
        "protection": {
            "protected": _("Protected"),
            "bare": _("Unprotected for %s s"),
            "waits": _("Nothing filled yet"),
            "NATIVE_OCO": _("stop and target as one order"),
            "FREE_STOPS": _("stop and target side by side"),
            "LOCKING_STOPS": _("stop at the exchange"),
            "NO_STOPS": _("by the guardian alone"),
        },
        "reasons": {
            "BREAKOUT": _("the candle closed beyond the last highs or lows, with volume"),
            "MOMENTUM": _("the fast average crossed the slow one, and the move is strong enough"),
            "ORDER_BOOK": _("the order book leans to one side"),
        },
        "denials": {code.value: text for code, text in denial_words().items()},
        "signal": {
            "entered": _("deal %s"),
            "denied": _("denied: %s"),
            "nothing": _("no deal"),
        },
        "chart": {
            "summary": _("%(market)s, last close %(close)s. Entries shown: %(entries)s, exits: %(exits)s."),
            "empty": _("No candles of this market are stored yet."),
            "entry": _("Entry"),
            "exit": _("Exit"),
            "stop": _("Stop"),
            "target": _("Target"),
            "average": _("EMA %s"),
            "bids": _("Bids %s of the best five levels"),
            "failed": _("The chart could not be loaded; it is tried again."),
        },
        "equity": {
            "summary": _("%(total)s %(currency)s earned after fees in this time."),
            "empty": _("No deal was closed in this time."),
            "sources": _("Turned at the price of USDT of the time: %s."),
            "left_out": _(
                "Left out: %(deals)s deals, %(profit)s %(quote)s. No price of their time is known here "
                "(%(first)s to %(last)s)."
            ),
        },
        "said": {
            "opened": _("Deal opened: %(market)s, %(strategy)s"),
            "closed": _("Deal closed: %(market)s, %(strategy)s"),
        },
        "theme": {"auto": _("Theme: like the system"), "light": _("Theme: light"), "dark": _("Theme: dark")},
    }


def denial_words() -> dict[DenialCode, str]:
    """Why no deal was made, in a few words; the exact numbers stand in the signal itself."""
    return {
        DenialCode.KILL_SWITCH: _("the kill switch is on"),
        DenialCode.ACCOUNT_PAUSED: _("the account is paused or stopped"),
        DenialCode.KEY_EXPIRING: _("the API key is about to expire"),
        DenialCode.MARKET_BLOCKED: _("the market is closed or blocked"),
        DenialCode.STRATEGY_NOT_ORDERING: _("the strategy only records signals"),
        DenialCode.SIDE_NOT_ALLOWED: _("this side is not allowed here"),
        DenialCode.STALE_DATA: _("candles, book or balances are too old"),
        DenialCode.SPREAD_TOO_WIDE: _("the spread is too wide"),
        DenialCode.BASIS_TOO_WIDE: _("the two exchanges are too far apart"),
        DenialCode.OPEN_DEAL_EXISTS: _("a deal on this market is open already"),
        DenialCode.MAX_OPEN_DEALS: _("the account has as many open deals as it may"),
        DenialCode.MAX_EXPOSURE: _("too much of the equity would be in deals"),
        DenialCode.COOLDOWN: _("the pause after the last entry is not over"),
        DenialCode.DAILY_TRADES: _("the entries of the day are used up"),
        DenialCode.DAILY_LOSS: _("the loss limit of the day is reached"),
        DenialCode.RUNAWAY: _("far too many entries in ten minutes: the account was paused"),
        DenialCode.BELOW_MINIMUM: _("the size is below the exchange's minimum"),
        DenialCode.INSUFFICIENT_BALANCE: _("the balance is too small"),
        DenialCode.THIN_BOOK: _("the order book is too thin for the size"),
        DenialCode.STOP_NOT_PLACEABLE: _("its stop could not be placed"),
    }
