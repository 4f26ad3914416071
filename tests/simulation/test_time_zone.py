"""Where the machine thinks it is makes no difference: all that is decided and stored is UTC."""

from __future__ import annotations

import os
import subprocess
import sys

from launcher import ROOT
from launcher.session import test_environment as environment_of_tests

SEED = "3"


def test_a_world_is_the_same_in_every_time_zone():
    words = [sys.executable, "-m", "tests.simulation", "--seed", SEED]
    env = os.environ | environment_of_tests()
    lives = [
        subprocess.Popen(words, cwd=ROOT, env=env | {"TZ": zone}, stdout=subprocess.PIPE, text=True)
        for zone in ("UTC", "Asia/Tehran")
    ]
    ends = [life.communicate()[0].splitlines()[-2:] for life in lives]
    assert ends[0][0].startswith("trace ")
    assert ends[0] == ends[1]
