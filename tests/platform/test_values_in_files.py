"""Secrets come from files: NAME_FILE beside NAME, for everything that env.py reads."""

from __future__ import annotations

import pytest

from tests.platform.test_settings import load_settings

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


def test_a_value_is_read_from_the_file_that_is_named(tmp_path):
    url, keys = tmp_path / "database_url", tmp_path / "keys"
    url.write_text("postgres://user:pw@127.0.0.1:5432/db\n")
    keys.write_text(KEY)
    told = load_settings(DATABASE_URL=None, DATABASE_URL_FILE=str(url), FIELD_ENCRYPTION_KEYS=None,
                         FIELD_ENCRYPTION_KEYS_FILE=str(keys))  # fmt: skip
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("given", ["", "postgres://user:hunter2@127.0.0.1:5432/db"])
def test_an_empty_variable_beside_a_file_is_none_and_a_full_one_is_refused(tmp_path, given):
    file = tmp_path / "url"
    file.write_text("postgres://user:pw@127.0.0.1:5432/db")
    told = load_settings(DATABASE_URL=given, DATABASE_URL_FILE=str(file))
    assert (told.returncode == 0) is (given == "")
    if given:
        assert "DATABASE_URL and DATABASE_URL_FILE are both set" in told.stderr
        assert "hunter2" not in told.stderr


def test_a_file_that_is_not_there_is_named_by_its_variable(tmp_path):
    told = load_settings(SECRET_KEY=None, SECRET_KEY_FILE=str(tmp_path / "none"))
    assert told.returncode != 0
    assert "SECRET_KEY_FILE names a file that cannot be read (FileNotFoundError)" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_value_in_a_file_is_judged_like_any_other(tmp_path):
    file = tmp_path / "keys"
    file.write_text("no-key")
    told = load_settings(FIELD_ENCRYPTION_KEYS=None, FIELD_ENCRYPTION_KEYS_FILE=str(file))
    assert told.returncode != 0
    assert "no Fernet key" in told.stderr
    assert "no-key" not in told.stderr
