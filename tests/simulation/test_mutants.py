"""A world that does not notice a missing safety rule is blind. Here the quickest; `--mutants` goes over all of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.simulation.commands import _hunt
from tests.simulation.mutants import MUTANTS, Mutant, applied, hunted, with_its_mask
from tests.simulation.mutation import Edit, Stale, edited

MOST = 60  # worlds


def _double(value: int) -> int:
    return value * 2


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_a_changed_line_is_in_force_for_as_long_as_its_context_lasts():
    with edited(Edit(_double, "value * 2", "value * 3")):
        assert _double(2) == 6
    assert _double(2) == 4


@pytest.mark.parametrize("old", ["value * 7", "value"])
def test_a_line_that_does_not_stand_there_exactly_once_is_refused(old: str):
    with pytest.raises(Stale), edited(Edit(_double, old, "1")):
        pass


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_finds_the_lines_that_it_changes(name: str):
    with applied(name):
        pass


def test_what_masks_a_mutant_is_a_mutant_and_each_is_hunted():
    assert {mask for each in MUTANTS.values() for mask in each.masked_by} <= set(MUTANTS)
    assert {part for name in hunted() for part in name.split("+")} == set(MUTANTS)


@pytest.mark.parametrize(
    "name",
    ["send_before_commit", "open_deal_not_seen", "fee_in_base_ignored", "stop_moves_back", "ticket_blocks_nothing"],
)
def test_a_missing_rule_is_noticed(name: str):
    row = _hunt((with_its_mask(name), 0, MOST, "memory"))
    assert row["seeds"] is not None, f"{row['tried']} worlds did not notice"
    assert row["by"]


def test_a_mutant_that_changes_nothing_survives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MUTANTS, "nothing", Mutant("no rule is missing", ()))
    row = _hunt(("nothing", 0, 3, "memory"))
    assert (row["seeds"], row["tried"]) == (None, 3)
