"""The matching core of one exchange: accounts, orders, fills, locks. Pure and in process; `now` is passed in.

Counterparty of every trade is the house, which quotes the synthetic depth: two traders never meet each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal, localcontext

from providers.paper import rules
from providers.paper.faults import FaultPlan
from providers.paper.ledger import EXACT, OUTSIDE, Entry, Ledger, LedgerError, Posting, trader
from providers.paper.market_faults import MarketFaults
from providers.paper.orders import (
    Book,
    Instruction,
    NotCancelable,
    OcoInstruction,
    Order,
    OrderRefused,
    Refusal,
    State,
    Trade,
    UnknownOrder,
)
from providers.paper.profiles import MarketProfile, VenueProfile
from providers.paper.records import Records
from providers.paper.venue_depth import Depth
from providers.types import ZERO, Balance, BookLevel, OrderType, Side


class Venue:
    """One exchange. `books(pair, at)` gives the depth to match against; `on_tick` moves the last price.

    `faults` is asked what goes wrong; `settle` has to be called when time moved, for what faults have put off.
    """

    def __init__(
        self, profile: VenueProfile, books: Callable[[str, datetime], Book], faults: FaultPlan | None = None
    ) -> None:
        self.profile = profile
        self.ledger = Ledger()
        self.last: dict[str, Decimal] = {}
        self.records = Records()
        self.faults = MarketFaults(profile.name, faults or FaultPlan())
        self._depth = Depth(books)
        self._opening: dict[str, dict[str, Decimal]] = {}
        self._recent: dict[tuple[object, ...], datetime] = {}

    # -- accounts ------------------------------------------------------------------------------------------------

    def deposit(self, account: str, amounts: dict[str, Decimal], now: datetime) -> None:
        """Credit an account from outside; opens it when it is new. Amounts must not be negative."""
        if any(amount < 0 for amount in amounts.values()):
            raise ValueError("a deposit cannot be negative")
        opening = self._opening.setdefault(account, {})
        for asset, amount in amounts.items():
            opening[asset] = opening.get(asset, ZERO) + amount
        postings = [
            Posting(owner, asset, signed)
            for asset, amount in amounts.items()
            for owner, signed in ((trader(account), amount), (OUTSIDE, -amount))
        ]
        self._book("deposit", now, postings)
        self.ledger.check_conservation()

    def deposits(self, account: str) -> dict[str, Decimal]:
        """Everything ever deposited, by asset."""
        return dict(self._opening.get(account, {}))

    def balances(self, account: str) -> dict[str, Balance]:
        """Every asset the account ever held, zeros included."""
        amounts = self.ledger.balances(trader(account))
        return {asset: Balance(asset, total, self.locked(account, asset)) for asset, total in amounts.items()}

    def balance(self, account: str, asset: str) -> Balance:
        return Balance(asset, self.ledger.balance(trader(account), asset), self.locked(account, asset))

    def locked(self, account: str, asset: str) -> Decimal:
        """What working orders hold."""
        total = ZERO
        for order in self.records.working(account=account):
            if order.lock_asset == asset:
                total = EXACT.add(total, order.lock)
        return total

    def available(self, account: str, asset: str) -> Decimal:
        return EXACT.subtract(self.ledger.balance(trader(account), asset), self.locked(account, asset))

    # -- reading orders: what the exchange tells, which may lag behind `records` --------------------------------

    def orders(self, account: str) -> Sequence[Order]:
        """All orders of an account, oldest first."""
        orders = self.records.of(account)
        return [order for order in orders if not self.faults.is_hidden(order.id)] if self.faults.hides else orders

    def working_orders(self, account: str) -> list[Order]:
        return [order for order in self.records.working(account=account) if not self.faults.is_hidden(order.id)]

    def order(self, account: str, order_id: int) -> Order:
        """Raises `UnknownOrder`, also for other people's orders."""
        if self.faults.is_hidden(order_id):
            raise UnknownOrder(str(order_id))
        return self.records.get(account, order_id)

    def order_by_client_id(self, account: str, client_id: str, *, working_only: bool = False) -> Order:
        """The newest order with this client id. Raises `UnknownOrder`."""
        for order in reversed(self.records.with_client_id(account, client_id)):
            if (order.state.is_working or not working_only) and not self.faults.is_hidden(order.id):
                return order
        raise UnknownOrder(client_id)

    def trades(self, account: str) -> Sequence[Trade]:
        """All fills of an account, oldest first."""
        trades = self.records.trades(account)
        return [t for t in trades if not self.faults.is_hidden(t.order_id)] if self.faults.hides else trades

    def depth(self, pair: str, now: datetime) -> Book:
        """The book as the public sees it: without what was taken from it since it was refreshed."""
        return self.look(pair, now)[0]

    def look(self, pair: str, now: datetime) -> tuple[Book, datetime]:
        """(the book as the public sees it, the time it is of)."""
        return self.faults.show(pair, self._depth.book(pair, now), now)

    # -- writing orders ------------------------------------------------------------------------------------------

    def submit(self, account: str, instruction: Instruction, now: datetime) -> Order:
        """Accept and match an order. Raises `OrderRefused`; then nothing happened."""
        with localcontext(EXACT):
            market, last = self._market(instruction.pair)
            asked = rules.normalised(instruction, market, self.profile)
            rules.check(asked, market, self.profile, last)
            self._check_duplicates(account, asked, now)
            order = self._new_order(account, asked, last, now)
            self._check_funds(order, last, now)
            self._accept(order, rules.fingerprint(account, asked), now)
            self._enter(order, last, now)
            self._verify(account)
        return order

    def submit_oco(self, account: str, asked: OcoInstruction, now: datetime) -> tuple[Order, Order]:
        """Accept a pair (limit leg, stop leg). The balance is held once. Raises `OrderRefused`."""
        if not self.profile.offers_oco:
            raise OrderRefused(Refusal.OCO_UNAVAILABLE, "this exchange has no OCO orders")
        with localcontext(EXACT):
            market, last = self._market(asked.pair)
            oco = rules.normalised_oco(asked, market)
            rules.check_oco(oco, last)
            legs = rules.oco_legs(oco)
            for leg in legs:
                rules.check(leg, market, self.profile, last)
            self._check_duplicates(account, legs[0], now, key=rules.fingerprint(account, oco))
            limit, stop = (self._new_order(account, leg, last, now) for leg in legs)
            limit.pair_id, stop.pair_id = stop.id, limit.id
            # One lock, the larger leg's, held by the limit leg and handed over when the stop triggers.
            limit.lock_rate = max(rules.lock_rate(limit), rules.lock_rate(stop))
            stop.lock_rate = ZERO
            self._check_funds(limit, last, now)
            self._accept(limit, rules.fingerprint(account, oco), now)
            self._accept(stop, None, now)
            self._enter(stop, last, now)
            self._enter(limit, last, now)
            self._verify(account)
        return limit, stop

    def cancel(self, account: str, order_id: int, now: datetime, *, reason: str = "user") -> Order:
        """Cancel a working order, and its OCO partner with it. Raises `UnknownOrder` or `NotCancelable`."""
        with localcontext(EXACT):
            order = self.records.get(account, order_id)
            if order.state in (State.OPEN, State.INACTIVE):
                self._fill_before_cancel(order, now)
            if not order.state.is_working:
                self._verify(account)
                raise NotCancelable(str(order_id))
            self.records.close(order, State.CANCELED, now, reason)
            self._cancel_partner(order, now)
            self._verify(account)
        return order

    def _fill_before_cancel(self, order: Order, now: datetime) -> None:
        """The fault that lets a fill (of a stop: its trigger) win the race against the cancel."""
        share = self.faults.filled_before_cancel(order)
        if share is None:
            return
        quantity = self._share(order, share)
        if order.state is State.OPEN:
            self._fill_as_maker(order, quantity, now)
            return
        self._wake(order, now)
        bound = self._bound(order, self.last[order.pair]) if order.price is None else order.price
        self._take(order, bound, now, at_most=quantity)

    def settle(self, now: datetime) -> None:
        """Do what faults have put off until now: orders enter the market, or are rejected after all."""
        for due in self.faults.due(now):
            order = self.records[due.order_id]
            if order.state is State.NEW:
                with localcontext(EXACT):
                    self._settle_order(order, due.at, is_rejected=due.is_rejected)
        self.faults.settle(now)

    def _settle_order(self, order: Order, at: datetime, *, is_rejected: bool) -> None:
        if is_rejected:
            self.records.close(order, State.CANCELED, at, "rejected after it was accepted")
            self._cancel_partner(order, at)
        else:
            order.state = State.INACTIVE if order.type.is_stop else State.OPEN
            order.updated_at = at
            self.records.touch(order)
            if order.state is State.OPEN:
                self._execute(order, self.last[order.pair], at)
        self._verify(order.account)

    # -- the market moves ----------------------------------------------------------------------------------------

    def watch(self, pair: str) -> tuple[Decimal | None, Decimal | None]:
        """(low, high): nothing happens to any order of this pair while low < price < high."""
        lows: list[Decimal] = []
        highs: list[Decimal] = []
        for order in self.records.working(pair=pair):
            if order.state is State.NEW:
                continue
            level = order.stop_price if order.state is State.INACTIVE else order.price
            is_low = order.trigger == "<=" if order.state is State.INACTIVE else order.side is Side.BUY
            if level is not None:
                (lows if is_low else highs).append(level)
        return max(lows, default=None), min(highs, default=None)

    def on_tick(self, pair: str, price: Decimal, volume: Decimal, at: datetime) -> None:
        """A public trade: move the last price, trigger stops, fill resting limits, oldest order first.

        A trade through a limit fills all of it; one exactly at its price fills at most the traded volume.
        """
        with localcontext(EXACT):
            self.last[pair] = price
            touched = set()
            left = volume
            for order in self.records.working(pair=pair):
                if order.state is State.INACTIVE and order.is_triggered_by(price):
                    if self.faults.is_deaf(order):
                        continue
                    self._trigger(order, price, at)
                elif order.state is State.OPEN and order.is_crossed_by(price):
                    quantity = order.remaining if price != order.price else min(order.remaining, left)
                    left -= quantity if price == order.price else ZERO
                    self._fill_as_maker(order, quantity, at)
                else:
                    continue
                touched.add(order.account)
            for account in touched:
                self._verify(account)

    def _trigger(self, order: Order, price: Decimal, at: datetime) -> None:
        self._wake(order, at)
        if order.type is OrderType.STOP_MARKET:
            self._execute_at_market(order, price, at, self.faults.filled_after_trigger(order))
            return
        if self.available(order.account, order.lock_asset) < 0:
            self.records.close(order, State.CANCELED, at, "insufficient balance at trigger")
            return
        self._execute(order, price, at)

    def _wake(self, order: Order, at: datetime) -> None:
        """A triggered stop cancels its OCO partner and needs the balance that one held; a free stop locks now."""
        order.triggered_at = order.updated_at = at
        order.state = State.OPEN
        self.records.touch(order)
        self._cancel_partner(order, at)
        # What a STOP_MARKET held is released to pay for its fills.
        order.lock_rate = ZERO if order.type is OrderType.STOP_MARKET else rules.lock_rate(order)

    def _fill_as_maker(self, order: Order, quantity: Decimal, at: datetime) -> None:
        on_grid = rules.snap(quantity, rules.fill_step(self.profile.markets[order.pair], self.profile), ROUND_DOWN)
        if on_grid > 0 and order.price is not None:
            self._fill(order, order.price, on_grid, at, is_maker=True)

    # -- matching ------------------------------------------------------------------------------------------------

    def _enter(self, order: Order, last: Decimal, now: datetime) -> None:
        """An accepted order comes into the market, unless a fault puts that off."""
        if not self.faults.accept(order, now):
            order.state = State.NEW
        elif order.state is State.OPEN:
            self._execute(order, last, now)

    def _execute(self, order: Order, last: Decimal, now: datetime) -> None:
        share = self.faults.filled_on_arrival(order) if order.type in (OrderType.MARKET, OrderType.LIMIT) else None
        if order.type is OrderType.MARKET:
            estimate = order.price if self.profile.market_price_tolerance is not None else None
            self._execute_at_market(order, estimate or last, now, share)
        elif share is not None:
            self._fill_then_cancel(order, share, now)
        elif order.price is not None:
            self._take(order, order.price, now)

    def _execute_at_market(self, order: Order, reference: Decimal, now: datetime, share: Decimal | None) -> None:
        """Fill up to the band around `reference`, then cancel the rest (contracts: wallex 6.6, nobitex 6.1)."""
        bound = self._bound(order, reference)
        if share is not None:
            self._take(order, bound, now, at_most=self._share(order, share))
        elif not self.profile.band_cancels_all or self._depth_within(order, bound, now) >= order.remaining:
            self._take(order, bound, now)
        if order.state is State.OPEN:
            self.records.close(order, State.CANCELED, now, "market band or balance")
            self._cancel_partner(order, now)

    def _fill_then_cancel(self, order: Order, share: Decimal, now: datetime) -> None:
        """The fault that fills a LIMIT partly, at its price at worst, and lets the system cancel the rest."""
        quantity = self._share(order, share)
        self._take(order, order.price or ZERO, now, at_most=quantity)
        if order.state is State.OPEN:
            self._fill_as_maker(order, quantity - order.filled, now)
        if order.state is State.OPEN:
            self.records.close(order, State.CANCELED, now, "canceled by the system")
            self._cancel_partner(order, now)

    def _bound(self, order: Order, reference: Decimal) -> Decimal:
        return reference * (1 + self.profile.market_band * order.side.sign)

    def _share(self, order: Order, share: Decimal) -> Decimal:
        """A share of what is left of the order, on the step grid."""
        return rules.snap(
            order.remaining * share, rules.fill_step(self.profile.markets[order.pair], self.profile), ROUND_DOWN
        )

    def _take(self, order: Order, bound: Decimal, now: datetime, at_most: Decimal | None = None) -> None:
        """Match against the depth as a taker, no further than `bound` and no more than the account can pay."""
        market = self.profile.markets[order.pair]
        book = self._matchable(order.pair, now)
        left = order.remaining if at_most is None else at_most
        for level in self._depth.levels(book, order.side, bound):
            most = min(left, level.quantity, self._affordable(order, level.price))
            quantity = rules.snap(most, rules.fill_step(market, self.profile), ROUND_DOWN)
            if quantity <= 0:
                continue
            self._depth.take(order.pair, book.version, level.price, quantity)
            self._fill(order, level.price, quantity, now, is_maker=False)
            left -= quantity
            if order.state is not State.OPEN:
                return

    def _matchable(self, pair: str, now: datetime) -> Book:
        return self.faults.matchable(pair, self._depth.book(pair, now), now)

    def _levels(self, order: Order, bound: Decimal, now: datetime) -> tuple[BookLevel, ...]:
        return self._depth.levels(self._matchable(order.pair, now), order.side, bound)

    def _depth_within(self, order: Order, bound: Decimal, now: datetime) -> Decimal:
        return sum((level.quantity for level in self._levels(order, bound, now)), ZERO)

    def _affordable(self, order: Order, price: Decimal) -> Decimal:
        free = self.available(order.account, order.lock_asset) + order.lock
        return free / price if order.side is Side.BUY else free

    def _fill(self, order: Order, price: Decimal, quantity: Decimal, at: datetime, *, is_maker: bool) -> None:
        market = self.profile.markets[order.pair]
        rate = market.maker_fee_rate if is_maker else market.taker_fee_rate
        total = price * quantity
        fee = rate * (quantity if order.side is Side.BUY else total)
        trade = Trade(
            self.records.next_trade_id(), order.id, order.account, order.pair, order.side, price, quantity,
            fee, market.fee_asset(order.side), rate, is_maker, at,
        )  # fmt: skip
        self._book("trade", at, trade.postings())
        self.records.add_trade(order, trade)
        order.filled += quantity
        order.filled_quote += total
        order.fee += fee
        order.updated_at = at
        if not order.remaining:
            self.records.close(order, State.FILLED, at, "")
        if order.type is OrderType.LIMIT:
            self._cancel_partner(order, at)

    # -- bookkeeping ---------------------------------------------------------------------------------------------

    def _market(self, pair: str) -> tuple[MarketProfile, Decimal]:
        market = self.profile.markets.get(pair)
        if market is None:
            raise OrderRefused(Refusal.UNKNOWN_PAIR, f"{pair} is not traded here")
        last = self.last.get(pair)
        if last is None:
            raise OrderRefused(Refusal.NO_PRICE_YET, f"{pair} has no price yet")
        return market, last

    def _check_duplicates(
        self, account: str, asked: Instruction, now: datetime, key: tuple[object, ...] | None = None
    ) -> None:
        if asked.client_id is not None:
            same = self.records.with_client_id(account, asked.client_id)
            if any(self.profile.client_ids_unique_forever or order.state.is_working for order in same):
                raise OrderRefused(Refusal.DUPLICATE_CLIENT_ID, "this client id is in use")
        guard = self.profile.duplicate_guard
        before = self._recent.get(key or rules.fingerprint(account, asked))
        if guard and before and now - before < guard and not asked.bypass_duplicate_guard:
            raise OrderRefused(Refusal.DUPLICATE_ORDER, f"the same order was placed within {guard.seconds} s")

    def _new_order(self, account: str, asked: Instruction, last: Decimal, now: datetime) -> Order:
        market = self.profile.markets[asked.pair]
        order = Order(
            id=self.records.next_order_id(), account=account, pair=asked.pair, side=asked.side, type=asked.type,
            quantity=asked.quantity, price=asked.price, stop_price=asked.stop_price, client_id=asked.client_id,
            created_at=now, updated_at=now, state=State.INACTIVE if asked.type.is_stop else State.OPEN,
            fee_asset=market.fee_asset(asked.side),
            lock_asset=market.quote if asked.side is Side.BUY else market.base,
        )  # fmt: skip
        if asked.stop_price is not None:
            order.trigger = rules.stop_trigger(asked.side, asked.stop_price, last, self.profile)
        if not asked.type.is_stop or self.profile.stops_lock:
            order.lock_rate = rules.lock_rate(order)
        return order

    def _check_funds(self, order: Order, last: Decimal, now: datetime) -> None:
        rate = order.lock_rate or rules.lock_rate(order)
        need = (rate or last) * order.quantity
        if order.type is OrderType.MARKET and order.side is Side.BUY:
            need = max(need, self._cost_at_market(order, last, now))
        is_free_stop = order.state is State.INACTIVE and not self.profile.stops_lock
        have = self.balance(order.account, order.lock_asset).total if is_free_stop else None
        if need > (self.available(order.account, order.lock_asset) if have is None else have):
            raise OrderRefused(Refusal.INSUFFICIENT_BALANCE, f"not enough free {order.lock_asset}")

    def _cost_at_market(self, order: Order, last: Decimal, now: datetime) -> Decimal:
        cost, left = ZERO, order.quantity
        for level in self._levels(order, last * (1 + self.profile.market_band), now):
            quantity = min(left, level.quantity)
            cost += quantity * level.price
            left -= quantity
        return cost

    def _accept(self, order: Order, fingerprint: tuple[object, ...] | None, now: datetime) -> None:
        self.records.add(order)
        if fingerprint is not None and self.profile.duplicate_guard is not None:
            floor = now - self.profile.duplicate_guard
            self._recent = {key: at for key, at in self._recent.items() if at > floor}
            self._recent[fingerprint] = now

    def _cancel_partner(self, order: Order, at: datetime) -> None:
        partner = self.records.partner(order)
        if partner is not None and partner.state.is_working:
            self.records.close(partner, State.CANCELED, at, "other leg of the OCO")

    def _book(self, kind: str, at: datetime, postings: Iterable[Posting]) -> None:
        self.records.add_entry(self.ledger.post(kind, at, postings))

    def _verify(self, account: str) -> None:
        """Conservation, and nothing locked that is not there. A failure here is a bug and ends the process."""
        self.ledger.check_conservation()
        for asset, amount in self.ledger.balances(trader(account)).items():
            if amount < 0 or (self.profile.stops_lock and amount < self.locked(account, asset)):
                raise LedgerError(f"{account} has {amount} {asset}, {self.locked(account, asset)} of it locked")

    # -- restart -------------------------------------------------------------------------------------------------

    def restore(self, orders: Iterable[Order], trades: Iterable[Trade], entries: Iterable[Entry]) -> None:
        """Continue where a stopped exchange was. Raises `LedgerError` when the record does not balance."""
        for entry in entries:
            self.ledger.restore(entry)
            if entry.kind == "deposit":
                self._restore_deposit(entry)
        kept = list(orders)
        self.records.restore(kept, trades)
        for order in kept:
            if order.state is State.NEW:
                self.faults.put_off(order)
        self.ledger.check_conservation()

    def _restore_deposit(self, entry: Entry) -> None:
        for posting in entry.postings:
            if posting.account != OUTSIDE:
                opening = self._opening.setdefault(posting.account.removeprefix("trader:"), {})
                opening[posting.asset] = opening.get(posting.asset, ZERO) + posting.amount
