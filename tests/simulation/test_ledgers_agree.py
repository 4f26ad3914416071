"""The same seed is the same world, whichever ledger keeps its books: one that differs is wrong in one of them."""

from __future__ import annotations

import pytest
from django.db import connections

from tests.simulation.books import MemoryBooks
from tests.simulation.books_orm import OrmBooks
from tests.simulation.plan import plan_of
from tests.simulation.run import live


@pytest.mark.parametrize("seed", [4, 24, *(pytest.param(seed, marks=pytest.mark.long) for seed in (23, 27, 56))])
def test_a_world_is_the_same_over_both_ledgers(db, monkeypatch, seed):
    monkeypatch.setattr(connections["default"], "execute_wrappers", [])
    plan, told = plan_of(seed), ([], [])
    in_memory = live(plan, MemoryBooks(), tell=told[0].append)
    in_postgres = live(plan, OrmBooks(), tell=told[1].append)
    assert in_postgres.figures["deals"] > 0
    assert told[1] == told[0]
    assert (in_postgres.trace, in_postgres.violations) == (in_memory.trace, in_memory.violations)
    assert (in_postgres.figures, in_postgres.transitions) == (in_memory.figures, in_memory.transitions)
