"""`manage.py paper_exchange`: make the paper exchange misbehave, move its prices and its time, see what reached it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

import requests
from django.conf import settings
from django.core.management.base import CommandError
from rich.table import Table

from algo.management._cli import CliCommand

_TIMEOUT = 30.0  # setting time forward lives through all of it


class Command(CliCommand):
    help = "Control the paper exchange that is running: faults, prices, time, request log. See docs/paper-exchange.md."
    kept = "The exchange was left as it was."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        actions.add_parser("status", help="time, prices and rules in force")
        actions.add_parser("kinds", help="every kind of fault, when it is decided, and its parameters")
        actions.add_parser("faults", help="the fault rules in force, with how often they hit")
        _add_fault_options(actions.add_parser("add-fault", help="put a fault rule in force"))
        gone = actions.add_parser("remove-fault", help="take one rule out of force")
        gone.add_argument("id", type=int)
        actions.add_parser("clear-faults", help="take all rules out of force")
        price = actions.add_parser("price", help="move a price")
        price.add_argument("pair", help="BTC/USDT; prices of toman markets in toman")
        price.add_argument("price")
        actions.add_parser("pause", help="let the exchange's time stand still")
        actions.add_parser("resume", help="let it go on")
        advance = actions.add_parser("advance", help="set the exchange's time forward")
        advance.add_argument("seconds")
        log = actions.add_parser("requests", help="the newest requests that reached the exchange")
        log.add_argument("--last", type=int, default=20)
        log.add_argument("--venue", choices=("wallex", "nobitex"))
        log.add_argument("--account")
        actions.add_parser("switches", help="the habits of both exchanges")
        switch = actions.add_parser("set-switch", help="change a habit: set-switch wallex stops_lock false")
        for name in ("venue", "name", "value"):
            switch.add_argument(name)
        streams = actions.add_parser("disconnect-streams", help="cut all stream connections")
        streams.add_argument("--venue", choices=("wallex", "nobitex"))

    def handle(self, *args: Any, **options: Any) -> None:
        getattr(self, f"_{options['action'].replace('-', '_')}")(options)

    # -- what is -------------------------------------------------------------------------------------------------

    def _status(self, options: dict[str, Any]) -> None:
        clock, prices = _ask("GET", "/clock"), _ask("GET", "/prices")
        rules = _ask("GET", "/faults")["rules"]
        self.stdout.write(_time(clock))
        table = Table("pair", *prices["last"])
        for pair in next(iter(prices["last"].values())):
            table.add_row(pair, *(last.get(pair, "") for last in prices["last"].values()))
        self.show(table)
        self.stdout.write(f"{len(rules)} fault rules in force.")

    def _kinds(self, options: dict[str, Any]) -> None:
        table = Table("kind", "what happens", "decided at", "parameters")
        for kind, spec in _ask("GET", "/faults")["kinds"].items():
            params = "\n".join(f"{name}={param['default']}" for name, param in spec["params"].items())
            moments = "requests" if "POST" in spec["decided_at"] else ", ".join(spec["decided_at"])
            table.add_row(kind, spec["does"], moments, params)
        self.show(table)

    def _faults(self, options: dict[str, Any]) -> None:
        answer = _ask("GET", "/faults")
        if not answer["rules"]:
            self.stdout.write("No fault rules are in force.")
            return
        table = Table("id", "kind", "where", "when", "hits", "parameters")
        for row in answer["rules"]:
            params = ", ".join(f"{name}={value}" for name, value in row["params"].items())
            hits = f"{row['injected']} of {row['matched']}"
            table.add_row(str(row["id"]), row["kind"], _where(row), _when(row), hits, params)
        self.show(table)

    def _requests(self, options: dict[str, Any]) -> None:
        wanted = {name: options[name] for name in ("venue", "account") if options[name]}
        kept = _ask("GET", "/requests", params={**wanted, "newest": str(max(options["last"], 1))})["requests"]
        table = Table("id", "arrived (UTC)", "venue", "request", "account", "status", "ms", "faults")
        for row in kept:
            status = "no answer" if row["status"] is None else str(row["status"])
            faults = ", ".join(map(str, row["faults"]))
            request = f"{row['method']} {row['path']}"
            time = row["arrived_at"][11:23]
            table.add_row(
                str(row["id"]), time, row["venue"], request, row["account"] or "", status, f"{row['duration_ms']:.1f}",
                faults,
            )  # fmt: skip
        self.show(table)

    def _switches(self, options: dict[str, Any]) -> None:
        table = Table("venue", "switch", "value", "contract", "meaning")
        for venue, rows in _ask("GET", "/switches").items():
            for name, row in rows.items():
                table.add_row(venue, name, str(row["value"]), row["contract"], row["meaning"])
        self.show(table)

    # -- what is changed -----------------------------------------------------------------------------------------

    def _add_fault(self, options: dict[str, Any]) -> None:
        names = ("kind", "venue", "method", "path", "account", "nth", "probability", "seed", "times")
        rule = {name: options[name] for name in names if options[name] is not None}
        row = _ask("POST", "/faults", json={**rule, "params": _params(options["params"])})
        self.stdout.write(f"Rule {row['id']} is in force: {row['kind']} at {_where(row)}, {_when(row)}.")

    def _remove_fault(self, options: dict[str, Any]) -> None:
        _ask("DELETE", f"/faults/{options['id']}")
        self.stdout.write(f"Rule {options['id']} is gone.")

    def _clear_faults(self, options: dict[str, Any]) -> None:
        self.stdout.write(f"{_ask('DELETE', '/faults')['removed']} rules are gone: no faults any more.")

    def _price(self, options: dict[str, Any]) -> None:
        moved = _ask("POST", "/prices", json={"pair": options["pair"], "price": options["price"]})
        self.stdout.write(f"{moved['pair']} goes to {moved['price']} with the next second, on both exchanges.")

    def _pause(self, options: dict[str, Any]) -> None:
        self.stdout.write(_time(_ask("POST", "/clock", json={"pause": True})))

    def _resume(self, options: dict[str, Any]) -> None:
        self.stdout.write(_time(_ask("POST", "/clock", json={"pause": False})))

    def _advance(self, options: dict[str, Any]) -> None:
        self.stdout.write(_time(_ask("POST", "/clock", json={"advance_seconds": options["seconds"]})))

    def _set_switch(self, options: dict[str, Any]) -> None:
        asked = {"venue": options["venue"], "name": options["name"], "value": _value(options["value"])}
        row = _ask("POST", "/switches", json=asked)
        self.stdout.write(f"{row['venue']}: {row['name']} is {row['value']} until the exchange is restarted.")

    def _disconnect_streams(self, options: dict[str, Any]) -> None:
        asked = {"venue": options["venue"]} if options["venue"] else {}
        self.stdout.write(f"{_ask('POST', '/streams/disconnect', json=asked)['disconnected']} connections were cut.")


def _add_fault_options(parser: ArgumentParser) -> None:
    parser.add_argument("kind", help="see: paper_exchange kinds")
    parser.add_argument("params", nargs="*", metavar="NAME=VALUE", help="parameters of the kind: seconds=3 when=after")
    parser.add_argument("--venue", choices=("wallex", "nobitex"))
    parser.add_argument("--method", help="GET, POST, DELETE; leave out for kinds decided inside the exchange")
    parser.add_argument("--path", help="a glob: '/v1/account/orders*', or 'BTC/USDT/SELL/STOP_*' inside the exchange")
    parser.add_argument("--account", help="only this trader")
    parser.add_argument("--nth", type=int, help="only the n-th match")
    parser.add_argument("--probability", type=float, help="each match with this probability, by the seed")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--times", type=int, help="at most so often")


def _ask(method: str, path: str, **more: Any) -> Any:
    """The control API's answer. Raises CommandError, which says what to do."""
    if not settings.PAPER_CONTROL_URL or not settings.PAPER_CONTROL_TOKEN:
        raise CommandError(
            "No paper exchange is known here: PAPER_CONTROL_URL and PAPER_CONTROL_TOKEN are not set. Start the "
            "platform with ./run, or set both as the paper exchange was started."
        )
    url, headers = f"{settings.PAPER_CONTROL_URL}/paper{path}", {"x-paper-control": settings.PAPER_CONTROL_TOKEN}
    try:
        response = requests.request(method, url, headers=headers, timeout=_TIMEOUT, **more)
        body = response.json()
    except requests.ConnectionError:
        raise CommandError(
            f"The paper exchange does not answer at {settings.PAPER_CONTROL_URL}. Nothing was changed. Is it running?"
        ) from None
    except requests.RequestException as exc:
        raise CommandError(
            f"The paper exchange gave no usable answer ({type(exc).__name__}). Look with 'paper_exchange status' "
            "whether it did what was asked."
        ) from None
    if response.status_code != 200:
        said = body.get("error", "no reason") if isinstance(body, dict) else "no reason"
        raise CommandError(f"The paper exchange refused: {said}. Nothing was changed.")
    return body


def _params(words: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in words]
    if wrong := next(
        (word for word, (name, equals, _) in zip(words, pairs, strict=True) if not (name and equals)), None
    ):
        raise CommandError(f"{wrong!r} is no parameter. Write NAME=VALUE, for example seconds=3.")
    return {name: value for name, _, value in pairs}


def _value(text: str) -> Any:
    """A switch's value as JSON has it."""
    named = {"true": True, "false": False, "null": None, "none": None}
    if text.lower() in named:
        return named[text.lower()]
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _time(clock: dict[str, Any]) -> str:
    stands = "stands at" if clock["paused"] else "is"
    return (
        f"The exchange's time {stands} {clock['now'][:19]} UTC, {clock['offset_seconds']:+.0f} s from the platform's."
    )


def _where(row: dict[str, Any]) -> str:
    parts = [row["venue"], row["method"], row["path"]]
    where = " ".join(part for part in parts if part != "*") or "everywhere"
    return f"{where} of {row['account']}" if row["account"] else where


def _when(row: dict[str, Any]) -> str:
    often = "" if row["times"] is None else f", at most {row['times']} times"
    if row["nth"] is not None:
        return f"from the {row['nth']}. match on{often}"
    if row["probability"] is not None:
        return f"with probability {row['probability']:g} (seed {row['seed']}){often}"
    return f"at every match{often}"
