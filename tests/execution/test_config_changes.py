"""What people change while a deal is open: the deal keeps the rules it was opened with, and is looked after to its
end."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db.models import ProtectedError

from algo.models import Account, CloseReason, DealStatus, Market, Role, StrategyConfig
from algo.services.accounts import account_pause
from algo.services.audit import PLATFORM
from algo.services.control import strategy_ordering_set, strategy_stop
from algo.services.deletion import deletion_refusal
from algo.strategies.strategy_factory import STRATEGIES
from providers.types import OrderStatus
from tests.execution.bench import Trader, World, closed, opened
from tests.factories import NOW, make_account, make_market, make_user

TRAILING = {"trailing_stop_percent": "1", "trailing_step_percent": "0.2"}


def change(trader: Trader, **fields: Any) -> None:
    StrategyConfig.objects.filter(pk=trader.config.pk).update(**fields)


def edit_rules(trader: Trader) -> None:
    wide = {"stop_loss_percent": "40", "take_profit_percent": "90", "trailing_stop_percent": "0"}
    change(trader, parameters=wide)


def break_rules(trader: Trader) -> None:
    change(trader, parameters={"stop_loss_percent": "-7", "no_such_parameter": "x"})


def empty_rules(trader: Trader) -> None:
    change(trader, parameters={})


def stop(trader: Trader) -> None:
    assert strategy_stop(trader.config, by=PLATFORM, at=NOW)


def pause_ordering(trader: Trader) -> None:
    assert strategy_ordering_set(trader.config, enabled=False, by=PLATFORM, at=NOW)


def pause_account(trader: Trader) -> None:
    assert account_pause(trader.account, by=PLATFORM, at=trader.world.clock.now())


def move_to_another_market(trader: Trader) -> None:
    elsewhere = make_market("ETHUSDT", provider=trader.account.provider)
    change(trader, market=elsewhere, data_market=elsewhere)


def move_to_another_account(trader: Trader) -> None:
    change(trader, account=make_account(provider=trader.account.provider))


def forbid_its_side(trader: Trader) -> None:
    change(trader, allowed_sides="SELL")


def name_an_unknown_strategy(trader: Trader) -> None:
    change(trader, strategy="NoSuchStrategy")


def deactivate_the_owner(trader: Trader) -> None:
    owner = trader.account.owner
    owner.is_active = False
    owner.save()


CHANGES = pytest.mark.parametrize(
    "changed",
    [
        edit_rules,
        break_rules,
        empty_rules,
        stop,
        pause_ordering,
        pause_account,
        move_to_another_market,
        move_to_another_account,
        forbid_its_side,
        name_an_unknown_strategy,
        deactivate_the_owner,
    ],
)


@CHANGES
@pytest.mark.parametrize(
    ("price", "reason"), [("98.9", CloseReason.STOP_LOSS), ("102.05", CloseReason.TAKE_PROFIT)], ids=["stop", "target"]
)
def test_an_open_deal_ends_where_its_own_rules_say(
    world: World, changed: Callable[[Trader], None], price: str, reason: CloseReason
):
    trader = opened(world.trader())
    before = trader.deal()
    changed(trader)
    trader.wait(2)
    (stop_order,) = trader.orders(Role.STOP)
    assert (stop_order.status, stop_order.stop_price) == (OrderStatus.OPEN, Decimal("99.01"))
    after = trader.deal()
    assert (after.rules, after.stop_price, after.target_price) == (before.rules, before.stop_price, before.target_price)
    trader.price(price)
    trader.wait(1)
    assert closed(trader, reason)


@CHANGES
def test_a_trailing_stop_goes_on_by_its_own_rules(world: World, changed: Callable[[Trader], None]):
    trader = opened(world.trader(), **TRAILING)
    changed(trader)
    trader.price("101.5")
    trader.wait(1)
    assert trader.deal().stop_price == Decimal("100.48")  # 1 % behind the best bid of 101.49
    trader.price("100.4")
    trader.wait(1)
    assert closed(trader, CloseReason.TRAILING_STOP)


def test_rules_edited_before_the_entry_is_sent_do_not_change_the_plan(world: World):
    trader = world.trader()
    trader.plan()
    edit_rules(trader)
    trader.advance()
    assert trader.deal().status == DealStatus.OPEN
    assert trader.orders(Role.STOP)[0].stop_price == Decimal("99.01")


def test_a_deal_whose_strategy_left_the_factory_is_protected_and_closes(world: World, monkeypatch):
    trader = opened(world.trader())
    monkeypatch.delitem(STRATEGIES, trader.config.strategy)
    trader.wait(2)
    assert trader.roles(OrderStatus.OPEN) == [Role.STOP]
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)


# --- deleting -------------------------------------------------------------------------------------------------------


def rows_of(trader: Trader) -> list[tuple[Any, str]]:
    """What a person could delete, and what they are told to do instead."""
    return [
        (trader.config, "Stop the strategy instead"),
        (trader.account, "Pause the account instead"),
        (trader.market, "Stop the strategies that trade it instead"),
        (trader.account.owner, "Take the user's mark 'Active' away instead"),
    ]


def test_nothing_an_open_deal_hangs_on_can_be_deleted(world: World):
    trader = opened(world.trader())
    for row, advice in rows_of(trader):
        why = deletion_refusal(row)
        assert f"deal {trader.deal().pk} on {trader.market.symbol} has not ended" in why
        assert "runs to its end" in why and advice in why
        with pytest.raises(ProtectedError):
            row.delete()
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)


def test_what_a_deal_left_is_kept_after_its_end(world: World):
    trader = opened(world.trader())
    trader.price("98.9")
    trader.wait(1)
    assert closed(trader, CloseReason.STOP_LOSS)
    for row, advice in rows_of(trader):
        assert "history that is kept" in deletion_refusal(row) and advice in deletion_refusal(row)
        with pytest.raises(ProtectedError):
            row.delete()


def test_what_nothing_hangs_on_may_be_deleted(db):
    for row in (make_user(), make_market("TRXUSDT"), make_account()):
        assert deletion_refusal(row) == ""
        row.delete()
    assert not Account.objects.exists()
    assert not Market.objects.exists()
