"""The recording through real processes at speed: paper exchange, broker, Celery worker, guardian, PostgreSQL; then
through the engine.

Time runs 20 times as fast: a second on the wall, in which the guardian looks once, is 20 s of the market, four trades
of a walk, and a decision reaches the exchange some trades after its candle opened. So signals, deals, the reasons
they closed for and the candles of their entries are equal; an exit may fall into the candle beside the engine's; fills
are within 0.6 %: the two largest steps of a walk, 0.25 % each, and a spread of at most 0.06 %. Stop and target rest at
the exchange (OCO), which plays every trade. To the tick it is compared in test_live_stack.py.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from algo.backtest import BacktestSettings, run
from algo.models import FINISHED_DEALS, Deal, Market, Signal, StrategyConfig
from algo.selectors.candles import candles_range
from algo.services.markets import markets_refresh
from algo.services.parity import parity_of
from algo.strategies import create_strategy
from algo.tasks import run_strategies
from providers.nobitex.client import NobitexClient
from providers.types import Resolution, Side
from tests.execution.processes import GUARDIAN, environment, said, started, wait_for
from tests.factories import make_account, make_config
from tests.paper.world import TOKEN, running
from tests.parity.recording import BEGIN, PARAMETERS, every_exit

SPEED = 20
WARM = timedelta(minutes=42)
EXITS = ["take_profit", "stop_loss", "trailing_stop", "signal", "stop_loss"]
WORKER = ("-m", "celery", "-A", "algo_trade", "worker", "-Q", "orders,strategies", "-c", "2", "--loglevel", "INFO",
          "--without-gossip", "--without-mingle")  # fmt: skip
NEAR = 0.006
START_UP = 25  # wall seconds until worker and guardian are there


@pytest.mark.long
@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_real_processes_do_what_the_engine_says(tmp_path):
    path = every_exit(beyond="0.30", rest=1).write(tmp_path / "candles.csv")
    begin, end = BEGIN + WARM, BEGIN + timedelta(minutes=len(path.read_text().splitlines()) - 1)
    anchor = time.time() + START_UP
    clock = {"CLOCK_ANCHOR_REAL": str(anchor), "CLOCK_ANCHOR": str(begin.timestamp()), "CLOCK_SPEED": str(SPEED)}
    replay = ("--feed", "replay", "--replay-file", str(path), "--no-rate-limits")
    # The synthetic book leans; it is to stop nobody.
    parameters = {**PARAMETERS, "order_book_imbalance": "100", "trade_cooldown_minutes": 8}
    with running(tmp_path, *replay, env=clock) as server:
        markets_refresh(NobitexClient(f"{server.url}/nobitex", api_key=TOKEN), now=begin)
        market = Market.objects.get(provider="nobitex", symbol="BTCUSDT")
        account = make_account(provider="nobitex", api_key=TOKEN, environment="paper")
        config = make_config(
            account=account, market=market, data_market=market, parameters=parameters, allowed_sides="BUY",
            last_bar_at=begin - timedelta(minutes=1),
        )  # fmt: skip
        StrategyConfig.objects.update(updated_at=BEGIN)
        env = environment(server, **clock)
        with started(tmp_path, *WORKER, env=env), started(tmp_path, *GUARDIAN, env=env):
            wait_for(lambda: " ready." in said(tmp_path), START_UP, "the worker is ready", folder=tmp_path)
            while time.time() < anchor + (end - begin).total_seconds() / SPEED:
                run_strategies.delay()  # what beat does, as often as the speed needs it
                time.sleep(0.25)
            unfinished = Deal.objects.exclude(status__in=FINISHED_DEALS)
            wait_for(lambda: not unfinished.exists(), 20, "every deal has ended", folder=tmp_path)
    assert "Traceback" not in said(tmp_path)
    config = StrategyConfig.objects.select_related("account", "market", "data_market").get()
    strategy = create_strategy("BreakoutStrategy", parameters)
    candles = candles_range(market, Resolution.M1, BEGIN, end)
    result = run(candles, strategy, None, market.rules, BacktestSettings(allowed_sides=frozenset({Side.BUY})))
    deals = list(Deal.objects.order_by("bar_open_at").select_related("signal"))
    engine = result.rows()

    heard = [
        (row.bar_open_at.timestamp(), Side(row.side).sign, row.reason) for row in Signal.objects.order_by("bar_open_at")
    ]
    spoken = [i for i in range(len(candles)) if result.signals.side[i]]
    reasons = [result.signals.reasons[result.signals.reason[i]] for i in spoken]
    assert heard == [
        (candles.open_time[i], result.signals.side[i], why) for i, why in zip(spoken, reasons, strict=True)
    ]
    told = [(d.created_at, d.opened_at, d.entry_price, d.closed_at, d.exit_price, d.close_reason) for d in deals]
    assert [deal.close_reason for deal in deals] == [row["close_reason"] for row in engine] == EXITS, (told, engine)
    for deal, row in zip(deals, engine, strict=True):
        assert deal.bar_open_at + timedelta(minutes=1) == datetime.fromisoformat(row["opened_at"])
        assert deal.closed_at is not None
        away = deal.closed_at - datetime.fromisoformat(row["closed_at"])
        assert timedelta(minutes=-1) <= away < timedelta(minutes=2), (told, engine)
        assert float(deal.entry_price or 0) == pytest.approx(row["open_price"], rel=NEAR)
        assert float(deal.exit_price or 0) == pytest.approx(row["close_price"], rel=NEAR)
    parity, _ = parity_of(config, begin, end)
    assert parity.unexplained == 0, [each.as_dict() for each in parity.differences]
    assert parity.summary["decided"] == parity.summary["candles"]
    assert parity.summary["signals_equal"] == parity.summary["signals_compared"] == len(heard)
    earned = sum((deal.profit or Decimal(0) for deal in deals), Decimal(0))
    assert Decimal(parity.summary["profit_live"]) == round(earned, 8)
