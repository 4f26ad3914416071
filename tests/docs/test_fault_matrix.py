"""The fault matrix names what there is: every fault once, tests that exist, kinds that are injected."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.chaos.plan import make_plan
from tests.fault_matrix import BEGIN, MATRIX, ROOT, chaos_counts, counts_in, section, seeded_counts, table, with_table
from tests.simulation.plan import ALL_KINDS

DOCUMENT = ROOT / "docs" / "reliability.md"
PLANNED = [each for seed in range(20) for each in make_plan(seed, 2)]
CHAOS_KINDS = {each.details.get("kind", each.kind) for each in PLANNED} - {"kill", "stop"} | {
    f"{each.kind}_{re.split('[-_]', each.target)[0]}" for each in PLANNED if each.kind in ("kill", "stop")
}


@cache
def names_in(file: str) -> set[str]:
    """All tests of a file, those of its classes by the names of both."""
    found = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        inside = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + each.name for each in inside if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    return found


def test_every_number_is_there_once_and_in_order():
    assert [row.number for row in MATRIX] == list(range(1, 119))


def test_every_row_has_a_test_or_says_why_not():
    assert [row.number for row in MATRIX if not row.tests and not (row.gap and row.theme)] == []
    assert len([row for row in MATRIX if not row.tests]) < 8


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: str(row.number))
def test_every_named_test_exists(row):
    assert [name for name in row.tests if name.partition("::")[2] not in names_in(name.partition("::")[0])] == []


def test_every_named_kind_is_one_that_is_injected():
    assert {kind for row in MATRIX for kind in row.seeded.split()} - set(ALL_KINDS) == set()
    assert {kind for row in MATRIX for kind in row.chaos.split()} - CHAOS_KINDS == set()


def test_every_kind_that_is_injected_has_its_row():
    assert set(ALL_KINDS) - {kind for row in MATRIX for kind in row.seeded.split()} == set()
    assert CHAOS_KINDS - {kind for row in MATRIX for kind in row.chaos.split()} == set()


def test_every_invariant_that_a_row_names_is_promised_in_the_document():
    promised: set[int] = set()
    for cell in re.findall(r"^\| ((?:I\d+[, –]*)+)\|", DOCUMENT.read_text().partition(BEGIN)[0], re.MULTILINE):
        for first, last in re.findall(r"I(\d+)(?:–I(\d+))?", cell):
            promised |= set(range(int(first), int(last or first) + 1))
    named = {int(name.removeprefix("I")) for row in MATRIX for name in row.invariants.split()}
    assert len(named) > 15
    assert named - promised == set()


FIGURES = {"faults": {"drop_after": 1234, "late": 7}}
CHAOS = {
    "faults_injected": {"drop_after": 3}, "stops": {"worker": 2},
    "kills": {"beat": 1, "guardian": 2, "guardian-2": 1, "paper": 1},
    "postgres_restarts": {"fast": 1, "immediate": 2}, "valkey": {"restart": 1, "lose_files": 0, "flush": 4},
}  # fmt: skip


def test_figures_are_counted_by_kind():
    assert seeded_counts(FIGURES)["drop_after"] == 1234
    counts = chaos_counts(CHAOS)
    assert (counts["drop_after"], counts["exchange_kill"], counts["stop_worker"]) == (3, 1, 2)
    assert (counts["kill_guardian"], counts["kill_beat"]) == (3, 1)
    assert (counts["postgres_immediate"], counts["valkey_flush"], counts["valkey_lose_files"]) == (2, 4, 0)


def test_what_a_table_tells_is_enough_to_make_it_again():
    seeded, chaos = seeded_counts(FIGURES), chaos_counts(CHAOS)
    made = table(seeded, chaos, DOCUMENT.parent)
    assert "| 1,234 `drop_after` | 3 `drop_after` |" in made
    assert "[execution/faults](../tests/execution/test_faults.py): an entry whose answer is lost is found" in made
    written = with_table(f"before\n{BEGIN}\nold\n<!-- end -->\nafter\n", made)
    assert "\nold\n" not in written and written.startswith("before\n") and written.endswith("after\n")
    assert table(*counts_in(written), DOCUMENT.parent) == made
    without = table(seeded, None, DOCUMENT.parent)
    assert table(*counts_in(with_table(written, without)), DOCUMENT.parent) == without


def test_a_document_without_markers_is_left_alone():
    with pytest.raises(ValueError, match="two lines"):
        with_table("# Reliability\n", "table")


def test_the_document_holds_the_table_of_its_own_figures():
    """Somebody changed the matrix and not the document: `python -m tests.fault_matrix` writes it."""
    text = DOCUMENT.read_text()
    assert section(text).strip() == table(*counts_in(text), DOCUMENT.parent)


def test_every_fault_of_the_seeded_worlds_was_injected():
    seeded, _ = counts_in(DOCUMENT.read_text())
    assert [kind for kind in ALL_KINDS if not seeded[kind]] == []
