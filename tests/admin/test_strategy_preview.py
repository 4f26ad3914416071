"""The preview of a strategy as it is typed: what it would have done, and nothing is saved by it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from algo.backtest import run_both, watched
from algo.backtest.synthetic import synthetic_market
from algo.models import Candle, StrategyConfig
from algo.services.strategy_preview import strategy_preview
from algo.strategies import StrategyInterface, strategy_factory
from tests import factories as make
from tests.admin.pages import errors, form_data, shown
from tests.admin.test_strategies import ADD, PulseSchema, change, fields  # noqa: F401 - a fixture
from tests.market_data.exchange import rules as market_rules

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module", autouse=True)
def compiled():
    """Compiling takes longer, the first time, than a transaction of a test may idle."""
    run_both(synthetic_market(400), strategy_factory.create_strategy("BreakoutStrategy"), None, market_rules("BTCUSDT"))


class Slow(StrategyInterface):
    """One that is asked candle by candle."""

    schema = PulseSchema

    def execute(self, market_data: Any) -> None:
        return None


class Venue:
    """What a preview asks of an exchange."""

    def capabilities(self) -> Any:
        return make.WALLEX_LIKE


def store_hours(market, days):
    """Hourly candles up to now; when the last one closed."""
    count, now = 24 * days, datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    candles = synthetic_market(count, seconds=3600, price=50_000.0)
    columns = ("open", "high", "low", "close", "volume")
    Candle.objects.bulk_create(
        Candle(
            market=market,
            resolution="60",
            open_time=now - timedelta(hours=count - number),
            **{name: f"{getattr(candles, name)[number]:.2f}" for name in columns},
        )
        for number in range(count)
    )
    return now


def preview(browser, fields, address=ADD, **more):  # noqa: F811
    return browser.post(address, form_data(browser.get(address)) | fields | {"_preview": "1"} | more)


def test_without_candles_it_says_so_and_what_to_do(browser, fields):  # noqa: F811
    text = shown(preview(browser, fields))
    assert "no candles of BTCUSDT @ Nobitex are stored" in text
    assert "Fetch candles" in text
    assert "3 · locking stops" in text
    assert "does not pay the fees" in text
    assert not StrategyConfig.objects.exists()


def test_the_button_stands_beside_save(browser, config):
    for address in (ADD, change(config)):
        assert 'name="_preview"' in browser.get(address).content.decode()


def test_errors_stand_beside_their_fields_as_for_save(browser, fields):  # noqa: F811
    page = preview(browser, fields, parameter_stop_loss_percent="-1")
    assert "greater than 0" in errors(page)["parameter_stop_loss_percent"][0]
    assert "Nothing was saved" not in shown(page)


def test_it_plays_what_is_typed_over_the_stored_candles_and_saves_nothing(browser, config):
    store_hours(config.data_market, days=45)
    stored = dict(config.parameters)
    typed = {"parameter_stop_loss_percent": "0.9", "name": "typed", "resolution": "60"}
    page = preview(browser, typed, change(config))
    text = shown(page)
    assert "Preview: the last 30 days. Nothing was saved." in text
    assert re.search(r"7(19|20) candles of 1 hour from BTCUSDT @ Nobitex\. By", text)
    assert "Net profit" in text
    assert form_data(page)["parameter_stop_loss_percent"] == "0.9"  # what was typed is still there
    config.refresh_from_db()
    assert (config.name, config.parameters) == ("demo", stored)
    assert config.history.count() == 1


def test_a_strategy_that_takes_too_long_is_stopped(config, monkeypatch):
    monkeypatch.setitem(strategy_factory.STRATEGIES, "Slow", Slow)
    monkeypatch.setattr(watched, "STEP", 20)
    now = store_hours(config.data_market, days=15)
    config.strategy, config.parameters, config.resolution = "Slow", {}, "60"
    found = strategy_preview(config, provider=Venue(), now=now, seconds=0)
    assert "needs more than 0 s" in found.why_not
    assert (found.candles, found.missing, found.report) == (360, 360, None)
