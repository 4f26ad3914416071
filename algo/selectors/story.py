"""What happened to one deal, in the order of time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from algo.localised import digits, minute, unit, zone_name
from algo.models import CloseReason, Deal, DealEvent, DealStatus, Fill, Order, OrderEvent, Signal
from algo.models.fields import plain
from algo.phrases import told

DENIALS_SHOWN = 50  # of one deal: a strategy that keeps asking for weeks must not make its page endless

_TITLES = {
    "status": _("Deal changed"),
    "stop_moved": _("Stop moved"),
    "exit": _("Exit decided"),
    "swap": _("Stop and target swapped"),
    "protected": _("Protected again"),
    "unprotected": _("Unprotected"),
    "reopened": _("Opened again"),
    "look_asked": _("Look at the protection asked for"),
}
# What comes first where two things bear the same time.
_RANK = {"signal": 0, "planned": 1, "ended": 9}


@dataclass(frozen=True, slots=True)
class StoryLine:
    """One thing that happened. `at` is aware UTC; amounts in `details` are exact text, prices in quote.

    `kind` is one of: signal, planned, denial, order, fill, ended, and the kinds of `DealEvent`.
    """

    at: datetime
    kind: str
    title: str
    text: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def deal_fills(deal: Deal) -> QuerySet[Fill]:
    """With what their orders were for."""
    rows = Fill.objects.filter(order__deal=deal).select_related("order").order_by("executed_at", "id")
    return rows.only("executed_at", "price", "quantity", "fee", "fee_asset", "trade_id", "order__role")


def deal_events(deal: Deal) -> QuerySet[OrderEvent]:
    """Changes of its orders, with what the story tells of both: raw answers may be long."""
    rows = OrderEvent.objects.filter(order__deal=deal).select_related("order").order_by("at", "id")
    told = ("role", "client_order_id", "quantity", "price", "stop_price")
    return rows.only("at", "from_status", "to_status", "reason", *(f"order__{name}" for name in told))


def deal_story(deal: Deal) -> list[StoryLine]:
    """Everything that happened to `deal`, oldest first. Four queries, and those of its market and signal where they are
    not loaded, however long it lived."""
    events = DealEvent.objects.filter(deal=deal).order_by("at", "id")
    lines = [
        *_begun(deal),
        *(_denial(signal) for signal in deal_denials(deal)),
        *(_order_change(event) for event in deal_events(deal)),
        *(_fill(fill, deal.market.quote) for fill in deal_fills(deal)),
        *(_deal_change(event) for event in events),
        *_ended(deal),
    ]
    return sorted(lines, key=lambda line: (line.at, _RANK.get(line.kind, 5)))


def deal_denials(deal: Deal) -> QuerySet[Signal]:
    """Other signals of its strategy that were denied while it lived: the first `DENIALS_SHOWN` of them."""
    rows = Signal.objects.filter(config=deal.config_id, created_at__gte=deal.created_at).exclude(denial_code="")
    if deal.closed_at is not None:
        rows = rows.filter(created_at__lte=deal.closed_at)
    return rows.order_by("created_at", "id")[:DENIALS_SHOWN]


def bare_seconds_now(deal: Deal, now: datetime) -> float:
    """Seconds for which it has been unprotected without a break; 0 while it is protected."""
    return 0.0 if deal.unprotected_since is None else max((now - deal.unprotected_since) / timedelta(seconds=1), 0.0)


def risk_multiple(deal: Deal) -> Decimal | None:
    """Profit after fees in units of what the first stop put at risk (R), to two digits; None while it is not closed or
    where nothing was at risk."""
    if deal.profit is None or deal.entry_price is None:
        return None
    at_risk = abs(deal.entry_price - deal.initial_stop_price) * deal.entry_quantity
    return (deal.profit / at_risk).quantize(Decimal("0.01")) if at_risk else None


def held_time(deal: Deal, now: datetime) -> timedelta | None:
    """From its first fill to its end, or until `now`, in whole seconds; None while it has not opened."""
    if deal.opened_at is None:
        return None
    return timedelta(seconds=max(int(((deal.closed_at or now) - deal.opened_at).total_seconds()), 0))


def _begun(deal: Deal) -> Iterator[StoryLine]:
    signal = deal.signal
    if signal is not None:
        details = {"confidence": _amount(signal.confidence), "price": _amount(signal.price), **signal.indicators}
        yield StoryLine(
            signal.created_at,
            "signal",
            gettext("%(side)s signal: %(reason)s") % {"side": signal.get_side_display(), "reason": told(signal.reason)},
            gettext("At the close of the candle of %(bar_open_at)s %(zone)s.")
            % {"zone": zone_name(), "bar_open_at": minute(signal.bar_open_at)},
            details,
        )
    plan = {
        "quantity": _amount(deal.planned_quantity),
        "price": _amount(deal.planned_price),
        "stop": _amount(deal.initial_stop_price),
        "target": _amount(deal.target_price),
    }
    yield StoryLine(deal.created_at, "planned", gettext("Deal planned"), "" if signal else deal.note, plan)


def _denial(signal: Signal) -> StoryLine:
    return StoryLine(
        signal.created_at,
        "denial",
        gettext("%(side)s signal denied: %(denial_code)s")
        % {"side": signal.get_side_display(), "denial_code": signal.denial_code},
        signal.denial_message,
        {"code": signal.denial_code, "signal": signal.pk, "price": _amount(signal.price)},
    )


def _order_change(event: OrderEvent) -> StoryLine:
    order = event.order
    if event.from_status == event.to_status:
        title = gettext("%(role)s order: %(status)s still") % {
            "role": order.get_role_display(),
            "status": _spoken(event.to_status),
        }
    else:
        title = gettext("%(role)s order %(status)s") % {
            "role": order.get_role_display(),
            "status": _spoken(event.to_status),
        }
    details = {
        "order": order.pk,
        "client_order_id": order.client_order_id,
        "from": event.from_status,
        "to": event.to_status,
        "quantity": _amount(order.quantity),
        "price": _amount(order.price),
        "stop_price": _amount(order.stop_price),
    }
    return StoryLine(event.at, "order", title, event.reason, _known(details))


def _fill(fill: Fill, quote: str) -> StoryLine:
    order: Order = fill.order
    details = {
        "order": order.pk,
        "price": _amount(fill.price),
        "quantity": _amount(fill.quantity),
        "fee": _amount(fill.fee),
        "fee_asset": fill.fee_asset,
        "trade_id": fill.trade_id,
    }
    text = gettext("%(quantity)s at %(price)s %(quote)s") % {
        "quantity": digits(_amount(fill.quantity)),
        "price": digits(_amount(fill.price)),
        "quote": unit(quote),
    }
    return StoryLine(
        fill.executed_at, "fill", gettext("%(role)s filled") % {"role": order.get_role_display()}, text, details
    )


def _deal_change(event: DealEvent) -> StoryLine:
    details = _known(event.detail)
    title = str(_TITLES.get(event.kind) or event.kind.replace("_", " ").capitalize())
    return StoryLine(event.at, event.kind, title, _change_text(event, details), details)


def _change_text(event: DealEvent, details: dict[str, Any]) -> str:
    why = str(details.get("why") or details.get("note") or "")
    if event.kind == "stop_moved":
        return _joined(
            f"{details.get('before', '?')} → {details.get('after', '?')}", why or gettext("by the trailing stop")
        )
    if event.kind == "protected" and "seconds" in details:
        return gettext("after %(details)s s without a live stop or exit") % {"details": details["seconds"]}
    if event.kind == "exit" and details.get("reason") in CloseReason.values:
        return _joined(CloseReason(details["reason"]).label, why)
    if event.kind == "status":
        return _joined(f"{_spoken(event.from_status) or 'new'} → {_spoken(event.to_status)}", why)
    return why


def _ended(deal: Deal) -> Iterator[StoryLine]:
    if deal.closed_at is None:
        return
    if deal.status != DealStatus.CLOSED:
        yield StoryLine(deal.closed_at, "ended", gettext("Canceled, nothing was filled"), deal.note)
        return
    details = {
        "profit": _amount(deal.profit),
        "fees": _amount(deal.fees_quote),
        "dust": _amount(deal.dust_quantity),
        "unprotected_seconds": _amount(deal.unprotected_seconds),
        "close_reason": deal.close_reason,
    }
    text = gettext("%(profit)s %(quote)s after fees of %(fees)s") % {
        "profit": digits(_amount(deal.profit)),
        "quote": unit(deal.market.quote),
        "fees": _amount(deal.fees_quote),
    }
    yield StoryLine(
        deal.closed_at,
        "ended",
        gettext("Closed: %(close_reason)s") % {"close_reason": deal.get_close_reason_display()},
        text,
        _known(details),
    )


def _amount(value: Any) -> str | None:
    return None if value is None else format(plain(value), "f")


def _known(details: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in details.items() if value is not None}


def _spoken(status: str) -> str:
    return gettext(status.replace("_", " ").capitalize()).lower()


def _joined(*words: str) -> str:
    return ": ".join(str(word) for word in words if word)
