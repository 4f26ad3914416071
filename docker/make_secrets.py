#!/usr/bin/env python3
"""Make the secrets of docker-compose.prod.yml: `python3 docker/make_secrets.py [FOLDER]`, by default ./secrets.

One file each, random, made once: what is there is kept, so it is safe to run again. Only you may enter the folder; the
files in it may be read by the one container that each is given to, whatever its user. Needs nothing but Python.
"""

from __future__ import annotations

import base64
import secrets
import sys
from pathlib import Path

DATABASE, APP_ROLE = "algo_trade", "algo_app"  # the owner of the tables is named as the database


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    folder = Path(argv[0] if argv else "secrets")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    make(folder)
    return 0


def make(folder: Path) -> None:
    """Values that are derived from others follow them."""
    kept(folder / "secret_key", secrets.token_urlsafe(48))
    kept(folder / "field_encryption_keys", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    postgres = kept(folder / "postgres_password", secrets.token_hex(20))
    app = kept(folder / "app_role_password", secrets.token_hex(20))
    kept(folder / "migrate_database_url", f"postgres://{DATABASE}:{postgres}@postgres:5432/{DATABASE}")
    kept(folder / "database_url", f"postgres://{APP_ROLE}:{app}@postgres:5432/{DATABASE}")
    kept(folder / "database_url_pooled", f"postgres://{APP_ROLE}:{app}@pgbouncer:6432/{DATABASE}")
    redis = kept(folder / "redis_password", secrets.token_hex(20))
    kept(folder / "redis_url", f"redis://:{redis}@redis:6379/0")
    kept(folder / "flower_login", f"admin:{secrets.token_hex(16)}")
    kept(folder / "metrics_token", secrets.token_hex(20))


def kept(path: Path, value: str) -> str:
    """The value in `path`; `value` where there is none yet."""
    if not path.exists():
        draft = path.with_name(f".{path.name}.new")
        draft.write_text(f"{value}\n")
        draft.chmod(0o444)
        draft.replace(path)
        sys.stdout.write(f"made {path}\n")
    return path.read_text().rstrip("\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
