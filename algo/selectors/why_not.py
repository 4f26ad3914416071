"""Why a strategy did not trade: each decision as a code, a sentence and its numbers, and how often each came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, QuerySet
from django.utils.translation import gettext

from algo.localised import listed
from algo.models import Decision, Outcome, Signal, StrategyConfig

COUNTED = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class Why:
    """`code` is the outcome, or the risk gate's code where it denied; `numbers` are the indicators that were known."""

    code: str
    sentence: str
    numbers: dict[str, str]


def decision_why(decision: Decision) -> Why:
    outcome, journal = Outcome(decision.outcome), decision.journal
    denial = journal.get("denial") or {}
    code = denial.get("code", outcome.value) if outcome is Outcome.DENIED else outcome.value
    known = (journal.get("indicators") or {}).items()
    return Why(code, _sentence(outcome, journal), {name: _number(value) for name, value in known if value is not None})


def signal_decision(signal: Signal) -> Decision | None:
    """The journal's row of the candle that `signal` was given on; None where there is none."""
    rows = Decision.objects.filter(config=signal.config_id, bar_open_at=signal.bar_open_at)
    return rows.select_related("config").first()


@dataclass(frozen=True, slots=True)
class WhyCount:
    code: str
    outcome: str
    count: int


def why_counts(configs: QuerySet[StrategyConfig], now: datetime) -> list[WhyCount]:
    """How often each answer came for candles of the last 24 hours, the most frequent first. One query, by the index of
    decisions on strategy and candle."""
    rows = Decision.objects.filter(
        config__in=configs.values("pk"), bar_open_at__gte=now - COUNTED, bar_open_at__lte=now
    )
    counted = rows.values("outcome", "journal__denial__code").annotate(count=Count("id")).order_by("-count", "outcome")
    return [
        WhyCount(row["journal__denial__code"] or row["outcome"], Outcome(row["outcome"]).label, row["count"])
        for row in counted
    ]


def _sentence(outcome: Outcome, journal: Mapping[str, Any]) -> str:
    match outcome:
        case Outcome.DENIED:
            return str((journal.get("denial") or {}).get("message") or gettext("The risk gate denied the signal."))
        case Outcome.STALE_DATA:
            newest = journal.get("newest_candle")
            return (
                gettext("The newest candle is that of %(newest)s.") % {"newest": newest}
                if newest
                else gettext("There is no candle at all.")
            )
        case Outcome.SHORT_HISTORY:
            return gettext("%(there)s candles are there, %(needed)s are needed.") % {
                "there": journal.get("candles", "?"),
                "needed": journal.get("needed", "?"),
            }
        case Outcome.ERROR:
            return str(journal.get("error") or gettext("The strategy failed; see the log."))
        case Outcome.NO_SIGNAL:
            return _nearest(journal.get("conditions") or {})
        case _:
            return f"{outcome.label}."


def _nearest(conditions: Mapping[str, Mapping[str, bool]]) -> str:
    """The rule that lacked least, and what it lacked."""
    rules = {name: answers for name, answers in conditions.items() if answers and name != "order_book"}
    if not rules:
        return gettext("No rule of the strategy spoke.")
    lacking = {name: [each for each, holds in answers.items() if not holds] for name, answers in rules.items()}
    name = min(lacking, key=lambda each: len(lacking[each]))
    if not lacking[name]:
        return gettext("%(rule)s held, and the other side or the order book spoke against it.") % {
            "rule": _spoken(name)
        }
    return gettext("Nearest was %(rule)s: it lacked %(lacking)s.") % {
        "rule": _spoken(name),
        "lacking": listed(map(_spoken, lacking[name])),
    }


def _spoken(name: str) -> str:
    return gettext(name.replace("_", " "))


def _number(value: Any) -> str:
    """Six digits are plenty to read, and never as 4.6e+08."""
    return f"{Decimal(f'{value:.6g}'):f}" if isinstance(value, float) else str(value)
