"""The client of docs/api.md, made from the schema as it is now; mypy checks its example, and it runs on a server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from algo.models import AuditRecord, Deal, TokenGrant
from tests import factories as make
from tests.api.test_scopes import token_of

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "client"
GENERATOR = Path(sys.executable).with_name("openapi-python-client")

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def package(tmp_path_factory: Any) -> Path:
    """A folder that holds the package `algo_trade_client`."""
    folder: Path = tmp_path_factory.mktemp("client")
    call_command("spectacular", "--fail-on-warn", "--file", str(folder / "schema.yml"))
    words = ["--path", "schema.yml", "--config", str(EXAMPLE / "config.yml"), "--fail-on-warning"]
    made = subprocess.run(
        [GENERATOR, "generate", *words, "--output-path", "algo_trade_client", "--meta", "none"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout + made.stderr
    return folder


@pytest.fixture
def example(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    yield import_module("example")
    for name in [each for each in sys.modules if each == "example" or each.startswith("algo_trade_client")]:
        del sys.modules[name]


def test_the_example_is_typed(package):
    words = ["--strict", "--follow-imports", "silent", "--config-file", os.devnull, str(EXAMPLE / "example.py")]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *words],
        cwd=package, env={**os.environ, "MYPYPATH": str(package)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_the_example_trades_over_the_api(example, live_server, settings, monkeypatch, capsys):
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    monkeypatch.setattr("algo.api.deals.advance_hint", lambda _: None)
    trader = make.make_trader("trader", password="correct horse battery")
    deal = make.make_open_deal(make.make_config(account=make.make_account(owner=trader)))
    make.make_open_deal()  # somebody else's
    monkeypatch.setattr("sys.argv", ["example.py", live_server.url, "trader"])
    monkeypatch.setattr(example, "getpass", lambda: "correct horse battery")
    monkeypatch.setattr("builtins.input", lambda _: "y")
    example.main()
    told = capsys.readouterr().out
    assert told == f"deal {deal.pk}: BUY 0.01 BTCUSDT, stop 49850\nclosing\n"
    assert Deal.objects.get(pk=deal.pk).exit_reason == "manual"
    acts = AuditRecord.objects.order_by("pk").values_list("act", flat=True)
    assert list(acts) == ["token.give", "deal.close", "token.revoke"]
    assert not TokenGrant.objects.exists()


def test_lists_take_several_words(example, live_server):
    trader = make.make_trader("trader")
    deal = make.make_open_deal(make.make_config(account=make.make_account(owner=trader)))
    client = import_module("algo_trade_client").AuthenticatedClient(live_server.url, token_of(trader), prefix="Token")
    deals, models = import_module("algo_trade_client.api.deals.deals_list"), import_module("algo_trade_client.models")
    wanted, orders = models.DealsListFieldsItem, models.DealsListOrderingItem
    page = deals.sync(client=client, fields=[wanted("id"), wanted("side")], ordering=[orders("-profit"), orders("id")])
    assert [row.to_dict() for row in page.results] == [{"id": deal.pk, "side": "BUY"}]


def test_a_refusal_is_a_problem_with_a_code(example, live_server):
    with pytest.raises(example.Refused) as refused:
        example.logged_in(live_server.url, "nobody", "wrong")
    assert refused.value.code == "authentication_failed"
