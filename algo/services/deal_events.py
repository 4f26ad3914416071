"""What became of a deal, as its own history keeps it and as the world outside is told."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from algo.models import Deal, DealEvent
from algo.models.fields import plain


def deal_payload(deal: Any) -> dict[str, Any]:
    """What the world is told about a deal: plain text amounts, no secret, no balance."""
    return {
        "deal_id": deal.pk,
        "strategy": deal.config.name,
        "account": deal.account.name,
        "market": deal.market.symbol,
        "provider": deal.market.provider,
        "side": deal.side,
        "status": deal.status,
        "entry_price": amount_text(deal.entry_price),
        "entry_quantity": amount_text(deal.entry_quantity),
        "exit_price": amount_text(deal.exit_price),
        "stop_price": amount_text(deal.stop_price),
        "target_price": amount_text(deal.target_price),
        "close_reason": deal.close_reason,
        "profit": amount_text(deal.profit),
        "quote": deal.market.quote,
        "unprotected_seconds": amount_text(deal.unprotected_seconds),
    }


def amount_text(value: Decimal | None) -> str | None:
    return None if value is None else format(plain(value), "f")


def record_deal_event(deal: Deal, kind: str, old: str, now: datetime, **detail: Decimal | str | None) -> None:
    told = deal_detail(detail)
    DealEvent.objects.create(deal_id=deal.pk, at=now, kind=kind, from_status=old, to_status=deal.status, detail=told)


def deal_detail(detail: Mapping[str, Decimal | str | None]) -> dict[str, str | None]:
    return {name: amount_text(value) if isinstance(value, Decimal) else value for name, value in detail.items()}
