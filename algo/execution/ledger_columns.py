"""What is read of deals and orders where many are read at once: the columns that their pictures are made of, and no
more. An order's last answer alone is larger than all that is decided on."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import OuterRef, QuerySet, Subquery, Sum

from algo.models import Fill, Market, Order
from providers.types import MarketRules

# As `deal_view`, `urgency` and `control_under` read them.
DEAL_COLUMNS = (
    "pk",
    "config_id",
    "market_id",
    "account__state",
    "side",
    "status",
    "protection_mode",
    "rules",
    "planned_quantity",
    "planned_price",
    "initial_stop_price",
    "stop_price",
    "target_price",
    "best_price",
    "entry_price",
    "exit_reason",
    "created_at",
    "swapped_at",
    "crossed_at",
    "trailed_at",
    "opened_at",
    "unprotected_since",
    "look_asked_at",
)
# As `order_view` reads them, and where the order belongs.
ORDER_COLUMNS = (
    "pk",
    "deal_id",
    "deal__status",
    "market_id",
    "role",
    "leg",
    "side",
    "type",
    "status",
    "quantity",
    "client_order_id",
    "exchange_order_id",
    "price",
    "stop_price",
    "filled_quantity",
    "average_price",
    "fee",
    "fee_asset",
    "attempts",
    "pair_id",
    "reason",
    "cancel_asked_at",
    "cancel_requested_at",
    "unknown_since",
    "negative_at",
    "created_at",
    "submitted_at",
    "accepted_at",
    "checked_at",
    "closed_at",
    "balance_before",
    "locked_before",
    "balance_read_at",
    "booked",
    "booked_fee_base",
)


def with_sums(orders: QuerySet[Order]) -> QuerySet[Order]:
    """With what is booked of each (`booked`), and its fees in base (`booked_fee_base`); None without fills."""
    fills = Fill.objects.filter(order=OuterRef("pk")).order_by().values("order")
    in_base = fills.filter(fee_asset=OuterRef("market__base"))
    return orders.annotate(
        booked=Subquery(fills.annotate(total=Sum("quantity")).values("total")),
        booked_fee_base=Subquery(in_base.annotate(total=Sum("fee")).values("total")),
    )


def rules_of(markets: Collection[int]) -> dict[int, MarketRules]:
    """The rules of markets, by their keys."""
    return {pk: market.rules for pk, market in Market.objects.in_bulk(list(markets)).items()}
