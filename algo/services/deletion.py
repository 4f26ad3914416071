"""What may not be deleted, said before the database refuses it: a deal is looked after to its end, and its history is
kept."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.db.models import Model, QuerySet
from django.utils.translation import gettext

from algo.models import FINISHED_DEALS, Account, Deal, Market, Signal, StrategyConfig, Ticket

_MOST_NAMED = 5


def deletion_refusal(row: Model) -> str:
    """Why `row` cannot be deleted and what to do instead, in sentences; empty where nothing keeps it."""
    deals = _deals_of(row)
    if deals is None:
        return ""
    if live := list(deals.exclude(status__in=FINISHED_DEALS).select_related("market").order_by("pk")):
        named = ", ".join(
            gettext("%(deal)s on %(symbol)s") % {"deal": deal.pk, "symbol": deal.market.symbol}
            for deal in live[:_MOST_NAMED]
        )
        more = gettext(" and %(value)s more") % {"value": len(live) - _MOST_NAMED} if len(live) > _MOST_NAMED else ""
        return gettext(
            "%(row)s was not deleted: deal %(named)s%(more)s has not ended. It stays protected and "
            "runs to its end under the rules it was opened with. %(instead)s"
        ) % {"row": row, "named": named, "more": more, "instead": _instead(row)}
    if deals.exists() or _has_history(row):
        return gettext(
            "%(row)s was not deleted: its deals, orders or signals are history that is kept. %(instead)s"
        ) % {"row": row, "instead": _instead(row)}
    return ""


def _deals_of(row: Model) -> QuerySet[Deal] | None:
    """Deals that `row` must outlive; None for a kind of row that no deal hangs on."""
    owners = {StrategyConfig: "config", Account: "account", Market: "market", get_user_model(): "account__owner"}
    name = owners.get(type(row))
    return Deal.objects.filter(**{name: row}) if name else None


def _has_history(row: Model) -> bool:
    """What keeps a row that never had a deal."""
    if isinstance(row, StrategyConfig):
        return Signal.objects.filter(config=row).exists()
    if isinstance(row, Account):
        return row.strategies.exists() or row.probe_orders.exists() or Ticket.objects.filter(account=row).exists()
    if isinstance(row, Market):
        return row.read_by.exists() or row.traded_by.exists()
    return Account.objects.filter(owner=row.pk).exists()


def _instead(row: Model) -> str:
    if isinstance(row, StrategyConfig):
        return gettext("Stop the strategy instead: it decides nothing any more.")
    if isinstance(row, Account):
        return gettext("Pause the account instead: it takes no new positions.")
    if isinstance(row, Market):
        return gettext("Stop the strategies that trade it instead.")
    return gettext("Take the user's mark 'Active' away instead: nobody signs in with it any more.")
