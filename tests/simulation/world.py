"""One seeded world: the real decision, execution and adapter code over a paper exchange in process, on virtual time.

Two guardians, two workers that decide, hints that are lost, late or doubled, a sweep, an operator, and a person with
hands of his own at the exchange. What goes wrong is the plan's; what must hold is checked after every step by the
observers of invariants.py.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property, partial
from itertools import count
from types import SimpleNamespace
from typing import Any

from django.db import OperationalError

from algo.execution.advance import Worker, advance_locked
from algo.execution.entry_judge import EntryEvidence, decide_entry
from algo.execution.entry_ledger import EntryRequest
from algo.execution.ledger import Fenced, Ledger
from algo.execution.quotes import Quotes
from algo.execution.reconcile import reconcile_due
from algo.execution.views import Budgets
from algo.models import KillSwitch, Outcome
from algo.risk.stops import initial_stop
from algo.risk.values import EntryIntent
from algo.strategies.schemas import BreakoutStrategySchema
from providers.breaker import CircuitBreaker
from providers.budgets import GUARDIAN_SHARE, InProcessBudget, shared_part, shares
from providers.errors import ProviderError
from providers.paper.faults import FaultKind, FaultRule
from providers.paper.orders import Instruction, OrderRefused
from providers.provider_factory import documented_limits
from providers.transport import Lost, NotSent, Reply, Request
from providers.types import Capabilities, OrderType, Resolution, Side
from tests.simulation.books import Books
from tests.simulation.plan import CALM, FAULTY, Event, Plan
from tests.simulation.scheduler import Died, Process, Scheduler, VirtualTime, host_of
from tests.simulation.venue import Liquidity, SimExchange, Trader

START = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
PAIR = "BTC/USDT"
SYMBOL = "BTCUSDT"
STILL = 20.0  # seconds at the end without a move of the price
SILENT = 10.0  # seconds after which a holder of an account's lock is ended: as algo.execution.locks has it
READ_TIMEOUT = 5.0

READS = frozenset({
    "is_stopped", "balances_read_at", "reconcile_times", "symbols_in_doubt", "find", "find_all", "working",
    "symbols_at_stake", "resembles_lost_leg", "trades_seen", "unbooked", "control", "live_deals", "live_views", "deal",
    "filled_since", "explained_change",
})  # fmt: skip
QUIET = frozenset(
    {"measure_protection", "note_reconcile_tried", "note_error", "note_advanced", "note_best"}
)  # no point of interest


# What becomes of a frame of the stream: how often it comes, and for how long nothing else does.
_FRAMES = {
    FaultKind.STREAM_GAP: 0,
    FaultKind.STREAM_DUPLICATE: 2,
    FaultKind.STREAM_OUT_OF_ORDER: 0,
    FaultKind.STREAM_SILENT: 0,
    FaultKind.STREAM_DISCONNECT: 0,
}
_SILENT_FOR = {FaultKind.STREAM_DISCONNECT: 2.0, FaultKind.STREAM_NO_PING: 3.0}


class World:
    """A plan, lived once. `trace` gets every line where somebody wants to read them."""

    def __init__(self, plan: Plan, books: Books, *, trace: Callable[[str], None] | None = None) -> None:
        self.plan, self.setting, self.books, self._tell = plan, plan.setting, books, trace
        seed = self.setting.seed
        self.time = VirtualTime(START)
        self.scheduler = Scheduler(self.time)
        self._net, self._dice = random.Random(f"net {seed}"), random.Random(f"luck {seed}")
        self.host = host_of(self.scheduler, self._dice.random)
        self._noted: list[str] = []
        self.faults: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.calls = 0
        self.passes = 0
        self.crash_at = {int(e.at): e for e in plan.events if e.kind in ("crash_point", "stall_point", "database_blip")}
        self.outages: list[Event] = []
        self.windows: dict[str, Event] = {}
        self.database_is_down = False
        self._switch_at_entry: Event | None = None
        self.is_over = False
        self.observers: list[Any] = []
        self.exchange = SimExchange(
            _Hands(self.time),
            pairs=(PAIR,),
            venues=(self.setting.venue,),
            switches={self.setting.venue: self.setting.switches},
        )
        self.venue = self.exchange.exchange.venues[self.setting.venue]
        self.price = Decimal(100)
        self.stream: dict[str, Any] = {}
        self.streamed_market = SimpleNamespace(provider=self.setting.venue, symbol=SYMBOL)
        self.locks = Locks(self)
        self.budgets = Budgets.of(self.time)
        self.leases: dict[Process, Lease] = {}  # under which each process works now
        self._set_up()

    # --- what is there ----------------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        setting = self.setting
        self.exchange.shape_book(PAIR, Liquidity(quantity=Decimal(40), levels=4))
        self.traders: list[Account] = []
        opening = {"USDT": "20000", "BTC": "50" if setting.side == "SELL" else "0", "IRT": "1000000"}
        for number in range(1, setting.accounts + 1):
            name = f"trader{number}"
            trader = self.exchange.open_account(name, {setting.venue: opening})
            self.traders.append(Account(self, name, self.books.add_account(name, setting.venue), trader))
        rules = self.traders[0].quiet_client().markets()
        self.markets = self.books.add_markets(rules, now=self.time.now())
        self.rules = {each.symbol: each for each in rules}
        for account in self.traders:
            account.configs = [
                self.books.add_config(f"{account.name} {n}", account.id, self.markets[SYMBOL], parameters_of(setting))
                for n in range(setting.configs)
            ]
        self.parameters = BreakoutStrategySchema.model_validate(parameters_of(setting))

    @cached_property
    def capabilities(self) -> Capabilities:
        """What a probe of this venue would have found."""
        mode, nobitex = self.setting.mode, self.setting.venue == "nobitex"
        stops = mode != "none"
        return Capabilities(
            oco=mode == "oco",
            stop_market=stops and not self.setting.stop_limit_only,
            stop_limit=stops,
            stops_lock_balance=bool(self.setting.switches["stops_lock"]),
            finds_closed_by_client_id=not nobitex or bool(self.setting.switches["client_id_finds_closed"]),
            market_takes_price=nobitex,
        )

    # --- living -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the first second to the last."""
        self.scheduler.later(0.0, self._tick)
        for name, every in (("guardian-1", 1.0), ("guardian-2", 1.3)):
            self._start_guardian(name, every)
        self.scheduler.spawn("stream", self._streaming)
        self.scheduler.spawn("decide-1", lambda: self._deciding(0.05))
        self.scheduler.spawn("decide-2", lambda: self._deciding(0.06))
        self.scheduler.spawn("sweep", self._sweeping, after=7.0)
        for event in self.plan.events:
            if event.kind not in ("crash_point", "stall_point", "database_blip"):
                self.scheduler.later(event.at, self._happen, event)
        self.scheduler.later(FAULTY, self._end_faults)
        self.scheduler.run(FAULTY + CALM)
        self.is_over = True
        self.exchange.advance()
        self.observe("end")
        self.scheduler.end()

    def note(self, text: str) -> None:
        line = f"{self.time.elapsed:9.4f} {text}"
        self._noted.append(line)
        if self._tell is not None:
            self._tell(line)

    @property
    def trace(self) -> str:
        """The hash of everything that happened."""
        return hashlib.sha256("".join(self._noted).encode()).hexdigest()

    def observe(self, moment: str, *args: Any) -> None:
        for observer in self.observers:
            getattr(observer, moment)(*args)

    @property
    def is_faulty(self) -> bool:
        return self.time.elapsed < FAULTY

    def _tick(self) -> None:
        """A second of the market. In the end it stands still, so that both sides can say the same."""
        if self.time.elapsed > FAULTY + CALM - STILL:
            self.scheduler.later(1.0, self._tick)
            self.set_price(self.price)
            return
        move = self._dice.gauss(0, self.setting.volatility)
        self.set_price(self.price * (1 + Decimal(str(round(move, 6)))))
        if not self.is_over:
            self.scheduler.later(1.0, self._tick)

    def set_price(self, price: Decimal) -> None:
        self.price = max(price.quantize(Decimal("0.01")), Decimal(1))
        self.exchange.set_price(PAIR, self.price)
        self.exchange.advance()
        self.note(f"price {self.price}")
        self.observe("market_moved")

    # --- processes --------------------------------------------------------------------------------------------------

    def _start_guardian(self, name: str, every: float) -> None:
        def again(process: Process) -> None:
            self.locks.died(process)
            self.note(f"{name} died")
            if not self.is_over:
                self.scheduler.later(self._dice.uniform(0.3, 2.0), self._start_guardian, name, every)

        self.scheduler.spawn(name, lambda: self._guarding(name, every), on_end=again)

    def _guarding(self, name: str, every: float) -> None:
        quotes = Quotes(self.time, streamed=self._streamed)
        first = True
        clients = {account.id: account.client(name) for account in self.traders}
        while True:
            for account in self.traders:
                try:
                    ledger = self.books.ledger(account.id, self.capabilities, None)
                    self.check_database()
                    if not first and not ledger.live_deals() and not reconcile_due(ledger, self.time):
                        continue
                    self.look_after(account, clients[account.id], quotes, reconcile_now=first)
                except OperationalError as exc:
                    self.note(f"{name} no database: {exc}")
                except Fenced as exc:
                    self.note(f"{name} fenced: {exc}")
            first = False
            self.scheduler.sleep(every)

    def look_after(self, account: Account, client: Any, quotes: Quotes, *, reconcile_now: bool = False) -> str:
        process = self.current
        lease = self.locks.take(account, process)
        if lease is None:
            return "busy"
        self.leases[process] = lease
        try:
            self.note(f"{process.name} takes {account.name} epoch={lease.epoch}")
            ledger: Any = GuardedLedger(self, lease, self.books.ledger(account.id, self.capabilities, lease.epoch))
            worker = Worker(account.name, ledger, client, quotes, self.time, self.budgets, None, lease.beat)
            return advance_locked(worker, reconcile_now=reconcile_now)
        finally:
            self.locks.release(lease)
            self.leases.pop(process, None)

    def _hint(self, account: Account) -> None:
        """A task on the queue: lost, late or delivered twice, as the weather is."""
        if "lost_task" in self.windows and self._dice.random() < 0.7:
            self.hit("lost_task")
            return
        self._task(account)
        if "duplicate_task" in self.windows:
            self.hit("duplicate_task")
            self._task(account)

    def _task(self, account: Account) -> None:
        self.scheduler.spawn(
            f"worker {account.name}",
            lambda: self._advance_once(account),
            after=self._dice.uniform(0.01, 0.4),
            on_end=self.locks.died,
        )

    def _advance_once(self, account: Account) -> None:
        try:
            self.check_database()
            self.look_after(account, account.client("worker"), Quotes(self.time, streamed=self._streamed))
        except (OperationalError, Fenced) as exc:
            self.note(f"worker failed: {exc}")

    def _sweeping(self) -> None:
        while True:
            for account in self.traders:
                self._hint(account)
            self.scheduler.sleep(30.0)

    def _deciding(self, delay: float) -> None:
        """Workers that are given the same candles."""
        number = 0
        while True:
            number += 1
            self.scheduler.sleep(max(number * self.setting.bar_every + delay - self.time.elapsed, 0.0))
            if self.time.elapsed > FAULTY + CALM - 60:
                return
            for account in self.traders:
                for config in account.configs:
                    self._decide(account, config, number)
                    if "duplicate_task" in self.windows:  # delivered again, long after the first was done
                        again = partial(self._decide, account, config, number)
                        self.scheduler.spawn("decide again", again, after=self._dice.uniform(2, 30))

    def _decide(self, account: Account, config: int, number: int) -> None:
        says = random.Random(f"signal {self.setting.seed} {config} {number}")
        if says.random() < 0.35:
            return
        try:
            self._decide_once(account, config, number, says)
        except (OperationalError, ProviderError, Fenced) as exc:
            self.note(f"decision failed: {type(exc).__name__}")

    def _decide_once(self, account: Account, config: int, number: int, says: random.Random) -> None:
        client = account.client("decide")
        read_at = self.time.now()
        self.check_database()
        book = client.order_book(SYMBOL)
        balances = client.balances()
        bar = START - timedelta(minutes=1) + timedelta(seconds=round(number * self.setting.bar_every))
        side = Side(self.setting.side)
        request = EntryRequest(
            account_id=account.id,
            config_id=config,
            market_id=self.markets[SYMBOL],
            bar_open_at=bar,
            intent=EntryIntent(side, Decimal(str(round(says.uniform(0.5, 1), 2))), "seeded", bar),
            price=self.price,
            rules=self.rules[SYMBOL],
            parameters=self.parameters,
            capabilities=self.capabilities,
        )
        evidence = EntryEvidence(
            book=book,
            resolution=Resolution.M1,
            balances=balances,
            read_at=read_at,
            environment="paper",
            time_zone="Asia/Tehran",
            max_position_size_percent=Decimal(50),
        )
        self.check_database()
        decided = decide_entry(self.books.entry_ledger(), request, evidence, self.time)
        if decided is None:
            self.note(f"config={config} bar={number} decided before")
            return
        code = getattr(decided.answer, "code", "")
        self.note(f"config={config} bar={number} {decided.outcome} {code}")
        self.observe("decided", config, bar, decided)
        if decided.outcome == Outcome.ENTERED and self._switch_at_entry is not None and self.is_faulty:
            event, self._switch_at_entry = self._switch_at_entry, None
            self._turn_switch(event)
        if decided.outcome in (Outcome.ENTERED, Outcome.EXIT):
            self._hint(account)

    # --- streams ----------------------------------------------------------------------------------------------------

    def _streaming(self) -> None:
        """The exchange's own stream, frame by frame, with what goes wrong on the way."""
        kept: list[tuple[datetime, Any]] = []
        while True:
            self.scheduler.sleep(1.0)
            now = self.time.now()
            frame = (now, self.exchange.exchange.venues[self.setting.venue].look(PAIR, self.time.true())[0])
            frames, silence = [frame], 0.0
            for fault in self.exchange.faults.decide(self.setting.venue, "WS", f"/{PAIR}"):
                self.hit(fault.kind.value)
                kept += [frame] if fault.kind is FaultKind.STREAM_OUT_OF_ORDER else []
                frames = [frame] * _FRAMES.get(fault.kind, len(frames))
                silence = float(fault.params.get("seconds", _SILENT_FOR.get(fault.kind, 0.0)))
            if frames and kept:
                frames += [kept.pop()]
            for at, book in frames:
                self._take_frame(at, book)
            if silence:
                self.scheduler.sleep(silence)

    def _take_frame(self, at: datetime, book: Any) -> None:
        """As the board does: nothing older than what is known, no crossed book."""
        known = self.stream.get(SYMBOL)
        if not book.bids or not book.asks or book.bids[0].price >= book.asks[0].price:
            return
        if known is None or at > known.as_of:
            self.stream[SYMBOL] = SimpleNamespace(
                market=self.streamed_market,
                bid=book.bids[0].price, ask=book.asks[0].price, last=self.venue.last[PAIR], as_of=at, received_at=at,
            )  # fmt: skip

    def _streamed(self, since: datetime) -> list[Any]:
        self.check_database()
        return [row for row in self.stream.values() if row.as_of >= since]

    # --- what happens -----------------------------------------------------------------------------------------------

    def _happen(self, event: Event) -> None:
        self.note(f"event {event}")
        if event.kind in FaultKind._value2member_map_:
            self._rule(event)
        else:
            getattr(self, f"_on_{event.kind}")(event)

    def _rule(self, event: Event) -> None:
        kind = FaultKind(event.kind)
        path = PAIR if kind is FaultKind.PRICE_GAP else "*"
        if kind is FaultKind.PRICE_GAP:
            self._on_gap(event)  # the paper exchange's own way needs its synthetic market
            return
        rule = FaultRule.from_json(
            {"kind": event.kind, "path": path, **event.params["rule"], "params": dict(event.params["params"])}
        )
        number = self.exchange.add_fault(rule)
        self.scheduler.later(event.seconds, self._drop_rule, number)

    def _drop_rule(self, number: int) -> None:
        if self.exchange.faults.has(number):
            self.exchange.faults.remove(number)

    def hit(self, kind: str) -> None:
        self.faults[kind] += 1

    def _during(self, event: Event) -> None:
        self.windows[event.kind] = event
        self.scheduler.later(event.seconds, self._close_window, event)

    def _close_window(self, event: Event) -> None:
        if self.windows.get(event.kind) is event:
            del self.windows[event.kind]

    _on_late = _on_lost_request = _on_duplicate_task = _on_lost_task = _during

    def _on_outage(self, event: Event) -> None:
        self._during(event)
        self.observe("impaired", event.seconds)

    def _on_database_down(self, event: Event) -> None:
        self.hit("database_down")
        self._during(event)
        self.observe("impaired", event.seconds)

    def _on_skew(self, event: Event) -> None:
        self.hit("skew")
        self.time.offset = timedelta(seconds=event.params["by"])
        self.observe("impaired", event.seconds)
        self.scheduler.later(event.seconds, self._unskew)

    def _unskew(self) -> None:
        self.time.offset = timedelta(0)

    def _on_gap(self, event: Event) -> None:
        self.hit(event.kind)
        factor = event.params.get("factor") or event.params["params"]["factor"]
        self.set_price(self.price * Decimal(factor))

    def _victims(self, who: str) -> list[Process]:
        alive = [each for each in self.scheduler.processes if each.name.startswith(("guardian", "worker"))]
        if who == "any":
            return [self._dice.choice(alive)] if alive else []
        return [each for each in alive if who in ("all", each.name)]

    def _on_kill(self, event: Event) -> None:
        for process in self._victims(event.params["who"]):
            self.hit("kill")
            self.observe("incident", event.kind)
            self.note(f"kill {process.name}")
            self.scheduler.kill(process)

    def _on_stall(self, event: Event) -> None:
        for process in self._victims(event.params["who"]):
            self.hit("stall")
            self.observe("incident", event.kind)
            self.note(f"stall {process.name} for {event.seconds}")
            self.scheduler.stall(process, event.seconds)

    def _on_kill_switch(self, event: Event) -> None:
        """Now; every second one at the very moment at which the next entry is planned."""
        if round(event.at * 1000) % 2:
            self._switch_at_entry = event
        else:
            self._turn_switch(event)

    def _turn_switch(self, event: Event) -> None:
        self.hit("kill_switch")
        scope, level = event.params["scope"], KillSwitch(event.params["level"])
        account = self.traders[0]
        target = {"global": 0, "account": account.id, "config": account.configs[0], "market": self.markets[SYMBOL]}
        self.books.set_switch(scope, target[scope], level, "the operator says so")
        self.observe("switched", scope, target[scope], level)
        self.scheduler.later(event.seconds, self._release_switch, scope, target[scope])

    def _release_switch(self, scope: str, target: int) -> None:
        self.books.set_switch(scope, target, KillSwitch.OFF, "it is over")
        self.observe("switched", scope, target, KillSwitch.OFF)
        self.note(f"switch {scope} off")

    def _on_config_edit(self, event: Event) -> None:
        self.hit("config_edit")
        edited = parameters_of(self.setting) | {"stop_loss_percent": "3", "take_profit_percent": "5"}
        self.parameters = BreakoutStrategySchema.model_validate(edited)
        for account in self.traders:
            for config in account.configs:
                self.books.edit_config(config, edited)

    def _on_stop_canceled_by_hand(self, event: Event) -> None:
        """A person cancels one of our orders in the exchange's own panel."""
        for account in self.traders:
            for order in self.venue.records.working(account=account.name):
                if order.type.is_stop:
                    self.hit("stop_canceled_by_hand")
                    self.venue.cancel(account.name, order.id, self.time.true())
                    self.exchange.advance()
                    self.observe("market_moved")
                    return

    def _on_order_by_hand(self, event: Event) -> None:
        """A person places an order of his own, far away from the market."""
        self.hit("order_by_hand")
        price = (self.price * Decimal("0.8")).quantize(Decimal("0.01"))
        asked = Instruction(PAIR, Side.BUY, OrderType.LIMIT, Decimal(1), price=price, client_id=f"HAND{self.passes}")
        with suppress(OrderRefused):
            self.venue.submit(self.traders[0].name, asked, self.time.true())

    def _on_act_by_hand(self, event: Event) -> None:
        """A person closes a deal, moves its stop, asks for a look or cancels its entry, on a page of the platform."""
        account = self.traders[0]
        live = [each for each in self.books.deals() if each.account.pk == account.id and not each.is_finished]
        if not live or "database_down" in self.windows:
            return
        deal, act, now = live[0], event.params["act"], self.time.now()
        if act == "close":
            done = self.books.close_by_hand(deal.pk, now=now)
        elif act == "look":
            done = self.books.look_by_hand(deal.pk, now=now)
        elif act == "cancel":
            done = self.books.cancel_by_hand(deal.pk, now=now)
        else:
            done = self._move_stop_by_hand(deal, Decimal(event.params["percent"]), now)
        self.note(f"a person asks to {act} deal {deal.pk}: {done}")
        if done:
            self.observe("acted", act, deal)
            self._hint(account)

    def _move_stop_by_hand(self, deal: Any, percent: Decimal, now: datetime) -> bool:
        """So many percent behind the last price, wherever it stood."""
        side, last = Side(deal.side), self.venue.last[PAIR]
        stop = initial_stop(last, side, percent, self.rules[SYMBOL])
        return self.books.move_stop_by_hand(deal.pk, stop, last, now=now)

    def _end_faults(self) -> None:
        self.note("calm")
        self.exchange.faults.clear()
        self.windows.clear()
        self.outages.clear()
        self.time.offset = timedelta(0)
        self.crash_at = {}
        for process in self.scheduler.processes:
            process.stalled_until = min(process.stalled_until, self.time.elapsed)
        for account in self.traders:
            self.books.resume_account(account.id)
        self.observe("calm")

    # --- points at which a process may die --------------------------------------------------------------------------

    @property
    def current(self) -> Process:
        process = self.scheduler.current
        if process is None:
            raise RuntimeError("nobody is running")
        return process

    def check_database(self) -> None:
        if "database_down" in self.windows:
            raise OperationalError("the connection was refused")

    def point(self, name: str, *, may_stall: bool = True) -> None:
        """A moment between two steps: here a process may die, or stand still."""
        self.points[name] += 1
        self.passes += 1
        event = self.crash_at.pop(self.passes, None)
        if event is None:
            return
        # Where a stall hurts most is between the commit of a send and the send: every second one waits for that.
        is_off = not may_stall or (event.params["after"] and name != "after claim_send")
        if event.kind == "stall_point" and is_off:
            self.crash_at[next(n for n in count(self.passes + 1) if n not in self.crash_at)] = event
            return
        self.hit(event.kind)
        self.note(f"{event.kind} {self.current.name} at {name}")
        if event.kind == "crash_point":
            self.observe("incident", event.kind)
            self.current.is_alive = False
            raise Died
        if event.kind == "stall_point":
            self.observe("incident", event.kind)
            self.scheduler.stall(self.current, event.seconds)
            self.scheduler.sleep(0.0)
            return
        raise OperationalError("the connection was closed")


def parameters_of(setting: Any) -> dict[str, Any]:
    return {
        "stop_loss_percent": setting.stop_percent,
        "take_profit_percent": setting.target_percent,
        "trailing_stop_percent": setting.stop_percent if setting.trailing else "0",
        "trailing_step_percent": "0.1",
        "max_position_size_percent": "30",
        "trade_cooldown_minutes": 0,
        "max_daily_trades": 6,
        "max_open_deals": 3,
        "max_daily_loss_percent": "50",
        "max_spread_percent": "1",
    }


class _Hands:
    """The exchange's own clock is right, whatever ours says."""

    speed = 1.0

    def __init__(self, time: VirtualTime) -> None:
        self._time = time

    def now(self) -> datetime:
        return self._time.true()

    def wall(self, seconds: float) -> timedelta:
        return timedelta(seconds=seconds)

    def monotonic(self) -> float:
        return self._time.elapsed


# --- accounts and their locks ---------------------------------------------------------------------------------------


class Account:
    """One trader: his row, and clients to act for him."""

    def __init__(self, world: World, name: str, number: int, trader: Trader) -> None:
        self.world, self.name, self.id, self.trader = world, name, number, trader
        self.configs: list[int] = []
        self._clients: dict[str, Any] = {}

    def client(self, group: str) -> Any:
        """The client of a process of this kind; those of a guardian count by themselves."""
        if group not in self._clients or group.startswith("guardian"):
            world = self.world
            limits = documented_limits(world.setting.venue)
            part = shares(limits, GUARDIAN_SHARE) if group.startswith("guardian") else shared_part(limits)
            time, sleep = world.time.monotonic, world.scheduler.sleep
            self._clients[group] = self.trader.client(
                world.setting.venue,
                transport=SimTransport(world, world.setting.venue),
                clock=world.time,
                host=world.host,
                budget=InProcessBudget(part, monotonic=time, sleep=sleep),
                breaker=CircuitBreaker(world.setting.venue, monotonic=time),
            )
        return self._clients[group]

    def quiet_client(self) -> Any:
        """For people, and before anything begins: at once and without faults."""
        venue = self.world.setting.venue
        return self.trader.client(
            venue, transport=_Quiet(self.world, venue), clock=self.world.time, host=self.world.host
        )


class Lease:
    """An account's lock, as long as nobody took it away."""

    def __init__(self, world: World, account: Account, process: Process, epoch: int) -> None:
        self.world, self.account, self.process, self.epoch = world, account, process, epoch
        self.beaten_at = world.time.elapsed
        self.is_evicted = False

    def beat(self) -> None:
        if self.is_evicted:
            raise Fenced("the account was taken by another worker, which goes on")
        if self.world.time.elapsed - self.beaten_at >= 2.0:
            self.world.check_database()
            self.beaten_at = self.world.time.elapsed


class Locks:
    """Session locks: a dead process lets go at once, a silent one is ended by whoever comes next."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.held: dict[int, Lease] = {}
        self.evictions = 0

    def take(self, account: Account, process: Process) -> Lease | None:
        self.world.check_database()
        holder = self.held.get(account.id)
        if holder is not None:
            if self.world.time.elapsed - holder.beaten_at <= SILENT:
                return None
            holder.is_evicted = True
            self.evictions += 1
            self.world.note(f"{process.name} evicts {holder.process.name}")
        lease = Lease(self.world, account, process, self.world.books.next_epoch(account.id))
        self.held[account.id] = lease
        return lease

    def release(self, lease: Lease) -> None:
        if self.held.get(lease.account.id) is lease:
            del self.held[lease.account.id]

    def died(self, process: Process) -> None:
        for lease in [each for each in self.held.values() if each.process is process]:
            self.release(lease)


class GuardedLedger:
    """A ledger whose every commit is a point at which its process may die, stall or lose the database; and which a
    session that was ended cannot write to."""

    __slots__ = ("_lease", "_ledger", "_world")

    def __init__(self, world: World, lease: Lease, ledger: Any) -> None:
        self._world, self._lease, self._ledger = world, lease, ledger

    def _check_session(self) -> None:
        self._world.check_database()
        if self._lease.is_evicted:
            raise OperationalError("terminating connection due to administrator command")


def _reading(name: str) -> Callable[..., Any]:
    def read(self: GuardedLedger, *args: Any, **more: Any) -> Any:
        if self._world.windows or self._lease.is_evicted:
            self._check_session()
        return getattr(self._ledger, name)(*args, **more)

    return read


def _writing(name: str) -> Callable[..., Any]:
    def write(self: GuardedLedger, *args: Any, **more: Any) -> Any:
        world = self._world
        world.scheduler.sleep(0.002)  # others run in between
        world.point(f"before {name}")
        self._check_session()
        result = getattr(self._ledger, name)(*args, **more)
        world.note(f"{self._lease.process.name} {name} {_about(args)}")
        world.observe("written", name, args)
        world.point(f"after {name}")
        return result

    return write


def _guard_all_of(port: type) -> None:
    for name in vars(port):
        if not name.startswith("_"):
            is_read = name in READS or name in QUIET
            setattr(GuardedLedger, name, _reading(name) if is_read else _writing(name))


_guard_all_of(Ledger)


def _about(args: tuple[Any, ...]) -> str:
    """The names of what a commit is about."""
    return " ".join(
        getattr(each, "client_order_id", None) or f"{type(each).__name__}:{getattr(each, 'id', '')}"
        for each in args
        if hasattr(each, "id")
    )


# --- the network ----------------------------------------------------------------------------------------------------


class SimTransport:
    """Carries requests through virtual time: each takes a while, and may be lost, late, or answered by nobody."""

    def __init__(self, world: World, venue: str) -> None:
        self._world, self._venue = world, venue

    def send(self, request: Request) -> Reply:
        world, scheduler = self._world, self._world.scheduler
        world.calls += 1
        # The exchange's session looks at the clock right before this: a stall here is the network's, as far as anybody
        # can tell, and what is left of it is said in docs/reliability.md.
        world.point(f"before {request.method}", may_stall=request.method == "GET")
        outage = world.windows.get("outage")
        if outage is not None:
            world.hit("outage")
            scheduler.sleep(0.05 if outage.params["refused"] else 2.0)
            raise NotSent("the connection was refused" if outage.params["refused"] else "no connection within 2 s")
        world.observe("sent", world.current, request)
        flight = Flight(world, self._venue, request, world.current)
        flight.depart()
        answer = scheduler.sleep(READ_TIMEOUT)
        world.point(f"after {request.method}")
        if answer is None:
            flight.is_left = True
            world.note(f"{world.current.name} no answer {request.method} {request.path}")
            raise Lost(f"no answer within {READ_TIMEOUT:g} s")
        if isinstance(answer, Lost):
            raise answer
        return answer


class Flight:
    """One request on its way: it arrives, is dealt with, and its answer comes back, each at its own moment, whether or
    not anybody still waits."""

    def __init__(self, world: World, venue: str, request: Request, process: Process) -> None:
        self.world, self.venue, self.request, self.process = world, venue, request, process
        self.waits = process.waits + 1
        self.is_left = False

    def depart(self) -> None:
        world, net = self.world, self.world._net
        travel = net.uniform(0.01, 0.12)
        late, lost = world.windows.get("late"), world.windows.get("lost_request")
        if lost is not None and net.random() < lost.params["share"]:
            world.hit("lost_request")
            world.observe("harmed", READ_TIMEOUT)
            return
        if late is not None and self._may_be_late(late) and net.random() < late.params["share"]:
            world.hit("late")
            travel += late.params["delay"]
            world.observe("harmed", READ_TIMEOUT)
        world.scheduler.later(travel, self._arrive)

    def _may_be_late(self, late: Event) -> bool:
        is_order = self.request.method == "POST" and self.request.path.endswith(("/account/orders", "/orders/add"))
        return is_order or not late.params["orders_alone"]

    def _arrive(self) -> None:
        arrival = self.exchange.begin(self.venue, self.request)
        if arrival.faults:
            for kind in arrival.faults:
                self.world.hit(kind)
            self.world.observe("harmed", READ_TIMEOUT)
            self.world.note(f"faults {','.join(arrival.faults)} {self.request.method} {self.request.path}")
        if arrival.is_dropped:
            self.world.scheduler.later(arrival.delay, self._answer, Lost("the connection was reset"))
        elif arrival.delay:
            self.world.scheduler.later(arrival.delay, self._deal_with, arrival)
        else:
            self._deal_with(arrival)

    @property
    def exchange(self) -> SimExchange:
        return self.world.exchange

    def _deal_with(self, arrival: Any) -> None:
        outcome = self.exchange.process(arrival)
        status = outcome.reply.status if outcome.reply else "-"
        self.world.note(f"exchange {self.request.method} {self.request.path} {status}")
        self.world.observe("dealt_with", self.request, outcome)
        answer = outcome.reply or Lost("the connection was closed")
        self.world.scheduler.later(outcome.delay + self.world._net.uniform(0.01, 0.12), self._answer, answer)

    def _answer(self, answer: Reply | Lost) -> None:
        if not self.is_left:
            self.world.scheduler.wake(self.process, self.waits, answer)


class _Quiet:
    """For people with a good connection."""

    def __init__(self, world: World, venue: str) -> None:
        self._world, self._venue = world, venue

    def send(self, request: Request) -> Reply:
        arrival = self._world.exchange.begin(self._venue, request)
        outcome = self._world.exchange.process(arrival)
        if arrival.is_dropped or outcome.reply is None:
            raise Lost("the connection was closed")
        return outcome.reply
