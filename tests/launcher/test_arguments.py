"""What a person may type, and what they are told when it is wrong."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from launcher import ROOT
from launcher.__main__ import mode_of, parse
from launcher.console import LauncherError
from launcher.plan import Mode, _wants_paper
from launcher.run_tests import pytest_arguments


@pytest.mark.parametrize(
    "argv",
    [
        ["--bogus"],
        ["extra"],
        ["--speed", "3"],
        ["--replay", "f", "--speed", "0"],
        ["--replay", "f", "--speed", "-1"],
        ["--replay", "f", "--speed", "nan"],
        ["--replay", "f", "--speed", "fast"],
        ["--replay"],
        ["--check", "--setup-only"],
        ["--check", "--replay", "f"],
    ],
)
def test_wrong_arguments_end_with_a_usage_text_and_code_2(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        parse(argv)
    assert ended.value.code == 2
    assert "usage: ./run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "mode"),
    [
        ([], Mode.NORMAL),
        (["--check"], Mode.CHECK),
        (["--live-data"], Mode.LIVE_DATA),
        (["--replay", "f", "--speed", "7"], Mode.REPLAY),
    ],
)
def test_each_option_is_a_mode(argv, mode):
    assert mode_of(parse(argv)) is mode


def test_a_check_and_a_replay_never_touch_the_state_of_the_normal_session():
    places = {mode.state_dir for mode in Mode}
    assert len(places) == len(Mode)
    assert not Mode.NORMAL.starts_fresh
    assert not Mode.LIVE_DATA.starts_fresh


BOTH = {"WALLEX_BASE_URL": "https://w.test", "NOBITEX_BASE_URL": "https://n.test"}


def test_with_both_exchanges_named_no_paper_exchange_is_started():
    assert _wants_paper(Mode.NORMAL, {}) is True
    assert _wants_paper(Mode.NORMAL, BOTH) is False
    assert _wants_paper(Mode.LIVE_DATA, BOTH) is True  # their prices, but trades on paper


@pytest.mark.parametrize("name", BOTH)
def test_one_exchange_named_is_refused(name):
    with pytest.raises(LauncherError, match="Set both, or neither") as refused:
        _wants_paper(Mode.NORMAL, {name: BOTH[name]})
    assert refused.value.code == 2


def test_a_check_never_trades_on_an_exchange_that_is_not_declared_paper():
    with pytest.raises(LauncherError, match="--check places orders"):
        _wants_paper(Mode.CHECK, BOTH)
    assert _wants_paper(Mode.CHECK, BOTH | {"EXCHANGE_ENVIRONMENT": "paper"}) is False


def test_a_replay_refuses_an_exchange_that_does_not_share_its_clock():
    with pytest.raises(LauncherError, match="A replay needs the paper exchange"):
        _wants_paper(Mode.REPLAY, BOTH)


def test_the_tests_reach_loopback_only_and_use_the_cores_only_for_the_whole_suite():
    whole, chosen = pytest_arguments([], 2), pytest_arguments(["tests/api", "-k", "x"], 2)
    assert whole[-5:] == ["-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
    assert chosen[-3:] == ["tests/api", "-k", "x"]
    assert "-n" not in chosen
    assert all("--allow-hosts=127.0.0.1,::1" in words for words in (whole, chosen))
    assert pytest_arguments([], 64)[-4] == "4"
    assert "-n" not in pytest_arguments([], 1)


@pytest.mark.parametrize("wrapper", ["run", "test"])
def test_without_a_python_that_is_new_enough_the_wrapper_says_so(wrapper, tmp_path):
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    done = subprocess.run(
        ["/bin/sh", ROOT / wrapper], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Python 3.11 or newer was not found" in done.stderr


def test_a_wrong_replay_file_starts_and_writes_nothing(tmp_path):
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / "launcher", checkout / "launcher", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run", checkout)
    before = sorted(checkout.rglob("*"))
    env = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [checkout / "run", "--replay", "nothing.csv"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"{tmp_path / 'nothing.csv'} cannot be replayed: it cannot be read (No such file or directory). "
        "Nothing was started and nothing was written.\n"
    )
    assert sorted(checkout.rglob("*")) == before
