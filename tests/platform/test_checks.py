"""A database that cannot hold Persian is refused before the first table is made."""

from __future__ import annotations

import psycopg2
import pytest
from django.db import connection

from algo.checks import database_is_utf8


@pytest.mark.django_db
def test_the_database_of_the_tests_is_fit():
    assert database_is_utf8(databases=["default"]) == []


@pytest.fixture
def latin_database(transactional_db):
    parameters = connection.get_connection_params()
    admin = psycopg2.connect(
        **{key: parameters[key] for key in ("host", "user") if key in parameters}, dbname="postgres"
    )
    admin.autocommit = True
    cursor = admin.cursor()
    cursor.execute("DROP DATABASE IF EXISTS latin_for_tests")
    cursor.execute("CREATE DATABASE latin_for_tests ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    before = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = "latin_for_tests"
    yield
    connection.close()
    connection.settings_dict["NAME"] = before
    cursor.execute("DROP DATABASE latin_for_tests")
    admin.close()


def test_another_encoding_is_an_error_with_what_to_do(latin_database):
    (problem,) = database_is_utf8(databases=["default"])
    assert "SQL_ASCII" in problem.msg
    assert "ENCODING 'UTF8'" in problem.hint


def test_there_is_one_database_and_nothing_reads_elsewhere(settings):
    """What was committed a moment ago is read back at once: no replica may stand in for it."""
    assert list(settings.DATABASES) == ["default"]
    assert settings.DATABASE_ROUTERS == []
