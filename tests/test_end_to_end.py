"""One whole deal through real processes: exchange, broker, Celery worker, PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from algo.models import CloseReason, Deal, DealStatus, Decision, Market, Order, Role, Signal, StrategyConfig
from algo.selectors.audit import ledger_difference
from algo.services.markets import markets_refresh
from algo.tasks import run_strategies, sweep_accounts
from providers.nobitex.client import NobitexClient
from providers.types import Side
from providers.wallex.client import WallexClient
from tests.execution.processes import environment, said, started, wait_for
from tests.factories import make_account, make_config
from tests.paper.world import KEY, TOKEN, running

# By the book alone and to either side: there is always something to say.
AT_ONCE = {
    "need_historical_data": False,
    "order_book_imbalance": 1.01,
    "stop_loss_percent": "3",
    "take_profit_percent": "6",
    "max_position_size_percent": "5",
    "max_spread_percent": "5",
    "max_basis_percent": "5",
    "trade_cooldown_minutes": 1440,
}
WORKER = ("-m", "celery", "-A", "algo_trade", "worker", "-Q", "orders,strategies", "-c", "2", "--loglevel", "INFO",
          "--without-gossip", "--without-mingle")  # fmt: skip


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_a_signal_becomes_a_protected_deal_that_its_stop_closes(tmp_path):
    with running(tmp_path, "--seed", "4", "--no-rate-limits") as server:
        wallex = WallexClient(f"{server.url}/wallex", api_key=KEY)
        markets_refresh(wallex, now=datetime.now(UTC))
        markets_refresh(NobitexClient(f"{server.url}/nobitex", api_key=TOKEN), now=datetime.now(UTC))
        before = datetime.now(UTC) - timedelta(minutes=10)
        account = make_account(api_key=KEY, environment="paper")
        config = make_config(
            account=account,
            market=Market.objects.get(provider="wallex", symbol="BTCUSDT"),
            data_market=Market.objects.get(provider="nobitex", symbol="BTCUSDT"),
            parameters=AT_ONCE,
            allowed_sides="BOTH",
            last_bar_at=before,
        )
        with started(tmp_path, *WORKER, env=environment(server)):
            wait_for(lambda: " ready." in said(tmp_path), 30, "the worker is ready", folder=tmp_path)

            def entered() -> bool:
                """A balanced book, or a swing that contradicts it, says nothing: ask about the candle once more."""
                if Decision.objects.filter(outcome="no_signal").delete()[0]:
                    StrategyConfig.objects.update(last_bar_at=before)
                run_strategies.delay()
                return Deal.objects.exists()

            wait_for(entered, 120, "a deal", folder=tmp_path, pause=1)  # a swing lasts minutes
            assert Signal.objects.get().denial_code == ""
            wait_for(lambda: Deal.objects.filter(protected_at__isnull=False).exists(), 15, "a stop", folder=tmp_path)
            deal = Deal.objects.get()
            assert (deal.config, deal.status) == (config, DealStatus.OPEN)
            assert [order.status for order in Order.objects.filter(deal=deal, role=Role.STOP)] == ["OPEN"]

            price = wallex.last_price("BTCUSDT")
            against = price * (1 - Side(deal.side).sign * Decimal("0.05"))
            server.move_price("BTC/USDT", str(against.quantize(Decimal("0.01"))))

            def closed() -> bool:
                sweep_accounts.delay()  # what beat does
                return Deal.objects.get().status == DealStatus.CLOSED

            wait_for(closed, 20, "closed by its stop", folder=tmp_path, pause=1)
        deal.refresh_from_db()
        assert deal.close_reason == CloseReason.STOP_LOSS
        assert deal.profit is not None and deal.profit < 0
        truth = server.control("GET", "/accounts/demo").json()
        assert truth["conservation"] == "ok"
        assert ledger_difference(account, truth["venues"]["wallex"]) == 0
    assert "Traceback" not in said(tmp_path)
