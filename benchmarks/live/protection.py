"""From a fill that can be seen at the exchange to a stop that the exchange has taken: by polling, and with a private
stream.

Entries are planned one after the other over several accounts and markets; from there on everything is the platform's
own: the hint, the worker, the guardian, the exchange. Half of them are filled as they arrive, the other half later,
between a tenth of a second and a second after the exchange took them (a fault of the paper exchange), as where a market
is busy: only of these a stream can tell. The pace keeps to the call budgets, in which an entry and its stop are two
orders. Every round begins on a fresh exchange, with a fresh database. Wallex has no private stream (its contract).

A wait begins with the first fill of an entry, by the exchange's ledger, and ends when the exchange had answered the
request of its stop, or of the OCO that holds it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime

from algo.models import Deal, Order, Role, StrategyConfig
from benchmarks.live import trading, world
from benchmarks.live.floors import HTTP, Floors
from benchmarks.live.measure import Figure, Options
from benchmarks.live.platform import Platform, wait_for
from launcher.supervisor import Service
from providers.types import Side

NAME = "protection"
BY_POLLING, BY_STREAM = 2.0, 0.5
ENTRIES = 21  # of a round, at each exchange
ACCOUNTS = 3
PACE = {"wallex": 5.0, "nobitex": 2.5}  # seconds between two entries: what the workers' share of the limits allows
LATE = (0.1, 1.0)  # seconds after it was taken, when every second entry is filled
GIVES_UP = 60.0  # seconds after the last entry


def run(platform: Platform, floors: Floors, options: Options) -> list[Figure]:
    polled = _rounds(platform, options, ("wallex", "nobitex"), streams=())
    told = _rounds(platform, options, ("nobitex",), streams=("nobitex",))
    words = "fill to accepted stop"
    return [
        *_figures("protection.polling.wallex", f"{words}, Wallex, by polling", polled, "wallex", BY_POLLING),
        *_figures("protection.polling.nobitex", f"{words} (OCO), Nobitex, by polling", polled, "nobitex", BY_POLLING),
        *_figures("protection.stream.nobitex", f"{words} (OCO), Nobitex, private stream", told, "nobitex", BY_STREAM),
    ]


Round = Mapping[str, Sequence[tuple[float, bool]]]  # by exchange: the wait, and whether the fill came late


def _figures(name: str, what: str, rounds: Sequence[Round], provider: str, target: float) -> list[Figure]:
    waits = [[wait for wait, _ in one[provider]] for one in rounds]
    late = sorted(wait for one in rounds for wait, is_late in one[provider] if is_late)
    at_once = sorted(wait for one in rounds for wait, is_late in one[provider] if not is_late)
    detail = {
        "filled_at_once_p50": at_once[len(at_once) // 2],
        "filled_late_p50": late[len(late) // 2],
        "filled_at_once_longest": at_once[-1],
        "filled_late_longest": late[-1],
    }
    return trading.figures(name, what, waits, target=target, floor=HTTP, detail=detail)


def _rounds(
    platform: Platform, options: Options, providers: Sequence[str], *, streams: Sequence[str]
) -> list[dict[str, list[tuple[float, bool]]]]:
    found = []
    for _ in range(options.rounds):
        platform.fresh()
        found.append(_round(platform, options.size(ENTRIES, 4), providers, streams))
    return found


def _round(
    platform: Platform, count: int, providers: Sequence[str], streams: Sequence[str]
) -> dict[str, list[tuple[float, bool]]]:
    pairs = world.markets()[:count]
    configs = {
        name: trading.take_signals(trading.traders(platform, name, pairs, accounts=ACCOUNTS), stop_loss_percent="5")
        for name in providers
    }
    with platform.processes(*trading.processes(platform, streams=streams)) as services:
        _wait_until_listening(services, configs, streams)
        late = _enter_all(platform, configs)
        wait_for("stops", lambda: _all_protected(sum(map(len, configs.values()))), seconds=GIVES_UP, every=0.1)
    times = trading.answered(platform)
    return {
        name: [(_wait(platform, each, times), each.pk in late) for each in of_exchange]
        for name, of_exchange in configs.items()
    }


def _wait_until_listening(
    services: Sequence[Service], configs: Mapping[str, Sequence[StrategyConfig]], streams: Sequence[str]
) -> None:
    """Until every account has its private stream: they are opened before there is anything to tell."""
    for name in streams:
        log = next(each for each in services if each.name == f"stream_{name}").log
        accounts = {each.account.name for each in configs[name]}
        wait_for(
            f"private streams of {name}",
            lambda log=log, accounts=accounts: all(
                f"account={each} up=True" in log.read_text(errors="replace") for each in accounts
            ),
            seconds=30,
            every=0.2,
        )
    time.sleep(3)  # the first passes of a guardian read everything


def _enter_all(platform: Platform, configs: Mapping[str, Sequence[StrategyConfig]]) -> set[int]:
    """Enter with each at the pace of its exchange; the ids of those whose fill comes late."""
    due = sorted(
        (number * PACE[name], number, name, config)
        for name, of_exchange in configs.items()
        for number, config in enumerate(of_exchange)
    )
    began, late = time.monotonic(), set()
    for at, number, name, config in due:
        time.sleep(max(began + at - time.monotonic(), 0.0))
        if number % 2:
            late.add(config.pk)
            _delay_fill(platform, name, config, number)
        trading.enter(config, Side.SELL if number % 4 > 1 else Side.BUY)
    return late


def late_by(number: int) -> float:
    """Seconds; of a row of numbers they are spread evenly."""
    return round(LATE[0] + number * 0.618 % 1 * (LATE[1] - LATE[0]), 3)


def _delay_fill(platform: Platform, provider: str, config: StrategyConfig, number: int) -> None:
    """The next MARKET order there meets the market only a while after it was taken."""
    rule = {
        "kind": "accept_delayed",
        "venue": provider,
        "account": config.account.name,
        "path": f"{config.market.pair}/*/MARKET",
        "nth": 1,
        "params": {"seconds": late_by(number)},
    }
    platform.control("POST", "/faults", json=rule)


def _all_protected(count: int) -> bool:
    return Deal.objects.exclude(protected_at=None).count() == count


def _wait(platform: Platform, config: StrategyConfig, times: Mapping[str, datetime]) -> float:
    """Seconds from the first fill of the entry to its stop."""
    deal = Deal.objects.get(config=config)
    orders = deal.orders.select_related("pair").order_by("pk")
    entry, stop = orders.filter(role=Role.ENTRY)[0], orders.filter(role=Role.STOP)[0]
    filled, taken = _first_fill(platform, config, entry), trading.accepted(stop, times)
    if taken is None:
        raise RuntimeError(f"the exchange took no stop of {deal}")
    return (taken - filled).total_seconds()


def _first_fill(platform: Platform, config: StrategyConfig, entry: Order) -> datetime:
    """By the exchange's own ledger."""
    told = platform.control("GET", f"/accounts/{config.account.name}")["venues"][config.account.provider]
    number = next(each["id"] for each in told["orders"] if each["client_order_id"] == entry.client_order_id)
    return min(datetime.fromisoformat(each["executed_at"]) for each in told["trades"] if each["order_id"] == number)
