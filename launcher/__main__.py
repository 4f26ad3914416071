"""`./run`: the whole platform in one command."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from launcher import bootstrap
from launcher.check import DemoWatch
from launcher.console import LauncherError, say
from launcher.plan import Mode, Plan, addresses, make_plan, only_one_session, remember_seed
from launcher.processes import write_private
from launcher.replay import Recording, read_recording
from launcher.session import SESSION_FILE, format_env
from launcher.supervisor import Service, Supervisor

DEFAULT_SPEED = 60.0
HIGHEST_SPEED = 3600.0
DESCRIPTION = "Start the platform: database, broker, exchange, web, workers, guardian, Flower. Ctrl-C stops all of it."
EPILOG = """\
Without options everything runs on a simulated exchange with simulated money. Variables that are read from the
environment or from .env: DATABASE_URL and REDIS_URL use those servers instead of our own; WALLEX_BASE_URL and
NOBITEX_BASE_URL (both) trade there instead of on paper; UV_DEFAULT_INDEX or PIP_INDEX_URL is where packages come from.
"""


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments; wrong ones end with a usage text and exit code 2."""
    parser = argparse.ArgumentParser("./run", description=DESCRIPTION, epilog=EPILOG, allow_abbrev=False)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--setup-only", action="store_true", help="make .venv and stop")
    what.add_argument(
        "--check", action="store_true", help="prove a protected, closed deal; print one JSON object; stop"
    )
    what.add_argument("--live-data", action="store_true", help="prices of the real exchanges, trades on paper")
    what.add_argument("--replay", metavar="FILE", type=Path, help="play recorded candles (CSV, gzip allowed)")
    parser.add_argument("--speed", metavar="N", type=float, help="of a replay: N times real time (default 60)")
    options = parser.parse_args(argv)
    if options.speed is not None and options.replay is None:
        parser.error("--speed belongs to --replay FILE")
    if options.speed is not None and not 0 < options.speed <= HIGHEST_SPEED:
        parser.error(f"--speed must be above 0 and at most {HIGHEST_SPEED:g}")
    return options


def mode_of(options: argparse.Namespace) -> Mode:
    if options.check:
        return Mode.CHECK
    if options.replay is not None:
        return Mode.REPLAY
    return Mode.LIVE_DATA if options.live_data else Mode.NORMAL


def start(plan: Plan, supervisor: Supervisor, began: float) -> float | None:
    """Bring everything up; the seconds it took, or None when a stop was asked for on the way."""
    write_private(SESSION_FILE, format_env(plan.env))

    def on_ready(service: Service) -> None:
        say(f"  {service.name:<16} ready after {time.monotonic() - began:4.1f} s")
        if service.name == "seed_demo":
            remember_seed(plan, service.output)

    return time.monotonic() - began if supervisor.start(on_ready) else None


def session(mode: Mode, recording: Recording | None, speed: float, lock: int) -> int:
    """One session from start to stop; the exit code."""
    began = time.monotonic()
    plan = make_plan(mode, recording=recording, speed=speed)
    if recording is not None:
        say(recording.describe(speed))
    supervisor = Supervisor(plan.services, plan.logs, keep_open=(lock,))
    supervisor.catch_signals()
    watch = DemoWatch(plan.env) if mode is Mode.CHECK else None
    seconds: float | None = None
    say("Starting …")
    try:
        seconds = start(plan, supervisor, began)
        if seconds is not None and watch is not None:
            say(f"Ready in {seconds:.1f} s; waiting for a protected, closed deal …")
            supervisor.run(watch.each)
        elif seconds is not None:
            say(addresses(plan, seconds))
            supervisor.run()
    except LauncherError as error:
        if watch is None:
            raise
        watch.verdict = str(error)
    finally:
        if watch is not None:
            watch.close()
        close(plan, supervisor)
    if watch is None:
        return 0
    print(watch.report(seconds_to_ready=None if seconds is None else round(seconds, 1)), flush=True)
    return 0 if watch.verdict == "" else 1


def close(plan: Plan, supervisor: Supervisor) -> None:
    began = time.monotonic()
    say("Stopping …")
    supervisor.stop()
    if plan.postgres is not None:
        plan.postgres.forget()
    SESSION_FILE.unlink(missing_ok=True)
    say(f"Stopped in {time.monotonic() - began:.1f} s.")


def main(argv: list[str]) -> int:
    options = parse(argv)
    try:
        recording = read_recording(options.replay.resolve()) if options.replay is not None else None
        if options.setup_only:
            bootstrap.ensure()
            return 0
        with only_one_session() as lock:
            bootstrap.ensure()
            return session(mode_of(options), recording, options.speed or DEFAULT_SPEED, lock)
    except LauncherError as error:
        say(str(error))
        return error.code
    except KeyboardInterrupt:
        say("Interrupted. Nothing is running; the next start repairs what is half installed.")
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
