"""What can an account really do? Tiny orders far away from the market, placed, read back, and taken down again.

Like every order, each of them is committed before it is sent (`ProbeOrder`), and its sender holds the account's lock:
whoever finds one open while holding the lock knows that its prober is gone, and clears it away.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from functools import partial
from typing import cast

from django.db import transaction

from algo.execution import questions
from algo.execution.identity import client_order_id
from algo.execution.locks import Beating, account_lock
from algo.execution.views import Budgets
from algo.models import FINISHED_DEALS, Account, AccountState, Deal, ProbeOrder, ProbeOutcome, TicketKind
from algo.models.market import Market
from algo.services.accounts import account_stop
from algo.services.probe import Patient
from algo.services.tickets import ticket_open
from providers.clock import Clock
from providers.errors import (
    AuthFailed,
    BadPayload,
    OrderNotFound,
    OrderRejected,
    OutcomeUnknown,
    ProviderError,
    RejectReason,
    Unavailable,
)
from providers.interface import ExchangeProvider
from providers.types import (
    ZERO,
    Balance,
    Capabilities,
    MarketRules,
    OrderRef,
    OrderReport,
    OrderRequest,
    OrderType,
    Side,
    round_to,
)

logger = logging.getLogger("algo.probe")

DISTANCE = Decimal("0.2")  # of the price: far enough not to be reached, near enough for every price band
LIMIT_BEYOND = Decimal("0.03")  # of the stop: where a STOP_LIMIT would rest once triggered
MARGIN = Decimal("1.2")  # over the least notional, at the worst of the prices involved
SPARE = Decimal("1.05")  # of what the order may hold: fees and roundings of the exchange
PAUSE = 1.0  # wall seconds between two looks at something that may lag
LOOKS = 5
PREFERRED = ("USDT/IRT", "BTC/USDT", "BTC/IRT", "ETH/USDT", "ETH/IRT", "DOGE/USDT")
MOST_PRICES = 8  # markets whose price is asked for while looking for one to probe

# Refusals that tell about this moment or this account, not about what the exchange offers.
_SAYS_NOTHING = {
    RejectReason.INSUFFICIENT_BALANCE,
    RejectReason.BELOW_MINIMUM,
    RejectReason.PRICE_OUT_OF_BAND,
    RejectReason.MARKET_CLOSED,
}


_LOCKS = {True: "it locks the balance", False: "it locks no balance", None: "whether it locks cannot be said"}


class ProbeRefused(Exception):
    """No probe was begun, and nothing was sent. The message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What one probe order showed. None: it cannot be said. `notes` are for a person; `left` is set while the order may
    still be at the exchange, and says how to remove it."""

    type: OrderType
    works: bool | None = None
    locks: bool | None = None
    found_closed: bool | None = None
    notes: tuple[str, ...] = ()
    left: str = ""


@dataclass(frozen=True, slots=True)
class OrdersProbed:
    """What was tried, and what is stored of it: None where it was not conclusive, and then nothing was stored."""

    symbol: str
    tried: tuple[Tried, ...]
    capabilities: Capabilities | None
    left: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Plan:
    """Where, on which side and how much: the same for every type that is tried."""

    rules: MarketRules
    side: Side
    quantity: Decimal
    stop_price: Decimal

    @property
    def limit_price(self) -> Decimal:
        return self.rules.round_limit(self.stop_price * (1 + self.side.sign * LIMIT_BEYOND), self.side)

    @property
    def asset(self) -> str:
        return self.rules.base if self.side is Side.SELL else self.rules.quote


Sleep = Callable[[float], None]


def account_probe_orders(
    account: Account,
    provider: ExchangeProvider,
    *,
    clock: Clock,
    symbol: str | None = None,
    sleep: Sleep = time.sleep,
) -> OrdersProbed:
    """Place a STOP_MARKET and a STOP_LIMIT far away, read them back, take them down, and store what that showed.

    Raises ProbeRefused and, where it fails before anything is sent, ProviderError. A refused key stops the account.
    """
    with account_lock(account.pk, clock) as lease:
        if lease is None:
            raise ProbeRefused("The account is being worked on at this moment. Nothing was sent. Try again.")
        beating = cast(ExchangeProvider, Beating(provider, lease.touch))
        rest = partial(lease.rest, sleep=sleep)
        prober = _Prober(account, cast(ExchangeProvider, Patient(beating, rest)), clock, rest)
        try:
            return prober.run(symbol)
        except AuthFailed as exc:
            account_stop(account, str(exc), at=clock.now())
            raise


class _Prober:
    """One run, under the account's lock."""

    def __init__(self, account: Account, provider: ExchangeProvider, clock: Clock, sleep: Sleep) -> None:
        self._account, self._provider, self._clock, self._sleep = account, provider, clock, sleep

    def run(self, symbol: str | None) -> OrdersProbed:
        self._refuse_where_unfit()
        if still := probe_sweep(self._account, self._provider, self._clock):
            raise ProbeRefused(
                "An earlier probe left an order whose fate is not known yet. Nothing was sent. "
                f"{' '.join(still)} Try again in a minute."
            )
        plan = probe_plan(self._provider, symbol, ProbeOrder.objects.filter(account=self._account).count())
        tried = []
        for kind in (OrderType.STOP_MARKET, OrderType.STOP_LIMIT):
            tried.append(self._try(plan, kind))
            if tried[-1].left:
                break
        found = self._conclude(tried)
        left = tuple(each.left for each in tried if each.left)
        return OrdersProbed(plan.rules.symbol, tuple(tried), found, left)

    def _refuse_where_unfit(self) -> None:
        account = Account.objects.get(pk=self._account.pk)
        if account.state == AccountState.STOPPED:
            raise ProbeRefused(f"{account.name} is stopped: {account.state_reason} Nothing was sent.")
        live = Deal.objects.filter(account=account).exclude(status__in=FINISHED_DEALS).count()
        if live:
            raise ProbeRefused(
                f"{account.name} has {live} open deal(s): their protection would wait for the probe, and their fills "
                "would move the balances it compares. Nothing was sent. Try again when they are closed; pausing the "
                "account keeps new ones away."
            )

    # --- one order --------------------------------------------------------------------------------------------------

    def _try(self, plan: Plan, kind: OrderType) -> Tried:
        before = self._balance(plan)
        row = self._commit(plan, kind)
        try:
            report = self._provider.create_order(_request(row))
        except OrderRejected as exc:
            self._close(row, ProbeOutcome.REFUSED, note=f"{exc.reason}: {exc}")
            works = None if exc.reason in _SAYS_NOTHING else False
            return Tried(kind, works=works, notes=(f"{kind} was refused: {exc}",))
        except (Unavailable, AuthFailed) as exc:
            self._close(row, ProbeOutcome.ABSENT, note=f"not sent: {exc}")
            raise
        except OutcomeUnknown as exc:
            return self._take_down_unheard(plan, row, f"the answer to {kind} was lost: {exc}")
        _learn_id(row, report)
        try:
            seen = self._look(plan, row, before)
        except AuthFailed as exc:
            account_stop(self._account, str(exc), at=self._clock.now())
            return Tried(kind, left=how_to_remove(row))
        except ProviderError as exc:
            seen = Tried(kind, notes=(f"{kind} could not be read back: {exc}",))
        return self._take_down(plan, row, seen, before)

    def _commit(self, plan: Plan, kind: OrderType) -> ProbeOrder:
        """The row, committed whatever transaction may be around, before the first byte is sent."""
        account = self._account
        with transaction.atomic(durable=True):
            return ProbeOrder.objects.create(
                account=account,
                symbol=plan.rules.symbol,
                client_order_id=client_order_id(account.environment, account.public_id, "probe", uuid.uuid4().hex),
                side=plan.side,
                type=kind,
                quantity=plan.quantity,
                price=plan.limit_price if kind is OrderType.STOP_LIMIT else None,
                stop_price=plan.stop_price,
                created_at=self._clock.now(),
            )

    def _look(self, plan: Plan, row: ProbeOrder, before: Balance) -> Tried:
        """Read it back: is it resting untriggered, at the price that was asked for, and what does it hold?"""
        kind, report = OrderType(row.type), self._read_back(row)
        self._sleep(PAUSE)  # accepted is not yet live: the exchange checks it again (contract: nobitex 6.1)
        report = self._read_back(row)
        notes = []
        if report.filled_quantity > 0 or report.status.is_final:
            notes.append(
                f"{kind} did not rest: {report.status.lower()}, {_text(report.filled_quantity)} of it filled. Its "
                "trigger works in the wrong direction, or it was refused after all"
            )
        if report.stop_price != row.stop_price:
            notes.append(f"{kind} came back with the stop price {report.stop_price}, not {_text(row.stop_price)}")
        if notes:
            return Tried(kind, works=False, notes=tuple(notes))
        locks = self._locks(plan, before)
        return Tried(kind, works=True, locks=locks, notes=(f"{kind} rests untriggered; {_LOCKS[locks]}",))

    def _read_back(self, row: ProbeOrder) -> OrderReport:
        for look in range(1, LOOKS + 1):
            try:
                report = self._provider.fetch_order(_ref(row))
            except OrderNotFound:
                if look == LOOKS:
                    raise
                self._sleep(PAUSE)
            else:
                _learn_id(row, report)
                return report
        raise AssertionError("unreachable")

    def _locks(self, plan: Plan, before: Balance) -> bool | None:
        """Whether it holds the balance. *No* is the answer that could cost money, so it has to be seen twice."""
        need = plan.quantity * (1 if plan.side is Side.SELL else plan.stop_price)
        for look in range(2):
            now = self._balance(plan)
            if now.total != before.total:
                return None
            held = now.locked - before.locked
            if held >= need * Decimal("0.99"):
                return True
            if held != 0:
                return None
            if not look:
                self._sleep(2 * PAUSE)
        return False

    # --- taking it down ---------------------------------------------------------------------------------------------

    def _take_down(self, plan: Plan, row: ProbeOrder, seen: Tried, before: Balance) -> Tried:
        for _ in range(LOOKS):
            try:
                end = probe_remove(row, self._provider)
            except AuthFailed as exc:
                account_stop(self._account, str(exc), at=self._clock.now())
                return replace(seen, works=None, left=how_to_remove(row))
            except ProviderError as exc:
                logger.warning("probe=%s not taken down yet: %s", row.client_order_id, exc)
                end = None
            if end is not None:
                return self._ended(plan, row, end, seen, before)
            self._sleep(PAUSE)
        return replace(seen, works=None, left=how_to_remove(row))

    def _ended(self, plan: Plan, row: ProbeOrder, end: OrderReport, seen: Tried, before: Balance) -> Tried:
        probe_close(row, end, now=self._clock.now())
        if end.filled_quantity > 0:
            note = f"{row.type} EXECUTED: {_text(end.filled_quantity)} {plan.rules.base} changed hands. See the ticket"
            return replace(seen, works=False, notes=(*seen.notes, note))
        try:
            found = self._found_by_our_name(row)
            after = self._balance_settled(plan, before)
        except AuthFailed:
            raise
        except ProviderError as exc:
            return replace(seen, notes=(*seen.notes, f"it is gone; afterwards: {exc}"))
        notes = seen.notes
        if after != before:
            notes += (f"the balance of {plan.asset} is not what it was before: {_both(before)}, now {_both(after)}",)
        return replace(seen, found_closed=found, notes=notes)

    def _found_by_our_name(self, row: ProbeOrder) -> bool:
        try:
            self._provider.fetch_order(OrderRef(row.symbol, client_order_id=row.client_order_id))
        except OrderNotFound:
            return False
        return True

    def _balance_settled(self, plan: Plan, before: Balance) -> Balance:
        after = self._balance(plan)
        for _ in range(2):
            if after == before:
                break
            self._sleep(PAUSE)
            after = self._balance(plan)
        return after

    def _take_down_unheard(self, plan: Plan, row: ProbeOrder, why: str) -> Tried:
        """Its answer was lost. Cancelled by every name it has wherever it shows up; else later runs look for it."""
        kind = OrderType(row.type)
        for _ in range(LOOKS):
            self._sleep(PAUSE)
            try:
                end = probe_remove(row, self._provider)
            except AuthFailed as exc:
                account_stop(self._account, str(exc), at=self._clock.now())
                break
            except ProviderError as exc:
                logger.warning("probe=%s not found out yet: %s", row.client_order_id, exc)
                continue
            if end is not None:
                probe_close(row, end, now=self._clock.now())
                return Tried(kind, notes=(f"{why}. It was there, and was taken down again",))
        return Tried(kind, notes=(why,), left=how_to_remove(row))

    # --- conclusion -------------------------------------------------------------------------------------------------

    def _conclude(self, tried: Sequence[Tried]) -> Capabilities | None:
        """Stored only where every order gave a clear answer; what was not asked stays as documented."""
        if len(tried) < 2 or any(each.works is None for each in tried):
            return None
        market, limit = tried
        working = [each for each in tried if each.works]
        documented = self._provider.capabilities()
        known = self._account.known_capabilities(documented)
        found = [each.found_closed for each in tried if each.found_closed is not None]
        capabilities = replace(
            known,
            oco=documented.oco and bool(limit.works),  # the stop leg of a pair is a STOP_LIMIT
            stop_market=bool(market.works),
            stop_limit=bool(limit.works),
            stops_lock_balance=not working or any(each.locks is not False for each in working),
            finds_closed_by_client_id=all(found) if found else known.finds_closed_by_client_id,
        )
        now = self._clock.now()
        Account.objects.filter(pk=self._account.pk).update(
            capabilities=asdict(capabilities), capabilities_probed_at=now
        )
        self._account.capabilities, self._account.capabilities_probed_at = asdict(capabilities), now
        return capabilities

    def _balance(self, plan: Plan) -> Balance:
        return self._provider.balances().get(plan.asset) or Balance(plan.asset, ZERO, ZERO)

    def _close(self, row: ProbeOrder, outcome: ProbeOutcome, *, note: str) -> None:
        _close(row, outcome, note=note, now=self._clock.now())


# --- planning -------------------------------------------------------------------------------------------------------


def probe_plan(provider: ExchangeProvider, symbol: str | None, number: int = 0) -> Plan:
    """The market, side and size of a probe: the given market, else the first that the account can pay for. `number`
    varies the size a little, because an exchange may take the same order twice for a repetition (contract: nobitex 8).
    Raises ProbeRefused where nothing can be paid for, and `ProviderError`."""
    balances = provider.balances()
    markets = {rules.symbol: rules for rules in provider.markets() if rules.is_open}
    if symbol is not None and symbol not in markets:
        raise ProbeRefused(f"{provider.name} has no open market {symbol}. Nothing was sent. Choose another one.")
    chosen = [markets[symbol]] if symbol else _candidates(markets.values(), balances)
    needs = []
    for rules in chosen[:MOST_PRICES]:
        last = provider.last_price(rules.symbol)
        for side in (Side.SELL, Side.BUY):
            plan = _sized(rules, side, last, number)
            held = balances.get(plan.asset) or Balance(plan.asset, ZERO, ZERO)
            need = plan.quantity * (1 if side is Side.SELL else max(plan.stop_price, plan.limit_price)) * SPARE
            if held.available >= need:
                return plan
            needs.append(f"{_text(round_to(need, Decimal('0.00000001'), ROUND_CEILING))} {plan.asset}")
    there_is = ", ".join(sorted(asset for asset, held in balances.items() if held.available > 0)) or "nothing"
    wanted = f" It takes {' or '.join(needs[:2])}." if needs else ""
    raise ProbeRefused(f"The account cannot pay for the smallest order (free: {there_is}). Nothing was sent.{wanted}")


def _candidates(markets: Iterable[MarketRules], balances: Mapping[str, Balance]) -> list[MarketRules]:
    """Markets of which the account holds one side, the well-known ones first."""
    held = {asset for asset, balance in balances.items() if balance.available > 0}
    found = [rules for rules in markets if rules.base in held or rules.quote in held]
    return sorted(found, key=lambda rules: (_rank(rules), rules.base not in held, rules.symbol))


def _rank(rules: MarketRules) -> int:
    return PREFERRED.index(rules.pair) if rules.pair in PREFERRED else len(PREFERRED)


def _sized(rules: MarketRules, side: Side, last: Decimal, number: int) -> Plan:
    stop = rules.round_stop(last * (1 + side.sign * DISTANCE), side)
    plan = Plan(rules, side, ZERO, stop)
    least = max(rules.min_notional * MARGIN / min(last, stop, plan.limit_price), rules.min_quantity)
    steps = round_to(least, rules.step_size, ROUND_CEILING) + number % 5 * rules.step_size
    return replace(plan, quantity=max(steps, rules.step_size))


def _request(row: ProbeOrder) -> OrderRequest:
    return OrderRequest(
        client_order_id=row.client_order_id,
        symbol=row.symbol,
        side=Side(row.side),
        type=OrderType(row.type),
        quantity=row.quantity,
        price=row.price,
        stop_price=row.stop_price,
    )


# --- clearing away --------------------------------------------------------------------------------------------------


def probe_of(account: Account, report: OrderReport) -> ProbeOrder | None:
    """The probe order of ours that the exchange is showing, whatever we thought had become of it."""
    rows = ProbeOrder.objects.filter(account=account)
    if report.client_order_id:
        return rows.filter(client_order_id=report.client_order_id).first()
    if report.exchange_order_id:
        return rows.filter(symbol=report.symbol, exchange_order_id=report.exchange_order_id).first()
    return None


def probe_sweep(account: Account, provider: ExchangeProvider, clock: Clock) -> list[str]:
    """Clear away what probes that died left behind; call it under the account's lock. Returns a sentence for each that
    is not settled yet. What is nowhere to be found counts as never arrived after two looks, once it had its time."""
    unsettled = []
    for row in ProbeOrder.objects.filter(account=account, outcome=ProbeOutcome.OPEN):
        end = probe_remove(row, provider)
        now = clock.now()
        if end is not None:
            probe_close(row, end, now=now)
        elif not _never_arrived(row, Budgets.of(clock), now):
            unsettled.append(how_to_remove(row))
    return unsettled


def _never_arrived(row: ProbeOrder, budgets: Budgets, now: datetime) -> bool:
    if now - row.created_at < budgets.send_deadline + budgets.settle_entry:
        return False
    if row.negative_at is None:
        row.negative_at = now
        row.save(update_fields=["negative_at"])
        return False
    if now - row.negative_at < budgets.negatives_apart:
        return False
    _close(row, ProbeOutcome.ABSENT, note="the exchange does not know it", now=now)
    return True


def probe_remove(row: ProbeOrder, provider: ExchangeProvider) -> OrderReport | None:
    """Cancel a probe order by every name it has, and read back that it has ended. None while that is not proven, or
    where nothing shows it. Raises `ProviderError` of reads."""
    shown = _find(row, provider)
    if shown is None:
        _cancel(OrderRef(row.symbol, client_order_id=row.client_order_id), provider)  # a list may be behind
        return None
    _learn_id(row, shown)
    if shown.status.is_final:
        return shown
    names = [_ref(row), OrderRef(row.symbol, client_order_id=row.client_order_id)]
    for name in names:
        answer = _cancel(name, provider)
        if answer is not None and answer.status.is_final:
            break
    end = _find(row, provider)
    return end if end is not None and end.status.is_final else None


def _cancel(name: OrderRef, provider: ExchangeProvider) -> OrderReport | None:
    try:
        return provider.cancel_order(name)
    except (OrderNotFound, OrderRejected, OutcomeUnknown) as exc:
        logger.info("cancel of a probe gave no answer (%s); reading it back", exc)
        return None


def _find(row: ProbeOrder, provider: ExchangeProvider) -> OrderReport | None:
    """By its ids, else in the list of every status since it was sent."""
    try:
        return provider.fetch_order(_ref(row))
    except OrderNotFound:
        pass
    since = row.created_at - timedelta(seconds=30)
    for report in provider.orders_since(row.symbol, since):
        same_id = row.exchange_order_id is not None and report.exchange_order_id == row.exchange_order_id
        if same_id or report.client_order_id == row.client_order_id:
            return report
    return None


def _ref(row: ProbeOrder) -> OrderRef:
    return OrderRef(row.symbol, row.client_order_id, row.exchange_order_id, row.created_at)


def _learn_id(row: ProbeOrder, report: OrderReport) -> None:
    if row.exchange_order_id is None and report.exchange_order_id is not None:
        row.exchange_order_id = report.exchange_order_id
        row.save(update_fields=["exchange_order_id"])


def probe_close(row: ProbeOrder, end: OrderReport, *, now: datetime) -> None:
    """Record its end. One that was executed, even in part, is a ticket: the account is not as it was."""
    row.raw = dict(end.raw)
    row.filled_quantity = end.filled_quantity
    if end.filled_quantity <= 0:
        _close(row, ProbeOutcome.REMOVED, note="taken down", now=now)
        return
    with transaction.atomic():
        _close(row, ProbeOutcome.FILLED, note="it was executed", now=now)
        market = Market.objects.filter(provider=row.account.provider, symbol=row.symbol).first()
        ticket_open(
            row.account,
            TicketKind.UNKNOWN_TRADE,
            row.client_order_id,
            questions.probe_executed(Side(row.side), end.filled_quantity, row.symbol),
            market=market,
            details=end.raw,
            at=now,
        )
    logger.error("probe=%s EXECUTED %s of %s", row.client_order_id, end.filled_quantity, row.symbol)


def _close(row: ProbeOrder, outcome: ProbeOutcome, *, note: str, now: datetime) -> None:
    row.outcome, row.note, row.closed_at = outcome, note[:400], now
    row.save(update_fields=["outcome", "note", "closed_at", "raw", "filled_quantity"])
    logger.info("probe=%s %s: %s", row.client_order_id, outcome, note)


class ProbesLeft:
    """Probe orders among what reconciliation finds. Whoever placed one that is open is gone: a living prober would hold
    the account's lock."""

    def __init__(self, account: Account, provider: ExchangeProvider, clock: Clock) -> None:
        self._account, self._provider, self._clock = account, provider, clock

    def take_open(self, report: OrderReport) -> bool:
        probe = probe_of(self._account, report)
        if probe is None:
            return False
        end = probe_remove(probe, self._provider)
        if end is not None:
            probe_close(probe, end, now=self._clock.now())
        return True

    def take_past(self, report: OrderReport) -> bool:
        probe = probe_of(self._account, report)
        if probe is None:
            return False
        if report.filled_quantity > probe.filled_quantity:
            probe_close(probe, report, now=self._clock.now())
        return True

    def sweep(self) -> None:
        try:
            for sentence in probe_sweep(self._account, self._provider, self._clock):
                logger.error("account=%s %s", self._account.name, sentence)
        except (Unavailable, BadPayload) as exc:
            logger.warning("probes not cleared away account=%s why=%s", self._account.name, exc)


def how_to_remove(row: ProbeOrder) -> str:
    """For a person, about an order that may still be at the exchange."""
    name = f" (there: {row.exchange_order_id})" if row.exchange_order_id else ""
    return (
        f"It is not known whether {row.type} {row.client_order_id}{name}, {row.side} {_text(row.quantity)} "
        f"{row.symbol} with its stop at {_text(row.stop_price)}, is still at the exchange. Look at the open orders of "
        f"{row.symbol} in the exchange's panel and cancel it there; the platform tries too, at every reconciliation "
        "and every probe."
    )


def _text(value: Decimal) -> str:
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _both(balance: Balance) -> str:
    return f"{_text(balance.total)}, {_text(balance.locked)} of it locked"
