"""What accounts made since the trading day began, against what their strategies may lose in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, Sum

from algo.models import FINISHED_DEALS, Account, Deal, StrategyConfig, StrategyStatus
from algo.selectors.visible import rows_seen
from algo.strategies.schemas import StrategySchema
from providers.types import Side

ZERO, PERCENT = Decimal(0), Decimal(100)
LIMIT = "max_daily_loss_percent"
Key = tuple[int, str]  # account, quote


@dataclass(frozen=True, slots=True)
class Today:
    """One account in one quote currency: toman and USDT are never summed. Amounts in quote.

    `profit` is that of the deals closed today, after fees; `open_profit` of those that are open, before fees, by the
    newest streamed prices (a deal without one counts as zero). `limit_percent` is the tightest of its running
    strategies, None where none has one; `limit` the same as an amount of the day's first equity, None where the
    account's balances were never read. `lost` is what counts against it: an open gain pays for no loss.
    """

    account_id: int
    account: str
    quote: str
    profit: Decimal
    closed: int
    open_profit: Decimal
    lost: Decimal
    limit_percent: Decimal | None
    limit: Decimal | None

    @property
    def is_reached(self) -> bool:
        """Whether the limit keeps its strategies from entries, as far as is known here."""
        return self.limit is not None and self.lost > 0 and self.lost >= self.limit


def today(user: Any, day_start: datetime) -> list[Today]:
    """By account and quote, the worst first, wherever something was closed today, is open, or runs. Four queries. The
    risk gate has the last word: it also knows the book and base that no deal of ours bought."""
    closed = _closed(user, day_start)
    held = _open(user)
    limits = _limits(user)
    keys = {*closed, *held, *limits}
    accounts = Account.objects.defer("api_key_sealed").in_bulk({account for account, _ in keys})
    rows = [_one(accounts[key[0]], key[1], closed.get(key), held.get(key, []), limits.get(key)) for key in keys]
    return sorted(rows, key=lambda row: (row.profit + row.open_profit, row.account, row.quote))


@dataclass(frozen=True, slots=True)
class _Held:
    profit: Decimal
    worth: Decimal  # what it adds to the money: base that a BUY holds, less base that a SELL owes


def _one(
    account: Account, quote: str, closed: tuple[Decimal, int] | None, held: Iterable[_Held], percent: Decimal | None
) -> Today:
    profit, count = closed or (ZERO, 0)
    opened = [each.profit for each in held]
    limit = None
    if percent is not None and account.balances_read_at is not None:
        money = Decimal((account.balances.get(quote) or ["0"])[0])
        equity = money + sum((each.worth for each in held), ZERO)
        limit = max(equity - profit - sum(opened, ZERO), ZERO) * percent / PERCENT
    return Today(
        account_id=account.pk,
        account=account.name,
        quote=quote,
        profit=profit,
        closed=count,
        open_profit=sum(opened, ZERO),
        lost=max(-profit - sum((min(each, ZERO) for each in opened), ZERO), ZERO),
        limit_percent=percent,
        limit=limit,
    )


def _closed(user: Any, day_start: datetime) -> dict[Key, tuple[Decimal, int]]:
    """By the index on when deals closed."""
    rows = rows_seen(user, Deal.objects.filter(closed_at__gte=day_start, profit__isnull=False))
    by = rows.values("account_id", "market__quote").annotate(sum=Sum("profit"), count=Count("id")).order_by()
    return {(row["account_id"], row["market__quote"]): (row["sum"], row["count"]) for row in by}


def _open(user: Any) -> dict[Key, list[_Held]]:
    rows = rows_seen(user, Deal.objects.exclude(status__in=FINISHED_DEALS).filter(entry_price__isnull=False))
    columns = ("account_id", "market__quote", "side", "entry_price", "entry_quantity", "exit_quantity")
    found: dict[Key, list[_Held]] = defaultdict(list)
    for account, quote, side, entry, bought, sold, bid, ask in rows.values_list(
        *columns, "market__streamed_quote__bid", "market__streamed_quote__ask"
    ):
        price = (bid if side == Side.BUY else ask) or entry
        quantity = max(bought - sold, ZERO) * Side(side).sign
        found[account, quote].append(_Held(quantity * (price - entry), quantity * price))
    return found


def _limits(user: Any) -> dict[Key, Decimal | None]:
    """The tightest of the running strategies, as stored, or the default of every strategy."""
    default = StrategySchema.model_fields[LIMIT].default
    rows = rows_seen(user, StrategyConfig.objects.filter(status=StrategyStatus.RUNNING))
    found: dict[Key, Decimal | None] = {}
    for account, quote, parameters in rows.values_list("account_id", "market__quote", "parameters"):
        percent = Decimal(str(parameters.get(LIMIT, default))) or None  # 0 is off
        tightest = found.get((account, quote))
        found[account, quote] = min(filter(None, (percent, tightest)), default=None)
    return found
