"""The chaos run: its plan, its judges one by one, and one minute of it over real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from launcher import ROOT
from launcher.session import test_environment as environment_of_tests
from providers.paper.faults import FaultKind, FaultRule
from tests.chaos import judge
from tests.chaos.judge import Naked, OurDeal, OurFill, OurOrder, OurTicket
from tests.chaos.plan import FAULTS, KILLED, Span, make_plan

BAR = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
D = Decimal


# --- the plan --------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_plan_and_another_seed_another():
    assert [str(each) for each in make_plan(1, 2)] == [str(each) for each in make_plan(1, 2)]
    assert make_plan(1, 2) != make_plan(2, 2)


def test_the_plan_does_not_hang_on_the_order_of_hashes():
    words = [sys.executable, "-m", "tests.chaos", "--plan", "--minutes", "2", "--seed", "7"]
    told = [
        subprocess.run(words, cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in ("1", "2")
    ]
    assert told[0].stdout == told[1].stdout
    assert len(told[0].stdout.splitlines()) == len(make_plan(7, 2))


@pytest.mark.parametrize("seed", range(1, 6))
def test_every_minute_kills_stops_and_restarts_nearly_everything(seed):
    plan = make_plan(seed, 2)
    for begin in (0, 60):
        minute = [each for each in plan if begin <= each.at < begin + 60]
        assert sorted(each.target for each in minute if each.kind == "kill") == sorted(KILLED)
        assert [each.kind for each in minute].count("stop") == 3
        assert len([each for each in minute if each.kind.startswith("postgres")]) == 1
        assert len([each for each in minute if each.kind.startswith("valkey")]) == 2
    assert all(8 <= each.at <= 116 for each in plan)
    assert {each.kind for each in plan if each.kind.startswith("postgres")} == {"postgres_fast", "postgres_immediate"}


def test_two_minutes_hold_every_kind_of_fault_and_the_exchange_takes_each_rule():
    plan = [each for each in make_plan(3, 2) if each.kind == "fault"]
    assert {each.details["kind"] for each in plan} == {fault.kind for fault in FAULTS} <= set(FaultKind)
    for each in plan:
        params = {name.removesuffix("_wall"): value for name, value in each.details["params"].items()}
        FaultRule.from_json(dict(each.details) | {"params": params})  # refuses with ValueError what it cannot do


# --- the judges: each finds what it is there for ---------------------------------------------------------------------


def our_order(**more) -> OurOrder:
    order = OurOrder("ada", 1, "ada BTC", BAR, "ENTRY", "P1A", "P1A", "FILLED", D("0.5"), D("0.5"))
    return replace(order, **more)


def their_order(**more):
    return {
        "id": 7, "client_order_id": "P1A", "exchange_order_id": "P1A", "pair": "BTC/USDT", "side": "BUY",
        "type": "MARKET", "status": "FILLED", "quantity": "0.50", "filled_quantity": "0.5",
        "created_at": at(0), "closed_at": at(0),
    } | more  # fmt: skip


def trade(**more):
    return {
        "id": 1, "order_id": 7, "side": "BUY", "price": "100", "quantity": "0.5", "fee": "0.001", "fee_asset": "BTC",
        "executed_at": at(0),
    } | more  # fmt: skip


def at(second: float) -> str:
    return datetime.fromtimestamp(BAR.timestamp() + second, UTC).isoformat()


def wall(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp() - BAR.timestamp()


DEAL = OurDeal(1, "ada", "wallex", "BUY", "BTC", "CLOSED", D("0.0001"), D("5"))
FILL = OurFill("ada", "P1A", D("100"), D("0.5"), D("0.001"), "BTC")


def only(found) -> str:
    (sentence,) = found
    return sentence


def test_ledgers_that_agree_are_not_blamed():
    theirs, trades = {"ada": [their_order()]}, {"ada": [trade()]}
    assert list(judge.orders_that_differ([our_order()], theirs)) == []
    assert list(judge.fills_that_differ([FILL], trades, theirs)) == []
    assert list(judge.entries_that_repeat([our_order()], theirs)) == []
    assert list(judge.still_working(theirs)) == []
    assert list(judge.unfinished([DEAL], [our_order()])) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "blamed"),
    [
        ([], [their_order(status="INACTIVE")], "orphan order"),
        ([], [their_order()], "order not in our books"),
        ([our_order(exchange_order_id=None)], [their_order()], "order not in our books"),
        ([our_order()], [], "order not at the exchange"),
        ([our_order(status="CANCELED")], [their_order()], "state differs"),
        ([our_order(filled=D("0.4"))], [their_order()], "filled differs"),
        ([our_order(quantity=D("0.6"))], [their_order()], "quantity differs"),
    ],
)
def test_orders_that_differ_are_found(ours, theirs, blamed):
    assert only(judge.orders_that_differ(ours, {"ada": theirs})).startswith(blamed)


@pytest.mark.parametrize(
    ("ours", "theirs", "blamed"),
    [
        ([], [trade()], "trade not booked (1)"),
        ([FILL, FILL], [trade()], "booked without a trade (1)"),
        ([FILL], [trade(), trade(id=2)], "trade not booked (1)"),
        ([replace(FILL, account="bob")], [], "booked without a trade (1)"),
    ],
)
def test_fills_that_differ_are_found(ours, theirs, blamed):
    assert only(judge.fills_that_differ(ours, {"ada": theirs}, {"ada": [their_order()]})).startswith(blamed)


@pytest.mark.parametrize("changed", [{"price": D("100.01")}, {"fee": D("0.0010000001")}, {"fee_asset": "USDT"}])
def test_a_fill_that_differs_in_the_last_digit_is_found_on_both_sides(changed):
    found = judge.fills_that_differ([replace(FILL, **changed)], {"ada": [trade()]}, {"ada": [their_order()]})
    assert len(list(found)) == 2


def test_toman_has_one_name_in_the_comparison_of_fees():
    found = judge.fills_that_differ(
        [replace(FILL, fee_asset="TMN")], {"ada": [trade(fee_asset="IRT")]}, {"ada": [their_order()]}
    )
    assert list(found) == []


def test_two_filled_entries_of_one_candle_are_found():
    ours = [our_order(), our_order(client_order_id="P1B", exchange_order_id="P1B", deal=2)]
    theirs = [their_order(), their_order(id=8, client_order_id="P1B", exchange_order_id="P1B")]
    assert "has 2 filled entries for the candle of 10:00:00" in only(judge.entries_that_repeat(ours, {"ada": theirs}))
    theirs[1]["filled_quantity"] = "0"
    assert list(judge.entries_that_repeat(ours, {"ada": theirs})) == []


def test_an_entry_that_stands_twice_at_the_exchange_is_found():
    theirs = [their_order(), their_order(id=8, status="CANCELED", filled_quantity="0")]
    assert only(judge.entries_that_repeat([our_order()], {"ada": theirs})) == (
        "duplicate entry: P1A stands 2 times at the exchange"
    )


def test_an_entry_that_was_sent_twice_is_found_and_a_stop_may_be():
    twice = [{"client_order_id": "P1A", "path": "/v1/account/orders"}] * 2
    asked = [{"client_order_id": "P1A", "path": "/market/orders/status"}] * 2
    assert only(judge.entries_sent_again([our_order()], twice)) == "entry sent 2 times: P1A"
    assert list(judge.entries_sent_again([our_order(role="STOP")], twice)) == []
    assert list(judge.entries_sent_again([our_order()], asked)) == []


def test_what_is_not_finished_is_found():
    assert only(judge.unfinished([replace(DEAL, status="EXITING")], [])) == "open deal stuck: 1 of ada is EXITING"
    assert only(judge.unfinished([], [our_order(is_unknown=True)])).startswith("outcome still unknown: ENTRY P1A")
    assert only(judge.still_working({"ada": [their_order(status="OPEN")]})).startswith("order still open")


def test_a_ticket_is_a_violation_unless_the_run_explains_it():
    ticket = OurTicket("ada", "balance_moved", "1 BTC left the account")
    assert only(judge.unexplained([ticket])) == "ticket: balance_moved of ada: 1 BTC left the account"
    assert list(judge.unexplained([ticket], {"balance_moved"})) == []


def test_a_deal_that_sold_more_than_it_held_is_found():
    trades = [trade(), trade(id=2, order_id=9, side="SELL", quantity="0.5", fee="0.1", fee_asset="USDT")]
    assert only(judge.oversold(DEAL, [], trades)) == "oversold: deal 1 of ada went 0.001 BTC beyond flat"
    trades[1]["quantity"] = "0.499"
    assert list(judge.oversold(DEAL, [], trades)) == []


def stop_order(**more):
    return their_order(id=8, side="SELL", type="STOP_MARKET", status="CANCELED", quantity="0.499", created_at=at(2),
                       closed_at=at(10)) | more  # fmt: skip


def test_the_stretches_without_a_stop_are_measured_by_the_exchange_alone():
    orders, trades = [their_order(), stop_order()], [trade()]  # filled at 0, stop from 2 to 10, nothing after
    found = judge.naked_stretches(DEAL, orders, trades, until=40.0, wall=wall)
    assert [(each.begin, each.end, each.reachable) for each in found] == [(0, 2, 2), (10, 40, 30)]
    closed = [*trades, trade(id=2, order_id=9, side="SELL", quantity="0.499", executed_at=at(12), fee_asset="USDT")]
    found = judge.naked_stretches(DEAL, orders, closed, until=40.0, wall=wall)
    assert [(each.begin, each.end) for each in found] == [(0, 2), (10, 12)]


def test_a_stop_that_covers_a_part_leaves_the_position_naked():
    found = judge.naked_stretches(DEAL, [their_order(), stop_order(quantity="0.4")], [trade()], until=10.0, wall=wall)
    assert [(each.begin, each.end) for each in found] == [(0, 10)]


def test_outages_are_not_reachable_and_incidents_lengthen_the_bound():
    outages = [Span(5, 10, "postgres"), Span(8, 15, "drop_after", "wallex"), Span(0, 40, "drop_after", "nobitex"),
               Span(0, 40, "stale_book", "wallex"), Span(0, 40, "valkey")]  # fmt: skip
    incidents = [Span(20, 25, "kill guardian"), Span(90, 95, "kill guardian")]
    (found,) = judge.naked_stretches(
        DEAL, [their_order()], [trade()], until=40.0, wall=wall, outages=outages, incidents=incidents
    )
    assert (found.raw, found.reachable, found.bound) == (40, 30, 32)


def test_a_position_that_is_naked_for_too_long_is_found():
    assert list(judge.too_long_naked([Naked(1, 0, 60, 20.0, 20.0)])) == []
    assert only(judge.too_long_naked([Naked(1, 0, 60, 20.1, 20.0)])) == (
        "naked position: deal 1 for 60.0 s, 20.1 s of it reachable (allowed 20 s)"
    )


LOG = """\
2026-11-22 22:38:26,087 INFO algo.guardian guardian started
2026-11-22 22:38:27,087 ERROR celery.app.trace Task algo.tasks.run_strategies[1] raised unexpected
Traceback (most recent call last):
  File "x.py", line 1, in <module>
django.db.utils.OperationalError: server closed the connection unexpectedly
\tThis probably means the server terminated abnormally
2026-11-22 22:38:28,087 INFO algo.guardian on it goes
"""
EXPECTED = [("celery.app.trace Task", "OperationalError")]


def test_a_traceback_is_a_violation_unless_its_record_and_its_error_are_expected():
    assert list(judge.unhandled("worker.log", LOG, EXPECTED)) == []
    other = LOG.replace("django.db.utils.OperationalError: server closed", "KeyError: 'x'\nserver closed")
    assert only(judge.unhandled("worker.log", other, EXPECTED)).startswith("traceback in worker.log: 2026-11-22 22:38")
    elsewhere = LOG.replace("celery.app.trace Task", "algo.advance deal=1")
    assert len(list(judge.unhandled("worker.log", elsewhere, EXPECTED))) == 1


def test_a_secret_in_a_log_is_named_and_not_repeated():
    assert only(judge.secrets_told("web.log", "Authorization: Token s3cr3t", {"key of eve": "s3cr3t"})) == (
        "secret in web.log: key of eve"
    )
    assert list(judge.secrets_told("web.log", "nothing", {"key of eve": "s3cr3t", "none": ""})) == []


def test_percentiles_of_few_values_are_values():
    assert judge.percentile([], 0.99) == 0
    assert [judge.percentile([3.0, 1.0, 2.0], share) for share in (0, 0.5, 0.99)] == [1.0, 2.0, 3.0]


# --- the run itself --------------------------------------------------------------------------------------------------

OF_THE_TESTS = {"DATABASE_URL", "REDIS_URL", "ALGO_TEST_SERVERS", *environment_of_tests()}
LONGEST_SECONDS = 330


@pytest.mark.long
@pytest.mark.e2e
def test_after_a_minute_of_chaos_the_books_agree_and_nothing_is_left_behind(tmp_path):
    env = {name: value for name, value in os.environ.items() if name not in OF_THE_TESTS} | {"TMPDIR": str(tmp_path)}
    tmp_path.chmod(0o755)
    words = [sys.executable, "-m", "tests.chaos", "--minutes", "1", "--seed", "1"]
    began = time.monotonic()
    done = subprocess.run(
        words, cwd=ROOT, env=env, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-3000:]}"
    told = json.loads(done.stdout)
    assert told["violations"] == []
    assert told["deals"]["CLOSED"] >= 5
    assert told["fills"] >= 2 * told["deals"]["CLOSED"]
    assert set(KILLED) <= told["kills"].keys()
    assert sum(told["stops"].values()) == 3
    assert sum(told["postgres_restarts"].values()) == 1
    assert sum(told["valkey"].values()) == 2
    assert told["fault_rules"] == 14
    assert len(told["faults_injected"]) >= 5
    assert time.monotonic() - began >= 60
    assert not list(tmp_path.glob("algo-chaos-*"))
