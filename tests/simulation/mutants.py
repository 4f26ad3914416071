"""Safety rules taken away, one at a time. A world that does not notice is blind.

A mutant is a few changed lines of the real code. Where a second defence stands behind a rule, its loss alone does no
harm: such a rule is `masked_by` others, and is taken away together with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from algo.execution import advance, decide, entry_judge, ledger_rows, memory_store, reconcile, resolve, submit, times
from algo.execution.entry_ledger_memory import MemoryEntryLedger
from algo.execution.ledger_memory import MemoryLedger
from algo.execution.memory_store import MemoryStore
from algo.execution.views import DealView
from algo.risk import stops
from providers.http import HttpSession
from providers.nobitex import answers as nobitex_answers
from providers.nobitex.orders import OrderReads
from providers.wallex import answers as wallex_answers
from providers.wallex.mapping import to_fills
from tests.simulation.mutation import Edit, edited
from tests.simulation.plan import Plan
from tests.simulation.world import SILENT, GuardedLedger, Lease, Locks


@dataclass(frozen=True, slots=True)
class Mutant:
    """`what` says which rule is missing. `shows` tells the worlds that could notice: others are not lived."""

    what: str
    edits: tuple[Edit, ...]
    masked_by: tuple[str, ...] = ()
    shows: Callable[[Plan], bool] = lambda plan: True


def when(*kinds: str, **params: object) -> Callable[[Plan], bool]:
    """Worlds in which one of these goes wrong, in this way where it is told."""

    def shows(plan: Plan) -> bool:
        return any(e.kind in kinds and params.items() <= dict(e.params).items() for e in plan.events)

    return shows


def in_modes(*modes: str) -> Callable[[Plan], bool]:
    return lambda plan: plan.setting.mode in modes


def is_long(plan: Plan) -> bool:
    """A process stands still until its lock is taken away."""
    return any(e.kind in ("stall", "stall_point") and e.seconds > SILENT for e in plan.events)


def is_out(plan: Plan) -> bool:
    """The exchange is away for longer than an entry may wait."""
    return any(e.kind == "outage" and e.seconds > 20 for e in plan.events) and not when("skew")(plan)


def is_busy(plan: Plan) -> bool:
    """A strategy that has the market to itself, and whose deals are short."""
    setting = plan.setting
    return setting.configs == 1 and setting.bar_every < 20 and setting.volatility >= 0.0015


def at_an_entry(plan: Plan) -> bool:
    """A switch that waits for an entry."""
    return any(e.kind == "kill_switch" and round(e.at * 1000) % 2 for e in plan.events)


def arrives_when_sent_again(plan: Plan) -> bool:
    """What is sent arrives at about the time at which it is sent a second time."""
    return any(e.kind == "late" and e.params["orders_alone"] for e in plan.events)


def arrives_after_the_verdict(plan: Plan) -> bool:
    """An entry arrives when it was given up."""
    return any(e.kind == "late" and e.params["delay"] > 45 for e in plan.events)


UNANSWERED = ("drop_after", "late", "delay", "http_error", "malformed_json", "wrong_types", "slow_trickle")
LATE = ("late", "delay", "accept_delayed", "read_lag")
_CANCELED = 'ledger.end_order(order, OrderStatus.CANCELED, reason="believed", now=clock.now())'
_AGAIN = 'ledger.release_send(order, reason="sent again", now=clock.now())'

MUTANTS: dict[str, Mutant] = {
    # --- sending ---
    "timeout_is_rejection": Mutant(
        "a request without an answer counts as refused",
        (
            Edit(
                submit.order_submit,
                "ledger.note_unknown(order, reason=str(exc), now=clock.now())",
                "ledger.end_order(order, OrderStatus.REJECTED, reason=str(exc), now=clock.now())",
            ),
        ),
        shows=when(*UNANSWERED),
    ),
    "resend_without_lookup": Mutant(
        "an order whose outcome is unknown is sent again under its name, and not looked up",
        (
            Edit(
                resolve._one_pass,
                "report, listed = look(deal, order, provider, clock, by_name_alone)",
                f"return {_AGAIN}",
            ),
        ),
        shows=when(*UNANSWERED),
    ),
    "duplicate_is_rejection": Mutant(
        "“I have this order already” counts as a refusal",
        (
            Edit(
                nobitex_answers.refusal,
                'return AlreadySubmitted(f"nobitex holds this order, or one like it, already: look it up; {detail}")',
                'return OrderRejected(f"nobitex refused: {detail}", reason=RejectReason.OTHER)',
            ),
            Edit(
                wallex_answers.refusal,
                'return AlreadySubmitted(f"wallex knows this client id already: look the order up; {detail}")',
                'return OrderRejected(f"wallex refused: {detail}", reason=RejectReason.OTHER)',
            ),
        ),
        shows=arrives_when_sent_again,
    ),
    "send_before_commit": Mutant(
        "an order is sent first and committed as sent afterwards",
        (
            Edit(submit.order_submit, "if not ledger.claim_send(order, now=claimed_at):", "if False:"),
            Edit(
                submit.order_submit,
                "reports = _send(deal, order, provider)",
                "reports = _send(deal, order, provider); ledger.claim_send(order, now=claimed_at)",
            ),
        ),
    ),
    "no_send_deadline": Mutant(
        "a process that stood still sends what it had committed long ago",
        (Edit(submit.order_submit, "clock.wall(clock.monotonic() - began)", "clock.wall(0.0)"),),
        shows=when("stall_point", after=True),
    ),
    "entry_age_not_limited": Mutant(
        "an entry is sent however old its signal is",
        (Edit(decide._unsent_entry, "if age(order.created_at, now) > budgets.entry_max_age:", "if False:"),),
        shows=is_out,
    ),
    # --- finding out ---
    "entry_sent_anew": Mutant(
        "an entry without an answer is given up at once, and another one is sent in its place",
        (
            Edit(
                MemoryLedger.note_unknown,
                "for row in self._rows(with_pair(order), OrderStatus.SUBMITTED):",
                """row = self.store.find_order(order.id)
    if order.role == Role.ENTRY:
        self._end(order, [order.id], OrderStatus.REJECTED, reason, now)
        self.store.add_order(
            row.deal, role=Role.ENTRY, side=row.side, kind=row.type, quantity=row.quantity, price=row.price,
            stop_price=None, reason="again", now=now,
        )
        return
    for row in self._rows(with_pair(order), OrderStatus.SUBMITTED):""",
            ),
        ),
        masked_by=("one_entry_per_deal",),
        shows=when(*UNANSWERED),
    ),
    "one_entry_per_deal": Mutant(
        "the database takes a second entry of a deal",
        (Edit(MemoryStore.add_order, "if role == Role.ENTRY and leg > 1:", "if False:"),),
        masked_by=("entry_sent_anew",),
        shows=when(*UNANSWERED),
    ),
    "one_look_is_enough": Mutant(
        "an order that is not found once never arrived",
        (
            Edit(
                resolve._one_pass,
                "        ledger.note_negative(order, now=now)",
                "        ledger.note_negative(order, now=now); _never_arrived(order, second_leg, ledger, now)",
            ),
        ),
        shows=when(*LATE),
    ),
    "no_settle_time": Mutant(
        "an exchange is given no time before an order that is not found counts as absent",
        (Edit(resolve._had_its_time, "    return ", "    return True or "),),
        shows=when(*LATE),
    ),
    "missing_once_is_gone": Mutant(
        "an accepted order that is not found once counts as cancelled",
        (
            Edit(
                submit._not_found,
                "    now, budgets = clock.now(), Budgets.of(clock)",
                "    return ledger.lose_order(order, now=clock.now())",
            ),
        ),
        shows=when("read_lag"),
    ),
    "doubt_blocks_nothing": Mutant(
        "while the outcome of an order is unknown, the deal goes on as if it were not there",
        (
            Edit(
                decide._unknown,
                "        return Recover(order) if due else",
                "        if due: return Recover(order)\n        continue\n        return",
            ),
        ),
    ),
    "no_sweep": Mutant(
        "books and exchange are not compared",
        (
            Edit(
                reconcile.reconcile,
                "others = strangers or NoStrangers()",
                "return ledger.note_reconciled(now=clock.now())",
            ),
        ),
    ),
    "adopted_without_reopening": Mutant(
        "an order that is executed after its deal ended leaves the deal closed",
        (Edit(reconcile._adopt, "ledger.reopen_deal(deal.id, now=clock.now())", "pass"),),
        shows=arrives_after_the_verdict,
    ),
    "future_stamps_wait": Mutant(
        "what was stamped by a clock that was wrong waits until that time has come",
        (Edit(times.is_ahead, "at - now > CLOCKS_DIFFER", "False"),),
        shows=when("skew", by=3600.0),
    ),
    # --- one worker at a time ---
    "no_lock": Mutant(
        "two workers look after one account at once",
        (Edit(Locks.take, "if holder is not None:", "if False:"),),
        masked_by=("no_epoch",),
    ),
    "no_epoch": Mutant(
        "a send is not bound to the lock's epoch",
        (
            Edit(MemoryLedger._check_lock, "if self._epoch is not None and", "if False and"),
            Edit(memory_store._is_fenced, "return ", "return False and "),
        ),
        masked_by=("no_lock",),
    ),
    "session_goes_on": Mutant(
        "a worker whose lock was taken away keeps its session",
        (
            Edit(GuardedLedger._check_session, "if self._lease.is_evicted:", "if False:"),
            Edit(Lease.beat, "if self.is_evicted:", "if False:"),
        ),
        shows=is_long,
    ),
    # --- stops ---
    "cancel_is_final": Mutant(
        "an order counts as cancelled when the cancel was sent, whatever came of it",
        (
            Edit(
                submit.order_cancel,
                "        order_ask(deal, order, ledger=ledger, provider=provider, clock=clock)\n        return",
                f"        {_CANCELED}\n        return",
            ),
            Edit(
                submit.order_cancel,
                "    order_take(deal.id, order, report, ledger=ledger, provider=provider, clock=clock)",
                f"    {_CANCELED}",
            ),
        ),
        shows=when("late", "cancel_loses_to_fill", "drop_before", "delay"),
    ),
    "stop_not_read_back": Mutant(
        "a stop or target that was accepted counts as live, and is not asked for again",
        (
            Edit(
                decide._unread,
                "if order.is_settled or",
                "if order.role in (Role.STOP, Role.TARGET) or order.is_settled or",
            ),
        ),
        shows=when("stop_canceled_by_hand", "triggered_stop_band_cancel", "stop_never_triggers"),
    ),
    "replace_without_confirming": Mutant(
        "a new stop is placed while the cancel of the old one is not confirmed",
        (
            Edit(
                decide._keep_stop,
                "stops = deal.live(Role.STOP)",
                "stops = tuple(each for each in deal.live(Role.STOP) if each.status is not OrderStatus.CANCELING)",
            ),
        ),
        masked_by=("one_live_stop",),
        shows=in_modes("locking", "free"),
    ),
    "one_live_stop": Mutant(
        "the database takes a second live stop of a deal",
        (Edit(MemoryStore._check_alone, "if row.role in (Role.STOP, Role.TARGET) and", "if False and"),),
        masked_by=("replace_without_confirming",),
        shows=in_modes("locking", "free"),
    ),
    "stop_moves_back": Mutant(
        "a trailing stop follows the price in both directions",
        (
            Edit(
                stops.trailing_stop,
                "return stop if gain > 0 and gain >=",
                "return stop if abs(gain) > 0 and abs(gain) >=",
            ),
            Edit(stops.better_price, "    return ", "    return price or "),
        ),
        masked_by=("stop_may_be_written_back",),
        shows=lambda plan: plan.setting.trailing,
    ),
    "stop_may_be_written_back": Mutant(
        "the database takes a stop that moves back",
        (
            Edit(MemoryLedger.move_stop, "if moved_back:", "if False:"),
            Edit(memory_store._moves_on, "is_loosened or not _moves_back(stop, row)", "True"),
        ),
        masked_by=("stop_moves_back",),
        shows=lambda plan: plan.setting.trailing,
    ),
    "silent_exchange_not_asked_again": Mutant(
        "an exchange that did not answer is never ready to be asked again, by whoever asks first whether it is",
        (Edit(HttpSession.ready, "may_try and", "not self._breaker.is_open and"),),
        shows=when("stop_canceled_by_hand"),
    ),
    "crossed_stop_not_watched": Mutant(
        "a stop that is crossed and not filled is left to the exchange",
        (Edit(decide._stop_crossed, "if quote is None:", "if True:"),),
        shows=when("stop_never_triggers", "triggered_stop_band_cancel"),
    ),
    "triggered_is_filled": Mutant(
        "a stop that was triggered counts as filled, whatever the market band left of it",
        (
            Edit(
                DealView.position,
                "order.filled for order in self.orders if order.role != Role.ENTRY",
                "order.quantity if order.role == Role.STOP and order.is_final and order.filled > 0 else order.filled"
                " for order in self.orders if order.role != Role.ENTRY",
            ),
        ),
        shows=when("triggered_stop_band_cancel"),
    ),
    "swap_not_taken_back": Mutant(
        "the stop that made room for the target does not come back",
        (Edit(decide._target_in_swap, "if target.status is OrderStatus.CANCELING or", "if True or"),),
        shows=in_modes("locking"),
    ),
    # --- quantities ---
    "fill_booked_twice": Mutant(
        "the ledger books whatever trades an answer holds, known or more than the order was filled",
        (
            Edit(MemoryStore.add_fill, "if key in self._by_trade:", "if False:"),
            Edit(ledger_rows.fills_to_book, "if fill.trade_id in known or fill.trade_id in new:", "if False:"),
            Edit(ledger_rows.fills_to_book, "if booked + fill.quantity > row.filled_quantity:", "if False:"),
            Edit(ledger_rows.fills_to_book, "new[fill.trade_id] = fill", 'new[f"{fill.trade_id} {len(new)}"] = fill'),
        ),
        masked_by=("trade_told_twice",),
        shows=when("duplicate_fill"),
    ),
    "trade_told_twice": Mutant(
        "a client passes on a trade twice that an answer holds twice",
        (
            Edit(
                OrderReads.fetch_fills,
                "fills |= {fill.trade_id: fill for fill in page.rows if",
                'fills |= {f"{fill.trade_id} {n}": fill for n, fill in enumerate(page.rows) if',
            ),
        ),
        masked_by=("fill_booked_twice",),
        shows=lambda plan: plan.setting.venue == "nobitex" and when("duplicate_fill")(plan),
    ),
    "repeated_row_is_a_fill": Mutant(
        "a row that stands twice in an order of Wallex is two fills",
        (
            Edit(to_fills, "_without_repeats(list(order.fills or []), order.executedQty)", "list(order.fills or [])"),
            Edit(to_fills, "if sum((fill.quantity for fill in wire), ZERO) > order.executedQty:", "if False:"),
        ),
        masked_by=("fill_booked_twice",),
        shows=lambda plan: plan.setting.venue == "wallex" and when("duplicate_fill")(plan),
    ),
    "exit_size_from_request": Mutant(
        "what was asked for is closed, not what was filled",
        (
            Edit(
                DealView.position,
                "order.filled for order in self.orders if order.role == Role.ENTRY",
                "order.quantity for order in self.orders if order.role == Role.ENTRY",
            ),
        ),
        shows=when("partial_then_cancel"),
    ),
    "fee_in_base_ignored": Mutant(
        "the fee that was taken out of what was bought is sold as well",
        (Edit(DealView.position, "return entered - fees - exited", "return entered - exited"),),
        shows=lambda plan: plan.setting.side == "BUY",
    ),
    # --- entries ---
    "no_quarantine": Mutant(
        "a market is open for entries right after an order on it was given up as absent",
        (
            Edit(
                entry_judge.entry_windows,
                "quarantine_since=now - clock.wall(QUARANTINE)",
                "quarantine_since=now + clock.wall(QUARANTINE)",
            ),
        ),
        shows=when(*LATE, "lost_request", "drop_before"),
    ),
    "ticket_blocks_nothing": Mutant(
        "a market is open for entries while a person is asked about it",
        (Edit(MemoryEntryLedger._market_blocked, "if is_here and", "if False and"),),
        shows=when("order_by_hand", "stop_canceled_by_hand"),
    ),
    "candle_decided_twice": Mutant(
        "a strategy decides again over a candle that it has decided over",
        (Edit(MemoryEntryLedger._is_to_decide, "return last is None or", "return True or"),),
        masked_by=("one_deal_per_candle", "one_order_per_name"),
        shows=when("duplicate_task"),
    ),
    "one_deal_per_candle": Mutant(
        "the database takes a second deal for a candle",
        (Edit(MemoryStore._add_deal, "if key in self._decided:", "if False:"),),
        masked_by=("candle_decided_twice", "one_order_per_name"),
        shows=when("duplicate_task"),
    ),
    "one_order_per_name": Mutant(
        "the database takes a second order of a name",
        (Edit(MemoryStore.add_order, "if name in self._by_client_id:", "if False:"),),
        masked_by=("candle_decided_twice", "one_deal_per_candle"),
        shows=when("duplicate_task"),
    ),
    "open_deal_not_seen": Mutant(
        "the risk gate does not look at the open deal of a market",
        (
            Edit(
                entry_judge.risk_context,
                "open_deal_on_market=any(deal.market_id == request.market_id for deal in standing)",
                "open_deal_on_market=False",
            ),
        ),
        masked_by=("one_deal_per_market",),
    ),
    "one_deal_per_market": Mutant(
        "the database takes a second live deal on a market",
        (Edit(MemoryStore._enter, "if any(", "if False and any("),),
        masked_by=("open_deal_not_seen",),
    ),
    "daily_limit_off": Mutant(
        "entries are counted before the lock is held: the newest one is not among them",
        (
            Edit(
                MemoryEntryLedger._counts,
                "trades_today=sum(deal.created_at >= windows.day_start for deal in entered)",
                "trades_today=sum(deal.created_at >= windows.day_start for deal in entered[:-1])",
            ),
        ),
        shows=is_busy,
    ),
    # --- switches ---
    "switch_not_seen_when_planned": Mutant(
        "the kill switch is not looked at again before an entry that is planned is taken up",
        (Edit(decide._unsent_entry, "if not control.entries_allowed:", "if False:"),),
        masked_by=("switch_not_seen_when_sent",),
        shows=at_an_entry,
    ),
    "switch_not_seen_when_sent": Mutant(
        "the kill switch is not looked at in the transaction that lets an entry go",
        (Edit(MemoryLedger.claim_send, "if order.role == Role.ENTRY and not", "if False and not"),),
        masked_by=("switch_not_seen_when_planned",),
        shows=at_an_entry,
    ),
    "all_deals_rest": Mutant(
        "of deals that were read together, all count as needing nothing",
        (Edit(advance._rests, "return deal.is_measured(price) and", "return True or"),),
    ),
    "switch_stops_protection": Mutant(
        "the kill switch stops protection as well",
        (
            Edit(
                advance._advance_deal,
                "    ledger, clock = worker.ledger, worker.clock",
                "    ledger, clock = worker.ledger, worker.clock\n"
                "    if not ledger.control(deal.id).entries_allowed: return",
            ),
        ),
        shows=when("kill_switch"),
    ),
    "flatten_does_not_exit": Mutant(
        "FLATTEN stops entries and leaves positions",
        (Edit(decide._exiting, "if control.flatten else None", "if False else None"),),
        shows=when("kill_switch", level="flatten"),
    ),
}


def with_its_mask(name: str) -> str:
    """A mutant together with the defences that stand behind its rule, as one name."""
    return "+".join(sorted({name, *MUTANTS[name].masked_by}))


def hunted() -> list[str]:
    """What has to be caught: every mutant alone, or together with what masks it."""
    return list(dict.fromkeys(with_its_mask(name) for name in MUTANTS))


def parts(name: str) -> list[Mutant]:
    return [MUTANTS[part] for part in name.split("+")]


def what(name: str) -> str:
    return " · ".join(each.what for each in parts(name))


def can_show(name: str, plan: Plan) -> bool:
    return all(each.shows(plan) for each in parts(name))


@contextmanager
def applied(name: str | None) -> Iterator[None]:
    """Live without a rule, or without several (`a+b`); with all of them where no name is given."""
    edits = [edit for each in parts(name) for edit in each.edits] if name else []
    with edited(*edits):
        yield
