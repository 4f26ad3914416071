"""What somebody must look at now, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.translation import gettext as _

from algo.localised import isolated, unit
from algo.models import Halt, KillSwitch, Provider, StrategyConfig
from algo.selectors.health import STREAM, Life
from algo.selectors.home import Glance
from algo.selectors.today import Today
from providers.types import Resolution

LATE = timedelta(minutes=1)  # a candle that should have closed may take so long to be fetched


@dataclass(frozen=True, slots=True)
class Alarm:
    """`model` names the kind of row to look at, `pk` the row, None for all of them."""

    text: str
    model: str
    pk: int | None = None


def alarms(
    state: Glance, made: Iterable[Today], running: Iterable[StrategyConfig], halts: Iterable[Halt], now: datetime
) -> list[Alarm]:
    """Most urgent first. Asks nothing of the database: `state`, `made`, `running` and the switches of accounts,
    strategies and markets that stand (`halts`) are what was read of it."""
    return [
        *_of_money(state),
        *(
            Alarm(
                _("The kill switch of %(name)s stands: %(level)s.")
                % {"name": isolated(halt.target), "level": halt.get_level_display()},
                "systemcontrol",
            )
            for halt in halts
        ),
        *_of_processes(state),
        *(
            Alarm(
                _("%(exchange)s does not answer %(processes)s.")
                % {"exchange": Provider(each.name).label, "processes": isolated(", ".join(each.open_at))},
                "heartbeat",
            )
            for each in state.exchanges
            if each.is_away
        ),
        *(
            Alarm(
                _("%(account)s has reached its daily loss limit in %(quote)s: no entries until tomorrow.")
                % {"account": isolated(row.account), "quote": unit(row.quote)},
                "account",
            )
            for row in made
            if row.is_reached
        ),
        *(_of_candles(config) for config in running if candle_is_late(config, now)),
    ]


def _of_money(state: Glance) -> Iterator[Alarm]:
    if state.unprotected_deals:
        yield Alarm(_("A deal is unprotected right now: something of it is under no stop."), "deal")
    if state.accounts.stopped:
        yield Alarm(_("An account is stopped: its exchange refused the key."), "account")
    if state.accounts.keys_ending:
        yield Alarm(_("A key expires within 14 days: make a new one in time."), "account")
    if state.open_tickets:
        yield Alarm(_("A ticket is open: its market takes no entries until it is answered."), "ticket")
    if state.kill_switch != KillSwitch.OFF.label:
        yield Alarm(_("The kill switch stands: %(level)s.") % {"level": state.kill_switch}, "systemcontrol")


def _of_processes(state: Glance) -> Iterator[Alarm]:
    for process in state.processes:
        if process.name.startswith(STREAM):
            continue  # without a stream, prices come by REST
        if process.life is Life.NEVER:
            yield Alarm(_("%(process)s has never reported.") % {"process": isolated(process.name)}, "heartbeat")
        elif process.life is Life.SILENT:
            yield Alarm(_("%(process)s has fallen silent.") % {"process": isolated(process.name)}, "heartbeat")


def _of_candles(config: StrategyConfig) -> Alarm:
    named: dict[str, Any] = {"strategy": isolated(config.name), "market": isolated(config.data_market)}
    text = _("%(strategy)s runs and gets no candles of %(market)s: it decides nothing.") % named
    return Alarm(text, "strategyconfig", config.pk)


def candle_age(config: StrategyConfig, now: datetime) -> timedelta:
    """Since the last candle that it decided on closed; zero where it has decided on none."""
    if config.last_bar_at is None:
        return timedelta()
    return max(now - (config.last_bar_at + Resolution(config.resolution).duration), timedelta())


def candle_is_late(config: StrategyConfig, now: datetime) -> bool:
    """Whether a whole further candle should have closed since, and the time to fetch it has passed."""
    return candle_age(config, now) > Resolution(config.resolution).duration + LATE
