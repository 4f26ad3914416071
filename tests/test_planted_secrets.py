"""Secrets planted in a platform that really runs are found nowhere: in no log, answer, page, message or row."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest
import redis
import requests

from tests.browser.platform import Platform, running

pytestmark = [pytest.mark.long, pytest.mark.e2e]

PASSWORD = f"password-canary-{secrets.token_hex(8)}"
WRONG_PASSWORD = f"wrong-canary-{secrets.token_hex(8)}"
KEY = f"12345|{secrets.token_hex(20)}"
CHAT_TOKEN = f"{secrets.randbelow(10**9):09}:{secrets.token_hex(17)}x"
PLANT = f"""
from django.contrib.auth.models import Group, User
from algo.models import Account, NotificationChannel
from algo.services.channels import new_secret
user = User.objects.create_user("plant", password={PASSWORD!r}, is_staff=True)
user.groups.add(Group.objects.get(name="Trader"))
account = Account(name="planted", owner=user, provider="wallex", environment="paper")
account.set_api_key({KEY!r})
account.save()
hook = NotificationChannel(owner=user, name="hook", type="webhook")
hook.set_target("https://hooks.example.org/{CHAT_TOKEN}", hint="hooks.example.org")
secret = new_secret()
hook.set_secret(secret)
hook.save()
chat = NotificationChannel(owner=user, name="chat", type="chat")
chat.set_target("tgram://{CHAT_TOKEN}/987654321/", hint="Telegram")
chat.save()
print("SECRET", secret)
"""
PAGES = (
    "/",
    "/dashboard/state",
    "/preferences/",
    *(
        f"/admin/{each}/"
        for each in (
            "algo/account", "algo/notificationchannel", "algo/delivery", "algo/auditrecord", "algo/outboxevent",
            "algo/heartbeat", "algo/inboundkey", "auth/user", "knox/authtoken", "django_celery_beat/periodictask",
        )
    ),
)  # fmt: skip
ANSWERS = ("accounts", "channels", "deliveries", "auth/tokens", "system/audit", "system/health", "deals", "orders")


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with running() as each:
        yield each


@pytest.fixture(scope="module")
def planted(platform) -> dict[str, str]:
    """Every secret by what it is, each of them used, and refused, at the doors of the platform."""
    said = platform.manage("shell", "-c", PLANT)
    token = login(platform, "plant", PASSWORD).json()["token"]
    found = {
        "exchange key": KEY,
        "demo's exchange key": platform.env["WALLEX_API_KEY"],
        "demo's other exchange key": platform.env["NOBITEX_API_KEY"],
        "API token": token,
        "webhook secret": re.search(r"SECRET (\S+)", said)[1],
        "chat token": CHAT_TOKEN,
        "user password": PASSWORD,
        "wrong password": WRONG_PASSWORD,
        "admin password": platform.admin_password,
        "encryption key": platform.env["FIELD_ENCRYPTION_KEYS"],
        "secret key": platform.env["SECRET_KEY"],
        "password of Redis": urlsplit(platform.env["REDIS_URL"]).password,
        "token of the paper exchange": platform.env["PAPER_CONTROL_TOKEN"],
    }
    stir(platform, token)
    return found


def login(platform: Platform, user: str, password: str) -> requests.Response:
    body = {"username": user, "password": password}
    return requests.post(f"{platform.url}/api/v1/auth/login", json=body, timeout=20)


def stir(platform: Platform, token: str) -> None:
    """What makes processes speak of secrets: refused keys and passwords, failed deliveries, wrong tokens and bodies."""
    api = f"{platform.url}/api/v1"
    mine = {"Authorization": f"Token {token}"}
    assert login(platform, "plant", WRONG_PASSWORD).status_code == 401
    requests.get(f"{api}/deals", headers={"Authorization": f"Token {token}x"}, timeout=20)
    requests.get(f"{api}/deals?api_key={KEY}&token={token}", headers=mine, timeout=20)
    requests.post(f"{api}/auth/login", data=f'{{"password": "{PASSWORD}"', timeout=20)
    body = {"name": "x", "provider": "wallex", "environment": "live", "api_key": KEY, "nonsense": PASSWORD}
    requests.post(f"{api}/accounts", json=body, headers=mine, timeout=20)
    for row in requests.get(f"{api}/accounts", headers=mine, timeout=20).json()["results"]:
        requests.post(f"{api}/accounts/{row['id']}/probe", headers=mine, timeout=30)
    for row in requests.get(f"{api}/channels", headers=mine, timeout=20).json()["results"]:
        requests.post(f"{api}/channels/{row['id']}/test", headers=mine, timeout=60)
    time.sleep(8)  # the workers, the guardian and beat go around a few times


def check(planted: dict[str, str], places: Iterable[tuple[str, str]], *, sign: str) -> None:
    """`sign`: what must be found, so that it is known that one looks at the right place."""
    is_signed = False
    for place, text in places:
        is_signed = is_signed or sign in text
        for what, secret in planted.items():
            assert secret not in text, f"the {what} stands in {place}"
    assert is_signed, f"{sign} is nowhere: nothing was looked at"


def test_no_log_file_holds_any(platform, planted):
    logs = sorted(Path(platform.folder).glob("logs/*"))
    assert len(logs) >= 12
    check(planted, ((log.name, log.read_text(errors="replace")) for log in logs), sign="account=planted")


def test_no_row_of_the_database_holds_any(platform, planted):
    """All rows of all tables as text: what a plain dump writes."""
    with psycopg2.connect(platform.env["DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables "
            "WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        )
        tables = [name for (name,) in cursor.fetchall()]
        assert len(tables) > 40

        def rows() -> Iterator[tuple[str, str]]:
            for table in tables:
                cursor.execute(f"SELECT string_agg(each::text, E'\\n') FROM {table} AS each")
                yield table, cursor.fetchone()[0] or ""

        check(planted, rows(), sign="planted")


def test_no_message_and_no_value_in_redis_holds_any(platform, planted):
    store = redis.Redis.from_url(platform.env["REDIS_URL"])
    read = {
        b"string": store.get,
        b"list": lambda key: store.lrange(key, 0, -1),
        b"hash": store.hgetall,
        b"set": store.smembers,
        b"zset": lambda key: store.zrange(key, 0, -1, withscores=True),
        b"stream": store.xrange,
    }
    keys = list(store.scan_iter(count=1000))
    check(
        planted,
        ((str(key), f"{key} {read[store.type(key)](key)}") for key in keys if store.type(key) in read),
        sign="_kombu.binding",
    )


def test_no_page_of_flower_holds_any(platform, planted):
    flower = platform.env["FLOWER_URL"]
    assert requests.get(f"{flower}/tasks", timeout=20).status_code == 401
    sign_in = ("admin", platform.admin_password)
    told = requests.get(f"{flower}/api/tasks?limit=200", auth=sign_in, timeout=30)
    tasks = list(told.json())[:20]
    paths = ["/", "/workers", "/tasks", "/broker", "/api/workers", *(f"/task/{each}" for each in tasks)]
    pages = ((path, requests.get(f"{flower}{path}", auth=sign_in, timeout=30).text) for path in paths)
    check(planted, [*pages, ("tasks", told.text)], sign="algo.tasks.")
    assert tasks


def test_no_page_and_no_answer_holds_any(platform, planted):
    browser = requests.Session()
    address = f"{platform.url}/admin/login/"
    browser.get(address, timeout=30)
    form = {"username": "admin", "password": platform.admin_password, "next": "/admin/"}
    form["csrfmiddlewaretoken"] = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', browser.get(address).text)[1]
    assert browser.post(address, form, headers={"Referer": address}, timeout=30).url.endswith("/admin/")
    pages = [(path, browser.get(f"{platform.url}{path}", timeout=60)) for path in PAGES]
    for path in [path for path, _ in pages]:
        for row in re.findall(rf'href="({re.escape(path)}\d+/change/)', dict(pages)[path].text)[:5]:
            pages.append((row, browser.get(f"{platform.url}{row}", timeout=60)))
    answers = [(path, browser.get(f"{platform.url}/api/v1/{path}", timeout=60)) for path in ANSWERS]
    assert {each.status_code for _, each in pages + answers} == {200}
    check(
        planted, ((path, each.text + json.dumps(dict(each.headers))) for path, each in pages + answers), sign="planted"
    )
