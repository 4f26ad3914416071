"""What must hold in every world, judged from two sides: what the exchange's own ledger says, and our books. Never from
what the platform thinks of itself. The names (I1 …) are those of docs/reliability.md."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

from algo.execution.identity import is_ours
from algo.execution.lifecycle import ADOPTIONS, DEAL_TRANSITIONS, ORDER_TRANSITIONS
from algo.execution.reconcile import QUARANTINE
from algo.models import FINISHED_DEALS, DealStatus, KillSwitch, Outcome, Role
from providers.paper.ledger import trader
from providers.paper.orders import State
from providers.transport import Request
from providers.types import ZERO, OrderStatus, OrderType, Side
from tests.simulation.plan import FAULTY
from tests.simulation.world import PAIR, SYMBOL, World

BOUND, PER_INCIDENT = 20.0, 12.0  # seconds of reachable time a position may be bare, and more for each dead process
SEND_DEADLINE, SWITCH_DEADLINE, FLAT_WITHIN = 2.0, 2.0, 30.0
ENTRY_AGE = 22.5  # seconds after its decision, with those that a send takes
LOOKS_APART, SETTLE_ENTRY, SETTLE_OTHER = 1.5, 45.0, 7.0  # before an order may be given up as absent
READ_WITHIN = 7.0  # seconds: what rests is read every five
LOOKED_FOR_WITHIN = 20.0  # seconds: an account in doubt is compared every ten
DOUBT = 190.0  # seconds after which an entry in doubt must be decided
CALM_BOUND = 8.0  # seconds from an entry to its stop where nothing fails; 99 of 100 within 3
HARM = 8.0  # seconds that one call gone wrong may cost: its time-out and the pause after it
_STATES = {
    State.FILLED: {OrderStatus.FILLED},
    State.CANCELED: {OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED},
    State.OPEN: {OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.CANCELING},
    State.INACTIVE: {OrderStatus.OPEN, OrderStatus.CANCELING},
    State.NEW: {OrderStatus.OPEN, OrderStatus.CANCELING},
}


@dataclass(slots=True)
class Bare:
    """An interval during which a position was under no live order."""

    account: str
    began: float
    is_entry: bool  # it began with the entry, not with a stop that came to nothing
    ended: float | None = None


@dataclass(slots=True)
class Figures:
    """What one world had to show."""

    deals: int = 0
    orders: int = 0
    fills: int = 0
    entries: int = 0
    adopted: int = 0
    unknown: int = 0
    tickets: int = 0
    evictions: int = 0
    bare_raw: list[float] = field(default_factory=list)
    bare_calm: list[float] = field(default_factory=list)
    bare_reachable: list[float] = field(default_factory=list)
    transitions: Counter[str] = field(default_factory=Counter)


class Invariants:
    """Watches one world. `violations` are sentences that begin with the invariant's name."""

    def __init__(self, world: World) -> None:
        self.world, self.books, self.records = world, world.books, world.venue.records
        self.violations: list[str] = []
        self.figures = Figures()
        self.impaired_spans: list[tuple[float, float]] = []
        self.incidents: list[float] = []
        self.positions: dict[str, Decimal] = defaultdict(Decimal)
        self.before: dict[str, Decimal] = defaultdict(Decimal)  # the position when it was last looked at
        self.bare: dict[str, Bare] = {}
        self.begun: dict[int, float] = {}  # when whoever was to send an order turned to it
        self.claimed: dict[int, float] = {}
        self.left: dict[str, float] = {}  # by our name: when an order was last on its way
        self.looks: dict[str, list[float]] = defaultdict(list)  # by our name: when the exchange was asked for an order
        self.hidden: dict[str, set[int]] = {}  # by our name: what the exchange hid when it was asked for that last
        self.is_skewed = any(event.kind == "skew" for event in world.plan.events)  # then nobody's seconds are right
        self.planned: dict[int, float] = {}  # deals to when they were decided
        self.in_swap_since: dict[str, float] = {}
        self.entry_sends: dict[tuple[Any, ...], tuple[int, float]] = {}
        self.switches: dict[tuple[str, int], tuple[KillSwitch, float]] = {}
        self.crossed_since: dict[int, float] = {}
        self.overcommitted_since: dict[str, float] = {}
        self.flatten_told: set[str] = set()
        self.closed_by_hand: dict[int, float] = {}
        self.last_stop: dict[int, Decimal] = {}
        self.told_of: dict[str, list[Any]] = defaultdict(list)  # orders under our names that a person was asked about
        self.unread: dict[str, list[Any]] = defaultdict(list)  # trades that the world ended too early to read
        self._injected = 0
        world.exchange.exchange.listeners.append(self._exchange_changed)
        world.observers.append(self)

    @property
    def now(self) -> float:
        return self.world.time.elapsed

    def fail(self, sentence: str) -> None:
        line = f"{sentence} (at {self.now:.3f})"
        if len(self.violations) < 20:
            self.violations.append(line)
        self.world.note(f"VIOLATION {line}")

    # --- time in which nothing could be done --------------------------------------------------------------------------

    def impaired(self, seconds: float) -> None:
        self.impaired_spans.append((self.now, self.now + seconds + HARM))

    def harmed(self, _: float) -> None:
        self.impaired_spans.append((self.now, self.now + HARM))

    def incident(self, kind: str) -> None:
        self.incidents.append(self.now)

    def calm(self) -> None:
        self.impaired_spans.append((self.now, self.now + HARM))

    def reachable(self, began: float, ended: float) -> float:
        """Seconds of the interval in which the exchange, the database and the network answered."""
        cut, upto = 0.0, began
        for start, end in sorted(self.impaired_spans):
            first, last = max(start, upto), min(end, ended)
            if last > first:
                cut += last - first
                upto = last
        return ended - began - cut

    def bound(self, began: float, ended: float) -> float:
        return BOUND + PER_INCIDENT * sum(began - 15.0 <= at <= ended for at in self.incidents)

    # --- the exchange's ledger moves ----------------------------------------------------------------------------------

    def _exchange_changed(self, changes: Mapping[str, Any]) -> None:
        for change in changes.values():
            for trade in change.trades:
                self._traded(trade)
            for order in change.orders.values():
                self._order_moved(order)
            touched = {o.account for o in change.orders.values()} | {t.account for t in change.trades}
            for account in sorted(touched):
                self._look_at(account)

    def _traded(self, trade: Any) -> None:
        if trade.pair != PAIR or not is_ours(self._name(self.records[trade.order_id])):
            return
        self.positions[trade.account] += trade.side.sign * trade.quantity
        if trade.fee_asset == "BTC" and self.world.setting.side == "BUY":  # what was sold is owed without the fee
            self.positions[trade.account] -= trade.fee

    def _name(self, order: Any) -> str | None:
        """The stop leg of an OCO has no name of its own."""
        if order.client_id is None and order.pair_id is not None:
            return self.records[order.pair_id].client_id
        return order.client_id

    def _row(self, order: Any) -> Any | None:
        if order.client_id is None and order.pair_id is not None:
            first = self.books.order_named(self.records[order.pair_id].client_id or "")
            return None if first is None else self._by_id(first.pair_id)
        return self.books.order_named(order.client_id or "")

    def _by_id(self, order_id: int | None) -> Any | None:
        return next((row for row in self.books.orders() if row.pk == order_id), None)

    def _order_moved(self, order: Any) -> None:
        if order.pair != PAIR or order.stop_price is None or order.state is not State.INACTIVE:
            return
        row = self._row(order)
        if row is None or row.role != Role.STOP or row.negative_at is not None:
            return  # one that was given up may turn up late: it is taken down again
        before = self.last_stop.get(row.deal_id)
        if before is not None:
            moved_back = order.stop_price < before if order.side is Side.SELL else order.stop_price > before
            if moved_back and not row.deal.stop_loosened:
                self.fail(f"I12 the stop of deal {row.deal_id} moved back from {before} to {order.stop_price}")
        self.last_stop[row.deal_id] = order.stop_price

    def _live(self, account: str) -> list[Any]:
        return [each for each in self.records.working(account=account, pair=PAIR) if is_ours(self._name(each))]

    def _is_dust(self, quantity: Decimal) -> bool:
        rules = self.world.rules[SYMBOL]
        step = rules.round_quantity(abs(quantity))
        return step < rules.min_quantity or step * self.world.price * Decimal("0.999") < rules.min_notional

    def _cover(self, account: str, position: Decimal) -> Decimal:
        side, total = (Side.SELL if position > 0 else Side.BUY), ZERO
        for order in self._live(account):
            second_leg = order.pair_id is not None and order.client_id is None
            # A target beside a stop covers nothing; one that takes its place does.
            beside = self.world.setting.mode == "free" and order.type is OrderType.LIMIT and side is Side.SELL
            if order.side is side and not second_leg and not beside and order.state is not State.NEW:
                total += order.remaining
        return total

    def _came_late(self, account: str) -> bool:
        """Whether an exit that was given up was executed after all. Where the balance is enough for two, nobody can
        prevent that both fill (docs/reliability.md, "Limits"); our books have to show it."""
        return any(
            row.negative_at is not None and row.role != Role.ENTRY
            for row in self.books.orders()
            if row.account.name == account
        )

    def _look_at(self, account: str) -> None:
        position = self.positions[account]
        if (self.world.setting.side == "BUY" and position < 0) or (self.world.setting.side == "SELL" and position > 0):
            over = abs(position)
            if over > self.world.rules[SYMBOL].step_size * 2 and not self._came_late(account):
                self.fail(f"I10 {account} closed {over} more than it had entered")
            position = ZERO  # nothing is left to protect
        if self.world.setting.mode == "none":
            return
        size = abs(position)
        is_bare = self._is_uncovered(account, position)
        if is_bare:  # what was dust when its deal ended is none of it, whatever became of the price
            is_bare = self._is_uncovered(account, position - self._dust_of(account))
        if is_bare and account not in self.bare:
            self.bare[account] = Bare(account, self.now, self._is_dust(self.before[account]))
        elif not is_bare and account in self.bare:
            self._end_bare(account)
        self.before[account] = size
        self._check_overcommitment(account, size)

    def _is_uncovered(self, account: str, position: Decimal) -> bool:
        size = abs(position)
        lacking = size - self._cover(account, position)
        return not self._is_dust(size) and lacking > size * Decimal("0.005") and not self._is_dust(lacking)

    def _end_bare(self, account: str) -> None:
        bare = self.bare.pop(account)
        raw, reachable = self.now - bare.began, self.reachable(bare.began, self.now)
        self.figures.bare_raw.append(raw)
        self.figures.bare_reachable.append(reachable)
        if reachable > self.bound(bare.began, self.now):
            self.fail(f"I8 {account} was bare for {reachable:.1f} s of reachable time ({raw:.1f} s in all)")
        if self.world.setting.profile == "calm" and bare.is_entry:
            self._check_calm(account, raw)

    def _check_calm(self, account: str, raw: float) -> None:
        """Where nothing goes wrong; a stop that the market crossed before it was placed takes a second look."""
        self.figures.bare_calm.append(raw)
        if raw > CALM_BOUND:
            self.fail(f"L2 {account} was bare for {raw:.1f} s, and nothing had gone wrong")

    def _check_overcommitment(self, account: str, size: Decimal) -> None:
        stops = sum((o.remaining for o in self._live(account) if o.state is State.INACTIVE), ZERO)
        surplus = stops - size
        is_over = surplus > size * Decimal("0.005") and not self._is_dust(surplus)
        if not is_over:
            since = self.overcommitted_since.pop(account, None)
            if since is not None and self.reachable(since, self.now) > self.bound(since, self.now):
                self.fail(f"I9 {account} had more stops than position for {self.reachable(since, self.now):.1f} s")
        elif account not in self.overcommitted_since:
            self.overcommitted_since[account] = self.now

    # --- what the platform does ---------------------------------------------------------------------------------------

    def market_moved(self) -> None:
        for account in self.world.traders:
            self._look_at(account.name)
            self._watch_swap(account.name)
        self._watch_crossed()
        self._watch_closed_by_hand()
        self._watch_flatten()

    def _watch_swap(self, account: str) -> None:
        """Where stops hold the balance, a target stands alone for the moment in which it can be filled."""
        if self.world.setting.mode != "locking":
            return
        live = self._live(account)
        alone = len(live) == 1 and live[0].type is OrderType.LIMIT and live[0].state is not State.NEW
        if not alone or (row := self._row(live[0])) is None or row.role != Role.TARGET:
            self.in_swap_since.pop(account, None)
        elif account not in self.in_swap_since:
            self.in_swap_since[account] = self.now
        else:
            since = self.in_swap_since[account]
            if self.reachable(since, self.now) > self.bound(since, self.now):
                self.fail(f"I8 {account} stands behind a target alone for {self.now - since:.1f} s")
                self.in_swap_since[account] = self.now

    def _watch_crossed(self) -> None:
        """A crossed stop ends in an exit, whatever became of the order at the exchange."""
        last = self.world.venue.last[PAIR]
        for deal in self.books.deals():
            if deal.status in FINISHED_DEALS or deal.opened_at is None:
                self.crossed_since.pop(deal.pk, None)
                continue
            through = last <= deal.stop_price if deal.side == Side.BUY else last >= deal.stop_price
            if not through or self._is_dust(self.positions[deal.account.name]):
                self.crossed_since.pop(deal.pk, None)
            elif deal.pk not in self.crossed_since:
                self.crossed_since[deal.pk] = self.now
            else:
                since = self.crossed_since[deal.pk]
                if self.reachable(since, self.now) > self.bound(since, self.now) + 10.0:
                    self.fail(f"I14 deal {deal.pk} stands beyond its stop for {self.now - since:.1f} s")
                    self.crossed_since[deal.pk] = self.now

    def sent(self, process: Any, request: Request) -> None:
        """A request leaves for the exchange."""
        name = _named(request)
        if name is None:
            return
        lease = self.world.leases.get(process)
        if lease is not None and self.world.locks.held.get(lease.account.id) is not lease:
            self.fail(f"I25 {process.name} sends {name} after it lost the account")
        row = self.books.order_named(name)
        if row is None:
            self.fail(f"I2 {name} is sent and stands in no book")
            return
        if row.status != OrderStatus.SUBMITTED:
            self.fail(f"I2 {name} is sent while it is {row.status}")
        claimed = self.claimed.get(row.pk)
        if claimed is None or self.now - claimed > SEND_DEADLINE + 0.01:
            self.fail(f"I7 {name} is sent {self.now - (claimed or 0):.1f} s after its commit")
        self.left[name] = self.now
        if row.role == Role.ENTRY:
            self._entry_sent(row)
        elif row.role == Role.STOP or row.pair_id:
            self._stop_sent(row)

    def _stop_sent(self, row: Any) -> None:
        for other in self.books.orders():
            beside = other.deal_id == row.deal_id and other.role == Role.STOP and other.pk not in (row.pk, row.pair_id)
            if beside and not other.adoptions and not OrderStatus(other.status).is_final:
                self.fail(f"I13 stop {row.pk} is sent while stop {other.pk} of its deal is {other.status}")

    def _entry_sent(self, row: Any) -> None:
        self.figures.entries += 1
        age = self.now - self.planned.get(row.deal_id, self.now)
        if age > ENTRY_AGE and not self.is_skewed:
            self.fail(f"I7 an entry is sent {age:.1f} s after it was decided")
        key = (row.account.pk, row.market_id, row.side, row.quantity)
        before = self.entry_sends.get(key)
        if before is not None and before[0] != row.pk and self.now - before[1] < 10.0 and self._may_live(before[0]):
            self.fail(f"I7 two entries alike within {self.now - before[1]:.1f} s")
        self.entry_sends[key] = (row.pk, self.now)
        for scope, since in self._switches_over(row):
            if self.now - since > SWITCH_DEADLINE:
                self.fail(f"I23 an entry is sent {self.now - since:.1f} s after the switch of {scope}")

    def _switches_over(self, row: Any) -> list[tuple[str, float]]:
        """The switches that stand over an order, and since when."""
        scopes = {("global", 0), ("account", row.account.pk), ("market", row.market_id),
                  ("config", row.deal.config_id)}  # fmt: skip
        return [
            (scope[0], since)
            for scope, (level, since) in self.switches.items()
            if level != KillSwitch.OFF and scope in scopes
        ]

    def _may_live(self, order_id: int) -> bool:
        """Whether an entry was neither refused outright nor ended without a fill."""
        row = self._by_id(order_id)
        ended = row is not None and OrderStatus(row.status).is_final and row.filled_quantity == 0
        return not ended or row.negative_at is not None

    def dealt_with(self, request: Request, outcome: Any) -> None:
        """The exchange acted on a request."""
        injected = sum(self.world.exchange.faults.injected.values())
        if injected != self._injected:
            self._injected = injected
            self.impaired_spans.append((self.now, self.now + HARM))
        asked = _looked_up(request)
        if asked is not None:
            self.looks[asked].append(self.now)
            hides = self.world.venue.faults.is_hidden
            self.hidden[asked] = {each.id for each in self.records.working(pair=PAIR) if hides(each.id)}

    def written(self, name: str, args: tuple[Any, ...]) -> None:
        lease = self.world.leases.get(self.world.current)
        if lease is not None and lease.is_evicted:
            self.fail(f"I25 {self.world.current.name} writes {name} after it lost the account")
        if name == "stop_account":  # the key is refused: nobody can act until a person enters another
            self.impaired_spans.append((self.now, max(FAULTY, self.now) + HARM))
        if name == "note_baseline":
            self.begun[args[1].id] = self.now
        elif name == "claim_send":
            self._claimed(self._by_id(args[0].id), lease)
        elif name in ("end_order", "release_send") and args[0].status is OrderStatus.SUBMITTED:
            self._given_up(args[0])
        elif name in ("end_order", "end_leg", "lose_order"):
            self._ended(name, args[0])

    def _given_up(self, order: Any) -> None:
        """An order that may have arrived is absent only when the exchange was asked twice, and had its time before:
        since it left, or since its sender began, who sends nothing two seconds later."""
        settle = SETTLE_ENTRY if order.role == Role.ENTRY else SETTLE_OTHER
        first = order.pair_id if order.role == Role.STOP and order.pair_id else order.id
        since = self.left.get(order.client_order_id, self.begun.get(first, 0.0)) + settle
        looks = [at for at in self.looks[order.client_order_id] if at >= since]
        if not self.is_skewed and (len(looks) < 2 or looks[-1] - looks[0] < LOOKS_APART):
            self.fail(f"I6 {order.client_order_id} is given up after {len(looks)} looks that count")

    def _ended(self, name: str, order: Any) -> None:
        """What ends in our books does not work at the exchange. One that arrived after the last look, or that the
        exchange still hid from it, is no exception to that which anybody could have known: it is found by the next
        comparison."""
        looked, hidden = self.looks[order.client_order_id], self.hidden.get(order.client_order_id, set())
        for each in self._live(self._by_id(order.id).account.name):
            if looked and (self._seconds_of(each) > looked[-1] or each.id in hidden):
                continue
            if each.client_id == order.client_order_id or str(each.id) == order.exchange_order_id:
                self.fail(f"I3 {name} of {order.client_order_id}, and it is {each.state} at the exchange")

    def _claimed(self, row: Any, lease: Any) -> None:
        self.claimed[row.pk] = self.now
        if row.pair_id:
            self.claimed[row.pair_id] = self.now
        if row.role == Role.ENTRY and row.status == OrderStatus.SUBMITTED and row.epoch == lease.epoch:
            for scope, _ in self._switches_over(row):
                self.fail(f"I23 an entry is let go under the switch of {scope}")

    def decided(self, config: int, bar: Any, decided: Any) -> None:
        """An entry is planned: nothing may speak against it."""
        if decided.outcome != Outcome.ENTERED:
            return
        deal = next(each for each in self.books.deals() if each.pk == decided.deal_id)
        self.planned[deal.pk] = self.now
        same = [d for d in self.books.deals()
                if (d.config_id, d.market_id, d.bar_open_at, d.side)
                == (deal.config_id, deal.market_id, deal.bar_open_at, deal.side)]  # fmt: skip
        if len(same) > 1:
            self.fail(f"I1 {len(same)} deals for one candle of strategy {deal.config_id}")
        beside = [d for d in self.books.deals() if d.status not in FINISHED_DEALS and d.account.pk == deal.account.pk
                  and d.market_id == deal.market_id and d.pk != deal.pk]  # fmt: skip
        if beside:
            self.fail(f"I18 deal {deal.pk} is planned beside deal {beside[0].pk} on the same market")
        now = self.world.time.now()
        for order in self.books.orders():
            if order.account.pk != deal.account.pk or order.market_id != deal.market_id or order.deal_id == deal.pk:
                continue
            young = order.negative_at is not None and now - order.negative_at < timedelta(seconds=QUARANTINE)
            if order.unknown_since is not None or young:
                self.fail(f"I24 deal {deal.pk} is planned while order {order.pk} may still turn up")
        for ticket in self.books.tickets():
            here = ticket.account.pk == deal.account.pk and ticket.market is not None
            if here and ticket.market.pk == deal.market_id and ticket.resolved_at is None:
                self.fail(f"I24 deal {deal.pk} is planned while ticket {ticket.pk} is open on its market")
        entered = [d for d in self.books.deals() if d.config_id == config and d.status != DealStatus.CANCELED]
        if len(entered) > self.world.parameters.max_daily_trades:
            self.fail(f"I19 {len(entered)} entries of strategy {config} on one day")

    def switched(self, scope: str, target: int, level: KillSwitch) -> None:
        self.switches[scope, target] = (level, self.now)
        self.flatten_told.clear()

    def acted(self, act: str, deal: Any) -> None:
        """A person did something to a deal."""
        if act == "close":
            self.closed_by_hand[deal.pk] = self.now

    def _watch_closed_by_hand(self) -> None:
        """What a person closes is closed, as fast as what the kill switch does."""
        for deal in self.books.deals() if self.closed_by_hand else ():
            since = self.closed_by_hand.get(deal.pk)
            if since is None:
                continue
            if deal.status in FINISHED_DEALS or self._is_dust(self.positions[deal.account.name]):
                if deal.status in FINISHED_DEALS:
                    del self.closed_by_hand[deal.pk]
            elif self.reachable(since, self.now) > FLAT_WITHIN + self.bound(since, self.now) - BOUND:
                del self.closed_by_hand[deal.pk]
                self.fail(f"L1 deal {deal.pk} is open {self.now - since:.1f} s after a person closed it")

    def _watch_flatten(self) -> None:
        for (scope, target), (level, since) in self.switches.items():
            if level != KillSwitch.FLATTEN:
                continue
            within = FLAT_WITHIN + self.bound(since, self.now) - BOUND
            if self.reachable(since, self.now) <= within:
                continue
            for deal in self.books.deals():
                applies = (scope == "global" or (scope == "account" and target == deal.account.pk)
                           or (scope == "config" and target == deal.config_id)
                           or (scope == "market" and target == deal.market_id))  # fmt: skip
                if not applies or deal.status in FINISHED_DEALS or deal.created_at > self.world.time.now():
                    continue
                young = deal.opened_at is not None and self._age(deal) < FLAT_WITHIN + BOUND
                name = deal.account.name
                if not young and not self._is_dust(self.positions[name]) and name not in self.flatten_told:
                    self.flatten_told.add(name)
                    self.fail(f"I23 {name} is not flat {self.now - since:.1f} s after the switch of {scope}")

    def _age(self, deal: Any) -> float:
        return (self.world.time.now() - deal.opened_at).total_seconds()

    # --- the end ------------------------------------------------------------------------------------------------------

    def end(self) -> None:
        for name in list(self.bare):
            self._end_bare(name)
        for account in self.world.traders:
            self._compare_orders(account)
            self._compare_balances(account)
        self._check_ends()
        self._check_histories()
        self._check_entries()
        self._count()

    def _compare_orders(self, account: Any) -> None:
        """Every order of ours at the exchange is in our books, and says the same there."""
        theirs = [o for o in self.records.of(account.name) if is_ours(self._name(o))]
        by_exchange = {row.exchange_order_id: row for row in self.books.orders() if row.account.pk == account.id}
        for order in theirs:
            row = self._of_exchange(order, by_exchange)
            if row is None:
                if not self._has_ticket(order) and not self._just_came(order):
                    self.fail(f"I3 order {order.id} ({self._name(order)}) of {account.name} is lost")
                self.told_of[account.name].append(order)
                continue
            booked = sorted(_amounts(fill) for fill in self.books.fills() if fill.order.pk == row.pk)
            unread = self._unread(order, booked)
            self.unread[account.name] += unread
            expected = _STATES[State.OPEN] | _STATES[order.state] if unread else _STATES[order.state]
            if row.status not in expected:
                self.fail(f"I3 {row.client_order_id} is {row.status} here and {order.state} at the exchange")
            filled = order.filled - sum((trade.quantity for trade in unread), ZERO)
            if not filled <= row.filled_quantity <= order.filled:
                self.fail(f"I3 {row.client_order_id} has {row.filled_quantity} here, {order.filled} at the exchange")
            traded = sorted(_amounts(trade) for trade in order.trades if trade not in unread)
            if booked != traded:
                self.fail(f"I4 fills of {row.client_order_id}: {booked} booked, {traded} at the exchange")

    def _unread(self, order: Any, booked: Sequence[tuple[Decimal, ...]]) -> list[Any]:
        """Trades of an order that are not booked, because they came just before the end of the world."""
        left, unread = Counter(booked), []
        for trade in order.trades:  # oldest first: the youngest are left over
            if left[_amounts(trade)]:
                left[_amounts(trade)] -= 1
            elif self.now - (trade.executed_at - self.world.time.start).total_seconds() < READ_WITHIN:
                unread.append(trade)
        return unread

    def _of_exchange(self, order: Any, by_exchange: Mapping[str, Any]) -> Any | None:
        """Our row of an exchange's order: by the id it goes by there."""
        for name in (str(order.id), order.client_id):
            if name is not None and name in by_exchange:
                return by_exchange[name]
        return None

    def _just_came(self, order: Any) -> bool:
        """Whether it arrived so late that nobody has looked for it again before the world ended."""
        return self.now - self._seconds_of(order) < LOOKED_FOR_WITHIN

    def _seconds_of(self, order: Any) -> float:
        """When the exchange took an order, in seconds of this world."""
        return float((order.created_at - self.world.time.start).total_seconds())

    def _has_ticket(self, order: Any) -> bool:
        names = {str(order.id), order.client_id, str(order.pair_id)}  # who is asked about one leg looks at both
        return any(ticket.reference in names for ticket in self.books.tickets())

    def _compare_balances(self, account: Any) -> None:
        """I28: what the exchange holds is what was there, and what our fills made of it."""
        totals = {asset: b.total for asset, b in self.world.venue.balances(account.name).items()}
        expected = dict(self.world.venue.deposits(account.name))
        for fill in self.books.fills():
            if fill.order.account.pk != account.id:
                continue
            sign = Side(fill.order.side).sign
            for asset, change in (("BTC", sign * fill.quantity), ("USDT", -sign * fill.quantity * fill.price),
                                  (fill.fee_asset, -fill.fee)):  # fmt: skip
                expected[asset] = expected.get(asset, ZERO) + change
        for posting in self._postings_of_others(account.name):
            expected[posting.asset] = expected.get(posting.asset, ZERO) + posting.amount
        for asset in ("BTC", "USDT"):
            if totals.get(asset, ZERO) != expected.get(asset, ZERO):
                self.fail(f"I28 {account.name} holds {totals.get(asset)} {asset}, our books say {expected.get(asset)}")

    def _is_doubted(self, row: Any) -> bool:
        """An entry that trades or the balance speak for is not given up for 150 s: nothing hangs on it meanwhile."""
        return row.role == Role.ENTRY and self.now - self.claimed.get(row.pk, 0.0) < DOUBT

    def _is_entering(self, deal: Any) -> bool:
        return any(row.deal_id == deal.pk and self._is_doubted(row) for row in self.books.orders())

    def _postings_of_others(self, name: str) -> list[Any]:
        """What trades did to the account that are not to be in our books: of orders that are somebody else's, or that a
        person was asked about, the late twin of a stop, say, that was executed when its deal had ended
        (docs/reliability.md, "Limits"); and those of the last seconds."""
        foreign = [order for order in self.records.of(name) if not is_ours(self._name(order))]
        orders = foreign + self.told_of[name]
        trades = [trade for order in orders for trade in order.trades] + self.unread[name]
        postings = (each for trade in trades for each in trade.postings())
        return [each for each in postings if each.account == trader(name)]

    def _check_ends(self) -> None:
        for row in self.books.orders():
            if row.status in (OrderStatus.PENDING, OrderStatus.SUBMITTED) and not self._is_doubted(row):
                self.fail(f"L4 order {row.pk} ({row.role}) is still {row.status} at the end")
        for deal in self.books.deals():
            name = deal.account.name
            if deal.status in FINISHED_DEALS:
                own = {row.exchange_order_id for row in self.books.orders() if row.deal_id == deal.pk} - {None}
                alive = [o for o in self._live(name) if str(o.id) in own or o.client_id in own]
                if alive:
                    self.fail(f"I15 deal {deal.pk} is {deal.status} and order {alive[0].id} of it works")
            elif deal.status in (DealStatus.PLANNED, DealStatus.ENTERING) and not self._is_entering(deal):
                self.fail(f"L3 deal {deal.pk} is still {deal.status} at the end")
        for account in self.world.traders:
            has_deal = any(d.account.pk == account.id and d.status not in FINISHED_DEALS for d in self.books.deals())
            was_told = any(t.account.pk == account.id and t.reference.endswith("over") for t in self.books.tickets())
            was_told |= any(order.trades for order in self.told_of[account.name])
            if (
                not has_deal
                and not was_told
                and not self._is_dust(self.positions[account.name] - self._dust_of(account.name))
            ):
                self.fail(f"I15 {account.name} holds {self.positions[account.name]} and no deal knows of it")

    def _dust_of(self, account: str) -> Decimal:
        """What closed deals left behind on purpose."""
        left = ZERO
        for deal in self.books.deals():
            if deal.account.name == account and deal.status == DealStatus.CLOSED:
                left += Side(deal.side).sign * deal.dust_quantity
        return left

    def _check_histories(self) -> None:
        at: dict[int, str] = {}
        for event in self.books.order_events():
            before = at.get(event.order_id, "")
            old, new = event.from_status, event.to_status
            if old != before:
                self.fail(f"I5 order {event.order_id} goes from {old}, and was {before}")
            if old and old != new:
                allowed = ORDER_TRANSITIONS[OrderStatus(old)] | ADOPTIONS.get(OrderStatus(old), frozenset())
                if OrderStatus(new) not in allowed:
                    self.fail(f"I5 order {event.order_id} goes from {old} to {new}")
                self.figures.transitions[f"order {old} → {new}"] += 1
            at[event.order_id] = new
        for event in self.books.deal_events():
            old, new = event.from_status, event.to_status
            if old and old != new:
                if DealStatus(new) not in DEAL_TRANSITIONS[DealStatus(old)]:
                    self.fail(f"I5 deal {event.deal_id} goes from {old} to {new}")
                self.figures.transitions[f"deal {old} → {new}"] += 1

    def _check_entries(self) -> None:
        """I1 from the exchange's side: one filled entry for a strategy's candle, one order for a name."""
        by_key: Counter[Any] = Counter()
        for account in self.world.traders:
            names: Counter[str] = Counter()
            for order in self.records.of(account.name):
                row = self.books.order_named(order.client_id or "")
                if row is None or row.role != Role.ENTRY:
                    continue
                names[order.client_id] += 1
                if order.filled > 0:
                    by_key[row.deal.config_id, row.deal.bar_open_at, row.side] += 1
            for name, count in names.items():
                if count > 1:
                    self.fail(f"I6 {count} orders at the exchange for the one entry {name}")
        for key, count in by_key.items():
            if count > 1:
                self.fail(f"I1 {count} filled entries for one candle of strategy {key[0]}")

    def _count(self) -> None:
        figures = self.figures
        figures.deals, figures.orders = len(self.books.deals()), len(self.books.orders())
        figures.fills, figures.tickets = len(self.books.fills()), len(self.books.tickets())
        figures.adopted = sum(row.adoptions for row in self.books.orders())
        figures.unknown = _count(event.reason.startswith("outcome unknown") for event in self.books.order_events())
        figures.evictions = self.world.locks.evictions


def _count(hits: Iterable[bool]) -> int:
    return sum(1 for hit in hits if hit)


def _looked_up(request: Request) -> str | None:
    """The order that a request asks for by our name."""
    if request.method == "POST" and request.path.endswith("/orders/status"):
        name = json.loads(request.body or b"{}").get("clientOrderId")
    else:
        name = request.path.rpartition("/")[2] if request.method == "GET" else None
    return name if name and is_ours(name) else None


def _amounts(trade: Any) -> tuple[Decimal, ...]:
    """What the exchange's trade and our fill of it have in common."""
    return trade.quantity, trade.price, trade.fee


def _named(request: Request) -> str | None:
    """The order that a request would make, by our name for it."""
    if request.method != "POST" or not request.body or b"lient" not in request.body:
        return None
    if not request.path.endswith(("/account/orders", "/orders/add")):
        return None
    body = json.loads(request.body)
    name = body.get("client_id") or body.get("clientOrderId")
    return name if is_ours(name) else None
