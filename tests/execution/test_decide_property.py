"""Decisions drive a small imagined exchange through whatever prices, refusals and losses come: never too much is sold,
the stop never moves back, and when the trouble ends the deal is protected or over."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from algo.execution import decide
from algo.execution.decide import Action, next_action
from algo.execution.views import DealView, OrderView, Quote
from algo.models import DealStatus, Role
from providers.types import OrderStatus, OrderType, ProtectionMode, Side
from tests.execution.views import BUDGETS, FREELY, NOW, deal, entry, order

S = OrderStatus
ZERO = Decimal(0)
SETTLED = timedelta(seconds=9)

FINE, REFUSED, DOWN, LOST_REQUEST, LOST_ANSWER, PARTIAL = range(6)


@dataclass
class Resting:
    """An order as the exchange has it. `waits` is an untriggered stop."""

    id: int
    side: Side
    type: OrderType
    quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    pair_id: int | None = None
    filled: Decimal = ZERO
    status: OrderStatus = S.OPEN
    waits: bool = False

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled


@dataclass
class Exchange:
    """Holds exactly what the entry brought. Stops lock it unless `free`; nothing can be sold that is not there."""

    price: Decimal
    free: bool
    held: Decimal = ZERO  # of the deal's position, still to be closed
    orders: dict[int, Resting] = field(default_factory=dict)

    def locked(self) -> Decimal:
        working = [each for each in self.orders.values() if each.status is S.OPEN and not (self.free and each.waits)]
        pairs = {frozenset((each.id, each.pair_id)): each.remaining for each in working if each.pair_id}
        return sum((each.remaining for each in working if not each.pair_id), ZERO) + sum(pairs.values(), ZERO)

    def create(self, legs: list[Resting], share: Decimal) -> bool:
        """False where it refuses. A market order fills `share` of itself and is done."""
        first = legs[0]
        if first.quantity > self.held - (ZERO if self.free and first.waits else self.locked()):
            return False
        for leg in legs:
            if leg.stop_price is not None and self._reached(leg):
                return False
        for leg in legs:
            self.orders[leg.id] = leg
        if first.type is OrderType.MARKET:
            self.fill(first, (first.quantity * share).quantize(Decimal("0.0001")))
            first.status = S.FILLED if not first.remaining else S.CANCELED
        self.play()
        return True

    def cancel(self, number: int) -> None:
        leg = self.orders[number]
        for each in (leg, self.orders.get(leg.pair_id or 0)):
            if each and each.status is S.OPEN:
                each.status = S.CANCELED

    def move(self, price: Decimal) -> None:
        self.price = price
        self.play()

    def play(self) -> None:
        for leg in list(self.orders.values()):
            if leg.status is S.OPEN and self._reached(leg):
                partner = self.orders.get(leg.pair_id or 0)
                if partner and partner.status is S.OPEN:
                    partner.status = S.CANCELED
                self.fill(leg, min(leg.remaining, self.held))
                leg.status = S.FILLED if not leg.remaining else S.CANCELED

    def fill(self, leg: Resting, quantity: Decimal) -> None:
        leg.filled += quantity
        self.held -= quantity
        assert self.held >= 0, "sold more than there is"

    def _reached(self, leg: Resting) -> bool:
        sign = leg.side.sign  # of the closing order: -1 sells
        if leg.stop_price is not None:
            return (self.price - leg.stop_price) * sign >= 0
        return leg.price is not None and (self.price - leg.price) * sign <= 0


class Life:
    """One deal, its exchange, and what goes wrong: one number out of `troubles` for every call that writes."""

    def __init__(self, mode: int, side: Side, trailing: bool, troubles: list[int]) -> None:
        self.now = NOW
        self.exchange = Exchange(Decimal(100), free=mode == ProtectionMode.FREE_STOPS)
        percent = {"trailing_percent": Decimal(1), "trailing_step_percent": Decimal("0.1")} if trailing else {}
        bought = entry(side, fee_base=Decimal("0.003") if side is Side.BUY else ZERO)
        self.deal: DealView = deal(bought, mode=mode, side=side, **percent)
        self.exchange.held = self.deal.position
        self.troubles = troubles
        self.numbers = 100
        self.sold = ZERO

    def trouble(self) -> int:
        return self.troubles.pop() if self.troubles else FINE

    def second(self, price: Decimal) -> None:
        self.now += timedelta(seconds=1)
        self.exchange.move(price)
        for _ in range(24):
            quote = Quote(bid=price, ask=price, as_of=self.now, last=price)
            action = next_action(self.deal, quote, FREELY, self.now, BUDGETS)
            if isinstance(action, decide.Rest):
                return
            before = self.deal
            if self.perform(action):
                return
            self.check(before)
        raise AssertionError(f"it does not come to rest: {action}")

    def check(self, before: DealView) -> None:
        view, sign = self.deal, self.deal.side.sign
        closing = [each for each in view.orders if each.role != Role.ENTRY]
        assert sum((each.filled for each in closing), ZERO) <= view.orders[0].filled - view.orders[0].fee_base
        assert len(view.live(Role.EXIT)) <= 1
        assert (view.stop_price - before.stop_price) * sign >= 0, "the stop moved back"
        assert len(view.live(Role.STOP)) <= 1
        assert not (view.live(Role.EXIT) and view.live(Role.STOP, Role.TARGET))

    # --- what an action does ---

    def perform(self, action: Action) -> bool:
        """True where the call failed and the look is over."""
        match action:
            case decide.Send(planned):
                return self.send(planned)
            case decide.Ask(known) | decide.Recover(known):
                self.look_up(known)
            case decide.Cancel(working, _):
                return self.take_down(working)
            case decide.Withdraw(planned, _):
                for number in (planned.id, planned.pair_id):
                    self.change(number, status=S.CANCELED, closed_at=self.now)
            case decide.Place():
                self.plan(action.role, action.type, action.quantity, action.price, action.stop_price)
            case decide.PlacePair():
                target = self.plan(Role.TARGET, OrderType.LIMIT, action.quantity, action.price, None)
                stop = self.plan(
                    Role.STOP, OrderType.STOP_LIMIT, action.quantity, action.stop_limit_price, action.stop_price
                )
                self.change(target, pair_id=stop)
                self.change(stop, pair_id=target)
            case _:
                self.note(action)
        return False

    def note(self, action: Action) -> None:
        match action:
            case decide.MoveStop(stop_price, best):
                self.deal = replace(self.deal, stop_price=stop_price, best_price=best, trailed_at=self.now)
            case decide.NoteBest(best):
                self.deal = replace(self.deal, best_price=best)
            case decide.NoteCrossed(crossed):
                self.deal = replace(self.deal, crossed_at=self.now if crossed else None)
            case decide.BeginSwap():
                self.deal = replace(self.deal, swapped_at=self.now)
            case decide.StartExit(reason, _):
                self.deal = replace(self.deal, exit_reason=reason, status=DealStatus.EXITING)
            case decide.CloseDeal(_, dust):
                assert not [each for each in self.exchange.orders.values() if each.status is S.OPEN], "orphans"
                assert dust < Decimal("0.06"), "closed with a position"
                self.deal = replace(self.deal, status=DealStatus.CLOSED)
            case _:
                raise AssertionError(f"unexpected {action}")

    def plan(self, role: Role, kind: OrderType, quantity: Decimal, price: Decimal | None, stop: Decimal | None) -> int:
        assert quantity <= self.deal.position
        self.numbers += 1
        planned = order(
            role, S.PENDING, side=self.deal.side, id=self.numbers, quantity=quantity, price=price, stop_price=stop,
            type=kind, created_at=self.now,
        )  # fmt: skip
        self.deal = replace(self.deal, orders=(*self.deal.orders, planned))
        return self.numbers

    def change(self, number: int | None, **fields: object) -> None:
        orders = tuple(replace(each, **fields) if each.id == number else each for each in self.deal.orders)
        self.deal = replace(self.deal, orders=orders)

    def view(self, number: int | None) -> OrderView:
        return next(each for each in self.deal.orders if each.id == number)

    def send(self, planned: OrderView) -> bool:
        legs = [planned] + ([self.view(planned.pair_id)] if planned.pair_id else [])
        for leg in legs:
            assert leg.id not in self.exchange.orders or leg.role in (Role.STOP, Role.TARGET), "sent twice"
            self.change(leg.id, status=S.SUBMITTED, submitted_at=self.now, checked_at=None)
        trouble = self.trouble()
        if trouble == DOWN:
            for leg in legs:
                self.change(leg.id, status=S.PENDING, submitted_at=None)
            return True
        accepted = trouble not in (REFUSED, LOST_REQUEST) and self.arrive(legs, trouble)
        if trouble in (LOST_REQUEST, LOST_ANSWER) and (accepted or trouble == LOST_REQUEST):
            for leg in legs:
                self.change(leg.id, checked_at=self.now)
            return False
        for leg in legs:
            if accepted:
                self.take(leg.id, read_back=False)
            else:
                self.change(leg.id, status=S.REJECTED, closed_at=self.now)
        return False

    def arrive(self, legs: list[OrderView], trouble: int) -> bool:
        share = Decimal("0.4") if trouble == PARTIAL else Decimal(1)
        if legs[0].id in self.exchange.orders:
            return True  # the first one turns up: the exchange refuses a second of that name, and it is looked up
        resting = [
            Resting(each.id, each.side, each.type, each.quantity, each.price, each.stop_price, each.pair_id,
                    waits=each.stop_price is not None)
            for each in legs
        ]  # fmt: skip
        return self.exchange.create(resting, share)

    def take(self, number: int, *, read_back: bool = True) -> None:
        """What the exchange says about it, into our books."""
        truth, ours = self.exchange.orders[number], self.view(number)
        status = truth.status if truth.status is not S.OPEN or ours.status is not S.CANCELING else S.CANCELING
        self.change(
            number,
            status=status,
            filled=truth.filled,
            booked=truth.filled,
            exchange_order_id=f"x{number}",
            accepted_at=ours.accepted_at or self.now,
            checked_at=self.now if read_back else None,
            closed_at=self.now if status.is_final else None,
        )

    def look_up(self, known: OrderView) -> None:
        numbers = [known.id] + ([known.pair_id] if known.is_unknown and known.pair_id else [])
        if known.id in self.exchange.orders:
            for number in numbers:
                if number is not None:
                    self.take(number)
            return
        assert known.is_unknown
        late = self.now - (known.submitted_at or self.now) >= SETTLED
        for number in numbers:
            if not late:
                self.change(number, checked_at=self.now)
            elif known.role == Role.EXIT:
                self.change(number, status=S.REJECTED, closed_at=self.now)
            else:
                self.change(number, status=S.PENDING, submitted_at=None)

    def take_down(self, working: OrderView) -> bool:
        assert working.id in self.exchange.orders, "cancelled what the exchange does not know"
        self.change(working.id, status=S.CANCELING, cancel_requested_at=self.now)
        trouble = self.trouble()
        if trouble in (DOWN, LOST_REQUEST):
            return trouble == DOWN
        self.exchange.cancel(working.id)
        if trouble != LOST_ANSWER:
            for number in (working.id, working.pair_id):
                if number is not None:
                    self.take(number)
        return False


PRICES = st.lists(st.integers(-25, 25), min_size=5, max_size=40)  # tenths of a percent from the entry
TROUBLES = st.lists(st.sampled_from([FINE, FINE, REFUSED, DOWN, LOST_REQUEST, LOST_ANSWER, PARTIAL]), max_size=14)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    mode=st.sampled_from([1, 2, 3, 4]),
    side=st.sampled_from(list(Side)),
    trailing=st.booleans(),
    prices=PRICES,
    troubles=TROUBLES,
)
def test_whatever_happens_the_deal_is_protected_in_the_end_or_over(mode, side, trailing, prices, troubles):
    life = Life(mode, side, trailing, troubles)
    price = Decimal(100)
    for offset in prices:
        price = Decimal(100) + Decimal(offset) / 10
        life.second(price)
    life.troubles = []
    # The trouble is over and the price stands still: a minute later it rests under its stop, is over, or, where nothing
    # can rest at the exchange, is watched.
    for _ in range(60):
        life.second(price)
    watched = mode == ProtectionMode.NO_STOPS and life.deal.exit_reason is None
    assert life.deal.status is DealStatus.CLOSED or watched or life.deal.is_protected(price), life.deal
    # And whatever rests, it ends when the price goes far against it.
    for _ in range(40):
        life.second(Decimal(100) - side.sign * 10)
    assert life.deal.status is DealStatus.CLOSED
    assert life.exchange.held < Decimal("0.06")
