"""What Prometheus reads: facts by selectors, counters by sums, behind a token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from prometheus_client.parser import text_string_to_metric_families

from algo.models import DealStatus, Decision, Heartbeat, SystemControl
from algo.monitoring import metrics
from algo.selectors import metrics as facts
from algo.services.tallies import Teller
from providers.clock import clock_from_env
from providers.tally import Tally
from providers.types import OrderStatus
from tests.factories import (
    NOW,
    make_account,
    make_config,
    make_deal,
    make_order,
    make_signal,
)
from tests.monitoring.test_health import everybody_alive

TOKEN = "canary-token-of-metrics"


def families(parts=metrics._PARTS) -> dict[str, dict[tuple[str, ...], float]]:
    """Samples by name and label values, of what the parts say now."""
    clock = clock_from_env()
    found = [family for part in parts for family in part(clock)]
    samples: dict[str, dict[tuple[str, ...], float]] = {}
    for family in found:
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return samples


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    for name in ("_remembered", "_money_remembered"):
        monkeypatch.setattr(getattr(metrics, name), "_known", None)


def get(token: str | None = TOKEN):
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return Client().get("/metrics", headers=headers)


def test_without_a_token_in_the_settings_nobody_reads_them(settings):
    settings.METRICS_TOKEN = ""
    answer = get("")
    assert answer.status_code == 403
    assert "METRICS_TOKEN" in answer.content.decode()


@pytest.mark.parametrize("sent", [None, "", "wrong-token-of-metrics", TOKEN + "x", TOKEN[:-1], "é"])
def test_a_wrong_token_is_refused(settings, sent):
    settings.METRICS_TOKEN = TOKEN
    answer = get(sent)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert b"algo_" not in answer.content


@pytest.mark.django_db(transaction=True)
def test_the_right_token_reads_what_prometheus_can_parse(settings):
    settings.METRICS_TOKEN = TOKEN
    everybody_alive(datetime.now(UTC))
    answer = get()
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    parsed = {family.name: family for family in text_string_to_metric_families(answer.content.decode())}
    assert {sample.labels["part"]: sample.value for sample in parsed["algo_up"].samples} == {"database": 1, "redis": 1}
    assert {sample.labels["queue"] for sample in parsed["algo_queue_depth"].samples} == set(settings.QUEUES)
    ages = {sample.labels["process"]: sample.value for sample in parsed["algo_heartbeat_age_seconds"].samples}
    assert ages.keys() >= {"beat", "guardian", "worker:orders", "stream:wallex"}
    assert all(0 <= age < 30 for age in ages.values())


@pytest.mark.django_db(transaction=True)
def test_without_the_database_the_rest_is_told(settings, monkeypatch):
    settings.METRICS_TOKEN = TOKEN

    def fail():
        raise OperationalError("password=secret")

    monkeypatch.setattr(metrics, "_from_database", fail)
    text = get().content.decode()
    assert 'algo_up{part="database"} 0.0' in text
    assert 'algo_queue_depth{queue="orders"}' in text
    assert "secret" not in text


@pytest.mark.django_db
def test_orders_are_told_by_state_and_by_how_long_they_took():
    now = datetime.now(UTC)
    deal = make_deal()
    make_order(deal, status=OrderStatus.OPEN, created_at=now, submitted_at=now, accepted_at=now)
    seconds = {"created_at": 0, "submitted_at": 1, "accepted_at": 3, "closed_at": 6}
    times = {name: now - timedelta(minutes=5) + timedelta(seconds=after) for name, after in seconds.items()}
    make_order(make_deal(), status=OrderStatus.FILLED, **times)
    make_order(make_deal(), status=OrderStatus.FILLED, created_at=now - timedelta(hours=1))
    make_order(make_deal(), status=OrderStatus.SUBMITTED, created_at=now, unknown_since=now)
    told = families([metrics._orders])
    live = {key[0]: count for key, count in told["algo_orders_live"].items()}
    assert (live["OPEN"], live["SUBMITTED"], live["PENDING"]) == (1, 1, 0)
    assert told["algo_orders_unknown"] == {(): 1}
    assert told["algo_orders_recent"] == {("OPEN",): 1, ("FILLED",): 1, ("SUBMITTED",): 1}
    latency = told["algo_order_latency_seconds"]
    assert latency["accept", "0.5"] == 1.0  # of 0 s and 2 s
    assert latency["accept", "0.99"] == pytest.approx(1.98)
    assert latency["fill", "0.5"] == 5.0
    assert latency["submit", "0.9"] == pytest.approx(0.9)


@pytest.mark.django_db
def test_what_is_unprotected_is_told_now_and_for_the_day():
    now = datetime.now(UTC)
    make_deal(status=DealStatus.OPEN, unprotected_since=now - timedelta(seconds=40), unprotected_seconds=Decimal(2))
    make_deal(status=DealStatus.OPEN)
    make_deal(status=DealStatus.CLOSED, close_reason="stop_loss", closed_at=now, unprotected_seconds=Decimal("1.5"))
    long_ago = now - timedelta(days=2)
    make_deal(status=DealStatus.CLOSED, close_reason="manual", closed_at=long_ago, unprotected_seconds=Decimal(99))
    told = families([metrics._deals])
    assert told["algo_deals_unprotected"] == {(): 1}
    assert 40 <= told["algo_unprotected_longest_seconds"][()] < 60
    assert told["algo_unprotected_seconds_today"] == {(): 3.5}
    assert told["algo_deals_closed_recent"] == {("stop_loss",): 1}
    assert told["algo_deals_live"] == {("OPEN",): 2}


@pytest.mark.django_db
def test_signals_and_denials_of_the_last_minutes():
    now, config = datetime.now(UTC), make_config()
    for minutes, code in ((1, ""), (2, "cooldown"), (3, "cooldown"), (20, "daily_loss")):
        make_signal(config, created_at=now - timedelta(minutes=minutes), denial_code=code)
    bar = now - timedelta(minutes=2)
    Decision.objects.create(config=config, bar_open_at=bar, decided_at=now, outcome="no_signal")
    told = families([metrics._signals])
    assert told["algo_signals_recent"] == {("BUY",): 3}
    assert told["algo_denials_recent"] == {("cooldown",): 2}
    assert told["algo_decisions_recent"] == {("no_signal",): 1}


@pytest.mark.django_db
def test_what_stands_is_told():
    SystemControl.objects.update_or_create(pk=1, defaults={"kill_switch": "cancel"})
    make_account(key_expires_at=clock_from_env().now() + timedelta(days=2))
    make_account(state="stopped")
    told = families([metrics._standing])
    assert told["algo_kill_switch"] == {(): 2}
    assert told["algo_accounts"] == {("active",): 1, ("stopped",): 1}
    assert told["algo_key_expiry_seconds"][()] == pytest.approx(2 * 86400, abs=60)


@pytest.mark.django_db
def test_equity_and_how_far_profit_has_fallen():
    now = datetime.now(UTC)
    make_account(balances={"USDT": ["100.50", "0"]}, balances_read_at=now)
    for days, profit in ((3, "10"), (2, "5"), (1, "-7")):
        at = now - timedelta(days=days)
        make_deal(status=DealStatus.CLOSED, close_reason="manual", closed_at=at, profit=Decimal(profit))
    told = families([metrics._money])
    assert told["algo_equity"] == {("usdt",): 100.5}
    assert told["algo_profit_30d"] == {("USDT",): 8}
    assert told["algo_drawdown"] == {("USDT",): 7}


@pytest.mark.django_db
def test_the_newest_sign_of_life_tells_what_is_left_of_a_budget():
    now = datetime.now(UTC)
    for name, seconds, left in (
        ("worker:orders", 30, 0.2),
        ("worker:strategies", 5, 0.75),
        ("guardian", 4, 1.0),
        ("worker:backtests", 3600, 0.0),  # of another time
    ):
        detail = {"budgets": {"wallex": {"orders": left}}}
        Heartbeat.objects.create(name=name, at=now - timedelta(seconds=seconds), detail=detail)
    told = families([metrics._processes])
    assert told["algo_rate_budget_left_ratio"] == {
        ("wallex", "orders", "shared"): 0.75,
        ("wallex", "orders", "guardian"): 1.0,
    }


@pytest.mark.django_db(transaction=True)
def test_counters_of_all_processes_are_one_series_each_and_buckets_add_up():
    for process, times in (("worker", (0.02, 0.3, 20.0)), ("web", (0.02,))):
        tally = Tally()
        for seconds in times:
            tally.observe("algo_exchange_call_seconds", seconds, (0.05, 0.5), exchange="wallex")
        tally.add("algo_exchange_calls", 2, exchange="wallex", endpoint="orders", outcome="ok")
        Teller(process, tally).tell()
    told = families([metrics._counted])
    assert told["algo_exchange_calls_total"] == {
        ("orders", "wallex", "ok", "worker"): 2,
        ("orders", "wallex", "ok", "web"): 2,
    }
    assert told["algo_exchange_call_seconds_bucket"] == {
        ("wallex", "worker", "0.05"): 1,
        ("wallex", "worker", "0.5"): 2,
        ("wallex", "worker", "+Inf"): 3,
        ("wallex", "web", "0.05"): 1,
        ("wallex", "web", "0.5"): 1,
        ("wallex", "web", "+Inf"): 1,
    }
    assert told["algo_exchange_call_seconds_sum"]["wallex", "worker"] == pytest.approx(20.32)


@pytest.mark.django_db
def test_more_rows_cost_no_more_queries():
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            families([part for part in metrics._PARTS if part is not metrics._money])
            metrics._read_money()
        return len(queries)

    few = asked()
    now = datetime.now(UTC)
    everybody_alive(now)
    for number in range(12):
        deal = make_deal(created_at=now - timedelta(minutes=number))
        make_order(deal, created_at=now - timedelta(minutes=number))
        make_signal(created_at=now, denial_code=f"code{number}")
    assert asked() <= few + 6  # worth asks for prices once something is held
    assert few < 60


@pytest.mark.django_db
def test_every_fact_of_the_ledger_is_read_over_an_index():
    since = NOW
    for read in (facts.live_orders, lambda: facts.orders_placed(since), lambda: facts.order_seconds(since)):
        assert "Seq Scan on algo_order" not in plan_of(read)
    for read in (facts.live_deals, lambda: facts.deals_closed(since), lambda: facts.unprotected_seconds(since)):
        assert "Seq Scan on algo_deal " not in plan_of(read)
    for read in (lambda: facts.signals_given(since), lambda: facts.denials(since)):
        assert "Seq Scan on algo_signal" not in plan_of(read)


def plan_of(read) -> str:
    """How the database would read it if a scan of the whole table were dear."""
    with CaptureQueriesContext(connection) as queries:
        read()
    lines = []
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in queries:
            cursor.execute(f"EXPLAIN {query['sql']}")
            lines += [row[0] for row in cursor.fetchall()]
        cursor.execute("SET LOCAL enable_seqscan = on")
    assert any("Index" in line or "Bitmap" in line for line in lines)
    return "\n".join(lines)
