"""What `./run` starts: the servers, the paper exchange, the platform's own processes; and the variables they share."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import IO

from launcher import RUN_DIR
from launcher.bootstrap import PYTHON
from launcher.console import LauncherError, say
from launcher.embedded import PostgreSQL, Valkey
from launcher.processes import child_environment, free_port, free_ports, remove_tree, write_private
from launcher.replay import Recording
from launcher.session import Secrets, user_environment
from launcher.supervisor import Service, answers_http, said

FLOWER_REMEMBERS = 3_000  # tasks, about 30 MB; its own 100,000 would be a day and more of growing, to 900 MB
WEB_PORT, LIVE_PORT, FLOWER_PORT = 8000, 8002, 5555
EXCHANGE_URLS = ("WALLEX_BASE_URL", "NOBITEX_BASE_URL")
STREAM_URLS = ("WALLEX_WS_URL", "NOBITEX_WS_URL")
PUBLIC_EXCHANGES = {"WALLEX_BASE_URL": "https://api.wallex.ir", "NOBITEX_BASE_URL": "https://apiv2.nobitex.ir"}
# Passed on as the user set them; all the rest is decided here.
FROM_THE_USER = ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "DEBUG", "ALLOWED_HOSTS", "DATABASE_URL", "REDIS_URL")
DEMO_BALANCES = {
    "wallex": {"USDT": "10000", "TMN": "500000000", "BTC": "0.05", "ETH": "1"},
    "nobitex": {"USDT": "10000", "IRT": "500000000", "BTC": "0.05", "ETH": "1"},
}
LEFTOVERS_LEAVE_SECONDS = 20.0
WORKER_LEAVES_SECONDS = 12.0  # it ends what it does, and a call to an exchange with its waits takes some seconds
# Entries stop first; what protects positions outlives them; the exchange outlives all who talk to it.
ENTRIES, PROTECTION, EXCHANGE, SERVERS = range(4)


class Mode(Enum):
    """What the session is for; each but `NORMAL` has a state directory of its own."""

    NORMAL = "normal"
    CHECK = "check"
    REPLAY = "replay"
    LIVE_DATA = "live-data"

    @property
    def state_dir(self) -> Path:
        return RUN_DIR if self is Mode.NORMAL else RUN_DIR / self.value

    @property
    def starts_fresh(self) -> bool:
        return self in (Mode.CHECK, Mode.REPLAY)


@dataclass(slots=True)
class Plan:
    """One session, decided: where it keeps its state, what the children are told, what is started."""

    mode: Mode
    state_dir: Path
    secrets: Secrets
    env: dict[str, str]
    services: list[Service] = field(default_factory=list)
    postgres: PostgreSQL | None = None
    paper: bool = True
    web_port: int = WEB_PORT
    live_port: int = LIVE_PORT
    flower_port: int = FLOWER_PORT

    @property
    def secrets_file(self) -> Path:
        return self.state_dir / "secrets.json"

    @property
    def logs(self) -> Path:
        return self.state_dir / "logs"


@contextmanager
def only_one_session() -> Iterator[int]:
    """Hold the lock of this checkout: two sessions would share one database directory and one session file.

    Yields its descriptor. The children inherit it, so the lock is free only when the last of them has gone, even when
    the launcher itself was killed.
    """
    try:
        RUN_DIR.mkdir(exist_ok=True)
        lock = (RUN_DIR / "lock").open("a+")
    except OSError as failure:
        raise LauncherError(
            f"{RUN_DIR} cannot be written ({failure.strerror}): it may belong to another user. Nothing was started."
        ) from failure
    with lock:
        _take(lock)
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield lock.fileno()
        lock.truncate(0)


def _take(lock: IO[str]) -> None:
    """Take the lock; wait a while for the children of a launcher that was killed, not for one that runs."""
    deadline = time.monotonic() + LEFTOVERS_LEAVE_SECONDS
    told = False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip()
        if not owner or is_running(int(owner)) or time.monotonic() > deadline:
            break
        if not told:
            say("The last session was killed; waiting for its processes to leave …")
            told = True
        time.sleep(0.2)
    raise LauncherError(
        f"The platform is already running in this directory (process {owner or 'starting'}). Nothing was started. Stop "
        f"it with Ctrl-C in its terminal{', or with: kill ' + owner if owner else ''}."
    )


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def make_plan(
    mode: Mode, *, recording: Recording | None = None, speed: float = 1.0, state_dir: Path | None = None
) -> Plan:
    """Decide everything about a session and write its files; starts nothing. `state_dir`: another than the mode's."""
    user = _user_words(mode)
    paper = _wants_paper(mode, user)
    state_dir = state_dir or _state_dir(mode)
    secrets = Secrets.load_or_make(state_dir / "secrets.json")
    plan = Plan(mode, state_dir, secrets, {}, paper=paper)
    plan.web_port = _port("The web application", WEB_PORT)
    plan.live_port = live_port(plan.web_port)
    plan.flower_port = _port("Flower", FLOWER_PORT)
    valkey = None if "REDIS_URL" in user else Valkey(state_dir / "valkey", secrets.valkey_password)
    plan.postgres = None if "DATABASE_URL" in user else PostgreSQL(state_dir / "pg")
    paper_port, control_port = free_ports(2) if paper else (0, 0)
    plan.env = _shared_environment(plan, user, paper_port, control_port)
    if valkey is not None:
        valkey.prepare()
        plan.env["REDIS_URL"] = valkey.url
    if recording is not None:
        # Every process reads the same clock from the first three, without asking another one. The exchange's limits are
        # per minute of its own: at speed 60 one pair's candles alone are more calls than a minute on the wall allows.
        anchors = {"CLOCK_ANCHOR_REAL": repr(time.time()), "CLOCK_ANCHOR": str(recording.anchor)}
        plan.env |= anchors | {"CLOCK_SPEED": f"{speed:g}", "CLOCK_CALLS": f"{max(speed, 1.0):g}"}
    if plan.postgres is not None:
        plan.services.append(_postgres_service(plan.postgres))
    if valkey is not None:
        plan.services.append(_valkey_service(valkey))
    if paper:
        plan.services.append(_paper_service(plan, user, (paper_port, control_port), recording))
    plan.services += _platform_services(plan)
    return plan


def _user_words(mode: Mode) -> dict[str, str]:
    """The user's variables that concern a session. A check or a replay asks the environment only, never `.env`."""
    words = {name: value for name, value in os.environ.items() if value} if mode.starts_fresh else user_environment()
    for name in ("DATABASE_URL", "REDIS_URL"):
        if name in words:
            say(f"{name} is set: no {'PostgreSQL' if name == 'DATABASE_URL' else 'Valkey'} of our own is started.")
    return words


def _wants_paper(mode: Mode, user: Mapping[str, str]) -> bool:
    """Whether the paper exchange is started: unless the user named both exchanges."""
    named = [name for name in EXCHANGE_URLS if name in user]
    if mode is Mode.LIVE_DATA or not named:
        return True
    if len(named) == 1:
        missing = next(name for name in EXCHANGE_URLS if name not in user)
        raise LauncherError(
            f"{named[0]} is set but {missing} is not: half of the platform would trade on paper. Nothing was started. "
            "Set both, or neither.",
            code=2,
        )
    if mode is Mode.REPLAY:
        raise LauncherError(
            f"A replay needs the paper exchange and its clock, but {' and '.join(EXCHANGE_URLS)} are set. Nothing was "
            "started. Unset them and try again.",
            code=2,
        )
    if mode is Mode.CHECK and user.get("EXCHANGE_ENVIRONMENT") != "paper":
        raise LauncherError(
            "--check places orders, and WALLEX_BASE_URL and NOBITEX_BASE_URL name exchanges not declared to be paper. "
            "Nothing was started. Unset them, or set EXCHANGE_ENVIRONMENT=paper if they are simulated.",
            code=2,
        )
    return False


def _state_dir(mode: Mode) -> Path:
    folder = mode.state_dir
    if mode.starts_fresh:
        remove_tree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _port(who: str, wanted: int) -> int:
    port = free_port(wanted)
    if port != wanted:
        say(f"Port {wanted} is taken by another program: {who} uses {port}.")
    return port


def live_port(web_port: int) -> int:
    """Of live updates. Nobody types it, for pages are told. Never the web's own, which is free until the web runs."""
    return free_port(max(LIVE_PORT, web_port + 1))


def _shared_environment(plan: Plan, user: Mapping[str, str], paper_port: int, control_port: int) -> dict[str, str]:
    """The variables of every child, and of session.env."""
    secrets = plan.secrets
    env = {
        "DJANGO_SETTINGS_MODULE": "algo_trade.settings",
        "SECRET_KEY": secrets.secret_key,
        "FIELD_ENCRYPTION_KEYS": secrets.field_encryption_key,
        "DEBUG": "False",
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "WEB_URL": f"http://127.0.0.1:{plan.web_port}",
        "LIVE_URL": f"http://127.0.0.1:{plan.live_port}",
        "FLOWER_URL": f"http://127.0.0.1:{plan.flower_port}",
    }
    env |= {name: user[name] for name in FROM_THE_USER if name in user}
    if plan.postgres is not None:
        plan.postgres.place()
        env["DATABASE_URL"] = plan.postgres.url
    if not plan.paper:
        given = (*EXCHANGE_URLS, *STREAM_URLS, "WALLEX_API_KEY", "NOBITEX_API_KEY")
        live = {name: user[name] for name in given if name in user}
        return env | live | {"EXCHANGE_ENVIRONMENT": user.get("EXCHANGE_ENVIRONMENT", "live")}
    paper = f"http://127.0.0.1:{paper_port}"
    return env | {
        "WALLEX_BASE_URL": f"{paper}/wallex",
        "NOBITEX_BASE_URL": f"{paper}/nobitex",
        "WALLEX_WS_URL": "",  # beside the paper exchange's REST, whatever `.env` says
        "NOBITEX_WS_URL": "",
        "WALLEX_API_KEY": secrets.wallex_api_key,
        "NOBITEX_API_KEY": secrets.nobitex_api_key,
        "EXCHANGE_ENVIRONMENT": "paper",
        "PAPER_URL": paper,
        "PAPER_CONTROL_URL": f"http://127.0.0.1:{control_port}",
        "PAPER_CONTROL_TOKEN": secrets.paper_control_token,
    }


# --- the processes ------------------------------------------------------------------------------------------------


def _postgres_service(postgres: PostgreSQL) -> Service:
    return Service(
        "postgres",
        postgres.command(),
        child_environment(),
        before=postgres.prepare,
        ready=lambda _: postgres.ready(),
        stop_signal=signal.SIGINT,
        stop_stage=SERVERS,
        stop_seconds=20,  # a fast shutdown takes a tenth of a second; killing it would only cost a recovery
    )


def _valkey_service(valkey: Valkey) -> Service:
    env = child_environment()
    return Service("valkey", valkey.command(), env, ready=lambda _: valkey.ready(), stop_stage=SERVERS)


def _paper_service(plan: Plan, user: Mapping[str, str], ports: tuple[int, int], recording: Recording | None) -> Service:
    """`ports`: the exchange's own, and that of its control port."""
    port, control_port = map(str, ports)
    folder = plan.state_dir / "paper"
    accounts = folder / "accounts.json"
    write_private(accounts, json.dumps(paper_accounts(plan.secrets), indent=1) + "\n")
    words = ["--host", "127.0.0.1", "--port", port, "--control-port", control_port]
    words += ["--data-dir", str(folder), "--accounts", str(accounts)]
    if recording is not None:
        words += ["--feed", "replay", "--replay-file", str(recording.path), "--pair", recording.pair]
    if plan.mode is Mode.LIVE_DATA:
        real = {name: user.get(name, PUBLIC_EXCHANGES[name]) for name in EXCHANGE_URLS}
        words += ["--feed", "mirror", "--mirror-wallex-url", real["WALLEX_BASE_URL"]]
        words += ["--mirror-nobitex-url", real["NOBITEX_BASE_URL"]]
    return Service(
        "paper",
        [str(PYTHON), "-m", "providers.paper", *words],
        child_environment(plan.env),
        ready=lambda _: answers_http(f"{plan.env['PAPER_URL']}/paper/health"),
        refusal=2,
        stop_stage=EXCHANGE,
        stop_seconds=2,
    )


def paper_accounts(secrets: Secrets) -> list[dict[str, object]]:
    """The accounts the paper exchange opens at its first start; later its own ledger counts. IRT and TMN are toman."""
    keys = {"wallex_key": secrets.wallex_api_key, "nobitex_token": secrets.nobitex_api_key}
    return [{"name": "demo", **keys, "balances": DEMO_BALANCES}]


def _platform_services(plan: Plan) -> list[Service]:
    env = child_environment(plan.env)
    manage = [str(PYTHON), "manage.py"]
    celery = celery_words()
    database = ("postgres",)
    tables = ("migrate", "valkey")
    seeded = ("seed_demo", "valkey")
    login = {
        "FLOWER_BASIC_AUTH": f"admin:{plan.secrets.admin_password}"
    }  # by environment: arguments are visible to all
    flower_words = ["flower", "--address=127.0.0.1", f"--port={plan.flower_port}", f"--max_tasks={FLOWER_REMEMBERS}"]
    return [
        Service("migrate", [*manage, "migrate", "--noinput", "-v", "1"], env, needs=database, once=True),
        Service(
            "seed_demo",
            [*manage, "seed_demo"],
            env | {"DEMO_ADMIN_PASSWORD": plan.secrets.admin_password},
            needs=("migrate", "paper", "valkey"),
            once=True,
            capture=True,
        ),
        Service(
            "web",
            [str(PYTHON), "-m", "gunicorn", "algo_trade.wsgi", *_gunicorn_words(plan)],
            env,
            needs=tables,
            ready=lambda _: answers_http(f"{plan.env['WEB_URL']}/admin/login/"),
            stop_stage=PROTECTION,
            stop_seconds=3,
        ),
        Service(
            "live",
            [str(PYTHON), "-m", "algo_trade.live", "--host", "127.0.0.1", "--port", str(plan.live_port)],
            env,
            needs=tables,
            ready=lambda _: answers_http(f"{plan.env['LIVE_URL']}/live/health"),
        ),
        worker("worker-orders", "orders", 2, env),
        worker("worker", "strategies,market_data", 2, env),
        worker("worker-notify", "notifications", 2, env),  # a slow receiver must not keep a decision waiting
        worker("worker-backtests", "backtests", 2, env, nice=10),
        Service(
            "beat",
            [*celery, "beat", "--pidfile="],
            env,
            needs=seeded,
        ),
        # Nothing waits for them: without a stream, prices come by REST.
        *(
            Service(
                f"stream_{name}",
                [*manage, "stream_market_data", "--provider", name],
                env,
                needs=seeded,
                stop_seconds=3,
            )
            for name in ("nobitex", "wallex")
        ),
        Service(
            "guardian", [*manage, "run_guardian"], env, needs=("seed_demo",), stop_stage=PROTECTION, stop_seconds=3
        ),
        Service(
            "flower",
            [*celery, *flower_words],
            env | login,
            needs=tables,
            ready=lambda _: answers_http(f"{plan.env['FLOWER_URL']}/healthcheck"),
        ),
    ]


def celery_words(app: str = "algo_trade") -> list[str]:
    return [str(PYTHON), "-m", "celery", "-A", app]


def worker(
    name: str, queues: str, processes: int, env: Mapping[str, str], *, app: str = "algo_trade", nice: int = 0
) -> Service:
    """A Celery worker with so many processes. `queues`: comma separated. `nice`: computing for minutes must not slow
    down a decision."""
    # Prefork needs semaphores in /dev/shm; where it is not writable, threads do the work.
    pool = [] if not Path("/dev/shm").exists() or os.access("/dev/shm", os.W_OK) else ["-P", "threads"]  # noqa: S108
    words = ["worker", "-Q", queues, "-c", str(processes), "-n", f"{name.partition('-')[2] or 'general'}@%h", *pool]
    gently = ["nice", "-n", str(nice)] if nice else []
    return Service(
        name,
        [*gently, *celery_words(app), *words],
        env,
        needs=("migrate", "valkey"),
        ready=said(" ready."),
        stop_seconds=WORKER_LEAVES_SECONDS,
    )


def _gunicorn_words(plan: Plan) -> list[str]:
    place = ["--bind", f"127.0.0.1:{plan.web_port}"]
    return [
        *place,
        "--worker-class",
        "gthread",
        "--workers",
        "1",
        "--threads",
        "8",
        "--graceful-timeout",
        "2",
        "--no-control-socket",
    ]


def remember_seed(plan: Plan, output: bytes) -> None:
    """Say what seed_demo warned of, and keep the API token it printed: the database holds only its hash."""
    told = json.loads(output.decode().strip().splitlines()[-1])
    for warning in told.get("warnings", []):
        say(f"  {warning}")
    if told.get("api_token"):
        plan.secrets = replace(plan.secrets, api_token=told["api_token"])
        plan.secrets.save(plan.secrets_file)


def addresses(plan: Plan, seconds: float) -> str:
    """The block a person reads when everything is up."""
    web, secrets = plan.env["WEB_URL"], plan.secrets
    prices = {
        Mode.LIVE_DATA: "real prices, trades on paper",
        Mode.REPLAY: "recorded prices, trades on paper",
    }.get(plan.mode, "simulated prices, trades on paper")
    exchange = f"{plan.env['PAPER_URL']}  ({prices})" if plan.paper else _real_exchanges(plan)
    lines = [
        ("Dashboard", f"{web}/"),
        ("Admin", f"{web}/admin/"),
        ("API", f"{web}/api/"),
        ("Flower", f"{plan.env['FLOWER_URL']}/"),
        ("Exchange", exchange),
        ("User", "admin"),
        ("Password", secrets.admin_password),
        ("API token", secrets.api_token or "(made by an earlier start; make another in the admin)"),
        ("Logs", os.path.relpath(plan.logs)),
    ]
    body = "\n".join(f"  {name:<10} {value}" for name, value in lines)
    kept = os.path.relpath(plan.secrets_file)
    return f"\nReady in {seconds:.1f} s. Ctrl-C stops everything.\n\n{body}\n\n  The credentials are kept in {kept}.\n"


def _real_exchanges(plan: Plan) -> str:
    kind = "LIVE: real money" if plan.env["EXCHANGE_ENVIRONMENT"] == "live" else "paper"
    return f"{plan.env['WALLEX_BASE_URL']}, {plan.env['NOBITEX_BASE_URL']}  ({kind})"
