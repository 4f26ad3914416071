"""A process may die after any step. Whatever the step, the next one to look brings the deal to the same right end.

The life of a deal is lived once to count its steps: calls that change something at the exchange or in the ledger. Then
it is lived again as often as it has steps, and dies right after the first, the second, the third.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import pytest

from algo.execution.ledger_orm import OrmLedger
from algo.models import Deal, DealStatus, OrderEvent, Role
from providers.types import OrderStatus, Side
from tests.execution.bench import Trader, World
from tests.execution.faults import WRITES, Wrapped

LEDGER_WRITES = (
    "plan_order", "plan_pair", "note_baseline", "claim_send", "release_send", "note_unknown", "note_doubt",
    "note_negative", "end_order", "end_leg", "lose_order", "request_cancel", "apply_report", "open_deal", "move_stop",
    "note_best", "note_crossed", "begin_swap", "start_exit", "close_deal", "cancel_deal",
)  # fmt: skip


class Died(BaseException):
    """The process is gone: nothing may catch this."""


class Fate:
    """Counts the steps of a life and ends it after the `fatal` one, once, or after every fourth or so, by `seed`."""

    def __init__(self, fatal: int = 0, seed: int | None = None) -> None:
        self.fatal = fatal
        self.dice = None if seed is None else random.Random(seed)
        self.steps: list[str] = []
        self.deaths = 0

    def step(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) == self.fatal or (self.dice and self.dice.random() < 0.25):
            self.deaths += 1
            raise Died(name)


class Mortal(Wrapped):
    def __init__(self, inner: Any, fate: Fate) -> None:
        super().__init__(inner)
        self.fate = fate

    def called(self, name: str, call: Callable[[], Any]) -> Any:
        answer = call()
        if name in WRITES:
            self.fate.step(name)
        return answer


@contextmanager
def living(trader: Trader, fate: Fate, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every write of the exchange and of the ledger is a step of this fate."""
    with monkeypatch.context() as patch:
        for name in LEDGER_WRITES:
            patch.setattr(OrmLedger, name, _counted(name, getattr(OrmLedger, name), fate))
        trader.provider = Mortal(trader.client, fate)
        yield
        trader.provider = trader.client


def _counted(name: str, method: Callable[..., Any], fate: Fate) -> Callable[..., Any]:
    def call(self: OrmLedger, *args: Any, **kwargs: Any) -> Any:
        answer = method(self, *args, **kwargs)
        fate.step(name)
        return answer

    return call


Life = Callable[[Trader, Side], None]


def mortal(step: Callable[[], Any]) -> None:
    """Whoever dies in a step is followed by another who does not know of it."""
    for _ in range(100):
        try:
            step()
        except Died:
            continue
        return
    raise AssertionError("dying all the time, it makes no progress")


def move(trader: Trader, side: Side, percent: float) -> None:
    """The price goes `percent` in favour of the deal (against it when negative)."""
    mortal(lambda: trader.price(100 + side.sign * percent))
    mortal(trader.calm)


def begun(trader: Trader, side: Side, **rules: object) -> None:
    trader.plan(side=side, **rules)  # type: ignore[arg-type]
    mortal(trader.advance)
    mortal(trader.calm)


def trailed_then_stopped(trader: Trader, side: Side) -> None:
    begun(trader, side, trailing_stop_percent="1", trailing_step_percent="0.2")
    for percent in (1.2, 0.1, -2):
        move(trader, side, percent)


def swapped_to_its_target(trader: Trader, side: Side) -> None:
    begun(trader, side)
    for percent in (2.5, -2):
        move(trader, side, percent)


def flattened(trader: Trader, side: Side) -> None:
    begun(trader, side)
    Deal.objects.filter(account=trader.account, status=DealStatus.OPEN).update(exit_reason="manual", status="EXITING")
    mortal(trader.advance)
    mortal(trader.calm)


LIVES = pytest.mark.parametrize(
    ("provider", "side", "life"),
    [
        ("wallex", Side.BUY, trailed_then_stopped),
        pytest.param("wallex", Side.BUY, swapped_to_its_target, marks=pytest.mark.long),  # minutes, together
        pytest.param("wallex", Side.SELL, flattened, marks=pytest.mark.long),
        pytest.param("nobitex", Side.BUY, trailed_then_stopped, marks=pytest.mark.long),
        ("nobitex", Side.SELL, flattened),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)


def lived(world: World, provider: str, side: Side, life: Life, fate: Fate, monkeypatch: pytest.MonkeyPatch) -> Fate:
    """One whole life with its accidents, and what must be true afterwards."""
    for pair in world.feed.specs:
        world.feed.set(pair, type(world.feed.depth)(100))
    world.step(20)
    trader = world.trader(provider)
    with living(trader, fate, monkeypatch):
        life(trader, side)
    judge(trader, f"{life.__name__} at {provider}, died after step {fate.fatal}: {fate.steps}")
    return fate


def judge(trader: Trader, story: str) -> None:
    deal, truth = trader.deal(), trader.truth()
    entries = [order for order in truth["orders"] if order["client_order_id"] == trader.orders()[0].client_order_id]
    assert len(entries) <= 1, f"two entries: {story}"
    assert deal.status == (DealStatus.CLOSED if entries else DealStatus.CANCELED), (deal.status, story)
    assert not [each for each in truth["orders"] if each["status"] in ("OPEN", "INACTIVE")], f"orphans: {story}"
    assert not [each for each in trader.orders() if not OrderStatus(each.status).is_final], story
    assert deal.unprotected_since is None, story
    assert trader.books_agree(), story
    for order in trader.orders():
        events = list(OrderEvent.objects.filter(order=order).order_by("id").values_list("from_status", "to_status"))
        assert events[-1][1] == order.status, (events, story)
        assert all(before[1] == after[0] for before, after in pairwise(events)), (events, story)
    stops = [order.stop_price for order in trader.orders(Role.STOP) if order.accepted_at]
    assert stops == sorted(stops, reverse=deal.side == Side.SELL), f"a stop moved back: {story}"


@LIVES
def test_a_death_after_any_step_changes_nothing_in_the_end(world: World, monkeypatch, provider, side, life):
    steps = len(lived(world, provider, side, life, Fate(), monkeypatch).steps)
    assert steps > 12
    for fatal in range(1, steps + 1):
        fate = lived(world, provider, side, life, Fate(fatal), monkeypatch)
        assert len(fate.steps) >= fatal


@LIVES
@pytest.mark.parametrize("seed", [1, 2])
def test_dying_all_the_time_it_still_comes_to_the_right_end(world: World, monkeypatch, provider, side, life, seed):
    fate = lived(world, provider, side, life, Fate(seed=seed), monkeypatch)
    assert fate.deaths >= 1
