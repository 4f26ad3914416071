"""The demonstration of docker-compose.yml: random secrets made once, kept in volumes, never in a file of the checkout.

demo.py secrets            make what is missing; each volume gets only what its container needs
demo.py seed               tables, the admin user, an API token, paper accounts and running strategies
demo.py run COMMAND ...    run a command with the secrets in its environment
demo.py credentials        where to log in, and with what
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from launcher.plan import paper_accounts
from launcher.processes import write_private
from launcher.session import Secrets, format_env, random_text, read_env

APP, POSTGRES, REDIS = Path("/run/algo"), Path("/run/postgres-secret"), Path("/run/redis-secret")
SECRETS, ENV_FILE, ACCOUNTS = APP / "secrets.json", APP / "demo.env", APP / "accounts.json"
USER = 10001  # of the image
DATABASE = "algo_trade"


def main(argv: list[str]) -> int:
    match argv:
        case ["secrets"]:
            make_secrets()
        case ["seed"]:
            seed()
        case ["run", *command] if command:
            run(command)
        case ["credentials"]:
            show_credentials()
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


def make_secrets() -> None:
    """As root, so that the files can be given to whom they belong; safe to run at every start."""
    password = kept(POSTGRES / "password")
    redis_password = kept(REDIS / "password")
    # Readable by any user of the one container that mounts it: which user that is, the image decides.
    (REDIS / "redis.conf").write_text(
        f"requirepass {redis_password}\nappendonly yes\nmaxmemory-policy noeviction\ndir /data\n"
    )
    secrets = Secrets.load_or_make(SECRETS)
    write_private(ENV_FILE, format_env(environment(secrets, password, redis_password)))
    write_private(ACCOUNTS, json.dumps(paper_accounts(secrets)))
    for file in (APP, SECRETS, ENV_FILE, ACCOUNTS):
        os.chown(file, USER, USER)


def kept(path: Path) -> str:
    """The password in `path`, made at the first start."""
    if not path.exists():
        path.write_text(random_text(40))
        path.chmod(0o444)
    return path.read_text()


def environment(secrets: Secrets, password: str, redis_password: str) -> dict[str, str]:
    return {
        "SECRET_KEY": secrets.secret_key,
        "FIELD_ENCRYPTION_KEYS": secrets.field_encryption_key,
        "DATABASE_URL": f"postgres://{DATABASE}:{password}@postgres:5432/{DATABASE}",
        "REDIS_URL": f"redis://:{redis_password}@redis:6379/0",
        "EXCHANGE_ENVIRONMENT": "paper",
        "WALLEX_BASE_URL": "http://paper:8100/wallex",
        "NOBITEX_BASE_URL": "http://paper:8100/nobitex",
        "WALLEX_API_KEY": secrets.wallex_api_key,
        "NOBITEX_API_KEY": secrets.nobitex_api_key,
        "PAPER_URL": "http://paper:8100",
        "PAPER_CONTROL_URL": "http://127.0.0.1:8101",  # inside the container of the paper exchange, and only there
        "PAPER_CONTROL_TOKEN": secrets.paper_control_token,
    }


def seed() -> None:
    """Tables and the demonstration. The API token is told once, so it is kept here; the database has only its hash."""
    secrets = Secrets.load_or_make(SECRETS)
    env = dict(os.environ) | {"DEMO_ADMIN_PASSWORD": secrets.admin_password}
    subprocess.run([sys.executable, "manage.py", "migrate", "--noinput"], check=True, env=env)
    words = [sys.executable, "manage.py", "seed_demo"]
    said = subprocess.run(words, check=True, env=env, stdout=subprocess.PIPE, text=True).stdout
    if token := json.loads(said.strip().splitlines()[-1]).get("api_token"):
        replace(secrets, api_token=token).save(SECRETS)


def run(command: list[str]) -> None:
    """Become `command`; secrets travel by environment, for arguments are visible to all."""
    login = f"admin:{Secrets.load_or_make(SECRETS).admin_password}"
    os.execvpe(command[0], command, dict(os.environ) | read_env(ENV_FILE) | {"FLOWER_BASIC_AUTH": login})  # noqa: S606


def show_credentials() -> None:
    secrets = Secrets.load_or_make(SECRETS)
    sys.stdout.write(
        "Admin      http://127.0.0.1:8000/admin/\n"
        "API        http://127.0.0.1:8000/api/\n"
        "Flower     http://127.0.0.1:5555/\n"
        f"User       admin\nPassword   {secrets.admin_password}\nAPI token  {secrets.api_token}\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
