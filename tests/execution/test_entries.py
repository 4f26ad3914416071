"""From closed candles to planned deals: once per candle, once per group, and never by chance."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from pydantic import Field

from algo.execution import entries
from algo.execution.entries import due_groups, evaluate_group
from algo.execution.entry_judge import trading_day_start
from algo.models import (
    CloseReason,
    Deal,
    DealStatus,
    Decision,
    KillSwitch,
    MarketQuote,
    Order,
    OutboxEvent,
    Outcome,
    Role,
    Signal,
    StrategyConfig,
    StrategyStatus,
)
from algo.models.fields import SecretUnreadable
from algo.selectors.balances import balances_unspent
from algo.services.accounts import balances_note
from algo.services.audit import PLATFORM
from algo.services.control import kill_switch_set
from algo.strategies.interface import StrategyInterface
from algo.strategies.schemas import StrategySchema
from algo.strategies.strategy_factory import STRATEGIES
from providers.clock import AnchoredClock
from providers.errors import AuthFailed, BadPayload, Unavailable
from providers.types import Balance, BookLevel, Capabilities, OrderBook, Resolution
from tests.factories import (
    WALLEX_LIKE,
    make_account,
    make_closed_deal,
    make_config,
    make_deal,
    make_market,
    make_open_deal,
    make_order,
    make_ticket,
)
from tests.market_data.exchange import FakeExchange, at, candles

pytestmark = pytest.mark.django_db
M1 = Resolution.M1
TEHRAN = "Asia/Tehran"


class SaysSchema(StrategySchema):
    take_profit_percent: Decimal = Field(Decimal(2), gt=0)
    stop_loss_percent: Decimal = Field(Decimal(1), gt=0)
    trade_cooldown_minutes: int = 0
    word: str = "BUY"


class Says(StrategyInterface):
    """Says its word at every candle; `raise` and `garbage` are what users' code does on a bad day."""

    schema = SaysSchema
    seen: list[int] = []

    @property
    def warmup_bars(self) -> int:
        return 3

    def execute(self, market_data: Any) -> dict[str, Any] | None:
        self.seen.append(len(market_data["candles"]))
        word = self.parameters.word
        if word == "raise":
            raise ZeroDivisionError("a bad day")
        if word == "garbage":
            return {"side": "MAYBE"}
        return None if word == "nothing" else {"side": word, "confidence": 1, "reason": "TEST"}


class CannotStart(Says):
    def initialize(self) -> bool:
        raise RuntimeError("no model file")


@pytest.fixture(autouse=True)
def strategies(monkeypatch):
    monkeypatch.setitem(STRATEGIES, "Says", Says)
    monkeypatch.setitem(STRATEGIES, "CannotStart", CannotStart)
    monkeypatch.setattr(Says, "seen", [])
    # Bias checks have tests of their own (test_strategy_checks.py): here strategies have bad days that a check finds.
    monkeypatch.setattr(entries, "version_refusal", lambda config, strategy, *, now: "")


class Venue:
    """Where orders go: a book around the last candle and a full purse."""

    name = "wallex"

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.books = self.asked = 0
        self.wallet = {"USDT": Decimal(10_000), "BTC": Decimal(1)}
        self.fails: Exception | None = None

    def order_book(self, symbol: str) -> OrderBook:
        self.books += 1
        level = Decimal("109")
        return OrderBook(
            symbol,
            (BookLevel(level - Decimal("0.01"), Decimal(100)),),
            (BookLevel(level, Decimal(100)),),
            self.clock.now(),
            level,
        )

    def balances(self) -> dict[str, Balance]:
        self.asked += 1
        if self.fails:
            raise self.fails
        return {asset: Balance(asset, amount, Decimal(0)) for asset, amount in self.wallet.items()}

    def capabilities(self) -> Capabilities:
        return WALLEX_LIKE


class Fixed(AnchoredClock):
    """Ten minutes and four seconds after START, or what a test sets."""

    moment = at(10) + timedelta(seconds=4)

    def now(self) -> datetime:
        return type(self).moment


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(Fixed, "moment", at(10) + timedelta(seconds=4))
    return Fixed()


class Desk:
    """Everything `evaluate_group` is given; `run()` calls it for these configs."""

    def __init__(self, clock: Any, *configs: StrategyConfig) -> None:
        self.clock = clock
        self.configs = configs
        self.data = FakeExchange(candles(range(10)))
        self.venue = Venue(clock)
        self.hints: list[int] = []

    def account_provider(self, account: Any) -> Any:
        return self.venue

    def run(self) -> list[Outcome]:
        market = make_market(provider="nobitex")
        return evaluate_group(
            market,
            M1,
            [config.pk for config in self.configs],
            data_provider=self.data,  # type: ignore[arg-type]
            book_provider=lambda name: self.venue,  # type: ignore[arg-type,return-value]
            account_provider=self.account_provider,
            clock=self.clock,
            on_planned=self.hints.append,
        )


def config(word: str = "BUY", **fields: Any) -> StrategyConfig:
    parameters = {"word": word, **fields.pop("parameters", {})}
    return make_config(strategy="Says", parameters=parameters, **fields)


def told(config_row: StrategyConfig) -> tuple[str, str]:
    """(outcome of the last decision, denial code of the last signal)."""
    decision = Decision.objects.filter(config=config_row).order_by("id").last()
    signal = Signal.objects.filter(config=config_row).order_by("id").last()
    return decision.outcome if decision else "", signal.denial_code if signal else ""


# --- when ---------------------------------------------------------------------------------------------------------


def test_a_strategy_is_due_when_the_candle_after_its_last_one_has_closed():
    row = config(last_bar_at=at(5))
    assert due_groups(at(6.9)) == []
    (group,) = due_groups(at(7))
    assert (group.data_market_id, group.resolution, group.config_ids) == (row.data_market_id, M1, (row.pk,))


def test_strategies_that_read_the_same_candles_are_one_group_and_stopped_ones_none():
    first, second = config(), config(market=make_market("ETHUSDT"), data_market=make_market(provider="nobitex"))
    other = config(resolution=Resolution.M5)
    config(status=StrategyStatus.STOPPED)
    groups = {group.resolution: group.config_ids for group in due_groups(at(10))}
    assert groups == {M1: (first.pk, second.pk), Resolution.M5: (other.pk,)}


# --- once ---------------------------------------------------------------------------------------------------------


def test_candles_and_books_are_read_once_for_a_whole_group(clock):
    rows = [config("nothing") for _ in range(5)]
    desk = Desk(clock, *rows)
    assert desk.run() == [Outcome.NO_SIGNAL] * 5
    assert (len(desk.data.asked), desk.venue.books) == (1, 1)
    assert Says.seen and set(Says.seen) == {3}  # exactly the warm-up, whatever else is stored


def test_a_signal_plans_a_deal_with_its_entry_once_for_a_candle(clock):
    row = config()
    desk = Desk(clock, row)
    assert desk.run() == [Outcome.ENTERED]
    assert desk.run() == []
    deal = Deal.objects.get()
    order = Order.objects.get()
    # 50 % (the setting's limit) of 10,000 USDT at 109 is 45.87 BTC
    assert deal.planned_quantity == order.quantity == Decimal("45.871559")
    assert (deal.status, deal.bar_open_at, deal.planned_price) == (DealStatus.PLANNED, at(9), Decimal(109))
    assert (deal.initial_stop_price, deal.target_price) == (Decimal("107.91"), Decimal("111.18"))
    assert (order.role, order.status, order.side) == (Role.ENTRY, "PENDING", "BUY")
    assert deal.rules["word"] == "BUY"
    assert desk.hints == [row.account_id]
    assert Decision.objects.count() == Signal.objects.count() == 1


def test_what_a_deal_was_planned_by_is_frozen_on_it(clock):
    row = config()
    Desk(clock, row).run()
    row.parameters = {"word": "SELL", "stop_loss_percent": "9"}
    row.save()
    assert Deal.objects.get().rules["stop_loss_percent"] == "1"


@pytest.mark.django_db(transaction=True)
def test_two_workers_over_the_same_candle_plan_one_deal(clock):
    row = config()
    start, outcomes, lock = threading.Barrier(4), [], threading.Lock()

    def work() -> None:
        start.wait(10)
        try:
            found = Desk(clock, row).run()
            with lock:
                outcomes.extend(found)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes == [Outcome.ENTERED]
    assert Deal.objects.count() == Order.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_limits_hold_while_many_strategies_of_an_account_decide_at_once(clock):
    account = make_account()
    names = ("BTCUSDT", "ETHUSDT", "DOGEUSDT", "LTCUSDT")
    data = make_market(provider="nobitex")
    rows = [
        config(account=account, market=make_market(name), data_market=data, parameters={"max_open_deals": 2})
        for name in names
    ]
    start = threading.Barrier(4)

    def work(row: StrategyConfig) -> None:
        start.wait(10)
        try:
            Desk(clock, row).run()
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(row,)) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Deal.objects.filter(account=account).count() == 2
    assert sorted(told(row)[1] for row in rows) == ["", "", "max_open_deals", "max_open_deals"]


# --- balances -----------------------------------------------------------------------------------------------------


def test_strategies_of_one_account_that_speak_together_read_its_balances_once(clock):
    account = make_account()
    rows = [config(account=account, ordering_enabled=False) for _ in range(3)]
    desk = Desk(clock, *rows)
    assert desk.run() == [Outcome.DENIED] * 3
    assert desk.venue.asked == 1


def test_an_entry_that_is_about_to_spend_lets_the_next_one_ask_again(clock):
    account, data = make_account(), make_market(provider="nobitex")
    rows = [config(account=account, market=make_market(name), data_market=data) for name in ("BTCUSDT", "ETHUSDT")]
    desk = Desk(clock, *rows)
    assert desk.run() == [Outcome.ENTERED] * 2
    assert desk.venue.asked == 2


def test_balances_are_read_again_where_an_order_was_sent_since_or_time_went_by(clock):
    row = config(ordering_enabled=False)
    account, now = row.account, clock.now()
    balances_note(account, {"USDT": Balance("USDT", Decimal(7), Decimal(2))}, read_at=now)
    account.refresh_from_db()
    two = timedelta(seconds=2)
    held = balances_unspent(account, now + two, two)
    assert held is not None
    assert held["USDT"].available == Decimal(5)
    assert balances_unspent(account, now + two + timedelta(microseconds=1), two) is None
    assert balances_unspent(account, now - timedelta(microseconds=1), two) is None  # by a clock that was ahead

    order = make_order(make_deal(row), status="OPEN", created_at=now - timedelta(minutes=1), submitted_at=now)
    assert balances_unspent(account, now + two, two) is None
    Order.objects.filter(pk=order.pk).update(submitted_at=now - timedelta(microseconds=1))
    assert balances_unspent(account, now + two, two) is not None
    make_order(order.deal, role=Role.STOP, created_at=now - timedelta(minutes=1))  # planned, and about to be sent
    assert balances_unspent(account, now + two, two) is None


# --- why not ------------------------------------------------------------------------------------------------------


def test_nobody_decides_over_a_candle_that_may_still_be_cut_short(clock):
    row = config()
    row.last_bar_at = at(8)
    row.save()
    Fixed.moment = at(10) + timedelta(seconds=2)
    desk = Desk(clock, row)
    assert desk.run() == []  # no later candle is there yet to prove that this one is over
    Fixed.moment = at(10) + timedelta(seconds=4)
    assert desk.run() != []
    row.refresh_from_db()
    assert row.last_bar_at == at(9)


def test_nothing_to_say_is_written_down_too(clock):
    row = config("nothing")
    Desk(clock, row).run()
    assert told(row) == ("no_signal", "")
    row.refresh_from_db()
    assert row.last_bar_at == at(9)


def arrange(code: str, row: StrategyConfig, desk: Desk) -> None:
    """Make `row` be denied with `code`."""
    account, market = row.account, row.market
    if code == "kill_switch":
        kill_switch_set(KillSwitch.NO_ENTRIES, reason="test", by=PLATFORM)
    elif code == "account_paused":
        type(account).objects.filter(pk=account.pk).update(state="paused")
    elif code == "strategy_not_ordering":
        StrategyConfig.objects.filter(pk=row.pk).update(ordering_enabled=False)
    elif code == "open_deal_exists":
        make_open_deal(make_config(account=account, market=market))
    elif code == "market_blocked":
        make_ticket(account, market=market)
    elif code == "insufficient_balance":
        desk.venue.wallet = {"USDT": Decimal(3)}
    elif code == "stale_data":
        desk.venue.fails = Unavailable("connection refused")


@pytest.mark.parametrize(
    ("fields", "code", "says", "asks"),
    [
        ({"key_expires_at": at(10) + timedelta(hours=20)}, "key_expiring", "expires in less than a day", 1),
        ({"key_expires_at": at(10)}, "key_expiring", "has expired", 0),
        ({"state": "stopped"}, "account_paused", "stopped", 0),
    ],
    ids=["last day", "expired", "stopped"],
)
def test_a_dead_key_is_not_used_and_a_dying_one_opens_nothing(clock, fields, code, says, asks):
    row = config()
    type(row.account).objects.filter(pk=row.account.pk).update(**fields)
    desk = Desk(clock, row)
    assert desk.run() == [Outcome.DENIED]
    assert told(row) == ("denied", code)
    assert says in Signal.objects.get().denial_message
    assert desk.venue.asked == asks


def test_a_key_refused_while_deciding_stops_the_account(clock):
    row = config()
    desk = Desk(clock, row)
    desk.venue.fails = AuthFailed("HTTP 401")
    assert desk.run() == [Outcome.DENIED]
    assert told(row) == ("denied", "account_paused")
    row.account.refresh_from_db()
    assert row.account.state == "stopped"
    assert OutboxEvent.objects.filter(kind="account.stopped").count() == 1


def test_the_balances_of_a_decision_are_the_baseline_of_its_entry(clock):
    row = config()
    Desk(clock, row).run()
    row.account.refresh_from_db()
    assert row.account.balances == {"USDT": ["10000", "0"], "BTC": ["1", "0"]}
    assert row.account.balances_read_at == clock.now()


@pytest.mark.parametrize(
    "code",
    [
        "kill_switch",
        "account_paused",
        "strategy_not_ordering",
        "open_deal_exists",
        "market_blocked",
        "insufficient_balance",
        "stale_data",
    ],
)
def test_a_denial_is_kept_with_its_code_and_sentence(clock, code):
    row = config()
    desk = Desk(clock, row)
    arrange(code, row, desk)
    assert desk.run() == [Outcome.DENIED]
    assert told(row) == ("denied", code)
    assert Signal.objects.get().denial_message
    assert Decision.objects.get(config=row).journal["denial"]["code"] == code
    assert not Order.objects.exists()
    assert desk.hints == []


def test_a_side_that_is_not_allowed_is_denied(clock):
    row = config("SELL")
    Desk(clock, row).run()
    assert told(row) == ("denied", "side_not_allowed")


def test_a_ticket_blocks_its_own_market_only(clock):
    account = make_account()
    data = make_market(provider="nobitex")
    blocked, free = config(account=account), config(account=account, market=make_market("ETHUSDT"), data_market=data)
    make_ticket(account, market=blocked.market)
    Desk(clock, blocked, free).run()
    assert told(blocked) == ("denied", "market_blocked")
    assert told(free) == ("entered", "")


def test_no_entry_on_a_closed_market_and_the_opposite_signal_closes_its_deal_all_the_same(clock):
    row = config("SELL", parameters={"exit_on_opposite_signal": True})
    deal = make_open_deal(row, bar_open_at=at(1), rules=row.parameters)
    type(row.market).objects.filter(pk=row.market.pk).update(is_open=False)
    Desk(clock, row).run()
    assert Decision.objects.get(config=row).journal["denial"]["code"] == "market_blocked"
    deal.refresh_from_db()
    assert (deal.status, deal.exit_reason) == ("EXITING", "signal")


@pytest.mark.parametrize(("seconds", "code"), [(149, "market_blocked"), (151, "")])
def test_an_order_of_unknown_fate_blocks_its_market_for_150_seconds(clock, seconds, code):
    row = config()
    before = make_deal(row, status="CANCELED", bar_open_at=at(1))
    make_order(before, status="REJECTED", negative_at=clock.now() - timedelta(seconds=seconds))
    Desk(clock, row).run()
    assert told(row)[1] == code


def test_an_order_that_is_still_unknown_blocks_its_market(clock):
    row = config()
    before = make_deal(row, status="CANCELED", bar_open_at=at(1))
    make_order(before, status="SUBMITTED", unknown_since=at(0))
    Desk(clock, row).run()
    assert told(row)[1] == "market_blocked"


def test_a_sale_that_could_not_be_bought_back_is_denied(clock):
    # 0.5 BTC sold at 108.99 brings 54.33 after the fee; bought back at the stop 110.08 it costs 55.04
    row = config("SELL", allowed_sides="BOTH")
    desk = Desk(clock, row)
    desk.venue.wallet = {"BTC": Decimal(1)}
    desk.run()
    assert told(row)[1] == "stop_not_placeable"
    assert "buying back" in Signal.objects.get().denial_message
    other = config("SELL", allowed_sides="BOTH")
    desk = Desk(clock, other)
    desk.venue.wallet = {"BTC": Decimal(1), "USDT": Decimal(1)}
    desk.run()
    assert told(other) == ("entered", "")


# --- limits of the day ----------------------------------------------------------------------------------------------


def test_the_trading_day_begins_at_midnight_in_tehran():
    # 20:29 UTC is 23:59 in Tehran, 20:30 UTC the next day
    assert trading_day_start(datetime(2026, 11, 2, 20, 29, tzinfo=UTC), TEHRAN) == datetime(
        2026, 11, 1, 20, 30, tzinfo=UTC
    )
    assert trading_day_start(datetime(2026, 11, 2, 20, 30, tzinfo=UTC), TEHRAN) == datetime(
        2026, 11, 2, 20, 30, tzinfo=UTC
    )


@pytest.mark.parametrize(("hours", "code"), [(13, "daily_trades"), (14, "")])
def test_entries_are_counted_by_the_trading_day(clock, hours, code):
    # now is 10:10 UTC: the day began 13 h 40 min ago
    row = config(parameters={"max_daily_trades": 1})
    make_closed_deal(row, bar_open_at=at(1), created_at=clock.now() - timedelta(hours=hours))
    Desk(clock, row).run()
    assert told(row)[1] == code


def test_a_deal_that_never_filled_does_not_count(clock):
    row = config(parameters={"max_daily_trades": 1})
    make_deal(row, status="CANCELED", bar_open_at=at(1), created_at=at(1))
    Desk(clock, row).run()
    assert told(row) == ("entered", "")


@pytest.mark.parametrize(("loss", "code"), [("-480", ""), ("-560", "daily_loss")])
def test_losses_of_the_day_stop_the_account(clock, loss, code):
    # 10,000 USDT and 1 BTC at 108.995 now, and as much more as was lost, at the day's beginning: 5 % of that is 529-534
    row = config()
    other = make_config(account=row.account, market=make_market("ETHUSDT"))
    make_closed_deal(other, closed_at=at(0), profit=Decimal(loss))
    Desk(clock, row).run()
    assert told(row)[1] == code


@pytest.mark.parametrize(
    ("bid", "age", "code"),
    [
        # 10 ETH bought at 100 stand at 60: 400 lost, and 150 realised, of 10,000 + 109 + 600 now and 550 more before:
        # the limit is 5 % of 11,259, about 563
        ("60", 0, ""),
        ("58", 0, "daily_loss"),  # 420 + 150 = 570
        ("58", 61, ""),  # nobody knows any more what it is worth: only what is realised counts
        ("200", 0, ""),  # a gain that nobody took
    ],
)
def test_what_open_deals_stand_to_lose_counts_for_the_day(clock, bid, age, code):
    row = config()
    other = make_config(account=row.account, market=make_market("ETHUSDT"))
    make_closed_deal(other, bar_open_at=at(0), closed_at=at(0), profit=Decimal(-150))
    ten = {"entry_price": Decimal(100), "entry_quantity": Decimal(10), "opened_at": at(1)}
    make_open_deal(other, bar_open_at=at(1), **ten)
    MarketQuote.objects.create(
        market=other.market,
        bid=Decimal(bid),
        ask=Decimal(bid) + 1,
        as_of=clock.now() - timedelta(seconds=age),
        received_at=clock.now(),
    )
    Desk(clock, row).run()
    assert told(row)[1] == code


def test_a_gain_that_is_not_realised_pays_for_no_loss(clock):
    row = config()
    other = make_config(account=row.account, market=make_market("ETHUSDT"))
    make_closed_deal(other, bar_open_at=at(0), closed_at=at(0), profit=Decimal(-600))
    ten = {"entry_price": Decimal(100), "entry_quantity": Decimal(10), "opened_at": at(1)}
    make_open_deal(other, bar_open_at=at(1), **ten)
    MarketQuote.objects.create(
        market=other.market, bid=Decimal(170), ask=Decimal(171), as_of=clock.now(), received_at=clock.now()
    )
    Desk(clock, row).run()
    assert told(row)[1] == "daily_loss"


# --- what the account stands for -------------------------------------------------------------------------------------


def exposed(row: StrategyConfig, status: str, **fields: Any) -> None:
    """Another deal of the account, of 40 ETH at 100."""
    other = make_config(account=row.account, market=make_market("ETHUSDT"))
    terms = {
        "planned_quantity": Decimal(40),
        "planned_price": Decimal(100),
        "initial_stop_price": Decimal(99),
        "stop_price": Decimal(99),
        "target_price": Decimal(102),
    }
    make_order(make_deal(other, bar_open_at=at(1), status=status, **terms | fields), **_fate(status))


def _fate(status: str) -> dict[str, Any]:
    return {"status": "REJECTED", "negative_at": at(9.9)} if status == "CANCELED" else {}


@pytest.mark.parametrize(
    ("status", "fields", "percent", "code"),
    [
        # 45.871559 BTC at 109 are 4999.999931 of an equity of 10,000 USDT and 1 BTC at 108.995
        ("PLANNED", {}, "90", ""),  # 4,000 + 5,000 of 9,098
        ("PLANNED", {}, "80", "max_exposure"),  # of 8,087
        ("ENTERING", {}, "80", "max_exposure"),
        ("ENTERING", {"entry_quantity": Decimal(1), "entry_price": Decimal(100)}, "80", "max_exposure"),  # all of it
        ("CANCELED", {}, "80", "max_exposure"),  # proven absent a moment ago: it may still turn up
        # opened before the balances were read: the equity is 2,000 more, and the deal is what it holds
        (
            "OPEN",
            {
                "opened_at": at(9),
                "entry_quantity": Decimal(30),
                "entry_price": Decimal(100),
                "exit_quantity": Decimal(10),
            },
            "60",
            "",  # 2,000 + 5,000 of 0.6 x 12,109
        ),
        (
            "OPEN",
            {
                "opened_at": at(9),
                "entry_quantity": Decimal(30),
                "entry_price": Decimal(100),
                "exit_quantity": Decimal(10),
            },
            "57",
            "max_exposure",  # of 6,902
        ),
    ],
)
def test_the_exposure_counts_what_deals_stand_for(clock, status, fields, percent, code):
    row = config(parameters={"max_exposure_percent": percent})
    exposed(row, status, **fields)
    Desk(clock, row).run()
    assert told(row)[1] == code


def test_a_deal_in_another_quote_stands_for_nothing_in_this_one(clock):
    row = config(parameters={"max_exposure_percent": "60"})
    toman = make_market("BTCTMN")
    make_open_deal(make_config(account=row.account, market=toman, data_market=toman), bar_open_at=at(1))
    Desk(clock, row).run()
    assert told(row)[1] == ""


def test_the_cooldown_is_counted_from_the_last_entry(clock):
    row = config(parameters={"trade_cooldown_minutes": 5})
    make_closed_deal(row, bar_open_at=at(5), created_at=at(6))
    Desk(clock, row).run()
    assert told(row)[1] == "cooldown"


# --- closing by the strategy ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [True, False])
def test_the_opposite_signal_closes_the_deal_where_the_rules_say_so(clock, wanted):
    row = config("SELL", parameters={"exit_on_opposite_signal": wanted})
    deal = make_open_deal(row, bar_open_at=at(1))
    foreign = make_open_deal(make_config(account=make_account()), bar_open_at=at(1))
    desk = Desk(clock, row)
    assert desk.run() == [Outcome.EXIT if wanted else Outcome.DENIED]
    deal.refresh_from_db()
    foreign.refresh_from_db()
    assert (deal.exit_reason, deal.status) == (
        (CloseReason.SIGNAL, DealStatus.EXITING) if wanted else ("", DealStatus.OPEN)
    )
    assert foreign.exit_reason == ""
    assert desk.hints == ([row.account_id] if wanted else [])


def test_the_rules_of_the_deal_say_whether_the_opposite_signal_closes_it_and_not_those_of_today(clock):
    row = config("SELL", parameters={"exit_on_opposite_signal": True})
    deal = make_open_deal(row, bar_open_at=at(1), rules=row.parameters | {"exit_on_opposite_signal": False})
    assert Desk(clock, row).run() == [Outcome.DENIED]
    deal.refresh_from_db()
    assert (deal.status, deal.exit_reason) == (DealStatus.OPEN, "")


def test_a_strategy_that_moved_to_another_market_closes_nothing_on_its_old_one(clock):
    row = config("SELL", parameters={"exit_on_opposite_signal": True})
    deal = make_open_deal(row, bar_open_at=at(1))
    row.market = make_market("ETHUSDT")
    row.save()
    assert Desk(clock, row).run() == [Outcome.DENIED]
    deal.refresh_from_db()
    assert (deal.status, deal.exit_reason) == (DealStatus.OPEN, "")


def test_the_same_signal_closes_nothing(clock):
    row = config("BUY", parameters={"exit_on_opposite_signal": True})
    deal = make_open_deal(row, bar_open_at=at(1))
    Desk(clock, row).run()
    deal.refresh_from_db()
    assert deal.exit_reason == ""


def test_the_opposite_signal_closes_even_where_balances_cannot_be_read(clock):
    row = config("SELL", parameters={"exit_on_opposite_signal": True})
    make_open_deal(row, bar_open_at=at(1))
    desk = Desk(clock, row)
    desk.venue.fails = BadPayload("unusable")
    assert desk.run() == [Outcome.EXIT]


# --- data ------------------------------------------------------------------------------------------------------------


def test_a_candle_that_stays_away_is_said_once_for_each_that_is_missing(clock):
    row = config("nothing")
    desk = Desk(clock, row)
    desk.run()
    Decision.objects.all().delete()
    Fixed.moment = at(13) + timedelta(seconds=5)  # the newest candle closed at 10: three minutes and five seconds ago
    assert desk.run() == [Outcome.STALE_DATA]
    assert desk.run() == []
    assert list(Decision.objects.values_list("bar_open_at", "outcome")) == [(at(12), "stale_data")]
    assert due_groups(clock.now()) == []
    Fixed.moment = at(14) + timedelta(seconds=5)
    desk.run()
    assert Decision.objects.count() == 2
    assert not Signal.objects.exists()


def test_without_any_candle_the_journal_says_so_and_the_first_one_still_counts(clock):
    row = config("nothing")
    desk = Desk(clock, row)
    desk.data.held = []
    assert desk.run() == [Outcome.STALE_DATA]
    assert desk.run() == [Outcome.STALE_DATA]
    assert list(Decision.objects.values_list("bar_open_at", "outcome")) == [(at(9), "stale_data")]
    row.refresh_from_db()
    assert row.last_bar_at is None
    desk.data.held = candles(range(11))
    Fixed.moment = at(11) + timedelta(seconds=2)
    assert desk.run() == [Outcome.NO_SIGNAL]


def test_too_short_a_history_is_said_and_not_filled_up(clock):
    row = config()
    desk = Desk(clock, row)
    desk.data.held = candles(range(8, 10))
    assert desk.run() == [Outcome.SHORT_HISTORY]
    assert Decision.objects.get().journal == {"candles": 2, "needed": 3}
    assert Says.seen == []


def test_candles_that_cannot_be_read_decide_nothing_and_are_asked_for_again(clock):
    row = config()
    desk = Desk(clock, row)

    def down(number: int) -> None:
        raise Unavailable("connection refused")

    desk.data.before = down
    with pytest.raises(Unavailable):
        desk.run()
    assert not Decision.objects.exists()
    row.refresh_from_db()
    assert row.last_bar_at is None


# --- other people's failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["raise", "garbage"])
def test_a_failing_strategy_does_not_keep_the_others_from_deciding(clock, word):
    rows = [config("nothing"), config(word), config("nothing")]
    assert Desk(clock, *rows).run() == [Outcome.NO_SIGNAL, Outcome.ERROR, Outcome.NO_SIGNAL]
    assert told(rows[1])[0] == "error"
    assert "Error" in Decision.objects.get(config=rows[1]).journal["error"]
    assert not Deal.objects.exists()


def test_a_failing_strategy_fails_once_for_a_candle(clock):
    row = config("raise")
    desk = Desk(clock, row)
    desk.run()
    assert desk.run() == []
    assert len(Says.seen) == 1


def test_a_strategy_that_cannot_start_is_stopped_and_the_others_go_on(clock):
    broken = make_config(strategy="CannotStart", parameters={})
    gone = make_config(strategy="NoSuchStrategy")
    wrong = make_config(strategy="Says", parameters={"stop_loss_percent": "-1"})
    fine = config("nothing")
    assert Desk(clock, broken, gone, wrong, fine).run() == [Outcome.NO_SIGNAL]
    stopped = StrategyConfig.objects.filter(status=StrategyStatus.STOPPED)
    assert set(stopped) == {broken, gone, wrong}


def test_an_account_whose_key_cannot_be_read_does_not_keep_the_others_from_entering(clock):
    broken, fine = config(), config()
    desk = Desk(clock, broken, fine)

    def provider(account: Any) -> Any:
        if account.pk == broken.account_id:
            raise SecretUnreadable("the key was sealed with another secret")
        return desk.venue

    desk.account_provider = provider  # type: ignore[method-assign]
    assert desk.run() == [Outcome.DENIED, Outcome.ENTERED]
    assert told(broken)[1] == "stale_data"


def test_a_market_without_a_book_is_denied_and_not_guessed(clock):
    row = config()
    desk = Desk(clock, row)

    def down(symbol: str) -> OrderBook:
        raise Unavailable("connection refused")

    desk.venue.order_book = down  # type: ignore[method-assign]
    assert desk.run() == [Outcome.DENIED]
    assert told(row)[1] == "stale_data"
