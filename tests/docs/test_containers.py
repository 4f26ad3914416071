"""The compose files, the image and the scripts inside it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
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
PAIRS = {"django_app", "live", "celery_beat", "guardian"}  # of each there are two on a server: NAME and NAME_b
PROMISED = STREAMS | {
    "django_app", "live", "celery_worker", "celery_beat", "flower", "postgres", "redis", "guardian", "migrate"
}  # fmt: skip


def compose(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def ran(words: list[str], **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, **more)


def compose_program() -> list[str]:
    """docker-compose, or Docker's own plugin; empty where neither is installed."""
    if program := shutil.which("docker-compose"):
        return [program]
    return (
        ["docker", "compose"]
        if shutil.which("docker") and ran(["docker", "compose", "version"]).returncode == 0
        else []
    )


def load(name: str):
    spec = importlib.util.spec_from_file_location(f"container_{name}", ROOT / "docker" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("name", "more"),
    [(DEMO, {"paper", "secrets"}), (PROD, {"proxy", "pgbouncer", "backup", *(f"{one}_b" for one in PAIRS)})],
)
def test_the_promised_services_are_there(name, more):
    assert set(compose(name)["services"]) >= PROMISED | more


@pytest.mark.parametrize(
    ("name", "published"),
    [
        (DEMO, {"django_app": WEB, "live": LIVE, "flower": ["127.0.0.1:5555:5555"]}),
        (PROD, {"proxy": ["80:80", "443:443", "5555:5555"]}),
    ],
)
def test_a_demonstration_publishes_on_loopback_and_a_server_only_its_proxy(name, published):
    services = compose(name)["services"]
    assert {service: row["ports"] for service, row in services.items() if "ports" in row} == published


@pytest.mark.parametrize("name", [DEMO, PROD])
def test_docker_compose_takes_the_file(name, tmp_path):
    """By the real program: in a copy, so that no `.env` of this checkout is asked."""
    words = compose_program()
    if not words:
        pytest.skip(
            "docker-compose is not installed here: its file was only read as YAML (apt-get install docker-compose)"
        )
    shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "docker", tmp_path / "docker")
    subprocess.run([sys.executable, str(tmp_path / "docker" / "make_secrets.py")], cwd=tmp_path, check=True)
    chosen = {"SITE_HOST": "trade.example.org", "EXCHANGE_ENVIRONMENT": "live"}
    urls = {f"{exchange}_BASE_URL": f"https://{exchange.lower()}.example.org" for exchange in ("WALLEX", "NOBITEX")}
    lines = [f"{key}={value}" for key, value in (chosen | urls).items()]
    (tmp_path / ".env").write_text("\n".join(lines))
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = ran([*words, "-f", name, "config"], cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(compose(name)["services"])
    if name == PROD:
        (tmp_path / ".env").write_text("\n".join(lines[1:]))
        refused = ran([*words, "-f", name, "config"], cwd=tmp_path, env=env)
        assert refused.returncode != 0
        assert "SITE_HOST" in refused.stderr


def test_everything_on_a_server_has_bounds():
    for service, row in compose(PROD)["services"].items():
        assert {"mem_limit", "cpus", "pids_limit"} <= row.keys(), service


def test_nothing_on_a_server_is_reached_but_over_the_proxy():
    document = compose(PROD)
    assert document["networks"]["inside"] == document["networks"]["front"] == {"internal": True}
    reached = {service for service, row in document["services"].items() if "front" in row["networks"]}
    assert reached == {"proxy", "django_app", "django_app_b", "live", "live_b", "flower"}


def test_only_the_web_application_goes_through_the_pool():
    services = compose(PROD)["services"]
    pooled = {name for name, row in services.items() if (row.get("environment") or {}).get("DATABASE_POOLED")}
    assert pooled == {"django_app", "django_app_b"}
    assert {name for name, row in services.items() if "database_url_pooled" in row.get("secrets", ())} == pooled


def test_only_migrations_backups_and_the_database_itself_know_the_owner_of_the_tables():
    services = compose(PROD)["services"]
    owners = {"postgres_password", "migrate_database_url"}
    assert {name for name, row in services.items() if owners & set(row.get("secrets", ()))} == {
        "postgres", "backup", "migrate",
    }  # fmt: skip
    assert services["migrate"]["command"] == [
        "sh", "-ec", "python manage.py migrate --noinput && python manage.py database_role",
    ]  # fmt: skip
    assert services["pgbouncer"]["environment"]["PGUSER"] == "algo_app"


@pytest.mark.parametrize("one", sorted(PAIRS))
def test_the_second_of_a_pair_is_what_the_first_is(one):
    services = compose(PROD)["services"]
    assert services[one] == services[f"{one}_b"]


def test_an_update_replaces_all_that_is_ours_and_of_a_pair_one_after_the_other():
    services = compose(PROD)["services"]
    ours = {name for name, row in services.items() if row["image"] == "algo_trade:prod"} - {"migrate"}
    text = (ROOT / "docker" / "update.sh").read_text()
    order = re.search(r'^SERVICES="([^"]+)"', text, re.MULTILINE)[1].split()
    assert sorted(order) == sorted(ours)
    assert all(f"{one}_b" in order for one in PAIRS)
    assert order[:2] == ["guardian_b", "guardian"]


def test_the_proxy_leads_everywhere_and_never_holds_live_updates_back():
    text = (ROOT / "docker" / "Caddyfile").read_text()
    reached = {service for service, row in compose(PROD)["services"].items() if "front" in row["networks"]} - {"proxy"}
    assert set(re.findall(r"\b(\w+):(?:8000|8002|5555)\b", text)) - {"SITE_HOST"} == reached
    live = text.partition("handle /live/*")[2].partition("}\n\thandle")[0]
    assert "flush_interval -1" in live


@pytest.mark.skipif(shutil.which("caddy") is None, reason="Caddy is not installed here (apt-get install caddy)")
def test_caddy_takes_its_file(tmp_path):
    load("make_secrets").make(tmp_path)
    text = (ROOT / "docker" / "Caddyfile").read_text().replace("/run/secrets", str(tmp_path))
    (tmp_path / "Caddyfile").write_text(text)
    env = os.environ | {"SITE_HOST": "trade.example.org", "CADDY_OPTIONS": "local_certs", "HOME": str(tmp_path)}
    words = ["caddy", "validate", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    done = ran(words, env=env)
    assert done.returncode == 0, done.stderr


def test_the_secrets_of_a_server_are_random_complete_and_made_once(tmp_path):
    script = load("make_secrets")
    folder = tmp_path / "secrets"
    assert script.main([str(folder)]) == 0
    first = {path.name: path.read_text() for path in folder.iterdir()}
    assert script.main([str(folder)]) == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    assert set(compose(PROD)["secrets"]) <= set(first)
    assert oct(folder.stat().st_mode)[-3:] == "700"
    values = {name.upper(): text.strip() for name, text in first.items()}
    env = Env(
        _env_file=None, **{name: values[name] for name in ("SECRET_KEY", "FIELD_ENCRYPTION_KEYS", "DATABASE_URL")}
    )
    for name, user, password in (
        ("DATABASE_URL", "algo_app", "APP_ROLE_PASSWORD"),
        ("DATABASE_URL_POOLED", "algo_app", "APP_ROLE_PASSWORD"),
        ("MIGRATE_DATABASE_URL", "algo_trade", "POSTGRES_PASSWORD"),
    ):
        url = urlsplit(values[name])
        assert (url.username, url.password, url.path) == (user, values[password], "/algo_trade"), name
    assert env.DATABASE_URL.get_secret_value() == values["DATABASE_URL"]
    assert urlsplit(values["REDIS_URL"]).password == values["REDIS_PASSWORD"]
    script.main([str(tmp_path / "other")])
    assert not set(first.values()) & {path.read_text() for path in (tmp_path / "other").iterdir()}


@pytest.mark.parametrize("name", [DEMO, PROD])
def test_what_is_ours_runs_without_rights(name):
    ours = {key: row for key, row in compose(name)["services"].items() if "build" in row or key == "backup"}
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
        assert "healthcheck" in row or service.startswith("django_app"), service  # the image's own check is the web's


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
    assert required == {"SITE_HOST", "EXCHANGE_ENVIRONMENT", "WALLEX_BASE_URL", "NOBITEX_BASE_URL"}
    optional = set(re.findall(r"\$\{([A-Z_]+):-", text))
    images = {"PYTHON_IMAGE", "POSTGRES_IMAGE", "REDIS_IMAGE", "CADDY_IMAGE", "DEBIAN_IMAGE"}
    assert optional == images | {"PIP_INDEX_URL", "CADDY_OPTIONS", "BACKUP_EVERY", "BACKUP_KEEP"}
    operations = (ROOT / "docs" / "operations.md").read_text()
    assert all(f"`{name}`" in operations for name in required)
    for service, row in compose(PROD)["services"].items():
        told = row.get("environment") or {}
        said = [key for key in told if re.search("PASSWORD|SECRET|KEY|TOKEN|AUTH|_URL$", key)]
        public = {"WALLEX_BASE_URL", "NOBITEX_BASE_URL", "WEB_URL", "FLOWER_URL"}
        assert all(told[key].startswith("/run/secrets/") for key in set(said) - public), service


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


# --- docker/sbom.py ---------------------------------------------------------------------------------------------------


def test_the_list_of_contents_names_python_packages_and_those_of_debian(tmp_path, capsys, monkeypatch):
    import django

    sbom = load("sbom")
    (tmp_path / "status").write_text(
        "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2:2.36-9+deb12u1\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n"
    )
    monkeypatch.setattr(sbom, "DPKG", tmp_path / "status")
    assert sbom.main() == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.5")
    urls = [each["purl"] for each in told["components"]]
    assert f"pkg:pypi/django@{django.__version__}" in urls
    assert [url for url in urls if url.startswith("pkg:deb")] == [
        "pkg:deb/debian/libc6@2%3A2.36-9%2Bdeb12u1?arch=amd64"
    ]
    assert len(urls) == len(set(urls))


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


def test_a_file_is_touched_lately_long_ago_or_never(tmp_path):
    healthy, file = load("healthy"), tmp_path / "alive"
    assert healthy.main(["file", str(file), "30"]) == 1
    file.touch()
    assert healthy.main(["file", str(file), "30"]) == 0
    os.utime(file, (0, 0))
    assert healthy.main(["file", str(file), "30"]) == 1


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


def test_the_address_is_read_from_the_secret_of_a_server(tmp_path, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / "database_url").write_text("postgres://u:p@h/d\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "database_url"))
    assert load("healthy").database_url() == "postgresql://u:p@h/d"


def test_the_address_is_read_from_the_file_of_the_demonstration(tmp_path, monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)
    (tmp_path / "demo.env").write_text("A=1\nDATABASE_URL='postgres://u:p@h/d'\n")
    monkeypatch.setenv("ENV_FILE", str(tmp_path / "demo.env"))
    assert load("healthy").database_url() == "postgresql://u:p@h/d"
