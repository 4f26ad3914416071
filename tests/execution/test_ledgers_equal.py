"""Both ledgers keep the same books: whatever is done to one is done to the other, and then every row is compared."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from algo.execution.decide import CloseDeal, OpenDeal, Place, PlacePair, StartExit
from algo.models import CloseReason, DealStatus, KillSwitch, Role, TicketKind
from algo.risk.codes import DenialCode
from algo.risk.values import Approval, Denial
from algo.selectors.performance import days_differ
from providers.types import Balance, Capabilities, Fill, OrderReport, OrderStatus, OrderType, ProtectionMode, Side
from tests.execution.two_ledgers import Two, TwoLedgers
from tests.factories import NOW

D = Decimal
REPORTED = (
    OrderStatus.OPEN,
    OrderStatus.PARTIALLY_FILLED,
    OrderStatus.FILLED,
    OrderStatus.CANCELED,
    OrderStatus.REJECTED,
    OrderStatus.EXPIRED,
)
ENDS = (OrderStatus.CANCELED, OrderStatus.REJECTED)
SYMBOLS = ("BTCUSDT", "ETHUSDT")
LOCKING = Capabilities(stop_market=True, stop_limit=True)
FREE = Capabilities(stop_market=True, stop_limit=True, stops_lock_balance=False)
OCO = Capabilities(oco=True, stop_limit=True)

accounts = st.integers(0, 1)
parts = st.sampled_from([D(0), D("0.3"), D("0.5"), D(1), D(1), D("1.2")])  # of an order, by what is reported filled
prices = st.sampled_from([D(98), D("99.5"), D(100), D("101.23456789012345678949"), D("100.0000000000000000005")])
sides = st.sampled_from(Side)
denials = st.sampled_from([None, None, DenialCode.COOLDOWN, DenialCode.RUNAWAY])
words = st.sampled_from(["", "no answer", "w" * 500])


class Ledgers(RuleBasedStateMachine):
    """Does all that the execution code ever does, in any order: also in those it never would."""

    @initialize(capabilities=st.sampled_from([LOCKING, FREE, OCO]))
    def begin(self, capabilities: Capabilities) -> None:
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.now = NOW
        self.trades = self.bars = 0
        self.fills: list[Fill] = []
        self.seen: list[tuple[Two, Two]] = []  # a deal and how an order of it looked once
        self.two = TwoLedgers(capabilities, symbols=SYMBOLS)

    def teardown(self) -> None:
        if hasattr(self, "transaction"):
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)

    @invariant()
    def same_books(self) -> None:
        if hasattr(self, "two"):
            self.two.compare()
            assert days_differ() == 0

    # --- drawing ----------------------------------------------------------------------------------------------------

    def a_deal(self, data: Any) -> Two | None:
        """Its view; the newest most often."""
        if not self.two.deals:
            return None
        return self.two.view(self.two.deals[-1 - min(data.draw(st.integers(0, 5)), len(self.two.deals) - 1) // 2])

    def an_order(self, data: Any) -> tuple[Two, Two] | None:
        """A deal and an order of it, now and then as it was some time ago."""
        if self.seen and data.draw(st.integers(0, 5)) == 0:
            return data.draw(st.sampled_from(self.seen[-8:]))
        deal = self.a_deal(data)
        if deal is None:
            return None
        at = -1 - min(data.draw(st.integers(0, 2)), len(deal.orm.orders) - 1)
        found = deal, Two(deal.orm.orders[at], deal.memory.orders[at])
        self.seen.append(found)
        return found

    def owner(self, deal: Two) -> int:
        return self.two.account_of(Two(deal.orm.id, deal.memory.id))

    def on_order(self, data: Any, method: str, **more: Any) -> None:
        if found := self.an_order(data):
            self.two.call(self.owner(found[0]), method, found[1], **more, now=self.now)

    def on_deal(self, data: Any, method: str, *args: Any, **more: Any) -> None:
        if deal := self.a_deal(data):
            self.two.call(self.owner(deal), method, deal, *args, **more)

    # --- time and the account ---------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.000001, 0.5, 3, 61.25]))
    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(account=accounts, total=st.sampled_from([D(0), D(3), D("7.1234567890123456785")]), age=st.integers(-9, 9))
    def read_balances(self, account: int, total: Decimal, age: int) -> None:
        balances = {asset: Balance(asset, total, total / 4) for asset in ("BTC", "USDT")}
        self.two.call(account, "note_balances", balances, read_at=self.now - timedelta(seconds=age))

    @rule(account=accounts, reason=words, what=st.integers(0, 5))
    def note_on_account(self, account: int, reason: str, what: int) -> None:
        now, two = self.now, self.two
        if what == 0:
            two.call(account, "stop_account", reason, now=now)
        elif what == 1:
            two.set_account(account, state="active", state_reason="", last_error="")
        elif what == 2:
            two.set_account(account, state="paused", state_reason="by hand")
        elif what == 3:
            two.call(account, "note_advanced", reason[:3], now=now)
            two.call(account, "note_error", reason)
            two.call(account, "note_reconcile_tried", now=now)
        elif what == 4:
            two.set_account(account, api_key_sealed=f"key {now}")
        else:
            two.call(account, "note_reconciled", now=now)

    @rule(account=accounts, take=st.booleans())
    def pass_lock(self, account: int, take: bool) -> None:
        """The lock changes hands, and the ledger in use goes with it or not."""
        epoch = self.two.next_epoch(account)
        if take:
            self.two.open_ledger(account, epoch)

    @rule(
        scope=st.sampled_from(["system", "account", "config", "market"]),
        level=st.sampled_from([KillSwitch.OFF, *KillSwitch]),
        which=st.integers(0, 3),
    )
    def turn_switch(self, scope: str, level: KillSwitch, which: int) -> None:
        of = {"account": self.two.accounts, "config": self.two.configs, "market": self.two.markets, "system": [None]}
        self.two.turn(scope, of[scope][which % len(of[scope])], level, f"reason {which}")

    # --- entries ----------------------------------------------------------------------------------------------------

    @rule(which=st.integers(0, 3), bar=st.integers(0, 2), side=sides, price=prices)
    def plan(self, which: int, bar: int, side: Side, price: Decimal) -> None:
        self.two.plan(
            self.two.configs[which],
            side=side,
            bar_open_at=NOW - timedelta(minutes=bar),
            now=self.now,
            rules={"stop_loss_percent": "1", "take_profit_percent": 2, "trailing_stop_percent": "0.5"},
            protection_mode=ProtectionMode(self.two.capabilities.protection_mode),
            planned_quantity=D(1),
            planned_price=price,
            initial_stop_price=price - side.sign,
            stop_price=price - side.sign,
            target_price=price + 2 * side.sign,
        )

    @rule(which=st.integers(0, 3), later=st.booleans(), side=sides, code=denials, closing=st.booleans())
    def decide(self, which: int, later: bool, side: Side, code: DenialCode | None, closing: bool) -> None:
        """A decision over the next candle, or once more over the last."""
        self.bars += later
        answer = Approval(D(1), D(100), D(100), D(100) - side.sign, D(100) + 2 * side.sign, D("0.1"))
        self.two.decide(
            self.two.configs[which],
            Denial(code, "too much") if code else answer,
            side=side,
            bar_open_at=NOW + timedelta(minutes=self.bars),
            now=self.now,
            exit_on_opposite_signal=closing,
        )

    @rule(data=st.data(), part=st.sampled_from([D("0.5"), D(1)]), price=prices)
    def enter(self, data: Any, part: Decimal, price: Decimal) -> None:
        """Send the entry of the newest deal, fill it and open the deal: what the other rules seldom come to."""
        if not self.two.deals:
            return
        deal = self.two.view(self.two.deals[-1])
        entry, owner = Two(deal.orm.orders[0], deal.memory.orders[0]), self.owner(deal)
        self.two.call(owner, "claim_send", entry, now=self.now)
        ended = OrderStatus.FILLED if part == 1 else OrderStatus.CANCELED
        self._report(deal, entry, ended, part, price, fee_in_base=data.draw(st.booleans()))
        action = OpenDeal(price, part, price - deal.orm.side.sign, price + 2 * deal.orm.side.sign, self.now)
        self.two.call(owner, "open_deal", deal, action, now=self.now)

    # --- orders -----------------------------------------------------------------------------------------------------

    @rule(
        data=st.data(),
        role=st.sampled_from([Role.STOP, Role.TARGET, Role.EXIT]),
        quantity=st.sampled_from([D(0), D("0.5"), D("0.997")]),
        price=prices,
    )
    def place(self, data: Any, role: Role, quantity: Decimal, price: Decimal) -> None:
        kind = {Role.STOP: OrderType.STOP_MARKET, Role.TARGET: OrderType.LIMIT, Role.EXIT: OrderType.MARKET}[role]
        limit, stop = (price if role == Role.TARGET else None), (price if role == Role.STOP else None)
        self.on_deal(data, "plan_order", Place(role, kind, quantity, limit, stop, "wanted"), now=self.now)

    @rule(data=st.data(), quantity=st.sampled_from([D("0.5"), D("0.997")]), price=prices)
    def place_pair(self, data: Any, quantity: Decimal, price: Decimal) -> None:
        self.on_deal(data, "plan_pair", PlacePair(quantity, price + 2, price - 1, price - 2), now=self.now)

    @rule(data=st.data(), age=st.integers(0, 60))
    def note_baseline(self, data: Any, age: int) -> None:
        if found := self.an_order(data):
            since = self.now - timedelta(seconds=age)
            self.two.call(self.owner(found[0]), "note_baseline", *found, not_before=since, now=self.now)

    @rule(data=st.data())
    def claim(self, data: Any) -> None:
        self.on_order(data, "claim_send")

    @rule(data=st.data(), reason=words)
    def release(self, data: Any, reason: str) -> None:
        self.on_order(data, "release_send", reason=reason)

    @rule(data=st.data(), reason=words)
    def cancel(self, data: Any, reason: str) -> None:
        self.on_order(data, "request_cancel", reason=reason)

    @rule(data=st.data(), reason=words)
    def lose_sight(self, data: Any, reason: str) -> None:
        method = data.draw(st.sampled_from(["note_unknown", "note_negative", "lose_order"]))
        self.on_order(data, method, **({"reason": reason} if method == "note_unknown" else {}))

    @rule(data=st.data(), kind=st.sampled_from([TicketKind.UNKNOWN_TRADE, TicketKind.BALANCE_MOVED]), reason=words)
    def doubt(self, data: Any, kind: TicketKind, reason: str) -> None:
        if found := self.an_order(data):
            self.two.call(self.owner(found[0]), "note_doubt", found[1], kind, reason, now=self.now)

    @rule(data=st.data(), status=st.sampled_from(ENDS), method=st.sampled_from(["end_order", "end_leg"]), reason=words)
    def end(self, data: Any, status: OrderStatus, method: str, reason: str) -> None:
        if found := self.an_order(data):
            self.two.call(self.owner(found[0]), method, found[1], status, reason=reason, now=self.now)

    @rule(data=st.data(), status=st.sampled_from(REPORTED), part=parts, price=prices, fee_in_base=st.booleans())
    def report(self, data: Any, status: OrderStatus, part: Decimal, price: Decimal, fee_in_base: bool) -> None:
        if found := self.an_order(data):
            self._report(*found, status, part, price, fee_in_base=fee_in_base, data=data)

    def _report(
        self,
        deal: Two,
        order: Two,
        status: OrderStatus,
        part: Decimal,
        price: Decimal,
        *,
        fee_in_base: bool,
        data: Any = None,
    ) -> None:
        view, rules = order.orm, deal.orm.rules
        filled = view.quantity * part
        name, more, fee, fills = f"x{view.client_order_id}", {}, None, []
        if data:
            name = data.draw(st.sampled_from([name, name, name, "x1", None]))
            more = {"adopting": data.draw(st.booleans()), "read_back": data.draw(st.booleans())}
            fee = data.draw(st.sampled_from([None, D("0.001"), D("0.3")]))
            if self.fills and data.draw(st.integers(0, 3)) == 0:
                fills = [data.draw(st.sampled_from(self.fills[-4:]))]  # a trade that was told before
        if filled > view.booked and (data is None or data.draw(st.integers(0, 3))):
            fills.append(self._fill(view, filled - view.booked, price, rules.base if fee_in_base else rules.quote))
        report = OrderReport(
            rules.symbol,
            view.side,
            status,
            view.quantity,
            filled,
            exchange_order_id=name,
            average_price=price if filled else None,
            fee=fee,
            raw={"status": status.value, "at": self.trades},
        )
        self.two.call(self.owner(deal), "apply_report", order, report, fills, now=self.now, **more)

    def _fill(self, order: Any, quantity: Decimal, price: Decimal, fee_asset: str) -> Fill:
        self.trades += 1
        at = self.now - timedelta(seconds=self.trades % 3)
        fee = quantity * D("0.003") * (1 if fee_asset == "BTC" else price)
        self.fills.append(Fill(f"t{self.trades}", "", order.side, price, quantity, fee, fee_asset, at))
        return self.fills[-1]

    @rule(data=st.data())
    def see_at_rest(self, data: Any) -> None:
        """Whatever their status is by now."""
        if deal := self.a_deal(data):
            self.two.call(self.owner(deal), "note_read", Two(deal.orm.orders, deal.memory.orders), now=self.now)

    # --- deals ------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), price=prices)
    def open(self, data: Any, price: Decimal) -> None:
        self.on_deal(data, "open_deal", OpenDeal(price, D(1), price - 1, price + 2, self.now), now=self.now)

    @rule(data=st.data(), stop=prices, best=prices)
    def move_stop(self, data: Any, stop: Decimal, best: Decimal) -> None:
        self.on_deal(data, "move_stop", stop, best, now=self.now)

    @rule(data=st.data(), act=st.sampled_from(["close", "look", "loosen", "loosen", "cancel"]), stop=prices)
    def act_by_hand(self, data: Any, act: str, stop: Decimal) -> None:
        """What a person does to a deal or its entry, as algo.services.deal_acts writes it."""
        if (found := self.an_order(data)) is None:
            return
        deal, order = found
        changes: dict[str, Any] = {
            "close": lambda row: (
                {"exit_reason": CloseReason.MANUAL, "note": "by hand"}
                | ({"status": DealStatus.EXITING} if row.status == DealStatus.OPEN else {})
            ),
            "look": lambda row: {"look_asked_at": self.now},
            "loosen": lambda row: {"stop_price": stop, "stop_loosened": row.stop_loosened + 1, "trailed_at": self.now},
        }
        if act == "cancel":
            self.two.cancel_by_hand(order, self.now)
        else:
            self.two.change_by_hand(Two(deal.orm.id, deal.memory.id), changes[act])

    @rule(data=st.data(), best=prices, crossed=st.booleans())
    def watch(self, data: Any, best: Decimal, crossed: bool) -> None:
        self.on_deal(data, "note_best", best)
        self.on_deal(data, "note_crossed", crossed, now=self.now)
        self.on_deal(data, "begin_swap", now=self.now)

    @rule(data=st.data(), reason=st.sampled_from([CloseReason.MANUAL, CloseReason.KILL_SWITCH]), note=words)
    def start_exit(self, data: Any, reason: CloseReason, note: str) -> None:
        self.on_deal(data, "start_exit", StartExit(reason, note), now=self.now)

    @rule(data=st.data(), reason=st.sampled_from(CloseReason), held=st.sampled_from([None, None, D(0)]))
    def close(self, data: Any, reason: CloseReason, held: Decimal | None) -> None:
        if deal := self.a_deal(data):
            action = CloseDeal(reason, max(deal.orm.position, D(0)))
            measured = Two(replace(deal.orm, held=held), replace(deal.memory, held=held))
            self.two.call(self.owner(deal), "close_deal", measured, action, now=self.now)

    @rule(data=st.data(), note=words)
    def cancel_deal(self, data: Any, note: str) -> None:
        self.on_deal(data, "cancel_deal", note, now=self.now)

    @rule(data=st.data())
    def reopen(self, data: Any) -> None:
        if deal := self.a_deal(data):
            self.two.call(self.owner(deal), "reopen_deal", Two(deal.orm.id, deal.memory.id), now=self.now)

    @rule(data=st.data(), price=st.one_of(st.none(), prices))
    def measure(self, data: Any, price: Decimal | None) -> None:
        self.on_deal(data, "measure_protection", price, now=self.now)

    # --- reconciliation ---------------------------------------------------------------------------------------------

    @rule(account=accounts, data=st.data(), name=st.sampled_from(["theirs", "theirs too", None]))
    def find_strangers(self, account: int, data: Any, name: str | None) -> None:
        symbol = data.draw(st.sampled_from([*SYMBOLS, "DOGEUSDT"]))
        report = OrderReport(symbol, Side.SELL, OrderStatus.OPEN, D(2), D(0), "NOT_OURS", name, raw={"id": name})
        self.two.call(account, "ticket_order", report, now=self.now)
        self.two.call(account, "ticket_trade", symbol, f"trades of {symbol}", "Nobody knows them.", now=self.now)
        self.two.call(account, "note_trades_seen", symbol, self.now)

    @rule(account=accounts, seconds=st.integers(0, 120), side=sides, besides=st.sampled_from([[], ["x1"], [None, ""]]))
    def ask_account(self, account: int, seconds: int, side: Side, besides: list[str]) -> None:
        since, two = self.now - timedelta(seconds=seconds), self.two
        two.read(account, "symbols_in_doubt", since)
        two.read(account, "symbols_at_stake", since)
        two.read(account, "unbooked", self.fills[-5:])
        two.read(account, "trades_seen")
        for symbol in SYMBOLS:
            two.read(account, "filled_since", symbol, side, since, besides=besides)
            two.read(account, "filled_since", symbol, side, since, besides=besides, until=self.now)

    @rule(account=accounts, data=st.data())
    def ask_about_order(self, account: int, data: Any) -> None:
        found = self.an_order(data)
        if found is None:
            return
        deal, order = found
        theirs, ours = order.orm.exchange_order_id, order.orm.client_order_id
        names = [(theirs, None), (None, ours), ("x1", ours), (None, None), ("nobody's", "nobody's"), (theirs, ours)]
        asked = [OrderReport("BTCUSDT", Side.BUY, OrderStatus.OPEN, D(1), D(0), ours, theirs) for theirs, ours in names]
        alone = [self.two.read(account, "find", *each) for each in names]
        together = self.two.read(account, "find_all", asked)
        assert [[each.orm for each in alone], [each.memory for each in alone]] == [together.orm, together.memory]
        listed = [
            OrderReport(
                deal.orm.rules.symbol,
                side,
                OrderStatus.OPEN,
                order.orm.quantity,
                D("0.2"),
                None,
                name,
                type=OrderType.LIMIT,
                price=D(100),
                created_at=self.now,
            )
            for side, name in ((Side.BUY, "theirs"), (order.orm.side, theirs), (Side.SELL, "x1"))
        ]
        self.two.read(account, "resembles_lost_leg", listed[1])
        self.two.read(self.owner(deal), "explained_change", deal, order, listed, reading=timedelta(seconds=2))


def run(examples: int, steps: int, *, derandomize: bool, phases: tuple[Phase, ...] = (Phase.generate,)) -> None:
    run_state_machine_as_test(
        Ledgers,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            derandomize=derandomize,
            phases=phases,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_both_ledgers_keep_the_same_books(db):
    run(8, 40, derandomize=True)


@pytest.mark.long
def test_both_ledgers_keep_the_same_books_for_long(db):
    run(30, 60, derandomize=False, phases=(Phase.generate, Phase.shrink))
