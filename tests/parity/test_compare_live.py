"""A day out of the database: read, compared, kept, printed, shown; and every night for every strategy."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from algo import exchanges, tasks
from algo.models import Candle, Decision, ParityReport, Signal, StrategyConfig
from algo.selectors.parity import day_bounds, live_day
from algo.services.parity import NothingToCompare, parity_report
from providers.errors import Unavailable
from tests.admin.pages import shown
from tests.commands.conftest import FakeVenue, StoppedClock
from tests.factories import make_closed_deal, make_config, make_fill, make_market, make_order, make_user
from tests.parity.recording import PARAMETERS

pytestmark = pytest.mark.django_db

DAY = date(2026, 11, 27)
BEGIN = datetime(2026, 11, 26, 20, 30, tzinfo=UTC)  # midnight in Tehran, 3:30 ahead of UTC
NOW = BEGIN + timedelta(days=1, hours=1)
HOUR = timedelta(hours=1)
SPEAKS = BEGIN + timedelta(hours=5)  # open time of the candle that breaks out


def price(at: datetime) -> Decimal:
    """100; from the breakout on 101."""
    return Decimal(101) if at >= SPEAKS else Decimal(100)


def store(config: StrategyConfig, start: datetime, end: datetime) -> None:
    """Hourly candles: a zigzag of a cent, and one jump."""
    at, number = start, 0
    while at < end:
        close = price(at) + (Decimal("0.01") if number % 2 else 0)
        opened = price(at - HOUR)
        Candle.objects.create(
            market=config.data_market,
            resolution="60",
            open_time=at,
            open=opened,
            high=max(opened, close) + Decimal("0.02"),
            low=min(opened, close) - Decimal("0.02"),
            close=close,
            volume=Decimal(3),
        )
        at, number = at + HOUR, number + 1


@pytest.fixture
def clock(monkeypatch) -> StoppedClock:
    clock = StoppedClock(NOW)
    monkeypatch.setattr(exchanges, "CLOCK", clock)
    monkeypatch.setattr(tasks, "CLOCK", clock)
    return clock


@pytest.fixture
def venue(monkeypatch, clock) -> FakeVenue:
    venue = FakeVenue()
    monkeypatch.setattr(exchanges, "public_provider", lambda name: venue)
    return venue


@pytest.fixture
def config(clock) -> StrategyConfig:
    """It decided on every candle of the day, and its breakout was denied by the kill switch."""
    config = make_config(
        name="hourly", parameters=PARAMETERS, resolution="60", data_market=make_market(provider="nobitex")
    )
    StrategyConfig.objects.filter(pk=config.pk).update(created_at=BEGIN - HOUR, updated_at=BEGIN - HOUR)
    store(config, BEGIN - 60 * HOUR, BEGIN + 26 * HOUR)
    decide(config)
    return StrategyConfig.objects.get(pk=config.pk)


def decide(config: StrategyConfig, code: str = "kill_switch") -> None:
    for number in range(-1, 23):
        bar = BEGIN + number * HOUR
        outcome = "denied" if bar == SPEAKS else "no_signal"
        closed = bar + HOUR + timedelta(seconds=2)
        Decision.objects.create(config=config, bar_open_at=bar, decided_at=closed, outcome=outcome)
    Signal.objects.create(
        config=config,
        bar_open_at=SPEAKS,
        created_at=SPEAKS + HOUR,
        side="BUY",
        reason="BREAKOUT",
        confidence=Decimal("0.8"),
        denial_code=code,
        denial_message="switched off by hand",
    )


def entered(config: StrategyConfig, **fields: Any) -> Any:
    """The breakout as a deal that is over: entered 0.05 % above the next open of 101, its stop hit in the next hour."""
    signal = Signal.objects.get(config=config)
    signal.denial_code = signal.denial_message = ""
    signal.save()
    Decision.objects.filter(config=config, bar_open_at=SPEAKS).update(outcome="entered")
    opened = SPEAKS + HOUR + timedelta(seconds=3)
    values = {
        "signal": signal,
        "bar_open_at": SPEAKS,
        "rules": PARAMETERS,
        "planned_quantity": Decimal("39.6"),
        "planned_price": Decimal(101),
        "initial_stop_price": Decimal("99.99"),
        "stop_price": Decimal("99.99"),
        "target_price": Decimal("103.02"),
        "entry_price": Decimal("101.05"),
        "entry_quantity": Decimal("39.6"),
        "exit_price": Decimal(100),
        "exit_quantity": Decimal("39.48"),
        "close_reason": "stop_loss",
        "opened_at": opened,
        "closed_at": opened + timedelta(minutes=30),
        "created_at": opened,
    }
    deal = make_closed_deal(config, **(values | fields))
    order = make_order(deal, status="FILLED", filled_quantity=deal.planned_quantity, balance_asset="USDT",
                       balance_before=Decimal(12_000), locked_before=Decimal(2_000))  # fmt: skip
    make_fill(order, executed_at=opened)
    return deal


@pytest.fixture
def run(clock) -> Callable[..., str]:
    def _run(*args: str) -> str:
        out = io.StringIO()
        call_command("compare_live", *args, stdout=out)
        return out.getvalue()

    return _run


# --- reading and keeping --------------------------------------------------------------------------------------------


def test_the_day_is_that_of_the_trading_time_zone():
    assert day_bounds(DAY) == (BEGIN, BEGIN + timedelta(days=1))


def test_a_deal_is_read_with_its_rules_its_fills_and_the_balance_before(config):
    entered(config)
    (deal,) = live_day(config, *day_bounds(DAY)).deals
    assert (deal.available, deal.confidence) == (Decimal(10_000), 0.8)
    assert deal.parameters is not None
    assert deal.parameters.stop_loss_percent == Decimal(1)
    assert (deal.entry_at, deal.exit_at) == (SPEAKS + HOUR + timedelta(seconds=3), deal.entry_at + HOUR / 2)


def test_deals_of_others_on_the_market_stand_beside_the_own(config):
    other = make_config(account=config.account, market=config.market)
    make_closed_deal(other, bar_open_at=SPEAKS, created_at=SPEAKS + HOUR, closed_at=SPEAKS + 2 * HOUR)
    make_closed_deal(config, bar_open_at=SPEAKS, created_at=SPEAKS + HOUR, closed_at=SPEAKS + 2 * HOUR, side="SELL")
    day = live_day(config, *day_bounds(DAY))
    assert day.deals == ()  # without a signal: a person adopted it
    assert [each.on_market for each in day.others] == [True, True]


def test_a_report_is_made_anew_and_stays_one(config):
    first = parity_report(config, DAY, now=NOW)
    assert (first.unexplained, [each["cause"] for each in first.differences]) == (0, ["denied_live"])
    assert first.summary["candles"] == first.summary["decided"] == 24
    Signal.objects.update(denial_code="cooldown")
    second = parity_report(config, DAY, now=NOW + HOUR)
    assert ParityReport.objects.get() == second
    assert (second.unexplained, second.computed_at) == (1, NOW + HOUR)
    assert second.differences[0]["at"] == SPEAKS.isoformat()


def test_a_deal_that_no_candle_explains_is_unexplained(config):
    """The candles stayed 1 % above its stop; the two exchanges may stand 0.5 % apart."""
    entered(config, rules={**PARAMETERS, "max_basis_percent": "0.5"})
    report = parity_report(config, DAY, now=NOW)
    assert [(each["kind"], each["cause"]) for each in report.differences] == [("exit", "unexplained")]
    assert report.summary["deals_live"] == 1
    assert report.summary["deals_equal"] == 0


def test_rules_of_the_day_are_those_its_deals_carry_where_the_strategy_was_saved_since(config):
    """Today a breakout needs twice the volume there was; then the engine would say nothing."""
    entered(config)
    config.parameters = {**PARAMETERS, "volume_threshold": 50}
    config.save()
    assert config.updated_at > NOW or StrategyConfig.objects.update(updated_at=NOW)
    config.refresh_from_db()
    report = parity_report(config, DAY, now=NOW)
    assert report.summary["signals_equal"] == report.summary["signals_compared"] == 1


def test_what_is_missing_is_said_and_not_invented(config):
    Candle.objects.filter(open_time=BEGIN + 20 * HOUR).delete()
    report = parity_report(config, DAY, now=NOW)
    assert any("1 candles of the day are not stored" in note for note in report.summary["notes"])


def test_too_few_candles_are_refused_with_what_to_do(config):
    Candle.objects.filter(open_time__lt=BEGIN + 20 * HOUR).delete()
    with pytest.raises(NothingToCompare, match="fetch_ohlcv --provider nobitex --symbol BTCUSDT --resolution 60"):
        parity_report(config, DAY, now=NOW)
    assert not ParityReport.objects.exists()


def test_a_day_that_runs_is_compared_up_to_now(config):
    now = BEGIN + 10 * HOUR
    Candle.objects.filter(open_time__gte=now).delete()
    report = parity_report(config, DAY, now=now)
    assert report.summary["to"] == (now - HOUR).isoformat()  # the last candle has no next one yet
    assert "the day is not over" in report.summary["notes"][0]


def test_the_day_a_strategy_was_added_is_compared_from_its_first_decision(config):
    config.created_at = BEGIN + 3 * HOUR  # the engine may speak before: nobody can have missed it
    config.decisions.filter(bar_open_at__lt=BEGIN + 3 * HOUR).delete()
    report = parity_report(config, DAY, now=NOW)
    assert report.summary["from"] == (BEGIN + 4 * HOUR).isoformat()  # the first candle it decided on had closed
    assert (report.summary["candles"], report.summary["decided"]) == (20, 20)
    assert report.summary["notes"][0] == "the strategy was added that day: compared from its first decision, 00:30 UTC"
    config.created_at = BEGIN - HOUR
    report = parity_report(config, DAY, now=NOW)
    assert (report.summary["candles"], report.summary["decided"]) == (24, 20)


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_compares_yesterday_and_says_every_reason(run, config):
    text = " ".join(run("--no-download").split())
    for words in ("hourly, 2026-11-27", "denied live", "kill_switch", "1 difference, with a known reason."):
        assert words in text
    assert ParityReport.objects.get().day == DAY


def test_something_unexplained_is_an_error_after_the_report_was_kept(run, config):
    Signal.objects.update(denial_code="cooldown")
    with pytest.raises(CommandError, match="1 differences have no known reason") as refused:
        run("--no-download")
    assert refused.value.returncode == 1
    assert ParityReport.objects.get().unexplained == 1


def test_json_is_one_object(run, config):
    answer = json.loads(run("--no-download", "--json", "--day", "2026-11-27", "--config", str(config.pk)))
    assert answer["day"] == "2026-11-27"
    (report,) = answer["reports"]
    assert (report["config"], report["unexplained"]) == ("hourly", 0)
    assert report["list"][0]["cause"] == "denied_live"


def test_missing_candles_are_asked_for(run, config, venue):
    Candle.objects.filter(open_time=BEGIN + 20 * HOUR).delete()
    run("--config", "hourly")
    assert venue.asked
    assert any(start <= BEGIN + 20 * HOUR < end for start, end in venue.asked)


def test_an_exchange_that_is_down_is_a_sentence(run, config, venue):
    def down(number: int) -> None:
        raise Unavailable("nobitex does not answer")

    venue.before = down
    Candle.objects.filter(open_time=BEGIN + 20 * HOUR).delete()
    with pytest.raises(CommandError, match="Nobitex does not answer"):
        run()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--day", "yesterday"), "'yesterday' is no day"),
        (("--day", "2027-01-01"), "lies in the future"),
        (("--day", "2026-01-01"), "No strategy decided anything on 2026-01-01"),
        (("--config", "nobody"), "There is no strategy config 'nobody'. Known are: hourly"),
        (("--config", "hourly", "--day", "2026-11-01"), "candles are stored up to"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(run, config, args, sentence):
    with pytest.raises(CommandError, match=sentence):
        run("--no-download", *args)


# --- every night ----------------------------------------------------------------------------------------------------


def test_every_strategy_that_decided_is_compared_once(config, monkeypatch):
    sent: list[tuple[int, str]] = []
    monkeypatch.setattr(tasks.compare_config, "delay", lambda *args: sent.append(args))
    make_config(name="idle")
    assert tasks.compare_days() == 1
    assert sent == [(config.pk, "2026-11-27")]
    assert tasks.compare_config(*sent[0]) == 0
    assert tasks.compare_days() == 0
    assert ParityReport.objects.count() == 1


def test_a_report_of_the_running_day_does_not_stand_for_the_whole(config, monkeypatch):
    monkeypatch.setattr(tasks.compare_config, "delay", lambda *args: None)
    parity_report(config, DAY, now=BEGIN + 12 * HOUR)
    assert tasks.compare_days() == 1


def test_a_strategy_that_cannot_be_compared_keeps_no_other_from_its_report(config, caplog):
    lame = make_config(name="lame", parameters={"no_such": 1}, resolution="60")
    Decision.objects.create(config=lame, bar_open_at=SPEAKS, decided_at=SPEAKS + HOUR, outcome="error")
    assert tasks.compare_config(lame.pk, "2026-11-27") is None
    assert "strategy=lame not compared" in caplog.text
    assert tasks.compare_config(config.pk, "2026-11-27") == 0


# --- the pages ------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(client) -> Any:
    client.force_login(make_user("admin", is_staff=True, is_superuser=True))
    return client


def test_the_page_of_a_strategy_shows_its_last_days(browser, config):
    address = f"/admin/algo/strategyconfig/{config.pk}/change/"
    assert "a day is compared in the hour after its end" in shown(browser.get(address))
    Signal.objects.update(denial_code="cooldown")
    report = parity_report(config, DAY, now=NOW)
    page = browser.get(address)
    assert f"/admin/algo/parityreport/{report.pk}/change/" in page.content.decode()
    for words in ("2026-11-27", "1 unexplained", "signals 1 of 1", "deals 0 of 1"):
        assert words in shown(page)


def test_a_report_has_a_page_and_is_never_written_by_hand(browser, config):
    report = parity_report(config, DAY, now=NOW)
    text = shown(browser.get(f"/admin/algo/parityreport/{report.pk}/change/"))
    for words in ("All explained", "denied live", "switched off by hand", "1 difference, with a known reason."):
        assert words in text
    assert "2026" in shown(browser.get("/admin/algo/parityreport/"))
    assert browser.post(f"/admin/algo/parityreport/{report.pk}/delete/", {"post": "yes"}).status_code == 403
    assert browser.get("/admin/algo/parityreport/add/").status_code == 403
