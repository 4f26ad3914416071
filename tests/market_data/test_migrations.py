"""The migrations since the first one, over rows that were there before them, forth and back."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from tests.migrating import latest, migrate_to

OPENED = datetime(2026, 11, 2, tzinfo=UTC)
FIRST = ("algo", "0001_initial")


@pytest.mark.django_db(transaction=True)
def test_rows_of_the_first_schema_survive_the_later_ones():
    try:
        apps = migrate_to(FIRST)
        market = apps.get_model("algo", "Market").objects.create(
            provider="wallex",
            symbol="BTCUSDT",
            pair="BTC/USDT",
            base="BTC",
            quote="USDT",
            tick_size=1,
            step_size=1,
            min_quantity=1,
            min_notional=1,
            maker_fee_rate=0,
            taker_fee_rate=0,
            market_band=Decimal("0.01"),
            refreshed_at=OPENED,
        )
        price = Decimal("65000.123456789012345678")
        apps.get_model("algo", "Candle").objects.create(
            market=market,
            resolution="1",
            open_time=OPENED,
            open=price,
            high=price,
            low=price,
            close=price,
            volume=Decimal("0.000000000000000001"),
        )
    finally:
        apps = migrate_to(latest())
    candle = apps.get_model("algo", "Candle").objects.get()
    assert (candle.close, candle.close_float, candle.volume_float) == (price, float(price), 1e-18)
    assert apps.get_model("algo", "Market").objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_backtests_stored_before_they_were_jobs_are_done_with_their_figures():
    try:
        apps = migrate_to(("algo", "0007_the_plan_of_a_deal_is_sound"))
        names = {"provider": "wallex", "symbol": "BTCUSDT", "base": "BTC", "quote": "USDT", "pair": "BTC/USDT"}
        rules = {"tick_size": 1, "step_size": 1, "maker_fee_rate": 0, "taker_fee_rate": 0, "market_band": 1}
        market = apps.get_model("algo", "Market").objects.create(**names, **rules, refreshed_at=OPENED)
        figures = {"net_profit_percent": 1.5, "sharpe": None, "max_drawdown_percent": 2, "deals": 4}
        apps.get_model("algo", "BacktestRun").objects.create(
            strategy="S",
            market=market,
            resolution="1",
            candles=2,
            data_fingerprint="f",
            summary={"metrics": {**figures, "win_rate_percent": 50}},
            **dict.fromkeys(("started_at", "data_from", "data_to"), OPENED),
        )
    finally:
        apps = migrate_to(latest())
    row = apps.get_model("algo", "BacktestRun").objects.get()
    assert (row.status, row.progress, row.created_at, row.finished_at) == ("done", 100, OPENED, OPENED)
    assert (row.net_profit_percent, row.sharpe, row.win_rate_percent, row.deals) == (1.5, None, 50, 4)
