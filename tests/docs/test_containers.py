"""The compose files, the image and the scripts inside it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from django.db import connection

from algo.models import Heartbeat
from algo_trade.env import Env

ROOT = Path(__file__).resolve().parents[2]
DEMO, PROD = "docker-compose.yml", "docker-compose.prod.yml"
STREAMS = {"stream_nobitex", "stream_wallex"}
WEB, LIVE = ["127.0.0.1:8000:8000"], ["127.0.0.1:8002:8002"]
PROMISED = STREAMS | {
    "django_app", "live", "celery_worker", "celery_beat", "flower", "postgres", "redis", "guardian", "migrate"
}  # fmt: skip


def compose(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"container_{name}", ROOT / "docker" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "more"), [(DEMO, {"paper", "secrets"}), (PROD, set())])
def test_the_promised_services_are_there(name, more):
    assert set(compose(name)["services"]) >= PROMISED | more


@pytest.mark.parametrize(
    ("name", "published"),
    [
        (DEMO, {"django_app": WEB, "live": LIVE, "flower": ["127.0.0.1:5555:5555"]}),
        (PROD, {"django_app": WEB, "live": LIVE}),
    ],
)
def test_only_loopback_is_published(name, published):
    services = compose(name)["services"]
    assert {service: row["ports"] for service, row in services.items() if "ports" in row} == published


@pytest.mark.parametrize("name", [DEMO, PROD])
def test_what_is_ours_runs_without_rights(name):
    ours = {key: row for key, row in compose(name)["services"].items() if "build" in row}
    assert len(ours) >= 7
    for service, row in ours.items():
        assert row["read_only"] is True, service
        assert row["cap_drop"] == ["ALL"], service
        assert row.get("user") is None or service == "secrets", service
    assert not any("privileged" in row for row in ours.values())


@pytest.mark.parametrize("name", [DEMO, PROD])
def test_everything_that_stays_up_is_watched_and_started_again(name):
    for service, row in compose(name)["services"].items():
        if row["restart"] == "no":
            continue
        assert row["restart"] == "unless-stopped", service
        assert "healthcheck" in row or service == "django_app", service  # the image's own check is the web's


@pytest.mark.parametrize("name", [DEMO, PROD])
def test_the_guardian_waits_for_no_broker(name):
    assert set(compose(name)["services"]["guardian"]["depends_on"]) == {"migrate"}


@pytest.mark.parametrize("name", [DEMO, PROD])
def test_each_exchange_has_a_stream_of_its_own_and_nothing_waits_for_it(name):
    services = compose(name)["services"]
    for service in STREAMS:
        provider = service.removeprefix("stream_")
        assert services[service]["command"] == ["python", "manage.py", "stream_market_data", "--provider", provider]
        assert f"stream:{provider}" in services[service]["healthcheck"]["test"]
    assert not any(STREAMS & set(row.get("depends_on", ())) for row in services.values())


@pytest.mark.parametrize("name", [DEMO, PROD])
def test_every_queue_has_a_worker_and_orders_has_its_own(name):
    from algo_trade.celery import QUEUES

    services = compose(name)["services"]
    queues = {
        service: set(row["command"][row["command"].index("-Q") + 1].split(","))
        for service, row in services.items()
        if "worker" in (row.get("command") or [])
    }
    assert queues["celery_worker_orders"] == {"orders"}
    assert set.union(*queues.values()) == set(QUEUES)


def test_a_server_has_no_default_for_a_secret_or_for_money():
    text = (ROOT / PROD).read_text()
    required = set(re.findall(r"\$\{([A-Z_]+):\?", text))
    assert required == {
        "SECRET_KEY",
        "FIELD_ENCRYPTION_KEYS",
        "ALLOWED_HOSTS",
        "CSRF_TRUSTED_ORIGINS",
        "EXCHANGE_ENVIRONMENT",
        "WALLEX_BASE_URL",
        "NOBITEX_BASE_URL",
        "POSTGRES_PASSWORD",
        "REDIS_PASSWORD",
        "FLOWER_BASIC_AUTH",
    }
    optional = set(re.findall(r"\$\{([A-Z_]+):-", text))
    assert optional == {"PYTHON_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE", "PIP_INDEX_URL"}
    operations = (ROOT / "docs" / "operations.md").read_text()
    assert all(f"`{name}`" in operations for name in required)


def test_the_demonstration_needs_nothing_from_the_user():
    asked = re.findall(r"(?<!\$)\$\{([A-Z_]+)(:-)?", (ROOT / DEMO).read_text())
    assert len(asked) >= 4
    assert [name for name, default in asked if not default] == []


def test_the_image_is_unprivileged_and_copies_only_what_exists():
    text = (ROOT / "Dockerfile").read_text()
    stages = re.split(r"^FROM ", text, flags=re.MULTILINE)[1:]
    assert len(stages) == 2
    assert "--require-hashes --only-binary :all:" in stages[0]
    assert re.findall(r"^USER (.+)$", stages[1], re.MULTILINE) == ["algo"]
    assert "HEALTHCHECK" in stages[1]
    assert not re.search(r"gcc|build-essential|apt-get", text)
    copied = re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE)
    assert [name for name in copied if not (ROOT / name).exists()] == []
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(copied) == let_in


# --- docker/demo.py ---------------------------------------------------------------------------------------------------


@pytest.fixture
def demo(tmp_path, monkeypatch):
    module = load("demo")
    for name in ("APP", "POSTGRES", "REDIS"):
        folder = tmp_path / name
        folder.mkdir()
        monkeypatch.setattr(module, name, folder)
    for name, file in (("SECRETS", "secrets.json"), ("ENV_FILE", "demo.env"), ("ACCOUNTS", "accounts.json")):
        monkeypatch.setattr(module, name, module.APP / file)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    return module


def test_the_secrets_are_random_complete_and_made_once(demo):
    demo.main(["secrets"])
    first = demo.ENV_FILE.read_text()
    demo.main(["secrets"])
    assert demo.ENV_FILE.read_text() == first
    from launcher.session import parse_env

    values = parse_env(first)
    assert set(values) <= set(Env.model_fields)
    env = Env(_env_file=None, **values)
    assert env.EXCHANGE_ENVIRONMENT == "paper"
    password = (demo.POSTGRES / "password").read_text()
    assert len(password) == 40
    assert urlsplit(env.DATABASE_URL.get_secret_value()).password == password
    redis_password = (demo.REDIS / "password").read_text()
    assert f"requirepass {redis_password}\n" in (demo.REDIS / "redis.conf").read_text()
    assert len({password, redis_password, env.secret_key}) == 3
    (account,) = json.loads(demo.ACCOUNTS.read_text())
    assert account["wallex_key"] == env.WALLEX_API_KEY.get_secret_value()
    assert oct(demo.ENV_FILE.stat().st_mode)[-3:] == "600"


def test_a_command_gets_the_secrets_by_environment(demo, monkeypatch):
    demo.main(["secrets"])
    became = []
    monkeypatch.setattr(os, "execvpe", lambda file, words, env: became.append((file, words, env)))
    demo.main(["run", "celery", "flower"])
    ((file, words, env),) = became
    assert (file, words) == ("celery", ["celery", "flower"])
    assert env["FLOWER_BASIC_AUTH"] == f"admin:{json.loads(demo.SECRETS.read_text())['admin_password']}"
    assert "|" in env["WALLEX_API_KEY"]


def test_a_wrong_word_is_a_usage_error(demo, capsys):
    assert demo.main(["dance"]) == 2
    assert "demo.py secrets" in capsys.readouterr().err


# --- docker/healthy.py ------------------------------------------------------------------------------------------------


@pytest.fixture
def web():
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.headers)
            self.send_response(200 if self.path == "/well" else 503)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    server.asked = asked
    yield server
    server.shutdown()
    server.server_close()


def test_a_page_is_asked_as_the_proxy_asks(web, monkeypatch):
    monkeypatch.setenv("ALLOWED_HOSTS", ".example.org,127.0.0.1")
    url = f"http://127.0.0.1:{web.server_port}"
    assert load("healthy").main(["http", f"{url}/well"]) == 0
    assert (web.asked[0]["Host"], web.asked[0]["X-Forwarded-Proto"]) == ("example.org", "https")
    assert load("healthy").main(["http", f"{url}/ill"]) == 1


def test_nobody_there_is_not_well():
    assert load("healthy").main(["http", "http://127.0.0.1:9/"]) == 1


def test_an_unknown_check_is_a_usage_error():
    assert load("healthy").main([]) == 2


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_is_young_old_or_missing(monkeypatch, capsys):
    healthy = load("healthy")
    url = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}").geturl()
    monkeypatch.setenv("DATABASE_URL", url)
    now = datetime.now(UTC)
    Heartbeat.objects.create(name="guardian", at=now - timedelta(seconds=5))
    Heartbeat.objects.create(name="beat", at=now - timedelta(seconds=300))
    assert healthy.main(["heartbeat", "guardian", "30"]) == 0
    assert healthy.main(["heartbeat", "beat", "60"]) == 1
    assert healthy.main(["heartbeat", "nobody", "60"]) == 1
    assert "nobody: never seen" in capsys.readouterr().err


def test_a_database_that_is_not_there_tells_no_password(monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", "postgres://user:hunter2@127.0.0.1:9/none")
    assert load("healthy").main(["heartbeat", "guardian", "30"]) == 1
    assert "hunter2" not in capsys.readouterr().err


def test_the_address_is_read_from_the_file_of_the_demonstration(tmp_path, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / "demo.env").write_text("A=1\nDATABASE_URL='postgres://u:p@h/d'\n")
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "demo.env"))
    assert load("healthy").database_url() == "postgresql://u:p@h/d"
