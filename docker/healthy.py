"""Health of one container: `healthy.py web`, `http URL`, `heartbeat NAME SECONDS`, `file PATH SECONDS`.

Exit code 0 when it is well.
Each check is cheap, without Django: it runs several times a minute beside the process it judges.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from pathlib import Path

WEB = "http://127.0.0.1:8000/health/ready?only=database"  # in time, also where the database hangs
TIMEOUT = 5.0


def main(argv: list[str]) -> int:
    match argv:
        case ["web"]:
            return answers(WEB)
        case ["http", url]:
            return answers(url)
        case ["heartbeat", name, seconds]:
            return beats(name, float(seconds))
        case ["file", path, seconds]:
            return touched(Path(path), float(seconds))
    sys.stderr.write("usage: healthy.py web | http URL | heartbeat NAME SECONDS | file PATH SECONDS\n")
    return 2


def answers(url: str) -> int:
    """0 when `url` answers with success, asked as the proxy in front would ask."""
    host = os.environ.get("ALLOWED_HOSTS", "").split(",")[0].strip().lstrip(".*") or "127.0.0.1"
    request = urllib.request.Request(url, headers={"Host": host, "X-Forwarded-Proto": "https"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:  # noqa: S310 - our own process
            return 0 if answer.status < 400 else 1
    except OSError as failure:
        sys.stderr.write(f"{url}: {failure}\n")
        return 1


def beats(name: str, longest: float) -> int:
    """0 when the database holds a sign of life of `name` that is at most `longest` seconds old."""
    import psycopg2  # type: ignore[import-untyped] # noqa: PLC0415 - the web check does without

    try:
        with (
            psycopg2.connect(database_url(), connect_timeout=int(TIMEOUT)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT extract(epoch FROM now() - at) FROM algo_heartbeat WHERE name = %s", [name])
            row = cursor.fetchone()
    except psycopg2.Error as failure:
        sys.stderr.write(f"{name}: {type(failure).__name__}\n")  # the text could repeat the address, and its password
        return 1
    age = float(row[0]) if row else None
    sys.stderr.write(f"{name}: {'never seen' if age is None else f'{age:.0f} s ago'}\n")
    return 0 if age is not None and age <= longest else 1


def touched(path: Path, longest: float) -> int:
    """0 when `path` was touched at most `longest` seconds ago."""
    try:
        age = time.time() - path.stat().st_mtime
    except OSError as failure:
        sys.stderr.write(f"{path}: {failure.strerror}\n")
        return 1
    sys.stderr.write(f"{path}: {age:.0f} s ago\n")
    return 0 if age <= longest else 1


def database_url() -> str:
    """DATABASE_URL of the environment, of the file named by DATABASE_URL_FILE, or out of that named by ENV_FILE."""
    url = os.environ.get("DATABASE_URL", "")
    if not url and os.environ.get("DATABASE_URL_FILE"):
        url = Path(os.environ["DATABASE_URL_FILE"]).read_text().strip()
    file = Path(os.environ.get("ENV_FILE") or "/nonexistent")
    if not url and file.is_file():
        lines = (line.partition("=") for line in file.read_text().splitlines())
        url = next((value.strip("'") for name, _, value in lines if name == "DATABASE_URL"), "")
    return url.replace("postgres://", "postgresql://", 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
