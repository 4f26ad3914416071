"""Sentences that are stored in English and told in the reader's language: what the code says is known to `told`, and
what `told` knows is said by the code. Both are read from the code itself: who changes a wording hears of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from django.conf import settings

from algo.localised import reading
from algo.phrases import PHRASES, told
from algo.selectors.preferences import reader_of_language

HOLE = "\0"
_HOLES = re.compile(r"%\(\w+\)s|\{\w*\}")
_BETWEEN = re.compile(rf"{HOLE}|(?<=[.;:,])\s")
NOT_SAID_BY = {"phrases.py", "tests.py"}
# What these say is stored, or kept in a report, and all of it is told.
ALL_TOLD = (
    "risk/costs.py", "risk/gate.py", "risk/limits.py", "risk/sizing.py", "backtest/judgement.py",
    "backtest/parity_deals.py", "backtest/parity_signals.py", "execution/questions.py",
)  # fmt: skip


def _text(node: ast.AST) -> str | None:
    """What a literal says; what is filled in is a hole."""
    match node:
        case ast.Constant(value=str() as text):
            return _HOLES.sub(HOLE, text).replace("%%", "%")
        case ast.JoinedStr(values=parts):
            return "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in parts)
        case ast.BinOp(op=ast.Add(), left=left, right=right):
            before, after = _text(left), _text(right)
            return None if before is None or after is None else before + after
    return None


def _is_documentation(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    return isinstance(parents.get(node), ast.Expr)


def said_in(path: Path) -> Iterator[str]:
    """The texts of a file, whole: a part of a longer one does not count, nor does a docstring."""
    tree = ast.parse(path.read_text())
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        text = _text(node)
        if text is None or _is_documentation(node, parents):
            continue
        if isinstance(parents.get(node), ast.JoinedStr) or _text(parents.get(node, tree)) is not None:
            continue
        yield text


@cache
def everything_said() -> str:
    root = Path(settings.BASE_DIR)
    paths = [path for room in ("algo", "providers") for path in sorted((root / room).rglob("*.py"))]
    told_of = [path for path in paths if path.name not in NOT_SAID_BY and "migrations" not in path.parts]
    return "\n".join(text for path in told_of for text in said_in(path))


def fragments(phrase: str) -> list[str]:
    """What stands between the holes: a sentence may be put together of parts."""
    shape = _HOLES.sub(HOLE, phrase).replace("%%", "%")
    parts = (part.strip(" ,;:.()%=×") for part in _BETWEEN.split(shape))
    return [part for part in parts if len(re.findall("[A-Za-z]", part)) > 2]


# Said to programmers.
NOT_STORED = {"this limit needs the order book that stale_data asks for first"}
# Made from a code, a plural or a capital, which no literal shows.
MADE_UP = {
    "end of data", "opposite side", "each with a known reason", "1 difference", "1 of them without a known reason",
    "No set has enough deals yet", "Best so far is set", "differences", "the API key has expired at",
    "the API key expires in less than a day", "s ahead of our clock", "live was noted as", "better than the engine's",
    "worse than the engine's", "in the test",
}  # fmt: skip


@pytest.mark.parametrize("phrase", PHRASES)
def test_what_is_known_is_said_by_the_code(phrase):
    said = everything_said()
    names = said.replace("_", " ")
    gone = [each for each in fragments(phrase) if each not in said and each not in names and each not in MADE_UP]
    assert gone == [], "no code says this any more: correct algo/phrases.py, or take it out"


def _is_sentence(text: str) -> bool:
    return len(re.findall(r"[A-Za-z]{2,}", text)) >= 4 and " " in text.strip()


@pytest.mark.parametrize("path", ALL_TOLD)
def test_what_the_code_says_is_known(path):
    known = "\n".join(_HOLES.sub(HOLE, phrase).replace("%%", "%") for phrase in PHRASES)
    sentences = [text for text in said_in(Path(settings.BASE_DIR) / "algo" / path) if _is_sentence(text)]
    assert sentences, "this file says nothing any more"
    unknown = [text for text in {*sentences} - NOT_STORED if any(part not in known for part in fragments(text))]
    assert not unknown, (
        str(unknown) + "told in English to everybody: add it to algo/phrases.py, and its Persian to the catalogue"
    )


@pytest.mark.parametrize(
    "text",
    [
        "timing: live's cooldown had 3.5 s to go: it counts from decision to decision, in seconds, and the engine from "
        "candle to candle",
        "slippage: filled +0.120 % better than the engine's",
        "denied live: live was denied by daily_loss: see the signal",
        "The best of 40 sets is not distinguishable from luck: it loses money on the very candles it was chosen on. Do "
        "not trade it.",
        "The best of 40 sets is more than luck explains: the probability of skill is 99 % after all trials. But no "
        "candles were kept unseen to confirm it; it made no deal on unseen candles. Do not trade it yet.",
        "few days: 12 daily returns in training; below 30 a Sharpe ratio is a guess",
        "3 differences, 1 of them without a known reason. The first 2 are listed.",
    ],
)
def test_a_comparison_and_a_judgement_are_told_whole(text):
    with reading(reader_of_language("fa")):
        assert not re.search("[a-z]{2,} [a-z]{2,}", told(text).replace("daily_loss", "")), told(text)
