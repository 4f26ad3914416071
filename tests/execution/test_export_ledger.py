"""`export_ledger`: the amounts of each asset add up to what the exchange says, to the last digit."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from persiantools.jdatetime import JalaliDate

from algo import exchanges
from algo.models import BalanceReading, CloseReason
from algo.selectors.parity import trading_day
from providers.types import OrderRequest, OrderType, Side
from tests.execution.bench import closed, opened

D = Decimal


@pytest.fixture
def trader(world, monkeypatch, settings):
    settings.EXCHANGE_ENVIRONMENT = "paper"
    trader = world.trader()
    monkeypatch.setattr(exchanges, "CLOCK", world.clock)
    monkeypatch.setattr(exchanges, "account_provider", lambda account: trader.client)
    return trader


def export(trader, *options: str) -> tuple[list[dict[str, str]], str]:
    """The rows, and what was said beside them."""
    out, said = io.StringIO(), io.StringIO()
    call_command("export_ledger", trader.name, *options, stdout=out, stderr=said)
    return list(csv.DictReader(io.StringIO(out.getvalue()))), " ".join(said.getvalue().split())


def sums(rows: list[dict[str, str]], *kinds: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        if not kinds or row["kind"] in kinds:
            found[row["asset"]] += D(row["amount"])
    return {asset: amount for asset, amount in found.items() if amount}


def held(trader) -> dict[str, Decimal]:
    """By the exchange's own ledger."""
    truth = {asset: D(balance["total"]) for asset, balance in trader.truth()["balances"].items()}
    return {asset: total for asset, total in truth.items() if total}


def deposit(trader, asset: str, amount: str) -> None:
    exchange = trader.world.exchange
    with exchange.operation() as now:
        exchange.venues["wallex"].deposit(trader.name, {asset: D(amount)}, now)


def one_deal(trader) -> None:
    """Bought 1 at 100.01 for a fee of 0.003 BTC; 0.997 sold at 98.89 for a fee of 0.29577999 USDT."""
    opened(trader)
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)


def test_the_sum_of_all_movements_is_the_balance_of_every_asset(trader):
    one_deal(trader)
    rows, said = export(trader)
    assert sums(rows) == held(trader)
    assert sums(rows, "opening") == {"USDT": D(10000), "BTC": D(1), "IRT": D(1000000000)}
    assert sums(rows, "trade") == {"USDT": D("-100.01") + D("98.59333"), "BTC": D("0.003")}
    assert sums(rows, "fee") == {"USDT": D("-0.29577999"), "BTC": D("-0.003")}
    assert sums(rows, "outside") == {}
    assert "add up to the balances that the exchange says now" in said
    bought = next(row for row in rows if row["kind"] == "trade")
    deal, entry = trader.deal(), trader.orders()[0]
    assert (bought["asset"], bought["amount"], bought["balance"]) == ("BTC", "1", "2")
    assert (bought["market"], bought["side"], bought["quantity"], bought["price"]) == ("BTCUSDT", "BUY", "1", "100.01")
    assert (bought["deal"], bought["order"]) == (str(deal.pk), entry.client_order_id)
    assert bought["trade_id"] == entry.fills.get().trade_id


def test_a_balance_in_a_row_is_what_was_there_after_it(trader):
    one_deal(trader)
    trader.world.step(60)
    deposit(trader, "USDT", "250.5")
    rows, _ = export(trader)
    running: dict[str, Decimal] = defaultdict(Decimal)
    for row in rows:
        running[row["asset"]] += D(row["amount"])
        assert running[row["asset"]] == D(row["balance"]), row
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


def test_what_came_from_outside_is_a_row_of_its_own_dated_by_the_reading_that_saw_it(trader):
    one_deal(trader)
    deposit(trader, "USDT", "250.5")
    trader.world.step(3600)
    rows, said = export(trader)
    assert sums(rows, "outside") == {"USDT": D("250.5")}
    assert sums(rows) == held(trader)
    (row,) = (row for row in rows if row["kind"] == "outside")
    assert row["time"] == trader.world.clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert (row["order"], row["market"]) == ("", "")
    assert "Of USDT something came or went outside the platform" in said


def test_each_day_keeps_its_first_reading_so_that_what_came_from_outside_has_its_day(trader):
    export(trader)
    trader.world.step(86_400)
    deposit(trader, "BTC", "0.25")
    export(trader)
    first_seen = trader.world.clock.now()
    trader.world.step(7_200)
    deposit(trader, "BTC", "0.5")
    export(trader)  # the same day: not kept
    assert BalanceReading.objects.filter(account=trader.account).count() == 2
    trader.world.step(86_400)
    rows, _ = export(trader)
    told = [(row["time"][:10], row["amount"]) for row in rows if row["kind"] == "outside"]
    assert told == [
        (first_seen.strftime("%Y-%m-%d"), "0.25"),
        ((first_seen + timedelta(hours=2, days=1)).strftime("%Y-%m-%d"), "0.5"),
    ]


def test_offline_says_what_the_books_say_and_that_nobody_was_asked(trader):
    one_deal(trader)
    deposit(trader, "BTC", "0.25")
    rows, said = export(trader, "--offline")
    assert sums(rows)["BTC"] == held(trader)["BTC"] - D("0.25")
    assert "The exchange was not asked" in said


def test_a_trade_by_hand_shows_as_outside_in_both_assets(trader):
    one_deal(trader)
    trader.client.create_order(OrderRequest("BYHAND", trader.market.symbol, Side.SELL, OrderType.MARKET, D("0.5")))
    rows, _ = export(trader)
    # 0.5 sold at 98.89 is 49.445, less 0.3 % is 49.296665
    assert sums(rows, "outside") == {"BTC": D("-0.5"), "USDT": D("49.296665")}
    assert sums(rows) == held(trader)


def test_the_days_of_a_period_begin_with_what_was_there(trader):
    one_deal(trader)
    whole, _ = export(trader)
    today = trading_day(trader.world.clock.now())
    trader.world.step(86_400)
    next_day = str(today + timedelta(days=1))
    rows, _ = export(trader, "--from", next_day)
    assert {row["kind"] for row in rows} == {"opening"}
    assert sums(rows) == sums(whole) == held(trader)
    before, _ = export(trader, "--to", str(today))
    assert before == whole


def test_a_period_that_begins_between_two_movements_opens_with_the_balance_between_them(trader):
    """The day of Tehran begins at 20:30 UTC: the entry is before, the exit after."""
    now = trader.world.clock.now()
    trader.world.step((now.replace(hour=20, minute=29, second=0) - now).total_seconds() % 86_400)
    opened(trader)
    entered = trader.world.clock.now()
    trader.world.step(120)
    trader.price("98.9")
    trader.wait(1)
    rows, _ = export(trader, "--from", str(trading_day(entered) + timedelta(days=1)))
    assert sums(rows, "opening") == {"USDT": D("9899.99"), "BTC": D("1.997"), "IRT": D(1000000000)}
    assert sums(rows, "trade") == {"USDT": D("98.59333"), "BTC": D("-0.997")}
    assert sums(rows) == held(trader)


def test_jalali_days_are_taken_and_written(trader):
    one_deal(trader)
    there = trader.orders()[0].fills.get().executed_at + timedelta(hours=3, minutes=30)  # Tehran
    day = JalaliDate(there.date()).isoformat()
    rows, _ = export(trader, "--jalali", "--from", day, "--to", day.replace("-", "/"))
    bought = next(row for row in rows if row["kind"] == "trade")
    assert (bought["date_jalali"], bought["time_of_day"]) == (day, f"{there:%H:%M:%S}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", "1405-13-01", "--jalali"), "is no day. Write it like 1405-01-01"),
        (("--from", "yesterday"), "is no day. Write it like 2026-03-21; for Jalali days add --jalali"),
        (("--from", "2026-11-03", "--to", "2026-11-02"), "--to lies before --from. No file was written."),
        (("--out", "/nowhere/ledger.csv"), "cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_meant_is_refused(trader, options, said):
    with pytest.raises(CommandError, match=said):
        export(trader, *options)


def test_an_unknown_account_is_answered_with_the_known_ones(trader):
    with pytest.raises(CommandError, match=f"no account named 'nobody'. Accounts: {trader.name}"):
        call_command("export_ledger", "nobody")


def test_an_account_of_the_other_environment_is_exported_only_offline(trader, settings):
    settings.EXCHANGE_ENVIRONMENT = "live"
    with pytest.raises(CommandError, match="Repeat with --offline"):
        export(trader)
    assert export(trader, "--offline")[0] == []


def test_the_file_is_complete_and_for_its_owner_alone(trader, tmp_path):
    one_deal(trader)
    target = tmp_path / "ledger.csv"
    rows, _ = export(trader, "--out", str(target))
    assert rows == []
    with target.open() as file:
        assert sums(list(csv.DictReader(file))) == held(trader)
    assert oct(target.stat().st_mode)[-3:] == "600"
    assert [each.name for each in tmp_path.iterdir()] == ["ledger.csv"]
