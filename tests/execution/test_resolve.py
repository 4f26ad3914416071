"""The recovery ladder as a table: what each rung answers, and what is made of it. Then one climb on real sockets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from algo.execution.balances import Change
from algo.execution.resolve import order_recover
from algo.execution.views import DealView, OrderView
from algo.models import Account, Deal, DealStatus, Order, Role, Ticket, TicketKind
from providers.errors import BadPayload, OrderNotFound, RateLimited, Unavailable
from providers.types import Balance, Fill, OrderReport, OrderRequest, OrderStatus, OrderType, Side
from tests.execution import views
from tests.execution.bench import Trader, World, opened
from tests.execution.faults import Faulty, lost_answer, lost_request, raising
from tests.execution.views import BUDGETS, NOW, ago

D = Decimal
S = OrderStatus
NAME = "P1ENTRY"


def trade(side: Side = Side.BUY, quantity: str = "1", order_id: str | None = None, at: datetime | None = None) -> Fill:
    when = at or ago(30)
    return Fill(f"t{quantity}", "BTCUSDT", side, D(100), D(quantity), D(0), "BTC", when, exchange_order_id=order_id)


def report(name: str | None = NAME, exchange_id: str = "77", **fields: Any) -> OrderReport:
    values: dict[str, Any] = {
        "symbol": "BTCUSDT", "side": Side.BUY, "status": S.FILLED, "quantity": D(1), "filled_quantity": D(1),
        "client_order_id": name, "exchange_order_id": exchange_id, "type": OrderType.MARKET, "created_at": ago(30),
        "fills_complete": True, "fills": (trade(order_id=exchange_id),),
    }  # fmt: skip
    return OrderReport(**(values | fields))


@dataclass
class Rungs:
    """What the exchange answers at each rung; an exception is raised."""

    by_name: Any = field(default_factory=lambda: OrderNotFound("unknown"))
    listed: Any = ()
    trades: Any = ()
    balance: Any = (1000, 0)  # of the asset that is spent: total, locked
    asked: list[str] = field(default_factory=list)
    clock_difference: Any = None
    lists_left: bool = True

    def can_list(self, lists: int = 1) -> bool:
        return self.lists_left

    def _answer(self, name: str, value: Any) -> Any:
        self.asked.append(name)
        if isinstance(value, Exception):
            raise value
        return value

    def fetch_order(self, ref: Any) -> OrderReport:
        return self._answer("name", self.by_name)

    def orders_since(self, symbol: str, since: datetime) -> Any:
        return self._answer("list", self.listed)

    def own_trades(self, symbol: str, since: datetime) -> Any:
        return self._answer("trades", self.trades)

    def balances(self) -> dict[str, Balance]:
        answer = self._answer("balance", self.balance)
        return {asset: Balance(asset, D(str(answer[0])), D(str(answer[1]))) for asset in ("USDT", "BTC")}


class Books:
    """A ledger that writes down what it is told."""

    def __init__(self, booked: str = "0", others: tuple[str, str] = ("0", "0")) -> None:
        self.told: list[str] = []
        self.reason = ""
        self.taken: list[str] = []
        self.booked, self.others = D(booked), Change(*map(D, others))

    def filled_since(self, *args: Any, **kwargs: Any) -> Decimal:
        return self.booked

    def explained_change(self, *args: Any, **kwargs: Any) -> Change | None:
        return self.others

    def __getattr__(self, name: str) -> Any:
        def tell(*args: Any, **more: Any) -> None:
            self.told.append(name)
            self.reason = str(more.get("reason", self.reason))
            if name == "note_doubt":
                self.reason = f"{args[1]}: {args[2]}"
            if name == "apply_report":
                self.taken.append(args[1].exchange_order_id)

        return tell


class Clock:
    speed = 1.0

    def now(self) -> datetime:
        return NOW

    def wall(self, seconds: float) -> Any:
        return views.seconds(seconds)

    def monotonic(self) -> float:
        return NOW.timestamp()


def climb(rungs: Rungs, books: Books, *, role: Role = Role.ENTRY, sent: float = 60, **fields: Any) -> Books:
    """One pass over the ladder for an order of 1 BTC that was sent `sent` seconds ago, when 1000 were there."""
    known = {"balance_before": D(1000), "locked_before": D(0), "balance_read_at": ago(sent + 5)}
    order = views.order(
        role, S.SUBMITTED, client_order_id=NAME, submitted_at=ago(sent), created_at=ago(sent), **(known | fields)
    )
    others = () if role is Role.ENTRY else (views.entry(),)
    deal = views.deal(*others, order, status=DealStatus.ENTERING if role is Role.ENTRY else DealStatus.OPEN)
    order_recover(deal, order, ledger=books, provider=rungs, clock=Clock(), budgets=BUDGETS)  # type: ignore[arg-type]
    return books


FIRST, SECOND = {}, {"negative_at": ago(3)}
SWAPPED = SECOND | {"locked_before": D(100)}  # as much was locked before it was sent
WAIT, ABSENT, GONE = ["note_unknown"], ["note_negative"], ["end_order"]
SOLD = trade(Side.SELL)
HANDS = report("HAND1", "9")  # an order of somebody else, and its fill

TABLE = [
    # the first rungs: what is shown is taken over
    ("shown by its name", Rungs(by_name=report()), Books(), FIRST, ["apply_report"]),
    ("listed by its name", Rungs(listed=[HANDS, report()]), Books(), FIRST, ["apply_report"]),
    ("listed without names", Rungs(listed=[report(None)]), Books(), FIRST, ["apply_report"]),
    # nothing anywhere: twice, and not at once
    ("nowhere, too early", Rungs(), Books(), {"sent": 40}, WAIT),
    ("nowhere", Rungs(), Books(), FIRST, ABSENT),
    ("nowhere, just looked", Rungs(), Books(), {"negative_at": ago(1)}, WAIT),
    ("nowhere again", Rungs(), Books(), SECOND, GONE),
    # trades
    ("a trade of an unknown order", Rungs(trades=[trade(order_id="5")]), Books(), SECOND, WAIT),
    ("a trade of a listed one", Rungs(listed=[HANDS], trades=[trade(order_id="9")]), Books(), SECOND, GONE),
    ("a trade on the other side", Rungs(trades=[trade(Side.SELL, order_id="5")]), Books(), SECOND, GONE),
    ("an older trade", Rungs(trades=[trade(order_id="5", at=ago(61))]), Books(), SECOND, GONE),
    ("a nameless trade", Rungs(trades=[trade()]), Books(), SECOND, WAIT),
    ("a nameless one, listed", Rungs(listed=[HANDS], trades=[trade()]), Books(), SECOND, GONE),
    ("a nameless one, booked", Rungs(trades=[trade()]), Books(booked="1"), SECOND, GONE),
    ("more traded than listed", Rungs(listed=[HANDS], trades=[trade(), trade(quantity="0.5")]), Books(), SECOND, WAIT),
    ("a nameless sale", Rungs(trades=[SOLD]), Books(), SECOND, GONE),
    # the balance: 1 BTC at 100 USDT
    ("all of it spent", Rungs(balance=(900, 0)), Books(), SECOND, WAIT),
    ("a part of it spent", Rungs(balance=(999, 0)), Books(), SECOND, WAIT),
    ("less than a hundredth", Rungs(balance=("999.01", 0)), Books(), SECOND, GONE),
    ("spent by other orders", Rungs(balance=(900, 0)), Books(others=("-100", "0")), SECOND, GONE),
    ("spent by others and more", Rungs(balance=(900, 0)), Books(others=("-50", "0")), SECOND, WAIT),
    ("a deposit", Rungs(balance=(2000, 0)), Books(), SECOND, GONE),
    ("a sale hides a purchase", Rungs(balance=(1000, 0)), Books(others=("100", "0")), SECOND, WAIT),
    ("all of it locked", Rungs(balance=(1000, 100)), Books(), SECOND, WAIT),
    ("half of it locked", Rungs(balance=(1000, 50)), Books(), SECOND, GONE),
    ("locked by other orders", Rungs(balance=(1000, 100)), Books(others=("0", "100")), SECOND, GONE),
    ("let go before we knew of it", Rungs(balance=(1000, 0)), Books(others=("0", "-100")), SECOND, GONE),
    ("an old lock gone, this one there", Rungs(balance=(1000, 100)), Books(others=("0", "-100")), SWAPPED, WAIT),
    # doubts end: a person is asked, and the deal goes on
    ("doubted for long, first look", Rungs(balance=(900, 0)), Books(), {"sent": 150}, ["note_doubt", *ABSENT]),
    ("doubted for long", Rungs(balance=(900, 0)), Books(), SECOND | {"sent": 150}, ["note_doubt", *GONE]),
    ("traded, and for long", Rungs(trades=[trade()]), Books(), SECOND | {"sent": 150}, ["note_doubt", *GONE]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rungs", "books", "terms", "decided"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_what_the_rungs_answer_decides(rungs, books, terms, decided):
    assert climb(rungs, books, **terms).told == decided


def test_without_a_baseline_the_balance_says_nothing_and_is_not_asked():
    rungs = Rungs(balance=(0, 0))
    books = climb(rungs, Books(), balance_before=None, locked_before=None, balance_read_at=None, **SECOND)
    assert (books.told, rungs.asked) == (GONE, ["name", "list", "trades"])


def test_each_doubt_has_its_kind_of_ticket_and_says_why():
    long = SECOND | {"sent": 150}
    assert climb(Rungs(trades=[trade()]), Books(), **long).reason == "it never arrived at the exchange"
    waiting = climb(Rungs(balance=(900, 0)), Books(), **SECOND)
    assert waiting.reason == "100 USDT left the account since, and no known order spent it"
    assert climb(Rungs(balance=(900, 0)), Books(), sent=150).reason.startswith(f"{TicketKind.BALANCE_MOVED}: 100 USDT")
    assert climb(Rungs(trades=[trade()]), Books(), sent=150).reason.startswith(TicketKind.UNKNOWN_TRADE)


@pytest.mark.parametrize(
    ("balance", "sent", "decided"),
    [
        ((1000, 0), 9, ["release_send"]),
        ((1000, 1), 9, WAIT),
        ((999, 0), 44, WAIT),
        ((1000, 1), 45, ["note_doubt", "release_send"]),
    ],
    ids=["nothing moved", "it is locked", "it was sold", "for long"],
)
def test_a_stop_watches_the_base_and_waits_less_for_an_explanation(balance, sent, decided):
    books = climb(Rungs(balance=balance), Books(), role=Role.STOP, sent=sent, **SECOND)
    assert books.told == decided


@pytest.mark.parametrize("rung", ["by_name", "listed", "trades", "balance"])
@pytest.mark.parametrize("error", [Unavailable("no answer"), BadPayload("unusable answer")], ids=["silent", "garbled"])
def test_a_rung_that_breaks_proves_nothing(rung, error):
    books = Books()
    with pytest.raises(type(error)):
        climb(Rungs(**{rung: error}), books, **SECOND)
    assert books.told == ["note_unknown"]  # so that the next look waits its time: calls are few


@pytest.mark.parametrize("rung", ["trades", "balance"])
@pytest.mark.parametrize("error", [Unavailable("no answer"), BadPayload("unusable answer")], ids=["silent", "garbled"])
def test_a_position_does_not_wait_for_ever_for_a_last_rung_that_stays_broken(rung, error):
    with pytest.raises(type(error)):
        climb(Rungs(**{rung: error}), Books(), role=Role.STOP, sent=44, **SECOND)
    books = climb(Rungs(**{rung: error}), Books(), role=Role.STOP, sent=45, **SECOND)
    assert books.told == ["note_doubt", "release_send"]
    with pytest.raises(type(error)):  # nothing waits for the end of an entry
        climb(Rungs(**{rung: error}), Books(), sent=600, **SECOND)


@pytest.mark.parametrize("rung", ["by_name", "listed"])
def test_without_its_first_rungs_no_verdict_is_ever_given(rung):
    books = Books()
    with pytest.raises(Unavailable):
        climb(Rungs(**{rung: Unavailable("no answer")}), books, role=Role.STOP, sent=600, **SECOND)
    assert books.told == ["note_unknown"]


def test_a_position_does_not_wait_for_the_call_budget_of_balances():
    spent = RateLimited("the call budget wallets is spent", retry_after=15)
    assert climb(Rungs(balance=spent), Books(), role=Role.STOP, sent=9, **SECOND).told == ["release_send"]
    with pytest.raises(RateLimited):
        climb(Rungs(balance=spent), Books(), **SECOND)


@pytest.mark.parametrize(
    ("role", "sent", "asked"),
    [
        (Role.STOP, 8, ["name"]),
        (Role.STOP, 9, ["name", "list", "trades", "balance"]),
        (Role.TARGET, 8, ["name"]),
        (Role.EXIT, 8, ["name", "list"]),
        (Role.ENTRY, 8, ["name", "list"]),
    ],
)
def test_before_its_absence_can_count_what_rests_is_looked_for_by_name_alone(role, sent, asked):
    """An exchange finds what rests by its name, and lists are few: those that cannot count were missing later."""
    rungs = Rungs()
    climb(rungs, Books(), role=role, sent=sent)
    assert rungs.asked == asked


@pytest.mark.parametrize("role", [Role.EXIT, Role.ENTRY])
@pytest.mark.parametrize(("sent", "asked"), [(8, ["name"]), (60, ["name", "list", "trades", "balance"])])
def test_a_look_that_cannot_count_waits_for_no_list(role, sent, asked):
    """It would spend the next list on nothing: an exit that had never left was proven absent ten seconds later."""
    rungs = Rungs(lists_left=False)
    climb(rungs, Books(), role=role, sent=sent)
    assert rungs.asked == asked


@pytest.mark.parametrize("role", [Role.ENTRY, Role.STOP])
def test_a_clock_that_was_set_forward_makes_no_absence_count(role):
    sent, hour = 3, 3600
    rungs = Rungs(clock_difference=views.seconds(-hour))  # by the Date of its last answer
    assert climb(rungs, Books(), role=role, sent=hour + sent, **SECOND).told == WAIT
    assert climb(Rungs(), Books(), role=role, sent=hour + sent, **SECOND).told != WAIT


@pytest.mark.parametrize("known", ["nothing", "the first leg"])
def test_a_second_leg_whose_pair_is_not_found_by_its_id_is_looked_for_in_the_lists(known):
    """Else its fate would never be decided, and nothing else is done for its deal until it is."""
    target = views.order(Role.TARGET, S.FILLED, exchange_order_id="76", pair_id=12, id=11)
    leg = views.order(Role.STOP, S.SUBMITTED, pair_id=11, id=12, submitted_at=ago(9), created_at=ago(9), **SECOND)
    deal = views.deal(views.entry(), target, leg)

    class Forgetful(Rungs):
        def fetch_order(self, ref: Any) -> OrderReport:
            if known == "nothing" or ref.exchange_order_id != "76":
                raise OrderNotFound("unknown")
            return report("T", "76", pair_id="77")

    books = Books()
    order_recover(deal, leg, ledger=books, provider=Forgetful(), clock=Clock(), budgets=BUDGETS)  # type: ignore[arg-type]
    assert books.told == ["end_leg"]


def pair(found: float) -> tuple[DealView, OrderView]:
    """An OCO that was sent a minute ago, looked for in vain, and whose first leg was found `found` seconds ago."""
    first = {"exchange_order_id": "76", "pair_id": 12, "id": 11, "accepted_at": ago(found)}
    sent = {"submitted_at": ago(60), "created_at": ago(60), "negative_at": ago(found + 1)}
    leg = views.order(Role.STOP, S.SUBMITTED, pair_id=11, id=12, **sent)
    return views.deal(views.entry(), views.order(Role.TARGET, S.OPEN, **first, **sent), leg), leg


class OneLeg(Rungs):
    """It shows the first leg of a pair, whose other leg it says is 77 and does not show."""

    def fetch_order(self, ref: Any) -> OrderReport:
        if ref.exchange_order_id != "76":
            raise OrderNotFound("unknown")
        return report("T", "76", pair_id="77")


@pytest.mark.parametrize(("found", "decided"), [(1, ["note_unknown"]), (8, ["note_unknown"]), (9, ["note_negative"])])
def test_a_second_leg_has_its_time_from_when_its_first_one_was_found(found, decided):
    # The pair had arrived late, and reads were behind: its stop was given up in the same second.
    deal, leg = pair(found)
    books = Books()
    order_recover(deal, leg, ledger=books, provider=OneLeg(), clock=Clock(), budgets=BUDGETS)  # type: ignore[arg-type]
    assert books.told == decided


def test_a_second_leg_is_found_in_the_lists_by_the_id_that_its_first_one_tells():
    deal, leg = pair(9)
    other = report(None, "78", side=Side.SELL, type=OrderType.STOP_LIMIT, status=S.OPEN, filled_quantity=D(0), fills=())
    books = Books()
    rungs = OneLeg(listed=[other, replace(other, exchange_order_id="77")])
    order_recover(deal, leg, ledger=books, provider=rungs, clock=Clock(), budgets=BUDGETS)  # type: ignore[arg-type]
    assert (books.told, books.taken) == (["apply_report"], ["77"])


# --- on real sockets --------------------------------------------------------------------------------------------------

PROVIDERS = pytest.mark.parametrize("provider", ["wallex", "nobitex"])


def pass_time(trader: Trader, seconds: int) -> None:
    """Look after the account every ten seconds."""
    for _ in range(seconds // 10):
        trader.world.step(10)
        trader.advance()


BLIND = {
    "fetch_order": raising(OrderNotFound("unknown")),
    "orders_since": lambda call: [],
    "open_orders": lambda call: [],
}


@PROVIDERS
def test_an_order_that_only_the_balance_shows_is_not_taken_for_absent(world: World, provider):
    # The exchange executes the entry, and then neither shows, lists nor tells the trade of it.
    trader = world.trader(provider)
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[lost_answer], always=BLIND | {"own_trades": lambda call: []})
    trader.advance(reconcile_now=True)  # which reads the balances first
    order = trader.orders()[0]
    assert (order.balance_asset, order.balance_before, order.locked_before) == ("USDT", D(10000), D(0))
    pass_time(trader, 100)
    assert trader.deal().status == DealStatus.ENTERING
    assert not Ticket.objects.filter(account=trader.account).exists()
    pass_time(trader, 60)
    trader.wait(3)
    assert trader.deal().status == DealStatus.CANCELED
    ticket = Ticket.objects.get(account=trader.account)
    assert (ticket.kind, ticket.market) == (TicketKind.BALANCE_MOVED, trader.market)
    assert "100.01 USDT left the account" in ticket.summary
    assert len([order for order in trader.truth()["orders"] if order["side"] == "BUY"]) == 1


@PROVIDERS
def test_an_order_that_only_its_trades_show_is_not_taken_for_absent(world: World, provider):
    trader = world.trader(provider)
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[lost_answer], always=BLIND)
    trader.advance()
    pass_time(trader, 100)
    assert trader.deal().status == DealStatus.ENTERING
    trader.provider = trader.client  # the exchange sees again
    trader.wait(25)
    assert trader.deal().status == DealStatus.OPEN
    assert trader.deal().unprotected_since is None


@PROVIDERS
def test_fills_of_our_own_orders_since_the_baseline_raise_no_doubt(world: World, provider):
    # The baseline of the stop is older than the entry, which changed both balances since.
    trader = world.trader(provider)
    trader.plan()
    call = "create_oco" if provider == "nobitex" else "create_order"
    before = [] if call == "create_oco" else [lambda call: call()]
    trader.provider = Faulty(trader.client, **{call: [*before, lost_request]})
    trader.advance(reconcile_now=True)  # which reads the balances first
    stop = trader.orders(Role.STOP)[0]
    assert (stop.status, stop.balance_asset, stop.balance_before) == (S.SUBMITTED, "BTC", D(1))
    trader.wait(16)
    assert Role.STOP in trader.roles(S.OPEN)
    assert not Ticket.objects.filter(account=trader.account).exists()


def test_a_fill_that_came_while_the_baseline_was_read_raises_no_doubt(world: World):
    # The stamp of a reading is from before the call, which may wait for its turn: the balances hold the fill, and the
    # fill counted once more made a lost stop wait for 45 s.
    trader = opened(world.trader())
    (entry,) = trader.orders(Role.ENTRY)
    filled = entry.fills.get().executed_at
    Order.objects.filter(pk=entry.pk).update(submitted_at=filled - views.seconds(9))
    held = trader.client.balances()["BTC"]
    balances = {"BTC": [str(held.total), str(held.locked)]}
    Account.objects.filter(pk=trader.account.pk).update(balances=balances, balances_read_at=filled - views.seconds(1))
    Deal.objects.filter(account=trader.account).update(stop_price=D("99.3"))  # the order has to follow
    trader.provider = Faulty(trader.client, create_order=[lost_request])
    trader.advance()
    assert trader.orders(Role.STOP)[-1].status == S.SUBMITTED
    trader.wait(16)
    assert trader.orders(Role.STOP)[-1].status == S.OPEN
    assert not Ticket.objects.filter(account=trader.account).exists()


@PROVIDERS
def test_what_a_person_does_beside_us_is_explained_by_the_list(world: World, provider):
    trader = world.trader(provider)
    trader.plan()
    trader.provider = Faulty(trader.client, create_order=[lost_request])
    trader.advance()
    by_hand = OrderRequest("HAND1", trader.market.symbol, Side.BUY, OrderType.MARKET, D("0.5"))
    trader.client.create_order(by_hand)
    rests = OrderRequest("HAND2", trader.market.symbol, Side.BUY, OrderType.LIMIT, D(1), price=D(90))
    trader.client.create_order(rests)
    pass_time(trader, 60)
    trader.wait(3)
    assert trader.deal().status == DealStatus.CANCELED
    assert not Ticket.objects.filter(account=trader.account, kind=TicketKind.BALANCE_MOVED).exists()


def test_an_old_baseline_is_none(world: World):
    trader = opened(world.trader())
    Account.objects.filter(pk=trader.account.pk).update(balances_read_at=world.clock.now() - views.seconds(66))
    Deal.objects.filter(account=trader.account).update(stop_price=D("99.3"))  # the order has to follow
    trader.advance()
    moved = trader.orders(Role.STOP)[-1]
    assert moved.stop_price == D("99.3")
    assert (moved.balance_asset, moved.balance_before, moved.balance_read_at) == ("", None, None)
