"""A search as one HTML file: the judgement, a heat map, the history of its trials, train against test, other fates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from algo.backtest.html_page import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    RED,
    Html,
    Section,
    cards,
    chart,
    page,
    side_by_side,
    table,
    warnings,
)
from algo.backtest.judgement import Verdict
from algo.backtest.optimise_words import (
    OBJECTIVES,
    PARAMETER_HEADS,
    WINDOW_HEADS,
    parameter_rows,
    period_line,
    window_rows,
)
from algo.backtest.search import UNKNOWN, Objective, Trial, score
from algo.backtest.space import Space
from algo.sentences import capitalised

_MARGIN = {"l": 60, "r": 16, "t": 20, "b": 48}
_SHOWN = 50  # sets of the table
_BINS = 8  # of a parameter with many values, when its weight is measured
_CELLS = 25  # of the heat map, along either side
TONES = {Verdict.HOLDS: "good", Verdict.LUCK: "bad", Verdict.DOUBTFUL: "", Verdict.NOTHING: ""}
Chosen = tuple[str, ...] | None


def optimisation_html(
    report: Mapping[str, Any], evidence: Mapping[str, Any], trials: Sequence[Trial], *, heat: Chosen = None
) -> str:
    """The document. `heat` names the two parameters of the heat map; None takes the two that matter most."""
    space, objective = Space.from_json(report["space"]), Objective(report["objectives"][0])
    judgement = report["judgement"] or {"verdict": Verdict.NOTHING, "sentence": "Not judged yet.", "warnings": []}
    parts = (
        _figures(report),
        _heat_map(space, trials, objective, heat),
        _importance(space, trials, objective),
        _history(trials, objective),
        _equity(evidence, report),
        _walk(evidence),
        _fates(evidence),
        _shuffled(evidence, objective),
        _sets(space, trials, report),
    )
    return page(
        f"{report['strategy']} on {report['symbol']}: {report['name']}",
        [part for part in parts if part is not None],
        subtitle=_subtitle(report),
        head=[
            cards([("Judgement", judgement["sentence"], TONES[Verdict(judgement["verdict"])])]),
            warnings(judgement["warnings"]),
        ],
    )


def weights(space: Space, trials: Sequence[Trial], objective: Objective) -> dict[str, float]:
    """How much of the spread of the objective each parameter explains by itself, 0 to 1, most first.

    The correlation ratio: variance of the means of its values (or of eight groups of neighbouring ones) over the
    variance of all. It sees one parameter at a time: two that matter only together both look small.
    """
    known = _known(trials, objective)
    goals = np.array([score(each.figures, objective) for each in known])
    total = float(((goals - goals.mean()) ** 2).sum()) if goals.size else 0.0
    found = {}
    for each in space.dimensions:
        place = {value: i for i, value in enumerate(each.values)}
        group = np.array([place[trial.choice[each.name]] for trial in known], dtype=np.int64)
        if len(each.values) > _BINS:
            group = group * _BINS // len(each.values)
        between = sum(
            float(goals[group == one].size * (goals[group == one].mean() - goals.mean()) ** 2)
            for one in np.unique(group)
        )
        found[each.name] = between / total if total > 1e-12 else 0.0
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def heat_cells(
    space: Space, trials: Sequence[Trial], objective: Objective, axes: Sequence[str]
) -> tuple[list[str], list[str], list[list[float | None]]]:
    """Labels along x and y, and the mean of the objective where sets were tried; None where none was."""
    columns = [next(each for each in space.dimensions if each.name == name) for name in axes]
    groups = [_grouped(each.values) for each in columns]
    sums = np.zeros((len(groups[1][0]), len(groups[0][0]), 2))
    for trial in _known(trials, objective):
        x, y = (group[1][trial.choice[each.name]] for group, each in zip(groups, columns, strict=True))
        sums[y, x] += score(trial.figures, objective), 1
    cells = [[float(s / n) if n else None for s, n in row] for row in sums]
    return groups[0][0], groups[1][0], cells


def _grouped(values: Sequence[Any]) -> tuple[list[str], dict[Any, int]]:
    """Labels of at most _CELLS groups of neighbours, and the group of each value."""
    count = min(len(values), _CELLS)
    place = {value: i * count // len(values) for i, value in enumerate(values)}
    members = [[value for value in values if place[value] == group] for group in range(count)]
    return [str(m[0]) if len(m) == 1 else f"{m[0]} to {m[-1]}" for m in members], place


def _known(trials: Sequence[Trial], objective: Objective) -> list[Trial]:
    """Sets whose objective could be told."""
    return [each for each in trials if score(each.figures, objective) > UNKNOWN]


# --- sections -------------------------------------------------------------------------------------------------------


def _subtitle(report: Mapping[str, Any]) -> str:
    trials = report["trials"]
    return (
        f"{period_line(report)}, resolution {report['resolution']}\n"
        f"{trials['done']:,} sets judged, {trials['refused']:,} refused, "
        f"method {report['method']}, seed {report['seed']}, at least {report['min_deals']} deals"
    )


def _figures(report: Mapping[str, Any]) -> Section | None:
    windows = window_rows(report)
    if not windows:
        return None
    tables = side_by_side(table(WINDOW_HEADS, windows), table(PARAMETER_HEADS, parameter_rows(report), kind="fits"))
    note = "Train is what the search saw; test are the newest candles, which it did not."
    return Section("Best set", [tables], note=note)


def _heat_map(space: Space, trials: Sequence[Trial], objective: Objective, heat: Chosen) -> Section | None:
    if len(space.dimensions) < 2 or not _known(trials, objective):
        return None
    axes = heat or tuple(weights(space, trials, objective))[:2]
    x, y, cells = heat_cells(space, trials, objective, axes)
    data = [{"type": "heatmap", "x": x, "y": y, "z": cells, "colorscale": "Viridis", "hoverongaps": False}]
    layout = {"margin": _MARGIN, "xaxis": _axis(axes[0]), "yaxis": _axis(axes[1])}
    words = f"Mean {_name(objective)} over {axes[0]} and {axes[1]}, on the candles that were searched."
    note = f"{words} A real edge is a broad hill; a single bright cell is chance."
    return Section("Heat map", [chart(data, layout, height=460, label=words)], note=note)


def _axis(name: str) -> dict[str, Any]:
    """Not every group has its label, and none lies over the axis's name."""
    return {"title": {"text": name, "standoff": 12}, "type": "category", "nticks": 12}


def _name(objective: Objective) -> str:
    return OBJECTIVES[str(objective)]


def _importance(space: Space, trials: Sequence[Trial], objective: Objective) -> Section | None:
    found = weights(space, trials, objective)
    if len(found) < 2:
        return None
    names = list(found)[::-1]
    data = [{"type": "bar", "orientation": "h", "x": [found[n] for n in names], "y": names, "marker": {"color": BLUE}}]
    layout = {
        "margin": {**_MARGIN, "l": 180},
        "xaxis": {"title": {"text": f"share of the spread of {_name(objective)}"}},
    }
    words = f"How much of the spread of {_name(objective)} each parameter explains by itself"
    return Section("What matters", [chart(data, layout, height=80 + 24 * len(names), label=words)], note=f"{words}.")


def _history(trials: Sequence[Trial], objective: Objective) -> Section | None:
    known = _known(trials, objective)
    if not known:
        return None
    numbers, goals = [each.number for each in known], [score(each.figures, objective) for each in known]
    best = np.maximum.accumulate(goals).tolist()
    data = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": "sets",
            "x": numbers,
            "y": goals,
            "marker": {"color": GREY, "size": 5},
        },
        {"type": "scatter", "mode": "lines", "name": "best so far", "x": numbers, "y": best, "line": {"color": BLUE}},
    ]
    layout = {"margin": _MARGIN, "xaxis": {"title": {"text": "set"}}, "yaxis": {"title": {"text": _name(objective)}}}
    words = f"{capitalised(_name(objective))} of each set in the order they were tried, and the best so far"
    return Section("History of the search", [chart(data, layout, label=words)], note=f"{words}.")


def _equity(evidence: Mapping[str, Any], report: Mapping[str, Any]) -> Section | None:
    best = evidence.get("best", {})
    if not best.get("train_equity"):
        return None
    data = [_line(best["train_equity"], "train", BLUE)]
    if best["test_equity"]:
        data.append(_line(best["test_equity"], "test, unseen", ORANGE))
    layout = {"margin": _MARGIN, "xaxis": {"type": "date"}, "yaxis": {"title": {"text": report["quote"]}}}
    words = "Equity of the best set where it was searched and where it was not; each begins with all of its money"
    return Section("Train against test", [chart(data, layout, label=words)], note=f"{words}.")


def _walk(evidence: Mapping[str, Any]) -> Section | None:
    folds = evidence.get("folds")
    if not folds or "walk_forward" not in evidence:
        return None
    held, data = 1.0, []
    for number, fold in enumerate(folds, 1):
        curve = fold["equity"]
        scaled = {"times": curve["times"], "values": [held * value for value in curve["values"]]}
        data.append(_line(scaled, f"fold {number}", (BLUE, ORANGE, GREEN, RED, GREY)[(number - 1) % 5]))
        held = scaled["values"][-1]
    layout = {"margin": _MARGIN, "xaxis": {"type": "date"}, "yaxis": {"title": {"text": "equity (start 1)"}}}
    words = "Each fold traded with the best set of the candles before it"
    return Section("Walk-forward", [chart(data, layout, label=words)], note=f"{words}.")


def _fates(evidence: Mapping[str, Any]) -> Section | None:
    mixed = evidence.get("monte_carlo")
    if not mixed:
        return None
    charts = [
        _bars(mixed["drawdown_histogram"], "max drawdown %, deals in other orders", RED),
        _bars(mixed["final_histogram"], "end of the account (start 1), deals drawn anew", BLUE),
    ]
    note = f"{mixed['paths']} other fates of the {mixed['deals']} deals of the {mixed['deals_of']} window."
    return Section("Monte Carlo", charts, note=note)


def _shuffled(evidence: Mapping[str, Any], objective: Objective) -> Section | None:
    found = evidence.get("bootstrap")
    if not found:
        return None
    worlds = [value for value in found["worlds"] if value > UNKNOWN]
    counts, edges = np.histogram(worlds or [0.0], bins=20)
    real = {"type": "scatter", "mode": "lines", "name": "the real one", "line": {"color": RED}}
    data = [
        {"type": "bar", "name": "shuffled", "x": _middles(edges), "y": counts.tolist(), "marker": {"color": GREY}},
        {**real, "x": [found["best"]] * 2, "y": [0, int(counts.max()) or 1]},
    ]
    layout = {"margin": _MARGIN, "xaxis": {"title": {"text": f"best {_name(objective)} of {found['sets']} sets"}}}
    note = (
        f"The same {found['sets']} sets on {len(found['worlds'])} markets made of shuffled blocks of about "
        f"{found['block']} candles: p = {found['p_value']:.3f}."
    )
    return Section("Shuffled markets", [chart(data, layout, label=note)], note=note)


def _sets(space: Space, trials: Sequence[Trial], report: Mapping[str, Any]) -> Section:
    goals = [Objective(name) for name in report["objectives"]]
    wanted = sorted(
        trials, key=lambda each: (each.deals >= report["min_deals"], score(each.figures, goals[0])), reverse=True
    )
    names = [each.name for each in space.dimensions]
    rows = [
        [
            str(each.number),
            *(_number(each.figures[goal.figure]) for goal in goals),
            str(each.deals),
            *(str(each.choice[name]) for name in names),
        ]
        for each in wanted[:_SHOWN]
    ]
    heads = ["Set", *(capitalised(_name(goal)) for goal in goals), "Deals", *names]
    return Section(f"The best {len(rows)} sets", [table(heads, rows, kind="tall")], note="By what the search saw.")


# --- pieces ---------------------------------------------------------------------------------------------------------


def _line(curve: Mapping[str, Sequence[float]], name: str, colour: str) -> dict[str, Any]:
    times = [datetime.fromtimestamp(each, UTC).strftime("%Y-%m-%d %H:%M") for each in curve["times"]]
    line = {"type": "scatter", "mode": "lines", "name": name, "line": {"color": colour}}
    return {**line, "x": times, "y": list(curve["values"])}


def _bars(histogram: Mapping[str, Sequence[float]], label: str, colour: str) -> Html:
    data = [
        {"type": "bar", "x": _middles(histogram["edges"]), "y": list(histogram["counts"]), "marker": {"color": colour}}
    ]
    return chart(data, {"margin": _MARGIN, "xaxis": {"title": {"text": label}}}, height=280, label=label)


def _middles(edges: Any) -> list[float]:
    return [(float(low) + float(high)) / 2 for low, high in pairwise(edges)]


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:,.2f}"
