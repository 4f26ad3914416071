"""Many workers decide at the same moment, each with its own connection: limits hold, nobody waits for ever, and one
that dies in the middle leaves nothing."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from algo.execution import entry_ledger_orm
from algo.execution.entry_judge import EntryEvidence, decide_entry
from algo.execution.entry_ledger import Decided, EntryRequest
from algo.execution.entry_ledger_orm import OrmEntryLedger
from algo.execution.ledger_rows import order_plan
from algo.models import (
    FINISHED_DEALS,
    Account,
    Deal,
    Decision,
    Order,
    OutboxEvent,
    Outcome,
    Role,
    Signal,
    StrategyConfig,
)
from algo.risk.codes import DenialCode
from algo.risk.values import Denial, EntryIntent
from algo.services.accounts import account_pause, account_resume
from algo.services.audit import PLATFORM
from algo.services.control import strategy_ordering_set
from algo.strategies.schemas import StrategySchema
from providers.types import Balance, BookLevel, OrderBook, OrderType, Resolution, Side
from tests.execution.bench import HandClock
from tests.factories import WALLEX_LIKE, by, make_account, make_config, make_deal, make_market, make_user

pytestmark = pytest.mark.django_db(transaction=True)

WORKERS = 8
COINS = ("BTC", "ETH", "DOGE", "LTC", "ADA", "XRP", "TRX", "SOL")
CLOCK = HandClock()
NOW = CLOCK.now()
LEVEL = Decimal(100)


def configs(number: int, account: Account | None = None, *, markets: int = WORKERS) -> list[StrategyConfig]:
    """Strategies of one account, each on a market of its own unless there are fewer markets."""
    account = account or make_account()
    data = make_market(provider="nobitex")
    each = itertools.cycle([make_market(f"{coin}USDT") for coin in COINS[:markets]])
    return [make_config(account=account, market=next(each), data_market=data) for _ in range(number)]


def request(config: StrategyConfig, *, bar: int = 0, side: Side = Side.BUY, **parameters: Any) -> EntryRequest:
    """A wish over a candle of one minute that closed a minute ago, or `bar` seconds later."""
    terms = {"stop_loss_percent": 1, "take_profit_percent": 2, "trade_cooldown_minutes": 0, "max_open_deals": 100}
    opened = NOW - timedelta(minutes=2) + timedelta(seconds=bar)
    return EntryRequest(
        account_id=config.account_id,
        config_id=config.pk,
        market_id=config.market_id,
        bar_open_at=opened,
        intent=EntryIntent(side, Decimal(1), "TEST", opened, LEVEL),
        price=LEVEL,
        rules=config.market.rules,
        parameters=StrategySchema(**(terms | parameters)),
        capabilities=WALLEX_LIKE,
    )


def decide(wish: EntryRequest, *, at: datetime = NOW + timedelta(seconds=1)) -> Decided | None:
    """Decide with 10,000 USDT in the account and a book that stands at 100."""
    clock = HandClock()
    clock.step((at - clock.now()).total_seconds())
    bid = BookLevel(LEVEL - Decimal("0.01"), Decimal(10_000))
    evidence = EntryEvidence(
        book=OrderBook(wish.rules.symbol, (bid,), (BookLevel(LEVEL, Decimal(10_000)),), clock.now(), LEVEL),
        resolution=Resolution.M1,
        balances={"USDT": Balance("USDT", Decimal(10_000), Decimal(0))},
        read_at=clock.now(),
        environment="paper",
        time_zone=settings.TRADING_DAY_TIME_ZONE,
        max_position_size_percent=Decimal(50),
    )
    return decide_entry(OrmEntryLedger(), wish, evidence, clock)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """What each call returned, or the exception it raised; all begin together, each on its own connection."""
    start, answers = threading.Barrier(len(calls)), [None] * len(calls)

    def work(number: int) -> None:
        start.wait(10)
        try:
            answers[number] = calls[number]()
        except Exception as exc:  # noqa: BLE001 - told by the thread that waits
            answers[number] = exc
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a worker waits for ever"
    failures = [answer for answer in answers if isinstance(answer, Exception)]
    assert not failures, failures
    return answers


def codes(answers: list[Decided | None]) -> list[str]:
    """Denial codes, `entered`, or `not decided`, sorted."""
    return sorted(_code(answer) for answer in answers)


def _code(answer: Decided | None) -> str:
    if answer is None:
        return "not decided"
    return answer.answer.code if isinstance(answer.answer, Denial) else "entered"


def entered(answers: list[Decided | None]) -> int:
    return codes(answers).count("entered")


def live() -> Any:
    return Deal.objects.exclude(status__in=FINISHED_DEALS)


def end(deal: Deal) -> None:
    """The deal runs its whole course, without profit."""
    moves: list[dict[str, Any]] = [
        {"status": "ENTERING"},
        {"status": "OPEN", "opened_at": NOW, "entry_price": LEVEL, "entry_quantity": deal.planned_quantity},
        {"status": "EXITING", "exit_reason": "manual"},
        {"status": "CLOSED", "close_reason": "manual", "closed_at": NOW, "exit_quantity": deal.planned_quantity},
    ]
    for move in moves:
        Deal.objects.filter(pk=deal.pk).update(**move)


# --- once -----------------------------------------------------------------------------------------------------------


def test_eight_workers_over_one_candle_plan_one_deal():
    (config,) = configs(1)
    answers = at_once(*[lambda: decide(request(config))] * WORKERS)
    assert codes(answers) == ["entered"] + ["not decided"] * 7
    assert (Deal.objects.count(), Order.objects.count(), Signal.objects.count(), Decision.objects.count()) == (1,) * 4


def test_both_sides_of_one_candle_are_one_decision():
    (config,) = configs(1)
    config.allowed_sides = "BOTH"
    config.save()
    at_once(*[lambda side=side: decide(request(config, side=side)) for side in list(Side) * 4])
    assert Decision.objects.count() == Signal.objects.count() == 1


def test_a_candle_older_than_the_last_one_is_not_decided_any_more():
    (config,) = configs(1)
    assert decide(request(config, bar=2)) is not None
    assert decide(request(config, bar=1)) is None
    assert Decision.objects.count() == 1


# --- limits ---------------------------------------------------------------------------------------------------------


def test_open_deals_of_an_account_stay_within_the_limit():
    rows = configs(WORKERS)
    answers = at_once(
        *[lambda row=row: decide(request(row, max_open_deals=3, max_position_size_percent=1)) for row in rows]
    )
    assert codes(answers) == ["entered"] * 3 + ["max_open_deals"] * 5


def test_two_strategies_of_one_market_share_one_live_deal():
    rows = configs(WORKERS, markets=1)
    answers = at_once(*[lambda row=row: decide(request(row)) for row in rows])
    assert codes(answers) == ["entered"] + ["open_deal_exists"] * 7
    assert live().count() == 1


def test_the_exposure_of_an_account_stays_within_the_limit():
    # each wants 25 % of 10,000; three are 7,500, four would be more than 8,000
    rows = configs(WORKERS)
    terms = {"max_exposure_percent": 80, "max_position_size_percent": 25}
    answers = at_once(*[lambda row=row: decide(request(row, **terms)) for row in rows])
    assert codes(answers) == ["entered"] * 3 + ["max_exposure"] * 5
    assert sum(deal.planned_quantity * deal.planned_price for deal in live()) == 7500


def test_accounts_do_not_count_for_each_other():
    rows = [configs(1)[0] for _ in range(WORKERS)]
    answers = at_once(*[lambda row=row: decide(request(row, max_open_deals=1)) for row in rows])
    assert codes(answers) == ["entered"] * WORKERS


def worn_out(config: StrategyConfig, **terms: Any) -> int:
    """Eight workers take candle after candle of a strategy and bring every deal to its end; how many were entered."""
    bars, lock = iter(range(48)), threading.Lock()

    def work() -> int:
        number = 0
        while True:
            with lock:
                bar = next(bars, None)
            if bar is None:
                return number
            decided = decide(request(config, bar=bar, **terms))
            if decided and decided.deal_id:
                number += 1
                end(Deal.objects.get(pk=decided.deal_id))

    return sum(at_once(*[work] * WORKERS))


def test_entries_of_a_day_stay_within_the_limit():
    (config,) = configs(1)
    assert worn_out(config, max_daily_trades=5) == Deal.objects.count() == 5
    assert codes([decide(request(config, bar=50, max_daily_trades=5))]) == ["daily_trades"]


def test_the_cooldown_holds_between_workers():
    (config,) = configs(1)
    assert worn_out(config, trade_cooldown_minutes=48) == 1
    assert set(Signal.objects.exclude(denial_code="").values_list("denial_code", flat=True)) <= {
        "cooldown",
        "open_deal_exists",
    }


# --- the runaway ----------------------------------------------------------------------------------------------------


def gone_mad(account: Account, number: int, *, minutes: float = 5) -> None:
    config = make_config(account=account, market=make_market("SOLUSDT"), data_market=make_market(provider="nobitex"))
    for row in range(number):
        moment = NOW + timedelta(seconds=1) - timedelta(minutes=minutes, microseconds=row)
        deal = make_deal(config, bar_open_at=moment, created_at=moment)
        Deal.objects.filter(pk=deal.pk).update(status="CANCELED")


def test_an_account_that_plans_as_if_mad_is_paused_and_people_are_told_once():
    rows = configs(WORKERS)
    account = rows[0].account
    gone_mad(account, 28)
    answers = at_once(*[lambda row=row: decide(request(row, max_position_size_percent=1)) for row in rows])
    assert codes(answers) == ["account_paused"] * 5 + ["entered"] * 2 + ["runaway"]
    account.refresh_from_db()
    assert account.state == "paused"
    assert "30 entries were planned on this account in 10 minutes" in account.state_reason
    (event,) = OutboxEvent.objects.filter(kind="account.paused")
    assert event.payload["by"] == "the platform"
    assert event.payload["reason"] in account.state_reason


@pytest.mark.parametrize(("number", "minutes"), [(29, 5), (300, 10.1)])
def test_what_a_sound_account_plans_is_no_runaway(number, minutes):
    (config,) = configs(1)
    gone_mad(config.account, number, minutes=minutes)
    assert codes([decide(request(config))]) == ["entered"]


# --- deaths and locks -----------------------------------------------------------------------------------------------


def hang_up(*args: Any, **more: Any) -> Any:
    """The worker's session ends here, as the database sees it when the process is killed."""
    connection.connection.close()
    raise OperationalError("the connection was closed")


@pytest.mark.parametrize("where", ["_counts", "_record_signal", "_plan_deal", "order_plan", "_note"])
def test_a_worker_that_dies_inside_leaves_nothing_and_holds_nothing(monkeypatch, where):
    (config,) = configs(1)

    def dies() -> str:
        try:
            decide(request(config))
        except (OperationalError, InterfaceError):
            return "died"
        return "lived"

    with monkeypatch.context() as patch:
        patch.setattr(entry_ledger_orm, where, hang_up)
        assert at_once(dies) == ["died"]
    for model in (Deal, Order, Signal, Decision, OutboxEvent):
        assert not model.objects.exists()
    config.refresh_from_db()
    assert config.last_bar_at is None
    assert codes([decide(request(config))]) == ["entered"]


def test_a_worker_that_is_killed_by_the_database_in_the_middle_lets_the_next_one_in():
    rows = configs(2)
    inside, killed = threading.Event(), threading.Event()

    def held() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            victim.append(cursor.fetchone()[0])
        try:
            with transaction.atomic():
                decide(request(rows[0]))
                inside.set()
                assert killed.wait(10)
        except (OperationalError, InterfaceError):
            return "died"
        return "lived"

    def kill_and_decide() -> Decided | None:
        assert inside.wait(10)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", victim)
        killed.set()
        return decide(request(rows[1], max_open_deals=1))

    victim: list[int] = []
    died, decided = at_once(held, kill_and_decide)
    assert (died, codes([decided])) == ("died", ["entered"])
    assert list(Deal.objects.values_list("config", flat=True)) == [rows[1].pk]


def test_decisions_exits_and_people_at_once_never_lock_each_other_out():
    """Deciding, closing by signal, planning orders, booking, pausing and switching, all on the same rows: a deadlock
    or a wait of four seconds would be an OperationalError."""
    rows = configs(4)
    user, account = make_user(is_superuser=True), rows[0].account
    for row in rows:
        first = request(row, bar=-1, max_position_size_percent=10, exit_on_opposite_signal=True)
        assert codes([decide(first)]) == ["entered"]
    for deal in live():
        Deal.objects.filter(pk=deal.pk).update(status="ENTERING")
        Deal.objects.filter(pk=deal.pk).update(status="OPEN", opened_at=NOW, entry_price=LEVEL)
    StrategyConfig.objects.update(allowed_sides="BOTH")

    def deciding(row: StrategyConfig) -> None:
        for bar in range(12):
            decide(request(row, bar=bar, side=Side.SELL if bar > 5 else Side.BUY))

    def protecting(row: StrategyConfig) -> None:
        deal_id = Deal.objects.values_list("pk", flat=True).get(config=row)
        for leg in range(1, 13):
            with transaction.atomic():
                deal = Deal.objects.select_for_update().get(pk=deal_id)
                stop = _stop(deal, leg)
                Order.objects.filter(pk=stop.pk).update(status="CANCELED")
                deal.save(update_fields=["note"])

    def people() -> None:
        for number in range(20):
            (account_resume if number % 2 else account_pause)(account, by=by(user), at=NOW)
            strategy_ordering_set(rows[number % 4], enabled=bool(number % 3), by=PLATFORM, at=NOW)

    at_once(
        *[lambda row=row: deciding(row) for row in rows],
        *[lambda row=row: protecting(row) for row in rows],
        people,
    )
    assert live().count() == 4
    assert set(live().values_list("status", "exit_reason")) == {("EXITING", "signal")}


def _stop(deal: Deal, leg: int) -> Order:
    return order_plan(
        deal,
        role=Role.STOP,
        leg=leg,
        side=Side.SELL,
        kind=OrderType.STOP_MARKET,
        quantity=deal.planned_quantity,
        price=None,
        stop_price=deal.stop_price,
        reason="test",
        now=NOW,
    )


# --- what changed meanwhile -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["stopped", "another market", "another account", "deleted"])
def test_what_was_changed_between_the_candle_and_the_lock_decides_nothing(what):
    (config,) = configs(1)
    wish = request(config)
    if what == "deleted":
        config.delete()
    elif what == "stopped":
        StrategyConfig.objects.update(status="stopped")
    elif what == "another market":
        StrategyConfig.objects.update(market=make_market("TONUSDT"))
    else:
        StrategyConfig.objects.update(account=make_account())
    assert decide(wish) is None
    assert not Deal.objects.exists()
    assert not Signal.objects.exists()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ordering_enabled": False}, DenialCode.STRATEGY_NOT_ORDERING),
        ({"allowed_sides": "SELL"}, DenialCode.SIDE_NOT_ALLOWED),
    ],
)
def test_a_switch_turned_between_the_candle_and_the_lock_counts(change, code):
    (config,) = configs(1)
    StrategyConfig.objects.update(**change)
    assert codes([decide(request(config))]) == [code]


def test_the_book_ages_while_a_worker_waits_for_its_turn():
    (config,) = configs(1)
    assert config.account.state == "active"
    wish, clock = request(config), HandClock()
    clock.step(1)
    evidence = EntryEvidence(
        book=OrderBook(
            "BTCUSDT", (BookLevel(Decimal("99.99"), LEVEL),), (BookLevel(LEVEL, LEVEL),), clock.now(), LEVEL
        ),
        resolution=Resolution.M1,
        balances={"USDT": Balance("USDT", Decimal(10_000), Decimal(0))},
        read_at=clock.now(),
        environment="paper",
        time_zone=settings.TRADING_DAY_TIME_ZONE,
        max_position_size_percent=Decimal(50),
    )

    class Slow(OrmEntryLedger):
        def decide(self, request: EntryRequest, judge: Any, **more: Any) -> Decided | None:
            clock.step(6)
            return super().decide(request, judge, **more)

    decided = decide_entry(Slow(), wish, evidence, clock)
    assert decided is not None and decided.outcome == Outcome.DENIED
    assert codes([decided]) == ["stale_data"]
