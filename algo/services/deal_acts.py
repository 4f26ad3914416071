"""What a person does to a deal by hand: close it, move its stop, have its protection looked at, cancel its entry.

Each act is a few columns, a line in the deal's own history and one in the audit log, written together: `advance`, which
is called every second whether or not a message arrives, carries it out at the exchange. An act works with Redis dead,
and pressing twice is once. What does not fit is refused in a sentence, and then nothing was changed.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from algo.localised import digits, minute, zone_name
from algo.models import (
    Account,
    AccountState,
    Candle,
    CloseReason,
    Deal,
    DealStatus,
    EventKind,
    MarketQuote,
    Order,
    OrderEvent,
    Role,
)
from algo.models.fields import plain
from algo.risk.stops import better_price, stop_crossed, target_reached, trailing_stop
from algo.services.audit import Actor, audit_record
from algo.services.deal_events import amount_text, deal_payload, record_deal_event
from algo.services.outbox import event_record
from providers.clock import clock_from_env
from providers.types import OrderStatus, Resolution, Side

PRICE_MAX_AGE = 10.0  # wall seconds after which a streamed price says nothing about now
CANDLES_BACK = 3  # candles of the strategy, where no price is streamed: the newest close of these is taken
KEPT = _("Nothing was changed.")

__all__ = [
    "ActForbidden",
    "ActRefused",
    "LooserStop",
    "deal_close",
    "deal_reprotect",
    "deal_stop_move",
    "order_cancel",
]


class ActRefused(ValueError):
    """The act does not fit. The message says why and what does; nothing was changed."""


class ActForbidden(ActRefused, PermissionDenied):
    """Whoever asks may not act on this account: 403 at every door."""


class LooserStop(ActRefused):
    """The stop would move away from the price, so that more can be lost. Ask again with `looser_ok` if it is meant."""


@transaction.atomic
def deal_close(deal: Deal, *, by: Actor, at: datetime, reason: str = "") -> bool:
    """Close `deal` at the market, now. An entry that still works is cut off; what it got is sold (bought back).

    False where it is being closed already. ActRefused where it has ended.
    """
    row = _locked(deal, by)
    _refuse_ended(row)
    if row.exit_reason:
        return False
    why, old = _words("closed", by, reason), row.status
    if row.status == DealStatus.OPEN:
        row.status = DealStatus.EXITING
    row.exit_reason, row.note = CloseReason.MANUAL, why[:400]
    row.save(update_fields=["status", "exit_reason", "note"])
    record_deal_event(row, "exit", old, at, reason=CloseReason.MANUAL.value, why=why, by=by.name)
    audit_record("deal.close", by=by, subject=row, at=at, reason=reason, details={"status": old})
    return True


@transaction.atomic
def deal_stop_move(
    deal: Deal, stop_price: Decimal, *, by: Actor, at: datetime, reason: str = "", looser_ok: bool = False
) -> bool:
    """Move the stop of an open deal to `stop_price`, in quote. It is carried out like a trailing stop: the resting one
    is cancelled, that is confirmed, and the new one placed; the moment between counts as unprotected.

    False where it stands there already. LooserStop where it would move away from the price and that was not said to be
    meant; ActRefused where the price is through it already, where it lies beyond the target or off the tick, and where
    the deal has no position or is being closed. Trailing goes on from the new stop, and never lowers it.
    """
    row = _locked(deal, by)
    _refuse_unless_open(row)
    if stop_price == row.stop_price:
        return False
    _refuse_off_grid(row, stop_price)
    side, before = Side(row.side), row.stop_price
    if target_reached(side, row.target_price, stop_price):
        raise ActRefused(
            gettext("%(named)s lies on the far side of the target %(target_price)s. %(kept)s")
            % {"named": _named(stop_price), "target_price": _figure(row.target_price), "kept": KEPT}
        )
    price = _price_now(row, at)
    if row.crossed_at is not None or stop_crossed(side, stop_price, price):
        raise ActRefused(
            gettext(
                "The price is %(price)s, through a stop at %(stop_price)s or through the one that "
                "stands: it would be closed at once. Close the deal instead if that is what you want. "
                "%(kept)s"
            )
            % {"price": _figure(price), "stop_price": _figure(stop_price), "kept": KEPT}
        )
    is_looser = stop_price < before if side is Side.BUY else stop_price > before
    if is_looser:
        _refuse_looser(row, stop_price, price, looser_ok=looser_ok)
        row.stop_loosened += 1
    row.stop_price, row.trailed_at = stop_price, at
    row.save(update_fields=["stop_price", "trailed_at", "stop_loosened"])
    record_deal_event(
        row, "stop_moved", row.status, at, before=before, after=stop_price, why=_words("moved", by, reason), by=by.name
    )
    event_record(EventKind.STOP_MOVED, deal_payload(row), at=at, deal=row)
    details = {"from": amount_text(before), "to": amount_text(stop_price), "price": amount_text(price)}
    audit_record("deal.stop_move", by=by, subject=row, at=at, reason=reason, details=details)
    return True


@transaction.atomic
def deal_reprotect(deal: Deal, *, by: Actor, at: datetime, reason: str = "") -> bool:
    """Have the protection of an open deal compared with the exchange now: every order of it is read back at once, and
    a stop that is missing is placed, also where the exchange refused one a moment ago. Safe to repeat.

    True once it is asked for. ActRefused where the deal has no position or is being closed.
    """
    row = _locked(deal, by)
    _refuse_unless_open(row)
    row.look_asked_at = at
    row.save(update_fields=["look_asked_at"])
    record_deal_event(row, "look_asked", row.status, at, why=_words("asked for", by, reason), by=by.name)
    audit_record("deal.reprotect", by=by, subject=row, at=at, reason=reason)
    return True


@transaction.atomic
def order_cancel(order: Order, *, by: Actor, at: datetime, reason: str = "") -> bool:
    """Cancel an entry that still works; what was filled of it becomes a protected deal. False where it is being
    cancelled already. ActRefused for what has ended, and for orders that a position depends on."""
    row, deal = _locked_order(order, by)
    if OrderStatus(row.status).is_final:
        raise ActRefused(
            gettext("%(row)s has ended: %(status)s. %(kept)s")
            % {"row": row, "status": row.get_status_display().lower(), "kept": KEPT}
        )
    if row.role != Role.ENTRY:
        raise ActRefused(f"{_DUTIES[Role(row.role)].format(deal=deal.pk)} {KEPT}")
    if row.cancel_asked_at is not None or row.status == OrderStatus.CANCELING or deal.exit_reason:
        return False
    row.cancel_asked_at = at
    row.save(update_fields=["cancel_asked_at"])
    why = _words("cancel asked for", by, reason)
    OrderEvent.objects.create(order=row, at=at, from_status=row.status, to_status=row.status, reason=why[:400])
    details = {"deal": deal.pk, "status": row.status}
    audit_record("order.cancel", by=by, subject=row, at=at, reason=reason, details=details)
    return True


_DUTIES = {
    Role.STOP: _(
        "This stop protects deal {deal}, and a position must never be bare: close the deal, or move its stop."
    ),
    Role.TARGET: _("This is the target of deal {deal}, and would be placed again at once: close the deal instead."),
    Role.EXIT: _("This order closes deal {deal}, and would be placed again at once."),
}


# --- what is refused ------------------------------------------------------------------------------------------------


def _locked(deal: Deal, by: Actor) -> Deal:
    """The row as it stands, until the transaction ends."""
    rows = Deal.objects.select_for_update(of=("self",), no_key=True)
    row = rows.select_related("account", "market", "config", "config__data_market").get(pk=deal.pk)
    _refuse_stranger(row.account, by)
    _refuse_unreachable(row.account)
    return row


def _locked_order(order: Order, by: Actor) -> tuple[Order, Deal]:
    """Locked after its deal: the order in which rows are locked everywhere."""
    deal = Deal.objects.select_for_update(of=("self",), no_key=True).select_related("account").get(orders=order.pk)
    _refuse_stranger(deal.account, by)
    _refuse_unreachable(deal.account)
    return Order.objects.select_for_update(of=("self",), no_key=True).get(pk=order.pk), deal


def _refuse_stranger(account: Account, by: Actor) -> None:
    if not by.may_trade(account):
        raise ActForbidden(
            gettext("Only a Trader who owns the account %(account)s, or an Admin, may do this to its deals. %(kept)s")
            % {"account": account.name, "kept": KEPT}
        )


def _refuse_unreachable(account: Account) -> None:
    """An act that would wait for days would come as a surprise."""
    if account.state == AccountState.STOPPED:
        raise ActRefused(
            gettext(
                "The exchange refuses the key of %(account)s: nothing can be done there, and what rests "
                "stays. Enter a key that works and activate the account first. %(kept)s"
            )
            % {"account": account.name, "kept": KEPT}
        )
    if account.environment != settings.EXCHANGE_ENVIRONMENT:
        raise ActRefused(
            gettext(
                "%(account)s is a %(environment)s account, and EXCHANGE_ENVIRONMENT is "
                "%(EXCHANGE_ENVIRONMENT)s: nobody looks after it here. %(kept)s"
            )
            % {
                "account": account.name,
                "environment": account.environment,
                "EXCHANGE_ENVIRONMENT": settings.EXCHANGE_ENVIRONMENT,
                "kept": KEPT,
            }
        )


def _refuse_ended(row: Deal) -> None:
    if row.is_finished:
        ended = (
            gettext(" on %(closed_at)s %(zone)s") % {"zone": zone_name(), "closed_at": minute(row.closed_at)}
            if row.closed_at
            else ""
        )
        raise ActRefused(
            gettext("Deal %(row)s has ended%(ended)s: %(status)s. %(kept)s")
            % {"row": row.pk, "ended": ended, "status": row.get_status_display().lower(), "kept": KEPT}
        )


def _refuse_unless_open(row: Deal) -> None:
    _refuse_ended(row)
    if row.exit_reason or row.status == DealStatus.EXITING:
        raise ActRefused(
            gettext("Deal %(row)s is being closed: its stop makes way for the exit. %(kept)s")
            % {"row": row.pk, "kept": KEPT}
        )
    if row.status != DealStatus.OPEN:
        raise ActRefused(
            gettext(
                "Deal %(row)s is still entering: its stop is set and placed as soon as something is filled. %(kept)s"
            )
            % {"row": row.pk, "kept": KEPT}
        )


def _refuse_off_grid(row: Deal, stop_price: Decimal) -> None:
    tick = row.market.tick_size
    if not stop_price.is_finite() or not 0 < stop_price < Decimal("1e15"):
        raise ActRefused(gettext("A stop is a price above zero. %(kept)s") % {"kept": KEPT})
    if stop_price % tick:
        fits = stop_price // tick * tick
        raise ActRefused(
            gettext("%(named)s is off the tick of %(symbol)s (%(tick)s): %(fits)s or %(value)s would fit. %(kept)s")
            % {
                "named": _named(stop_price),
                "symbol": row.market.symbol,
                "tick": _figure(tick),
                "fits": _figure(fits),
                "value": _figure(fits + tick),
                "kept": KEPT,
            }
        )


def _refuse_looser(row: Deal, stop_price: Decimal, price: Decimal, *, looser_ok: bool) -> None:
    side, rules = Side(row.side), row.market.rules
    best = better_price(side, row.best_price or row.entry_price or price, price)
    step = Decimal(str(row.rules.get("trailing_step_percent", 0)))
    trails_to = trailing_stop(side, best, stop_price, row.trailing_stop_distance, step, rules)
    if trails_to is not None:
        raise ActRefused(
            gettext(
                "Deal %(row)s trails its best price at %(trailing_stop_distance)s %%: a stop at "
                "%(stop_price)s would be moved to %(trails_to)s again at once. %(kept)s"
            )
            % {
                "row": row.pk,
                "trailing_stop_distance": digits(f"{row.trailing_stop_distance:f}"),
                "stop_price": _figure(stop_price),
                "trails_to": _figure(trails_to),
                "kept": KEPT,
            }
        )
    if not looser_ok:
        raise LooserStop(
            gettext(
                "%(named)s is farther from the price than the stop that stands, %(stop_price)s: more can "
                "be lost. Confirm that it is meant. %(kept)s"
            )
            % {"named": _named(stop_price), "stop_price": _figure(row.stop_price), "kept": KEPT}
        )


def _price_now(row: Deal, at: datetime) -> Decimal:
    """The newest price of the market: what triggers its stops, by the stream; the close of the strategy's newest candle
    where nothing is streamed. ActRefused where neither is known."""
    clock, side = clock_from_env(), Side(row.side)
    quote = MarketQuote.objects.filter(market=row.market_id, as_of__gte=at - clock.wall(PRICE_MAX_AGE)).first()
    if quote is not None:
        closing = quote.bid if side is Side.BUY else quote.ask
        return closing if quote.last is None else quote.last
    resolution = Resolution(row.config.resolution)
    candles = Candle.objects.filter(
        market__in=(row.market_id, row.config.data_market_id),
        resolution=resolution.value,
        open_time__gte=at - (CANDLES_BACK + 1) * resolution.duration,
    )
    close = candles.order_by("-open_time").values_list("close", flat=True).first()
    if close is None:
        raise ActRefused(
            gettext(
                "No price of %(symbol)s is known that is new enough to judge a stop by. The stop stays "
                "where it is and protects; try again when the market's stream is back, or close the "
                "deal. %(kept)s"
            )
            % {"symbol": row.market.symbol, "kept": KEPT}
        )
    return close


def _named(stop_price: Decimal) -> str:
    return gettext("A stop at %(stop_price)s") % {"stop_price": _figure(stop_price)}


def _words(what: str, by: Actor, reason: str) -> str:
    return f"{what} by {by.name}: {reason}" if reason else f"{what} by {by.name}"


def _figure(value: Decimal) -> str:
    """Exact, ungrouped: as it is typed."""
    return digits(plain(value))
