"""The matching core of one exchange: accounts, orders, fills, locks. Pure and in process; `now` is passed in.

Counterparty of every trade is the house, which quotes the synthetic depth: two traders never meet each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, Decimal, localcontext

from providers.paper import rules
from providers.paper.ledger import EXACT, OUTSIDE, Entry, Ledger, LedgerError, Posting, trader
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
    without,
)
from providers.paper.profiles import MarketProfile, VenueProfile
from providers.paper.records import Records
from providers.types import ZERO, Balance, BookLevel, OrderType, Side


class Venue:
    """One exchange. `books(pair, at)` gives the depth to match against; `on_tick` moves the last price."""

    def __init__(self, profile: VenueProfile, books: Callable[[str, datetime], Book]) -> None:
        self.profile = profile
        self.ledger = Ledger()
        self.last: dict[str, Decimal] = {}
        self.records = Records()
        self._books = books
        self._opening: dict[str, dict[str, Decimal]] = {}
        self._consumed: dict[str, tuple[int, dict[Decimal, Decimal]]] = {}
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

    # -- reading orders ------------------------------------------------------------------------------------------

    def orders(self, account: str) -> Sequence[Order]:
        """All orders of an account, oldest first."""
        return self.records.of(account)

    def working_orders(self, account: str) -> list[Order]:
        return self.records.working(account=account)

    def order(self, account: str, order_id: int) -> Order:
        """Raises `UnknownOrder`, also for other people's orders."""
        return self.records.get(account, order_id)

    def order_by_client_id(self, account: str, client_id: str, *, working_only: bool = False) -> Order:
        """The newest order with this client id. Raises `UnknownOrder`."""
        for order in reversed(self.records.with_client_id(account, client_id)):
            if order.state.is_working or not working_only:
                return order
        raise UnknownOrder(client_id)

    def trades(self, account: str) -> Sequence[Trade]:
        """All fills of an account, oldest first."""
        return self.records.trades(account)

    def depth(self, pair: str, now: datetime) -> Book:
        """The book as the public sees it: without what was taken from it since it was refreshed."""
        book = self._books(pair, now)
        version, used = self._consumed.get(pair, (None, {}))
        if version != book.version or not used:
            return book
        return Book(without(book.bids, used), without(book.asks, used), book.version)

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
            if order.state is State.OPEN:
                self._execute(order, last, now)
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
            self._execute(limit, last, now)
            self._verify(account)
        return limit, stop

    def cancel(self, account: str, order_id: int, now: datetime, *, reason: str = "user") -> Order:
        """Cancel a working order, and its OCO partner with it. Raises `UnknownOrder` or `NotCancelable`."""
        with localcontext(EXACT):
            order = self.records.get(account, order_id)
            if not order.state.is_working:
                raise NotCancelable(str(order_id))
            self.records.close(order, State.CANCELED, now, reason)
            self._cancel_partner(order, now)
            self._verify(account)
        return order

    # -- the market moves ----------------------------------------------------------------------------------------

    def watch(self, pair: str) -> tuple[Decimal | None, Decimal | None]:
        """(low, high): nothing happens to any order of this pair while low < price < high."""
        lows: list[Decimal] = []
        highs: list[Decimal] = []
        for order in self.records.working(pair=pair):
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
        order.triggered_at = order.updated_at = at
        order.state = State.OPEN
        self.records.touch(order)
        self._take_over_lock(order, at)
        if order.type is OrderType.STOP_MARKET:
            order.lock_rate = ZERO  # released to pay for the fills
            self._execute_at_market(order, price, price, at)
            return
        if self.available(order.account, order.lock_asset) < 0:
            self.records.close(order, State.CANCELED, at, "insufficient balance at trigger")
            return
        self._execute(order, price, at)

    def _take_over_lock(self, order: Order, at: datetime) -> None:
        """A triggered stop cancels its OCO partner and needs the balance that one held; a free stop locks now."""
        self._cancel_partner(order, at)
        order.lock_rate = rules.lock_rate(order)

    def _fill_as_maker(self, order: Order, quantity: Decimal, at: datetime) -> None:
        on_grid = rules.snap(quantity, self.profile.markets[order.pair].step_size, ROUND_DOWN)
        if on_grid > 0 and order.price is not None:
            self._fill(order, order.price, on_grid, at, is_maker=True)

    # -- matching ------------------------------------------------------------------------------------------------

    def _execute(self, order: Order, last: Decimal, now: datetime) -> None:
        if order.type is OrderType.MARKET:
            estimate = order.price if self.profile.market_price_tolerance is not None else None
            self._execute_at_market(order, estimate or last, last, now)
        elif order.price is not None:
            self._take(order, order.price, now)

    def _execute_at_market(self, order: Order, reference: Decimal, last: Decimal, now: datetime) -> None:
        """Fill up to the band around `reference`, then cancel the rest (contracts: wallex 6.6, nobitex 6.1)."""
        bound = reference * (1 + self.profile.market_band * order.side.sign)
        if not self.profile.band_cancels_all or self._depth_within(order, bound, now) >= order.remaining:
            self._take(order, bound, now)
        if order.state is State.OPEN:
            self.records.close(order, State.CANCELED, now, "market band or balance")
            self._cancel_partner(order, now)

    def _take(self, order: Order, bound: Decimal, now: datetime) -> None:
        """Match against the depth as a taker, no further than `bound` and no more than the account can pay."""
        market = self.profile.markets[order.pair]
        for level in self._levels(order, bound, now):
            most = min(order.remaining, level.quantity, self._affordable(order, level.price))
            quantity = rules.snap(most, market.step_size, ROUND_DOWN)
            if quantity <= 0:
                continue
            self._consume(order.pair, level.price, quantity)
            self._fill(order, level.price, quantity, now, is_maker=False)
            if order.state is not State.OPEN:
                return

    def _levels(self, order: Order, bound: Decimal, now: datetime) -> tuple[BookLevel, ...]:
        book = self._books(order.pair, now)
        version, used = self._consumed.get(order.pair, (-1, {}))
        if version != book.version:
            used = {}
            self._consumed[order.pair] = (book.version, used)
        side = book.asks if order.side is Side.BUY else book.bids
        within = (level for level in side if (bound - level.price) * order.side.sign >= 0)
        return without(tuple(within), used)

    def _consume(self, pair: str, price: Decimal, quantity: Decimal) -> None:
        used = self._consumed[pair][1]
        used[price] = used.get(price, ZERO) + quantity

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
        self.records.restore(orders, trades)
        self.ledger.check_conservation()

    def _restore_deposit(self, entry: Entry) -> None:
        for posting in entry.postings:
            if posting.account != OUTSIDE:
                opening = self._opening.setdefault(posting.account.removeprefix("trader:"), {})
                opening[posting.asset] = opening.get(posting.asset, ZERO) + posting.amount
