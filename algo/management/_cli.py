"""What the commands of this folder share: sentences instead of tracebacks, times, progress, tables."""

from __future__ import annotations

import argparse
import io
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, OutputWrapper
from django.db import OperationalError, ProgrammingError
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from algo import exchanges
from algo.live.join import join_other_processes
from algo.models import Market, Provider
from algo.models.fields import SecretUnreadable
from algo.selectors.candles import Gap
from algo.selectors.markets import UnknownSymbol, market_get
from algo.sentences import capitalised, sentence
from algo.services.candle_checks import UnitJump
from algo.services.markets import markets_refresh
from algo.strategies import InvalidParameters, UnknownStrategy
from providers.errors import AuthFailed, BadPayload, ProviderError, RateLimited, Unavailable
from providers.recorded import RecordedDataError
from providers.types import Resolution

NOTHING_STORED = "Nothing was stored."
DOWNLOADS_KEPT = "Candles downloaded so far are kept."
LONGEST_DAYS = 3650
DEFAULT_DAYS = 30
GAPS_SHOWN = 10
_OUR_SENTENCES = (UnknownSymbol, UnknownStrategy, InvalidParameters, RecordedDataError, SecretUnreadable)


class CliCommand(BaseCommand):
    """A command whose every foreseeable failure is one sentence on stderr and exit code 1."""

    requires_system_checks: list[str] = []
    kept = NOTHING_STORED

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        if getattr(self, "_called_from_command_line", False):
            hint = f"See: python manage.py {subcommand} --help"

            def refuse(message: str) -> None:
                parser.exit(1, f"{capitalised(message)}. {hint}\n")

            parser.error = refuse  # type: ignore[method-assign] # argparse would exit with 2
        return parser

    def execute(self, *args: Any, **options: Any) -> Any:
        with sentences(self.kept), quiet_wire(options.get("verbosity", 1)):
            join_other_processes()
            return super().execute(*args, **options)

    def show(self, *what: RenderableType) -> None:
        """Print tables and text to stdout, in colour where that is a terminal."""
        self.stdout.write(rendered(*what, colour=self.stdout.isatty()), ending="")


@contextmanager
def quiet_wire(verbosity: int) -> Iterator[None]:
    """Leave the failed calls out of a terminal, where one sentence will tell; `--verbosity 2` shows them."""
    wire = logging.getLogger("providers")
    before = wire.level
    wire.setLevel(logging.ERROR if verbosity < 2 else before)
    try:
        yield
    finally:
        wire.setLevel(before)


@contextmanager
def sentences(kept: str = NOTHING_STORED) -> Iterator[None]:
    """Turn what may go wrong outside of our code into a CommandError that says what to do; `kept` says what is safe."""
    try:
        yield
    except _OUR_SENTENCES as exc:
        raise CommandError(sentence(str(exc))) from exc
    except ProviderError as exc:
        raise CommandError(exchange_failed(exc, kept)) from exc
    except OperationalError as exc:
        raise CommandError(
            f"The database cannot be reached: {str(exc).strip().splitlines()[0]}. Nothing was changed. Start the "
            "platform with ./run, or point DATABASE_URL at a PostgreSQL server that is up."
        ) from exc
    except ProgrammingError as exc:
        if type(exc.__cause__).__name__ != "UndefinedTable":
            raise
        raise CommandError("The database has no tables yet. Make them with: python manage.py migrate") from exc
    except KeyboardInterrupt:
        raise CommandError(f"Stopped. {kept} Run it again to continue.", returncode=130) from None


_ADVICE: Mapping[type[ProviderError], str] = {
    UnitJump: "Find out which of the two is in the wrong unit. If the market itself was redenominated, repeat with "
    "fetch_ohlcv or import_ohlcv and --accept-unit-jump.",
    AuthFailed: "Make a new key at the exchange, or copy it again, and repeat the command.",
    RateLimited: "Wait a few minutes and run it again.",
    BadPayload: "Check the address of the exchange{address}, and try again later.",
    Unavailable: "Check the network and the address of the exchange{address}, and run it again.",
    ProviderError: "Look at the account at the exchange before you try again.",
}
_TECHNICAL = re.compile(r": \w*(?:Error|Exception|Timeout)\b.*", re.DOTALL)


def exchange_failed(exc: ProviderError, kept: str) -> str:
    """What the exchange did not do, what is safe, and what to do. The cause's technical end stays in the log."""
    said = sentence(_TECHNICAL.sub("", str(exc)))
    advice = next(text for kind, text in _ADVICE.items() if isinstance(exc, kind))
    provider = str(exc).partition(" ")[0]
    address = f" ({provider.upper()}_BASE_URL is {exchanges.base_url(provider)})" if provider in Provider.values else ""
    return f"{said} {kept} {advice.format(address=address)}"


# --- options --------------------------------------------------------------------------------------------------------


def add_market_options(parser: argparse.ArgumentParser, *, symbol_required: bool) -> None:
    names = Provider.values
    parser.add_argument("--provider", default=None, choices=names, help="Exchange (default: nobitex).")
    parser.add_argument("--symbol", required=symbol_required, help="As the exchange spells it: BTCUSDT, BTCIRT.")
    lengths = ", ".join(Resolution)
    parser.add_argument("--resolution", default=None, help=f"Length of a candle (default 1): {lengths}.")


def add_unit_jump_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept-unit-jump",
        action="store_true",
        help="Store candles whose prices change by a factor near 10 for good: for a market that was redenominated.",
    )


def add_period_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--days", help=f"Length of the period in days (default {DEFAULT_DAYS}).")
    parser.add_argument("--from", dest="start", help="Start, UTC: 2026-10-01 or 2026-10-01T06:30.")
    parser.add_argument("--to", dest="end", help="End, UTC, not included; default: now.")


def to_resolution(text: str | None) -> Resolution:
    try:
        return Resolution((text or Resolution.M1).upper())
    except ValueError:
        raise CommandError(
            f"There is no resolution {text!r}. Choose minutes or days out of: {', '.join(Resolution)}."
        ) from None


@dataclass(frozen=True, slots=True)
class Period:
    start: datetime
    end: datetime


def to_period(options: Mapping[str, Any], now: datetime) -> Period:
    """The period of --days, --from and --to. Raises CommandError for one that cannot be."""
    days, start, end = _to_days(options["days"]), to_moment(options["start"]), to_moment(options["end"])
    if days and start and end:
        raise CommandError("--days, --from and --to do not go together: give at most two of them.")
    length = timedelta(days=days or DEFAULT_DAYS)
    if end is None:
        end = min(start + length, now) if start and days else now
    start = start or end - length
    if end > now:
        raise CommandError(f"--to {end:%Y-%m-%d %H:%M} lies in the future. Leave it out to go up to now.")
    if start >= end:
        raise CommandError(f"The period begins ({start:%Y-%m-%d %H:%M}) after its end ({end:%Y-%m-%d %H:%M}).")
    return Period(start, end)


def to_moment(text: str | None) -> datetime | None:
    """A date or time in ISO form as aware UTC; one without an offset is UTC."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CommandError(f"{text!r} is no date. Write it like 2026-10-01 or 2026-10-01T06:30 (UTC).") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _to_days(text: str | int | None) -> int | None:
    if text is None:
        return None
    days = int(text) if str(text).isdecimal() else 0
    if not 1 <= days <= LONGEST_DAYS:
        raise CommandError(f"--days must be a whole number from 1 to {LONGEST_DAYS}; it is {text!r}.")
    return days


def known_market(provider: str, symbol: str) -> Market:
    """The market of that symbol; the exchange is asked for its markets where it is not known yet."""
    try:
        return market_get(provider, symbol)
    except UnknownSymbol as unknown:
        try:
            markets_refresh(exchanges.public_provider(provider), now=exchanges.CLOCK.now())
        except ProviderError:
            if Market.objects.filter(provider=provider).exists():
                raise unknown from None
            raise
        return market_get(provider, symbol)


def parent_folder_exists(path: str | None) -> None:
    """Refuse a file to be written before any work was done for it."""
    if path and not Path(path).resolve().parent.is_dir():
        raise CommandError(f"{path} cannot be written: its folder does not exist. Make it, or choose another one.")


# --- output ---------------------------------------------------------------------------------------------------------


def rendered(*what: RenderableType, colour: bool = False) -> str:
    sink = io.StringIO()
    console = Console(file=sink, force_terminal=colour, width=None if colour else 100, highlight=False)
    for each in what:
        console.print(each)
    return sink.getvalue()


@contextmanager
def progress_bar(stderr: OutputWrapper, text: str) -> Iterator[Callable[[float, float], None]]:
    """A bar on stderr while work runs, where that is a terminal; stdout stays clean for `--json`."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    bar = Progress(*columns, TimeRemainingColumn(), console=Console(file=sys.stderr), disable=not stderr.isatty())
    with bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def download_progress(stderr: OutputWrapper, text: str) -> Iterator[Callable[[timedelta, timedelta], None]]:
    with progress_bar(stderr, text) as update:
        yield lambda done, total: update(done.total_seconds(), total.total_seconds())


@contextmanager
def row_progress(stderr: OutputWrapper, text: str) -> Iterator[Callable[[int, int], None]]:
    with progress_bar(stderr, text) as update:
        yield update


def say_gaps(stdout: OutputWrapper, gaps: Sequence[Gap], whose: str) -> None:
    """The longest gaps, as lines; `whose` says why they remain."""
    if not gaps:
        stdout.write("No gaps.")
        return
    stdout.write(f"{sum(gap.bars for gap in gaps)} candles are missing in {len(gaps)} gaps: {whose}.")
    for gap in sorted(gaps, key=lambda gap: -gap.bars)[:GAPS_SHOWN]:
        stdout.write(f"  {gap.start:%Y-%m-%d %H:%M} to {gap.end:%Y-%m-%d %H:%M}  {gap.bars}")
    if len(gaps) > GAPS_SHOWN:
        stdout.write(f"  and {len(gaps) - GAPS_SHOWN} shorter ones")
