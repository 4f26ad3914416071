"""The audit of CI fails on what is not explained, and says so where it cannot look."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOUND = {"test_id": "B602", "filename": "./algo/x.py", "line_number": 7, "issue_text": "shell=True"}


@pytest.fixture
def audit():
    spec = importlib.util.spec_from_file_location("audit_of_ci", ROOT / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(*weaknesses, **more):
    return {"dependencies": [{"name": "django", "version": "5.2.19", "vulns": list(weaknesses), **more}]}


def test_a_finding_of_bandit_that_is_not_explained_is_named(audit):
    assert audit.judge_code([FOUND], {}) == ["algo/x.py:7: B602 shell=True"]
    explained = {"B602": {"why": "…", "places": {"algo/x.py": 1}}}
    assert audit.judge_code([FOUND], explained) == []
    assert len(audit.judge_code([FOUND, FOUND], explained)) == 2  # one more than was explained
    assert len(audit.judge_code([FOUND], {"B602": {"why": "…", "places": {"algo/y.py": 1}}})) == 2


def test_an_explanation_that_nothing_needs_is_named(audit):
    explained = {"B602": {"why": "…", "places": {"algo/x.py": 1}}}
    assert audit.judge_code([], explained) == ["algo/x.py: B602 is there 0 times, exceptions.toml says more"]


def test_a_known_weakness_that_is_not_explained_is_named(audit):
    weak = {"id": "PYSEC-1", "aliases": ["CVE-2026-1"], "fix_versions": ["5.2.20"]}
    assert audit.judge_packages(report(weak), {}, set()) == ["django 5.2.19: PYSEC-1, fixed by 5.2.20"]
    seen = set()
    assert audit.judge_packages(report(weak), {"CVE-2026-1": {"package": "django", "why": "…"}}, seen) == []
    assert seen == {"CVE-2026-1"}
    assert audit.judge_packages(report(weak), {"CVE-2026-1": {"package": "celery", "why": "…"}}, set()) != []


def test_a_package_that_was_skipped_beside_others_is_a_finding(audit):
    skipped = {"dependencies": [{"name": "odd", "skip_reason": "not found"}, *report()["dependencies"]]}
    assert audit.judge_packages(skipped, {}, set()) == ["odd was not looked at: not found"]


def test_where_no_list_answers_it_says_so_loudly_and_does_not_fail(audit, monkeypatch, capsys):
    nothing = {"dependencies": [{"name": "django", "skip_reason": "Dependency not found on PyPI"}]}
    for answer in (nothing, None):
        monkeypatch.setattr(audit, "run", lambda words, answer=answer: answer)
        assert audit.audit_packages({}) == []
        assert "THE PACKAGES ARE NOT AUDITED" in capsys.readouterr().out


def test_every_exception_says_why():
    exceptions = tomllib.loads((ROOT / ".ci" / "exceptions.toml").read_text())
    assert all(len(row["why"]) > 20 for row in exceptions["bandit"].values())
    assert all(len(row["why"]) > 20 for row in exceptions["packages"].values())
