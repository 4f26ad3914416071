from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from algo.models import Deal, DealDay
from algo.selectors import performance
from algo.selectors.performance import Chosen, Fall, Period
from algo.selectors.rights import Role
from algo.services.performance import performance_rebuild
from tests import factories as make
from tests.factories import NOW

pytestmark = pytest.mark.django_db
ALL = Chosen()


@pytest.fixture
def boss():
    return make.make_user("boss", role=Role.ADMIN)


@pytest.fixture
def config():
    return make.make_config()


def closed(config, profit, *, days=0, minutes=20, reason="take_profit", **fields):
    """Ended `minutes` after it was opened at 13:30 in Tehran, `days` after 2026-11-02. The first stop, 150 below an
    entry of 0.01 at 50,000, risks 1.5."""
    opened = NOW + timedelta(days=days)
    times = {"opened_at": opened, "closed_at": opened + timedelta(minutes=minutes)}
    return make.make_closed_deal(config, profit=Decimal(profit), close_reason=reason, **(times | fields))


def test_figures_worked_by_hand(boss, config):
    closed(config, "3", reason="take_profit")
    closed(config, "1.5", minutes=40)
    closed(config, "-1.5", reason="stop_loss", minutes=60)
    closed(config, "0", reason="manual", minutes=0)
    (risk,) = performance.performance_risk(boss, ALL, NOW + timedelta(hours=2))
    figures = risk.figures
    assert (figures.quote, figures.deals, figures.wins, figures.losses) == ("USDT", 4, 2, 1)
    assert (figures.profit, figures.fees, figures.notional) == (Decimal("3"), Decimal("9.6"), Decimal("2000"))
    assert (figures.win_rate_percent, figures.profit_factor) == (50.0, 3.0)  # 2 of 4; 4.5 / 1.5
    assert (figures.expectancy, figures.average_win, figures.average_loss) == tuple(
        map(Decimal, ("0.75", "2.25", "1.5"))
    )
    assert figures.average_r == 0.5  # (2 + 1 - 1 + 0) / 4
    assert figures.average_hold_seconds == 1800.0  # (20 + 40 + 60 + 0) / 4 minutes
    assert figures.unprotected_seconds == Decimal("1.6")
    reasons = {each.reason: (each.deals, each.share_percent, each.profit, each.average_r) for each in risk.reasons}
    assert reasons == {
        "manual": (1, 25.0, 0, 0.0),
        "stop_loss": (1, 25.0, Decimal("-1.5"), -1.0),
        "take_profit": (2, 50.0, Decimal("4.5"), 1.5),
    }


def test_exposure_counts_from_the_beginning_of_the_first_day(boss, config):
    closed(config, "1", minutes=31)
    closed(config, "1", minutes=62)
    (risk,) = performance.performance_risk(boss, ALL, datetime(2026, 11, 2, 12, 0, tzinfo=UTC))
    # midnight in Tehran is 20:30 UTC: 15.5 hours = 930 minutes were looked at, 93 of them held
    assert risk.exposure.held_percent == pytest.approx(10.0)
    assert risk.exposure.average_deals == pytest.approx(0.1)
    assert risk.exposure.most_deals == 2


def test_a_deal_that_ends_as_another_opens_is_over(boss, config):
    first = closed(config, "1")
    closed(config, "1", opened_at=first.closed_at, closed_at=first.closed_at + timedelta(minutes=1))
    (risk,) = performance.performance_risk(boss, ALL, NOW + timedelta(hours=2))
    assert risk.exposure.most_deals == 1


def test_drawdown_is_the_deepest_fall_below_the_highest_point():
    days = [(date(2026, 11, day), Decimal(profit)) for day, profit in enumerate((5, -2, 4, -6, 1, 9), start=1)]
    # 5, 3, 7, 1, 2, 11: from 7 on the third to 1 on the fourth, and above 7 again on the sixth
    assert performance.deepest_fall(days) == Fall(Decimal(6), date(2026, 11, 3), date(2026, 11, 4), date(2026, 11, 6))
    assert performance.deepest_fall([(date(2026, 11, 1), Decimal(-2))]) == Fall(
        Decimal(2), None, date(2026, 11, 1), None
    )
    assert performance.deepest_fall([(date(2026, 11, 1), Decimal(2))]) == Fall()


def test_the_curve_adds_up_days_weeks_months_and_all(boss, config):
    for days, profit in ((0, "1"), (6, "2"), (7, "-4"), (29, "8")):  # Monday 2, Sunday 8, Monday 9 November, 1 December
        closed(config, profit, days=days)

    def curve(period):
        points = performance.equity_curve(boss, ALL, period)
        return [(point.start.isoformat(), point.deals, int(point.profit), int(point.equity)) for point in points]

    assert curve(Period.DAY) == [
        ("2026-11-02", 1, 1, 1),
        ("2026-11-08", 1, 2, 3),
        ("2026-11-09", 1, -4, -1),
        ("2026-12-01", 1, 8, 7),
    ]
    assert curve(Period.WEEK) == [("2026-11-02", 2, 3, 3), ("2026-11-09", 1, -4, -1), ("2026-11-30", 1, 8, 7)]
    assert curve(Period.MONTH) == [("2026-11-01", 3, -1, -1), ("2026-12-01", 1, 8, 7)]
    assert curve(Period.ALL) == [("2026-11-02", 4, 7, 7)]


def test_tether_and_toman_are_never_added_and_toman_of_both_exchanges_is_one(boss):
    account = make.make_account()
    markets = make.make_market("BTCUSDT"), make.make_market("BTCTMN"), make.make_market("BTCIRT", provider="nobitex")
    for market, profit in zip(markets, ("1", "100", "50"), strict=True):
        closed(make.make_config(account=account, market=market), profit)
    points = performance.equity_curve(boss, ALL, Period.ALL)
    assert {point.quote: point.equity for point in points} == {"USDT": Decimal(1), "IRT": Decimal(150)}


def test_the_trading_day_begins_at_midnight_in_tehran(boss, config):
    closed(config, "1", closed_at=datetime(2026, 11, 2, 20, 29, 59, tzinfo=UTC))
    closed(config, "2", closed_at=datetime(2026, 11, 2, 20, 30, tzinfo=UTC))
    days, _ = performance.performance_by_day(boss, ALL, 100)
    assert [(part.name, part.figures.profit) for part in days] == [("2026-11-03", 2), ("2026-11-02", 1)]


def test_days_are_cut_between_days_and_go_on_where_they_were_cut(boss, config):
    tether, toman = config, make.make_config(account=config.account, market=make.make_market("BTCTMN"))
    for day in (0, 0, 1, 4):
        closed(tether, "1", days=day)
        closed(toman, "100", days=day)

    def told(most, last=None):
        days, older = performance.performance_by_day(boss, Chosen(last=last), most)
        return [(day.name, day.figures.quote) for day in days], older

    newest = [("2026-11-06", "IRT"), ("2026-11-06", "USDT"), ("2026-11-03", "IRT"), ("2026-11-03", "USDT")]
    oldest = [("2026-11-02", "IRT"), ("2026-11-02", "USDT")]
    assert told(2) == (newest, date(2026, 11, 2))
    assert told(2, last=date(2026, 11, 2)) == (oldest, None)
    assert told(3) == (newest + oldest, None)


def test_filters_narrow_and_foreign_rows_are_not_there(boss, config):
    other = make.make_config()
    closed(config, "1")
    closed(config, "2", days=3)
    closed(other, "4")

    def profits(user, **chosen):
        return [part.figures.profit for part in performance.performance_by_strategy(user, Chosen(**chosen))]

    assert sorted(profits(boss)) == [3, 4]
    assert profits(config.account.owner) == [3]
    assert profits(config.account.owner, strategy=other.pk) == []
    assert profits(boss, account=other.account_id) == [4]
    assert profits(boss, strategy=config.pk, first=date(2026, 11, 3)) == [2]
    assert profits(boss, strategy=config.pk, last=date(2026, 11, 4)) == [1]
    assert sum(part.figures.profit for part in performance.performance_by_market(boss, ALL)) == 7


def test_reopening_takes_a_deal_out_and_its_next_end_counts(boss, config):
    deal, stays = closed(config, "3"), closed(config, "1", days=1)
    rows = Deal.objects.filter(pk=deal.pk)
    rows.update(status="OPEN", closed_at=None, profit=None, close_reason="", reopened=1)
    assert [part.figures.profit for part in performance.performance_by_day(boss, ALL, 100)[0]] == [stays.profit]
    assert performance.days_differ() == 0
    rows.update(status="CLOSED", closed_at=NOW + timedelta(days=1), profit=Decimal("-2"), close_reason="stop_loss")
    ((day,), _) = performance.performance_by_day(boss, ALL, 100)
    assert (day.name, day.figures.deals, day.figures.profit) == ("2026-11-03", 2, Decimal("-1"))
    assert performance.days_differ() == 0


def test_a_correction_of_a_closed_deal_is_followed(boss, config):
    deal = closed(config, "3")
    Deal.objects.filter(pk=deal.pk).update(profit=Decimal("-1"), fees_quote=Decimal("5"), unprotected_seconds=9)
    (part,) = performance.performance_by_strategy(boss, ALL)
    assert (part.figures.losses, part.figures.profit, part.figures.fees) == (1, Decimal(-1), Decimal(5))
    assert performance.days_differ() == 0


def test_the_check_sees_a_wrong_a_missing_and_a_superfluous_row_and_the_command_mends_them(config):
    closed(config, "1")
    closed(config, "1", days=1)
    call_command("rebuild_performance", "--check")
    DealDay.objects.filter(day="2026-11-02").update(day="2026-11-05")  # one is missing, one is too many
    DealDay.objects.filter(day="2026-11-03").update(profit=7)
    assert performance.days_differ() == 3
    with pytest.raises(CommandError, match=r"^3 rows are not what the deals say"):
        call_command("rebuild_performance", "--check")
    call_command("rebuild_performance")
    assert performance.days_differ() == 0


def test_another_time_zone_counts_from_the_next_rebuild_on(boss, config, settings):
    closed(config, "1", closed_at=datetime(2026, 11, 2, 20, 30, tzinfo=UTC))
    settings.TRADING_DAY_TIME_ZONE = "UTC"
    with pytest.raises(CommandError, match="kept in Asia/Tehran"):
        call_command("rebuild_performance", "--check")
    assert performance_rebuild() == 1
    closed(config, "2", closed_at=datetime(2026, 11, 2, 23, 59, tzinfo=UTC))
    ((day,), _) = performance.performance_by_day(boss, ALL, 100)
    assert (day.name, day.figures.profit) == ("2026-11-02", 3)


def test_a_deal_without_a_profit_counts_and_neither_wins_nor_loses(boss, config):
    make.make_closed_deal(config, profit=None)
    (part,) = performance.performance_by_strategy(boss, ALL)
    assert (part.figures.deals, part.figures.wins, part.figures.losses, part.figures.average_r) == (1, 0, 0, None)


def test_changes_of_an_open_deal_write_no_sums(config):
    deal = make.make_open_deal(config)
    with connection.cursor() as cursor:
        cursor.execute("SELECT last_value, is_called FROM algo_dealday_id_seq")
        before = cursor.fetchone()
        Deal.objects.filter(pk=deal.pk).update(best_price=Decimal("50100"))
        cursor.execute("SELECT last_value, is_called FROM algo_dealday_id_seq")
        assert cursor.fetchone() == before
