"""A comparison of live and backtest as words: one wording for the terminal and the pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from algo.backtest.words import UNKNOWN, amount_in

FIGURE_HEADS = ("", "live", "engine", "compared", "equal")
DIFFERENCE_HEADS = ("time", "what", "deal", "live", "engine", "reason")
FEWEST_FOLDED = 3

Difference = Mapping[str, Any]  # as `Difference.as_dict` writes it


def figure_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What each side counted and earned, under FIGURE_HEADS."""
    counted = [
        (what.capitalize(), *(str(summary[f"{what}_{of}"]) for of in FIGURE_HEADS[1:])) for what in ("signals", "deals")
    ]
    slippage = summary["slippage_percent"]
    return [
        *counted,
        (f"Profit ({summary['quote']})", *_both(summary, "profit"), "", ""),
        ("  of the same deals", *_both(summary, "profit_same_deals"), "", ""),
        ("Slippage of entries", UNKNOWN if slippage is None else f"{slippage:+.3f} %", "", "", ""),
        ("Candles decided", f"{summary['decided']:,} of {summary['candles']:,}", "", "", ""),
    ]


def difference_rows(differences: Sequence[Difference]) -> list[tuple[str, ...]]:
    """One row each, under DIFFERENCE_HEADS, times in UTC. Three or more signals in a row that differ for the same
    reason are one row: an hour without a worker is one thing to know."""
    rows = []
    for _, group in groupby(differences, key=_sort):
        alike = list(group)
        if len(alike) < FEWEST_FOLDED or alike[0]["deal"] is not None:
            rows += [_row(each) for each in alike]
        else:
            rows.append(_folded(alike))
    return rows


def verdict(summary: Mapping[str, Any], listed: int) -> str:
    """What to make of it, in a sentence. `listed`: how many differences the report has kept."""
    count, unexplained = summary["differences"], summary["unexplained"]
    if not count:
        return "Live did what the engine does."
    more = f" The first {listed:,} are listed." if listed < count else ""
    if unexplained:
        return f"{_counted(count)}, {unexplained:,} of them without a known reason.{more}"
    return f"{_counted(count)}, {'each ' if count > 1 else ''}with a known reason.{more}"


def money(text: str, quote: str) -> str:
    """An amount as the summary keeps it."""
    return amount_in(quote)(float(text))


def _both(summary: Mapping[str, Any], what: str) -> tuple[str, str]:
    return money(summary[f"{what}_live"], summary["quote"]), money(summary[f"{what}_engine"], summary["quote"])


def _counted(count: int) -> str:
    return f"{count:,} difference{'s' if count > 1 else ''}"


def _sort(each: Difference) -> tuple[Any, ...]:
    return each["kind"], each["cause"], each["text"], each["deal"]


def _row(each: Difference) -> tuple[str, ...]:
    deal = str(each["deal"] or "")
    return each["at"][11:19], _plain(each["kind"]), deal, each["live"], each["engine"], _reason(each)


def _folded(alike: Sequence[Difference]) -> tuple[str, ...]:
    first, last = alike[0], alike[-1]
    sides = (_one_or_many([each[side] for each in alike]) for side in ("live", "engine"))
    return (
        f"{first['at'][11:19]} to {last['at'][11:19]}",
        f"{len(alike)} × {_plain(first['kind'])}",
        "",
        *sides,
        _reason(first),
    )


def _one_or_many(words: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(words))


def _reason(each: Difference) -> str:
    return f"{_plain(each['cause'])}: {each['text']}"


def _plain(word: str) -> str:
    return word.replace("_", " ")
