"""Secrets and variables: made once, private, read back as they were written."""

import json
import re
import stat

import pytest
from cryptography.fernet import Fernet

from launcher import plan, session
from launcher.plan import LIVE_PORT, live_port, paper_accounts
from launcher.session import Secrets, format_env, parse_env


def test_variables_are_read_back_as_they_were_written():
    values = {
        "DATABASE_URL": "postgres://postgres@%2Ftmp%2Fa%2Fsocket/algo_trade",
        "WALLEX_API_KEY": "12345|abcDEF",
        "FIELD_ENCRYPTION_KEYS": "a-_b=",
        "SECRET_KEY": "with space # and hash",
        "PAPER_URL": "",
    }
    assert parse_env(format_env(values)) == values


def test_a_users_env_file_is_understood():
    text = "# comment\n\nexport A=1\nB = 'two words' \nC=\"3\"\nD=4 # why\nnonsense\nE=x=y\n"
    assert parse_env(text) == {"A": "1", "B": "two words", "C": "3", "D": "4", "E": "x=y"}


def test_secrets_are_made_once_kept_and_readable_only_by_their_owner(tmp_path):
    path = tmp_path / "secrets.json"
    first = Secrets.load_or_make(path)
    assert Secrets.load_or_make(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first.admin_password not in repr(first)


def test_a_secret_an_older_version_did_not_know_is_added_and_the_others_stay(tmp_path):
    path = tmp_path / "secrets.json"
    first = Secrets.load_or_make(path)
    kept = json.loads(path.read_text())
    del kept["paper_control_token"]
    path.write_text(json.dumps(kept | {"forgotten_one": "x"}))
    again = Secrets.load_or_make(path)
    assert again.admin_password == first.admin_password
    assert again.paper_control_token
    assert again == Secrets.load_or_make(path)


def test_secrets_have_the_form_their_readers_expect():
    made = Secrets.make()
    Fernet(made.field_encryption_key)  # raises for a key that is none
    assert re.fullmatch(r"\d{5}\|[A-Za-z0-9]{40}", made.wallex_api_key)
    assert re.fullmatch(r"[0-9a-f]{40}", made.nobitex_api_key)
    assert re.fullmatch(r"[A-Za-z0-9]{20}", made.admin_password)  # no colon or comma: Flower splits at them
    assert Secrets.make().secret_key != made.secret_key


def test_the_paper_account_holds_the_same_on_both_exchanges():
    (account,) = paper_accounts(Secrets.make())
    assert account["name"] == "demo"
    assert account["balances"]["wallex"]["TMN"] == account["balances"]["nobitex"]["IRT"] == "500000000"


@pytest.mark.parametrize("name", ["WALLEX_BASE_URL", "NOBITEX_BASE_URL"])
def test_a_test_session_never_points_at_a_real_exchange(name):
    assert session.test_environment()[name].startswith("http://127.0.0.1:")


def test_live_updates_never_get_the_port_that_the_web_was_given(monkeypatch):
    """Both are chosen before either listens: where 8000 to 8003 are taken, both would find 8004 free."""
    monkeypatch.setattr(plan, "free_port", lambda wanted: wanted)
    assert [live_port(web) for web in (8000, 8001, 8002, 8004)] == [LIVE_PORT, LIVE_PORT, 8003, 8005]
