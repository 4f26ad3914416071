"""What the figures of a search are worth, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

CONFIDENCE = 0.95
FEW_DEALS = 30
FEWEST_WORLDS = 19  # shuffled markets; with fewer even none that reaches the real one leaves luck above 5 %
FEW_DAYS = 20
KEPT = 0.5  # of its train Sharpe ratio; a set that shows less on unseen candles did not hold


class Verdict(StrEnum):
    NOTHING = "nothing"  # no set had enough deals
    LUCK = "luck"
    DOUBTFUL = "doubtful"  # beyond luck in training, not confirmed by unseen candles
    HOLDS = "holds"


@dataclass(frozen=True, slots=True)
class Judgement:
    verdict: Verdict
    sentence: str
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {"verdict": str(self.verdict), "sentence": self.sentence, "warnings": list(self.warnings)}


def judged(evidence: Mapping[str, Any], *, sets: int, min_deals: int) -> Judgement:
    """Of what was found out: `train`, `test` (figures or None), `deflated`, `bootstrap`, `walk_forward`, `border`."""
    if evidence.get("train") is None:
        return Judgement(
            Verdict.NOTHING,
            f"None of the {sets} sets made {min_deals} deals, so there is nothing to judge. Take a longer period or a "
            "wider space, or ask for fewer with --min-deals.",
            (),
        )
    doubts = _luck(evidence)
    warnings = _warnings(evidence)
    if doubts:
        text = f"The best of {sets} sets is not distinguishable from luck: {'; '.join(doubts)}. Do not trade it."
        return Judgement(Verdict.LUCK, text, warnings)
    beyond = f"The best of {sets} sets is more than luck explains: {'; '.join(_proofs(evidence))}"
    if unconfirmed := _unconfirmed(evidence):
        return Judgement(Verdict.DOUBTFUL, f"{beyond}. But {'; '.join(unconfirmed)}. Do not trade it yet.", warnings)
    return Judgement(Verdict.HOLDS, f"{beyond}; {_held(evidence)}. Try it on paper before any money.", warnings)


def _luck(evidence: Mapping[str, Any]) -> list[str]:
    """Why chance alone may have made it."""
    found = []
    deflated, bootstrap = evidence.get("deflated"), evidence.get("bootstrap")
    if deflated is None:
        found.append("its daily returns are too few, or too much alike, for a Sharpe ratio")
    elif deflated["probability"] < CONFIDENCE:
        found.append(
            f"with so many trials the probability of any skill is {_percent(deflated['probability'])} (deflated Sharpe "
            f"ratio; {_percent(CONFIDENCE)} is asked for)"
        )
    if bootstrap and bootstrap["p_value"] > 1 - CONFIDENCE and (reached := _reached(bootstrap)):
        found.append(
            f"in {reached} of {len(bootstrap['worlds'])} shuffled markets the best of {bootstrap['sets']} sets did as "
            "well as on the real one"
        )
    if (evidence["train"]["net_profit"] or 0) <= 0:
        found.append("it loses money on the very candles it was chosen on")
    return found


def _proofs(evidence: Mapping[str, Any]) -> list[str]:
    found = [f"the probability of skill is {_percent(evidence['deflated']['probability'])} after all trials"]
    if bootstrap := evidence.get("bootstrap"):
        found.append(
            f"{_reached(bootstrap)} of {len(bootstrap['worlds'])} shuffled markets reach the real one "
            f"(p = {bootstrap['p_value']:.3f})"
        )
    return found


def _unconfirmed(evidence: Mapping[str, Any]) -> list[str]:
    """Why unseen candles do not bear it out."""
    found = []
    train, test, walk = evidence["train"], evidence.get("test"), evidence.get("walk_forward")
    bootstrap = evidence.get("bootstrap")
    if not bootstrap:  # a Sharpe ratio knows nothing of drift: in a rising market whoever buys has skill
        found.append("no shuffled markets were searched, and a market that merely rises explains as much")
    elif (few := len(bootstrap["worlds"])) < FEWEST_WORLDS:
        found.append(f"{few} shuffled markets are too few to tell luck apart; take {FEWEST_WORLDS} at least")
    if test is None:
        found.append("no candles were kept unseen to confirm it")
    elif not test["deals"]:
        found.append("it made no deal on unseen candles")
    elif test["net_profit"] <= 0:
        found.append("it loses money on unseen candles")
    elif (test["sharpe"] or 0) < KEPT * (train["sharpe"] or 0):
        found.append(
            f"on unseen candles its Sharpe ratio falls from {_number(train['sharpe'])} to {_number(test['sharpe'])}"
        )
    if walk and walk["net_profit_percent"] <= 0:
        found.append(f"searching and trading in {len(walk['folds'])} steps would have lost money")
    return found


def _reached(bootstrap: Mapping[str, Any]) -> int:
    """Shuffled markets on which the best set did as well as on the real one."""
    return sum(each >= bootstrap["best"] for each in bootstrap["worlds"])


def _held(evidence: Mapping[str, Any]) -> str:
    test = evidence["test"]
    return f"on unseen candles it earned {test['net_profit_percent']:.2f} % in {test['deals']} deals"


def _warnings(evidence: Mapping[str, Any]) -> tuple[str, ...]:
    """What to know beside the sentence."""
    train, test, found = evidence["train"], evidence.get("test"), []
    if test is None:
        found.append("no candles were kept unseen: there is no test of the result")
    elif test["deals"] and (test["sharpe"] or 0) < KEPT * (train["sharpe"] or 0):
        found.append(
            f"much worse on unseen candles than in training: Sharpe {_number(test['sharpe'])} against "
            f"{_number(train['sharpe'])}, profit {test['net_profit_percent']:.2f} % against "
            f"{train['net_profit_percent']:.2f} %"
        )
    for name, figures in (("training", train), ("the test", test)):
        if figures is not None and figures["deals"] < FEW_DEALS:
            found.append(f"few deals: {int(figures['deals'])} in {name}; below {FEW_DEALS} every figure is a guess")
    deflated = evidence.get("deflated")
    if deflated and (days := deflated["shape"]["count"]) < FEW_DAYS:
        found.append(f"few days: {days} daily returns in training; below {FEW_DAYS} a Sharpe ratio is a guess")
    if border := evidence.get("border"):
        found.append(f"the best lies on the border of the space in {', '.join(border)}: better ones may lie beyond it")
    walk = evidence.get("walk_forward")
    if walk and walk["efficiency"] is not None and walk["efficiency"] < KEPT:
        found.append(
            f"walk-forward keeps {_percent(walk['efficiency'])} of what training promised; below 50 % is fragile"
        )
    return tuple(found)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
